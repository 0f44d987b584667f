//! Operations of the user's own.

use super::{Gradients, Op, Parent, record_many};
use crate::error::{Error, Result};
use crate::simd::Element;
use crate::tensor::Tensor;

/// The backward pass of an operation written by the user, for a result that is there already.
///
/// [`Function`](super::Function) has both passes in one place and is what most operations want; this is for a result
/// that comes from elsewhere, or whose inputs are known only after it was computed.
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
    /// The gradients of the inputs, in their order and shapes, from the gradient of the result. `None` stands for an
    /// input that requires no gradient. Nothing is recorded.
    ///
    /// # Errors
    /// Whatever the computation gives; it ends the backward pass.
    fn backward(&self, dy: &Tensor<T>) -> Result<Vec<Option<Tensor<T>>>>;
}

impl<T: Element> Tensor<T> {
    /// This tensor's numbers as the result of an operation on `inputs` whose backward is `op`; `name` is that of the
    /// operation in errors. What recorded this tensor before is cut off. Without an input that requires a gradient,
    /// nothing is recorded.
    ///
    /// # Errors
    /// [`Error::Autograd`] when an input was recorded on another thread. The backward pass ends with an error if `op`
    /// does not give one gradient per input, each of the input's shape.
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
