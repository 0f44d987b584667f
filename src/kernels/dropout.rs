//! Dropout: `y[i] = x[i] / (1 − p)` with probability `1 − p`, else 0.
//!
//! Element `i` is kept when word `i` of the stream (see [`rng::word`]) is at least `p·2³²`: the mask is a
//! function of (seed, stream, i), so that the backward kernel makes it again instead of reading it. Kept
//! elements are multiplied with `1 / (1 − p)` rounded to `T`: the error is within 2 units in the last place.
//! Dropped elements are +0, whatever they were: also NaN and infinities. `p = 0` copies.

use super::{compiled_once, lengths};
use crate::context;
use crate::error::{Error, Result};
use crate::parallel::{self, Indices, Rows, RowsMut};
use crate::rng::{self, Rng};
use crate::simd::{Element, Float, Int, Kernel, Mask, Simd};

/// Elements per parallel chunk: a multiple of the block of the generator.
const CHUNK: usize = 4 * 1024;
/// Measured on one core with AVX2: `cargo bench --bench criterion -- dropout`.
const NANOSECONDS_PER_ELEMENT: f64 = 0.8;

/// Which random words make the mask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key {
    /// The seed of the generator.
    pub seed: u64,
    /// The stream, a new one for each forward pass.
    pub stream: u64,
}

impl From<Rng> for Key {
    /// The stream of `rng`, from its start: `Key::from(rng.split())` is a new mask.
    fn from(rng: Rng) -> Self {
        Self { seed: rng.seed, stream: rng.stream }
    }
}

/// Drops elements of `x` with probability `p` and scales the others by `1 / (1 − p)`, to `y` of the same
/// length.
///
/// # Errors
/// [`Error::Shape`] when the lengths differ, [`Error::Value`] when `p` is not in [0, 1].
///
/// ```
/// use gristmill::{Rng, kernels::dropout};
/// let key = dropout::Key::from(Rng::seed(1).split());
/// let mut y = [0.0_f32; 1000];
/// dropout::forward(&[1.0; 1000], 0.5, key, &mut y)?;
/// assert!(y.iter().all(|&y| y == 0.0 || y == 2.0));
/// let mut dx = [0.0_f32; 1000];
/// dropout::backward(&[1.0; 1000], 0.5, key, &mut dx)?;
/// assert_eq!(y, dx);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn forward<T: Element>(x: &[T], p: f64, key: Key, y: &mut [T]) -> Result<()> {
    compiled_once!("dropout::forward", |x: &[T], p: f64, key: Key, y: &mut [T]| -> Result<()> {
        lengths!("dropout", y == x.len());
        apply("dropout", x, p, key, y)
    })
}

/// The gradient: `dx[i] = dy[i] / (1 − p)` where [`forward`] with the same `p` and `key` kept, else 0.
///
/// # Errors
/// [`Error::Shape`] when the lengths differ, [`Error::Value`] when `p` is not in [0, 1].
pub fn backward<T: Element>(dy: &[T], p: f64, key: Key, dx: &mut [T]) -> Result<()> {
    compiled_once!("dropout::backward", |dy: &[T], p: f64, key: Key, dx: &mut [T]| -> Result<()> {
        lengths!("dropout_backward", dx == dy.len());
        apply("dropout_backward", dy, p, key, dx)
    })
}

/// [`forward`] from `x` to `x` itself.
///
/// # Errors
/// [`Error::Value`] when `p` is not in [0, 1].
pub fn in_place<T: Element>(p: f64, key: Key, x: &mut [T]) -> Result<()> {
    compiled_once!("dropout::in_place", |p: f64, key: Key, x: &mut [T]| -> Result<()> {
        match Chance::new("dropout", p)? {
            Chance::Keep => {}
            Chance::Drop => x.fill(T::ZERO),
            Chance::Below(dropped, scale) => {
                let settings = context::settings()?;
                let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
                let parts = (Indices(x.len().div_ceil(CHUNK)), RowsMut::new(x, CHUNK));
                parallel::for_each(settings, parts, work, |(index, x)| {
                    settings.simd.run(Dropout { key, first_block: first_block(index), dropped, scale, x });
                });
            }
        }
        Ok(())
    })
}

/// What a probability means.
enum Chance<T> {
    Keep,
    Drop,
    /// Words below this drop their element; the others are scaled.
    Below(u32, T),
}

impl<T: Element> Chance<T> {
    fn new(op: &'static str, p: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&p) {
            return Err(Error::value(op, format!("{p} is not a probability")));
        }
        Ok(match u32::try_from(rng::words_below(p)) {
            _ if p == 0.0 => Self::Keep,
            Ok(dropped) => Self::Below(dropped, scale(p)),
            Err(_) => Self::Drop,
        })
    }
}

/// What kept elements are multiplied with.
pub(crate) fn scale<T: Element>(p: f64) -> T {
    T::from_f64(1.0 / (1.0 - p))
}

/// The block of random words of the first element of a chunk.
fn first_block(chunk: usize) -> u64 {
    (chunk * (CHUNK / rng::BLOCK)) as u64
}

fn apply<T: Element>(op: &'static str, x: &[T], p: f64, key: Key, y: &mut [T]) -> Result<()> {
    match Chance::new(op, p)? {
        Chance::Keep => y.copy_from_slice(x),
        Chance::Drop => y.fill(T::ZERO),
        Chance::Below(dropped, scale) => {
            let settings = context::settings()?;
            let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
            let parts = (Indices(x.len().div_ceil(CHUNK)), Rows(x, CHUNK), RowsMut::new(y, CHUNK));
            parallel::for_each(settings, parts, work, |(index, x, y)| {
                y.copy_from_slice(x);
                settings.simd.run(Dropout { key, first_block: first_block(index), dropped, scale, x: y });
            });
        }
    }
    Ok(())
}

struct Dropout<'a, T> {
    key: Key,
    /// The block of random words of the first element.
    first_block: u64,
    /// Words below this drop their element.
    dropped: u32,
    scale: T,
    x: &'a mut [T],
}

impl<T: Element> Dropout<'_, T> {
    /// Which of the 64 elements of a block are dropped, as bits.
    #[inline(always)]
    fn mask<S: Simd>(&self, s: S, block: u64) -> u64 {
        let dropped = S::U32::splat(s, self.dropped);
        let mut bits = 0;
        for (r, word) in rng::block(s, self.key.seed, self.key.stream, block).into_iter().enumerate() {
            bits |= u64::from(word.lt(dropped).to_bits()) << (16 * r);
        }
        bits
    }

    /// One register of elements, of which the lowest bits of `dropped` drop some.
    #[inline(always)]
    fn scaled<S: Simd>(&self, s: S, x: T::Vector<S>, dropped: u64) -> T::Vector<S> {
        let dropped = <T::Vector<S> as Float<S>>::Mask::from_bits(s, dropped as u32);
        T::Vector::select(dropped, s.splat(T::ZERO), x * s.splat(self.scale))
    }
}

impl<T: Element> Kernel for Dropout<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let mut block = self.first_block;
        let mut x = std::mem::take(&mut self.x).chunks_exact_mut(rng::BLOCK);
        for x in &mut x {
            let dropped = self.mask(s, block);
            for at in (0..rng::BLOCK).step_by(T::LANES) {
                s.store(self.scaled(s, s.load(&x[at..]), dropped >> at), &mut x[at..]);
            }
            block += 1;
        }
        let x = x.into_remainder();
        if !x.is_empty() {
            let dropped = self.mask(s, block);
            for at in (0..x.len()).step_by(T::LANES) {
                s.store_partial(self.scaled(s, s.load_partial(&x[at..]), dropped >> at), &mut x[at..]);
            }
        }
    }
}
