//! The logarithm of the logistic function.

use super::{Function, Reads};
use crate::reference::map::{Twin, sigmoid};
use crate::simd::{Element, Simd};

#[derive(Clone, Copy)]
pub(super) struct LogSigmoid;

impl<T: Element> Function<T> for LogSigmoid {
    const READS: Reads = Reads::Input;
    const COSTS: [f64; 2] = [1.1, 0.65];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        -T::softplus(s, -x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        dy * T::sigmoid(s, -x)
    }
}

impl Twin for LogSigmoid {
    fn value(&self, x: f64) -> f64 {
        if x < 0.0 { x - x.exp().ln_1p() } else { -(-x).exp().ln_1p() }
    }

    fn derivative(&self, x: f64) -> f64 {
        sigmoid(-x)
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (4.0, 0.0)
    }

    fn derivative_bound(&self, _x: f64) -> (f64, f64) {
        (8.0, 0.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[50, 60], [25, 35]]
    }
}
