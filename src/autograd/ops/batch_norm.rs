//! Batch normalisation over the first axis.

use super::epilogue::{Epilogue, KeptEpilogue};
use super::layer_norm::{check_affine, normalisation_backward};
use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::kernels::batch_norm::{self, After, Gate, Running};
use crate::simd::Element;
use crate::tensor::{Numbers, Shape, Tensor};

/// The statistics that normalise a batch.
pub enum BatchStatistics<'a, T: Element> {
    /// Those of the batch, for training; running statistics are updated if given.
    Batch(Option<Running<'a, T>>),
    /// Running mean and variance, for evaluation.
    Running {
        /// `[features]`.
        mean: &'a [T],
        /// `[features]`.
        var: &'a [T],
    },
}

/// Mean and reciprocal standard deviation of the batch, or running mean and variance.
enum Statistics<T: Element> {
    Batch { mean: Buffer<T>, rstd: Buffer<T> },
    Running { mean: Buffer<T>, var: Buffer<T>, eps: f64 },
}

pub(crate) struct BatchNorm<T: Element> {
    x: Numbers<T>,
    shape: Shape,
    gamma: Option<Numbers<T>>,
    kept: Statistics<T>,
    epilogue: Option<KeptEpilogue<T>>,
    parents: [Parent; 3],
}

impl<T: Element> Backward<T> for BatchNorm<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let (x, dy, cols) = (&self.x, dy.compact(), self.shape[1]);
        // Without a residual, the gate is applied in the passes over x. With one, its gradient is what passes
        // the gate.
        let (dy, gate) = match &self.epilogue {
            Some(then) if then.residual.is_some() || matches!(self.kept, Statistics::Running { .. }) => {
                let dy = then.backward(&dy)?;
                gradients.add(then.residual, || Ok(dy.clone()))?;
                (dy, None)
            }
            Some(then) => (dy, Some(Gate { y: then.y.data(), scale: then.scale })),
            None => (dy, None),
        };
        normalisation_backward(
            self.shape,
            cols,
            self.gamma.is_some(),
            self.parents,
            gradients,
            |dx, dgamma, dbeta| {
                let gamma = self.gamma.as_ref().map(Numbers::data);
                match &self.kept {
                    Statistics::Batch { mean, rstd } => batch_norm::Backward {
                        x: x.data(),
                        cols,
                        gamma,
                        mean,
                        rstd,
                        gate,
                        dy: dy.data(),
                        dx,
                        dgamma,
                        dbeta,
                    }
                    .run(),
                    Statistics::Running { mean, var, eps } => batch_norm::InferBackward {
                        x: x.data(),
                        cols,
                        gamma,
                        running_mean: mean,
                        running_var: var,
                        eps: *eps,
                        dy: dy.data(),
                        dx,
                        dgamma,
                        dbeta,
                    }
                    .run(),
                }
            },
        )
    }
}

impl<T: Element> Tensor<T> {
    /// `(x − mean) / sqrt(var + eps) · gamma + beta` for x of `[rows, features]`, with the mean and biased
    /// variance of each feature over the batch, or with running ones. `affine` is (gamma, beta), both of
    /// `[features]`.
    ///
    /// x of `[samples, features, length]` is treated as samples · length rows: it is copied with the features
    /// last, and so is the gradient; the returned tensor is a view of the result.
    ///
    /// As in PyTorch, a batch without rows returns no rows, leaves running statistics unchanged, and has
    /// gradients of 0.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit, or if a batch has a single row in training;
    /// [`Error::Value`] if eps is negative or not finite.
    #[track_caller]
    pub fn batch_norm(
        &self,
        affine: Option<(&Self, &Self)>,
        statistics: BatchStatistics<'_, T>,
        eps: f64,
    ) -> Result<Self> {
        if let &[samples, features, length] = self.shape() {
            check_affine("batch_norm", self, features, affine)?;
            let rows = self.transpose(1, 2)?.reshape([samples * length, features])?;
            let y = rows.normalise(affine, statistics, eps, None)?;
            return y.reshape([samples, length, features])?.transpose(1, 2);
        }
        self.normalise(affine, statistics, eps, None)
    }

    /// [`batch_norm`](Tensor::batch_norm) followed by an epilogue, in fewer passes if x is
    /// `[rows, features]`. The bits are those of the separate operations.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes of the layer or of the epilogue do not fit, or if a batch has a single
    /// row in training; [`Error::Value`] if eps is negative or not finite, or if the epilogue's p is not in
    /// [0, 1].
    #[track_caller]
    pub fn batch_norm_then(
        &self,
        affine: Option<(&Self, &Self)>,
        statistics: BatchStatistics<'_, T>,
        eps: f64,
        then: Epilogue<'_, T>,
    ) -> Result<Self> {
        then.check("batch_norm", self.shape())?;
        if self.rank() == 3 {
            return then.apply(&self.batch_norm(affine, statistics, eps)?);
        }
        self.normalise(affine, statistics, eps, Some(then))
    }

    #[track_caller]
    fn normalise(
        &self,
        affine: Option<(&Self, &Self)>,
        statistics: BatchStatistics<'_, T>,
        eps: f64,
        then: Option<Epilogue<'_, T>>,
    ) -> Result<Self> {
        let &[_, cols] = self.shape() else {
            let message =
                format!("expected [rows, features] or [samples, features, length], got {:?}", self.shape());
            return Err(Error::shape("batch_norm", message));
        };
        check_affine("batch_norm", self, cols, affine)?;
        // Without rows there are no statistics: any values will do for the empty result, and the running ones
        // are not updated.
        let neutral: (Vec<T>, Vec<T>);
        let statistics = match statistics {
            BatchStatistics::Batch(_) if self.shape()[0] == 0 => {
                neutral = (vec![T::ZERO; cols], vec![T::ONE; cols]);
                BatchStatistics::Running { mean: &neutral.0, var: &neutral.1 }
            }
            given => given,
        };
        let x = self.dense();
        let (gamma, beta) = affine.map(|(gamma, beta)| (gamma.dense(), beta.dense())).unzip();
        let add = then.and_then(|then| then.add);
        let residual = add.map(Tensor::dense);
        let after = match (&then, &residual) {
            (None, _) => After::Nothing,
            (Some(_), None) => After::Relu,
            (Some(_), Some(residual)) => After::AddRelu(residual.data()),
        };
        let mut kept = None;
        let y = Tensor::build(x.dims(), |y| {
            let (gamma, beta) = (gamma.as_ref().map(|g| g.data()), beta.as_ref().map(|b| b.data()));
            kept = Some(match statistics {
                BatchStatistics::Batch(running) => {
                    let (mut mean, mut rstd) = (Buffer::stale(cols), Buffer::stale(cols));
                    let (m, r) = (mean.fresh_mut(), rstd.fresh_mut());
                    batch_norm::Forward {
                        x: x.data(),
                        cols,
                        gamma,
                        beta,
                        eps,
                        running,
                        after,
                        y,
                        mean: Some(m),
                        rstd: Some(r),
                    }
                    .run()?;
                    Statistics::Batch { mean, rstd }
                }
                BatchStatistics::Running { mean, var } => {
                    batch_norm::Infer {
                        x: x.data(),
                        cols,
                        gamma,
                        beta,
                        running_mean: mean,
                        running_var: var,
                        eps,
                        after,
                        y,
                    }
                    .run()?;
                    Statistics::Running { mean: Buffer::copy_of(mean), var: Buffer::copy_of(var), eps }
                }
            });
            then.map_or(Ok(()), |then| then.drop_from(y))
        })?;
        let inputs = [Some(self), affine.map(|(gamma, _)| gamma), affine.map(|(_, beta)| beta), add];
        record("batch_norm", y, inputs, |[of_x, of_gamma, of_beta, residual], y| {
            let kept = kept.take().expect("set by the forward pass");
            let epilogue = then.map(|then| then.keep(y, residual));
            let (x, shape, gamma) = (x.numbers(), self.dims(), gamma.map(|gamma| gamma.numbers()));
            Op::BatchNorm(BatchNorm { x, shape, gamma, kept, epilogue, parents: [of_x, of_gamma, of_beta] })
        })
    }
}
