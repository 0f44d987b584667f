//! Whole trainings: gristmill's side. What is raced is a step on the next batch of a training that goes on,
//! so that a part of it, an epoch say, is so many steps.

use std::rc::Rc;

use gristmill::data::{Mnist, Split};
use gristmill::nn::{Module, Sequential};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Rng, Tensor};

use crate::dqn::{Dqn, perceptron};
use crate::kernels::dimensions;
use crate::mlp_resnet;
use crate::race::{Contender, Result, native};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data");
/// Steps of a part of a training that has no epochs.
const STEPS: usize = 1000;

/// A training by its name: `job/mlp_resnet/f32/10x100x100` is ten epochs of batches of 100, hidden 100;
/// `job/mlp/f32/8x100` eight of batches of 100; `job/dqn/f32/20x64` twenty times 1,000 steps of batches of
/// 64.
pub struct Job {
    network: Network,
    pub parts: usize,
    batch: usize,
}

enum Network {
    MlpResnet { hidden: usize },
    Mlp,
    Dqn,
}

impl Job {
    pub fn named(id: &str) -> Option<Self> {
        let (network, shape) = id.strip_prefix("job/")?.split_once("/f32/")?;
        let (network, parts, batch) = match (network, dimensions(shape)?.as_slice()) {
            ("mlp_resnet", &[parts, batch, hidden]) => (Network::MlpResnet { hidden }, parts, batch),
            ("mlp", &[parts, batch]) => (Network::Mlp, parts, batch),
            ("dqn", &[parts, batch]) => (Network::Dqn, parts, batch),
            _ => return None,
        };
        Some(Self { network, parts, batch })
    }

    /// Of one part, and the loss below which all of them must end.
    pub fn steps_and_loss(&self, images: &Images) -> (usize, f64) {
        match self.network {
            // Its values rise all the while, towards 14.
            Network::Dqn => (STEPS, 20.0),
            _ => (images.labels.len() / self.batch, 0.5),
        }
    }

    pub fn ours<'a>(&self, images: &Rc<Images>) -> Result<Box<dyn Contender + 'a>> {
        let last = |loss: f32| vec![f64::from(loss)];
        let (model, decay) = match self.network {
            Network::MlpResnet { hidden } => (mlp_resnet::network(hidden)?, 1e-3),
            Network::Mlp => (perceptron(&[784, 128, 64, 10], &mut Rng::seed(4))?, 0.0),
            Network::Dqn => {
                let state = (Dqn::new(self.batch)?, 0.0);
                let step = |(dqn, loss): &mut (Dqn, f32)| {
                    *loss = dqn.step()?;
                    Ok(())
                };
                return Ok(native("gristmill", state, step, move |(_, loss)| last(*loss)));
            }
        };
        let optimizer = Adam::new(model.parameters()).lr(1e-3).weight_decay(decay);
        let pixels = Tensor::from_slice(&images.pixels, [images.labels.len(), 784])?;
        let state =
            Classifier { model, optimizer, pixels, batches: Batches::new(images, self.batch), loss: 0.0 };
        Ok(native("gristmill", state, Classifier::step, move |state| last(state.loss)))
    }
}

/// All training images of MNIST as numbers from 0 to 1, and their labels.
pub struct Images {
    pub pixels: Vec<f32>,
    pub labels: Vec<usize>,
}

impl Images {
    pub fn load() -> Result<Rc<Self>> {
        let mnist = Mnist::load(DATA, Split::Train)?;
        let pixels = (0..mnist.len()).flat_map(|i| mnist.image(i)).map(|&x| f32::from(x) / 255.0).collect();
        let labels = (0..mnist.len()).map(|i| mnist.label(i)).collect();
        Ok(Rc::new(Self { pixels, labels }))
    }
}

/// Rows of the images, in another order each epoch.
pub struct Batches {
    images: Rc<Images>,
    batch: usize,
    rng: Rng,
    order: Vec<usize>,
    at: usize,
}

impl Batches {
    pub fn new(images: &Rc<Images>, batch: usize) -> Self {
        Self { images: images.clone(), batch, rng: Rng::seed(5), order: vec![], at: 0 }
    }

    /// The rows of the next batch, and their labels.
    pub fn next(&mut self) -> (&[usize], Vec<usize>) {
        if self.at + self.batch > self.order.len() {
            (self.order, self.at) = (self.rng.permutation(self.images.labels.len()), 0);
        }
        let rows = &self.order[self.at..][..self.batch];
        self.at += self.batch;
        (rows, rows.iter().map(|&row| self.images.labels[row]).collect())
    }
}

struct Classifier {
    model: Sequential,
    optimizer: Adam,
    pixels: Tensor,
    batches: Batches,
    loss: f32,
}

impl Classifier {
    fn step(&mut self) -> Result<()> {
        let (rows, labels) = self.batches.next();
        self.optimizer.zero_grad();
        let loss = self.model.forward(&self.pixels.gather_rows(rows)?)?.cross_entropy(&labels)?;
        loss.backward()?;
        self.optimizer.step()?;
        self.loss = loss.item()?;
        Ok(())
    }
}
