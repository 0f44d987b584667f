//! Adam and AdamW: one rule, two ways to decay.

use super::state::{self, Setting};
use super::{Decay, Optimizer, ParamGroup, Parameters, Progress, Rule, optimizer};
use crate::error::Result;
use crate::kernels::update::{self, Step};
use crate::nn::{Parameter, StateDict};
use crate::simd::Element;

/// Steps of first over root of second moment, both bias-corrected (Kingma and Ba 2015); the formula stands in
/// [`update::adam`].
pub struct Adam<T: Element = f32> {
    config: update::Adam,
    parameters: Parameters<T, 3>,
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
    /// Added to the root; 1e-8 by default.
    eps: f64,
    /// λ; 0 by default.
    weight_decay: f64,
    /// How λ acts: L2 by default, decoupled for AdamW.
    decay: Decay,
    /// Whether the second moment is the largest so far (Reddi et al. 2018); off by default.
    amsgrad: bool,
});

impl Rule<3> for update::Adam {
    const STATES: [&'static str; 3] = ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"];

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
            ("amsgrad", Setting::Flag(&mut self.amsgrad)),
        ]
    }

    fn used(&self) -> [bool; 3] {
        [true, true, self.amsgrad]
    }

    fn step<'a, T: Element>(
        &self,
        at: Progress,
        grad: &'a [T],
        param: &'a mut [T],
        [first, second, largest]: [&'a mut [T]; 3],
    ) -> Result<Step<'a, T>> {
        Step::adam(self, at.step, grad, param, first, second, largest)
    }
}
