//! Copying B into panels, so that the microkernel reads it in one stream of whole registers.
//!
//! Layout: the panels from left to right, in each the rows from top to bottom, each padded with zeros to whole registers.

use std::ops::Range;

use super::{MatRef, Panel};
use crate::simd::{Element, Float, Simd, prefetch_line};

/// Elements from what is read to what is asked for.
const AHEAD: usize = 64;

/// Packs the rows `rows` of B into these panels, one after the other.
#[inline(always)]
pub(super) fn pack<S: Simd, T: Element>(
    s: S,
    b: MatRef<'_, T>,
    rows: Range<usize>,
    panels: impl Iterator<Item = Panel>,
    mut packed: &mut [T],
) {
    for Panel { col, registers, tail } in panels {
        let panel;
        (panel, packed) = packed.split_at_mut(rows.len() * registers * T::LANES);
        // SAFETY: the panel's rows and columns lie inside B; `panel` holds them padded to whole registers.
        unsafe {
            if b.col_stride() == 1 {
                copy(s, b, rows.clone(), col, registers, tail, panel);
            } else if b.row_stride() == 1 {
                transpose(s, b, rows.clone(), col, registers, tail, panel);
            } else {
                gather(b, rows.clone(), col, (registers - 1) * T::LANES + tail, registers * T::LANES, panel);
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

/// Columns that lie side by side in memory: squares of registers are transposed.
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
    if rows.len() < T::LANES {
        // SAFETY: the caller's promise.
        return unsafe { gather(b, rows, col, width - T::LANES + tail, width, panel) };
    }
    for j in 0..used {
        let lanes = if j + 1 < used { T::LANES } else { tail };
        for i in (0..rows.len()).step_by(T::LANES) {
            // The last square lies flush with the end: some rows are written twice.
            let i = i.min(rows.len() - T::LANES);
            let from = b.at(rows.start + i, col + j * T::LANES);
            for lane in 0..lanes {
                prefetch_line(from.wrapping_offset(lane as isize * b.col_stride()).wrapping_add(AHEAD));
            }
            let to = panel[i * width + j * T::LANES..].as_mut_ptr();
            // SAFETY: `lanes` columns and a register's worth of rows lie inside B and in the panel.
            unsafe { T::Vector::transpose_ptr(s, from, b.col_stride() as usize, lanes, to, width) };
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
