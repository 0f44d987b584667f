//! The error function.

use std::f64::consts::FRAC_2_SQRT_PI;

use super::{Function, Reads, between, constant};
use crate::reference::map::{Twin, erf};
use crate::simd::{Element, Simd};

#[derive(Clone, Copy)]
pub(super) struct Erf;

impl<T: Element> Function<T> for Erf {
    const READS: Reads = Reads::Input;
    const COSTS: [f64; 2] = [0.7, 0.45];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        T::erf(s, x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        // At ±40 the slope is 0 in f64 too.
        let near = between(s, x, 40.0);
        dy * (T::exp(s, -(near * near)) * constant::<T, S>(s, FRAC_2_SQRT_PI))
    }
}

impl Twin for Erf {
    fn value(&self, x: f64) -> f64 {
        erf(x)
    }

    fn derivative(&self, x: f64) -> f64 {
        FRAC_2_SQRT_PI * (-x * x).exp()
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (4.0, 0.0)
    }

    fn derivative_bound(&self, x: f64) -> (f64, f64) {
        // x² and its rounding count in the exponent.
        (8.0 + 2.0 * x * x, 0.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[53, 97], [26, 36]]
    }
}
