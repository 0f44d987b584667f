//! One over a number.

use super::{Function, Reads};
use crate::reference::map::Twin;
use crate::simd::{Element, Simd};

#[derive(Clone, Copy)]
pub(super) struct Reciprocal;

impl<T: Element> Function<T> for Reciprocal {
    const READS: Reads = Reads::Output;
    const COSTS: [f64; 2] = [0.15, 0.15];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        s.splat(T::ONE) / x
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, _s: S, _x: T::Vector<S>, y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        -(dy * y * y)
    }
}

impl Twin for Reciprocal {
    fn value(&self, x: f64) -> f64 {
        1.0 / x
    }

    fn derivative(&self, x: f64) -> f64 {
        -1.0 / (x * x)
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (1.0, 0.0)
    }

    fn derivative_bound(&self, _x: f64) -> (f64, f64) {
        (6.0, 0.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[1, 1], [3, 3]]
    }

    fn is_tame(&self, x: f64) -> bool {
        x.abs() > 0.2
    }
}
