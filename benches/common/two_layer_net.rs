//! A small network without bias or normalisation: 1000 → 100 → 10 with Adam on the sum of square errors.

use gristmill::autograd::Reduction;
use gristmill::nn::{Linear, Module, ReLU, Sequential};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Result, Rng, Tensor};

use super::kernels::{Case, dimensions, numbers};

/// `training_step/two_layer_net/f32/64x1000x100x10`, batch × inputs × hidden × outputs: forward, backward,
/// update on one batch. Its result is the loss.
///
/// # Errors
/// When the shapes are absurd.
pub fn training_step([batch, inputs, hidden, outputs]: [usize; 4]) -> Result<Case> {
    let mut rng = Rng::seed(4);
    let model = Sequential::new()
        .add(Linear::new(inputs, hidden, &mut rng)?.without_bias())
        .add(ReLU)
        .add(Linear::new(hidden, outputs, &mut rng)?.without_bias());
    let mut optimizer = Adam::new(model.parameters()).lr(1e-4);
    let x = Tensor::from_slice(&numbers(batch * inputs, 1), [batch, inputs])?;
    let y = Tensor::from_slice(&numbers(batch * outputs, 2), [batch, outputs])?;
    let parameters = inputs * hidden + hidden * outputs;
    // The first layer's input wants no gradient.
    let flops = 2 * batch * (2 * inputs * hidden + 3 * hidden * outputs);
    let read = 4 * (batch * (inputs + outputs) + 4 * parameters);
    let bytes = [read, 4 * 3 * parameters].map(|bytes| bytes as f64);
    let id = format!("training_step/two_layer_net/f32/{batch}x{inputs}x{hidden}x{outputs}");
    Ok(Case::new(id, flops as f64, bytes, vec![0.0], move |loss| {
        optimizer.zero_grad();
        let output = model.forward(&x)?.mse_loss(&y, Reduction::Sum)?;
        output.backward()?;
        optimizer.step()?;
        loss[0] = output.item()?;
        Ok(())
    }))
}

/// The shape in the name of a case of this file.
pub fn shape(id: &str) -> Option<[usize; 4]> {
    dimensions(id.strip_prefix("training_step/two_layer_net/f32/")?)?.try_into().ok()
}

/// The case with this name, if it is one of this file's.
pub fn case(id: &str) -> Option<Result<Case>> {
    shape(id).map(training_step)
}
