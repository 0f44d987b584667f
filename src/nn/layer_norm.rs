//! Layer normalisation.

use super::display::display_as_tree;
use super::{Module, Parameter, Visitor};
use crate::error::Result;
use crate::simd::Element;
use crate::tensor::Tensor;

/// `(x − mean) / sqrt(var + eps) · weight + bias` over the last axis (Ba, Kiros and Hinton 2016), with the
/// biased variance. eps is 1e-5 by default; weights start as 1, biases as 0.
pub struct LayerNorm<T: Element = f32> {
    weight: Parameter<T>,
    bias: Parameter<T>,
    features: usize,
    eps: f64,
}

impl<T: Element> LayerNorm<T> {
    /// A layer for a last axis of this length.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the length is too large.
    pub fn new(features: usize) -> Result<Self> {
        let weight = Parameter::new(&Tensor::ones([features])?);
        let bias = Parameter::new(&Tensor::zeros([features])?);
        Ok(Self { weight, bias, features, eps: 1e-5 })
    }

    /// Sets the number that is added to the variance before the square root.
    #[must_use]
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }
}

display_as_tree!(LayerNorm<T>);

impl<T: Element> Module<T> for LayerNorm<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        x.layer_norm(Some((&*self.weight.read(), &*self.bias.read())), self.eps)
    }

    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a, T>) {
        visitor.parameter("weight", &self.weight);
        visitor.parameter("bias", &self.bias);
    }

    fn describe(&self) -> String {
        format!("LayerNorm({})", self.features)
    }
}
