//! The natural logarithm.

use super::{Function, Reads};
use crate::reference::map::Twin;
use crate::simd::{Element, Simd};

#[derive(Clone, Copy)]
pub(super) struct Ln;

impl<T: Element> Function<T> for Ln {
    const READS: Reads = Reads::Input;
    const COSTS: [f64; 2] = [0.5, 0.2];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        T::ln(s, x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, _s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        dy / x
    }
}

impl Twin for Ln {
    fn value(&self, x: f64) -> f64 {
        x.ln()
    }

    fn derivative(&self, x: f64) -> f64 {
        1.0 / x
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (4.0, 0.0)
    }

    fn derivative_bound(&self, _x: f64) -> (f64, f64) {
        (6.0, 0.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[26, 26], [1, 1]]
    }

    fn is_tame(&self, x: f64) -> bool {
        x > 0.2
    }
}
