//! xʸ, within 1 ULP in f32 and f64, for all x and y; the special cases are those of C99.
//!
//! xʸ = 2^(y·log₂ |x|): an error of the logarithm is multiplied by |y·log₂ x|, which is up to a thousand, so
//! that it needs ten more bits than the result.
//!
//! f32: the logarithm and the power are computed in f64.
//!
//! f64: the logarithm has two parts. |x| = 2ᵏ·(1 + f) as in [`ln`], s = f/(2 + f), z = s², and ln(1 + f) =
//! 2·atanh s = s·(2 + z·(2/3 + z·P(z))). s, z, the brackets and the products have two parts; the rounding
//! errors of z·P(z) are 2⁻¹² of those of the logarithm, so that one part is enough there (fit `pow f64` of
//! `tools/minimax.py`): the relative error is about 2⁻⁶⁵. y times both parts is e + e′, and 2^(e + e′) = 2ᵉ +
//! e′·ln 2·2ᵉ. Products in two parts are exact: by fused multiply-add, or by T. Dekker's splitting (1971)
//! where there is none.
//!
//! Constant integer exponents, f32: multiplications in f64, up to an exponent of 65536.
//!
//! [`ln`]: super::ln

use super::ln::{log2 as log2_rounded, split};
use super::{Format, exp2, fast_two_sum, polynomial, two_product};
use crate::simd::{Element, Float, Mask, Simd};

const TAIL: [f64; 9] = [
    0.4,
    0.28571428571427954,
    0.22222222222477975,
    0.18181818136335542,
    0.15384619750029976,
    0.13333085461909214,
    0.11773276650985694,
    0.10349593957085494,
    0.11499444552748883,
];
/// 2/3, and its rounding error.
const TWO_THIRDS: [f64; 2] = [0.6666666666666666, 3.700743415417188e-17];
/// From this value on, constant exponents are not computed by multiplications.
const LARGEST_PRODUCT: u64 = 65536;

/// xʸ of 16 × f32.
#[inline(always)]
pub(crate) fn f32<S: Simd>(s: S, x: S::F32, y: S::F32) -> S::F32 {
    let ((x0, x1), (y0, y1)) = (s.widen(x.abs()), s.widen(y));
    with_special_cases::<f32, S>(s, x, y, s.narrow(in_f64(s, x0, y0), in_f64(s, x1, y1)))
}

/// xʸ of 8 × f64.
#[inline(always)]
pub(crate) fn f64<S: Simd>(s: S, x: S::F64, y: S::F64) -> S::F64 {
    with_special_cases::<f64, S>(s, x, y, positive(s, x.abs(), y))
}

/// xⁿ of 16 × f32.
#[inline(always)]
pub(crate) fn whole_f32<S: Simd>(s: S, x: S::F32, n: i64) -> S::F32 {
    let (x0, x1) = s.widen(x);
    if n.unsigned_abs() <= LARGEST_PRODUCT {
        return s.narrow(product(s, x0, n), product(s, x1, n));
    }
    let y = s.splat(n as f64);
    let value = s.narrow(in_f64(s, x0.abs(), y), in_f64(s, x1.abs(), y));
    signed::<f32, S>(s, x, n, value)
}

/// xⁿ of 8 × f64.
#[inline(always)]
pub(crate) fn whole_f64<S: Simd>(s: S, x: S::F64, n: i64) -> S::F64 {
    // One rounding.
    if (-1..=2).contains(&n) {
        return product(s, x, n);
    }
    signed::<f64, S>(s, x, n, positive(s, x.abs(), s.splat(n as f64)))
}

/// xⁿ by multiplications. A product that leaves the range of f64 is 0 or infinite in f32, too.
#[inline(always)]
fn product<S: Simd>(s: S, x: S::F64, n: i64) -> S::F64 {
    let one = s.splat(1.0_f64);
    let (mut product, mut square, mut left) = (one, x, n.unsigned_abs());
    while left > 0 {
        if left % 2 == 1 {
            product = product * square;
        }
        square = square * square;
        left /= 2;
    }
    if n < 0 { one / product } else { product }
}

/// |x|ⁿ with the sign of xⁿ, and 1 where |x| is.
#[inline(always)]
fn signed<T: Element, S: Simd>(s: S, x: T::Vector<S>, n: i64, value: T::Vector<S>) -> T::Vector<S> {
    let one = s.splat(T::ONE);
    let value = T::Vector::select(x.abs().eq(one), one, value);
    if n % 2 == 0 { value } else { value.copysign(x) }
}

/// xʸ for x ≥ 0, accurate to f32.
#[inline(always)]
fn in_f64<S: Simd>(s: S, x: S::F64, y: S::F64) -> S::F64 {
    exp2::exp2::<f64, S>(s, y * log2_rounded::<f64, S>(s, x))
}

/// xʸ for x ≥ 0; NaN if x is 1 and y infinite.
#[inline(always)]
fn positive<S: Simd>(s: S, x: S::F64, y: S::F64) -> S::F64 {
    let (zero, infinity) = (s.splat(0.0_f64), s.splat(f64::INFINITY));
    let (front, rest) = log2(s, x);
    let front = S::F64::select(x.eq(zero), -infinity, S::F64::select(x.lt(infinity), front, x));
    let (e, lost) = two_product::<f64, S>(s, y, front);
    let lost = y.mul_add(rest, lost);
    // Beyond the range the rest, which may be NaN, is ignored.
    let lost = S::F64::select(e.abs().lt(s.splat(1100.0)), lost, zero);

    let (one, magic, ln_2) = (s.splat(1.0_f64), s.splat(f64::MAGIC), s.splat(f64::LN_2[0]));
    let e = s.splat(f64::EXP2_LOW).max(s.splat(f64::EXP2_HIGH).min(e));
    let n = e + magic;
    let r = e - (n - magic);
    let front = r.mul_add(ln_2, one);
    let rest = r.mul_add(ln_2, one - front);
    let rest = (r * r).mul_add(f64::exp2_tail(s, r), r.mul_add(s.splat(f64::LN_2[1]), rest));
    let rest = (lost * ln_2).mul_add(front + rest, rest);
    super::scale::<f64, S>(s, front + rest, n)
}

/// log₂ x of a positive finite x in two parts.
#[inline(always)]
fn log2<S: Simd>(s: S, x: S::F64) -> (S::F64, S::F64) {
    let (k, f) = split::<f64, S>(s, x);
    let two = s.splat(2.0_f64);
    let (divisor, divisor_lost) = fast_two_sum::<f64, S>(s, two, f);
    let reciprocal = s.splat(1.0) / divisor;
    let quotient = f * reciprocal;
    let (product, product_lost) = two_product::<f64, S>(s, quotient, divisor);
    let left = quotient.neg_mul_add(divisor_lost, (f - product) - product_lost);
    let quotient_rest = left * reciprocal;

    let (z, z_rest) = two_product::<f64, S>(s, quotient, quotient);
    let z_rest = (quotient + quotient).mul_add(quotient_rest, z_rest);
    let (inner, inner_rest) =
        fast_two_sum::<f64, S>(s, s.splat(TWO_THIRDS[0]), z * polynomial::<f64, S, 9>(s, z, TAIL));
    let inner_rest = inner_rest + s.splat(TWO_THIRDS[1]);
    let (outer, outer_rest) = product_of(s, (z, z_rest), (inner, inner_rest));
    let (bracket, bracket_rest) = fast_two_sum::<f64, S>(s, two, outer);
    let ln = product_of(s, (quotient, quotient_rest), (bracket, bracket_rest + outer_rest));
    let log2_e = (s.splat(f64::LOG2_E), s.splat(f64::LOG2_E_REST));
    let (small, small_rest) = product_of(s, ln, log2_e);
    let (front, rest) = fast_two_sum::<f64, S>(s, k, small);
    fast_two_sum::<f64, S>(s, front, rest + small_rest)
}

/// The product of two numbers in two parts.
#[inline(always)]
fn product_of<S: Simd>(s: S, a: (S::F64, S::F64), b: (S::F64, S::F64)) -> (S::F64, S::F64) {
    let (front, lost) = two_product::<f64, S>(s, a.0, b.0);
    fast_two_sum::<f64, S>(s, front, a.0.mul_add(b.1, a.1.mul_add(b.0, lost)))
}

/// C99, F.9.4.4, computed from |x|ʸ: x⁰ = 1ʸ = (−1)^±∞ = 1 even with NaN; for x < 0, negative if y is odd,
/// NaN if y is not an integer.
#[inline(always)]
fn with_special_cases<T: Element, S: Simd>(
    s: S,
    x: T::Vector<S>,
    y: T::Vector<S>,
    value: T::Vector<S>,
) -> T::Vector<S> {
    let (zero, one) = (s.splat(T::ZERO), s.splat(T::ONE));
    let half = y * s.splat(T::from_f64(0.5));
    let whole = y.floor().eq(y);
    let odd = whole.and(half.floor().eq(half).not());
    let value = T::Vector::select(x.abs().eq(one).and(y.eq(y)), one, value);
    let value = T::Vector::select(odd, value.copysign(x), value);
    let undefined = x.lt(zero).and(s.splat(-T::INFINITY).lt(x)).and(whole.not());
    let value = T::Vector::select(undefined, s.splat(T::NAN), value);
    T::Vector::select(x.eq(one).or(y.eq(zero)), one, value)
}
