//! Operations that can be fused into an affine or normalising operation before them: residual, ReLU, dropout.

use crate::autograd::Parent;
use crate::error::{Error, Result};
use crate::kernels::dropout::{self, Key};
use crate::kernels::map;
use crate::simd::Element;
use crate::tensor::{Numbers, Tensor};

/// `dropout(relu(y + add))` for a result `y`; without `add` and `dropout`, just the ReLU.
///
/// The results and gradients of a fused operation are bit-identical to those of the separate operations.
#[derive(Clone, Copy)]
pub struct Epilogue<'a, T: Element> {
    /// Of the shape of y.
    pub add: Option<&'a Tensor<T>>,
    /// Probability and mask, as for [`Tensor::dropout`].
    pub dropout: Option<(f64, Key)>,
}

impl<T: Element> Default for Epilogue<'_, T> {
    /// The ReLU alone.
    fn default() -> Self {
        Self { add: None, dropout: None }
    }
}

impl<'a, T: Element> Epilogue<'a, T> {
    /// Runs the separate operations.
    ///
    /// # Errors
    /// [`Error::Shape`] if `add` does not have the shape of y; [`Error::Value`] if the probability is not in
    /// [0, 1].
    #[track_caller]
    pub fn apply(self, y: &Tensor<T>) -> Result<Tensor<T>> {
        let y = match self.add {
            Some(add) => y.add(add)?.relu()?,
            None => y.relu()?,
        };
        match self.dropout {
            Some((p, key)) => y.dropout(p, key),
            None => Ok(y),
        }
    }

    /// Checks that the epilogue fits a result of this shape.
    pub(super) fn check(&self, op: &'static str, shape: &[usize]) -> Result<()> {
        if let Some(add) = self.add.filter(|add| add.shape() != shape) {
            let message = format!("what is added is {:?}, expected {shape:?}", add.shape());
            return Err(Error::shape(op, message));
        }
        Ok(())
    }

    /// Applies dropout alone, to numbers that have been through the rest.
    pub(super) fn drop_from(self, y: &mut [T]) -> Result<()> {
        self.dropout.map_or(Ok(()), |(p, key)| dropout::in_place(p, key, y))
    }

    /// What the backward pass of the epilogue needs.
    pub(super) fn keep(self, y: &Tensor<T>, residual: Parent) -> KeptEpilogue<T> {
        let scale = self.dropout.map_or(T::ONE, |(p, _)| dropout::scale(p));
        KeptEpilogue { y: y.numbers(), scale, residual }
    }
}

/// The output, which is above 0 exactly where the gradient passes: that holds for a ReLU, and dropout
/// multiplies its result by 0 or by at least 1.
pub(super) struct KeptEpilogue<T: Element> {
    pub y: Numbers<T>,
    /// The factors of dropout.
    pub scale: T,
    pub residual: Parent,
}

impl<T: Element> KeptEpilogue<T> {
    /// The gradient before the ReLU.
    pub fn backward(&self, dy: &Tensor<T>) -> Result<Tensor<T>> {
        Tensor::build(dy.dims(), |dz| map::gate(self.y.data(), self.scale, dy.data(), dz))
    }
}
