//! Embedding: rows of a table by index, and the sums of the gradients of rows with the same index.
//!
//! The forward pass copies: nothing is rounded, and NaN and infinities stay what they are. The backward pass
//! adds up the gradients of an index one after the other, in the order in which the index occurs, whatever
//! the number of threads: within `(m − 1)·u·Σ|dy|` for m occurrences, `u` being the unit roundoff.

use super::{compiled_once, lengths, whole_rows};
use crate::buffer::Buffer;
use crate::context;
use crate::error::{Error, Result};
use crate::parallel::{self, Indices, Rows, RowsMut};
use crate::simd::{Element, Kernel, Simd, slices};

/// Elements per parallel chunk, at least: 64 KiB of f32.
const CHUNK: usize = 16 * 1024;
/// Of one pass. An estimate, not yet measured: `cargo bench --bench criterion -- embedding`.
const NANOSECONDS_PER_ELEMENT: f64 = 0.1;

/// Row `indices[i]` of a table with rows of `dim` elements, to row i of `y`.
///
/// # Errors
/// [`Error::Shape`] when the table is not whole rows or `y` has not one row per index, [`Error::Value`]
/// naming the first index that is no row of the table, and its position.
///
/// ```
/// let mut y = [0.0_f32; 4];
/// gristmill::kernels::embedding::forward(&[0.0, 1.0, 10.0, 11.0, 20.0, 21.0], 2, &[2, 0], &mut y)?;
/// assert_eq!(y, [20.0, 21.0, 0.0, 1.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn forward<T: Element>(table: &[T], dim: usize, indices: &[usize], y: &mut [T]) -> Result<()> {
    compiled_once!("embedding::forward", |table: &[T],
                                          dim: usize,
                                          indices: &[usize],
                                          y: &mut [T]|
     -> Result<()> {
        const OP: &str = "embedding";
        let rows = whole_rows(OP, table, dim)?;
        check_indices(OP, indices, rows)?;
        lengths!(OP, y == indices.len().saturating_mul(dim));
        let settings = context::settings()?;
        let chunk = (CHUNK / dim.max(1)).max(1);
        let work = (y.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
        let parts = (RowsMut::new(y, chunk * dim), Rows(indices, chunk));
        parallel::for_each(settings, parts, work, |(y, indices)| {
            for (y, &index) in y.chunks_exact_mut(dim).zip(indices) {
                y.copy_from_slice(&table[index * dim..][..dim]);
            }
        });
        Ok(())
    })
}

/// The gradient of the table from that of [`forward`]'s result: row r is the sum of the rows i of `dy` with
/// `indices[i] = r`, and 0 if there are none. The row `padding_idx` is 0, too: it does not learn.
///
/// # Errors
/// [`Error::Shape`] when `dtable` is not whole rows or `dy` has not one row per index, [`Error::Value`] for
/// an index, or a `padding_idx`, that is no row of the table.
///
/// ```
/// let mut dtable = [0.5_f32; 6];
/// let dy = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
/// gristmill::kernels::embedding::backward(&[2, 0, 2], 2, Some(0), &dy, &mut dtable)?;
/// assert_eq!(dtable, [0.0, 0.0, 0.0, 0.0, 6.0, 8.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn backward<T: Element>(
    indices: &[usize],
    dim: usize,
    padding_idx: Option<usize>,
    dy: &[T],
    dtable: &mut [T],
) -> Result<()> {
    compiled_once!("embedding::backward", |indices: &[usize],
                                           dim: usize,
                                           padding_idx: Option<usize>,
                                           dy: &[T],
                                           dtable: &mut [T]|
     -> Result<()> {
        const OP: &str = "embedding_backward";
        let rows = whole_rows(OP, dtable, dim)?;
        check_indices(OP, indices, rows)?;
        check_padding(OP, padding_idx, rows)?;
        lengths!(OP, dy == indices.len().saturating_mul(dim));
        let settings = context::settings()?;

        let (mut ends, mut positions) = (Buffer::stale(rows), Buffer::stale(indices.len()));
        sort(indices, padding_idx, ends.fresh_mut(), positions.fresh_mut());
        let chunk = (CHUNK / dim.max(1)).max(1);
        let work = ((dy.len() + dtable.len()) as f64 * NANOSECONDS_PER_ELEMENT) as usize;
        let parts =
            (Indices(rows.div_ceil(chunk)), Rows(&ends[..], chunk), RowsMut::new(dtable, chunk * dim));
        parallel::for_each(settings, parts, work, |(index, ends_here, dtable)| {
            let start = if index == 0 { 0 } else { ends[index * chunk - 1] };
            settings.simd.run(Sums { start, ends: ends_here, positions: &positions, dim, dy, dtable });
        });
        Ok(())
    })
}

/// An error unless each index is a row of the table.
fn check_indices(op: &'static str, indices: &[usize], rows: usize) -> Result<()> {
    let Some(position) = indices.iter().position(|&index| index >= rows) else { return Ok(()) };
    let message = format!("index {} at position {position} is not in 0..{rows}", indices[position]);
    Err(Error::value(op, message))
}

/// An error unless the row that does not learn, if any, is a row of the table.
pub(crate) fn check_padding(op: &'static str, padding_idx: Option<usize>, rows: usize) -> Result<()> {
    match padding_idx {
        Some(index) if index >= rows => {
            Err(Error::value(op, format!("padding_idx {index} is not in 0..{rows}")))
        }
        _ => Ok(()),
    }
}

/// The positions of each index one after the other, in their order, but none of the padding; `ends` says for
/// each index where its positions end and those of the next one begin.
fn sort(indices: &[usize], padding_idx: Option<usize>, ends: &mut [usize], positions: &mut [usize]) {
    let counted = || indices.iter().enumerate().filter(|&(_, &index)| Some(index) != padding_idx);
    ends.fill(0);
    counted().for_each(|(_, &index)| ends[index] += 1);
    let mut start = 0;
    for end in &mut *ends {
        start += std::mem::replace(end, start);
    }
    // Each begins as the start of its index, and ends as the end.
    for (position, &index) in counted() {
        positions[ends[index]] = position;
        ends[index] += 1;
    }
}

/// The sums of some rows of the table.
struct Sums<'a, T> {
    /// Where the positions of the first row begin.
    start: usize,
    ends: &'a [usize],
    positions: &'a [usize],
    dim: usize,
    dy: &'a [T],
    dtable: &'a mut [T],
}

impl<T: Element> Kernel for Sums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut start = self.start;
        for (sum, &end) in self.dtable.chunks_exact_mut(self.dim).zip(self.ends) {
            let mut terms = self.positions[start..end].iter().map(|p| &self.dy[p * self.dim..][..self.dim]);
            match terms.next() {
                Some(first) => sum.copy_from_slice(first),
                None => sum.fill(T::ZERO),
            }
            for term in terms {
                slices::map2_in_place(
                    s,
                    term,
                    sum,
                    #[inline(always)]
                    |term, sum| sum + term,
                );
            }
            start = end;
        }
    }
}
