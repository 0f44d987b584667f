//! The exponential function.

use super::{Function, Reads};
use crate::reference::map::Twin;
use crate::simd::{Element, Simd};

#[derive(Clone, Copy)]
pub(super) struct Exp;

impl<T: Element> Function<T> for Exp {
    const READS: Reads = Reads::Output;
    const COSTS: [f64; 2] = [0.4, 0.15];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        T::exp(s, x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, _s: S, _x: T::Vector<S>, y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        dy * y
    }
}

impl Twin for Exp {
    fn value(&self, x: f64) -> f64 {
        x.exp()
    }

    fn derivative(&self, x: f64) -> f64 {
        x.exp()
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (4.0, 0.0)
    }

    fn derivative_bound(&self, _x: f64) -> (f64, f64) {
        (6.0, 0.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[24, 34], [1, 1]]
    }

    fn is_tame(&self, x: f64) -> bool {
        x.abs() < 6.0
    }
}
