//! Lion.

use super::{
    Chunk, Decay, Formula, Kind, Part, Progress, Setting, Update, at_least_zero, below_one, settings,
};
use crate::error::Result;
use crate::reference::decayed;
use crate::simd::{Element, Float, Simd};

/// Chen and others' Lion (2023): steps of the same length in each element.
///
/// ```text
/// p ← p·(1 − lr·λ)                                   or, as a penalty, g ← g + λ·p
/// p ← p − lr · sign(β₁·exp_avg + (1 − β₁)·g)         sign(0) = 0
/// exp_avg ← β₂·exp_avg + (1 − β₂)·g
/// ```
///
/// The moment starts at 0. The sign of a sum that rounds to the other side of 0 makes a step the other way.
///
/// ```
/// use gristmill::kernels::update::{self, Lion, Step};
/// let (mut param, mut exp_avg) = ([1.0_f64; 3], [0.0; 3]);
/// let config = Lion { lr: 0.25, ..Lion::default() };
/// update::run(&mut [Step::new(config, 1, &[3.0, -0.1, 0.0], &mut param, [&mut exp_avg])?])?;
/// assert_eq!(param, [0.75, 1.25, 1.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
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

impl Update for Lion {
    type Prepared<T: Element> = Prepared<T>;

    const NAME: &'static str = "lion";
    const STATE: &'static [Part] = &[Part { name: "exp_avg", kind: Kind::Moment }];
    const OPERATIONS: u32 = 8;

    fn validate(&self) -> Result<()> {
        at_least_zero("lion", "lr", self.lr)?;
        below_one("lion", "beta1", self.beta1)?;
        below_one("lion", "beta2", self.beta2)?;
        at_least_zero("lion", "weight_decay", self.weight_decay)
    }

    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
        settings!(self: lr Number, beta1 Number, beta2 Number, weight_decay Number, decay Decay)
    }

    fn prepare<T: Element>(&self, _: Progress) -> Result<Prepared<T>> {
        Ok(Prepared {
            lr: T::from_f64(self.lr),
            keep: [self.beta1, self.beta2].map(T::from_f64),
            fresh: [1.0 - self.beta1, 1.0 - self.beta2].map(T::from_f64),
        })
    }

    fn exact(&self, _: Progress, g: f64, p: f64, [moment, ..]: [f64; 3]) -> [f64; 4] {
        let (g, p) = decayed(self.lr, self.weight_decay, self.decay == Decay::L2, g, p);
        let direction = self.beta1 * moment + (1.0 - self.beta1) * g;
        let sign = if direction == 0.0 { 0.0 } else { direction.signum() };
        [p - self.lr * sign, self.beta2 * moment + (1.0 - self.beta2) * g, 0.0, 0.0]
    }
}

#[derive(Clone, Copy)]
pub(super) struct Prepared<T> {
    lr: T,
    /// β₁ and β₂.
    keep: [T; 2],
    /// 1 − β₁ and 1 − β₂.
    fresh: [T; 2],
}

impl<T: Element> Formula<T> for Prepared<T> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S, chunk: Chunk<'_, T>) {
        let Self { lr, keep: [keep1, keep2], fresh: [fresh1, fresh2] } = self;
        let (zero, one) = (s.splat(T::ZERO), s.splat(T::ONE));
        chunk.each(
            s,
            [0, 1],
            #[inline(always)]
            |g, [p, moment]| {
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
