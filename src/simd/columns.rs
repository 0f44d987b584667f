//! Loops down the columns of a matrix with contiguous rows, registers of neighbouring columns side by side.
//!
//! What a column gives depends on that column alone, in the order of its rows: not on where it stands.
//! The functions given to these loops must be closures marked `#[inline(always)]`.

use std::ops::Range;

use super::{Element, Float, Simd};

/// Elements of a tile, the rows of which a panel goes down before the next panel does: a quarter of L1 as
/// f32.
const TILE: usize = 2 * 1024;
/// Registers of a panel that sums: with three sums each they fill the 16 registers of AVX2.
const PANEL: usize = 2;

/// K sums down the rows for each of the `columns`, to K equal parts of `sums`: `step` adds one row.
///
/// The N slices of `x` hold the same rows of `cols`, the M slices of `params` one number for each of the
/// `columns`. The rows are added one after the other.
#[inline(always)]
pub(crate) fn sums<T: Element, S: Simd, const N: usize, const M: usize, const K: usize>(
    s: S,
    x: [&[T]; N],
    cols: usize,
    columns: Range<usize>,
    params: [&[T]; M],
    sums: &mut [T],
    step: impl Fn([T::Vector<S>; K], [T::Vector<S>; N], [T::Vector<S>; M]) -> [T::Vector<S>; K],
) {
    let (len, width) = (x[0].len(), sums.len() / K);
    assert!(columns.end <= cols && columns.len() <= width && params.iter().all(|p| p.len() == columns.len()));
    assert!(x.iter().all(|x| x.len() == len) && len.is_multiple_of(cols.max(1)));
    sums.fill(T::ZERO);
    let tile = cols * (TILE / columns.len().max(1)).max(1);
    let mut first = 0;
    while first < len {
        let rows = first..len.min(first + tile);
        let mut column = columns.start;
        while column < columns.end {
            let at = column - columns.start;
            let rest = columns.end - column;
            // SAFETY: the columns from `column` on, at most `rest` of them, end within a row of `x` and, from
            // `at` on, within `params` and each of the K parts of `sums`; `rows` are whole rows.
            unsafe {
                if rest >= PANEL * T::LANES {
                    let panel = ColumnPanel::<PANEL, true> { column, count: PANEL * T::LANES };
                    panel.sum(s, x, cols, rows.clone(), params, sums, at, &step);
                    column += PANEL * T::LANES;
                } else if rest >= T::LANES {
                    let panel = ColumnPanel::<1, true> { column, count: T::LANES };
                    panel.sum(s, x, cols, rows.clone(), params, sums, at, &step);
                    column += T::LANES;
                } else {
                    let panel = ColumnPanel::<1, false> { column, count: rest };
                    panel.sum(s, x, cols, rows.clone(), params, sums, at, &step);
                    column += rest;
                }
            }
        }
        first = rows.end;
    }
}

/// `y = f(x, params)` in each row of `cols`; the params are one per column. P registers go down side by side.
///
/// A register that would stick out at the end of a row is moved back over columns that are done: it computes
/// the same results again. Masked stores, one in each row, would take longer; they remain for rows shorter
/// than a register.
#[inline(always)]
pub(crate) fn map<T: Element, S: Simd, const P: usize, const N: usize, const M: usize>(
    s: S,
    x: [&[T]; N],
    cols: usize,
    params: [&[T]; M],
    y: &mut [T],
    f: impl Fn([T::Vector<S>; N], [T::Vector<S>; M]) -> T::Vector<S>,
) {
    assert!(params.iter().all(|p| p.len() == cols) && y.len().is_multiple_of(cols.max(1)));
    assert!(x.iter().all(|x| x.len() == y.len()));
    let tile = cols * (TILE / cols.max(1)).max(1);
    let mut first = 0;
    while first < y.len() {
        let rows = first..y.len().min(first + tile);
        let mut column = 0;
        while column < cols {
            let rest = cols - column;
            // SAFETY: each panel ends at or before `cols`, the length of `params` and of the rows of `x` and
            // `y`; `rows` are whole rows.
            unsafe {
                if rest >= P * T::LANES {
                    let panel = ColumnPanel::<P, true> { column, count: P * T::LANES };
                    panel.map(s, x, cols, rows.clone(), params, y, &f);
                    column += P * T::LANES;
                } else if cols >= T::LANES {
                    column = column.min(cols - T::LANES);
                    let panel = ColumnPanel::<1, true> { column, count: T::LANES };
                    panel.map(s, x, cols, rows.clone(), params, y, &f);
                    column += T::LANES;
                } else {
                    let panel = ColumnPanel::<1, false> { column, count: rest };
                    panel.map(s, x, cols, rows.clone(), params, y, &f);
                    column += rest;
                }
            }
        }
        first = rows.end;
    }
}

/// `count` columns from `column` on, in P registers: whole ones, or one that is not full.
///
/// The loops over registers count indices: adapters of iterators are left as calls where functions grow
/// large, and a call that passes registers passes them through memory.
#[derive(Clone, Copy)]
struct ColumnPanel<const P: usize, const WHOLE: bool> {
    column: usize,
    count: usize,
}

#[allow(clippy::needless_range_loop, reason = "see above")]
#[allow(clippy::too_many_arguments, reason = "the arguments of the two functions above, and where")]
impl<const P: usize, const WHOLE: bool> ColumnPanel<P, WHOLE> {
    /// The elements of each slice from `at` on: of each register, all slices.
    ///
    /// # Safety
    /// Each slice has `count` elements from `at` on, which are P registers if WHOLE, else at most one.
    #[inline(always)]
    unsafe fn load<T: Element, S: Simd, const N: usize>(
        self,
        s: S,
        x: [&[T]; N],
        at: usize,
    ) -> [[T::Vector<S>; N]; P] {
        let mut vectors = [[s.splat(T::ZERO); N]; P];
        for p in 0..P {
            for n in 0..N {
                // SAFETY: the caller's promise.
                vectors[p][n] = unsafe {
                    let from = x[n].as_ptr().add(at + p * T::LANES);
                    if WHOLE {
                        T::Vector::load_ptr(s, from)
                    } else {
                        T::Vector::load_ptr_partial(s, from, self.count)
                    }
                };
            }
        }
        vectors
    }

    /// Writes the elements of `y` from `at` on.
    ///
    /// # Safety
    /// As [`load`](ColumnPanel::load).
    #[inline(always)]
    unsafe fn store<T: Element, S: Simd>(self, vector: T::Vector<S>, p: usize, y: &mut [T], at: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let to = y.as_mut_ptr().add(at + p * T::LANES);
            if WHOLE { vector.store_ptr(to) } else { vector.store_ptr_partial(to, self.count) }
        }
    }

    /// Adds K sums down the rows to those from `at` on in each of the K parts of `sums`; there the `params`
    /// are, too.
    ///
    /// # Safety
    /// The columns are in each row of `x` (whole `rows`, by their elements) and, from `at` on, in `params`
    /// and the parts of `sums`.
    #[inline(always)]
    unsafe fn sum<T: Element, S: Simd, const N: usize, const M: usize, const K: usize>(
        self,
        s: S,
        x: [&[T]; N],
        cols: usize,
        rows: Range<usize>,
        params: [&[T]; M],
        sums: &mut [T],
        at: usize,
        step: &impl Fn([T::Vector<S>; K], [T::Vector<S>; N], [T::Vector<S>; M]) -> [T::Vector<S>; K],
    ) {
        let width = sums.len() / K;
        // SAFETY: the caller's promise.
        unsafe {
            let params = self.load(s, params, at);
            let mut acc = [[s.splat(T::ZERO); K]; P];
            for k in 0..K {
                let sums = self.load(s, [&*sums], k * width + at);
                for p in 0..P {
                    acc[p][k] = sums[p][0];
                }
            }
            let mut row = rows.start;
            while row < rows.end {
                let vectors = self.load(s, x, row + self.column);
                for p in 0..P {
                    acc[p] = step(acc[p], vectors[p], params[p]);
                }
                row += cols;
            }
            for k in 0..K {
                for p in 0..P {
                    self.store::<T, S>(acc[p][k], p, sums, k * width + at);
                }
            }
        }
    }

    /// `y = f(x, params)` in each row.
    ///
    /// # Safety
    /// The columns are in `params` and in each row of `x` and `y` (whole `rows`, by their elements).
    #[inline(always)]
    unsafe fn map<T: Element, S: Simd, const N: usize, const M: usize>(
        self,
        s: S,
        x: [&[T]; N],
        cols: usize,
        rows: Range<usize>,
        params: [&[T]; M],
        y: &mut [T],
        f: &impl Fn([T::Vector<S>; N], [T::Vector<S>; M]) -> T::Vector<S>,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let params = self.load(s, params, self.column);
            let mut row = rows.start;
            while row < rows.end {
                let vectors = self.load(s, x, row + self.column);
                for p in 0..P {
                    self.store::<T, S>(f(vectors[p], params[p]), p, y, row + self.column);
                }
                row += cols;
            }
        }
    }
}
