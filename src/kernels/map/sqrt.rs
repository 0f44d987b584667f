//! The square root.

use super::{Function, Reads};
use crate::reference::map::Twin;
use crate::simd::{Element, Float, Simd};

#[derive(Clone, Copy)]
pub(super) struct Sqrt;

impl<T: Element> Function<T> for Sqrt {
    const READS: Reads = Reads::Output;
    const COSTS: [f64; 2] = [0.2, 0.15];

    #[inline(always)]
    fn value<S: Simd>(self, _s: S, x: T::Vector<S>) -> T::Vector<S> {
        x.sqrt()
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, _s: S, _x: T::Vector<S>, y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        dy / (y + y)
    }
}

impl Twin for Sqrt {
    fn value(&self, x: f64) -> f64 {
        x.sqrt()
    }

    fn derivative(&self, x: f64) -> f64 {
        0.5 / x.sqrt()
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (1.0, 0.0)
    }

    fn derivative_bound(&self, _x: f64) -> (f64, f64) {
        (6.0, 0.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[1, 1], [2, 2]]
    }

    fn is_tame(&self, x: f64) -> bool {
        x > 0.2
    }
}
