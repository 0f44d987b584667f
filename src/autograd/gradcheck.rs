//! Comparing derivatives with central differences.

use super::no_grad;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Compares the gradients that [`Tensor::backward`] computes for `f` with central differences, in f64.
///
/// `f` may return a tensor of any shape; it is weighted with fixed, irregular numbers so that every output
/// counts. The step is 1e-6·max(1, |x|); the tolerance is 1e-5 relative, plus 1e-7 of the largest gradient,
/// plus 1e-9 of the weighted sum: about the accuracy of central differences for functions of moderate
/// curvature. `f` must be smooth near its inputs.
///
/// ```
/// use gristmill::{Tensor, autograd::gradcheck};
/// let x = Tensor::from_slice(&[0.3, -1.2], [2])?;
/// gradcheck(|inputs| inputs[0].tanh(), &[x])?;
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// [`Error::Autograd`] naming the input, the element and both derivatives; any error of `f`.
pub fn gradcheck(f: impl Fn(&[Tensor<f64>]) -> Result<Tensor<f64>>, inputs: &[Tensor<f64>]) -> Result<()> {
    check(&f, inputs)
}

type Function<'a> = dyn Fn(&[Tensor<f64>]) -> Result<Tensor<f64>> + 'a;

/// Not generic over the function, so that it is compiled once for all of them, in this crate.
fn check(f: &Function<'_>, inputs: &[Tensor<f64>]) -> Result<()> {
    let weighted = |inputs: &[Tensor<f64>]| weighted(&f(inputs)?);
    let leaves: Vec<_> = inputs.iter().map(|input| input.detach().requires_grad()).collect();
    let total = weighted(&leaves)?;
    total.backward()?;
    for (which, leaf) in leaves.iter().enumerate() {
        compare(&format!("input {which}"), leaf.grad(), leaf, total.item()?, &mut |moved| {
            let mut inputs = inputs.to_vec();
            inputs[which] = moved.clone();
            no_grad(|| weighted(&inputs))?.item()
        })?;
    }
    Ok(())
}

/// Combines all elements of a result into one number.
pub(crate) fn weighted(out: &Tensor<f64>) -> Result<Tensor<f64>> {
    let weights: Vec<f64> = (0..out.len()).map(|i| 0.5 + (i as f64 * 0.618).fract()).collect();
    out.mul(&Tensor::from_slice(&weights, out.shape())?)?.sum()
}

/// Compares the gradient of the input `name` at `values` with differences of the total, which `at` computes
/// with one of the values changed.
pub(crate) fn compare(
    name: &str,
    gradient: Option<Tensor<f64>>,
    values: &Tensor<f64>,
    total: f64,
    at: &mut dyn FnMut(&Tensor<f64>) -> Result<f64>,
) -> Result<()> {
    let Some(gradient) = gradient else {
        return Err(Error::autograd("gradcheck", format!("{name} received no gradient")));
    };
    // The resolution of the difference of two totals, divided by the step.
    let rounding = 1e-9 * total.abs().max(1.0);
    let (gradient, shape, values) = (gradient.to_vec(), values.dims(), values.to_vec());
    let largest = gradient.iter().fold(0.0, |largest: f64, g| largest.max(g.abs()));
    for (i, &analytic) in gradient.iter().enumerate() {
        let step = 1e-6 * values[i].abs().max(1.0);
        let mut with = |x: f64| -> Result<f64> {
            let mut moved = values.clone();
            moved[i] = x;
            at(&Tensor::from_slice(&moved, &*shape)?)
        };
        let numeric = (with(values[i] + step)? - with(values[i] - step)?) / (2.0 * step);
        let close = (analytic - numeric).abs() <= 1e-5 * numeric.abs() + 1e-7 * largest + rounding;
        if !close {
            let message =
                format!("{name}, element {i}: backward gives {analytic:e}, differences {numeric:e}");
            return Err(Error::autograd("gradcheck", message));
        }
    }
    Ok(())
}
