//! Lion.

use super::state::{self, Setting};
use super::{Decay, Optimizer, ParamGroup, Parameters, Progress, Rule, optimizer};
use crate::error::Result;
use crate::kernels::update::{self, Step};
use crate::nn::{Parameter, StateDict};
use crate::simd::Element;

/// Steps along the sign of a moment (Chen et al. 2023); the formula stands in [`update::lion()`].
pub struct Lion<T: Element = f32> {
    config: update::Lion,
    parameters: Parameters<T, 1>,
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

impl Rule<1> for update::Lion {
    const STATES: [&'static str; 1] = ["exp_avg"];

    fn lr_and_decay(&mut self) -> (&mut f64, &mut f64) {
        (&mut self.lr, &mut self.weight_decay)
    }

    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
        vec![
            ("lr", Setting::Number(&mut self.lr)),
            ("beta1", Setting::Number(&mut self.beta1)),
            ("beta2", Setting::Number(&mut self.beta2)),
            ("weight_decay", Setting::Number(&mut self.weight_decay)),
            ("decay", Setting::Decay(&mut self.decay)),
        ]
    }

    fn used(&self) -> [bool; 1] {
        [true; 1]
    }

    fn step<'a, T: Element>(
        &self,
        _: Progress,
        grad: &'a [T],
        param: &'a mut [T],
        [moment]: [&'a mut [T]; 1],
    ) -> Result<Step<'a, T>> {
        Step::lion(self, grad, param, moment)
    }
}
