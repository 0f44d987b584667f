//! RMSprop.

use super::{Chunk, Decay, Formula, Kind, Part, Progress, Setting, Update, at_least_zero, settings};
use crate::error::{Error, Result};
use crate::reference::decayed;
use crate::simd::{Element, Float, Simd};

/// Hinton's RMSprop.
///
/// ```text
/// g ← g + λ·p                                        or, decoupled, p ← p·(1 − lr·λ)
/// square_avg ← α·square_avg + (1 − α)·g²
/// grad_avg ← α·grad_avg + (1 − α)·g                  centered only
/// d ← g / (√square_avg + eps)                        centered: g / (√(square_avg − grad_avg²) + eps)
/// buffer ← momentum·buffer + d,  d ← buffer          with momentum only
/// p ← p − lr·d
/// ```
///
/// The state starts at 0: `square_avg`, `grad_avg`, empty unless centered, and the momentum buffer, empty
/// when the momentum is 0. A difference below the root that rounding made negative counts as 0, where PyTorch
/// gives NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsProp {
    /// The learning rate, ≥ 0.
    pub lr: f64,
    /// The part of the averages that is kept, in [0, 1].
    pub alpha: f64,
    /// Added to the root, ≥ 0.
    pub eps: f64,
    /// The part of the buffer that is kept, ≥ 0; 0 for no buffer.
    pub momentum: f64,
    /// Divides by the deviation instead of the root of the mean square.
    pub centered: bool,
    /// λ, ≥ 0.
    pub weight_decay: f64,
    /// What λ does.
    pub decay: Decay,
}

impl Default for RmsProp {
    /// PyTorch's: `lr = 0.01`, `alpha = 0.99`, `eps = 1e-8`.
    fn default() -> Self {
        Self {
            lr: 1e-2,
            alpha: 0.99,
            eps: 1e-8,
            momentum: 0.0,
            centered: false,
            weight_decay: 0.0,
            decay: Decay::L2,
        }
    }
}

impl Update for RmsProp {
    type Prepared<T: Element> = Prepared<T>;

    const NAME: &'static str = "rmsprop";
    const STATE: &'static [Part] = &[
        Part { name: "square_avg", kind: Kind::Square },
        Part { name: "grad_avg", kind: Kind::Moment },
        Part { name: "momentum_buffer", kind: Kind::Direction },
    ];
    const OPERATIONS: u32 = 9;

    fn validate(&self) -> Result<()> {
        at_least_zero("rmsprop", "lr", self.lr)?;
        at_least_zero("rmsprop", "eps", self.eps)?;
        at_least_zero("rmsprop", "momentum", self.momentum)?;
        at_least_zero("rmsprop", "weight_decay", self.weight_decay)?;
        if !(0.0..=1.0).contains(&self.alpha) {
            return Err(Error::value(
                "rmsprop",
                format!("alpha is {}, expected a number in [0, 1]", self.alpha),
            ));
        }
        Ok(())
    }

    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
        settings!(self: lr Number, alpha Number, eps Number, momentum Number, centered Flag,
            weight_decay Number, decay Decay)
    }

    fn uses(&self, state: usize) -> bool {
        [true, self.centered, self.momentum != 0.0][state]
    }

    fn prepare<T: Element>(&self, _: Progress) -> Result<Prepared<T>> {
        Ok(Prepared {
            lr: T::from_f64(self.lr),
            alpha: T::from_f64(self.alpha),
            fresh: T::from_f64(1.0 - self.alpha),
            eps: T::from_f64(self.eps),
            momentum: T::from_f64(self.momentum),
        })
    }

    fn exact(&self, _: Progress, g: f64, p: f64, [square, mean, mut buffer]: [f64; 3]) -> [f64; 4] {
        let (g, p) = decayed(self.lr, self.weight_decay, self.decay == Decay::L2, g, p);
        let average = |average: f64, x: f64| self.alpha * average + (1.0 - self.alpha) * x;
        let (square, mean) = (average(square, g * g), if self.centered { average(mean, g) } else { mean });
        let mut variance = square;
        if self.centered {
            variance -= mean * mean;
            // NaN stays.
            variance = if variance < 0.0 { 0.0 } else { variance };
        }
        let mut direction = g / (variance.sqrt() + self.eps);
        if self.momentum != 0.0 {
            buffer = self.momentum * buffer + direction;
            direction = buffer;
        }
        [p - self.lr * direction, square, mean, buffer]
    }
}

#[derive(Clone, Copy)]
pub(super) struct Prepared<T> {
    lr: T,
    alpha: T,
    fresh: T,
    eps: T,
    momentum: T,
}

impl<T: Element> Prepared<T> {
    #[inline(always)]
    fn average<S: Simd>(self, s: S, average: T::Vector<S>, x: T::Vector<S>) -> T::Vector<S> {
        average.mul_add(s.splat(self.alpha), x * s.splat(self.fresh))
    }

    /// The gradient over the root of its mean square, about 0 or about its mean.
    #[inline(always)]
    fn direction<S: Simd>(
        self,
        s: S,
        g: T::Vector<S>,
        square: T::Vector<S>,
        mean: Option<T::Vector<S>>,
    ) -> T::Vector<S> {
        let square = match mean {
            Some(mean) => s.splat(T::ZERO).max(mean.neg_mul_add(mean, square)),
            None => square,
        };
        g / (square.sqrt() + s.splat(self.eps))
    }
}

impl<T: Element> Formula<T> for Prepared<T> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S, chunk: Chunk<'_, T>) {
        let (lr, momentum) = (s.splat(self.lr), s.splat(self.momentum));
        match (chunk.has(2), chunk.has(3)) {
            (false, false) => chunk.each(
                s,
                [0, 1],
                #[inline(always)]
                |g, [p, square]| {
                    let square = self.average(s, square, g * g);
                    [self.direction(s, g, square, None).neg_mul_add(lr, p), square]
                },
            ),
            (false, true) => chunk.each(
                s,
                [0, 1, 3],
                #[inline(always)]
                |g, [p, square, buffer]| {
                    let square = self.average(s, square, g * g);
                    let buffer = buffer.mul_add(momentum, self.direction(s, g, square, None));
                    [buffer.neg_mul_add(lr, p), square, buffer]
                },
            ),
            (true, false) => chunk.each(
                s,
                [0, 1, 2],
                #[inline(always)]
                |g, [p, square, mean]| {
                    let (square, mean) = (self.average(s, square, g * g), self.average(s, mean, g));
                    [self.direction(s, g, square, Some(mean)).neg_mul_add(lr, p), square, mean]
                },
            ),
            (true, true) => chunk.each(
                s,
                [0, 1, 2, 3],
                #[inline(always)]
                |g, [p, square, mean, buffer]| {
                    let (square, mean) = (self.average(s, square, g * g), self.average(s, mean, g));
                    let buffer = buffer.mul_add(momentum, self.direction(s, g, square, Some(mean)));
                    [buffer.neg_mul_add(lr, p), square, mean, buffer]
                },
            ),
        }
    }
}
