//! The natural logarithm, within 1 ULP.
//!
//! x = 2ᵏ·(1 + f) with √½ ≤ 1 + f < √2, so that ln x = k·ln 2 + ln(1 + f) loses nothing where x is near 1 (k = 0). The
//! product of k and the front of ln 2 is exact; it is added last. Subnormal x are multiplied by 2^mantissa first.
//!
//! f32: ln(1 + f) = f + (f³·P(f) − f²/2), P the minimax polynomial (fit `ln f32` of `tools/minimax.py`); no division.
//! f64: a polynomial in f would need 20 terms. With s = f/(2 + f), ln(1 + f) = 2 atanh s = 2s + s·R, where
//! R = z·P(z) and z = s² (fit `ln f64`). Because 2s = f − s·f = f − f²/2 + s·f²/2, the rounding of s touches small terms
//! only in ln(1 + f) = f − (f²/2 − s·(f²/2 + R)).

use super::{Format, polynomial};
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

/// ln x of 16 × f32.
#[inline(always)]
pub fn f32<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let (k, f) = split::<f32, S>(s, x);
    let cubic = f.mul_add(polynomial(s, f, TAIL_F32), s.splat(-0.5_f32));
    let small = k.mul_add(s.splat(f32::LN_2_LOW), f * f * cubic);
    let value = k.mul_add(s.splat(f32::LN_2_HIGH), f + small);
    with_special_values::<f32, S>(s, x, value)
}

/// ln x of 8 × f64.
#[inline(always)]
pub fn f64<S: Simd>(s: S, x: S::F64) -> S::F64 {
    let (k, f) = split::<f64, S>(s, x);
    let quotient = f / (f + s.splat(2.0_f64));
    let z = quotient * quotient;
    let half_square = f * f * s.splat(0.5_f64);
    let bracket = z.mul_add(polynomial(s, z, TAIL_F64), half_square);
    let small = quotient.mul_add(bracket, k * s.splat(f64::LN_2_LOW)) - half_square;
    let value = k.mul_add(s.splat(f64::LN_2_HIGH), f + small);
    with_special_values::<f64, S>(s, x, value)
}

/// `(k, f)` of positive finite numbers.
#[inline(always)]
fn split<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> (T::Vector<S>, T::Vector<S>) {
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
