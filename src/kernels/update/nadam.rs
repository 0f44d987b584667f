//! NAdam.

use super::moments::{ExactMoments, Moments, VANISHED, power};
use super::{
    Chunk, Decay, Formula, Kind, Part, Progress, Setting, Update, at_least_zero, below_one, settings,
};
use crate::context;
use crate::error::{Error, Result};
use crate::kernels::map::{self, Unary};
use crate::reference::decayed;
use crate::simd::{Element, Float, Simd};

/// log₂ 0.96.
const LOG2_096: f64 = -0.058_893_689_053_568_62;

/// Dozat's NAdam (2016): Adam with Nesterov's look ahead.
///
/// ```text
/// g ← g + λ·p                                        or, decoupled, p ← p·(1 − lr·λ)
/// exp_avg ← β₁·exp_avg + (1 − β₁)·g
/// exp_avg_sq ← β₂·exp_avg_sq + (1 − β₂)·g²
/// d ← (1 − μₜ)/(1 − μ₁⋯μₜ) · g + μₜ₊₁/(1 − μ₁⋯μₜ₊₁) · exp_avg
/// p ← p − lr · d / (√exp_avg_sq/√(1 − β₂ᵗ) + eps)
/// ```
///
/// The state starts at 0. What it carries is the product μ₁ ⋯ μₜ₋₁ of the [momenta](NAdam::momentum) before
/// the step, 1 in the first; a product below 1e-100 counts as 0, which changes no bit of a step.
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

impl Update for NAdam {
    type Prepared<T: Element> = Prepared<T>;

    const NAME: &'static str = "nadam";
    const STATE: &'static [Part] =
        &[Part { name: "exp_avg", kind: Kind::Moment }, Part { name: "exp_avg_sq", kind: Kind::Square }];
    const OPERATIONS: u32 = 14;

    fn validate(&self) -> Result<()> {
        at_least_zero("nadam", "lr", self.lr)?;
        below_one("nadam", "beta1", self.beta1)?;
        below_one("nadam", "beta2", self.beta2)?;
        at_least_zero("nadam", "eps", self.eps)?;
        at_least_zero("nadam", "weight_decay", self.weight_decay)?;
        at_least_zero("nadam", "momentum_decay", self.momentum_decay)
    }

    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
        settings!(self: lr Number, beta1 Number, beta2 Number, eps Number, weight_decay Number, decay Decay,
            momentum_decay Number)
    }

    fn carry(&self, at: Progress) -> Result<f64> {
        context::in_environment(|| {
            let product = at.carried * self.momentum(at.step)?;
            Ok(if product < VANISHED { 0.0 } else { product })
        })
    }

    fn prepare<T: Element>(&self, at: Progress) -> Result<Prepared<T>> {
        if !(0.0..=1.0).contains(&at.carried) {
            let message = format!("the product of momenta is {}, expected a number in [0, 1]", at.carried);
            return Err(Error::value("nadam", message));
        }
        let (mu, next) = (self.momentum(at.step)?, self.momentum(at.step.saturating_add(1))?);
        let product = if at.carried < VANISHED { 0.0 } else { at.carried * mu };
        Ok(Prepared {
            moments: Moments::new(self.beta1, self.beta2),
            of_grad: T::from_f64(self.lr * (1.0 - mu) / (1.0 - product)),
            of_moment: T::from_f64(self.lr * next / (1.0 - product * next)),
            root_scale: T::from_f64(1.0 / (1.0 - power(self.beta2, at.step)).sqrt()),
            eps: T::from_f64(self.eps),
        })
    }

    fn exact(&self, at: Progress, g: f64, p: f64, [first, second, _]: [f64; 3]) -> [f64; 4] {
        let (g, mut p) = decayed(self.lr, self.weight_decay, self.decay == Decay::L2, g, p);
        let ExactMoments { first, second, kept } =
            ExactMoments::new(self.beta1, self.beta2, at, g, first, second);
        let momentum =
            |step: u64| self.beta1 * (1.0 - 0.5 * 0.96_f64.powf(step as f64 * self.momentum_decay));
        let (mu, next) = (momentum(at.step), momentum(at.step.saturating_add(1)));
        let product = at.carried * mu;
        let denominator = (second / (1.0 - kept[1])).sqrt() + self.eps;
        p -= self.lr * (1.0 - mu) / (1.0 - product) * g / denominator;
        p -= self.lr * next / (1.0 - product * next) * first / denominator;
        [p, first, second, 0.0]
    }
}

#[derive(Clone, Copy)]
pub(super) struct Prepared<T> {
    moments: Moments<T>,
    /// The learning rate times the weight of the gradient in the direction.
    of_grad: T,
    /// The learning rate times the weight of the first moment in the direction.
    of_moment: T,
    root_scale: T,
    eps: T,
}

impl<T: Element> Formula<T> for Prepared<T> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S, chunk: Chunk<'_, T>) {
        let Self { moments, of_grad, of_moment, root_scale, eps } = self;
        chunk.each(
            s,
            [0, 1, 2],
            #[inline(always)]
            |g, [p, first, second]| {
                let (first, second) = moments.with(s, g, first, second);
                let denominator = second.sqrt().mul_add(s.splat(root_scale), s.splat(eps));
                let direction = first.mul_add(s.splat(of_moment), g * s.splat(of_grad));
                [p - direction / denominator, first, second]
            },
        );
    }
}
