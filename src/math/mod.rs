//! Functions on registers: exp, exp_m1, ln, tanh, sigmoid, erf.
//!
//! They use additions, multiplications and at most one division, no tables and no branches. A lane does not depend on
//! its neighbours, and every instruction set with fused multiply-add gives the same bits.
//!
//! The promise is 2 ULP of the exact value everywhere, subnormal results included. The largest error seen by
//! `tests/math.rs`: for f32 over every argument with 2⁻¹⁴ ≤ |x| < 2⁸ and 4 million from all exponents (an ignored test
//! goes over all 2³²), for f64 over the exact values of `tools/minimax.py`.
//!
//! | function | f32 | f32 without FMA | f64 | f64 without FMA | at −∞, −0, +∞ |
//! |---|---|---|---|---|---|
//! | [`exp`] | 1.05 | 1.02 | 0.91 | 0.88 | 0, 1, +∞ |
//! | [`exp_m1`] | 1.56 | 1.69 | 1.33 | 1.33 | −1, −0, +∞ |
//! | [`ln`] | 0.90 | 0.89 | 0.79 | 0.79 | NaN, −∞, +∞ |
//! | [`tanh`] | 1.52 | 1.53 | 0.96 | 0.96 | −1, −0, 1 |
//! | [`sigmoid`] | 1.98 | 1.97 | 1.40 | 1.44 | 0, 1/2, 1 |
//! | [`erf`] | 1.15 | 1.42 | 0.67 | 0.74 | −1, −0, 1 |
//!
//! NaN gives NaN; [`ln`] of a negative number is NaN and of either zero −∞. The coefficients are minimax fits printed
//! by `tools/minimax.py`; J.-M. Muller, *Elementary Functions*, 3rd edition, describes the methods.

pub mod erf;
pub mod exp;
pub mod exp_m1;
pub mod ln;
pub mod sigmoid;
pub mod tanh;

use crate::simd::{Element, Float, Simd};

/// What the functions need to know about a floating-point format.
trait Format: Element {
    /// Stored bits of the significand.
    const MANTISSA_BITS: u32;
    /// 1.5 · 2^[`MANTISSA_BITS`](Self::MANTISSA_BITS): a number added to it is rounded to the nearest integer, which
    /// then stands in the low bits.
    const MAGIC: Self;
    /// The exponent of 1 as stored.
    const BIAS: Self;
    /// The smallest normal number.
    const MIN_POSITIVE: Self;
    /// log₂ e.
    const LOG2_E: Self;
    /// The front of ln 2, with so many trailing zeros that its product with any exponent is exact.
    const LN_2_HIGH: Self;
    /// The rest of ln 2.
    const LN_2_LOW: Self;
}

impl Format for f32 {
    const MANTISSA_BITS: u32 = 23;
    const MAGIC: f32 = 12582912.0;
    const BIAS: f32 = 127.0;
    const MIN_POSITIVE: f32 = f32::MIN_POSITIVE;
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN_2_HIGH: f32 = 0.69314575;
    const LN_2_LOW: f32 = 1.4286068e-06;
}

impl Format for f64 {
    const MANTISSA_BITS: u32 = 52;
    const MAGIC: f64 = 6755399441055744.0;
    const BIAS: f64 = 1023.0;
    const MIN_POSITIVE: f64 = f64::MIN_POSITIVE;
    const LOG2_E: f64 = std::f64::consts::LOG2_E;
    const LN_2_HIGH: f64 = 0.6931471805601177;
    const LN_2_LOW: f64 = -1.7239444525614835e-13;
}

/// `c[0] + c[1]·x + c[2]·x² + …` of at least two terms, as one chain of even powers and one of odd powers.
#[inline(always)]
fn polynomial<T: Element, S: Simd, const N: usize>(s: S, x: T::Vector<S>, c: [T; N]) -> T::Vector<S> {
    let square = x * x;
    let mut chains = [s.splat(c[N - 1]), s.splat(c[N - 2])];
    for i in (0..N - 2).rev() {
        let chain = &mut chains[(N - 1 - i) % 2];
        *chain = chain.mul_add(square, s.splat(c[i]));
    }
    let (even, odd) = (chains[(N - 1) % 2], chains[N % 2]);
    odd.mul_add(x, even)
}

/// The nearest integer to each lane, halves to the even one; for magnitudes below a quarter of the magic number.
#[inline(always)]
fn round<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    let magic = s.splat(T::MAGIC);
    (x + magic) - magic
}

/// 2ⁿ of integers n with a normal result: n and the bias end up in the low bits and are shifted to the exponent.
#[inline(always)]
fn power_of_two<T: Format, S: Simd>(s: S, n: T::Vector<S>) -> T::Vector<S> {
    let biased = n + s.splat(T::MAGIC + T::BIAS);
    T::Vector::from_bits(crate::simd::Int::shl(biased.to_bits(), T::MANTISSA_BITS))
}
