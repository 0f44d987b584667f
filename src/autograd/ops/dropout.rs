//! Inverted dropout; the mask is drawn again in the backward pass.

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::error::Result;
use crate::kernels::dropout::{self, Key};
use crate::simd::Element;
use crate::tensor::Tensor;

pub(crate) struct Dropout {
    p: f64,
    key: Key,
    parent: Parent,
}

impl<T: Element> Backward<T> for Dropout {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        gradients.add(self.parent, || {
            let dy = dy.compact();
            Tensor::build(dy.dims(), |dx| dropout::backward(dy.data(), self.p, self.key, dx))
        })
    }
}

impl<T: Element> Tensor<T> {
    /// Sets each element to 0 with probability `p`, and divides it by 1 − p otherwise. Which elements are
    /// dropped depends only on `key` and the element's position.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if `p` is not in [0, 1].
    #[track_caller]
    pub fn dropout(&self, p: f64, key: Key) -> Result<Self> {
        let x = self.compact();
        let y = Tensor::build(x.dims(), |y| dropout::forward(x.data(), p, key, y))?;
        record("dropout", y, [self], |[parent], _| Op::Dropout(Dropout { p, key, parent }))
    }
}
