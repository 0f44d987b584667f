//! The logarithm of the softmax over rows: `y[i] = (x[i] − max x) − ln Σ exp(x[j] − max x)`.
//!
//! With d and u as in [`softmax`](super::softmax), the error of y\[i\] is within
//! `(d + 4 + 5·ln n + |x[i] − max x| + |y[i]|)·u`: it does not grow with the size of the logits, only with
//! their spread.
//!
//! A row with a NaN or +∞, and a row of −∞ only, is NaN throughout, as in PyTorch. Elsewhere −∞ gives −∞.

use super::{compiled_once, lengths, rows_per_chunk, whole_rows};
use crate::context;
use crate::error::Result;
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::{Element, Float, Kernel, Simd, slices};

/// Measured on one core with AVX2, f32: `cargo bench --bench criterion -- log_softmax`.
const NANOSECONDS_PER_ELEMENT: f64 = 0.6;

/// Log-softmax of each row of `cols` elements of `x`, to `y` of the same length.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows or `y` has another length.
///
/// ```
/// let mut y = [0.0_f64; 4];
/// gristmill::kernels::log_softmax::forward(&[7.0, 7.0, 1000.0, 0.0], 2, &mut y)?;
/// assert_eq!(y, [-2f64.ln(), -2f64.ln(), 0.0, -1000.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn forward<T: Element>(x: &[T], cols: usize, y: &mut [T]) -> Result<()> {
    compiled_once!("log_softmax::forward", |x: &[T], cols: usize, y: &mut [T]| -> Result<()> {
        whole_rows("log_softmax", x, cols)?;
        lengths!("log_softmax", y == x.len());
        let settings = context::settings()?;
        let chunk = cols * rows_per_chunk(cols);
        let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
        parallel::for_each(settings, (Rows(x, chunk), RowsMut::new(y, chunk)), work, |(x, y)| {
            settings.simd.run(ForwardChunk { x, y, cols });
        });
        Ok(())
    })
}

/// The gradient of `x` from the log-softmax `y` and its gradient `dy`: `dx[i] = dy[i] − exp(y[i])·Σ dy[j]` in
/// each row.
///
/// Within `(|dx[i]| + (4·|Σ dy| + d·Σ|dy|)·exp(y[i]))·u` as long as `Σ|dy|` does not overflow; where
/// `exp(y[i])` is subnormal, its absolute error counts `Σ dy` times. A NaN in `dy` propagates to the whole
/// row.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) when `y` is not whole rows or `dy` or `dx` has another length.
///
/// ```
/// let mut dx = [0.0_f32; 2];
/// gristmill::kernels::log_softmax::backward(&[0.0, f32::NEG_INFINITY], &[1.0, 2.0], 2, &mut dx)?;
/// assert_eq!(dx, [-2.0, 2.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn backward<T: Element>(y: &[T], dy: &[T], cols: usize, dx: &mut [T]) -> Result<()> {
    compiled_once!("log_softmax::backward", |y: &[T], dy: &[T], cols: usize, dx: &mut [T]| -> Result<()> {
        whole_rows("log_softmax", y, cols)?;
        lengths!("log_softmax", dy == y.len(), dx == y.len());
        let settings = context::settings()?;
        let chunk = cols * rows_per_chunk(cols);
        let work = (y.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
        let parts = (Rows(y, chunk), Rows(dy, chunk), RowsMut::new(dx, chunk));
        parallel::for_each(settings, parts, work, |(y, dy, dx)| {
            settings.simd.run(BackwardChunk { y, dy, cols, dx })
        });
        Ok(())
    })
}

struct ForwardChunk<'a, T> {
    x: &'a [T],
    y: &'a mut [T],
    cols: usize,
}

impl<T: Element> Kernel for ForwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (x, y) in self.x.chunks_exact(self.cols).zip(self.y.chunks_exact_mut(self.cols)) {
            let max = s.splat(slices::max(s, x));
            let sum = slices::sum(
                s,
                x,
                #[inline(always)]
                |x| T::exp(s, x - max),
            );
            let ln_sum = T::ln(s, s.splat(sum));
            slices::map(
                s,
                x,
                y,
                #[inline(always)]
                |x| (x - max) - ln_sum,
            );
        }
    }
}

struct BackwardChunk<'a, T> {
    y: &'a [T],
    dy: &'a [T],
    cols: usize,
    dx: &'a mut [T],
}

impl<T: Element> Kernel for BackwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (y, dy) = (self.y.chunks_exact(self.cols), self.dy.chunks_exact(self.cols));
        for ((y, dy), dx) in y.zip(dy).zip(self.dx.chunks_exact_mut(self.cols)) {
            let sum = s.splat(slices::sum(
                s,
                dy,
                #[inline(always)]
                |dy| dy,
            ));
            slices::map2(
                s,
                y,
                dy,
                dx,
                #[inline(always)]
                |y, dy| T::exp(s, y).neg_mul_add(sum, dy),
            );
        }
    }
}
