//! The affine layer.

use super::init::{self, Fan, Nonlinearity};
use super::{Module, Parameter, Visitor};
use crate::autograd::Epilogue;
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::simd::Element;
use crate::tensor::Tensor;

/// `y = x · weightᵀ + bias` for x of `[…, inputs]`; weight is `[outputs, inputs]`, as in PyTorch.
///
/// Weight and bias start uniform in ±1/√inputs, PyTorch's default.
///
/// ```
/// use gristmill::{Rng, Tensor, nn::{Linear, Module}};
/// let layer: Linear = Linear::new(3, 2, &mut Rng::seed(4))?;
/// assert_eq!(layer.forward(&Tensor::zeros([5, 3])?)?.shape(), [5, 2]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct Linear<T: Element = f32> {
    weight: Parameter<T>,
    bias: Option<Parameter<T>>,
    inputs: usize,
    outputs: usize,
}

impl<T: Element> Linear<T> {
    /// A layer with a bias.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are no inputs or no outputs.
    pub fn new(inputs: usize, outputs: usize, rng: &mut Rng) -> Result<Self> {
        // Kaiming with slope √5 is 1/√inputs, which PyTorch takes for the bias too.
        let slope = Nonlinearity::LeakyReLU(5.0_f64.sqrt());
        let weight = init::kaiming_uniform([outputs, inputs], Fan::In, slope, rng)?;
        let bound = 1.0 / (inputs as f64).sqrt();
        let bias = init::uniform([outputs], -bound, bound, rng)?;
        Self::from_tensors(&weight, Some(&bias))
    }

    /// A layer with these starting values: weight of `[outputs, inputs]`, bias of `[outputs]` or none.
    ///
    /// # Errors
    /// [`Error::Shape`] when they do not fit.
    pub fn from_tensors(weight: &Tensor<T>, bias: Option<&Tensor<T>>) -> Result<Self> {
        let &[outputs, inputs] = weight.shape() else {
            let message = format!("weight must be [outputs, inputs], got {:?}", weight.shape());
            return Err(Error::shape("Linear", message));
        };
        if let Some(bias) = bias.filter(|bias| bias.shape() != [outputs]) {
            let message = format!("bias {:?} does not fit weight {:?}", bias.shape(), weight.shape());
            return Err(Error::shape("Linear", message));
        }
        Ok(Self { weight: Parameter::new(weight), bias: bias.map(Parameter::new), inputs, outputs })
    }

    /// Takes the bias away.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Self { bias: None, ..self }
    }

    /// The weight, `[outputs, inputs]`.
    pub fn weight(&self) -> &Parameter<T> {
        &self.weight
    }

    /// The bias, `[outputs]`.
    pub fn bias(&self) -> Option<&Parameter<T>> {
        self.bias.as_ref()
    }
}

impl<T: Element> Module<T> for Linear<T> {
    #[track_caller]
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let bias = self.bias.as_ref().map(Parameter::tensor);
        x.linear(&self.weight.tensor(), bias.as_ref())
    }

    #[track_caller]
    fn forward_then(&self, x: &Tensor<T>, then: Epilogue<'_, T>) -> Result<Tensor<T>> {
        let bias = self.bias.as_ref().map(Parameter::tensor);
        x.linear_then(&self.weight.tensor(), bias.as_ref(), then)
    }

    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a, T>) {
        visitor.parameter("weight", &self.weight);
        if let Some(bias) = &self.bias {
            visitor.parameter("bias", bias);
        }
    }

    fn describe(&self) -> String {
        let bias = if self.bias.is_some() { "" } else { ", no bias" };
        format!("Linear({} → {}{bias})", self.inputs, self.outputs)
    }
}
