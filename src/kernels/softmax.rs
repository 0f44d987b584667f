//! Softmax over rows: `y[i] = exp(x[i] − max x) / Σ exp(x[j] − max x)`.
//!
//! The exponentials are of numbers ≤ 0, so that nothing overflows; the sum runs in the fixed lane tree. The error of
//! each `y` is within (2 ULP of exp + n·u of the sum + 1 ULP of the quotient) relative. A row with a NaN or with +∞
//! gives NaN in every place; a row of −∞ gives NaN too, as in PyTorch.

use super::{same_len, whole_rows};
use crate::context;
use crate::error::Result;
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::{Element, Kernel, Simd, slices};

/// Elements per parallel chunk, at least: 64 KiB of f32.
const CHUNK: usize = 16 * 1024;
/// Measured on one core with AVX2: `cargo bench --bench softmax`.
const NANOSECONDS_PER_ELEMENT: f64 = 0.8;

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
    let rows = whole_rows("softmax", x, cols)?;
    same_len("softmax", "y", y, x.len())?;
    let settings = context::settings()?;
    let chunk = cols * (CHUNK / cols.max(1)).clamp(1, rows.max(1));
    let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
    parallel::for_each(settings, (Rows(x, chunk), RowsMut::new(y, chunk)), work, |(x, y)| {
        settings.simd.run(Forward { x, y, cols });
    });
    Ok(())
}

struct Forward<'a, T> {
    x: &'a [T],
    y: &'a mut [T],
    cols: usize,
}

impl<T: Element> Kernel for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (x, y) in self.x.chunks_exact(self.cols).zip(self.y.chunks_exact_mut(self.cols)) {
            let max = s.splat(slices::max(s, x));
            slices::map(
                s,
                x,
                y,
                #[inline(always)]
                |x| T::exp(s, x - max),
            );
            let sum = s.splat(slices::sum(
                s,
                y,
                #[inline(always)]
                |y| y,
            ));
            slices::map_in_place(
                s,
                y,
                #[inline(always)]
                |y| y / sum,
            );
        }
    }
}
