//! 2ˣ, within 1 ULP.
//!
//! With n the nearest integer to x and r = x − n, which is exact, 2ˣ = 2ⁿ·2ʳ and 2ʳ = 1 + r·(ln 2 + r·q(r)),
//! where q is the minimax polynomial to (2ʳ − 1 − r·ln 2)/r² (`tools/minimax.py`, fits `exp2 f32` and
//! `exp2 f64`). Rounding errors contribute, and the factor 2ⁿ is applied, as in [`exp`](super::exp).

use super::{Format, scale};
use crate::simd::{Float, Simd};

pub(super) const TAIL_F32: [f32; 5] = [0.24022648, 0.05550362, 0.009618526, 0.0013390161, 0.0001532117];
pub(super) const TAIL_F64: [f64; 10] = [
    0.24022650695910122,
    0.05550410866482074,
    0.009618129107596992,
    0.0013333558146686058,
    0.0001540353045405658,
    1.5252733546910665e-05,
    1.3215436614305414e-06,
    1.0178184645819887e-07,
    7.07357840301432e-09,
    4.4363033431802163e-10,
];

/// 2ˣ; below `EXP2_LOW` it is 0, above `EXP2_HIGH` infinite.
#[inline(always)]
pub(crate) fn exp2<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    let (one, magic) = (s.splat(T::ONE), s.splat(T::MAGIC));
    let x = s.splat(T::EXP2_LOW).max(s.splat(T::EXP2_HIGH).min(x));
    let n = x + magic;
    let r = x - (n - magic);
    let slope = T::exp2_tail(s, r).mul_add(r, s.splat(T::LN_2[0]));
    scale::<T, S>(s, slope.mul_add(r, one), n)
}
