//! Learning rate schedules: functions of the step, and one that follows a metric.
//!
//! ```
//! use gristmill::{Tensor, nn::Parameter, optim::{CosineAnnealingLR, LRScheduler, Optimizer, SGD}};
//! let w: Parameter = Parameter::new(&Tensor::ones([3])?);
//! let mut optimizer = SGD::new(vec![w.clone()], 0.5);
//! let schedule = CosineAnnealingLR::new(optimizer.learning_rate(), 10);
//! for step in 0..10 {
//!     optimizer.set_lr(schedule.lr(step)?);
//!     optimizer.zero_grad();
//!     w.tensor().square()?.sum()?.backward()?;
//!     optimizer.step()?;
//! }
//! assert!(optimizer.learning_rate() < 0.02);
//! # Ok::<(), gristmill::Error>(())
//! ```

use std::f64::consts::PI;

use super::optimizer::Optimizer;
use crate::context;
use crate::error::{Error, Result};
use crate::kernels::map::{self, Unary};
use crate::nn::StateDict;
use crate::simd::Element;

/// Setters of the fields with these names.
macro_rules! setters {
    ($type:ident { $($(#[$doc:meta])+ $name:ident: $of:ty),+ $(,)? }) => {
        impl $type {
            $(
                $(#[$doc])+
                #[must_use]
                pub fn $name(mut self, $name: $of) -> Self {
                    self.$name = $name;
                    self
                }
            )+
        }
    };
}

/// A learning rate as a function of the step, in PyTorch's closed form.
///
/// Schedules have no internal counter: a run that continues from a checkpoint passes the step that it has
/// reached.
pub trait LRScheduler {
    /// The learning rate for step `step`, counted from 0. The unit is the caller's: batches or epochs.
    ///
    /// # Errors
    /// [`Error::Value`] for a setting of the schedule outside its domain.
    fn lr(&self, step: u64) -> Result<f64>;
}

/// `lr · gamma` to the power of ⌊step / step_size⌋.
#[derive(Clone, Debug)]
pub struct StepLR {
    lr: f64,
    step_size: u64,
    gamma: f64,
}

impl StepLR {
    /// Starts at `lr` and decays after every `step_size` steps.
    pub fn new(lr: f64, step_size: u64) -> Self {
        Self { lr, step_size, gamma: 0.1 }
    }
}

setters!(StepLR {
    /// The factor of each decay; 0.1 by default.
    gamma: f64,
});

impl LRScheduler for StepLR {
    fn lr(&self, step: u64) -> Result<f64> {
        context::in_environment(|| {
            at_least_zero("StepLR", &[("lr", self.lr), ("gamma", self.gamma)])?;
            at_least_one("StepLR", "step_size", self.step_size)?;
            Ok(self.lr * power(self.gamma, step / self.step_size))
        })
    }
}

/// `lr · gamma` to the power of the number of milestones reached.
#[derive(Clone, Debug)]
pub struct MultiStepLR {
    lr: f64,
    milestones: Vec<u64>,
    gamma: f64,
}

impl MultiStepLR {
    /// Starts at `lr` and decays at each of the steps `milestones`, in any order; a milestone that is listed
    /// twice counts twice.
    pub fn new(lr: f64, milestones: &[u64]) -> Self {
        Self { lr, milestones: milestones.to_vec(), gamma: 0.1 }
    }
}

setters!(MultiStepLR {
    /// The factor of each decay; 0.1 by default.
    gamma: f64,
});

impl LRScheduler for MultiStepLR {
    fn lr(&self, step: u64) -> Result<f64> {
        context::in_environment(|| {
            at_least_zero("MultiStepLR", &[("lr", self.lr), ("gamma", self.gamma)])?;
            let reached = self.milestones.iter().filter(|&&milestone| milestone <= step).count();
            Ok(self.lr * power(self.gamma, reached as u64))
        })
    }
}

/// `lr · gamma^step`.
#[derive(Clone, Debug)]
pub struct ExponentialLR {
    lr: f64,
    gamma: f64,
}

impl ExponentialLR {
    /// Starts at `lr`; every step multiplies it by `gamma`.
    pub fn new(lr: f64, gamma: f64) -> Self {
        Self { lr, gamma }
    }
}

impl LRScheduler for ExponentialLR {
    fn lr(&self, step: u64) -> Result<f64> {
        context::in_environment(|| {
            at_least_zero("ExponentialLR", &[("lr", self.lr), ("gamma", self.gamma)])?;
            Ok(self.lr * power(self.gamma, step))
        })
    }
}

/// Half a cosine from `lr` down to `eta_min` (Loshchilov and Hutter 2017, without the restarts).
///
/// After `t_max` steps it rises again symmetrically, as in PyTorch.
#[derive(Clone, Debug)]
pub struct CosineAnnealingLR {
    lr: f64,
    t_max: u64,
    eta_min: f64,
}

impl CosineAnnealingLR {
    /// Starts at `lr` and reaches its minimum at step `t_max`.
    pub fn new(lr: f64, t_max: u64) -> Self {
        Self { lr, t_max, eta_min: 0.0 }
    }
}

setters!(CosineAnnealingLR {
    /// The lowest learning rate; 0 by default.
    eta_min: f64,
});

impl LRScheduler for CosineAnnealingLR {
    fn lr(&self, step: u64) -> Result<f64> {
        context::in_environment(|| {
            at_least_zero("CosineAnnealingLR", &[("lr", self.lr), ("eta_min", self.eta_min)])?;
            at_least_one("CosineAnnealingLR", "t_max", self.t_max)?;
            // The period is 2·t_max; reducing the angle keeps the cosine just as accurate in the millionth
            // step.
            let within = step % self.t_max.saturating_mul(2);
            Anneal::Cos.between(self.lr, self.eta_min, within as f64 / self.t_max as f64)
        })
    }
}

/// A straight line from `lr · start_factor` to `lr · end_factor`, then constant: a warm-up.
#[derive(Clone, Debug)]
pub struct LinearLR {
    lr: f64,
    start_factor: f64,
    end_factor: f64,
    total_iters: u64,
}

impl LinearLR {
    /// From a third of `lr` to `lr` in 5 steps.
    pub fn new(lr: f64) -> Self {
        Self { lr, start_factor: 1.0 / 3.0, end_factor: 1.0, total_iters: 5 }
    }
}

setters!(LinearLR {
    /// The initial factor; 1/3 by default.
    start_factor: f64,
    /// The final factor; 1 by default.
    end_factor: f64,
    /// The first step with the final factor; 5 by default.
    total_iters: u64,
});

impl LRScheduler for LinearLR {
    fn lr(&self, step: u64) -> Result<f64> {
        context::in_environment(|| {
            let (start, end) = (self.start_factor, self.end_factor);
            at_least_zero("LinearLR", &[("lr", self.lr), ("start_factor", start), ("end_factor", end)])?;
            at_least_one("LinearLR", "total_iters", self.total_iters)?;
            let part = step.min(self.total_iters) as f64 / self.total_iters as f64;
            Ok(self.lr * Anneal::Linear.between(start, end, part)?)
        })
    }
}

/// The shape of the curve between two learning rates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anneal {
    /// Half a cosine.
    #[default]
    Cos,
    /// A straight line.
    Linear,
}

impl Anneal {
    fn between(self, start: f64, end: f64, part: f64) -> Result<f64> {
        match self {
            Self::Cos => {
                // The kernel's cosine has the same bits on every machine; the standard library's may not.
                let mut cos = [0.0];
                map::unary(Unary::Cos, &[PI * part], &mut cos)?;
                Ok(end + (start - end) / 2.0 * (1.0 + cos[0]))
            }
            Self::Linear => Ok(start + (end - start) * part),
        }
    }
}

/// One rise to a high learning rate and one descent to almost nothing (Smith and Topin 2018).
///
/// From `max_lr / div_factor` to `max_lr` and down to `max_lr / div_factor / final_div_factor`. PyTorch also
/// cycles the momentum, unless `cycle_momentum=False`; this schedule does not.
#[derive(Clone, Debug)]
pub struct OneCycleLR {
    max_lr: f64,
    total_steps: u64,
    pct_start: f64,
    anneal_strategy: Anneal,
    div_factor: f64,
    final_div_factor: f64,
    three_phase: bool,
}

impl OneCycleLR {
    /// A cycle of `total_steps` steps that rises to `max_lr`.
    pub fn new(max_lr: f64, total_steps: u64) -> Self {
        Self {
            max_lr,
            total_steps,
            pct_start: 0.3,
            anneal_strategy: Anneal::Cos,
            div_factor: 25.0,
            final_div_factor: 1e4,
            three_phase: false,
        }
    }

    /// The learning rates at the corners, with their steps; a corner may be between two steps.
    fn corners(&self) -> Vec<(f64, f64)> {
        let low = self.max_lr / self.div_factor;
        let last = (self.total_steps - 1) as f64;
        let climb = self.pct_start * self.total_steps as f64 - 1.0;
        let mut corners = vec![(0.0, low), (climb, self.max_lr)];
        if self.three_phase {
            corners.push((2.0 * climb, low));
        }
        corners.push((last, low / self.final_div_factor));
        corners
    }
}

setters!(OneCycleLR {
    /// The fraction of the steps in which it rises; 0.3 by default.
    pct_start: f64,
    /// The curve between the corners; half a cosine by default.
    anneal_strategy: Anneal,
    /// The ratio of `max_lr` to the initial learning rate; 25 by default.
    div_factor: f64,
    /// The ratio of the initial to the final learning rate; 10⁴ by default.
    final_div_factor: f64,
    /// Descends to the initial rate as fast as it rose, and then to the final one; false by default.
    three_phase: bool,
});

impl LRScheduler for OneCycleLR {
    /// # Errors
    /// [`Error::Value`] also after the last step.
    fn lr(&self, step: u64) -> Result<f64> {
        context::in_environment(|| {
            const OP: &str = "OneCycleLR";
            at_least_zero(OP, &[("max_lr", self.max_lr)])?;
            in_domain(OP, "pct_start", self.pct_start, (0.0..=1.0).contains(&self.pct_start), "in [0, 1]")?;
            for (name, value) in
                [("div_factor", self.div_factor), ("final_div_factor", self.final_div_factor)]
            {
                in_domain(OP, name, value, value > 0.0 && value.is_finite(), "above 0")?;
            }
            if step >= self.total_steps {
                return Err(Error::value(
                    OP,
                    format!("step {step} of a cycle of {} steps", self.total_steps),
                ));
            }
            let (step, corners) = (step as f64, self.corners());
            let phase = corners[1..].iter().position(|corner| step <= corner.0).unwrap_or(corners.len() - 2);
            let ((start, from), (end, to)) = (corners[phase], corners[phase + 1]);
            let part = if end > start { (step - start) / (end - start) } else { 1.0 };
            self.anneal_strategy.between(from, to, part)
        })
    }
}

/// Which of two metrics is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlateauMode {
    /// The lower one: a loss.
    #[default]
    Min,
    /// The higher one: an accuracy.
    Max,
}

impl PlateauMode {
    /// Whether `value` is better than the best so far by more than `margin`: the comparison that every rule
    /// with a best value uses.
    ///
    /// A first value is better than the worst infinity. NaN is never better, and everything is better than a
    /// best value of NaN, which only a loaded state can contain.
    pub(crate) fn is_better(self, value: f64, best: Option<f64>, margin: impl FnOnce(f64) -> f64) -> bool {
        let worst = if self == Self::Min { f64::INFINITY } else { f64::NEG_INFINITY };
        let best = best.filter(|best| !best.is_nan()).unwrap_or(worst);
        // A fraction of infinity cannot be a margin: ∞ − ∞ would be NaN, compared with which nothing is
        // better.
        let margin = if best.is_finite() { margin(best) } else { 0.0 };
        match self {
            Self::Min => value < best - margin,
            Self::Max => value > best + margin,
        }
    }
}

/// By how much a metric must be better than the best to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThresholdMode {
    /// The threshold times the magnitude of the best, `threshold · |best|`. PyTorch multiplies the best
    /// itself, so that a negative best requires less than no improvement.
    #[default]
    Rel,
    /// The threshold.
    Abs,
}

/// Lowers the learning rate when a metric has stopped improving.
///
/// ```
/// use gristmill::{Tensor, nn::Parameter, optim::{Optimizer, ReduceLROnPlateau, SGD}};
/// let mut optimizer = SGD::new(vec![Parameter::<f32>::new(&Tensor::ones([3])?)], 0.1);
/// let mut plateau = ReduceLROnPlateau::new().patience(1);
/// for loss in [1.0, 0.5, 0.5, 0.5] {
///     plateau.step(&mut optimizer, loss)?;
/// }
/// assert!((optimizer.learning_rate() - 0.01).abs() < 1e-12);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ReduceLROnPlateau {
    mode: PlateauMode,
    factor: f64,
    patience: u64,
    threshold: f64,
    threshold_mode: ThresholdMode,
    cooldown: u64,
    min_lr: f64,
    eps: f64,
    best: Option<f64>,
    bad: u64,
    cooling: u64,
}

impl ReduceLROnPlateau {
    /// Multiplies the learning rate by 0.1 after 11 metrics in a row that are not lower than the best.
    pub fn new() -> Self {
        Self {
            mode: PlateauMode::Min,
            factor: 0.1,
            patience: 10,
            threshold: 1e-4,
            threshold_mode: ThresholdMode::Rel,
            cooldown: 0,
            min_lr: 0.0,
            eps: 1e-8,
            best: None,
            bad: 0,
            cooling: 0,
        }
    }

    /// Takes a new metric and lowers the optimizer's learning rate if necessary.
    ///
    /// NaN is never better, and neither is the infinity on the worse side: a run that has diverged is treated
    /// like one that has stopped improving. The infinity on the better side is the best possible value:
    /// nothing after it is better.
    ///
    /// # Errors
    /// [`Error::Value`] for a setting of the rule outside its domain; then nothing is changed.
    pub fn step<T: Element>(
        &mut self,
        optimizer: &mut (impl Optimizer<T> + ?Sized),
        metric: f64,
    ) -> Result<()> {
        context::in_environment(|| self.step_here(optimizer, metric))
    }

    fn step_here<T: Element>(
        &mut self,
        optimizer: &mut (impl Optimizer<T> + ?Sized),
        metric: f64,
    ) -> Result<()> {
        const OP: &str = "ReduceLROnPlateau";
        in_domain(OP, "factor", self.factor, (0.0..1.0).contains(&self.factor), "in [0, 1)")?;
        at_least_zero(OP, &[("threshold", self.threshold), ("min_lr", self.min_lr), ("eps", self.eps)])?;
        if self.is_better(metric) {
            self.best = Some(metric);
            self.bad = 0;
        } else {
            // A loaded state may contain any number.
            self.bad = self.bad.saturating_add(1);
        }
        if self.cooling > 0 {
            self.cooling -= 1;
            self.bad = 0;
        }
        if self.bad > self.patience {
            self.cooling = self.cooldown;
            self.bad = 0;
            let (old, new) =
                (optimizer.learning_rate(), (optimizer.learning_rate() * self.factor).max(self.min_lr));
            if old - new > self.eps {
                optimizer.set_lr(new);
            }
        }
        Ok(())
    }

    /// The best metric so far and the counters, under PyTorch's names; the settings are not included.
    pub fn state_dict<T: Element>(&self) -> StateDict<T> {
        let mut state = StateDict::new();
        if let Some(best) = self.best {
            state.set("best", best);
        }
        state.set("num_bad_epochs", self.bad);
        state.set("cooldown_counter", self.cooling);
        state
    }

    /// Restores a [`state_dict`](ReduceLROnPlateau::state_dict).
    ///
    /// # Errors
    /// [`Error::Value`] naming what is missing or not a number; then nothing is changed.
    pub fn load_state_dict<T: Element>(&mut self, state: &StateDict<T>) -> Result<()> {
        let best = state.values().contains_key("best").then(|| state.get("best")).transpose()?;
        let (bad, cooling) = (state.get("num_bad_epochs")?, state.get("cooldown_counter")?);
        (self.best, self.bad, self.cooling) = (best, bad, cooling);
        Ok(())
    }

    fn is_better(&self, metric: f64) -> bool {
        self.mode.is_better(metric, self.best, |best| match self.threshold_mode {
            ThresholdMode::Rel => self.threshold * best.abs(),
            ThresholdMode::Abs => self.threshold,
        })
    }
}

impl Default for ReduceLROnPlateau {
    fn default() -> Self {
        Self::new()
    }
}

setters!(ReduceLROnPlateau {
    /// Whether lower or higher is better; lower by default.
    mode: PlateauMode,
    /// The factor of a reduction; 0.1 by default.
    factor: f64,
    /// How many metrics in a row may fail to improve; 10 by default.
    patience: u64,
    /// How much better counts as better; 1e-4 by default.
    threshold: f64,
    /// What the threshold is relative to; the best metric by default.
    threshold_mode: ThresholdMode,
    /// How many metrics after a reduction are not counted; 0 by default.
    cooldown: u64,
    /// The lowest learning rate; 0 by default.
    min_lr: f64,
    /// A reduction by no more than this is skipped; 1e-8 by default.
    eps: f64,
});

/// `base` to an integer power; exponents above 2⁵³ are rounded.
fn power(base: f64, exponent: u64) -> f64 {
    base.powf(exponent as f64)
}

fn in_domain(op: &'static str, name: &str, value: f64, good: bool, domain: &str) -> Result<()> {
    if good {
        return Ok(());
    }
    Err(Error::value(op, format!("{name} is {value}, expected a number {domain}")))
}

fn at_least_zero(op: &'static str, numbers: &[(&str, f64)]) -> Result<()> {
    numbers.iter().try_for_each(|&(name, value)| {
        in_domain(op, name, value, value >= 0.0 && value.is_finite(), "of at least 0")
    })
}

fn at_least_one(op: &'static str, name: &str, value: u64) -> Result<()> {
    if value > 0 { Ok(()) } else { Err(Error::value(op, format!("{name} is 0, expected at least 1"))) }
}
