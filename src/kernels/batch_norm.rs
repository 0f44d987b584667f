//! Batch normalisation over the columns of `[rows × cols]`: `y = (x − mean)·rstd·γ + β` with `rstd = 1/√(var + eps)`.
//!
//! In training ([`forward`], [`backward`]) the mean and the biased variance are of each column of `x`; in inference
//! ([`infer`], [`infer_backward`]) they are given. The statistics of a block of 128 rows take two passes over it while a
//! cache has it: `m`, the mean as summed, then `d = x − m` with `r = Σd/n`, what the rounding of `m` left over, and
//! `q = Σd² − r·Σd`. Blocks are merged in pairs by the rule of Chan, Golub and LeVeque (1983). Then `var = q/n` and
//! `y = (x − mean)·a + b` with `a = rstd·γ` and `b = β − r·a`, one fused multiply-add. So the rounding of the mean, up
//! to `u·|mean|`, does not reach `y`, however large the mean is against the deviation.
//!
//! Sums run down the same blocks. With `k = min(n, 128) + 4·log₂(n/128) + 20`, `u` the unit
//! roundoff and `q = 1 + (k·u·max|x|·rstd)²`, `y` is within `k·q·u·(|γ|·(|x̂| + 1) + |β|)` of its exact value, `rstd`
//! within `k·q·u`, relative, and `dx` within `4·k·q·u·|γ|·rstd·(|dy| + mean|dy| + (|x̂| + 1)·(mean|dy·x̂| + mean|dy|))`.
//!
//! Where squares overflow (|x − mean| above 1e19 in `f32`), the column is summed once more, scaled by a power of two:
//! all columns whose differences `x − mean` are finite come out right. Where squares underflow, so that
//! `var + eps` is less than n times the smallest normal number, `rstd` has lost digits. NaN or ±∞ in a column
//! gives NaN in that whole column of `y`, `mean` and `rstd`. A constant column gives β, and with `eps = 0`
//! NaN.
//!
//! Gradients are right at every size: they are sums of products with deviations that a power of two brings
//! near 1 where they are above 2¹⁰ or below 2⁻¹⁰. They want that `rstd`, `γ·rstd` and `rstd·max|dy|` are
//! normal numbers and `2¹⁰·Σ|dy|·(|x̂| + 1)` and its product with `rstd` do not overflow; `dgamma` does with
//! the first and the sum. What of the products falls below the smallest number counts with 2¹⁰·n of its units
//! in `dgamma`, with `2¹³·|γ|·rstd·(|x̂| + 1)` of them in `dx`.
#![allow(clippy::too_many_arguments, reason = "the operands of the formula, by their names in the field")]

use std::ops::Range;

use super::{
    compiled_once, deviation_scales, lengths, rescue_scales, same_len, same_len_if_any, same_len_or_empty,
    unless_given, valid_eps, whole_rows,
};
use crate::buffer::Scratch;
use crate::context::{self, Settings};
use crate::error::{Error, Result};
use crate::parallel::{self, Indices, Rows, RowsMut};
use crate::simd::{Element, Float, Kernel, Simd, columns, slices};

/// Rows that are summed one after the other before their sum is merged with others.
const BLOCK: usize = 128;
/// Columns per chunk of the sums.
const STRIP: usize = 512;
/// Elements per chunk of the outputs, at least: 64 KiB of f32.
const CHUNK: usize = 16 * 1024;
/// Of one pass, measured on one core with AVX2: `cargo bench --bench criterion -- batch_norm`.
const NANOSECONDS_PER_ELEMENT: f64 = 0.1;

/// The running statistics of a layer, for [`infer`].
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

/// Normalises each column of `x` with its own statistics, to `y` of the same length; `mean` and `rstd`, one per
/// column, are for [`backward`].
///
/// `gamma` and `beta` have `cols` elements; without them γ = 1 and β = 0. `running` is updated when given.
///
/// # Errors
/// [`Error::Shape`] when `x` is not whole rows or has fewer than two of them, or another slice does not fit;
/// [`Error::Value`] when `eps` is negative or not finite, or a momentum is not in [0, 1].
///
/// ```
/// let (mut y, mut mean, mut rstd) = ([0.0_f32; 4], [0.0; 2], [0.0; 2]);
/// let x = [1.0, 1e6, 3.0, 1e6 + 4.0];
/// gristmill::kernels::batch_norm::forward(&x, 2, None, None, 0.0, None, &mut y, &mut mean, &mut rstd)?;
/// assert_eq!(y, [-1.0, -1.0, 1.0, 1.0]);
/// assert_eq!(mean, [2.0, 1e6 + 2.0]);
/// assert_eq!(rstd, [1.0, 0.5]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn forward<T: Element>(
    x: &[T],
    cols: usize,
    gamma: Option<&[T]>,
    beta: Option<&[T]>,
    eps: f64,
    running: Option<Running<'_, T>>,
    y: &mut [T],
    mean: &mut [T],
    rstd: &mut [T],
) -> Result<()> {
    compiled_once!("batch_norm::forward", |x: &[T],
                                           cols: usize,
                                           gamma: Option<&[T]>,
                                           beta: Option<&[T]>,
                                           eps: f64,
                                           running: Option<Running<'_, T>>,
                                           y: &mut [T],
                                           mean: &mut [T],
                                           rstd: &mut [T]|
     -> Result<()> {
        normalise(x, cols, gamma, beta, eps, running, After::Nothing, y, mean, rstd)
    })
}

/// What follows the normalisation in the same pass, with the bits that [`map`](super::map)'s functions give afterwards.
#[derive(Clone, Copy, Debug)]
pub enum After<'a, T> {
    /// `y`.
    Nothing,
    /// `max(y, 0)`.
    Relu,
    /// `max(y + r, 0)` with a residual of the shape of y.
    AddRelu(&'a [T]),
}

impl<T: Element> After<'_, T> {
    fn check(self, op: &'static str, len: usize) -> Result<()> {
        match self {
            After::AddRelu(residual) => same_len(op, "residual", residual, len),
            _ => Ok(()),
        }
    }
}

/// [`forward`] and what comes after it, in one pass.
///
/// # Errors
/// Those of [`forward`], and [`Error::Shape`] when a residual has not as many elements as `x`.
pub fn forward_then<T: Element>(
    x: &[T],
    cols: usize,
    gamma: Option<&[T]>,
    beta: Option<&[T]>,
    eps: f64,
    running: Option<Running<'_, T>>,
    after: After<'_, T>,
    y: &mut [T],
    mean: &mut [T],
    rstd: &mut [T],
) -> Result<()> {
    compiled_once!("batch_norm::forward_then", |x: &[T],
                                                cols: usize,
                                                gamma: Option<&[T]>,
                                                beta: Option<&[T]>,
                                                eps: f64,
                                                running: Option<Running<'_, T>>,
                                                after: After<'_, T>,
                                                y: &mut [T],
                                                mean: &mut [T],
                                                rstd: &mut [T]|
     -> Result<()> {
        normalise(x, cols, gamma, beta, eps, running, after, y, mean, rstd)
    })
}

fn normalise<T: Element>(
    x: &[T],
    cols: usize,
    gamma: Option<&[T]>,
    beta: Option<&[T]>,
    eps: f64,
    running: Option<Running<'_, T>>,
    after: After<'_, T>,
    y: &mut [T],
    mean: &mut [T],
    rstd: &mut [T],
) -> Result<()> {
    const OP: &str = "batch_norm";
    let rows = training_rows(OP, x, cols)?;
    lengths!(OP, gamma == cols, beta == cols, y == x.len(), mean == cols, rstd == cols);
    after.check(OP, x.len())?;
    valid_eps(OP, eps)?;
    if let Some(running) = &running {
        same_len(OP, "running mean", running.mean, cols)?;
        same_len(OP, "running var", running.var, cols)?;
        if !(0.0..=1.0).contains(&running.momentum) {
            return Err(Error::value(OP, format!("momentum is {}, expected 0 to 1", running.momentum)));
        }
    }
    let settings = context::settings()?;

    let (ones, zeros) = (unless_given(gamma, cols, T::ONE), unless_given(beta, cols, T::ZERO));
    let gamma = gamma.or(ones.as_deref()).unwrap_or_default();
    let beta = beta.or(zeros.as_deref()).unwrap_or_default();
    let grid = Grid { rows, cols };
    let mut scratch = Scratch::new(4 * cols);
    let [scale, var, factor, offset] = split(&mut scratch, cols);
    scale.fill(T::ONE);
    loop {
        let mut moments = by_block::<T, 3>(settings, grid, |rows, columns, moments| {
            let (x, scale) = (&x[rows.start * cols..rows.end * cols], &scale[columns.clone()]);
            settings.simd.run(Moments { x, cols, columns, scale, moments });
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
}

/// Normalises each column of `x` with the statistics given: `y = (x − running_mean)·a + β`, a = γ/√(running_var + eps).
///
/// The error of `y` is within `4·u·|a·(x − running_mean)| + u·|y|`.
///
/// # Errors
/// [`Error::Shape`] when `x` is not whole rows or another slice does not fit, [`Error::Value`] when `eps` is negative
/// or not finite.
pub fn infer<T: Element>(
    x: &[T],
    cols: usize,
    gamma: Option<&[T]>,
    beta: Option<&[T]>,
    running_mean: &[T],
    running_var: &[T],
    eps: f64,
    y: &mut [T],
) -> Result<()> {
    compiled_once!("batch_norm::infer", |x: &[T],
                                         cols: usize,
                                         gamma: Option<&[T]>,
                                         beta: Option<&[T]>,
                                         running_mean: &[T],
                                         running_var: &[T],
                                         eps: f64,
                                         y: &mut [T]|
     -> Result<()> {
        normalise_given(x, cols, gamma, beta, running_mean, running_var, eps, After::Nothing, y)
    })
}

/// [`infer`] and what comes after it, in one pass.
///
/// # Errors
/// Those of [`infer`], and [`Error::Shape`] when a residual has not as many elements as `x`.
pub fn infer_then<T: Element>(
    x: &[T],
    cols: usize,
    gamma: Option<&[T]>,
    beta: Option<&[T]>,
    running_mean: &[T],
    running_var: &[T],
    eps: f64,
    after: After<'_, T>,
    y: &mut [T],
) -> Result<()> {
    compiled_once!("batch_norm::infer_then", |x: &[T],
                                              cols: usize,
                                              gamma: Option<&[T]>,
                                              beta: Option<&[T]>,
                                              running_mean: &[T],
                                              running_var: &[T],
                                              eps: f64,
                                              after: After<'_, T>,
                                              y: &mut [T]|
     -> Result<()> {
        normalise_given(x, cols, gamma, beta, running_mean, running_var, eps, after, y)
    })
}

fn normalise_given<T: Element>(
    x: &[T],
    cols: usize,
    gamma: Option<&[T]>,
    beta: Option<&[T]>,
    running_mean: &[T],
    running_var: &[T],
    eps: f64,
    after: After<'_, T>,
    y: &mut [T],
) -> Result<()> {
    const OP: &str = "batch_norm_infer";
    whole_rows(OP, x, cols)?;
    lengths!(OP, gamma == cols, beta == cols, running_mean == cols, running_var == cols, y == x.len());
    after.check(OP, x.len())?;
    valid_eps(OP, eps)?;
    let settings = context::settings()?;

    let zeros = unless_given(beta, cols, T::ZERO);
    let beta = beta.or(zeros.as_deref()).unwrap_or_default();
    let mut scratch = Scratch::new(2 * cols);
    let [rstd, factor] = split(&mut scratch, cols);
    factors(settings, gamma, running_var, eps, rstd, factor);
    scale_columns(settings, x, cols, [running_mean, factor, beta], after, y);
    Ok(())
}

/// The gradients of [`infer`]: `dx = dy·γ·rstd`, `dgamma = Σ dy·(x − running_mean)·rstd`, `dbeta = Σ dy`.
///
/// All are overwritten; `dgamma` or `dbeta` may be empty when not wanted. `dx` is within 5 units in the last place,
/// the sums within `k·u·Σ|term|`, `k` as for training, as long as `γ·rstd` is a normal number and
/// `x − running_mean`, that and `running_mean` times `4·rstd`, and `2¹⁰·Σ|term|` do not overflow; what of the
/// terms falls below the smallest number counts with 2¹⁰·n of its units.
///
/// # Errors
/// [`Error::Shape`] when `x` is not whole rows or another slice does not fit, [`Error::Value`] when `eps` is negative
/// or not finite.
pub fn infer_backward<T: Element>(
    x: &[T],
    cols: usize,
    gamma: Option<&[T]>,
    running_mean: &[T],
    running_var: &[T],
    eps: f64,
    dy: &[T],
    dx: &mut [T],
    dgamma: &mut [T],
    dbeta: &mut [T],
) -> Result<()> {
    compiled_once!("batch_norm::infer_backward", |x: &[T],
                                                  cols: usize,
                                                  gamma: Option<&[T]>,
                                                  running_mean: &[T],
                                                  running_var: &[T],
                                                  eps: f64,
                                                  dy: &[T],
                                                  dx: &mut [T],
                                                  dgamma: &mut [T],
                                                  dbeta: &mut [T]|
     -> Result<()> {
        const OP: &str = "batch_norm_infer_backward";
        let rows = whole_rows(OP, x, cols)?;
        let statistics = [("running_mean", running_mean), ("running_var", running_var)];
        check_backward(
            OP,
            x,
            cols,
            gamma,
            statistics,
            [("dy", dy), ("dx", dx)],
            [("dgamma", dgamma), ("dbeta", dbeta)],
        )?;
        valid_eps(OP, eps)?;
        let settings = context::settings()?;

        if rows == 0 {
            // Not a sum of nothing times a variance that may be NaN.
            dgamma.fill(T::ZERO);
            dbeta.fill(T::ZERO);
            return Ok(());
        }
        let mut scratch = Scratch::new(6 * cols);
        let [rstd, factor, zeros, scale, center, scaled_rstd] = split(&mut scratch, cols);
        zeros.fill(T::ZERO);
        factors(settings, gamma, running_var, eps, rstd, factor);
        if !dgamma.is_empty() || !dbeta.is_empty() {
            let grid = Grid { rows, cols };
            scale_deviations([running_mean, rstd], [scale, center, scaled_rstd]);
            let sums = gradient_sums(settings, grid, x, dy, None, [scale, center]);
            for (columns, sums) in grid.strips().zip(sums.chunks(3 * grid.width())) {
                let [sum_dy, sum_dyd] = [0, grid.width()].map(|at| &sums[at..][..columns.len()]);
                if !dbeta.is_empty() {
                    dbeta[columns.clone()].copy_from_slice(sum_dy);
                }
                if !dgamma.is_empty() {
                    settings.simd.run(Product {
                        a: sum_dyd,
                        b: &scaled_rstd[columns.clone()],
                        out: &mut dgamma[columns],
                    });
                }
            }
        }
        scale_columns(settings, dy, cols, [zeros, factor, zeros], After::Nothing, dx);
        Ok(())
    })
}

/// The gradients of [`forward`], given its `x`, `gamma`, `mean` and `rstd`.
///
/// `dgamma = Σ dy·x̂`, `dbeta = Σ dy` and, with means over the column, `dx = rstd·γ·(dy − mean(dy) − x̂·mean(dy·x̂))`.
/// All are overwritten; `dgamma` or `dbeta` may be empty when not wanted. `dgamma` is within
/// `k·q·u·Σ|dy|·(|x̂| + 1)` and `dbeta` within `k·u·Σ|dy|`.
///
/// # Errors
/// [`Error::Shape`] when `x` is not whole rows or has fewer than two of them, or another slice does not fit.
pub fn backward<T: Element>(
    x: &[T],
    cols: usize,
    gamma: Option<&[T]>,
    mean: &[T],
    rstd: &[T],
    dy: &[T],
    dx: &mut [T],
    dgamma: &mut [T],
    dbeta: &mut [T],
) -> Result<()> {
    compiled_once!("batch_norm::backward", |x: &[T],
                                            cols: usize,
                                            gamma: Option<&[T]>,
                                            mean: &[T],
                                            rstd: &[T],
                                            dy: &[T],
                                            dx: &mut [T],
                                            dgamma: &mut [T],
                                            dbeta: &mut [T]|
     -> Result<()> {
        gradients(x, cols, gamma, mean, rstd, None, dy, dx, dgamma, dbeta)
    })
}

/// The output of the ReLU that came after, and of the dropout after that if any: the gradient is `scale·dy` where it is
/// above 0, else 0.
#[derive(Clone, Copy, Debug)]
pub struct Gate<'a, T> {
    /// The output.
    pub y: &'a [T],
    /// 1, or what dropout multiplied with.
    pub scale: T,
}

/// [`backward`] of a normalisation with a ReLU after it if there is a gate, from the gradient `dy` of what came out of that: with the bits
/// of the gradients one by one.
///
/// # Errors
/// Those of [`backward`], and [`Error::Shape`] when the gate has not as many elements as `x`.
pub fn backward_gated<T: Element>(
    x: &[T],
    cols: usize,
    gamma: Option<&[T]>,
    mean: &[T],
    rstd: &[T],
    gate: Option<Gate<'_, T>>,
    dy: &[T],
    dx: &mut [T],
    dgamma: &mut [T],
    dbeta: &mut [T],
) -> Result<()> {
    compiled_once!("batch_norm::backward_gated", |x: &[T],
                                                  cols: usize,
                                                  gamma: Option<&[T]>,
                                                  mean: &[T],
                                                  rstd: &[T],
                                                  gate: Option<Gate<'_, T>>,
                                                  dy: &[T],
                                                  dx: &mut [T],
                                                  dgamma: &mut [T],
                                                  dbeta: &mut [T]|
     -> Result<()> {
        gradients(x, cols, gamma, mean, rstd, gate, dy, dx, dgamma, dbeta)
    })
}

/// An error that names the first slice of a backward pass that does not fit: γ and the statistics have one element per
/// column, dy and dx as many as x, dγ and dβ one per column or none.
fn check_backward<T: Element>(
    op: &'static str,
    x: &[T],
    cols: usize,
    gamma: Option<&[T]>,
    statistics: [(&'static str, &[T]); 2],
    like_x: [(&'static str, &[T]); 2],
    of_columns: [(&'static str, &[T]); 2],
) -> Result<()> {
    lengths!(op, gamma == cols);
    statistics.into_iter().try_for_each(|(name, slice)| same_len(op, name, slice, cols))?;
    like_x.into_iter().try_for_each(|(name, slice)| same_len(op, name, slice, x.len()))?;
    of_columns.into_iter().try_for_each(|(name, slice)| same_len_or_empty(op, name, slice, cols))
}

fn gradients<T: Element>(
    x: &[T],
    cols: usize,
    gamma: Option<&[T]>,
    mean: &[T],
    rstd: &[T],
    gate: Option<Gate<'_, T>>,
    dy: &[T],
    dx: &mut [T],
    dgamma: &mut [T],
    dbeta: &mut [T],
) -> Result<()> {
    const OP: &str = "batch_norm_backward";
    let rows = training_rows(OP, x, cols)?;
    let statistics = [("mean", mean), ("rstd", rstd)];
    check_backward(
        OP,
        x,
        cols,
        gamma,
        statistics,
        [("dy", dy), ("dx", dx)],
        [("dgamma", dgamma), ("dbeta", dbeta)],
    )?;
    same_len_if_any(OP, "gate", gate.map(|gate| gate.y), x.len())?;
    let settings = context::settings()?;

    let ones = unless_given(gamma, cols, T::ONE);
    let gamma = gamma.or(ones.as_deref()).unwrap_or_default();
    let grid = Grid { rows, cols };
    let mut scratch = Scratch::new(7 * cols);
    let [scale, center, scaled_rstd, factor, slope, offset, dgammas] = split(&mut scratch, cols);
    scale_deviations([mean, rstd], [scale, center, scaled_rstd]);
    let sums = gradient_sums(settings, grid, x, dy, gate, [scale, center]);
    for (columns, sums) in grid.strips().zip(sums.chunks(3 * grid.width())) {
        let [sum_dy, sum_dyd, sum_d] = [0, 1, 2].map(|k| &sums[k * grid.width()..][..columns.len()]);
        if !dbeta.is_empty() {
            dbeta[columns.clone()].copy_from_slice(sum_dy);
        }
        settings.simd.run(Slopes {
            n: rows,
            inputs: [
                sum_dy,
                sum_dyd,
                sum_d,
                &scaled_rstd[columns.clone()],
                &scale[columns.clone()],
                &gamma[columns.clone()],
            ],
            outputs: [
                &mut factor[columns.clone()],
                &mut slope[columns.clone()],
                &mut offset[columns.clone()],
                &mut dgammas[columns],
            ],
        });
    }
    dgamma.copy_from_slice(&dgammas[..dgamma.len()]);

    let chunk = cols * (CHUNK / cols).max(1);
    let params = [mean, factor, slope, offset];
    let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
    let parts = (
        Rows(x, chunk),
        Rows(dy, chunk),
        Rows(gate.map_or(&[], |gate| gate.y), chunk),
        RowsMut::new(dx, chunk),
    );
    parallel::for_each(settings, parts, work, |(x, dy, y, dx)| {
        let gate = gate.map(|gate| Gate { y, ..gate });
        settings.simd.run(Gradient { x, dy, gate, cols, params, dx });
    });
    Ok(())
}

/// The number of rows, at least two: a single row has no variance.
fn training_rows<T>(op: &'static str, x: &[T], cols: usize) -> Result<usize> {
    let rows = whole_rows(op, x, cols)?;
    if rows < 2 {
        let message = format!("expected more than 1 row in training, got [{rows}, {cols}]");
        return Err(Error::shape(op, message));
    }
    Ok(rows)
}

/// Parts of `len` elements.
fn split<T, const N: usize>(mut scratch: &mut [T], len: usize) -> [&mut [T]; N] {
    std::array::from_fn(|_| scratch.split_off_mut(..len).unwrap_or_default())
}

/// How rows and columns are cut into chunks: by their numbers alone.
#[derive(Clone, Copy)]
struct Grid {
    rows: usize,
    cols: usize,
}

impl Grid {
    fn width(self) -> usize {
        self.cols.clamp(1, STRIP)
    }

    fn strip(self, index: usize) -> Range<usize> {
        let start = index * self.width();
        start..self.cols.min(start + self.width())
    }

    fn strip_count(self) -> usize {
        self.cols.div_ceil(self.width())
    }

    fn strips(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.strip_count()).map(move |index| self.strip(index))
    }

    /// The three numbers that [`by_block`] has of each of a strip's `count` columns.
    fn thirds<T>(self, numbers: &[T], count: usize) -> [&[T]; 3] {
        [0, 1, 2].map(|k| &numbers[k * self.width()..][..count])
    }
}

/// K numbers for each column of each block of rows: `compute(rows, columns, numbers)` those of one block of one strip of
/// columns. The result has for each block and in it for each strip K times its numbers, each time the
/// [`width`](Grid::width).
fn by_block<T: Element, const K: usize>(
    settings: Settings,
    grid: Grid,
    compute: impl Fn(Range<usize>, Range<usize>, &mut [T]) + Sync,
) -> Scratch<T> {
    let (strips, blocks) = (grid.strip_count(), grid.rows.div_ceil(BLOCK).max(1));
    let len = K * grid.width();
    let mut numbers = Scratch::new(blocks * strips * len);
    let work = (grid.rows as f64 * grid.cols as f64 * NANOSECONDS_PER_ELEMENT) as usize;
    let parts = (Indices(blocks * strips), RowsMut::new(&mut numbers, len));
    parallel::for_each(settings, parts, work, |(index, numbers)| {
        let (block, strip) = (index / strips, index % strips);
        let rows = block * BLOCK..grid.rows.min((block + 1) * BLOCK);
        compute(rows, grid.strip(strip), numbers);
    });
    numbers
}

/// The moments of all rows in place of those of the first block, from those of all blocks: of neighbours, of pairs of
/// them, ….
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
                settings.simd.run(Merge { n, to, from: grid.thirds(from, columns.len()) });
            }
        }
        stride *= 2;
    }
}

/// What brings the deviations of each column near 1: a power of two, the mean times that, and what rstd
/// becomes.
fn scale_deviations<T: Element>([mean, rstd]: [&[T]; 2], [scale, center, scaled_rstd]: [&mut [T]; 3]) {
    let outputs = scale.iter_mut().zip(center).zip(scaled_rstd);
    for ((&mean, &rstd), ((scale, center), scaled_rstd)) in mean.iter().zip(rstd).zip(outputs) {
        let (up, down) = deviation_scales(mean, rstd);
        (*scale, *center, *scaled_rstd) = (up, mean * up, rstd * down);
    }
}

/// Σ dy, Σ dy·d and Σ d of each column, for d = x·scale − center.
fn gradient_sums<T: Element>(
    settings: Settings,
    grid: Grid,
    x: &[T],
    dy: &[T],
    gate: Option<Gate<'_, T>>,
    deviation: [&[T]; 2],
) -> Scratch<T> {
    let mut sums = by_block::<T, 3>(settings, grid, |rows, columns, sums| {
        let part = rows.start * grid.cols..rows.end * grid.cols;
        let gate = gate.map(|gate| Gate { y: &gate.y[part.clone()], ..gate });
        let [x, dy] = [x, dy].map(|x| &x[part.clone()]);
        let deviation = deviation.map(|params| &params[columns.clone()]);
        let scaled = deviation[0].iter().any(|&scale| scale != T::ONE);
        settings.simd.run(GradientSums { x, dy, gate, cols: grid.cols, columns, deviation, scaled, sums });
    });
    slices::merge_rows(&mut sums, grid.strip_count() * 3 * grid.width());
    sums
}

/// `rstd = 1/√(var + eps)` and `factor = γ·rstd`.
fn factors<T: Element>(
    settings: Settings,
    gamma: Option<&[T]>,
    var: &[T],
    eps: f64,
    rstd: &mut [T],
    factor: &mut [T],
) {
    settings.simd.run(Rstd { var, eps: T::from_f64(eps), rstd });
    match gamma {
        Some(gamma) => settings.simd.run(Product { a: gamma, b: rstd, out: factor }),
        None => factor.copy_from_slice(rstd),
    }
}

/// `y = (x − params[0])·params[1] + params[2]` in each column, and what comes after.
fn scale_columns<T: Element>(
    settings: Settings,
    x: &[T],
    cols: usize,
    params: [&[T]; 3],
    after: After<'_, T>,
    y: &mut [T],
) {
    let chunk = cols * (CHUNK / cols.max(1)).max(1);
    let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
    let residual: &[T] = if let After::AddRelu(residual) = after { residual } else { &[] };
    let parts = (Rows(x, chunk), Rows(residual, chunk), RowsMut::new(y, chunk));
    parallel::for_each(settings, parts, work, |(x, residual, y)| {
        let after = if let After::AddRelu(_) = after { After::AddRelu(residual) } else { after };
        settings.simd.run(Scale { x, cols, params, after, y });
    });
}

/// Of each column the mean m of x·scale as summed, `r = Σd/n` with `d = x·scale − m`, and `Σ(d − r)²`.
struct Moments<'a, T> {
    x: &'a [T],
    cols: usize,
    columns: Range<usize>,
    scale: &'a [T],
    moments: &'a mut [T],
}

impl<T: Element> Kernel for Moments<'_, T> {
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

/// The [`Moments`] of two groups of rows together: with δ the difference of their means, the mean moves by `δ·n₁/n` and
/// `δ²·n₀·n₁/n` comes to the squares.
struct Merge<'a, T> {
    n: [usize; 2],
    to: [&'a mut [T]; 3],
    from: [&'a [T]; 3],
}

impl<T: Element> Kernel for Merge<'_, T> {
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

/// Σ dy, Σ dy·d and Σ d for d = x·scale − center.
struct GradientSums<'a, T> {
    x: &'a [T],
    dy: &'a [T],
    gate: Option<Gate<'a, T>>,
    cols: usize,
    columns: Range<usize>,
    /// The scale and the center.
    deviation: [&'a [T]; 2],
    /// Whether the scale is not 1 everywhere.
    scaled: bool,
    sums: &'a mut [T],
}

/// The gradient before a gate: that of a ReLU, which lets pass where `y` is NaN, too, and what dropout multiplied with.
#[inline(always)]
fn gated<T: Element, S: Simd>(s: S, scale: T, y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
    let zero = s.splat(T::ZERO);
    T::Vector::select(y.le(zero), zero, dy * s.splat(scale))
}

/// One row more in the sums.
#[inline(always)]
fn add_row<T: Element, S: Simd>(
    [sum_dy, sum_dyd, sum_d]: [T::Vector<S>; 3],
    dy: T::Vector<S>,
    d: T::Vector<S>,
) -> [T::Vector<S>; 3] {
    [sum_dy + dy, dy.mul_add(d, sum_dyd), sum_d + d]
}

impl<T: Element> Kernel for GradientSums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.gate {
            // As most are: a load and a register less.
            None if !self.scaled => columns::sums(
                s,
                [self.x, self.dy],
                self.cols,
                self.columns,
                [self.deviation[1]],
                self.sums,
                #[inline(always)]
                |sums, [x, dy], [center]| add_row::<T, S>(sums, dy, x - center),
            ),
            Some(gate) if !self.scaled => columns::sums(
                s,
                [self.x, self.dy, gate.y],
                self.cols,
                self.columns,
                [self.deviation[1]],
                self.sums,
                #[inline(always)]
                |sums, [x, dy, y], [center]| add_row::<T, S>(sums, gated(s, gate.scale, y, dy), x - center),
            ),
            None => columns::sums(
                s,
                [self.x, self.dy],
                self.cols,
                self.columns,
                self.deviation,
                self.sums,
                #[inline(always)]
                |sums, [x, dy], [scale, center]| add_row::<T, S>(sums, dy, x.mul_sub(scale, center)),
            ),
            Some(gate) => columns::sums(
                s,
                [self.x, self.dy, gate.y],
                self.cols,
                self.columns,
                self.deviation,
                self.sums,
                #[inline(always)]
                |sums, [x, dy, y], [scale, center]| {
                    add_row::<T, S>(sums, gated(s, gate.scale, y, dy), x.mul_sub(scale, center))
                },
            ),
        }
    }
}

/// `out = a·b`.
struct Product<'a, T> {
    a: &'a [T],
    b: &'a [T],
    out: &'a mut [T],
}

impl<T: Element> Kernel for Product<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        slices::map2(
            s,
            self.a,
            self.b,
            self.out,
            #[inline(always)]
            |a, b| a * b,
        );
    }
}

/// `rstd = 1/√(var + eps)`.
struct Rstd<'a, T> {
    var: &'a [T],
    eps: T,
    rstd: &'a mut [T],
}

impl<T: Element> Kernel for Rstd<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (one, eps) = (s.splat(T::ONE), s.splat(self.eps));
        slices::map(
            s,
            self.var,
            self.rstd,
            #[inline(always)]
            |var| one / (var + eps).sqrt(),
        );
    }
}

/// From the [`Moments`], scale, γ and β to mean, var, rstd, and the factor and offset of y = (x − mean)·factor + offset.
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

/// From Σdy, Σdy·d, Σd, rstd/scale, scale and γ to the factor, slope and offset of dx = factor·((dy − offset)
/// − (x − mean)·slope), and to dγ.
struct Slopes<'a, T> {
    n: usize,
    inputs: [&'a [T]; 6],
    outputs: [&'a mut [T]; 4],
}

impl<T: Element> Kernel for Slopes<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = s.splat(T::from_f64(self.n as f64));
        slices::update(
            s,
            self.inputs,
            self.outputs,
            #[inline(always)]
            |[sum_dy, sum_dyd, sum_d, scaled_rstd, scale, gamma], _| {
                // The mean that was saved is rounded: `rest`, scaled, is what it lacks.
                let rest = sum_d / n;
                let dgamma = rest.neg_mul_add(sum_dy, sum_dyd) * scaled_rstd;
                let slope = dgamma / n * scaled_rstd;
                let offset = rest.neg_mul_add(slope, sum_dy / n);
                [scaled_rstd * scale * gamma, slope * scale, offset, dgamma]
            },
        );
    }
}

/// `(x − center)·factor + offset`.
#[inline(always)]
fn scaled<T: Element, S: Simd>(x: T::Vector<S>, [center, factor, offset]: [T::Vector<S>; 3]) -> T::Vector<S> {
    (x - center).mul_add(factor, offset)
}

/// `factor·((dy − offset) − (x − center)·slope)`.
#[inline(always)]
fn gradient<T: Element, S: Simd>(
    x: T::Vector<S>,
    dy: T::Vector<S>,
    [center, factor, slope, offset]: [T::Vector<S>; 4],
) -> T::Vector<S> {
    (x - center).neg_mul_add(slope, dy - offset) * factor
}

/// `y = after((x − center)·factor + offset)`.
struct Scale<'a, T> {
    x: &'a [T],
    cols: usize,
    params: [&'a [T]; 3],
    after: After<'a, T>,
    y: &'a mut [T],
}

impl<T: Element> Kernel for Scale<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, cols, params, after, y } = self;
        let zero = s.splat(T::ZERO);
        match after {
            After::Nothing => columns::map::<T, S, 2, 1, 3>(
                s,
                [x],
                cols,
                params,
                y,
                #[inline(always)]
                |[x], params| scaled::<T, S>(x, params),
            ),
            After::Relu => columns::map::<T, S, 2, 1, 3>(
                s,
                [x],
                cols,
                params,
                y,
                #[inline(always)]
                |[x], params| zero.max(scaled::<T, S>(x, params)),
            ),
            After::AddRelu(residual) => columns::map::<T, S, 2, 2, 3>(
                s,
                [x, residual],
                cols,
                params,
                y,
                #[inline(always)]
                |[x, residual], params| zero.max(scaled::<T, S>(x, params) + residual),
            ),
        }
    }
}

/// `dx = factor·((dy − offset) − (x − center)·slope)`.
struct Gradient<'a, T> {
    x: &'a [T],
    dy: &'a [T],
    gate: Option<Gate<'a, T>>,
    cols: usize,
    params: [&'a [T]; 4],
    dx: &'a mut [T],
}

impl<T: Element> Kernel for Gradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, dy, gate, cols, params, dx } = self;
        // Four params and three operands of one register each fill the 16 registers of AVX2.
        match gate {
            None => columns::map::<T, S, 1, 2, 4>(
                s,
                [x, dy],
                cols,
                params,
                dx,
                #[inline(always)]
                |[x, dy], params| gradient::<T, S>(x, dy, params),
            ),
            Some(gate) => columns::map::<T, S, 1, 3, 4>(
                s,
                [x, dy, gate.y],
                cols,
                params,
                dx,
                #[inline(always)]
                |[x, dy, y], params| gradient::<T, S>(x, gated(s, gate.scale, y, dy), params),
            ),
        }
    }
}
