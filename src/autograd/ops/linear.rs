//! The affine map of a linear layer in one pass: y = x·Wᵀ + b, or x·W + b.

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

/// Which axis of a linear layer's weight is which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightLayout {
    /// `[outputs, inputs]`, y = x·Wᵀ + b: PyTorch's.
    #[default]
    OutIn,
    /// `[inputs, outputs]`, y = x·W + b: needle's.
    InOut,
}

pub(crate) struct Linear<T: Element> {
    x: Tensor<T>,
    weight: Tensor<T>,
    layout: WeightLayout,
    epilogue: Option<Kept<T>>,
    parents: [Parent; 3],
}

/// The leading axes as rows.
fn rows<T: Element>(x: &Tensor<T>) -> Result<MatRef<'_, T>> {
    let (&cols, leading) = x.shape().split_last().expect("checked by `linear`: there is a last axis");
    MatRef::row_major(x.data(), leading.iter().product(), cols)
}

/// The weight as `[inputs, outputs]`.
fn in_out<T: Element>(weight: &Tensor<T>, layout: WeightLayout) -> Result<MatRef<'_, T>> {
    Ok(match layout {
        WeightLayout::OutIn => rows(weight)?.t(),
        WeightLayout::InOut => rows(weight)?,
    })
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
                let weight = in_out(weight, self.layout)?.t();
                gemm(T::ONE, rows(&dy)?, weight, T::ZERO, rows_mut(dx, x.dims())?)
            })
        };
        let dw = || {
            Tensor::build(weight.dims(), |dw| {
                let (a, b) = match self.layout {
                    WeightLayout::OutIn => (rows(&dy)?, rows(x)?),
                    WeightLayout::InOut => (rows(x)?, rows(&dy)?),
                };
                gemm(T::ONE, a.t(), b, T::ZERO, rows_mut(dw, weight.dims())?)
            })
        };
        let outputs = *dy.shape().last().expect("checked by `linear`: there is a last axis");
        // Two products of the same size: small ones get a thread each.
        let settings = context::settings()?;
        let nanoseconds = nanoseconds::<T>(x.len().saturating_mul(outputs));
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
        self.linear_with(weight, WeightLayout::OutIn, bias, None)
    }

    /// [`linear`](Tensor::linear) and what follows it, in the same pass: the bits of the operations one by one.
    ///
    /// # Errors
    /// [`Error::Shape`] when the shapes do not fit, [`Error::Value`] when dropout's p is no probability.
    #[track_caller]
    pub fn linear_then(&self, weight: &Self, bias: Option<&Self>, then: Epilogue<'_, T>) -> Result<Self> {
        self.linear_with(weight, WeightLayout::OutIn, bias, Some(then))
    }

    /// [`linear`](Tensor::linear) or, with what follows, [`linear_then`](Tensor::linear_then), for a weight in either
    /// layout.
    ///
    /// # Errors
    /// As [`linear_then`](Tensor::linear_then).
    #[track_caller]
    pub fn linear_with(
        &self,
        weight: &Self,
        layout: WeightLayout,
        bias: Option<&Self>,
        then: Option<Epilogue<'_, T>>,
    ) -> Result<Self> {
        let axes = match (weight.shape(), layout) {
            (&[outputs, inputs], WeightLayout::OutIn) | (&[inputs, outputs], WeightLayout::InOut) => {
                Some((inputs, outputs))
            }
            _ => None,
        };
        let fits = |&(inputs, outputs): &(usize, usize)| {
            self.shape().last() == Some(&inputs) && bias.is_none_or(|bias| bias.shape() == [outputs])
        };
        let Some((_, outputs)) = axes.filter(fits) else {
            let bias = bias.map(|bias| format!(" and bias {:?}", bias.shape())).unwrap_or_default();
            let message = format!("x {:?} does not fit weight {:?}{bias}", self.shape(), weight.shape());
            return Err(Error::shape("linear", message));
        };
        let (x, w) = (self.compact(), weight.compact());
        let shape = Shape::new(&self.dims().with(self.rank() - 1, outputs))?;
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
            gemm_with_epilogue(
                T::ONE,
                rows(&x)?,
                in_out(&w, layout)?,
                T::ZERO,
                epilogue,
                rows_mut(y, shape)?,
            )?;
            then.map_or(Ok(()), |then| then.drop_from(y))
        })?;
        let none = Tensor::scalar(T::ZERO);
        let (b, add) = (bias.unwrap_or(&none), then.and_then(|then| then.add).unwrap_or(&none));
        record("linear", y, [self, weight, b, add], |[of_x, of_weight, of_bias, residual], y| {
            let epilogue = then.map(|then| then.keep(y, residual));
            Op::Linear(Linear { x, weight: w, layout, epilogue, parents: [of_x, of_weight, of_bias] })
        })
    }
}
