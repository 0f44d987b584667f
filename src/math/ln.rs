//! The natural logarithm and ln(1 + x), within 1 ULP, and the binary logarithm, within 1 ULP (f64: 1.2).
//!
//! x = 2ᵏ·(1 + f) with √½ ≤ 1 + f < √2, so that ln x = k·ln 2 + ln(1 + f) loses nothing where x is near 1 (k = 0).
//! Subnormal x are multiplied by 2^mantissa first. ln(1 + f) is f and a small rest; the product of k and the front of
//! ln 2 is exact, and what rounding takes from its sum with f joins the rest (T. Dekker, 1971).
//!
//! f32: the rest is f³·P(f) − f²/2, P the minimax polynomial (fit `ln f32` of `tools/minimax.py`); no division.
//! f64: a polynomial in f would need 20 terms. With s = f/(2 + f), ln(1 + f) = 2 atanh s = 2s + s·R, where
//! R = z·P(z) and z = s² (fit `ln f64`). Because 2s = f − s·f = f − f²/2 + s·f²/2, the rounding of s touches small terms
//! only in ln(1 + f) = f − (f²/2 − s·(f²/2 + R)).
//!
//! ln(1 + x): with u the rounded sum and c what rounding took from it, ln(u + c) = ln u + c/u, since (c/u)² is far below
//! an ULP.
//!
//! log₂ x = k + (f + rest)·log₂ e, where the product f·log₂ e keeps what rounding takes from it, and log₂ e has two parts.
//! f32: near √2, where k and f cancel, the roundings of f²/2 would be half an ULP together; f − f²/2 and what rounding takes
//! from both are formed exactly (with fused multiply-add) and stand for f, and the rest is f³·P(f).

use super::{Format, fast_two_sum, polynomial};
use crate::simd::{Float, Int, Mask, Simd};

const TAIL_F32: [f32; 9] = [
    0.33333313,
    -0.2500001,
    0.20002119,
    -0.16667996,
    0.14219552,
    -0.124055885,
    0.11888161,
    -0.11675651,
    0.067466415,
];
const TAIL_F64: [f64; 7] = [
    0.6666666666666734,
    0.3999999999941435,
    0.28571428742468263,
    0.2222219856419783,
    0.1818356482759437,
    0.15314036889790553,
    0.14796094347493968,
];

/// ln(1 + f) − f of 16 × f32, for √½ ≤ 1 + f < √2.
#[inline(always)]
pub(super) fn rest_f32<S: Simd>(s: S, f: S::F32) -> S::F32 {
    f * f * f.mul_add(polynomial(s, f, TAIL_F32), s.splat(-0.5_f32))
}

/// ln(1 + f) = front + rest of 16 × f32, with the front f − f²/2.
#[inline(always)]
pub(super) fn parts_f32<S: Simd>(s: S, f: S::F32) -> (S::F32, S::F32) {
    let half = f * s.splat(0.5_f32);
    let half_square = half * f;
    let half_square_rest = half.mul_sub(f, half_square);
    let (front, lost) = fast_two_sum::<f32, S>(s, f, -half_square);
    let cube = f * f * f;
    (front, cube.mul_add(polynomial(s, f, TAIL_F32), lost - half_square_rest))
}

/// ln(1 + f) − f of 8 × f64.
#[inline(always)]
pub(super) fn rest_f64<S: Simd>(s: S, f: S::F64) -> S::F64 {
    let quotient = f / (f + s.splat(2.0_f64));
    let z = quotient * quotient;
    let half_square = f * f * s.splat(0.5_f64);
    let bracket = z.mul_add(polynomial(s, z, TAIL_F64), half_square);
    quotient.mul_sub(bracket, half_square)
}

/// ln x.
#[inline(always)]
pub(crate) fn ln<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    with_special_values::<T, S>(s, x, positive::<T, S>(s, x, -s.splat(T::ZERO)))
}

/// ln(1 + x).
#[inline(always)]
pub(crate) fn ln_1p<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    let one = s.splat(T::ONE);
    let sum = one + x;
    // Either may be the larger (D. Knuth's sum).
    let part = sum - one;
    let lost = (one - (sum - part)) + (x - part);
    let value = with_special_values::<T, S>(s, sum, positive::<T, S>(s, sum, lost / sum));
    // The sign of zero.
    value.copysign(x)
}

/// ln x + `correction` of a positive finite x; −0 corrects nothing.
#[inline(always)]
pub(super) fn positive<T: Format, S: Simd>(s: S, x: T::Vector<S>, correction: T::Vector<S>) -> T::Vector<S> {
    let (k, f) = split::<T, S>(s, x);
    let small = k.mul_add(s.splat(T::LN_2_LOW), T::ln_rest(s, f)) + correction;
    let (front, rest) = fast_two_sum::<T, S>(s, k * s.splat(T::LN_2_HIGH), f);
    front + (rest + small)
}

/// log₂ x.
#[inline(always)]
pub(crate) fn log2<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    let log2_e = s.splat(T::LOG2_E);
    let (k, f) = split::<T, S>(s, x);
    let (ln, ln_rest) = T::ln_parts(s, f);
    let product = ln * log2_e;
    let product_rest = ln.mul_add(s.splat(T::LOG2_E_REST), ln.mul_sub(log2_e, product));
    let (front, rest) = fast_two_sum::<T, S>(s, k, product);
    let value = front + (rest + ln_rest.mul_add(log2_e, product_rest));
    with_special_values::<T, S>(s, x, value)
}

/// `(k, f)` of positive finite numbers.
#[inline(always)]
pub(super) fn split<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> (T::Vector<S>, T::Vector<S>) {
    let subnormal = x.lt(s.splat(T::MIN_POSITIVE));
    let mantissa_bits = f64::from(T::MANTISSA_BITS);
    let x = T::Vector::select(subnormal, x * s.splat(T::from_f64(mantissa_bits.exp2())), x);
    let shift = T::Vector::select(subnormal, s.splat(T::from_f64(mantissa_bits)), s.splat(T::ZERO));
    let root = s.splat(T::from_f64(std::f64::consts::FRAC_1_SQRT_2)).to_bits();
    let k = (x.to_bits() - root).sar(T::MANTISSA_BITS);
    let f = T::Vector::from_bits(x.to_bits() - k.shl(T::MANTISSA_BITS)) - s.splat(T::ONE);
    (T::Vector::from_int(k) - shift, f)
}

/// `value` where x is positive and finite; else −∞ of zeros, NaN of negative numbers and NaN, +∞ of +∞.
#[inline(always)]
fn with_special_values<T: Format, S: Simd>(s: S, x: T::Vector<S>, value: T::Vector<S>) -> T::Vector<S> {
    let (zero, infinity) = (s.splat(T::ZERO), s.splat(T::INFINITY));
    let special = T::Vector::select(x.lt(zero), s.splat(T::NAN), x);
    let special = T::Vector::select(x.eq(zero), -infinity, special);
    T::Vector::select(zero.lt(x).and(x.lt(infinity)), value, special)
}
