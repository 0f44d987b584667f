//! What a module holds, and how to iterate over it.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Parameter, State};
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::simd::Element;

/// Whether a layer is in training mode, which is how it starts.
#[derive(Debug)]
pub struct Mode(AtomicBool);

impl Default for Mode {
    fn default() -> Self {
        Self(AtomicBool::new(true))
    }
}

impl Mode {
    /// Whether the layer is in training mode.
    pub fn is_training(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, training: bool) {
        self.0.store(training, Ordering::Relaxed);
    }
}

/// One thing that a module holds.
pub enum Item<'a, T: Element> {
    /// A child module, by its description; the items that it holds follow.
    Layer(String),
    /// A learned tensor.
    Parameter(&'a Parameter<T>),
    /// A tensor that is updated without being learned.
    State(&'a State<T>),
    /// A switch between training and evaluation.
    Mode(&'a Mode),
    /// A generator of random numbers.
    Rng(&'a Mutex<Rng>),
}

/// Receives the items of [`Module::visit`](super::Module::visit), and keeps the path, such as `3.inner.0`.
pub struct Visitor<'v, 'a, T: Element = f32> {
    pub(super) path: String,
    pub(super) seen: &'v mut dyn FnMut(&str, Item<'a, T>),
}

impl<'a, T: Element> Visitor<'_, 'a, T> {
    pub(super) fn under(&mut self, name: &str, show: impl FnOnce(&mut Self)) {
        let parent = self.path.len();
        if parent > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        show(self);
        self.path.truncate(parent);
    }

    /// Shows a parameter of the module.
    pub fn parameter(&mut self, name: &str, parameter: &'a Parameter<T>) {
        self.under(name, |this| (this.seen)(&this.path, Item::Parameter(parameter)));
    }

    /// Shows a state of the module.
    pub fn state(&mut self, name: &str, state: &'a State<T>) {
        self.under(name, |this| (this.seen)(&this.path, Item::State(state)));
    }

    /// Shows the module's switch between training and evaluation.
    pub fn mode(&mut self, mode: &'a Mode) {
        (self.seen)(&self.path, Item::Mode(mode));
    }

    /// Shows a generator from which the module draws.
    pub fn rng(&mut self, name: &str, rng: &'a Mutex<Rng>) {
        self.under(name, |this| (this.seen)(&this.path, Item::Rng(rng)));
    }
}

pub(super) fn lock(rng: &Mutex<Rng>) -> MutexGuard<'_, Rng> {
    rng.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The `visit` method of a module. Everything that a module does apart from its forward pass takes this type,
/// and is therefore compiled once for all modules.
pub(super) type Visit<'f, 'a, T> = &'f mut dyn FnMut(&mut Visitor<'_, 'a, T>);

/// Calls `seen` with the path of each item, and the item.
pub(super) fn walk<'a, T: Element + 'a>(visit: Visit<'_, 'a, T>, mut seen: impl FnMut(&str, Item<'a, T>)) {
    visit(&mut Visitor { path: String::new(), seen: &mut seen });
}

pub(super) fn set_mode<'a, T: Element + 'a>(visit: Visit<'_, 'a, T>, training: bool) {
    walk(visit, |_, item| {
        if let Item::Mode(mode) = item {
            mode.set(training);
        }
    });
}

/// All parameters with their names, in the order of the layers; a parameter that several layers share is
/// listed once.
pub(super) fn parameters<'a, T: Element + 'a>(visit: Visit<'_, 'a, T>) -> Vec<(String, Parameter<T>)> {
    let (mut parameters, mut known) = (Vec::new(), HashSet::new());
    walk(visit, |path, item| {
        if let Item::Parameter(parameter) = item
            && known.insert(parameter.address())
        {
            parameters.push((path.to_owned(), parameter.clone()));
        }
    });
    parameters
}

pub(super) fn generators<'a, T: Element + 'a>(visit: Visit<'_, 'a, T>) -> BTreeMap<String, &'a Mutex<Rng>> {
    let mut generators = BTreeMap::new();
    walk(visit, |path, item| {
        if let Item::Rng(rng) = item {
            generators.insert(path.to_owned(), rng);
        }
    });
    generators
}

pub(super) fn set_generators<'a, T: Element + 'a>(
    visit: Visit<'_, 'a, T>,
    new: &BTreeMap<String, Rng>,
) -> Result<()> {
    let here = generators(visit);
    let refused = |name: &str, what| Err(Error::value("set_rng_state", format!("{name} is {what}")));
    if let Some(name) = here.keys().find(|&name| !new.contains_key(name)) {
        return refused(name, "missing");
    }
    if let Some(name) = new.keys().find(|&name| !here.contains_key(name)) {
        return refused(name, "not a generator of the model");
    }
    here.into_iter().for_each(|(name, rng)| *lock(rng) = new[&name].clone());
    Ok(())
}

/// Applies `change` to the parameters at or below a path; returns their number.
pub(super) fn each_under<'a, T: Element + 'a>(
    visit: Visit<'_, 'a, T>,
    under: &str,
    change: fn(&Parameter<T>),
) -> Result<usize> {
    let mut known = HashSet::new();
    walk(visit, |path, item| {
        let inside = path.strip_prefix(under);
        let inside = inside.is_some_and(|rest| under.is_empty() || rest.is_empty() || rest.starts_with('.'));
        if let Item::Parameter(parameter) = item
            && inside
            && known.insert(parameter.address())
        {
            change(parameter);
        }
    });
    if known.is_empty() {
        return Err(Error::value("freeze", format!("there is no parameter under {under:?}")));
    }
    Ok(known.len())
}
