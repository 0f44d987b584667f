//! Lion.

use super::optimizer::optimizer;
use super::parameters::Parameters;
use crate::kernels::update;
use crate::kernels::update::Decay;
use crate::nn::Parameter;
use crate::simd::Element;

/// Steps along the sign of a moment (Chen et al. 2023); [`update::Lion`] has the formula.
pub struct Lion<T: Element = f32> {
    pub(super) config: update::Lion,
    pub(super) parameters: Parameters<T>,
}

impl<T: Element> Lion<T> {
    /// With the authors' defaults: lr 1e-4, betas 0.9 and 0.99.
    pub fn new(parameters: Vec<Parameter<T>>) -> Self {
        Self { config: update::Lion::default(), parameters: Parameters::new(parameters) }
    }

    /// The weight of the old moment in the direction and in the new moment; (0.9, 0.99) by default.
    #[must_use]
    pub fn betas(mut self, beta1: f64, beta2: f64) -> Self {
        (self.config.beta1, self.config.beta2) = (beta1, beta2);
        self
    }
}

optimizer!(Lion, {
    /// The learning rate; 1e-4 by default.
    lr: f64,
    /// λ; 0 by default.
    weight_decay: f64,
    /// How λ acts: decoupled by default.
    decay: Decay,
});
