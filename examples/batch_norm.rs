//! Batch normalisation on NumPy's seed 123: forward and backward beside the formula, running statistics in
//! both conventions of momentum and variance, several forward passes before one backward pass.
//!
//! ```text
//! cargo run --release --example batch_norm
//! ```

use gristmill::nn::{BatchNorm1d, Module, RunningVar};
use gristmill::rng::NumpyRng;
use gristmill::{Result, Rng, Tensor};

const EPS: f64 = 1e-5;
const FEATURES: usize = 5;

/// NumPy's `random(shape)`.
fn draw(rng: &mut NumpyRng, shape: &[usize]) -> Result<Tensor<f64>> {
    let numbers: Vec<f64> = (0..shape.iter().product()).map(|_| rng.random_sample()).collect();
    Tensor::from_slice(&numbers, shape)
}

fn layer(weight: &Tensor<f64>, bias: &Tensor<f64>) -> Result<BatchNorm1d<f64>> {
    let layer = BatchNorm1d::new(FEATURES)?.eps(EPS);
    layer.weight().set(weight)?;
    layer.bias().set(bias)?;
    Ok(layer)
}

/// What one forward and backward pass in training gave, and dx by the formula.
pub(crate) struct Passes {
    pub(crate) x: Tensor<f64>,
    pub(crate) y: Tensor<f64>,
    pub(crate) dx: Option<Tensor<f64>>,
    pub(crate) dweight: Option<Tensor<f64>>,
    pub(crate) dbias: Option<Tensor<f64>>,
    pub(crate) dx_on_paper: Tensor<f64>,
}

pub(crate) fn passes() -> Result<Passes> {
    let mut rng = Rng::numpy(123);
    let x = draw(&mut rng, &[3, FEATURES])?.requires_grad();
    let (weight, bias) = (draw(&mut rng, &[FEATURES])?, draw(&mut rng, &[FEATURES])?);
    let dy = draw(&mut rng, &[3, FEATURES])?;
    let layer = layer(&weight, &bias)?;
    let y = layer.forward(&x)?;
    y.backward_with(&dy)?;
    Ok(Passes {
        dx: x.grad(),
        dweight: layer.weight().grad(),
        dbias: layer.bias().grad(),
        dx_on_paper: backward_on_paper(&x.detach(), &weight, &dy)?,
        x: x.detach(),
        y: y.detach(),
    })
}

/// dx = (n·dx̂ − Σdx̂ − x̂·Σ(dx̂·x̂)) / (n·σ).
pub(crate) fn backward_on_paper(
    x: &Tensor<f64>,
    weight: &Tensor<f64>,
    dy: &Tensor<f64>,
) -> Result<Tensor<f64>> {
    let n = x.shape()[0] as f64;
    let sigma = x.var_axes(&[0], 0, true)?.add_scalar(EPS)?.sqrt()?;
    let normal = &(x - &x.mean_axes(&[0], true)?) / &sigma;
    let dnormal = dy * weight;
    let sum = dnormal.sum_axes(&[0], true)?;
    let projection = &normal * &(&dnormal * &normal).sum_axes(&[0], true)?;
    Ok(&(&(&(&dnormal * n) - &sum) - &projection) / &(&sigma * n))
}

/// Three batches through one layer in training, the statistics after each, and the same batches in
/// evaluation.
pub(crate) struct History {
    pub(crate) training: Vec<Tensor<f64>>,
    pub(crate) mean: Vec<Tensor<f64>>,
    pub(crate) var: Vec<Tensor<f64>>,
    pub(crate) evaluation: Vec<Tensor<f64>>,
}

/// `momentum` is the weight of the new batch, as in PyTorch.
pub(crate) fn running(momentum: f64, kind: RunningVar) -> Result<History> {
    let mut rng = Rng::numpy(123);
    let x = draw(&mut rng, &[3, 3, FEATURES])?;
    let (weight, bias) = (draw(&mut rng, &[FEATURES])?, draw(&mut rng, &[FEATURES])?);
    let layer = layer(&weight, &bias)?.momentum(momentum)?.running_var(kind);
    let batches = (0..3).map(|i| x.slice(0, i..i + 1)?.squeeze(0)).collect::<Result<Vec<_>>>()?;
    let (mut training, mut mean, mut var) = (Vec::new(), Vec::new(), Vec::new());
    for batch in &batches {
        training.push(layer.forward(batch)?.detach());
        let stats = layer.running_stats();
        mean.push(stats.0);
        var.push(stats.1);
    }
    layer.eval();
    let evaluation = batches.iter().map(|batch| Ok(layer.forward(batch)?.detach())).collect::<Result<_>>()?;
    Ok(History { training, mean, var, evaluation })
}

/// A NumPy library's layer: momentum is the weight of the old value, γ uniform, β 0.
pub(crate) fn layer_of_old_weight(old_weight: f64, rng: &mut NumpyRng) -> Result<BatchNorm1d<f64>> {
    let weight = draw(rng, &[FEATURES])?;
    layer(&weight, &Tensor::zeros([FEATURES])?)?.momentum(1.0 - old_weight)
}

/// dx of each batch, dγ and dβ of all.
pub(crate) struct Gradients {
    pub(crate) dx: Vec<Tensor<f64>>,
    pub(crate) dweight: Tensor<f64>,
    pub(crate) dbias: Tensor<f64>,
}

/// Three forward passes, then one backward pass for all outputs, or a backward pass after each forward pass.
pub(crate) fn gradients(at_once: bool) -> Result<Gradients> {
    let mut rng = Rng::numpy(123);
    let layer = layer_of_old_weight(0.9, &mut rng)?;
    let (mut inputs, mut outputs, mut dy) = (Vec::new(), Vec::new(), Vec::new());
    for rows in [3, 4, 6] {
        inputs.push(draw(&mut rng, &[rows, FEATURES])?.requires_grad());
        dy.push(draw(&mut rng, &[rows, FEATURES])?);
    }
    for (x, dy) in inputs.iter().zip(&dy) {
        let y = layer.forward(x)?;
        if at_once {
            outputs.push(y);
        } else {
            y.backward_with(dy)?;
        }
    }
    if at_once {
        let all = |list: &[Tensor<f64>]| Tensor::concat(&list.iter().collect::<Vec<_>>(), 0);
        all(&outputs)?.backward_with(&all(&dy)?)?;
    }
    let grad = |grad: Option<Tensor<f64>>| grad.map_or_else(|| Tensor::full([1], f64::NAN), Ok);
    Ok(Gradients {
        dx: inputs.iter().map(|x| grad(x.grad())).collect::<Result<_>>()?,
        dweight: grad(layer.weight().grad())?,
        dbias: grad(layer.bias().grad())?,
    })
}

/// A line for each row.
fn show(name: &str, tensor: &Tensor<f64>) {
    for (i, row) in tensor.to_vec().chunks(FEATURES).enumerate() {
        let numbers: String = row.iter().map(|x| format!(" {x:>11.8}")).collect();
        println!("  {:<24}{numbers}", if i == 0 { name } else { "" });
    }
}

fn main() -> Result<()> {
    println!("Training, x of [3, 5] from NumPy's seed 123");
    let passes = passes()?;
    show("x", &passes.x);
    show("y", &passes.y);
    for (name, gradient) in [("dx", &passes.dx), ("dγ", &passes.dweight), ("dβ", &passes.dbias)] {
        gradient.iter().for_each(|gradient| show(name, gradient));
    }
    show("dx by the formula", &passes.dx_on_paper);

    println!("\nRunning statistics of three batches, momentum 0.2 = the weight of the new batch");
    let (pytorch, needle) = (running(0.2, RunningVar::Unbiased)?, running(0.2, RunningVar::Biased)?);
    for i in 0..3 {
        println!(" after batch {}", i + 1);
        show("y in training", &pytorch.training[i].slice(0, 0..1)?);
        show("running mean", &pytorch.mean[i]);
        show("running var, unbiased", &pytorch.var[i]);
        show("running var, biased", &needle.var[i]);
    }
    println!(" the first batch in evaluation");
    show("y, unbiased var", &pytorch.evaluation[0]);
    show("y, biased var", &needle.evaluation[0]);

    println!("\nMomentum 0.9 = the weight of the old value: 1 − 0.9 here; γ uniform, β 0");
    let mut rng = Rng::numpy(123);
    let layer = layer_of_old_weight(0.9, &mut rng)?;
    let x = draw(&mut rng, &[3, FEATURES])?;
    layer.forward(&x)?;
    show("γ", &layer.weight().value());
    show("running mean", &layer.running_stats().0);
    show("0.9·0 + 0.1·mean", &x.mean_axes(&[0], false)?.mul_scalar(0.1)?);
    layer.reset_running_stats()?;
    let (mean, var) = layer.running_stats();
    show("mean after reset", &mean);
    show("var after reset", &var);

    println!("\nThree forward passes of 3, 4 and 6 rows, then one backward pass; or each with its own");
    let (once, each) = (gradients(true)?, gradients(false)?);
    for (once, each) in once.dx.iter().zip(&each.dx) {
        show("dx[0], one backward pass", &once.slice(0, 0..1)?);
        show("dx[0], three", &each.slice(0, 0..1)?);
    }
    show("dγ, one backward pass", &once.dweight);
    show("dγ, three", &each.dweight);
    show("dβ, one backward pass", &once.dbias);
    show("dβ, three", &each.dbias);

    println!("\n{}", layer.summary());
    Ok(())
}
