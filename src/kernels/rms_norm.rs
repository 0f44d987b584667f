//! Root mean square normalisation over rows: `y = x·rstd·γ` with `rstd = 1 / √(mean(x²) + eps)` (Zhang and
//! Sennrich 2019).
//!
//! With `k = min(n, 4096)/16 + n/4096 + 20` and `u` the unit roundoff, `rstd` is within `k·u`, relative, `y`
//! within `2·k·u·|y|`, and `dx` within `4·k·u·rstd·(|g| + |x̂|·mean|g·x̂|)` for `g = dy·γ` and `x̂ = x·rstd`,
//! unless squares fall below the smallest number and `eps` does not hide it. Gradients are right at every
//! size as long as `rstd` is a normal number and `Σ|g|·(|x̂| + 1)` and its product with `rstd` do not
//! overflow; what falls below the smallest number counts with
//! `rstd·(8·(|x̂| + 1) + 2·(|x̂|·mean|g| + mean|g·x̂|))` of its units in `dx`, with `Σ(|dy| + 2)` in
//! `dgamma`.
//!
//! Where squares overflow (|x| above 1e19 in `f32`), the row is summed once more, scaled by a power of two:
//! all rows of finite numbers come out right. NaN in a row gives NaN in that whole row. ±∞ gives NaN in its
//! place and ±0 in the others of its row, as in PyTorch. A row of zeros gives zeros, and with `eps = 0` NaN.

use super::{compiled_once, lengths, rescue_scales, unless_given, valid_eps, whole_rows};
use crate::buffer::Scratch;
use crate::context;
use crate::error::Result;
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::{Element, Float, Kernel, Simd, slices};

/// Elements per parallel chunk, at least: 64 KiB of f32.
const CHUNK: usize = 16 * 1024;
/// Rows per chunk in the backward pass, at least: each chunk has a row of sums of its own.
const ROWS: usize = 16;
/// Estimates from layer normalisation, by the instructions: `cargo bench --bench criterion -- rms_norm`.
const NANOSECONDS_PER_ELEMENT: f64 = 0.2;
const NANOSECONDS_PER_ELEMENT_BACKWARD: f64 = 0.4;

/// Normalises each row of `cols` elements.
///
/// ```
/// use gristmill::kernels::rms_norm::Forward;
/// let (mut y, mut rstd) = ([0.0_f32; 4], [0.0; 2]);
/// let (x, gamma, rstd_of) = (&[2.0, -2.0, 1e30, 1e30], Some(&[1.0, 3.0][..]), Some(&mut rstd[..]));
/// Forward { x, cols: 2, gamma, eps: 0.0, y: &mut y, rstd: rstd_of }.run()?;
/// assert_eq!(y[..2], [1.0, -3.0]);
/// assert!((y[2] - 1.0).abs() < 1e-6 && (y[3] - 3.0).abs() < 1e-6);
/// assert_eq!(rstd[0], 0.5);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug)]
pub struct Forward<'a, T> {
    /// Whole rows.
    pub x: &'a [T],
    /// The number of elements in a row.
    pub cols: usize,
    /// γ, `cols` elements; `None`, the default, for 1.
    pub gamma: Option<&'a [T]>,
    /// Added to the mean of the squares: finite and not negative; the machine epsilon of `T` by default, as
    /// in PyTorch.
    pub eps: f64,
    /// Output of the length of `x`.
    pub y: &'a mut [T],
    /// Output for [`Backward`], one element per row; not written if `None`, the default.
    pub rstd: Option<&'a mut [T]>,
}

impl<T: Element> Default for Forward<'_, T> {
    fn default() -> Self {
        Self { x: &[], cols: 0, gamma: None, eps: T::EPSILON.to_f64(), y: &mut [], rstd: None }
    }
}

impl<T: Element> Forward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows or another slice does not fit,
    /// [`Error::Value`](crate::Error::Value) when `eps` is negative or not finite.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("rms_norm::forward", |call: Forward<'_, T>| -> Result<()> {
            const OP: &str = "rms_norm";
            let Forward { x, cols, gamma, eps, y, rstd } = call;
            let rows = whole_rows(OP, x, cols)?;
            lengths!(OP, gamma == cols, y == x.len(), rstd == rows);
            valid_eps(OP, eps)?;
            let settings = context::settings()?;

            if rows == 0 {
                return Ok(());
            }
            let ones = unless_given(gamma, cols, T::ONE);
            let gamma = gamma.or(ones.as_deref()).unwrap_or_default();
            let eps = T::from_f64(eps);
            let chunk = (CHUNK / cols.max(1)).max(1);
            let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
            let rstd = RowsMut::new(rstd.unwrap_or_default(), chunk);
            let parts = (Rows(x, chunk * cols), RowsMut::new(y, chunk * cols), rstd);
            parallel::for_each(settings, parts, work, |(x, y, rstd)| {
                settings.simd.run(ForwardChunk { x, cols, gamma, eps, y, rstd });
            });
            Ok(())
        })
    }
}

/// The rows of one parallel chunk.
struct ForwardChunk<'a, T> {
    x: &'a [T],
    cols: usize,
    gamma: &'a [T],
    eps: T,
    y: &'a mut [T],
    /// Empty when not wanted.
    rstd: &'a mut [T],
}

impl<T: Element> Kernel for ForwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rows = self.x.chunks_exact(self.cols).zip(self.y.chunks_exact_mut(self.cols));
        for (row, (x, y)) in rows.enumerate() {
            let rstd = inverse_root_mean_square(s, x, self.eps);
            if let Some(place) = self.rstd.get_mut(row) {
                *place = rstd;
            }
            let rstd = s.splat(rstd);
            slices::map2(
                s,
                x,
                self.gamma,
                y,
                #[inline(always)]
                |x, gamma| x * rstd * gamma,
            );
        }
    }
}

/// `1 / √(mean(x²) + eps)` of one row.
#[inline(always)]
fn inverse_root_mean_square<T: Element, S: Simd>(s: S, x: &[T], eps: T) -> T {
    let inverse_n = T::ONE / T::from_f64(x.len() as f64);
    let [squares] = slices::sums::<T, S, 4, 1, 1>(
        s,
        [x],
        #[inline(always)]
        |[squares], [x]| [x.mul_add(x, squares)],
    );
    let mean = squares * inverse_n;
    if mean.is_finite() {
        return T::ONE / (mean + eps).sqrt();
    }
    // Squares overflow, or x is not finite.
    let (scale, unscale) = rescue_scales();
    let factor = s.splat(scale);
    let [squares] = slices::sums::<T, S, 4, 1, 1>(
        s,
        [x],
        #[inline(always)]
        |[squares], [x]| {
            let x = x * factor;
            [x.mul_add(x, squares)]
        },
    );
    let mean = squares * inverse_n;
    let true_mean = mean * unscale * unscale;
    if true_mean.is_finite() {
        return T::ONE / (true_mean + eps).sqrt();
    }
    // The mean is no number of this type, and eps nothing beside it.
    scale / mean.sqrt()
}

/// The gradients of [`Forward`], given its `x`, `gamma` and `rstd`.
///
/// With `g = dy·γ`, `x̂ = x·rstd` and the mean over the row: `dx = rstd·(g − x̂·mean(g·x̂))`. Over the rows:
/// `dgamma = Σ dy·x̂`, within `(k + rows per chunk + 20 + log₂ chunks)·u·Σ|term|`. Both are overwritten.
#[derive(Debug, Default)]
pub struct Backward<'a, T> {
    /// Whole rows.
    pub x: &'a [T],
    /// The number of elements in a row.
    pub cols: usize,
    /// γ, `cols` elements; `None`, the default, for 1.
    pub gamma: Option<&'a [T]>,
    /// One element per row, from [`Forward`].
    pub rstd: &'a [T],
    /// The gradient of `y`, of the length of `x`.
    pub dy: &'a [T],
    /// Output of the length of `x`.
    pub dx: &'a mut [T],
    /// Output of `cols` elements; `None`, the default, if not wanted.
    pub dgamma: Option<&'a mut [T]>,
}

impl<T: Element> Backward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows or another slice does not fit.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("rms_norm::backward", |call: Backward<'_, T>| -> Result<()> {
            const OP: &str = "rms_norm_backward";
            let Backward { x, cols, gamma, rstd, dy, dx, dgamma } = call;
            let rows = whole_rows(OP, x, cols)?;
            lengths!(OP, gamma == cols, rstd == rows, dy == x.len(), dx == x.len(), dgamma == cols);
            let settings = context::settings()?;

            if rows == 0 {
                dgamma.unwrap_or_default().fill(T::ZERO);
                return Ok(());
            }
            let ones = unless_given(gamma, cols, T::ONE);
            let gamma = gamma.or(ones.as_deref()).unwrap_or_default();
            let chunk = (CHUNK / cols).clamp(ROWS.min(rows), rows);
            let mut sums = Scratch::new(rows.div_ceil(chunk) * cols);
            let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT_BACKWARD) as usize;
            let parts = (
                Rows(x, chunk * cols),
                Rows(dy, chunk * cols),
                Rows(rstd, chunk),
                RowsMut::new(dx, chunk * cols),
                RowsMut::new(&mut sums, cols),
            );
            parallel::for_each(settings, parts, work, |(x, dy, rstd, dx, dgamma)| {
                settings.simd.run(BackwardChunk { x, cols, gamma, rstd, dy, dx, dgamma });
            });
            slices::merge_rows(&mut sums, cols);
            if let Some(dgamma) = dgamma {
                dgamma.copy_from_slice(&sums[..cols]);
            }
            Ok(())
        })
    }
}

/// The rows of one parallel chunk.
struct BackwardChunk<'a, T> {
    x: &'a [T],
    cols: usize,
    gamma: &'a [T],
    rstd: &'a [T],
    dy: &'a [T],
    dx: &'a mut [T],
    dgamma: &'a mut [T],
}

impl<T: Element> Kernel for BackwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let inverse_n = T::ONE / T::from_f64(self.cols as f64);
        self.dgamma.fill(T::ZERO);
        let inputs = self.x.chunks_exact(self.cols).zip(self.dy.chunks_exact(self.cols));
        let outputs = self.dx.chunks_exact_mut(self.cols);
        for (((x, dy), dx), &rstd) in inputs.zip(outputs).zip(self.rstd) {
            let rstd = s.splat(rstd);
            // Of x̂, not of x: its products do not overflow.
            let [sum_gx] = slices::sums::<T, S, 4, 3, 1>(
                s,
                [x, dy, self.gamma],
                #[inline(always)]
                |[sum_gx], [x, dy, gamma]| [(dy * gamma).mul_add(x * rstd, sum_gx)],
            );
            let mean_gx = s.splat(sum_gx * inverse_n);
            slices::update(
                s,
                [x, dy, self.gamma],
                [&mut *dx, &mut *self.dgamma],
                #[inline(always)]
                |[x, dy, gamma], [_, dgamma]| {
                    let normal = x * rstd;
                    [normal.neg_mul_add(mean_gx, dy * gamma) * rstd, dy.mul_add(normal, dgamma)]
                },
            );
        }
    }
}
