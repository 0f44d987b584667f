//! Stochastic gradient descent.

use super::optimizer::optimizer;
use super::parameters::Parameters;
use crate::kernels::update::Decay;
use crate::kernels::update::Sgd;
use crate::nn::Parameter;
use crate::simd::Element;

/// `v ← momentum·v + (1 − dampening)·g`, `p ← p − lr·v`; [`Sgd`] has the full formula.
pub struct SGD<T: Element = f32> {
    pub(super) config: Sgd,
    pub(super) parameters: Parameters<T>,
}

impl<T: Element> SGD<T> {
    /// Plain gradient descent with learning rate `lr`.
    pub fn new(parameters: Vec<Parameter<T>>, lr: f64) -> Self {
        Self { config: Sgd { lr, ..Sgd::default() }, parameters: Parameters::new(parameters) }
    }

    /// A momentum whose direction is an average of the gradients, as in needle: `v ← β·v + (1 − β)·g` from v
    /// = 0. Equivalent to momentum β with dampening β from the first step on.
    #[must_use]
    pub fn averaged_momentum(self, beta: f64) -> Self {
        self.momentum(beta).dampening(beta).dampen_first(true)
    }
}

optimizer!(SGD, {
    /// The weight of the old direction; 0 by default.
    momentum: f64,
    /// By how much the new gradient is dampened when there is a momentum; 0 by default.
    dampening: f64,
    /// Whether the first gradient is also dampened, like the later ones; false by default, as in PyTorch.
    dampen_first: bool,
    /// Whether to use Nesterov momentum, which looks ahead; false by default.
    nesterov: bool,
    /// λ; 0 by default.
    weight_decay: f64,
    /// How λ acts: L2 by default, decoupled for SGDW (Loshchilov and Hutter 2019).
    decay: Decay,
});
