//! The affine map of a linear layer in one pass: y = x·Wᵀ + b, or x·W + b.

use super::epilogue::{Epilogue, KeptEpilogue};
use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::context;
use crate::error::{Error, Result};
use crate::kernels::gemm::{
    self, Bias, MatMut, MatRef, PackedB, gemm, gemm_prepacked, gemm_with_epilogue, nanoseconds,
};
use crate::kernels::map::Unary;
use crate::kernels::reduce::{self, Reduce};
use crate::parallel;
use crate::simd::Element;
use crate::tensor::{Numbers, Shape, Tensor};

/// From this many nanoseconds on, two threads gain as much from sharing one product as from computing two
/// products of its size in parallel.
const APART: usize = 100_000;

/// The order of the axes of a linear layer's weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightLayout {
    /// `[outputs, inputs]`, y = x·Wᵀ + b: PyTorch's.
    #[default]
    OutIn,
    /// `[inputs, outputs]`, y = x·W + b: needle's.
    InOut,
}

impl WeightLayout {
    /// The number of inputs and outputs of a weight of this shape, if it is a matrix.
    pub(crate) fn sizes(self, weight: &[usize]) -> Option<(usize, usize)> {
        match (weight, self) {
            (&[outputs, inputs], Self::OutIn) | (&[inputs, outputs], Self::InOut) => Some((inputs, outputs)),
            _ => None,
        }
    }

    /// The weight as `[inputs, outputs]`.
    fn in_out<T: Element>(self, weight: MatRef<'_, T>) -> MatRef<'_, T> {
        match self {
            Self::OutIn => weight.t(),
            Self::InOut => weight,
        }
    }
}

pub(crate) struct Linear<T: Element> {
    x: Numbers<T>,
    /// The shape of x.
    shape: Shape,
    outputs: usize,
    weight: Numbers<T>,
    layout: WeightLayout,
    epilogue: Option<KeptEpilogue<T>>,
    parents: [Parent; 3],
}

/// Treats the leading axes as rows.
fn rows<T: Element>(x: &[T], shape: Shape) -> Result<MatRef<'_, T>> {
    let (&cols, leading) = shape.split_last().expect("checked by `linear`: there is a last axis");
    MatRef::row_major(x, leading.iter().product(), cols)
}

/// Treats the leading axes as rows, mutable.
fn rows_mut<T: Element>(y: &mut [T], shape: Shape) -> Result<MatMut<'_, T>> {
    let (&cols, leading) = shape.split_last().expect("checked by `linear`: there is a last axis");
    MatMut::row_major(y, leading.iter().product(), cols)
}

impl<T: Element> Backward<T> for Linear<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let outputs = self.outputs;
        let inputs = self.shape[self.shape.len() - 1];
        let of_weight = Shape::from_dims(&match self.layout {
            WeightLayout::OutIn => [outputs, inputs],
            WeightLayout::InOut => [inputs, outputs],
        });
        let (x, weight) = (rows(self.x.data(), self.shape)?, rows(self.weight.data(), of_weight)?);
        let dy = match &self.epilogue {
            Some(then) => then.backward(&dy.dense())?,
            None => dy.compact(),
        };
        gradients.add(self.epilogue.as_ref().and_then(|then| then.residual), || Ok(dy.clone()))?;
        let rows_of_dy = rows(dy.data(), dy.dims())?;
        let dx = || {
            Tensor::build(self.shape, |dx| {
                let weight = self.layout.in_out(weight).t();
                gemm(T::ONE, rows_of_dy, weight, T::ZERO, rows_mut(dx, self.shape)?)
            })
        };
        let dw = || {
            let (a, b) = match self.layout {
                WeightLayout::OutIn => (rows_of_dy, x),
                WeightLayout::InOut => (x, rows_of_dy),
            };
            Tensor::build(of_weight, |dw| gemm(T::ONE, a.t(), b, T::ZERO, rows_mut(dw, of_weight)?))
        };
        let [of_x, of_weight, of_bias] = self.parents;
        // Two products of the same size: small ones are computed on one thread each.
        let settings = context::settings()?;
        let nanoseconds = nanoseconds::<T>(self.shape.elements().saturating_mul(outputs));
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

/// Calls `product` for the rows of x, then runs the rest of the layer. The shapes of x and the bias have been
/// checked.
fn affine<T: Element>(
    x: &Tensor<T>,
    outputs: usize,
    bias: Option<&Tensor<T>>,
    then: Option<Epilogue<'_, T>>,
    product: impl FnOnce(MatRef<'_, T>, gemm::Epilogue<'_, T>, MatMut<'_, T>) -> Result<()>,
) -> Result<Tensor<T>> {
    let shape = Shape::new(&x.dims().with(x.rank() - 1, outputs))?;
    then.map_or(Ok(()), |then| then.check("linear", &shape))?;
    let (bias, residual) = (bias.map(Tensor::dense), then.and_then(|then| then.add).map(Tensor::dense));
    Tensor::build(shape, |y| {
        let epilogue = gemm::Epilogue {
            bias: bias.as_ref().map_or(Bias::None, |bias| Bias::PerColumn(bias.data())),
            residual: residual.as_ref().map(|add| rows(add.data(), shape)).transpose()?,
            activation: then.map(|_| Unary::Relu),
            relu_mask: None,
        };
        product(rows(x.data(), x.dims())?, epilogue, rows_mut(y, shape)?)?;
        then.map_or(Ok(()), |then| then.drop_from(y))
    })
}

impl<T: Element> Tensor<T> {
    /// [`linear_with`](Tensor::linear_with) for a weight that was packed earlier; not recorded.
    pub(crate) fn linear_packed(
        &self,
        weight: &PackedB<T>,
        bias: Option<&Self>,
        then: Option<Epilogue<'_, T>>,
    ) -> Result<Self> {
        affine(&self.dense(), weight.cols(), bias, then, |x, epilogue, y| {
            gemm_prepacked(T::ONE, x, weight, T::ZERO, epilogue, y)
        })
    }

    /// `x · weightᵀ + bias` for x of `[…, inputs]`, weight of `[outputs, inputs]` and bias of `[outputs]`:
    /// matrix product and bias in one pass.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit.
    #[track_caller]
    pub fn linear(&self, weight: &Self, bias: Option<&Self>) -> Result<Self> {
        self.linear_with(weight, WeightLayout::OutIn, bias, None)
    }

    /// [`linear`](Tensor::linear) followed by an epilogue, in the same pass. The bits are those of the
    /// separate operations.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit, [`Error::Value`] if dropout's p is not in [0, 1].
    #[track_caller]
    pub fn linear_then(&self, weight: &Self, bias: Option<&Self>, then: Epilogue<'_, T>) -> Result<Self> {
        self.linear_with(weight, WeightLayout::OutIn, bias, Some(then))
    }

    /// [`linear`](Tensor::linear), or with an epilogue [`linear_then`](Tensor::linear_then), for a weight in
    /// either layout.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit, [`Error::Value`] if dropout's p is not in [0, 1].
    #[track_caller]
    pub fn linear_with(
        &self,
        weight: &Self,
        layout: WeightLayout,
        bias: Option<&Self>,
        then: Option<Epilogue<'_, T>>,
    ) -> Result<Self> {
        let fits = |&(inputs, outputs): &(usize, usize)| {
            self.shape().last() == Some(&inputs) && bias.is_none_or(|bias| bias.shape() == [outputs])
        };
        let Some((_, outputs)) = layout.sizes(weight.shape()).filter(fits) else {
            let bias = bias.map(|bias| format!(" and bias {:?}", bias.shape())).unwrap_or_default();
            let message = format!("x {:?} does not fit weight {:?}{bias}", self.shape(), weight.shape());
            return Err(Error::shape("linear", message));
        };
        let (x, w) = (self.dense(), weight.dense());
        let y = affine(&x, outputs, bias, then, |x, epilogue, y| {
            let w = rows(w.data(), w.dims())?;
            gemm_with_epilogue(T::ONE, x, layout.in_out(w), T::ZERO, epilogue, y)
        })?;
        let inputs = [Some(self), Some(weight), bias, then.and_then(|then| then.add)];
        record("linear", y, inputs, |[of_x, of_weight, of_bias, residual], y| {
            let epilogue = then.map(|then| then.keep(y, residual));
            let (x, shape, weight) = (x.numbers(), self.dims(), w.numbers());
            let parents = [of_x, of_weight, of_bias];
            Op::Linear(Linear { x, shape, outputs, weight, layout, epilogue, parents })
        })
    }
}
