//! Cross-entropy of logits with class indices, fused with the log-softmax, row by row:
//! `loss = (1 − s)·(lse − z[target]) + s·(lse − mean z)`, where `lse = ln Σ exp(z[j])` and s is the label smoothing.
//!
//! It is computed as `(1 − s)·(m − z[target]) + s·mean(m − z) + ln Σ exp(z[j] − m)` with m the largest logit, all of
//! whose terms are ≥ 0: nothing cancels, and the size of the logits does not matter. With d and u as in
//! [`softmax`](super::softmax), the error of a loss is within `(2·loss + d + 4 + 5·ln classes)·u`, with smoothing
//! `((d + 10)·loss + d + 4 + 5·ln classes)·u`; so a loss near 0, where the target dominates, has an absolute error of
//! some units in the last place of 1.
//!
//! A row with a NaN or with +∞, and a row of −∞ alone, have a NaN loss and NaN gradients, as in PyTorch. A target
//! logit of −∞ has a loss of +∞; with smoothing, so has any logit of −∞.

use super::{compiled_once, rows_per_chunk, same_len, whole_rows};
use crate::context;
use crate::error::{Error, Result};
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::{Element, Float, Kernel, Simd, slices};

/// Measured on one core with AVX2, f32: `cargo bench --bench loss`.
const NANOSECONDS_PER_ELEMENT: f64 = 0.6;

compiled_once! {
    /// The loss of each row of `classes` logits, and its log-sum-exp, which [`backward`] needs; no reduction over rows.
    ///
    /// # Errors
    /// [`Error::Shape`] when `logits` is not whole rows or another slice has not one element per row, [`Error::Value`] when
    /// a target is not a class or the label smoothing is outside 0 to 1.
    ///
    /// ```
    /// use gristmill::kernels::cross_entropy;
    /// let (mut losses, mut logsumexp) = ([0.0_f64; 2], [0.0; 2]);
    /// let logits = [0.0, 0.0, 1000.0, 0.0];
    /// cross_entropy::forward(&logits, &[0, 1], 2, 0.0, &mut losses, &mut logsumexp)?;
    /// assert_eq!(losses, [2f64.ln(), 1000.0]);
    /// let error = cross_entropy::forward(&logits, &[0, 2], 2, 0.0, &mut losses, &mut logsumexp).unwrap_err();
    /// assert_eq!(error.to_string(), "cross_entropy: target 2 of row 1 is not one of 2 classes");
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn forward<T: Element>(
        logits: &[T],
        targets: &[usize],
        classes: usize,
        label_smoothing: T,
        losses: &mut [T],
        logsumexp: &mut [T],
    ) -> Result<()> {
        let rows = check(logits, targets, classes, label_smoothing)?;
        same_len("cross_entropy", "losses", losses, rows)?;
        same_len("cross_entropy", "logsumexp", logsumexp, rows)?;
        if rows == 0 {
            return Ok(());
        }
        let settings = context::settings()?;
        let chunk = rows_per_chunk(classes);
        let work = (logits.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
        let parts = (
            Rows(logits, classes * chunk),
            Rows(targets, chunk),
            RowsMut::new(losses, chunk),
            RowsMut::new(logsumexp, chunk),
        );
        parallel::for_each(settings, parts, work, |(logits, targets, losses, logsumexp)| {
            settings.simd.run(Forward { logits, targets, classes, label_smoothing, losses, logsumexp });
        });
        Ok(())
    }
}

compiled_once! {
    /// The gradient of the logits from the log-sum-exp of each row and the gradient of each loss:
    /// `dlogits[i] = dloss·(p[i] − (1 − s)·[i = target] − s/classes)` with `p[i] = exp(z[i] − lse)`.
    ///
    /// Within `|dloss|·((|z[i] − lse| + 5)·p[i] + 4·s/classes + 3·[i = target])·u`, and `|dloss|·p[i]` times the error of lse,
    /// which is at least `|lse|·u`.
    ///
    /// # Errors
    /// As [`forward`].
    ///
    /// ```
    /// let mut dlogits = [0.0_f64; 2];
    /// gristmill::kernels::cross_entropy::backward(&[0.0, 0.0], &[1], 2, 0.0, &[2f64.ln()], &[1.0], &mut dlogits)?;
    /// assert!((dlogits[0] - 0.5).abs() < 1e-15 && (dlogits[1] + 0.5).abs() < 1e-15);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn backward<T: Element>(
        logits: &[T],
        targets: &[usize],
        classes: usize,
        label_smoothing: T,
        logsumexp: &[T],
        dlosses: &[T],
        dlogits: &mut [T],
    ) -> Result<()> {
        let rows = check(logits, targets, classes, label_smoothing)?;
        same_len("cross_entropy", "logsumexp", logsumexp, rows)?;
        same_len("cross_entropy", "dlosses", dlosses, rows)?;
        same_len("cross_entropy", "dlogits", dlogits, logits.len())?;
        if rows == 0 {
            return Ok(());
        }
        let settings = context::settings()?;
        let chunk = rows_per_chunk(classes);
        let work = (logits.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
        let parts = (
            Rows(logits, classes * chunk),
            Rows(targets, chunk),
            Rows(logsumexp, chunk),
            Rows(dlosses, chunk),
            RowsMut::new(dlogits, classes * chunk),
        );
        parallel::for_each(settings, parts, work, |(logits, targets, logsumexp, dlosses, dlogits)| {
            let backward = Backward { logits, targets, classes, label_smoothing, logsumexp, dlosses, dlogits };
            settings.simd.run(backward);
        });
        Ok(())
    }
}

/// The number of rows, if logits and targets are what they should be.
fn check<T: Element>(logits: &[T], targets: &[usize], classes: usize, label_smoothing: T) -> Result<usize> {
    let rows = whole_rows("cross_entropy", logits, classes)?;
    same_len("cross_entropy", "targets", targets, rows)?;
    if let Some(row) = targets.iter().position(|&target| target >= classes) {
        let message = format!("target {} of row {row} is not one of {classes} classes", targets[row]);
        return Err(Error::value("cross_entropy", message));
    }
    if !(T::ZERO..=T::ONE).contains(&label_smoothing) {
        let message = format!("label smoothing {label_smoothing} is outside 0 to 1");
        return Err(Error::value("cross_entropy", message));
    }
    Ok(rows)
}

struct Forward<'a, T> {
    logits: &'a [T],
    targets: &'a [usize],
    classes: usize,
    label_smoothing: T,
    losses: &'a mut [T],
    logsumexp: &'a mut [T],
}

impl<T: Element> Kernel for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { logits, targets, classes, label_smoothing, losses, logsumexp } = self;
        // First the largest logits and the sums, in the places of the results: then all logarithms together.
        for ((z, max), sum) in logits.chunks_exact(classes).zip(&mut *logsumexp).zip(&mut *losses) {
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
            losses,
            #[inline(always)]
            |sum| T::ln(s, sum),
        );
        let rows = logits.chunks_exact(classes).zip(targets);
        for (((z, &target), max), ln_sum) in rows.zip(logsumexp).zip(losses) {
            let (lse, mut distance) = (*max + *ln_sum, *max - z[target]);
            if label_smoothing != T::ZERO {
                let max = s.splat(*max);
                let distances = slices::sum(
                    s,
                    z,
                    #[inline(always)]
                    |z| max - z,
                );
                let mean = distances / T::from_f64(classes as f64);
                distance = (T::ONE - label_smoothing) * distance + label_smoothing * mean;
            }
            (*max, *ln_sum) = (lse, distance + *ln_sum);
        }
    }
}

struct Backward<'a, T> {
    logits: &'a [T],
    targets: &'a [usize],
    classes: usize,
    label_smoothing: T,
    logsumexp: &'a [T],
    dlosses: &'a [T],
    dlogits: &'a mut [T],
}

impl<T: Element> Kernel for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let share = self.label_smoothing / T::from_f64(self.classes as f64);
        let (z, dz) = (self.logits.chunks_exact(self.classes), self.dlogits.chunks_exact_mut(self.classes));
        let rows = z.zip(self.targets).zip(self.logsumexp).zip(self.dlosses).zip(dz);
        for ((((z, &target), &lse), &dloss), dz) in rows {
            let (lse, g, offset) = (s.splat(lse), s.splat(dloss), s.splat(dloss * share));
            slices::map(
                s,
                z,
                dz,
                #[inline(always)]
                |z| T::exp(s, z - lse).mul_sub(g, offset),
            );
            dz[target] = dz[target] - dloss * (T::ONE - self.label_smoothing);
        }
    }
}
