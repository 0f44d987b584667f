//! Deep Q-learning without its game: transitions that were played before, drawn at random, and targets from a
//! copy of the network that follows slowly. 4 → 64 → 64 → 2.

use gristmill::autograd::{Reduction, no_grad};
use gristmill::nn::{Linear, Module, ReLU, Sequential};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Result, Rng, Tensor};

const PLAYED: usize = 4096;
const ACTIONS: usize = 2;
const DISCOUNT: f32 = 0.99;
/// Steps from one change of the copy to the next, and how far it then goes.
const FOLLOWS: (usize, f32) = (10, 0.05);

pub struct Dqn {
    pub online: Sequential,
    pub optimizer: Adam,
    target: Sequential,
    states: Tensor,
    actions: Vec<usize>,
    batch: usize,
    rng: Rng,
    steps: usize,
}

/// Linear layers with ReLU between them.
///
/// # Errors
/// When the widths are absurd.
pub fn perceptron(widths: &[usize], rng: &mut Rng) -> Result<Sequential> {
    let mut model = Sequential::new().add(Linear::new(widths[0], widths[1], rng)?);
    for pair in widths[1..].windows(2) {
        model = model.add(ReLU).add(Linear::new(pair[0], pair[1], rng)?);
    }
    Ok(model)
}

impl Dqn {
    /// # Errors
    /// When the batch is absurd.
    pub fn new(batch: usize) -> Result<Self> {
        let mut rng = Rng::seed(4);
        let widths = [4, 64, 64, ACTIONS];
        let [online, target] = [perceptron(&widths, &mut rng)?, perceptron(&widths, &mut rng)?];
        let optimizer = Adam::new(online.parameters()).lr(1e-3);
        let mut states = vec![0.0; 4 * PLAYED];
        rng.fill_uniform(-1.0, 1.0, &mut states)?;
        let states = Tensor::from_slice(&states, [PLAYED, 4])?;
        let actions = (0..PLAYED).map(|_| rng.below(ACTIONS)).collect::<Result<_>>()?;
        Ok(Self { online, optimizer, target, states, actions, batch, rng, steps: 0 })
    }

    /// Forward, backward, update on transitions drawn at random; gives the loss.
    ///
    /// # Errors
    /// None that the shapes do not have.
    pub fn step(&mut self) -> Result<f32> {
        let rows: Vec<usize> = (0..self.batch).map(|_| self.rng.below(PLAYED - 1)).collect::<Result<_>>()?;
        let played: Vec<usize> = rows.iter().map(|&row| self.actions[row]).collect();
        let next: Vec<usize> = rows.iter().map(|row| row + 1).collect();
        // One in 16 transitions ends a game.
        let going: Vec<f32> = rows.iter().map(|row| if row % 16 == 0 { 0.0 } else { DISCOUNT }).collect();
        let wanted = no_grad(|| {
            let best = self.target.forward(&self.states.gather_rows(&next)?)?.max_axes(&[1], true)?;
            best.mul(&Tensor::from_slice(&going, [self.batch, 1])?)?.add_scalar(1.0)
        })?;
        self.optimizer.zero_grad();
        let values = self.online.forward(&self.states.gather_rows(&rows)?)?.gather(1, &played)?;
        let loss = values.huber_loss(&wanted, 1.0, Reduction::Mean)?;
        loss.backward()?;
        self.optimizer.step()?;
        self.steps += 1;
        if self.steps.is_multiple_of(FOLLOWS.0) {
            let weight = Tensor::scalar(FOLLOWS.1);
            for (slow, fast) in self.target.parameters().iter().zip(&self.online.parameters()) {
                slow.set(&slow.value().lerp(&fast.value(), &weight)?)?;
            }
        }
        loss.item()
    }
}
