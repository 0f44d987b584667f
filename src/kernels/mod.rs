//! The kernels: slices in, slices out, forward beside backward.
//!
//! Inputs come first, outputs last. Every call checks its lengths, resolves the [`context`](crate::context) once,
//! allocates nothing but recycled scratch memory, and writes every element of its outputs and nothing else.
//! Results are the same bits for any number of threads and on any instruction set with fused multiply-add.

pub mod map;
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

/// An error unless `name` has `expected` elements.
pub(crate) fn same_len<T>(op: &'static str, name: &str, x: &[T], expected: usize) -> Result<()> {
    if x.len() == expected {
        return Ok(());
    }
    Err(Error::shape(op, format!("{name} has {} elements, expected {expected}", x.len())))
}
