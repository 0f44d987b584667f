//! Adagrad.

use super::{Decay, Rule, Start, Step, at_least_zero, counted_from_one, each, run_all};
use crate::context;
use crate::error::Result;
use crate::kernels::{compiled_once, same_len};
use crate::simd::{Element, Float, Kernel, Simd};

/// Duchi, Hazan and Singer's Adagrad (2011).
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

impl Adagrad {
    /// Whether the hyperparameters make sense.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) names the first that does not.
    pub fn validate(&self) -> Result<()> {
        at_least_zero("adagrad", "lr", self.lr)?;
        at_least_zero("adagrad", "lr_decay", self.lr_decay)?;
        at_least_zero("adagrad", "initial_accumulator_value", self.initial_accumulator_value)?;
        at_least_zero("adagrad", "eps", self.eps)?;
        at_least_zero("adagrad", "weight_decay", self.weight_decay)
    }
}

compiled_once! {
    /// One step of Adagrad, the `step`th (the first is 1).
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
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when the lengths differ, [`Error::Value`](crate::Error::Value) when a
    /// hyperparameter does not make sense.
    ///
    /// ```
    /// use gristmill::kernels::update::{self, Adagrad};
    /// let (mut param, mut sum) = ([1.0_f64, 1.0], [0.0; 2]);
    /// let config = Adagrad { lr: 0.5, eps: 0.0, ..Adagrad::default() };
    /// update::adagrad(&config, 1, &[3.0, -0.1], &mut param, &mut sum)?;
    /// assert_eq!(param, [0.5, 1.5]); // the first step has the length of the learning rate
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn adagrad<T: Element>(
        config: &Adagrad,
        step: u64,
        grad: &[T],
        param: &mut [T],
        sum: &mut [T],
    ) -> Result<()> {
        run_all(&mut [Step::adagrad(config, step, grad, param, sum)?])
    }
}

impl<'a, T: Element> Step<'a, T> {
    /// Of [`adagrad`].
    ///
    /// # Errors
    /// Those of [`adagrad`].
    pub fn adagrad(
        config: &Adagrad,
        step: u64,
        grad: &'a [T],
        param: &'a mut [T],
        sum: &'a mut [T],
    ) -> Result<Self> {
        config.validate()?;
        counted_from_one("adagrad", step)?;
        same_len("adagrad", "param", param, grad.len())?;
        same_len("adagrad", "sum", sum, grad.len())?;
        let rule = context::in_environment(|| {
            let lr = config.lr / (1.0 + (step - 1) as f64 * config.lr_decay);
            Rule::Adagrad(AdagradRule {
                lr: T::from_f64(lr),
                eps: T::from_f64(config.eps),
                start: Start::new(lr, config.weight_decay, config.decay),
            })
        });
        Ok(Self::new(rule, grad, param, [sum, &mut [], &mut []]))
    }
}

#[derive(Clone, Copy)]
pub(super) struct AdagradRule<T> {
    lr: T,
    eps: T,
    pub start: Start<T>,
}

pub(super) struct AdagradStep<'a, T> {
    pub rule: AdagradRule<T>,
    pub grad: &'a [T],
    pub param: &'a mut [T],
    pub sum: &'a mut [T],
}

impl<T: Element> Kernel for AdagradStep<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let AdagradRule { lr, eps, start } = self.rule;
        each(
            s,
            [self.grad],
            [self.param, self.sum],
            #[inline(always)]
            |[g], [p, sum]| {
                let (g, p) = start.apply(s, g, p);
                let sum = g.mul_add(g, sum);
                [(g / (sum.sqrt() + s.splat(eps))).neg_mul_add(s.splat(lr), p), sum]
            },
        );
    }
}
