//! Loops along one axis of contiguous arrays: gathering, scattering and adding.
//!
//! An array is `outer` blocks of `len` rows of `inner` elements. Each element of a result is written by one
//! thread, and sums are added in the order of the axis, so that the number of threads does not change any
//! bit.

use crate::context;
use crate::error::{Error, Result};
use crate::parallel::{self, Indices, Rows, RowsMut};
use crate::simd::Element;

/// The least number of elements that one job writes.
const CHUNK: usize = 1 << 14;
/// Estimated nanoseconds to move an element, and to find a row.
const NANOSECONDS_PER_ELEMENT: f64 = 0.5;
const NANOSECONDS_PER_ROW: f64 = 2.0;

/// A shape cut at an axis.
#[derive(Clone, Copy)]
pub(crate) struct Axis {
    pub outer: usize,
    pub len: usize,
    pub inner: usize,
}

impl Axis {
    pub fn of(shape: &[usize], axis: usize) -> Self {
        let product = |dims: &[usize]| dims.iter().product();
        Self { outer: product(&shape[..axis]), len: shape[axis], inner: product(&shape[axis + 1..]) }
    }

    fn block(&self) -> usize {
        self.len * self.inner
    }

    /// Blocks of at least [`CHUNK`] elements.
    fn blocks_per_job(&self) -> usize {
        CHUNK.div_ceil(self.block().max(1))
    }
}

fn nanoseconds(elements: usize, rows: usize) -> usize {
    (elements as f64 * NANOSECONDS_PER_ELEMENT + rows as f64 * NANOSECONDS_PER_ROW) as usize
}

/// Checks that each of `indices` is below `len`, the length of axis `axis` of `shape`.
pub(crate) fn check(op: &'static str, indices: &[usize], axis: usize, shape: &[usize]) -> Result<()> {
    match indices.iter().enumerate().find(|&(_, &index)| index >= shape[axis]) {
        None => Ok(()),
        Some((place, index)) => {
            let message =
                format!("index {index} at place {place} does not exist on axis {axis} of {shape:?}");
            Err(Error::value(op, message))
        }
    }
}

/// Copies the rows `indices` of each block of `x` to `y`.
pub(crate) fn select<T: Element>(x: &[T], axis: Axis, indices: &[usize], y: &mut [T]) -> Result<()> {
    let Axis { len, inner, .. } = axis;
    if y.is_empty() {
        return Ok(());
    }
    let rows = CHUNK.div_ceil(inner);
    let work = nanoseconds(y.len(), y.len() / inner);
    let parts = (Indices(y.len().div_ceil(rows * inner)), RowsMut::new(y, rows * inner));
    parallel::for_each(context::settings()?, parts, work, |(chunk, y)| {
        let (mut block, mut place) = (chunk * rows / indices.len(), chunk * rows % indices.len());
        for y in y.chunks_exact_mut(inner) {
            let x = &x[(block * len + indices[place]) * inner..][..inner];
            match (x, &mut *y) {
                ([x], [y]) => *y = *x,
                (x, y) => y.copy_from_slice(x),
            }
            place += 1;
            if place == indices.len() {
                (block, place) = (block + 1, 0);
            }
        }
    });
    Ok(())
}

/// Joins blocks of `parts`, each with the same number of blocks, into blocks of `y`.
pub(crate) fn concat<T: Element>(parts: &[&[T]], axis: Axis, y: &mut [T]) -> Result<()> {
    let (block, blocks) = (axis.block(), axis.blocks_per_job());
    if y.is_empty() {
        return Ok(());
    }
    if axis.outer == 1 {
        let mut rest = y;
        for part in parts {
            let (to, others) = rest.split_at_mut(part.len());
            let chunks = (Rows(part, CHUNK), RowsMut::new(to, CHUNK));
            let work = nanoseconds(part.len(), 0);
            parallel::for_each(context::settings()?, chunks, work, |(part, to)| to.copy_from_slice(part));
            rest = others;
        }
        return Ok(());
    }
    let work = nanoseconds(y.len(), parts.len() * axis.outer);
    let chunks = (Indices(axis.outer.div_ceil(blocks)), RowsMut::new(y, blocks * block));
    parallel::for_each(context::settings()?, chunks, work, |(chunk, y)| {
        for (row, mut y) in y.chunks_exact_mut(block).enumerate() {
            for part in parts {
                let len = part.len() / axis.outer;
                let (to, rest) = y.split_at_mut(len);
                to.copy_from_slice(&part[(chunk * blocks + row) * len..][..len]);
                y = rest;
            }
        }
    });
    Ok(())
}

/// Adds the rows of each block of `x`, in their order, to the rows `indices` of `y`.
pub(crate) fn add<T: Element>(x: &[T], indices: &[usize], y: &mut [T], axis: Axis) -> Result<()> {
    let inner = axis.inner;
    if x.is_empty() {
        return Ok(());
    }
    let blocks = axis.blocks_per_job();
    let work = nanoseconds(x.len(), x.len() / inner);
    let parts = (RowsMut::new(y, blocks * axis.block()), Rows(x, blocks * indices.len() * inner));
    let settings = context::settings()?;
    let _environment = context::enter_environment();
    parallel::for_each(settings, parts, work, |(y, x)| {
        for (y, x) in y.chunks_exact_mut(axis.block()).zip(x.chunks_exact(indices.len() * inner)) {
            for (&index, x) in indices.iter().zip(x.chunks_exact(inner)) {
                y[index * inner..][..inner].iter_mut().zip(x).for_each(|(y, &x)| *y += x);
            }
        }
    });
    Ok(())
}

/// Copies to each position of a row of `y`: `y[o, k, i] = x[o, indices[o, k, i], i]`.
pub(crate) fn gather<T: Copy + Send + Sync>(
    x: &[T],
    axis: Axis,
    indices: &[usize],
    y: &mut [T],
) -> Result<()> {
    let inner = axis.inner;
    if y.is_empty() {
        return Ok(());
    }
    let block = y.len() / axis.outer;
    let blocks = CHUNK.div_ceil(block);
    let work = nanoseconds(2 * y.len(), 0);
    let parts =
        (RowsMut::new(y, blocks * block), Rows(indices, blocks * block), Rows(x, blocks * axis.block()));
    parallel::for_each(context::settings()?, parts, work, |(y, indices, x)| {
        let rows =
            y.chunks_exact_mut(block).zip(indices.chunks_exact(block)).zip(x.chunks_exact(axis.block()));
        for ((y, indices), x) in rows {
            for (y, indices) in y.chunks_exact_mut(inner).zip(indices.chunks_exact(inner)) {
                for (i, (y, &index)) in y.iter_mut().zip(indices).enumerate() {
                    *y = x[index * inner + i];
                }
            }
        }
    });
    Ok(())
}

/// Passes each element of `x`, in order, and its position in `y` to `put`:
/// `put(y[o, indices[o, k, i], i], x[o, k, i])`.
pub(crate) fn scatter<X: Copy + Sync, Y: Send>(
    x: &[X],
    indices: &[usize],
    y: &mut [Y],
    axis: Axis,
    put: impl Fn(&mut Y, X) + Sync,
) -> Result<()> {
    let inner = axis.inner;
    if x.is_empty() {
        return Ok(());
    }
    let (block, blocks) = (x.len() / axis.outer, axis.blocks_per_job());
    let work = nanoseconds(2 * x.len(), 0);
    let parts =
        (RowsMut::new(y, blocks * axis.block()), Rows(indices, blocks * block), Rows(x, blocks * block));
    let settings = context::settings()?;
    let _environment = context::enter_environment();
    parallel::for_each(settings, parts, work, |(y, indices, x)| {
        let rows =
            y.chunks_exact_mut(axis.block()).zip(indices.chunks_exact(block)).zip(x.chunks_exact(block));
        for ((y, indices), x) in rows {
            for (indices, x) in indices.chunks_exact(inner).zip(x.chunks_exact(inner)) {
                for (i, (&index, &x)) in indices.iter().zip(x).enumerate() {
                    put(&mut y[index * inner + i], x);
                }
            }
        }
    });
    Ok(())
}
