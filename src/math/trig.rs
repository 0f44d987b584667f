//! sin x and cos x for every x, within 0.6 ULP in f32 and 1 ULP in f64.
//!
//! x = n·π/2 + r with |r| ≤ π/4; n mod 4 chooses between ± the sine and ± the cosine of r.
//!
//! For |x| < 2²⁰, n is the nearest integer to x·2/π. π/2 has four parts; the products of n with the first
//! three, of 33 bits each, are exact, and the rounding errors of their differences are kept (D. Knuth's sum;
//! W. Cody and W. Waite, 1980). No f64 in that range is nearer to a multiple of π/2 than about 2⁻⁵⁸, so that
//! r + c has at least 70 correct bits. f32 is computed in f64, where two parts of π/2 are enough.
//!
//! Larger x, one lane at a time: x = m·2ᵉ with an integer m, and of m·2ᵉ·2/π only the value modulo 4 matters,
//! so that all bits of 2/π that give multiples of 4 are skipped (M. Payne and R. Hanek, 1983). The next 256
//! bits of 2/π, in integer arithmetic, leave at least 120 correct bits where x is nearest to a multiple of
//! π/2 (2⁻⁶² for f64).
//!
//! sin(r + c) = r + (r³·P(r²) + c·(1 − r²/2)) and cos(r + c) = 1 − r²/2 + (r⁴·Q(r²) − r·c), where the
//! rounding error of 1 − r²/2 is kept; P and Q are the fits `sin …` and `cos …` of `tools/minimax.py`, which
//! also prints the bits of 2/π.

use super::{Format, fast_two_sum, polynomial, two_sum};
use crate::simd::{Float, Int, Mask, Simd};

const SIN_F32: [f64; 4] =
    [-0.16666666640738417, 0.008333329297986608, -0.00019839310051278396, 2.718100375152398e-06];
const COS_F32: [f64; 4] =
    [0.04166666661938319, -0.0013888883490837084, 2.479945773031644e-05, -2.720555458375866e-07];
const SIN_F64: [f64; 6] = [
    -0.1666666666666663,
    0.008333333333322087,
    -0.00019841269829562946,
    2.7557313611834236e-06,
    -2.5050746218996936e-08,
    1.5896137999397108e-10,
];
const COS_F64: [f64; 6] = [
    0.041666666666666595,
    -0.001388888888887301,
    2.4801587288822508e-05,
    -2.7557314170635156e-07,
    2.0875699635020804e-09,
    -1.1358472555640529e-11,
];

/// π/2 in parts of 33 bits, and the rest.
const HALF_PI: [f64; 4] =
    [1.5707963267341256, 6.077100506303966e-11, 2.0222662487111665e-21, 8.4784276603689e-32];
/// π/2 without the first part.
const HALF_PI_REST: f64 = 6.077100506506192e-11;
/// From here on the products with n are not exact.
const LARGE: f64 = 1_048_576.0;

/// Which function to compute.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Wave {
    Sine,
    Cosine,
}

/// sin x or cos x of 16 × f32.
#[inline(always)]
pub(crate) fn f32<S: Simd>(s: S, x: S::F32, wave: Wave) -> S::F32 {
    let (low, high) = s.widen(x);
    let value = s.narrow(in_f64(s, low, wave), in_f64(s, high, wave));
    // The sign of zero.
    if wave == Wave::Sine { S::F32::select(x.eq(s.splat(0.0_f32)), x, value) } else { value }
}

/// sin x or cos x, accurate to f32.
#[inline(always)]
fn in_f64<S: Simd>(s: S, x: S::F64, wave: Wave) -> S::F64 {
    let n = nearest(s, x);
    let r = n.neg_mul_add(s.splat(HALF_PI_REST), n.neg_mul_add(s.splat(HALF_PI[0]), x));
    let [n, r, _] = with_large_lanes(s, x, [n, r, r]);
    let square = r * r;
    let sine = (r * square).mul_add(polynomial::<f64, S, 4>(s, square, SIN_F32), r);
    let cosine = square.neg_mul_add(s.splat(0.5), s.splat(1.0));
    let cosine = (square * square).mul_add(polynomial::<f64, S, 4>(s, square, COS_F32), cosine);
    in_quadrant(s, n, sine, cosine, wave)
}

/// sin x or cos x of 8 × f64.
#[inline(always)]
pub(crate) fn f64<S: Simd>(s: S, x: S::F64, wave: Wave) -> S::F64 {
    let one = s.splat(1.0_f64);
    let n = nearest(s, x);
    let first = n.neg_mul_add(s.splat(HALF_PI[0]), x);
    let (second, second_lost) = two_sum::<f64, S>(s, first, -(n * s.splat(HALF_PI[1])));
    let (third, third_lost) = two_sum::<f64, S>(s, second, -(n * s.splat(HALF_PI[2])));
    let rest = n.neg_mul_add(s.splat(HALF_PI[3]), second_lost + third_lost);
    let (r, c) = fast_two_sum::<f64, S>(s, third, rest);
    let [n, r, c] = with_large_lanes(s, x, [n, r, c]);

    let square = r * r;
    let half = square * s.splat(0.5);
    let sine = r + (r * square).mul_add(polynomial::<f64, S, 6>(s, square, SIN_F64), half.neg_mul_add(c, c));
    let (front, lost) = fast_two_sum::<f64, S>(s, one, -half);
    let rest = (square * square).mul_add(polynomial::<f64, S, 6>(s, square, COS_F64), r.neg_mul_add(c, lost));
    let value = in_quadrant(s, n, sine, front + rest, wave);
    // The sign of zero.
    if wave == Wave::Sine { S::F64::select(x.eq(s.splat(0.0)), x, value) } else { value }
}

/// The nearest integer to x·2/π, where |x| is not large.
#[inline(always)]
fn nearest<S: Simd>(s: S, x: S::F64) -> S::F64 {
    let magic = s.splat(f64::MAGIC);
    x.mul_add(s.splat(std::f64::consts::FRAC_2_PI), magic) - magic
}

/// sin(n·π/2 + r) or the cosine, from the sine and the cosine of r.
#[inline(always)]
fn in_quadrant<S: Simd>(s: S, n: S::F64, sine: S::F64, cosine: S::F64, wave: Wave) -> S::F64 {
    let one = <S::U64 as Int<S>>::splat(s, 1);
    let mut quadrant = (n + s.splat(f64::MAGIC)).to_bits();
    if wave == Wave::Cosine {
        quadrant = quadrant + one;
    }
    let value = S::F64::select(Int::eq(quadrant.and(one), one), cosine, sine);
    let two = <S::U64 as Int<S>>::splat(s, 2);
    S::F64::from_bits(value.to_bits().xor(quadrant.and(two).shl(62)))
}

/// `[n, r, c]` of all lanes, from those of the lanes that are not large.
#[inline(always)]
fn with_large_lanes<S: Simd>(s: S, x: S::F64, nrc: [S::F64; 3]) -> [S::F64; 3] {
    let large = x.abs().lt(s.splat(LARGE)).not();
    if !large.any() {
        return nrc;
    }
    let mut lanes = [[0.0_f64; 8]; 4];
    s.store(x, &mut lanes[0]);
    s.store(nrc[0], &mut lanes[1]);
    s.store(nrc[1], &mut lanes[2]);
    s.store(nrc[2], &mut lanes[3]);
    reduce_large(large.to_bits(), &mut lanes);
    [s.load(&lanes[1]), s.load(&lanes[2]), s.load(&lanes[3])]
}

/// Sets n, r and c of the lanes in `which`, from x; `lanes` is `[x, n, r, c]`.
#[cold]
#[inline(never)]
fn reduce_large(which: u32, lanes: &mut [[f64; 8]; 4]) {
    for lane in (0..8).filter(|lane| which >> lane & 1 == 1) {
        let x = lanes[0][lane];
        let (n, r, c) = if x.is_finite() { large(x.abs()) } else { (0.0, f64::NAN, 0.0) };
        let sign = if x < 0.0 { -1.0 } else { 1.0 };
        (lanes[1][lane], lanes[2][lane], lanes[3][lane]) = (sign * n, sign * r, sign * c);
    }
}

/// 64 zeros, for the integer part, and the first 1280 bits of 2/π after the binary point.
const TWO_OVER_PI: [u64; 21] = [
    0,
    0xA2F9836E4E441529,
    0xFC2757D1F534DDC0,
    0xDB6295993C439041,
    0xFE5163ABDEBBC561,
    0xB7246E3A424DD2E0,
    0x06492EEA09D1921C,
    0xFE1DEB1CB129A73E,
    0xE88235F52EBB4484,
    0xE99C7026B45F7E41,
    0x3991D639835339F4,
    0x9C845F8BBDF9283B,
    0x1FF897FFDE05980F,
    0xEF2F118B5A0A6D1F,
    0x6D367ECF27CB09B7,
    0x4F463F669E5FEA2D,
    0x7527BAC7EBE5F17B,
    0x3D0739F78A5292EA,
    0x6BFB5FB11F8D5D08,
    0x56033046FC7B6BAB,
    0xF0CFBC209AF4361D,
];
/// π/2 · 2¹²⁷, rounded down.
const HALF_PI_BITS: u128 = 0xC90FDAA22168C234C4C6628B80DC1CD1;

/// `(n, r, c)` with x = n·π/2 + r + c up to multiples of 2π, for a finite x ≥ 2²⁰.
fn large(x: f64) -> (f64, f64, f64) {
    let exponent = (x.to_bits() >> 52) as i64 - 1075;
    let m = x.to_bits() << 12 >> 12 | 1 << 52;
    // The first bit of 2/π whose product with m·2ᵉ is not a multiple of 4 is bit e − 2 after the binary
    // point.
    let start = (exponent - 2 + 64) as usize;
    let word = |i: usize| {
        let (word, shift) = (start / 64 + i, start % 64);
        let next = TWO_OVER_PI.get(word + 1).map_or(0, |next| u128::from(*next));
        ((u128::from(TWO_OVER_PI[word]) << 64 | next) << shift >> 64) as u64
    };
    // m times 256 bits, modulo 2²⁵⁶: the quotient modulo 4, times 2²⁵⁴. Lowest word first.
    let (mut product, mut carry) = ([0_u64; 4], 0_u128);
    for (i, to) in product.iter_mut().enumerate() {
        carry += u128::from(m) * u128::from(word(3 - i));
        *to = carry as u64;
        carry >>= 64;
    }
    let mut n = product[3] >> 62;
    // The fraction, times 2²⁵⁶; its highest 192 bits are enough.
    let mut high = product[3] << 2 | product[2] >> 62;
    let mut low =
        u128::from(product[2] << 2 | product[1] >> 62) << 64 | u128::from(product[1] << 2 | product[0] >> 62);
    let above_half = high >> 63 == 1;
    if above_half {
        // Reduces to the next quadrant, from its other side.
        n += 1;
        let (negated, borrow) = 0_u128.overflowing_sub(low);
        (high, low) = (0_u64.wrapping_sub(high).wrapping_sub(borrow.into()), negated);
    }
    // The first 128 bits from the highest set bit on: it is preceded by at most some 66 zeros.
    let zeros = if high == 0 { 64 + low.leading_zeros() } else { high.leading_zeros() };
    let fraction = match zeros {
        0 => u128::from(high) << 64 | low >> 64,
        1..64 => (u128::from(high) << 64 | low >> 64) << zeros | (low << 64) >> (128 - zeros),
        _ => low << (zeros - 64),
    };
    let angle = high_half(fraction, HALF_PI_BITS);
    let front = angle as f64;
    let rest = angle.wrapping_sub(front as u128) as i128 as f64;
    // `angle` is r times 2 to the 127 + zeros.
    let scale = f64::from_bits((1023 - 127 - u64::from(zeros)) << 52);
    let scale = if above_half { -scale } else { scale };
    (n as f64, front * scale, rest * scale)
}

/// The high half of a product.
fn high_half(a: u128, b: u128) -> u128 {
    const LOW: u128 = u64::MAX as u128;
    let (a1, a0, b1, b0) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let (first, second) = (a1 * b0, a0 * b1);
    let middle = ((a0 * b0) >> 64) + (first & LOW) + (second & LOW);
    a1 * b1 + (first >> 64) + (second >> 64) + (middle >> 64)
}
