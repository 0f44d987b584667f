//! The logistic function 1 / (1 + e⁻ˣ), within 2 ULP.
//!
//! With e = exp(−|x|) ≤ 1, which cannot overflow, it is 1 / (1 + e) for x ≥ 0 and e / (1 + e) for x < 0: there the
//! result has the relative accuracy of e down to the subnormal numbers. The errors of e, of the sum and of the quotient
//! add up to 2 ULP around x = −1.1 unless the exponential is a bit better than [`exp`](super::exp) itself.

use super::exp;
use crate::simd::{Element, Float, Simd};

/// 1 / (1 + e⁻ˣ) of 16 × f32.
#[inline(always)]
pub fn f32<S: Simd>(s: S, x: S::F32) -> S::F32 {
    join::<f32, S>(s, x, exp::precise_f32(s, -x.abs()))
}

/// 1 / (1 + e⁻ˣ) of 8 × f64.
#[inline(always)]
pub fn f64<S: Simd>(s: S, x: S::F64) -> S::F64 {
    join::<f64, S>(s, x, exp::precise_f64(s, -x.abs()))
}

#[inline(always)]
fn join<T: Element, S: Simd>(s: S, x: T::Vector<S>, e: T::Vector<S>) -> T::Vector<S> {
    let one = s.splat(T::ONE);
    T::Vector::select(x.lt(s.splat(T::ZERO)), e, one) / (one + e)
}
