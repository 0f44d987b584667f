//! The hyperbolic tangent, within 1 ULP.
//!
//! |x| < 0.55, where it is below 1/2: tanh x = x + x·z·P(z), z = x², P the minimax polynomial to (tanh x − x)/x³ (fits
//! `tanh f32` and `tanh f64` of `tools/minimax.py`); adding x last keeps the rounding errors of P small.
//!
//! From there on tanh |x| = 1 − 2q/(1 + q) with q = exp(−2|x|): what is subtracted from 1 is at most 1/2, so that nothing
//! cancels, and its errors fade with it. The exponential keeps what rounding takes from it, q + q′, and so does 1 + q; the
//! quotient t is off by what is left of the dividend, 2(q + q′) − t·(1 + q + q′), divided by 1 + q, where 1 − t/2 stands
//! for the last division. From 10 (f32) and 20 (f64) on the result is 1.

use super::{Format, exp, fast_two_sum, polynomial, power_of_two};
use crate::simd::{Float, Simd};

const NEAR_F32: [f32; 5] = [-0.33333316, 0.13332585, -0.053852204, 0.021071218, -0.0062735486];
const NEAR_F64: [f64; 10] = [
    -0.3333333333333231,
    0.1333333333316824,
    -0.0539682538758501,
    0.021869485969308704,
    -0.008863194429860815,
    0.0035917190939365167,
    -0.0014532137438148377,
    0.0005791279823282263,
    -0.00021028747760861179,
    5.101104479342244e-05,
];

/// tanh x of 16 × f32.
#[inline(always)]
pub fn f32<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let size = s.splat(10.0_f32).min(x.abs());
    join::<f32, S>(s, x, size, polynomial(s, size * size, NEAR_F32))
}

/// tanh x of 8 × f64.
#[inline(always)]
pub fn f64<S: Simd>(s: S, x: S::F64) -> S::F64 {
    let size = s.splat(20.0_f64).min(x.abs());
    join::<f64, S>(s, x, size, polynomial(s, size * size, NEAR_F64))
}

/// `size + size³·near` below 0.55 and `1 − 2q/(1 + q)` from there on, with the sign of x.
#[inline(always)]
fn join<T: Format, S: Simd>(s: S, x: T::Vector<S>, size: T::Vector<S>, near: T::Vector<S>) -> T::Vector<S> {
    let one = s.splat(T::ONE);
    let near = (size * size * size).mul_add(near, size);
    let (front, rest, n) = exp::parts::<T, S>(s, size * s.splat(T::from_f64(-2.0)));
    let (front, rest) = fast_two_sum::<T, S>(s, front, rest);
    let twice = power_of_two::<T, S>(s, n + one);
    let (q, half) = (front * twice, s.splat(T::from_f64(0.5)));
    let (sum, lost) = fast_two_sum::<T, S>(s, one, q * half);
    let lost = (rest * twice).mul_add(half, lost);
    let quotient = q / sum;
    let left = quotient.neg_mul_add(sum, q) + quotient.neg_mul_add(lost, rest * twice);
    let (far, far_lost) = fast_two_sum::<T, S>(s, one, -quotient);
    let far = far + left.neg_mul_add(quotient.neg_mul_add(half, one), far_lost);
    T::Vector::select(size.lt(s.splat(T::from_f64(0.55))), near, far).copysign(x)
}
