//! The exponential linear unit.

use super::{Function, Reads};
use crate::reference::map::{Twin, is_off};
use crate::simd::{Element, Float, Simd};

#[derive(Clone, Copy)]
pub(super) struct Elu<T> {
    pub alpha: T,
}

impl<T: Element> Function<T> for Elu<T> {
    const READS: Reads = Reads::Input;
    const COSTS: [f64; 2] = [0.8, 0.4];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        T::Vector::select(s.splat(T::ZERO).lt(x), x, s.splat(self.alpha) * T::exp_m1(s, x))
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        T::Vector::select(s.splat(T::ZERO).lt(x), dy, dy * (s.splat(self.alpha) * T::exp(s, x)))
    }
}

impl<T: Element> Twin for Elu<T> {
    fn value(&self, x: f64) -> f64 {
        if x > 0.0 { x } else { self.alpha.to_f64() * x.exp_m1() }
    }

    fn derivative(&self, x: f64) -> f64 {
        if x > 0.0 { 1.0 } else { self.alpha.to_f64() * x.exp() }
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (5.0, 0.0)
    }

    fn derivative_bound(&self, _x: f64) -> (f64, f64) {
        (6.0, 0.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[28, 38], [2, 2]]
    }

    fn is_tame(&self, x: f64) -> bool {
        is_off(x, 0.0)
    }
}
