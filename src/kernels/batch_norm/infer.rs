//! Inference, with the statistics given, and its gradients.

use super::{After, Grid, gradient_sums, scale_columns, scale_deviations, split};
use crate::buffer::Scratch;
use crate::context::{self, Settings};
use crate::error::Result;
use crate::kernels::{compiled_once, lengths, unless_given, valid_eps, whole_rows};
use crate::simd::{Element, Float, Kernel, Simd, slices};

/// Normalises each column with the statistics given: `y = (x − running_mean)·a + β`,
/// `a = γ/√(running_var + eps)`.
///
/// The error of `y` is within `4·u·|a·(x − running_mean)| + u·|y|`.
#[derive(Debug)]
pub struct Infer<'a, T> {
    /// Whole rows.
    pub x: &'a [T],
    /// The number of elements in a row.
    pub cols: usize,
    /// γ, `cols` elements; `None`, the default, for 1.
    pub gamma: Option<&'a [T]>,
    /// β, `cols` elements; `None`, the default, for 0.
    pub beta: Option<&'a [T]>,
    /// The mean of each column.
    pub running_mean: &'a [T],
    /// The variance of each column.
    pub running_var: &'a [T],
    /// Added to the variance: finite and not negative, 1e−5 by default.
    pub eps: f64,
    /// What follows in the same pass: nothing by default.
    pub after: After<'a, T>,
    /// Output of the length of `x`.
    pub y: &'a mut [T],
}

impl<T> Default for Infer<'_, T> {
    fn default() -> Self {
        Self {
            x: &[],
            cols: 0,
            gamma: None,
            beta: None,
            running_mean: &[],
            running_var: &[],
            eps: 1e-5,
            after: After::Nothing,
            y: &mut [],
        }
    }
}

impl<T: Element> Infer<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows or another slice does not fit,
    /// [`Error::Value`](crate::Error::Value) when `eps` is negative or not finite.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("batch_norm::infer", |call: Infer<'_, T>| -> Result<()> {
            const OP: &str = "batch_norm_infer";
            let Infer { x, cols, gamma, beta, running_mean, running_var, eps, after, y } = call;
            whole_rows(OP, x, cols)?;
            lengths!(
                OP,
                gamma == cols,
                beta == cols,
                running_mean == cols,
                running_var == cols,
                y == x.len()
            );
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
        })
    }
}

/// The gradients of [`Infer`]: `dx = dy·γ·rstd`, `dgamma = Σ dy·(x − running_mean)·rstd`, `dbeta = Σ dy`.
///
/// All outputs are overwritten. `dx` is within 5 units in the last place, the sums within `k·u·Σ|term|`, `k`
/// as for training, as long as `γ·rstd` is a normal number and `x − running_mean`, that and `running_mean`
/// times `4·rstd`, and `2¹⁰·Σ|term|` do not overflow; terms that fall below the smallest number count with
/// 2¹⁰·n of its units.
#[derive(Debug)]
pub struct InferBackward<'a, T> {
    /// Whole rows.
    pub x: &'a [T],
    /// The number of elements in a row.
    pub cols: usize,
    /// γ, `cols` elements; `None`, the default, for 1.
    pub gamma: Option<&'a [T]>,
    /// The mean of each column.
    pub running_mean: &'a [T],
    /// The variance of each column.
    pub running_var: &'a [T],
    /// Added to the variance: finite and not negative, 1e−5 by default.
    pub eps: f64,
    /// The gradient of `y`, of the length of `x`.
    pub dy: &'a [T],
    /// Output of the length of `x`.
    pub dx: &'a mut [T],
    /// Output of `cols` elements; `None`, the default, if not wanted.
    pub dgamma: Option<&'a mut [T]>,
    /// Output of `cols` elements; `None`, the default, if not wanted.
    pub dbeta: Option<&'a mut [T]>,
}

impl<T> Default for InferBackward<'_, T> {
    fn default() -> Self {
        Self {
            x: &[],
            cols: 0,
            gamma: None,
            running_mean: &[],
            running_var: &[],
            eps: 1e-5,
            dy: &[],
            dx: &mut [],
            dgamma: None,
            dbeta: None,
        }
    }
}

impl<T: Element> InferBackward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows or another slice does not fit,
    /// [`Error::Value`](crate::Error::Value) when `eps` is negative or not finite.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("batch_norm::infer_backward", |call: InferBackward<'_, T>| -> Result<()> {
            const OP: &str = "batch_norm_infer_backward";
            let InferBackward { x, cols, gamma, running_mean, running_var, eps, dy, dx, dgamma, dbeta } =
                call;
            let rows = whole_rows(OP, x, cols)?;
            lengths!(OP, gamma == cols, running_mean == cols, running_var == cols);
            lengths!(OP, dy == x.len(), dx == x.len(), dgamma == cols, dbeta == cols);
            valid_eps(OP, eps)?;
            let settings = context::settings()?;

            if rows == 0 {
                // An empty sum times a variance that may be NaN would be NaN.
                [dgamma, dbeta].into_iter().flatten().for_each(|sum| sum.fill(T::ZERO));
                return Ok(());
            }
            let mut scratch = Scratch::new(6 * cols);
            let [rstd, factor, zeros, scale, center, scaled_rstd] = split(&mut scratch, cols);
            zeros.fill(T::ZERO);
            factors(settings, gamma, running_var, eps, rstd, factor);
            if dgamma.is_some() || dbeta.is_some() {
                let (dgamma, dbeta) = (dgamma.unwrap_or_default(), dbeta.unwrap_or_default());
                let grid = Grid { rows, cols };
                scale_deviations([running_mean, rstd], [scale, center, scaled_rstd]);
                let sums = gradient_sums(settings, grid, x, dy, None, [scale, center]);
                for (columns, sums) in grid.strips().zip(sums.chunks(3 * grid.width())) {
                    let [sum_dy, sum_dyd] = [0, grid.width()].map(|at| &sums[at..][..columns.len()]);
                    if !dbeta.is_empty() {
                        dbeta[columns.clone()].copy_from_slice(sum_dy);
                    }
                    if !dgamma.is_empty() {
                        settings.simd.run(Multiply {
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
        Some(gamma) => settings.simd.run(Multiply { a: gamma, b: rstd, out: factor }),
        None => factor.copy_from_slice(rstd),
    }
}

/// `out = a·b`.
struct Multiply<'a, T> {
    a: &'a [T],
    b: &'a [T],
    out: &'a mut [T],
}

impl<T: Element> Kernel for Multiply<'_, T> {
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
