//! Batch normalisation.

use std::sync::{Mutex, PoisonError};

use super::{Mode, Module, Parameter, State, Visitor};
use crate::autograd::{BatchStatistics, Epilogue};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::kernels::batch_norm::Running;
use crate::simd::Element;
use crate::tensor::{Shape, Tensor};

/// Which variance the running one follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunningVar {
    /// Σ(x − mean)²/(n − 1): PyTorch's.
    #[default]
    Unbiased,
    /// Σ(x − mean)²/n: needle's.
    Biased,
}

/// `(x − mean) / sqrt(var + eps) · weight + bias` of each feature of x of `[rows, features]` (Ioffe and Szegedy
/// 2015): over the batch in training, with running statistics at evaluation.
///
/// x may be `[samples, features, length]`, too: its statistics are over samples and length, and it takes a copy each way
/// to have the features last (see [`Tensor::batch_norm`]).
///
/// Threads may train one layer at the same time: the batches follow each other in the running statistics, in no fixed
/// order.
///
/// Defaults are PyTorch's: eps 1e-5, momentum 0.1 (the weight of the new batch), unbiased running variance, weight 1,
/// bias 0.
pub struct BatchNorm1d<T: Element = f32> {
    weight: Parameter<T>,
    bias: Parameter<T>,
    running_mean: State<T>,
    running_var: State<T>,
    features: usize,
    eps: f64,
    momentum: f64,
    unbiased: bool,
    affine: bool,
    track_running_stats: bool,
    mode: Mode,
    /// Who holds it changes the running statistics.
    turn: Mutex<()>,
}

impl<T: Element> BatchNorm1d<T> {
    /// A layer for this number of features.
    ///
    /// # Errors
    /// [`Error::Shape`] when the number is too large.
    pub fn new(features: usize) -> Result<Self> {
        let (zeros, ones) = (Tensor::zeros([features])?, Tensor::ones([features])?);
        Ok(Self {
            weight: Parameter::new(&ones),
            bias: Parameter::new(&zeros),
            running_mean: State::new(&zeros),
            running_var: State::new(&ones),
            features,
            eps: 1e-5,
            momentum: 0.1,
            unbiased: true,
            affine: true,
            track_running_stats: true,
            mode: Mode::default(),
            turn: Mutex::new(()),
        })
    }

    /// What is added to the variance before the root.
    #[must_use]
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// The weight of the new batch in the running statistics.
    ///
    /// # Errors
    /// [`Error::Value`] when it is not in [0, 1].
    pub fn momentum(self, momentum: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&momentum) {
            return Err(Error::value("BatchNorm1d", format!("momentum {momentum} is not in [0, 1]")));
        }
        Ok(Self { momentum, ..self })
    }

    /// The weight of the old value in the running statistics, as other libraries count it: one minus
    /// [`momentum`](BatchNorm1d::momentum).
    ///
    /// # Errors
    /// [`Error::Value`] when it is not in [0, 1].
    pub fn momentum_of_old(self, momentum: f64) -> Result<Self> {
        self.momentum(1.0 - momentum)
    }

    /// Which variance the running one follows.
    #[must_use]
    pub fn running_var(self, kind: RunningVar) -> Self {
        Self { unbiased: kind == RunningVar::Unbiased, ..self }
    }

    /// Whether there are a weight and a bias to learn; yes by default.
    #[must_use]
    pub fn affine(self, affine: bool) -> Self {
        Self { affine, ..self }
    }

    /// Whether running statistics are kept for evaluation; yes by default. Without them a batch's own are used in
    /// evaluation, too, and neither they nor anything in their place is in a state dict.
    #[must_use]
    pub fn track_running_stats(self, track: bool) -> Self {
        Self { track_running_stats: track, ..self }
    }

    /// The scale γ, `[features]`; of no effect, and no parameter of the layer, if it is not
    /// [`affine`](BatchNorm1d::affine).
    pub fn weight(&self) -> &Parameter<T> {
        &self.weight
    }

    /// The shift β, `[features]`; as [`weight`](BatchNorm1d::weight).
    pub fn bias(&self) -> &Parameter<T> {
        &self.bias
    }

    /// Running mean and variance, `[features]` each; 0 and 1 for ever if they are not
    /// [tracked](BatchNorm1d::track_running_stats).
    pub fn running_stats(&self) -> (Tensor<T>, Tensor<T>) {
        (self.running_mean.value(), self.running_var.value())
    }

    /// Running mean 0 and variance 1 again.
    ///
    /// # Errors
    /// None that can happen.
    pub fn reset_running_stats(&self) -> Result<()> {
        self.running_mean.set(&Tensor::zeros([self.features])?)?;
        self.running_var.set(&Tensor::ones([self.features])?)
    }
}

impl<T: Element> BatchNorm1d<T> {
    #[track_caller]
    fn normalise(&self, x: &Tensor<T>, then: Option<Epilogue<'_, T>>) -> Result<Tensor<T>> {
        let (weight, bias) = (self.weight.read(), self.bias.read());
        let affine = self.affine.then_some((&*weight, &*bias));
        let run = |statistics: BatchStatistics<'_, T>| match then {
            Some(then) => x.batch_norm_then(affine, statistics, self.eps, then),
            None => x.batch_norm(affine, statistics, self.eps),
        };
        if !self.track_running_stats {
            return run(BatchStatistics::Batch(None));
        }
        if !self.mode.is_training() {
            let (mean, var) = (self.running_mean.read(), self.running_var.read());
            return run(BatchStatistics::Running { mean: mean.data(), var: var.data() });
        }
        // Threads that train one layer take turns, so that no batch is lost. The kernel works on copies: who reads the
        // statistics does not wait for it.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (mean, var) = self.running_stats();
        let (mut mean, mut var) = (Buffer::copy_of(mean.data()), Buffer::copy_of(var.data()));
        let y = run(BatchStatistics::Batch(Some(Running {
            mean: mean.fresh_mut(),
            var: var.fresh_mut(),
            momentum: self.momentum,
            unbiased: self.unbiased,
        })))?;
        let shape = Shape::from_dims(&[self.features]);
        self.running_mean.set(&Tensor::from_buffer(mean, shape))?;
        self.running_var.set(&Tensor::from_buffer(var, shape))?;
        Ok(y)
    }
}

impl<T: Element> Module<T> for BatchNorm1d<T> {
    #[track_caller]
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.normalise(x, None)
    }

    #[track_caller]
    fn forward_then(&self, x: &Tensor<T>, then: Epilogue<'_, T>) -> Result<Tensor<T>> {
        self.normalise(x, Some(then))
    }

    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a, T>) {
        if self.affine {
            visitor.parameter("weight", &self.weight);
            visitor.parameter("bias", &self.bias);
        }
        if self.track_running_stats {
            visitor.state("running_mean", &self.running_mean);
            visitor.state("running_var", &self.running_var);
        }
        visitor.mode(&self.mode);
    }

    fn describe(&self) -> String {
        let off =
            [(self.affine, ", affine: false"), (self.track_running_stats, ", track_running_stats: false")];
        let off: String = off.iter().filter(|(on, _)| !on).map(|&(_, text)| text).collect();
        format!("BatchNorm1d({}{off})", self.features)
    }
}
