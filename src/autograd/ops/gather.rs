//! Gathering and scattering by indices along an axis.
//!
//! Indices are slices of `usize`: a list of positions on an axis, or one index for each element of a result,
//! row by row.

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::simd::Element;
use crate::tensor::{Shape, Tensor, axis, axis::Axis, resolve_axes, resolve_axis};

/// Selected positions of an axis, read or added to.
pub(crate) struct Places {
    indices: Buffer<usize>,
    axis: usize,
    from: Shape,
    parents: [Parent; 2],
}

/// `y = x[…, indices, …]`; there is no second parent.
pub(crate) struct IndexSelect(Places);

impl<T: Element> Backward<T> for IndexSelect {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let Places { indices, axis, from, parents } = &self.0;
        gradients.add(parents[0], || {
            let mut dx = Buffer::full(from.elements(), T::ZERO);
            axis::add(dy.compact().data(), indices, dx.fresh_mut(), Axis::of(from, *axis))?;
            Ok(Tensor::from_buffer(dx, *from))
        })
    }
}

/// `y = x`, then `y[…, indices, …] += source`.
pub(crate) struct IndexAdd(Places);

impl<T: Element> Backward<T> for IndexAdd {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let Places { indices, axis, from, parents } = &self.0;
        gradients.add(parents[1], || {
            let (dy, shape) = (dy.compact(), from.with(*axis, indices.len()));
            Tensor::build(shape, |dx| axis::select(dy.data(), Axis::of(from, *axis), indices, dx))
        })?;
        gradients.add(parents[0], || Ok(dy))
    }
}

/// `y[o, k, i] = x[o, indices[o, k, i], i]`.
pub(crate) struct Gather {
    indices: Buffer<usize>,
    axis: usize,
    from: Shape,
    parent: Parent,
}

impl<T: Element> Backward<T> for Gather {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        gradients.add(self.parent, || {
            let mut dx = Buffer::full(self.from.elements(), T::ZERO);
            let axis = Axis::of(&self.from, self.axis);
            axis::scatter(dy.compact().data(), &self.indices, dx.fresh_mut(), axis, |dx, dy| *dx += dy)?;
            Ok(Tensor::from_buffer(dx, self.from))
        })
    }
}

/// `y = x`, then `y[o, indices[o, k, i], i] = source[o, k, i]`, or `+=`.
pub(crate) struct Scatter {
    indices: Buffer<usize>,
    axis: usize,
    add: bool,
    source: Shape,
    parents: [Parent; 2],
}

impl<T: Element> Backward<T> for Scatter {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let (dy, axis) = (dy.compact(), Axis::of(dy.shape(), self.axis));
        gradients.add(self.parents[1], || {
            Tensor::build(self.source, |dx| {
                axis::gather(dy.data(), axis, &self.indices, dx)?;
                if !self.add {
                    // Of several elements written to the same position, the last one wins.
                    let order: Vec<usize> = (0..dx.len()).collect();
                    let (mut last, mut winners) = (vec![0; dy.len()], vec![0; dx.len()]);
                    axis::scatter(&order, &self.indices, &mut last, axis, |last, k| *last = k)?;
                    axis::gather(&last, axis, &self.indices, &mut winners)?;
                    let lost = winners.iter().zip(&order).zip(dx).filter(|((winner, k), _)| winner != k);
                    lost.for_each(|(_, dx)| *dx = T::ZERO);
                }
                Ok(())
            })
        })?;
        gradients.add(self.parents[0], || {
            if self.add {
                return Ok(dy);
            }
            let mut dx = Buffer::copy_of(dy.data());
            let put = |dx: &mut T, _: usize| *dx = T::ZERO;
            axis::scatter(&self.indices, &self.indices, dx.fresh_mut(), axis, put)?;
            Ok(Tensor::from_buffer(dx, dy.dims()))
        })
    }
}

impl<T: Element> Tensor<T> {
    /// The given positions of an axis, in this order; a position may occur several times. A scalar has one
    /// position along axis 0, and a single index returns a scalar.
    ///
    /// ```
    /// use gristmill::Tensor;
    /// let x: Tensor = Tensor::arange(6)?.reshape([2, 3])?;
    /// assert_eq!(x.index_select(1, &[2, 0])?.to_vec(), [2.0, 0.0, 5.0, 3.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis does not exist; [`Error::Value`] for an index out of range.
    #[track_caller]
    pub fn index_select(&self, axis: isize, indices: &[usize]) -> Result<Self> {
        self.selected("index_select", axis, indices)
    }

    /// The given indices of the first axis, in this order; an index may occur several times.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is no axis; [`Error::Value`] for an index out of range.
    #[track_caller]
    pub fn gather_rows(&self, rows: &[usize]) -> Result<Self> {
        self.selected("gather_rows", 0, rows)
    }

    #[track_caller]
    fn selected(&self, name: &'static str, axis: isize, indices: &[usize]) -> Result<Self> {
        if let (Some(x), [_]) = (self.scalar_as_vector(axis)?, indices) {
            return x.selected(name, 0, indices)?.reshape([]);
        }
        let axis = resolve_axis(name, axis, self.rank())?;
        axis::check(name, indices, axis, self.shape())?;
        let x = self.compact();
        let shape = Shape::new(&x.dims().with(axis, indices.len()))?;
        let y = Tensor::build(shape, |y| axis::select(x.data(), Axis::of(x.shape(), axis), indices, y))?;
        record(name, y, [self], |[parent], _| {
            let parents = [parent, None];
            Op::IndexSelect(IndexSelect(Places {
                indices: Buffer::copy_of(indices),
                axis,
                from: x.dims(),
                parents,
            }))
        })
    }

    /// Reverses the axes `axes`.
    ///
    /// # Errors
    /// [`Error::Shape`] if an axis does not exist or is named twice.
    #[track_caller]
    pub fn flip(&self, axes: &[isize]) -> Result<Self> {
        resolve_axes("flip", axes, self.rank())?;
        if self.rank() == 0 {
            return Ok(self.clone());
        }
        axes.iter().try_fold(self.clone(), |x, &axis| {
            let len = x.shape()[resolve_axis("flip", axis, x.rank())?];
            x.selected("flip", axis, &(0..len).rev().collect::<Vec<_>>())
        })
    }

    /// Rotates an axis by `shift` positions: elements that leave at its end enter at the front; a negative
    /// shift rotates the other way.
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis does not exist.
    #[track_caller]
    pub fn roll(&self, shift: isize, axis: isize) -> Result<Self> {
        let len = self.shape()[resolve_axis("roll", axis, self.rank())?];
        let shift = shift.rem_euclid(len.max(1) as isize) as usize;
        self.selected("roll", axis, &(len - shift..len).chain(0..len - shift).collect::<Vec<_>>())
    }

    /// A copy in which the elements of `source` are added at the positions `indices` of an axis, one after
    /// the other; a position may occur several times.
    ///
    /// ```
    /// use gristmill::Tensor;
    /// let (zeros, ones) = (Tensor::<f32>::zeros([3, 2])?, Tensor::ones([3, 2])?);
    /// assert_eq!(zeros.index_add(0, &[0, 2, 0], &ones)?.to_vec(), [2.0, 2.0, 0.0, 0.0, 1.0, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis does not exist, or if `source` does not have the shape of this tensor
    /// with the axis as long as `indices`; [`Error::Value`] for an index out of range.
    #[track_caller]
    pub fn index_add(&self, axis: isize, indices: &[usize], source: &Self) -> Result<Self> {
        let axis = resolve_axis("index_add", axis, self.rank())?;
        axis::check("index_add", indices, axis, self.shape())?;
        let expected = self.dims().with(axis, indices.len());
        if source.dims() != expected {
            let message = format!(
                "{} indices of axis {axis} of {:?} need a source of {expected:?}, got {:?}",
                indices.len(),
                self.shape(),
                source.shape()
            );
            return Err(Error::shape("index_add", message));
        }
        let mut y = Buffer::copy_of(self.compact().data());
        let at = Axis::of(self.shape(), axis);
        axis::add(source.compact().data(), indices, y.fresh_mut(), at)?;
        record("index_add", Tensor::from_buffer(y, self.dims()), [self, source], |parents, _| {
            Op::IndexAdd(IndexAdd(Places {
                indices: Buffer::copy_of(indices),
                axis,
                from: self.dims(),
                parents,
            }))
        })
    }

    /// For each index, the element at that position of an axis; the other coordinates are those of the index.
    ///
    /// `indices` are the elements of a tensor whose other axes are those of this one, row by row, so that
    /// their number determines the length of the axis in the result: one index per row of a matrix gives a
    /// column. The results of [`argsort`](Tensor::argsort), [`topk`](Tensor::topk) and
    /// [`argmax`](Tensor::argmax) have this form. If the other axes have no elements, the axis of the result
    /// has length 0.
    ///
    /// ```
    /// use gristmill::Tensor;
    /// let x: Tensor = Tensor::arange(6)?.reshape([2, 3])?;
    /// let picked = x.gather(1, &[2, 0])?; // x[0, 2] and x[1, 0]
    /// assert_eq!((picked.shape(), picked.to_vec()), ([2, 1].as_slice(), vec![2.0, 3.0]));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis does not exist, or if the number of `indices` is not a multiple of the
    /// other axes' elements; [`Error::Value`] for an index out of range.
    #[track_caller]
    pub fn gather(&self, axis: isize, indices: &[usize]) -> Result<Self> {
        if let (Some(x), [_]) = (self.scalar_as_vector(axis)?, indices) {
            return x.gather(0, indices)?.reshape([]);
        }
        let axis = resolve_axis("gather", axis, self.rank())?;
        let shape = self.indexed("gather", axis, indices)?;
        self.gathered("gather", axis, indices, shape)
    }

    /// The shape of `indices` along an axis.
    fn indexed(&self, op: &'static str, axis: usize, indices: &[usize]) -> Result<Shape> {
        axis::check(op, indices, axis, self.shape())?;
        let others = self.dims().with(axis, 1).elements();
        if indices.len() != indices.len().checked_div(others).unwrap_or(0) * others {
            let count = indices.len();
            let message = format!("{count} indices do not fill the axes beside {axis} of {:?}", self.shape());
            return Err(Error::shape(op, message));
        }
        Ok(self.dims().with(axis, indices.len().checked_div(others).unwrap_or(0)))
    }

    /// [`gather`](Tensor::gather) with indices of this shape that are known to be in range.
    #[track_caller]
    pub(super) fn gathered(
        &self,
        name: &'static str,
        axis: usize,
        indices: &[usize],
        shape: Shape,
    ) -> Result<Self> {
        let x = self.compact();
        let y = Tensor::build(shape, |y| axis::gather(x.data(), Axis::of(x.shape(), axis), indices, y))?;
        record(name, y, [self], |[parent], _| {
            Op::Gather(Gather { indices: Buffer::copy_of(indices), axis, from: x.dims(), parent })
        })
    }

    /// A copy in which each element of `source` is written to the position of an axis that its index gives;
    /// the other coordinates are its own. The opposite of [`gather`](Tensor::gather). Of several elements
    /// written to the same position, the last one wins and gets the gradient.
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis does not exist, if the other axes of `source` are not those of this
    /// tensor, or if it does not have as many elements as there are `indices`; [`Error::Value`] for an index
    /// out of range.
    #[track_caller]
    pub fn scatter(&self, axis: isize, indices: &[usize], source: &Self) -> Result<Self> {
        self.scattered("scatter", axis, indices, source, false)
    }

    /// [`scatter`](Tensor::scatter), but adds the elements, one after the other, to those at their positions.
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis does not exist, if the other axes of `source` are not those of this
    /// tensor, or if it does not have as many elements as there are `indices`; [`Error::Value`] for an index
    /// out of range.
    #[track_caller]
    pub fn scatter_add(&self, axis: isize, indices: &[usize], source: &Self) -> Result<Self> {
        self.scattered("scatter_add", axis, indices, source, true)
    }

    #[track_caller]
    fn scattered(
        &self,
        name: &'static str,
        axis: isize,
        indices: &[usize],
        source: &Self,
        add: bool,
    ) -> Result<Self> {
        let axis = resolve_axis(name, axis, self.rank())?;
        axis::check(name, indices, axis, self.shape())?;
        let fits = source.rank() == self.rank()
            && source.dims().with(axis, 0) == self.dims().with(axis, 0)
            && source.len() == indices.len();
        if !fits {
            let message = format!(
                "{} indices and a source of {:?} do not fit axis {axis} of {:?}",
                indices.len(),
                source.shape(),
                self.shape()
            );
            return Err(Error::shape(name, message));
        }
        let (mut y, from) = (Buffer::copy_of(self.compact().data()), source.compact());
        let (at, to) = (Axis::of(self.shape(), axis), y.fresh_mut());
        if add {
            axis::scatter(from.data(), indices, to, at, |y, x| *y += x)?;
        } else {
            axis::scatter(from.data(), indices, to, at, |y, x| *y = x)?;
        }
        record(name, Tensor::from_buffer(y, self.dims()), [self, source], |parents, _| {
            let indices = Buffer::copy_of(indices);
            Op::Scatter(Scatter { indices, axis, add, source: source.dims(), parents })
        })
    }
}
