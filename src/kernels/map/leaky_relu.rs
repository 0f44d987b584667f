//! ReLU that lets some of what is negative through.

use super::{Function, Reads};
use crate::reference::map::{Twin, is_off};
use crate::simd::{Element, Float, Simd};

#[derive(Clone, Copy)]
pub(super) struct LeakyRelu<T> {
    pub slope: T,
}

impl<T: Element> Function<T> for LeakyRelu<T> {
    const READS: Reads = Reads::Input;
    const COSTS: [f64; 2] = [0.1, 0.15];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        T::Vector::select(s.splat(T::ZERO).lt(x), x, s.splat(self.slope) * x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        T::Vector::select(s.splat(T::ZERO).lt(x), dy, s.splat(self.slope) * dy)
    }
}

impl<T: Element> Twin for LeakyRelu<T> {
    fn value(&self, x: f64) -> f64 {
        if x > 0.0 { x } else { self.slope.to_f64() * x }
    }

    fn derivative(&self, x: f64) -> f64 {
        if x > 0.0 { 1.0 } else { self.slope.to_f64() }
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (1.0, 0.0)
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
