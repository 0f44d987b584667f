//! Negative log-likelihood: of log-probabilities, that of the target, row by row: `loss = −w[t]·log_p[t]`.
//!
//! Losses and gradients are rounded once, and exact without weights. A NaN gives NaN, but a row that is to be ignored has a
//! loss of 0 and gradients of 0 whatever it holds.

use super::{compiled_once, lengths, rows_per_chunk, whole_rows};
use crate::context;
use crate::error::{Error, Result};
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::Element;

/// Rows per parallel chunk of the losses.
const CHUNK: usize = 4 * 1024;
/// A cache line of each row from memory. An estimate, not yet measured: `cargo bench --bench criterion -- nll_loss`.
const NANOSECONDS_PER_ROW: usize = 3;
/// Of writing zeros; an estimate, too.
const NANOSECONDS_PER_ELEMENT: f64 = 0.1;

/// The loss of each row of `classes` log-probabilities; no reduction over rows.
///
/// `weight` has one element per class; without it all are 1. Rows whose target is `ignore_index` have a loss of 0.
///
/// # Errors
/// [`Error::Shape`] when `log_p` is not whole rows, another slice has not one element per row or there is not one weight
/// per class, [`Error::Value`] when a target is not a class.
///
/// ```
/// let mut losses = [0.0_f32; 2];
/// let log_p = [-0.5, -1.0, -0.25, -1.5];
/// gristmill::kernels::nll_loss::forward(&log_p, &[1, 0], 2, Some(&[1.0, 3.0]), Some(0), &mut losses)?;
/// assert_eq!(losses, [3.0, 0.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn forward<T: Element>(
    log_p: &[T],
    targets: &[usize],
    classes: usize,
    weight: Option<&[T]>,
    ignore_index: Option<usize>,
    losses: &mut [T],
) -> Result<()> {
    compiled_once!("nll_loss::forward", |log_p: &[T],
                                         targets: &[usize],
                                         classes: usize,
                                         weight: Option<&[T]>,
                                         ignore_index: Option<usize>,
                                         losses: &mut [T]|
     -> Result<()> {
        let rows = whole_rows("nll_loss", log_p, classes)?;
        lengths!("nll_loss", targets == rows, weight == classes, losses == rows);
        check_targets("nll_loss", targets, classes, ignore_index)?;
        let settings = context::settings()?;
        let parts = (Rows(log_p, CHUNK * classes), Rows(targets, CHUNK), RowsMut::new(losses, CHUNK));
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

/// The gradient of the log-probabilities from that of each loss: `−w[t]·dloss` in the place of the target unless its row
/// is to be ignored, 0 elsewhere.
///
/// # Errors
/// As [`forward`].
///
/// ```
/// let mut dlog_p = [0.0_f32; 4];
/// gristmill::kernels::nll_loss::backward(&[1, 0], 2, Some(&[1.0, 3.0]), Some(0), &[0.5, 0.5], &mut dlog_p)?;
/// assert_eq!(dlog_p, [0.0, -1.5, 0.0, 0.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn backward<T: Element>(
    targets: &[usize],
    classes: usize,
    weight: Option<&[T]>,
    ignore_index: Option<usize>,
    dlosses: &[T],
    dlog_p: &mut [T],
) -> Result<()> {
    compiled_once!("nll_loss::backward", |targets: &[usize],
                                          classes: usize,
                                          weight: Option<&[T]>,
                                          ignore_index: Option<usize>,
                                          dlosses: &[T],
                                          dlog_p: &mut [T]|
     -> Result<()> {
        let rows = whole_rows("nll_loss", dlog_p, classes)?;
        lengths!("nll_loss", targets == rows, weight == classes, dlosses == rows);
        check_targets("nll_loss", targets, classes, ignore_index)?;
        let settings = context::settings()?;
        let chunk = rows_per_chunk(classes);
        let work = (dlog_p.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
        let parts = (Rows(targets, chunk), Rows(dlosses, chunk), RowsMut::new(dlog_p, chunk * classes));
        parallel::for_each(settings, parts, work, |(targets, dlosses, dlog_p)| {
            dlog_p.fill(T::ZERO);
            for ((dlog_p, &target), &dloss) in dlog_p.chunks_exact_mut(classes).zip(targets).zip(dlosses) {
                if ignore_index != Some(target) {
                    dlog_p[target] = weight.map_or(-dloss, |weight| -weight[target] * dloss);
                }
            }
        });
        Ok(())
    })
}

/// What the sum of the losses is divided by for their mean: the sum of the weights of all targets, or their number; without
/// those to be ignored. Summed in `f64`, in order.
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

/// An error unless each target is a class or to be ignored.
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
