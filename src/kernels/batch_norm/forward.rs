//! The forward pass in training, with the statistics of the batch.

use std::ops::Range;

use super::{After, BLOCK, Grid, by_block, scale_columns, split, training_rows};
use crate::buffer::Scratch;
use crate::context::{self, Settings};
use crate::error::{Error, Result};
use crate::kernels::{Operand, compiled_once, lengths, rescue_scales, spare_if, unless_given, valid_eps};
use crate::simd::{Element, Float, Kernel, Simd, columns, slices};

/// Normalises each column with its own statistics.
///
/// ```
/// use gristmill::kernels::batch_norm::Forward;
/// let (mut y, mut mean, mut rstd) = ([0.0_f32; 4], [0.0; 2], [0.0; 2]);
/// let (mean_of, rstd_of) = (Some(&mut mean[..]), Some(&mut rstd[..]));
/// let x = [1.0, 1e6, 3.0, 1e6 + 4.0];
/// let call = Forward { x: &x, cols: 2, eps: 0.0, y: &mut y, ..Forward::default() };
/// Forward { mean: mean_of, rstd: rstd_of, ..call }.run()?;
/// assert_eq!(y, [-1.0, -1.0, 1.0, 1.0]);
/// assert_eq!(mean, [2.0, 1e6 + 2.0]);
/// assert_eq!(rstd, [1.0, 0.5]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug)]
pub struct Forward<'a, T> {
    /// Whole rows, at least two.
    pub x: &'a [T],
    /// The number of elements in a row.
    pub cols: usize,
    /// γ, `cols` elements; `None`, the default, for 1.
    pub gamma: Option<&'a [T]>,
    /// β, `cols` elements; `None`, the default, for 0.
    pub beta: Option<&'a [T]>,
    /// Added to the variance: finite and not negative, 1e−5 by default.
    pub eps: f64,
    /// The running statistics to update; `None` by default.
    pub running: Option<Running<'a, T>>,
    /// What follows in the same pass: nothing by default.
    pub after: After<'a, T>,
    /// Output of the length of `x`.
    pub y: &'a mut [T],
    /// Output for [`Backward`](super::Backward), one element per column; not written if `None`, the default.
    pub mean: Option<&'a mut [T]>,
    /// Like `mean`.
    pub rstd: Option<&'a mut [T]>,
}

impl<T> Default for Forward<'_, T> {
    fn default() -> Self {
        Self {
            x: &[],
            cols: 0,
            gamma: None,
            beta: None,
            eps: 1e-5,
            running: None,
            after: After::Nothing,
            y: &mut [],
            mean: None,
            rstd: None,
        }
    }
}

impl<T: Element> Forward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` is not whole rows or has fewer than two of them, or another slice does not
    /// fit; [`Error::Value`] when `eps` is negative or not finite, or a momentum is not in [0, 1].
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("batch_norm::forward", |call: Forward<'_, T>| -> Result<()> {
            const OP: &str = "batch_norm";
            let Forward { x, cols, gamma, beta, eps, running, after, y, mean, rstd } = call;
            let rows = training_rows(OP, x, cols)?;
            lengths!(OP, gamma == cols, beta == cols, y == x.len(), mean == cols, rstd == cols);
            after.check(OP, x.len())?;
            valid_eps(OP, eps)?;
            if let Some(running) = &running {
                running.mean.expect_len(OP, "running mean", cols)?;
                running.var.expect_len(OP, "running var", cols)?;
                if !(0.0..=1.0).contains(&running.momentum) {
                    return Err(Error::value(
                        OP,
                        format!("momentum is {}, expected 0 to 1", running.momentum),
                    ));
                }
            }
            let settings = context::settings()?;

            let (ones, zeros) = (unless_given(gamma, cols, T::ONE), unless_given(beta, cols, T::ZERO));
            let gamma = gamma.or(ones.as_deref()).unwrap_or_default();
            let beta = beta.or(zeros.as_deref()).unwrap_or_default();
            let (mut spare_mean, mut spare_rstd) =
                (spare_if(mean.is_none(), cols), spare_if(rstd.is_none(), cols));
            let mean = mean.unwrap_or(&mut spare_mean);
            let rstd = rstd.unwrap_or(&mut spare_rstd);
            let grid = Grid { rows, cols };
            let mut scratch = Scratch::new(4 * cols);
            let [scale, var, factor, offset] = split(&mut scratch, cols);
            scale.fill(T::ONE);
            loop {
                let mut moments = by_block::<T, 3>(settings, grid, |rows, columns, moments| {
                    let (x, scale) = (&x[rows.start * cols..rows.end * cols], &scale[columns.clone()]);
                    settings.simd.run(ColumnMoments { x, cols, columns, scale, moments });
                });
                merge_moments(settings, grid, &mut moments);
                for (columns, moments) in grid.strips().zip(moments.chunks(3 * grid.width())) {
                    let [center, rest, squares] = grid.thirds(moments, columns.len());
                    settings.simd.run(Statistics {
                        n: rows,
                        eps: T::from_f64(eps),
                        inputs: [
                            center,
                            rest,
                            squares,
                            &scale[columns.clone()],
                            &gamma[columns.clone()],
                            &beta[columns.clone()],
                        ],
                        outputs: [
                            &mut mean[columns.clone()],
                            &mut var[columns.clone()],
                            &mut rstd[columns.clone()],
                            &mut factor[columns.clone()],
                            &mut offset[columns],
                        ],
                    });
                }
                let mut again = false;
                for (scale, var) in scale.iter_mut().zip(&*var) {
                    if !var.is_finite() && *scale == T::ONE {
                        (*scale, _) = rescue_scales();
                        again = true;
                    }
                }
                if !again {
                    break;
                }
            }

            if let Some(running) = running {
                let correction = if running.unbiased { rows as f64 / (rows - 1) as f64 } else { 1.0 };
                settings.simd.run(Mix {
                    keep: T::from_f64(1.0 - running.momentum),
                    take: [running.momentum, running.momentum * correction].map(T::from_f64),
                    new: [mean, var],
                    old: [running.mean, running.var],
                });
            }
            scale_columns(settings, x, cols, [mean, factor, offset], after, y);
            Ok(())
        })
    }
}

/// The running statistics of a layer, for [`Infer`](super::Infer).
#[derive(Debug)]
pub struct Running<'a, T> {
    /// The mean of each column: becomes `(1 − momentum)·mean + momentum·(mean of the batch)`.
    pub mean: &'a mut [T],
    /// The variance of each column, with the same weights.
    pub var: &'a mut [T],
    /// The weight of the new batch, in [0, 1].
    pub momentum: f64,
    /// Whether the variance of the batch enters as `Σ(x − mean)²/(n − 1)`, as in PyTorch, instead of `/n`.
    pub unbiased: bool,
}

/// The moments of all rows in place of those of the first block, from those of all blocks: of neighbours, of
/// pairs of them, ….
fn merge_moments<T: Element>(settings: Settings, grid: Grid, moments: &mut [T]) {
    let (strips, len) = (grid.strip_count(), 3 * grid.width());
    let rows = |blocks: Range<usize>| grid.rows.min(blocks.end * BLOCK) - blocks.start * BLOCK;
    let (blocks, mut stride) = (grid.rows.div_ceil(BLOCK), 1);
    while stride < blocks {
        for block in (0..blocks - stride).step_by(2 * stride) {
            let middle = block + stride;
            let n = [rows(block..middle), rows(middle..middle + stride)];
            let (to, from) = moments[block * strips * len..].split_at_mut(stride * strips * len);
            for ((to, from), columns) in
                to.chunks_exact_mut(len).zip(from.chunks_exact(len)).zip(grid.strips())
            {
                let mut to = to.chunks_exact_mut(grid.width()).map(|part| &mut part[..columns.len()]);
                let to = std::array::from_fn(|_| to.next().unwrap_or_default());
                settings.simd.run(MergeMoments { n, to, from: grid.thirds(from, columns.len()) });
            }
        }
        stride *= 2;
    }
}

/// Of each column the mean m of x·scale as summed, `r = Σd/n` with `d = x·scale − m`, and `Σ(d − r)²`.
struct ColumnMoments<'a, T> {
    x: &'a [T],
    cols: usize,
    columns: Range<usize>,
    scale: &'a [T],
    moments: &'a mut [T],
}

impl<T: Element> Kernel for ColumnMoments<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, cols, columns, scale, moments } = self;
        let (n, zero) = (s.splat(T::from_f64((x.len() / cols) as f64)), s.splat(T::ZERO));
        let (center, rest) = moments.split_at_mut(moments.len() / 3);
        columns::sums(
            s,
            [x],
            cols,
            columns.clone(),
            [scale],
            center,
            #[inline(always)]
            |[sum], [x], [scale]| [x.mul_add(scale, sum)],
        );
        let center = &mut center[..columns.len()];
        slices::update(
            s,
            [],
            [&mut *center],
            #[inline(always)]
            |[], [sum]| [sum / n],
        );
        columns::sums(
            s,
            [x],
            cols,
            columns,
            [scale, center],
            rest,
            #[inline(always)]
            |[sum, squares], [x], [scale, center]| {
                let d = x.mul_sub(scale, center);
                [sum + d, d.mul_add(d, squares)]
            },
        );
        let (sums, squares) = rest.split_at_mut(rest.len() / 2);
        slices::update(
            s,
            [],
            [sums, squares],
            #[inline(always)]
            |[], [sum, squares]| {
                let rest = sum / n;
                [rest, zero.max(sum.neg_mul_add(rest, squares))]
            },
        );
    }
}

/// The [`ColumnMoments`] of two groups of rows together: with δ the difference of their means, the mean moves by
/// `δ·n₁/n` and `δ²·n₀·n₁/n` comes to the squares.
struct MergeMoments<'a, T> {
    n: [usize; 2],
    to: [&'a mut [T]; 3],
    from: [&'a [T]; 3],
}

impl<T: Element> Kernel for MergeMoments<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [n0, n1] = self.n.map(|n| n as f64);
        let [share, weight] = [n1 / (n0 + n1), n0 * n1 / (n0 + n1)].map(|x| s.splat(T::from_f64(x)));
        slices::update(
            s,
            self.from,
            self.to,
            #[inline(always)]
            |[m1, r1, q1], [m0, r0, q0]| {
                let delta = (m1 - m0) + (r1 - r0);
                let moved = delta.mul_add(share, r0);
                // The sum and what its rounding lacks, whichever is larger.
                let center = m0 + moved;
                let back = center - m0;
                let rest = (m0 - (center - back)) + (moved - back);
                [center, rest, (delta * delta).mul_add(weight, q0 + q1)]
            },
        );
    }
}

/// From the [`ColumnMoments`], scale, γ and β to mean, var, rstd, and the factor and offset of y = (x −
/// mean)·factor + offset.
struct Statistics<'a, T> {
    n: usize,
    eps: T,
    inputs: [&'a [T]; 6],
    outputs: [&'a mut [T]; 5],
}

impl<T: Element> Kernel for Statistics<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (n, eps) = (s.splat(T::from_f64(self.n as f64)), s.splat(self.eps));
        let (one, infinity) = (s.splat(T::ONE), s.splat(T::INFINITY));
        slices::update(
            s,
            self.inputs,
            self.outputs,
            #[inline(always)]
            |[center, rest, squares, scale, gamma, beta], _| {
                let scaled_mean = center + rest;
                // What the rounded mean lacks.
                let rest = (center - scaled_mean) + rest;
                let scaled_var = squares / n;

                let unscale = one / scale;
                let var = scaled_var * unscale * unscale;
                let rstd = T::Vector::<S>::select(
                    var.lt(infinity),
                    one / (var + eps).sqrt(),
                    // The variance is no number of this type, and eps nothing beside it.
                    scale / scaled_var.sqrt(),
                );
                let factor = rstd * gamma;
                let offset = (rest * unscale).neg_mul_add(factor, beta);
                [scaled_mean * unscale, var, rstd, factor, offset]
            },
        );
    }
}

/// `old = new·take + old·keep`, for the mean and the variance.
struct Mix<'a, T> {
    keep: T,
    take: [T; 2],
    new: [&'a [T]; 2],
    old: [&'a mut [T]; 2],
}

impl<T: Element> Kernel for Mix<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let keep = s.splat(self.keep);
        let take = [s.splat(self.take[0]), s.splat(self.take[1])];
        slices::update(
            s,
            self.new,
            self.old,
            #[inline(always)]
            |new, old| [new[0].mul_add(take[0], old[0] * keep), new[1].mul_add(take[1], old[1] * keep)],
        );
    }
}
