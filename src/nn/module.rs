//! The interface of all layers.

use std::collections::BTreeMap;
use std::path::Path;

use super::visit::{each_under, generators, lock, parameters, set_generators, set_mode};
use super::{Dropout, Item, Parameter, Trace, Visitor, file, summary, values};
use crate::autograd::{Epilogue, short_type_name};
use crate::error::Result;
use crate::rng::Rng;
use crate::simd::Element;
use crate::tensor::Tensor;

/// A module that the preceding layer may run in its own pass.
#[derive(Clone, Copy)]
pub enum Follower<'a> {
    /// max(x, 0).
    ReLU,
    /// Dropout that follows a ReLU.
    Dropout(&'a Dropout),
}

/// A layer or a network of layers.
///
/// Your own layer needs [`forward`](Module::forward) and [`visit`](Module::visit); everything else has a
/// default.
///
/// Threads can share a module: all methods take `&self`, and everything that changes (parameters, states,
/// modes, generators) is locked or atomic. In evaluation mode each thread gets results that are bit-identical
/// to those it would get alone: see [`guide::serving`](crate::guide::serving). If the forward pass of your
/// own layer changes something, it belongs in a [`Parameter`], a [`State`](super::State), a
/// [`Mode`](super::Mode), an atomic or a `Mutex`, not in a `Cell`.
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
    /// [`Error::Shape`](crate::Error::Shape) if the input does not fit.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>>;

    /// The result for an input, followed by further operations. Layers that can do both in one pass override
    /// this; the bits are the same.
    ///
    /// # Errors
    /// The errors of [`forward`](Module::forward) and of the operations that follow.
    fn forward_then(&self, x: &Tensor<T>, then: Epilogue<'_, T>) -> Result<Tensor<T>> {
        then.apply(&self.forward(x)?)
    }

    /// Identifies a module that the preceding layer may be able to run in its own pass;
    /// [`Sequential`](super::Sequential) asks for it.
    fn follows(&self) -> Option<Follower<'_>> {
        None
    }

    /// Shows everything that the module holds to the visitor: parameters, states, modes and children.
    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a, T>);

    /// A short description of the module, such as `Linear(784 → 100)`; by default the name of the type.
    fn describe(&self) -> String {
        short_type_name::<Self>().into()
    }

    /// Multiplications and additions in the module's own products during a forward pass over an input of this
    /// shape, for [`summary_for`](Module::summary_for); those of its children are not included. 0 by default.
    fn flops(&self, input: &[usize]) -> u64 {
        let _ = input;
        0
    }

    /// [`forward`](Module::forward), but children are run through [`Trace::child`], so that
    /// [`summary_for`](Module::summary_for) sees them; by default, it sees the module as a whole.
    ///
    /// # Errors
    /// The errors of [`forward`](Module::forward).
    fn trace(&self, x: &Tensor<T>, trace: &mut Trace) -> Result<Tensor<T>> {
        let _ = trace;
        self.forward(x)
    }

    /// All parameters, in the order of the layers; a parameter that several layers share is listed once.
    fn parameters(&self) -> Vec<Parameter<T>> {
        parameters(&mut self_visit(self)).into_iter().map(|(_, parameter)| parameter).collect()
    }

    /// The values of all parameters and states by name, such as `0.weight`; a value that layers share is
    /// listed once, under its first name.
    fn state_dict(&self) -> BTreeMap<String, Tensor<T>> {
        values::state_dict(&mut self_visit(self))
    }

    /// Loads the values of a [`state_dict`](Module::state_dict); all of them or, on an error, none. A value
    /// that layers share may be given under any of its names, or under several if they agree.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) or [`Error::Shape`](crate::Error::Shape) naming what is missing,
    /// unknown or of another shape.
    fn load_state_dict(&self, values: &BTreeMap<String, Tensor<T>>) -> Result<()> {
        values::assign(&mut self_visit(self), values)
    }

    /// The generators of layers that draw random numbers, by name, such as `3.rng`.
    fn rng_state(&self) -> BTreeMap<String, Rng> {
        generators(&mut self_visit(self)).into_iter().map(|(name, rng)| (name, lock(rng).clone())).collect()
    }

    /// Restores the generators of an [`rng_state`](Module::rng_state); all of them or, on an error, none.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) naming what is missing or unknown.
    fn set_rng_state(&self, generators: &BTreeMap<String, Rng>) -> Result<()> {
        set_generators(&mut self_visit(self), generators)
    }

    /// Switches to training mode: dropout drops elements, batch normalisation uses the statistics of the
    /// batch. The mode belongs to the module and holds for all threads that share it; a forward pass that
    /// runs during the change may use different modes in different layers.
    fn train(&self) {
        set_mode(&mut self_visit(self), true);
    }

    /// Switches to evaluation mode: see [`train`](Module::train).
    fn eval(&self) {
        set_mode(&mut self_visit(self), false);
    }

    /// Clears all gradients.
    fn zero_grad(&self) {
        self.parameters().iter().for_each(Parameter::zero_grad);
    }

    /// A table of the layers with their parameters; shared parameters are counted for the first layer that
    /// has them.
    fn summary(&self) -> String {
        summary::summary(self.describe(), &mut self_visit(self))
    }

    /// A table of the layers for an input of this shape: the shapes of their results, parameters,
    /// multiplications and additions in their products during a forward pass, and the bytes of parameters and
    /// states. The module runs once over zeros in evaluation mode, so that it must not be trained on another
    /// thread at the same time.
    ///
    /// ```
    /// use gristmill::{Rng, nn::{Linear, Module, ReLU, Sequential}};
    /// let mut rng = Rng::seed(4);
    /// let model: Sequential = Sequential::new()
    ///     .add(Linear::new(784, 100, &mut rng)?)
    ///     .add(ReLU)
    ///     .add(Linear::new(100, 10, &mut rng)?);
    /// let summary = model.summary_for(&[32, 784])?;
    /// let line = "  Linear(784 → 100)  [32, 100]      78,500  5,017,600  314,000";
    /// assert_eq!(summary.lines().nth(2).unwrap(), line);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// The errors of [`forward`](Module::forward).
    fn summary_for(&self, input: &[usize]) -> Result<String> {
        summary::summary_for(self.describe(), &mut self_visit(self), input, &mut |x, trace| {
            trace.run(self, x)
        })
    }

    /// The module and everything inside it, one line each, formatted like PyTorch's; modules of this crate
    /// also print this way with `{}`.
    ///
    /// ```
    /// use gristmill::nn::{Flatten, Module, ReLU, Residual, Sequential};
    /// let inner = Sequential::new().add(ReLU);
    /// let model: Sequential = Sequential::new().add(Flatten).add(Residual::new(inner));
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

    /// Freezes the parameters under a path, so that they do not learn: `"0.inner"` means all inside it,
    /// `"0.weight"` a single one, `""` all of them. Returns their number. States, such as running means,
    /// still follow the mode.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if the path has no parameters.
    fn freeze(&self, path: &str) -> Result<usize> {
        each_under(&mut self_visit(self), path, Parameter::freeze)
    }

    /// Lets the parameters under a path learn again, and returns their number.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if the path has no parameters.
    fn unfreeze(&self, path: &str) -> Result<usize> {
        each_under(&mut self_visit(self), path, Parameter::unfreeze)
    }

    /// The names of the parameters that have no gradient though they are not frozen: after a backward pass,
    /// these are the ones that the loss does not depend on.
    fn without_gradient(&self) -> Vec<String> {
        let without = |(name, parameter): (String, Parameter<T>)| {
            (!parameter.is_frozen() && parameter.grad().is_none()).then_some(name)
        };
        parameters(&mut self_visit(self)).into_iter().filter_map(without).collect()
    }

    /// Writes all parameters and states to a safetensors file, by way of a temporary file in the same folder.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) if the file cannot be written.
    fn save(&self, path: impl AsRef<Path>) -> Result<()>
    where
        Self: Sized,
    {
        file::save(&mut self_visit(self), path.as_ref())
    }

    /// Reads all parameters and states from a safetensors file; on an error, the model is left unchanged.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) naming the file and what is wrong with it or does not fit the
    /// model.
    fn load(&self, path: impl AsRef<Path>) -> Result<()>
    where
        Self: Sized,
    {
        file::load(&mut self_visit(self), path.as_ref())
    }
}

/// Forwards to the module in the box.
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

impl<'a, T: Element> Visitor<'_, 'a, T> {
    /// Shows a child module and everything that it holds.
    pub fn child(&mut self, name: &str, module: &'a (impl Module<T> + ?Sized)) {
        self.under(name, |this| {
            (this.seen)(&this.path, Item::Layer(module.describe()));
            module.visit(this);
        });
    }
}

/// The [`Visit`] of a module, which may be a trait object.
pub(super) fn self_visit<'a, T: Element, M: Module<T> + ?Sized>(
    module: &'a M,
) -> impl FnMut(&mut Visitor<'_, 'a, T>) {
    move |visitor| module.visit(visitor)
}

impl Trace {
    /// Runs a child, under its name in [`Module::visit`], and records the shape of its result and its
    /// operations. For a child that runs several times, these are the shape of its last result and the
    /// operations of all runs.
    ///
    /// # Errors
    /// The errors of the child's [`forward`](Module::forward), which then also name the child.
    pub fn child<T: Element>(
        &mut self,
        name: &str,
        module: &(impl Module<T> + ?Sized),
        x: &Tensor<T>,
    ) -> Result<Tensor<T>> {
        self.under(name, |trace| trace.run(module, x)).map_err(|error| error.in_layer(name))
    }

    pub(super) fn run<T: Element>(
        &mut self,
        module: &(impl Module<T> + ?Sized),
        x: &Tensor<T>,
    ) -> Result<Tensor<T>> {
        let y = module.trace(x, self)?;
        self.note(y.dims(), module.flops(x.shape()));
        Ok(y)
    }
}
