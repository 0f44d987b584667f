//! The hyperbolic tangent, within 1 ULP (f64: 1.5).
//!
//! tanh |x| = (e²ˣ − 1)/(e²ˣ + 1) = ((1 − p) + w)/((1 + p) + w), where e²ˣ = 2ⁿ·eʳ as in [`exp`], w = eʳ − 1
//! and p = 2⁻ⁿ: near 0, where n = 0, the dividend is w alone and nothing cancels. w = r + r²·q(r), both sums
//! and 1 + p keep their rounding errors (T. Dekker, 1971); the error of the quotient is the remainder divided
//! by the divisor, which is added last. Where 1 + p is rounded, at results within some ULP of 1, 1 − p is 2
//! minus it and has the same error. From 10 (f32) and 20 (f64) on the result is 1.

use super::{Format, exp, fast_two_sum, inverse_power_of_two};
use crate::simd::{Float, Simd};

/// tanh x of a register.
#[inline(always)]
pub(crate) fn tanh<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    let (one, two) = (s.splat(T::ONE), s.splat(T::ONE + T::ONE));
    let twice = s.splat(T::SIGMOID_ONE).min((x + x).abs());
    let (n, r) = exp::reduce::<T, S>(s, twice);
    let (w, w_lost) = fast_two_sum::<T, S>(s, r, r * r * T::exp_tail(s, r));
    let power = inverse_power_of_two::<T, S>(s, n);
    let plus = one + power;
    let plus_lost = power - (plus - one);
    let (dividend, dividend_lost) = fast_two_sum::<T, S>(s, two - plus, w);
    let (divisor, divisor_lost) = fast_two_sum::<T, S>(s, plus, w);
    // The divisor and the dividend have the same rounding error there: the quotient is 1.
    let divisor_lost = two.mul_add(plus_lost, divisor_lost);

    let reciprocal = one / divisor;
    let quotient = dividend * reciprocal;
    let left = quotient.neg_mul_add(divisor, dividend) + (dividend_lost + w_lost);
    let left = quotient.neg_mul_add(divisor_lost + w_lost, left);
    left.mul_add(reciprocal, quotient).copysign(x)
}
