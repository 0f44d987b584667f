//! The Gaussian error linear unit.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use super::{Function, HUGE, Reads, above, between, constant};
use crate::reference::map::{self as reference, Twin};
use crate::simd::{Element, Float, Simd};

/// 1/√(2π).
const DENSITY_AT_0: f64 = 0.398_942_280_401_432_7;

/// Φ(x) = ½·(1 + erf(x/√2)).
#[inline(always)]
fn normal_cdf<T: Element, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    let half = constant::<T, S>(s, 0.5);
    T::erf(s, x * constant::<T, S>(s, FRAC_1_SQRT_2)).mul_add(half, half)
}

#[derive(Clone, Copy)]
pub(super) struct Gelu;

impl<T: Element> Function<T> for Gelu {
    const READS: Reads = Reads::Input;
    const COSTS: [f64; 2] = [0.8, 1.2];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        above(s, -HUGE, x) * normal_cdf::<T, S>(s, x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        // At ±40 the density is 0 in f64 too.
        let near = between(s, x, 40.0);
        let density = T::exp(s, near * near * constant::<T, S>(s, -0.5)) * constant::<T, S>(s, DENSITY_AT_0);
        dy * near.mul_add(density, normal_cdf::<T, S>(s, x))
    }
}

impl Twin for Gelu {
    fn value(&self, x: f64) -> f64 {
        if x == f64::NEG_INFINITY { -0.0 } else { x * reference::normal_cdf(x) }
    }

    fn derivative(&self, x: f64) -> f64 {
        let density = (-0.5 * x * x).exp() / (2.0 * PI).sqrt();
        reference::normal_cdf(x) + if x.is_infinite() { 0.0 } else { x * density }
    }

    fn value_bound(&self, x: f64) -> (f64, f64) {
        (4.0, if x > 0.0 { 0.0 } else { 3.0 * x.abs() })
    }

    fn derivative_bound(&self, _x: f64) -> (f64, f64) {
        (8.0, 8.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[57, 101], [85, 140]]
    }

    fn is_tame(&self, x: f64) -> bool {
        x.abs() < 30.0
    }
}
