//! Classification losses: cross-entropy of logits with class indices or probabilities, and negative
//! log-likelihood.

use super::{Backward, Op, Reduction};
use crate::autograd::{Gradients, Parent, is_recording, record};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::kernels::nll_loss::total_weight;
use crate::kernels::{cross_entropy, nll_loss, soft_cross_entropy};
use crate::simd::Element;
use crate::tensor::{Shape, Tensor};

/// Options of [`Tensor::cross_entropy_with`] and [`Tensor::soft_cross_entropy`]. Names and defaults are
/// PyTorch's, except that no index is ignored by default.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropyOptions<'a, T: Element> {
    /// How the losses of the rows are combined. For class indices, the mean is weighted: the sum of the
    /// losses divided by the sum of `weight[target]`. If no row counts, it is NaN, with gradients of 0.
    pub reduction: Reduction,
    /// The part of the target that is spread evenly over all classes, from 0 to 1.
    pub label_smoothing: f64,
    /// Rows with this class index are ignored. It need not be the index of a class.
    pub ignore_index: Option<usize>,
    /// `[classes]`; receives no gradient.
    pub weight: Option<&'a Tensor<T>>,
}

impl<T: Element> Default for CrossEntropyOptions<'_, T> {
    fn default() -> Self {
        Self { reduction: Reduction::Mean, label_smoothing: 0.0, ignore_index: None, weight: None }
    }
}

pub(crate) struct CrossEntropy<T: Element> {
    logits: Tensor<T>,
    targets: Buffer<usize>,
    label_smoothing: T,
    weight: Option<Tensor<T>>,
    ignore_index: Option<usize>,
    logsumexp: Buffer<T>,
    /// The rounding error of the log-sum-exp.
    rest: Buffer<T>,
    reduction: Reduction,
    /// The divisor of the mean.
    total: T,
    parent: Parent,
}

impl<T: Element> Backward<T> for CrossEntropy<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        gradients.add(self.parent, || {
            let dlosses = self.reduction.spread(&dy, self.targets.len(), self.total)?;
            let (logits, classes) = (self.logits.data(), self.logits.shape()[1]);
            let options = cross_entropy::Options {
                label_smoothing: self.label_smoothing,
                weight: self.weight.as_ref().map(Tensor::data),
                ignore_index: self.ignore_index,
            };
            Tensor::build(self.logits.dims(), |dlogits| {
                let (targets, dlosses) = (&self.targets, dlosses.data());
                let (lse, rest) = (&self.logsumexp, &self.rest);
                cross_entropy::Backward {
                    logits,
                    targets,
                    classes,
                    options,
                    logsumexp: lse,
                    rest,
                    dlosses,
                    dlogits,
                }
                .run()
            })
        })
    }
}

pub(crate) struct SoftCrossEntropy<T: Element> {
    logits: Tensor<T>,
    targets: Tensor<T>,
    label_smoothing: T,
    weight: Option<Tensor<T>>,
    logsumexp: Buffer<T>,
    /// The rounding error of the log-sum-exp.
    rest: Buffer<T>,
    reduction: Reduction,
    parents: [Parent; 2],
}

impl<T: Element> Backward<T> for SoftCrossEntropy<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let &[rows, classes] = self.logits.shape() else { unreachable!("checked by the forward pass") };
        let dlosses = self.reduction.spread(&dy, rows, T::from_f64(rows as f64))?;
        let mut dtargets = None;
        let dlogits = Tensor::build(self.logits.dims(), |dlogits| {
            let mut backward = |dtargets: Option<&mut [T]>| {
                soft_cross_entropy::Backward {
                    logits: self.logits.data(),
                    targets: self.targets.data(),
                    classes,
                    label_smoothing: self.label_smoothing,
                    weight: self.weight.as_ref().map(Tensor::data),
                    logsumexp: &self.logsumexp,
                    rest: &self.rest,
                    dlosses: dlosses.data(),
                    dlogits,
                    dtargets,
                }
                .run()
            };
            if self.parents[1].is_none() {
                return backward(None);
            }
            dtargets = Some(Tensor::build(self.logits.dims(), |dtargets| backward(Some(dtargets)))?);
            Ok(())
        })?;
        gradients.add(self.parents[0], || Ok(dlogits))?;
        match dtargets {
            Some(dtargets) => gradients.add(self.parents[1], || Ok(dtargets)),
            None => Ok(()),
        }
    }
}

pub(crate) struct NllLoss<T: Element> {
    shape: Shape,
    targets: Buffer<usize>,
    weight: Option<Tensor<T>>,
    ignore_index: Option<usize>,
    reduction: Reduction,
    /// The divisor of the mean.
    total: T,
    parent: Parent,
}

impl<T: Element> Backward<T> for NllLoss<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        gradients.add(self.parent, || {
            let dlosses = self.reduction.spread(&dy, self.targets.len(), self.total)?;
            let weight = self.weight.as_ref().map(Tensor::data);
            Tensor::build(self.shape, |dlog_p| {
                let (classes, dlosses) = (self.shape[1], dlosses.data());
                nll_loss::Backward {
                    targets: &self.targets,
                    classes,
                    weight,
                    ignore_index: self.ignore_index,
                    dlosses,
                    dlog_p,
                }
                .run()
            })
        })
    }
}

impl Reduction {
    /// Combines the losses of rows whose weights add up to `total`, or returns the losses themselves.
    fn join<T: Element>(self, losses: Tensor<T>, total: T) -> Result<Tensor<T>> {
        Ok(match self {
            Reduction::Mean => Tensor::scalar(Reduction::Sum.apply(losses)?.item()? / total),
            Reduction::Sum | Reduction::None => self.apply(losses)?,
        })
    }

    /// The gradient of each loss from that of the result of [`join`](Reduction::join).
    fn spread<T: Element>(self, dy: &Tensor<T>, rows: usize, total: T) -> Result<Tensor<T>> {
        match self {
            Reduction::Mean => Tensor::full([rows], dy.item()? / total),
            Reduction::Sum => Tensor::full([rows], dy.item()?),
            Reduction::None => Ok(dy.compact()),
        }
    }
}

/// Rows and classes of x.
fn rows_and_classes<T: Element>(op: &'static str, x: &Tensor<T>) -> Result<[usize; 2]> {
    match x.shape() {
        &[rows, classes] => Ok([rows, classes]),
        shape => Err(Error::shape(op, format!("input must be [rows, classes], got {shape:?}"))),
    }
}

/// Checks that there is a target per row.
fn check_targets(op: &'static str, targets: &[usize], rows: usize) -> Result<()> {
    if targets.len() == rows {
        return Ok(());
    }
    Err(Error::shape(op, format!("{} targets for {rows} rows", targets.len())))
}

/// The class weights, if given; an error if they require a gradient or do not fit.
fn class_weights<T: Element>(
    op: &'static str,
    weight: Option<&Tensor<T>>,
    classes: usize,
) -> Result<Option<Tensor<T>>> {
    let Some(weight) = weight else { return Ok(None) };
    if weight.shape() != [classes] {
        let message = format!("weight has shape {:?}, expected [{classes}]", weight.shape());
        return Err(Error::shape(op, message));
    }
    if is_recording() && weight.is_tracked() {
        return Err(Error::autograd(op, "there is no gradient of the class weights; detach them"));
    }
    Ok(Some(weight.compact()))
}

impl<T: Element> Tensor<T> {
    /// The mean over the rows of `logsumexp(z) − z[target]`, for logits z of `[rows, classes]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not two axes or not one target per row; [`Error::Value`] for a target
    /// that is not one of the classes.
    #[track_caller]
    pub fn cross_entropy(&self, targets: &[usize]) -> Result<Self> {
        self.cross_entropy_with(targets, CrossEntropyOptions::default())
    }

    /// [`cross_entropy`](Tensor::cross_entropy) with another reduction, label smoothing s, class weights w,
    /// or ignored rows: the loss of a row is `(1 − s)·w[t]·(lse − z[t]) + s/classes·Σ w[c]·(lse − z[c])`.
    ///
    /// ```
    /// use gristmill::{Tensor, autograd::CrossEntropyOptions};
    /// let logits = Tensor::from_slice(&[0.0_f64, 0.0, 9.0, 9.0], [2, 2])?;
    /// let options = CrossEntropyOptions { ignore_index: Some(0), ..Default::default() };
    /// assert_eq!(logits.cross_entropy_with(&[0, 1], options)?.item()?, 2f64.ln());
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not two axes, one target per row and one weight per class;
    /// [`Error::Value`] for a target that is neither a class nor ignored, or for smoothing outside [0, 1];
    /// [`Error::Autograd`] for weights that require a gradient.
    #[track_caller]
    pub fn cross_entropy_with(&self, targets: &[usize], options: CrossEntropyOptions<'_, T>) -> Result<Self> {
        const OP: &str = "cross_entropy";
        let CrossEntropyOptions { reduction, label_smoothing, ignore_index, weight } = options;
        let [rows, classes] = rows_and_classes(OP, self)?;
        check_targets(OP, targets, rows)?;
        let weight = class_weights(OP, weight, classes)?;
        let (logits, label_smoothing) = (self.compact(), T::from_f64(label_smoothing));
        let weights = weight.as_ref().map(Tensor::data);
        let options = cross_entropy::Options { label_smoothing, weight: weights, ignore_index };
        let (mut logsumexp, mut rest) = (Buffer::stale(rows), Buffer::stale(rows));
        let losses = Tensor::build(Shape::from_dims(&[rows]), |losses| {
            let (lse, rest) = (logsumexp.fresh_mut(), rest.fresh_mut());
            cross_entropy::Forward {
                logits: logits.data(),
                targets,
                classes,
                options,
                losses,
                logsumexp: lse,
                rest,
            }
            .run()
        })?;
        let total = total_weight(targets, weights, ignore_index)?;
        record(OP, reduction.join(losses, total)?, [self], |[parent], _| {
            Op::CrossEntropy(CrossEntropy {
                logits,
                targets: Buffer::copy_of(targets),
                label_smoothing,
                weight,
                ignore_index,
                logsumexp,
                rest,
                reduction,
                total,
                parent,
            })
        })
    }

    /// Cross-entropy with class probabilities t, of the same shape as the logits z: the loss of a row is
    /// `Σ q[c]·w[c]·(lse − z[c])` with `q = (1 − s)·t + s/classes`; the mean is over the number of rows,
    /// regardless of weights. Targets receive gradients, too.
    ///
    /// # Errors
    /// [`Error::Shape`] if logits and targets are not both `[rows, classes]`, or if there is not one weight
    /// per class; [`Error::Value`] for an index to ignore, or for smoothing outside [0, 1];
    /// [`Error::Autograd`] for weights that require a gradient.
    #[track_caller]
    pub fn soft_cross_entropy(&self, targets: &Self, options: CrossEntropyOptions<'_, T>) -> Result<Self> {
        const OP: &str = "soft_cross_entropy";
        let CrossEntropyOptions { reduction, label_smoothing, ignore_index, weight } = options;
        let [rows, classes] = rows_and_classes(OP, self)?;
        if targets.shape() != self.shape() {
            let message =
                format!("input {:?} and target {:?} differ in shape", self.shape(), targets.shape());
            return Err(Error::shape(OP, message));
        }
        if let Some(index) = ignore_index {
            return Err(Error::value(OP, format!("probabilities have no index {index} to ignore")));
        }
        let weight = class_weights(OP, weight, classes)?;
        let (logits, t, label_smoothing) = (self.compact(), targets.compact(), T::from_f64(label_smoothing));
        let (mut logsumexp, mut rest) = (Buffer::stale(rows), Buffer::stale(rows));
        let losses = Tensor::build(Shape::from_dims(&[rows]), |losses| {
            let (weight, lse, rest) =
                (weight.as_ref().map(Tensor::data), logsumexp.fresh_mut(), rest.fresh_mut());
            let (logits, t) = (logits.data(), t.data());
            soft_cross_entropy::Forward {
                logits,
                targets: t,
                classes,
                label_smoothing,
                weight,
                losses,
                logsumexp: lse,
                rest,
            }
            .run()
        })?;
        let joined = reduction.join(losses, T::from_f64(rows as f64))?;
        record(OP, joined, [self, targets], |parents, _| {
            Op::SoftCrossEntropy(SoftCrossEntropy {
                logits,
                targets: t,
                label_smoothing,
                weight,
                logsumexp,
                rest,
                reduction,
                parents,
            })
        })
    }

    /// Negative log-likelihood of log-probabilities of `[rows, classes]`: the loss of a row is
    /// `−weight[t]·x[t]`, or 0 if its target t is ignored. The mean is the sum of the losses divided by the
    /// sum of `weight[t]` over the rows that are not ignored.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not two axes, a target per row and a weight per class; [`Error::Value`]
    /// for a target that is not one of the classes; [`Error::Autograd`] for weights that require a gradient.
    #[track_caller]
    pub fn nll_loss(
        &self,
        targets: &[usize],
        weight: Option<&Self>,
        ignore_index: Option<usize>,
        reduction: Reduction,
    ) -> Result<Self> {
        const OP: &str = "nll_loss";
        let [rows, classes] = rows_and_classes(OP, self)?;
        check_targets(OP, targets, rows)?;
        let weight = class_weights(OP, weight, classes)?;
        let weights = weight.as_ref().map(Tensor::data);
        let x = self.compact();
        let losses = Tensor::build(Shape::from_dims(&[rows]), |losses| {
            nll_loss::Forward { log_p: x.data(), targets, classes, weight: weights, ignore_index, losses }
                .run()
        })?;
        let total = total_weight(targets, weights, ignore_index)?;
        record(OP, reduction.join(losses, total)?, [self], |[parent], _| {
            let (shape, targets) = (x.dims(), Buffer::copy_of(targets));
            Op::NllLoss(NllLoss { shape, targets, weight, ignore_index, reduction, total, parent })
        })
    }
}
