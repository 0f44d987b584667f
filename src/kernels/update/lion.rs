//! Lion.

use super::{Decay, Rule, Start, Step, at_least_zero, below_one, each, run_all};
use crate::context;
use crate::error::Result;
use crate::kernels::{compiled_once, same_len};
use crate::simd::{Element, Float, Kernel, Simd};

/// Chen and others' Lion (2023): steps of the same length in each element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lion {
    /// The learning rate, ≥ 0.
    pub lr: f64,
    /// The weight of the moment in the direction, in [0, 1).
    pub beta1: f64,
    /// The part of the moment that is kept, in [0, 1).
    pub beta2: f64,
    /// λ, ≥ 0.
    pub weight_decay: f64,
    /// What λ does.
    pub decay: Decay,
}

impl Default for Lion {
    /// The authors': `lr = 1e-4`, betas 0.9 and 0.99, no decay; decoupled if there is one.
    fn default() -> Self {
        Self { lr: 1e-4, beta1: 0.9, beta2: 0.99, weight_decay: 0.0, decay: Decay::Decoupled }
    }
}

impl Lion {
    /// Whether the hyperparameters make sense.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) names the first that does not.
    pub fn validate(&self) -> Result<()> {
        at_least_zero("lion", "lr", self.lr)?;
        below_one("lion", "beta1", self.beta1)?;
        below_one("lion", "beta2", self.beta2)?;
        at_least_zero("lion", "weight_decay", self.weight_decay)
    }
}

compiled_once! {
    /// One step of Lion.
    ///
    /// ```text
    /// p ← p·(1 − lr·λ)                                   or, as a penalty, g ← g + λ·p
    /// p ← p − lr · sign(β₁·exp_avg + (1 − β₁)·g)         sign(0) = 0
    /// exp_avg ← β₂·exp_avg + (1 − β₂)·g
    /// ```
    ///
    /// The moment starts at 0. The sign of a sum that rounds to the other side of 0 makes a step the other way.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when the lengths differ, [`Error::Value`](crate::Error::Value) when a
    /// hyperparameter does not make sense.
    ///
    /// ```
    /// use gristmill::kernels::update::{self, Lion};
    /// let (mut param, mut exp_avg) = ([1.0_f64; 3], [0.0; 3]);
    /// let config = Lion { lr: 0.25, ..Lion::default() };
    /// update::lion(&config, &[3.0, -0.1, 0.0], &mut param, &mut exp_avg)?;
    /// assert_eq!(param, [0.75, 1.25, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn lion<T: Element>(config: &Lion, grad: &[T], param: &mut [T], exp_avg: &mut [T]) -> Result<()> {
        run_all(&mut [Step::lion(config, grad, param, exp_avg)?])
    }
}

impl<'a, T: Element> Step<'a, T> {
    /// Of [`lion`].
    ///
    /// # Errors
    /// Those of [`lion`].
    pub fn lion(config: &Lion, grad: &'a [T], param: &'a mut [T], exp_avg: &'a mut [T]) -> Result<Self> {
        config.validate()?;
        same_len("lion", "param", param, grad.len())?;
        same_len("lion", "exp_avg", exp_avg, grad.len())?;
        let rule = context::in_environment(|| {
            Rule::Lion(LionRule {
                lr: T::from_f64(config.lr),
                keep: [config.beta1, config.beta2].map(T::from_f64),
                fresh: [1.0 - config.beta1, 1.0 - config.beta2].map(T::from_f64),
                start: Start::new(config.lr, config.weight_decay, config.decay),
            })
        });
        Ok(Self::new(rule, grad, param, [exp_avg, &mut [], &mut []]))
    }
}

#[derive(Clone, Copy)]
pub(super) struct LionRule<T> {
    lr: T,
    /// β₁ and β₂.
    keep: [T; 2],
    /// 1 − β₁ and 1 − β₂.
    fresh: [T; 2],
    pub start: Start<T>,
}

pub(super) struct LionStep<'a, T> {
    pub rule: LionRule<T>,
    pub grad: &'a [T],
    pub param: &'a mut [T],
    pub moment: &'a mut [T],
}

impl<T: Element> Kernel for LionStep<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let LionRule { lr, keep: [keep1, keep2], fresh: [fresh1, fresh2], start } = self.rule;
        let (zero, one) = (s.splat(T::ZERO), s.splat(T::ONE));
        each(
            s,
            [self.grad],
            [self.param, self.moment],
            #[inline(always)]
            |[g], [p, moment]| {
                let (g, p) = start.apply(s, g, p);
                let direction = moment.mul_add(s.splat(keep1), g * s.splat(fresh1));
                let moment = moment.mul_add(s.splat(keep2), g * s.splat(fresh2));
                // Zeros and NaN stay.
                let far = zero.lt(direction.abs());
                let sign = T::Vector::select(far, one.copysign(direction), direction);
                [sign.neg_mul_add(s.splat(lr), p), moment]
            },
        );
    }
}
