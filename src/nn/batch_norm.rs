//! Batch normalisation.

use std::sync::{Mutex, PoisonError};

use super::display::display_as_tree;
use super::{Mode, Module, Parameter, State, Visitor};
use crate::autograd::{BatchStatistics, Epilogue};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::kernels::batch_norm::Running;
use crate::simd::Element;
use crate::tensor::{Shape, Tensor};

/// Which variance the running variance estimates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunningVar {
    /// Σ(x − mean)²/(n − 1): PyTorch's.
    #[default]
    Unbiased,
    /// Σ(x − mean)²/n: needle's.
    Biased,
}

/// `(x − mean) / sqrt(var + eps) · weight + bias` for each feature of x of `[rows, features]` (Ioffe and
/// Szegedy 2015): with the statistics of the batch in training, with running statistics in evaluation.
///
/// x may also be `[samples, features, length]`: its statistics are over samples and length. The features have
/// to come last for that, which takes a copy each way (see [`Tensor::batch_norm`]).
///
/// Threads may train one layer at the same time: their batches enter the running statistics one after the
/// other, in no fixed order.
///
/// Defaults are PyTorch's: eps 1e-5, momentum 0.1 (the weight of the new batch), unbiased running variance,
/// weight 1, bias 0.
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
    /// Locked by the thread that changes the running statistics.
    turn: Mutex<()>,
}

impl<T: Element> BatchNorm1d<T> {
    /// A layer for this number of features.
    ///
    /// # Errors
    /// [`Error::Shape`] if the number is too large.
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

    /// Sets the number that is added to the variance before the square root.
    #[must_use]
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// Sets the weight of the new batch in the running statistics.
    ///
    /// # Errors
    /// [`Error::Value`] if it is not in [0, 1].
    pub fn momentum(self, momentum: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&momentum) {
            return Err(Error::value("BatchNorm1d", format!("momentum {momentum} is not in [0, 1]")));
        }
        Ok(Self { momentum, ..self })
    }

    /// Sets the weight of the old value in the running statistics, which is how other libraries define it:
    /// one minus [`momentum`](BatchNorm1d::momentum).
    ///
    /// # Errors
    /// [`Error::Value`] if it is not in [0, 1].
    pub fn momentum_of_old(self, momentum: f64) -> Result<Self> {
        self.momentum(1.0 - momentum)
    }

    /// Sets which variance the running variance estimates.
    #[must_use]
    pub fn running_var(self, kind: RunningVar) -> Self {
        Self { unbiased: kind == RunningVar::Unbiased, ..self }
    }

    /// Whether the layer learns a weight and a bias; it does by default.
    #[must_use]
    pub fn affine(self, affine: bool) -> Self {
        Self { affine, ..self }
    }

    /// Whether running statistics are kept for evaluation; they are by default. Without them, evaluation also
    /// uses the statistics of the batch, and a state dict has no entries for them.
    #[must_use]
    pub fn track_running_stats(self, track: bool) -> Self {
        Self { track_running_stats: track, ..self }
    }

    /// The scale γ, `[features]`; if the layer is not [`affine`](BatchNorm1d::affine), it has no effect and
    /// is not among the layer's parameters.
    pub fn weight(&self) -> &Parameter<T> {
        &self.weight
    }

    /// The shift β, `[features]`; otherwise like [`weight`](BatchNorm1d::weight).
    pub fn bias(&self) -> &Parameter<T> {
        &self.bias
    }

    /// Running mean and variance, `[features]` each; always 0 and 1 if they are not
    /// [tracked](BatchNorm1d::track_running_stats).
    pub fn running_stats(&self) -> (Tensor<T>, Tensor<T>) {
        (self.running_mean.value(), self.running_var.value())
    }

    /// Resets the running mean to 0 and the running variance to 1.
    ///
    /// # Errors
    /// In practice none: the shapes always fit.
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
        // Threads that train one layer take turns, so that no batch is lost. The kernel works on copies, so
        // that readers of the statistics do not wait for it.
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

display_as_tree!(BatchNorm1d<T>);

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
