//! The rectified linear unit.

use super::{Function, Reads};
use crate::reference::map::{Twin, is_off, relu, relu_derivative};
use crate::simd::{Element, Float, Simd};

#[derive(Clone, Copy)]
pub(super) struct Relu;

impl<T: Element> Function<T> for Relu {
    const READS: Reads = Reads::Output;
    const COSTS: [f64; 2] = [0.1, 0.15];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        s.splat(T::ZERO).max(x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, _x: T::Vector<S>, y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        let zero = s.splat(T::ZERO);
        T::Vector::select(y.le(zero), zero, dy)
    }
}

impl Twin for Relu {
    fn value(&self, x: f64) -> f64 {
        relu(x)
    }

    fn derivative(&self, x: f64) -> f64 {
        relu_derivative(x)
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

    fn is_flat(&self) -> bool {
        true
    }
}
