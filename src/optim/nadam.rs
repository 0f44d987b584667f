//! NAdam.

use super::optimizer::optimizer;
use super::parameters::Parameters;
use crate::kernels::update;
use crate::kernels::update::Decay;
use crate::nn::Parameter;
use crate::simd::Element;

/// Adam with Nesterov momentum (Dozat 2016); [`update::NAdam`] has the formula.
pub struct NAdam<T: Element = f32> {
    pub(super) config: update::NAdam,
    pub(super) parameters: Parameters<T>,
}

impl<T: Element> NAdam<T> {
    /// With PyTorch's defaults: lr 2e-3, betas 0.9 and 0.999, eps 1e-8, momentum decay 4e-3.
    pub fn new(parameters: Vec<Parameter<T>>) -> Self {
        Self { config: update::NAdam::default(), parameters: Parameters::new(parameters) }
    }

    /// The weights of the old first and second moment; (0.9, 0.999) by default.
    #[must_use]
    pub fn betas(mut self, beta1: f64, beta2: f64) -> Self {
        (self.config.beta1, self.config.beta2) = (beta1, beta2);
        self
    }
}

optimizer!(NAdam, {
    /// The learning rate; 2e-3 by default.
    lr: f64,
    /// Added to the square root; 1e-8 by default.
    eps: f64,
    /// How fast the momentum grows; 4e-3 by default.
    momentum_decay: f64,
    /// λ; 0 by default.
    weight_decay: f64,
    /// How λ acts: L2 by default.
    decay: Decay,
});
