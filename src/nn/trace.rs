//! The shapes and operations that a traced forward pass records for the summary.

use std::collections::BTreeMap;

use crate::tensor::Shape;

/// What a forward pass through [`Module::trace`](super::Module::trace) has recorded: shapes and operations of
/// each module.
///
/// A module with children runs them through [`child`](Trace::child), in the same way as in its forward pass,
/// so that [`summary_for`](super::Module::summary_for) has figures for each of them:
///
/// ```
/// use gristmill::{Result, Rng, Tensor, nn::{Linear, Module, Trace, Visitor}};
///
/// struct TwoLayers(Linear, Linear);
///
/// impl Module for TwoLayers {
///     fn forward(&self, x: &Tensor) -> Result<Tensor> {
///         self.1.forward(&self.0.forward(x)?.relu()?)
///     }
///     fn trace(&self, x: &Tensor, trace: &mut Trace) -> Result<Tensor> {
///         let y = trace.child("first", &self.0, x)?.relu()?;
///         trace.child("second", &self.1, &y)
///     }
///     fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
///         visitor.child("first", &self.0);
///         visitor.child("second", &self.1);
///     }
/// }
///
/// let mut rng = Rng::seed(4);
/// let model = TwoLayers(Linear::new(8, 4, &mut rng)?, Linear::new(4, 1, &mut rng)?);
/// let summary = model.summary_for(&[32, 8])?;
/// assert_eq!(summary.lines().nth(2).unwrap(), "  Linear(8 → 4)  [32, 4]          36  2,048    144");
/// assert!(summary.contains("41 parameters, 2,304 FLOPs"));
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Default)]
pub struct Trace {
    path: String,
    pub(super) seen: BTreeMap<String, Seen>,
}

pub(super) struct Seen {
    pub output: Shape,
    pub flops: u64,
}

impl Trace {
    /// Calls `run` for the child of this name.
    pub(super) fn under<R>(&mut self, name: &str, run: impl FnOnce(&mut Self) -> R) -> R {
        let parent = self.path.len();
        if parent > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        let result = run(self);
        self.path.truncate(parent);
        result
    }

    /// Records a run of the module at the current path.
    pub(super) fn note(&mut self, output: Shape, flops: u64) {
        let seen = self.seen.entry(self.path.clone()).or_insert(Seen { output, flops: 0 });
        seen.output = output;
        seen.flops += flops;
    }
}
