//! RMSprop.

use super::optimizer::optimizer;
use super::parameters::Parameters;
use crate::kernels::update::Decay;
use crate::kernels::update::RmsProp;
use crate::nn::Parameter;
use crate::simd::Element;

/// Gradients divided by the square root of their running mean square (Tieleman and Hinton 2012); [`RmsProp`]
/// has the formula.
pub struct RMSprop<T: Element = f32> {
    pub(super) config: RmsProp,
    pub(super) parameters: Parameters<T>,
}

impl<T: Element> RMSprop<T> {
    /// With PyTorch's defaults: lr 0.01, alpha 0.99, eps 1e-8.
    pub fn new(parameters: Vec<Parameter<T>>) -> Self {
        Self { config: RmsProp::default(), parameters: Parameters::new(parameters) }
    }
}

optimizer!(RMSprop, {
    /// The learning rate; 0.01 by default.
    lr: f64,
    /// The weight of the old mean square; 0.99 by default.
    alpha: f64,
    /// Added to the square root; 1e-8 by default.
    eps: f64,
    /// The weight of the old direction; 0 by default.
    momentum: f64,
    /// Whether the mean is subtracted from the mean square; off by default.
    centered: bool,
    /// λ; 0 by default.
    weight_decay: f64,
    /// How λ acts: L2 by default.
    decay: Decay,
});
