//! What every layer can do.

use std::collections::BTreeMap;
use std::path::Path;

use super::visit::{each_under, generators, lock, parameters, set_generators, set_mode};
use super::{Dropout, Item, Parameter, Trace, Visitor, file, summary, values};
use crate::autograd::{Epilogue, short_type_name};
use crate::error::Result;
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
        values::state_dict(&mut self_visit(self))
    }

    /// Takes the values of a [`state_dict`](Module::state_dict); all of them or, on an error, none. What layers share may
    /// come under any of its names, and under several if they agree.
    ///
    /// # Errors
    /// [`Error::Value`] or [`Error::Shape`] naming what is missing, unknown
    /// or of another shape.
    fn load_state_dict(&self, values: &BTreeMap<String, Tensor<T>>) -> Result<()> {
        values::assign(&mut self_visit(self), values)
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
        file::save(&mut self_visit(self), path.as_ref())
    }

    /// Reads all parameters and states from a safetensors file; on an error the model is left as it was.
    ///
    /// # Errors
    /// [`Error::File`] naming the file and what is wrong with it or does not fit the model.
    fn load(&self, path: impl AsRef<Path>) -> Result<()>
    where
        Self: Sized,
    {
        file::load(&mut self_visit(self), path.as_ref())
    }
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

impl<'a, T: Element> Visitor<'_, 'a, T> {
    /// A module inside the module, and all that it holds.
    pub fn child(&mut self, name: &str, module: &'a (impl Module<T> + ?Sized)) {
        self.under(name, |this| {
            (this.seen)(&this.path, Item::Layer(module.describe()));
            module.visit(this);
        });
    }
}

/// The [`Visit`] of a module of any size, sized or not.
pub(super) fn self_visit<'a, T: Element, M: Module<T> + ?Sized>(
    module: &'a M,
) -> impl FnMut(&mut Visitor<'_, 'a, T>) {
    move |visitor| module.visit(visitor)
}

impl Trace {
    /// Runs a child, under its name in [`Module::visit`], and notes the shape of its result and its operations. A child
    /// that runs several times has the shape of its last result, and the operations of all runs.
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
