//! The tensor: a shape, strides and a shared buffer, with a place on the tape when a gradient is wanted.
//!
//! A tensor is a value: nothing changes its numbers once it exists. Views (reshape, transpose, index, broadcast) share
//! the buffer. Buffers come from the pool of [`buffer`](crate::buffer) and return to it.
//!
//! This module makes tensors and reads them; what can be computed with them, with gradients, is in
//! [`autograd`](crate::autograd), and all of it are methods of [`Tensor`].

pub(crate) mod axis;
pub(crate) mod bytes;
mod convert;
mod create;
mod display;
mod index;
#[cfg(feature = "ndarray")]
mod ndarray;
mod npy;
#[cfg(feature = "npz")]
mod npz;
mod safetensors;
mod shape;
mod strided;
pub(crate) mod track;
pub(crate) mod zip;

pub(crate) use index::Region;
pub use index::{Ellipsis, Index, NewAxis, Pick, step};
#[cfg(feature = "npz")]
pub use npz::{load_npz, save_npz};
pub use safetensors::{load_safetensors, save_safetensors};
pub(crate) use shape::resolve_axis;
pub use shape::{MAX_RANK, Shape};

use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::simd::Element;
use track::Track;

/// An array of numbers with up to [`MAX_RANK`] axes.
///
/// Clones share the numbers. `Tensor` is `Send` and `Sync` as data; the tape that recorded it stays on its thread.
#[derive(Clone)]
pub struct Tensor<T: Element = f32> {
    buffer: Buffer<T>,
    offset: usize,
    shape: Shape,
    strides: Shape,
    pub(crate) track: Option<Track<T>>,
}

impl<T: Element> Tensor<T> {
    /// The numbers of `buffer`, row by row.
    pub(crate) fn from_buffer(buffer: Buffer<T>, shape: Shape) -> Self {
        debug_assert_eq!(buffer.len(), shape.elements());
        Self { buffer, offset: 0, shape, strides: shape.contiguous_strides(), track: None }
    }

    /// A tensor of this shape whose numbers `fill` writes, all of them.
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

    /// Whether the elements lie row by row without gaps.
    pub fn is_contiguous(&self) -> bool {
        strided::has_no_gaps(&self.shape, &self.strides)
    }

    /// The same numbers row by row without gaps, untracked: a cheap clone if they already lie so, else a copy.
    pub(crate) fn compact(&self) -> Self {
        if self.is_contiguous() {
            return self.detach();
        }
        let mut buffer = Buffer::stale(self.len());
        strided::copy(&self.buffer[self.offset..], &self.shape, &self.strides, buffer.fresh_mut());
        Self::from_buffer(buffer, self.shape)
    }

    /// The numbers of a contiguous tensor.
    #[inline]
    pub(crate) fn data(&self) -> &[T] {
        debug_assert!(self.is_contiguous());
        // A slice without elements may start beyond the end.
        let len = self.len();
        &self.buffer[self.offset.min(self.buffer.len() - len)..][..len]
    }

    /// The numbers of a contiguous tensor that nobody else shares.
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
        self.compact().data().to_vec()
    }

    /// The number of a tensor with one element.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are more or fewer.
    pub fn item(&self) -> Result<T> {
        if self.len() == 1 {
            return Ok(self.buffer[self.offset]);
        }
        Err(Error::shape(
            "item",
            format!("a tensor of shape {:?} has {} elements, not one", self.shape, self.len()),
        ))
    }

    /// The same numbers, cut off from the tape.
    pub fn detach(&self) -> Self {
        Self {
            buffer: self.buffer.clone(),
            offset: self.offset,
            shape: self.shape,
            strides: self.strides,
            track: None,
        }
    }

    pub(crate) fn strides(&self) -> &[usize] {
        &self.strides
    }

    /// The buffer from the first element on.
    pub(crate) fn raw(&self) -> &[T] {
        &self.buffer[self.offset.min(self.buffer.len())..]
    }

    // Views of the same numbers, untracked.

    /// The elements in the same order with other axes; a copy unless they lie without gaps.
    pub(crate) fn view_reshape(&self, shape: Shape) -> Self {
        debug_assert_eq!(shape.elements(), self.len());
        let compact = self.compact();
        Self { shape, strides: shape.contiguous_strides(), ..compact }
    }

    /// The axes in the order `axes`.
    pub(crate) fn view_permute(&self, axes: &[usize]) -> Self {
        let pick = |from: &[usize]| {
            let mut dims = [0; MAX_RANK];
            axes.iter().zip(&mut dims).for_each(|(&axis, dim)| *dim = from[axis]);
            Shape::from_dims(&dims[..axes.len()])
        };
        Self { shape: pick(&self.shape), strides: pick(&self.strides), ..self.detach() }
    }

    /// Two axes exchanged.
    pub(crate) fn view_transpose(&self, a: usize, b: usize) -> Self {
        let mut axes: [usize; MAX_RANK] = std::array::from_fn(|axis| axis);
        axes.swap(a, b);
        self.view_permute(&axes[..self.rank()])
    }

    /// Indices `start` to `end` of one axis.
    pub(crate) fn view_slice(&self, axis: usize, start: usize, end: usize) -> Self {
        let detached = self.detach();
        Self {
            offset: self.offset + start * self.strides[axis],
            shape: self.shape.with(axis, end - start),
            ..detached
        }
    }

    /// A part of the elements, found from the strides of this tensor.
    pub(crate) fn view_region(&self, region: Region) -> Self {
        let Region { offset, shape, strides } = region;
        Self { offset: self.offset + offset, shape, strides, ..self.detach() }
    }

    /// Repeated along axes of length 1 and along new axes in front, without a copy.
    pub(crate) fn view_broadcast(&self, shape: Shape) -> Self {
        let mut strides = shape;
        let new = shape.len() - self.rank();
        for axis in 0..shape.len() {
            let repeated = axis < new || (self.shape[axis - new] == 1 && shape[axis] != 1);
            strides = strides.with(axis, if repeated { 0 } else { self.strides[axis - new] });
        }
        Self { shape, strides, ..self.detach() }
    }
}
