//! Matrix products, batched with broadcasting.

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::error::{Error, Result};
use crate::kernels::gemm::{BatchMut, MatRef, multiply_batch};
use crate::simd::Element;
use crate::tensor::{Shape, Tensor};

pub(crate) struct MatMul<T: Element> {
    a: Tensor<T>,
    b: Tensor<T>,
    parents: [Parent; 2],
}

impl<T: Element> Backward<T> for MatMul<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let t = |x: &Tensor<T>| x.view_transpose(x.rank() - 2, x.rank() - 1);
        gradients.add(self.parents[0], || product(&dy, &t(&self.b))?.sum_to(self.a.dims()))?;
        gradients.add(self.parents[1], || product(&t(&self.a), &dy)?.sum_to(self.b.dims()))
    }
}

/// The last two axes as a matrix, from element `offset` on.
fn matrix<T: Element>(x: &Tensor<T>, offset: usize) -> Result<MatRef<'_, T>> {
    let (shape, strides) = (&x.shape()[x.rank() - 2..], x.strides());
    let strides = &strides[x.rank() - 2..];
    // With empty matrices, the offset may be beyond the buffer.
    let elements = x.raw().get(offset..).unwrap_or_default();
    MatRef::new(elements, shape[0], shape[1], strides[0] as isize, strides[1] as isize)
}

/// The product over the last two axes, for every index of the others.
fn product<T: Element>(a: &Tensor<T>, b: &Tensor<T>) -> Result<Tensor<T>> {
    let bad = |why: &str| Error::shape("matmul", format!("{why}: {:?} × {:?}", a.shape(), b.shape()));
    if a.rank() < 2 || b.rank() < 2 {
        return Err(bad("a number is no matrix"));
    }
    let ([.., m, k], [.., inner, n]) = (a.shape(), b.shape()) else { unreachable!("both have two axes") };
    if k != inner {
        return Err(bad("inner dimensions differ"));
    }
    let batch_of = |x: &Tensor<T>| Shape::from_dims(&x.shape()[..x.rank() - 2]);
    let batch = Shape::broadcast("matmul", &batch_of(a), &batch_of(b))
        .map_err(|_| bad("batch dimensions do not broadcast"))?;
    let shape = Shape::join(&[&batch, &[*m, *n]])?;
    let stretch = |x: &Tensor<T>| {
        Shape::join(&[&batch, &x.shape()[x.rank() - 2..]]).map(|shape| x.view_broadcast(shape))
    };
    let (a, b) = if batch.is_empty() { (a.detach(), b.detach()) } else { (stretch(a)?, stretch(b)?) };
    let operand =
        |x, index| matrix(x, offset(x, &batch, index)).expect("a tensor's axes lie inside its buffer");
    let count = batch.iter().product();
    Tensor::build(shape, |y| {
        let c = BatchMut::row_major(y, count, *m, *n)?;
        multiply_batch(T::ONE, &|index| (operand(&a, index), operand(&b, index)), T::ZERO, c)
    })
}

/// The offset of matrix `index` in a batch.
fn offset<T: Element>(x: &Tensor<T>, batch: &[usize], mut index: usize) -> usize {
    let (strides, mut offset) = (x.strides(), 0);
    for (axis, &len) in batch.iter().enumerate().rev() {
        offset += index % len * strides[axis];
        index /= len;
    }
    offset
}

impl<T: Element> Tensor<T> {
    /// The matrix product over the last two axes, `[…, m, k] × […, k, n] → […, m, n]`; leading axes are
    /// broadcast. A vector on the left is treated as a row, one on the right as a column; the axis added for
    /// that is not in the result.
    ///
    /// # Errors
    /// [`Error::Shape`] if the inner dimensions differ, the batch dimensions cannot be broadcast, or a tensor
    /// has no axis.
    #[track_caller]
    pub fn matmul(&self, other: &Self) -> Result<Self> {
        if self.rank() == 1 || other.rank() == 1 {
            return self.matmul_vector(other);
        }
        let y = product(self, other)?;
        record("matmul", y, [self, other], |parents, _| {
            Op::MatMul(MatMul { a: self.detach(), b: other.detach(), parents })
        })
    }

    #[track_caller]
    fn matmul_vector(&self, other: &Self) -> Result<Self> {
        let inner =
            if other.rank() == 1 { Some(other.len()) } else { other.shape().iter().rev().nth(1).copied() };
        if inner.is_none() || self.shape().last().copied() != inner {
            let message = format!("inner dimensions differ: {:?} × {:?}", self.shape(), other.shape());
            return Err(Error::shape("matmul", message));
        }
        let row = if self.rank() == 1 { self.unsqueeze(0)? } else { self.clone() };
        let column = if other.rank() == 1 { other.unsqueeze(1)? } else { other.clone() };
        let mut y = row.matmul(&column)?;
        if other.rank() == 1 {
            y = y.squeeze(-1)?;
        }
        if self.rank() == 1 {
            y = y.squeeze(if other.rank() == 1 { -1 } else { -2 })?;
        }
        Ok(y)
    }
}
