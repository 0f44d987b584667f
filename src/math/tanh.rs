//! The hyperbolic tangent, within 2 ULP.
//!
//! |x| < 0.55, where it is below 1/2: tanh x = x + x·z·P(z), z = x², P the minimax polynomial to (tanh x − x)/x³ (fits
//! `tanh f32` and `tanh f64` of `tools/minimax.py`); adding x last keeps the rounding errors of P small.
//!
//! From there on tanh |x| = 1 − 2q/(1 + q) with q = exp(−2|x|): what is subtracted from 1 is at most 1/2, so that nothing
//! cancels, and its errors fade with it. From 10 (f32) and 20 (f64) on the result is 1.

use super::{exp, polynomial};
use crate::simd::{Element, Float, Simd};

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
    let q = exp::normal_f32(s, size * s.splat(-2.0_f32));
    join::<f32, S>(s, x, size, polynomial(s, size * size, NEAR_F32), q)
}

/// tanh x of 8 × f64.
#[inline(always)]
pub fn f64<S: Simd>(s: S, x: S::F64) -> S::F64 {
    let size = s.splat(20.0_f64).min(x.abs());
    let q = exp::normal_f64(s, size * s.splat(-2.0_f64));
    join::<f64, S>(s, x, size, polynomial(s, size * size, NEAR_F64), q)
}

/// `size + size³·near` below 0.55 and `1 − 2q/(1 + q)` from there on, with the sign of x.
#[inline(always)]
fn join<T: Element, S: Simd>(
    s: S,
    x: T::Vector<S>,
    size: T::Vector<S>,
    near: T::Vector<S>,
    q: T::Vector<S>,
) -> T::Vector<S> {
    let one = s.splat(T::ONE);
    let near = (size * size * size).mul_add(near, size);
    let far = one - (q + q) / (one + q);
    T::Vector::select(size.lt(s.splat(T::from_f64(0.55))), near, far).copysign(x)
}
