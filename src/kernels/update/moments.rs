//! The moments that Adam and its relatives keep.

use super::Progress;
use crate::simd::{Element, Float, Simd};

/// Averages of gradients and of their squares that fade.
#[derive(Clone, Copy)]
pub(super) struct Moments<T> {
    /// β₁ and β₂.
    keep: [T; 2],
    /// 1 − β₁ and 1 − β₂.
    fresh: [T; 2],
}

impl<T: Element> Moments<T> {
    pub fn new(beta1: f64, beta2: f64) -> Self {
        Self { keep: [beta1, beta2].map(T::from_f64), fresh: [1.0 - beta1, 1.0 - beta2].map(T::from_f64) }
    }

    /// The two moments with the gradient in them.
    #[inline(always)]
    pub fn with<S: Simd>(
        self,
        s: S,
        g: T::Vector<S>,
        first: T::Vector<S>,
        second: T::Vector<S>,
    ) -> (T::Vector<S>, T::Vector<S>) {
        let ([keep_first, keep_second], [fresh_first, fresh_second]) = (self.keep, self.fresh);
        let first = first.mul_add(s.splat(keep_first), g * s.splat(fresh_first));
        let second = second.mul_add(s.splat(keep_second), g * g * s.splat(fresh_second));
        (first, second)
    }
}

/// The same in `f64`, one number at a time.
pub(super) struct ExactMoments {
    pub first: f64,
    pub second: f64,
    /// β₁ᵗ and β₂ᵗ.
    pub kept: [f64; 2],
}

impl ExactMoments {
    pub fn new(beta1: f64, beta2: f64, at: Progress, g: f64, first: f64, second: f64) -> Self {
        Self {
            first: beta1 * first + (1.0 - beta1) * g,
            second: beta2 * second + (1.0 - beta2) * g * g,
            // Steps beyond `i32` have vanished powers, whose last digits do not matter.
            kept: [beta1, beta2].map(|beta| {
                i32::try_from(at.step).map_or_else(|_| beta.powf(at.step as f64), |step| beta.powi(step))
            }),
        }
    }
}

/// Nobody can tell smaller powers of β from 0 beside 1, and their squares would soon be subnormal.
pub(super) const VANISHED: f64 = 1e-100;

/// `base^exponent` by repeated squaring: `f64::powi` may differ between machines. 0 where it is below
/// [`VANISHED`].
pub(super) fn power(mut base: f64, mut exponent: u64) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if base < VANISHED {
            return 0.0;
        }
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}
