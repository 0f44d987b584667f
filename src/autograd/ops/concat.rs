//! Joining tensors.

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record_many};
use crate::error::{Error, Result};
use crate::simd::Element;
use crate::tensor::{Shape, Tensor, axis, axis::Axis, resolve_axis};

pub(crate) struct Concat {
    axis: usize,
    /// `None` for a tensor that was skipped.
    lens: Vec<Option<usize>>,
    parents: Vec<Parent>,
}

impl<T: Element> Backward<T> for Concat {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let mut start = 0;
        for (&len, &parent) in self.lens.iter().zip(&self.parents) {
            match len {
                Some(len) => gradients.add(parent, || Ok(dy.view_slice(self.axis, start, start + len)))?,
                None => gradients.add(parent, || Tensor::zeros([0]))?,
            }
            start += len.unwrap_or(0);
        }
        Ok(())
    }
}

impl<T: Element> Tensor<T> {
    /// Joins tensors along an axis; the other axes must agree. As in PyTorch, a tensor of shape `[0]` is
    /// skipped beside tensors of any rank, so that a loop can start with nothing.
    ///
    /// ```
    /// use gristmill::Tensor;
    /// let (nothing, rows) = (Tensor::<f32>::zeros([0])?, Tensor::ones([2, 3])?);
    /// assert_eq!(Tensor::cat(&[&nothing, &rows, &rows], 0)?.shape(), [4, 3]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if there are no tensors, the axis does not exist, or other axes differ.
    #[track_caller]
    pub fn concat(tensors: &[&Self], axis: isize) -> Result<Self> {
        let Some(first) = tensors.first() else {
            return Err(Error::shape("concat", "there is nothing to join"));
        };
        let is_nothing = |x: &Self| x.shape() == [0];
        let first = tensors.iter().find(|x| !is_nothing(x)).unwrap_or(first);
        let axis = resolve_axis("concat", axis, first.rank())?;
        let like_first =
            |x: &&Self| x.rank() == first.rank() && x.dims().with(axis, 0) == first.dims().with(axis, 0);
        if let Some(other) = tensors.iter().find(|x| !is_nothing(x) && !like_first(x)) {
            let message = format!("{:?} and {:?} differ beside axis {axis}", first.shape(), other.shape());
            return Err(Error::shape("concat", message));
        }
        let len = |x: &&Self| (!is_nothing(x)).then(|| x.shape()[axis]);
        let lens: Vec<Option<usize>> = tensors.iter().map(len).collect();
        let shape = Shape::new(&first.dims().with(axis, lens.iter().flatten().sum()))?;
        let parts: Vec<Self> = tensors.iter().filter(|x| !is_nothing(x)).map(|x| x.compact()).collect();
        let y = Tensor::build(shape, |y| {
            axis::concat(&parts.iter().map(Tensor::data).collect::<Vec<_>>(), Axis::of(&shape, axis), y)
        })?;
        record_many("concat", y, tensors, |parents| Op::Concat(Concat { axis, lens, parents }))
    }

    /// Short for [`concat`](Tensor::concat).
    ///
    /// # Errors
    /// [`Error::Shape`] if there are no tensors, the axis does not exist, or other axes differ.
    #[track_caller]
    pub fn cat(tensors: &[&Self], axis: isize) -> Result<Self> {
        Self::concat(tensors, axis)
    }

    /// Joins tensors of the same shape along a new axis.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are no tensors, their shapes differ, or the axis is out of range.
    #[track_caller]
    pub fn stack(tensors: &[&Self], axis: isize) -> Result<Self> {
        let parts = tensors.iter().map(|x| x.unsqueeze(axis)).collect::<Result<Vec<_>>>()?;
        Self::concat(&parts.iter().collect::<Vec<_>>(), axis)
    }
}
