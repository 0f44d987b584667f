//! Stochastic gradient descent.

use super::{Decay, Optimizer, ParamGroup, Parameters, Rule, optimizer};
use crate::error::Result;
use crate::kernels::update::{Sgd, Step};
use crate::nn::Parameter;
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
}

optimizer!(SGD, {
    /// The weight of the old direction; 0 by default.
    momentum: f64,
    /// What the new gradient loses beside a momentum; 0 by default.
    dampening: f64,
    /// Nesterov's momentum, which looks ahead; off by default.
    nesterov: bool,
    /// λ; 0 by default.
    weight_decay: f64,
    /// How λ acts: L2 by default, decoupled for SGDW (Loshchilov and Hutter 2019).
    decay: Decay,
});

impl Rule<1> for Sgd {
    fn lr_and_decay(&mut self) -> (&mut f64, &mut f64) {
        (&mut self.lr, &mut self.weight_decay)
    }

    fn used(&self) -> [bool; 1] {
        [self.momentum != 0.0]
    }

    fn step<'a, T: Element>(
        &self,
        step: u64,
        grad: &'a [T],
        param: &'a mut [T],
        [momentum]: [&'a mut [T]; 1],
    ) -> Result<Step<'a, T>> {
        Step::sgd(self, step, grad, param, momentum)
    }
}
