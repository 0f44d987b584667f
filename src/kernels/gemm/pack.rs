//! Copying B into panels, so that the microkernel reads it in one stream of whole registers.
//!
//! Layout: blocks of KC rows of B, in each the panels from left to right, in each the rows from top to bottom, each
//! padded with zeros to whole registers.

use std::ops::Range;

use super::{KC, MatRef, panels};
use crate::buffer::Scratch;
use crate::context::Settings;
use crate::parallel::{self, Indices, RowsMut};
use crate::simd::{Element, Float, Kernel, Simd};

/// Packs the columns `columns` of B into panels of `registers` registers.
pub(super) fn pack<T: Element>(
    settings: Settings,
    b: MatRef<'_, T>,
    columns: Range<usize>,
    registers: usize,
    packed: &mut Scratch<T>,
) {
    let width = (columns.end - columns.start).next_multiple_of(T::LANES);
    let packed = &mut packed[..b.rows() * width];
    let nanoseconds = packed.len() / 2;
    // One KC block of the result per chunk.
    let blocks = RowsMut::new(packed, KC * width);
    let indices = Indices(b.rows().div_ceil(KC));
    parallel::for_each(settings, (blocks, indices), nanoseconds, |(packed, block)| {
        let rows = block * KC..((block + 1) * KC).min(b.rows());
        settings.simd.run(Pack { b, rows, columns: columns.clone(), registers, packed });
    });
}

struct Pack<'a, T> {
    b: MatRef<'a, T>,
    rows: Range<usize>,
    columns: Range<usize>,
    registers: usize,
    packed: &'a mut [T],
}

impl<T: Element> Kernel for Pack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { b, rows, columns, registers, mut packed } = self;
        for (col, used, tail) in panels(columns.start, columns.end, T::LANES, registers) {
            let panel;
            (panel, packed) = packed.split_at_mut(rows.len() * used * T::LANES);
            // SAFETY: the panel's rows and columns lie inside B; `panel` holds them padded to whole registers.
            unsafe {
                if b.col_stride() == 1 {
                    copy(s, b, rows.clone(), col, used, tail, panel);
                } else if b.row_stride() == 1 {
                    transpose(s, b, rows.clone(), col, used, tail, panel);
                } else {
                    gather(b, rows.clone(), col, (used - 1) * T::LANES + tail, used * T::LANES, panel);
                }
            }
        }
    }
}

/// Rows that lie side by side in memory.
#[inline(always)]
unsafe fn copy<S: Simd, T: Element>(
    s: S,
    b: MatRef<'_, T>,
    rows: Range<usize>,
    col: usize,
    used: usize,
    tail: usize,
    panel: &mut [T],
) {
    for (row, to) in rows.zip(panel.chunks_exact_mut(used * T::LANES)) {
        for (j, to) in to.chunks_exact_mut(T::LANES).enumerate() {
            let from = b.at(row, col + j * T::LANES);
            // SAFETY: the caller's promise; the last register has `tail` lanes.
            let register = unsafe {
                if j + 1 < used || tail == T::LANES {
                    T::Vector::load_ptr(s, from)
                } else {
                    T::Vector::load_ptr_partial(s, from, tail)
                }
            };
            s.store(register, to);
        }
    }
}

/// Columns that lie side by side in memory: squares of registers are transposed, what is left goes one by one.
#[inline(always)]
unsafe fn transpose<S: Simd, T: Element>(
    s: S,
    b: MatRef<'_, T>,
    rows: Range<usize>,
    col: usize,
    used: usize,
    tail: usize,
    panel: &mut [T],
) {
    let width = used * T::LANES;
    let whole = rows.len() / T::LANES * T::LANES;
    for j in 0..used {
        let lanes = if j + 1 < used { T::LANES } else { tail };
        let (squares, stride) = (if lanes == T::LANES { whole } else { 0 }, b.col_stride() as usize);
        for i in (0..squares).step_by(T::LANES) {
            let from = b.at(rows.start + i, col + j * T::LANES);
            let mut square = [T::ZERO; 16 * 16];
            // SAFETY: a square of registers inside B, and `square` holds one.
            unsafe { T::Vector::transpose_ptr(s, from, stride, square.as_mut_ptr()) };
            for (row, register) in square.chunks_exact(T::LANES).take(T::LANES).enumerate() {
                panel[(i + row) * width + j * T::LANES..][..T::LANES].copy_from_slice(register);
            }
        }
        for i in squares..rows.len() {
            for lane in 0..T::LANES {
                panel[i * width + j * T::LANES + lane] = if lane < lanes {
                    // SAFETY: the caller's promise.
                    unsafe { *b.at(rows.start + i, col + j * T::LANES + lane) }
                } else {
                    T::ZERO
                };
            }
        }
    }
}

/// Any strides, one by one.
#[inline(always)]
unsafe fn gather<T: Element>(
    b: MatRef<'_, T>,
    rows: Range<usize>,
    col: usize,
    cols: usize,
    width: usize,
    panel: &mut [T],
) {
    for (row, to) in rows.zip(panel.chunks_exact_mut(width)) {
        for (j, to) in to.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *to = if j < cols { unsafe { *b.at(row, col + j) } } else { T::ZERO };
        }
    }
}
