//! Matrix multiplication: `C ← alpha · A · B + beta · C + bias`.
//!
//! Blocked for the caches, with B packed into panels where that pays, and A read in place, whatever its strides.
//! A tile of C stays in registers (6 × 16 f32 with AVX2, 8 × 48 with AVX-512) while k runs.
//!
//! **Rounding.** The sums run over k in blocks of [`KC`], each a chain of fused multiply-adds from zero in ascending
//! order: s₀, s₁, …. Then `C₀ = alpha·s₀ + beta·C`, `C₁ = alpha·s₁ + C₀`, … each with one multiply-add, at last the
//! bias is added. Neither the tile, nor packing, strides, threads or the instruction set change a bit. The error is
//! within γₖ₊₂·(|alpha|·|A|·|B| + |beta·C| + |bias|), elementwise, with γₙ = n·u/(1 − n·u).
//!
//! NaN and infinities go through as in the formula. `beta = 0` does not read C: what is there, NaN too, is
//! overwritten. `alpha = 0` does read A and B.

mod pack;
mod tile;
mod view;

use tile::{ARows, BPanel, CTile, Finish, tile};
pub use view::{MatMut, MatRef};

use super::compiled_once;
use crate::buffer::Scratch;
use crate::context::{self, Settings};
use crate::error::{Error, Result};
use crate::parallel;
use crate::simd::{Element, Isa, Kernel, Simd};

/// Columns of A that one pass of the microkernel runs over: a panel of B of this height and one register's width
/// (16 KiB) stays in the first-level cache. Part of the result: the sums are cut here.
pub const KC: usize = 256;
/// Rows of A that are used with one panel of B after the other: MC × KC elements stay in half of a second-level cache
/// of 512 KiB.
const MC: usize = 240;
/// Elements of packed B that stay in the share of the last-level cache.
const PACKED: usize = 1 << 20;

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
        if a.cols() != b.rows() || c.rows() != a.rows() || c.cols() != b.cols() {
            let message = format!("shapes do not fit: {:?} × {:?} to {:?}", a.shape(), b.shape(), c.shape());
            return Err(Error::shape("gemm", message));
        }
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
        if c.col_stride() == 1 || c.cols() == 1 {
            multiply(settings, alpha, a, b, beta, bias, &c);
        } else if c.row_stride() == 1 || c.rows() == 1 {
            // The transposed problem writes whole registers; each product and sum is the same.
            let bias = match bias {
                Bias::None => Bias::None,
                Bias::PerColumn(bias) => Bias::PerRow(bias),
                Bias::PerRow(bias) => Bias::PerColumn(bias),
            };
            multiply(settings, alpha, b.t(), a.t(), beta, bias, &c.t());
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

/// Rows and registers of the tile for an instruction set and a number of rows: as many accumulators as hide the
/// latency of the multiply-adds and fit the register file.
#[inline(always)]
fn tile_shape(isa: Isa, rows: usize) -> (usize, usize) {
    match isa {
        Isa::Avx512 => (8, 3),
        Isa::Avx2 | Isa::Portable if rows < 4 => (2, 2),
        Isa::Avx2 | Isa::Portable => (6, 1),
    }
}

/// The columns of C from `start` to `end` in panels of at most `registers` registers: (first column, registers, lanes
/// of the last register).
#[inline(always)]
fn panels(
    start: usize,
    end: usize,
    lanes: usize,
    registers: usize,
) -> impl Iterator<Item = (usize, usize, usize)> {
    (start..end).step_by(lanes * registers).map(move |col| {
        let width = (end - col).min(lanes * registers);
        let used = width.div_ceil(lanes);
        (col, used, width - (used - 1) * lanes)
    })
}

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
    let (tile_rows, registers) = tile_shape(settings.simd.isa(), m);
    let panel = registers * T::LANES;
    let nanoseconds = flops_time::<T>(m, n, k);

    // Packing costs about as much as a tile's pass over the panel: with a few rows of tiles it does not pay.
    let in_place =
        b.col_stride() == 1 && (m <= 4 * tile_rows || (n <= panel && b.row_stride() as usize == n));
    let columns = if in_place { n } else { (PACKED / k.max(1)).max(1).next_multiple_of(panel).min(n) };
    let mut scratch = Scratch::new(if in_place { 0 } else { k * columns.next_multiple_of(T::LANES) });

    for first in (0..n).step_by(columns) {
        let end = (first + columns).min(n);
        if !in_place {
            pack::pack(settings, b, first..end, registers, &mut scratch);
        }
        let packed = (!in_place).then_some(&scratch[..]);

        // Tasks: enough for all threads to finish together, whole tiles each.
        let jobs = parallel::jobs(settings, usize::MAX, nanoseconds);
        let wanted = if jobs == 1 { 1 } else { 4 * jobs };
        let rows = m.div_ceil(wanted).next_multiple_of(tile_rows).max(tile_rows);
        let row_tasks = m.div_ceil(rows);
        let cols = (end - first).div_ceil(wanted.div_ceil(row_tasks)).next_multiple_of(panel);
        let col_tasks = (end - first).div_ceil(cols);
        parallel::for_each_index(settings, row_tasks * col_tasks, nanoseconds, |task| {
            let (row, col) = (task / col_tasks * rows, first + task % col_tasks * cols);
            settings.simd.run(Block {
                a,
                b,
                packed,
                packed_columns: first..end,
                c,
                alpha,
                beta,
                bias,
                rows: row..(row + rows).min(m),
                cols: col..(col + cols).min(end),
                tile: (tile_rows, registers),
            });
        });
    }
}

/// What the multiply-adds take on one core: 60 GFLOP/s in f32, half of that in f64.
fn flops_time<T>(m: usize, n: usize, k: usize) -> usize {
    let per_nanosecond = 240 / size_of::<T>();
    m.saturating_mul(n).saturating_mul(k).saturating_mul(2) / per_nanosecond
}

/// A rectangle of C, over all of k.
struct Block<'a, T> {
    a: MatRef<'a, T>,
    b: MatRef<'a, T>,
    /// The panels of `packed_columns`, if B was packed.
    packed: Option<&'a [T]>,
    packed_columns: std::ops::Range<usize>,
    c: &'a MatMut<'a, T>,
    alpha: T,
    beta: T,
    bias: Bias<'a, T>,
    rows: std::ops::Range<usize>,
    cols: std::ops::Range<usize>,
    tile: (usize, usize),
}

// SAFETY: a block is one thread's; different blocks write different elements of C.
unsafe impl<T: Element> Sync for MatMut<'_, T> {}

impl<T: Element> Kernel for Block<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let k = self.a.cols();
        for start in (0..k.max(1)).step_by(KC) {
            let depth = (k - start).min(KC);
            let last = start + depth == k;
            for rows_start in self.rows.clone().step_by(MC) {
                let rows_end = (rows_start + MC).min(self.rows.end);
                for (col, registers, tail) in panels(self.cols.start, self.cols.end, T::LANES, self.tile.1) {
                    let b = match self.packed {
                        Some(packed) => {
                            let columns = &self.packed_columns;
                            let width = (columns.end - columns.start).next_multiple_of(T::LANES);
                            let offset = start * width + (col - columns.start) * depth;
                            BPanel {
                                start: packed[offset..].as_ptr(),
                                row_stride: (registers * T::LANES) as isize,
                                tail,
                            }
                        }
                        None => {
                            BPanel { start: self.b.at(start, col), row_stride: self.b.row_stride(), tail }
                        }
                    };
                    let mut row = rows_start;
                    while row < rows_end {
                        let bias =
                            |bias: &[T], at: usize| if last { bias[at..].as_ptr() } else { std::ptr::null() };
                        let finish = Finish {
                            alpha: self.alpha,
                            beta: if start == 0 { self.beta } else { T::ONE },
                            col_bias: match self.bias {
                                Bias::PerColumn(values) => bias(values, col),
                                _ => std::ptr::null(),
                            },
                            row_bias: match self.bias {
                                Bias::PerRow(values) => bias(values, row),
                                _ => std::ptr::null(),
                            },
                        };
                        let a = ARows {
                            start: self.a.at(row, start),
                            row_stride: self.a.row_stride(),
                            col_stride: self.a.col_stride(),
                        };
                        let c = CTile { start: self.c.at(row, col), row_stride: self.c.row_stride() };
                        let rows = (rows_end - row).min(self.tile.0);
                        // SAFETY: rows `row` to `row + M`, the panel's columns and `depth` of k lie inside A, B, C
                        // and the biases, whose shapes were compared; packed panels are padded to whole registers.
                        row += unsafe {
                            match self.packed {
                                Some(_) => rows_by_registers::<S, T, true>(
                                    s, rows, registers, depth, a, b, finish, c,
                                ),
                                None => rows_by_registers::<S, T, false>(
                                    s, rows, registers, depth, a, b, finish, c,
                                ),
                            }
                        };
                    }
                }
            }
        }
    }
}

/// Runs the tallest tile of at most `rows` rows and `registers` registers; returns its rows.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn rows_by_registers<S: Simd, T: Element, const PADDED: bool>(
    s: S,
    rows: usize,
    registers: usize,
    k: usize,
    a: ARows<T>,
    b: BPanel<T>,
    finish: Finish<T>,
    c: CTile<T>,
) -> usize {
    macro_rules! tiles {
        ($($m:literal),+ ; $n:literal) => {
            match rows {
                $(rows if rows >= $m => {
                    // SAFETY: the caller's promise.
                    unsafe { tile::<S, T, $m, $n, PADDED>(s, k, a, b, finish, c) };
                    $m
                })+
                _ => 0,
            }
        };
    }
    match (S::ISA, registers) {
        (Isa::Avx512, 3) => tiles!(8, 4, 2, 1; 3),
        (Isa::Avx512, 2) => tiles!(8, 4, 2, 1; 2),
        (Isa::Avx512, _) => tiles!(8, 4, 2, 1; 1),
        (_, 2) => tiles!(2, 1; 2),
        _ => tiles!(6, 4, 2, 1; 1),
    }
}
