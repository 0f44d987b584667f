//! Operations of the user's own.

use super::{Gradients, Op, Parent, record_many};
use crate::error::{Error, Result};
use crate::simd::Element;
use crate::tensor::Tensor;

/// A differentiable operation written by the user: the forward pass has run, this is what its backward needs.
///
/// ```
/// use gristmill::{Result, Tensor, autograd::CustomOp};
///
/// struct Cube(Tensor);
/// impl CustomOp<f32> for Cube {
///     fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
///         Ok(vec![Some(self.0.square()?.mul_scalar(3.0)?.mul(dy)?)])
///     }
/// }
///
/// let x = Tensor::from_slice(&[2.0_f32], [1])?.requires_grad();
/// let y = x.detach().powf(3.0)?;
/// let y = y.record_custom("cube", &[&x], Cube(x.detach()))?;
/// y.backward()?;
/// assert_eq!(x.grad().unwrap().to_vec(), [12.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub trait CustomOp<T: Element>: Send {
    /// The gradients of the inputs, in their order, from the gradient of the result; `None` for an input without one.
    ///
    /// # Errors
    /// Whatever the computation gives; it ends the backward pass.
    fn backward(&self, dy: &Tensor<T>) -> Result<Vec<Option<Tensor<T>>>>;
}

impl<T: Element> Tensor<T> {
    /// This tensor as the result of an operation on `inputs` whose backward is `op`.
    ///
    /// # Errors
    /// [`Error::Autograd`] when an input was recorded on another thread.
    #[track_caller]
    pub fn record_custom(
        &self,
        name: &'static str,
        inputs: &[&Tensor<T>],
        op: impl CustomOp<T> + 'static,
    ) -> Result<Tensor<T>> {
        let shapes = inputs.iter().map(|input| input.dims()).collect();
        record_many(name, self.detach(), inputs, |parents| {
            Op::Custom(Custom { name, parents, shapes, op: Box::new(op) })
        })
    }
}

pub(crate) struct Custom<T: Element> {
    name: &'static str,
    parents: Vec<Parent>,
    shapes: Vec<crate::tensor::Shape>,
    op: Box<dyn CustomOp<T>>,
}

impl<T: Element> super::ops::Backward<T> for Custom<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let inputs = self.op.backward(&dy)?;
        if inputs.len() != self.parents.len() {
            let message =
                format!("backward gave {} gradients for {} inputs", inputs.len(), self.parents.len());
            return Err(Error::autograd(self.name, message));
        }
        for ((&parent, shape), gradient) in self.parents.iter().zip(&self.shapes).zip(inputs) {
            match gradient {
                Some(gradient) if gradient.shape() != &**shape => {
                    let message =
                        format!("backward gave a gradient of shape {:?} for {shape:?}", gradient.shape());
                    return Err(Error::shape(self.name, message));
                }
                Some(gradient) => gradients.add(parent, || Ok(gradient.detach()))?,
                None if parent.is_some() => {
                    return Err(Error::autograd(self.name, "an input that requires a gradient got none"));
                }
                None => {}
            }
        }
        Ok(())
    }
}
