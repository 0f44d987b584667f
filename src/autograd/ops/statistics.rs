//! Products, norms, standard deviations, log-sum-exps, counts and positions over any axes.

use super::reduce::{Plan, all_axes, deviations, named_or_all};
use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::error::{Error, Result};
use crate::kernels::norm::{self, Norm};
use crate::kernels::reduce::{self, Reduce};
use crate::kernels::{logsumexp, map};
use crate::simd::Element;
use crate::tensor::{Tensor, is_axis_of_scalar, resolve_axis};

/// The reduction, with what its gradient needs.
#[derive(Clone, Copy)]
pub(crate) enum ReductionKind {
    Prod,
    Norm(Norm),
    LogSumExp,
    Std { correction: usize },
}

/// A reduction whose gradient is computed from input and result.
pub(crate) struct Reduced<T: Element> {
    kind: ReductionKind,
    plan: Plan,
    axes: Vec<isize>,
    x: Tensor<T>,
    /// With the reduced axes kept as length 1.
    y: Tensor<T>,
    parent: Parent,
}

impl<T: Element> Backward<T> for Reduced<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let Self { kind, plan, axes, x, y, parent } = self;
        gradients.add(*parent, || {
            let dy = dy.view_reshape(plan.kept).compact();
            let (y, d) = (y.data(), dy.data());
            match *kind {
                ReductionKind::Prod => {
                    plan.spread(x, |x, cols, dx| reduce::prod_backward(x, d, cols, dx), None)
                }
                ReductionKind::Norm(op) => plan.spread(
                    x,
                    |x, cols, dx| norm::RowsBackward { op, x, y, dy: d, cols, dx }.run(),
                    Some(&|x, cols, dx| norm::ColsBackward { op, x, y, dy: d, cols, dx }.run()),
                ),
                ReductionKind::LogSumExp => plan.spread(
                    x,
                    |x, cols, dx| logsumexp::Backward { x, y, dy: d, cols, dx }.run(),
                    Some(&|x, cols, dx| logsumexp::BackwardCols { x, y, dy: d, cols, dx }.run()),
                ),
                ReductionKind::Std { correction } => {
                    let degrees = T::from_f64(plan.count as f64 - correction as f64);
                    // Where all elements are equal, the deviations are 0 too, and so is the gradient.
                    let std = Tensor::build(plan.kept, |to| {
                        to.iter_mut().zip(y).for_each(|(to, &y)| *to = if y == T::ZERO { T::ONE } else { y });
                        Ok(())
                    })?;
                    let share = Tensor::build(plan.kept, |share| {
                        let pairs = y.iter().zip(d);
                        share.iter_mut().zip(pairs).for_each(|(to, (&y, &d))| {
                            *to = if y == T::ZERO { T::ZERO } else { d / degrees };
                        });
                        Ok(())
                    })?;
                    // The quotient first, which is near 1: dividing by a tiny deviation could overflow.
                    let (deviations, scale) = deviations(x, axes)?;
                    let std = if scale == T::ONE { std } else { std.mul_scalar(scale)? };
                    deviations.div(&std)?.mul(&share)
                }
            }
        })
    }
}

/// The gradients of a dot product.
pub(crate) struct Dot<T: Element> {
    a: Tensor<T>,
    b: Tensor<T>,
    parents: [Parent; 2],
}

impl<T: Element> Backward<T> for Dot<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let dy = dy.item()?;
        let times = |x: &Tensor<T>| {
            Tensor::build(x.dims(), |dx| map::binary_scalar(map::Binary::Mul, x.data(), dy, dx))
        };
        gradients.add(self.parents[0], || times(&self.b))?;
        gradients.add(self.parents[1], || times(&self.a))
    }
}

impl<T: Element> Tensor<T> {
    #[track_caller]
    fn reduction(
        &self,
        name: &'static str,
        kind: ReductionKind,
        axes: &[isize],
        keep_axes: bool,
    ) -> Result<Self> {
        let axes = named_or_all(self, axes);
        let plan = Plan::new(name, self, axes)?;
        let y = match kind {
            ReductionKind::Prod => plan.reduce(
                self,
                |x, cols, y| reduce::rows(Reduce::Prod, x, cols, y),
                |x, cols, y| reduce::cols(Reduce::Prod, x, cols, y),
            ),
            ReductionKind::Norm(op) => plan.reduce(
                self,
                |x, cols, y| norm::rows(op, x, cols, y),
                |x, cols, y| norm::cols(op, x, cols, y),
            ),
            ReductionKind::LogSumExp => plan.reduce(self, logsumexp::forward, logsumexp::forward_cols),
            ReductionKind::Std { correction } => plan.reduce(
                self,
                |x, cols, y| reduce::std_rows(x, cols, correction, y),
                |x, cols, y| reduce::std_cols(x, cols, correction, y),
            ),
        }?;
        let kept = y.detach();
        record(name, y.view_reshape(plan.shape(keep_axes)), [self], |[parent], _| {
            let (x, axes) = (self.detach(), axes.to_vec());
            Op::Reduced(Reduced { kind, plan, axes, x, y: kept, parent })
        })
    }

    /// The product of all elements; 1 if there are none.
    ///
    /// # Errors
    /// [`Error::Setting`] for an invalid `GRISTMILL_` variable; [`Error::Autograd`] for a tensor recorded on
    /// another thread.
    #[track_caller]
    pub fn prod(&self) -> Result<Self> {
        self.prod_axes(all_axes(self), false)
    }

    /// The products over `axes`; negative axes count from the end. With `keep_axes` the axes stay, with
    /// length 1. The gradient of an element is the product of the others, even where elements are 0.
    ///
    /// # Errors
    /// [`Error::Shape`] if an axis does not exist or is named twice.
    #[track_caller]
    pub fn prod_axes(&self, axes: &[isize], keep_axes: bool) -> Result<Self> {
        self.reduction("prod", ReductionKind::Prod, axes, keep_axes)
    }

    /// The norm of all elements: `Σ |x|`, `√Σ x²` or `max |x|`.
    ///
    /// # Errors
    /// [`Error::Setting`] for an invalid `GRISTMILL_` variable; [`Error::Autograd`] for a tensor recorded on
    /// another thread.
    #[track_caller]
    pub fn norm(&self, op: Norm) -> Result<Self> {
        self.norm_axes(op, all_axes(self), false)
    }

    /// The norms over `axes`; see [`prod_axes`](Tensor::prod_axes) and [`Norm`].
    ///
    /// # Errors
    /// [`Error::Shape`] if an axis does not exist or is named twice.
    #[track_caller]
    pub fn norm_axes(&self, op: Norm, axes: &[isize], keep_axes: bool) -> Result<Self> {
        self.reduction("norm", ReductionKind::Norm(op), axes, keep_axes)
    }

    /// `ln Σ eˣ` over several axes at once; see [`prod_axes`](Tensor::prod_axes). −∞ if there are no
    /// elements.
    ///
    /// # Errors
    /// [`Error::Shape`] if an axis does not exist or is named twice.
    #[track_caller]
    pub fn logsumexp_axes(&self, axes: &[isize], keep_axes: bool) -> Result<Self> {
        self.reduction("logsumexp", ReductionKind::LogSumExp, axes, keep_axes)
    }

    /// The standard deviations over `axes`, the square roots of [`var_axes`](Tensor::var_axes) with the same
    /// `correction`. The gradient is 0 where all elements are equal.
    ///
    /// # Errors
    /// [`Error::Shape`] if an axis does not exist or is named twice.
    #[track_caller]
    pub fn std_axes(&self, axes: &[isize], correction: usize, keep_axes: bool) -> Result<Self> {
        self.reduction("std", ReductionKind::Std { correction }, axes, keep_axes)
    }

    /// `Σ a·b` of two tensors with one axis.
    ///
    /// # Errors
    /// [`Error::Shape`] if they do not both have one axis of the same length.
    #[track_caller]
    pub fn dot(&self, other: &Self) -> Result<Self> {
        if self.rank() != 1 || self.dims() != other.dims() {
            let message =
                format!("{:?} and {:?} are not two vectors of one length", self.shape(), other.shape());
            return Err(Error::shape("dot", message));
        }
        let (a, b) = (self.compact(), other.compact());
        let y = Tensor::full([], reduce::dot(a.data(), b.data())?)?;
        record("dot", y, [self, other], |parents, _| Op::Dot(Dot { a, b, parents }))
    }
}

// Reductions without a gradient: their results are not recorded.

impl<T: Element> Tensor<T> {
    /// Whether any element is not 0; NaN counts as not 0.
    ///
    /// # Errors
    /// [`Error::Setting`] for an invalid `GRISTMILL_` variable.
    pub fn any(&self) -> Result<bool> {
        Ok(reduce::all(Reduce::Any, self.compact().data())? != T::ZERO)
    }

    /// Whether no element is 0.
    ///
    /// # Errors
    /// [`Error::Setting`] for an invalid `GRISTMILL_` variable.
    pub fn all(&self) -> Result<bool> {
        Ok(reduce::all(Reduce::All, self.compact().data())? != T::ZERO)
    }

    /// The number of elements that are not 0.
    ///
    /// # Errors
    /// [`Error::Setting`] for an invalid `GRISTMILL_` variable.
    pub fn count_nonzero(&self) -> Result<usize> {
        reduce::count_nonzero(self.compact().data())
    }

    /// 1 where any element over `axes` is not 0, else 0; see [`prod_axes`](Tensor::prod_axes). Not recorded:
    /// there is no gradient. As in PyTorch, empty `axes` tell for each element whether it is not 0, whereas
    /// in other reductions they mean all axes.
    ///
    /// # Errors
    /// [`Error::Shape`] if an axis does not exist or is named twice.
    pub fn any_axes(&self, axes: &[isize], keep_axes: bool) -> Result<Self> {
        self.count("any", Reduce::Any, axes, keep_axes)
    }

    /// 1 where no element over `axes` is 0, else 0; see [`any_axes`](Tensor::any_axes).
    ///
    /// # Errors
    /// [`Error::Shape`] if an axis does not exist or is named twice.
    pub fn all_axes(&self, axes: &[isize], keep_axes: bool) -> Result<Self> {
        self.count("all", Reduce::All, axes, keep_axes)
    }

    /// The number of elements over `axes` that are not 0; see [`any_axes`](Tensor::any_axes).
    ///
    /// # Errors
    /// [`Error::Shape`] if an axis does not exist or is named twice.
    pub fn count_nonzero_axes(&self, axes: &[isize], keep_axes: bool) -> Result<Self> {
        self.count("count_nonzero", Reduce::CountNonzero, named_or_all(self, axes), keep_axes)
    }

    fn count(&self, name: &'static str, op: Reduce, axes: &[isize], keep_axes: bool) -> Result<Self> {
        let plan = Plan::new(name, self, axes)?;
        let y = plan.reduce(
            self,
            |x, cols, y| reduce::rows(op, x, cols, y),
            |x, cols, y| reduce::cols(op, x, cols, y),
        )?;
        Ok(y.view_reshape(plan.shape(keep_axes)))
    }

    /// For each row (index of the axes before the last), the first position of its smallest element; NaN
    /// counts as the smallest. A scalar is a row of one element.
    ///
    /// # Errors
    /// [`Error::Shape`] if the last axis is empty.
    pub fn argmin(&self) -> Result<Vec<usize>> {
        self.argmin_axis(-1)
    }

    /// The first position of the largest element along `axis`, for each index of the other axes in their
    /// order; NaN counts as the largest.
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis does not exist or is empty.
    pub fn argmax_axis(&self, axis: isize) -> Result<Vec<usize>> {
        self.places("argmax", axis, reduce::argmax_rows, reduce::argmax_cols)
    }

    /// The first position of the smallest element along `axis`; see [`argmax_axis`](Tensor::argmax_axis).
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis does not exist or is empty.
    pub fn argmin_axis(&self, axis: isize) -> Result<Vec<usize>> {
        self.places("argmin", axis, reduce::argmin_rows, reduce::argmin_cols)
    }

    /// The first position of the largest of all elements, counted row by row; the first NaN counts as the
    /// largest.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are no elements.
    pub fn argmax_all(&self) -> Result<usize> {
        reduce::argmax(self.compact().data())
    }

    /// The first position of the smallest of all elements; see [`argmax_all`](Tensor::argmax_all).
    ///
    /// # Errors
    /// [`Error::Shape`] if there are no elements.
    pub fn argmin_all(&self) -> Result<usize> {
        reduce::argmin(self.compact().data())
    }

    fn places(
        &self,
        name: &'static str,
        axis: isize,
        rows: fn(&[T], usize, &mut [usize]) -> Result<()>,
        cols: fn(&[T], usize, &mut [usize]) -> Result<()>,
    ) -> Result<Vec<usize>> {
        if self.rank() == 0 && is_axis_of_scalar(axis) {
            return Ok(vec![0]);
        }
        let len = self.shape()[resolve_axis(name, axis, self.rank())?];
        if len == 0 {
            return Err(Error::shape(name, format!("axis {axis} of {:?} is empty", self.shape())));
        }
        let plan = Plan::new(name, self, &[axis])?;
        let mut places = vec![0; self.len() / len];
        plan.with_layout(self, &mut places, rows, cols)?;
        Ok(places)
    }
}
