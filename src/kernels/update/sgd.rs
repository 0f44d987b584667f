//! Stochastic gradient descent.

use super::{Chunk, Decay, Formula, Kind, Part, Progress, Setting, Update, at_least_zero, settings};
use crate::error::{Error, Result};
use crate::reference::decayed;
use crate::simd::{Element, Float, Simd};

/// Stochastic gradient descent.
///
/// ```text
/// g ← g + λ·p                                        or, decoupled, p ← p·(1 − lr·λ)
/// buffer ← momentum·buffer + (1 − dampening)·g       in the first step buffer ← g, unless dampen_first
/// p ← p − lr·buffer                                  nesterov: p − lr·(g + momentum·buffer)
/// ```
///
/// The momentum buffer is empty when the momentum is 0, and starts at 0.
///
/// ```
/// use gristmill::kernels::update::{self, Sgd, Step};
/// let (mut param, mut buffer) = ([1.0_f64, 2.0], [0.0; 2]);
/// let config = Sgd { lr: 0.5, momentum: 0.5, ..Sgd::default() };
/// update::run(&mut [Step::new(config, 1, &[1.0, 0.0], &mut param, [&mut buffer])?])?;
/// update::run(&mut [Step::new(config, 2, &[1.0, 0.0], &mut param, [&mut buffer])?])?;
/// assert_eq!(param, [1.0 - 0.5 * 1.0 - 0.5 * 1.5, 2.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// The learning rate, ≥ 0.
    pub lr: f64,
    /// The part of the buffer that is kept, ≥ 0; 0 for no buffer.
    pub momentum: f64,
    /// The part of a gradient that does not enter the buffer.
    pub dampening: f64,
    /// Whether the first gradient is dampened, too, into a buffer that starts at 0. With a dampening equal to
    /// the momentum the buffer is an average of the gradients, as needle's.
    pub dampen_first: bool,
    /// Looks ahead: steps along `g + momentum·buffer`.
    pub nesterov: bool,
    /// λ, ≥ 0.
    pub weight_decay: f64,
    /// What λ does.
    pub decay: Decay,
}

impl Default for Sgd {
    /// PyTorch's: `lr = 0.001`, nothing else.
    fn default() -> Self {
        Self {
            lr: 1e-3,
            momentum: 0.0,
            dampening: 0.0,
            dampen_first: false,
            nesterov: false,
            weight_decay: 0.0,
            decay: Decay::L2,
        }
    }
}

impl Update for Sgd {
    type Prepared<T: Element> = Prepared<T>;

    const NAME: &'static str = "sgd";
    const STATE: &'static [Part] = &[Part { name: "momentum_buffer", kind: Kind::Moment }];
    const NANOSECONDS: f64 = 0.2;
    const OPERATIONS: u32 = 2;

    fn validate(&self) -> Result<()> {
        at_least_zero("sgd", "lr", self.lr)?;
        at_least_zero("sgd", "momentum", self.momentum)?;
        at_least_zero("sgd", "weight_decay", self.weight_decay)?;
        if !self.dampening.is_finite() {
            return Err(Error::value(
                "sgd",
                format!("dampening is {}, expected a finite number", self.dampening),
            ));
        }
        if self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            return Err(Error::value("sgd", "nesterov needs momentum > 0 and dampening = 0"));
        }
        Ok(())
    }

    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
        settings!(self: lr Number, momentum Number, dampening Number, dampen_first Flag, nesterov Flag,
            weight_decay Number, decay Decay)
    }

    fn uses(&self, _: usize) -> bool {
        self.momentum != 0.0
    }

    fn prepare<T: Element>(&self, at: Progress) -> Result<Prepared<T>> {
        Ok(Prepared {
            lr: T::from_f64(self.lr),
            momentum: T::from_f64(self.momentum),
            fresh: T::from_f64(1.0 - self.dampening),
            nesterov: self.nesterov,
            first: at.step == 1 && !self.dampen_first,
        })
    }

    fn exact(&self, at: Progress, g: f64, p: f64, [mut buffer, ..]: [f64; 3]) -> [f64; 4] {
        let (mut g, p) = decayed(self.lr, self.weight_decay, self.decay == Decay::L2, g, p);
        if self.momentum != 0.0 {
            let first = at.step == 1 && !self.dampen_first;
            buffer = if first { g } else { self.momentum * buffer + (1.0 - self.dampening) * g };
            g = if self.nesterov { g + self.momentum * buffer } else { buffer };
        }
        [p - self.lr * g, buffer, 0.0, 0.0]
    }
}

#[derive(Clone, Copy)]
pub(super) struct Prepared<T> {
    lr: T,
    momentum: T,
    /// The part of a gradient that enters the buffer.
    fresh: T,
    nesterov: bool,
    first: bool,
}

impl<T: Element> Formula<T> for Prepared<T> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S, chunk: Chunk<'_, T>) {
        let Self { lr, momentum, fresh, nesterov, first } = self;
        let (lr, momentum, fresh) = (s.splat(lr), s.splat(momentum), s.splat(fresh));
        if !chunk.has(1) {
            return chunk.each(
                s,
                [0],
                #[inline(always)]
                |g, [p]| [g.neg_mul_add(lr, p)],
            );
        }
        chunk.each(
            s,
            [0, 1],
            #[inline(always)]
            |g, [p, buffer]| {
                let buffer = if first { g } else { buffer.mul_add(momentum, g * fresh) };
                let direction = if nesterov { buffer.mul_add(momentum, g) } else { buffer };
                [direction.neg_mul_add(lr, p), buffer]
            },
        );
    }
}
