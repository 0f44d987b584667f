//! Stochastic gradient descent.

use super::state::{self, Setting};
use super::{Decay, Optimizer, ParamGroup, Parameters, Progress, Rule, optimizer};
use crate::error::Result;
use crate::kernels::update::{Sgd, Step};
use crate::nn::{Parameter, StateDict};
use crate::simd::Element;

/// `v ← momentum·v + (1 − dampening)·g`, `p ← p − lr·v`; the formula stands in [`update::sgd`](crate::kernels::update::sgd).
pub struct SGD<T: Element = f32> {
    config: Sgd,
    parameters: Parameters<T, 1>,
}

impl<T: Element> SGD<T> {
    /// Plain gradient descent with learning rate `lr`.
    pub fn new(parameters: Vec<Parameter<T>>, lr: f64) -> Self {
        Self { config: Sgd { lr, ..Sgd::default() }, parameters: Parameters::new(parameters) }
    }

    /// A momentum whose direction is an average of the gradients, as needle's: `v ← β·v + (1 − β)·g` from v = 0. The same
    /// as momentum and dampening β from the first step on.
    #[must_use]
    pub fn averaged_momentum(self, beta: f64) -> Self {
        self.momentum(beta).dampening(beta).dampen_first(true)
    }
}

optimizer!(SGD, {
    /// The weight of the old direction; 0 by default.
    momentum: f64,
    /// What the new gradient loses beside a momentum; 0 by default.
    dampening: f64,
    /// Whether the first gradient is dampened, too, as the later ones; off by default, as in PyTorch.
    dampen_first: bool,
    /// Nesterov's momentum, which looks ahead; off by default.
    nesterov: bool,
    /// λ; 0 by default.
    weight_decay: f64,
    /// How λ acts: L2 by default, decoupled for SGDW (Loshchilov and Hutter 2019).
    decay: Decay,
});

impl Rule<1> for Sgd {
    const STATES: [&'static str; 1] = ["momentum_buffer"];

    fn lr_and_decay(&mut self) -> (&mut f64, &mut f64) {
        (&mut self.lr, &mut self.weight_decay)
    }

    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
        vec![
            ("lr", Setting::Number(&mut self.lr)),
            ("momentum", Setting::Number(&mut self.momentum)),
            ("dampening", Setting::Number(&mut self.dampening)),
            ("dampen_first", Setting::Flag(&mut self.dampen_first)),
            ("nesterov", Setting::Flag(&mut self.nesterov)),
            ("weight_decay", Setting::Number(&mut self.weight_decay)),
            ("decay", Setting::Decay(&mut self.decay)),
        ]
    }

    fn used(&self) -> [bool; 1] {
        [self.momentum != 0.0]
    }

    fn step<'a, T: Element>(
        &self,
        at: Progress,
        grad: &'a [T],
        param: &'a mut [T],
        [momentum]: [&'a mut [T]; 1],
    ) -> Result<Step<'a, T>> {
        Step::sgd(self, at.step, grad, param, momentum)
    }
}
