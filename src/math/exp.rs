//! eˣ, within 1 ULP.
//!
//! With n the nearest integer to x / ln 2 and r = x − n·ln 2, eˣ = 2ⁿ·eʳ and |r| ≤ ln 2 / 2. The product of n and the
//! front of ln 2 is exact and so is its difference from x; the rest of ln 2 corrects r, and c is what rounding took
//! from r. Then eʳ⁺ᶜ = 1 + r + (c + r²·q(r)), where q is the minimax polynomial to (eʳ − 1 − r)/r² (`tools/minimax.py`,
//! fits `exp f32` and `exp f64`). What rounding takes from 1 + r is known exactly (T. Dekker, 1971) and joins the small
//! terms, so that only their errors, at most 1/16 of the result's, and the last addition's half ULP remain. The factor
//! 2ⁿ is applied in two halves, so that neither leaves the normal range and a subnormal or infinite result comes from
//! the last multiplication alone.

use super::{Format, fast_two_sum, power_of_two, scale};
use crate::simd::{Float, Simd};

pub(super) const TAIL_F32: [f32; 5] = [0.49999994, 0.16666521, 0.04166839, 0.008368736, 0.0013814573];
pub(super) const TAIL_F64: [f64; 10] = [
    0.5000000000000011,
    0.16666666666666413,
    0.04166666666652987,
    0.00833333333349481,
    0.001388888894371597,
    0.00019841269506027924,
    2.4801493000213903e-05,
    2.755758667606286e-06,
    2.763028664485379e-07,
    2.5000027435882775e-08,
];

/// eˣ of 16 × f32.
#[inline(always)]
pub fn f32<S: Simd>(s: S, x: S::F32) -> S::F32 {
    exp::<f32, S>(s, x)
}

/// eˣ of 8 × f64.
#[inline(always)]
pub fn f64<S: Simd>(s: S, x: S::F64) -> S::F64 {
    exp::<f64, S>(s, x)
}

/// Below `EXP_LOW` the result is 0, above `EXP_HIGH` it is infinite.
#[inline(always)]
fn exp<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    // The bounds come first: `min` and `max` give the second operand when it is NaN.
    let x = s.splat(T::EXP_LOW).max(s.splat(T::EXP_HIGH).min(x));
    let (front, rest, n) = parts::<T, S>(s, x);
    scale::<T, S>(s, front + rest, n)
}

/// eˣ where the result is normal.
#[inline(always)]
pub(super) fn normal<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    let (front, rest, n) = parts::<T, S>(s, x);
    (front + rest) * power_of_two::<T, S>(s, n)
}

/// `(front, rest, n)` with eˣ = 2ⁿ·(front + rest), not yet rounded, and n plus the magic number as a float.
#[inline(always)]
pub(super) fn parts<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> (T::Vector<S>, T::Vector<S>, T::Vector<S>) {
    let (n, r, c) = reduce::<T, S>(s, x);
    let (front, lost) = fast_two_sum::<T, S>(s, s.splat(T::ONE), r);
    (front, lost + (r * r).mul_add(T::exp_tail(s, r), c), n)
}

/// `(n, r, c)` with x = n·ln 2 + r + c, where c is what rounding took from r; n has the magic number added.
#[inline(always)]
pub(super) fn reduce<T: Format, S: Simd>(
    s: S,
    x: T::Vector<S>,
) -> (T::Vector<S>, T::Vector<S>, T::Vector<S>) {
    let magic = s.splat(T::MAGIC);
    let biased = x.mul_add(s.splat(T::LOG2_E), magic);
    let n = biased - magic;
    let high = n.neg_mul_add(s.splat(T::LN_2_HIGH), x);
    let low = n * s.splat(T::LN_2_LOW);
    let r = high - low;
    (biased, r, (high - r) - low)
}
