//! Sums, means, extrema and variances over any axes.

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::context;
use crate::error::{Error, Result};
use crate::kernels::reduce::{self, Reduce};
use crate::simd::Element;
use crate::tensor::{MAX_RANK, Shape, Tensor, resolve_axes};

/// Repeats the columns of `x`, `cols` of them, to the length of `x`.
type ByColumns<'a, T> = &'a dyn Fn(&[T], usize, &mut [T]) -> Result<()>;

/// A tensor whose axes are divided into those that are reduced and the others.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    /// The axes that are kept, then those that are reduced.
    order: [usize; MAX_RANK],
    /// The number of elements that are reduced to one.
    pub count: usize,
    /// The result with the reduced axes kept as length 1.
    pub kept: Shape,
    /// The result without the reduced axes.
    dropped: Shape,
    /// Whether the reduced axes are the first ones.
    leading: bool,
}

impl Plan {
    pub fn new<T: Element>(op: &'static str, x: &Tensor<T>, axes: &[isize]) -> Result<Self> {
        let mut reduced = resolve_axes(op, axes, x.rank())?;
        reduced[x.rank()..].fill(false);
        let (rank, gone) = (x.rank(), reduced.iter().filter(|&&reduced| reduced).count());
        let stay = rank - gone;
        let mut order = std::array::from_fn(|axis| axis);
        order[..rank].sort_by_key(|&axis| reduced[axis]);
        let mut dims = order;
        dims[..rank].iter_mut().for_each(|axis| *axis = x.shape()[*axis]);
        let one_if_reduced = |shape: Shape, axis| if reduced[axis] { shape.with(axis, 1) } else { shape };
        Ok(Self {
            count: dims[stay..rank].iter().product(),
            kept: (0..rank).fold(x.dims(), one_if_reduced),
            dropped: Shape::from_dims(&dims[..stay]),
            leading: stay < rank && reduced[..gone].iter().all(|&reduced| reduced),
            order,
        })
    }

    /// Reduces by rows or by columns, whichever reads the elements in memory order.
    fn run<T: Element>(
        &self,
        x: &Tensor<T>,
        rows: impl Fn(&[T], usize, &mut [T]) -> Result<()>,
        cols: impl Fn(&[T], usize, &mut [T]) -> Result<()>,
    ) -> Result<Tensor<T>> {
        Tensor::build(self.kept, |y| self.with_layout(x, y, rows, cols))
    }

    /// [`run`](Plan::run) with any kind of result.
    pub fn with_layout<T: Element, Y>(
        &self,
        x: &Tensor<T>,
        y: &mut [Y],
        rows: impl Fn(&[T], usize, &mut [Y]) -> Result<()>,
        cols: impl Fn(&[T], usize, &mut [Y]) -> Result<()>,
    ) -> Result<()> {
        if self.leading && !y.is_empty() {
            return cols(x.compact().data(), y.len(), y);
        }
        rows(x.view_permute(&self.order[..x.rank()]).compact().data(), self.count, y)
    }

    /// [`run`](Plan::run), but treats everything as one row, which can be divided among more threads than one
    /// column.
    pub fn reduce<T: Element>(
        &self,
        x: &Tensor<T>,
        rows: impl Fn(&[T], usize, &mut [T]) -> Result<()>,
        cols: impl Fn(&[T], usize, &mut [T]) -> Result<()>,
    ) -> Result<Tensor<T>> {
        if self.count == x.len() && self.kept.elements() == 1 {
            return Tensor::build(self.kept, |y| rows(x.compact().data(), self.count, y));
        }
        self.run(x, rows, cols)
    }

    /// The gradient of `x`, in the layout that [`reduce`](Plan::reduce) chose: by rows, or by columns where
    /// there is a kernel for it.
    pub fn spread<T: Element>(
        &self,
        x: &Tensor<T>,
        rows: impl Fn(&[T], usize, &mut [T]) -> Result<()>,
        cols: Option<ByColumns<'_, T>>,
    ) -> Result<Tensor<T>> {
        let results = self.kept.elements();
        if let Some(cols) = cols.filter(|_| self.leading && results > 1) {
            return Tensor::build(x.dims(), |dx| cols(x.compact().data(), results, dx));
        }
        let (rank, x) = (x.rank(), x.view_permute(&self.order[..x.rank()]).compact());
        let dx = Tensor::build(x.dims(), |dx| rows(x.data(), self.count, dx))?;
        let mut back = [0; MAX_RANK];
        self.order[..rank].iter().enumerate().for_each(|(place, &axis)| back[axis] = place);
        Ok(dx.view_permute(&back[..rank]))
    }

    pub fn shape(&self, keep_axes: bool) -> Shape {
        if keep_axes { self.kept } else { self.dropped }
    }
}

pub(super) fn all_axes<T: Element>(x: &Tensor<T>) -> &'static [isize] {
    const ALL: [isize; MAX_RANK] = [0, 1, 2, 3, 4, 5];
    &ALL[..x.rank()]
}

/// The axes of a reduction; as in PyTorch, an empty list means all of them.
pub(super) fn named_or_all<'a, T: Element>(x: &Tensor<T>, axes: &'a [isize]) -> &'a [isize] {
    if axes.is_empty() { all_axes(x) } else { axes }
}

pub(crate) struct Sum<T: Element> {
    scale: T,
    shape: Shape,
    kept: Shape,
    parent: Parent,
}

impl<T: Element> Backward<T> for Sum<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        gradients.add(self.parent, || {
            let dy = dy.view_reshape(self.kept).mul_scalar(self.scale)?;
            Ok(dy.view_broadcast(self.shape))
        })
    }
}

pub(crate) struct Extreme<T: Element> {
    x: Tensor<T>,
    y: Tensor<T>,
    axes: Vec<isize>,
    parent: Parent,
}

impl<T: Element> Backward<T> for Extreme<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        gradients.add(self.parent, || {
            let x = self.x.compact();
            let y = self.y.view_broadcast(x.dims()).compact();
            let equal = Tensor::build(x.dims(), |out| {
                for ((out, &x), &y) in out.iter_mut().zip(x.data()).zip(y.data()) {
                    *out = if x == y || (x.is_nan() && y.is_nan()) { T::ONE } else { T::ZERO };
                }
                Ok(())
            })?;
            let ties = equal.sum_axes(&self.axes, true)?;
            equal.mul(&dy.view_reshape(self.y.dims()).div(&ties)?)
        })
    }
}

pub(crate) struct Variance<T: Element> {
    x: Tensor<T>,
    axes: Vec<isize>,
    divisor: T,
    kept: Shape,
    parent: Parent,
}

/// x minus its means over `axes`, times the returned power of two. The mean is rounded to the precision of x,
/// which is coarse compared with the deviations if, say, all elements are 1000 ± 0.001: the mean of the
/// deviations corrects for that.
///
/// The power is 1 unless a sum of x or a deviation overflows.
pub(super) fn deviations<T: Element>(x: &Tensor<T>, axes: &[isize]) -> Result<(Tensor<T>, T)> {
    let rough = x.sub(&x.mean_axes(axes, true)?)?;
    let rest = rough.mean_axes(axes, true)?;
    if rest.data().iter().all(|rest| rest.is_finite()) {
        return Ok((rough.sub(&rest)?, T::ONE));
    }
    let bits = (x.len() / rest.len()).next_power_of_two().trailing_zeros() as i32;
    let scale = T::from_f64(0.5_f64.powi(bits + 2));
    let x = x.mul_scalar(scale)?;
    let rough = x.sub(&x.mean_axes(axes, true)?)?;
    Ok((rough.sub(&rough.mean_axes(axes, true)?)?, scale))
}

impl<T: Element> Backward<T> for Variance<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        gradients.add(self.parent, || {
            let share = dy.view_reshape(self.kept).mul_scalar(T::from_f64(2.0) / self.divisor)?;
            let (deviations, scale) = deviations(&self.x, &self.axes)?;
            let dx = deviations.mul(&share)?;
            if scale == T::ONE { Ok(dx) } else { dx.div_scalar(scale) }
        })
    }
}

impl<T: Element> Tensor<T> {
    /// The sum of all elements; 0 if there are none.
    ///
    /// # Errors
    /// [`Error::Setting`] for an invalid `GRISTMILL_` variable; [`Error::Autograd`] for a tensor recorded on
    /// another thread.
    #[track_caller]
    pub fn sum(&self) -> Result<Self> {
        self.sum_axes(all_axes(self), false)
    }

    /// The mean of all elements; NaN if there are none.
    ///
    /// # Errors
    /// [`Error::Setting`] for an invalid `GRISTMILL_` variable; [`Error::Autograd`] for a tensor recorded on
    /// another thread.
    #[track_caller]
    pub fn mean(&self) -> Result<Self> {
        self.mean_axes(all_axes(self), false)
    }

    /// The sums over `axes`; negative axes count from the end. With `keep_axes` they are kept with length 1.
    ///
    /// As in PyTorch, an empty list means all axes, in every reduction except [`any_axes`](Tensor::any_axes)
    /// and [`all_axes`](Tensor::all_axes), and a scalar can be reduced along axis 0 or −1 to itself.
    ///
    /// ```
    /// use gristmill::Tensor;
    /// assert_eq!(Tensor::from([1.0, 2.0]).sum_axes(&[], false)?.item()?, 3.0);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if an axis does not exist or is named twice.
    #[track_caller]
    pub fn sum_axes(&self, axes: &[isize], keep_axes: bool) -> Result<Self> {
        self.scaled_sum("sum", Reduce::Sum, axes, keep_axes)
    }

    /// The means over `axes`; see [`sum_axes`](Tensor::sum_axes).
    ///
    /// # Errors
    /// [`Error::Shape`] if an axis does not exist or is named twice.
    #[track_caller]
    pub fn mean_axes(&self, axes: &[isize], keep_axes: bool) -> Result<Self> {
        self.scaled_sum("mean", Reduce::Mean, axes, keep_axes)
    }

    #[track_caller]
    fn scaled_sum(&self, name: &'static str, op: Reduce, axes: &[isize], keep_axes: bool) -> Result<Self> {
        let axes = named_or_all(self, axes);
        let plan = Plan::new(name, self, axes)?;
        let y = if axes.len() == self.rank() && self.len() > 0 {
            let total = reduce::all(op, self.compact().data())?;
            Tensor::full(&*plan.kept, total)?
        } else {
            plan.run(
                self,
                |x, cols, y| reduce::rows(op, x, cols, y),
                |x, cols, y| reduce::cols(op, x, cols, y),
            )?
        };
        let scale = match op {
            Reduce::Mean => context::in_environment(|| T::ONE / T::from_f64(plan.count as f64)),
            _ => T::ONE,
        };
        record(name, y.view_reshape(plan.shape(keep_axes)), [self], |[parent], _| {
            Op::Sum(Sum { scale, shape: self.dims(), kept: plan.kept, parent })
        })
    }

    /// The largest elements over `axes`; NaN if any is NaN. Elements that are equally large share the
    /// gradient.
    ///
    /// # Errors
    /// [`Error::Shape`] if an axis does not exist or is named twice, or if there are no elements to choose
    /// from.
    #[track_caller]
    pub fn max_axes(&self, axes: &[isize], keep_axes: bool) -> Result<Self> {
        self.extreme("max", Reduce::Max, axes, keep_axes)
    }

    /// The smallest elements over `axes`; see [`max_axes`](Tensor::max_axes).
    ///
    /// # Errors
    /// [`Error::Shape`] if an axis does not exist or is named twice, or if there are no elements to choose
    /// from.
    #[track_caller]
    pub fn min_axes(&self, axes: &[isize], keep_axes: bool) -> Result<Self> {
        self.extreme("min", Reduce::Min, axes, keep_axes)
    }

    /// The largest element; see [`max_axes`](Tensor::max_axes).
    ///
    /// # Errors
    /// [`Error::Shape`] if there are no elements.
    #[track_caller]
    pub fn max(&self) -> Result<Self> {
        self.max_axes(all_axes(self), false)
    }

    /// The smallest element; see [`max_axes`](Tensor::max_axes).
    ///
    /// # Errors
    /// [`Error::Shape`] if there are no elements.
    #[track_caller]
    pub fn min(&self) -> Result<Self> {
        self.min_axes(all_axes(self), false)
    }

    #[track_caller]
    fn extreme(&self, name: &'static str, op: Reduce, axes: &[isize], keep_axes: bool) -> Result<Self> {
        let axes = named_or_all(self, axes);
        let plan = Plan::new(name, self, axes)?;
        if plan.count == 0 {
            let message = format!("nothing to choose from over axes {axes:?} of shape {:?}", self.shape());
            return Err(Error::shape(name, message));
        }
        let y = plan.run(
            self,
            |x, cols, y| reduce::rows(op, x, cols, y),
            |x, cols, y| reduce::cols(op, x, cols, y),
        )?;
        let kept = y.detach();
        record(name, y.view_reshape(plan.shape(keep_axes)), [self], |[parent], _| {
            Op::Extreme(Extreme { x: self.detach(), y: kept, axes: axes.to_vec(), parent })
        })
    }

    /// The variances over `axes`, with the divisor n − `correction`: 0 for the biased variance, 1 for the
    /// unbiased one. NaN if the divisor is not positive.
    ///
    /// # Errors
    /// [`Error::Shape`] if an axis does not exist or is named twice.
    #[track_caller]
    pub fn var_axes(&self, axes: &[isize], correction: usize, keep_axes: bool) -> Result<Self> {
        let axes = named_or_all(self, axes);
        let plan = Plan::new("var", self, axes)?;
        let y = plan.run(
            self,
            |x, cols, y| reduce::variance_rows(x, cols, correction, y),
            |x, cols, y| reduce::variance_cols(x, cols, correction, y),
        )?;
        let degrees = plan.count as f64 - correction as f64;
        let divisor = T::from_f64(if degrees > 0.0 { degrees } else { f64::NAN });
        record("var", y.view_reshape(plan.shape(keep_axes)), [self], |[parent], _| {
            let (x, axes) = (self.detach(), axes.to_vec());
            Op::Variance(Variance { x, axes, divisor, kept: plan.kept, parent })
        })
    }

    /// For each row (index of the axes before the last), the first position of its largest element; NaN
    /// counts as the largest. A scalar is a row of one element.
    ///
    /// # Errors
    /// [`Error::Shape`] if the last axis is empty.
    pub fn argmax(&self) -> Result<Vec<usize>> {
        if self.rank() == 0 {
            return Ok(vec![0]);
        }
        let cols = match self.shape().last() {
            Some(&cols) if cols > 0 => cols,
            _ => {
                return Err(Error::shape("argmax", format!("the last axis of {:?} is empty", self.shape())));
            }
        };
        let mut places = vec![0; self.len() / cols];
        reduce::argmax_rows(self.compact().data(), cols, &mut places)?;
        Ok(places)
    }

    /// Whether shapes and numbers are exactly equal; NaN differs from everything.
    pub fn equals(&self, other: &Self) -> bool {
        self.shape() == other.shape() && self.compact().data() == other.compact().data()
    }
}
