//! The binary logarithm.

use std::f64::consts::LOG2_E;

use super::{Function, Reads, constant};
use crate::reference::map::Twin;
use crate::simd::{Element, Simd};

#[derive(Clone, Copy)]
pub(super) struct Log2;

impl<T: Element> Function<T> for Log2 {
    const READS: Reads = Reads::Input;
    const COSTS: [f64; 2] = [0.7, 0.2];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        T::log2(s, x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        dy * constant::<T, S>(s, LOG2_E) / x
    }
}

impl Twin for Log2 {
    fn value(&self, x: f64) -> f64 {
        x.log2()
    }

    fn derivative(&self, x: f64) -> f64 {
        LOG2_E / x
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (4.0, 0.0)
    }

    fn derivative_bound(&self, _x: f64) -> (f64, f64) {
        (8.0, 0.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[36, 37], [2, 2]]
    }

    fn is_tame(&self, x: f64) -> bool {
        x > 0.2
    }
}
