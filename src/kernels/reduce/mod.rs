//! Reductions of all elements, of rows and of columns: sum, mean, product, largest, smallest, sum of squares,
//! any, all, number of non-zeros, variance, standard deviation, argmax, argmin, dot product.
//!
//! Columns means: `x` is rows of `cols` elements, and the result has one element per column.
//!
//! **Rounding.** With u = 2⁻²⁴ (f32) or 2⁻⁵³ (f64), to first order:
//! * sums of n elements and sums by row: within `d·u·Σ|x|`, where
//!   `d = ⌈min(n, 4096)/(4·lanes)⌉ + 6 + ⌈log₂⌈n/4096⌉⌉` additions at the most lead from an element to the
//!   result (16 lanes of f32, 8 of f64): 78 additions for a million f32;
//! * sums by column: the same with `d = 128 + ⌈log₂ n⌉` for n rows, or `n` where that is less;
//! * a sum of squares, a dot product and a mean: one rounding more;
//! * a product of n elements: `(n − 1)·u` relative as long as no product of some of them leaves the normal
//!   range;
//! * a variance: `(d + 7 + 2κ)·u` relative, with `κ = |x₀ − mean|/σ ≤ √n`, where x₀ is the first element (of
//!   the row, of the column) and σ² = Σ(x − mean)²/n; it does not grow with the mean. Where squares
//!   underflow, n times the smallest subnormal number is added. Nothing overflows unless the variance does;
//! * a standard deviation: half that and `2u`; nothing overflows or underflows unless it does itself.
//!
//! **Special values.** Sums and means are IEEE 754: a NaN, or infinities of both signs, give NaN. The largest
//! and the smallest of anything with a NaN are NaN. Which zero is the largest of −0 and +0 is unspecified.
//! The variance of anything with a NaN or an infinity is NaN; one that is too large for the type is +∞. NaN
//! is not 0 and counts as true. For no elements, the sum is 0, the product 1, any 0, all 1, mean and variance
//! are NaN, and the largest, the smallest or its index is an error.

pub(super) mod passes;
mod product;
mod variance;

use super::{Operand as _, compiled_once, lengths, power_of_two, whole_rows};
use crate::buffer::Scratch;
use crate::context;
use crate::error::{Error, Result};
use crate::parallel::{self, Indices, Rows, RowsMut};
use crate::simd::{self, Element};
pub use product::prod_backward;
pub use variance::{std_all, std_cols, std_rows, variance_all, variance_cols, variance_rows};

use passes::{CHUNK, ColumnPlaces, Extreme, RowPlaces, STRIP, Term, column_totals, row_totals, total, work};

/// A reduction of many elements to one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reduce {
    /// `Σ x`.
    Sum,
    /// `Σ x / n`.
    Mean,
    /// The largest; NaN if any is NaN.
    Max,
    /// The smallest; NaN if any is NaN.
    Min,
    /// `Σ x²`.
    SumOfSquares,
    /// `Π x`.
    Prod,
    /// 1 if any is not 0, else 0.
    Any,
    /// 1 if none is 0, else 0.
    All,
    /// How many are not 0: exact up to 2²⁴ (f32) or 2⁵³ (f64), a sum of ones beyond. See also
    /// [`count_nonzero`].
    CountNonzero,
}

impl Reduce {
    const fn name(self) -> &'static str {
        match self {
            Reduce::Sum => "sum",
            Reduce::Mean => "mean",
            Reduce::Max => "max",
            Reduce::Min => "min",
            Reduce::SumOfSquares => "sum_of_squares",
            Reduce::Prod => "prod",
            Reduce::Any => "any",
            Reduce::All => "all",
            Reduce::CountNonzero => "count_nonzero",
        }
    }

    const fn term<T, P>(self) -> Term<T, P> {
        match self {
            Reduce::Sum | Reduce::Mean => Term::Value,
            Reduce::SumOfSquares => Term::Square,
            Reduce::Max => Term::Max,
            Reduce::Min => Term::Min,
            Reduce::Prod => Term::Product,
            Reduce::Any => Term::Any,
            Reduce::All => Term::All,
            Reduce::CountNonzero => Term::NonZero,
        }
    }

    /// The result for no elements.
    fn of_empty<T: Element>(self) -> Result<T> {
        match self {
            Reduce::Sum | Reduce::SumOfSquares | Reduce::Any | Reduce::CountNonzero => Ok(T::ZERO),
            Reduce::Prod | Reduce::All => Ok(T::ONE),
            Reduce::Mean => Ok(T::NAN),
            Reduce::Max | Reduce::Min => Err(of_empty(self.name())),
        }
    }

    /// Divides the sums of `count` elements for a mean.
    fn finish<T: Element>(self, count: usize, totals: &mut [T]) {
        if self == Reduce::Mean {
            let count = T::from_f64(count as f64);
            totals.iter_mut().for_each(|total| *total = *total / count);
        }
    }
}

fn of_empty(op: &'static str) -> Error {
    Error::shape(op, "there are no elements to choose from")
}

/// Reduces all elements of `x` to one.
///
/// # Errors
/// [`Error::Shape`] for the largest or the smallest element of an empty slice.
///
/// ```
/// use gristmill::kernels::reduce::{self, Reduce};
/// assert_eq!(reduce::all(Reduce::Mean, &[1.0_f32, 2.0, 6.0])?, 3.0);
/// assert_eq!(reduce::all(Reduce::SumOfSquares, &[1.0_f32, 2.0, 6.0])?, 41.0);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn all<T: Element>(op: Reduce, x: &[T]) -> Result<T> {
    compiled_once!("reduce::all", |op: Reduce, x: &[T]| -> Result<T> {
        if x.is_empty() {
            return op.of_empty();
        }
        let mut y = [total(context::settings()?, op.term(), x)];
        op.finish(x.len(), &mut y);
        Ok(y[0])
    })
}

/// Reduces each row of `cols` elements to one; `y` has one element per row.
///
/// With `cols = 0`, `x` is empty and every element of `y` is the result of an empty slice.
///
/// # Errors
/// [`Error::Shape`] when `x` is not whole rows, when `y` has another length, for the largest or the
/// smallest element of empty rows.
///
/// ```
/// use gristmill::kernels::reduce::{self, Reduce};
/// let mut y = [0.0_f32; 2];
/// reduce::rows(Reduce::Max, &[1.0, 5.0, 3.0, 4.0, 2.0, 0.0], 3, &mut y)?;
/// assert_eq!(y, [5.0, 4.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn rows<T: Element>(op: Reduce, x: &[T], cols: usize, y: &mut [T]) -> Result<()> {
    compiled_once!("reduce::rows", |op: Reduce, x: &[T], cols: usize, y: &mut [T]| -> Result<()> {
        check_rows(op.name(), x, cols, y)?;
        if x.is_empty() {
            return fill_with(y, || op.of_empty());
        }
        let settings = context::settings()?;
        if cols <= CHUNK {
            row_totals(settings, op.term(), x, cols, y);
        } else {
            for (x, y) in x.chunks_exact(cols).zip(&mut *y) {
                *y = total(settings, op.term(), x);
            }
        }
        op.finish(cols, y);
        Ok(())
    })
}

/// Reduces each of the `cols` columns to one element of `y`.
///
/// # Errors
/// [`Error::Shape`] when `x` is not whole rows, when `y` has not `cols` elements, for the largest or the
/// smallest of no rows.
///
/// ```
/// use gristmill::kernels::reduce::{self, Reduce};
/// let mut y = [0.0_f32; 3];
/// reduce::cols(Reduce::Sum, &[1.0, 5.0, 3.0, 4.0, 2.0, 0.0], 3, &mut y)?;
/// assert_eq!(y, [5.0, 7.0, 3.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn cols<T: Element>(op: Reduce, x: &[T], cols: usize, y: &mut [T]) -> Result<()> {
    compiled_once!("reduce::cols", |op: Reduce, x: &[T], cols: usize, y: &mut [T]| -> Result<()> {
        let rows = whole_rows(op.name(), x, cols)?;
        lengths!(op.name(), y == cols);
        if x.is_empty() {
            return fill_with(y, || op.of_empty());
        }
        column_totals(context::settings()?, op.term(), x, cols, y);
        op.finish(rows, y);
        Ok(())
    })
}

/// The first index of the largest element; the first NaN is larger than all.
///
/// # Errors
/// [`Error::Shape`] when `x` is empty.
///
/// ```
/// use gristmill::kernels::reduce;
/// assert_eq!(reduce::argmax(&[1.0, 7.0, 7.0])?, 1);
/// assert_eq!(reduce::argmax(&[1.0, f32::NAN, f32::INFINITY])?, 1);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn argmax<T: Element>(x: &[T]) -> Result<usize> {
    compiled_once!("reduce::argmax", |x: &[T]| -> Result<usize> { place("argmax", Extreme::Largest, x) })
}

/// [`argmax`] of each row of `cols` elements; `y` has one element per row.
///
/// # Errors
/// [`Error::Shape`] when `x` is not whole rows, when `y` has another length, when rows are empty.
///
/// ```
/// let mut y = [0; 2];
/// gristmill::kernels::reduce::argmax_rows(&[1.0_f32, 5.0, 3.0, 4.0, 2.0, 0.0], 3, &mut y)?;
/// assert_eq!(y, [1, 0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn argmax_rows<T: Element>(x: &[T], cols: usize, y: &mut [usize]) -> Result<()> {
    compiled_once!("reduce::argmax_rows", |x: &[T], cols: usize, y: &mut [usize]| -> Result<()> {
        row_places("argmax", Extreme::Largest, x, cols, y)
    })
}

/// [`argmax`] of each of the `cols` columns, as the number of the row; `y` has one element per column.
///
/// # Errors
/// [`Error::Shape`] when `x` is not whole rows, when `y` has not `cols` elements, when there are no rows.
///
/// ```
/// let mut y = [0; 3];
/// gristmill::kernels::reduce::argmax_cols(&[1.0_f32, 5.0, 3.0, 4.0, 2.0, 3.0], 3, &mut y)?;
/// assert_eq!(y, [1, 0, 0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn argmax_cols<T: Element>(x: &[T], cols: usize, y: &mut [usize]) -> Result<()> {
    compiled_once!("reduce::argmax_cols", |x: &[T], cols: usize, y: &mut [usize]| -> Result<()> {
        column_places("argmax", Extreme::Largest, x, cols, y)
    })
}

/// The first index of the smallest element; the first NaN is smaller than all.
///
/// # Errors
/// [`Error::Shape`] when `x` is empty.
///
/// ```
/// use gristmill::kernels::reduce;
/// assert_eq!(reduce::argmin(&[1.0, -7.0, -7.0])?, 1);
/// assert_eq!(reduce::argmin(&[1.0, f32::NAN, -f32::INFINITY])?, 1);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn argmin<T: Element>(x: &[T]) -> Result<usize> {
    compiled_once!("reduce::argmin", |x: &[T]| -> Result<usize> { place("argmin", Extreme::Smallest, x) })
}

/// [`argmin`] of each row of `cols` elements; `y` has one element per row.
///
/// # Errors
/// [`Error::Shape`] when `x` is not whole rows, when `y` has another length, when rows are empty.
///
/// ```
/// let mut y = [0; 2];
/// gristmill::kernels::reduce::argmin_rows(&[1.0_f32, 5.0, 3.0, 4.0, 2.0, 0.0], 3, &mut y)?;
/// assert_eq!(y, [0, 2]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn argmin_rows<T: Element>(x: &[T], cols: usize, y: &mut [usize]) -> Result<()> {
    compiled_once!("reduce::argmin_rows", |x: &[T], cols: usize, y: &mut [usize]| -> Result<()> {
        row_places("argmin", Extreme::Smallest, x, cols, y)
    })
}

/// [`argmin`] of each of the `cols` columns, as the number of the row; `y` has one element per column.
///
/// # Errors
/// [`Error::Shape`] when `x` is not whole rows, when `y` has not `cols` elements, when there are no rows.
///
/// ```
/// let mut y = [0; 3];
/// gristmill::kernels::reduce::argmin_cols(&[1.0_f32, 5.0, 3.0, 4.0, 2.0, 3.0], 3, &mut y)?;
/// assert_eq!(y, [0, 1, 0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn argmin_cols<T: Element>(x: &[T], cols: usize, y: &mut [usize]) -> Result<()> {
    compiled_once!("reduce::argmin_cols", |x: &[T], cols: usize, y: &mut [usize]| -> Result<()> {
        column_places("argmin", Extreme::Smallest, x, cols, y)
    })
}

fn place<T: Element>(op: &'static str, extreme: Extreme, x: &[T]) -> Result<usize> {
    if x.is_empty() {
        return Err(of_empty(op));
    }
    let settings = context::settings()?;
    let mut place = [0];
    if x.len() <= CHUNK {
        settings.simd.run(RowPlaces { extreme, x, cols: x.len(), y: &mut place });
        return Ok(place[0]);
    }
    let mut extremes = Scratch::new(x.len().div_ceil(CHUNK));
    row_totals(settings, extreme.term(), x, CHUNK, &mut extremes);
    settings.simd.run(RowPlaces { extreme, x: &extremes, cols: extremes.len(), y: &mut place });
    let start = place[0] * CHUNK;
    let piece = &x[start..x.len().min(start + CHUNK)];
    settings.simd.run(RowPlaces { extreme, x: piece, cols: piece.len(), y: &mut place });
    Ok(start + place[0])
}

fn row_places<T: Element>(
    op: &'static str,
    extreme: Extreme,
    x: &[T],
    cols: usize,
    y: &mut [usize],
) -> Result<()> {
    check_rows(op, x, cols, y)?;
    if x.is_empty() {
        return fill_with(y, || Err(of_empty(op)));
    }
    let settings = context::settings()?;
    let chunk = (CHUNK / cols).max(1);
    let parts = (Rows(x, chunk * cols), RowsMut::new(y, chunk));
    parallel::for_each(settings, parts, work(x), |(x, y)| {
        settings.simd.run(RowPlaces { extreme, x, cols, y });
    });
    Ok(())
}

fn column_places<T: Element>(
    op: &'static str,
    extreme: Extreme,
    x: &[T],
    cols: usize,
    y: &mut [usize],
) -> Result<()> {
    whole_rows(op, x, cols)?;
    lengths!(op, y == cols);
    if x.is_empty() {
        return fill_with(y, || Err(of_empty(op)));
    }
    let settings = context::settings()?;
    let mut extremes = Scratch::new(cols);
    column_totals(settings, extreme.term(), x, cols, &mut extremes);
    let (extremes, parts) = (&extremes[..], (Indices(cols.div_ceil(STRIP)), RowsMut::new(y, STRIP)));
    parallel::for_each(settings, parts, work(x), |(strip, y)| {
        settings.simd.run(ColumnPlaces { extremes, x, cols, start: strip * STRIP, y });
    });
    Ok(())
}

/// How many elements are not 0; NaN is not.
///
/// # Errors
/// [`Error::Setting`] when the environment asks for what this machine does not have.
///
/// ```
/// assert_eq!(gristmill::kernels::reduce::count_nonzero(&[1.0, 0.0, -0.0, f32::NAN])?, 2);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn count_nonzero<T: Element>(x: &[T]) -> Result<usize> {
    compiled_once!("reduce::count_nonzero", |x: &[T]| -> Result<usize> {
        if x.is_empty() {
            return Ok(0);
        }
        // The count of one chunk is exact in either type.
        let mut pieces = Scratch::new(x.len().div_ceil(CHUNK));
        row_totals(context::settings()?, Term::NonZero, x, CHUNK, &mut pieces);
        Ok(pieces.iter().map(|&count: &T| count.to_f64() as usize).sum())
    })
}

/// `Σ a·b`, in the order of a sum. Its gradients are `dy·b` and `dy·a`:
/// [`map::binary_scalar`](super::map::binary_scalar).
///
/// # Errors
/// [`Error::Shape`] when the lengths differ.
///
/// ```
/// assert_eq!(gristmill::kernels::reduce::dot(&[1.0_f32, 2.0], &[3.0, 4.0])?, 11.0);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn dot<T: Element>(a: &[T], b: &[T]) -> Result<T> {
    compiled_once!("reduce::dot", |a: &[T], b: &[T]| -> Result<T> {
        lengths!("dot", b == a.len());
        Ok(passes::dot(context::settings()?, a, b))
    })
}

/// Whether a sum (or mean) of `len` squares is accurate: NaN, or finite and so large that underflow of
/// squares does not matter.
pub(super) fn squares_are_safe<T: Element>(sum: T, len: usize) -> bool {
    let smallest = simd::smallest_normal::<T>() * len as f64;
    sum.is_nan() || (sum.is_finite() && sum.to_f64() >= smallest)
}

/// A power of two that brings the largest magnitude near 1, and its inverse; neither is subnormal. `None`
/// when all are 0 or any is not finite.
pub(super) fn middle_scales<T: Element>(x: impl Iterator<Item = T>) -> Option<(T, T)> {
    let mut largest = T::ZERO;
    for x in x {
        if !x.is_finite() {
            return None;
        }
        largest = if x.abs() > largest { x.abs() } else { largest };
    }
    if largest == T::ZERO {
        return None;
    }
    let limit = if simd::is::<T, f32>() { 126 } else { 1022 };
    let exponent = ((largest.to_f64().to_bits() >> 52) as i64 - 1023).clamp(-limit, limit);
    Some((T::from_f64(power_of_two(-exponent)), T::from_f64(power_of_two(exponent))))
}

/// An error unless `x` is whole rows of `cols` and `y` has one element for each; of empty rows
/// there are as many as `y` has elements.
pub(super) fn check_rows<T, Y>(op: &'static str, x: &[T], cols: usize, y: &[Y]) -> Result<()> {
    let rows = whole_rows(op, x, cols)?;
    if cols == 0 { Ok(()) } else { y.expect_len(op, "y", rows) }
}

pub(super) fn fill_with<Y: Copy>(y: &mut [Y], value: impl Fn() -> Result<Y>) -> Result<()> {
    if !y.is_empty() {
        y.fill(value()?);
    }
    Ok(())
}
