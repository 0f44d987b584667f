//! Stochastic gradient descent.

use super::{Decay, Group, Optimizer, optimizer};
use crate::error::Result;
use crate::kernels::update::{self, Sgd};
use crate::nn::Parameter;
use crate::simd::Element;

/// `v ← momentum·v + (1 − dampening)·g`, `p ← p − lr·v`; the formula stands in [`update::sgd`].
pub struct SGD<T: Element = f32> {
    config: Sgd,
    group: Group<T, 1>,
}

impl<T: Element> SGD<T> {
    /// Plain gradient descent with learning rate `lr`.
    pub fn new(parameters: Vec<Parameter<T>>, lr: f64) -> Self {
        Self { config: Sgd { lr, ..Sgd::default() }, group: Group::new(parameters) }
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
}, |this| {
    let config = &this.config;
    this.group.step([config.momentum != 0.0], |step, grad, param, [momentum]| {
        update::sgd(config, step, grad, param, momentum)
    })
});
