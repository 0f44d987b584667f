//! Optimizers with the conventions of other frameworks.

use super::{Adam, SGD};
use crate::nn::{Parameter, Preset};
use crate::simd::Element;

impl Preset {
    /// Gradient descent with this learning rate and momentum: the momentum of PyTorch's is a sum of
    /// gradients, that of needle's an average.
    pub fn sgd<T: Element>(self, parameters: Vec<Parameter<T>>, lr: f64, momentum: f64) -> SGD<T> {
        let sgd = SGD::new(parameters, lr);
        match self {
            Self::PyTorch => sgd.momentum(momentum),
            Self::Needle => sgd.averaged_momentum(momentum),
        }
    }

    /// Adam with the framework's default learning rate: 0.001 in PyTorch, 0.01 in needle. The formula is the
    /// same.
    pub fn adam<T: Element>(self, parameters: Vec<Parameter<T>>) -> Adam<T> {
        let lr = match self {
            Self::PyTorch => 1e-3,
            Self::Needle => 1e-2,
        };
        Adam::new(parameters).lr(lr)
    }
}
