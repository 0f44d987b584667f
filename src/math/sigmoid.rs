//! The logistic function 1 / (1 + e⁻ˣ), within 2 ULP.
//!
//! With e = exp(−|x|) ≤ 1, which cannot overflow, it is 1 / (1 + e) for x ≥ 0 and e / (1 + e) for x < 0: there the
//! result has the relative accuracy of e down to the subnormal numbers. The sum 1 + e is off by some δ; the quotient is
//! multiplied by 1 − δ, which makes up for it where 1 + e is near 1 and that error is the largest.

use crate::simd::{Element, Float, Simd};

/// 1 / (1 + e⁻ˣ) of a register.
#[inline(always)]
pub fn sigmoid<T: Element, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    let one = s.splat(T::ONE);
    let e = T::exp(s, -x.abs());
    let sum = one + e;
    let delta = (one - sum) + e;
    let quotient = T::Vector::select(x.lt(s.splat(T::ZERO)), e, one) / sum;
    quotient.neg_mul_add(delta, quotient)
}
