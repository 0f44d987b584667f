//! Trains a convolutional network of LeNet's depth on MNIST: at least 99.2 % of the test images right after
//! five epochs.
//!
//! ```text
//! cargo run --release --example cnn
//! cargo run --release --example cnn -- --plot curves.svg --mistakes mistakes.svg --filters filters.svg
//! cargo run --release --example cnn -- --epochs 2 --save cnn.safetensors
//! cargo run --release --example cnn -- --epochs 5 --load cnn.safetensors --resume
//! ```

mod mnist_common;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use gristmill::autograd::{ConvOptions, Padding};
use gristmill::context::settings;
use gristmill::data::{DataLoader, Mnist, Split};
use gristmill::nn::{
    Conv2d, Dropout, Flatten, Linear, MaxPool2d, Module, Parameter, ReLU, Sequential, Visitor,
};
use gristmill::optim::Adam;
use gristmill::plot::{ImageGrid, Picture};
use gristmill::{Context, Result, Rng, Tensor};
use mnist_common::{HEADER, Plan, check_folders, curves, draw_mistakes, epoch, mistakes, train};

/// Trains a convolutional network on MNIST.
#[derive(Parser)]
struct Config {
    /// Folder with the four idx files of MNIST
    #[arg(long, default_value = "data")]
    data: PathBuf,
    #[arg(long, default_value_t = 5)]
    epochs: usize,
    #[arg(long, default_value_t = 100)]
    batch_size: usize,
    /// Learning rate of the first epoch; each one halves it
    #[arg(long, default_value_t = 0.002)]
    lr: f64,
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
    #[arg(long, requires = "load")]
    resume: bool,
    /// Draw loss and error per epoch to this SVG file
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Draw the worst mistakes on the test images to this SVG file
    #[arg(long)]
    mistakes: Option<PathBuf>,
    /// Draw the filters of the first layer to this SVG file
    #[arg(long)]
    filters: Option<PathBuf>,
    /// No progress bar, no table
    #[arg(long)]
    quiet: bool,
}

/// `[batch, height, width, channels]`, as images come, to `[batch, channels, height, width]`.
struct ChannelsFirst;

impl Module for ChannelsFirst {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.permute(&[0, 3, 1, 2])
    }

    fn visit<'a>(&'a self, _: &mut Visitor<'_, 'a>) {}
}

/// LeNet's layers with ReLUs, maxima and more channels. The first weight is given back, too.
fn lenet(rng: &mut Rng) -> Result<(Sequential, Parameter)> {
    let same = ConvOptions { padding: Padding::Same, ..ConvOptions::default() };
    let first = Conv2d::with_options(1, 16, [5, 5], same, rng)?;
    let filters = first.weight().clone();
    let model = Sequential::new()
        .add(ChannelsFirst)
        .add(first)
        .add(ReLU)
        .add(MaxPool2d::new([2, 2]))
        .add(Conv2d::new(16, 32, [5, 5], rng)?)
        .add(ReLU)
        .add(MaxPool2d::new([2, 2]))
        .add(Flatten)
        .add(Linear::new(800, 120, rng)?)
        .add(ReLU)
        .add(Dropout::new(0.3, rng)?)
        .add(Linear::new(120, 10, rng)?);
    Ok((model, filters))
}

fn run(config: &Config) -> Result<(), Box<dyn Error>> {
    let settings = settings()?;
    let say = |text: String| {
        if !config.quiet {
            println!("{text}");
        }
    };
    let mut rng = Rng::seed(config.seed);
    let (model, filters) = lenet(&mut rng)?;
    if let Some(path) = &config.load {
        model.load(path)?;
    }
    let summary = model.summary_for(&[config.batch_size, 28, 28, 1])?;
    say(format!("{summary}kernels: {}, {} threads\n", settings.simd.isa(), settings.threads));
    let test = DataLoader::new(Mnist::load(&config.data, Split::Test)?).batch_size(500);
    let loader = DataLoader::new(Mnist::load(&config.data, Split::Train)?).batch_size(config.batch_size);
    let (mut optimizer, order) = (Adam::new(model.parameters()), rng.split());
    let plan = Plan {
        epochs: config.epochs,
        lr: Some(&|epoch| config.lr * 0.5_f64.powi(epoch as i32 - 1)),
        resume: config.load.as_deref().filter(|_| config.resume),
        save: config.save.as_deref(),
        quiet: config.quiet,
    };
    let mut epochs = Vec::new();
    say(HEADER.into());
    train(&plan, &model, &mut optimizer, loader, order, &test, |result| {
        say(result.to_string());
        epochs.push(result);
        Ok(())
    })?;
    let error = epoch(&model, &test, None, |_, _| ())?.confusion.error();
    say(format!("\n{:.2} % of the test images are right", 100.0 * (1.0 - error)));
    if let Some(path) = &config.plot {
        curves(&epochs).save(path)?;
    }
    if let Some(path) = &config.mistakes {
        draw_mistakes(&mistakes(&model, &test)?, test.dataset())?.save(path)?;
    }
    if let Some(path) = &config.filters {
        draw_filters(&filters.value())?.save(path)?;
    }
    Ok(())
}

/// The filters of one input channel, each from its smallest number, in black, to its largest.
fn draw_filters(weight: &Tensor) -> Result<Picture> {
    let &[outputs, _, height, width] = weight.shape() else { unreachable!("a weight of a Conv2d") };
    let mut grid = ImageGrid::new("filters of the first layer", 8);
    for (i, filter) in weight.to_vec().chunks(height * width).take(outputs).enumerate() {
        let (low, high) =
            filter.iter().fold((f32::MAX, f32::MIN), |(low, high), &x| (low.min(x), high.max(x)));
        let pixels: Vec<f32> =
            filter.iter().map(|x| (x - low) / (high - low).max(f32::MIN_POSITIVE)).collect();
        grid =
            grid.image(&pixels, [height, width, 1], &[&format!("#{i}"), &format!("{low:.2} to {high:.2}")])?;
    }
    Ok(grid.draw())
}

fn main() -> ExitCode {
    let config = Config::parse();
    let work = || -> Result<(), Box<dyn Error>> {
        check_folders([&config.save, &config.plot, &config.mistakes, &config.filters])?;
        let mut context = Context::new();
        if let Some(threads) = config.threads {
            context = context.threads(threads);
        }
        context.run(|| run(&config))?
    };
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
