//! Derivatives against central differences.

use super::no_grad;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Compares the gradients that [`Tensor::backward`] gives for `f` with central differences, in f64.
///
/// `f` may give a tensor of any shape; it is weighted with fixed, irregular numbers so that every output counts. The
/// step is 1e-6·max(1, |x|), the tolerance 1e-5 relative, plus 1e-7 of the largest gradient, plus 1e-9 of the weighted
/// sum: about what central differences can tell for functions of moderate curvature. `f` must be smooth near its inputs.
///
/// ```
/// use gristmill::{Tensor, autograd::gradcheck};
/// let x = Tensor::from_slice(&[0.3, -1.2], [2])?;
/// gradcheck(|inputs| inputs[0].tanh(), &[x])?;
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// [`Error::Autograd`] naming the input, the element and both derivatives; errors of `f`.
pub fn gradcheck(f: impl Fn(&[Tensor<f64>]) -> Result<Tensor<f64>>, inputs: &[Tensor<f64>]) -> Result<()> {
    check(&f, inputs)
}

type Function<'a> = dyn Fn(&[Tensor<f64>]) -> Result<Tensor<f64>> + 'a;

/// Compiled here, once for all functions.
fn check(f: &Function<'_>, inputs: &[Tensor<f64>]) -> Result<()> {
    let weighted = |inputs: &[Tensor<f64>]| -> Result<Tensor<f64>> {
        let out = f(inputs)?;
        let weights: Vec<f64> = (0..out.len()).map(|i| 0.5 + (i as f64 * 0.618).fract()).collect();
        out.mul(&Tensor::from_slice(&weights, out.shape())?)?.sum()
    };
    let leaves: Vec<_> = inputs.iter().map(Tensor::requires_grad).collect();
    let total = weighted(&leaves)?;
    total.backward()?;
    // What the difference of two totals cannot tell, over the step.
    let rounding = 1e-9 * total.item()?.abs().max(1.0);
    for (which, leaf) in leaves.iter().enumerate() {
        let Some(gradient) = leaf.grad() else {
            return Err(Error::autograd("gradcheck", format!("input {which} received no gradient")));
        };
        let (gradient, values) = (gradient.to_vec(), leaf.to_vec());
        let largest = gradient.iter().fold(0.0, |largest: f64, g| largest.max(g.abs()));
        for (i, &analytic) in gradient.iter().enumerate() {
            let step = 1e-6 * values[i].abs().max(1.0);
            let at = |x: f64| -> Result<f64> {
                let mut moved = values.clone();
                moved[i] = x;
                let mut inputs = inputs.to_vec();
                inputs[which] = Tensor::from_slice(&moved, leaf.shape())?;
                no_grad(|| weighted(&inputs))?.item()
            };
            let numeric = (at(values[i] + step)? - at(values[i] - step)?) / (2.0 * step);
            let close = (analytic - numeric).abs() <= 1e-5 * numeric.abs() + 1e-7 * largest + rounding;
            if !close {
                let message = format!(
                    "input {which}, element {i}: backward gives {analytic:e}, differences {numeric:e}"
                );
                return Err(Error::autograd("gradcheck", message));
            }
        }
    }
    Ok(())
}
