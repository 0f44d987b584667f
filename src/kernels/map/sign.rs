//! The sign.

use super::{Function, Reads};
use crate::reference::map::{Twin, is_off, sign};
use crate::simd::{Element, Float, Mask, Simd};

#[derive(Clone, Copy)]
pub(super) struct Sign;

impl<T: Element> Function<T> for Sign {
    const READS: Reads = Reads::Neither;
    const COSTS: [f64; 2] = [0.1, 0.1];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        // Zero and NaN stay what they are.
        T::Vector::select(x.eq(s.splat(T::ZERO)).or(x.is_nan()), x, s.splat(T::ONE).copysign(x))
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, _x: T::Vector<S>, _y: T::Vector<S>, _dy: T::Vector<S>) -> T::Vector<S> {
        s.splat(T::ZERO)
    }
}

impl Twin for Sign {
    fn value(&self, x: f64) -> f64 {
        sign(x)
    }

    fn derivative(&self, _x: f64) -> f64 {
        0.0
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (0.0, 0.0)
    }

    fn derivative_bound(&self, _x: f64) -> (f64, f64) {
        (1.0, 0.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[2, 2], [0, 0]]
    }

    fn is_tame(&self, x: f64) -> bool {
        is_off(x, 0.0)
    }

    fn is_flat(&self) -> bool {
        true
    }
}
