//! Cumulative sums along rows and down columns, from either end.
//!
//! `y[i] = before + (x[s] + … + x[i])`: within segments of 1024 elements of a row, or 128 rows of a column,
//! counted from the first element, one element is added after the other, and `before` is the sum of the
//! segments before, added one after the other; from the other end likewise. So the bits do not depend on the
//! number of threads. At most `d = min(n, L) + ⌈n/L⌉` additions lead from an element to a result, L being the
//! length of a segment: results are within `d·u·Σ|x|`, as long as that does not overflow.
//!
//! The gradient of a cumulative sum is the cumulative sum of the gradient from the other end. All results
//! from a NaN on are NaN.

use super::{compiled_once, lengths, whole_rows};
use crate::buffer::Scratch;
use crate::context;
use crate::error::Result;
use crate::parallel::{self, Indices, Rows, RowsMut};
use crate::simd::{Element, Kernel, Simd, slices};

/// Elements of a row in one chain of additions.
const SEGMENT: usize = 1024;
/// Segments side by side, to hide the latency of an addition.
const SIDE: usize = 4;
/// Elements of a row per parallel chunk.
const CHUNK: usize = 16 * SEGMENT;
/// Rows in one chain of additions of each column.
const ROW_BLOCK: usize = 128;
/// Of rows with [`SIDE`] segments and more. Measured on one core with AVX2, f32:
/// `cargo bench --bench criterion -- cumsum`.
const NANOSECONDS_PER_ELEMENT: f64 = 0.5;
/// Of shorter rows, a single chain of additions at a time; measured likewise.
const NANOSECONDS_PER_ELEMENT_SHORT: f64 = 1.0;
/// Of columns, side by side in registers; measured likewise.
const NANOSECONDS_PER_ELEMENT_COLS: f64 = 0.15;

/// `y[i, j] = x[i, 0] + … + x[i, j]`, or with `reverse` `x[i, j] + … + x[i, cols − 1]`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows or `y` has another length.
///
/// ```
/// use gristmill::kernels::cumsum;
/// let mut y = [0.0_f32; 4];
/// cumsum::rows(&[1.0, 2.0, 3.0, 4.0], 2, false, &mut y)?;
/// assert_eq!(y, [1.0, 3.0, 3.0, 7.0]);
/// cumsum::rows(&[1.0, 2.0, 3.0, 4.0], 2, true, &mut y)?;
/// assert_eq!(y, [3.0, 2.0, 7.0, 4.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn rows<T: Element>(x: &[T], cols: usize, reverse: bool, y: &mut [T]) -> Result<()> {
    compiled_once!("cumsum::rows", |x: &[T], cols: usize, reverse: bool, y: &mut [T]| -> Result<()> {
        whole_rows("cumsum", x, cols)?;
        lengths!("cumsum", y == x.len());
        if x.is_empty() {
            return Ok(());
        }
        let settings = context::settings()?;
        let is_short = cols < SIDE * SEGMENT;
        let nanoseconds = if is_short { NANOSECONDS_PER_ELEMENT_SHORT } else { NANOSECONDS_PER_ELEMENT };
        let work = (x.len() as f64 * nanoseconds) as usize;
        if cols <= CHUNK {
            let chunk = (CHUNK / cols).max(1) * cols;
            parallel::for_each(settings, (Rows(x, chunk), RowsMut::new(y, chunk)), work, |(x, y)| {
                for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
                    chains(x, reverse, y);
                    settings.simd.run(AddBefore { before: None, reverse, y });
                }
            });
            return Ok(());
        }
        // The pieces' own sums on all threads, then sequentially the sum before each piece, then its
        // addition.
        let mut before = Scratch::new(cols.div_ceil(CHUNK));
        let work = work / (x.len() / cols);
        for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
            parallel::for_each(settings, (Rows(x, CHUNK), RowsMut::new(y, CHUNK)), work, |(x, y)| {
                chains(x, reverse, y);
            });
            before_each(y, reverse, &mut before);
            let before = &before[..];
            let parts = (Indices(before.len()), RowsMut::new(y, CHUNK));
            parallel::for_each(settings, parts, work / 4, |(piece, y)| {
                let first = if reverse { before.len() - 1 } else { 0 };
                let before = (piece != first).then(|| before[piece]);
                settings.simd.run(AddBefore { before, reverse, y });
            });
        }
        Ok(())
    })
}

/// The sum of what comes before each piece, the segments of all pieces added one after the other.
fn before_each<T: Element>(y: &[T], reverse: bool, before: &mut [T]) {
    let mut sum: Option<T> = None;
    let mut piece = |(y, before): (&[T], &mut T)| {
        *before = sum.unwrap_or(T::ZERO);
        let mut add = |segment: &[T]| {
            let total = if reverse { segment[0] } else { segment[segment.len() - 1] };
            sum = Some(sum.map_or(total, |sum| sum + total));
        };
        if reverse {
            y.chunks(SEGMENT).rev().for_each(&mut add)
        } else {
            y.chunks(SEGMENT).for_each(&mut add)
        }
    };
    let pieces = y.chunks(CHUNK).zip(before);
    if reverse { pieces.rev().for_each(&mut piece) } else { pieces.for_each(&mut piece) }
}

/// The chain of additions of each segment.
fn chains<T: Element>(x: &[T], reverse: bool, y: &mut [T]) {
    let (mut x, mut y) = (x.chunks_exact(SIDE * SEGMENT), y.chunks_exact_mut(SIDE * SEGMENT));
    for (x, y) in (&mut x).zip(&mut y) {
        let mut sums: [T; SIDE] =
            std::array::from_fn(|k| x[if reverse { (k + 1) * SEGMENT - 1 } else { k * SEGMENT }]);
        for k in 0..SIDE {
            y[if reverse { (k + 1) * SEGMENT - 1 } else { k * SEGMENT }] = sums[k];
        }
        for step in 1..SEGMENT {
            let i = if reverse { SEGMENT - 1 - step } else { step };
            for (k, sum) in sums.iter_mut().enumerate() {
                *sum += x[k * SEGMENT + i];
                y[k * SEGMENT + i] = *sum;
            }
        }
    }
    for (x, y) in x.remainder().chunks(SEGMENT).zip(y.into_remainder().chunks_mut(SEGMENT)) {
        y.copy_from_slice(x);
        if reverse {
            (0..y.len() - 1).rev().for_each(|i| y[i] += y[i + 1]);
        } else {
            (1..y.len()).for_each(|i| y[i] += y[i - 1]);
        }
    }
}

/// Adds to each segment the sum of those before.
struct AddBefore<'a, T> {
    before: Option<T>,
    reverse: bool,
    y: &'a mut [T],
}

impl<T: Element> Kernel for AddBefore<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (mut before, segments) = (self.before, self.y.len().div_ceil(SEGMENT));
        for n in 0..segments {
            let start = if self.reverse { segments - 1 - n } else { n } * SEGMENT;
            let end = self.y.len().min(start + SEGMENT);
            let segment = &mut self.y[start..end];
            let total = if self.reverse { segment[0] } else { segment[segment.len() - 1] };
            if let Some(before) = before {
                let before = s.splat(before);
                slices::map_in_place(
                    s,
                    segment,
                    #[inline(always)]
                    |y| before + y,
                );
            }
            before = Some(before.map_or(total, |before| before + total));
        }
    }
}

/// `y[i, j] = x[0, j] + … + x[i, j]` in each of the `cols` columns, or with `reverse`
/// `x[i, j] + … + x[rows − 1, j]`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows or `y` has another length.
///
/// ```
/// let mut y = [0.0_f32; 4];
/// gristmill::kernels::cumsum::cols(&[1.0, 2.0, 3.0, 4.0], 2, false, &mut y)?;
/// assert_eq!(y, [1.0, 2.0, 4.0, 6.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn cols<T: Element>(x: &[T], cols: usize, reverse: bool, y: &mut [T]) -> Result<()> {
    compiled_once!("cumsum::cols", |x: &[T], cols: usize, reverse: bool, y: &mut [T]| -> Result<()> {
        whole_rows("cumsum", x, cols)?;
        lengths!("cumsum", y == x.len());
        if x.is_empty() {
            return Ok(());
        }
        let settings = context::settings()?;
        let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT_COLS) as usize;
        let chunk = ROW_BLOCK * cols;
        parallel::for_each(settings, (Rows(x, chunk), RowsMut::new(y, chunk)), work, |(x, y)| {
            settings.simd.run(DownColumns { x, cols, reverse, y });
        });
        let blocks = x.len().div_ceil(chunk);
        if blocks == 1 {
            return Ok(());
        }
        // Row b: the sum of the blocks before block b. The first block's is never read.
        let mut before = Scratch::new(blocks * cols);
        let (first, last) = if reverse { (blocks - 1, 0) } else { (0, blocks - 1) };
        let mut block = first;
        while block != last {
            let next = if reverse { block - 1 } else { block + 1 };
            let end = x.len().min((block + 1) * chunk);
            let total = if reverse { block * chunk } else { end - cols };
            for j in 0..cols {
                let total = y[total + j];
                before[next * cols + j] =
                    if block == first { total } else { before[block * cols + j] + total };
            }
            block = next;
        }
        let before = &before[..];
        let parts = (Indices(blocks), Rows(before, cols), RowsMut::new(y, chunk));
        parallel::for_each(settings, parts, work / 2, |(block, before, y)| {
            if block != first {
                settings.simd.run(AddRow { before, y });
            }
        });
        Ok(())
    })
}

struct DownColumns<'a, T> {
    x: &'a [T],
    cols: usize,
    reverse: bool,
    y: &'a mut [T],
}

impl<T: Element> Kernel for DownColumns<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, cols, reverse, y } = self;
        let rows = x.len() / cols;
        let first = if reverse { (rows - 1) * cols } else { 0 };
        y[first..first + cols].copy_from_slice(&x[first..first + cols]);
        for n in 1..rows {
            let start = if reverse { rows - 1 - n } else { n } * cols;
            let (sums, y) = if reverse {
                let (front, behind) = y.split_at_mut(start + cols);
                (&behind[..cols], &mut front[start..])
            } else {
                let (front, behind) = y.split_at_mut(start);
                (&front[start - cols..], &mut behind[..cols])
            };
            slices::map2(
                s,
                sums,
                &x[start..start + cols],
                y,
                #[inline(always)]
                |sum, x| sum + x,
            );
        }
    }
}

struct AddRow<'a, T> {
    before: &'a [T],
    y: &'a mut [T],
}

impl<T: Element> Kernel for AddRow<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for y in self.y.chunks_exact_mut(self.before.len()) {
            slices::map2_in_place(
                s,
                self.before,
                y,
                #[inline(always)]
                |before, y| before + y,
            );
        }
    }
}
