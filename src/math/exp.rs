//! eˣ, within 1 ULP.
//!
//! With n the nearest integer to x / ln 2 and r = x − n·ln 2, eˣ = 2ⁿ·eʳ and |r| ≤ ln 2 / 2. The product of n
//! and the high part of ln 2 is exact and so is its difference from x, so that r is rounded once. Then eʳ =
//! 1 + r·(1 + r·q(r)), where q is the minimax polynomial to (eʳ − 1 − r)/r² (`tools/minimax.py`, fits
//! `exp f32` and `exp f64`): the rounding errors of r and of the bracket contribute at most a quarter and a
//! sixth of an ULP, the last one half. The factor 2ⁿ is applied with one rounding, so that subnormal and
//! infinite results are correct.

use super::{Format, scale};
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
    // The bounds come first: `min` and `max` return the second operand if it is NaN.
    let x = s.splat(T::EXP_LOW).max(s.splat(T::EXP_HIGH).min(x));
    let (n, r) = reduce::<T, S>(s, x);
    scale::<T, S>(s, near::<T, S>(s, r), n)
}

/// eʳ for |r| ≤ ln 2 / 2.
#[inline(always)]
pub(super) fn near<T: Format, S: Simd>(s: S, r: T::Vector<S>) -> T::Vector<S> {
    slope::<T, S>(s, r).mul_add(r, s.splat(T::ONE))
}

/// eʳ for |r| ≤ ln 2 / 2, and its rounding error.
#[inline(always)]
pub(super) fn near_in_parts<T: Format, S: Simd>(s: S, r: T::Vector<S>) -> (T::Vector<S>, T::Vector<S>) {
    let (slope, one) = (slope::<T, S>(s, r), s.splat(T::ONE));
    let front = slope.mul_add(r, one);
    (front, slope.mul_add(r, one - front))
}

/// (eʳ − 1)/r = 1 + r·q(r).
#[inline(always)]
fn slope<T: Format, S: Simd>(s: S, r: T::Vector<S>) -> T::Vector<S> {
    T::exp_tail(s, r).mul_add(r, s.splat(T::ONE))
}

/// `(n, r)` with x = n·ln 2 + r; n is returned with the magic number added.
#[inline(always)]
pub(super) fn reduce<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> (T::Vector<S>, T::Vector<S>) {
    let (biased, n) = nearest::<T, S>(s, x);
    let r = n.neg_mul_add(s.splat(T::LN_2_HIGH), x);
    (biased, n.neg_mul_add(s.splat(T::LN_2_LOW), r))
}

/// `(n, r)` with −x = −n·ln 2 + r; n is returned with the magic number added.
#[inline(always)]
pub(super) fn reduce_negated<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> (T::Vector<S>, T::Vector<S>) {
    let (biased, n) = nearest::<T, S>(s, x);
    let r = n.mul_sub(s.splat(T::LN_2_HIGH), x);
    (biased, n.mul_add(s.splat(T::LN_2_LOW), r))
}

/// The nearest integer to x / ln 2, with and without the magic number added.
#[inline(always)]
fn nearest<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> (T::Vector<S>, T::Vector<S>) {
    let magic = s.splat(T::MAGIC);
    let biased = x.mul_add(s.splat(T::LOG2_E), magic);
    (biased, biased - magic)
}
