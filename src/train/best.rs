//! The best epoch so far: when to stop, and which model to keep.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::nn::{self, Module, StateDict};
use crate::optim::PlateauMode;
use crate::simd::Element;

/// The best value so far.
#[derive(Clone, Debug)]
struct Best {
    mode: PlateauMode,
    min_delta: f64,
    value: Option<f64>,
}

impl Best {
    const fn new() -> Self {
        Self { mode: PlateauMode::Min, min_delta: 0.0, value: None }
    }

    /// Whether `value` is better than all before it; if so, it becomes the best. NaN is never better, nor is
    /// the infinity on the worse side.
    fn beaten_by(&mut self, value: f64) -> bool {
        let better = self.mode.is_better(value, self.value, |_| self.min_delta);
        if better {
            self.value = Some(value);
        }
        better
    }
}

/// Detects when a value, such as the loss on held-out data, no longer improves.
///
/// ```
/// use gristmill::train::EarlyStopping;
/// let mut stopping = EarlyStopping::new(2).min_delta(0.01);
/// let losses = [0.9, 0.5, 0.499, 0.6, 0.1];
/// let stopped = losses.iter().position(|&loss| stopping.step(loss));
/// assert_eq!((stopped, stopping.best(), stopping.best_step()), (Some(3), Some(0.5), Some(1)));
/// ```
#[derive(Clone, Debug)]
pub struct EarlyStopping {
    best: Best,
    patience: usize,
    steps: usize,
    best_step: Option<usize>,
}

impl EarlyStopping {
    /// Stops at the `patience`th value in a row that is not an improvement, at least the first; smaller is
    /// better.
    pub const fn new(patience: usize) -> Self {
        Self { best: Best::new(), patience, steps: 0, best_step: None }
    }

    /// By how much a value must be better than the best to be an improvement; more than 0 by default.
    #[must_use]
    pub const fn min_delta(mut self, min_delta: f64) -> Self {
        self.best.min_delta = min_delta.abs();
        self
    }

    /// Whether smaller or larger is better.
    #[must_use]
    pub const fn mode(mut self, mode: PlateauMode) -> Self {
        self.best.mode = mode;
        self
    }

    /// Takes the next value; says whether to stop. NaN is not an improvement, nor is the infinity on the
    /// worse side.
    pub fn step(&mut self, value: f64) -> bool {
        if self.best.beaten_by(value) {
            self.best_step = Some(self.steps);
        }
        // A loaded state may contain any number.
        self.steps = self.steps.saturating_add(1);
        let since =
            self.best_step.map_or(self.steps, |best| self.steps.saturating_sub(best).saturating_sub(1));
        since > 0 && since >= self.patience
    }

    /// The best value.
    pub const fn best(&self) -> Option<f64> {
        self.best.value
    }

    /// The index of the best value, counted from 0.
    pub const fn best_step(&self) -> Option<usize> {
        self.best_step
    }

    /// The progress so far: the best value, its index, and the number of values.
    pub fn state_dict<T: Element>(&self) -> StateDict<T> {
        let mut state = StateDict::new();
        if let (Some(best), Some(step)) = (self.best.value, self.best_step) {
            state.set("best", best);
            state.set("best_step", step);
        }
        state.set("steps", self.steps);
        state
    }

    /// Restores a [`state_dict`](EarlyStopping::state_dict), but not patience and mode.
    ///
    /// # Errors
    /// [`Error::Value`] naming what is missing, not a number, or impossible; then nothing is changed.
    pub fn load_state_dict<T: Element>(&mut self, state: &StateDict<T>) -> Result<()> {
        let steps = state.get("steps")?;
        let (mut best, mut best_step) = (None, None);
        if state.values().contains_key("best") {
            best = Some(state.get("best")?);
            best_step = Some(state.get::<usize>("best_step")?).filter(|&step| step < steps);
            if best_step.is_none() {
                return Err(Error::value(
                    "EarlyStopping",
                    format!("the best of {steps} steps is not one of them"),
                ));
            }
        }
        (self.best.value, self.best_step, self.steps) = (best, best_step, steps);
        Ok(())
    }
}

/// Stores the last model and the best one in a folder: `last.safetensors` and `best.safetensors`.
///
/// ```
/// use gristmill::{Rng, nn::{Linear, Module}, train::Checkpoints};
/// let dir = std::env::temp_dir().join(format!("gristmill-doc-kept-{}", std::process::id()));
/// let model: Linear = Linear::new(2, 2, &mut Rng::seed(4))?;
/// let mut kept = Checkpoints::new(&dir)?;
/// assert!(kept.save(&model, 0.3)?);
/// assert!(!kept.save(&model, 0.4)?);
/// model.load(kept.best())?;
/// # std::fs::remove_dir_all(dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Checkpoints {
    dir: PathBuf,
    best: Best,
}

impl Checkpoints {
    /// Stores models in this folder, which is created if it does not exist; smaller values are better.
    ///
    /// # Errors
    /// [`Error::File`] if the folder cannot be created.
    pub fn new(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref().to_owned();
        std::fs::create_dir_all(&dir)
            .map_err(|error| Error::file(&dir, format!("the folder cannot be made: {error}")))?;
        Ok(Self { dir, best: Best::new() })
    }

    /// Whether smaller or larger is better.
    #[must_use]
    pub const fn mode(mut self, mode: PlateauMode) -> Self {
        self.best.mode = mode;
        self
    }

    /// The path of the last model.
    pub fn last(&self) -> PathBuf {
        self.dir.join("last.safetensors")
    }

    /// The path of the best model.
    pub fn best(&self) -> PathBuf {
        self.dir.join("best.safetensors")
    }

    /// The value of the best model.
    pub const fn best_value(&self) -> Option<f64> {
        self.best.value
    }

    /// Writes the model as the last one, and also as the best one if `value` is better than all before;
    /// returns whether it is. Files are replaced as a whole.
    ///
    /// # Errors
    /// [`Error::File`] if a file cannot be written.
    pub fn save<T: Element>(&mut self, model: &(impl Module<T> + ?Sized), value: f64) -> Result<bool> {
        nn::save(model, self.last())?;
        let better = self.best.clone().beaten_by(value);
        if better {
            nn::save(model, self.best())?;
            self.best.value = Some(value);
        }
        Ok(better)
    }
}
