//! Operations of the user's own: forward and backward in one place.

use super::{CustomOp, no_grad};
use crate::error::Result;
use crate::simd::Element;
use crate::tensor::Tensor;

/// A differentiable operation written by the user, to be run by [`apply`]. What it depends on beside its inputs are
/// fields of the type. `impl<T: Element> Function<T>` makes it one for `f32` and `f64`; [`gradcheck`](super::gradcheck)
/// needs `f64`.
///
/// ```
/// use gristmill::{Result, Tensor, autograd::{Function, apply, gradcheck}};
///
/// struct Cube;
/// impl Function<f64> for Cube {
///     type Saved = Tensor<f64>;
///     fn forward(&self, x: &[Tensor<f64>]) -> Result<(Tensor<f64>, Tensor<f64>)> {
///         Ok((x[0].square()?.mul(&x[0])?, x[0].clone()))
///     }
///     fn backward(&self, x: &Tensor<f64>, dy: &Tensor<f64>) -> Result<Vec<Option<Tensor<f64>>>> {
///         Ok(vec![Some(x.square()?.mul_scalar(3.0)?.mul(dy)?)])
///     }
/// }
///
/// let x = Tensor::from_slice(&[2.0, -1.0], [2])?.requires_grad();
/// apply(Cube, &[&x])?.sum()?.backward()?;
/// assert_eq!(x.grad().unwrap().to_vec(), [12.0, 3.0]);
/// gradcheck(|x| apply(Cube, &[&x[0]]), &[x.detach()])?;
/// # Ok::<(), gristmill::Error>(())
/// ```
pub trait Function<T: Element = f32>: Send + 'static {
    /// What the backward pass needs of the forward pass.
    type Saved: Send + 'static;

    /// The result, and what is kept of it. The inputs are not tracked, and nothing is recorded.
    ///
    /// # Errors
    /// Whatever the computation gives.
    fn forward(&self, inputs: &[Tensor<T>]) -> Result<(Tensor<T>, Self::Saved)>;

    /// The gradients of the inputs, in their order and shapes, from the gradient of the result. `None` stands for an
    /// input that requires no gradient.
    ///
    /// # Errors
    /// Whatever the computation gives; it ends the backward pass.
    fn backward(&self, saved: &Self::Saved, dy: &Tensor<T>) -> Result<Vec<Option<Tensor<T>>>>;

    /// The name of the operation in errors; that of the type by default.
    fn name(&self) -> &'static str {
        short_type_name::<Self>()
    }
}

/// The name of a type without its path and what it is generic over.
pub(crate) fn short_type_name<F: ?Sized>() -> &'static str {
    let name = std::any::type_name::<F>();
    let path = name.split('<').next().unwrap_or(name);
    path.rsplit("::").next().unwrap_or(path)
}

/// Runs a function on these inputs and records it, if one of them requires a gradient.
///
/// After a panic in the function the tape can be used as before.
///
/// # Errors
/// Those of the function's forward; [`Error::Autograd`](crate::Error::Autograd) when an input was recorded on another
/// thread. Its backward must give one gradient per input, each of the input's shape, or the backward pass ends with an
/// error.
#[track_caller]
pub fn apply<T: Element, F: Function<T>>(function: F, inputs: &[&Tensor<T>]) -> Result<Tensor<T>> {
    let untracked: Vec<_> = inputs.iter().map(|input| input.detach()).collect();
    let (result, saved) = no_grad(|| function.forward(&untracked))?;
    result.record_custom(function.name(), inputs, Applied { function, saved })
}

struct Applied<T: Element, F: Function<T>> {
    function: F,
    saved: F::Saved,
}

impl<T: Element, F: Function<T>> CustomOp<T> for Applied<T, F> {
    fn backward(&self, dy: &Tensor<T>) -> Result<Vec<Option<Tensor<T>>>> {
        self.function.backward(&self.saved, dy)
    }
}
