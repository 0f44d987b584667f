//! Softmax over rows: `y[i] = exp(x[i] − max x) / Σ exp(x[j] − max x)`.
//!
//! The exponentials are of numbers ≤ 0, so that nothing overflows. With d the additions that lead from an
//! element to a sum of n (⌈min(n, 4096)/(4·lanes)⌉ + 6 + ⌈log₂⌈n/4096⌉⌉, see [`reduce`](super::reduce)) and u
//! = 2⁻²⁴ (f32) or 2⁻⁵³ (f64), the relative error of y\[i\] is within `(d + ln n + 12 + |x[i] − max x|)·u`,
//! as long as y\[i\] is not subnormal: 4u of each exponential, |x − max|·u of the rounded difference under
//! it, 2u of the quotient.
//!
//! A row with a NaN or +∞, and a row of −∞ only, is NaN throughout, as in PyTorch. Elsewhere −∞ gives 0.

use super::{compiled_once, lengths, rows_per_chunk, whole_rows};
use crate::context;
use crate::error::Result;
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::{Element, Float, Kernel, Simd, slices};

/// Measured on one core with AVX2, f32: `cargo bench --bench criterion -- softmax`.
const NANOSECONDS_PER_ELEMENT: f64 = 0.7;
const NANOSECONDS_PER_ELEMENT_BACKWARD: f64 = 0.2;

/// Softmax of each row of `cols` elements of `x`, to `y` of the same length.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows or `y` has another length.
///
/// ```
/// let mut y = [0.0_f64; 4];
/// gristmill::kernels::softmax::forward(&[0.0, 0.0, 1000.0, 0.0], 2, &mut y)?;
/// assert_eq!(y, [0.5, 0.5, 1.0, 0.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn forward<T: Element>(x: &[T], cols: usize, y: &mut [T]) -> Result<()> {
    compiled_once!("softmax::forward", |x: &[T], cols: usize, y: &mut [T]| -> Result<()> {
        whole_rows("softmax", x, cols)?;
        lengths!("softmax", y == x.len());
        let settings = context::settings()?;
        let chunk = cols * rows_per_chunk(cols);
        let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
        parallel::for_each(settings, (Rows(x, chunk), RowsMut::new(y, chunk)), work, |(x, y)| {
            settings.simd.run(ForwardChunk { x, y, cols });
        });
        Ok(())
    })
}

/// The gradient of `x` from the softmax `y` and its gradient `dy`: `dx[i] = y[i]·(dy[i] − Σ y[j]·dy[j])` in
/// each row.
///
/// Within `(2·|dy[i] − s| + (d + 1)·Σ|y·dy|)·|y[i]|·u`, where s is the sum and d as above, as long as
/// `dy[i] − s` and `Σ|y·dy|` do not overflow; products that underflow count with a unit of the smallest
/// number each. NaN and infinities propagate to the whole row.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) when `y` is not whole rows or `dy` or `dx` has another length.
///
/// ```
/// let mut dx = [0.0_f32; 2];
/// gristmill::kernels::softmax::backward(&[0.25, 0.75], &[1.0, 0.0], 2, &mut dx)?;
/// assert_eq!(dx, [0.1875, -0.1875]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn backward<T: Element>(y: &[T], dy: &[T], cols: usize, dx: &mut [T]) -> Result<()> {
    compiled_once!("softmax::backward", |y: &[T], dy: &[T], cols: usize, dx: &mut [T]| -> Result<()> {
        whole_rows("softmax", y, cols)?;
        lengths!("softmax", dy == y.len(), dx == y.len());
        let settings = context::settings()?;
        let chunk = cols * rows_per_chunk(cols);
        let work = (y.len() as f64 * NANOSECONDS_PER_ELEMENT_BACKWARD) as usize;
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
        if self.cols <= T::LANES {
            return short_rows(s, self.x, self.cols, self.y);
        }
        for (x, y) in self.x.chunks_exact(self.cols).zip(self.y.chunks_exact_mut(self.cols)) {
            let max = s.splat(slices::max(s, x));
            slices::map(
                s,
                x,
                y,
                #[inline(always)]
                |x| T::exp(s, x - max),
            );
            let sum = slices::sum(
                s,
                y,
                #[inline(always)]
                |y| y,
            );
            let scale = s.splat(T::ONE / sum);
            slices::map_in_place(
                s,
                y,
                #[inline(always)]
                |y| y * scale,
            );
        }
    }
}

/// Rows that fit in a register. It is stored whole unless `y` ends before: the next row overwrites the
/// excess, and masked stores are slow on some CPUs.
#[inline(always)]
fn short_rows<T: Element, S: Simd>(s: S, x: &[T], cols: usize, y: &mut [T]) {
    for (row, x) in x.chunks_exact(cols).enumerate() {
        let x = s.load_partial_or(x, -T::INFINITY);
        // A NaN that `reduce_max` overlooks reaches the result through the sum.
        let exp = T::exp(s, x - s.splat(x.reduce_max()));
        let softmax = exp * s.splat(T::ONE / exp.reduce_add());
        match &mut y[row * cols..] {
            y if y.len() < T::LANES => s.store_partial(softmax, &mut y[..cols]),
            y => s.store(softmax, y),
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
            let dot = s.splat(slices::sum2(
                s,
                y,
                dy,
                #[inline(always)]
                |y, dy| y * dy,
            ));
            slices::map2(
                s,
                y,
                dy,
                dx,
                #[inline(always)]
                |y, dy| y * (dy - dot),
            );
        }
    }
}
