//! Parts of a tensor: single indices, ranges, diagonals, pieces of an axis.

use std::ops::Range;

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::simd::Element;
use crate::tensor::{AxisIndex, Index, Region, Shape, Tensor, resolve_axis};

/// A part of a tensor of shape `from`, as its position in a contiguous tensor of that shape.
pub(crate) struct Part {
    from: Shape,
    region: Region,
    parent: Parent,
}

impl<T: Element> Backward<T> for Part {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        gradients.add(self.parent, || {
            let mut dx = Buffer::full(self.from.elements(), T::ZERO);
            self.region.write(dy.compact().data(), dx.fresh_mut());
            Ok(Tensor::from_buffer(dx, self.from))
        })
    }
}

impl<T: Element> Tensor<T> {
    /// The part of the tensor that `region` selects, given its strides.
    #[track_caller]
    fn part(&self, name: &'static str, region: impl Fn(&[usize]) -> Result<Region>) -> Result<Self> {
        let contiguous = region(&self.dims().contiguous_strides())?;
        let y = self.view_region(region(&self.strides())?);
        record(name, y, [self], |[parent], _| {
            Op::Part(Part { from: self.dims(), region: contiguous, parent })
        })
    }

    /// The part of the tensor that an index selects, without a copy.
    ///
    /// An index is a tuple with one entry per axis, from the first axis on; axes without an entry are taken
    /// whole. An integer selects one position and removes the axis; a range selects a part of the axis, `..`
    /// all of it; negative numbers count from the end. [`step`](crate::tensor::step) takes every nth position
    /// of a range, [`Ellipsis`](crate::tensor::Ellipsis) skips all axes between others,
    /// [`NewAxis`](crate::tensor::NewAxis) adds one.
    ///
    /// Unlike in PyTorch, a range that goes beyond its axis is an error and is not clipped. Clippy takes
    /// literals such as `1..-1` for mistakes; `#![allow(clippy::reversed_empty_ranges)]` silences it.
    ///
    /// ```
    /// use gristmill::Tensor;
    /// use gristmill::tensor::{Ellipsis, NewAxis, step};
    /// let x: Tensor = Tensor::arange(24)?.reshape([2, 3, 4])?;
    /// assert_eq!(x.index((1, -1, 2))?.item()?, 22.0);
    /// assert_eq!(x.index((0, 1..3))?.shape(), [2, 4]);
    /// assert_eq!(x.index((.., .., -2..))?.shape(), [2, 3, 2]);
    /// assert_eq!(x.index((Ellipsis, 0))?.shape(), [2, 3]);
    /// assert_eq!(x.index((1, NewAxis, 0, step(.., 2)))?.to_vec(), [12.0, 14.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] naming the axis and the shape if a position or a bound of a range does not exist, a
    /// range ends before it starts, a step is 0, more axes are named than there are, or the result would have
    /// too many.
    #[track_caller]
    pub fn index(&self, index: impl Index) -> Result<Self> {
        let picks = index.picks();
        self.part("index", |strides| Region::of(self.dims(), strides, picks.as_ref()))
    }

    /// The indices `range` of one axis, without a copy.
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis does not exist or is too short.
    #[track_caller]
    pub fn slice(&self, axis: isize, range: Range<usize>) -> Result<Self> {
        let axis = resolve_axis("slice", axis, self.rank())?;
        if range.start > range.end || range.end > self.shape()[axis] {
            let message = format!("{range:?} lies outside axis {axis} of {:?}", self.shape());
            return Err(Error::shape("slice", message));
        }
        self.part("slice", |strides| {
            Ok(Region {
                offset: range.start * strides[axis],
                shape: self.dims().with(axis, range.len()),
                strides: Shape::from_dims(strides),
            })
        })
    }

    /// One position of an axis, which is removed, without a copy; a negative index counts from the end.
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis or the index does not exist.
    #[track_caller]
    pub fn select(&self, axis: isize, index: isize) -> Result<Self> {
        let axis = resolve_axis("select", axis, self.rank())?;
        let len = self.shape()[axis] as isize;
        if !(-len..len).contains(&index) {
            let message = format!("index {index} does not exist on axis {axis} of {:?}", self.shape());
            return Err(Error::shape("select", message));
        }
        let mut picks = [AxisIndex::from(..); crate::tensor::MAX_RANK];
        picks[axis] = AxisIndex::At(index);
        self.part("select", |strides| Region::of(self.dims(), strides, &picks[..=axis]))
    }

    /// The elements of a matrix that are `offset` positions to the right of the main diagonal, or below it if
    /// negative, without a copy. With more axes, the diagonals of the last two, `[…, m, n] → […, d]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are fewer than two axes or the offset is outside the matrix.
    #[track_caller]
    pub fn diagonal(&self, offset: isize) -> Result<Self> {
        let [front @ .., rows, cols] = self.shape() else {
            return Err(Error::shape("diagonal", format!("{:?} is not a matrix", self.shape())));
        };
        let (down, right) = (offset.min(0).unsigned_abs(), offset.max(0).unsigned_abs());
        if down > *rows || right > *cols {
            let message = format!("diagonal {offset} lies outside {:?}", self.shape());
            return Err(Error::shape("diagonal", message));
        }
        let len = (rows - down).min(cols - right);
        self.part("diagonal", |strides| {
            let [outer @ .., row, col] = strides else { unreachable!("a matrix has two strides") };
            Ok(Region {
                offset: down * row + right * col,
                shape: Shape::join(&[front, &[len]])?,
                strides: Shape::from_dims(&[outer, &[row + col]].concat()),
            })
        })
    }

    /// Pieces of `size` indices of an axis, the last one shorter, without a copy; an empty axis has one empty
    /// piece.
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis does not exist; [`Error::Value`] if the size is 0.
    #[track_caller]
    pub fn split(&self, size: usize, axis: isize) -> Result<Vec<Self>> {
        let axis = resolve_axis("split", axis, self.rank())?;
        if size == 0 {
            return Err(Error::value("split", format!("pieces of 0 indices of axis {axis}")));
        }
        let len = self.shape()[axis];
        let starts = (0..len.max(1)).step_by(size);
        starts.map(|start| self.slice(axis as isize, start..(start + size).min(len))).collect()
    }

    /// Pieces of an axis of these lengths, without a copy.
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis does not exist or the lengths do not add up to its length.
    #[track_caller]
    pub fn split_with_sizes(&self, sizes: &[usize], axis: isize) -> Result<Vec<Self>> {
        let axis = resolve_axis("split_with_sizes", axis, self.rank())?;
        let total = sizes.iter().try_fold(0usize, |total, &size| total.checked_add(size));
        if total != Some(self.shape()[axis]) {
            let message = format!("{sizes:?} do not add up to axis {axis} of {:?}", self.shape());
            return Err(Error::shape("split_with_sizes", message));
        }
        let mut start = 0;
        let pieces = sizes.iter().map(|size| {
            start += size;
            self.slice(axis as isize, start - size..start)
        });
        pieces.collect()
    }

    /// At most `chunks` pieces of an axis, without a copy: all of the same length, rounded up, except for the
    /// last one. As in PyTorch, there can be fewer.
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis does not exist; [`Error::Value`] if `chunks` is 0.
    #[track_caller]
    pub fn chunk(&self, chunks: usize, axis: isize) -> Result<Vec<Self>> {
        let resolved = resolve_axis("chunk", axis, self.rank())?;
        if chunks == 0 {
            return Err(Error::value("chunk", format!("0 pieces of axis {resolved}")));
        }
        self.split(self.shape()[resolved].div_ceil(chunks).max(1), axis)
    }

    /// The tensors at each position of an axis, which is removed, without a copy: the inverse of
    /// [`stack`](Tensor::stack).
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis does not exist.
    #[track_caller]
    pub fn unbind(&self, axis: isize) -> Result<Vec<Self>> {
        let axis = resolve_axis("unbind", axis, self.rank())?;
        (0..self.shape()[axis]).map(|place| self.select(axis as isize, place as isize)).collect()
    }
}
