//! RAdam.

use super::moments::{ExactMoments, Moments, power};
use super::{
    Chunk, Decay, Formula, Kind, Part, Progress, Setting, Update, at_least_zero, below_one, settings,
};
use crate::error::Result;
use crate::reference::decayed;
use crate::simd::{Element, Float, Simd};

/// Liu and others' RAdam (2020): Adam that does not divide by the root while its variance is not known.
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
    /// √(1 − β₂ᵗ) times the factor that rectifies the variance; none while ρₜ ≤ 5.
    fn rectification(&self, step: u64) -> Option<f64> {
        let kept = power(self.beta2, step);
        let most = 2.0 / (1.0 - self.beta2) - 1.0;
        let rho = most - 2.0 * step as f64 * kept / (1.0 - kept);
        let factor = ((rho - 4.0) * (rho - 2.0) * most / ((most - 4.0) * (most - 2.0) * rho)).sqrt();
        (rho > 5.0).then(|| (1.0 - kept).sqrt() * factor)
    }
}

impl Update for RAdam {
    type Prepared<T: Element> = Prepared<T>;

    const NAME: &'static str = "radam";
    const STATE: &'static [Part] =
        &[Part { name: "exp_avg", kind: Kind::Moment }, Part { name: "exp_avg_sq", kind: Kind::Square }];
    const OPERATIONS: u32 = 13;

    fn validate(&self) -> Result<()> {
        at_least_zero("radam", "lr", self.lr)?;
        below_one("radam", "beta1", self.beta1)?;
        below_one("radam", "beta2", self.beta2)?;
        at_least_zero("radam", "eps", self.eps)?;
        at_least_zero("radam", "weight_decay", self.weight_decay)
    }

    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
        settings!(self: lr Number, beta1 Number, beta2 Number, eps Number, weight_decay Number, decay Decay)
    }

    fn prepare<T: Element>(&self, at: Progress) -> Result<Prepared<T>> {
        let rectification = self.rectification(at.step);
        let step_size = self.lr / (1.0 - power(self.beta1, at.step)) * rectification.unwrap_or(1.0);
        Ok(Prepared {
            moments: Moments::new(self.beta1, self.beta2),
            step_size: T::from_f64(step_size),
            eps: T::from_f64(self.eps),
            rectified: rectification.is_some(),
        })
    }

    fn exact(&self, at: Progress, g: f64, p: f64, [first, second, _]: [f64; 3]) -> [f64; 4] {
        let (g, mut p) = decayed(self.lr, self.weight_decay, self.decay == Decay::L2, g, p);
        let ExactMoments { first, second, kept } =
            ExactMoments::new(self.beta1, self.beta2, at, g, first, second);
        let direction = first / (1.0 - kept[0]);
        let most = 2.0 / (1.0 - self.beta2) - 1.0;
        let rho = most - 2.0 * at.step as f64 * kept[1] / (1.0 - kept[1]);
        if rho > 5.0 {
            let r = ((rho - 4.0) * (rho - 2.0) * most / ((most - 4.0) * (most - 2.0) * rho)).sqrt();
            p -= self.lr * direction * r * (1.0 - kept[1]).sqrt() / (second.sqrt() + self.eps);
        } else {
            p -= self.lr * direction;
        }
        [p, first, second, 0.0]
    }
}

#[derive(Clone, Copy)]
pub(super) struct Prepared<T> {
    moments: Moments<T>,
    step_size: T,
    eps: T,
    rectified: bool,
}

impl<T: Element> Formula<T> for Prepared<T> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S, chunk: Chunk<'_, T>) {
        let Self { moments, step_size, eps, rectified } = self;
        chunk.each(
            s,
            [0, 1, 2],
            #[inline(always)]
            |g, [p, first, second]| {
                let (first, second) = moments.with(s, g, first, second);
                let direction = if rectified { first / (second.sqrt() + s.splat(eps)) } else { first };
                [direction.neg_mul_add(s.splat(step_size), p), first, second]
            },
        );
    }
}
