//! Root mean square normalisation.

use super::display::display_as_tree;
use super::{Module, Parameter, Visitor};
use crate::error::Result;
use crate::simd::Element;
use crate::tensor::Tensor;

/// `x / sqrt(mean(x²) + eps) · weight` over the last axis (Zhang and Sennrich 2019). Weights start as 1, and
/// eps is the machine epsilon of the element type: PyTorch's defaults.
///
/// ```
/// use gristmill::{Tensor, nn::{Module, RMSNorm}};
/// let layer: RMSNorm = RMSNorm::new(2)?.eps(0.0);
/// let y = layer.forward(&Tensor::from_slice(&[2.0, -2.0], [1, 2])?)?;
/// assert_eq!(y.to_vec(), [1.0, -1.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct RMSNorm<T: Element = f32> {
    weight: Parameter<T>,
    features: usize,
    eps: Option<f64>,
}

impl<T: Element> RMSNorm<T> {
    /// A layer for a last axis of this length.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the length is too large.
    pub fn new(features: usize) -> Result<Self> {
        Ok(Self { weight: Parameter::new(&Tensor::ones([features])?), features, eps: None })
    }

    /// Sets the number that is added to the mean of the squares before the square root.
    #[must_use]
    pub fn eps(self, eps: f64) -> Self {
        Self { eps: Some(eps), ..self }
    }

    /// The scale γ, `[features]`.
    pub fn weight(&self) -> &Parameter<T> {
        &self.weight
    }
}

display_as_tree!(RMSNorm<T>);

impl<T: Element> Module<T> for RMSNorm<T> {
    #[track_caller]
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        x.rms_norm(Some(&*self.weight.read()), self.eps)
    }

    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a, T>) {
        visitor.parameter("weight", &self.weight);
    }

    fn describe(&self) -> String {
        format!("RMSNorm({})", self.features)
    }
}
