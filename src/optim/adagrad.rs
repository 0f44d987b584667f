//! Adagrad.

use super::state::{self, Setting};
use super::{Decay, Optimizer, ParamGroup, Parameters, Progress, Rule, optimizer};
use crate::error::Result;
use crate::kernels::update::{self, Step};
use crate::nn::{Parameter, StateDict};
use crate::simd::Element;

/// Gradients divided by the root of the sum of all their squares (Duchi et al. 2011); the formula stands in
/// [`update::adagrad()`].
pub struct Adagrad<T: Element = f32> {
    config: update::Adagrad,
    parameters: Parameters<T, 1>,
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
    /// How it falls, `lr/(1 + (t − 1)·lr_decay)` in step t; 0 by default.
    lr_decay: f64,
    /// What the sum of squares starts at; 0 by default.
    initial_accumulator_value: f64,
    /// Added to the root; 1e-10 by default.
    eps: f64,
    /// λ; 0 by default.
    weight_decay: f64,
    /// How λ acts: L2 by default.
    decay: Decay,
});

impl Rule<1> for update::Adagrad {
    const STATES: [&'static str; 1] = ["sum"];

    fn lr_and_decay(&mut self) -> (&mut f64, &mut f64) {
        (&mut self.lr, &mut self.weight_decay)
    }

    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
        vec![
            ("lr", Setting::Number(&mut self.lr)),
            ("lr_decay", Setting::Number(&mut self.lr_decay)),
            ("initial_accumulator_value", Setting::Number(&mut self.initial_accumulator_value)),
            ("eps", Setting::Number(&mut self.eps)),
            ("weight_decay", Setting::Number(&mut self.weight_decay)),
            ("decay", Setting::Decay(&mut self.decay)),
        ]
    }

    fn used(&self) -> [bool; 1] {
        [true]
    }

    fn initial(&self) -> f64 {
        self.initial_accumulator_value
    }

    fn step<'a, T: Element>(
        &self,
        at: Progress,
        grad: &'a [T],
        param: &'a mut [T],
        [sum]: [&'a mut [T]; 1],
    ) -> Result<Step<'a, T>> {
        Step::adagrad(self, at.step, grad, param, sum)
    }
}
