//! The natural logarithm about 1.

use super::{Function, Reads};
use crate::reference::map::Twin;
use crate::simd::{Element, Simd};

#[derive(Clone, Copy)]
pub(super) struct Log1p;

impl<T: Element> Function<T> for Log1p {
    const READS: Reads = Reads::Input;
    const COSTS: [f64; 2] = [0.7, 0.2];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        T::ln_1p(s, x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        dy / (s.splat(T::ONE) + x)
    }
}

impl Twin for Log1p {
    fn value(&self, x: f64) -> f64 {
        x.ln_1p()
    }

    fn derivative(&self, x: f64) -> f64 {
        1.0 / (1.0 + x)
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (4.0, 0.0)
    }

    fn derivative_bound(&self, _x: f64) -> (f64, f64) {
        (8.0, 0.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[40, 41], [2, 2]]
    }

    fn is_tame(&self, x: f64) -> bool {
        x > -0.8
    }
}
