//! The tensor: a shape, strides and a shared buffer, with a position on the tape if it is tracked.
//!
//! A tensor is a value: nothing changes its numbers after it has been created. Views (reshape, transpose,
//! index, broadcast) share the buffer. Buffers come from the pool of [`buffer`](crate::buffer) and return to
//! it.
//!
//! This module creates and reads tensors; differentiable computations with them are in
//! [`autograd`](crate::autograd). All of these are methods of [`Tensor`].

pub(crate) mod axis;
pub(crate) mod bytes;
mod convert;
mod create;
mod display;
mod index;
pub(crate) mod named;
#[cfg(feature = "ndarray")]
mod ndarray;
mod npy;
#[cfg(feature = "npz")]
mod npz;
pub(crate) mod safetensors;
mod shape;
mod strided;
pub(crate) mod track;
pub(crate) mod zip;

pub(crate) use index::Region;
pub use index::{AxisIndex, Ellipsis, Index, NewAxis, step};
pub use named::NamedTensors;
#[cfg(feature = "npz")]
pub use npz::{load_npz, save_npz};
pub use safetensors::{load_safetensors, save_safetensors};
pub use shape::{INFER, MAX_RANK, Shape};
pub(crate) use shape::{is_axis_of_scalar, resolve_axes, resolve_axis};

use std::borrow::Cow;

use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::simd::Element;
use track::Track;

/// An array of numbers with up to [`MAX_RANK`] axes.
///
/// Clones share the numbers. As data, a `Tensor` is `Send` and `Sync`; the tape on which it was recorded
/// stays on its thread.
#[derive(Clone)]
pub struct Tensor<T: Element = f32> {
    buffer: Buffer<T>,
    offset: usize,
    shape: Shape,
    /// `None` for contiguous tensors, which almost all are: tensors are moved often and should be small.
    strides: Option<Buffer<usize>>,
    pub(crate) track: Option<Track<T>>,
}

/// The numbers of a tensor row by row, without their shape: what a node of the tape keeps if its operation
/// knows the shape. A quarter of the size of a tensor.
#[derive(Clone)]
pub(crate) struct Numbers<T: Element> {
    buffer: Buffer<T>,
    offset: usize,
    len: usize,
}

impl<T: Element> Numbers<T> {
    #[inline]
    pub(crate) fn data(&self) -> &[T] {
        part(&self.buffer, self.offset, self.len)
    }
}

/// `len` numbers from `offset` on. The offset of an empty slice may be beyond the end.
#[inline]
fn part<T: Element>(buffer: &Buffer<T>, offset: usize, len: usize) -> &[T] {
    &buffer[offset.min(buffer.len() - len)..][..len]
}

impl<T: Element> Tensor<T> {
    /// The numbers of `buffer`, row by row.
    pub(crate) fn from_buffer(buffer: Buffer<T>, shape: Shape) -> Self {
        debug_assert_eq!(buffer.len(), shape.elements());
        Self { buffer, offset: 0, shape, strides: None, track: None }
    }

    /// A tensor of this shape; `fill` must write all of its numbers.
    pub(crate) fn build(shape: Shape, fill: impl FnOnce(&mut [T]) -> Result<()>) -> Result<Self> {
        let mut buffer = Buffer::try_stale(shape.elements())?;
        fill(buffer.fresh_mut())?;
        Ok(Self::from_buffer(buffer, shape))
    }

    /// The lengths of the axes, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(crate) fn dims(&self) -> Shape {
        self.shape
    }

    /// The number of axes; 0 for a scalar.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of elements.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.shape.elements()
    }

    /// Whether the tensor is contiguous: elements row by row without gaps.
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        self.strides.is_none()
    }

    /// The same numbers, contiguous and untracked: a cheap clone if they already are contiguous, otherwise a
    /// copy.
    #[inline]
    pub(crate) fn compact(&self) -> Self {
        match &self.strides {
            None => self.detach(),
            Some(strides) => {
                let mut buffer = Buffer::stale(self.len());
                strided::copy(&self.buffer[self.offset..], &self.shape, strides, buffer.fresh_mut());
                Self::from_buffer(buffer, self.shape)
            }
        }
    }

    /// This tensor if it is contiguous, otherwise a contiguous copy.
    #[inline]
    pub(crate) fn dense(&self) -> Cow<'_, Self> {
        if self.is_contiguous() { Cow::Borrowed(self) } else { Cow::Owned(self.compact()) }
    }

    /// The numbers row by row, kept alive.
    #[inline]
    pub(crate) fn numbers(&self) -> Numbers<T> {
        match &*self.dense() {
            Self { buffer, offset, shape, .. } => {
                Numbers { buffer: buffer.clone(), offset: *offset, len: shape.elements() }
            }
        }
    }

    /// The numbers of a contiguous tensor.
    #[inline]
    pub(crate) fn data(&self) -> &[T] {
        debug_assert!(self.is_contiguous());
        part(&self.buffer, self.offset, self.len())
    }

    /// The numbers of a contiguous tensor without other owners.
    #[inline]
    pub(crate) fn data_mut(&mut self) -> Option<&mut [T]> {
        if !self.is_contiguous() {
            return None;
        }
        let (start, len) = (self.offset, self.len());
        self.buffer.get_mut().map(|data| {
            let start = start.min(data.len() - len);
            &mut data[start..start + len]
        })
    }

    /// A copy of the numbers, row by row.
    pub fn to_vec(&self) -> Vec<T> {
        self.dense().data().to_vec()
    }

    /// The number of a tensor with one element.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are more or fewer.
    pub fn item(&self) -> Result<T> {
        if self.len() == 1 {
            return Ok(self.buffer[self.offset]);
        }
        Err(Error::shape(
            "item",
            format!("a tensor of shape {:?} has {} elements, not one", self.shape, self.len()),
        ))
    }

    /// The same numbers, not tracked.
    #[inline]
    pub fn detach(&self) -> Self {
        let Self { buffer, offset, shape, strides, track: _ } = self;
        Self { buffer: buffer.clone(), offset: *offset, shape: *shape, strides: strides.clone(), track: None }
    }

    /// The distance in elements from one index to the next along each axis.
    pub(crate) fn strides(&self) -> Shape {
        match &self.strides {
            None => self.shape.contiguous_strides(),
            Some(strides) => Shape::from_dims(strides),
        }
    }

    /// The buffer from the first element on.
    pub(crate) fn raw(&self) -> &[T] {
        &self.buffer[self.offset.min(self.buffer.len())..]
    }

    // Views of the same numbers, untracked.

    /// The numbers from element `offset` of this view on, with these strides.
    fn view(&self, offset: usize, shape: Shape, strides: &[usize]) -> Self {
        let strides = (!strided::has_no_gaps(&shape, strides)).then(|| Buffer::copy_of(strides));
        Self { buffer: self.buffer.clone(), offset: self.offset + offset, shape, strides, track: None }
    }

    /// The same elements in the same order with other axes; a copy if they are not contiguous.
    pub(crate) fn view_reshape(&self, shape: Shape) -> Self {
        debug_assert_eq!(shape.elements(), self.len());
        Self { shape, ..self.compact() }
    }

    /// The axes in the order `axes`.
    pub(crate) fn view_permute(&self, axes: &[usize]) -> Self {
        let pick = |from: &[usize]| {
            let mut dims = [0; MAX_RANK];
            axes.iter().zip(&mut dims).for_each(|(&axis, dim)| *dim = from[axis]);
            Shape::from_dims(&dims[..axes.len()])
        };
        self.view(0, pick(&self.shape), &pick(&self.strides()))
    }

    /// Swaps two axes.
    pub(crate) fn view_transpose(&self, a: usize, b: usize) -> Self {
        let mut axes: [usize; MAX_RANK] = std::array::from_fn(|axis| axis);
        axes.swap(a, b);
        self.view_permute(&axes[..self.rank()])
    }

    /// Indices `start` to `end` of one axis.
    pub(crate) fn view_slice(&self, axis: usize, start: usize, end: usize) -> Self {
        let strides = self.strides();
        self.view(start * strides[axis], self.shape.with(axis, end - start), &strides)
    }

    /// A part of the elements, computed from the strides of this tensor.
    pub(crate) fn view_region(&self, region: Region) -> Self {
        let Region { offset, shape, strides } = region;
        self.view(offset, shape, &strides)
    }

    /// Repeats the tensor along axes of length 1 and along new leading axes, without a copy.
    pub(crate) fn view_broadcast(&self, shape: Shape) -> Self {
        let (old, mut strides) = (self.strides(), shape);
        let new = shape.len() - self.rank();
        for axis in 0..shape.len() {
            let repeated = axis < new || (self.shape[axis - new] == 1 && shape[axis] != 1);
            strides = strides.with(axis, if repeated { 0 } else { old[axis - new] });
        }
        self.view(0, shape, &strides)
    }
}
