//! Rows of a table by index.

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::kernels::embedding;
use crate::simd::Element;
use crate::tensor::{Shape, Tensor};

pub(crate) struct Embedding {
    indices: Buffer<usize>,
    padding_idx: Option<usize>,
    from: Shape,
    parent: Parent,
}

impl<T: Element> Backward<T> for Embedding {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        gradients.add(self.parent, || {
            let dy = dy.compact();
            Tensor::build(self.from, |dtable| {
                embedding::backward(&self.indices, self.from[1], self.padding_idx, dy.data(), dtable)
            })
        })
    }
}

impl<T: Element> Tensor<T> {
    /// The rows of this `[rows, dim]` table with these indices, as `[indices, dim]`. An index may occur
    /// several times; the sum of its gradients does not depend on the number of threads. The gradient of the
    /// row `padding_idx` is 0.
    ///
    /// # Errors
    /// [`Error::Shape`] if the table is not `[rows, dim]`; [`Error::Value`] naming an index that is out of
    /// range, and its position.
    #[track_caller]
    pub fn embedding(&self, indices: &[usize], padding_idx: Option<usize>) -> Result<Self> {
        let &[rows, dim] = self.shape() else {
            let message = format!("expected a table of [rows, dim], got {:?}", self.shape());
            return Err(Error::shape("embedding", message));
        };
        embedding::check_padding("embedding", padding_idx, rows)?;
        let table = self.compact();
        let y = Tensor::build(Shape::new(&[indices.len(), dim])?, |y| {
            embedding::forward(table.data(), dim, indices, y)
        })?;
        record("embedding", y, [self], |[parent], _| {
            let indices = Buffer::copy_of(indices);
            Op::Embedding(Embedding { indices, padding_idx, from: self.dims(), parent })
        })
    }
}
