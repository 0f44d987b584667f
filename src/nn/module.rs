//! What every layer can do.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Dropout, ModuleList, Parameter, State, Trace, checkpoint, summary};
use crate::autograd::{Epilogue, short_type_name};
use crate::error::{Error, Result};
use crate::rng::Rng;
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
/// A layer of one's own needs [`forward`](Module::forward) and [`visit`](Module::visit); the rest follows.
///
/// Threads can share a module: all methods take `&self`, and what changes (parameters, states, modes, generators) is
/// locked or atomic. In evaluation mode each thread gets the bits that it would get alone: see
/// [`guide::serving`](crate::guide::serving). What a layer of one's own changes in its forward pass belongs in a
/// [`Parameter`], a [`State`], a [`Mode`], an atomic or a `Mutex`, not in a `Cell`.
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
/// }
///
/// let mut rng = Rng::seed(4);
/// let model = TwoLayers(Linear::new(8, 4, &mut rng)?, Linear::new(4, 1, &mut rng)?);
/// assert_eq!(model.parameters().len(), 4);
/// assert!(model.state_dict().contains_key("second.bias"));
/// assert!(model.summary().starts_with("TwoLayers"));
/// # Ok::<(), gristmill::Error>(())
/// ```
pub trait Module<T: Element = f32>: Send + Sync {
    /// The result for an input.
    ///
    /// # Errors
    /// [`Error::Shape`] when the input does not fit.
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

    /// The module in a few words, such as `Linear(784 → 100)`; the name of the type by default.
    fn describe(&self) -> String {
        short_type_name::<Self>().into()
    }

    /// Multiplications and additions of the module's own products in a forward pass over an input of this shape, for
    /// [`summary_for`](Module::summary_for); those of its children do not belong to it. 0 by default.
    fn flops(&self, input: &[usize]) -> u64 {
        let _ = input;
        0
    }

    /// [`forward`](Module::forward), with the children run through [`Trace::child`], so that
    /// [`summary_for`](Module::summary_for) sees them; without it, it sees the module as a whole.
    ///
    /// # Errors
    /// Those of [`forward`](Module::forward).
    fn trace(&self, x: &Tensor<T>, trace: &mut Trace) -> Result<Tensor<T>> {
        let _ = trace;
        self.forward(x)
    }

    /// All parameters, in the order of the layers; one that several layers share comes once.
    fn parameters(&self) -> Vec<Parameter<T>> {
        parameters(&mut self_visit(self)).into_iter().map(|(_, parameter)| parameter).collect()
    }

    /// The values of all parameters and states by name, such as `0.weight`; one that layers share comes once, under its
    /// first name.
    fn state_dict(&self) -> BTreeMap<String, Tensor<T>> {
        checkpoint::state_dict(&mut self_visit(self))
    }

    /// Takes the values of a [`state_dict`](Module::state_dict); all of them or, on an error, none. What layers share may
    /// come under any of its names, and under several if they agree.
    ///
    /// # Errors
    /// [`Error::Value`] or [`Error::Shape`] naming what is missing, unknown
    /// or of another shape.
    fn load_state_dict(&self, values: &BTreeMap<String, Tensor<T>>) -> Result<()> {
        checkpoint::assign(&mut self_visit(self), values)
    }

    /// The generators of layers that draw random numbers, by name, such as `3.rng`.
    fn rng_state(&self) -> BTreeMap<String, Rng> {
        generators(&mut self_visit(self)).into_iter().map(|(name, rng)| (name, lock(rng).clone())).collect()
    }

    /// Takes the generators of an [`rng_state`](Module::rng_state); all of them or, on an error, none.
    ///
    /// # Errors
    /// [`Error::Value`] naming what is missing or unknown.
    fn set_rng_state(&self, generators: &BTreeMap<String, Rng>) -> Result<()> {
        set_generators(&mut self_visit(self), generators)
    }

    /// To training mode: dropout drops, batch normalisation uses the batch's statistics. It is the mode of the module, for
    /// all threads that share it; a forward pass that runs meanwhile may do some layers in the one mode and some in the
    /// other.
    fn train(&self) {
        set_mode(&mut self_visit(self), true);
    }

    /// To evaluation mode: see [`train`](Module::train).
    fn eval(&self) {
        set_mode(&mut self_visit(self), false);
    }

    /// Forgets all gradients.
    fn zero_grad(&self) {
        self.parameters().iter().for_each(Parameter::zero_grad);
    }

    /// A table of the layers with their parameters; what layers share counts for the first of them.
    fn summary(&self) -> String {
        summary::summary(self.describe(), &mut self_visit(self))
    }

    /// A table of the layers for an input of this shape: the shapes of their results, parameters, multiplications and
    /// additions of their products in a forward pass, and the bytes of parameters and states. The module runs once over
    /// zeros, in evaluation mode: not to be asked for while another thread trains it.
    ///
    /// ```
    /// use gristmill::{Rng, nn::{Linear, Module, ReLU, Sequential}};
    /// let mut rng = Rng::seed(4);
    /// let model: Sequential =
    ///     Sequential::new().add(Linear::new(784, 100, &mut rng)?).add(ReLU).add(Linear::new(100, 10, &mut rng)?);
    /// let summary = model.summary_for(&[32, 784])?;
    /// assert_eq!(summary.lines().nth(2).unwrap(), "  Linear(784 → 100)  [32, 100]      78,500  5,017,600  314,000");
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`forward`](Module::forward).
    fn summary_for(&self, input: &[usize]) -> Result<String> {
        summary::summary_for(self.describe(), &mut self_visit(self), input, &mut |x, trace| {
            trace.run(self, x)
        })
    }

    /// The module and all inside it, one line each, as PyTorch prints them; `{}` of a module of this crate gives it, too.
    ///
    /// ```
    /// use gristmill::nn::{Flatten, Module, ReLU, Residual, Sequential};
    /// let model: Sequential = Sequential::new().add(Flatten).add(Residual::new(Sequential::new().add(ReLU)));
    /// let expected = "\
    /// Sequential(
    ///   (0): Flatten
    ///   (1): Residual(
    ///     (inner): Sequential(
    ///       (0): ReLU
    ///     )
    ///   )
    /// )";
    /// assert_eq!(model.to_string(), expected);
    /// ```
    fn tree(&self) -> String {
        summary::tree(self.describe(), &mut self_visit(self))
    }

    /// Stops the parameters under a path from learning: `"0.inner"` names all inside it, `"0.weight"` one, `""` all of
    /// them. Gives their number. States, such as running means, follow the mode all the same.
    ///
    /// # Errors
    /// [`Error::Value`] when no parameter is there.
    fn freeze(&self, path: &str) -> Result<usize> {
        each_under(&mut self_visit(self), path, Parameter::freeze)
    }

    /// Lets the parameters under a path learn again.
    ///
    /// # Errors
    /// [`Error::Value`] when no parameter is there.
    fn unfreeze(&self, path: &str) -> Result<usize> {
        each_under(&mut self_visit(self), path, Parameter::unfreeze)
    }

    /// The names of the parameters that have no gradient though they are not frozen: after a backward pass, those on
    /// which the loss does not depend.
    fn without_gradient(&self) -> Vec<String> {
        let without = |(name, parameter): (String, Parameter<T>)| {
            (!parameter.is_frozen() && parameter.grad().is_none()).then_some(name)
        };
        parameters(&mut self_visit(self)).into_iter().filter_map(without).collect()
    }

    /// Writes all parameters and states to a safetensors file: beside it first, then renamed.
    ///
    /// # Errors
    /// [`Error::File`] when the file cannot be written.
    fn save(&self, path: impl AsRef<Path>) -> Result<()>
    where
        Self: Sized,
    {
        checkpoint::save(self, path)
    }

    /// Reads all parameters and states from a safetensors file; on an error the model is left as it was.
    ///
    /// # Errors
    /// [`Error::File`] naming the file and what is wrong with it or does not fit the model.
    fn load(&self, path: impl AsRef<Path>) -> Result<()>
    where
        Self: Sized,
    {
        checkpoint::load(self, path)
    }
}

/// All parameters with their names, in the order of the layers; one that several layers share comes once.
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

fn generators<'a, T: Element + 'a>(visit: Visit<'_, 'a, T>) -> BTreeMap<String, &'a Mutex<Rng>> {
    let mut generators = BTreeMap::new();
    walk(visit, |path, item| {
        if let Item::Rng(rng) = item {
            generators.insert(path.to_owned(), rng);
        }
    });
    generators
}

fn set_generators<'a, T: Element + 'a>(visit: Visit<'_, 'a, T>, new: &BTreeMap<String, Rng>) -> Result<()> {
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

/// The module in the box.
impl<T: Element, M: Module<T> + ?Sized> Module<T> for Box<M> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        (**self).forward(x)
    }

    fn forward_then(&self, x: &Tensor<T>, then: Epilogue<'_, T>) -> Result<Tensor<T>> {
        (**self).forward_then(x, then)
    }

    fn follows(&self) -> Option<Follower<'_>> {
        (**self).follows()
    }

    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a, T>) {
        (**self).visit(visitor);
    }

    fn describe(&self) -> String {
        (**self).describe()
    }

    fn flops(&self, input: &[usize]) -> u64 {
        (**self).flops(input)
    }

    fn trace(&self, x: &Tensor<T>, trace: &mut Trace) -> Result<Tensor<T>> {
        (**self).trace(x, trace)
    }
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

    pub(super) fn set(&self, training: bool) {
        self.0.store(training, Ordering::Relaxed);
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
    /// A generator of random numbers.
    Rng(&'a Mutex<Rng>),
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

    /// A generator from which the module draws.
    pub fn rng(&mut self, name: &str, rng: &'a Mutex<Rng>) {
        self.under(name, |this| (this.seen)(&this.path, Item::Rng(rng)));
    }

    /// A module inside the module, and all that it holds.
    pub fn child(&mut self, name: &str, module: &'a (impl Module<T> + ?Sized)) {
        self.under(name, |this| {
            (this.seen)(&this.path, Item::Layer(module.describe()));
            module.visit(this);
        });
    }

    /// The modules of a list inside the module, under their numbers.
    pub fn list(&mut self, name: &str, list: &'a ModuleList<T>) {
        self.under(name, |this| {
            (this.seen)(&this.path, Item::Layer("ModuleList".into()));
            for (index, module) in list.iter().enumerate() {
                this.child(&index.to_string(), module);
            }
        });
    }
}

pub(super) fn lock(rng: &Mutex<Rng>) -> MutexGuard<'_, Rng> {
    rng.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does `change` to the parameters at or below a path; gives their number.
fn each_under<'a, T: Element + 'a>(
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

/// The `visit` of a module: what a module does beside its forward pass takes this, and is compiled once for all modules.
pub(super) type Visit<'f, 'a, T> = &'f mut dyn FnMut(&mut Visitor<'_, 'a, T>);

/// The [`Visit`] of a module of any size, sized or not.
pub(super) fn self_visit<'a, T: Element, M: Module<T> + ?Sized>(
    module: &'a M,
) -> impl FnMut(&mut Visitor<'_, 'a, T>) {
    move |visitor| module.visit(visitor)
}

/// Calls `seen` with the path of each item, and the item.
pub(super) fn walk<'a, T: Element + 'a>(visit: Visit<'_, 'a, T>, mut seen: impl FnMut(&str, Item<'a, T>)) {
    visit(&mut Visitor { path: String::new(), seen: &mut seen });
}

fn set_mode<'a, T: Element + 'a>(visit: Visit<'_, 'a, T>, training: bool) {
    walk(visit, |_, item| {
        if let Item::Mode(mode) = item {
            mode.set(training);
        }
    });
}
