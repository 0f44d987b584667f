//! Joining tensors, and picking rows.

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record, record_many};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::kernels::map;
use crate::simd::Element;
use crate::tensor::{Shape, Tensor, resolve_axis};

pub(crate) struct Concat {
    axis: usize,
    lens: Vec<usize>,
    parents: Vec<Parent>,
}

impl<T: Element> Backward<T> for Concat {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let mut start = 0;
        for (&len, &parent) in self.lens.iter().zip(&self.parents) {
            gradients.add(parent, || Ok(dy.view_slice(self.axis, start, start + len)))?;
            start += len;
        }
        Ok(())
    }
}

pub(crate) struct Gather {
    rows: Vec<usize>,
    from: Shape,
    parent: Parent,
}

impl<T: Element> Backward<T> for Gather {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        gradients.add(self.parent, || {
            let mut dx = Buffer::full(self.from.elements(), T::ZERO);
            let width: usize = self.from[1..].iter().product();
            if width > 0 {
                let (dy, dx) = (dy.compact(), dx.fresh_mut());
                for (&row, dy) in self.rows.iter().zip(dy.data().chunks_exact(width)) {
                    map::accumulate(dy, &mut dx[row * width..][..width])?;
                }
            }
            Ok(Tensor::from_buffer(dx, self.from))
        })
    }
}

impl<T: Element> Tensor<T> {
    /// Tensors joined along an axis; the other axes must agree.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are none, the axis does not exist, or other axes differ.
    #[track_caller]
    pub fn concat(tensors: &[&Self], axis: isize) -> Result<Self> {
        let Some(first) = tensors.first() else {
            return Err(Error::shape("concat", "there is nothing to join"));
        };
        let axis = resolve_axis("concat", axis, first.rank())?;
        let like_first =
            |x: &&Self| x.rank() == first.rank() && x.dims().with(axis, 0) == first.dims().with(axis, 0);
        if let Some(other) = tensors.iter().find(|x| !like_first(x)) {
            let message = format!("{:?} and {:?} differ beside axis {axis}", first.shape(), other.shape());
            return Err(Error::shape("concat", message));
        }
        let lens: Vec<usize> = tensors.iter().map(|x| x.shape()[axis]).collect();
        let shape = Shape::new(&first.dims().with(axis, lens.iter().sum()))?;
        let inner: usize = shape[axis + 1..].iter().product();
        let y = Tensor::build(shape, |y| {
            let mut start = 0;
            for (tensor, len) in tensors.iter().zip(&lens) {
                let (part, block) = (len * inner, shape[axis] * inner);
                if part > 0 {
                    let x = tensor.compact();
                    let blocks = y.chunks_exact_mut(block).zip(x.data().chunks_exact(part));
                    blocks.for_each(|(y, x)| y[start..start + part].copy_from_slice(x));
                }
                start += part;
            }
            Ok(())
        })?;
        record_many("concat", y, tensors, |parents| Op::Concat(Concat { axis, lens, parents }))
    }

    /// Tensors of one shape joined along a new axis.
    ///
    /// # Errors
    /// As [`concat`](Tensor::concat).
    #[track_caller]
    pub fn stack(tensors: &[&Self], axis: isize) -> Result<Self> {
        let parts = tensors.iter().map(|x| x.unsqueeze(axis)).collect::<Result<Vec<_>>>()?;
        Self::concat(&parts.iter().collect::<Vec<_>>(), axis)
    }

    /// The given indices of the first axis, in this order; an index may come again.
    ///
    /// # Errors
    /// [`Error::Shape`] for a scalar; [`Error::Value`] for an index that does not exist.
    #[track_caller]
    pub fn gather_rows(&self, rows: &[usize]) -> Result<Self> {
        let Some(&count) = self.shape().first() else {
            return Err(Error::shape("gather_rows", "a scalar has no rows"));
        };
        if let Some(row) = rows.iter().find(|&&row| row >= count) {
            return Err(Error::value(
                "gather_rows",
                format!("row {row} does not exist in {:?}", self.shape()),
            ));
        }
        let x = self.compact();
        let width = x.shape()[1..].iter().product::<usize>();
        let y = Tensor::build(Shape::new(&x.dims().with(0, rows.len()))?, |y| {
            if width > 0 {
                let places = rows.iter().zip(y.chunks_exact_mut(width));
                places.for_each(|(&row, y)| y.copy_from_slice(&x.data()[row * width..][..width]));
            }
            Ok(())
        })?;
        record("gather_rows", y, [self], |[parent], _| {
            Op::Gather(Gather { rows: rows.to_vec(), from: self.dims(), parent })
        })
    }
}
