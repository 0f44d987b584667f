//! The logarithm of the sum of exponentials over rows or columns: `y = m + ln Σ exp(x[j] − m)`, where m is
//! the largest of the row.
//!
//! With d and u as in [`softmax`](super::softmax), the error of y is within `(d + 4 + 5·ln n + |y|)·u`; of
//! columns d is that of a sum by column in [`reduce`](super::reduce).
//!
//! A row of −∞ only, and an empty row, give −∞; a row with +∞ gives +∞; a row with a NaN gives NaN.

use super::reduce::passes::{CHUNK, Term, column_totals, total};
use super::{Operand as _, compiled_once, lengths, rows_per_chunk, whole_rows};
use crate::buffer::Scratch;
use crate::context;
use crate::error::Result;
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::{Element, Kernel, Simd, slices};

/// Measured on one core with AVX2, f32: `cargo bench --bench criterion -- logsumexp`.
const NANOSECONDS_PER_ELEMENT: f64 = 0.6;

/// The log-sum-exp of each row of `cols` elements of `x`, to `y` with one element per row.
///
/// With `cols = 0`, `x` is empty and every element of `y` is −∞.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows or `y` has another length.
///
/// ```
/// let mut y = [0.0_f64; 2];
/// gristmill::kernels::logsumexp::forward(&[0.0, 0.0, 1000.0, 0.0], 2, &mut y)?;
/// assert_eq!(y, [2f64.ln(), 1000.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn forward<T: Element>(x: &[T], cols: usize, y: &mut [T]) -> Result<()> {
    compiled_once!("logsumexp::forward", |x: &[T], cols: usize, y: &mut [T]| -> Result<()> {
        check_rows(x, cols, "y", y)?;
        if cols == 0 {
            y.fill(-T::INFINITY);
            return Ok(());
        }
        let settings = context::settings()?;
        if cols > CHUNK {
            // The same sums, on all threads.
            for (x, y) in x.chunks_exact(cols).zip(&mut *y) {
                let max = total(settings, Term::Max, x);
                let shift = if max.is_finite() { max } else { T::ZERO };
                *y = total(settings, Term::Exponential { shift }, x);
                settings.simd.run(AddShifts { shifts: &[shift], y: std::slice::from_mut(y) });
            }
            return Ok(());
        }
        let chunk = rows_per_chunk(cols);
        let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
        parallel::for_each(settings, (Rows(x, cols * chunk), RowsMut::new(y, chunk)), work, |(x, y)| {
            settings.simd.run(ForwardChunk { x, cols, y });
        });
        Ok(())
    })
}

/// The gradient of `x` from `x`, its log-sum-exp `y` and the gradient `dy` of `y`: `dx[i] = dy·p[i]` with
/// `p[i] = exp(x[i] − y)/Σ exp(x[j] − y)` in each row, which has one `y` and one `dy`. The sum is 1 but for
/// the rounding of y, which in a row of large elements leaves no digit of `ln Σ`.
///
/// Within `(|x[i] − y| + d + 8)·u` relative, as long as the result is not subnormal, with d as in
/// [`softmax`](super::softmax). As in PyTorch, the gradient is NaN where x\[i\] and y are the same infinity:
/// everywhere in a row of −∞, and at each +∞.
///
/// ```
/// use gristmill::kernels::logsumexp::Backward;
/// let (x, mut dx) = ([3.0, f32::NEG_INFINITY], [0.0; 2]);
/// Backward { x: &x, y: &[3.0], dy: &[2.0], cols: 2, dx: &mut dx }.run()?;
/// assert_eq!(dx, [2.0, 0.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Backward<'a, T> {
    /// Whole rows.
    pub x: &'a [T],
    /// The log-sum-exp of each row, from [`forward`].
    pub y: &'a [T],
    /// The gradient of each log-sum-exp.
    pub dy: &'a [T],
    /// The number of elements in a row.
    pub cols: usize,
    /// Output of the length of `x`.
    pub dx: &'a mut [T],
}

impl<T: Element> Backward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows, when `y` or `dy` has not one element
    /// per row, when `dx` has another length than `x`.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("logsumexp::backward", |call: Backward<'_, T>| -> Result<()> {
            let Backward { x, y, dy, cols, dx } = call;
            check_rows(x, cols, "y", y)?;
            check_rows(x, cols, "dy", dy)?;
            lengths!("logsumexp", dx == x.len());
            if x.is_empty() {
                return Ok(());
            }
            let settings = context::settings()?;
            let chunk = rows_per_chunk(cols);
            let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
            let parts =
                (Rows(x, cols * chunk), Rows(y, chunk), Rows(dy, chunk), RowsMut::new(dx, cols * chunk));
            parallel::for_each(settings, parts, work, |(x, y, dy, dx)| {
                settings.simd.run(BackwardChunk { x, y, dy, cols, dx });
            });
            Ok(())
        })
    }
}

/// The log-sum-exp of each of the `cols` columns of `x`, to `y` of `cols` elements.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows or `y` has not `cols` elements.
///
/// ```
/// let mut y = [0.0_f64; 2];
/// gristmill::kernels::logsumexp::forward_cols(&[0.0, 1000.0, 0.0, 0.0], 2, &mut y)?;
/// assert_eq!(y, [2f64.ln(), 1000.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn forward_cols<T: Element>(x: &[T], cols: usize, y: &mut [T]) -> Result<()> {
    compiled_once!("logsumexp::forward_cols", |x: &[T], cols: usize, y: &mut [T]| -> Result<()> {
        whole_rows("logsumexp", x, cols)?;
        lengths!("logsumexp", y == cols);
        if x.is_empty() {
            y.fill(-T::INFINITY);
            return Ok(());
        }
        let settings = context::settings()?;
        let mut shifts = Scratch::new(cols);
        column_totals(settings, Term::Max, x, cols, &mut shifts);
        shifts.iter_mut().filter(|shift| !shift.is_finite()).for_each(|shift| *shift = T::ZERO);
        column_totals(settings, Term::Exponential { shift: &shifts[..] }, x, cols, y);
        settings.simd.run(AddShifts { shifts: &shifts, y });
        Ok(())
    })
}

/// The gradient of [`forward_cols`], as [`Backward`] with the d of a sum by column; `y` and `dy` have one
/// element per column.
#[derive(Debug, Default)]
pub struct BackwardCols<'a, T> {
    /// Whole rows.
    pub x: &'a [T],
    /// The log-sum-exp of each column, from [`forward_cols`].
    pub y: &'a [T],
    /// The gradient of each log-sum-exp.
    pub dy: &'a [T],
    /// The number of columns.
    pub cols: usize,
    /// Output of the length of `x`.
    pub dx: &'a mut [T],
}

impl<T: Element> BackwardCols<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows, when `y` or `dy` has not `cols`
    /// elements, when `dx` has another length than `x`.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("logsumexp::backward_cols", |call: BackwardCols<'_, T>| -> Result<()> {
            let BackwardCols { x, y, dy, cols, dx } = call;
            whole_rows("logsumexp", x, cols)?;
            lengths!("logsumexp", y == cols, dy == cols, dx == x.len());
            if x.is_empty() {
                return Ok(());
            }
            let settings = context::settings()?;
            let mut scales = Scratch::new(cols);
            column_totals(settings, Term::Exponential { shift: y }, x, cols, &mut scales);
            for ((scale, &y), &dy) in scales.iter_mut().zip(y).zip(dy) {
                *scale = if y.is_finite() { dy / *scale } else { dy };
            }
            let (scales, chunk) = (&scales[..], rows_per_chunk(cols) * cols);
            let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
            parallel::for_each(settings, (Rows(x, chunk), RowsMut::new(dx, chunk)), work, |(x, dx)| {
                settings.simd.run(BackwardColsChunk { x, y, scales, dx });
            });
            Ok(())
        })
    }
}

/// An error unless `x` is whole rows and `y` has one element for each; of empty rows there are as many as `y`
/// has.
fn check_rows<T>(x: &[T], cols: usize, name: &str, y: &[T]) -> Result<()> {
    let rows = whole_rows("logsumexp", x, cols)?;
    if cols == 0 { Ok(()) } else { y.expect_len("logsumexp", name, rows) }
}

struct ForwardChunk<'a, T> {
    x: &'a [T],
    cols: usize,
    y: &'a mut [T],
}

impl<T: Element> Kernel for ForwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // One vector logarithm for as many rows as a register has lanes.
        for (x, y) in self.x.chunks(self.cols * T::LANES).zip(self.y.chunks_mut(T::LANES)) {
            let mut shifts = [T::ZERO; 16];
            for ((x, shift), sum) in x.chunks_exact(self.cols).zip(&mut shifts).zip(&mut *y) {
                let max = slices::max(s, x);
                // With an infinite largest element the differences would be NaN.
                *shift = if max.is_finite() { max } else { T::ZERO };
                let shift = s.splat(*shift);
                *sum = slices::sum(
                    s,
                    x,
                    #[inline(always)]
                    |x| T::exp(s, x - shift),
                );
            }
            let ln_sums = T::ln(s, s.load_partial(y));
            s.store_partial(s.load(&shifts) + ln_sums, y);
        }
    }
}

struct BackwardChunk<'a, T> {
    x: &'a [T],
    y: &'a [T],
    dy: &'a [T],
    cols: usize,
    dx: &'a mut [T],
}

impl<T: Element> Kernel for BackwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, dx) = (self.x.chunks_exact(self.cols), self.dx.chunks_exact_mut(self.cols));
        for (((x, y), dy), dx) in x.zip(self.y).zip(self.dy).zip(dx) {
            let shift = s.splat(*y);
            slices::map(
                s,
                x,
                dx,
                #[inline(always)]
                |x| T::exp(s, x - shift),
            );
            let sum = slices::sum(
                s,
                dx,
                #[inline(always)]
                |p| p,
            );
            // In a row with an infinity the sum is not finite, either.
            let scale = s.splat(if y.is_finite() { *dy / sum } else { *dy });
            slices::map_in_place(
                s,
                dx,
                #[inline(always)]
                |p| p * scale,
            );
        }
    }
}

/// `y = shifts + ln y`.
struct AddShifts<'a, T> {
    shifts: &'a [T],
    y: &'a mut [T],
}

impl<T: Element> Kernel for AddShifts<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        slices::map2_in_place(
            s,
            self.shifts,
            self.y,
            #[inline(always)]
            |shift, sum| shift + T::ln(s, sum),
        );
    }
}

struct BackwardColsChunk<'a, T> {
    x: &'a [T],
    y: &'a [T],
    /// `dy/Σ exp(x − y)`.
    scales: &'a [T],
    dx: &'a mut [T],
}

impl<T: Element> Kernel for BackwardColsChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let cols = self.y.len();
        for (x, dx) in self.x.chunks_exact(cols).zip(self.dx.chunks_exact_mut(cols)) {
            slices::map3(
                s,
                [x, self.y, self.scales],
                dx,
                #[inline(always)]
                |x, y, scale| scale * T::exp(s, x - y),
            );
        }
    }
}
