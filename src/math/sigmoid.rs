//! The logistic function σ(x) = 1 / (1 + e⁻ˣ) and x·σ(x), within 1 ULP.
//!
//! With e = exp(−|x|) ≤ 1, which cannot overflow, σ is 1 / (1 + e) for x ≥ 0 and e / (1 + e) for x < 0: there the
//! result has the relative accuracy of e. e is 2ⁿ·(v + v′) with what rounding took from it, 1 + e is u + u′. The quotient
//! q of the dividend's front by u is off by what is left of the dividend, divided by u: that correction is added last,
//! in x·σ(x) after the multiplication, so that there is one rounding of a whole result. 2ⁿ is applied after it: where
//! e/(1 + e) is subnormal, x·e/(1 + e) need not be.

use super::{Format, exp, fast_two_sum, halves};
use crate::simd::{Float, Simd};

/// 1 / (1 + e⁻ˣ) of a register.
#[inline(always)]
pub(crate) fn sigmoid<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    let Parts { quotient, correction, scales: [first, second] } = parts::<T, S>(s, x);
    (quotient + correction) * first * second
}

/// x / (1 + e⁻ˣ) of a register.
#[inline(always)]
pub(crate) fn silu<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    let Parts { quotient, correction, scales: [first, second] } = parts::<T, S>(s, x);
    // The exponential ends at EXP_LOW, and −∞·0 is no number.
    let factor = s.splat(T::EXP_LOW).max(x);
    let value = factor.mul_add(quotient, factor * correction) * first * second;
    // σ is 1 there, and ∞·0 no number; a product that vanishes keeps the sign.
    T::Vector::select(s.splat(-T::EXP_LOW).lt(x), x, value.copysign(x))
}

/// σ(x) = (quotient + correction)·scales[0]·scales[1], with two powers of two.
struct Parts<V> {
    quotient: V,
    correction: V,
    scales: [V; 2],
}

#[inline(always)]
fn parts<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> Parts<T::Vector<S>> {
    let (zero, one) = (s.splat(T::ZERO), s.splat(T::ONE));
    let (front, rest, n) = exp::parts::<T, S>(s, s.splat(T::EXP_LOW).max(-x.abs()));
    let (front, rest) = fast_two_sum::<T, S>(s, front, rest);
    let (first, second) = halves::<T, S>(s, n);
    let (sum, lost) = fast_two_sum::<T, S>(s, one, front * first * second);
    let lost = (rest * first).mul_add(second, lost);
    let negative = x.lt(zero);
    let dividend = T::Vector::select(negative, front, one);
    let reciprocal = one / sum;
    let quotient = dividend * reciprocal;
    let left = quotient.neg_mul_add(sum, dividend)
        + quotient.neg_mul_add(lost, T::Vector::select(negative, rest, zero));
    // Not by `map`: an array's `map` may stay a function, without the instruction set.
    let scales = [T::Vector::select(negative, first, one), T::Vector::select(negative, second, one)];
    Parts { quotient, correction: left * reciprocal, scales }
}
