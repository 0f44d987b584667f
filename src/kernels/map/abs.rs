//! The magnitude.

use super::{Function, Reads};
use crate::reference::map::{Twin, is_off, sign};
use crate::simd::{Element, Float, Simd};

#[derive(Clone, Copy)]
pub(super) struct Abs;

impl<T: Element> Function<T> for Abs {
    const READS: Reads = Reads::Input;
    const COSTS: [f64; 2] = [0.1, 0.15];

    #[inline(always)]
    fn value<S: Simd>(self, _s: S, x: T::Vector<S>) -> T::Vector<S> {
        x.abs()
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        let (zero, one) = (s.splat(T::ZERO), s.splat(T::ONE));
        let sign = T::Vector::select(x.lt(zero), -one, T::Vector::select(zero.lt(x), one, x));
        dy * sign
    }
}

impl Twin for Abs {
    fn value(&self, x: f64) -> f64 {
        x.abs()
    }

    fn derivative(&self, x: f64) -> f64 {
        sign(x)
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

    fn is_tame(&self, x: f64) -> bool {
        is_off(x, 0.0)
    }
}
