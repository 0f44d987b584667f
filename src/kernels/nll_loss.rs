//! Negative log-likelihood of the target class, row by row, from log-probabilities: `loss = −w[t]·log_p[t]`.
//!
//! Losses and gradients are rounded once, and exact without weights. NaN propagates, but an ignored row has a
//! loss of 0 and gradients of 0 whatever it holds.

use super::{compiled_once, lengths, rows_per_chunk, whole_rows};
use crate::context;
use crate::error::{Error, Result};
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::Element;

/// Rows per parallel chunk of the losses.
const ROWS: usize = 4 * 1024;
/// The target of each row and one cache line of its log-probabilities. Measured on one core with AVX2, f32:
/// `cargo bench --bench criterion -- nll_loss`.
const NANOSECONDS_PER_ROW: usize = 3;
/// Of the gradient, which is nearly all zeros; measured likewise.
const NANOSECONDS_PER_ELEMENT: f64 = 0.1;

/// The loss of each row of `classes` log-probabilities; no reduction over rows.
///
/// ```
/// use gristmill::kernels::nll_loss::Forward;
/// let (log_p, mut losses) = ([-0.5, -1.0, -0.25, -1.5], [0.0_f32; 2]);
/// let (weight, ignore_index) = (Some(&[1.0, 3.0][..]), Some(0));
/// Forward { log_p: &log_p, targets: &[1, 0], classes: 2, weight, ignore_index, losses: &mut losses }.run()?;
/// assert_eq!(losses, [3.0, 0.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Forward<'a, T> {
    /// Whole rows of log-probabilities.
    pub log_p: &'a [T],
    /// The class of each row.
    pub targets: &'a [usize],
    /// The number of log-probabilities in a row.
    pub classes: usize,
    /// The weight of each class; `None`, the default, for 1.
    pub weight: Option<&'a [T]>,
    /// Rows with this target have a loss of 0. It need not be a class; `None` by default.
    pub ignore_index: Option<usize>,
    /// Output, one element per row.
    pub losses: &'a mut [T],
}

impl<T: Element> Forward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`] when `log_p` is not whole rows, another slice has not one element per row or there is
    /// not one weight per class, [`Error::Value`] when a target is not a class.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("nll_loss::forward", |call: Forward<'_, T>| -> Result<()> {
            let Forward { log_p, targets, classes, weight, ignore_index, losses } = call;
            let rows = whole_rows("nll_loss", log_p, classes)?;
            lengths!("nll_loss", targets == rows, weight == classes, losses == rows);
            check_targets("nll_loss", targets, classes, ignore_index)?;
            let settings = context::settings()?;
            if rows == 0 {
                return Ok(());
            }
            let parts = (Rows(log_p, ROWS * classes), Rows(targets, ROWS), RowsMut::new(losses, ROWS));
            parallel::for_each(settings, parts, rows * NANOSECONDS_PER_ROW, |(log_p, targets, losses)| {
                for ((log_p, &target), loss) in log_p.chunks_exact(classes).zip(targets).zip(losses) {
                    *loss = match ignore_index {
                        Some(ignored) if ignored == target => T::ZERO,
                        _ => weight.map_or(-log_p[target], |weight| -weight[target] * log_p[target]),
                    };
                }
            });
            Ok(())
        })
    }
}

/// The gradient of the log-probabilities from that of each loss: `−w[t]·dloss` at the target, 0 elsewhere and
/// in ignored rows.
///
/// ```
/// use gristmill::kernels::nll_loss::Backward;
/// let (dlosses, mut dlog_p) = ([0.5, 0.5], [0.0_f32; 4]);
/// let (weight, ignore_index) = (Some(&[1.0, 3.0][..]), Some(0));
/// let call = Backward { targets: &[1, 0], classes: 2, weight, ignore_index, ..Backward::default() };
/// Backward { dlosses: &dlosses, dlog_p: &mut dlog_p, ..call }.run()?;
/// assert_eq!(dlog_p, [0.0, -1.5, 0.0, 0.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Backward<'a, T> {
    /// The class of each row.
    pub targets: &'a [usize],
    /// The number of log-probabilities in a row.
    pub classes: usize,
    /// The weight of each class; `None`, the default, for 1.
    pub weight: Option<&'a [T]>,
    /// Rows with this target have gradients of 0. It need not be a class; `None` by default.
    pub ignore_index: Option<usize>,
    /// The gradient of each loss, one element per row.
    pub dlosses: &'a [T],
    /// Output of whole rows.
    pub dlog_p: &'a mut [T],
}

impl<T: Element> Backward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`] when `dlog_p` is not whole rows, another slice does not fit or there is not one
    /// weight per class, [`Error::Value`] when a target is not a class.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("nll_loss::backward", |call: Backward<'_, T>| -> Result<()> {
            let Backward { targets, classes, weight, ignore_index, dlosses, dlog_p } = call;
            let rows = whole_rows("nll_loss", dlog_p, classes)?;
            lengths!("nll_loss", targets == rows, weight == classes, dlosses == rows);
            check_targets("nll_loss", targets, classes, ignore_index)?;
            let settings = context::settings()?;
            let chunk = rows_per_chunk(classes);
            let work = (dlog_p.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
            let parts = (Rows(targets, chunk), Rows(dlosses, chunk), RowsMut::new(dlog_p, chunk * classes));
            parallel::for_each(settings, parts, work, |(targets, dlosses, dlog_p)| {
                dlog_p.fill(T::ZERO);
                for ((dlog_p, &target), &dloss) in dlog_p.chunks_exact_mut(classes).zip(targets).zip(dlosses)
                {
                    if ignore_index != Some(target) {
                        dlog_p[target] = weight.map_or(-dloss, |weight| -weight[target] * dloss);
                    }
                }
            });
            Ok(())
        })
    }
}

/// The divisor of the mean loss: the sum of the weights of all targets that are not ignored, or without
/// weights their number. Summed in `f64`, in order.
///
/// # Errors
/// [`Error::Value`] when a target has no weight.
///
/// ```
/// use gristmill::kernels::nll_loss::total_weight;
/// assert_eq!(total_weight::<f32>(&[1, 0, 1], None, Some(0))?, 2.0);
/// assert_eq!(total_weight(&[1, 0, 1], Some(&[0.5_f32, 2.0]), None)?, 4.5);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn total_weight<T: Element>(
    targets: &[usize],
    weight: Option<&[T]>,
    ignore_index: Option<usize>,
) -> Result<T> {
    let counted = targets.iter().filter(|&&target| ignore_index != Some(target));
    let Some(weight) = weight else { return Ok(T::from_f64(counted.count() as f64)) };
    check_targets("nll_loss", targets, weight.len(), ignore_index)?;
    Ok(context::in_environment(|| T::from_f64(counted.map(|&target| weight[target].to_f64()).sum())))
}

/// An error unless each target is a class or `ignore_index`.
pub(super) fn check_targets(
    op: &'static str,
    targets: &[usize],
    classes: usize,
    ignore_index: Option<usize>,
) -> Result<()> {
    let wrong = |&target: &usize| target >= classes && ignore_index != Some(target);
    let Some(row) = targets.iter().position(wrong) else { return Ok(()) };
    Err(Error::value(op, format!("target {} of row {row} is not one of {classes} classes", targets[row])))
}
