//! The affine layer.

use super::display::display_as_tree;
use super::init::{self, Fan, Nonlinearity};
use super::packed::Packed;
use super::{Module, Parameter, Visitor};
use crate::autograd::{Epilogue, WeightLayout, is_recording};
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::simd::Element;
use crate::tensor::Tensor;

/// The initial values of a [`Linear`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinearInit {
    /// Weight and bias uniform in ±1/√inputs, in this order.
    #[default]
    PyTorch,
    /// The weight uniform in ±√(6/inputs), then the bias in ±√(6/outputs): Kaiming initialisation for a ReLU,
    /// where the bias is treated as a weight whose fan-in is the number of outputs.
    Needle,
}

/// Options of a [`Linear`]; the defaults are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearOptions {
    /// The order of the weight's axes; `[outputs, inputs]` by default. The weight is drawn in this layout.
    pub layout: WeightLayout,
    /// The initial values.
    pub init: LinearInit,
    /// Whether there is a bias; true by default.
    pub bias: bool,
}

impl Default for LinearOptions {
    fn default() -> Self {
        Self { layout: WeightLayout::default(), init: LinearInit::default(), bias: true }
    }
}

/// `y = x · weightᵀ + bias` for x of `[…, inputs]`; weight is `[outputs, inputs]`, as in PyTorch, unless
/// [`layout`](Linear::layout) says otherwise.
///
/// Initial values of weight and bias are uniform in ±1/√inputs, PyTorch's default.
///
/// A layer that is called repeatedly with few rows while nothing is recorded (inference in [`no_grad`]) keeps
/// a copy of the weight in the order in which products read it, which takes as much memory as the weight,
/// its outputs padded to whole registers. One row then takes a third to a half of the time, with the same bits. The first recorded pass
/// drops the copy, and it is made again when the weight has changed.
///
/// [`no_grad`]: crate::autograd::no_grad
///
/// ```
/// use gristmill::{Rng, Tensor, autograd::WeightLayout, nn::{Linear, Module}};
/// let layer: Linear = Linear::new(3, 2, &mut Rng::seed(4))?;
/// let (x, y) = (Tensor::ones([5, 3])?, layer.forward(&Tensor::ones([5, 3])?)?);
/// assert_eq!((y.shape(), layer.weight().value().shape()), ([5, 2].as_slice(), [2, 3].as_slice()));
/// let layer = layer.layout(WeightLayout::InOut)?;
/// assert_eq!(layer.weight().value().shape(), [3, 2]);
/// assert!(layer.forward(&x)?.equals(&y));
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct Linear<T: Element = f32> {
    weight: Parameter<T>,
    bias: Option<Parameter<T>>,
    layout: WeightLayout,
    inputs: usize,
    outputs: usize,
    packed: Packed<T>,
}

impl<T: Element> Linear<T> {
    /// A layer with a bias.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are no inputs or no outputs.
    pub fn new(inputs: usize, outputs: usize, rng: &mut Rng) -> Result<Self> {
        Self::with_options(inputs, outputs, LinearOptions::default(), rng)
    }

    /// A layer with a different layout, different initial values or no bias.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are no inputs or no outputs.
    pub fn with_options(
        inputs: usize,
        outputs: usize,
        options: LinearOptions,
        rng: &mut Rng,
    ) -> Result<Self> {
        let LinearOptions { layout, init, bias } = options;
        let (shape, fan) = match layout {
            WeightLayout::OutIn => ([outputs, inputs], Fan::In),
            WeightLayout::InOut => ([inputs, outputs], Fan::Out),
        };
        // Kaiming with slope √5 is 1/√inputs, which PyTorch also uses for the bias.
        let (after, bound) = match init {
            LinearInit::PyTorch => (Nonlinearity::LeakyReLU(5.0_f64.sqrt()), 1.0 / (inputs as f64).sqrt()),
            LinearInit::Needle => (Nonlinearity::ReLU, (6.0 / outputs as f64).sqrt()),
        };
        let weight = init::kaiming_uniform(shape, fan, after, rng)?;
        let bias = bias.then(|| init::uniform([outputs], -bound, bound, rng)).transpose()?;
        let bias = bias.as_ref().map(Parameter::new);
        Self::from_parameters(&Parameter::new(&weight), bias.as_ref(), layout)
    }

    /// A layer with these initial values: weight of `[outputs, inputs]`, bias of `[outputs]` or none.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit each other.
    pub fn from_tensors(weight: &Tensor<T>, bias: Option<&Tensor<T>>) -> Result<Self> {
        let bias = bias.map(Parameter::new);
        Self::from_parameters(&Parameter::new(weight), bias.as_ref(), WeightLayout::OutIn)
    }

    /// A layer that shares these parameters with other layers: tied weights. The gradient is the sum of the
    /// contributions of all of them; the parameter is counted, saved and stepped once.
    ///
    /// ```
    /// use gristmill::{Rng, autograd::WeightLayout, nn::{Linear, Module, Sequential, Tanh}};
    /// let encoder: Linear = Linear::new(8, 3, &mut Rng::seed(4))?;
    /// // `[3, 8]` the other way round: from 3 inputs to 8 outputs.
    /// let decoder = Linear::from_parameters(encoder.weight(), None, WeightLayout::InOut)?;
    /// let model = Sequential::new().add(encoder).add(Tanh).add(decoder);
    /// assert_eq!(model.parameters().len(), 2);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit each other.
    pub fn from_parameters(
        weight: &Parameter<T>,
        bias: Option<&Parameter<T>>,
        layout: WeightLayout,
    ) -> Result<Self> {
        let value = weight.value();
        let Some((inputs, outputs)) = layout.sizes(value.shape()) else {
            let axes = if layout == WeightLayout::OutIn { "outputs, inputs" } else { "inputs, outputs" };
            return Err(Error::shape("Linear", format!("weight must be [{axes}], got {:?}", value.shape())));
        };
        if let Some(bias) = bias.map(Parameter::value).filter(|bias| bias.shape() != [outputs]) {
            let message = format!("bias {:?} does not fit weight {:?}", bias.shape(), value.shape());
            return Err(Error::shape("Linear", message));
        }
        Ok(Self {
            weight: weight.clone(),
            bias: bias.cloned(),
            layout,
            inputs,
            outputs,
            packed: Packed::default(),
        })
    }

    /// The same layer with the weight in this layout. If the layout changes, the weight is copied into a new
    /// parameter.
    ///
    /// # Errors
    /// [`Error::Setting`] if a `GRISTMILL_` variable has an invalid value.
    pub fn layout(mut self, layout: WeightLayout) -> Result<Self> {
        if layout != self.layout {
            self.weight = Parameter::new(&self.weight.value().t()?);
            self.layout = layout;
        }
        Ok(self)
    }

    /// Removes the bias.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Self { bias: None, ..self }
    }

    /// The weight, in the order that [`layout`](Linear::layout) gives; `[outputs, inputs]` by default.
    pub fn weight(&self) -> &Parameter<T> {
        &self.weight
    }

    /// The bias, `[outputs]`.
    pub fn bias(&self) -> Option<&Parameter<T>> {
        self.bias.as_ref()
    }

    #[track_caller]
    fn run(&self, x: &Tensor<T>, then: Option<Epilogue<'_, T>>) -> Result<Tensor<T>> {
        let (weight, bias) = (self.weight.read(), self.bias.as_ref().map(Parameter::read));
        if is_recording() {
            self.packed.forget();
        } else if self.layout == WeightLayout::OutIn
            && x.shape().last() == Some(&self.inputs)
            && self.inputs > 0
            && let Some(packed) = self.packed.read(&weight, x.len() / self.inputs)
            && let Some(packed) = packed.get()
        {
            return x.linear_packed(packed, bias.as_deref(), then);
        }
        x.linear_with(&weight, self.layout, bias.as_deref(), then)
    }
}

display_as_tree!(Linear<T>);

impl<T: Element> Module<T> for Linear<T> {
    #[track_caller]
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.run(x, None)
    }

    #[track_caller]
    fn forward_then(&self, x: &Tensor<T>, then: Epilogue<'_, T>) -> Result<Tensor<T>> {
        self.run(x, Some(then))
    }

    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a, T>) {
        visitor.parameter("weight", &self.weight);
        if let Some(bias) = &self.bias {
            visitor.parameter("bias", bias);
        }
    }

    fn flops(&self, input: &[usize]) -> u64 {
        2 * self.outputs as u64 * input.iter().map(|&n| n as u64).product::<u64>()
    }

    fn describe(&self) -> String {
        let bias = if self.bias.is_some() { "" } else { ", no bias" };
        let layout = if self.layout == WeightLayout::OutIn { "" } else { ", weight [in, out]" };
        format!("Linear({} → {}{bias}{layout})", self.inputs, self.outputs)
    }
}
