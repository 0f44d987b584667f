//! Checks the derivatives of a module against central differences.

use super::Module;
use super::module::self_visit;
use super::visit::parameters;
use crate::autograd::gradcheck::{compare, weighted};
use crate::autograd::no_grad;
use crate::error::Result;
use crate::tensor::Tensor;

/// Compares the gradients of a module's input and of its parameters (except frozen ones) with central
/// differences, as [`autograd::gradcheck`](crate::autograd::gradcheck) does. A module that draws random
/// numbers draws the same ones in each pass. Afterwards, parameters and generators are as they were before
/// and gradients are cleared, but states, such as running means, have changed.
///
/// ```
/// use gristmill::{Rng, Tensor, nn::{GELU, Linear, Sequential, gradcheck}};
/// let mut rng = Rng::seed(4);
/// let model: Sequential<f64> = Sequential::new().add(Linear::new(3, 4, &mut rng)?).add(GELU::default());
/// gradcheck(&model, &Tensor::randn([5, 3], 0.0, 1.0, &mut rng)?)?;
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// [`Error::Autograd`](crate::Error::Autograd) naming the input or the parameter, the element and both
/// derivatives; any error of the module itself.
pub fn gradcheck<M: Module<f64> + ?Sized>(module: &M, x: &Tensor<f64>) -> Result<()> {
    let generators = module.rng_state();
    let total = |x: &Tensor<f64>| {
        module.set_rng_state(&generators)?;
        weighted(&module.forward(x)?)
    };
    module.zero_grad();
    let leaf = x.detach().requires_grad();
    let first = total(&leaf)?;
    first.backward()?;
    let (first, at) = (first.item()?, |x: &Tensor<f64>| no_grad(|| total(x))?.item());
    compare("the input", leaf.grad(), x, first, &mut |moved| at(moved))?;
    for (name, parameter) in
        parameters(&mut self_visit(module)).iter().filter(|(_, parameter)| !parameter.is_frozen())
    {
        let value = parameter.value();
        let compared = compare(name, parameter.grad(), &value, first, &mut |moved| {
            parameter.set(moved)?;
            at(x)
        });
        parameter.set(&value)?;
        compared?;
    }
    module.set_rng_state(&generators)?;
    module.zero_grad();
    Ok(())
}
