//! eˣ − 1, within 2 ULP, also near 0 where the difference cancels.
//!
//! As in [`exp`](super::exp), x = n·ln 2 + r; then eˣ − 1 = 2ⁿ·p + (2ⁿ − 1) with p = eʳ − 1 = r + r²·q(r), and the
//! bracket is exact as long as it matters. With n = 1 and r < 0 the sum is smaller than its terms, so that p takes along
//! what rounding took from r. To stay in range for large n, everything is divided by one half of 2ⁿ first and
//! multiplied by it at last. q is fitted for a relative error of p (`tools/minimax.py`, fits `exp_m1 f32`, `exp_m1 f64`).

use super::exp::reduce;
use super::{Format, polynomial, power_of_two, round};
use crate::simd::{Float, Simd};

const TAIL_F32: [f32; 6] = [0.5, 0.16666666, 0.041666362, 0.00833339, 0.0013940654, 0.00019845879];
const TAIL_F64: [f64; 11] = [
    0.5,
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
    exp_m1::<f32, S, 6>(s, x, -20.0, 89.0, TAIL_F32)
}

/// eˣ − 1 of 8 × f64.
#[inline(always)]
pub fn f64<S: Simd>(s: S, x: S::F64) -> S::F64 {
    exp_m1::<f64, S, 11>(s, x, -40.0, 710.0, TAIL_F64)
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
    let inside = s.splat(low).max(s.splat(high).min(x));
    let (n, r, c) = reduce::<T, S>(s, inside);
    let p = r + (r * r).mul_add(polynomial(s, r, tail), c);
    let half = round::<T, S>(s, n * s.splat(T::from_f64(0.5)));
    let rest = n - half;
    let scale = power_of_two::<T, S>(s, half);
    let one = power_of_two::<T, S>(s, -rest);
    let value = p.mul_add(scale, scale - one) * power_of_two::<T, S>(s, rest);
    // The sign of zero.
    value.copysign(x)
}
