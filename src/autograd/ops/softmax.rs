//! Softmax, log-softmax and log-sum-exp along one axis.

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::error::Result;
use crate::kernels::{log_softmax, logsumexp, softmax};
use crate::simd::Element;
use crate::tensor::{MAX_RANK, Tensor, resolve_axis};

#[derive(Clone, Copy, PartialEq)]
enum SoftmaxKind {
    Softmax,
    LogSoftmax,
    LogSumExp,
}

pub(crate) struct Softmax<T: Element> {
    kind: SoftmaxKind,
    axis: usize,
    /// The input with the axis last; only kept for log-sum-exp.
    x: Option<Tensor<T>>,
    /// The result with the axis last, or without it.
    y: Tensor<T>,
    parent: Parent,
}

impl<T: Element> Backward<T> for Softmax<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let (y, axis) = (&self.y, self.axis);
        gradients.add(self.parent, || {
            let dx = match &self.x {
                Some(x) => {
                    let (dy, cols) = (dy.compact(), x.shape()[x.rank() - 1]);
                    Tensor::build(x.dims(), |dx| {
                        logsumexp::Backward { x: x.data(), y: y.data(), dy: dy.data(), cols, dx }.run()
                    })?
                }
                None => {
                    let (dy, cols) = (last(&dy, axis), y.shape()[y.rank() - 1]);
                    Tensor::build(y.dims(), |dx| match self.kind {
                        SoftmaxKind::Softmax => softmax::backward(y.data(), dy.data(), cols, dx),
                        _ => log_softmax::backward(y.data(), dy.data(), cols, dx),
                    })?
                }
            };
            Ok(back(&dx, axis))
        })
    }
}

/// The tensor with `axis` moved to the end, contiguous.
fn last<T: Element>(x: &Tensor<T>, axis: usize) -> Tensor<T> {
    let mut order: [usize; MAX_RANK] = std::array::from_fn(|axis| axis);
    order[axis..x.rank()].rotate_left(1);
    x.view_permute(&order[..x.rank()]).compact()
}

/// The tensor with its last axis moved to `axis`.
fn back<T: Element>(x: &Tensor<T>, axis: usize) -> Tensor<T> {
    let mut order: [usize; MAX_RANK] = std::array::from_fn(|axis| axis);
    order[axis..x.rank()].rotate_right(1);
    x.view_permute(&order[..x.rank()])
}

impl<T: Element> Tensor<T> {
    /// `exp(x − max) / Σ exp(x − max)` along `axis`. As in PyTorch, a scalar is treated as a vector of one
    /// element: axis 0 or −1.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the axis does not exist.
    #[track_caller]
    pub fn softmax(&self, axis: isize) -> Result<Self> {
        self.softmax_family("softmax", SoftmaxKind::Softmax, axis)
    }

    /// `x − logsumexp(x)` along `axis`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the axis does not exist.
    #[track_caller]
    pub fn log_softmax(&self, axis: isize) -> Result<Self> {
        self.softmax_family("log_softmax", SoftmaxKind::LogSoftmax, axis)
    }

    /// `ln Σ eˣ` along `axis`, which is removed.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the axis does not exist.
    #[track_caller]
    pub fn logsumexp(&self, axis: isize) -> Result<Self> {
        self.softmax_family("logsumexp", SoftmaxKind::LogSumExp, axis)
    }

    #[track_caller]
    fn softmax_family(&self, name: &'static str, kind: SoftmaxKind, axis: isize) -> Result<Self> {
        if let Some(vector) = self.scalar_as_vector(axis)? {
            let y = vector.softmax_family(name, kind, 0)?;
            return if kind == SoftmaxKind::LogSumExp { Ok(y) } else { y.squeeze(0) };
        }
        let axis = resolve_axis(name, axis, self.rank())?;
        let x = last(self, axis);
        let cols = self.shape()[axis];
        let (out, kept_x, kept_y) = if kind == SoftmaxKind::LogSumExp {
            let shape = crate::tensor::Shape::from_dims(&x.shape()[..x.rank() - 1]);
            let y = Tensor::build(shape, |y| logsumexp::forward(x.data(), cols, y))?;
            (y.detach(), Some(x), y)
        } else {
            let y = Tensor::build(x.dims(), |y| match kind {
                SoftmaxKind::Softmax => softmax::forward(x.data(), cols, y),
                _ => log_softmax::forward(x.data(), cols, y),
            })?;
            (back(&y, axis), None, y)
        };
        record(name, out, [self], |[parent], _| {
            Op::Softmax(Softmax { kind, axis, x: kept_x, y: kept_y, parent })
        })
    }
}
