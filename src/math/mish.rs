//! x·tanh(ln(1 + eˣ)), within 1.2 ULP.
//!
//! With f = exp(−|x|) ≤ 1, which cannot overflow, tanh(ln(1 + eˣ)) is A/(A + 2f²) with A = 1 + 2f for x ≥ 0,
//! and A/(A + 2) with A = f·(2 + f) for x < 0: sums of positive terms only. f is 2ⁿ·(v + v′), where v′ is the
//! rounding error, and A and the divisor are kept in two parts. The quotient's correction and the factor 2ⁿ
//! are applied as in [`sigmoid`].
//!
//! [`sigmoid`]: super::sigmoid

use super::{Format, exp, fast_two_sum, scale, two_product};
use crate::simd::{Float, Simd};

/// x·tanh(ln(1 + eˣ)) of a register.
#[inline(always)]
pub(crate) fn mish<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    let (zero, one, two) = (s.splat(T::ZERO), s.splat(T::ONE), s.splat(T::ONE + T::ONE));
    let (n, r) = exp::reduce::<T, S>(s, s.splat(T::EXP_LOW).max(-x.abs()));
    let (front, rest) = exp::near_in_parts::<T, S>(s, r);
    let (f, f_rest) = (scale::<T, S>(s, front, n), scale::<T, S>(s, rest, n));
    let negative = x.lt(zero);

    // x < 0: the dividend without its factor 2ⁿ.
    let (sum, lost) = fast_two_sum::<T, S>(s, two, f);
    let (left, left_rest) = two_product::<T, S>(s, front, sum);
    let left_rest = left_rest + front.mul_add(lost + f_rest, rest * sum);
    let (left_whole, left_whole_rest) = (scale::<T, S>(s, left, n), scale::<T, S>(s, left_rest, n));
    // x ≥ 0.
    let (right, right_rest) = fast_two_sum::<T, S>(s, one, f + f);
    let right_rest = (f_rest + f_rest) + right_rest;
    let (square, square_rest) = two_product::<T, S>(s, f, f);
    let square_rest = (two * f).mul_add(f_rest, square_rest);

    let a = T::Vector::select(negative, two, right);
    let b = T::Vector::select(negative, left_whole, two * square);
    let b_rest = T::Vector::select(negative, left_whole_rest, (two * square_rest) + right_rest);
    let (divisor, lost) = fast_two_sum::<T, S>(s, a, b);
    let divisor_rest = lost + b_rest;
    let dividend = T::Vector::select(negative, left, right);
    let dividend_rest = T::Vector::select(negative, left_rest, right_rest);

    let reciprocal = one / divisor;
    let quotient = dividend * reciprocal;
    let (product, product_rest) = two_product::<T, S>(s, quotient, divisor);
    let remainder = ((dividend - product) - product_rest) + quotient.neg_mul_add(divisor_rest, dividend_rest);
    let correction = remainder * reciprocal;
    // As in silu: −∞·0 would be NaN, and a product that underflows keeps the sign.
    let factor = s.splat(T::EXP_LOW).max(x);
    let value = factor.mul_add(quotient, factor * correction);
    let value = T::Vector::select(negative, scale::<T, S>(s, value, n), value);
    T::Vector::select(s.splat(-T::EXP_LOW).lt(x), x, value.copysign(x))
}
