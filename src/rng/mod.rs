//! Random numbers as a function of (seed, stream, index): Philox4x32-10.
//!
//! The generator of Salmon, Moraes, Dror and Shaw, *Parallel random numbers: as easy as 1, 2, 3* (SC 2011)
//! encrypts a 128-bit counter with a 64-bit key into four 32-bit words. Here the key is the seed, and the
//! counter consists of the stream (high half) and a count (low half). Word `i` of a stream is in block
//! `b = i / 64`, where it is word `(i % 64) / 16` of the count `16·b + i % 16`, so that a register of 16
//! lanes holds 16 consecutive words.
//!
//! The only state is the position: any number can be computed without its predecessors, on any thread and in
//! any order. Everything here is integer arithmetic or `f64` with `+ − × ÷ √` only, so that all machines give
//! the same bits.

mod numpy;

pub use numpy::NumpyRng;

use crate::context;
use crate::error::{Error, Result};
use crate::simd::{Element, Int, Kernel, Simd};

const ROUNDS: usize = 10;
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// The golden ratio and √3 − 1, in units of 2⁻³².
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
/// Words in four registers.
pub(crate) const BLOCK: usize = 64;

/// 2⁻⁵³, the distance between neighbouring uniform numbers.
const STEP: f64 = 1.0 / (1_u64 << 53) as f64;

#[inline(always)]
const fn halves(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

#[inline]
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let [low_0, high_0] = halves(u64::from(MULTIPLIERS[0]) * u64::from(counter[0]));
        let [low_1, high_1] = halves(u64::from(MULTIPLIERS[1]) * u64::from(counter[2]));
        counter = [high_1 ^ counter[1] ^ key[0], low_1, high_0 ^ counter[3] ^ key[1], low_0];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// Word `index` of a stream: 32 random bits.
///
/// ```
/// use gristmill::rng::{self, Rng};
/// let mut rng = Rng::seed(4);
/// assert_eq!(rng.next_u32(), rng::word(4, 0, 0));
/// assert_eq!(rng.next_u32(), rng::word(4, 0, 1));
/// ```
pub fn word(seed: u64, stream: u64, index: u64) -> u32 {
    let [low, high] = halves(index / 64 * 16 + index % 16);
    let [stream_low, stream_high] = halves(stream);
    philox([low, high, stream_low, stream_high], halves(seed))[index as usize % 64 / 16]
}

/// The words `64·index` to `64·index + 63` of a stream, 16 in each register.
#[inline(always)]
pub(crate) fn block<S: Simd>(s: S, seed: u64, stream: u64, index: u64) -> [S::U32; 4] {
    // The low half of the first count is a multiple of 16: adding a lane's index does not carry.
    let [low, high] = halves(index.wrapping_mul(16));
    let [stream_low, stream_high] = halves(stream);
    let mut counter = [
        S::U32::splat(s, low) + S::U32::iota(s),
        S::U32::splat(s, high),
        S::U32::splat(s, stream_low),
        S::U32::splat(s, stream_high),
    ];
    let multipliers = [S::U32::splat(s, MULTIPLIERS[0]), S::U32::splat(s, MULTIPLIERS[1])];
    let mut key = halves(seed);
    for _ in 0..ROUNDS {
        let (low_0, high_0) = counter[0].mul_wide(multipliers[0]);
        let (low_1, high_1) = counter[2].mul_wide(multipliers[1]);
        counter = [
            high_1.xor(counter[1]).xor(S::U32::splat(s, key[0])),
            low_1,
            high_0.xor(counter[3]).xor(S::U32::splat(s, key[1])),
            low_0,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// The number of the 2³² words that are below `p · 2³²`.
pub(crate) fn words_below(p: f64) -> u64 {
    (p * 4_294_967_296.0).ceil() as u64
}

/// Consecutive words of a stream.
struct Words<'a> {
    seed: u64,
    stream: u64,
    position: u64,
    out: &'a mut [u32],
}

impl Kernel for Words<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (mut position, mut out) = (self.position, self.out);
        while !out.is_empty() {
            let mut words = [[0; 16]; 4];
            let registers = block(s, self.seed, self.stream, position / BLOCK as u64);
            for (r, words) in words.iter_mut().enumerate() {
                // SAFETY: a register holds 16 words.
                unsafe { registers[r].store_ptr(words.as_mut_ptr()) };
            }
            let words = &words.as_flattened()[position as usize % BLOCK..];
            let count = words.len().min(out.len());
            let (now, later) = out.split_at_mut(count);
            now.copy_from_slice(&words[..count]);
            (position, out) = (position.wrapping_add(count as u64), later);
        }
    }
}

/// A position in a stream of random words, from which numbers are drawn one after the other.
///
/// The fields are the whole state: an `Rng` with the same three gives the same numbers on every machine.
///
/// ```
/// use gristmill::Rng;
/// let mut rng = Rng::seed(4);
/// let mut weights = [0.0_f32; 1000];
/// rng.fill_normal(0.0, 0.1, &mut weights)?;
/// assert_eq!(rng.permutation(3).len(), 3);
/// let mut child = rng.split();
/// assert_ne!(child.next_u32(), rng.next_u32());
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rng {
    /// The key of the generator.
    pub seed: u64,
    /// Which of the 2⁶⁴ streams of this seed.
    pub stream: u64,
    /// The index of the next word in the stream.
    pub position: u64,
}

impl Rng {
    /// The start of stream 0 of `seed`.
    pub const fn seed(seed: u64) -> Self {
        Self { seed, stream: 0, position: 0 }
    }

    /// NumPy's legacy generator, to reproduce the arrays of a NumPy program with this seed.
    pub fn numpy(seed: u32) -> NumpyRng {
        NumpyRng::new(seed)
    }

    /// The start of another stream of the same seed; its number is drawn from this generator (two words).
    ///
    /// The same calls give the same streams. Any two of n streams coincide with a probability of n²/2⁶⁵.
    pub fn split(&mut self) -> Rng {
        Self { seed: self.seed, stream: self.next_u64(), position: 0 }
    }

    /// The result of the `n`th call of [`split`](Rng::split), counted from 0.
    #[cfg_attr(not(feature = "train"), allow(dead_code))]
    pub(crate) fn nth_split(&self, n: u64) -> Rng {
        Self { position: self.position.wrapping_add(n.wrapping_mul(2)), ..*self }.split()
    }

    /// 32 random bits: one word.
    pub fn next_u32(&mut self) -> u32 {
        let word = word(self.seed, self.stream, self.position);
        self.position = self.position.wrapping_add(1);
        word
    }

    fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) << 32 | u64::from(self.next_u32())
    }

    /// A multiple of 2⁻⁵³ in [0, 1); takes two words.
    pub fn uniform(&mut self) -> f64 {
        unit(self.next_u64())
    }

    /// −ln u for a uniform u in (0, 1]: an exponentially distributed number with mean 1. Takes two words.
    #[cfg(feature = "train")]
    pub(crate) fn exponential(&mut self) -> f64 {
        context::in_environment(|| -ln(self.uniform() + STEP))
    }

    /// An integer in 0..n, uniformly distributed; takes two words, rarely more.
    ///
    /// # Errors
    /// [`Error::Value`] if `n` is 0.
    pub fn below(&mut self, n: usize) -> Result<usize> {
        if n == 0 {
            return Err(Error::value("below", "there is no number below 0"));
        }
        Ok(self.bounded(n as u64) as usize)
    }

    /// Lemire, *Fast random integer generation in an interval* (2019): the high half of `random · n`; draws
    /// whose low half is among the lowest `2⁶⁴ mod n` are repeated, since they would favour some results.
    fn bounded(&mut self, n: u64) -> u64 {
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            let low = product as u64;
            if low >= n || low >= n.wrapping_neg() % n {
                return (product >> 64) as u64;
            }
        }
    }

    /// Shuffles the items; every order has the same probability (Fisher–Yates).
    pub fn shuffle(&mut self, items: &mut [usize]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.bounded(i as u64 + 1) as usize);
        }
    }

    /// 0..n in random order.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut items: Vec<_> = (0..n).collect();
        self.shuffle(&mut items);
        items
    }

    /// Uniform numbers in [low, high); `low` if the two are equal in `T`. Each takes two words.
    ///
    /// `low + uniform() · (high − low)` in `f64`, rounded to `T`; a number that rounds to `high` becomes
    /// `low`.
    ///
    /// # Errors
    /// [`Error::Value`] if `low`, `high` or their difference is not finite, or if `high < low`.
    pub fn fill_uniform<T: Element>(&mut self, low: f64, high: f64, out: &mut [T]) -> Result<()> {
        let (width, first, last) =
            context::in_environment(|| (high - low, T::from_f64(low), T::from_f64(high)));
        if !(low.is_finite() && high.is_finite() && width.is_finite() && width >= 0.0) {
            return Err(Error::value("fill_uniform", format!("[{low}, {high}) is not a finite interval")));
        }
        self.fill_by::<T, 1, 2>(out, |words| {
            let x = T::from_f64(low + unit(join(words[0], words[1])) * width);
            [if x < last { x } else { first }]
        })
    }

    /// Normally distributed numbers. Each pair takes four words; a last number without a partner wastes half
    /// of them.
    ///
    /// Box and Muller's `mean + std · √(−2 ln u) · (cos 2πv, sin 2πv)` in `f64`, rounded to `T`; no number is
    /// more than 8.6 `std` away from the mean.
    ///
    /// # Errors
    /// [`Error::Value`] if `mean` or `std` is not finite, or if `std < 0`.
    pub fn fill_normal<T: Element>(&mut self, mean: f64, std: f64, out: &mut [T]) -> Result<()> {
        if !(mean.is_finite() && std.is_finite() && std >= 0.0) {
            return Err(Error::value(
                "fill_normal",
                format!("no normal distribution has mean {mean} and std {std}"),
            ));
        }
        self.fill_by::<T, 2, 4>(out, |words| {
            normal_pair(join(words[0], words[1]), join(words[2], words[3]))
                .map(|z| T::from_f64(mean + std * z))
        })
    }

    /// Ones with probability `p`, zeros otherwise. Each takes one word.
    ///
    /// # Errors
    /// [`Error::Value`] if `p` is not in [0, 1].
    pub fn fill_bernoulli<T: Element>(&mut self, p: f64, out: &mut [T]) -> Result<()> {
        if !(0.0..=1.0).contains(&p) {
            return Err(Error::value("fill_bernoulli", format!("{p} is not a probability")));
        }
        let below = words_below(p);
        self.fill_by::<T, 1, 1>(out, |[word]| [if u64::from(word) < below { T::ONE } else { T::ZERO }])
    }

    /// Fills `out` with groups of `N` numbers, each made from `W` words.
    fn fill_by<T: Element, const N: usize, const W: usize>(
        &mut self,
        out: &mut [T],
        make: impl Fn([u32; W]) -> [T; N],
    ) -> Result<()> {
        context::in_environment(|| self.fill_by_here(out, make))
    }

    /// [`fill_by`](Rng::fill_by) in the current floating-point environment.
    fn fill_by_here<T: Element, const N: usize, const W: usize>(
        &mut self,
        out: &mut [T],
        make: impl Fn([u32; W]) -> [T; N],
    ) -> Result<()> {
        /// The groups made from one batch of words: 1 KiB of stack or less.
        const BATCH: usize = 64;
        let simd = context::settings()?.simd;
        let mut words = [[0; W]; BATCH];
        for out in out.chunks_mut(N * BATCH) {
            let words = words[..out.len().div_ceil(N)].as_flattened_mut();
            simd.run(Words { seed: self.seed, stream: self.stream, position: self.position, out: words });
            self.position = self.position.wrapping_add(words.len() as u64);
            let (groups, rest) = out.as_chunks_mut();
            let words = words.as_chunks().0;
            for (group, words) in groups.iter_mut().zip(words) {
                *group = make(*words);
            }
            if !rest.is_empty() {
                rest.copy_from_slice(&make(words[groups.len()])[..rest.len()]);
            }
        }
        Ok(())
    }
}

#[inline]
fn join(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// The 53 high bits as a number in [0, 1).
#[inline]
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * STEP
}

/// Two independent normal numbers from two times 64 random bits.
fn normal_pair(a: u64, b: u64) -> [f64; 2] {
    // In (0, 1], so that the logarithm is finite.
    let radius = (-2.0 * ln(unit(a) + STEP)).sqrt();
    let (sin, cos) = sin_cos_of_turns(unit(b));
    [radius * cos, radius * sin]
}

/// The logarithm of a normal number: x = 2ᵉ·m with m in [√½, √2], ln m = 2 artanh((m − 1)/(m + 1)) by its
/// series.
fn ln(x: f64) -> f64 {
    const ONE: u64 = 1023 << 52;
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i32 - 1023;
    let mut m = f64::from_bits(bits & ((1 << 52) - 1) | ONE);
    if m > std::f64::consts::SQRT_2 {
        m *= 0.5;
        exponent += 1;
    }
    let t = (m - 1.0) / (m + 1.0);
    // t² ≤ 0.0295: the first omitted term is below 2⁻⁶⁰ of the sum.
    let series = (0..12).rev().fold(0.0, |sum, k| sum * (t * t) + 1.0 / f64::from(2 * k + 1));
    f64::from(exponent) * std::f64::consts::LN_2 + 2.0 * t * series
}

/// Sine and cosine of 2π·`turns`, for `turns` in [0, 1): by their series on [−π/4, π/4].
fn sin_cos_of_turns(turns: f64) -> (f64, f64) {
    let quarter = (4.0 * turns + 0.5) as u32;
    let x = (4.0 * turns - f64::from(quarter)) * std::f64::consts::FRAC_PI_2;
    let z = x * x;
    // z ≤ 0.617: the first omitted terms, x¹⁹/19! and x²⁰/20!, are below 2⁻⁶³.
    let sin = x * (1..9).rev().fold(1.0, |rest, k| 1.0 - rest * z * (1.0 / f64::from(2 * k * (2 * k + 1))));
    let cos = (1..10).rev().fold(1.0, |rest, k| 1.0 - rest * z * (1.0 / f64::from(2 * k * (2 * k - 1))));
    match quarter % 4 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, Isa};

    /// The lines `philox4x32 10` of `tests/kat_vectors` in Random123 1.14.
    #[test]
    fn philox_gives_the_published_answers() {
        let answers = [
            ([0; 4], [0; 2], [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD]),
            (
                [0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344],
                [0xA409_3822, 0x299F_31D0],
                [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1],
            ),
        ];
        for (counter, key, answer) in answers {
            assert_eq!(philox(counter, key), answer);
        }
    }

    #[test]
    fn registers_hold_the_words_of_the_scalar_twin_on_every_isa() {
        let (seed, stream) = (0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210);
        for isa in Isa::available() {
            for (position, len) in [(0, 256), (5, 7), (60, 10), ((1 << 34) - 3, 130), (1 << 63, 64)] {
                let mut words = vec![0; len];
                Context::new()
                    .isa(isa)
                    .run(|| {
                        let words = Words { seed, stream, position, out: &mut words };
                        context::settings().unwrap().simd.run(words);
                    })
                    .unwrap();
                let expected: Vec<_> = (0..len as u64).map(|i| word(seed, stream, position + i)).collect();
                assert_eq!(words, expected, "{isa}");
            }
        }
    }

    #[test]
    fn the_elementary_functions_are_right_to_the_last_bits() {
        for i in 1..=20_000 {
            let x = f64::from(i) / 20_000.0;
            assert!(
                (ln(x) - x.ln()).abs() <= 4.0 * f64::EPSILON * x.ln().abs().max(f64::MIN_POSITIVE),
                "ln {x}"
            );
            let (sin, cos) = sin_cos_of_turns(1.0 - x);
            let angle = (1.0 - x) * std::f64::consts::TAU;
            // The rounding of the angle itself is up to 4 units.
            assert!((sin - angle.sin()).abs() <= 6.0 * f64::EPSILON, "sin {x}");
            assert!((cos - angle.cos()).abs() <= 6.0 * f64::EPSILON, "cos {x}");
        }
        assert_eq!(ln(1.0), 0.0);
        assert!((ln(STEP) + 53.0 * std::f64::consts::LN_2).abs() < 1e-14);
    }
}
