//! Training on MNIST, as the examples share it: epochs, progress, checkpoints, mistakes, curves.
#![allow(dead_code, reason = "an example uses a part of it")]

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use gristmill::autograd::no_grad;
use gristmill::data::{DataLoader, Mnist};
use gristmill::metrics::{ConfusionMatrix, Mean};
use gristmill::nn::{Checkpoint, Module, Sequential, StateDict};
use gristmill::optim::Optimizer;
use gristmill::plot::{Curves, ImageGrid, Picture};
use gristmill::train::Evaluation;
use gristmill::{Result, Rng};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// What one epoch gave; errors are fractions of the images.
#[derive(Serialize, Clone)]
pub struct Epoch {
    pub epoch: usize,
    pub train_error: f64,
    pub train_loss: f64,
    pub test_error: f64,
    pub test_loss: f64,
    pub seconds: f64,
    pub images_per_second: f64,
}

/// One pass over a data set: learns with an optimizer, only measures without. `seen` is told the images of
/// each batch and the mean loss so far.
pub fn epoch(
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

/// How long a training goes on, what it starts from, and where it is kept.
pub struct Plan<'a> {
    pub epochs: usize,
    /// The learning rate of an epoch, counted from 1; as it is if `None`.
    pub lr: Option<&'a dyn Fn(u64) -> f64>,
    /// A file to go on from.
    pub resume: Option<&'a Path>,
    pub save: Option<&'a Path>,
    pub quiet: bool,
}

/// Trains a model on the images of `loader`, in the order of `order`; `done` is told what each epoch gave.
pub fn train(
    plan: &Plan<'_>,
    model: &Sequential,
    optimizer: &mut dyn Optimizer,
    loader: DataLoader<Mnist>,
    mut order: Rng,
    test: &DataLoader<Mnist>,
    mut done: impl FnMut(Epoch) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let (count, mut before) = (loader.dataset().len(), 0);
    if let Some(path) = plan.resume {
        (order, before) = resume(path, model, optimizer)?;
    }
    let loader = loader.shuffle(order.clone()).next_epoch(before);
    for number in before + 1..=plan.epochs as u64 {
        if let Some(lr) = plan.lr {
            optimizer.set_lr(lr(number));
        }
        let bar = progress(plan.quiet, count, number)?;
        let start = Instant::now();
        let trained = epoch(model, &loader, Some(&mut *optimizer), |images, loss| {
            bar.inc(images as u64);
            bar.set_message(format!("loss {loss:.4}"));
        })?;
        let seconds = start.elapsed().as_secs_f64();
        bar.finish_and_clear();
        let tested = epoch(model, test, None, |_, _| ())?;
        if let Some(path) = plan.save {
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

/// The line above those of epochs.
pub const HEADER: &str = "epoch  train error  train loss  test error  test loss  seconds  images/s";

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:>5} {:>10.2} % {:>11.4} {:>9.2} % {:>10.4} {:>8.2} {:>9.0}",
            self.epoch,
            100.0 * self.train_error,
            self.train_loss,
            100.0 * self.test_error,
            self.test_loss,
            self.seconds,
            self.images_per_second
        )
    }
}

fn progress(quiet: bool, images: usize, epoch: u64) -> Result<ProgressBar, Box<dyn Error>> {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(images as u64), target);
    let template = "{prefix} {bar:30} {pos:>5}/{len} images, {per_sec}, {msg}";
    bar.set_style(ProgressStyle::with_template(template)?);
    bar.set_prefix(format!("epoch {epoch:>2}"));
    Ok(bar)
}

/// An error unless the folders of all these files exist.
pub fn check_folders<'a>(files: impl IntoIterator<Item = &'a Option<PathBuf>>) -> Result<(), Box<dyn Error>> {
    for path in files.into_iter().flatten() {
        if !folder(path).is_dir() {
            return Err(format!("{}: the folder does not exist", path.display()).into());
        }
    }
    Ok(())
}

/// A wrong answer.
pub struct Mistake {
    pub image: usize,
    pub predicted: usize,
    /// What the model gave for the prediction.
    pub probability: f32,
}

/// All mistakes on a data set in its order, the surest first.
pub fn mistakes(model: &Sequential, loader: &DataLoader<Mnist>) -> Result<Vec<Mistake>> {
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

pub fn draw_mistakes(mistakes: &[Mistake], images: &Mnist) -> Result<Picture> {
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
pub fn curves(epochs: &[Epoch]) -> Picture {
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
pub fn write_whole(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    let mut file = tempfile::NamedTempFile::new_in(folder(path))?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}
