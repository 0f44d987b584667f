//! RAdam.

use super::{Decay, Rule, Start, Step, at_least_zero, below_one, counted_from_one, each, power, run_all};
use crate::context;
use crate::error::Result;
use crate::kernels::{compiled_once, same_len};
use crate::simd::{Element, Float, Kernel, Simd};

/// Liu and others' RAdam (2020): Adam that does not divide by the root while its variance is not known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RAdam {
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
}

impl Default for RAdam {
    /// PyTorch's: `lr = 0.001`, betas 0.9 and 0.999, `eps = 1e-8`, no decay.
    fn default() -> Self {
        Self { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, decay: Decay::L2 }
    }
}

impl RAdam {
    /// Whether the hyperparameters make sense.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) names the first that does not.
    pub fn validate(&self) -> Result<()> {
        at_least_zero("radam", "lr", self.lr)?;
        below_one("radam", "beta1", self.beta1)?;
        below_one("radam", "beta2", self.beta2)?;
        at_least_zero("radam", "eps", self.eps)?;
        at_least_zero("radam", "weight_decay", self.weight_decay)
    }

    /// √(1 − β₂ᵗ) times the factor that rectifies the variance; none while ρₜ ≤ 5.
    fn rectification(&self, step: u64) -> Option<f64> {
        let kept = power(self.beta2, step);
        let most = 2.0 / (1.0 - self.beta2) - 1.0;
        let rho = most - 2.0 * step as f64 * kept / (1.0 - kept);
        let factor = ((rho - 4.0) * (rho - 2.0) * most / ((most - 4.0) * (most - 2.0) * rho)).sqrt();
        (rho > 5.0).then(|| (1.0 - kept).sqrt() * factor)
    }
}

compiled_once! {
    /// One step of RAdam, the `step`th (the first is 1).
    ///
    /// ```text
    /// g ← g + λ·p                                        or, decoupled, p ← p·(1 − lr·λ)
    /// exp_avg ← β₁·exp_avg + (1 − β₁)·g
    /// exp_avg_sq ← β₂·exp_avg_sq + (1 − β₂)·g²
    /// ρ∞ = 2/(1 − β₂) − 1,  ρₜ = ρ∞ − 2t·β₂ᵗ/(1 − β₂ᵗ)
    /// r = √((ρₜ − 4)(ρₜ − 2)ρ∞ / ((ρ∞ − 4)(ρ∞ − 2)ρₜ))
    /// p ← p − lr/(1 − β₁ᵗ) · exp_avg · r·√(1 − β₂ᵗ)/(√exp_avg_sq + eps)       where ρₜ > 5
    /// p ← p − lr/(1 − β₁ᵗ) · exp_avg                                          elsewhere
    /// ```
    ///
    /// The state starts at 0.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when the lengths differ, [`Error::Value`](crate::Error::Value) when a
    /// hyperparameter does not make sense.
    pub fn radam<T: Element>(
        config: &RAdam,
        step: u64,
        grad: &[T],
        param: &mut [T],
        exp_avg: &mut [T],
        exp_avg_sq: &mut [T],
    ) -> Result<()> {
        run_all(&mut [Step::radam(config, step, grad, param, exp_avg, exp_avg_sq)?])
    }
}

impl<'a, T: Element> Step<'a, T> {
    /// Of [`radam`].
    ///
    /// # Errors
    /// Those of [`radam`].
    pub fn radam(
        config: &RAdam,
        step: u64,
        grad: &'a [T],
        param: &'a mut [T],
        exp_avg: &'a mut [T],
        exp_avg_sq: &'a mut [T],
    ) -> Result<Self> {
        config.validate()?;
        counted_from_one("radam", step)?;
        same_len("radam", "param", param, grad.len())?;
        same_len("radam", "exp_avg", exp_avg, grad.len())?;
        same_len("radam", "exp_avg_sq", exp_avg_sq, grad.len())?;
        let rule = context::in_environment(|| {
            let rectification = config.rectification(step);
            let step_size = config.lr / (1.0 - power(config.beta1, step)) * rectification.unwrap_or(1.0);
            Rule::RAdam(RAdamRule {
                keep: [config.beta1, config.beta2].map(T::from_f64),
                fresh: [1.0 - config.beta1, 1.0 - config.beta2].map(T::from_f64),
                step_size: T::from_f64(step_size),
                eps: T::from_f64(config.eps),
                rectified: rectification.is_some(),
                start: Start::new(config.lr, config.weight_decay, config.decay),
            })
        });
        Ok(Self::new(rule, grad, param, [exp_avg, exp_avg_sq, &mut []]))
    }
}

#[derive(Clone, Copy)]
pub(super) struct RAdamRule<T> {
    /// β₁ and β₂.
    keep: [T; 2],
    /// 1 − β₁ and 1 − β₂.
    fresh: [T; 2],
    step_size: T,
    eps: T,
    rectified: bool,
    pub start: Start<T>,
}

pub(super) struct RAdamStep<'a, T> {
    pub rule: RAdamRule<T>,
    pub grad: &'a [T],
    pub param: &'a mut [T],
    pub first: &'a mut [T],
    pub second: &'a mut [T],
}

impl<T: Element> Kernel for RAdamStep<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let RAdamRule { keep, fresh, step_size, eps, rectified, start } = self.rule;
        each(
            s,
            [self.grad],
            [self.param, self.first, self.second],
            #[inline(always)]
            |[g], [p, first, second]| {
                let (g, p) = start.apply(s, g, p);
                let first = first.mul_add(s.splat(keep[0]), g * s.splat(fresh[0]));
                let second = second.mul_add(s.splat(keep[1]), g * g * s.splat(fresh[1]));
                let direction = if rectified { first / (second.sqrt() + s.splat(eps)) } else { first };
                [direction.neg_mul_add(s.splat(step_size), p), first, second]
            },
        );
    }
}
