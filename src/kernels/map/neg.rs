//! The negative.

use super::{Function, Reads};
use crate::reference::map::Twin;
use crate::simd::{Element, Simd};

#[derive(Clone, Copy)]
pub(super) struct Neg;

impl<T: Element> Function<T> for Neg {
    const READS: Reads = Reads::Neither;
    const COSTS: [f64; 2] = [0.1, 0.15];

    #[inline(always)]
    fn value<S: Simd>(self, _s: S, x: T::Vector<S>) -> T::Vector<S> {
        -x
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, _s: S, _x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        -dy
    }
}

impl Twin for Neg {
    fn value(&self, x: f64) -> f64 {
        -x
    }

    fn derivative(&self, _x: f64) -> f64 {
        -1.0
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (0.0, 0.0)
    }

    fn derivative_bound(&self, _x: f64) -> (f64, f64) {
        (1.0, 0.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[1, 1], [1, 1]]
    }
}
