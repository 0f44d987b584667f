//! The step that all rules share.

use super::{Decay, Prepared, Progress, Rule, Update};
use crate::context;
use crate::error::{Error, Result};
use crate::kernels::{Operand as _, compiled_once, lengths};
use crate::parallel::{self, Chunks, Rows, RowsMut};
use crate::profile;
use crate::simd::environment::{Environment, normal_or_zero};
use crate::simd::{Element, Float, Kernel, Simd, slices};

/// Elements per parallel chunk: 16 KiB of f32.
const CHUNK: usize = 4 * 1024;

/// The first part of every step: the gradient is scaled and clipped, and decay acts as `g + penalty·p` or
/// `p·shrink`, of which the other does nothing.
#[derive(Clone, Copy)]
pub(super) struct Start<T> {
    scale: T,
    /// Infinite if nothing is clipped.
    clip: T,
    penalty: T,
    shrink: T,
}

impl<T: Element> Start<T> {
    pub fn new(lr: f64, weight_decay: f64, decay: Decay) -> Self {
        let (penalty, shrink) = match decay {
            Decay::L2 => (weight_decay, 1.0),
            Decay::Decoupled => (0.0, 1.0 - lr * weight_decay),
        };
        let [penalty, shrink] = [penalty, shrink].map(T::from_f64);
        Self { scale: T::ONE, clip: T::INFINITY, penalty, shrink }
    }

    /// The gradient and the parameter that the rule starts from.
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, g: T::Vector<S>, p: T::Vector<S>) -> (T::Vector<S>, T::Vector<S>) {
        let mut g = g * s.splat(self.scale);
        if self.clip < T::INFINITY {
            // NaN is kept.
            g = s.splat(self.clip).minimum(s.splat(-self.clip).maximum(g));
        }
        // Without a penalty `0·p` is not added, since it is NaN where p is infinite.
        let g = if self.penalty == T::ZERO { g } else { p.mul_add(s.splat(self.penalty), g) };
        (g, p * s.splat(self.shrink))
    }
}

/// What an optimizer does with one chunk of a parameter.
pub(super) trait Formula<T: Element>: Copy + Send + Sync {
    fn run<S: Simd>(self, s: S, chunk: Chunk<'_, T>);
}

/// A chunk of a parameter, with its gradient and its state.
pub(super) struct Chunk<'a, T> {
    start: Start<T>,
    grad: &'a [T],
    /// The parameter, and the parts of the state; those that are not in use are empty.
    parts: [&'a mut [T]; 4],
}

impl<T: Element> Chunk<'_, T> {
    /// Whether this part is in use.
    #[inline(always)]
    pub fn has(&self, part: usize) -> bool {
        !self.parts[part].is_empty()
    }

    /// Replaces parts, the first of which is the parameter, by what `f` makes of the gradient and them, the
    /// gradient scaled, clipped and with its penalty, the parameter shrunk. What is stored is a normal
    /// number, 0, infinite or NaN.
    #[inline(always)]
    pub fn each<S: Simd, const M: usize>(
        self,
        s: S,
        which: [usize; M],
        f: impl Fn(T::Vector<S>, [T::Vector<S>; M]) -> [T::Vector<S>; M],
    ) {
        let Self { start, grad, mut parts } = self;
        slices::update(
            s,
            [grad],
            which.map(|part| std::mem::take(&mut parts[part])),
            #[inline(always)]
            |[g], mut parts| {
                let (g, p) = start.apply(s, g, parts[0]);
                parts[0] = p;
                let new = f(g, parts);
                // Where a control bit flushes subnormal numbers, [`run`] has set it.
                if Environment::FLUSH.is_some() { new } else { new.map(|x| normal_or_zero::<T, S>(s, x)) }
            },
        );
    }
}

pub(super) struct StepKernel<'a, F, T> {
    pub formula: F,
    pub chunk: Chunk<'a, T>,
}

impl<T: Element, F: Formula<T>> Kernel for StepKernel<'_, F, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.formula.run(s, self.chunk);
    }
}

/// One parameter's step, to be run by [`run`], by itself or together with others.
pub struct Step<'a, T: Element> {
    rule: Prepared<T>,
    start: Start<T>,
    parts: Parts<'a, T>,
    /// The number of the first chunk, counted through all steps of a run.
    first_chunk: usize,
}

/// Gradient, parameter, and up to three slices of state.
type Parts<'a, T> = (Rows<'a, T>, RowsMut<'a, T>, RowsMut<'a, T>, RowsMut<'a, T>, RowsMut<'a, T>);

impl<'a, T: Element> Step<'a, T> {
    /// A step of a rule: its hyperparameters, the number of the step (the first is 1; NAdam takes a
    /// [`Progress`]), a gradient, the parameter, and the [parts of its state](Rule::state), empty ones for
    /// those that it does not [use](Rule::uses).
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths differ or the rule has another number of parts, [`Error::Value`]
    /// when a hyperparameter does not make sense or the step is 0.
    pub fn new<const N: usize>(
        rule: impl Into<Rule>,
        at: impl Into<Progress>,
        grad: &'a [T],
        param: &'a mut [T],
        state: [&'a mut [T]; N],
    ) -> Result<Self> {
        let rule = rule.into();
        if N != rule.state().len() {
            let message = format!("{N} parts of a state, expected {}", rule.state().len());
            return Err(Error::shape(rule.name(), message));
        }
        let mut state = state.into_iter();
        let parts = std::array::from_fn(|_| state.next().unwrap_or_default());
        Self::of_parts(&rule, at.into(), grad, param, parts)
    }

    /// The step of one rule: its learning rate, λ and what λ does; gradient, parameter and state.
    #[inline(always)]
    pub(super) fn of_rule<R: Update>(
        rule: &R,
        prepared: impl Fn(R::Prepared<T>) -> Prepared<T>,
        (lr, weight_decay, decay): (f64, f64, Decay),
        at: Progress,
        (grad, param, state): (&'a [T], &'a mut [T], [&'a mut [T]; 3]),
    ) -> Result<Self> {
        rule.validate()?;
        if at.step == 0 {
            return Err(Error::value(R::NAME, "step is 0; the first step is 1"));
        }
        lengths!(R::NAME, param == grad.len());
        for (i, part) in R::STATE.iter().enumerate() {
            state[i].expect_len(R::NAME, part.name, if rule.uses(i) { grad.len() } else { 0 })?;
        }
        let (rule, start) = context::in_environment(|| {
            let start = Start::new(rule.lr_at(lr, at), weight_decay, decay);
            rule.prepare(at).map(|rule| (prepared(rule), start))
        })?;
        let [a, b, c] = state;
        let [a, b, c] = [RowsMut::new(a, CHUNK), RowsMut::new(b, CHUNK), RowsMut::new(c, CHUNK)];
        let parts = (Rows(grad, CHUNK), RowsMut::new(param, CHUNK), a, b, c);
        Ok(Self { rule, start, parts, first_chunk: 0 })
    }

    /// Multiplies the gradient by `scale` first: to clip the norm of all gradients, or to undo the scale of a
    /// loss.
    #[must_use]
    pub fn grad_scale(mut self, scale: T) -> Self {
        self.start.scale = scale;
        self
    }

    /// Clips the (scaled) gradient to [−`limit`, `limit`] before decay; NaN stays NaN.
    #[must_use]
    pub fn grad_clip(mut self, limit: T) -> Self {
        self.start.clip = limit;
        self
    }
}

/// Runs steps of any rules in one pass: the threads share all of them, so that many small parameters take no
/// longer than one large one of the same total size. A step that is run again starts from the results of the
/// last run.
///
/// # Errors
/// [`Error::Setting`] for an invalid setting; see [`Context`](crate::Context).
///
/// ```
/// use gristmill::kernels::update::{self, Sgd, Step};
/// let (mut weight, mut bias) = ([1.0_f32, 2.0], [0.5_f32]);
/// let config = Sgd { lr: 0.5, ..Sgd::default() };
/// update::run(&mut [
///     Step::new(config, 1, &[1.0, 1.0], &mut weight, [&mut []])?,
///     Step::new(config, 1, &[2.0], &mut bias, [&mut []])?.grad_scale(0.5),
/// ])?;
/// assert_eq!((weight, bias), ([0.5, 1.5], [0.0]));
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn run<T: Element>(steps: &mut [Step<'_, T>]) -> Result<()> {
    compiled_once!("update::run", |steps: &mut [Step<'_, T>]| -> Result<()> {
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
            step.rule.run(settings.simd, Chunk { start: step.start, grad, parts: [param, a, b, c] });
        });
        Ok(())
    })
}
