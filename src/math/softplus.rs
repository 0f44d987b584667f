//! ln(1 + eˣ), within 2 ULP.
//!
//! It is max(x, 0) + ln(1 + e) with e = exp(−|x|) ≤ 1, which cannot overflow; both terms are positive. e and
//! 1 + e are kept with their rounding errors, which the logarithm takes into account as in [`ln`].

use super::{Format, exp, fast_two_sum, ln, scale};
use crate::simd::{Float, Simd};

/// ln(1 + eˣ) of a register.
#[inline(always)]
pub(crate) fn softplus<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    let (n, r) = exp::reduce::<T, S>(s, s.splat(T::EXP_LOW).max(-x.abs()));
    let (front, rest) = exp::near_in_parts::<T, S>(s, r);
    let (sum, lost) = fast_two_sum::<T, S>(s, s.splat(T::ONE), scale::<T, S>(s, front, n));
    let lost = lost + scale::<T, S>(s, rest, n);
    s.splat(T::ZERO).max(x) + ln::positive::<T, S>(s, sum, Some(lost / sum))
}
