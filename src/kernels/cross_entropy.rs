//! Cross-entropy of logits with class indices, fused with the log-softmax, row by row:
//! `loss = (1 − s)·w[t]·(lse − z[t]) + s/classes·Σ w[c]·(lse − z[c])`, where t is the target,
//! `lse = ln Σ exp(z[c])`, s the label smoothing and w the weight of each class ([`Options`]).
//!
//! With m the largest logit it is computed as
//! `(1 − s)·w[t]·(m − z[t]) + s/classes·Σ w[c]·(m − z[c]) + ω·ln Σ exp(z[c] − m)`,
//! `ω = (1 − s)·w[t] + s/classes·Σ w[c]`. For weights ≥ 0 all terms are ≥ 0: nothing cancels, and the size of
//! the logits does not matter. With d and u as in [`softmax`](super::softmax), the error of a loss is within
//! `(2·loss + d + 4 + 5·ln classes)·u`, with weights or smoothing
//! `((d + 10)·loss + ω·(d + 4 + 5·ln classes))·u`; so a loss near 0, where the target dominates, has an
//! absolute error of some units in the last place of 1.
//!
//! A row with a NaN or with +∞, and a row of −∞ alone, have a NaN loss and NaN gradients, as in PyTorch. A
//! target logit of −∞ has a loss of +∞; with smoothing, so has any logit of −∞. Zero times such a loss, by a
//! weight or by a smoothing of 1, is NaN. An ignored row has a loss of 0 and gradients of 0 whatever its
//! logits are.

use super::nll_loss::check_targets;
use super::reduce::{self, Reduce};
use super::{Operand as _, compiled_once, lengths, rows_per_chunk, whole_rows};
use crate::context;
use crate::error::{Error, Result};
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::{Element, Float, Kernel, Simd, slices};

/// Measured on one core with AVX2, f32: `cargo bench --bench criterion -- cross_entropy`.
const NANOSECONDS_PER_ELEMENT: f64 = 0.6;

/// Label smoothing, class weights and ignored rows; by default none of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a, T> {
    /// From 0, the default, to 1: the share of the target that is spread over all classes.
    pub label_smoothing: T,
    /// The weight of each class; `None`, the default, for 1.
    pub weight: Option<&'a [T]>,
    /// Rows with this target have a loss and gradients of 0. It need not be a class; `None` by default.
    pub ignore_index: Option<usize>,
}

/// The loss of each row of `classes` logits, and its log-sum-exp, which [`Backward`] needs: rounded, and what
/// the rounding left over, so that a row of large logits keeps the digits of `ln Σ`. No reduction over rows.
///
/// ```
/// use gristmill::kernels::cross_entropy::{Forward, Options};
/// let (mut losses, mut lse, mut rest) = ([0.0_f64; 2], [0.0; 2], [0.0; 2]);
/// Forward {
///     logits: &[0.0, 0.0, 1000.0, 0.0],
///     targets: &[0, 1],
///     classes: 2,
///     options: Options { weight: Some(&[1.0, 0.5]), ..Options::default() },
///     losses: &mut losses,
///     logsumexp: &mut lse,
///     rest: &mut rest,
/// }
/// .run()?;
/// assert_eq!(losses, [2f64.ln(), 500.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Forward<'a, T> {
    /// Whole rows.
    pub logits: &'a [T],
    /// The class of each row.
    pub targets: &'a [usize],
    /// The number of logits in a row.
    pub classes: usize,
    /// Smoothing, weights of classes and the rows to ignore; none by default.
    pub options: Options<'a, T>,
    /// Output, one element per row.
    pub losses: &'a mut [T],
    /// Output for [`Backward`], one element per row: the log-sum-exp, rounded.
    pub logsumexp: &'a mut [T],
    /// Output for [`Backward`], one element per row: what the rounding of `logsumexp` left over.
    pub rest: &'a mut [T],
}

impl<T: Element> Forward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`] when `logits` is not whole rows, another slice has not one element per row or there
    /// is not one weight per class, [`Error::Value`] when a target is not a class or the label smoothing is
    /// outside 0 to 1.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("cross_entropy::forward", |call: Forward<'_, T>| -> Result<()> {
            let Forward { logits, targets, classes, options, losses, logsumexp, rest } = call;
            let rows = check(logits, targets, classes, options)?;
            lengths!("cross_entropy", losses == rows, logsumexp == rows, rest == rows);
            if rows == 0 {
                return Ok(());
            }
            let rule = Weighting::new(options, classes)?;
            let settings = context::settings()?;
            let chunk = rows_per_chunk(classes);
            let work = (logits.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
            let parts = (
                Rows(logits, classes * chunk),
                Rows(targets, chunk),
                RowsMut::new(losses, chunk),
                RowsMut::new(logsumexp, chunk),
                RowsMut::new(rest, chunk),
            );
            parallel::for_each(settings, parts, work, |(logits, targets, losses, logsumexp, rest)| {
                settings.simd.run(ForwardChunk { logits, targets, classes, rule, losses, logsumexp, rest });
            });
            Ok(())
        })
    }
}

/// The gradient of the logits from the log-sum-exp of each row and its rest, which [`Forward`] computes, and
/// the gradient of each loss: `dlogits[i] = dloss·(ω·p[i] − (1 − s)·w[t]·[i = t] − s/classes·w[i])` with
/// `p[i] = exp(z[i] − lse − rest)`.
///
/// Within `|dloss|·((2·|z[i] − lse| + 12)·ω·p[i] + 5·s/classes·w[i] + 4·(1 − s)·w[t]·[i = t])·u`, and
/// `|dloss|·ω·p[i]` times the error of lse + rest, which is `(d + 5 + 6·ln classes)·u` however large the
/// logits are. With weights and smoothing, whose ω is a sum, 12 becomes d + 16.
///
/// ```
/// use gristmill::kernels::cross_entropy::Backward;
/// let mut dlogits = [0.0_f64; 2];
/// Backward {
///     logits: &[0.0, 0.0],
///     targets: &[1],
///     classes: 2,
///     logsumexp: &[2f64.ln()],
///     rest: &[0.0],
///     dlosses: &[1.0],
///     dlogits: &mut dlogits,
///     ..Backward::default()
/// }
/// .run()?;
/// assert!((dlogits[0] - 0.5).abs() < 1e-15 && (dlogits[1] + 0.5).abs() < 1e-15);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Backward<'a, T> {
    /// Whole rows.
    pub logits: &'a [T],
    /// The class of each row.
    pub targets: &'a [usize],
    /// The number of logits in a row.
    pub classes: usize,
    /// Those of the forward pass; none by default.
    pub options: Options<'a, T>,
    /// One element per row, from [`Forward`].
    pub logsumexp: &'a [T],
    /// One element per row, from [`Forward`].
    pub rest: &'a [T],
    /// The gradient of each loss, one element per row.
    pub dlosses: &'a [T],
    /// Output of the length of `logits`.
    pub dlogits: &'a mut [T],
}

impl<T: Element> Backward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`] when `logits` is not whole rows, another slice does not fit or there is not one
    /// weight per class, [`Error::Value`] when a target is not a class or the label smoothing is outside 0 to
    /// 1.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("cross_entropy::backward", |call: Backward<'_, T>| -> Result<()> {
            let Backward { logits, targets, classes, options, logsumexp, rest, dlosses, dlogits } = call;
            let rows = check(logits, targets, classes, options)?;
            lengths!(
                "cross_entropy",
                logsumexp == rows,
                rest == rows,
                dlosses == rows,
                dlogits == logits.len()
            );
            if rows == 0 {
                return Ok(());
            }
            let rule = Weighting::new(options, classes)?;
            let settings = context::settings()?;
            let chunk = rows_per_chunk(classes);
            let work = (logits.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
            let parts = (
                Rows(logits, classes * chunk),
                Rows(targets, chunk),
                Rows(logsumexp, chunk),
                Rows(rest, chunk),
                Rows(dlosses, chunk),
                RowsMut::new(dlogits, classes * chunk),
            );
            parallel::for_each(
                settings,
                parts,
                work,
                |(logits, targets, logsumexp, rest, dlosses, dlogits)| {
                    settings.simd.run(BackwardChunk {
                        logits,
                        targets,
                        classes,
                        rule,
                        logsumexp,
                        rest,
                        dlosses,
                        dlogits,
                    });
                },
            );
            Ok(())
        })
    }
}

/// The number of rows, if logits, targets and options are valid.
fn check<T: Element>(
    logits: &[T],
    targets: &[usize],
    classes: usize,
    options: Options<'_, T>,
) -> Result<usize> {
    let rows = whole_rows("cross_entropy", logits, classes)?;
    lengths!("cross_entropy", targets == rows);
    options.weight.expect_len("cross_entropy", "weight", classes)?;
    check_targets("cross_entropy", targets, classes, options.ignore_index)?;
    check_smoothing("cross_entropy", options.label_smoothing)?;
    Ok(rows)
}

pub(super) fn check_smoothing<T: Element>(op: &'static str, label_smoothing: T) -> Result<()> {
    if (T::ZERO..=T::ONE).contains(&label_smoothing) {
        return Ok(());
    }
    Err(Error::value(op, format!("label smoothing {label_smoothing} is outside 0 to 1")))
}

/// [`Options`] as the kernels use them.
#[derive(Clone, Copy)]
struct Weighting<'a, T> {
    weight: Option<&'a [T]>,
    ignore_index: Option<usize>,
    /// 1 − s.
    keep: T,
    /// s/classes.
    share: T,
    /// s/classes·Σ w.
    shared: T,
}

impl<'a, T: Element> Weighting<'a, T> {
    fn new(options: Options<'a, T>, classes: usize) -> Result<Self> {
        let Options { label_smoothing, weight, ignore_index } = options;
        let share = label_smoothing / T::from_f64(classes as f64);
        let shared = match weight {
            Some(weight) if share != T::ZERO => share * reduce::all(Reduce::Sum, weight)?,
            _ => label_smoothing,
        };
        Ok(Self { weight, ignore_index, keep: T::ONE - label_smoothing, share, shared })
    }

    /// (1 − s)·w\[t\] and ω of a row; `None` if it is ignored.
    #[inline(always)]
    fn row(self, target: usize) -> Option<(T, T)> {
        if self.ignore_index == Some(target) {
            return None;
        }
        let hard = self.weight.map_or(self.keep, |weight| self.keep * weight[target]);
        Some((hard, hard + self.shared))
    }
}

/// The largest logit of each row, and `ln Σ exp(z − largest)`: first the sums, then all logarithms together.
#[inline(always)]
pub(super) fn largest_and_ln_sums<T: Element, S: Simd>(
    s: S,
    logits: &[T],
    classes: usize,
    largest: &mut [T],
    ln_sums: &mut [T],
) {
    s.run(LargestAndLnSums { logits, classes, largest, ln_sums });
}

/// A kernel of its own, compiled once for all losses: it is most of their code.
struct LargestAndLnSums<'a, T> {
    logits: &'a [T],
    classes: usize,
    largest: &'a mut [T],
    ln_sums: &'a mut [T],
}

impl<T: Element> Kernel for LargestAndLnSums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { logits, classes, largest, ln_sums } = self;
        for ((z, max), sum) in logits.chunks_exact(classes).zip(largest).zip(&mut *ln_sums) {
            *max = slices::max(s, z);
            let max = s.splat(*max);
            *sum = slices::sum(
                s,
                z,
                #[inline(always)]
                |z| T::exp(s, z - max),
            );
        }
        slices::map_in_place(
            s,
            ln_sums,
            #[inline(always)]
            |sum| T::ln(s, sum),
        );
    }
}

/// The log-sum-exp of a row with this largest element, and what its rounding leaves over.
#[inline(always)]
pub(super) fn sum_and_rest<T: Element>(largest: T, ln_sum: T) -> (T, T) {
    let sum = largest + ln_sum;
    (sum, (largest - sum) + ln_sum)
}

struct ForwardChunk<'a, T> {
    logits: &'a [T],
    targets: &'a [usize],
    classes: usize,
    rule: Weighting<'a, T>,
    losses: &'a mut [T],
    logsumexp: &'a mut [T],
    rest: &'a mut [T],
}

impl<T: Element> Kernel for ForwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { logits, targets, classes, rule, losses, logsumexp, rest } = self;
        // The outputs hold the largest logits and the logarithms until the results replace them.
        largest_and_ln_sums(s, logits, classes, logsumexp, rest);
        let rows = logits.chunks_exact(classes).zip(targets);
        for (((z, &target), loss), (max, ln_sum)) in rows.zip(losses).zip(logsumexp.iter_mut().zip(rest)) {
            let (largest, ln) = (*max, *ln_sum);
            *loss = match rule.row(target) {
                None => T::ZERO,
                Some((hard, all)) => {
                    hard * (largest - z[target]) + (rule.smoothing(s, z, largest) + all * ln)
                }
            };
            (*max, *ln_sum) = sum_and_rest(largest, ln);
        }
    }
}

impl<T: Element> Weighting<'_, T> {
    /// s/classes·Σ w·(max − z).
    #[inline(always)]
    fn smoothing<S: Simd>(self, s: S, z: &[T], max: T) -> T {
        if self.share == T::ZERO {
            return T::ZERO;
        }
        let max = s.splat(max);
        let sum = match self.weight {
            None => slices::sum(
                s,
                z,
                #[inline(always)]
                |z| max - z,
            ),
            Some(weight) => slices::sum2(
                s,
                z,
                weight,
                #[inline(always)]
                |z, weight| (max - z) * weight,
            ),
        };
        self.share * sum
    }
}

struct BackwardChunk<'a, T> {
    logits: &'a [T],
    targets: &'a [usize],
    classes: usize,
    rule: Weighting<'a, T>,
    logsumexp: &'a [T],
    rest: &'a [T],
    dlosses: &'a [T],
    dlogits: &'a mut [T],
}

impl<T: Element> Kernel for BackwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { classes, rule, .. } = self;
        let (z, dz) = (self.logits.chunks_exact(classes), self.dlogits.chunks_exact_mut(classes));
        let rows = z.zip(self.targets).zip(self.logsumexp.iter().zip(self.rest)).zip(self.dlosses).zip(dz);
        for ((((z, &target), (&lse, &rest)), &dloss), dz) in rows {
            let Some((hard, all)) = rule.row(target) else {
                dz.fill(T::ZERO);
                continue;
            };
            let (lse, rest) = (s.splat(lse), s.splat(rest));
            let (all, share) = (s.splat(dloss * all), s.splat(dloss * rule.share));
            match rule.weight {
                Some(weight) if rule.share != T::ZERO => slices::map2(
                    s,
                    z,
                    weight,
                    dz,
                    #[inline(always)]
                    |z, weight| T::exp(s, (z - lse) - rest).mul_sub(all, share * weight),
                ),
                _ => slices::map(
                    s,
                    z,
                    dz,
                    #[inline(always)]
                    |z| T::exp(s, (z - lse) - rest).mul_sub(all, share),
                ),
            }
            dz[target] = dz[target] - dloss * hard;
        }
    }
}
