//! One row: a vector times a matrix, which is read once, in the order in which it lies in memory.
//!
//! Within a block of KC, lane p of a register sums the products with k ≡ p (mod lanes), in ascending order, and the
//! lanes are added in the tree of [`Float::reduce_add`]: so that columns of B that lie side by side need no transpose.

use std::ops::Range;

use super::{KC, MatRef, Product};
use crate::buffer::Scratch;
use crate::simd::{Element, Float, Kernel, Simd};

/// Columns whose sums are computed together, one row of them per lane: they stay in the first-level cache.
const COLUMNS: usize = 512;
/// The most lanes that a register has.
const LANES: usize = 16;
/// Rows of B between two uses of the same sum.
const ROWS: usize = 8;
/// Registers of columns up to which the sums of all lanes stay in registers.
const FEW: usize = 4;
/// Columns of B that are read side by side, where they lie side by side in memory.
const STREAMS: usize = 8;

/// Some columns of a product with one row.
pub(super) struct VectorMatrix<'a, T> {
    pub product: Product<'a, T>,
    pub cols: Range<usize>,
}

impl<T: Element> Kernel for VectorMatrix<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { product, cols } = self;
        let (k, b) = (product.a.cols(), product.b);
        let mut copy = None;
        let a = if product.a.col_stride() == 1 || k <= 1 {
            // SAFETY: the elements of the row lie side by side.
            unsafe { std::slice::from_raw_parts(product.a.at(0, 0), k) }
        } else {
            let copy = copy.insert(Scratch::new(k));
            for (i, x) in copy.iter_mut().enumerate() {
                // SAFETY: inside A.
                *x = unsafe { *product.a.at(0, i) };
            }
            &**copy
        };
        let streams = b.row_stride() == 1 && b.col_stride() != 1;
        let few = b.col_stride() == 1 && cols.len() <= FEW * T::LANES;
        let width = if streams { STREAMS } else { COLUMNS };
        let mut sums = [T::ZERO; COLUMNS];
        let mut lanes = (!streams && !few).then(|| Scratch::new(T::LANES * COLUMNS));
        for first in cols.clone().step_by(width) {
            let sums = &mut sums[..(cols.end - first).min(width)];
            for start in (0..k.max(1)).step_by(KC) {
                let end = (start + KC).min(k);
                // SAFETY: the elements of `a` stand for rows `start` to `end` of B, those of `sums` for its columns.
                unsafe {
                    match &mut lanes {
                        Some(lanes) => rows(s, &a[start..end], b, start, first, lanes, sums),
                        None if streams => dots(s, &a[start..end], b.at(start, first), b.col_stride(), sums),
                        None => narrow(s, &a[start..end], b.at(start, first), b.row_stride(), sums),
                    }
                }
                for (i, sums) in sums.chunks(T::LANES).enumerate() {
                    let col = first + i * T::LANES;
                    let finish = product.finish(start == 0, end == k, 0, col);
                    // SAFETY: these columns lie inside C and the biases.
                    unsafe { finish.store(s, [[s.load_partial(sums)]], product.c.at(0, col), sums.len()) };
                }
            }
        }
    }
}

/// Rows of B lie side by side, or nothing does: some of the rows of one lane at a time are added to its sums.
#[inline(always)]
unsafe fn rows<S: Simd, T: Element>(
    s: S,
    a: &[T],
    b: MatRef<'_, T>,
    start: usize,
    col: usize,
    lanes: &mut [T],
    sums: &mut [T],
) {
    let width = sums.len().next_multiple_of(T::LANES);
    let lanes = &mut lanes[..T::LANES * width];
    let mut row = [T::ZERO; COLUMNS];
    for (lane, sums_of_lane) in lanes.chunks_exact_mut(width).enumerate() {
        let sums_of_lane = &mut sums_of_lane[..sums.len()];
        if lane >= a.len() {
            sums_of_lane.fill(T::ZERO);
        }
        let mut k = lane;
        while k < a.len() {
            let rows = (a.len() - k).div_ceil(T::LANES);
            // SAFETY: the caller's promise; a row that was copied is a whole one.
            unsafe {
                let from = b.at(start + k, col);
                if b.col_stride() != 1 {
                    for (j, x) in row[..sums.len()].iter_mut().enumerate() {
                        *x = *from.wrapping_offset(j as isize * b.col_stride());
                    }
                    add_rows::<S, T, 1>(s, &a[k..], row.as_ptr(), 0, k == lane, sums_of_lane);
                    k += T::LANES;
                } else if rows >= ROWS {
                    add_rows::<S, T, ROWS>(s, &a[k..], from, b.row_stride(), k == lane, sums_of_lane);
                    k += ROWS * T::LANES;
                } else {
                    add_rows::<S, T, 1>(s, &a[k..], from, b.row_stride(), k == lane, sums_of_lane);
                    k += T::LANES;
                }
            }
        }
    }
    for (i, sums) in sums.chunks_mut(T::LANES).enumerate() {
        let mut of_lanes = [s.splat(T::ZERO); LANES];
        for (lane, of_lane) in of_lanes[..T::LANES].iter_mut().enumerate() {
            *of_lane = s.load(&lanes[lane * width + i * T::LANES..]);
        }
        s.store_partial(add_lanes::<S, T>(of_lanes), sums);
    }
}

/// Adds `N` rows of one lane, a register's worth of rows apart, to its sums, which begin at zero if they are `fresh`.
#[inline(always)]
unsafe fn add_rows<S: Simd, T: Element, const N: usize>(
    s: S,
    a: &[T],
    from: *const T,
    stride: isize,
    fresh: bool,
    sums: &mut [T],
) {
    let mut factors = [s.splat(T::ZERO); N];
    for (i, factor) in factors.iter_mut().enumerate() {
        *factor = s.splat(a[i * T::LANES]);
    }
    let row = |i: usize, at: usize| from.wrapping_offset((i * T::LANES) as isize * stride).wrapping_add(at);
    let mut registers = sums.chunks_exact_mut(T::LANES);
    let mut at = 0;
    for register in &mut registers {
        let mut sum = if fresh { s.splat(T::ZERO) } else { s.load(register) };
        for (i, factor) in factors.iter().enumerate() {
            // SAFETY: the caller's promise.
            sum = factor.mul_add(unsafe { T::Vector::load_ptr(s, row(i, at)) }, sum);
        }
        s.store(sum, register);
        at += T::LANES;
    }
    let rest = registers.into_remainder();
    if !rest.is_empty() {
        let mut sum = if fresh { s.splat(T::ZERO) } else { s.load_partial(rest) };
        for (i, factor) in factors.iter().enumerate() {
            // SAFETY: the caller's promise.
            sum = factor.mul_add(unsafe { T::Vector::load_ptr_partial(s, row(i, at), rest.len()) }, sum);
        }
        s.store_partial(sum, rest);
    }
}

/// A few columns whose rows lie side by side: register by register, the sums of all lanes at once.
#[inline(always)]
unsafe fn narrow<S: Simd, T: Element>(s: S, a: &[T], from: *const T, stride: isize, sums: &mut [T]) {
    for (i, sums) in sums.chunks_mut(T::LANES).enumerate() {
        let mut at = from.wrapping_add(i * T::LANES);
        let mut lanes = [s.splat(T::ZERO); LANES];
        for a in a.chunks(T::LANES) {
            for (lane, &a) in lanes[..T::LANES].iter_mut().zip(a) {
                // SAFETY: the caller's promise.
                *lane = s.splat(a).mul_add(unsafe { T::Vector::load_ptr_partial(s, at, sums.len()) }, *lane);
                at = at.wrapping_offset(stride);
            }
        }
        s.store_partial(add_lanes::<S, T>(lanes), sums);
    }
}

/// The tree over lanes.
#[inline(always)]
fn add_lanes<S: Simd, T: Element>(mut lanes: [T::Vector<S>; LANES]) -> T::Vector<S> {
    let mut half = T::LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = lanes[lane] + lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Columns of B lie side by side: some of them are read at the same time.
#[inline(always)]
unsafe fn dots<S: Simd, T: Element>(s: S, a: &[T], from: *const T, stride: isize, sums: &mut [T]) {
    let mut done = 0;
    while done < sums.len() {
        let (from, sums) = (from.wrapping_offset(done as isize * stride), &mut sums[done..]);
        macro_rules! streams {
            ($n:literal) => {
                // SAFETY: the caller's promise.
                unsafe { streams::<S, T, $n>(s, a, from, stride, sums) }
            };
        }
        done += match sums.len() {
            STREAMS.. => streams!(8),
            4.. => streams!(4),
            2.. => streams!(2),
            _ => streams!(1),
        };
    }
}

/// The sums of `N` columns; returns their number.
#[inline(always)]
unsafe fn streams<S: Simd, T: Element, const N: usize>(
    s: S,
    a: &[T],
    from: *const T,
    stride: isize,
    sums: &mut [T],
) -> usize {
    let mut registers = [s.splat(T::ZERO); N];
    let mut chunks = a.chunks_exact(T::LANES);
    let mut at = from;
    for a in &mut chunks {
        let a = s.load(a);
        for (i, sum) in registers.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *sum =
                a.mul_add(unsafe { T::Vector::load_ptr(s, at.wrapping_offset(i as isize * stride)) }, *sum);
        }
        at = at.wrapping_add(T::LANES);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let a = s.load_partial(rest);
        for (i, sum) in registers.iter_mut().enumerate() {
            let from = at.wrapping_offset(i as isize * stride);
            // SAFETY: the caller's promise; the lanes after them add 0 to sums that are never −0.
            *sum = a.mul_add(unsafe { T::Vector::load_ptr_partial(s, from, rest.len()) }, *sum);
        }
    }
    for (register, sum) in registers.into_iter().zip(sums) {
        *sum = register.reduce_add();
    }
    N
}
