//! Cross-entropy of logits with class probabilities, fused with the log-softmax, row by row:
//! `loss = Σ q[c]·w[c]·(lse − z[c])`, where `q = (1 − s)·target + s/classes`, `lse = ln Σ exp(z[c])`, s is
//! the label smoothing and w the weight of each class.
//!
//! With m the largest logit it is computed as `Σ q[c]·w[c]·(m − z[c]) + ω·ln Σ exp(z[c] − m)`,
//! `ω = Σ q[c]·w[c]`. For targets and weights ≥ 0 all terms are ≥ 0: nothing cancels, and the size of the
//! logits does not matter. With d and u as in [`softmax`](super::softmax), the error of a loss is within
//! `((2·d + 10)·loss + ω·(d + 4 + 5·ln classes))·u`.
//!
//! Targets need not sum to 1. A row with a NaN in logits or targets, with a logit of +∞, or of −∞ alone, has
//! a NaN loss and NaN gradients. A logit of −∞ has a loss of +∞, but NaN where q·w is 0, as in PyTorch.

use super::cross_entropy::{check_smoothing, largest_and_ln_sums, sum_and_rest};
use super::{compiled_once, lengths, rows_per_chunk, unless_given, whole_rows};
use crate::context;
use crate::error::Result;
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::{Element, Float, Kernel, Simd, slices};

/// Measured on one core with AVX2, f32: `cargo bench --bench criterion -- soft_cross_entropy`.
const NANOSECONDS_PER_ELEMENT: f64 = 0.65;

/// The loss of each row of `classes` logits with as many probabilities, and its log-sum-exp, rounded, and
/// what the rounding left over, which [`Backward`] needs; no reduction over rows.
///
/// ```
/// use gristmill::kernels::soft_cross_entropy::Forward;
/// let (mut losses, mut lse, mut rest) = ([0.0_f64], [0.0], [0.0]);
/// Forward {
///     logits: &[3.0, 3.0],
///     targets: &[0.25, 0.75],
///     classes: 2,
///     losses: &mut losses,
///     logsumexp: &mut lse,
///     rest: &mut rest,
///     ..Forward::default()
/// }
/// .run()?;
/// assert_eq!(losses, [2f64.ln()]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Forward<'a, T> {
    /// Whole rows.
    pub logits: &'a [T],
    /// Probabilities, of the length of `logits`.
    pub targets: &'a [T],
    /// The number of logits in a row.
    pub classes: usize,
    /// From 0, the default, to 1: the share of the target that is spread over all classes.
    pub label_smoothing: T,
    /// The weight of each class; `None`, the default, for 1.
    pub weight: Option<&'a [T]>,
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
    /// [`Error::Shape`](crate::Error::Shape) when `logits` is not whole rows or another slice does not fit,
    /// [`Error::Value`](crate::Error::Value) when the label smoothing is outside 0 to 1.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("soft_cross_entropy::forward", |call: Forward<'_, T>| -> Result<()> {
            let Forward { logits, targets, classes, label_smoothing, weight, losses, logsumexp, rest } = call;
            const OP: &str = "soft_cross_entropy";
            let rows = whole_rows(OP, logits, classes)?;
            lengths!(
                OP,
                targets == logits.len(),
                weight == classes,
                losses == rows,
                logsumexp == rows,
                rest == rows
            );
            check_smoothing(OP, label_smoothing)?;
            let settings = context::settings()?;

            if rows == 0 {
                return Ok(());
            }
            let ones = unless_given(weight, classes, T::ONE);
            let weight = weight.or(ones.as_deref()).unwrap_or_default();
            let smoothing = Smoothing::new(label_smoothing, classes);
            let chunk = rows_per_chunk(classes);
            let work = (logits.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
            let parts = (
                Rows(logits, classes * chunk),
                Rows(targets, classes * chunk),
                RowsMut::new(losses, chunk),
                RowsMut::new(logsumexp, chunk),
                RowsMut::new(rest, chunk),
            );
            parallel::for_each(settings, parts, work, |(logits, targets, losses, logsumexp, rest)| {
                settings.simd.run(ForwardChunk {
                    logits,
                    targets,
                    classes,
                    smoothing,
                    weight,
                    losses,
                    logsumexp,
                    rest,
                });
            });
            Ok(())
        })
    }
}

/// The gradient of the logits, and optionally that of the targets, from the log-sum-exp of each row and its
/// rest, which [`Forward`] computes, and the gradient of each loss: `dloss·(ω·p[i] − q[i]·w[i])` with
/// `p[i] = exp(z[i] − lse − rest)`, and `dloss·(1 − s)·w[i]·(lse + rest − z[i])`.
///
/// The first is within `|dloss|·((2·|z[i] − lse| + 2·d + 16)·ω·p[i] + 6·q[i]·w[i])·u`, and `|dloss|·ω·p[i]`
/// times the error of lse + rest, which is `(d + 5 + 6·ln classes)·u` however large the logits are; the
/// second within `|dloss|·(1 − s)·w[i]` times that error and `6·|lse − z[i]|·u`.
///
/// ```
/// use gristmill::kernels::soft_cross_entropy::Backward;
/// let mut dlogits = [0.0_f64; 2];
/// Backward {
///     logits: &[3.0, 3.0],
///     targets: &[0.25, 0.75],
///     classes: 2,
///     logsumexp: &[3.0 + 2f64.ln()],
///     rest: &[0.0],
///     dlosses: &[1.0],
///     dlogits: &mut dlogits,
///     ..Backward::default()
/// }
/// .run()?;
/// assert!((dlogits[0] - 0.25).abs() < 1e-15 && (dlogits[1] + 0.25).abs() < 1e-15);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Backward<'a, T> {
    /// Whole rows.
    pub logits: &'a [T],
    /// Probabilities, of the length of `logits`.
    pub targets: &'a [T],
    /// The number of logits in a row.
    pub classes: usize,
    /// From 0, the default, to 1: the share of the target that is spread over all classes.
    pub label_smoothing: T,
    /// The weight of each class; `None`, the default, for 1.
    pub weight: Option<&'a [T]>,
    /// One element per row, from [`Forward`].
    pub logsumexp: &'a [T],
    /// One element per row, from [`Forward`].
    pub rest: &'a [T],
    /// The gradient of each loss, one element per row.
    pub dlosses: &'a [T],
    /// Output of the length of `logits`.
    pub dlogits: &'a mut [T],
    /// Output of the length of `logits`; `None`, the default, if not wanted.
    pub dtargets: Option<&'a mut [T]>,
}

impl<T: Element> Backward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when `logits` is not whole rows or another slice does not fit,
    /// [`Error::Value`](crate::Error::Value) when the label smoothing is outside 0 to 1.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("soft_cross_entropy::backward", |call: Backward<'_, T>| -> Result<()> {
            let Backward {
                logits,
                targets,
                classes,
                label_smoothing,
                weight,
                logsumexp,
                rest,
                dlosses,
                dlogits,
                dtargets,
            } = call;
            const OP: &str = "soft_cross_entropy";
            let rows = whole_rows(OP, logits, classes)?;
            lengths!(
                OP,
                targets == logits.len(),
                weight == classes,
                logsumexp == rows,
                rest == rows,
                dlosses == rows,
                dlogits == logits.len(),
                dtargets == logits.len()
            );
            check_smoothing(OP, label_smoothing)?;
            let settings = context::settings()?;

            if rows == 0 {
                return Ok(());
            }
            let ones = unless_given(weight, classes, T::ONE);
            let weight = weight.or(ones.as_deref()).unwrap_or_default();
            let smoothing = Smoothing::new(label_smoothing, classes);
            let chunk = rows_per_chunk(classes);
            let work = (logits.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
            let parts = (
                Rows(logits, classes * chunk),
                Rows(targets, classes * chunk),
                Rows(logsumexp, chunk),
                Rows(rest, chunk),
                Rows(dlosses, chunk),
                RowsMut::new(dlogits, classes * chunk),
                RowsMut::new(dtargets.unwrap_or_default(), classes * chunk),
            );
            parallel::for_each(settings, parts, work, |parts| {
                let (logits, targets, logsumexp, rest, dlosses, dlogits, dtargets) = parts;
                settings.simd.run(BackwardChunk {
                    logits,
                    targets,
                    classes,
                    smoothing,
                    weight,
                    logsumexp,
                    rest,
                    dlosses,
                    dlogits,
                    dtargets,
                });
            });
            Ok(())
        })
    }
}

/// `q = keep·target + share`.
#[derive(Clone, Copy)]
struct Smoothing<T> {
    keep: T,
    share: T,
}

impl<T: Element> Smoothing<T> {
    fn new(label_smoothing: T, classes: usize) -> Self {
        let share = label_smoothing / T::from_f64(classes.max(1) as f64);
        Self { keep: T::ONE - label_smoothing, share }
    }
}

struct ForwardChunk<'a, T> {
    logits: &'a [T],
    targets: &'a [T],
    classes: usize,
    smoothing: Smoothing<T>,
    weight: &'a [T],
    losses: &'a mut [T],
    logsumexp: &'a mut [T],
    rest: &'a mut [T],
}

impl<T: Element> Kernel for ForwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { logits, targets, classes, smoothing, weight, losses, logsumexp, rest } = self;
        // The outputs hold the largest logits and the logarithms until the results replace them.
        largest_and_ln_sums(s, logits, classes, logsumexp, rest);
        let (keep, share) = (s.splat(smoothing.keep), s.splat(smoothing.share));
        let rows = logits.chunks_exact(classes).zip(targets.chunks_exact(classes));
        for (((z, t), loss), (max, ln_sum)) in rows.zip(losses).zip(logsumexp.iter_mut().zip(rest)) {
            let largest = s.splat(*max);
            let [far, all] = slices::sums::<T, S, 2, 3, 2>(
                s,
                [z, t, weight],
                #[inline(always)]
                |[far, all], [z, t, weight]| {
                    let q = t.mul_add(keep, share) * weight;
                    [(largest - z).mul_add(q, far), all + q]
                },
            );
            *loss = far + all * *ln_sum;
            (*max, *ln_sum) = sum_and_rest(*max, *ln_sum);
        }
    }
}

struct BackwardChunk<'a, T> {
    logits: &'a [T],
    targets: &'a [T],
    classes: usize,
    smoothing: Smoothing<T>,
    weight: &'a [T],
    logsumexp: &'a [T],
    rest: &'a [T],
    dlosses: &'a [T],
    dlogits: &'a mut [T],
    /// Empty if not wanted.
    dtargets: &'a mut [T],
}

impl<T: Element> Kernel for BackwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { classes, weight, .. } = self;
        let (keep, share) = (s.splat(self.smoothing.keep), s.splat(self.smoothing.share));
        let inputs = self.logits.chunks_exact(classes).zip(self.targets.chunks_exact(classes));
        let rows = inputs.zip(self.logsumexp.iter().zip(self.rest).zip(self.dlosses));
        let mut dtargets = self.dtargets.chunks_exact_mut(classes);
        for (((z, t), ((&lse, &rest), &dloss)), dz) in rows.zip(self.dlogits.chunks_exact_mut(classes)) {
            let [all] = slices::sums::<T, S, 2, 2, 1>(
                s,
                [t, weight],
                #[inline(always)]
                |[all], [t, weight]| [t.mul_add(keep, share).mul_add(weight, all)],
            );
            let (lse, rest, all, g) = (s.splat(lse), s.splat(rest), s.splat(dloss * all), s.splat(dloss));
            slices::map3(
                s,
                [z, t, weight],
                dz,
                #[inline(always)]
                |z, t, weight| T::exp(s, (z - lse) - rest).mul_sub(all, t.mul_add(keep, share) * weight * g),
            );
            if let Some(dt) = dtargets.next() {
                slices::map2(
                    s,
                    z,
                    weight,
                    dt,
                    #[inline(always)]
                    |z, weight| ((lse - z) + rest) * weight * (g * keep),
                );
            }
        }
    }
}
