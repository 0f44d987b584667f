//! The logistic function.

use super::{Function, Reads};
use crate::reference::map::{Twin, sigmoid};
use crate::simd::{Element, Simd};

#[derive(Clone, Copy)]
pub(super) struct Sigmoid;

impl<T: Element> Function<T> for Sigmoid {
    const READS: Reads = Reads::Output;
    const COSTS: [f64; 2] = [0.6, 0.15];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        T::sigmoid(s, x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, _x: T::Vector<S>, y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        dy * (y * (s.splat(T::ONE) - y))
    }
}

impl Twin for Sigmoid {
    fn value(&self, x: f64) -> f64 {
        sigmoid(x)
    }

    fn derivative(&self, x: f64) -> f64 {
        sigmoid(x) * sigmoid(-x)
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (4.0, 0.0)
    }

    fn derivative_bound(&self, x: f64) -> (f64, f64) {
        // That of 1 − y, with a y that is off by 4 u.
        (8.0, 5.0 * sigmoid(x))
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[24, 34], [3, 3]]
    }
}
