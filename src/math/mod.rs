//! Functions on registers: exp, exp2, exp_m1, ln, log2, ln_1p, pow, sin, cos, tanh, sigmoid, silu, mish,
//! softplus, erf.
//!
//! They use additions, multiplications and at most one division, but no tables and no branches; only sin and
//! cos of |x| ≥ 2²⁰ take another path, one lane at a time. A lane does not depend on its neighbours, and
//! every instruction set with fused multiply-add gives the same bits.
//!
//! The error bound is in ULP of the exact value, for every argument, including subnormal results, in both f32
//! and f64. `docs/NUMERICS.md` has the largest measured errors, in f32 over all 2³² arguments, and where they
//! occur.
//!
//! | function | ULP | without FMA | at −∞, −0, +∞ |
//! |---|---|---|---|
//! | [`exp`] | 1 | 2 | 0, 1, +∞ |
//! | [`exp2`] | 1 | 2 | 0, 1, +∞ |
//! | [`exp_m1`] | 1 | 2 | −1, −0, +∞ |
//! | [`ln`] | 1 | 2 | NaN, −∞, +∞ |
//! | [`log2`](ln) | 1 | 2.5 | NaN, −∞, +∞ |
//! | [`ln_1p`](ln) | 1 | 2 | NaN, −0, +∞ |
//! | [`pow`] | 1 | 2 | see there |
//! | [`sin`](trig) | 0.6 (f64: 1) | 0.6 (f64: 1) | NaN, −0, NaN |
//! | [`cos`](trig) | 0.6 (f64: 1) | 0.6 (f64: 1) | NaN, 1, NaN |
//! | [`tanh`] | 1 (f64: 1.5) | 2 | −1, −0, 1 |
//! | [`sigmoid`] | 1 | 2 | 0, 1/2, 1 |
//! | [`silu`](sigmoid) | 1 (f64: 1.2) | 2.5 | −0, −0, +∞ |
//! | [`mish`] | 1.2 | 2.5 | −0, −0, +∞ |
//! | [`softplus`] | 2 | 2 | 0, ln 2, +∞ |
//! | [`erf`] | 1 (f64: 1.5) | 2 | −1, −0, 1 |
//!
//! NaN gives NaN; the logarithm of a negative number is NaN and that of zero −∞. Where a sum would lose
//! accuracy that the bound requires, its rounding error is computed (T. Dekker, 1971) and added to the
//! smallest term. The coefficients are minimax fits printed by `tools/minimax.py`; J.-M. Muller, *Elementary
//! Functions*, 3rd edition, describes the methods.

pub mod erf;
pub mod exp;
pub mod exp2;
pub mod exp_m1;
pub mod ln;
pub mod mish;
pub mod pow;
pub mod sigmoid;
pub mod softplus;
pub mod tanh;
pub mod trig;

use crate::simd::{Element, Float, Int, Simd};

/// What the functions need to know about a floating-point format.
pub(crate) trait Format: Element {
    /// Stored bits of the significand.
    const MANTISSA_BITS: u32;
    /// 1.5 · 2^[`MANTISSA_BITS`](Self::MANTISSA_BITS): adding it to a number rounds that to the nearest
    /// integer, which is then in the low bits.
    const MAGIC: Self;
    /// The smallest normal number.
    const MIN_POSITIVE: Self;
    /// log₂ e.
    const LOG2_E: Self;
    /// The high part of ln 2, with so many trailing zeros that its product with any exponent is exact.
    const LN_2_HIGH: Self;
    /// The rest of ln 2.
    const LN_2_LOW: Self;
    /// ln 2 rounded, and its rounding error.
    const LN_2: [Self; 2];
    /// The rounding error of log₂ e.
    const LOG2_E_REST: Self;
    /// For arguments up to this one eˣ is 0, and so is x·eˣ.
    const EXP_LOW: Self;
    /// From this argument on eˣ is infinite.
    const EXP_HIGH: Self;
    /// From this argument on 1 / (1 + e⁻ˣ) is 1, and so is tanh of half of it.
    const SIGMOID_ONE: Self;
    /// For arguments up to this one 2ˣ is 0.
    const EXP2_LOW: Self;
    /// From this argument on 2ˣ is infinite.
    const EXP2_HIGH: Self;

    /// (eʳ − 1 − r)/r² for |r| ≤ ln 2 / 2.
    fn exp_tail<S: Simd>(s: S, r: Self::Vector<S>) -> Self::Vector<S>;
    /// (2ʳ − 1 − r·ln 2)/r² for |r| ≤ 1/2.
    fn exp2_tail<S: Simd>(s: S, r: Self::Vector<S>) -> Self::Vector<S>;
    /// ln(1 + f) − f + `plus` for ¾ ≤ 1 + f < 1½.
    fn ln_rest<S: Simd>(s: S, f: Self::Vector<S>, plus: Self::Vector<S>) -> Self::Vector<S>;
    /// The high part of ln(1 + f), close to f, and a small rest that does not cancel it.
    fn ln_parts<S: Simd>(s: S, f: Self::Vector<S>) -> (Self::Vector<S>, Self::Vector<S>);
    /// 2 to half the bits of the significand, plus 1: splits a number into two parts whose products are
    /// exact.
    const SPLITTER: Self;
}

impl Format for f32 {
    const MANTISSA_BITS: u32 = 23;
    const MAGIC: f32 = 12582912.0;
    const MIN_POSITIVE: f32 = f32::MIN_POSITIVE;
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN_2_HIGH: f32 = 0.69314575;
    const LN_2_LOW: f32 = 1.4286068e-06;
    const LN_2: [f32; 2] = [std::f32::consts::LN_2, -1.9046542e-09];
    const LOG2_E_REST: f32 = 1.925963e-08;
    const EXP_LOW: f32 = -120.0;
    const EXP_HIGH: f32 = 89.0;
    const SIGMOID_ONE: f32 = 20.0;
    const EXP2_LOW: f32 = -151.0;
    const EXP2_HIGH: f32 = 129.0;
    const SPLITTER: f32 = 4097.0;

    #[inline(always)]
    fn exp_tail<S: Simd>(s: S, r: S::F32) -> S::F32 {
        horner(s, r, exp::TAIL_F32)
    }
    #[inline(always)]
    fn exp2_tail<S: Simd>(s: S, r: S::F32) -> S::F32 {
        horner(s, r, exp2::TAIL_F32)
    }
    #[inline(always)]
    fn ln_rest<S: Simd>(s: S, f: S::F32, plus: S::F32) -> S::F32 {
        ln::rest_f32(s, f, plus)
    }
    #[inline(always)]
    fn ln_parts<S: Simd>(s: S, f: S::F32) -> (S::F32, S::F32) {
        ln::parts_f32(s, f)
    }
}

impl Format for f64 {
    const MANTISSA_BITS: u32 = 52;
    const MAGIC: f64 = 6755399441055744.0;
    const MIN_POSITIVE: f64 = f64::MIN_POSITIVE;
    const LOG2_E: f64 = std::f64::consts::LOG2_E;
    const LN_2_HIGH: f64 = 0.6931471805601177;
    const LN_2_LOW: f64 = -1.7239444525614835e-13;
    const LN_2: [f64; 2] = [std::f64::consts::LN_2, 2.3190468138462996e-17];
    const LOG2_E_REST: f64 = 2.0355273740931033e-17;
    const EXP_LOW: f64 = -760.0;
    const EXP_HIGH: f64 = 710.0;
    const SIGMOID_ONE: f64 = 40.0;
    const EXP2_LOW: f64 = -1076.0;
    const EXP2_HIGH: f64 = 1025.0;
    const SPLITTER: f64 = 134217729.0;

    #[inline(always)]
    fn exp_tail<S: Simd>(s: S, r: S::F64) -> S::F64 {
        polynomial(s, r, exp::TAIL_F64)
    }
    #[inline(always)]
    fn exp2_tail<S: Simd>(s: S, r: S::F64) -> S::F64 {
        polynomial(s, r, exp2::TAIL_F64)
    }
    #[inline(always)]
    fn ln_rest<S: Simd>(s: S, f: S::F64, plus: S::F64) -> S::F64 {
        ln::rest_f64(s, f, plus)
    }
    #[inline(always)]
    fn ln_parts<S: Simd>(s: S, f: S::F64) -> (S::F64, S::F64) {
        ln::parts_f64(s, f)
    }
}

/// `c[0] + c[1]·x + c[2]·x² + …` with at least two terms, as one chain of even powers and one of odd powers.
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

/// The same for few terms, by Horner's method: a single chain, with the fewest operations.
#[inline(always)]
fn horner<T: Element, S: Simd, const N: usize>(s: S, x: T::Vector<S>, c: [T; N]) -> T::Vector<S> {
    let mut sum = s.splat(c[N - 1]);
    for i in (0..N - 1).rev() {
        sum = sum.mul_add(x, s.splat(c[i]));
    }
    sum
}

/// The nearest integer to each lane, ties to even; for magnitudes below a quarter of the magic number.
#[inline(always)]
fn round<T: Format, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    let magic = s.splat(T::MAGIC);
    (x + magic) - magic
}

/// `(sum, lost)`: a + b rounded, and its rounding error; exact if |a| ≥ |b| or a = 0.
#[inline(always)]
fn fast_two_sum<T: Element, S: Simd>(
    _s: S,
    a: T::Vector<S>,
    b: T::Vector<S>,
) -> (T::Vector<S>, T::Vector<S>) {
    let sum = a + b;
    (sum, (a - sum) + b)
}

/// `(sum, lost)`: a + b rounded, and its rounding error (D. Knuth).
#[inline(always)]
fn two_sum<T: Element, S: Simd>(_s: S, a: T::Vector<S>, b: T::Vector<S>) -> (T::Vector<S>, T::Vector<S>) {
    let sum = a + b;
    let part = sum - a;
    (sum, (a - (sum - part)) + (b - part))
}

/// `(product, lost)`: a·b rounded, and its rounding error; without fused multiply-add it is computed from two
/// halves (T. Dekker), which excludes numbers whose product with [`Format::SPLITTER`] overflows.
#[inline(always)]
fn two_product<T: Format, S: Simd>(s: S, a: T::Vector<S>, b: T::Vector<S>) -> (T::Vector<S>, T::Vector<S>) {
    let product = a * b;
    if S::ISA.has_fma() {
        return (product, a.mul_sub(b, product));
    }
    let splitter = s.splat(T::SPLITTER);
    let (a_scaled, b_scaled) = (a * splitter, b * splitter);
    let (a_high, b_high) = (a_scaled - (a_scaled - a), b_scaled - (b_scaled - b));
    let (a_low, b_low) = (a - a_high, b - b_high);
    (product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low)
}

/// 2ⁿ for a normal result, from n plus the magic number: n is in the low bits and is shifted to the exponent.
#[inline(always)]
fn power_of_two<T: Format, S: Simd>(s: S, biased: T::Vector<S>) -> T::Vector<S> {
    let one = s.splat(T::ONE).to_bits();
    T::Vector::from_bits(biased.to_bits().shl(T::MANTISSA_BITS) + one)
}

/// 2⁻ⁿ, likewise.
#[inline(always)]
fn inverse_power_of_two<T: Format, S: Simd>(s: S, biased: T::Vector<S>) -> T::Vector<S> {
    let one = s.splat(T::ONE).to_bits();
    T::Vector::from_bits(one - biased.to_bits().shl(T::MANTISSA_BITS))
}

/// `value`·2ⁿ from n plus the magic number, rounded once. Without an instruction for it, 2ⁿ is applied as two
/// normal factors: only the last multiplication can leave the normal range.
#[inline(always)]
fn scale<T: Format, S: Simd>(s: S, value: T::Vector<S>, biased: T::Vector<S>) -> T::Vector<S> {
    if let Some(scaled) = value.scaled(biased - s.splat(T::MAGIC)) {
        return scaled;
    }
    let (n, one) = (biased.to_bits(), s.splat(T::ONE).to_bits());
    // n/2 rounded down: the bits of −∞ are sign and exponent, without the bit that n/2 leaves in the
    // mantissa.
    let half = n.shl(T::MANTISSA_BITS - 1).and(s.splat(-T::INFINITY).to_bits());
    let rest = n.shl(T::MANTISSA_BITS) - half;
    value * T::Vector::from_bits(half + one) * T::Vector::from_bits(rest + one)
}
