//! The network of the main job, and one training step of it on a fixed batch.

use gristmill::nn::{BatchNorm1d, Dropout, Linear, Module, ReLU, Residual, Sequential};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Result, Rng, Tensor};

/// Model, optimizer and batch.
pub struct Step {
    model: Sequential,
    optimizer: Adam,
    images: Tensor,
    labels: Vec<usize>,
}

impl Step {
    /// 784 → hidden, three residual blocks of hidden → hidden/2 → hidden with batch normalisation, hidden → 10; Adam.
    pub fn new(batch: usize, hidden: usize) -> Result<Self> {
        let mut rng = Rng::seed(4);
        let mut model = Sequential::new().add(Linear::new(784, hidden, &mut rng)?).add(ReLU);
        for _ in 0..3 {
            let inner = Sequential::new()
                .add(Linear::new(hidden, hidden / 2, &mut rng)?)
                .add(BatchNorm1d::new(hidden / 2)?)
                .add(ReLU)
                .add(Dropout::new(0.1, &mut rng)?)
                .add(Linear::new(hidden / 2, hidden, &mut rng)?)
                .add(BatchNorm1d::new(hidden)?);
            model = model.add(Residual::new(inner)).add(ReLU);
        }
        let model = model.add(Linear::new(hidden, 10, &mut rng)?);
        let optimizer = Adam::new(model.parameters()).lr(1e-3).weight_decay(1e-3);
        let images = Tensor::randn([batch, 784], 0.0, 1.0, &mut rng)?;
        let labels = (0..batch).map(|_| rng.below(10)).collect::<Result<_>>()?;
        Ok(Self { model, optimizer, images, labels })
    }

    /// Forward, backward, update.
    pub fn run(&mut self) -> Result<()> {
        let loss = self.model.forward(&self.images)?.cross_entropy(&self.labels)?;
        self.optimizer.zero_grad();
        loss.backward()?;
        self.optimizer.step()
    }
}
