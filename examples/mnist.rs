//! The main job: trains an MLP with residual blocks on MNIST.
//!
//! ```text
//! cargo run --release --example mnist
//! cargo run --release --example mnist -- --epochs 3 --norm layer --plot curves.svg --json out.json
//! cargo run --release --example mnist -- --load model.safetensors --evaluate --mistakes mistakes.svg
//! cargo run --release --example mnist -- --epochs 5 --save run.safetensors
//! cargo run --release --example mnist -- --epochs 10 --load run.safetensors --resume --save run.safetensors
//! ```

mod mnist_common;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use gristmill::context::settings;
use gristmill::data::{DataLoader, Mnist, RandomCrop, Split};
use gristmill::nn::{Dropout, Flatten, LayerNorm, Module, Preset, ReLU, Residual, Sequential};
use gristmill::optim::{Adam, AdamW, Optimizer, RMSprop, SGD};
use gristmill::plot;
use gristmill::{Context, Result, Rng};
use mnist_common::{
    Epoch, HEADER, Plan, check_folders, curves, draw_mistakes, epoch, mistakes, train, write_whole,
};
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
    /// Write the model, and what it takes to go on, to this safetensors file after each epoch
    #[arg(long)]
    save: Option<PathBuf>,
    /// Start from this safetensors file
    #[arg(long)]
    load: Option<PathBuf>,
    /// Go on with the training that wrote the file, to the same numbers as without an interruption
    #[arg(long, requires = "load", conflicts_with = "evaluate")]
    resume: bool,
    /// Do not train, only evaluate, class by class
    #[arg(long)]
    evaluate: bool,
    /// Write configuration and results to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw loss and error per epoch to this SVG file
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Draw the worst mistakes on the test images to this SVG file
    #[arg(long)]
    mistakes: Option<PathBuf>,
    /// Draw which digit is taken for which on the test images to this SVG file
    #[arg(long)]
    confusion: Option<PathBuf>,
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

#[derive(Serialize)]
struct Report {
    config: Config,
    isa: &'static str,
    threads: usize,
    epochs: Vec<Epoch>,
}

/// Flatten → Linear → ReLU → blocks × [Residual(Linear → norm → ReLU → Dropout → Linear → norm) → ReLU] →
/// Linear.
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

    let mut epochs: Vec<Epoch> = Vec::new();
    if !config.evaluate {
        say(HEADER.into());
        let mut loader =
            DataLoader::new(Mnist::load(&config.data, Split::Train)?).batch_size(config.batch_size);
        if config.augment {
            loader = loader.transform(RandomCrop::new(2));
        }
        let (mut optimizer, order) = (optimizer(config, &model), rng.split());
        let plan = Plan {
            epochs: config.epochs,
            lr: None,
            resume: config.load.as_deref().filter(|_| config.resume),
            save: config.save.as_deref(),
            quiet: config.quiet,
        };
        train(&plan, &model, &mut *optimizer, loader, order, &test, |result| {
            say(result.to_string());
            epochs.push(result);
            Ok(())
        })?;
    }
    let (error, loss) = match epochs.last() {
        Some(last) => (last.test_error, last.test_loss),
        None => {
            let tested = epoch(&model, &test, None, |_, _| ())?;
            say(format!("{}\n{}", tested.confusion, tested.confusion.report()));
            (tested.confusion.error(), tested.loss)
        }
    };
    say(format!("\ntest error {:.2} %, test loss {loss:.4}", 100.0 * error));
    if let Some(path) = &config.mistakes {
        draw_mistakes(&mistakes(&model, &test)?, test.dataset())?.save(path)?;
    }
    if let Some(path) = &config.confusion {
        plot::confusion(&epoch(&model, &test, None, |_, _| ())?.confusion).save(path)?;
    }
    Ok(Report { config: config.clone(), isa: settings.simd.isa().name(), threads: settings.threads, epochs })
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
    check_folders([&config.save, &config.json, &config.plot, &config.mistakes, &config.confusion])?;
    let mut context = Context::new();
    if let Some(threads) = config.threads {
        context = context.threads(threads);
    }
    let report = context.run(|| run(config))??;
    if let Some(path) = &config.json {
        write_whole(path, &(serde_json::to_string_pretty(&report)? + "\n"))?;
    }
    if let Some(path) = &config.plot {
        curves(&report.epochs).save(path)?;
    }
    Ok(())
}
