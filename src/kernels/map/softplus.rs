//! The smooth ReLU.

use super::{Function, Reads, constant};
use crate::reference::map::{Twin, sigmoid};
use crate::simd::{Element, Float, Simd};

/// From here on softplus is the identity: PyTorch's default.
const THRESHOLD: f64 = 20.0;

#[derive(Clone, Copy)]
pub(super) struct Softplus;

impl<T: Element> Function<T> for Softplus {
    const READS: Reads = Reads::Input;
    const COSTS: [f64; 2] = [1.1, 0.65];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        T::Vector::select(constant::<T, S>(s, THRESHOLD).lt(x), x, T::softplus(s, x))
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        T::Vector::select(constant::<T, S>(s, THRESHOLD).lt(x), dy, dy * T::sigmoid(s, x))
    }
}

impl Twin for Softplus {
    fn value(&self, x: f64) -> f64 {
        if x > 20.0 { x } else { x.exp().ln_1p() }
    }

    fn derivative(&self, x: f64) -> f64 {
        if x > 20.0 { 1.0 } else { sigmoid(x) }
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (8.0, 0.0)
    }

    fn derivative_bound(&self, _x: f64) -> (f64, f64) {
        (6.0, 0.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[50, 60], [25, 35]]
    }

    fn is_tame(&self, x: f64) -> bool {
        x.abs() < 19.0
    }
}
