//! The exponential function less 1.

use super::{Function, Reads};
use crate::reference::map::Twin;
use crate::simd::{Element, Simd};

#[derive(Clone, Copy)]
pub(super) struct Expm1;

impl<T: Element> Function<T> for Expm1 {
    const READS: Reads = Reads::Input;
    const COSTS: [f64; 2] = [0.8, 0.4];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        T::exp_m1(s, x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        dy * T::exp(s, x)
    }
}

impl Twin for Expm1 {
    fn value(&self, x: f64) -> f64 {
        x.exp_m1()
    }

    fn derivative(&self, x: f64) -> f64 {
        x.exp()
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (4.0, 0.0)
    }

    fn derivative_bound(&self, _x: f64) -> (f64, f64) {
        (8.0, 0.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[45, 55], [24, 34]]
    }

    fn is_tame(&self, x: f64) -> bool {
        x.abs() < 6.0
    }
}
