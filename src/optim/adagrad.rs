//! Adagrad.

use super::optimizer::optimizer;
use super::parameters::Parameters;
use crate::kernels::update;
use crate::kernels::update::Decay;
use crate::nn::Parameter;
use crate::simd::Element;

/// Gradients divided by the square root of the sum of all their squares so far (Duchi et al. 2011);
/// [`update::Adagrad`] has the formula.
pub struct Adagrad<T: Element = f32> {
    pub(super) config: update::Adagrad,
    pub(super) parameters: Parameters<T>,
}

impl<T: Element> Adagrad<T> {
    /// With PyTorch's defaults: lr 0.01, eps 1e-10.
    pub fn new(parameters: Vec<Parameter<T>>) -> Self {
        Self { config: update::Adagrad::default(), parameters: Parameters::new(parameters) }
    }
}

optimizer!(Adagrad, {
    /// The learning rate; 0.01 by default.
    lr: f64,
    /// How the learning rate decays: `lr/(1 + (t − 1)·lr_decay)` in step t; 0 by default.
    lr_decay: f64,
    /// The initial value of the sum of squares; 0 by default.
    initial_accumulator_value: f64,
    /// Added to the square root; 1e-10 by default.
    eps: f64,
    /// λ; 0 by default.
    weight_decay: f64,
    /// How λ acts: L2 by default.
    decay: Decay,
});
