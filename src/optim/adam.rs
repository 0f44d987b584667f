//! Adam and AdamW: one rule with two kinds of weight decay.

use super::optimizer::optimizer;
use super::parameters::Parameters;
use crate::kernels::update;
use crate::kernels::update::Decay;
use crate::nn::Parameter;
use crate::simd::Element;

/// Steps of the first moment divided by the square root of the second, both bias-corrected (Kingma and Ba
/// 2015); [`update::Adam`] has the formula.
pub struct Adam<T: Element = f32> {
    pub(super) config: update::Adam,
    pub(super) parameters: Parameters<T>,
}

impl<T: Element> Adam<T> {
    /// With PyTorch's defaults: lr 1e-3, betas 0.9 and 0.999, eps 1e-8.
    pub fn new(parameters: Vec<Parameter<T>>) -> Self {
        Self { config: update::Adam::default(), parameters: Parameters::new(parameters) }
    }
}

/// [`Adam`] with decoupled weight decay, 0.01 by default (Loshchilov and Hutter 2019).
pub struct AdamW;

impl AdamW {
    /// With PyTorch's defaults: lr 1e-3, betas 0.9 and 0.999, eps 1e-8, weight decay 0.01.
    #[allow(clippy::new_ret_no_self)]
    pub fn new<T: Element>(parameters: Vec<Parameter<T>>) -> Adam<T> {
        Adam::new(parameters).weight_decay(0.01).decay(Decay::Decoupled)
    }
}

impl<T: Element> Adam<T> {
    /// The weights of the old first and second moment; (0.9, 0.999) by default.
    #[must_use]
    pub fn betas(mut self, beta1: f64, beta2: f64) -> Self {
        (self.config.beta1, self.config.beta2) = (beta1, beta2);
        self
    }
}

optimizer!(Adam, {
    /// The learning rate; 1e-3 by default.
    lr: f64,
    /// Added to the square root; 1e-8 by default.
    eps: f64,
    /// λ; 0 by default.
    weight_decay: f64,
    /// How λ acts: L2 by default, decoupled for AdamW.
    decay: Decay,
    /// Whether the second moment is the largest so far (Reddi et al. 2018); off by default.
    amsgrad: bool,
});
