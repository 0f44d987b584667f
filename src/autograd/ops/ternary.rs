//! Functions of three tensors.

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::error::Result;
use crate::kernels::zip::{self, Operand, Ternary};
use crate::simd::Element;
use crate::tensor::{Shape, Tensor};

pub(crate) struct TernaryOp<T: Element> {
    op: Ternary,
    abc: [Tensor<T>; 3],
    parents: [Parent; 3],
}

impl<T: Element> Backward<T> for TernaryOp<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let (shape, dy) = (dy.dims(), dy.compact());
        let wide = spread(&self.abc, shape);
        let (operands, matrix) = (operands(&wide), [1, shape.elements()]);
        for (n, &parent) in self.parents.iter().enumerate() {
            gradients.add(parent, || {
                Tensor::build(shape, |to| {
                    let mut to = Some(to);
                    let wanted = std::array::from_fn(|i| to.take_if(|_| i == n));
                    zip::TernaryBackward {
                        op: self.op,
                        abc: operands,
                        dy: dy.data(),
                        shape: matrix,
                        gradients: wanted,
                    }
                    .run()
                })?
                .sum_to(self.abc[n].dims())
            })?;
        }
        Ok(())
    }
}

/// Expands those that have another shape and more than one element into copies of this shape.
fn spread<T: Element>(abc: &[Tensor<T>; 3], shape: Shape) -> [Tensor<T>; 3] {
    abc.each_ref().map(|x| if x.len() == 1 { x.compact() } else { x.view_broadcast(shape).compact() })
}

fn operands<T: Element>(abc: &[Tensor<T>; 3]) -> [Operand<'_, T>; 3] {
    abc.each_ref()
        .map(|x| if let [number] = x.data() { Operand::Scalar(*number) } else { Operand::Row(x.data()) })
}

impl<T: Element> Tensor<T> {
    /// `self·a + b`, rounded once (like [`f32::mul_add`], with the same exception), with broadcasting.
    /// PyTorch's `addcmul(b, self, a)`.
    ///
    /// ```
    /// use gristmill::Tensor;
    /// let x = Tensor::from([1.0, 2.0, 3.0]);
    /// assert_eq!(x.mul_add(&x, &Tensor::scalar(0.5))?.to_vec(), [1.5, 4.5, 9.5]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the shapes cannot be broadcast.
    #[track_caller]
    pub fn mul_add(&self, a: &Self, b: &Self) -> Result<Self> {
        self.ternary("mul_add", Ternary::MulAdd, a, b)
    }

    /// Interpolates from `self` to `end`: `self + weight·(end − self)`, exactly `self` and `end` at weights 0
    /// and 1, with broadcasting.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the shapes cannot be broadcast.
    #[track_caller]
    pub fn lerp(&self, end: &Self, weight: &Self) -> Result<Self> {
        self.ternary("lerp", Ternary::Lerp, end, weight)
    }

    #[track_caller]
    fn ternary(&self, name: &'static str, op: Ternary, b: &Self, c: &Self) -> Result<Self> {
        let shape = Shape::broadcast(name, &Shape::broadcast(name, &self.dims(), &b.dims())?, &c.dims())?;
        let abc = [self, b, c].map(Tensor::detach);
        let wide = spread(&abc, shape);
        let y = Tensor::build(shape, |y| zip::ternary(op, operands(&wide), [1, shape.elements()], y))?;
        record(name, y, [self, b, c], |parents, _| Op::Ternary(TernaryOp { op, abc, parents }))
    }
}
