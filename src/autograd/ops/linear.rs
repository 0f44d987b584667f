//! The affine map of a linear layer in one pass: y = x·Wᵀ + b.

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::context;
use crate::error::{Error, Result};
use crate::kernels::gemm::{Bias, MatMut, MatRef, gemm, gemm_with_epilogue, nanoseconds};
use crate::kernels::reduce::{self, Reduce};
use crate::parallel;
use crate::simd::Element;
use crate::tensor::{Shape, Tensor};

/// Nanoseconds of a product from which two threads share it as well as they do two products of its size.
const APART: usize = 100_000;

pub(crate) struct Linear<T: Element> {
    x: Tensor<T>,
    weight: Tensor<T>,
    parents: [Parent; 3],
}

/// The leading axes as rows.
fn rows<T: Element>(x: &Tensor<T>) -> Result<MatRef<'_, T>> {
    let (&cols, leading) = x.shape().split_last().expect("checked by `linear`: there is a last axis");
    MatRef::row_major(x.data(), leading.iter().product(), cols)
}

/// The leading axes as rows, to write.
fn rows_mut<T: Element>(y: &mut [T], shape: Shape) -> Result<MatMut<'_, T>> {
    let (&cols, leading) = shape.split_last().expect("checked by `linear`: there is a last axis");
    MatMut::row_major(y, leading.iter().product(), cols)
}

impl<T: Element> Backward<T> for Linear<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let (x, weight, dy) = (&self.x, &self.weight, dy.compact());
        let [of_x, of_weight, of_bias] = self.parents;
        let dx = || {
            Tensor::build(x.dims(), |dx| {
                gemm(T::ONE, rows(&dy)?, rows(weight)?, T::ZERO, rows_mut(dx, x.dims())?)
            })
        };
        let dw = || {
            Tensor::build(weight.dims(), |dw| {
                gemm(T::ONE, rows(&dy)?.t(), rows(x)?, T::ZERO, rows_mut(dw, weight.dims())?)
            })
        };
        // Two products of the same size: small ones get a thread each.
        let settings = context::settings()?;
        let nanoseconds = nanoseconds::<T>(x.len().saturating_mul(weight.shape()[0]));
        let apart = settings.threads == 2 && nanoseconds < APART;
        if apart && of_x.is_some() && of_weight.is_some() {
            let (dx, dw) = parallel::both(settings, 2 * nanoseconds, dx, dw)?;
            gradients.add(of_x, || dx)?;
            gradients.add(of_weight, || dw)?;
        } else {
            gradients.add(of_x, dx)?;
            gradients.add(of_weight, dw)?;
        }
        gradients.add(of_bias, || {
            let outputs = weight.shape()[0];
            Tensor::build(Shape::from_dims(&[outputs]), |db| {
                reduce::cols(Reduce::Sum, dy.data(), outputs, db)
            })
        })
    }
}

impl<T: Element> Tensor<T> {
    /// `x · weightᵀ + bias` for x of `[…, inputs]`, weight of `[outputs, inputs]` and bias of `[outputs]`: the matrix
    /// product and the bias in one pass.
    ///
    /// # Errors
    /// [`Error::Shape`] when the shapes do not fit.
    #[track_caller]
    pub fn linear(&self, weight: &Self, bias: Option<&Self>) -> Result<Self> {
        let fits = weight.rank() == 2
            && self.shape().last() == weight.shape().last()
            && bias.is_none_or(|bias| bias.shape() == &weight.shape()[..1]);
        if !fits {
            let bias = bias.map(|bias| format!(" and bias {:?}", bias.shape())).unwrap_or_default();
            let message = format!("x {:?} does not fit weight {:?}{bias}", self.shape(), weight.shape());
            return Err(Error::shape("linear", message));
        }
        let (x, w) = (self.compact(), weight.compact());
        let shape = Shape::new(&self.dims().with(self.rank() - 1, w.shape()[0]))?;
        let add = bias.map(Tensor::compact);
        let y = Tensor::build(shape, |y| {
            let add = add.as_ref().map_or(Bias::None, |bias| Bias::PerColumn(bias.data()));
            gemm_with_epilogue(T::ONE, rows(&x)?, rows(&w)?.t(), T::ZERO, add.into(), rows_mut(y, shape)?)
        })?;
        let none = Tensor::scalar(T::ZERO);
        record("linear", y, [self, weight, bias.unwrap_or(&none)], |parents, _| {
            Op::Linear(Linear { x, weight: w, parents })
        })
    }
}
