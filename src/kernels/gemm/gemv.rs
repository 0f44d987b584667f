//! One row: a vector times a matrix, which is read once, in the order in which it lies in memory.
//!
//! Within a block of KC, lane p of a register sums the products with k ≡ p (mod lanes), in ascending order, and the
//! lanes are added in the tree of [`Float::reduce_add`]: so that columns of B that lie side by side need no transpose.

use std::ops::Range;

use super::tile::EightRows;
use super::{KC, MatRef, PackedB, Product, Right, pieces};
use crate::buffer::Scratch;
use crate::simd::{Element, Float, Kernel, Simd};

/// Columns whose sums are computed together, one row of them per lane: they stay in the first-level cache.
const COLUMNS: usize = 1024;
/// The most lanes that a register has.
const LANES: usize = 16;
/// Rows of B between two uses of the same sum.
const ROWS: usize = 4;
/// Lanes whose sums stay in registers together.
const GROUP: usize = 4;
/// Registers of columns up to which this is done.
const FEW: usize = 4;
/// Columns of B that are read side by side, where they lie side by side in memory.
const STREAMS: usize = 6;
/// Elements of such columns whose sums are finished together.
const SPAN: usize = 64 * KC;

/// Some columns of a product with one row.
pub(super) struct VectorMatrix<'a, T: Element> {
    pub product: &'a Product<'a, T>,
    pub cols: Range<usize>,
}

impl<T: Element> Kernel for VectorMatrix<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { product, cols } = self;
        let k = product.a.cols();
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
        match &product.b {
            Right::Packed(packed) => panels(s, product, packed, a, cols.clone()),
            Right::Matrix(b) if b.row_stride() == 1 && b.col_stride() != 1 => {
                dots(s, product, b, a, cols.clone());
            }
            Right::Matrix(b) => rows(s, product, b, a, cols.clone()),
        }
        // SAFETY: these columns lie inside C and what the epilogue reads.
        unsafe { product.epilogue.finish(s, &product.c, 0..1, cols) };
    }
}

/// Writes the sums of the block of k that is `depth` to C, from column `first` on.
#[inline(always)]
fn finish<S: Simd, T: Element>(
    s: S,
    product: &Product<'_, T>,
    depth: &Range<usize>,
    first: usize,
    sums: &[T],
) {
    for (i, sums) in sums.chunks(T::LANES).enumerate() {
        let col = first + i * T::LANES;
        let finish = product.finish(depth.start == 0, depth.end == product.a.cols(), 0, col);
        // SAFETY: these columns lie inside C and the biases.
        unsafe { finish.store(s, [[s.load_partial(sums)]], product.c.at(0, col), sums.len()) };
    }
}

/// The blocks of k in this range, one empty one if it is empty.
#[inline(always)]
fn blocks(k: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = k.end;
    pieces(k.start..k.end.max(k.start + 1), KC).map(move |block| block.start..block.end.min(end))
}

/// B is packed.
#[inline(always)]
fn panels<S: Simd, T: Element>(
    s: S,
    product: &Product<'_, T>,
    packed: &PackedB<T>,
    a: &[T],
    cols: Range<usize>,
) {
    let mut sums = [T::ZERO; COLUMNS];
    for cols in pieces(cols, packed.width * T::LANES) {
        let sums = &mut sums[..cols.len()];
        for depth in blocks(0..a.len()) {
            let (from, stride) = packed.panel(depth.start, cols.start);
            // SAFETY: these rows of the panel exist, in whole registers.
            unsafe { narrow(s, &a[depth.clone()], from, stride, true, sums) };
            finish(s, product, &depth, cols.start, sums);
        }
    }
}

/// Rows of B lie side by side, or nothing does.
#[inline(always)]
fn rows<S: Simd, T: Element>(s: S, product: &Product<'_, T>, b: &MatRef<'_, T>, a: &[T], cols: Range<usize>) {
    let few = b.col_stride() == 1 && cols.len() <= FEW * T::LANES;
    let mut sums = [T::ZERO; COLUMNS];
    let mut lanes = (!few).then(|| Scratch::new(T::LANES * COLUMNS));
    for cols in pieces(cols, COLUMNS) {
        let sums = &mut sums[..cols.len()];
        for depth in blocks(0..a.len()) {
            let (a, from) = (&a[depth.clone()], b.at(depth.start, cols.start));
            // SAFETY: the elements of `a` stand for rows `depth` of B, those of `sums` for its columns.
            unsafe {
                match &mut lanes {
                    Some(lanes) => lane_by_lane(s, a, b, depth.start, cols.start, lanes, sums),
                    None => narrow(s, a, from, b.row_stride(), false, sums),
                }
            }
            finish(s, product, &depth, cols.start, sums);
        }
    }
}

/// Some of the rows of one lane at a time are added to its sums.
///
/// # Safety
/// As many rows of B as `a` has elements, from `start` on, and as many columns as `sums` has, from `col` on, exist.
#[inline(always)]
unsafe fn lane_by_lane<S: Simd, T: Element>(
    s: S,
    a: &[T],
    b: &MatRef<'_, T>,
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
            let (a, fresh, sums) = (&a[k..], k == lane, &mut *sums_of_lane);
            let from = b.at(start + k, col);
            if b.col_stride() != 1 {
                for (j, x) in row[..sums.len()].iter_mut().enumerate() {
                    // SAFETY: the caller's promise.
                    *x = unsafe { *from.wrapping_offset((j as isize).wrapping_mul(b.col_stride())) };
                }
                // SAFETY: the copy is as long as the sums.
                s.run(unsafe { AddRows::<T, 1>::new(a, row.as_ptr(), 0, fresh, sums) });
                k += T::LANES;
            } else if rows >= ROWS {
                let stride = (T::LANES as isize).wrapping_mul(b.row_stride());
                // SAFETY: the caller's promise.
                s.run(unsafe { AddRows::<T, ROWS>::new(a, from, stride, fresh, sums) });
                k += ROWS * T::LANES;
            } else {
                // SAFETY: the caller's promise.
                s.run(unsafe { AddRows::<T, 1>::new(a, from, 0, fresh, sums) });
                k += T::LANES;
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
struct AddRows<'a, T, const N: usize> {
    /// The factors, a register's worth of elements apart.
    a: &'a [T],
    /// The first row.
    from: *const T,
    /// From one row to the next.
    stride: isize,
    fresh: bool,
    sums: &'a mut [T],
}

impl<'a, T, const N: usize> AddRows<'a, T, N> {
    /// # Safety
    /// `N` rows from `from` on, `stride` elements apart, are as long as the sums.
    #[inline(always)]
    unsafe fn new(a: &'a [T], from: *const T, stride: isize, fresh: bool, sums: &'a mut [T]) -> Self {
        Self { a, from, stride, fresh, sums }
    }
}

impl<T: Element, const N: usize> Kernel for AddRows<'_, T, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { a, mut from, stride, fresh, sums } = self;
        let mut factors = [s.splat(T::ZERO); N];
        for (i, factor) in factors.iter_mut().enumerate() {
            *factor = s.splat(a[i * T::LANES]);
        }
        let rows = EightRows::new::<T>(stride);
        let mut registers = sums.chunks_exact_mut(T::LANES);
        for register in &mut registers {
            let mut sum = if fresh { s.splat(T::ZERO) } else { s.load(register) };
            for (i, factor) in factors.iter().enumerate() {
                // SAFETY: promised to `new`.
                sum = factor.mul_add(unsafe { T::Vector::load_ptr(s, rows.at(from, i)) }, sum);
            }
            s.store(sum, register);
            from = from.wrapping_add(T::LANES);
        }
        let rest = registers.into_remainder();
        if !rest.is_empty() {
            let mut sum = if fresh { s.splat(T::ZERO) } else { s.load_partial(rest) };
            for (i, factor) in factors.iter().enumerate() {
                // SAFETY: promised to `new`.
                let row = unsafe { T::Vector::load_ptr_partial(s, rows.at(from, i), rest.len()) };
                sum = factor.mul_add(row, sum);
            }
            s.store_partial(sum, rest);
        }
    }
}

/// A few columns whose rows lie side by side: register by register, some lanes of all rows after others. Whole registers
/// can be read if `padded`.
///
/// # Safety
/// As many rows as `a` has elements, `stride` elements apart, have as many elements as `sums`, or whole registers.
#[inline(always)]
unsafe fn narrow<S: Simd, T: Element>(
    s: S,
    a: &[T],
    from: *const T,
    stride: isize,
    padded: bool,
    sums: &mut [T],
) {
    for (i, sums) in sums.chunks_mut(T::LANES).enumerate() {
        let from = from.wrapping_add(i * T::LANES);
        let mut lanes = [s.splat(T::ZERO); LANES];
        for (group, lanes) in lanes[..T::LANES].chunks_exact_mut(GROUP).enumerate() {
            let (skipped, from) =
                (group * GROUP, from.wrapping_offset(((group * GROUP) as isize).wrapping_mul(stride)));
            let rows = a.get(skipped..).unwrap_or_default();
            // SAFETY: the caller's promise.
            let sums = unsafe {
                if padded || sums.len() == T::LANES {
                    group_of_lanes::<S, T, true>(s, rows, from, stride, T::LANES)
                } else {
                    group_of_lanes::<S, T, false>(s, rows, from, stride, sums.len())
                }
            };
            lanes.copy_from_slice(&sums);
        }
        s.store_partial(add_lanes::<S, T>(lanes), sums);
    }
}

/// The sums of the first few lanes of a register's worth of rows, over all of them.
///
/// # Safety
/// As for [`narrow`]; `count` elements of each row, or whole registers if `WHOLE`.
#[inline(always)]
unsafe fn group_of_lanes<S: Simd, T: Element, const WHOLE: bool>(
    s: S,
    a: &[T],
    mut from: *const T,
    stride: isize,
    count: usize,
) -> [T::Vector<S>; GROUP] {
    let rows = EightRows::new::<T>(stride);
    let mut lanes = [s.splat(T::ZERO); GROUP];
    let load = |from: *const T| {
        // SAFETY: the caller's promise.
        unsafe {
            if WHOLE { T::Vector::load_ptr(s, from) } else { T::Vector::load_ptr_partial(s, from, count) }
        }
    };
    for a in a.chunks(T::LANES) {
        if let Some(a) = a.first_chunk::<GROUP>() {
            for (i, (lane, &a)) in lanes.iter_mut().zip(a).enumerate() {
                *lane = s.splat(a).mul_add(load(rows.at(from, i)), *lane);
            }
        } else {
            for (i, (lane, &a)) in lanes.iter_mut().zip(a).enumerate() {
                *lane = s.splat(a).mul_add(load(rows.at(from, i)), *lane);
            }
        }
        from = from.wrapping_offset((T::LANES as isize).wrapping_mul(stride));
    }
    lanes
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

/// Columns of B lie side by side: some of them are read at the same time, from end to end.
#[inline(always)]
fn dots<S: Simd, T: Element>(s: S, product: &Product<'_, T>, b: &MatRef<'_, T>, a: &[T], cols: Range<usize>) {
    let mut sums = [T::ZERO; COLUMNS];
    for span in pieces(0..a.len().max(1), SPAN).map(|span| span.start..span.end.min(a.len())) {
        // The sums of one block of k after the other.
        for cols in pieces(cols.clone(), COLUMNS / span.len().div_ceil(KC).max(1)) {
            let width = cols.len();
            let mut done = 0;
            while done < width {
                macro_rules! streams {
                    ($n:literal) => {{
                        for (block, depth) in blocks(span.clone()).enumerate() {
                            let from = b.at(depth.start, cols.start + done);
                            let sums = &mut sums[block * width + done..];
                            // SAFETY: these columns of B, and its rows `depth`, exist.
                            unsafe { streams::<S, T, $n>(s, &a[depth], from, b.col_stride(), sums) };
                        }
                        $n
                    }};
                }
                done += match width - done {
                    STREAMS.. => streams!(6),
                    4.. => streams!(4),
                    2.. => streams!(2),
                    _ => streams!(1),
                };
            }
            for (block, depth) in blocks(span.clone()).enumerate() {
                finish(s, product, &depth, cols.start, &sums[block * width..][..width]);
            }
        }
    }
}

/// The sums of `N` columns.
///
/// # Safety
/// `N` columns, `stride` elements apart, have as many elements as `a`.
#[inline(always)]
unsafe fn streams<S: Simd, T: Element, const N: usize>(
    s: S,
    a: &[T],
    from: *const T,
    stride: isize,
    sums: &mut [T],
) {
    let mut registers = [s.splat(T::ZERO); N];
    let columns = EightRows::new::<T>(stride);
    let mut chunks = a.chunks_exact(T::LANES);
    let mut at = from;
    for a in &mut chunks {
        let a = s.load(a);
        for (i, sum) in registers.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *sum = a.mul_add(unsafe { T::Vector::load_ptr(s, columns.at(at, i)) }, *sum);
        }
        at = at.wrapping_add(T::LANES);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let a = s.load_partial_or(rest, -T::ZERO);
        for (i, sum) in registers.iter_mut().enumerate() {
            // SAFETY: the caller's promise; the lanes after them add −0, which changes nothing.
            let column = unsafe { T::Vector::load_ptr_partial(s, columns.at(at, i), rest.len()) };
            *sum = a.mul_add(column, *sum);
        }
    }
    for (register, sum) in registers.into_iter().zip(sums) {
        *sum = register.reduce_add();
    }
}
