//! The main job: trains an MLP with residual blocks on MNIST.
//!
//! ```text
//! cargo run --release --example mnist
//! cargo run --release --example mnist -- --epochs 3 --norm layer --plot curves.svg --json out.json
//! ```

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use gristmill::autograd::no_grad;
use gristmill::context::settings;
use gristmill::data::{DataLoader, Mnist, RandomCrop, Split};
use gristmill::nn::{Dropout, Flatten, LayerNorm, Module, Preset, ReLU, Residual, Sequential};
use gristmill::optim::{Adam, AdamW, Optimizer, RMSprop, SGD};
use gristmill::{Context, Result, Rng};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use plotters::prelude::*;
use serde::Serialize;

/// Trains an MLP with residual blocks on MNIST.
#[derive(Parser, Serialize, Clone)]
struct Config {
    /// Folder with the four idx files of MNIST
    #[arg(long, default_value = "data")]
    data: PathBuf,
    #[arg(long, default_value_t = 10)]
    epochs: usize,
    #[arg(long, default_value_t = 100)]
    batch_size: usize,
    /// Width of the network; the blocks narrow to half of it
    #[arg(long, default_value_t = 100)]
    hidden_dim: usize,
    /// Number of residual blocks
    #[arg(long, default_value_t = 3)]
    blocks: usize,
    #[arg(long, value_enum, default_value_t = Norm::Batch)]
    norm: Norm,
    /// Conventions of layers and momentum
    #[arg(long, value_enum, default_value_t = Conventions::Pytorch)]
    preset: Conventions,
    /// Probability that an element is dropped
    #[arg(long, default_value_t = 0.1)]
    dropout: f64,
    #[arg(long, value_enum, default_value_t = Rule::Adam)]
    optimizer: Rule,
    #[arg(long, default_value_t = 0.001)]
    lr: f64,
    #[arg(long, default_value_t = 0.001)]
    weight_decay: f64,
    /// Shift the training images by up to two pixels
    #[arg(long)]
    augment: bool,
    #[arg(long, default_value_t = 4)]
    seed: u64,
    /// Jobs a kernel splits into [default: all threads]
    #[arg(long)]
    threads: Option<usize>,
    /// Write the model to this safetensors file after each epoch
    #[arg(long)]
    save: Option<PathBuf>,
    /// Start from this safetensors file
    #[arg(long)]
    load: Option<PathBuf>,
    /// Do not train, only evaluate
    #[arg(long)]
    evaluate: bool,
    /// Write configuration and results to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw loss and error per epoch to this SVG file
    #[arg(long)]
    plot: Option<PathBuf>,
    /// No progress bar, no table
    #[arg(long)]
    quiet: bool,
}

#[derive(ValueEnum, Serialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Norm {
    Batch,
    Layer,
    None,
}

#[derive(ValueEnum, Serialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Conventions {
    Pytorch,
    Needle,
}

impl From<Conventions> for Preset {
    fn from(conventions: Conventions) -> Self {
        match conventions {
            Conventions::Pytorch => Preset::PyTorch,
            Conventions::Needle => Preset::Needle,
        }
    }
}

#[derive(ValueEnum, Serialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Rule {
    Sgd,
    /// SGD with momentum 0.9
    Momentum,
    Rmsprop,
    Adam,
    Adamw,
}

/// What one epoch gave; errors are fractions of the images.
#[derive(Serialize, Clone)]
struct Epoch {
    epoch: usize,
    train_error: f64,
    train_loss: f64,
    test_error: f64,
    test_loss: f64,
    seconds: f64,
    images_per_second: f64,
}

#[derive(Serialize)]
struct Report {
    config: Config,
    isa: &'static str,
    threads: usize,
    epochs: Vec<Epoch>,
}

/// Flatten → Linear → ReLU → blocks × [Residual(Linear → norm → ReLU → Dropout → Linear → norm) → ReLU] → Linear.
fn mlp_resnet(config: &Config, inputs: usize, classes: usize, rng: &mut Rng) -> Result<Sequential> {
    let (wide, narrow) = (config.hidden_dim, config.hidden_dim / 2);
    let preset = Preset::from(config.preset);
    let norm = |layers: Sequential, features: usize| -> Result<Sequential> {
        Ok(match config.norm {
            Norm::Batch => layers.add(preset.batch_norm(features)?),
            Norm::Layer => layers.add(LayerNorm::new(features)?),
            Norm::None => layers,
        })
    };
    let mut model = Sequential::new().add(Flatten).add(preset.linear(inputs, wide, rng)?).add(ReLU);
    for _ in 0..config.blocks {
        let inner = norm(Sequential::new().add(preset.linear(wide, narrow, rng)?), narrow)?;
        let inner = inner.add(ReLU).add(Dropout::new(config.dropout, rng)?);
        let inner = norm(inner.add(preset.linear(narrow, wide, rng)?), wide)?;
        model = model.add(Residual::new(inner)).add(ReLU);
    }
    Ok(model.add(preset.linear(wide, classes, rng)?))
}

fn optimizer(config: &Config, model: &Sequential) -> Box<dyn Optimizer> {
    let (parameters, lr, decay) = (model.parameters(), config.lr, config.weight_decay);
    match config.optimizer {
        Rule::Sgd => Box::new(SGD::new(parameters, lr).weight_decay(decay)),
        Rule::Momentum => Box::new(Preset::from(config.preset).sgd(parameters, lr, 0.9).weight_decay(decay)),
        Rule::Rmsprop => Box::new(RMSprop::new(parameters).lr(lr).weight_decay(decay)),
        Rule::Adam => Box::new(Adam::new(parameters).lr(lr).weight_decay(decay)),
        Rule::Adamw => Box::new(AdamW::new(parameters).lr(lr).weight_decay(decay)),
    }
}

/// Wrong answers and summed losses of the images seen so far.
#[derive(Default)]
struct Tally {
    images: usize,
    wrong: usize,
    loss: f64,
}

impl Tally {
    fn add(&mut self, predictions: &[usize], labels: &[usize], loss: f32) {
        self.images += labels.len();
        self.wrong += predictions.iter().zip(labels).filter(|(a, b)| a != b).count();
        self.loss += f64::from(loss) * labels.len() as f64;
    }

    fn error(&self) -> f64 {
        self.wrong as f64 / self.images.max(1) as f64
    }

    fn mean_loss(&self) -> f64 {
        self.loss / self.images.max(1) as f64
    }
}

/// One pass over the training images.
fn train(
    model: &Sequential,
    loader: &DataLoader<Mnist>,
    optimizer: &mut dyn Optimizer,
    bar: &ProgressBar,
) -> Result<Tally> {
    model.train();
    let mut tally = Tally::default();
    for batch in loader {
        let (images, labels) = batch?;
        optimizer.zero_grad();
        let logits = model.forward(&images)?;
        let loss = logits.cross_entropy(&labels)?;
        loss.backward()?;
        optimizer.step()?;
        tally.add(&logits.argmax()?, &labels, loss.item()?);
        bar.inc(labels.len() as u64);
        bar.set_message(format!("loss {:.4}", tally.mean_loss()));
    }
    Ok(tally)
}

/// One pass without learning.
fn evaluate(model: &Sequential, loader: &DataLoader<Mnist>) -> Result<Tally> {
    model.eval();
    let mut tally = Tally::default();
    for batch in loader {
        let (images, labels) = batch?;
        no_grad(|| {
            let logits = model.forward(&images)?;
            tally.add(&logits.argmax()?, &labels, logits.cross_entropy(&labels)?.item()?);
            Result::Ok(())
        })?;
    }
    Ok(tally)
}

fn progress(config: &Config, images: usize, epoch: usize) -> Result<ProgressBar, Box<dyn Error>> {
    let target = if config.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(images as u64), target);
    let template = "{prefix} {bar:30} {pos:>5}/{len} images, {per_sec}, {msg}";
    bar.set_style(ProgressStyle::with_template(template)?);
    bar.set_prefix(format!("epoch {epoch:>2}"));
    Ok(bar)
}

fn run(config: &Config) -> Result<Report, Box<dyn Error>> {
    let settings = settings()?;
    let say = |text: String| {
        if !config.quiet {
            println!("{text}");
        }
    };
    let mut rng = Rng::seed(config.seed);
    let test = DataLoader::new(Mnist::load(&config.data, Split::Test)?).batch_size(1000);
    let model = mlp_resnet(config, 784, 10, &mut rng)?;
    if let Some(path) = &config.load {
        model.load(path)?;
    }
    say(format!("{}kernels: {}, {} threads\n", model.summary(), settings.simd.isa(), settings.threads));

    let mut epochs = Vec::new();
    if !config.evaluate {
        let images = Mnist::load(&config.data, Split::Train)?;
        let count = images.len();
        let mut loader = DataLoader::new(images).batch_size(config.batch_size).shuffle(rng.split());
        if config.augment {
            loader = loader.transform(RandomCrop::new(2));
        }
        let mut optimizer = optimizer(config, &model);
        say("epoch  train error  train loss  test error  test loss  seconds  images/s".into());
        for epoch in 1..=config.epochs {
            let bar = progress(config, count, epoch)?;
            let start = Instant::now();
            let trained = train(&model, &loader, &mut *optimizer, &bar)?;
            let seconds = start.elapsed().as_secs_f64();
            bar.finish_and_clear();
            let tested = evaluate(&model, &test)?;
            let result = Epoch {
                epoch,
                train_error: trained.error(),
                train_loss: trained.mean_loss(),
                test_error: tested.error(),
                test_loss: tested.mean_loss(),
                seconds,
                images_per_second: trained.images as f64 / seconds,
            };
            say(format!(
                "{epoch:>5} {:>10.2} % {:>11.4} {:>9.2} % {:>10.4} {seconds:>8.2} {:>9.0}",
                100.0 * result.train_error,
                result.train_loss,
                100.0 * result.test_error,
                result.test_loss,
                result.images_per_second
            ));
            epochs.push(result);
            if let Some(path) = &config.save {
                model.save(path)?;
            }
        }
    }
    let (error, loss) = match epochs.last() {
        Some(last) => (last.test_error, last.test_loss),
        None => {
            let tested = evaluate(&model, &test)?;
            (tested.error(), tested.mean_loss())
        }
    };
    say(format!("\ntest error {:.2} %, test loss {loss:.4}", 100.0 * error));
    Ok(Report { config: config.clone(), isa: settings.simd.isa().name(), threads: settings.threads, epochs })
}

/// Loss on the left, error on the right, for training and test images.
fn plot(epochs: &[Epoch]) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, (960, 400)).into_drawing_area();
    root.fill(&WHITE)?;
    type Pick = fn(&Epoch) -> f64;
    let panels: [(&str, Pick, Pick); 2] = [
        ("loss", |e| e.train_loss, |e| e.test_loss),
        ("error, %", |e| 100.0 * e.train_error, |e| 100.0 * e.test_error),
    ];
    for (area, (name, train, test)) in root.split_evenly((1, 2)).iter().zip(panels) {
        let top = epochs.iter().flat_map(|e| [train(e), test(e)]).fold(0.0, f64::max);
        let last = epochs.len().max(2) as f64;
        let mut chart = ChartBuilder::on(area)
            .caption(name, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(52)
            .build_cartesian_2d(1.0..last, 0.0..top * 1.05 + 1e-9)?;
        let labels = epochs.len().clamp(2, 11);
        chart
            .configure_mesh()
            .x_desc("epoch")
            .x_labels(labels)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .draw()?;
        for (label, pick, color) in [("training", train, BLUE), ("test", test, RED)] {
            let points = || epochs.iter().map(move |e| (e.epoch as f64, pick(e)));
            chart
                .draw_series(LineSeries::new(points(), color.stroke_width(2)))?
                .label(label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
            chart.draw_series(points().map(|point| Circle::new(point, 3, color.filled())))?;
        }
        chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).draw()?;
    }
    root.present()?;
    drop(root);
    Ok(svg)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file beside `path` and renames it.
fn write_whole(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    let mut file = tempfile::NamedTempFile::new_in(folder(path))?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

fn main() -> ExitCode {
    match work(&Config::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work(config: &Config) -> Result<(), Box<dyn Error>> {
    for path in [&config.save, &config.json, &config.plot].into_iter().flatten() {
        if !folder(path).is_dir() {
            return Err(format!("{}: the folder does not exist", path.display()).into());
        }
    }
    let mut context = Context::new();
    if let Some(threads) = config.threads {
        context = context.threads(threads);
    }
    let report = context.run(|| run(config))??;
    if let Some(path) = &config.json {
        write_whole(path, &(serde_json::to_string_pretty(&report)? + "\n"))?;
    }
    if let Some(path) = &config.plot {
        write_whole(path, &plot(&report.epochs)?)?;
    }
    Ok(())
}
