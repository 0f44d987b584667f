//! Variances and standard deviations.

use super::passes::{CHUNK, RowVariances, Spread, Term, column_totals, long_variance, work};
use super::{check_rows, fill_with, middle_scales, squares_are_safe};
use crate::buffer::Scratch;
use crate::context::{self, Settings};
use crate::error::Result;
use crate::kernels::{compiled_once, lengths, whole_rows};
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::Element;

/// `Σ (x − mean)² / (n − correction)`: 0 for the variance of these numbers, 1 for the unbiased estimate of
/// that of the population they were drawn from. NaN when `n <= correction`.
///
/// Two passes over `x − x[0]`: accurate also where the mean is a million times the deviation, and for numbers
/// of 1e30.
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
/// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows or `y` has another length.
pub fn variance_rows<T: Element>(x: &[T], cols: usize, correction: usize, y: &mut [T]) -> Result<()> {
    compiled_once!("reduce::variance_rows", |x: &[T],
                                             cols: usize,
                                             correction: usize,
                                             y: &mut [T]|
     -> Result<()> {
        check_rows("variance", x, cols, y)?;
        let Some(spread) = Spread::new(cols, correction) else { return fill_with(y, || Ok(T::NAN)) };
        let settings = context::settings()?;
        if cols <= CHUNK {
            let chunk = (CHUNK / cols).max(1);
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
/// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows or `y` has not `cols` elements.
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

/// The square root of [`variance_all`]. Accurate also where the variance would overflow or
/// underflow: such numbers are multiplied by a power of two first.
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
/// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows or `y` has another length.
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
/// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows or `y` has not `cols` elements.
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

/// The root of a variance; where squares may have left the range, of that of scaled elements.
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
