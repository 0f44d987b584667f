//! Adam.

use super::moments::{ExactMoments, Moments, power};
use super::{
    Chunk, Decay, Formula, Kind, Part, Progress, Setting, Update, at_least_zero, below_one, settings,
};
use crate::error::Result;
use crate::reference::decayed;
use crate::simd::{Element, Float, Simd};

/// Kingma and Ba's Adam; with [`Decay::Decoupled`], Loshchilov and Hutter's AdamW.
///
/// ```text
/// g ← g + λ·p                                        or, decoupled, p ← p·(1 − lr·λ)
/// exp_avg ← β₁·exp_avg + (1 − β₁)·g
/// exp_avg_sq ← β₂·exp_avg_sq + (1 − β₂)·g²
/// v ← exp_avg_sq
/// max_exp_avg_sq ← max(max_exp_avg_sq, exp_avg_sq)   amsgrad: v ← max_exp_avg_sq
/// p ← p − lr/(1 − β₁ᵗ) · exp_avg / (√v/√(1 − β₂ᵗ) + eps)
/// ```
///
/// The state starts at 0. `max_exp_avg_sq` is empty unless amsgrad.
///
/// ```
/// use gristmill::kernels::update::{self, Adam, Step};
/// let (mut param, mut exp_avg, mut exp_avg_sq) = ([1.0_f32], [0.0], [0.0]);
/// let config = Adam { lr: 0.125, eps: 0.0, ..Adam::default() };
/// let state = [&mut exp_avg[..], &mut exp_avg_sq, &mut []];
/// update::run(&mut [Step::new(config, 1, &[3.0], &mut param, state)?])?;
/// assert!((param[0] - 0.875).abs() < 1e-6); // the first step has the length of the learning rate
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
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
    /// Divides by the largest second moment so far.
    pub amsgrad: bool,
}

impl Default for Adam {
    /// PyTorch's: `lr = 0.001`, betas 0.9 and 0.999, `eps = 1e-8`, no decay.
    fn default() -> Self {
        Self {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            decay: Decay::L2,
            amsgrad: false,
        }
    }
}

impl Update for Adam {
    type Prepared<T: Element> = Prepared<T>;

    const NAME: &'static str = "adam";
    const STATE: &'static [Part] = &[
        Part { name: "exp_avg", kind: Kind::Moment },
        Part { name: "exp_avg_sq", kind: Kind::Square },
        Part { name: "max_exp_avg_sq", kind: Kind::Square },
    ];
    const OPERATIONS: u32 = 13;

    fn validate(&self) -> Result<()> {
        at_least_zero("adam", "lr", self.lr)?;
        below_one("adam", "beta1", self.beta1)?;
        below_one("adam", "beta2", self.beta2)?;
        at_least_zero("adam", "eps", self.eps)?;
        at_least_zero("adam", "weight_decay", self.weight_decay)
    }

    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
        settings!(self: lr Number, beta1 Number, beta2 Number, eps Number, weight_decay Number, decay Decay,
            amsgrad Flag)
    }

    fn uses(&self, state: usize) -> bool {
        state < 2 || self.amsgrad
    }

    fn prepare<T: Element>(&self, at: Progress) -> Result<Prepared<T>> {
        Ok(Prepared {
            moments: Moments::new(self.beta1, self.beta2),
            step_size: T::from_f64(self.lr / (1.0 - power(self.beta1, at.step))),
            root_scale: T::from_f64(1.0 / (1.0 - power(self.beta2, at.step)).sqrt()),
            eps: T::from_f64(self.eps),
        })
    }

    fn exact(&self, at: Progress, g: f64, p: f64, [first, second, largest]: [f64; 3]) -> [f64; 4] {
        let (g, p) = decayed(self.lr, self.weight_decay, self.decay == Decay::L2, g, p);
        let ExactMoments { first, second, kept } =
            ExactMoments::new(self.beta1, self.beta2, at, g, first, second);
        // NaN stays.
        let largest = if second > largest || second.is_nan() { second } else { largest };
        let root = (if self.amsgrad { largest } else { second } / (1.0 - kept[1])).sqrt();
        [p - self.lr * (first / (1.0 - kept[0])) / (root + self.eps), first, second, largest]
    }
}

#[derive(Clone, Copy)]
pub(super) struct Prepared<T> {
    moments: Moments<T>,
    step_size: T,
    root_scale: T,
    eps: T,
}

impl<T: Element> Prepared<T> {
    /// The parameter, one step further.
    #[inline(always)]
    fn advance<S: Simd>(
        self,
        s: S,
        p: T::Vector<S>,
        first: T::Vector<S>,
        second: T::Vector<S>,
    ) -> T::Vector<S> {
        let denominator = second.sqrt().mul_add(s.splat(self.root_scale), s.splat(self.eps));
        (first / denominator).neg_mul_add(s.splat(self.step_size), p)
    }
}

impl<T: Element> Formula<T> for Prepared<T> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S, chunk: Chunk<'_, T>) {
        if !chunk.has(3) {
            return chunk.each(
                s,
                [0, 1, 2],
                #[inline(always)]
                |g, [p, first, second]| {
                    let (first, second) = self.moments.with(s, g, first, second);
                    [self.advance(s, p, first, second), first, second]
                },
            );
        }
        chunk.each(
            s,
            [0, 1, 2, 3],
            #[inline(always)]
            |g, [p, first, second, largest]| {
                let (first, second) = self.moments.with(s, g, first, second);
                let largest = largest.maximum(second);
                [self.advance(s, p, first, largest), first, second, largest]
            },
        );
    }
}
