//! The square.

use super::{Function, Reads};
use crate::reference::map::Twin;
use crate::simd::{Element, Simd};

#[derive(Clone, Copy)]
pub(super) struct Square;

impl<T: Element> Function<T> for Square {
    const READS: Reads = Reads::Input;
    const COSTS: [f64; 2] = [0.1, 0.15];

    #[inline(always)]
    fn value<S: Simd>(self, _s: S, x: T::Vector<S>) -> T::Vector<S> {
        x * x
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, _s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        dy * (x + x)
    }
}

impl Twin for Square {
    fn value(&self, x: f64) -> f64 {
        x * x
    }

    fn derivative(&self, x: f64) -> f64 {
        2.0 * x
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
        x.abs() < 20.0
    }
}
