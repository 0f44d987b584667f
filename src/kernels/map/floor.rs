//! Rounded down.

use super::{Function, Reads};
use crate::reference::map::{Twin, between_integers};
use crate::simd::{Element, Float, Simd};

#[derive(Clone, Copy)]
pub(super) struct Floor;

impl<T: Element> Function<T> for Floor {
    const READS: Reads = Reads::Neither;
    const COSTS: [f64; 2] = [0.1, 0.1];

    #[inline(always)]
    fn value<S: Simd>(self, _s: S, x: T::Vector<S>) -> T::Vector<S> {
        x.floor()
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, _x: T::Vector<S>, _y: T::Vector<S>, _dy: T::Vector<S>) -> T::Vector<S> {
        s.splat(T::ZERO)
    }
}

impl Twin for Floor {
    fn value(&self, x: f64) -> f64 {
        x.floor()
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
        [[1, 1], [0, 0]]
    }

    fn is_tame(&self, x: f64) -> bool {
        between_integers(x)
    }

    fn is_flat(&self) -> bool {
        true
    }
}
