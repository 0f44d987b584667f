//! NAdam.

use super::state::{self, Setting};
use super::{Decay, Optimizer, ParamGroup, Parameters, Progress, Rule, optimizer};
use crate::error::Result;
use crate::kernels::update::{self, Step};
use crate::nn::{Parameter, StateDict};
use crate::simd::Element;

/// Adam with Nesterov's look ahead (Dozat 2016); the formula stands in [`update::nadam()`].
pub struct NAdam<T: Element = f32> {
    config: update::NAdam,
    parameters: Parameters<T, 2>,
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
    /// Added to the root; 1e-8 by default.
    eps: f64,
    /// How fast the momentum grows; 4e-3 by default.
    momentum_decay: f64,
    /// λ; 0 by default.
    weight_decay: f64,
    /// How λ acts: L2 by default.
    decay: Decay,
});

impl Rule<2> for update::NAdam {
    const STATES: [&'static str; 2] = ["exp_avg", "exp_avg_sq"];

    fn lr_and_decay(&mut self) -> (&mut f64, &mut f64) {
        (&mut self.lr, &mut self.weight_decay)
    }

    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
        vec![
            ("lr", Setting::Number(&mut self.lr)),
            ("beta1", Setting::Number(&mut self.beta1)),
            ("beta2", Setting::Number(&mut self.beta2)),
            ("eps", Setting::Number(&mut self.eps)),
            ("weight_decay", Setting::Number(&mut self.weight_decay)),
            ("decay", Setting::Decay(&mut self.decay)),
            ("momentum_decay", Setting::Number(&mut self.momentum_decay)),
        ]
    }

    fn used(&self) -> [bool; 2] {
        [true; 2]
    }

    /// The product of the momenta, 0 before it becomes subnormal.
    fn carry(&self, step: u64, carried: f64) -> Result<f64> {
        let carried = carried * self.momentum(step)?;
        Ok(if carried < 1e-100 { 0.0 } else { carried })
    }

    fn step<'a, T: Element>(
        &self,
        at: Progress,
        grad: &'a [T],
        param: &'a mut [T],
        [first, second]: [&'a mut [T]; 2],
    ) -> Result<Step<'a, T>> {
        Step::nadam(self, at.step, at.carried, grad, param, first, second)
    }
}
