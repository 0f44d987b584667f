//! Elementwise losses with a reduction.

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::error::{Error, Result};
use crate::kernels::loss::{self, Loss};
use crate::kernels::reduce::{self, Reduce};
use crate::simd::Element;
use crate::tensor::Tensor;

/// How the losses of single elements or rows are combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// Their mean.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// Not at all: every loss is returned.
    None,
}

impl Reduction {
    /// Reduces losses of any shape.
    pub(super) fn apply<T: Element>(self, losses: Tensor<T>) -> Result<Tensor<T>> {
        Ok(match self {
            Reduction::None => losses,
            Reduction::Mean => Tensor::scalar(reduce::all(Reduce::Mean, losses.data())?),
            Reduction::Sum => Tensor::scalar(reduce::all(Reduce::Sum, losses.data())?),
        })
    }

    /// The gradient of each of `count` losses from that of the reduced loss; `None` if each loss has its own.
    pub(super) fn each<T: Element>(self, dy: &Tensor<T>, count: usize) -> Result<Option<T>> {
        Ok(match self {
            Reduction::None => None,
            Reduction::Sum => Some(dy.item()?),
            Reduction::Mean => Some(dy.item()? / T::from_f64(count as f64)),
        })
    }
}

pub(crate) struct LossOp<T: Element> {
    op: Loss<T>,
    reduction: Reduction,
    x: Tensor<T>,
    target: Tensor<T>,
    parents: [Parent; 2],
}

impl<T: Element> Backward<T> for LossOp<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let (x, target) = (&self.x, &self.target);
        let mut dtarget = None;
        let dx = Tensor::build(x.dims(), |dx| {
            let mut backward = |dtarget: Option<&mut [T]>| match self.reduction.each(&dy, x.len())? {
                Some(dloss) => loss::BackwardUniform {
                    op: self.op,
                    x: x.data(),
                    target: target.data(),
                    dloss,
                    dx,
                    dtarget,
                }
                .run(),
                None => loss::Backward {
                    op: self.op,
                    x: x.data(),
                    target: target.data(),
                    dlosses: dy.compact().data(),
                    dx,
                    dtarget,
                }
                .run(),
            };
            if self.parents[1].is_none() {
                return backward(None);
            }
            dtarget = Some(Tensor::build(x.dims(), |dtarget| backward(Some(dtarget)))?);
            Ok(())
        })?;
        gradients.add(self.parents[0], || Ok(dx))?;
        match dtarget {
            Some(dtarget) => gradients.add(self.parents[1], || Ok(dtarget)),
            None => Ok(()),
        }
    }
}

impl<T: Element> Tensor<T> {
    #[track_caller]
    fn elementwise_loss(
        &self,
        name: &'static str,
        op: Loss<T>,
        target: &Self,
        reduction: Reduction,
    ) -> Result<Self> {
        if self.shape() != target.shape() {
            let message = format!("input {:?} and target {:?} differ in shape", self.shape(), target.shape());
            return Err(Error::shape(name, message));
        }
        let (x, t) = (self.compact(), target.compact());
        let losses = Tensor::build(x.dims(), |out| loss::forward(op, x.data(), t.data(), out))?;
        record(name, reduction.apply(losses)?, [self, target], |parents, _| {
            Op::Loss(LossOp { op, reduction, x, target: t, parents })
        })
    }

    /// `(x − target)²`, reduced.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes differ.
    #[track_caller]
    pub fn mse_loss(&self, target: &Self, reduction: Reduction) -> Result<Self> {
        self.elementwise_loss("mse_loss", Loss::SquaredError, target, reduction)
    }

    /// `|x − target|`, reduced; the derivative at 0 is 0.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes differ.
    #[track_caller]
    pub fn l1_loss(&self, target: &Self, reduction: Reduction) -> Result<Self> {
        self.elementwise_loss("l1_loss", Loss::AbsoluteError, target, reduction)
    }

    /// `½·e²` where `|e| ≤ delta`, else `delta·(|e| − ½·delta)`, for e = x − target, reduced.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes differ; [`Error::Value`] if delta is not finite and positive.
    #[track_caller]
    pub fn huber_loss(&self, target: &Self, delta: T, reduction: Reduction) -> Result<Self> {
        self.elementwise_loss("huber_loss", Loss::Huber { delta }, target, reduction)
    }

    /// Binary cross-entropy of `sigmoid(x)` with targets in [0, 1]: `max(x, 0) − x·t + ln(1 + exp(−|x|))`,
    /// reduced.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes differ; [`Error::Value`] for a target outside [0, 1].
    #[track_caller]
    pub fn bce_with_logits_loss(&self, target: &Self, reduction: Reduction) -> Result<Self> {
        self.elementwise_loss("bce_with_logits_loss", Loss::BceWithLogits, target, reduction)
    }
}
