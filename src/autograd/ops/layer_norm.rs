//! Layer normalisation over the last axis.

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::kernels;
use crate::simd::Element;
use crate::tensor::{Numbers, Shape, Tensor};

pub(crate) struct LayerNorm<T: Element> {
    x: Numbers<T>,
    shape: Shape,
    gamma: Option<Numbers<T>>,
    mean: Buffer<T>,
    rstd: Buffer<T>,
    parents: [Parent; 3],
}

impl<T: Element> Backward<T> for LayerNorm<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let (x, dy, shape) = (&self.x, dy.dense(), self.shape);
        let cols = shape[shape.len() - 1];
        normalisation_backward(
            shape,
            cols,
            self.gamma.is_some(),
            self.parents,
            gradients,
            |dx, dgamma, dbeta| {
                let gamma = self.gamma.as_ref().map(Numbers::data);
                let (x, dy, mean, rstd) = (x.data(), dy.data(), &self.mean, &self.rstd);
                kernels::layer_norm::Backward { x, cols, gamma, mean, rstd, dy, dx, dgamma, dbeta }.run()
            },
        )
    }
}

/// Runs a kernel that computes dx, dγ and dβ together, and distributes them.
pub(super) fn normalisation_backward<T: Element>(
    of_x: Shape,
    features: usize,
    affine: bool,
    parents: [Parent; 3],
    gradients: &mut Gradients<T>,
    kernel: impl FnOnce(&mut [T], Option<&mut [T]>, Option<&mut [T]>) -> Result<()>,
) -> Result<()> {
    let wanted = if affine { features } else { 0 };
    let shape = Shape::from_dims(&[wanted]);
    let (mut dgamma, mut dbeta) = (Buffer::stale(wanted), Buffer::stale(wanted));
    let dx = Tensor::build(of_x, |dx| {
        kernel(dx, affine.then(|| dgamma.fresh_mut()), affine.then(|| dbeta.fresh_mut()))
    })?;
    gradients.add(parents[0], || Ok(dx))?;
    gradients.add(parents[1], || Ok(Tensor::from_buffer(dgamma, shape)))?;
    gradients.add(parents[2], || Ok(Tensor::from_buffer(dbeta, shape)))
}

/// Checks that γ and β are either both given or both absent, and have one element per feature.
pub(super) fn check_affine<T: Element>(
    name: &'static str,
    x: &Tensor<T>,
    features: usize,
    affine: Option<(&Tensor<T>, &Tensor<T>)>,
) -> Result<()> {
    match affine {
        Some((gamma, beta)) if gamma.shape() != [features] || beta.shape() != [features] => {
            let (gamma, beta) = (gamma.shape(), beta.shape());
            let message = format!("x {:?} does not fit gamma {gamma:?} and beta {beta:?}", x.shape());
            Err(Error::shape(name, message))
        }
        _ => Ok(()),
    }
}

impl<T: Element> Tensor<T> {
    /// `(x − mean) / sqrt(var + eps) · gamma + beta` over the last axis, with the biased variance. `affine`
    /// is (gamma, beta), both of the length of the last axis.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit; [`Error::Value`] if eps is negative or not finite.
    #[track_caller]
    pub fn layer_norm(&self, affine: Option<(&Self, &Self)>, eps: f64) -> Result<Self> {
        let Some(&cols) = self.shape().last() else {
            return Err(Error::shape("layer_norm", "a scalar has no last axis"));
        };
        check_affine("layer_norm", self, cols, affine)?;
        let x = self.dense();
        let (gamma, beta) = affine.map(|(gamma, beta)| (gamma.dense(), beta.dense())).unzip();
        let rows = x.len().checked_div(cols).unwrap_or(0);
        let (mut mean, mut rstd) = (Buffer::stale(rows), Buffer::stale(rows));
        let y = Tensor::build(x.dims(), |y| {
            let (gamma, beta) = (gamma.as_ref().map(|g| g.data()), beta.as_ref().map(|b| b.data()));
            let (mean, rstd) = (Some(mean.fresh_mut()), Some(rstd.fresh_mut()));
            kernels::layer_norm::Forward { x: x.data(), cols, gamma, beta, eps, y, mean, rstd }.run()
        })?;
        let inputs = [Some(self), affine.map(|(gamma, _)| gamma), affine.map(|(_, beta)| beta)];
        record("layer_norm", y, inputs, |parents, _| {
            let (x, shape, gamma) = (x.numbers(), self.dims(), gamma.map(|gamma| gamma.numbers()));
            Op::LayerNorm(LayerNorm { x, shape, gamma, mean, rstd, parents })
        })
    }
}
