//! The kernels: slices in, slices out, forward beside backward.
//!
//! Inputs come first, outputs last. Every call checks its lengths, resolves the [`context`](crate::context) once,
//! allocates nothing but recycled scratch memory, and writes every element of its outputs and nothing else.
//! Results are the same bits for any number of threads and on any instruction set with fused multiply-add.

pub mod cross_entropy;
pub mod log_softmax;
pub mod logsumexp;
pub mod loss;
pub mod reduce;
pub mod softmax;

use crate::error::{Error, Result};

/// The number of rows of `cols` elements in `x`, which must be whole.
pub(crate) fn whole_rows<T>(op: &'static str, x: &[T], cols: usize) -> Result<usize> {
    if cols == 0 && x.is_empty() {
        return Ok(0);
    }
    if cols == 0 || !x.len().is_multiple_of(cols) {
        return Err(Error::shape(op, format!("{} elements are not whole rows of {cols}", x.len())));
    }
    Ok(x.len() / cols)
}

/// How many rows of `cols` elements a parallel job takes at a time: 16 Ki elements, which stay in the second cache.
pub(crate) fn rows_per_chunk(cols: usize) -> usize {
    (16 * 1024 / cols.max(1)).max(1)
}

/// An error unless `name` has `expected` elements.
pub(crate) fn same_len<T>(op: &'static str, name: &str, x: &[T], expected: usize) -> Result<()> {
    if x.len() == expected {
        return Ok(());
    }
    Err(Error::shape(op, format!("{name} has {} elements, expected {expected}", x.len())))
}
