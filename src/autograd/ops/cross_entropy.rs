//! Cross-entropy of logits with class indices.

use super::{Backward, Op, Reduction};
use crate::autograd::{Gradients, Parent, record};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::kernels::cross_entropy;
use crate::simd::Element;
use crate::tensor::{Shape, Tensor};

pub(crate) struct CrossEntropy<T: Element> {
    logits: Tensor<T>,
    targets: Buffer<usize>,
    smoothing: T,
    logsumexp: Buffer<T>,
    reduction: Reduction,
    parent: Parent,
}

impl<T: Element> Backward<T> for CrossEntropy<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        gradients.add(self.parent, || {
            let rows = self.targets.len();
            let dlosses = match self.reduction.each(&dy, rows)? {
                Some(each) => Tensor::full([rows], each)?,
                None => dy.compact(),
            };
            let (logits, classes) = (self.logits.data(), self.logits.shape()[1]);
            Tensor::build(self.logits.dims(), |dlogits| {
                cross_entropy::backward(
                    logits,
                    &self.targets,
                    classes,
                    self.smoothing,
                    &self.logsumexp,
                    dlosses.data(),
                    dlogits,
                )
            })
        })
    }
}

impl<T: Element> Tensor<T> {
    /// The mean over the rows of `logsumexp(z) − z[target]`, for logits z of `[rows, classes]`.
    ///
    /// # Errors
    /// [`Error::Shape`] unless there are two axes and a target per row; [`Error::Value`] for a target that is not one
    /// of the classes.
    #[track_caller]
    pub fn cross_entropy(&self, targets: &[usize]) -> Result<Self> {
        self.cross_entropy_with(targets, Reduction::Mean, T::ZERO)
    }

    /// [`cross_entropy`](Tensor::cross_entropy) with another reduction, and with label smoothing s: the loss is
    /// `(1 − s)·(lse − z[target]) + s·(lse − mean z)`.
    ///
    /// # Errors
    /// As [`cross_entropy`](Tensor::cross_entropy); [`Error::Value`] for smoothing outside [0, 1].
    #[track_caller]
    pub fn cross_entropy_with(&self, targets: &[usize], reduction: Reduction, smoothing: T) -> Result<Self> {
        let &[rows, classes] = self.shape() else {
            let message = format!("logits must be [rows, classes], got {:?}", self.shape());
            return Err(Error::shape("cross_entropy", message));
        };
        if targets.len() != rows {
            let message = format!("{} targets for {rows} rows of logits", targets.len());
            return Err(Error::shape("cross_entropy", message));
        }
        let logits = self.compact();
        let mut logsumexp = Buffer::stale(rows);
        let losses = Tensor::build(Shape::from_dims(&[rows]), |losses| {
            let logsumexp = logsumexp.fresh_mut();
            cross_entropy::forward(logits.data(), targets, classes, smoothing, losses, logsumexp)
        })?;
        record("cross_entropy", reduction.apply(losses)?, [self], |[parent], _| {
            let targets = Buffer::copy_of(targets);
            Op::CrossEntropy(CrossEntropy { logits, targets, smoothing, logsumexp, reduction, parent })
        })
    }
}
