//! A network of two layers without biases, fitted to noise in six ways: from the kernels alone up to a module
//! of one's own. The loss is the sum of the square errors.
//!
//! ```text
//! cargo run --release --example two_layer_net
//! cargo run --release --example two_layer_net -- --way 5 --f64 --svg losses.svg
//! ```

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use gristmill::autograd::{Reduction, no_grad};
use gristmill::kernels::gemm::{MatMut, MatRef, gemm};
use gristmill::kernels::map::{self, Binary, Unary};
use gristmill::kernels::reduce::{self, Reduce};
use gristmill::nn::{Linear, MSELoss, Module, Parameter, ReLU, Sequential, Visitor};
use gristmill::optim::{Adam, Optimizer, SGD};
use gristmill::plot::Curves;
use gristmill::{Element, Result, Rng, Tensor};

const BATCH: usize = 64;
const INPUTS: usize = 1000;
const HIDDEN: usize = 100;
const OUTPUTS: usize = 10;
/// For weights from N(0, 1), whose gradients are large.
const SMALL_LR: f64 = 1e-6;
/// For the layers' own starting weights.
const LR: f64 = 1e-4;

/// Inputs, targets and starting weights, all from N(0, 1).
pub(crate) struct Problem<T: Element> {
    x: Tensor<T>,
    y: Tensor<T>,
    w1: Tensor<T>,
    w2: Tensor<T>,
    seed: u64,
}

impl<T: Element> Problem<T> {
    pub(crate) fn new(seed: u64) -> Result<Self> {
        let mut rng = Rng::seed(seed);
        let mut draw = |shape: [usize; 2]| Tensor::randn(shape, 0.0, 1.0, &mut rng);
        Ok(Self {
            x: draw([BATCH, INPUTS])?,
            y: draw([BATCH, OUTPUTS])?,
            w1: draw([INPUTS, HIDDEN])?,
            w2: draw([HIDDEN, OUTPUTS])?,
            seed,
        })
    }

    /// Two layers that start as PyTorch's do.
    fn layers(&self) -> Result<(Linear<T>, Linear<T>)> {
        let mut rng = Rng::seed(self.seed.wrapping_add(1));
        let first = Linear::new(INPUTS, HIDDEN, &mut rng)?.without_bias();
        Ok((first, Linear::new(HIDDEN, OUTPUTS, &mut rng)?.without_bias()))
    }
}

/// One of the six ways. `run` gives the loss before each of the steps.
pub(crate) struct Way<T: Element> {
    pub(crate) number: u8,
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Problem<T>, usize) -> Result<Vec<f64>>,
}

pub(crate) fn ways<T: Element>() -> [Way<T>; 7] {
    [
        Way { number: 1, name: "by hand", run: by_hand },
        Way { number: 2, name: "tensors", run: tensors },
        Way { number: 3, name: "autograd", run: autograd },
        Way { number: 4, name: "nn, N(0,1)", run: sequential_normal },
        Way { number: 4, name: "nn", run: sequential },
        Way { number: 5, name: "Adam", run: adam },
        Way { number: 6, name: "own module", run: own_module },
    ]
}

/// c = a · b.
fn product<T: Element>(a: MatRef<'_, T>, b: MatRef<'_, T>, c: &mut [T]) -> Result<()> {
    gemm(T::ONE, a, b, T::ZERO, MatMut::row_major(c, a.rows(), b.cols())?)
}

/// w ← w − lr·dw.
fn descend<T: Element>(lr: f64, dw: &[T], w: &mut [T]) -> Result<()> {
    map::axpby(T::from_f64(-lr), dw, T::ONE, w)
}

/// 1. Slices and kernels: every array and every derivative in plain sight.
fn by_hand<T: Element>(problem: &Problem<T>, steps: usize) -> Result<Vec<f64>> {
    let (x, target) = (problem.x.to_vec(), problem.y.to_vec());
    let x = MatRef::row_major(&x, BATCH, INPUTS)?;
    let (mut w1, mut w2) = (problem.w1.to_vec(), problem.w2.to_vec());
    let zeros = |len: usize| vec![T::ZERO; len];
    let (mut a, mut h) = (zeros(BATCH * HIDDEN), zeros(BATCH * HIDDEN));
    let (mut da, mut dh) = (zeros(BATCH * HIDDEN), zeros(BATCH * HIDDEN));
    let (mut y, mut error) = (zeros(BATCH * OUTPUTS), zeros(BATCH * OUTPUTS));
    let mut dy = zeros(BATCH * OUTPUTS);
    let (mut dw1, mut dw2) = (zeros(w1.len()), zeros(w2.len()));
    let step = |_| {
        product(x, MatRef::row_major(&w1, INPUTS, HIDDEN)?, &mut a)?;
        map::unary(Unary::Relu, &a, &mut h)?;
        let weight = MatRef::row_major(&w2, HIDDEN, OUTPUTS)?;
        product(MatRef::row_major(&h, BATCH, HIDDEN)?, weight, &mut y)?;
        map::binary(Binary::Sub, &y, &target, &mut error)?;
        let loss = reduce::all(Reduce::SumOfSquares, &error)?;

        map::binary_scalar(Binary::Mul, &error, T::from_f64(2.0), &mut dy)?;
        let gradient = MatRef::row_major(&dy, BATCH, OUTPUTS)?;
        product(MatRef::row_major(&h, BATCH, HIDDEN)?.t(), gradient, &mut dw2)?;
        product(gradient, weight.t(), &mut dh)?;
        map::UnaryBackward { op: Unary::Relu, x: &a, y: &h, dy: &dh, dx: &mut da }.run()?;
        product(x.t(), MatRef::row_major(&da, BATCH, HIDDEN)?, &mut dw1)?;

        descend(SMALL_LR, &dw1, &mut w1)?;
        descend(SMALL_LR, &dw2, &mut w2)?;
        Ok(loss.to_f64())
    };
    (0..steps).map(step).collect()
}

/// 2. The same with tensors, which take care of shapes and memory.
fn tensors<T: Element>(problem: &Problem<T>, steps: usize) -> Result<Vec<f64>> {
    let Problem { x, y, .. } = problem;
    let (mut w1, mut w2) = (problem.w1.clone(), problem.w2.clone());
    let (two, lr) = (T::from_f64(2.0), T::from_f64(SMALL_LR));
    let step = |_| {
        let a = x.matmul(&w1)?;
        let h = a.relu()?;
        let error = h.matmul(&w2)?.sub(y)?;
        let loss = error.square()?.sum()?.item()?;

        let dy = error.mul_scalar(two)?;
        let dw2 = h.t()?.matmul(&dy)?;
        let positive =
            a.to_vec().iter().map(|&a| if a > T::ZERO { T::ONE } else { T::ZERO }).collect::<Vec<T>>();
        let da = dy.matmul(&w2.t()?)?.mul(&Tensor::from_slice(&positive, a.shape())?)?;
        let dw1 = x.t()?.matmul(&da)?;

        w1 = w1.sub(&dw1.mul_scalar(lr)?)?;
        w2 = w2.sub(&dw2.mul_scalar(lr)?)?;
        Ok(loss.to_f64())
    };
    (0..steps).map(step).collect()
}

/// 3. Gradients from the tape, the update by hand and not recorded.
fn autograd<T: Element>(problem: &Problem<T>, steps: usize) -> Result<Vec<f64>> {
    let Problem { x, y, .. } = problem;
    let (mut w1, mut w2) = (problem.w1.requires_grad(), problem.w2.requires_grad());
    let lr = T::from_f64(SMALL_LR);
    let step = |_| {
        let loss = x.matmul(&w1)?.relu()?.matmul(&w2)?.sub(y)?.square()?.sum()?;
        loss.backward()?;
        no_grad(|| {
            for w in [&mut w1, &mut w2] {
                if let Some(grad) = w.grad() {
                    // A new leaf, whose gradient is empty.
                    *w = w.sub(&grad.mul_scalar(lr)?)?.requires_grad();
                }
            }
            Result::Ok(())
        })?;
        Ok(loss.item()?.to_f64())
    };
    (0..steps).map(step).collect()
}

/// The steps of a model; `update` changes its parameters, whose gradients are there.
fn train<T: Element>(
    problem: &Problem<T>,
    steps: usize,
    model: &dyn Module<T>,
    mut update: impl FnMut() -> Result<()>,
) -> Result<Vec<f64>> {
    let criterion = MSELoss { reduction: Reduction::Sum };
    let step = |_| {
        let loss = criterion.forward(&model.forward(&problem.x)?, &problem.y)?;
        model.zero_grad();
        loss.backward()?;
        update()?;
        Ok(loss.item()?.to_f64())
    };
    (0..steps).map(step).collect()
}

fn stack<T: Element>((first, second): (Linear<T>, Linear<T>)) -> Sequential<T> {
    Sequential::new().add(first).add(ReLU).add(second)
}

/// The update of way 4: each parameter in turn.
fn descend_all<T: Element>(parameters: &[Parameter<T>]) -> Result<()> {
    parameters.iter().try_for_each(|parameter| parameter.update(|w, dw| descend(SMALL_LR, dw, w)))
}

/// 4. Layers, a loss, and the update by hand, from the weights of ways 1 to 3.
fn sequential_normal<T: Element>(problem: &Problem<T>, steps: usize) -> Result<Vec<f64>> {
    // A layer's weight is [outputs, inputs].
    let layer = |w: &Tensor<T>| Linear::from_tensors(&w.t()?, None);
    let model = stack((layer(&problem.w1)?, layer(&problem.w2)?));
    train(problem, steps, &model, || descend_all(&model.parameters()))
}

/// 4. The same from the layers' own weights: for their small gradients the learning rate is far too low.
fn sequential<T: Element>(problem: &Problem<T>, steps: usize) -> Result<Vec<f64>> {
    let model = stack(problem.layers()?);
    train(problem, steps, &model, || descend_all(&model.parameters()))
}

/// 5. An optimizer.
fn adam<T: Element>(problem: &Problem<T>, steps: usize) -> Result<Vec<f64>> {
    let model = stack(problem.layers()?);
    let mut optimizer = Adam::new(model.parameters()).lr(LR);
    train(problem, steps, &model, || optimizer.step())
}

/// 6. A module of one's own.
struct TwoLayerNet<T: Element> {
    first: Linear<T>,
    second: Linear<T>,
}

impl<T: Element> Module<T> for TwoLayerNet<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.second.forward(&self.first.forward(x)?.relu()?)
    }

    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a, T>) {
        visitor.child("first", &self.first);
        visitor.child("second", &self.second);
    }

    fn describe(&self) -> String {
        "TwoLayerNet".into()
    }
}

fn own_module<T: Element>(problem: &Problem<T>, steps: usize) -> Result<Vec<f64>> {
    let (first, second) = problem.layers()?;
    let model = TwoLayerNet { first, second };
    let mut optimizer = SGD::new(model.parameters(), LR);
    train(problem, steps, &model, || optimizer.step())
}

/// The losses of one way, with its number and name.
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) losses: Vec<f64>,
}

/// The curves on a logarithmic axis, as an SVG.
pub(crate) fn plot(curves: &[Curve]) -> Result<String, Box<dyn Error>> {
    if !curves.iter().flat_map(|curve| &curve.losses).any(|&loss| loss > 0.0) {
        return Err("there is no loss above 0 to draw".into());
    }
    let chart =
        curves.iter().fold(Curves::new("sum of square errors").x_label("step").log_y(), |chart, curve| {
            chart.line(&curve.name, curve.losses.iter().enumerate().map(|(step, &loss)| (step as f64, loss)))
        });
    Ok(chart.draw().to_svg())
}

/// Fits a network of two layers to noise, in six ways.
#[derive(Parser)]
struct Config {
    /// Which way
    #[arg(long, default_value = "all", value_parser = ["1", "2", "3", "4", "5", "6", "all"])]
    way: String,
    #[arg(long, default_value_t = 500)]
    steps: usize,
    /// Print the loss of every so many steps
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// Compute in f64
    #[arg(long)]
    f64: bool,
    #[arg(long, default_value_t = 4)]
    seed: u64,
    /// Draw the losses to this SVG file
    #[arg(long)]
    svg: Option<PathBuf>,
}

fn run<T: Element>(config: &Config) -> Result<(), Box<dyn Error>> {
    let problem = Problem::<T>::new(config.seed)?;
    let mut curves = Vec::new();
    for way in ways::<T>() {
        if config.way == "all" || config.way == way.number.to_string() {
            let losses = (way.run)(&problem, config.steps)?;
            curves.push(Curve { name: format!("{} {}", way.number, way.name), losses });
        }
    }
    println!("{BATCH} rows, {INPUTS} → {HIDDEN} → {OUTPUTS}, {}: the loss before each step\n", T::NAME);
    print!(" step");
    curves.iter().for_each(|curve| print!("{:>14}", curve.name));
    println!();
    for step in (0..config.steps).filter(|step| step % config.every as usize == 0 || step + 1 == config.steps)
    {
        print!("{step:>5}");
        curves.iter().for_each(|curve| print!("{:>14.4e}", curve.losses[step]));
        println!();
    }
    if let Some(path) = &config.svg {
        std::fs::write(path, plot(&curves)?).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let config = Config::parse();
    match if config.f64 { run::<f64>(&config) } else { run::<f32>(&config) } {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
