//! The main job: trains an MLP with residual blocks on MNIST.
//!
//! ```text
//! cargo run --release --example mnist
//! cargo run --release --example mnist -- --epochs 3 --norm layer --plot curves.svg --json out.json
//! cargo run --release --example mnist -- --load model.safetensors --evaluate --mistakes mistakes.svg
//! cargo run --release --example mnist -- --epochs 5 --save run.safetensors
//! cargo run --release --example mnist -- --epochs 10 --load run.safetensors --resume --save run.safetensors
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
use gristmill::metrics::{ConfusionMatrix, Mean};
use gristmill::nn::{
    Checkpoint, Dropout, Flatten, LayerNorm, Module, Preset, ReLU, Residual, Sequential, StateDict,
};
use gristmill::optim::{Adam, AdamW, Optimizer, RMSprop, SGD};
use gristmill::plot::{self, Curves, ImageGrid, Picture};
use gristmill::train::Evaluation;
use gristmill::{Context, Result, Rng};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
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

/// One pass over a data set: learns with an optimizer, only measures without. `seen` is told the images of
/// each batch and the mean loss so far.
fn epoch(
    model: &Sequential,
    loader: &DataLoader<Mnist>,
    mut optimizer: Option<&mut dyn Optimizer>,
    mut seen: impl FnMut(usize, f64),
) -> Result<Evaluation> {
    if optimizer.is_some() {
        model.train()
    } else {
        model.eval()
    }
    let (mut loss, mut confusion) = (Mean::default(), ConfusionMatrix::new(loader.dataset().classes()));
    for batch in loader {
        let (images, labels) = batch?;
        let answer = || {
            let logits = model.forward(&images)?;
            Result::Ok((logits.cross_entropy(&labels)?, logits))
        };
        let (batch_loss, logits) = match &mut optimizer {
            Some(optimizer) => {
                optimizer.zero_grad();
                let (loss, logits) = answer()?;
                loss.backward()?;
                optimizer.step()?;
                (loss, logits)
            }
            None => no_grad(answer)?,
        };
        confusion.add(&logits.argmax()?, &labels)?;
        loss.add(batch_loss.item()?.into(), labels.len() as f64);
        seen(labels.len(), loss.mean());
    }
    Ok(Evaluation { loss: loss.mean(), confusion })
}

/// Writes all that the next epoch depends on: model, its generators, optimizer, order of the images, epoch.
fn save(path: &Path, model: &Sequential, optimizer: &dyn Optimizer, order: &Rng, epoch: u64) -> Result<()> {
    let mut place = StateDict::new();
    place.set("epoch", epoch);
    place.set_rng("order", order);
    Checkpoint::new(model)?.with("optimizer", optimizer.state_dict())?.with("place", place)?.save(path)
}

/// Puts model and optimizer where [`save`] left them; gives the order of the images and the epochs that are
/// done.
fn resume(path: &Path, model: &Sequential, optimizer: &mut dyn Optimizer) -> Result<(Rng, u64)> {
    let checkpoint = Checkpoint::load(path)?;
    let place = checkpoint.section("place")?;
    checkpoint.restore(model)?;
    optimizer.load_state_dict(checkpoint.section("optimizer")?)?;
    Ok((place.rng("order")?, place.get("epoch")?))
}

/// Trains a model for the epochs of the configuration; `done` is told what each gave.
fn train_mnist(
    config: &Config,
    model: &Sequential,
    rng: &mut Rng,
    test: &DataLoader<Mnist>,
    mut done: impl FnMut(Epoch) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let images = Mnist::load(&config.data, Split::Train)?;
    let count = images.len();
    let mut optimizer = optimizer(config, model);
    let (mut order, mut before) = (rng.split(), 0);
    if let Some(path) = config.load.as_ref().filter(|_| config.resume) {
        (order, before) = resume(path, model, &mut *optimizer)?;
    }
    let mut loader = DataLoader::new(images).batch_size(config.batch_size).shuffle(order.clone());
    loader = loader.next_epoch(before);
    if config.augment {
        loader = loader.transform(RandomCrop::new(2));
    }
    for number in before + 1..=config.epochs as u64 {
        let bar = progress(config, count, number)?;
        let start = Instant::now();
        let trained = epoch(model, &loader, Some(&mut *optimizer), |images, loss| {
            bar.inc(images as u64);
            bar.set_message(format!("loss {loss:.4}"));
        })?;
        let seconds = start.elapsed().as_secs_f64();
        bar.finish_and_clear();
        let tested = epoch(model, test, None, |_, _| ())?;
        if let Some(path) = &config.save {
            save(path, model, &*optimizer, &order, number)?;
        }
        done(Epoch {
            epoch: number as usize,
            train_error: trained.confusion.error(),
            train_loss: trained.loss,
            test_error: tested.confusion.error(),
            test_loss: tested.loss,
            seconds,
            images_per_second: count as f64 / seconds,
        })?;
    }
    Ok(())
}

fn progress(config: &Config, images: usize, epoch: u64) -> Result<ProgressBar, Box<dyn Error>> {
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

    let mut epochs: Vec<Epoch> = Vec::new();
    if !config.evaluate {
        say("epoch  train error  train loss  test error  test loss  seconds  images/s".into());
        train_mnist(config, &model, &mut rng, &test, |result| {
            say(format!(
                "{:>5} {:>10.2} % {:>11.4} {:>9.2} % {:>10.4} {:>8.2} {:>9.0}",
                result.epoch,
                100.0 * result.train_error,
                result.train_loss,
                100.0 * result.test_error,
                result.test_loss,
                result.seconds,
                result.images_per_second
            ));
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

/// A wrong answer.
struct Mistake {
    image: usize,
    predicted: usize,
    /// What the model gave for the prediction.
    probability: f32,
}

/// All mistakes on a data set in its order, the surest first.
fn mistakes(model: &Sequential, loader: &DataLoader<Mnist>) -> Result<Vec<Mistake>> {
    model.eval();
    let (mut mistakes, mut image) = (Vec::new(), 0);
    for batch in loader {
        let (images, labels) = batch?;
        let probabilities = no_grad(|| model.forward(&images)?.softmax(-1))?;
        let rows = probabilities.to_vec();
        let rows = rows.chunks(rows.len() / labels.len());
        for ((row, predicted), &label) in rows.zip(probabilities.argmax()?).zip(labels.iter()) {
            if predicted != label {
                mistakes.push(Mistake { image, predicted, probability: row[predicted] });
            }
            image += 1;
        }
    }
    mistakes.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    Ok(mistakes)
}

fn draw_mistakes(mistakes: &[Mistake], images: &Mnist) -> Result<Picture> {
    let worst = &mistakes[..mistakes.len().min(40)];
    let title =
        format!("the {} surest of {} mistakes on {} images", worst.len(), mistakes.len(), images.len());
    let mut grid = ImageGrid::new(title, 8);
    for mistake in worst {
        let pixels: Vec<f32> = images.image(mistake.image).iter().map(|&x| f32::from(x) / 255.0).collect();
        let answer = format!("{}, not {}", mistake.predicted, images.label(mistake.image));
        let details = format!("{:.1} %, #{}", 100.0 * mistake.probability, mistake.image);
        grid = grid.image(&pixels, [images.rows(), images.cols(), 1], &[&answer, &details])?;
    }
    Ok(grid.draw())
}

/// Loss on the left, error on the right, for training and test images.
fn curves(epochs: &[Epoch]) -> Picture {
    let chart = |title, train: fn(&Epoch) -> f64, test: fn(&Epoch) -> f64| {
        let points = |pick: fn(&Epoch) -> f64| epochs.iter().map(move |e| (e.epoch as f64, pick(e)));
        let chart = Curves::new(title).x_label("epoch");
        chart.line("training", points(train)).line("test", points(test)).draw()
    };
    Picture::row(&[
        chart("loss", |e| e.train_loss, |e| e.test_loss),
        chart("error, %", |e| 100.0 * e.train_error, |e| 100.0 * e.test_error),
    ])
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
    let files = [&config.save, &config.json, &config.plot, &config.mistakes, &config.confusion];
    for path in files.into_iter().flatten() {
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
        curves(&report.epochs).save(path)?;
    }
    Ok(())
}
