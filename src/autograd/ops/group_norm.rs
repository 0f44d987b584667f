//! Group normalisation: over groups of channels and all axes after them.

use super::layer_norm::{check_affine, normalisation_backward};
use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::kernels::group_norm::{self, Layout};
use crate::simd::Element;
use crate::tensor::Tensor;

pub(crate) struct GroupNorm<T: Element> {
    x: Tensor<T>,
    layout: Layout,
    gamma: Option<Tensor<T>>,
    mean: Buffer<T>,
    rstd: Buffer<T>,
    parents: [Parent; 3],
}

impl<T: Element> Backward<T> for GroupNorm<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let (x, dy, layout) = (&self.x, dy.compact(), self.layout);
        let affine = self.gamma.is_some();
        normalisation_backward(
            x.dims(),
            layout.channels,
            affine,
            self.parents,
            gradients,
            |dx, dgamma, dbeta| {
                let gamma = self.gamma.as_ref().map(Tensor::data);
                let (mean, rstd) = (&self.mean, &self.rstd);
                group_norm::Backward {
                    x: x.data(),
                    layout,
                    gamma,
                    mean,
                    rstd,
                    dy: dy.data(),
                    dx,
                    dgamma,
                    dbeta,
                }
                .run()
            },
        )
    }
}

impl<T: Element> Tensor<T> {
    /// `(x − mean) / sqrt(var + eps) · gamma + beta` for x of `[samples, channels, …]` (Wu and He 2018), with
    /// the mean and biased variance of each group of neighbouring channels, including all axes after them, of
    /// each sample. `affine` is (gamma, beta), both of `[channels]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit or the channels cannot be divided into equal groups;
    /// [`Error::Value`] if eps is negative or not finite.
    #[track_caller]
    pub fn group_norm(&self, groups: usize, affine: Option<(&Self, &Self)>, eps: f64) -> Result<Self> {
        let &[samples, channels, ref rest @ ..] = self.shape() else {
            let message = format!("expected [samples, channels, …], got {:?}", self.shape());
            return Err(Error::shape("group_norm", message));
        };
        check_affine("group_norm", self, channels, affine)?;
        let layout = Layout { channels, inner: rest.iter().product(), groups };
        let x = self.compact();
        let (gamma, beta) = affine.map(|(gamma, beta)| (gamma.compact(), beta.compact())).unzip();
        // The kernel rejects more groups than channels.
        let rows = if x.len() == 0 { 0 } else { samples * groups.min(channels) };
        let (mut mean, mut rstd) = (Buffer::try_stale(rows)?, Buffer::try_stale(rows)?);
        let y = Tensor::build(x.dims(), |y| {
            let (gamma, beta) = (gamma.as_ref().map(Tensor::data), beta.as_ref().map(Tensor::data));
            group_norm::Forward {
                x: x.data(),
                layout,
                gamma,
                beta,
                eps,
                y,
                mean: Some(mean.fresh_mut()),
                rstd: Some(rstd.fresh_mut()),
            }
            .run()
        })?;
        let inputs = [Some(self), affine.map(|(gamma, _)| gamma), affine.map(|(_, beta)| beta)];
        record("group_norm", y, inputs, |parents, _| {
            Op::GroupNorm(GroupNorm { x, layout, gamma, mean, rstd, parents })
        })
    }
}
