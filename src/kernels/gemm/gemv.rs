//! One row: a vector times a matrix, which is read once, in the order in which it lies in memory.
//!
//! Its sums are those of the tiles: within a block of KC, chains of multiply-adds in ascending k, so that a
//! row has the same bits alone as among others. Where rows of B lie side by side, the sums of many columns
//! wait in the first-level cache, or those of few in registers. Where columns do, squares of registers are
//! transposed. A chain waits for itself; several run side by side: those of other columns or, where these are
//! too few, of other blocks of k.

use std::ops::Range;

use super::tile::EightRows;
use super::{KC, MatRef, PackedB, Product, Right, pieces};
use crate::buffer::Scratch;
use crate::simd::{Element, Float, Kernel, Simd};

/// Columns whose sums are computed together: they stay in the first-level cache.
const COLUMNS: usize = 1024;
/// The most lanes that a register has.
const LANES: usize = 16;
/// Rows of B between two uses of the same sum.
const ROWS: usize = 4;
/// Registers of columns whose sums stay in registers.
const FEW: usize = 8;

/// How many lines ahead columns of B that lie side by side are prefetched.
const AHEAD: usize = 8;

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
            Right::Matrix(b) if b.row_stride() == 1 && b.col_stride() > 1 && cols.len() > 1 => {
                columns(s, product, b, a, cols.clone());
            }
            Right::Matrix(b) => rows(s, product, b, a, cols.clone()),
            // Panels of patches are packed, also for one row.
            Right::Patches(_) => {}
        }
        // SAFETY: these columns lie inside C and what the epilogue reads.
        unsafe { product.epilogue.finish(s, &product.c, 0..1, cols) };
    }
}

/// The blocks of k, one empty one if there is none.
#[inline(always)]
fn blocks(k: usize) -> impl Iterator<Item = Range<usize>> {
    pieces(0..k.max(1), KC).map(move |block| block.start..block.end.min(k))
}

/// Writes the sums of the block of k that is `depth` to C: a register of them, from this column on, of which
/// `count` exist.
///
/// # Safety
/// These columns lie inside C and the biases.
#[inline(always)]
unsafe fn finish<S: Simd, T: Element>(
    s: S,
    product: &Product<'_, T>,
    depth: &Range<usize>,
    col: usize,
    sums: T::Vector<S>,
    count: usize,
) {
    let finish = product.finish(depth.start == 0, depth.end == product.a.cols(), 0, col);
    // SAFETY: the caller's promise.
    unsafe { finish.store(s, [[sums]], product.c.at(0, col), count) };
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
    let panel = packed.width * T::LANES;
    // Of panels of one register, some side by side.
    let at_once = if packed.width == 1 { 4 } else { 1 };
    for cols in pieces(cols, at_once * panel) {
        let (from, row_stride) = packed.panel(0, cols.start);
        let register_stride = if packed.width == 1 { packed.rows() * T::LANES } else { T::LANES };
        // SAFETY: all rows of the panels exist, in whole registers.
        unsafe { narrow::<S, T, true>(s, product, a, from, [row_stride, register_stride as isize], cols) };
    }
}

/// Rows of B lie side by side, or nothing does.
#[inline(always)]
fn rows<S: Simd, T: Element>(s: S, product: &Product<'_, T>, b: &MatRef<'_, T>, a: &[T], cols: Range<usize>) {
    if cols.len() == 1 || b.col_stride() == 1 && cols.len() <= FEW * T::LANES {
        let (from, strides) = (b.at(0, cols.start), [b.row_stride(), T::LANES as isize]);
        // SAFETY: these columns exist.
        return unsafe { narrow::<S, T, false>(s, product, a, from, strides, cols) };
    }
    let (mut sums, mut copy) = ([T::ZERO; COLUMNS], [T::ZERO; COLUMNS]);
    for cols in pieces(cols, COLUMNS) {
        let sums = &mut sums[..cols.len()];
        for depth in blocks(a.len()) {
            sums.fill(T::ZERO);
            let mut k = depth.start;
            while k < depth.end {
                let from = b.at(k, cols.start);
                if b.col_stride() != 1 {
                    for (j, x) in copy[..cols.len()].iter_mut().enumerate() {
                        // SAFETY: an element of this row.
                        *x = unsafe { *from.wrapping_offset((j as isize).wrapping_mul(b.col_stride())) };
                    }
                    // SAFETY: the copy is as long as the sums.
                    s.run(unsafe { AddRows::<T, 1>::new(&a[k..], copy.as_ptr(), 0, sums) });
                    k += 1;
                } else if depth.end - k >= ROWS {
                    // SAFETY: these rows and columns exist.
                    s.run(unsafe { AddRows::<T, ROWS>::new(&a[k..], from, b.row_stride(), sums) });
                    k += ROWS;
                } else {
                    // SAFETY: as above.
                    s.run(unsafe { AddRows::<T, 1>::new(&a[k..], from, 0, sums) });
                    k += 1;
                }
            }
            for (i, sums) in sums.chunks(T::LANES).enumerate() {
                // SAFETY: these columns exist.
                unsafe {
                    let col = cols.start + i * T::LANES;
                    finish(s, product, &depth, col, s.load_partial(sums), sums.len());
                }
            }
        }
    }
}

/// Adds `N` rows to the sums.
struct AddRows<'a, T, const N: usize> {
    /// The factors.
    a: &'a [T],
    /// The first row.
    from: *const T,
    /// From one row to the next.
    stride: isize,
    sums: &'a mut [T],
}

impl<'a, T, const N: usize> AddRows<'a, T, N> {
    /// # Safety
    /// `N` rows from `from` on, `stride` elements apart, are as long as the sums.
    #[inline(always)]
    unsafe fn new(a: &'a [T], from: *const T, stride: isize, sums: &'a mut [T]) -> Self {
        Self { a, from, stride, sums }
    }
}

impl<T: Element, const N: usize> Kernel for AddRows<'_, T, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { a, mut from, stride, sums } = self;
        let mut factors = [s.splat(T::ZERO); N];
        for (factor, &a) in factors.iter_mut().zip(&a[..N]) {
            *factor = s.splat(a);
        }
        let rows = EightRows::new::<T>(stride);
        let mut registers = sums.chunks_exact_mut(T::LANES);
        for register in &mut registers {
            let mut sum = s.load(register);
            for (i, factor) in factors.iter().enumerate() {
                // SAFETY: promised to `new`.
                sum = factor.mul_add(unsafe { T::Vector::load_ptr(s, rows.at(from, i)) }, sum);
            }
            s.store(sum, register);
            from = from.wrapping_add(T::LANES);
        }
        let rest = registers.into_remainder();
        if !rest.is_empty() {
            let mut sum = s.load_partial(rest);
            for (i, factor) in factors.iter().enumerate() {
                // SAFETY: promised to `new`.
                let row = unsafe { T::Vector::load_ptr_partial(s, rows.at(from, i), rest.len()) };
                sum = factor.mul_add(row, sum);
            }
            s.store_partial(sum, rest);
        }
    }
}

/// A few columns whose rows lie side by side, one register after the other at the second of the strides:
/// their sums stay in registers. Whole registers can be read if `PADDED`.
///
/// # Safety
/// These columns of B exist, its rows at the first of the strides, and those of C.
#[inline(always)]
unsafe fn narrow<S: Simd, T: Element, const PADDED: bool>(
    s: S,
    product: &Product<'_, T>,
    a: &[T],
    from: *const T,
    strides: [isize; 2],
    cols: Range<usize>,
) {
    let registers = cols.len().div_ceil(T::LANES);
    let mut done = 0;
    while done < registers {
        let left = cols.start + done * T::LANES..cols.end;
        let from = from.wrapping_offset((done as isize).wrapping_mul(strides[1]));
        macro_rules! chains {
            ($registers:literal, $blocks:literal) => {{
                let cols = left.start..(left.start + $registers * T::LANES).min(left.end);
                let chains = Chains { product, a, from, strides, cols };
                if PADDED || chains.cols.len() == $registers * T::LANES {
                    s.run(Registers::<T, $registers, $blocks, true>(chains));
                } else {
                    s.run(Registers::<T, $registers, $blocks, false>(chains));
                }
                $registers
            }};
        }
        // As many chains as hide the latency of a multiply-add; where a register is of several parts, each is
        // a chain.
        done += if const { S::FILE.is_whole() } {
            match registers - done {
                8.. => chains!(8, 1),
                4.. => chains!(4, 2),
                2.. => chains!(2, 4),
                _ => chains!(1, 4),
            }
        } else {
            match registers - done {
                4.. => chains!(4, 1),
                2.. => chains!(2, 2),
                _ => chains!(1, 4),
            }
        };
    }
}

/// Some columns of B, as for [`narrow`].
struct Chains<'a, T: Element> {
    product: &'a Product<'a, T>,
    a: &'a [T],
    from: *const T,
    strides: [isize; 2],
    cols: Range<usize>,
}

/// The sums of `R` registers of columns in up to `B` blocks of k at the same time. If `WHOLE`, the last
/// register can be read.
struct Registers<'a, T: Element, const R: usize, const B: usize, const WHOLE: bool>(Chains<'a, T>);

impl<T: Element, const R: usize, const B: usize, const WHOLE: bool> Kernel for Registers<'_, T, R, B, WHOLE> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let k = self.0.a.len();
        for start in (0..k.max(1)).step_by(B * KC) {
            // SAFETY: the promise of `narrow`.
            unsafe { self.some(s, start..(start + B * KC).min(k)) };
        }
    }
}

impl<T: Element, const R: usize, const B: usize, const WHOLE: bool> Registers<'_, T, R, B, WHOLE> {
    /// Up to `B` blocks of k, the last of which may be shorter.
    ///
    /// # Safety
    /// As for [`narrow`].
    #[inline(always)]
    unsafe fn some<S: Simd>(&self, s: S, k: Range<usize>) {
        let Chains { product, a, from, strides: [row_stride, _], ref cols } = self.0;
        let blocks = k.len().div_ceil(KC).max(1);
        let shortest = k.len() - (blocks - 1) * KC;
        let mut at = At {
            row: from.wrapping_offset((k.start as isize).wrapping_mul(row_stride)),
            factor: a[k.start..].as_ptr(),
        };
        let mut sums = [[s.splat(T::ZERO); R]; B];
        // Until the last block ends, and then the others.
        for (blocks, len) in [(blocks, shortest), (blocks - 1, k.len().min(KC) - shortest)] {
            // SAFETY: that many blocks have as many rows and factors.
            unsafe {
                match blocks {
                    0 => {}
                    1 => self.advance::<S, 1>(s, &mut at, len, &mut sums),
                    2 => self.advance::<S, 2>(s, &mut at, len, &mut sums),
                    3 => self.advance::<S, 3>(s, &mut at, len, &mut sums),
                    _ => self.advance::<S, 4>(s, &mut at, len, &mut sums),
                }
            }
        }
        for (block, sums) in sums.into_iter().take(blocks).enumerate() {
            let start = k.start + block * KC;
            let depth = start..(start + KC).min(k.end);
            for (j, sums) in sums.into_iter().enumerate() {
                let count = (cols.len() - j * T::LANES).min(T::LANES);
                // SAFETY: these columns exist.
                unsafe { finish(s, product, &depth, cols.start + j * T::LANES, sums, count) };
            }
        }
    }

    /// The next `len` terms of the sums in the first `N` blocks, if there are as many.
    ///
    /// # Safety
    /// From `at` on, `N` blocks have `len` more rows and factors, and the caller's promise.
    #[inline(always)]
    unsafe fn advance<S: Simd, const N: usize>(
        &self,
        s: S,
        at: &mut At<T>,
        len: usize,
        sums: &mut [[T::Vector<S>; R]; B],
    ) {
        if N > B {
            return;
        }
        let Chains { strides: [row_stride, register_stride], ref cols, .. } = self.0;
        let tail = cols.len() - (R - 1) * T::LANES;
        let block_stride = row_stride.wrapping_mul(KC as isize);
        for _ in 0..len {
            for (block, sums) in sums.iter_mut().take(N).enumerate() {
                // SAFETY: promised.
                unsafe {
                    let factor = s.splat(*at.factor.add(block * KC));
                    let row = at.row.wrapping_offset((block as isize).wrapping_mul(block_stride));
                    for (j, sum) in sums.iter_mut().enumerate() {
                        let at = row.wrapping_offset((j as isize).wrapping_mul(register_stride));
                        let b = if WHOLE || j + 1 < R {
                            T::Vector::load_ptr(s, at)
                        } else {
                            T::Vector::load_ptr_partial(s, at, tail)
                        };
                        *sum = factor.mul_add(b, *sum);
                    }
                }
            }
            *at = At { row: at.row.wrapping_offset(row_stride), factor: at.factor.wrapping_add(1) };
        }
    }
}

/// The next row and factor of the first of some blocks of k.
struct At<T> {
    row: *const T,
    factor: *const T,
}

/// Columns of B lie side by side: some registers' worth of them are read at the same time, from end to end.
#[inline(always)]
fn columns<S: Simd, T: Element>(
    s: S,
    product: &Product<'_, T>,
    b: &MatRef<'_, T>,
    a: &[T],
    cols: Range<usize>,
) {
    let (k, stride) = (a.len(), b.col_stride() as usize);
    let far = k.saturating_mul(b.cols()).saturating_mul(size_of::<T>()) > super::NEAR;
    let mut done = cols.start;
    macro_rules! columns_at_once {
        ($n:literal) => {
            while cols.end - done > ($n - 1) * T::LANES {
                let starts: [usize; $n] = std::array::from_fn(|n| done + n * T::LANES);
                let counts = starts.map(|start| (cols.end - start).min(T::LANES));
                for depth in blocks(k) {
                    let (a, from) = (&a[depth.clone()], starts.map(|col| b.at(depth.start, col)));
                    // SAFETY: these rows and columns exist.
                    unsafe {
                        let sums = Squares { a: [a; $n], from, counts, stride, far }.sums(s);
                        for ((start, sums), count) in starts.into_iter().zip(sums).zip(counts) {
                            finish(s, product, &depth, start, sums, count);
                        }
                    }
                }
                done += counts.iter().sum::<usize>();
            }
        };
    }
    columns_at_once!(2);
    if done == cols.end {
        return;
    }
    // One register of columns: several blocks of k instead.
    let count = cols.end - done;
    let mut start = 0;
    macro_rules! side_by_side {
        ($n:literal) => {{
            while start + $n * KC <= k {
                let depths: [_; $n] = std::array::from_fn(|i| start + i * KC..start + (i + 1) * KC);
                // SAFETY: these rows and columns exist.
                unsafe {
                    let factors = depths.clone().map(|depth| &a[depth]);
                    let from = depths.clone().map(|depth| b.at(depth.start, done));
                    let sums = Squares { a: factors, from, counts: [count; $n], stride, far }.sums(s);
                    for (depth, sums) in depths.iter().zip(sums) {
                        finish(s, product, depth, done, sums, count);
                    }
                }
                start += $n * KC;
            }
        }};
    }
    side_by_side!(4);
    side_by_side!(2);
    for depth in pieces(start..k.max(start + usize::from(k == 0)), KC) {
        let depth = depth.start..depth.end.min(k);
        // SAFETY: as above.
        unsafe {
            let (a, from) = ([&a[depth.clone()]], [b.at(depth.start, done)]);
            let [sums] = Squares { a, from, counts: [count], stride, far }.sums(s);
            finish(s, product, &depth, done, sums, count);
        }
    }
}

/// `N` times up to a register's worth of columns, each `stride` elements from the next, and as many factors
/// as each has elements: as many for all.
struct Squares<'a, T, const N: usize> {
    a: [&'a [T]; N],
    from: [*const T; N],
    counts: [usize; N],
    stride: usize,
    /// Whether the columns may be in no near cache.
    far: bool,
}

impl<T: Element, const N: usize> Squares<'_, T, N> {
    /// The sums over the columns.
    ///
    /// # Safety
    /// The columns exist; there is no `count` of 0.
    #[inline(always)]
    unsafe fn sums<S: Simd>(self, s: S) -> [T::Vector<S>; N] {
        let Self { a, from, counts, stride, far } = self;
        let len = a[0].len();
        let mut sums = [s.splat(T::ZERO); N];
        let whole = len - len % T::LANES;
        for k in (0..whole).step_by(T::LANES) {
            for (n, sum) in sums.iter_mut().enumerate() {
                let from = from[n].wrapping_add(k);
                if far {
                    for i in 0..T::LANES {
                        // Where columns lie pages apart, those of a square share one set of the first-level
                        // cache.
                        s.prefetch_far(
                            from.wrapping_add(i.wrapping_mul(stride).wrapping_add(AHEAD * T::LANES)),
                        );
                    }
                }
                // SAFETY: the caller's promise; a register of factors and of each column is left.
                *sum = unsafe { sum.mul_add_square(s, a[n].as_ptr().add(k), from, stride, counts[n]) };
            }
        }
        // What is left, element by element.
        let mut row = [T::ZERO; LANES];
        for (k, _) in a[0].iter().enumerate().skip(whole) {
            for (n, sum) in sums.iter_mut().enumerate() {
                for (i, x) in row[..counts[n]].iter_mut().enumerate() {
                    // SAFETY: the caller's promise.
                    *x = unsafe { *from[n].add(i * stride + k) };
                }
                *sum = s.splat(a[n][k]).mul_add(s.load(&row), *sum);
            }
        }
        sums
    }
}
