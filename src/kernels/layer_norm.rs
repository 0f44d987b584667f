//! Layer normalisation over rows: `y = (x − mean)·rstd·γ + β` with `rstd = 1 / √(var + eps)`.
//!
//! The mean and the biased variance `Σ(x − mean)²/n` are of each row. They take two passes over a row in
//! cache: `m`, the mean as summed, then `d = x − m` with `r = Σd/n`, what the rounding of `m` left over, and
//! `var = (Σd² − r·Σd)/n`. Then `x̂ = (x − m)·rstd − r·rstd` and `y = x̂·γ + β`, each one fused multiply-add.
//! So the rounding of the mean, up to `u·|mean|`, does not reach `y`, however large the mean is against the
//! deviation.
//!
//! With `k = min(n, 4096)/16 + n/4096 + 20`, `u` the unit roundoff and `q = 1 + (k·u·max|x|·rstd)²`, `x̂` is
//! within `k·q·u·(|x̂| + 1)` of its exact value; `rstd` is within `k·q·u`, relative; `dx` is within
//! `4·k·q·u·rstd·(|g| + mean|g| + (|x̂| + 1)·(mean|g·x̂| + mean|g|))` for `g = dy·γ`.
//!
//! Where squares overflow (|x − mean| above 1e19 in `f32`), the row is summed once more, scaled by a power of
//! two: all rows whose differences `x − mean` are finite come out right. Where squares underflow, so that
//! `var + eps` is less than n times the smallest normal number, `rstd` has lost digits: with `eps = 0` that
//! are deviations below 1e−19 in `f32`. NaN or ±∞ in a row gives NaN in that whole row of `y`, `mean` or
//! `rstd`. A constant row gives β, and with `eps = 0` NaN.
//!
//! Gradients are right at every size: they are sums of products with deviations that a power of two brings
//! near 1 where they are above 2¹⁰ or below 2⁻¹⁰. They require an `rstd` that is a normal number, and that
//! `2¹⁰·Σ|g|·(|x̂| + 1)` and its product with `rstd` do not overflow; what of the products falls below the
//! smallest number counts with `2¹³·rstd·(|x̂| + 1)` of its units in `dx`.

use super::{
    compiled_once, deviation_scales, lengths, rescue_scales, spare_if, unless_given, valid_eps, whole_rows,
};
use crate::buffer::Scratch;
use crate::context;
use crate::error::Result;
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::{Element, Float, Kernel, Simd, slices};

/// Elements per parallel chunk, at least: 64 KiB of f32.
const CHUNK: usize = 16 * 1024;
/// Rows per chunk in the backward pass, at least: each chunk has its own sums of two rows.
const ROWS: usize = 16;
/// Measured on one core with AVX2: `cargo bench --bench criterion -- layer_norm`.
const NANOSECONDS_PER_ELEMENT: f64 = 0.25;
const NANOSECONDS_PER_ELEMENT_BACKWARD: f64 = 0.5;

/// Normalises each row of `cols` elements.
///
/// ```
/// use gristmill::kernels::layer_norm::Forward;
/// let (mut y, mut mean, mut rstd) = ([0.0_f32; 4], [0.0; 2], [0.0; 2]);
/// let (mean_of, rstd_of) = (Some(&mut mean[..]), Some(&mut rstd[..]));
/// let x = [1.0, 3.0, 1e6, 1e6 + 4.0];
/// Forward { x: &x, cols: 2, eps: 0.0, y: &mut y, mean: mean_of, rstd: rstd_of, ..Forward::default() }.run()?;
/// assert_eq!(y, [-1.0, 1.0, -1.0, 1.0]);
/// assert_eq!(mean, [2.0, 1e6 + 2.0]);
/// assert_eq!(rstd, [1.0, 0.5]);
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
    /// β, `cols` elements; `None`, the default, for 0.
    pub beta: Option<&'a [T]>,
    /// Added to the variance: finite and not negative, 1e−5 by default.
    pub eps: f64,
    /// Output of the length of `x`.
    pub y: &'a mut [T],
    /// Output for [`Backward`], one element per row; not written if `None`, the default.
    pub mean: Option<&'a mut [T]>,
    /// Like `mean`.
    pub rstd: Option<&'a mut [T]>,
}

impl<T> Default for Forward<'_, T> {
    fn default() -> Self {
        Self { x: &[], cols: 0, gamma: None, beta: None, eps: 1e-5, y: &mut [], mean: None, rstd: None }
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
        compiled_once!("layer_norm::forward", |call: Forward<'_, T>| -> Result<()> {
            const OP: &str = "layer_norm";
            let Forward { x, cols, gamma, beta, eps, y, mean, rstd } = call;
            let rows = whole_rows(OP, x, cols)?;
            lengths!(OP, gamma == cols, beta == cols, y == x.len(), mean == rows, rstd == rows);
            valid_eps(OP, eps)?;
            let settings = context::settings()?;

            if rows == 0 {
                return Ok(());
            }
            let (ones, zeros) = (unless_given(gamma, cols, T::ONE), unless_given(beta, cols, T::ZERO));
            let gamma = gamma.or(ones.as_deref()).unwrap_or_default();
            let beta = beta.or(zeros.as_deref()).unwrap_or_default();
            let (mut spare_mean, mut spare_rstd) =
                (spare_if(mean.is_none(), rows), spare_if(rstd.is_none(), rows));
            let eps = T::from_f64(eps);
            let chunk = (CHUNK / cols.max(1)).max(1);
            let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
            let parts = (
                Rows(x, chunk * cols),
                RowsMut::new(y, chunk * cols),
                RowsMut::new(mean.unwrap_or(&mut spare_mean), chunk),
                RowsMut::new(rstd.unwrap_or(&mut spare_rstd), chunk),
            );
            parallel::for_each(settings, parts, work, |(x, y, mean, rstd)| {
                settings.simd.run(ForwardChunk { x, cols, gamma, beta, eps, y, mean, rstd });
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
    beta: &'a [T],
    eps: T,
    y: &'a mut [T],
    mean: &'a mut [T],
    rstd: &'a mut [T],
}

impl<T: Element> Kernel for ForwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rows = self.x.chunks_exact(self.cols).zip(self.y.chunks_exact_mut(self.cols));
        for ((x, y), (mean, rstd)) in rows.zip(self.mean.iter_mut().zip(self.rstd)) {
            let moments = RowMoments::new(s, x, self.eps);
            (*mean, *rstd) = (moments.mean, moments.rstd);
            moments.normalise(s, x, self.gamma, self.beta, y);
        }
    }
}

/// What normalises a row.
pub(super) struct RowMoments<T> {
    /// The mean, rounded.
    pub mean: T,
    /// The mean without its rounding, minus `mean`.
    pub rest: T,
    pub rstd: T,
}

impl<T: Element> RowMoments<T> {
    /// Of one row.
    #[inline(always)]
    pub fn new<S: Simd>(s: S, x: &[T], eps: T) -> Self {
        let inverse_n = T::ONE / T::from_f64(x.len() as f64);
        // A power of two that every element is multiplied with, and what undoes it: not 1 where squares
        // overflow.
        let (mut scale, mut unscale) = (T::ONE, T::ONE);
        loop {
            let factor = s.splat(scale);
            let [sum] = slices::sums::<T, S, 4, 1, 1>(
                s,
                [x],
                #[inline(always)]
                |[sum], [x]| [x.mul_add(factor, sum)],
            );
            let rough = sum * inverse_n;
            let center = s.splat(rough);
            let [sum, squares] = slices::sums::<T, S, 2, 1, 2>(
                s,
                [x],
                #[inline(always)]
                |[sum, squares], [x]| {
                    let d = x.mul_sub(factor, center);
                    [sum + d, d.mul_add(d, squares)]
                },
            );
            let correction = sum * inverse_n;
            let var = positive_part(squares - sum * correction) * inverse_n;
            let mean = rough + correction;
            let rest = (rough - mean) + correction;

            let true_var = var * unscale * unscale;
            let (mean, rest) = (mean * unscale, rest * unscale);
            if true_var.is_finite() {
                return Self { mean, rest, rstd: T::ONE / (true_var + eps).sqrt() };
            }
            if scale != T::ONE {
                // The variance is no number of this type, and eps nothing beside it.
                return Self { mean, rest, rstd: scale / var.sqrt() };
            }
            (scale, unscale) = rescue_scales();
        }
    }

    /// `y = x̂·γ + β` in one row.
    #[inline(always)]
    pub fn normalise<S: Simd>(&self, s: S, x: &[T], gamma: &[T], beta: &[T], y: &mut [T]) {
        let rest = s.splat(self.rest * self.rstd);
        let (mean, rstd) = (s.splat(self.mean), s.splat(self.rstd));
        slices::map3(
            s,
            [x, gamma, beta],
            y,
            #[inline(always)]
            |x, gamma, beta| (x - mean).mul_sub(rstd, rest).mul_add(gamma, beta),
        );
    }
}

/// `x`, but 0 below zero; NaN stays.
#[inline(always)]
fn positive_part<T: Element>(x: T) -> T {
    if x < T::ZERO { T::ZERO } else { x }
}

/// The gradients of [`Forward`], given its `x`, `gamma`, `mean` and `rstd`.
///
/// With `g = dy·γ` and means over the row: `dx = rstd·(g − mean(g) − x̂·mean(g·x̂))`. Over the rows:
/// `dgamma = Σ dy·x̂` and `dbeta = Σ dy`, within `(rows per chunk + 20 + log₂ chunks)·u·Σ|term|`. All outputs
/// are overwritten.
#[derive(Debug, Default)]
pub struct Backward<'a, T> {
    /// Whole rows.
    pub x: &'a [T],
    /// The number of elements in a row.
    pub cols: usize,
    /// γ, `cols` elements; `None`, the default, for 1.
    pub gamma: Option<&'a [T]>,
    /// One element per row, from [`Forward`].
    pub mean: &'a [T],
    /// One element per row, from [`Forward`].
    pub rstd: &'a [T],
    /// The gradient of `y`, of the length of `x`.
    pub dy: &'a [T],
    /// Output of the length of `x`.
    pub dx: &'a mut [T],
    /// Output of `cols` elements; `None`, the default, if not wanted.
    pub dgamma: Option<&'a mut [T]>,
    /// Output of `cols` elements; `None`, the default, if not wanted.
    pub dbeta: Option<&'a mut [T]>,
}

impl<T: Element> Backward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows or another slice does not fit.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("layer_norm::backward", |call: Backward<'_, T>| -> Result<()> {
            const OP: &str = "layer_norm_backward";
            let Backward { x, cols, gamma, mean, rstd, dy, dx, dgamma, dbeta } = call;
            let rows = whole_rows(OP, x, cols)?;
            lengths!(OP, gamma == cols, mean == rows, rstd == rows, dy == x.len(), dx == x.len());
            lengths!(OP, dgamma == cols, dbeta == cols);
            let settings = context::settings()?;

            if rows == 0 {
                [dgamma, dbeta].into_iter().flatten().for_each(|sum| sum.fill(T::ZERO));
                return Ok(());
            }
            let ones = unless_given(gamma, cols, T::ONE);
            let gamma = gamma.or(ones.as_deref()).unwrap_or_default();
            let chunk = (CHUNK / cols).clamp(ROWS.min(rows), rows);
            // The sums of each chunk: of dgamma, then of dbeta.
            let mut sums = Scratch::new(rows.div_ceil(chunk) * 2 * cols);
            let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT_BACKWARD) as usize;
            let parts = (
                Rows(x, chunk * cols),
                Rows(dy, chunk * cols),
                Rows(mean, chunk),
                Rows(rstd, chunk),
                RowsMut::new(dx, chunk * cols),
                RowsMut::new(&mut sums, 2 * cols),
            );
            parallel::for_each(settings, parts, work, |(x, dy, mean, rstd, dx, sums)| {
                let (dgamma, dbeta) = sums.split_at_mut(cols);
                settings.simd.run(BackwardChunk { x, cols, gamma, mean, rstd, dy, dx, dgamma, dbeta });
            });
            slices::merge_rows(&mut sums, 2 * cols);
            for (gradient, sum) in [dgamma, dbeta].into_iter().zip(sums.chunks_exact(cols)) {
                gradient.into_iter().for_each(|gradient| gradient.copy_from_slice(sum));
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
    mean: &'a [T],
    rstd: &'a [T],
    dy: &'a [T],
    dx: &'a mut [T],
    dgamma: &'a mut [T],
    dbeta: &'a mut [T],
}

impl<T: Element> Kernel for BackwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.dgamma.fill(T::ZERO);
        self.dbeta.fill(T::ZERO);
        let inputs = self.x.chunks_exact(self.cols).zip(self.dy.chunks_exact(self.cols));
        let outputs = self.dx.chunks_exact_mut(self.cols);
        let moments = self.mean.iter().zip(self.rstd);
        for (((x, dy), dx), (&mean, &rstd)) in inputs.zip(outputs).zip(moments) {
            backward_row(s, [x, dy, self.gamma], mean, rstd, [dx, &mut *self.dgamma, &mut *self.dbeta]);
        }
    }
}

/// From x, dy and γ of one row to dx; adds to dγ and dβ.
#[inline(always)]
pub(super) fn backward_row<T: Element, S: Simd>(
    s: S,
    inputs: [&[T]; 3],
    mean: T,
    rstd: T,
    outputs: [&mut [T]; 3],
) {
    let inverse_n = T::ONE / T::from_f64(inputs[0].len() as f64);
    let (scale, unscale) = deviation_scales(mean, rstd);
    let (factor, scaled_center) = (s.splat(scale), s.splat(mean * scale));
    let [sum_d, sum_g, sum_gd] = slices::sums::<T, S, 2, 3, 3>(
        s,
        inputs,
        #[inline(always)]
        |[sum_d, sum_g, sum_gd], [x, dy, gamma]| {
            let (d, g) = (x.mul_sub(factor, scaled_center), dy * gamma);
            [sum_d + d, sum_g + g, g.mul_add(d, sum_gd)]
        },
    );
    // The mean that was saved is rounded: `rest`, scaled, is what it lacks.
    let rest = sum_d * inverse_n;
    let mean_g = s.splat(sum_g * inverse_n);
    let scaled_rstd = rstd * unscale;
    let mean_gx = s.splat((sum_gd - rest * sum_g) * inverse_n * scaled_rstd);
    let (center, rest, rstd) = (s.splat(mean), s.splat(rest * scaled_rstd), s.splat(rstd));
    slices::update(
        s,
        inputs,
        outputs,
        #[inline(always)]
        |[x, dy, gamma], [_, dgamma, dbeta]| {
            let normal = (x - center).mul_sub(rstd, rest);
            // Rounded as in the sum: a single column gives exactly 0.
            let g = dy * gamma - mean_g;
            [normal.neg_mul_add(mean_gx, g) * rstd, dy.mul_add(normal, dgamma), dbeta + dy]
        },
    );
}
