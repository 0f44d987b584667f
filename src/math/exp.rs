//! eˣ, within 1.1 ULP.
//!
//! With n the nearest integer to x / ln 2 and r = x − n·ln 2, eˣ = 2ⁿ·eʳ and |r| ≤ ln 2 / 2. The product of n and the
//! front of ln 2 is exact and so is its difference from x; the rest of ln 2 corrects r. Then eʳ = 1 + (r + r²·q(r)),
//! where q is the minimax polynomial to (eʳ − 1 − r)/r² (`tools/minimax.py`, fits `exp f32` and `exp f64`): the sum of
//! the large 1 and a small number costs half an ULP and little else. The factor 2ⁿ is applied in two halves, so that
//! neither leaves the normal range and a subnormal or infinite result comes from the last multiplication alone.

use super::{Format, polynomial, power_of_two, round};
use crate::simd::{Float, Simd};

const TAIL_F32: [f32; 5] = [0.49999994, 0.16666521, 0.04166839, 0.008368736, 0.0013814573];
const TAIL_F64: [f64; 10] = [
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
    exp::<f32, S, 5>(s, x, -104.0, 89.0, TAIL_F32)
}

/// eˣ of 8 × f64.
#[inline(always)]
pub fn f64<S: Simd>(s: S, x: S::F64) -> S::F64 {
    exp::<f64, S, 10>(s, x, -746.0, 710.0, TAIL_F64)
}

/// eˣ of 16 × f32 with −87 ≤ x ≤ 88, where the result is normal.
#[inline(always)]
pub(super) fn normal_f32<S: Simd>(s: S, x: S::F32) -> S::F32 {
    normal::<f32, S, 5>(s, x, TAIL_F32)
}

/// eˣ of 8 × f64 with −708 ≤ x ≤ 709, where the result is normal.
#[inline(always)]
pub(super) fn normal_f64<S: Simd>(s: S, x: S::F64) -> S::F64 {
    normal::<f64, S, 10>(s, x, TAIL_F64)
}

/// Below `low` the result is 0, above `high` it is infinite.
#[inline(always)]
fn exp<T: Format, S: Simd, const N: usize>(
    s: S,
    x: T::Vector<S>,
    low: T,
    high: T,
    tail: [T; N],
) -> T::Vector<S> {
    // The bounds come first: `min` and `max` give the second operand when it is NaN.
    let x = s.splat(low).max(s.splat(high).min(x));
    let (n, r, _) = reduce::<T, S>(s, x);
    let value = near_zero(s, r, tail);
    let half = round::<T, S>(s, n * s.splat(T::from_f64(0.5)));
    value * power_of_two::<T, S>(s, half) * power_of_two::<T, S>(s, n - half)
}

#[inline(always)]
fn normal<T: Format, S: Simd, const N: usize>(s: S, x: T::Vector<S>, tail: [T; N]) -> T::Vector<S> {
    let (n, r, _) = reduce::<T, S>(s, x);
    near_zero(s, r, tail) * power_of_two::<T, S>(s, n)
}

/// eʳ for |r| ≤ ln 2 / 2.
#[inline(always)]
fn near_zero<T: Format, S: Simd, const N: usize>(s: S, r: T::Vector<S>, tail: [T; N]) -> T::Vector<S> {
    s.splat(T::ONE) + (r * r).mul_add(polynomial(s, r, tail), r)
}

/// `(n, r, c)` with x = n·ln 2 + r + c, where c is what rounding took from r.
#[inline(always)]
pub(super) fn reduce<T: Format, S: Simd>(
    s: S,
    x: T::Vector<S>,
) -> (T::Vector<S>, T::Vector<S>, T::Vector<S>) {
    let magic = s.splat(T::MAGIC);
    let n = x.mul_add(s.splat(T::LOG2_E), magic) - magic;
    let high = n.neg_mul_add(s.splat(T::LN_2_HIGH), x);
    let low = n * s.splat(T::LN_2_LOW);
    let r = high - low;
    (n, r, (high - r) - low)
}
