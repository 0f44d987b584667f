//! The parametric ReLU.

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::kernels::prelu;
use crate::simd::Element;
use crate::tensor::Tensor;

pub(crate) struct Prelu<T: Element> {
    x: Tensor<T>,
    slope: Tensor<T>,
    /// The number of elements of a channel.
    inner: usize,
    parents: [Parent; 2],
}

impl<T: Element> Backward<T> for Prelu<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let (x, slope, dy) = (&self.x, &self.slope, dy.compact());
        let mut dslope = Buffer::stale(slope.len());
        let dx = Tensor::build(x.dims(), |dx| {
            prelu::Backward {
                x: x.data(),
                slope: slope.data(),
                inner: self.inner,
                dy: dy.data(),
                dx,
                dslope: Some(dslope.fresh_mut()),
            }
            .run()
        })?;
        gradients.add(self.parents[0], || Ok(dx))?;
        gradients.add(self.parents[1], || Ok(Tensor::from_buffer(dslope, slope.dims())))
    }
}

impl<T: Element> Tensor<T> {
    /// x where x > 0, else slope · x (He et al. 2015). `slope` is `[1]`, or `[channels]` for x of
    /// `[samples, channels, …]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is neither one slope nor as many as channels.
    #[track_caller]
    pub fn prelu(&self, slope: &Self) -> Result<Self> {
        let inner = match (slope.shape(), self.shape()) {
            ([1], _) => self.len(),
            (&[slopes], &[_, channels, ref rest @ ..]) if slopes == channels && slopes > 0 => {
                rest.iter().product()
            }
            (slopes, x) => {
                let message = format!("slope {slopes:?} does not fit x {x:?}: [1] or [channels] would");
                return Err(Error::shape("prelu", message));
            }
        };
        let (x, weight) = (self.compact(), slope.compact());
        let y = Tensor::build(x.dims(), |y| prelu::forward(x.data(), weight.data(), inner, y))?;
        record("prelu", y, [self, slope], |parents, _| Op::Prelu(Prelu { x, slope: weight, inner, parents }))
    }
}
