//! Custom operations with forward and backward passes in one place.

use super::{CustomOp, no_grad};
use crate::error::Result;
use crate::simd::Element;
use crate::tensor::Tensor;

/// A custom differentiable operation, to be run by [`apply`]. Everything that it depends on apart from its
/// inputs is a field of the type. Implemented as `impl<T: Element> Function<T>`, it works for `f32` and
/// `f64`; [`gradcheck`](super::gradcheck) needs `f64`.
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
    /// What the backward pass needs from the forward pass.
    type Saved: Send + 'static;

    /// The result, and what is kept for the backward pass. The inputs are not tracked, and nothing is
    /// recorded.
    ///
    /// # Errors
    /// Any error of the computation.
    fn forward(&self, inputs: &[Tensor<T>]) -> Result<(Tensor<T>, Self::Saved)>;

    /// The gradients of the inputs, in their order and shapes, from the gradient of the result. `None` for an
    /// input that requires no gradient.
    ///
    /// # Errors
    /// Any error of the computation; it ends the backward pass.
    fn backward(&self, saved: &Self::Saved, dy: &Tensor<T>) -> Result<Vec<Option<Tensor<T>>>>;

    /// The name of the operation in errors; by default that of the type.
    fn name(&self) -> &'static str {
        short_type_name::<Self>()
    }
}

/// The name of a type without its path and its generic parameters.
pub(crate) fn short_type_name<F: ?Sized>() -> &'static str {
    let name = std::any::type_name::<F>();
    let path = name.split('<').next().unwrap_or(name);
    path.rsplit("::").next().unwrap_or(path)
}

/// Runs a function on these inputs, and records it if one of them requires a gradient.
///
/// If the function panics, the tape stays usable.
///
/// # Errors
/// Any error of the function's forward pass; [`Error::Autograd`](crate::Error::Autograd) if an input was
/// recorded on another thread. Its backward pass must return one gradient per input, each of the input's
/// shape, or else the backward pass ends with an error.
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
