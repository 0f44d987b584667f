//! The affine map of a linear layer in one pass: y = x·Wᵀ + b.

use super::epilogue::{Epilogue, Kept};
use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::context;
use crate::error::{Error, Result};
use crate::kernels::gemm::{self, Bias, MatMut, MatRef, gemm, gemm_with_epilogue, nanoseconds};
use crate::kernels::map::Unary;
use crate::kernels::reduce::{self, Reduce};
use crate::parallel;
use crate::simd::Element;
use crate::tensor::{Shape, Tensor};

/// Nanoseconds of a product from which two threads share it as well as they do two products of its size.
const APART: usize = 100_000;

pub(crate) struct Linear<T: Element> {
    x: Tensor<T>,
    weight: Tensor<T>,
    epilogue: Option<Kept<T>>,
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
        let dy = match &self.epilogue {
            Some(then) => then.backward(&dy)?,
            None => dy,
        };
        gradients.add(self.epilogue.as_ref().and_then(|then| then.residual), || Ok(dy.clone()))?;
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
        self.affine(weight, bias, None)
    }

    /// [`linear`](Tensor::linear) and what follows it, in the same pass: the bits of the operations one by one.
    ///
    /// # Errors
    /// [`Error::Shape`] when the shapes do not fit, [`Error::Value`] when dropout's p is no probability.
    #[track_caller]
    pub fn linear_then(&self, weight: &Self, bias: Option<&Self>, then: Epilogue<'_, T>) -> Result<Self> {
        self.affine(weight, bias, Some(then))
    }

    #[track_caller]
    fn affine(&self, weight: &Self, bias: Option<&Self>, then: Option<Epilogue<'_, T>>) -> Result<Self> {
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
        then.map_or(Ok(()), |then| then.check("linear", &shape))?;
        let bias_numbers = bias.map(Tensor::compact);
        let residual = then.and_then(|then| then.add).map(Tensor::compact);
        let y = Tensor::build(shape, |y| {
            let epilogue = gemm::Epilogue {
                bias: bias_numbers.as_ref().map_or(Bias::None, |bias| Bias::PerColumn(bias.data())),
                residual: residual.as_ref().map(rows).transpose()?,
                activation: then.map(|_| Unary::Relu),
                relu_mask: None,
            };
            gemm_with_epilogue(T::ONE, rows(&x)?, rows(&w)?.t(), T::ZERO, epilogue, rows_mut(y, shape)?)?;
            then.map_or(Ok(()), |then| then.drop_from(y))
        })?;
        let none = Tensor::scalar(T::ZERO);
        let (b, add) = (bias.unwrap_or(&none), then.and_then(|then| then.add).unwrap_or(&none));
        record("linear", y, [self, weight, b, add], |[of_x, of_weight, of_bias, residual], y| {
            let epilogue = then.map(|then| then.keep(y, residual));
            Op::Linear(Linear { x, weight: w, epilogue, parents: [of_x, of_weight, of_bias] })
        })
    }
}
