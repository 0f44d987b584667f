//! NAdam.

use super::{
    Decay, Rule, Start, Step, VANISHED, at_least_zero, below_one, counted_from_one, each, power, run_all,
};
use crate::context;
use crate::error::{Error, Result};
use crate::kernels::map::{self, Unary};
use crate::kernels::{compiled_once, same_len};
use crate::simd::{Element, Float, Kernel, Simd};

/// log₂ 0.96.
const LOG2_096: f64 = -0.058_893_689_053_568_62;

/// Dozat's NAdam (2016): Adam with Nesterov's look ahead.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NAdam {
    /// The learning rate, ≥ 0.
    pub lr: f64,
    /// The part of the first moment that is kept, in [0, 1).
    pub beta1: f64,
    /// The part of the second moment that is kept, in [0, 1).
    pub beta2: f64,
    /// Added to the root, ≥ 0.
    pub eps: f64,
    /// λ, ≥ 0.
    pub weight_decay: f64,
    /// What λ does.
    pub decay: Decay,
    /// How fast the momentum grows to β₁, ≥ 0; see [`momentum`](NAdam::momentum).
    pub momentum_decay: f64,
}

impl Default for NAdam {
    /// PyTorch's: `lr = 0.002`, betas 0.9 and 0.999, `eps = 1e-8`, `momentum_decay = 0.004`, no decay.
    fn default() -> Self {
        Self {
            lr: 2e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            decay: Decay::L2,
            momentum_decay: 4e-3,
        }
    }
}

impl NAdam {
    /// Whether the hyperparameters make sense.
    ///
    /// # Errors
    /// [`Error::Value`] names the first that does not.
    pub fn validate(&self) -> Result<()> {
        at_least_zero("nadam", "lr", self.lr)?;
        below_one("nadam", "beta1", self.beta1)?;
        below_one("nadam", "beta2", self.beta2)?;
        at_least_zero("nadam", "eps", self.eps)?;
        at_least_zero("nadam", "weight_decay", self.weight_decay)?;
        at_least_zero("nadam", "momentum_decay", self.momentum_decay)
    }

    /// The momentum of a step, `μₜ = β₁·(1 − 0.96^(t·momentum_decay)/2)`.
    ///
    /// # Errors
    /// Only those of a bad setting; see [`Context`](crate::Context).
    pub fn momentum(&self, step: u64) -> Result<f64> {
        // The kernel's exp2 gives the same bits on every machine, the standard library's powers need not.
        context::in_environment(|| {
            let mut power = [0.0];
            map::unary(Unary::Exp2, &[step as f64 * self.momentum_decay * LOG2_096], &mut power)?;
            Ok(self.beta1 * (1.0 - 0.5 * power[0]))
        })
    }
}

compiled_once! {
    /// One step of NAdam, the `step`th (the first is 1), with the product μ₁ ⋯ μₜ₋₁ of the
    /// [momenta](NAdam::momentum) so far, 1 in the first step.
    ///
    /// ```text
    /// g ← g + λ·p                                        or, decoupled, p ← p·(1 − lr·λ)
    /// exp_avg ← β₁·exp_avg + (1 − β₁)·g
    /// exp_avg_sq ← β₂·exp_avg_sq + (1 − β₂)·g²
    /// d ← (1 − μₜ)/(1 − μ₁⋯μₜ) · g + μₜ₊₁/(1 − μ₁⋯μₜ₊₁) · exp_avg
    /// p ← p − lr · d / (√exp_avg_sq/√(1 − β₂ᵗ) + eps)
    /// ```
    ///
    /// The state starts at 0. A product below 1e-100 counts as 0, which changes no bit of a step.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths differ, [`Error::Value`] when a hyperparameter does not make sense.
    pub fn nadam<T: Element>(
        config: &NAdam,
        step: u64,
        mu_product: f64,
        grad: &[T],
        param: &mut [T],
        exp_avg: &mut [T],
        exp_avg_sq: &mut [T],
    ) -> Result<()> {
        run_all(&mut [Step::nadam(config, step, mu_product, grad, param, exp_avg, exp_avg_sq)?])
    }
}

impl<'a, T: Element> Step<'a, T> {
    /// Of [`nadam`].
    ///
    /// # Errors
    /// Those of [`nadam`].
    pub fn nadam(
        config: &NAdam,
        step: u64,
        mu_product: f64,
        grad: &'a [T],
        param: &'a mut [T],
        exp_avg: &'a mut [T],
        exp_avg_sq: &'a mut [T],
    ) -> Result<Self> {
        config.validate()?;
        counted_from_one("nadam", step)?;
        if !(0.0..=1.0).contains(&mu_product) {
            let message = format!("mu_product is {mu_product}, expected a number in [0, 1]");
            return Err(Error::value("nadam", message));
        }
        same_len("nadam", "param", param, grad.len())?;
        same_len("nadam", "exp_avg", exp_avg, grad.len())?;
        same_len("nadam", "exp_avg_sq", exp_avg_sq, grad.len())?;
        let (mu, next) = (config.momentum(step)?, config.momentum(step.saturating_add(1))?);
        let rule = context::in_environment(|| {
            let product = if mu_product < VANISHED { 0.0 } else { mu_product * mu };
            Rule::NAdam(NAdamRule {
                keep: [config.beta1, config.beta2].map(T::from_f64),
                fresh: [1.0 - config.beta1, 1.0 - config.beta2].map(T::from_f64),
                of_grad: T::from_f64(config.lr * (1.0 - mu) / (1.0 - product)),
                of_moment: T::from_f64(config.lr * next / (1.0 - product * next)),
                root_scale: T::from_f64(1.0 / (1.0 - power(config.beta2, step)).sqrt()),
                eps: T::from_f64(config.eps),
                start: Start::new(config.lr, config.weight_decay, config.decay),
            })
        });
        Ok(Self::new(rule, grad, param, [exp_avg, exp_avg_sq, &mut []]))
    }
}

#[derive(Clone, Copy)]
pub(super) struct NAdamRule<T> {
    /// β₁ and β₂.
    keep: [T; 2],
    /// 1 − β₁ and 1 − β₂.
    fresh: [T; 2],
    /// The learning rate times the weight of the gradient in the direction.
    of_grad: T,
    /// The learning rate times the weight of the first moment in the direction.
    of_moment: T,
    root_scale: T,
    eps: T,
    pub start: Start<T>,
}

pub(super) struct NAdamStep<'a, T> {
    pub rule: NAdamRule<T>,
    pub grad: &'a [T],
    pub param: &'a mut [T],
    pub first: &'a mut [T],
    pub second: &'a mut [T],
}

impl<T: Element> Kernel for NAdamStep<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let NAdamRule { keep, fresh, of_grad, of_moment, root_scale, eps, start } = self.rule;
        each(
            s,
            [self.grad],
            [self.param, self.first, self.second],
            #[inline(always)]
            |[g], [p, first, second]| {
                let (g, p) = start.apply(s, g, p);
                let first = first.mul_add(s.splat(keep[0]), g * s.splat(fresh[0]));
                let second = second.mul_add(s.splat(keep[1]), g * g * s.splat(fresh[1]));
                let denominator = second.sqrt().mul_add(s.splat(root_scale), s.splat(eps));
                let direction = first.mul_add(s.splat(of_moment), g * s.splat(of_grad));
                [p - direction / denominator, first, second]
            },
        );
    }
}
