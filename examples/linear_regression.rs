//! Linear regression with weight decay, implemented three times: by hand, with a layer and an optimizer, and
//! with the tape and an update by hand. Beside what each learned stands what the decay leaves of the truth in
//! theory.
//!
//! ```text
//! cargo run --release --example linear_regression
//! ```

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use gristmill::autograd::{Reduction, no_grad};
use gristmill::nn::{Linear, MSELoss, Module, Parameter, init};
use gristmill::optim::{Decay, Optimizer, SGD};
use gristmill::{Result, Rng, Tensor};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// w and b that made the data, to which noise of this deviation was added.
pub(crate) const TRUTH: [f64; 3] = [2.0, -3.4, 4.2];
const NOISE: f64 = 0.01;
/// The deviation of the weights at the start; the bias starts at 0.
const START: f64 = 0.01;

/// Fits y = x·w + b with weight decay, by several implementations.
#[derive(Parser, Clone)]
pub(crate) struct Config {
    #[arg(long, default_value_t = 20)]
    pub(crate) epochs: usize,
    #[arg(long, default_value_t = 10_000)]
    pub(crate) samples: usize,
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) batch_size: u16,
    #[arg(long, default_value_t = 0.01)]
    pub(crate) lr: f64,
    #[arg(long, default_value_t = 0.05)]
    pub(crate) weight_decay: f64,
    #[arg(long, default_value_t = 4)]
    pub(crate) seed: u64,
    /// No progress bars
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// What learns w and b.
trait Learner {
    /// A step for x of `[rows, 2]` and y of `[rows, 1]`; gives the sum of the square errors before it.
    fn step(&mut self, x: &Tensor, y: &Tensor) -> Result<f64>;
    fn learned(&self) -> [f64; 3];
}

/// The gradient of the mean of ½(x·w + b − y)², plus decay, in plain loops.
struct ByHand {
    w: [f64; 2],
    b: f64,
    lr: f64,
    /// The decay for a batch of so many rows.
    decay: Box<dyn Fn(f64) -> f64>,
}

impl Learner for ByHand {
    fn step(&mut self, x: &Tensor, y: &Tensor) -> Result<f64> {
        let (x, y) = (x.to_vec(), y.to_vec());
        let rows = y.len() as f64;
        let (mut dw, mut db, mut squares) = ([0.0; 2], 0.0, 0.0);
        for (x, y) in x.chunks_exact(2).zip(y) {
            let x = [f64::from(x[0]), f64::from(x[1])];
            let error = x[0] * self.w[0] + x[1] * self.w[1] + self.b - f64::from(y);
            dw[0] += error * x[0];
            dw[1] += error * x[1];
            db += error;
            squares += error * error;
        }
        let decay = (self.decay)(rows);
        for (w, dw) in self.w.iter_mut().zip(dw) {
            *w -= self.lr * (dw / rows + decay * *w);
        }
        self.b -= self.lr * (db / rows + decay * self.b);
        Ok(squares)
    }

    fn learned(&self) -> [f64; 3] {
        [self.w[0], self.w[1], self.b]
    }
}

/// The numbers of a weight and a bias.
fn numbers(w: &Tensor, b: &Tensor) -> [f64; 3] {
    let mut all = w.to_vec().into_iter().chain(b.to_vec()).map(f64::from);
    std::array::from_fn(|_| all.next().unwrap_or(f64::NAN))
}

/// A layer, the mean of the square errors, an optimizer.
struct Layer {
    model: Linear,
    criterion: MSELoss,
    optimizer: SGD,
}

impl Layer {
    fn new(optimizer: impl FnOnce(Vec<Parameter>) -> SGD, rng: &mut Rng) -> Result<Self> {
        let weight = init::normal([1, 2], 0.0, START, rng)?;
        let model = Linear::from_tensors(&weight, Some(&init::constant([1], 0.0)?))?;
        let optimizer = optimizer(model.parameters());
        Ok(Self { model, criterion: MSELoss::default(), optimizer })
    }
}

impl Learner for Layer {
    fn step(&mut self, x: &Tensor, y: &Tensor) -> Result<f64> {
        let loss = self.criterion.forward(&self.model.forward(x)?, y)?;
        self.optimizer.zero_grad();
        loss.backward()?;
        self.optimizer.step()?;
        Ok(f64::from(loss.item()?) * y.len() as f64)
    }

    fn learned(&self) -> [f64; 3] {
        let bias = self.model.bias().map(Parameter::value);
        bias.map_or([f64::NAN; 3], |bias| numbers(&self.model.weight().value(), &bias))
    }
}

/// Gradients from the tape: of Σ(½(x·w + b − y)² + ½λ(w² + b²)) over the rows. The step divides by their
/// number.
struct Tape {
    w: Parameter,
    b: Parameter,
    lr: f64,
    weight_decay: f64,
}

impl Learner for Tape {
    fn step(&mut self, x: &Tensor, y: &Tensor) -> Result<f64> {
        let rows = y.len() as f64;
        let (w, b) = (self.w.tensor(), self.b.tensor());
        let squares = x.matmul(&w)?.add(&b)?.mse_loss(y, Reduction::Sum)?;
        let penalty = w.square()?.sum()?.add(&b.square()?.sum()?)?;
        let penalty = penalty.mul_scalar((rows * self.weight_decay) as f32)?;
        squares.add(&penalty)?.mul_scalar(0.5)?.backward()?;
        no_grad(|| {
            for parameter in [&self.w, &self.b] {
                if let Some(grad) = parameter.grad() {
                    let fall = grad.mul_scalar((self.lr / rows) as f32)?;
                    parameter.set(&parameter.tensor().sub(&fall)?)?;
                    parameter.zero_grad();
                }
            }
            Result::Ok(())
        })?;
        Ok(f64::from(squares.item()?))
    }

    fn learned(&self) -> [f64; 3] {
        numbers(&self.w.value(), &self.b.value())
    }
}

/// An implementation with its decay.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    /// What is left of the truth where gradient and decay balance, for inputs of variance 1.
    pub(crate) factor: f64,
    learner: Box<dyn Learner>,
}

fn ways(config: &Config) -> Result<Vec<Way>> {
    let &Config { lr, weight_decay: decay, .. } = config;
    let mut rng = Rng::seed(config.seed).split();
    let mut by_hand = |decay: Box<dyn Fn(f64) -> f64>| -> Result<Box<dyn Learner>> {
        let start: Tensor = init::normal([2], 0.0, START, &mut rng)?;
        let start = numbers(&start, &init::constant([1], 0.0)?);
        Ok(Box::new(ByHand { w: [start[0], start[1]], b: start[2], lr, decay }))
    };
    let (none, whole) = (by_hand(Box::new(|_| 0.0))?, by_hand(Box::new(move |_| decay))?);
    let divided = by_hand(Box::new(move |rows| decay / rows))?;
    let mut layer = |weight_decay: f64, kind: Decay| -> Result<Box<dyn Learner>> {
        let make = |p| SGD::new(p, lr).weight_decay(weight_decay).decay(kind);
        Ok(Box::new(Layer::new(make, &mut rng)?))
    };
    let (sgd, l2) = (layer(0.0, Decay::L2)?, layer(decay, Decay::L2)?);
    // Decoupled decay takes lr·λ of a parameter: once as much as L2, once all of λ.
    let (sgdw, strong) = (layer(decay, Decay::Decoupled)?, layer(decay / lr, Decay::Decoupled)?);
    let mut tape = |weight_decay: f64| -> Result<Box<dyn Learner>> {
        let w = Parameter::new(&init::normal([2, 1], 0.0, START, &mut rng)?);
        Ok(Box::new(Tape { w, b: Parameter::new(&init::constant([1], 0.0)?), lr, weight_decay }))
    };
    let (tape, penalised) = (tape(0.0)?, tape(decay)?);
    let way = |name, factor, learner| Way { name, factor, learner };
    Ok(vec![
        way("by hand", 1.0, none),
        way("by hand, + λ·w", 1.0 / (1.0 + decay), whole),
        way("by hand, + λ/n·w", 1.0 / (1.0 + decay / f64::from(config.batch_size)), divided),
        way("Linear, SGD", 1.0, sgd),
        way("Linear, SGD, L2 λ", 2.0 / (2.0 + decay), l2),
        way("Linear, SGDW, β = lr·λ", 2.0 / (2.0 + decay), sgdw),
        way("Linear, SGDW, β = λ", 2.0 * lr / (2.0 * lr + decay), strong),
        way("autograd", 1.0, tape),
        way("autograd, + ½λ·w²", 1.0 / (1.0 + decay), penalised),
    ])
}

/// What a way learned, and the mean square error in its last epoch.
pub(crate) struct Fit {
    pub(crate) name: &'static str,
    pub(crate) factor: f64,
    pub(crate) learned: [f64; 3],
    pub(crate) loss: f64,
}

/// Fits all ways to the same data, with the same batches.
pub(crate) fn fit(config: &Config) -> Result<Vec<Fit>, Box<dyn Error>> {
    let mut rng = Rng::seed(config.seed);
    let x = Tensor::randn([config.samples, 2], 0.0, 1.0, &mut rng)?;
    let [w0, w1, b] = TRUTH.map(|number| number as f32);
    let noise = Tensor::randn([config.samples, 1], 0.0, NOISE, &mut rng)?;
    let y = x.matmul(&Tensor::from_slice(&[w0, w1], [2, 1])?)?.add_scalar(b)?.add(&noise)?;
    let order = rng.split();
    let batch = usize::from(config.batch_size);
    let mut fits = Vec::new();
    for Way { name, factor, mut learner } in ways(config)? {
        let bar = progress(config, name)?;
        let (mut rng, mut loss) = (order.clone(), f64::NAN);
        for epoch in 1..=config.epochs {
            let (mut seen, mut squares) = (0, 0.0);
            for rows in rng.permutation(config.samples).chunks(batch) {
                squares += learner.step(&x.gather_rows(rows)?, &y.gather_rows(rows)?)?;
                seen += rows.len();
                loss = squares / seen as f64;
                bar.set_message(format!("epoch {epoch:>2}, loss {loss:.6}"));
                bar.inc(rows.len() as u64);
            }
        }
        bar.finish_and_clear();
        fits.push(Fit { name, factor, learned: learner.learned(), loss });
    }
    Ok(fits)
}

fn progress(config: &Config, name: &'static str) -> Result<ProgressBar, Box<dyn Error>> {
    let target = if config.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some((config.samples * config.epochs) as u64), target);
    bar.set_style(ProgressStyle::with_template("{prefix:24} {bar:30} {pos}/{len} rows, {msg}")?);
    bar.set_prefix(name);
    Ok(bar)
}

fn main() -> ExitCode {
    match run(&Config::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Config) -> Result<(), Box<dyn Error>> {
    let [w0, w1, b] = TRUTH;
    println!(
        "y = x·({w0}, {w1}) + {b} + N(0, {NOISE}²): {} rows in batches of n = {}, {} epochs, lr {}, λ {}\n",
        config.samples, config.batch_size, config.epochs, config.lr, config.weight_decay
    );
    let fits = fit(config)?;
    println!("{:<24} {:^29}   {:^29}", "", "learned", "in theory");
    println!(
        "{:<24}        w0        w1         b          w0        w1         b    factor  square error",
        ""
    );
    for Fit { name, factor, learned, loss } in fits {
        print!("{name:<24}");
        learned.iter().for_each(|number| print!(" {number:>9.5}"));
        print!("  ");
        TRUTH.iter().for_each(|number| print!(" {:>9.5}", factor * number));
        println!(" {factor:>9.5} {loss:>13.3e}");
    }
    Ok(())
}
