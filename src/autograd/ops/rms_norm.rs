//! Root mean square normalisation over the last axis.

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::kernels::rms_norm;
use crate::simd::Element;
use crate::tensor::{Shape, Tensor};

pub(crate) struct RmsNorm<T: Element> {
    x: Tensor<T>,
    gamma: Option<Tensor<T>>,
    rstd: Buffer<T>,
    parents: [Parent; 2],
}

impl<T: Element> Backward<T> for RmsNorm<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let (x, dy) = (&self.x, dy.compact());
        let cols = x.shape()[x.rank() - 1];
        let gamma = self.gamma.as_ref().map(Tensor::data);
        let wanted = if self.parents[1].is_some() { cols } else { 0 };
        let mut dgamma = Buffer::stale(wanted);
        let dx = Tensor::build(x.dims(), |dx| {
            rms_norm::Backward {
                x: x.data(),
                cols,
                gamma,
                rstd: &self.rstd,
                dy: dy.data(),
                dx,
                dgamma: (wanted > 0).then(|| dgamma.fresh_mut()),
            }
            .run()
        })?;
        gradients.add(self.parents[0], || Ok(dx))?;
        gradients.add(self.parents[1], || Ok(Tensor::from_buffer(dgamma, Shape::from_dims(&[wanted]))))
    }
}

impl<T: Element> Tensor<T> {
    /// `x / sqrt(mean(x²) + eps) · gamma` over the last axis (Zhang and Sennrich 2019); gamma has the length
    /// of that axis. The default eps is the machine epsilon of the element type, as in PyTorch.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit; [`Error::Value`] if eps is negative or not finite.
    #[track_caller]
    pub fn rms_norm(&self, gamma: Option<&Self>, eps: Option<f64>) -> Result<Self> {
        let Some(&cols) = self.shape().last() else {
            return Err(Error::shape("rms_norm", "a scalar has no last axis"));
        };
        if let Some(gamma) = gamma.filter(|gamma| gamma.shape() != [cols]) {
            let message = format!("x {:?} does not fit gamma {:?}", self.shape(), gamma.shape());
            return Err(Error::shape("rms_norm", message));
        }
        let eps = eps.unwrap_or(T::EPSILON.to_f64());
        let (x, weight) = (self.compact(), gamma.map(Tensor::compact));
        let mut rstd = Buffer::stale(x.len().checked_div(cols).unwrap_or(0));
        let y = Tensor::build(x.dims(), |y| {
            let weight = weight.as_ref().map(Tensor::data);
            rms_norm::Forward { x: x.data(), cols, gamma: weight, eps, y, rstd: Some(rstd.fresh_mut()) }.run()
        })?;
        record("rms_norm", y, [Some(self), gamma], |parents, _| {
            Op::RmsNorm(RmsNorm { x, gamma: weight, rstd, parents })
        })
    }
}
