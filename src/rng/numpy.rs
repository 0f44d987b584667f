//! The random numbers of `numpy.random.RandomState`, NumPy's legacy generator: MT19937 (Matsumoto and
//! Nishimura 1998).
//!
//! It reproduces, number for number, the arrays that a NumPy program made from a seed. Its state of 624 words
//! can only move forward; for everything else, use [`Rng`](super::Rng).

use crate::context;
use crate::error::{Error, Result};

/// Words of state.
const N: usize = 624;
/// The offset of the word that is mixed in.
const M: usize = 397;
/// The 53 bits of one draw: 27 high ones, then 26 low ones.
const LOW: f64 = (1_u64 << 26) as f64;
const UNIT: f64 = (1_u64 << 53) as f64;

/// `numpy.random.RandomState(seed)`, which is also what `numpy.random.seed(seed)` sets.
///
/// The same calls give the same numbers as in NumPy. Normal numbers use a logarithm, NumPy the C library's
/// and this one Rust's, so that machines may differ in the last bit.
///
/// ```
/// use gristmill::Rng;
/// let mut rng = Rng::numpy(123);
/// assert_eq!(rng.random_sample(), 0.6964691855978616);
/// assert_eq!(rng.random_sample(), 0.28613933495037946);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct NumpyRng {
    words: [u32; N],
    position: usize,
    /// The second normal number of a pair.
    normal: Option<f64>,
}

impl NumpyRng {
    pub(super) fn new(seed: u32) -> Self {
        let mut words = [seed; N];
        for i in 1..N {
            let before = words[i - 1];
            words[i] = (before ^ before >> 30).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { words, position: N, normal: None }
    }

    /// Computes the next 624 words from the last ones.
    fn twist(&mut self) {
        for i in 0..N {
            let mixed = self.words[i] & 0x8000_0000 | self.words[(i + 1) % N] & 0x7FFF_FFFF;
            let odd = if mixed & 1 == 1 { 0x9908_B0DF } else { 0 };
            self.words[i] = self.words[(i + M) % N] ^ mixed >> 1 ^ odd;
        }
        self.position = 0;
    }

    /// 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.position == N {
            self.twist();
        }
        let mut word = self.words[self.position];
        self.position += 1;
        word ^= word >> 11;
        word ^= word << 7 & 0x9D2C_5680;
        word ^= word << 15 & 0xEFC6_0000;
        word ^ word >> 18
    }

    fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) << 32 | u64::from(self.next_u32())
    }

    /// A multiple of 2⁻⁵³ in [0, 1): NumPy's `random_sample`, `random` and `rand`.
    pub fn random_sample(&mut self) -> f64 {
        let (high, low) = (self.next_u32() >> 5, self.next_u32() >> 6);
        (f64::from(high) * LOW + f64::from(low)) / UNIT
    }

    /// A normally distributed number with mean 0 and standard deviation 1: NumPy's `standard_normal` and
    /// `randn`.
    ///
    /// Marsaglia's polar method: a point in the unit disk gives two numbers, the second of which is kept for
    /// the next call.
    pub fn standard_normal(&mut self) -> f64 {
        if let Some(waiting) = self.normal.take() {
            return waiting;
        }
        context::in_environment(|| {
            loop {
                let x = 2.0 * self.random_sample() - 1.0;
                let y = 2.0 * self.random_sample() - 1.0;
                let square = x * x + y * y;
                if square < 1.0 && square != 0.0 {
                    let factor = (-2.0 * square.ln() / square).sqrt();
                    self.normal = Some(factor * x);
                    return factor * y;
                }
            }
        })
    }

    /// An integer in low..high: NumPy's `randint`.
    ///
    /// # Errors
    /// [`Error::Value`] if `low >= high`.
    pub fn randint(&mut self, low: i64, high: i64) -> Result<i64> {
        if low >= high {
            return Err(Error::value("randint", format!("there is no integer in {low}..{high}")));
        }
        let last = high.wrapping_sub(low).wrapping_sub(1) as u64;
        Ok(low.wrapping_add(self.up_to(last) as i64))
    }

    /// Shuffles the items: NumPy's `shuffle`.
    pub fn shuffle<I>(&mut self, items: &mut [I]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.up_to(i as u64) as usize);
        }
    }

    /// 0..n in random order: NumPy's `permutation`.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut items: Vec<_> = (0..n).collect();
        self.shuffle(&mut items);
        items
    }

    /// An integer in 0..=last: as many random bits as `last` has, drawn again while they exceed it.
    fn up_to(&mut self, last: u64) -> u64 {
        if last == 0 {
            return 0;
        }
        let mask = u64::MAX >> last.leading_zeros();
        loop {
            let bits = if last <= u64::from(u32::MAX) { u64::from(self.next_u32()) } else { self.next_u64() };
            if bits & mask <= last {
                return bits & mask;
            }
        }
    }
}
