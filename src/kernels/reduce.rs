//! Reductions of everything, by row and by column: sum, mean, product, largest, smallest, sum of squares, any, all, number
//! of non-zeros, variance, standard deviation, argmax, argmin, dot product.
//!
//! Columns means: `x` is rows of `cols` elements, and the result has one element per column.
//!
//! **Rounding.** With u = 2⁻²⁴ (f32) or 2⁻⁵³ (f64), to first order:
//! * sums of n elements and sums by row: within `d·u·Σ|x|`, where `d = ⌈min(n, 4096)/(4·lanes)⌉ + 6 + ⌈log₂⌈n/4096⌉⌉`
//!   additions at the most lead from an element to the result (16 lanes of f32, 8 of f64): 78 additions for a million f32;
//! * sums by column: the same with `d = 128 + ⌈log₂ n⌉` for n rows, or `n` where that is less;
//! * a sum of squares, a dot product and a mean: one rounding more;
//! * a product of n elements: `(n − 1)·u` relative as long as no product of some of them leaves the normal range;
//! * a variance: `(d + 7 + 2κ)·u` relative, with `κ = |x₀ − mean|/σ ≤ √n`, where x₀ is the first element (of the row,
//!   of the column) and σ² = Σ(x − mean)²/n; it does not grow with the mean. Where squares underflow, n times the
//!   smallest subnormal number is added. Nothing overflows unless the variance does;
//! * a standard deviation: half that and `2u`; nothing overflows or underflows unless it does itself.
//!
//! **Special values.** Sums and means are IEEE 754: a NaN, or infinities of both signs, give NaN. The largest and the
//! smallest of anything with a NaN are NaN. Which zero is the largest of −0 and +0 is not said. The variance of anything
//! with a NaN or an infinity is NaN; one that is too large for the type is +∞. NaN is not 0: it counts as one that is set.
//! Of nothing, a sum is 0, a product 1, any is 0, all is 1, a mean and a variance are NaN, and a largest, a smallest or its
//! place is an error.

pub(super) mod passes;

use super::{Operand as _, compiled_once, lengths, power_of_two, whole_rows};
use crate::buffer::Scratch;
use crate::context::{self, Settings};
use crate::error::{Error, Result};
use crate::parallel::{self, Indices, Rows, RowsMut};
use crate::simd::{self, Element};
use passes::{
    ColumnPlaces, Extreme, PIECE, RowPlaces, RowVariances, STRIP, Spread, Term, column_totals, long_variance,
    row_totals, total, work,
};

/// What many elements become.
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
    /// How many are not 0: exact up to 2²⁴ (f32) or 2⁵³ (f64), a sum of ones beyond. See also [`count_nonzero`].
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
    fn of_nothing<T: Element>(self) -> Result<T> {
        match self {
            Reduce::Sum | Reduce::SumOfSquares | Reduce::Any | Reduce::CountNonzero => Ok(T::ZERO),
            Reduce::Prod | Reduce::All => Ok(T::ONE),
            Reduce::Mean => Ok(T::NAN),
            Reduce::Max | Reduce::Min => Err(of_nothing(self.name())),
        }
    }

    /// Makes means of the sums of `count` elements.
    fn finish<T: Element>(self, count: usize, totals: &mut [T]) {
        if self == Reduce::Mean {
            let count = T::from_f64(count as f64);
            totals.iter_mut().for_each(|total| *total = *total / count);
        }
    }
}

fn of_nothing(op: &'static str) -> Error {
    Error::shape(op, "there are no elements to choose from")
}

/// All elements of `x` become one.
///
/// # Errors
/// [`Error::Shape`] for the largest or the smallest of nothing.
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
            return op.of_nothing();
        }
        let mut y = [total(context::settings()?, op.term(), x)];
        op.finish(x.len(), &mut y);
        Ok(y[0])
    })
}

/// Each row of `cols` elements becomes one; `y` has one element per row.
///
/// With `cols = 0`, `x` is empty and every element of `y` is the result for nothing.
///
/// # Errors
/// [`Error::Shape`] when `x` is not whole rows, when `y` has another length, for the largest or the smallest of nothing.
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
            return fill_with(y, || op.of_nothing());
        }
        let settings = context::settings()?;
        if cols <= PIECE {
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

/// Each of the `cols` columns becomes one element of `y`.
///
/// # Errors
/// [`Error::Shape`] when `x` is not whole rows, when `y` has not `cols` elements, for the largest or the smallest of no rows.
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
            return fill_with(y, || op.of_nothing());
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
        return Err(of_nothing(op));
    }
    let settings = context::settings()?;
    let mut place = [0];
    if x.len() <= PIECE {
        settings.simd.run(RowPlaces { extreme, x, cols: x.len(), y: &mut place });
        return Ok(place[0]);
    }
    let mut extremes = Scratch::new(x.len().div_ceil(PIECE));
    row_totals(settings, extreme.term(), x, PIECE, &mut extremes);
    settings.simd.run(RowPlaces { extreme, x: &extremes, cols: extremes.len(), y: &mut place });
    let start = place[0] * PIECE;
    let piece = &x[start..x.len().min(start + PIECE)];
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
        return fill_with(y, || Err(of_nothing(op)));
    }
    let settings = context::settings()?;
    let chunk = (PIECE / cols).max(1);
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
        return fill_with(y, || Err(of_nothing(op)));
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
        // A piece's count is exact in either type.
        let mut pieces = Scratch::new(x.len().div_ceil(PIECE));
        row_totals(context::settings()?, Term::NonZero, x, PIECE, &mut pieces);
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

/// The gradient of the product of each row of `cols` elements: `dx[i] = dy·Π x[j]` over all j ≠ i, without a division,
/// so that it is right where elements are 0. `dy` has one element per row.
///
/// The products of what is before and behind i, each in order: `cols·u` relative, as long as the result is not subnormal.
/// Where one of these products leaves the normal range, as that of a long row does before its small elements bring it
/// back, a row is multiplied anew with its exponents apart.
///
/// # Errors
/// [`Error::Shape`] when `x` is not whole rows, when `dy` has not one element per row or `dx` another length than `x`.
///
/// ```
/// let mut dx = [0.0_f32; 3];
/// gristmill::kernels::reduce::prod_backward(&[2.0, 0.0, 5.0], &[1.0], 3, &mut dx)?;
/// assert_eq!(dx, [0.0, 10.0, 0.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn prod_backward<T: Element>(x: &[T], dy: &[T], cols: usize, dx: &mut [T]) -> Result<()> {
    compiled_once!("reduce::prod_backward", |x: &[T], dy: &[T], cols: usize, dx: &mut [T]| -> Result<()> {
        check_rows("prod", x, cols, dy)?;
        lengths!("prod", dx == x.len());
        if x.is_empty() {
            return Ok(());
        }
        let settings = context::settings()?;
        let chunk = (PIECE / cols).max(1);
        let parts = (Rows(x, chunk * cols), Rows(dy, chunk), RowsMut::new(dx, chunk * cols));
        // Two chains of multiplications: some ten times a pass.
        parallel::for_each(settings, parts, 10 * work(x), |(x, dy, dx)| {
            for ((x, &dy), dx) in x.chunks_exact(cols).zip(dy).zip(dx.chunks_exact_mut(cols)) {
                products_of_the_others(x, dy, dx);
            }
        });
        Ok(())
    })
}

/// The gradient of the product of one row.
fn products_of_the_others<T: Element>(x: &[T], dy: T, dx: &mut [T]) {
    let mut smallest = T::INFINITY;
    let mut note = |product: T| smallest = if product.abs() < smallest { product.abs() } else { smallest };
    let mut before = T::ONE;
    for (&x, dx) in x.iter().zip(&mut *dx) {
        *dx = before;
        before = before * x;
        note(before);
    }
    let mut behind = dy;
    for (&x, dx) in x.iter().zip(&mut *dx).rev() {
        *dx = *dx * behind;
        behind = behind * x;
        note(behind);
    }
    // What has become infinite or NaN stays so until the end; what has lost digits may have come back.
    if before.is_finite() && behind.is_finite() && smallest.to_f64() >= smallest_normal::<T>() {
        return;
    }
    // Fraction and exponent of each product.
    let mut products = Scratch::<f64>::new(2 * x.len());
    let products = products.as_chunks_mut::<2>().0;
    let mut before = Wide::ONE;
    for (&x, product) in x.iter().zip(&mut *products) {
        *product = [before.fraction, before.exponent as f64];
        before = before.times(Wide::new(x.to_f64()));
    }
    let mut behind = Wide::new(dy.to_f64());
    for ((&x, dx), &mut [fraction, exponent]) in x.iter().zip(dx).zip(products).rev() {
        let before = Wide { fraction, exponent: exponent as i64 };
        *dx = T::from_f64(before.times(behind).to_f64());
        behind = behind.times(Wide::new(x.to_f64()));
    }
}

/// A number with an exponent of its own, `fraction·2^exponent`: a product of many never leaves the range. Zero, infinities
/// and NaN have the exponent 0.
#[derive(Clone, Copy)]
struct Wide {
    /// Its magnitude is from 1 to 2.
    fraction: f64,
    exponent: i64,
}

impl Wide {
    const ONE: Self = Self { fraction: 1.0, exponent: 0 };

    fn new(x: f64) -> Self {
        if x == 0.0 || !x.is_finite() {
            return Self { fraction: x, exponent: 0 };
        }
        let (x, shifted) = if x.is_subnormal() { (x * power_of_two(54), 54) } else { (x, 0) };
        let (bits, exponents) = (x.to_bits(), 0x7ff << 52);
        let fraction = f64::from_bits((bits & !exponents) | (1023 << 52));
        Self { fraction, exponent: ((bits & exponents) >> 52) as i64 - 1023 - shifted }
    }

    fn times(self, other: Self) -> Self {
        let product = Self::new(self.fraction * other.fraction);
        Self { exponent: product.exponent + self.exponent + other.exponent, ..product }
    }

    fn to_f64(self) -> f64 {
        // Two factors: one alone would leave the range where the result is subnormal. Beyond 2000 it is 0 or infinite anyway.
        let exponent = self.exponent.clamp(-2000, 2000);
        let half = exponent / 2;
        self.fraction * power_of_two(half) * power_of_two(exponent - half)
    }
}

/// `Σ (x − mean)² / (n − correction)`: 0 for the variance of these numbers, 1 for the unbiased estimate of that of
/// the population they were drawn from. NaN when `n <= correction`.
///
/// Two passes over `x − x[0]`: right also where the mean is a million times the deviation, and for numbers of 1e30.
///
/// # Errors
/// None of its own.
///
/// ```
/// let x = [1e6_f32, 1e6 + 1.0, 1e6 + 2.0];
/// assert_eq!(gristmill::kernels::reduce::variance_all(&x, 1)?, 1.0);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn variance_all<T: Element>(x: &[T], correction: usize) -> Result<T> {
    compiled_once!("reduce::variance_all", |x: &[T], correction: usize| -> Result<T> {
        let Some(spread) = Spread::new(x.len(), correction) else { return Ok(T::NAN) };
        Ok(long_variance(context::settings()?, spread, x))
    })
}

/// [`variance_all`] of each row of `cols` elements; `y` has one element per row.
///
/// # Errors
/// [`Error::Shape`] when `x` is not whole rows or `y` has another length.
pub fn variance_rows<T: Element>(x: &[T], cols: usize, correction: usize, y: &mut [T]) -> Result<()> {
    compiled_once!("reduce::variance_rows", |x: &[T],
                                             cols: usize,
                                             correction: usize,
                                             y: &mut [T]|
     -> Result<()> {
        check_rows("variance", x, cols, y)?;
        let Some(spread) = Spread::new(cols, correction) else { return fill_with(y, || Ok(T::NAN)) };
        let settings = context::settings()?;
        if cols <= PIECE {
            let chunk = (PIECE / cols).max(1);
            let parts = (Rows(x, chunk * cols), RowsMut::new(y, chunk));
            parallel::for_each(settings, parts, 2 * work(x), |(x, y)| {
                settings.simd.run(RowVariances { spread, x, cols, y });
            });
        } else {
            for (x, y) in x.chunks_exact(cols).zip(y) {
                *y = long_variance(settings, spread, x);
            }
        }
        Ok(())
    })
}

/// [`variance_all`] of each of the `cols` columns, to `y` of `cols` elements.
///
/// # Errors
/// [`Error::Shape`] when `x` is not whole rows or `y` has not `cols` elements.
pub fn variance_cols<T: Element>(x: &[T], cols: usize, correction: usize, y: &mut [T]) -> Result<()> {
    compiled_once!("reduce::variance_cols", |x: &[T],
                                             cols: usize,
                                             correction: usize,
                                             y: &mut [T]|
     -> Result<()> {
        let rows = whole_rows("variance", x, cols)?;
        lengths!("variance", y == cols);
        let Some(spread) = Spread::new(rows, correction) else { return fill_with(y, || Ok(T::NAN)) };
        let settings = context::settings()?;
        let mut first = Scratch::new(cols);
        first.copy_from_slice(&x[..cols]);
        let mut mean = Scratch::new(cols);
        column_totals(settings, Term::Deviation { spread, first: &first }, x, cols, &mut mean);
        mean.iter_mut().for_each(|mean| *mean = spread.mean(*mean));
        column_totals(settings, Term::Squared { spread, first: &first, mean: &mean }, x, cols, y);
        y.iter_mut().for_each(|y| *y = spread.variance(*y));
        Ok(())
    })
}

/// The square root of [`variance_all`]. Right also where the variance would overflow or underflow: such numbers are
/// multiplied by a power of two first.
///
/// # Errors
/// None of its own.
///
/// ```
/// assert_eq!(gristmill::kernels::reduce::std_all(&[1.0_f32, 3.0], 0)?, 1.0);
/// assert_eq!(gristmill::kernels::reduce::std_all(&[1e38_f32, -1e38], 0)?, 1e38);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn std_all<T: Element>(x: &[T], correction: usize) -> Result<T> {
    compiled_once!("reduce::std_all", |x: &[T], correction: usize| -> Result<T> {
        let Some(spread) = Spread::new(x.len(), correction) else { return Ok(T::NAN) };
        let settings = context::settings()?;
        let variance = long_variance(settings, spread, x);
        Ok(deviation_of(settings, spread, variance, x.iter().copied(), x.len()))
    })
}

/// [`std_all`] of each row of `cols` elements; `y` has one element per row.
///
/// # Errors
/// [`Error::Shape`] when `x` is not whole rows or `y` has another length.
pub fn std_rows<T: Element>(x: &[T], cols: usize, correction: usize, y: &mut [T]) -> Result<()> {
    compiled_once!("reduce::std_rows", |x: &[T], cols: usize, correction: usize, y: &mut [T]| -> Result<()> {
        check_rows("std", x, cols, y)?;
        variance_rows(x, cols, correction, y)?;
        let Some(spread) = Spread::new(cols, correction) else { return Ok(()) };
        let settings = context::settings()?;
        for (x, y) in x.chunks_exact(cols).zip(y) {
            *y = deviation_of(settings, spread, *y, x.iter().copied(), cols);
        }
        Ok(())
    })
}

/// [`std_all`] of each of the `cols` columns, to `y` of `cols` elements.
///
/// # Errors
/// [`Error::Shape`] when `x` is not whole rows or `y` has not `cols` elements.
pub fn std_cols<T: Element>(x: &[T], cols: usize, correction: usize, y: &mut [T]) -> Result<()> {
    compiled_once!("reduce::std_cols", |x: &[T], cols: usize, correction: usize, y: &mut [T]| -> Result<()> {
        let rows = whole_rows("std", x, cols)?;
        lengths!("std", y == cols);
        variance_cols(x, cols, correction, y)?;
        let Some(spread) = Spread::new(rows, correction) else { return Ok(()) };
        let settings = context::settings()?;
        for (j, y) in y.iter_mut().enumerate() {
            *y = deviation_of(settings, spread, *y, x[j..].iter().step_by(cols).copied(), rows);
        }
        Ok(())
    })
}

/// The root of a variance; where squares may have left the range, that of the numbers brought into its middle.
fn deviation_of<T: Element>(
    settings: Settings,
    spread: Spread<T>,
    variance: T,
    x: impl Iterator<Item = T> + Clone,
    len: usize,
) -> T {
    if squares_are_safe(variance, len) {
        return variance.sqrt();
    }
    let Some((scale, back)) = middle_scales(x.clone()) else { return variance.sqrt() };
    let mut scaled = Scratch::new(len);
    scaled.iter_mut().zip(x).for_each(|(to, x)| *to = x * scale);
    long_variance(settings, spread, &scaled).sqrt() * back
}

/// Whether a sum (or mean) of `len` squares is right: finite, or NaN, and so large that what underflowed does not matter.
pub(super) fn squares_are_safe<T: Element>(sum: T, len: usize) -> bool {
    let smallest = smallest_normal::<T>() * len as f64;
    sum.is_nan() || (sum.is_finite() && sum.to_f64() >= smallest)
}

/// A power of two that brings the largest magnitude near 1, and its inverse; neither is subnormal. `None` when all are 0 or
/// any is not finite.
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

fn smallest_normal<T: Element>() -> f64 {
    if simd::is::<T, f32>() { f64::from(f32::MIN_POSITIVE) } else { f64::MIN_POSITIVE }
}

/// An error unless `x` is whole rows of `cols` and `y` has one element for each; rows of nothing are as many as `y` has.
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
