//! Matrix multiplication: `C ← epilogue(alpha · A · B + beta · C)`, alone, in batches, or with a B packed before.
//!
//! Blocked for the caches; A is read in place, whatever its strides, unless its columns lie pages apart, and so is B
//! unless its columns are strided, its rows far apart, or many rows of A share it. A tile of C stays in registers
//! (6 × 16 f32 with AVX2, 6 × 64 with AVX-512, other heights for other widths) while k runs; what follows the sums
//! ([`Epilogue`]) is done while C is in a near cache. [`plan()`] tells what runs for a product.
//!
//! **Rounding.** The sums run over k in blocks of [`KC`], each a chain of fused multiply-adds from zero in ascending
//! order: s₀, s₁, …. Then `C₀ = alpha·s₀ + beta·C`, `C₁ = alpha·s₁ + C₀`, … each with one multiply-add, at last the
//! bias is added. That holds for every shape, so that a row has the same bits alone as among others. Neither the tile, nor
//! packing, batching, strides, threads or the instruction set change a bit. The error is within γₖ₊₂·(|alpha|·|A|·|B| + |beta·C| + |bias|),
//! elementwise, with γₙ = n·u/(1 − n·u). What follows the bias rounds as the functions of [`map`](super::map) do.
//!
//! NaN and infinities go through as in the formula. `beta = 0` does not read C: what is there, NaN too, is
//! overwritten. `alpha = 0` does read A and B.

mod epilogue;
mod gemv;
mod pack;
mod plan;
mod prepacked;
mod shared;
mod tile;
mod view;

use std::marker::PhantomData;
use std::ops::Range;

pub use epilogue::{Bias, Epilogue};
use gemv::VectorMatrix;
#[cfg(feature = "train")]
pub(crate) use plan::nanoseconds;
pub use plan::{Path, Plan};
pub use prepacked::PackedB;
use shared::SharedB;
use tile::{ARows, BPanel, CTile, Far, Finish, LINE, Operands, Tile};
pub use view::{BatchMut, BatchRef, MatMut, MatRef};

use super::compiled_once;
use crate::buffer::Scratch;
use crate::context::{self, Settings};
use crate::error::{Error, Result};
use crate::parallel::{self, Indices, RowsMut};
use crate::profile;
use crate::simd::{Element, Kernel, Simd};

/// Columns of A that one pass of the microkernel runs over: a panel of B of this height and one register's width
/// (16 KiB) stays in the first-level cache. Part of the result: the sums are cut here.
pub const KC: usize = 256;
/// Rows of A that are used with one panel of B after the other, or up to twice as many: they stay in a second-level
/// cache, beside a strip of B where that is packed.
const MC: usize = 96;
/// The same where a strip of B is so shallow that it stays in the first-level cache: C is then written row by row.
const MC_SHALLOW: usize = 24;
/// Elements of a strip of B that stay in half of a first-level cache.
const SHALLOW: usize = 4096;
/// Bytes apart at which lines fall into the same set of a first-level cache, and a multiple of which makes those of a
/// second-level cache few.
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

/// [`gemm()`] for every index of a batch: `C[i] ← alpha · A[i] · B[i] + beta · C[i]`. The threads share the batch, so
/// that many small products run as fast as a large one.
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

/// What [`gemm()`] will run for these operands in the present [`context`]: decided from shapes,
/// strides, instruction set and number of threads alone. None of it changes a bit of the result. If neither the rows nor
/// the columns of C lie in one piece, the product goes through a copy of C.
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

/// The right-hand side. Views are passed on by reference: a copy of one that was written a moment ago waits until the
/// stores are done, and a small product takes no longer than a few of them.
#[derive(Clone, Copy)]
enum Right<'a, T: Element> {
    Matrix(&'a MatRef<'a, T>),
    Packed(&'a PackedB<T>),
}

impl<T: Element> Right<'_, T> {
    fn cols(&self) -> usize {
        match self {
            Self::Matrix(b) => b.cols(),
            Self::Packed(packed) => packed.cols(),
        }
    }

    /// Where a row of the panel that begins at this column lies, and the elements from one of its rows to the next.
    #[inline(always)]
    fn panel(&self, row: usize, col: usize) -> (*const T, isize) {
        match self {
            Self::Matrix(b) => (b.at(row, col), b.row_stride()),
            Self::Packed(packed) => packed.panel(row, col),
        }
    }
}

/// `C ← epilogue(alpha · A · B + beta · C)` for shapes that fit.
fn multiply<T: Element>(
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

/// A product whose C has its columns side by side, and is not empty. In this order, so that no copy reads alpha and beta
/// at once: it would wait for the stores, as above.
#[derive(Clone, Copy)]
#[repr(C)]
struct Product<'a, T: Element> {
    alpha: T,
    a: &'a MatRef<'a, T>,
    b: Right<'a, T>,
    beta: T,
    epilogue: &'a Epilogue<'a, T>,
    c: CTile<T>,
}

// SAFETY: tasks write different elements of C, which the caller of the product borrows exclusively.
unsafe impl<T: Element> Sync for Product<'_, T> {}

impl<T: Element> Product<'_, T> {
    #[inline]
    fn run(&self, settings: Settings) {
        let ([m, k], n) = (self.a.shape(), self.b.cols());
        if let Right::Matrix(b) = self.b
            && plan::is_small(settings, [m, k], b)
        {
            return settings.simd.run(Small { product: self, b });
        }
        let plan = Plan::new(settings, self.a, &self.b);
        if plan.tasks == 1 || !parallel::pays(settings, plan.nanoseconds) {
            return self.part(settings, &plan, None, 0..m, 0..n);
        }
        if !plan.splits_k {
            let shared = SharedB::new(&plan);
            return parallel::for_each_index(settings, plan.tasks, plan.nanoseconds, &|task| {
                let (rows, cols) = plan.place(task);
                self.part(settings, &plan, shared.as_ref(), rows, cols);
            });
        }
        // The sums of each block of k side by side, then the chain over them in order: the same roundings.
        let blocks = plan.tasks;
        let mut sums = Scratch::new(blocks * m * n);
        let parts = RowsMut::new(&mut sums, m * n);
        parallel::for_each(settings, (parts, Indices(blocks)), plan.nanoseconds, |(sums, block)| {
            let c = CTile { start: sums.as_mut_ptr(), row_stride: n as isize };
            let epilogue = &Epilogue::default();
            let product = &Product { alpha: T::ONE, beta: T::ZERO, epilogue, c, ..*self };
            let (rows, cols, k) = (0..m, 0..n, block * KC..((block + 1) * KC).min(k));
            settings.simd.run(Block { product, plan: &plan, shared: None, rows, cols, k });
        });
        settings.simd.run(Merge { product: self, sums: &sums, shape: [m, n] });
    }

    /// All of k for some rows and columns of C.
    fn part(
        &self,
        settings: Settings,
        plan: &Plan,
        shared: Option<&SharedB<T>>,
        rows: Range<usize>,
        cols: Range<usize>,
    ) {
        match plan.path {
            Path::Vector => settings.simd.run(VectorMatrix { product: self, cols }),
            _ => settings.simd.run(Block { product: self, plan, shared, rows, cols, k: 0..self.a.cols() }),
        }
    }
}

/// All of a product that is small: panel by panel, B read where it lies unless its columns are strided, without a plan,
/// which would take as long.
struct Small<'a, T: Element> {
    product: &'a Product<'a, T>,
    b: &'a MatRef<'a, T>,
}

impl<T: Element> Kernel for Small<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { product, b } = self;
        let ([m, k], n) = (product.a.shape(), b.cols());
        let (row_stride, col_stride) = (product.a.row_stride(), product.a.col_stride());
        let a = ARows { start: product.a.at(0, 0), row_stride, col_stride };
        let (width, mut scratch) = (plan::tile_width(S::FILE, m), None);
        for panel in panels::<T>(0..n, width, true) {
            let packs = b.col_stride() != 1 || plan::packs_tail::<T>(S::FILE, width, panel.tail, m);
            let (start, row_stride) = if packs && k > 0 {
                let width = panel.registers * T::LANES;
                let packed = scratch.get_or_insert_with(|| Scratch::new(width * k));
                let panels = std::iter::once(panel.clone());
                s.run(pack::Pack { b: *b, rows: 0..k, panels, packed: &mut packed[..] });
                (packed.as_ptr(), width as isize)
            } else {
                (b.at(0, panel.col), b.row_stride())
            };
            let b = BPanel { start, row_stride, tail: panel.tail };
            let (finish, c) = (product.finish(true, true, 0, panel.col), product.c.at(0, panel.col));
            let operands = Operands { k, a, b, finish, c, far: Far { b: false, c: false } };
            // SAFETY: all rows and the panel's columns lie inside A, B, C and what the epilogue reads, whose shapes were
            // compared; a packed panel is padded to whole registers.
            unsafe {
                if const { plan::packs_tails(S::FILE) } || packs || panel.tail == T::LANES {
                    column::<S, T, true>(s, m, &panel, operands);
                } else {
                    column::<S, T, false>(s, m, &panel, operands);
                }
            }
        }
        // SAFETY: as above.
        unsafe { product.epilogue.finish(s, &product.c, 0..m, 0..n) };
    }
}

/// `C ← epilogue(alpha · sums + beta · C)` over the sums of all blocks of k.
struct Merge<'a, T: Element> {
    product: &'a Product<'a, T>,
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
        // SAFETY: as above.
        unsafe { product.epilogue.finish(s, &product.c, 0..m, 0..n) };
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
            col_bias: if let Bias::PerColumn(values) = self.epilogue.bias {
                bias(values, col)
            } else {
                std::ptr::null()
            },
            row_bias: if let Bias::PerRow(values) = self.epilogue.bias {
                bias(values, row)
            } else {
                std::ptr::null()
            },
        }
    }
}

/// A rectangle of C over a range of k that begins at a multiple of KC.
struct Block<'a, T: Element> {
    product: &'a Product<'a, T>,
    plan: &'a Plan,
    shared: Option<&'a SharedB<T>>,
    rows: Range<usize>,
    cols: Range<usize>,
    k: Range<usize>,
}

impl<T: Element> Kernel for Block<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { product, plan, shared, rows, cols, k } = self;
        let (mut scratch, mut compact) = (None, None);
        for cols in pieces(cols, plan.strip * T::LANES) {
            let packed_from = plan.packed_from::<T>(rows.len(), &cols);
            let prepacked = plan.path == Path::Prepacked;
            let panels = |cols: Range<usize>| panels::<T>(cols, plan.width, !prepacked);
            let whole_k = k.start..k.end.max(k.start + 1);
            for depth in pieces(whole_k, KC).map(|depth| depth.start..depth.end.min(k.end)) {
                let size = (cols.end - packed_from).next_multiple_of(T::LANES) * depth.len();
                let packed = match product.b {
                    Right::Matrix(b) if size > 0 => {
                        let panels = panels(cols.clone()).filter(|panel| panel.col >= packed_from);
                        let pack = |packed: &mut [T]| {
                            s.run(pack::Pack { b: *b, rows: depth.clone(), panels: panels.clone(), packed });
                        };
                        match shared.and_then(|shared| shared.get(&depth, &cols, pack)) {
                            Some(packed) => Some(packed),
                            None => {
                                let scratch = scratch.get_or_insert_with(|| Scratch::new(size));
                                pack(&mut scratch[..]);
                                Some(&**scratch)
                            }
                        }
                    }
                    _ => None,
                };
                let last_k = depth.end == product.a.cols();
                for rows in pieces(rows.clone(), plan.block[0]) {
                    let a = if plan.copies_a {
                        let to = compact.get_or_insert_with(|| Scratch::new(pack::COMPACT));
                        pack::compact(*product.a, rows.clone(), depth.clone(), to)
                    } else {
                        let (row_stride, col_stride) = (product.a.row_stride(), product.a.col_stride());
                        ARows { start: product.a.at(rows.start, depth.start), row_stride, col_stride }
                    };
                    for panel in panels(cols.clone()) {
                        let packed = packed.filter(|_| panel.col >= packed_from);
                        let (start, row_stride) = match packed {
                            Some(packed) => (
                                packed[(panel.col - packed_from) * depth.len()..].as_ptr(),
                                (panel.registers * T::LANES) as isize,
                            ),
                            None => product.b.panel(depth.start, panel.col),
                        };
                        let far =
                            Far { b: panel.registers * depth.len() * LINE > NEAR_B, c: plan.bytes > NEAR };
                        let operands = Operands {
                            k: depth.len(),
                            a,
                            b: BPanel { start, row_stride, tail: panel.tail },
                            finish: product.finish(depth.start == k.start, last_k, rows.start, panel.col),
                            c: product.c.at(rows.start, panel.col),
                            far,
                        };
                        let whole = packed.is_some() || prepacked || panel.tail == T::LANES;
                        // SAFETY: the rows, the panel's columns and `depth` lie inside A, B, C and what the epilogue
                        // reads, whose shapes were compared; packed panels are padded to whole registers.
                        unsafe {
                            if const { plan::packs_tails(S::FILE) } || whole {
                                column::<S, T, true>(s, rows.len(), &panel, operands);
                            } else {
                                column::<S, T, false>(s, rows.len(), &panel, operands);
                            }
                        }
                    }
                    if last_k {
                        // SAFETY: these rows and columns lie inside C.
                        unsafe { product.epilogue.finish(s, &product.c, rows, cols.clone()) };
                    }
                }
            }
        }
    }
}

/// The range in pieces of this length, the last one shorter.
#[inline(always)]
fn pieces(range: Range<usize>, len: usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let piece = start..start.saturating_add(len).min(range.end);
        start = piece.end;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Columns of C that one pass of the microkernel computes.
#[derive(Clone)]
struct Panel {
    col: usize,
    registers: usize,
    /// Lanes of the last register.
    tail: usize,
}

/// The columns in panels of at most `width` registers: as equal as they can be, or all but the last one full.
#[inline(always)]
fn panels<T: Element>(cols: Range<usize>, width: usize, equal: bool) -> Panels<T> {
    let registers = cols.len().div_ceil(T::LANES);
    let (count, each, more) = shares(registers, width);
    let (each, more) = if equal { (each, more) } else { (width, 0) };
    Panels { cols, count, each, more, element: PhantomData }
}

/// What [`panels`] gives: `count` of them are left, of which the first `more` have one register more than `each`.
#[derive(Clone)]
struct Panels<T> {
    cols: Range<usize>,
    count: usize,
    each: usize,
    more: usize,
    element: PhantomData<T>,
}

impl<T: Element> Iterator for Panels<T> {
    type Item = Panel;

    #[inline(always)]
    fn next(&mut self) -> Option<Panel> {
        self.count = self.count.checked_sub(1)?;
        let (col, len) = (self.cols.start, self.cols.len());
        let registers = (self.each + usize::from(self.more > 0)).min(len.div_ceil(T::LANES));
        self.more = self.more.saturating_sub(1);
        self.cols.start = (col + registers * T::LANES).min(self.cols.end);
        Some(Panel { col, registers, tail: (len - (registers - 1) * T::LANES).min(T::LANES) })
    }
}

/// `len` in shares of at most `most`, as equal as they can be: their number, the smaller size, and how many have one more.
#[inline(always)]
fn shares(len: usize, most: usize) -> (usize, usize, usize) {
    // Divisions take as long as a small tile.
    if len <= most {
        return (1, len, 0);
    }
    if most == 1 {
        return (len, 1, 0);
    }
    let count = len.div_ceil(most);
    (count, len / count, len % count)
}

/// One panel of B over some rows of C, in tiles as equally high as they can be. `operands` are those of the first tile.
///
/// # Safety
/// These rows and the panel's columns lie inside A, B, C and the biases; if `WHOLE`, all registers of B can be read.
#[inline(always)]
unsafe fn column<S: Simd, T: Element, const WHOLE: bool>(
    s: S,
    rows: usize,
    panel: &Panel,
    mut operands: Operands<T>,
) {
    let front = plan::is_front::<T>(S::FILE, panel.registers, panel.tail);
    let highest = plan::tile_height(S::FILE, panel.registers, front, !WHOLE);
    // One line of each row is in use at a time, all of them in one set of the first-level cache if rows are pages apart.
    let paged = plan::is_paged::<T>(operands.a.row_stride);
    let (count, each, more) = shares(rows, if paged { highest.min(WAYS) } else { highest });
    for i in 0..count {
        let height = each + usize::from(i < more);
        // SAFETY: the caller's promise.
        unsafe { by_shape::<S, T, WHOLE>(s, height, panel.registers, front, &operands) };
        operands = operands.below(height);
    }
}

/// Runs the tile of this height and width; `front` tiles compute half a register.
///
/// # Safety
/// As for [`Tile::new`].
#[inline(always)]
unsafe fn by_shape<S: Simd, T: Element, const WHOLE: bool>(
    s: S,
    height: usize,
    registers: usize,
    front: bool,
    operands: &Operands<T>,
) {
    macro_rules! tiles {
        ($($n:literal $front:literal $whole:tt: $($m:literal)+;)+) => {
            match (registers, front, height) {
                // The tiles that the instruction set has no use or no registers for are not compiled.
                $($(($n, $front, $m) if const { plan::is_tile(S::FILE, $m, $n, $front) } => {
                    // SAFETY: the caller's promise.
                    s.run(unsafe { Tile::<T, $m, $n, $whole, $front>::new(operands) })
                })+)+
                _ => unreachable!("no tile of {height} rows and {registers} registers (front: {front})"),
            }
        };
    }
    tiles! {
        // What the mask of a front tile leaves out is not computed either.
        1 true false: 1 2 3 4 5 6 7 8 9 10 11 12;
        1 false WHOLE: 1 2 3 4 5 6 7 8 9 10 11 12;
        2 false WHOLE: 1 2 3 4 5 6 7 8 9 10 11 12;
        3 false WHOLE: 1 2 3 4 5 6 7 8;
        4 false WHOLE: 1 2 3 4 5 6;
        5 false WHOLE: 1 2 3 4;
        6 false WHOLE: 1 2 3 4;
        7 false WHOLE: 1 2;
        8 false WHOLE: 1 2;
    }
}
