//! Elementwise functions of two arrays, or of one and a number, a row or a column.

use super::{CHUNK, PLAIN, nanoseconds};
use crate::context;
use crate::error::{Error, Result};
use crate::kernels::{compiled_once, lengths, whole_rows};
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::{Dispatcher, Element, Float, Kernel, Simd, slices};

/// A function of two arguments; one rounding each, except for the power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// a + b.
    Add,
    /// a − b.
    Sub,
    /// a·b.
    Mul,
    /// a / b.
    Div,
    /// The smaller; NaN if either is NaN, either zero of two zeros.
    Min,
    /// The larger; NaN if either is NaN, either zero of two zeros.
    Max,
    /// a to the b, within 1 ULP, with the special cases of C99: a⁰ = 1ᵇ = (−1)^±∞ = 1 also with NaN, NaN of a
    /// negative a with a finite b that is not whole. Its gradients: [`pow`](crate::kernels::pow).
    Pow,
}

/// `y[i] = a[i] op b[i]`.
///
/// # Errors
/// [`Error::Shape`] when the lengths differ.
///
/// ```
/// use gristmill::kernels::map::{Binary, binary};
/// let mut y = [0.0; 2];
/// binary(Binary::Max, &[1.0, f32::NAN], &[2.0, 3.0], &mut y)?;
/// assert!(y[0] == 2.0 && y[1].is_nan());
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn binary<T: Element>(op: Binary, a: &[T], b: &[T], y: &mut [T]) -> Result<()> {
    compiled_once!("map::binary", |op: Binary, a: &[T], b: &[T], y: &mut [T]| -> Result<()> {
        lengths!("binary", b == a.len(), y == a.len());
        let (settings, f) = (context::settings()?, pair::<T>(op));
        let work = nanoseconds::<T>(a.len(), f.cost());
        let parts = (Rows(a, CHUNK), Rows(b, CHUNK), RowsMut::new(y, CHUNK));
        parallel::for_each(settings, parts, work, |(a, b, y)| f.with_row(settings.simd, a, b, y));
        Ok(())
    })
}

/// `y[i] = a[i] op b`.
///
/// # Errors
/// [`Error::Shape`] when the lengths differ.
pub fn binary_scalar<T: Element>(op: Binary, a: &[T], b: T, y: &mut [T]) -> Result<()> {
    compiled_once!("map::binary_scalar", |op: Binary, a: &[T], b: T, y: &mut [T]| -> Result<()> {
        lengths!("binary_scalar", y == a.len());
        let (settings, f) = (context::settings()?, pair::<T>(op));
        let work = nanoseconds::<T>(a.len(), f.cost());
        parallel::for_each(settings, (Rows(a, CHUNK), RowsMut::new(y, CHUNK)), work, |(a, y)| {
            f.with_column(settings.simd, a, &[b], a.len(), y);
        });
        Ok(())
    })
}

/// `y[i] = a op b[i]`.
///
/// # Errors
/// [`Error::Shape`] when the lengths differ.
pub fn scalar_binary<T: Element>(op: Binary, a: T, b: &[T], y: &mut [T]) -> Result<()> {
    compiled_once!("map::scalar_binary", |op: Binary, a: T, b: &[T], y: &mut [T]| -> Result<()> {
        lengths!("scalar_binary", y == b.len());
        let (settings, f) = (context::settings()?, pair::<T>(op));
        let work = nanoseconds::<T>(b.len(), f.cost());
        parallel::for_each(settings, (Rows(b, CHUNK), RowsMut::new(y, CHUNK)), work, |(b, y)| {
            f.with_number(settings.simd, a, b, y);
        });
        Ok(())
    })
}

/// `y[i, j] = a[i, j] op row[j]`: `a` and `y` have rows of `row.len()` elements.
///
/// # Errors
/// [`Error::Shape`] when `a` is not whole rows or `y` has another length.
///
/// ```
/// use gristmill::kernels::map::{Binary, binary_row};
/// let mut y = [0.0; 4];
/// binary_row(Binary::Add, &[1.0, 2.0, 3.0, 4.0], &[10.0, 20.0], &mut y)?;
/// assert_eq!(y, [11.0, 22.0, 13.0, 24.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn binary_row<T: Element>(op: Binary, a: &[T], row: &[T], y: &mut [T]) -> Result<()> {
    compiled_once!("map::binary_row", |op: Binary, a: &[T], row: &[T], y: &mut [T]| -> Result<()> {
        whole_rows("binary_row", a, row.len())?;
        lengths!("binary_row", y == a.len());
        let (settings, f) = (context::settings()?, pair::<T>(op));
        let (work, chunk) = (nanoseconds::<T>(a.len(), f.cost()), row_chunk(row.len()));
        parallel::for_each(settings, (Rows(a, chunk), RowsMut::new(y, chunk)), work, |(a, y)| {
            f.with_row(settings.simd, a, row, y);
        });
        Ok(())
    })
}

/// `y[i, j] = a[i, j] op col[i]`: `a` and `y` have `col.len()` rows.
///
/// # Errors
/// [`Error::Shape`] when `a` does not fall into that many rows or `y` has another length.
///
/// ```
/// use gristmill::kernels::map::{Binary, binary_col};
/// let mut y = [0.0; 4];
/// binary_col(Binary::Mul, &[1.0, 2.0, 3.0, 4.0], &[10.0, 100.0], &mut y)?;
/// assert_eq!(y, [10.0, 20.0, 300.0, 400.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn binary_col<T: Element>(op: Binary, a: &[T], col: &[T], y: &mut [T]) -> Result<()> {
    compiled_once!("map::binary_col", |op: Binary, a: &[T], col: &[T], y: &mut [T]| -> Result<()> {
        let fits = if col.is_empty() { a.is_empty() } else { a.len().is_multiple_of(col.len()) };
        if !fits {
            let message = format!("{} elements do not fall into {} rows", a.len(), col.len());
            return Err(Error::shape("binary_col", message));
        }
        lengths!("binary_col", y == a.len());
        if a.is_empty() {
            return Ok(());
        }
        let (settings, f) = (context::settings()?, pair::<T>(op));
        let work = nanoseconds::<T>(a.len(), f.cost());
        let cols = a.len() / col.len();
        let chunk = row_chunk(cols);
        let parts = (Rows(a, chunk), Rows(col, chunk / cols), RowsMut::new(y, chunk));
        parallel::for_each(settings, parts, work, |(a, col, y)| {
            f.with_column(settings.simd, a, col, cols, y)
        });
        Ok(())
    })
}

/// A chunk of whole rows of `cols` elements.
fn row_chunk(cols: usize) -> usize {
    cols * (CHUNK / cols.max(1)).max(1)
}

/// One function, chosen before the loop.
pub(crate) trait Pair<T: Element>: Copy + Send + Sync {
    /// Nanoseconds per f32 on one core with AVX2.
    const COST: f64;
    fn value<S: Simd>(self, s: S, a: T::Vector<S>, b: T::Vector<S>) -> T::Vector<S>;
}

/// One function of two arguments, compiled for every instruction set, to be called for a few rows at a time;
/// see [`Lines`].
pub(crate) trait PairLines<T: Element>: Sync {
    /// [`Pair::COST`].
    fn cost(&self) -> f64;
    /// Each row of `a` with `row`, which is not empty.
    fn with_row(&self, simd: Dispatcher, a: &[T], row: &[T], y: &mut [T]);
    /// Each row, of `cols` elements, of `a` with its element of `col`; `cols` is not 0.
    fn with_column(&self, simd: Dispatcher, a: &[T], col: &[T], cols: usize, y: &mut [T]);
    /// One number with each element of `b`.
    fn with_number(&self, simd: Dispatcher, a: T, b: &[T], y: &mut [T]);
}

impl<T: Element, F: Pair<T>> PairLines<T> for F {
    fn cost(&self) -> f64 {
        F::COST
    }

    fn with_row(&self, simd: Dispatcher, a: &[T], row: &[T], y: &mut [T]) {
        simd.run(RowKernel { f: *self, a, row, y });
    }

    fn with_column(&self, simd: Dispatcher, a: &[T], col: &[T], cols: usize, y: &mut [T]) {
        simd.run(ColumnKernel { f: *self, a, col, cols, y });
    }

    fn with_number(&self, simd: Dispatcher, a: T, b: &[T], y: &mut [T]) {
        simd.run(LeftKernel { f: *self, a, b, y });
    }
}

/// The function.
pub(crate) fn pair<T: Element>(op: Binary) -> &'static dyn PairLines<T> {
    match op {
        Binary::Add => &Sum,
        Binary::Sub => &Difference,
        Binary::Mul => &Product,
        Binary::Div => &Quotient,
        Binary::Min => &Smaller,
        Binary::Max => &Larger,
        Binary::Pow => &PowerOf,
    }
}

macro_rules! pairs {
    ($($name:ident, $cost:expr, |$s:ident, $a:ident, $b:ident| $value:expr;)+) => { $(
        #[derive(Clone, Copy)]
        struct $name;
        impl<T: Element> Pair<T> for $name {
            const COST: f64 = $cost;
            #[inline(always)]
            fn value<S: Simd>(self, $s: S, $a: T::Vector<S>, $b: T::Vector<S>) -> T::Vector<S> {
                $value
            }
        }
    )+ };
}

pairs! {
    Sum, PLAIN, |_s, a, b| a + b;
    Difference, PLAIN, |_s, a, b| a - b;
    Product, PLAIN, |_s, a, b| a * b;
    Quotient, PLAIN, |_s, a, b| a / b;
    Smaller, PLAIN, |_s, a, b| a.minimum(b);
    Larger, PLAIN, |_s, a, b| a.maximum(b);
    PowerOf, 2.5, |s, a, b| T::pow(s, a, b);
}

/// Each row of `a` with `row`, which is not empty.
struct RowKernel<'a, F, T> {
    f: F,
    a: &'a [T],
    row: &'a [T],
    y: &'a mut [T],
}

impl<T: Element, F: Pair<T>> Kernel for RowKernel<'_, F, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (f, cols) = (self.f, self.row.len());
        for (a, y) in self.a.chunks_exact(cols).zip(self.y.chunks_exact_mut(cols)) {
            slices::map2(
                s,
                a,
                self.row,
                y,
                #[inline(always)]
                |a, b| f.value(s, a, b),
            );
        }
    }
}

/// Each row of `a` with its element of `col`; `cols` is not 0.
struct ColumnKernel<'a, F, T> {
    f: F,
    a: &'a [T],
    col: &'a [T],
    cols: usize,
    y: &'a mut [T],
}

impl<T: Element, F: Pair<T>> Kernel for ColumnKernel<'_, F, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let f = self.f;
        let rows = self.a.chunks_exact(self.cols).zip(self.y.chunks_exact_mut(self.cols));
        for ((a, y), &b) in rows.zip(self.col) {
            let b = s.splat(b);
            slices::map(
                s,
                a,
                y,
                #[inline(always)]
                |a| f.value(s, a, b),
            );
        }
    }
}

struct LeftKernel<'a, F, T> {
    f: F,
    a: T,
    b: &'a [T],
    y: &'a mut [T],
}

impl<T: Element, F: Pair<T>> Kernel for LeftKernel<'_, F, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (f, a) = (self.f, s.splat(self.a));
        slices::map(
            s,
            self.b,
            self.y,
            #[inline(always)]
            |b| f.value(s, a, b),
        );
    }
}
