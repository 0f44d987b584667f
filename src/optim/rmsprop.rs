//! RMSprop.

use super::state::{self, Setting};
use super::{Decay, Optimizer, ParamGroup, Parameters, Progress, Rule, optimizer};
use crate::error::Result;
use crate::kernels::update::{RmsProp, Step};
use crate::nn::{Parameter, StateDict};
use crate::simd::Element;

/// Gradients divided by the root of their running mean square (Tieleman and Hinton 2012); the formula stands in
/// [`update::rmsprop`](crate::kernels::update::rmsprop).
pub struct RMSprop<T: Element = f32> {
    config: RmsProp,
    parameters: Parameters<T, 3>,
}

impl<T: Element> RMSprop<T> {
    /// With PyTorch's defaults: lr 0.01, alpha 0.99, eps 1e-8.
    pub fn new(parameters: Vec<Parameter<T>>) -> Self {
        Self { config: RmsProp::default(), parameters: Parameters::new(parameters) }
    }
}

optimizer!(RMSprop, {
    /// The learning rate; 0.01 by default.
    lr: f64,
    /// The weight of the old mean square; 0.99 by default.
    alpha: f64,
    /// Added to the root; 1e-8 by default.
    eps: f64,
    /// The weight of the old direction; 0 by default.
    momentum: f64,
    /// Whether the mean is subtracted from the mean square; off by default.
    centered: bool,
    /// λ; 0 by default.
    weight_decay: f64,
    /// How λ acts: L2 by default.
    decay: Decay,
});

impl Rule<3> for RmsProp {
    const STATES: [&'static str; 3] = ["square_avg", "grad_avg", "momentum_buffer"];

    fn lr_and_decay(&mut self) -> (&mut f64, &mut f64) {
        (&mut self.lr, &mut self.weight_decay)
    }

    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
        vec![
            ("lr", Setting::Number(&mut self.lr)),
            ("alpha", Setting::Number(&mut self.alpha)),
            ("eps", Setting::Number(&mut self.eps)),
            ("momentum", Setting::Number(&mut self.momentum)),
            ("centered", Setting::Flag(&mut self.centered)),
            ("weight_decay", Setting::Number(&mut self.weight_decay)),
            ("decay", Setting::Decay(&mut self.decay)),
        ]
    }

    fn used(&self) -> [bool; 3] {
        [true, self.centered, self.momentum != 0.0]
    }

    fn step<'a, T: Element>(
        &self,
        _: Progress,
        grad: &'a [T],
        param: &'a mut [T],
        [square, mean, momentum]: [&'a mut [T]; 3],
    ) -> Result<Step<'a, T>> {
        Step::rmsprop(self, grad, param, square, mean, momentum)
    }
}
