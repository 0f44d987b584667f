//! Adagrad.

use super::{Chunk, Decay, Formula, Kind, Part, Progress, Setting, Update, at_least_zero, settings};
use crate::error::Result;
use crate::reference::decayed;
use crate::simd::{Element, Float, Simd};

/// Duchi, Hazan and Singer's Adagrad (2011).
///
/// ```text
/// lrₜ = lr / (1 + (t − 1)·lr_decay)
/// g ← g + λ·p                                        or, decoupled, p ← p·(1 − lrₜ·λ)
/// sum ← sum + g²
/// p ← p − lrₜ · g / (√sum + eps)
/// ```
///
/// The sum starts at the initial accumulator value.
///
/// ```
/// use gristmill::kernels::update::{self, Adagrad, Step};
/// let (mut param, mut sum) = ([1.0_f64, 1.0], [0.0; 2]);
/// let config = Adagrad { lr: 0.5, eps: 0.0, ..Adagrad::default() };
/// update::run(&mut [Step::new(config, 1, &[3.0, -0.1], &mut param, [&mut sum])?])?;
/// assert_eq!(param, [0.5, 1.5]); // the first step has the length of the learning rate
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adagrad {
    /// The learning rate, ≥ 0.
    pub lr: f64,
    /// How it falls: `lr/(1 + (t − 1)·lr_decay)` in step t; ≥ 0.
    pub lr_decay: f64,
    /// What the sum of squares starts at, ≥ 0: for whoever makes the state, a step does not look at it.
    pub initial_accumulator_value: f64,
    /// Added to the root, ≥ 0.
    pub eps: f64,
    /// λ, ≥ 0.
    pub weight_decay: f64,
    /// What λ does.
    pub decay: Decay,
}

impl Default for Adagrad {
    /// PyTorch's: `lr = 0.01`, `eps = 1e-10`, no decay.
    fn default() -> Self {
        Self {
            lr: 1e-2,
            lr_decay: 0.0,
            initial_accumulator_value: 0.0,
            eps: 1e-10,
            weight_decay: 0.0,
            decay: Decay::L2,
        }
    }
}

impl Update for Adagrad {
    type Prepared<T: Element> = Prepared<T>;

    const NAME: &'static str = "adagrad";
    const STATE: &'static [Part] = &[Part { name: "sum", kind: Kind::Square }];
    const OPERATIONS: u32 = 6;

    fn validate(&self) -> Result<()> {
        at_least_zero("adagrad", "lr", self.lr)?;
        at_least_zero("adagrad", "lr_decay", self.lr_decay)?;
        at_least_zero("adagrad", "initial_accumulator_value", self.initial_accumulator_value)?;
        at_least_zero("adagrad", "eps", self.eps)?;
        at_least_zero("adagrad", "weight_decay", self.weight_decay)
    }

    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
        settings!(self: lr Number, lr_decay Number, initial_accumulator_value Number, eps Number,
            weight_decay Number, decay Decay)
    }

    fn initial(&self) -> f64 {
        self.initial_accumulator_value
    }

    fn lr_at(&self, lr: f64, at: Progress) -> f64 {
        lr / (1.0 + (at.step - 1) as f64 * self.lr_decay)
    }

    fn prepare<T: Element>(&self, at: Progress) -> Result<Prepared<T>> {
        Ok(Prepared { lr: T::from_f64(self.lr_at(self.lr, at)), eps: T::from_f64(self.eps) })
    }

    fn exact(&self, at: Progress, g: f64, p: f64, [sum, ..]: [f64; 3]) -> [f64; 4] {
        let lr = self.lr_at(self.lr, at);
        let (g, p) = decayed(lr, self.weight_decay, self.decay == Decay::L2, g, p);
        let sum = sum + g * g;
        [p - lr * g / (sum.sqrt() + self.eps), sum, 0.0, 0.0]
    }
}

#[derive(Clone, Copy)]
pub(super) struct Prepared<T> {
    lr: T,
    eps: T,
}

impl<T: Element> Formula<T> for Prepared<T> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S, chunk: Chunk<'_, T>) {
        let Self { lr, eps } = self;
        chunk.each(
            s,
            [0, 1],
            #[inline(always)]
            |g, [p, sum]| {
                let sum = g.mul_add(g, sum);
                [(g / (sum.sqrt() + s.splat(eps))).neg_mul_add(s.splat(lr), p), sum]
            },
        );
    }
}
