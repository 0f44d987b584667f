//! Matrix multiplication: `C ← alpha · A · B + beta · C + bias`.
//!
//! Blocked for the caches; A is read in place, whatever its strides, and so is B unless its columns are strided or its
//! rows far apart. A tile of C stays in registers (6 × 16 f32 with AVX2, 8 × 48 or 12 × 32 with AVX-512) while k runs.
//! [`plan()`] tells what runs for a product.
//!
//! **Rounding.** The sums run over k in blocks of [`KC`], each a chain of fused multiply-adds from zero in ascending
//! order: s₀, s₁, …. Then `C₀ = alpha·s₀ + beta·C`, `C₁ = alpha·s₁ + C₀`, … each with one multiply-add, at last the
//! bias is added. With one row or one column a block's sum is that of 16 chains (f32, 8 in f64), the i-th over the terms
//! i, i + 16, …, which are added in a tree: halves, quarters, …. Neither the tile, nor packing, strides, threads or the instruction set change a bit. The error is
//! within γₖ₊₂·(|alpha|·|A|·|B| + |beta·C| + |bias|), elementwise, with γₙ = n·u/(1 − n·u).
//!
//! NaN and infinities go through as in the formula. `beta = 0` does not read C: what is there, NaN too, is
//! overwritten. `alpha = 0` does read A and B.

mod gemv;
mod pack;
mod plan;
mod tile;
mod view;

use std::ops::Range;

use gemv::VectorMatrix;
pub use plan::{Path, Plan};
use tile::{ARows, BPanel, CTile, Finish, tile};
pub use view::{MatMut, MatRef};

use super::compiled_once;
use crate::buffer::Scratch;
use crate::context::{self, Settings};
use crate::error::{Error, Result};
use crate::parallel::{self, Indices, RowsMut};
use crate::simd::{Element, Isa, Kernel, Simd};

/// Columns of A that one pass of the microkernel runs over: a panel of B of this height and one register's width
/// (16 KiB) stays in the first-level cache. Part of the result: the sums are cut here.
pub const KC: usize = 256;
/// Rows of A that are used with one panel of B after the other: MC × KC elements stay in half of a second-level cache
/// of 512 KiB. A multiple of all tile heights.
const MC: usize = 240;
/// The same where a strip of B is so shallow that it stays in the first-level cache: C is then written row by row.
const MC_SHALLOW: usize = 24;
/// Elements of a strip of B that stay in half of a first-level cache.
const SHALLOW: usize = 4096;
/// Registers in a row of packed B, at most: NC × KC elements stay in a second-level cache.
const NC_REGISTERS: usize = 30;

/// Adds to the result, once the sums are done.
#[derive(Clone, Copy, Debug, Default)]
pub enum Bias<'a, T> {
    /// Nothing.
    #[default]
    None,
    /// `bias[j]` to column j, as a linear layer does.
    PerColumn(&'a [T]),
    /// `bias[i]` to row i.
    PerRow(&'a [T]),
}

compiled_once! {
    /// `C ← alpha · A · B + beta · C` for A of `[m, k]`, B of `[k, n]`, C of `[m, n]`, all with any strides.
    ///
    /// # Errors
    /// [`Error::Shape`] when the shapes do not fit.
    ///
    /// ```
    /// use gristmill::kernels::gemm::{MatMut, MatRef, gemm};
    /// let (a, b) = ([1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 1.0, 1.0]);
    /// let mut c = [f32::NAN; 4];
    /// let (a, b) = (MatRef::row_major(&a, 2, 2)?, MatRef::row_major(&b, 2, 2)?);
    /// gemm(1.0, a, b.t(), 0.0, MatMut::row_major(&mut c, 2, 2)?)?;
    /// assert_eq!(c, [1.0, 3.0, 3.0, 7.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn gemm<T: Element>(
        alpha: T,
        a: MatRef<'_, T>,
        b: MatRef<'_, T>,
        beta: T,
        c: MatMut<'_, T>,
    ) -> Result<()> {
        gemm_with_epilogue(alpha, a, b, beta, Bias::None, c)
    }
}

compiled_once! {
    /// [`gemm()`] with a bias that is added in the same pass: `C ← alpha · A · B + beta · C + bias`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the shapes or the length of the bias do not fit.
    pub fn gemm_with_epilogue<T: Element>(
        alpha: T,
        a: MatRef<'_, T>,
        b: MatRef<'_, T>,
        beta: T,
        bias: Bias<'_, T>,
        c: MatMut<'_, T>,
    ) -> Result<()> {
        check_shapes(&a, &b, &c)?;
        let biases = match bias {
            Bias::None => None,
            Bias::PerColumn(bias) => Some(("column", bias.len(), c.cols())),
            Bias::PerRow(bias) => Some(("row", bias.len(), c.rows())),
        };
        if let Some((place, len, expected)) = biases.filter(|&(_, len, expected)| len != expected) {
            let message = format!("the bias per {place} has {len} elements, expected {expected}");
            return Err(Error::shape("gemm", message));
        }
        let settings = context::settings()?;
        if c.rows() == 0 || c.cols() == 0 {
            return Ok(());
        }
        let transposed = is_transposed(&c);
        let (a, b, bias, c) = match bias {
            _ if !transposed => (a, b, bias, c),
            Bias::None => (b.t(), a.t(), bias, c.t()),
            Bias::PerColumn(bias) => (b.t(), a.t(), Bias::PerRow(bias), c.t()),
            Bias::PerRow(bias) => (b.t(), a.t(), Bias::PerColumn(bias), c.t()),
        };
        if c.col_stride() == 1 || c.cols() == 1 {
            multiply(settings, alpha, a, b, beta, bias, &c);
        } else {
            // No register of C can be written in place: the whole detour costs two passes over C.
            let mut scratch = Scratch::new(c.rows() * c.cols());
            let places = || (0..c.rows()).flat_map(|i| (0..c.cols()).map(move |j| (i, j)));
            if beta != T::ZERO {
                for (x, (i, j)) in scratch.iter_mut().zip(places()) {
                    // SAFETY: inside C.
                    *x = unsafe { *c.at(i, j) };
                }
            }
            let compact = MatMut::row_major(&mut scratch, c.rows(), c.cols())?;
            multiply(settings, alpha, a, b, beta, bias, &compact);
            for (&x, (i, j)) in scratch.iter().zip(places()) {
                // SAFETY: inside C, which nobody else uses.
                unsafe { *c.at(i, j) = x };
            }
        }
        Ok(())
    }
}

/// What [`gemm()`] will run for these operands in the present [`context`]: decided from shapes,
/// strides, instruction set and number of threads alone. None of it changes a bit of the result.
///
/// # Errors
/// [`Error::Shape`] when the shapes do not fit.
///
/// ```
/// use gristmill::kernels::gemm::{MatMut, MatRef, Path, plan};
/// let (a, mut c) = ([0.0_f32; 64], [0.0; 64]);
/// let a = MatRef::row_major(&a, 8, 8)?;
/// let plan = plan(&a, &a, &MatMut::row_major(&mut c, 8, 8)?)?;
/// assert_eq!((plan.path, plan.tasks, plan.flops), (Path::InPlace, 1, 1024));
/// println!("{plan}");
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn plan<T: Element>(a: &MatRef<'_, T>, b: &MatRef<'_, T>, c: &MatMut<'_, T>) -> Result<Plan> {
    check_shapes(a, b, c)?;
    let settings = context::settings()?;
    let transposed = is_transposed(c);
    let (a, b) = if transposed { (b.t(), a.t()) } else { (*a, *b) };
    let mut plan = Plan::new(settings, [a.rows(), a.cols(), b.cols()], &b);
    plan.transposed = transposed;
    Ok(plan)
}

fn check_shapes<T>(a: &MatRef<'_, T>, b: &MatRef<'_, T>, c: &MatMut<'_, T>) -> Result<()> {
    if a.cols() == b.rows() && c.rows() == a.rows() && c.cols() == b.cols() {
        return Ok(());
    }
    let message = format!("shapes do not fit: {:?} × {:?} to {:?}", a.shape(), b.shape(), c.shape());
    Err(Error::shape("gemm", message))
}

/// Whether the transposed problem has the columns of C side by side, or is a vector times a matrix.
fn is_transposed<T>(c: &MatMut<'_, T>) -> bool {
    c.rows() > 1 && (c.cols() == 1 || c.col_stride() != 1 && c.row_stride() == 1)
}

/// A product whose C has its columns side by side.
#[derive(Clone, Copy)]
struct Product<'a, T> {
    alpha: T,
    a: MatRef<'a, T>,
    b: MatRef<'a, T>,
    beta: T,
    bias: Bias<'a, T>,
    c: CTile<T>,
}

// SAFETY: tasks write different elements of C, which the caller of the product borrows exclusively.
unsafe impl<T: Element> Sync for Product<'_, T> {}

/// [`gemm_with_epilogue`] for C with columns side by side.
fn multiply<T: Element>(
    settings: Settings,
    alpha: T,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    beta: T,
    bias: Bias<'_, T>,
    c: &MatMut<'_, T>,
) {
    let ([m, k], n) = (a.shape(), b.cols());
    let product =
        Product { alpha, a, b, beta, bias, c: CTile { start: c.at(0, 0), row_stride: c.row_stride() } };
    let plan = Plan::new(settings, [m, k, n], &b);
    if plan.path == Path::Vector {
        return parallel::for_each_index(settings, plan.tasks, plan.nanoseconds, |task| {
            settings.simd.run(VectorMatrix { product, cols: plan.place(task).1 });
        });
    }
    if plan.tasks == 1 {
        return settings.simd.run(Block { product, plan, rows: 0..m, cols: 0..n, k: 0..k });
    }
    if !plan.splits_k {
        return parallel::for_each_index(settings, plan.tasks, plan.nanoseconds, |task| {
            let (rows, cols) = plan.place(task);
            settings.simd.run(Block { product, plan, rows, cols, k: 0..k });
        });
    }
    // The sums of each block of k side by side, then the chain over them in order: the same roundings.
    let blocks = plan.tasks;
    let mut sums = Scratch::new(blocks * m * n);
    let parts = RowsMut::new(&mut sums, m * n);
    parallel::for_each(settings, (parts, Indices(blocks)), plan.nanoseconds, |(sums, block)| {
        let c = CTile { start: sums.as_mut_ptr(), row_stride: n as isize };
        let product = Product { alpha: T::ONE, beta: T::ZERO, bias: Bias::None, c, ..product };
        let k = block * KC..((block + 1) * KC).min(k);
        settings.simd.run(Block { product, plan, rows: 0..m, cols: 0..n, k });
    });
    settings.simd.run(Merge { product, sums: &sums, shape: [m, n] });
}

/// `C ← alpha · sums + beta · C + bias` over the sums of all blocks of k.
struct Merge<'a, T> {
    product: Product<'a, T>,
    sums: &'a [T],
    shape: [usize; 2],
}

impl<T: Element> Kernel for Merge<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { product, sums, shape: [m, n] } = self;
        let blocks = sums.len() / (m * n);
        for (block, sums) in sums.chunks_exact(m * n).enumerate() {
            let k = block * KC..(block + 1) * KC;
            for (row, sums) in sums.chunks_exact(n).enumerate() {
                for (at, sums) in sums.chunks(T::LANES).enumerate() {
                    let col = at * T::LANES;
                    let finish = product.finish(k.start == 0, block + 1 == blocks, row, col);
                    // SAFETY: these elements lie inside C and the biases, and are written by this thread only.
                    unsafe { finish.store(s, [[s.load_partial(sums)]], product.c.at(row, col), sums.len()) };
                }
            }
        }
    }
}

impl<T: Element> Product<'_, T> {
    /// What becomes of the sums of one block of k in the tile at (row, col).
    #[inline(always)]
    fn finish(&self, first: bool, last: bool, row: usize, col: usize) -> Finish<T> {
        let bias = |bias: &[T], at: usize| if last { bias[at..].as_ptr() } else { std::ptr::null() };
        Finish {
            alpha: self.alpha,
            beta: if first { self.beta } else { T::ONE },
            col_bias: if let Bias::PerColumn(values) = self.bias {
                bias(values, col)
            } else {
                std::ptr::null()
            },
            row_bias: if let Bias::PerRow(values) = self.bias { bias(values, row) } else { std::ptr::null() },
        }
    }
}

/// A rectangle of C over a range of k that begins at a multiple of KC.
struct Block<'a, T> {
    product: Product<'a, T>,
    plan: Plan,
    rows: Range<usize>,
    cols: Range<usize>,
    k: Range<usize>,
}

impl<T: Element> Kernel for Block<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { product, plan, rows, cols, k } = self;
        let strip = plan.strip * T::LANES;
        let packs = plan.path == Path::Packed;
        let size = if packs { cols.len().min(strip).next_multiple_of(T::LANES) * k.len().min(KC) } else { 0 };
        let mut scratch = (size > 0).then(|| Scratch::new(size));
        for first in cols.clone().step_by(strip) {
            let cols = first..(first + strip).min(cols.end);
            for start in (k.start..k.end.max(k.start + 1)).step_by(KC) {
                let depth = start..(start + KC).min(k.end);
                let packed = scratch.as_deref_mut().map(|scratch| {
                    pack::pack(s, product.b, depth.clone(), panels::<T>(cols.clone(), plan.width), scratch);
                    &*scratch
                });
                let first_k = start == k.start;
                let mc = if depth.len() * cols.len() <= SHALLOW { MC_SHALLOW } else { MC };
                for row in rows.clone().step_by(mc) {
                    let rows = row..(row + mc).min(rows.end);
                    for panel in panels::<T>(cols.clone(), plan.width) {
                        let b = match packed {
                            Some(packed) => BPanel {
                                start: packed[(panel.col - cols.start) * depth.len()..].as_ptr(),
                                row_stride: (panel.registers * T::LANES) as isize,
                                tail: panel.tail,
                            },
                            None => BPanel {
                                start: product.b.at(depth.start, panel.col),
                                row_stride: product.b.row_stride(),
                                tail: panel.tail,
                            },
                        };
                        let whole = packs || panel.tail == T::LANES;
                        // SAFETY: the rows, the panel's columns and `depth` lie inside A, B, C and the biases, whose
                        // shapes were compared; packed panels are padded to whole registers.
                        unsafe {
                            if whole {
                                column::<S, T, true>(
                                    s,
                                    &product,
                                    rows.clone(),
                                    &panel,
                                    depth.clone(),
                                    first_k,
                                    b,
                                );
                            } else {
                                column::<S, T, false>(
                                    s,
                                    &product,
                                    rows.clone(),
                                    &panel,
                                    depth.clone(),
                                    first_k,
                                    b,
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Columns of C that one pass of the microkernel computes.
struct Panel {
    col: usize,
    registers: usize,
    /// Lanes of the last register.
    tail: usize,
}

/// The columns in panels of at most `width` registers, as equal as they can be.
#[inline(always)]
fn panels<T: Element>(cols: Range<usize>, width: usize) -> impl Iterator<Item = Panel> {
    let registers = cols.len().div_ceil(T::LANES);
    let count = registers.div_ceil(width);
    let (each, more) = (registers / count, registers % count);
    (0..count).map(move |i| {
        let (before, registers) = (i * each + i.min(more), each + usize::from(i < more));
        let col = cols.start + before * T::LANES;
        Panel { col, registers, tail: (cols.end - col - (registers - 1) * T::LANES).min(T::LANES) }
    })
}

/// One panel of B over some rows of C, in tiles as equally high as they can be.
///
/// # Safety
/// The rows, columns and `depth` lie inside A, B, C and the biases; if `WHOLE`, all registers of `b` can be read.
#[inline(always)]
unsafe fn column<S: Simd, T: Element, const WHOLE: bool>(
    s: S,
    product: &Product<'_, T>,
    rows: Range<usize>,
    panel: &Panel,
    depth: Range<usize>,
    first_k: bool,
    b: BPanel<T>,
) {
    let last = depth.end == product.a.cols();
    let front = plan::is_front::<T>(S::ISA, panel.registers, panel.tail);
    let highest = if front { plan::FRONT_HEIGHT } else { plan::tile_height(S::ISA, panel.registers) };
    let mut row = rows.start;
    while row < rows.end {
        let left = rows.end - row;
        let height = left.div_ceil(left.div_ceil(highest));
        let a = ARows {
            start: product.a.at(row, depth.start),
            row_stride: product.a.row_stride(),
            col_stride: product.a.col_stride(),
        };
        let finish = product.finish(first_k, last, row, panel.col);
        let c = product.c.at(row, panel.col);
        // SAFETY: the caller's promise.
        unsafe {
            by_shape::<S, T, WHOLE>(s, height, panel.registers, front, depth.len(), a, b, finish, c);
        }
        row += height;
    }
}

/// Runs the tile of this height and width; `front` tiles are half a register wide.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn by_shape<S: Simd, T: Element, const WHOLE: bool>(
    s: S,
    rows: usize,
    registers: usize,
    front: bool,
    k: usize,
    a: ARows<T>,
    b: BPanel<T>,
    finish: Finish<T>,
    c: CTile<T>,
) {
    macro_rules! tiles {
        ($($n:literal $front:literal: $($m:literal)+;)+) => {
            match (registers, front, rows) {
                // SAFETY: the caller's promise.
                $($(($n, $front, $m) => unsafe { tile::<S, T, $m, $n, WHOLE, $front>(s, k, a, b, finish, c) },)+)+
                _ => unreachable!("no tile of {rows} rows and {registers} registers (front: {front})"),
            }
        };
    }
    match S::ISA {
        Isa::Avx512 => tiles! {
            1 false: 1 2 3 4 5 6 7 8 9 10 11 12;
            2 false: 1 2 3 4 5 6 7 8 9 10 11 12;
            3 false: 1 2 3 4 5 6 7 8;
            4 false: 1 2 3 4;
            5 false: 1 2 3 4;
            6 false: 1 2 3 4;
            7 false: 1 2;
            8 false: 1 2;
        },
        Isa::Avx2 => tiles! {
            1 true: 1 2 3 4 5 6 7 8 9 10 11 12;
            1 false: 1 2 3 4 5 6;
            2 false: 1 2 3;
            3 false: 1 2;
            4 false: 1;
            5 false: 1;
            6 false: 1;
        },
        Isa::Portable => tiles! {
            1 false: 1 2 3 4 5 6;
            2 false: 1 2 3;
            3 false: 1 2;
            4 false: 1;
            5 false: 1;
            6 false: 1;
        },
    }
}
