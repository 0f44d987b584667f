//! Copying B into panels (and A into blocks), so that the microkernel reads it in one stream of whole
//! registers.
//!
//! Layout: the panels from left to right, in each the rows from top to bottom, each padded to whole
//! registers. What lies in the padding goes into no result.

use std::ops::Range;

use super::tile::ARows;
use super::{KC, MC, MatRef, Panel};
use crate::simd::{Element, Float, Kernel, Simd};

/// Elements of a square of registers with the most lanes.
const SQUARE: usize = 16 * 16;
/// Rows that are copied before the next ones, if they lie side by side in memory.
const ROWS: usize = 16;

/// Packs some rows of B into these panels, one after the other. A function of its own: inlined, what it
/// prepares for any strides delays products that pack nothing.
pub(super) struct Pack<'a, T, P> {
    pub b: MatRef<'a, T>,
    pub rows: Range<usize>,
    pub panels: P,
    pub packed: &'a mut [T],
}

impl<T: Element, P: Iterator<Item = Panel> + Clone> Kernel for Pack<'_, T, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { b, rows, panels, packed } = self;
        // Rows that lie side by side in memory are read a few at a time, from end to end.
        let at_once = if b.col_stride() == 1 { ROWS } else { rows.len() };
        for first in rows.clone().step_by(at_once) {
            let some = first..(first + at_once).min(rows.end);
            let mut done = 0;
            for Panel { col, registers, tail } in panels.clone() {
                let width = registers * T::LANES;
                let start = done + (first - rows.start) * width;
                let panel = &mut packed[start..start + some.len() * width];
                // SAFETY: the panel's rows and columns lie inside B; `panel` holds them padded to whole
                // registers.
                unsafe {
                    if b.col_stride() == 1 {
                        copy(s, b, some.clone(), col, registers, tail, panel);
                    } else if b.row_stride() == 1 && b.col_stride() > 0 {
                        transpose(s, b, some.clone(), col, registers, tail, panel);
                    } else {
                        gather(b, some.clone(), col, width - T::LANES + tail, width, panel);
                    }
                }
                done += rows.len() * width;
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
    for j in 0..used {
        let lanes = if j + 1 < used { T::LANES } else { tail };
        if rows.len() < T::LANES {
            // Through a square of its own.
            let mut squares = [[T::ZERO; SQUARE]; 2];
            let [square, transposed] = &mut squares;
            // SAFETY: the caller's promise; both squares have as many registers as lanes.
            unsafe {
                for (i, column) in square.chunks_exact_mut(T::LANES).take(lanes).enumerate() {
                    let from = b.at(rows.start, col + j * T::LANES + i);
                    s.store(T::Vector::load_ptr_partial(s, from, rows.len()), column);
                }
                T::Vector::transpose_ptr(
                    s,
                    square.as_ptr(),
                    T::LANES,
                    lanes,
                    transposed.as_mut_ptr(),
                    T::LANES,
                );
            }
            for (row, to) in transposed.chunks_exact(T::LANES).zip(panel.chunks_exact_mut(width)) {
                to[j * T::LANES..][..T::LANES].copy_from_slice(row);
            }
            continue;
        }
        for i in (0..rows.len()).step_by(T::LANES) {
            // The last square lies flush with the end: some rows are written twice.
            let i = i.min(rows.len() - T::LANES);
            let from = b.at(rows.start + i, col + j * T::LANES);
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

/// Elements from column to column of a block of A that was copied: an odd number of cache lines in f32.
const PITCH: usize = 2 * MC + 16;
/// The most elements of such a block.
pub(super) const COMPACT: usize = PITCH * KC;

/// Copies a block of A whose columns lie side by side.
#[inline(always)]
pub(super) fn compact<T: Element>(
    a: MatRef<'_, T>,
    rows: Range<usize>,
    cols: Range<usize>,
    to: &mut [T],
) -> ARows<T> {
    for (col, to) in cols.zip(to.chunks_exact_mut(PITCH)) {
        // SAFETY: the column lies inside A.
        let from = unsafe { std::slice::from_raw_parts(a.at(rows.start, col), rows.len()) };
        to[..rows.len()].copy_from_slice(from);
    }
    ARows { start: to.as_ptr(), row_stride: 1, col_stride: PITCH as isize }
}
