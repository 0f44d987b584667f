//! What every layer can do.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Dropout, Parameter, State, checkpoint};
use crate::autograd::Epilogue;
use crate::error::Result;
use crate::simd::Element;
use crate::tensor::Tensor;

/// A module that the layer before it may do in its own pass.
#[derive(Clone, Copy)]
pub enum Follower<'a> {
    /// max(x, 0).
    ReLU,
    /// Dropout, behind a ReLU.
    Dropout(&'a Dropout),
}

/// A layer or a network of layers.
///
/// A layer of one's own needs [`forward`](Module::forward), [`visit`](Module::visit) and
/// [`describe`](Module::describe); the rest follows.
///
/// ```
/// use gristmill::{Result, Rng, Tensor, nn::{Linear, Module, Visitor}};
///
/// struct TwoLayers(Linear, Linear);
///
/// impl Module for TwoLayers {
///     fn forward(&self, x: &Tensor) -> Result<Tensor> {
///         self.1.forward(&self.0.forward(x)?.relu()?)
///     }
///     fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
///         visitor.child("first", &self.0);
///         visitor.child("second", &self.1);
///     }
///     fn describe(&self) -> String {
///         "TwoLayers".into()
///     }
/// }
///
/// let mut rng = Rng::seed(4);
/// let model = TwoLayers(Linear::new(8, 4, &mut rng)?, Linear::new(4, 1, &mut rng)?);
/// assert_eq!(model.parameters().len(), 4);
/// assert!(model.state_dict().contains_key("second.bias"));
/// # Ok::<(), gristmill::Error>(())
/// ```
pub trait Module<T: Element = f32>: Send {
    /// The result for an input.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when the input does not fit.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>>;

    /// The result for an input and what follows it. Layers that can do both in one pass have a method of their own; the
    /// bits are the same.
    ///
    /// # Errors
    /// Those of [`forward`](Module::forward) and of the operations that follow.
    fn forward_then(&self, x: &Tensor<T>, then: Epilogue<'_, T>) -> Result<Tensor<T>> {
        then.apply(&self.forward(x)?)
    }

    /// What the module is when it follows another one, if a layer may do it in its own pass: [`Sequential`](super::Sequential)
    /// asks for it.
    fn follows(&self) -> Option<Follower<'_>> {
        None
    }

    /// Shows the visitor everything the module holds: parameters, states, modes and children.
    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a, T>);

    /// The module in a few words, such as `Linear(784 → 100)`.
    fn describe(&self) -> String;

    /// All parameters, in the order of the layers; one that several layers share comes once.
    fn parameters(&self) -> Vec<Parameter<T>> {
        let mut parameters: Vec<Parameter<T>> = Vec::new();
        walk(self_visit(self), |_, item| {
            if let Item::Parameter(parameter) = item
                && !parameters.iter().any(|known| known.is(parameter))
            {
                parameters.push(parameter.clone());
            }
        });
        parameters
    }

    /// The values of all parameters and states by name, such as `0.weight`.
    fn state_dict(&self) -> BTreeMap<String, Tensor<T>> {
        let mut values = BTreeMap::new();
        walk(self_visit(self), |path, item| {
            match item {
                Item::Parameter(parameter) => values.insert(path.to_owned(), parameter.value()),
                Item::State(state) => values.insert(path.to_owned(), state.value()),
                _ => None,
            };
        });
        values
    }

    /// Takes the values of a [`state_dict`](Module::state_dict); all of them or, on an error, none.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) or [`Error::Shape`](crate::Error::Shape) naming what is missing, unknown
    /// or of another shape.
    fn load_state_dict(&self, values: &BTreeMap<String, Tensor<T>>) -> Result<()> {
        checkpoint::assign(self_visit(self), values)
    }

    /// To training mode: dropout drops, batch normalisation uses the batch's statistics.
    fn train(&self) {
        set_mode(self_visit(self), true);
    }

    /// To evaluation mode.
    fn eval(&self) {
        set_mode(self_visit(self), false);
    }

    /// Forgets all gradients.
    fn zero_grad(&self) {
        self.parameters().iter().for_each(Parameter::zero_grad);
    }

    /// A table of the layers with their parameters.
    fn summary(&self) -> String {
        let mut lines = vec![(String::new(), self.describe(), 0)];
        walk(self_visit(self), |path, item| match item {
            Item::Layer(description) => lines.push((path.to_owned(), description, 0)),
            Item::Parameter(parameter) => {
                lines.last_mut().expect("starts with the model").2 += parameter.len();
            }
            _ => {}
        });
        let widest = lines.iter().map(|(path, text, _)| 2 * depth(path) + text.chars().count()).max();
        let mut table = String::new();
        for (path, text, parameters) in lines {
            let line = format!("{:indent$}{text}", "", indent = 2 * depth(&path));
            let count = if parameters > 0 { format!("{parameters:>10}") } else { String::new() };
            let padding = widest.unwrap_or(0) + 2 - line.chars().count();
            table += format!("{line}{:padding$}{count}", "").trim_end();
            table += "\n";
        }
        let total: usize = self.parameters().iter().map(Parameter::len).sum();
        table + &format!("{total} parameters\n")
    }

    /// Writes all parameters and states to a safetensors file: beside it first, then renamed.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) when the file cannot be written.
    fn save(&self, path: impl AsRef<Path>) -> Result<()>
    where
        Self: Sized,
    {
        checkpoint::save(self, path)
    }

    /// Reads all parameters and states from a safetensors file; on an error the model is left as it was.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) naming the file and what is wrong with it or does not fit the model.
    fn load(&self, path: impl AsRef<Path>) -> Result<()>
    where
        Self: Sized,
    {
        checkpoint::load(self, path)
    }
}

fn depth(path: &str) -> usize {
    if path.is_empty() { 0 } else { path.split('.').count() }
}

/// Whether a layer is in training mode; it starts there.
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
}

/// One thing that a module holds.
pub enum Item<'a, T: Element> {
    /// A child module, by its description; what it holds follows.
    Layer(String),
    /// A tensor that is learned.
    Parameter(&'a Parameter<T>),
    /// A tensor that is carried along.
    State(&'a State<T>),
    /// A switch between training and evaluation.
    Mode(&'a Mode),
}

/// What [`Module::visit`] shows its items to; it keeps the path, such as `3.inner.0`.
pub struct Visitor<'v, 'a, T: Element = f32> {
    path: String,
    seen: &'v mut dyn FnMut(&str, Item<'a, T>),
}

impl<'a, T: Element> Visitor<'_, 'a, T> {
    fn under(&mut self, name: &str, show: impl FnOnce(&mut Self)) {
        let parent = self.path.len();
        if parent > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        show(self);
        self.path.truncate(parent);
    }

    /// A parameter of the module.
    pub fn parameter(&mut self, name: &str, parameter: &'a Parameter<T>) {
        self.under(name, |this| (this.seen)(&this.path, Item::Parameter(parameter)));
    }

    /// A state of the module.
    pub fn state(&mut self, name: &str, state: &'a State<T>) {
        self.under(name, |this| (this.seen)(&this.path, Item::State(state)));
    }

    /// The module's switch between training and evaluation.
    pub fn mode(&mut self, mode: &'a Mode) {
        (self.seen)(&self.path, Item::Mode(mode));
    }

    /// A module inside the module, and all that it holds.
    pub fn child(&mut self, name: &str, module: &'a (impl Module<T> + ?Sized)) {
        self.under(name, |this| {
            (this.seen)(&this.path, Item::Layer(module.describe()));
            module.visit(this);
        });
    }
}

/// The `visit` of a module of any size, sized or not.
pub(super) fn self_visit<'a, T: Element, M: Module<T> + ?Sized>(
    module: &'a M,
) -> impl FnOnce(&mut Visitor<'_, 'a, T>) {
    move |visitor| module.visit(visitor)
}

/// Calls `seen` with the path of each item, and the item.
pub(super) fn walk<'a, T: Element + 'a>(
    visit: impl FnOnce(&mut Visitor<'_, 'a, T>),
    mut seen: impl FnMut(&str, Item<'a, T>),
) {
    visit(&mut Visitor { path: String::new(), seen: &mut seen });
}

fn set_mode<'a, T: Element + 'a>(visit: impl FnOnce(&mut Visitor<'_, 'a, T>), training: bool) {
    walk(visit, |_, item| {
        if let Item::Mode(mode) = item {
            mode.0.store(training, Ordering::Relaxed);
        }
    });
}
