//! Copying strided elements into contiguous rows, and back.

use crate::simd::Element;

/// The number of rows and columns that a transposing copy moves together: both sides stay within a few cache
/// lines.
const SQUARE: usize = 16;

/// Copies the elements at `strides` of `from`, starting at element 0, to `to`, row by row.
pub(super) fn copy<T: Element>(from: &[T], shape: &[usize], strides: &[usize], to: &mut [T]) {
    if to.is_empty() {
        return;
    }
    match (shape, strides) {
        ([], _) => to[0] = from[0],
        (&[len], &[stride]) => match stride {
            1 => to.copy_from_slice(&from[..len]),
            0 => to.fill(from[0]),
            _ => to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, &from)| *to = from),
        },
        (&[rows, cols], &[1, stride]) if stride > 1 => {
            for row in (0..rows).step_by(SQUARE) {
                for col in (0..cols).step_by(SQUARE) {
                    for i in row..(row + SQUARE).min(rows) {
                        for j in col..(col + SQUARE).min(cols) {
                            to[i * cols + j] = from[i + j * stride];
                        }
                    }
                }
            }
        }
        _ => {
            let inner = to.len() / shape[0];
            for (i, to) in to.chunks_exact_mut(inner).enumerate() {
                copy(&from[i * strides[0]..], &shape[1..], &strides[1..], to);
            }
        }
    }
}

/// Copies the elements of `from`, row by row, to the positions at `strides` of `to`, starting at element 0.
pub(super) fn write<T: Element>(from: &[T], shape: &[usize], strides: &[usize], to: &mut [T]) {
    match (shape, strides) {
        _ if from.is_empty() => {}
        ([], _) => to[0] = from[0],
        (&[_], &[stride]) if stride > 1 => {
            to.iter_mut().step_by(stride).zip(from).for_each(|(to, &from)| *to = from)
        }
        _ if has_no_gaps(shape, strides) => to[..from.len()].copy_from_slice(from),
        _ => {
            let inner = from.len() / shape[0];
            for (i, from) in from.chunks_exact(inner).enumerate() {
                write(from, &shape[1..], &strides[1..], &mut to[i * strides[0]..]);
            }
        }
    }
}

/// Whether elements at these strides are contiguous.
pub(super) fn has_no_gaps(shape: &[usize], strides: &[usize]) -> bool {
    let mut step = 1;
    for (&dim, &stride) in shape.iter().zip(strides).rev() {
        if dim != 1 && stride != step {
            return shape.contains(&0);
        }
        step *= dim;
    }
    true
}
