//! Custom operations.

use super::{Gradients, Op, Parent, record_many};
use crate::error::{Error, Result};
use crate::simd::Element;
use crate::tensor::Tensor;

/// The backward pass of a custom operation whose result has already been computed.
///
/// Most operations should implement [`Function`](super::Function), which has both passes in one place; this
/// trait is for results that are computed elsewhere, or whose inputs are known only afterwards.
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
    /// The gradients of the inputs, in their order and shapes, from the gradient of the result. `None` for an
    /// input that requires no gradient. Nothing is recorded meanwhile.
    ///
    /// # Errors
    /// Any error of the computation; it ends the backward pass.
    fn backward(&self, dy: &Tensor<T>) -> Result<Vec<Option<Tensor<T>>>>;
}

impl<T: Element> Tensor<T> {
    /// This tensor's numbers as the result of an operation on `inputs` whose backward pass is `op`; `name` is
    /// the name of the operation in errors. Earlier records of this tensor are dropped. If no input requires
    /// a gradient, nothing is recorded.
    ///
    /// # Errors
    /// [`Error::Autograd`] if an input was recorded on another thread. The backward pass ends with an error
    /// if `op` does not return one gradient per input, each of the input's shape.
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
