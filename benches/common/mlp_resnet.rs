//! The network of the main job: a training step on a fixed batch, inference, and an optimizer's step alone.

use gristmill::nn::{BatchNorm1d, Dropout, Linear, Module, Parameter, ReLU, Residual, Sequential};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Result, Rng, Tensor};

use super::kernels::{Case, numbers};

/// The numbers of an image.
const INPUTS: usize = 784;
const CLASSES: usize = 10;
const BLOCKS: usize = 3;
/// Rows of the batch that the gradients of an optimizer's step are from.
const BATCH: usize = 100;

/// 784 → hidden, three residual blocks of hidden → hidden/2 → hidden with batch normalisation, hidden → 10.
///
/// # Errors
/// When the shapes are absurd.
pub fn network(hidden: usize) -> Result<Sequential> {
    let mut rng = Rng::seed(4);
    let mut model = Sequential::new().add(Linear::new(INPUTS, hidden, &mut rng)?).add(ReLU);
    for _ in 0..BLOCKS {
        let inner = Sequential::new()
            .add(Linear::new(hidden, hidden / 2, &mut rng)?)
            .add(BatchNorm1d::new(hidden / 2)?)
            .add(ReLU)
            .add(Dropout::new(0.1, &mut rng)?)
            .add(Linear::new(hidden / 2, hidden, &mut rng)?)
            .add(BatchNorm1d::new(hidden)?);
        model = model.add(Residual::new(inner)).add(ReLU);
    }
    Ok(model.add(Linear::new(hidden, CLASSES, &mut rng)?))
}

fn images(batch: usize) -> Result<Tensor> {
    Tensor::from_slice(&numbers(batch * INPUTS, 1), [batch, INPUTS])
}

/// The products of one step, m × k × n with the layout of A and B, as in the names of cases: forward, then
/// the gradients of the weights, then those of the activations, which the first layer does not need.
pub fn products(batch: usize, hidden: usize) -> Vec<(&'static str, [usize; 3])> {
    let half = hidden / 2;
    let mut layers = vec![(INPUTS, hidden)];
    for _ in 0..BLOCKS {
        layers.extend([(hidden, half), (half, hidden)]);
    }
    layers.push((hidden, CLASSES));
    let forward = layers.iter().map(|&(from, to)| ("NT", [batch, from, to]));
    let weights = layers.iter().map(|&(from, to)| ("TN", [to, batch, from]));
    let activations = layers[1..].iter().map(|&(from, to)| ("NN", [batch, to, from]));
    forward.chain(weights).chain(activations).collect()
}

/// Operations in the products, of the whole step or of the forward pass alone.
fn flops(batch: usize, hidden: usize, training: bool) -> f64 {
    let products = products(batch, hidden);
    let wanted = products.iter().filter(|(order, _)| training || *order == "NT");
    wanted.map(|(_, [m, k, n])| 2.0 * (m * k * n) as f64).sum()
}

/// `training_step/mlp_resnet/f32/100x100`: forward, backward, update on one batch. Its result is the loss.
///
/// # Errors
/// When the shapes are absurd.
pub fn training_step(batch: usize, hidden: usize) -> Result<Case> {
    let model = network(hidden)?;
    let mut optimizer = Adam::new(model.parameters()).lr(1e-3).weight_decay(1e-3);
    let parameters: usize = model.parameters().iter().map(Parameter::len).sum();
    let images = images(batch)?;
    let labels: Vec<usize> = (0..batch).map(|i| i * 7 % CLASSES).collect();
    // Adam reads parameters, gradients and both moments, and writes all but the gradients.
    let bytes = [4 * (batch * INPUTS + 4 * parameters), 4 * 3 * parameters].map(|bytes| bytes as f64);
    let id = format!("training_step/mlp_resnet/f32/{batch}x{hidden}");
    Ok(Case::new(id, flops(batch, hidden, true), bytes, vec![0.0], move |loss| {
        optimizer.zero_grad();
        let output = model.forward(&images)?.cross_entropy(&labels)?;
        output.backward()?;
        optimizer.step()?;
        loss[0] = output.item()?;
        Ok(())
    }))
}

/// `inference/mlp_resnet/f32/1x100`: a batch through the network in evaluation mode, and the network's
/// numbers in the order of its parameters. The results are the logits.
///
/// # Errors
/// When the shapes are absurd.
pub fn inference(batch: usize, hidden: usize) -> Result<(Case, Vec<f32>)> {
    let model = network(hidden)?;
    model.eval();
    let weights: Vec<f32> = model.parameters().iter().flat_map(|p| p.value().to_vec()).collect();
    let images = images(batch)?;
    let bytes = [4 * (batch * INPUTS + weights.len()), 4 * batch * CLASSES].map(|bytes| bytes as f64);
    let id = format!("inference/mlp_resnet/f32/{batch}x{hidden}");
    let case = Case::new(id, flops(batch, hidden, false), bytes, vec![0.0; batch * CLASSES], move |logits| {
        let output = gristmill::autograd::no_grad(|| model.forward(&images))?;
        logits.copy_from_slice(&output.to_vec());
        Ok(())
    });
    Ok((case, weights))
}

/// `optimizer_step/mlp_resnet/f32/100`: Adam over the parameters of the network. The result is how far the
/// first step moves a parameter in the mean: nearly the learning rate.
///
/// # Errors
/// When the shapes are absurd.
pub fn optimizer_step(hidden: usize) -> Result<Case> {
    let model = network(hidden)?;
    let parameters = model.parameters();
    let labels: Vec<usize> = (0..BATCH).map(|i| i * 7 % CLASSES).collect();
    model.forward(&images(BATCH)?)?.cross_entropy(&labels)?.backward()?;
    let start: Vec<f32> = parameters.iter().flat_map(|p| p.value().to_vec()).collect();
    let mut optimizer = Adam::new(parameters.clone()).lr(1e-3);
    let bytes = [4 * 4 * start.len(), 4 * 3 * start.len()].map(|bytes| bytes as f64);
    let id = format!("optimizer_step/mlp_resnet/f32/{hidden}");
    let mut first = true;
    Ok(Case::new(id, 0.0, bytes, vec![0.0], move |moved| {
        optimizer.step()?;
        if std::mem::take(&mut first) {
            let now = parameters.iter().flat_map(|p| p.value().to_vec());
            moved[0] = start.iter().zip(now).map(|(a, b)| (a - b).abs()).sum::<f32>() / start.len() as f32;
        }
        Ok(())
    }))
}

/// The case with this name, if it is one of this file's.
pub fn case(id: &str) -> Option<Result<Case>> {
    let (family, shape) = id.split_once("/mlp_resnet/f32/")?;
    match (family, super::kernels::dimensions(shape)?.as_slice()) {
        ("training_step", &[batch, hidden]) => Some(training_step(batch, hidden)),
        ("inference", &[batch, hidden]) => Some(inference(batch, hidden).map(|(case, _)| case)),
        ("optimizer_step", &[hidden]) => Some(optimizer_step(hidden)),
        _ => None,
    }
}
