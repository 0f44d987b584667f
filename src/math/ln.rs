//! The natural logarithm and ln(1 + x), and the binary logarithm, within 1 ULP.
//!
//! x = 2ᵏ·(1 + f) with ¾ ≤ 1 + f < 1½, so that ln x = k·ln 2 + ln(1 + f) loses nothing where x is near 1 (k =
//! 0). Subnormal x are first multiplied by 2^mantissa. ln(1 + f) is f plus a small rest; the product of k and
//! the high part of ln 2 is exact, and the rounding error of its sum with f is added to the rest (T. Dekker,
//! 1971).
//!
//! f32: the rest is f²·(f·P(f) − ½), P the minimax polynomial (fit `ln f32` of `tools/minimax.py`); no
//! division. f64: a polynomial in f would need 20 terms. With s = f/(2 + f), ln(1 + f) = 2 atanh s = 2s +
//! s·R, where R = z·P(z) and z = s² (fit `ln f64`). Because 2s = f − s·f = f − f²/2 + s·f²/2, the rounding
//! error of s only affects small terms in ln(1 + f) = f − (f²/2 − s·(f²/2 + R)).
//!
//! ln(1 + x): with u the rounded sum and c its rounding error, ln(u + c) = ln u + c/u, since (c/u)² is far
//! below an ULP.
//!
//! log₂ x = k + (f + rest)·log₂ e, where the product f·log₂ e keeps its rounding error, and log₂ e has two
//! parts. Near 1½, where k and f cancel, the rounding errors of f²/2 would add up to half an ULP; there, f −
//! f²/2 is computed exactly, together with both rounding errors (with fused multiply-add), and takes the
//! place of f.

use super::{Format, fast_two_sum, horner, polynomial, two_sum};
use crate::simd::{Float, Int, Mask, Simd};

const TAIL_F32: [f32; 8] =
    [0.3333345, -0.25000095, 0.19990861, -0.16647312, 0.14478394, -0.13161191, 0.10463023, -0.045074824];
const TAIL_F64: [f64; 8] = [
    0.666666666666666,
    0.4000000000005604,
    0.28571428555983347,
    0.22222224278866057,
    0.1818166693065065,
    0.15391077535710368,
    0.1317417667601363,
    0.13839139588663454,
];

/// ln(1 + f) − f + `plus` of 16 × f32, for ¾ ≤ 1 + f < 1½.
#[inline(always)]
pub(super) fn rest_f32<S: Simd>(s: S, f: S::F32, plus: S::F32) -> S::F32 {
    (f * f).mul_add(f.mul_add(horner(s, f, TAIL_F32), s.splat(-0.5_f32)), plus)
}

/// ln(1 + f) = high part + rest of 16 × f32, with the high part f − f²/2.
#[inline(always)]
pub(super) fn parts_f32<S: Simd>(s: S, f: S::F32) -> (S::F32, S::F32) {
    let (front, lost, _) = front_in_parts::<f32, S>(s, f);
    (front, (f * f * f).mul_add(polynomial(s, f, TAIL_F32), lost))
}

/// ln(1 + f) = high part + rest of 8 × f64, with the high part f − f²/2.
#[inline(always)]
pub(super) fn parts_f64<S: Simd>(s: S, f: S::F64) -> (S::F64, S::F64) {
    let (front, lost, half_square) = front_in_parts::<f64, S>(s, f);
    let (quotient, bracket) = atanh_parts(s, f, half_square);
    (front, quotient.mul_add(bracket, lost))
}

/// f − f²/2, its rounding error, and f²/2.
#[inline(always)]
fn front_in_parts<T: Format, S: Simd>(s: S, f: T::Vector<S>) -> (T::Vector<S>, T::Vector<S>, T::Vector<S>) {
    let half = f * s.splat(T::from_f64(0.5));
    let half_square = half * f;
    let half_square_rest = half.mul_sub(f, half_square);
    let (front, lost) = fast_two_sum::<T, S>(s, f, -half_square);
    (front, lost - half_square_rest, half_square)
}

/// ln(1 + f) − f + `plus` of 8 × f64.
#[inline(always)]
pub(super) fn rest_f64<S: Simd>(s: S, f: S::F64, plus: S::F64) -> S::F64 {
    let half_square = f * f * s.splat(0.5_f64);
    let (quotient, bracket) = atanh_parts(s, f, half_square);
    quotient.mul_add(bracket, plus - half_square)
}

/// s = f/(2 + f) and f²/2 + R, whose product is ln(1 + f) − f + f²/2.
#[inline(always)]
fn atanh_parts<S: Simd>(s: S, f: S::F64, half_square: S::F64) -> (S::F64, S::F64) {
    let quotient = f / (f + s.splat(2.0_f64));
    let z = quotient * quotient;
    (quotient, z.mul_add(polynomial(s, z, TAIL_F64), half_square))
}

/// ln x.
#[inline(always)]
pub(crate) fn ln<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    with_special_values::<T, S>(s, x, positive::<T, S>(s, x, None))
}

/// ln(1 + x).
#[inline(always)]
pub(crate) fn ln_1p<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    let (sum, lost) = two_sum::<T, S>(s, s.splat(T::ONE), x);
    let value = with_special_values::<T, S>(s, sum, positive::<T, S>(s, sum, Some(lost / sum)));
    // The sign of zero.
    value.copysign(x)
}

/// ln x, plus a correction, for a positive finite x.
#[inline(always)]
pub(super) fn positive<T: Format, S: Simd>(
    s: S,
    x: T::Vector<S>,
    correction: Option<T::Vector<S>>,
) -> T::Vector<S> {
    let (k, f) = split::<T, S>(s, x);
    // The product of k and the high part of ln 2 is exact.
    let ln_2 = s.splat(T::LN_2_HIGH);
    let front = k.mul_add(ln_2, f);
    let lost = k.mul_sub(ln_2, front) + f;
    let small = k.mul_add(s.splat(T::LN_2_LOW), lost);
    front + T::ln_rest(s, f, correction.map_or(small, |correction| small + correction))
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

/// `(k, f)` of positive finite numbers: x = 2ᵏ·(1 + f) with ¾ ≤ 1 + f < 1½.
#[inline(always)]
pub(super) fn split<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> (T::Vector<S>, T::Vector<S>) {
    let one = s.splat(T::ONE);
    if let Some((k, mantissa)) = x.exponent_and_mantissa() {
        return (k, mantissa - one);
    }
    let subnormal = x.lt(s.splat(T::MIN_POSITIVE));
    let mantissa_bits = f64::from(T::MANTISSA_BITS);
    let x = T::Vector::select(subnormal, x * s.splat(T::from_f64(mantissa_bits.exp2())), x);
    let shift = T::Vector::select(subnormal, s.splat(T::from_f64(mantissa_bits)), s.splat(T::ZERO));
    let lowest = s.splat(T::from_f64(0.75)).to_bits();
    let k = (x.to_bits() - lowest).sar(T::MANTISSA_BITS);
    let f = T::Vector::from_bits(x.to_bits() - k.shl(T::MANTISSA_BITS)) - one;
    (T::Vector::from_int(k) - shift, f)
}

/// `value` where x is positive and finite; otherwise −∞ for zeros, NaN for negative numbers and NaN, +∞ for
/// +∞.
#[inline(always)]
fn with_special_values<T: Format, S: Simd>(s: S, x: T::Vector<S>, value: T::Vector<S>) -> T::Vector<S> {
    if let Some(value) = x.logarithm_or(value) {
        return value;
    }
    let (zero, infinity) = (s.splat(T::ZERO), s.splat(T::INFINITY));
    // The NaN that x86 returns for invalid operations, as above.
    let special = T::Vector::select(x.lt(zero), -s.splat(T::NAN), x);
    let special = T::Vector::select(x.eq(zero), -infinity, special);
    T::Vector::select(zero.lt(x).and(x.lt(infinity)), value, special)
}
