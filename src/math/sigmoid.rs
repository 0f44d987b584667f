//! The logistic function σ(x) = 1 / (1 + e⁻ˣ) and x·σ(x), within 1 ULP (x·σ(x) in f64: 1.2).
//!
//! With e⁻ˣ = 2⁻ⁿ·v as in [`exp`], σ(x) = 2ⁿ/(2ⁿ + v): nothing overflows, and the relative accuracy is that
//! of v on both sides of 0. v and 2ⁿ + v keep their rounding errors. The error of the quotient 1/(2ⁿ + v) is
//! the remainder of the division times the quotient: this correction is added last, in x·σ(x) after the
//! multiplication, so that the result is rounded only once. The factor 2ⁿ comes after it: where σ is
//! subnormal, x·σ(x) may be normal.

use super::{Format, exp, power_of_two, scale};
use crate::simd::{Float, Simd};

/// 1 / (1 + e⁻ˣ) of a register.
#[inline(always)]
pub(crate) fn sigmoid<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    let Quotient { quotient, left, n } = quotient::<T, S>(s, x);
    scale::<T, S>(s, quotient.mul_add(left, quotient), n)
}

/// x / (1 + e⁻ˣ) of a register.
#[inline(always)]
pub(crate) fn silu<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    let Quotient { quotient, left, n } = quotient::<T, S>(s, x);
    // The exponential is cut off at EXP_LOW, and −∞·0 would be NaN.
    let factor = s.splat(T::EXP_LOW).max(x);
    let value = scale::<T, S>(s, factor.mul_add(quotient, factor * (quotient * left)), n);
    // σ is 1 there, and ∞·0 would be NaN.
    T::Vector::select(s.splat(-T::EXP_LOW).lt(x), x, value)
}

/// σ(x) = 2ⁿ·quotient·(1 + left); n is returned with the magic number added.
struct Quotient<V> {
    quotient: V,
    left: V,
    n: V,
}

#[inline(always)]
fn quotient<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> Quotient<T::Vector<S>> {
    let one = s.splat(T::ONE);
    let x = s.splat(T::EXP_LOW).max(s.splat(T::SIGMOID_ONE).min(x));
    let (n, r) = exp::reduce_negated::<T, S>(s, x);
    let (front, rest) = exp::near_in_parts::<T, S>(s, r);
    // Anything below 2⁻⁶⁴ does not change the sum.
    let power = power_of_two::<T, S>(s, s.splat(T::MAGIC + T::from_f64(-64.0)).max(n));
    let sum = power + front;
    let lost = (power.max(front) - sum) + power.min(front);
    let quotient = one / sum;
    let left = quotient.neg_mul_add(lost + rest, quotient.neg_mul_add(sum, one));
    Quotient { quotient, left, n }
}
