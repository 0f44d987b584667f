//! eˣ − 1, within 1 ULP, even near 0, where the difference cancels.
//!
//! As in [`exp`](super::exp), x = n·ln 2 + r, and c is the rounding error of r; then eˣ − 1 = (2ⁿ − 1) +
//! 2ⁿ·r + 2ⁿ·(c + r²/2 + r³·q(r)). The first two terms and their sum are computed together with their
//! rounding errors, which are added to the third term, the smallest. To stay in range for large n, everything
//! is first divided by one half of 2ⁿ and multiplied by it at the end. 1/2 + r·q(r) is fitted for a relative
//! error of eʳ − 1 (`tools/minimax.py`, fits `exp_m1 f32`, `exp_m1 f64`). The 1/2 is kept separate because
//! including it in the polynomial would cause a rounding error of a quarter of an ULP for n = 1 and the
//! smallest r.

use super::{Format, fast_two_sum, polynomial, power_of_two, round};
use crate::simd::{Float, Simd};

const TAIL_F32: [f32; 5] = [0.16666666, 0.041666362, 0.00833339, 0.0013940654, 0.00019845879];
const TAIL_F64: [f64; 10] = [
    0.16666666666666677,
    0.04166666666666651,
    0.008333333333321667,
    0.0013888888888962437,
    0.0001984126988603811,
    2.480158717249036e-05,
    2.7557244293797652e-06,
    2.7557402607054013e-07,
    2.5109009364546483e-08,
    2.0875365438682406e-09,
];

/// eˣ − 1 of 16 × f32.
#[inline(always)]
pub fn f32<S: Simd>(s: S, x: S::F32) -> S::F32 {
    exp_m1::<f32, S, 5>(s, x, -20.0, 89.0, TAIL_F32)
}

/// eˣ − 1 of 8 × f64.
#[inline(always)]
pub fn f64<S: Simd>(s: S, x: S::F64) -> S::F64 {
    exp_m1::<f64, S, 10>(s, x, -40.0, 710.0, TAIL_F64)
}

/// Below `low` the result is −1, above `high` it is infinite.
#[inline(always)]
fn exp_m1<T: Format, S: Simd, const N: usize>(
    s: S,
    x: T::Vector<S>,
    low: T,
    high: T,
    tail: [T; N],
) -> T::Vector<S> {
    let (magic, one_half) = (s.splat(T::MAGIC), s.splat(T::from_f64(0.5)));
    let inside = s.splat(low).max(s.splat(high).min(x));
    let n = round::<T, S>(s, inside * s.splat(T::LOG2_E));
    // The rounding error of r is c.
    let (high, low) = (n.neg_mul_add(s.splat(T::LN_2_HIGH), inside), n * s.splat(T::LN_2_LOW));
    let r = high - low;
    let c = (high - r) - low;
    let half = round::<T, S>(s, n * one_half);
    let rest = n - half;
    let factor = power_of_two::<T, S>(s, half + magic);
    let one = power_of_two::<T, S>(s, magic - rest);
    let (whole, whole_lost) = fast_two_sum::<T, S>(s, factor, -one);
    // For n = 0, without the integer part, the sum is exact too.
    let (front, lost) = fast_two_sum::<T, S>(s, whole, r * factor);
    let square = r * r;
    let small = (square * r).mul_add(polynomial(s, r, tail), square.mul_add(one_half, c));
    let value = front + small.mul_add(factor, lost + whole_lost);
    // The sign of zero.
    (value * power_of_two::<T, S>(s, rest + magic)).copysign(x)
}
