//! Optimizer steps: one pass over a parameter, its gradient and its state, with the formulas of `torch.optim`; or one
//! pass over many parameters, each with a [`Step`] of its own: see [`run`].
//!
//! Every step is a short chain of rounded operations. With `G = |g| + λ·|p|`, a moment is within
//! `8·u·(|moment| + G)` of its exact value (`G²` for squares), and what the step adds to a parameter within `16·u`,
//! relative, plus what an error of `8·u·G` in the gradient does to it. Where that is a sum of two terms, which may cancel,
//! the errors are relative to both: RMSprop's buffer is within `16·u` of what it keeps and what comes in, and for NAdam the
//! error in the gradient is `12·u·G`. Centered RMSprop subtracts, and its root can lose half the digits.
//! What depends on the step alone (bias corrections) is computed once, in `f64`. NaN and infinities in a gradient go
//! where the formulas take them: into that element's parameter and state.
//!
//! Steps flush subnormal numbers, whatever the [`Context`](crate::Context) says: a gradient, parameter or state below the
//! smallest normal number (2⁻¹²⁶ in `f32`) counts as 0, and 0 with the result's sign takes the place of a result below it.
//! So moments whose gradients stay away become 0, as do weights that decay away (under a penalty alone they stop where
//! `λ·p` becomes 0), and the bounds above are plus a few times that number. Otherwise a moment would stop above 0, since 0.9
//! times the smallest number is rounded to that number again, and on many CPUs each operation on it would take a hundred
//! cycles, in every step to come. x86 and ARM do this without an instruction more (see
//! [`Subnormals::Flush`](crate::Subnormals::Flush) for where they differ). Elsewhere what is stored is compared, and a number
//! below the range that is not stored, such as the square of a tiny gradient, still counts.

mod adagrad;
mod lion;
mod nadam;
mod radam;

pub use adagrad::{Adagrad, adagrad};
pub use lion::{Lion, lion};
pub use nadam::{NAdam, nadam};
pub use radam::{RAdam, radam};

use super::{compiled_once, same_len};
use crate::context;
use crate::error::{Error, Result};
use crate::parallel::{self, Chunks, Rows, RowsMut};
use crate::profile;
use crate::simd::environment::{Environment, normal_or_zero};
use crate::simd::{Element, Float, Kernel, Simd, slices};

/// Elements per parallel chunk: 16 KiB of f32.
const CHUNK: usize = 4 * 1024;
/// Measured on one core with AVX2: `cargo bench --bench criterion -- update`.
const NANOSECONDS_PER_ELEMENT_SGD: f64 = 0.2;
const NANOSECONDS_PER_ELEMENT_ADAPTIVE: f64 = 0.4;

/// What weight decay `λ` does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decay {
    /// A penalty: adds `λ·p` to the gradient.
    L2,
    /// Shrinks the parameter: `p ← p·(1 − lr·λ)` before the step, as in AdamW.
    Decoupled,
}

/// Stochastic gradient descent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// The learning rate, ≥ 0.
    pub lr: f64,
    /// The part of the buffer that is kept, ≥ 0; 0 for no buffer.
    pub momentum: f64,
    /// The part of a gradient that does not enter the buffer.
    pub dampening: f64,
    /// Whether the first gradient is dampened, too, into a buffer that starts at 0. With a dampening equal to the
    /// momentum the buffer is an average of the gradients, as needle's.
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

/// Hinton's RMSprop.
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

/// Kingma and Ba's Adam; with [`Decay::Decoupled`], Loshchilov and Hutter's AdamW.
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

fn at_least_zero(op: &'static str, name: &str, value: f64) -> Result<()> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(Error::value(op, format!("{name} is {value}, expected a finite number ≥ 0")))
}

fn below_one(op: &'static str, name: &str, value: f64) -> Result<()> {
    if (0.0..1.0).contains(&value) {
        return Ok(());
    }
    Err(Error::value(op, format!("{name} is {value}, expected a number in [0, 1)")))
}

impl Sgd {
    /// Whether the hyperparameters make sense.
    ///
    /// # Errors
    /// [`Error::Value`] names the first that does not.
    pub fn validate(&self) -> Result<()> {
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
}

impl RmsProp {
    /// Whether the hyperparameters make sense.
    ///
    /// # Errors
    /// [`Error::Value`] names the first that does not.
    pub fn validate(&self) -> Result<()> {
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
}

impl Adam {
    /// Whether the hyperparameters make sense.
    ///
    /// # Errors
    /// [`Error::Value`] names the first that does not.
    pub fn validate(&self) -> Result<()> {
        at_least_zero("adam", "lr", self.lr)?;
        below_one("adam", "beta1", self.beta1)?;
        below_one("adam", "beta2", self.beta2)?;
        at_least_zero("adam", "eps", self.eps)?;
        at_least_zero("adam", "weight_decay", self.weight_decay)
    }
}

/// An error unless the steps are counted from 1.
fn counted_from_one(op: &'static str, step: u64) -> Result<()> {
    if step > 0 { Ok(()) } else { Err(Error::value(op, "step is 0; the first step is 1")) }
}

/// An error unless a slice of the state has `expected` elements where it is in use, and none where it is not.
fn state_len<T>(op: &'static str, name: &str, state: &[T], used: bool, expected: usize) -> Result<()> {
    same_len(op, name, state, if used { expected } else { 0 })
}

/// What comes before every rule: the gradient is scaled and clipped, and decay acts as `g + penalty·p` or `p·shrink`, one
/// of which does nothing.
#[derive(Clone, Copy)]
struct Start<T> {
    scale: T,
    /// Infinite for none.
    clip: T,
    penalty: T,
    shrink: T,
}

impl<T: Element> Start<T> {
    fn new(lr: f64, weight_decay: f64, decay: Decay) -> Self {
        let (penalty, shrink) = match decay {
            Decay::L2 => (weight_decay, 1.0),
            Decay::Decoupled => (0.0, 1.0 - lr * weight_decay),
        };
        let [penalty, shrink] = [penalty, shrink].map(T::from_f64);
        Self { scale: T::ONE, clip: T::INFINITY, penalty, shrink }
    }

    /// The gradient and the parameter to go on with.
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, g: T::Vector<S>, p: T::Vector<S>) -> (T::Vector<S>, T::Vector<S>) {
        let mut g = g * s.splat(self.scale);
        if self.clip < T::INFINITY {
            // NaN stays.
            g = s.splat(self.clip).minimum(s.splat(-self.clip).maximum(g));
        }
        // Without a penalty not even `0·p`, which is NaN where p is infinite.
        let g = if self.penalty == T::ZERO { g } else { p.mul_add(s.splat(self.penalty), g) };
        (g, p * s.splat(self.shrink))
    }
}

/// One parameter's step, to be run together with others by [`run`].
pub struct Step<'a, T: Element> {
    rule: Rule<T>,
    parts: Parts<'a, T>,
    /// The number of the first chunk, counted through all steps of a run.
    first_chunk: usize,
}

/// Gradient, parameter, and up to three slices of state.
type Parts<'a, T> = (Rows<'a, T>, RowsMut<'a, T>, RowsMut<'a, T>, RowsMut<'a, T>, RowsMut<'a, T>);

#[derive(Clone, Copy)]
enum Rule<T> {
    Sgd(SgdRule<T>),
    RmsProp(RmsPropRule<T>),
    Adam(AdamRule<T>),
    Adagrad(adagrad::AdagradRule<T>),
    Lion(lion::LionRule<T>),
    NAdam(nadam::NAdamRule<T>),
    RAdam(radam::RAdamRule<T>),
}

impl<T: Element> Rule<T> {
    fn start(&mut self) -> &mut Start<T> {
        match self {
            Rule::Sgd(rule) => &mut rule.start,
            Rule::RmsProp(rule) => &mut rule.start,
            Rule::Adam(rule) => &mut rule.start,
            Rule::Adagrad(rule) => &mut rule.start,
            Rule::Lion(rule) => &mut rule.start,
            Rule::NAdam(rule) => &mut rule.start,
            Rule::RAdam(rule) => &mut rule.start,
        }
    }

    fn nanoseconds_per_element(&self) -> f64 {
        match self {
            Rule::Sgd(_) => NANOSECONDS_PER_ELEMENT_SGD,
            _ => NANOSECONDS_PER_ELEMENT_ADAPTIVE,
        }
    }
}

impl<'a, T: Element> Step<'a, T> {
    /// Of [`sgd`].
    ///
    /// # Errors
    /// Those of [`sgd`].
    pub fn sgd(
        config: &Sgd,
        step: u64,
        grad: &'a [T],
        param: &'a mut [T],
        momentum_buffer: &'a mut [T],
    ) -> Result<Self> {
        config.validate()?;
        counted_from_one("sgd", step)?;
        same_len("sgd", "param", param, grad.len())?;
        state_len("sgd", "momentum_buffer", momentum_buffer, config.momentum != 0.0, grad.len())?;
        let rule = context::in_environment(|| {
            Rule::Sgd(SgdRule {
                lr: T::from_f64(config.lr),
                momentum: T::from_f64(config.momentum),
                fresh: T::from_f64(1.0 - config.dampening),
                nesterov: config.nesterov,
                first: step == 1 && !config.dampen_first,
                start: Start::new(config.lr, config.weight_decay, config.decay),
            })
        });
        Ok(Self::new(rule, grad, param, [momentum_buffer, &mut [], &mut []]))
    }

    /// Of [`rmsprop`].
    ///
    /// # Errors
    /// Those of [`rmsprop`].
    pub fn rmsprop(
        config: &RmsProp,
        grad: &'a [T],
        param: &'a mut [T],
        square_avg: &'a mut [T],
        grad_avg: &'a mut [T],
        momentum_buffer: &'a mut [T],
    ) -> Result<Self> {
        config.validate()?;
        same_len("rmsprop", "param", param, grad.len())?;
        same_len("rmsprop", "square_avg", square_avg, grad.len())?;
        state_len("rmsprop", "grad_avg", grad_avg, config.centered, grad.len())?;
        state_len("rmsprop", "momentum_buffer", momentum_buffer, config.momentum != 0.0, grad.len())?;
        let rule = context::in_environment(|| {
            Rule::RmsProp(RmsPropRule {
                lr: T::from_f64(config.lr),
                alpha: T::from_f64(config.alpha),
                fresh: T::from_f64(1.0 - config.alpha),
                eps: T::from_f64(config.eps),
                momentum: T::from_f64(config.momentum),
                start: Start::new(config.lr, config.weight_decay, config.decay),
            })
        });
        Ok(Self::new(rule, grad, param, [square_avg, grad_avg, momentum_buffer]))
    }

    /// Of [`adam`].
    ///
    /// # Errors
    /// Those of [`adam`].
    pub fn adam(
        config: &Adam,
        step: u64,
        grad: &'a [T],
        param: &'a mut [T],
        exp_avg: &'a mut [T],
        exp_avg_sq: &'a mut [T],
        max_exp_avg_sq: &'a mut [T],
    ) -> Result<Self> {
        config.validate()?;
        counted_from_one("adam", step)?;
        same_len("adam", "param", param, grad.len())?;
        same_len("adam", "exp_avg", exp_avg, grad.len())?;
        same_len("adam", "exp_avg_sq", exp_avg_sq, grad.len())?;
        state_len("adam", "max_exp_avg_sq", max_exp_avg_sq, config.amsgrad, grad.len())?;
        let rule = context::in_environment(|| {
            Rule::Adam(AdamRule {
                keep: [config.beta1, config.beta2].map(T::from_f64),
                fresh: [1.0 - config.beta1, 1.0 - config.beta2].map(T::from_f64),
                step_size: T::from_f64(config.lr / (1.0 - power(config.beta1, step))),
                root_scale: T::from_f64(1.0 / (1.0 - power(config.beta2, step)).sqrt()),
                eps: T::from_f64(config.eps),
                start: Start::new(config.lr, config.weight_decay, config.decay),
            })
        });
        Ok(Self::new(rule, grad, param, [exp_avg, exp_avg_sq, max_exp_avg_sq]))
    }

    fn new(rule: Rule<T>, grad: &'a [T], param: &'a mut [T], state: [&'a mut [T]; 3]) -> Self {
        let [a, b, c] = state.map(|state| RowsMut::new(state, CHUNK));
        Self { rule, parts: (Rows(grad, CHUNK), RowsMut::new(param, CHUNK), a, b, c), first_chunk: 0 }
    }

    /// Multiplies the gradient by `scale` first: to clip the norm of all gradients, or to undo the scale of a loss.
    #[must_use]
    pub fn grad_scale(mut self, scale: T) -> Self {
        self.rule.start().scale = scale;
        self
    }

    /// Clips the (scaled) gradient to [−`limit`, `limit`] before decay; NaN stays NaN.
    #[must_use]
    pub fn grad_clip(mut self, limit: T) -> Self {
        self.rule.start().clip = limit;
        self
    }
}

compiled_once! {
    /// Runs steps of any rules in one pass: the threads share all of them, so that many small parameters take no longer
    /// than one of their size. A step that is run again starts from what it left.
    ///
    /// # Errors
    /// Only those of a bad setting; see [`Context`](crate::Context).
    ///
    /// ```
    /// use gristmill::kernels::update::{self, Sgd, Step};
    /// let (mut weight, mut bias) = ([1.0_f32, 2.0], [0.5_f32]);
    /// let config = Sgd { lr: 0.5, ..Sgd::default() };
    /// update::run(&mut [
    ///     Step::sgd(&config, 1, &[1.0, 1.0], &mut weight, &mut [])?,
    ///     Step::sgd(&config, 1, &[2.0], &mut bias, &mut [])?.grad_scale(0.5),
    /// ])?;
    /// assert_eq!((weight, bias), ([0.5, 1.5], [0.0]));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn run<T: Element>(steps: &mut [Step<'_, T>]) -> Result<()> {
        run_all(steps)
    }
}

/// [`slices::update`] for a rule: what is stored is a normal number, 0, infinite or NaN.
#[inline(always)]
fn each<T: Element, S: Simd, const N: usize, const M: usize>(
    s: S,
    reads: [&[T]; N],
    writes: [&mut [T]; M],
    f: impl Fn([T::Vector<S>; N], [T::Vector<S>; M]) -> [T::Vector<S>; M],
) {
    slices::update(
        s,
        reads,
        writes,
        #[inline(always)]
        |r, w| {
            let new = f(r, w);
            // Where a register can say so, [`run_all`] has said it.
            if Environment::FLUSH.is_some() { new } else { new.map(|x| normal_or_zero::<T, S>(s, x)) }
        },
    );
}

fn run_all<T: Element>(steps: &mut [Step<'_, T>]) -> Result<()> {
    let settings = context::settings()?.flushing();
    let _environment = settings.environment().enter();
    let (mut chunks, mut nanoseconds, mut bytes) = (0, 0.0, 0);
    for step in &mut *steps {
        step.first_chunk = chunks;
        chunks += step.parts.count();
        nanoseconds += step.parts.0.0.len() as f64 * step.rule.nanoseconds_per_element();
        bytes += step.parts.bytes();
    }
    if profile::is_on() {
        profile::add_work(None, 0, bytes);
    }
    let steps = &*steps;
    parallel::for_each_index(settings, chunks, nanoseconds as usize, &|chunk| {
        let step = &steps[steps.partition_point(|step| step.first_chunk <= chunk) - 1];
        // SAFETY: each index is handed out once, and each chunk belongs to one step.
        let (grad, param, a, b, c) = unsafe { step.parts.chunk(chunk - step.first_chunk) };
        match step.rule {
            Rule::Sgd(rule) => settings.simd.run(SgdStep { rule, grad, param, buffer: a }),
            Rule::RmsProp(rule) => {
                settings.simd.run(RmsPropStep { rule, grad, param, square_avg: a, grad_avg: b, buffer: c });
            }
            Rule::Adam(rule) => {
                settings.simd.run(AdamStep { rule, grad, param, first: a, second: b, largest: c });
            }
            Rule::Adagrad(rule) => settings.simd.run(adagrad::AdagradStep { rule, grad, param, sum: a }),
            Rule::Lion(rule) => settings.simd.run(lion::LionStep { rule, grad, param, moment: a }),
            Rule::NAdam(rule) => {
                settings.simd.run(nadam::NAdamStep { rule, grad, param, first: a, second: b });
            }
            Rule::RAdam(rule) => {
                settings.simd.run(radam::RAdamStep { rule, grad, param, first: a, second: b });
            }
        }
    });
    Ok(())
}

compiled_once! {
    /// One step of SGD, the `step`th (the first is 1).
    ///
    /// ```text
    /// g ← g + λ·p                                        or, decoupled, p ← p·(1 − lr·λ)
    /// buffer ← momentum·buffer + (1 − dampening)·g       buffer ← g in the first step, whatever it was, unless dampen_first
    /// p ← p − lr·buffer                                  nesterov: p − lr·(g + momentum·buffer)
    /// ```
    ///
    /// `momentum_buffer` is empty when the momentum is 0, and starts at 0.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths differ, [`Error::Value`] when a hyperparameter does not make sense.
    ///
    /// ```
    /// use gristmill::kernels::update::{self, Sgd};
    /// let (mut param, mut buffer) = ([1.0_f64, 2.0], [0.0; 2]);
    /// let config = Sgd { lr: 0.5, momentum: 0.5, ..Sgd::default() };
    /// update::sgd(&config, 1, &[1.0, 0.0], &mut param, &mut buffer)?;
    /// update::sgd(&config, 2, &[1.0, 0.0], &mut param, &mut buffer)?;
    /// assert_eq!(param, [1.0 - 0.5 * 1.0 - 0.5 * 1.5, 2.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn sgd<T: Element>(
        config: &Sgd,
        step: u64,
        grad: &[T],
        param: &mut [T],
        momentum_buffer: &mut [T],
    ) -> Result<()> {
        run_all(&mut [Step::sgd(config, step, grad, param, momentum_buffer)?])
    }
}

#[derive(Clone, Copy)]
struct SgdRule<T> {
    lr: T,
    momentum: T,
    /// The part of a gradient that enters the buffer.
    fresh: T,
    nesterov: bool,
    first: bool,
    start: Start<T>,
}

struct SgdStep<'a, T> {
    rule: SgdRule<T>,
    grad: &'a [T],
    param: &'a mut [T],
    buffer: &'a mut [T],
}

impl<T: Element> Kernel for SgdStep<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let SgdRule { lr, momentum, fresh, nesterov, first, start } = self.rule;
        let (lr, momentum, fresh) = (s.splat(lr), s.splat(momentum), s.splat(fresh));
        if self.buffer.is_empty() {
            return each(
                s,
                [self.grad],
                [self.param],
                #[inline(always)]
                |[g], [p]| {
                    let (g, p) = start.apply(s, g, p);
                    [g.neg_mul_add(lr, p)]
                },
            );
        }
        each(
            s,
            [self.grad],
            [self.param, self.buffer],
            #[inline(always)]
            |[g], [p, buffer]| {
                let (g, p) = start.apply(s, g, p);
                let buffer = if first { g } else { buffer.mul_add(momentum, g * fresh) };
                let direction = if nesterov { buffer.mul_add(momentum, g) } else { buffer };
                [direction.neg_mul_add(lr, p), buffer]
            },
        );
    }
}

compiled_once! {
    /// One step of RMSprop.
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
    /// The state starts at 0. `grad_avg` is empty unless centered, `momentum_buffer` is empty when the momentum is 0. A
    /// difference below the root that rounding made negative counts as 0, where PyTorch gives NaN.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths differ, [`Error::Value`] when a hyperparameter does not make sense.
    pub fn rmsprop<T: Element>(
        config: &RmsProp,
        grad: &[T],
        param: &mut [T],
        square_avg: &mut [T],
        grad_avg: &mut [T],
        momentum_buffer: &mut [T],
    ) -> Result<()> {
        run_all(&mut [Step::rmsprop(config, grad, param, square_avg, grad_avg, momentum_buffer)?])
    }
}

#[derive(Clone, Copy)]
struct RmsPropRule<T> {
    lr: T,
    alpha: T,
    fresh: T,
    eps: T,
    momentum: T,
    start: Start<T>,
}

impl<T: Element> RmsPropRule<T> {
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

struct RmsPropStep<'a, T> {
    rule: RmsPropRule<T>,
    grad: &'a [T],
    param: &'a mut [T],
    square_avg: &'a mut [T],
    grad_avg: &'a mut [T],
    buffer: &'a mut [T],
}

impl<T: Element> Kernel for RmsPropStep<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rule = self.rule;
        let (lr, momentum) = (s.splat(rule.lr), s.splat(rule.momentum));
        match (self.grad_avg.is_empty(), self.buffer.is_empty()) {
            (true, true) => each(
                s,
                [self.grad],
                [self.param, self.square_avg],
                #[inline(always)]
                |[g], [p, square]| {
                    let (g, p) = rule.start.apply(s, g, p);
                    let square = rule.average(s, square, g * g);
                    [rule.direction(s, g, square, None).neg_mul_add(lr, p), square]
                },
            ),
            (true, false) => each(
                s,
                [self.grad],
                [self.param, self.square_avg, self.buffer],
                #[inline(always)]
                |[g], [p, square, buffer]| {
                    let (g, p) = rule.start.apply(s, g, p);
                    let square = rule.average(s, square, g * g);
                    let buffer = buffer.mul_add(momentum, rule.direction(s, g, square, None));
                    [buffer.neg_mul_add(lr, p), square, buffer]
                },
            ),
            (false, true) => each(
                s,
                [self.grad],
                [self.param, self.square_avg, self.grad_avg],
                #[inline(always)]
                |[g], [p, square, mean]| {
                    let (g, p) = rule.start.apply(s, g, p);
                    let (square, mean) = (rule.average(s, square, g * g), rule.average(s, mean, g));
                    [rule.direction(s, g, square, Some(mean)).neg_mul_add(lr, p), square, mean]
                },
            ),
            (false, false) => each(
                s,
                [self.grad],
                [self.param, self.square_avg, self.grad_avg, self.buffer],
                #[inline(always)]
                |[g], [p, square, mean, buffer]| {
                    let (g, p) = rule.start.apply(s, g, p);
                    let (square, mean) = (rule.average(s, square, g * g), rule.average(s, mean, g));
                    let direction = rule.direction(s, g, square, Some(mean));
                    let buffer = buffer.mul_add(momentum, direction);
                    [buffer.neg_mul_add(lr, p), square, mean, buffer]
                },
            ),
        }
    }
}

compiled_once! {
    /// One step of Adam, the `step`th (the first is 1).
    ///
    /// ```text
    /// g ← g + λ·p                                        or, decoupled, p ← p·(1 − lr·λ)
    /// exp_avg ← β₁·exp_avg + (1 − β₁)·g
    /// exp_avg_sq ← β₂·exp_avg_sq + (1 − β₂)·g²
    /// v ← exp_avg_sq                                     amsgrad: v ← max_exp_avg_sq ← max(max_exp_avg_sq, exp_avg_sq)
    /// p ← p − lr/(1 − β₁ᵗ) · exp_avg / (√v/√(1 − β₂ᵗ) + eps)
    /// ```
    ///
    /// The state starts at 0. `max_exp_avg_sq` is empty unless amsgrad.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths differ, [`Error::Value`] when a hyperparameter does not make sense.
    ///
    /// ```
    /// use gristmill::kernels::update::{self, Adam};
    /// let (mut param, mut exp_avg, mut exp_avg_sq) = ([1.0_f32], [0.0], [0.0]);
    /// let config = Adam { lr: 0.125, eps: 0.0, ..Adam::default() };
    /// update::adam(&config, 1, &[3.0], &mut param, &mut exp_avg, &mut exp_avg_sq, &mut [])?;
    /// assert!((param[0] - 0.875).abs() < 1e-6); // the first step has the length of the learning rate
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn adam<T: Element>(
        config: &Adam,
        step: u64,
        grad: &[T],
        param: &mut [T],
        exp_avg: &mut [T],
        exp_avg_sq: &mut [T],
        max_exp_avg_sq: &mut [T],
    ) -> Result<()> {
        run_all(&mut [Step::adam(config, step, grad, param, exp_avg, exp_avg_sq, max_exp_avg_sq)?])
    }
}

/// Nobody can tell smaller powers of β from 0 beside 1, and their squares would soon be subnormal.
const VANISHED: f64 = 1e-100;

/// `base^exponent` by repeated squaring: `f64::powi` may differ between machines. 0 where it is below [`VANISHED`].
fn power(mut base: f64, mut exponent: u64) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if base < VANISHED {
            return 0.0;
        }
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

#[derive(Clone, Copy)]
struct AdamRule<T> {
    /// β₁ and β₂.
    keep: [T; 2],
    /// 1 − β₁ and 1 − β₂.
    fresh: [T; 2],
    step_size: T,
    root_scale: T,
    eps: T,
    start: Start<T>,
}

impl<T: Element> AdamRule<T> {
    /// The two moments with the gradient in them.
    #[inline(always)]
    fn moments<S: Simd>(
        self,
        s: S,
        g: T::Vector<S>,
        first: T::Vector<S>,
        second: T::Vector<S>,
    ) -> (T::Vector<S>, T::Vector<S>) {
        let ([keep_first, keep_second], [fresh_first, fresh_second]) = (self.keep, self.fresh);
        let first = first.mul_add(s.splat(keep_first), g * s.splat(fresh_first));
        let second = second.mul_add(s.splat(keep_second), g * g * s.splat(fresh_second));
        (first, second)
    }

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

struct AdamStep<'a, T> {
    rule: AdamRule<T>,
    grad: &'a [T],
    param: &'a mut [T],
    first: &'a mut [T],
    second: &'a mut [T],
    largest: &'a mut [T],
}

impl<T: Element> Kernel for AdamStep<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rule = self.rule;
        if self.largest.is_empty() {
            return each(
                s,
                [self.grad],
                [self.param, self.first, self.second],
                #[inline(always)]
                |[g], [p, first, second]| {
                    let (g, p) = rule.start.apply(s, g, p);
                    let (first, second) = rule.moments(s, g, first, second);
                    [rule.advance(s, p, first, second), first, second]
                },
            );
        }
        each(
            s,
            [self.grad],
            [self.param, self.first, self.second, self.largest],
            #[inline(always)]
            |[g], [p, first, second, largest]| {
                let (g, p) = rule.start.apply(s, g, p);
                let (first, second) = rule.moments(s, g, first, second);
                let largest = largest.maximum(second);
                [rule.advance(s, p, first, largest), first, second, largest]
            },
        );
    }
}
