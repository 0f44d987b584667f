//! Matrix multiplication: `C ← epilogue(alpha · A · B + beta · C)`, alone, in batches, or with a B packed
//! before.
//!
//! Blocked for the caches; A is read in place, whatever its strides, unless its columns lie pages apart, and
//! so is B unless its columns are strided, its rows far apart, or many rows of A share it. A tile of C stays
//! in registers (6 × 16 f32 with AVX2, 6 × 64 with AVX-512, other heights for other widths) while k runs;
//! what follows the sums ([`Epilogue`]) is done while C is in a near cache. [`plan()`] tells what runs for a
//! product.
//!
//! **Rounding.** The sums run over k in blocks of [`KC`], each a chain of fused multiply-adds from zero in
//! ascending order: s₀, s₁, …. Then `C₀ = alpha·s₀ + beta·C`, `C₁ = alpha·s₁ + C₀`, … each with one
//! multiply-add, at last the bias is added. That holds for every shape, so that a row has the same bits alone
//! as among others. Neither the tile, nor packing, batching, strides, threads or the instruction set change a
//! bit. The error is within γₖ₊₂·(|alpha|·|A|·|B| + |beta·C| + |bias|), elementwise, with γₙ = n·u/(1 − n·u).
//! What follows the bias rounds as the functions of [`map`](super::map) do.
//!
//! NaN and infinities go through as in the formula. `beta = 0` does not read C: what is there, NaN too, is
//! overwritten. `alpha = 0` does read A and B.

mod epilogue;
mod gemv;
mod pack;
pub(super) mod patches;
mod plan;
mod prepacked;
mod product;
mod shared;
mod tile;
mod view;

pub use epilogue::{Bias, Epilogue};
use patches::Patches;
pub(crate) use plan::nanoseconds;
pub use plan::{Path, Plan};
pub use prepacked::PackedB;
use product::{Panel, Product, pieces, shares};
use tile::CTile;
pub use view::{BatchMut, BatchRef, MatMut, MatRef};

use super::compiled_once;
use crate::buffer::Scratch;
use crate::context::{self, Settings};
use crate::error::{Error, Result};
use crate::parallel;
use crate::profile;
use crate::simd::Element;

/// Columns of A that one pass of the microkernel runs over: a panel of B of this height and one register's
/// width (16 KiB) stays in the first-level cache. Part of the result: the sums are cut here.
pub const KC: usize = 256;
/// Rows of A that are used with one panel of B after the other, or up to twice as many: they stay in a
/// second-level cache, beside a strip of B where that is packed.
const MC: usize = 96;
/// The same where a strip of B is so shallow that it stays in the first-level cache: C is then written row by
/// row.
const MC_SHALLOW: usize = 24;
/// Elements of a strip of B that stay in half of a first-level cache.
const SHALLOW: usize = 4096;
/// Bytes apart at which lines fall into the same set of a first-level cache, and a multiple of which makes
/// those of a second-level cache few.
const PAGE: usize = 4096;
/// Lines that a set of a first-level cache holds.
const WAYS: usize = 8;
/// Bytes of a panel of B that stay in a first-level cache.
const NEAR_B: usize = 32 * 1024;
/// Bytes of A, B and C that stay near.
const NEAR: usize = 512 * 1024;
/// Registers in a row of packed B, at most: NC × KC elements stay in a second-level cache.
const NC_REGISTERS: usize = 32;

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
    compiled_once!("gemm::gemm", |alpha: T,
                                  a: MatRef<'_, T>,
                                  b: MatRef<'_, T>,
                                  beta: T,
                                  c: MatMut<'_, T>|
     -> Result<()> {
        check_shapes(a.shape(), b.shape(), c.shape())?;
        tell::<T>(1, a.shape(), c.cols());
        multiply(context::settings()?, alpha, &a, Right::Matrix(&b), beta, &Epilogue::default(), &c);
        Ok(())
    })
}

/// [`gemm()`] and what follows it, in the same pass: `C ← epilogue(alpha · A · B + beta · C)`.
///
/// # Errors
/// [`Error::Shape`] when the shapes do not fit, those of the epilogue included.
pub fn gemm_with_epilogue<T: Element>(
    alpha: T,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    beta: T,
    epilogue: Epilogue<'_, T>,
    c: MatMut<'_, T>,
) -> Result<()> {
    compiled_once!("gemm::gemm_with_epilogue", |alpha: T,
                                                a: MatRef<'_, T>,
                                                b: MatRef<'_, T>,
                                                beta: T,
                                                epilogue: Epilogue<'_, T>,
                                                c: MatMut<'_, T>|
     -> Result<()> {
        check_shapes(a.shape(), b.shape(), c.shape())?;
        epilogue.check(c.shape())?;
        tell::<T>(1, a.shape(), c.cols());
        multiply(context::settings()?, alpha, &a, Right::Matrix(&b), beta, &epilogue, &c);
        Ok(())
    })
}

/// [`gemm_with_epilogue`] for a B that was packed before.
///
/// # Errors
/// [`Error::Shape`] when the shapes do not fit, those of the epilogue included.
pub fn gemm_prepacked<T: Element>(
    alpha: T,
    a: MatRef<'_, T>,
    b: &PackedB<T>,
    beta: T,
    epilogue: Epilogue<'_, T>,
    c: MatMut<'_, T>,
) -> Result<()> {
    compiled_once!("gemm::gemm_prepacked", |alpha: T,
                                            a: MatRef<'_, T>,
                                            b: &PackedB<T>,
                                            beta: T,
                                            epilogue: Epilogue<'_, T>,
                                            c: MatMut<'_, T>|
     -> Result<()> {
        check_shapes(a.shape(), [b.rows(), b.cols()], c.shape())?;
        epilogue.check(c.shape())?;
        tell::<T>(1, a.shape(), c.cols());
        multiply(context::settings()?, alpha, &a, Right::Packed(b), beta, &epilogue, &c);
        Ok(())
    })
}

/// [`gemm()`] for every index of a batch: `C[i] ← alpha · A[i] · B[i] + beta · C[i]`. The threads share the
/// batch, so that many small products run as fast as a large one.
///
/// # Errors
/// [`Error::Shape`] when the shapes or the numbers of matrices do not fit.
///
/// ```
/// use gristmill::kernels::gemm::{BatchMut, BatchRef, gemm_batched};
/// // Two rows times the same matrix.
/// let (a, b, mut c) = ([1.0, 2.0, 3.0, 4.0], [1.0, 10.0], [0.0; 2]);
/// let a = BatchRef::row_major(&a, 2, 1, 2)?;
/// let b = BatchRef::new(&b, 2, 0, [2, 1], [1, 1])?;
/// gemm_batched(1.0, a, b, 0.0, BatchMut::row_major(&mut c, 2, 1, 1)?)?;
/// assert_eq!(c, [21.0, 43.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn gemm_batched<T: Element>(
    alpha: T,
    a: BatchRef<'_, T>,
    b: BatchRef<'_, T>,
    beta: T,
    c: BatchMut<'_, T>,
) -> Result<()> {
    compiled_once!("gemm::gemm_batched", |alpha: T,
                                          a: BatchRef<'_, T>,
                                          b: BatchRef<'_, T>,
                                          beta: T,
                                          c: BatchMut<'_, T>|
     -> Result<()> {
        if a.count() != c.count() || b.count() != c.count() {
            let message = format!("batches of {} × {} matrices to {}", a.count(), b.count(), c.count());
            return Err(Error::shape("gemm", message));
        }
        check_shapes(a.shape(), b.shape(), c.shape())?;
        multiply_batch(alpha, &|i| (a.get(i), b.get(i)), beta, c)
    })
}

/// A and B of one product of a batch.
pub(crate) type OperandsOf<'a, T> = dyn Fn(usize) -> (MatRef<'a, T>, MatRef<'a, T>) + Sync + 'a;

/// [`gemm_batched`] for operands that lie anywhere; their shapes fit those of C.
pub(crate) fn multiply_batch<T: Element>(
    alpha: T,
    operands: &OperandsOf<'_, T>,
    beta: T,
    c: BatchMut<'_, T>,
) -> Result<()> {
    compiled_once!("gemm::multiply_batch", |alpha: T,
                                            operands: &OperandsOf<'_, T>,
                                            beta: T,
                                            c: BatchMut<'_, T>|
     -> Result<()> {
        let settings = context::settings()?;
        let one = |settings: Settings, i: usize| {
            let (a, b) = operands(i);
            // SAFETY: the index is inside the batch and handed out once.
            let c = unsafe { c.get(i) };
            multiply(settings, alpha, &a, Right::Matrix(&b), beta, &Epilogue::default(), &c);
        };
        if c.count() == 0 || c.shape().contains(&0) {
            return Ok(());
        }
        let (a, b) = operands(0);
        tell::<T>(c.count(), a.shape(), b.cols());
        let plan = Plan::new(settings, &a, &Right::Matrix(&b));
        // Few large products are shared among the threads one after the other.
        if plan.tasks > 1 && c.count() < settings.threads.saturating_mul(2) {
            (0..c.count()).for_each(|i| one(settings, i));
            return Ok(());
        }
        let nanoseconds = plan.nanoseconds.saturating_mul(c.count());
        let alone = Settings { threads: 1, ..settings };
        parallel::for_each_index(settings, c.count(), nanoseconds, &|i| one(alone, i));
        Ok(())
    })
}

/// What [`gemm()`] will run for these operands in the present [`context`]: decided from shapes, strides,
/// instruction set and number of threads alone. None of it changes a bit of the result. If neither the rows
/// nor the columns of C lie in one piece, the product goes through a copy of C.
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
    check_shapes(a.shape(), b.shape(), c.shape())?;
    let settings = context::settings()?;
    let transposed = is_transposed(c);
    let (a, b) = if transposed { (b.t(), a.t()) } else { (*a, *b) };
    let mut plan = Plan::new(settings, &a, &Right::Matrix(&b));
    plan.transposed = transposed;
    Ok(plan)
}

/// Tells a profile how much is multiplied: so many products of m × k and k × n.
#[inline]
fn tell<T: Element>(count: usize, [m, k]: [usize; 2], n: usize) {
    if profile::is_on() {
        let [flops, elements] = plan::flops_and_elements([m, k, n]).map(|work| work.saturating_mul(count));
        profile::add_work(Some([m, k, n]), flops, elements.saturating_mul(size_of::<T>()));
    }
}

#[inline]
fn check_shapes(a: [usize; 2], b: [usize; 2], c: [usize; 2]) -> Result<()> {
    if a[1] == b[0] && c == [a[0], b[1]] { Ok(()) } else { Err(bad_shapes(a, b, c)) }
}

#[cold]
fn bad_shapes(a: [usize; 2], b: [usize; 2], c: [usize; 2]) -> Error {
    Error::shape("gemm", format!("shapes do not fit: {a:?} × {b:?} to {c:?}"))
}

/// Whether the transposed problem has the columns of C side by side, or is a vector times a matrix.
fn is_transposed<T>(c: &MatMut<'_, T>) -> bool {
    c.rows() > 1 && (c.cols() == 1 || c.col_stride() != 1 && c.row_stride() == 1)
}

/// The right-hand side. Views are passed on by reference: a copy of one that was written a moment ago waits
/// until the stores are done, and a small product takes no longer than a few of them.
#[derive(Clone, Copy)]
pub(super) enum Right<'a, T: Element> {
    Matrix(&'a MatRef<'a, T>),
    Packed(&'a PackedB<T>),
    Patches(&'a Patches<'a, T>),
}

impl<T: Element> Right<'_, T> {
    fn cols(&self) -> usize {
        match self {
            Self::Matrix(b) => b.cols(),
            Self::Packed(packed) => packed.cols(),
            Self::Patches(patches) => patches.cols(),
        }
    }

    /// Where a row of the panel that begins at this column lies, and the elements from one of its rows to the
    /// next.
    #[inline(always)]
    fn panel(&self, row: usize, col: usize) -> (*const T, isize) {
        match self {
            Self::Matrix(b) => (b.at(row, col), b.row_stride()),
            Self::Packed(packed) => packed.panel(row, col),
            // All of their panels are packed, unless they have no rows.
            Self::Patches(_) => (std::ptr::null(), 0),
        }
    }
}

/// `C ← epilogue(alpha · A · B + beta · C)` for shapes that fit; C is row-major if B is a matrix of patches.
pub(super) fn multiply<T: Element>(
    settings: Settings,
    alpha: T,
    a: &MatRef<'_, T>,
    b: Right<'_, T>,
    beta: T,
    epilogue: &Epilogue<'_, T>,
    c: &MatMut<'_, T>,
) {
    let [m, n] = c.shape();
    if m == 0 || n == 0 {
        return;
    }
    let of_transposed;
    let c_tile = |row_stride| CTile { start: c.at(0, 0), row_stride };
    let product = match b {
        Right::Matrix(b) if is_transposed(c) && c.row_stride() == 1 => {
            of_transposed = (b.t(), a.t(), epilogue.transposed());
            let (a, b, epilogue) = (&of_transposed.0, Right::Matrix(&of_transposed.1), &of_transposed.2);
            Some(Product { alpha, a, b, beta, epilogue, c: c_tile(c.col_stride()) })
        }
        Right::Patches(_) => Some(Product { alpha, a, b, beta, epilogue, c: c_tile(c.row_stride()) }),
        Right::Packed(packed) if n == 1 => {
            // A product with a vector, like that with the matrix itself.
            return multiply(settings, alpha, a, Right::Matrix(&packed.column()), beta, epilogue, c);
        }
        _ if !is_transposed(c) && (c.col_stride() == 1 || n == 1) => {
            Some(Product { alpha, a, b, beta, epilogue, c: c_tile(c.row_stride()) })
        }
        _ => None,
    };
    if let Some(product) = product {
        return product.run(settings);
    }
    // No register of C can be written in place: the whole detour costs two passes over C.
    let mut scratch = Scratch::new(m * n);
    let places = || (0..m).flat_map(|i| (0..n).map(move |j| (i, j)));
    if beta != T::ZERO {
        for (x, (i, j)) in scratch.iter_mut().zip(places()) {
            // SAFETY: inside C.
            *x = unsafe { *c.at(i, j) };
        }
    }
    let compact = MatMut::row_major(&mut scratch, m, n).expect("the scratch has as many elements");
    multiply(settings, alpha, a, b, beta, epilogue, &compact);
    for (&x, (i, j)) in scratch.iter().zip(places()) {
        // SAFETY: inside C, which nobody else uses.
        unsafe { *c.at(i, j) = x };
    }
}
