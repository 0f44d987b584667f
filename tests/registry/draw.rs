//! Sizes, parameters and numbers of a case, made of bytes.

use gristmill::Element;

/// Which numbers that are none, or hardly any, are strewn among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// None.
    No,
    /// NaN, ±∞, ±0: what a kernel makes of them is what its reference makes of them.
    Limits,
    /// Subnormal and huge numbers too: intermediate results leave the range.
    All,
}

/// Where the sizes, parameters and numbers of a case come from: bytes, which proptest shrinks and a fuzzer
/// mutates. Where they end, numbers go on from a generator that they seed, and choices are the first.
pub struct Draw<'a> {
    bytes: &'a [u8],
    state: u64,
    special: Special,
    large: bool,
}

impl<'a> Draw<'a> {
    /// Small cases: up to a few thousand elements.
    pub fn new(bytes: &'a [u8], special: Special) -> Self {
        let fnv = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let state = bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv) | 1;
        Self { bytes, state, special, large: false }
    }

    /// Cases of about 100,000 elements: threads share them, and their blocks are merged.
    pub fn large(bytes: &'a [u8], special: Special) -> Self {
        Self { large: true, ..Self::new(bytes, special) }
    }

    /// Whether the cases are large.
    pub fn is_large(&self) -> bool {
        self.large
    }

    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(first)
    }

    /// A number in 0..n, 0 when the bytes have ended.
    pub fn below(&mut self, n: usize) -> usize {
        let [low, high] = [0; 2].map(|_| usize::from(self.byte().unwrap_or(0)));
        (low + 256 * high) % n.max(1)
    }

    /// One of these.
    pub fn pick<X: Copy>(&mut self, from: &[X]) -> X {
        from[self.below(from.len())]
    }

    /// True in half of all cases.
    pub fn flip(&mut self) -> bool {
        self.pick(&[false, true])
    }

    /// A number of elements; 0 too.
    pub fn len(&mut self) -> usize {
        if self.large { 90_000 + 7 * self.below(3000) } else { self.below(300) }
    }

    /// Rows and columns; rows may be 0, columns not.
    pub fn matrix(&mut self) -> [usize; 2] {
        if self.large {
            let cols = self.pick(&[100, 1, 10, 33, 784, 5000, 60_000]);
            return [100_000 / cols + self.below(5), cols];
        }
        let cols = 1 + self.below(150);
        [self.below(1 + 1500 / cols.max(75)), cols]
    }

    /// A size of a product, up to about `typical`; 0 too.
    pub fn extent(&mut self, typical: usize) -> usize {
        if self.large { typical + self.below(typical) } else { self.below(typical) }
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let byte = self.byte().unwrap_or(0);
        ((self.state >> 11) ^ (u64::from(byte) << 45)) as f64 / (1u64 << 53) as f64
    }

    /// Numbers uniform in [low, high), rounded to `T`, among them one in sixteen or so that is special.
    pub fn values<T: Element>(&mut self, len: usize, low: f64, high: f64) -> Vec<T> {
        let (tiny, huge) = if T::NAME == "f32" { (1e-38, 1e38) } else { (1e-308, 1e308) };
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        let all = [nan, inf, -inf, 0.0, -0.0, tiny / 4.0, -tiny / 1e5, tiny, huge, -huge, 1e30, -1e30];
        let special = match self.special {
            Special::No => &[],
            Special::Limits => &all[..5],
            Special::All => &all[..],
        };
        // In a third of the operands all is ordinary: a NaN hides what else happens in a row.
        let strewn = !special.is_empty() && self.below(3) != 0;
        let mut number = || {
            let x = self.unit();
            if strewn && x < 1.0 / 16.0 {
                return T::from_f64(special[(x * 16.0 * special.len() as f64) as usize]);
            }
            T::from_f64(low + (high - low) * x)
        };
        (0..len).map(|_| number()).collect()
    }

    /// Numbers as they come in a network: around zero, or around an offset that is large beside their spread.
    pub fn activations<T: Element>(&mut self, len: usize) -> Vec<T> {
        let scale = self.pick(&[1.0, 1e-3, 30.0]);
        let offset = self.pick(&[0.0, 0.0, 1e4]) * scale;
        self.values(len, offset - scale, offset + scale)
    }

    /// Numbers below `n`, as labels or places.
    pub fn indices(&mut self, len: usize, n: usize) -> Vec<usize> {
        (0..len).map(|_| (self.unit() * n as f64) as usize).collect()
    }
}
