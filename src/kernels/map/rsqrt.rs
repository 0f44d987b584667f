//! One over the square root.

use super::{Function, Reads, constant};
use crate::reference::map::Twin;
use crate::simd::{Element, Float, Simd};

#[derive(Clone, Copy)]
pub(super) struct Rsqrt;

impl<T: Element> Function<T> for Rsqrt {
    const READS: Reads = Reads::Output;
    const COSTS: [f64; 2] = [0.35, 0.15];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        s.splat(T::ONE) / x.sqrt()
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, _x: T::Vector<S>, y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        dy * (constant::<T, S>(s, -0.5) * y * y * y)
    }
}

impl Twin for Rsqrt {
    fn value(&self, x: f64) -> f64 {
        1.0 / x.sqrt()
    }

    fn derivative(&self, x: f64) -> f64 {
        -0.5 / (x * x.sqrt())
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (4.0, 0.0)
    }

    fn derivative_bound(&self, _x: f64) -> (f64, f64) {
        // Three factors with the error of the value, and three roundings.
        (12.0, 0.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[2, 2], [4, 4]]
    }

    fn is_tame(&self, x: f64) -> bool {
        x > 0.2
    }
}
