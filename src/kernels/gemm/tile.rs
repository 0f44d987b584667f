//! The microkernel: one tile of C in registers, one pass over k.

use crate::simd::{Element, Float, Simd};

/// Rows of A as the tile reads them: element (i, p) lies at `start + i · row_stride + p · col_stride`.
#[derive(Clone, Copy)]
pub(super) struct ARows<T> {
    pub start: *const T,
    pub row_stride: isize,
    pub col_stride: isize,
}

/// A panel of B: row p lies at `start + p · row_stride`, columns side by side. In its last register the first `tail`
/// lanes exist; when `PADDED` the others can be read too.
#[derive(Clone, Copy)]
pub(super) struct BPanel<T> {
    pub start: *const T,
    pub row_stride: isize,
    pub tail: usize,
}

/// What becomes of the sums: `C ← alpha · sums + beta · C + bias`.
#[derive(Clone, Copy)]
pub(super) struct Finish<T> {
    pub alpha: T,
    /// Zero does not read C.
    pub beta: T,
    /// One element per column, from the tile's first, or null.
    pub col_bias: *const T,
    /// One element per row, from the tile's first, or null.
    pub row_bias: *const T,
}

/// C as the tile writes it: columns side by side.
#[derive(Clone, Copy)]
pub(super) struct CTile<T> {
    pub start: *mut T,
    pub row_stride: isize,
}

/// `M` rows by `N` registers of C: `C ← alpha · (A · B) + beta · C + bias`, where each sum is a chain of `k` fused
/// multiply-adds from zero, in ascending order, whatever the tile.
///
/// # Safety
/// `M` rows and `k` columns of A, `k` rows and `N` registers of B (the last one whole if `PADDED`, else its first
/// `tail` lanes), and the same rows and columns of C and of the biases exist.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, T: Element, const M: usize, const N: usize, const PADDED: bool>(
    s: S,
    k: usize,
    a: ARows<T>,
    b: BPanel<T>,
    finish: Finish<T>,
    c: CTile<T>,
) {
    // SAFETY: all pointers stay within what the caller promises.
    unsafe {
        let mut sums = [[s.splat(T::ZERO); N]; M];
        let (mut a_col, mut b_row) = (a.start, b.start);
        for _ in 0..k {
            let mut b_registers = [s.splat(T::ZERO); N];
            for (j, register) in b_registers.iter_mut().enumerate() {
                let from = b_row.wrapping_add(j * T::LANES);
                *register = if PADDED || j + 1 < N {
                    T::Vector::load_ptr(s, from)
                } else {
                    T::Vector::load_ptr_partial(s, from, b.tail)
                };
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                let a = s.splat(*a_col.wrapping_offset(i as isize * a.row_stride));
                for (sum, &b) in sums.iter_mut().zip(&b_registers) {
                    *sum = a.mul_add(b, *sum);
                }
            }
            a_col = a_col.wrapping_offset(a.col_stride);
            b_row = b_row.wrapping_offset(b.row_stride);
        }

        let alpha = s.splat(finish.alpha);
        for (i, sums) in sums.iter().enumerate() {
            let c_row = c.start.wrapping_offset(i as isize * c.row_stride);
            for (j, &sum) in sums.iter().enumerate() {
                let to = c_row.wrapping_add(j * T::LANES);
                let whole = j + 1 < N || b.tail == T::LANES;
                let load = |from: *const T| {
                    if whole {
                        T::Vector::load_ptr(s, from)
                    } else {
                        T::Vector::load_ptr_partial(s, from, b.tail)
                    }
                };
                let mut value = if finish.beta == T::ZERO {
                    sum * alpha
                } else {
                    sum.mul_add(alpha, load(to) * s.splat(finish.beta))
                };
                if !finish.col_bias.is_null() {
                    value = value + load(finish.col_bias.wrapping_add(j * T::LANES));
                }
                if !finish.row_bias.is_null() {
                    value = value + s.splat(*finish.row_bias.wrapping_add(i));
                }
                if whole { value.store_ptr(to) } else { value.store_ptr_partial(to, b.tail) }
            }
        }
    }
}
