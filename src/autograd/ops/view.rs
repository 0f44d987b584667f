//! Other views of the same numbers.

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::error::{Error, Result};
use crate::simd::Element;
use crate::tensor::{INFER, MAX_RANK, Shape, Tensor, is_axis_of_scalar, resolve_axis};

pub(crate) struct Reshape {
    from: Shape,
    parent: Parent,
}

impl<T: Element> Backward<T> for Reshape {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        gradients.add(self.parent, || Ok(dy.view_reshape(self.from)))
    }
}

pub(crate) struct Permute {
    /// As many as the tensor has.
    axes: [usize; MAX_RANK],
    parent: Parent,
}

impl<T: Element> Backward<T> for Permute {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        gradients.add(self.parent, || {
            let mut inverse = [0; MAX_RANK];
            self.axes[..dy.rank()].iter().enumerate().for_each(|(i, &axis)| inverse[axis] = i);
            Ok(dy.view_permute(&inverse[..dy.rank()]))
        })
    }
}

pub(crate) struct Broadcast {
    from: Shape,
    parent: Parent,
}

impl<T: Element> Backward<T> for Broadcast {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        gradients.add(self.parent, || dy.sum_to(self.from))
    }
}

impl<T: Element> Tensor<T> {
    /// The same elements in the same order with other axes; the length of one axis may be left open with
    /// [`INFER`].
    ///
    /// ```
    /// use gristmill::{Tensor, tensor::INFER};
    /// let x: Tensor = Tensor::zeros([4, 3, 2])?;
    /// assert_eq!(x.reshape([4, INFER])?.shape(), [4, 6]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the numbers of elements differ, or no length fits.
    #[track_caller]
    pub fn reshape(&self, shape: impl AsRef<[usize]>) -> Result<Self> {
        let shape = self.inferred(shape.as_ref())?;
        if shape.elements() != self.len() {
            let message =
                format!("{:?} has {} elements, {shape:?} has {}", self.shape(), self.len(), shape.elements());
            return Err(Error::shape("reshape", message));
        }
        record("reshape", self.view_reshape(shape), [self], |[parent], _| {
            Op::Reshape(Reshape { from: self.dims(), parent })
        })
    }

    /// The shape with [`INFER`] replaced by the length.
    fn inferred(&self, dims: &[usize]) -> Result<Shape> {
        let Some(axis) = dims.iter().position(|&dim| dim == INFER) else { return Shape::new(dims) };
        let mut shape = dims.to_vec();
        shape[axis] = 1;
        let others = shape.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
        let fits =
            |&others: &usize| others > 0 && self.len().is_multiple_of(others) && dims.len() <= MAX_RANK;
        let Some(others) = others.filter(fits) else {
            let name = |&dim: &usize| if dim == INFER { "INFER".into() } else { dim.to_string() };
            let names: Vec<String> = dims.iter().map(name).collect();
            let message = format!("{:?} has no one shape of [{}]", self.shape(), names.join(", "));
            return Err(Error::shape("reshape", message));
        };
        shape[axis] = self.len() / others;
        Shape::new(&shape)
    }

    /// Joins all axes from `start` on into one.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is no axis `start`.
    #[track_caller]
    pub fn flatten(&self, start: usize) -> Result<Self> {
        if start >= self.rank().max(1) {
            let message = format!("axis {start} does not exist in a tensor of rank {}", self.rank());
            return Err(Error::shape("flatten", message));
        }
        let (front, rest) = self.shape().split_at(start.min(self.rank()));
        self.reshape(&*Shape::join(&[front, &[rest.iter().product()]])?)
    }

    /// As in PyTorch, a scalar is treated as a vector of one element by operations along an axis; their
    /// result is a scalar again.
    #[track_caller]
    pub(super) fn scalar_as_vector(&self, axis: isize) -> Result<Option<Self>> {
        (self.rank() == 0 && is_axis_of_scalar(axis)).then(|| self.unsqueeze(0)).transpose()
    }

    /// Removes an axis of length 1. As in PyTorch, removing axis 0 of a scalar returns the scalar.
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis does not exist or is longer.
    #[track_caller]
    pub fn squeeze(&self, axis: isize) -> Result<Self> {
        if self.rank() == 0 && is_axis_of_scalar(axis) {
            return Ok(self.clone());
        }
        let axis = resolve_axis("squeeze", axis, self.rank())?;
        if self.shape()[axis] != 1 {
            return Err(Error::shape(
                "squeeze",
                format!("axis {axis} of {:?} is not of length 1", self.shape()),
            ));
        }
        self.reshape(&*Shape::join(&[&self.shape()[..axis], &self.shape()[axis + 1..]])?)
    }

    /// Inserts a new axis of length 1 before axis `axis`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `axis` is greater than the number of axes.
    #[track_caller]
    pub fn unsqueeze(&self, axis: isize) -> Result<Self> {
        let axis = resolve_axis("unsqueeze", axis, self.rank() + 1)?;
        self.reshape(&*Shape::join(&[&self.shape()[..axis], &[1], &self.shape()[axis..]])?)
    }

    /// Swaps two axes, without a copy.
    ///
    /// # Errors
    /// [`Error::Shape`] if an axis does not exist.
    #[track_caller]
    pub fn transpose(&self, a: isize, b: isize) -> Result<Self> {
        if self.rank() == 0 && is_axis_of_scalar(a) && is_axis_of_scalar(b) {
            return Ok(self.clone());
        }
        let (a, b) = (resolve_axis("transpose", a, self.rank())?, resolve_axis("transpose", b, self.rank())?);
        let mut axes = std::array::from_fn(|axis| axis);
        axes.swap(a, b);
        self.permuted("transpose", axes)
    }

    /// The transpose of a matrix.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not two axes.
    #[track_caller]
    pub fn t(&self) -> Result<Self> {
        if self.rank() != 2 {
            return Err(Error::shape("t", format!("{:?} is not a matrix", self.shape())));
        }
        self.transpose(0, 1)
    }

    /// Permutes the axes, without a copy.
    ///
    /// # Errors
    /// [`Error::Shape`] if `axes` does not name each axis once.
    #[track_caller]
    pub fn permute(&self, axes: &[isize]) -> Result<Self> {
        let (rank, mut resolved) = (self.rank(), [0; MAX_RANK]);
        for (i, &axis) in axes.iter().enumerate() {
            resolved[i.min(MAX_RANK - 1)] = resolve_axis("permute", axis, rank)?;
        }
        if axes.len() != rank || (0..rank).any(|axis| !resolved[..rank].contains(&axis)) {
            let message = format!("{axes:?} does not name each axis of {:?} once", self.shape());
            return Err(Error::shape("permute", message));
        }
        self.permuted("permute", resolved)
    }

    #[track_caller]
    fn permuted(&self, name: &'static str, axes: [usize; MAX_RANK]) -> Result<Self> {
        let y = self.view_permute(&axes[..self.rank()]);
        record(name, y, [self], |[parent], _| Op::Permute(Permute { axes, parent }))
    }

    /// Repeats the tensor along axes of length 1 and along new leading axes, without a copy.
    ///
    /// # Errors
    /// [`Error::Shape`] if this tensor cannot be broadcast to the shape.
    #[track_caller]
    pub fn broadcast_to(&self, shape: impl AsRef<[usize]>) -> Result<Self> {
        let shape = Shape::new(shape.as_ref())?;
        if Shape::broadcast("broadcast_to", &self.dims(), &shape)? != shape {
            let message = format!("{:?} does not broadcast to {shape:?}", self.shape());
            return Err(Error::shape("broadcast_to", message));
        }
        record("broadcast_to", self.view_broadcast(shape), [self], |[parent], _| {
            Op::Broadcast(Broadcast { from: self.dims(), parent })
        })
    }

    /// Repeats the tensor as a whole the given number of times along each axis; more numbers than axes add
    /// leading axes.
    ///
    /// ```
    /// use gristmill::Tensor;
    /// let x = Tensor::from([1.0, 2.0]);
    /// assert_eq!(x.repeat([2])?.to_vec(), [1.0, 2.0, 1.0, 2.0]);
    /// assert_eq!(x.repeat([3, 1])?.shape(), [3, 2]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if there are fewer numbers than axes, or if the result would have too many axes or
    /// elements.
    #[track_caller]
    pub fn repeat(&self, times: impl AsRef<[usize]>) -> Result<Self> {
        let times = times.as_ref();
        let new = times.len().checked_sub(self.rank()).filter(|_| times.len() <= MAX_RANK);
        let Some(new) = new else {
            let message =
                format!("{times:?} is not a number for each axis of {:?}, at most {MAX_RANK}", self.shape());
            return Err(Error::shape("repeat", message));
        };
        let mut y = self.reshape(&*Shape::join(&[&[1; MAX_RANK][..new], self.shape()])?)?;
        for (axis, &times) in times.iter().enumerate().filter(|&(_, &times)| times != 1) {
            y = y.repeated("repeat", axis, times, false)?;
        }
        Ok(y)
    }

    /// Repeats each element along an axis `times` times.
    ///
    /// ```
    /// use gristmill::Tensor;
    /// let x = Tensor::from([1.0, 2.0]);
    /// assert_eq!(x.repeat_interleave(2, 0)?.to_vec(), [1.0, 1.0, 2.0, 2.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis does not exist, or if the result would have too many elements.
    #[track_caller]
    pub fn repeat_interleave(&self, times: usize, axis: isize) -> Result<Self> {
        let axis = resolve_axis("repeat_interleave", axis, self.rank())?;
        self.repeated("repeat_interleave", axis, times, true)
    }

    /// Makes an axis `times` as long: a new axis of that length is inserted next to it, then the two are
    /// joined.
    #[track_caller]
    fn repeated(&self, name: &'static str, axis: usize, times: usize, each: bool) -> Result<Self> {
        let (outer, inner) = self.shape().split_at(axis + usize::from(each));
        let [outer, inner]: [usize; 2] = [outer, inner].map(|dims| dims.iter().product());
        let long = self.shape()[axis].checked_mul(times).ok_or_else(|| {
            Error::shape(name, format!("axis {axis} of {:?}, {times} times, is too long", self.shape()))
        })?;
        let to = Shape::new(&self.dims().with(axis, long))?;
        self.reshape([outer, 1, inner])?.broadcast_to([outer, times, inner])?.reshape(&*to)
    }

    /// The same numbers row by row, contiguous.
    ///
    /// # Errors
    /// [`Error::Autograd`] for a tensor recorded on another thread.
    #[track_caller]
    pub fn contiguous(&self) -> Result<Self> {
        self.reshape(self.shape())
    }
}
