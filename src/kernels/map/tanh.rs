//! The hyperbolic tangent.

use super::{Function, Reads};
use crate::reference::map::{Twin, sigmoid};
use crate::simd::{Element, Float, Simd};

#[derive(Clone, Copy)]
pub(super) struct Tanh;

impl<T: Element> Function<T> for Tanh {
    const READS: Reads = Reads::Output;
    const COSTS: [f64; 2] = [0.7, 0.15];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        T::tanh(s, x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, _x: T::Vector<S>, y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        dy * y.neg_mul_add(y, s.splat(T::ONE))
    }
}

impl Twin for Tanh {
    fn value(&self, x: f64) -> f64 {
        x.tanh()
    }

    fn derivative(&self, x: f64) -> f64 {
        4.0 * sigmoid(2.0 * x) * sigmoid(-2.0 * x)
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (4.0, 0.0)
    }

    fn derivative_bound(&self, _x: f64) -> (f64, f64) {
        // That of 1 − y², with a y that is off by 4 u.
        (8.0, 8.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[38, 58], [3, 3]]
    }
}
