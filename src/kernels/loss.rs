//! Elementwise losses, without a reduction, and their gradients.
//!
//! | loss | formula | gradient of x |
//! |---|---|---|
//! | [`SquaredError`](Loss::SquaredError) | `(x − t)²` | `2(x − t)` |
//! | [`AbsoluteError`](Loss::AbsoluteError) | `\|x − t\|` | `sign(x − t)`, 0 at 0 |
//! | [`Huber`](Loss::Huber) | `c·((x − t) − c/2)` with `c = x − t` clamped to ±δ | `c` |
//! | [`BceWithLogits`](Loss::BceWithLogits) | `max(x, 0) − x·t + ln(1 + exp(−\|x\|))` | `σ(x) − t` |
//!
//! The first three round each operation once: relative errors are within 3u (squared), u (absolute) and 4u
//! (Huber), with u = 2⁻²⁴ (f32) or 2⁻⁵³ (f64), and gradients within one u more for the product with `dloss`.
//! The binary cross-entropy is the sum of two terms ≥ 0, so that nothing cancels: its relative error is
//! within 12u. Its gradient's is within 8u for targets 0 and 1; for others `σ(x)` and `t` may cancel, and the
//! error is within 7u·|dloss|. Where results are subnormal, some units of the smallest number are added.
//! Gradients are right at every size as long as, of the squared error, x − t is finite, and of the binary
//! cross-entropy the derivative is a normal number: where it is subnormal, as for a label that a logit of 90
//! confirms in f32, so few digits are in the gradient, however large `dloss` is.
//!
//! A NaN gives NaN, in the gradients too. The difference of equal infinities is NaN. The binary cross-entropy
//! of ±∞ is +∞, or NaN where the target says the same (0·∞).

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{compiled_once, lengths};
use crate::context::{self, Settings};
use crate::error::{Error, Result};
use crate::parallel::{self, Indices, Rows, RowsMut};
use crate::simd::{Element, Float, Kernel, Mask, Simd, slices};

/// Elements per parallel chunk: 64 KiB of f32.
const CHUNK: usize = 16 * 1024;

/// An elementwise loss of a prediction x and a target t.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss<T> {
    /// `(x − t)²`.
    SquaredError,
    /// `|x − t|`.
    AbsoluteError,
    /// `(x − t)²/2` up to a distance of `delta`, `delta·(|x − t| − delta/2)` beyond.
    Huber {
        /// Where the parabola turns into a line; positive and finite.
        delta: T,
    },
    /// Binary cross-entropy between the probability `1/(1 + e⁻ˣ)` and the target in \[0, 1\].
    BceWithLogits,
}

impl<T: Element> Loss<T> {
    const fn name(self) -> &'static str {
        match self {
            Loss::SquaredError => "squared_error",
            Loss::AbsoluteError => "absolute_error",
            Loss::Huber { .. } => "huber",
            Loss::BceWithLogits => "bce_with_logits",
        }
    }

    /// An error unless the hyperparameter and the targets are in their domains.
    fn check(self, settings: Settings, targets: &[T]) -> Result<()> {
        match self {
            Loss::Huber { delta } if !(delta > T::ZERO && delta.is_finite()) => {
                let message = format!("delta must be positive and finite, got {delta}");
                Err(Error::value(self.name(), message))
            }
            Loss::BceWithLogits => {
                let first = AtomicUsize::new(usize::MAX);
                let parts = (Indices(targets.len().div_ceil(CHUNK)), Rows(targets, CHUNK));
                parallel::for_each(settings, parts, targets.len() / 10, |(chunk, targets)| {
                    if let Some(i) = settings.simd.run(NotProbability(targets)) {
                        first.fetch_min(chunk * CHUNK + i, Ordering::Relaxed);
                    }
                });
                let i = first.into_inner();
                let Some(target) = targets.get(i) else { return Ok(()) };
                Err(Error::value(self.name(), format!("target {target} at index {i} is outside 0 to 1")))
            }
            _ => Ok(()),
        }
    }

    /// Nanoseconds for `len` elements on one thread, measured with AVX2 and f32.
    const fn work(self, len: usize) -> usize {
        match self {
            Loss::BceWithLogits => 2 * len,
            _ => len / 4,
        }
    }
}

/// The loss of each element of `x` with its target.
///
/// # Errors
/// [`Error::Shape`] when the lengths differ, [`Error::Value`] when `delta` is not positive and finite or when
/// a target of the binary cross-entropy is outside 0 to 1 or NaN.
///
/// ```
/// use gristmill::kernels::loss::{self, Loss};
/// let mut losses = [0.0_f32; 2];
/// loss::forward(Loss::Huber { delta: 1.0 }, &[0.5, -3.0], &[0.0, 0.0], &mut losses)?;
/// assert_eq!(losses, [0.125, 2.5]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn forward<T: Element>(op: Loss<T>, x: &[T], target: &[T], losses: &mut [T]) -> Result<()> {
    compiled_once!("loss::forward", |op: Loss<T>, x: &[T], target: &[T], losses: &mut [T]| -> Result<()> {
        lengths!(op.name(), target == x.len(), losses == x.len());
        let settings = context::settings()?;
        op.check(settings, target)?;
        let parts = (Rows(x, CHUNK), Rows(target, CHUNK), RowsMut::new(losses, CHUNK));
        parallel::for_each(settings, parts, op.work(x.len()), |(x, target, losses)| {
            settings.simd.run(ForwardChunk { op, x, target, losses });
        });
        Ok(())
    })
}

/// The gradient of `x`, and optionally that of the targets, from one gradient per loss.
///
/// ```
/// use gristmill::kernels::loss::{Backward, Loss};
/// let (x, target, dlosses) = (&[3.0, 0.0], &[1.0, 5.0], &[1.0, 0.5]);
/// let (mut dx, mut dtarget) = ([0.0_f32; 2], [0.0; 2]);
/// let op = Loss::SquaredError;
/// Backward { op, x, target, dlosses, dx: &mut dx, dtarget: Some(&mut dtarget) }.run()?;
/// assert_eq!((dx, dtarget), ([4.0, -5.0], [-4.0, 5.0]));
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug)]
pub struct Backward<'a, T> {
    /// Which loss.
    pub op: Loss<T>,
    /// The predictions.
    pub x: &'a [T],
    /// The targets, of the length of `x`.
    pub target: &'a [T],
    /// The gradient of each loss, of the length of `x`.
    pub dlosses: &'a [T],
    /// Output of the length of `x`.
    pub dx: &'a mut [T],
    /// Output of the length of `x`; `None` if not wanted.
    pub dtarget: Option<&'a mut [T]>,
}

impl<T: Element> Backward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths differ, [`Error::Value`] when `delta` is not positive and finite or
    /// when a target of the binary cross-entropy is outside 0 to 1 or NaN.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("loss::backward", |call: Backward<'_, T>| -> Result<()> {
            let Backward { op, x, target, dlosses, dx, dtarget } = call;
            lengths!(op.name(), dlosses == x.len());
            let settings = check_backward(op, x, target, dx, dtarget.as_deref())?;
            let slopes = (Rows(x, CHUNK), Rows(target, CHUNK), Rows(dlosses, CHUNK), RowsMut::new(dx, CHUNK));
            parallel::for_each(settings, slopes, op.work(x.len()), |(x, target, dlosses, dx)| {
                settings.simd.run(BackwardChunk { op, x, target, dloss: Upstream::Each(dlosses), dx });
            });
            let Some(dtarget) = dtarget else { return Ok(()) };
            let parts = (Rows(x, CHUNK), Rows(dlosses, CHUNK), Rows(dx, CHUNK), RowsMut::new(dtarget, CHUNK));
            parallel::for_each(settings, parts, x.len() / 4, |(x, dlosses, dx, dtarget)| {
                settings.simd.run(TargetChunk { op, x, dloss: Upstream::Each(dlosses), dx, dtarget });
            });
            Ok(())
        })
    }
}

/// [`Backward`] with the same gradient for every loss, as from their sum or mean.
///
/// ```
/// use gristmill::kernels::loss::{BackwardUniform, Loss};
/// let (op, x, target) = (Loss::AbsoluteError, &[3.0, 1.0], &[1.0, 1.0]);
/// let mut dx = [0.0_f32; 2];
/// BackwardUniform { op, x, target, dloss: 0.5, dx: &mut dx, dtarget: None }.run()?;
/// assert_eq!(dx, [0.5, 0.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug)]
pub struct BackwardUniform<'a, T> {
    /// Which loss.
    pub op: Loss<T>,
    /// The predictions.
    pub x: &'a [T],
    /// The targets, of the length of `x`.
    pub target: &'a [T],
    /// The gradient of every loss.
    pub dloss: T,
    /// Output of the length of `x`.
    pub dx: &'a mut [T],
    /// Output of the length of `x`; `None` if not wanted.
    pub dtarget: Option<&'a mut [T]>,
}

impl<T: Element> BackwardUniform<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths differ, [`Error::Value`] when `delta` is not positive and finite or
    /// when a target of the binary cross-entropy is outside 0 to 1 or NaN.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("loss::backward_uniform", |call: BackwardUniform<'_, T>| -> Result<()> {
            let BackwardUniform { op, x, target, dloss, dx, dtarget } = call;
            let settings = check_backward(op, x, target, dx, dtarget.as_deref())?;
            let slopes = (Rows(x, CHUNK), Rows(target, CHUNK), RowsMut::new(dx, CHUNK));
            parallel::for_each(settings, slopes, op.work(x.len()), |(x, target, dx)| {
                settings.simd.run(BackwardChunk { op, x, target, dloss: Upstream::All(dloss), dx });
            });
            let Some(dtarget) = dtarget else { return Ok(()) };
            let parts = (Rows(x, CHUNK), Rows(dx, CHUNK), RowsMut::new(dtarget, CHUNK));
            parallel::for_each(settings, parts, x.len() / 4, |(x, dx, dtarget)| {
                settings.simd.run(TargetChunk { op, x, dloss: Upstream::All(dloss), dx, dtarget });
            });
            Ok(())
        })
    }
}

fn check_backward<T: Element>(
    op: Loss<T>,
    x: &[T],
    target: &[T],
    dx: &[T],
    dtarget: Option<&[T]>,
) -> Result<Settings> {
    lengths!(op.name(), target == x.len(), dx == x.len());
    if let Some(dtarget) = dtarget {
        lengths!(op.name(), dtarget == x.len());
    }
    let settings = context::settings()?;
    op.check(settings, target)?;
    Ok(settings)
}

/// The index of the first element that is not in \[0, 1\].
struct NotProbability<'a, T>(&'a [T]);

impl<T: Element> Kernel for NotProbability<'_, T> {
    type Output = Option<usize>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Option<usize> {
        let (zero, one) = (s.splat(T::ZERO), s.splat(T::ONE));
        slices::position(
            s,
            self.0,
            #[inline(always)]
            |p| zero.le(p).and(p.le(one)).not(),
        )
    }
}

/// The gradient of the losses.
#[derive(Clone, Copy)]
enum Upstream<'a, T> {
    Each(&'a [T]),
    All(T),
}

struct ForwardChunk<'a, T> {
    op: Loss<T>,
    x: &'a [T],
    target: &'a [T],
    losses: &'a mut [T],
}

impl<T: Element> Kernel for ForwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { op, x, target, losses } = self;
        match op {
            Loss::SquaredError => slices::map2(
                s,
                x,
                target,
                losses,
                #[inline(always)]
                |x, t| (x - t) * (x - t),
            ),
            Loss::AbsoluteError => slices::map2(
                s,
                x,
                target,
                losses,
                #[inline(always)]
                |x, t| (x - t).abs(),
            ),
            Loss::Huber { delta } => {
                let half = s.splat(T::from_f64(0.5));
                slices::map2(
                    s,
                    x,
                    target,
                    losses,
                    #[inline(always)]
                    |x, t| {
                        let error = x - t;
                        let clamped = clamp(s, error, delta);
                        clamped * clamped.neg_mul_add(half, error)
                    },
                );
            }
            Loss::BceWithLogits => slices::map2(
                s,
                x,
                target,
                losses,
                #[inline(always)]
                |x, t| {
                    // The weight of |x|: 1 − t where x > 0, else t.
                    let weight = T::Vector::select(s.splat(T::ZERO).lt(x), s.splat(T::ONE) - t, t);
                    x.abs().mul_add(weight, ln_1p::<T, S>(s, T::exp(s, -x.abs())))
                },
            ),
        }
    }
}

/// `x` clamped to ±`delta`; NaN is kept.
#[inline(always)]
fn clamp<T: Element, S: Simd>(s: S, x: T::Vector<S>, delta: T) -> T::Vector<S> {
    s.splat(-delta).max(s.splat(delta).min(x))
}

/// ln(1 + e) for e in \[0, 1\], within 3 ULP. With u = 1 + e rounded and c = e − (u − 1) what was rounded
/// off, it is ln u + c/u to first order, and on \[1, 2\] the line (3 − u)/2 is near enough to 1/u: the
/// difference is at most half of the ln u that c is a rounding error of.
#[inline(always)]
fn ln_1p<T: Element, S: Simd>(s: S, e: T::Vector<S>) -> T::Vector<S> {
    let one = s.splat(T::ONE);
    let u = one + e;
    let rounded_off = e - (u - one);
    let reciprocal = u.neg_mul_add(s.splat(T::from_f64(0.5)), s.splat(T::from_f64(1.5)));
    rounded_off.mul_add(reciprocal, T::ln(s, u))
}

struct BackwardChunk<'a, T> {
    op: Loss<T>,
    x: &'a [T],
    target: &'a [T],
    dloss: Upstream<'a, T>,
    dx: &'a mut [T],
}

impl<T: Element> Kernel for BackwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { op, x, target, dloss, dx } = self;
        let inputs = (s, x, target, dloss, dx);
        match op {
            Loss::SquaredError => slopes(
                inputs,
                #[inline(always)]
                |x, t, g| {
                    // Twice the error may be beyond the range where the gradient is not.
                    let half = (x - t) * g;
                    half + half
                },
            ),
            Loss::AbsoluteError => slopes(
                inputs,
                #[inline(always)]
                |x, t, g| {
                    let error = x - t;
                    // Zero and NaN are kept.
                    let flat = error.eq(s.splat(T::ZERO)).or(error.is_nan());
                    T::Vector::select(flat, error, s.splat(T::ONE).copysign(error)) * g
                },
            ),
            Loss::Huber { delta } => slopes(
                inputs,
                #[inline(always)]
                |x, t, g| clamp(s, x - t, delta) * g,
            ),
            Loss::BceWithLogits => slopes(
                inputs,
                #[inline(always)]
                |x, t, g| {
                    // σ(x) − t = (1 − t) − σ(−x): from the small side, so that labels 0 and 1 do not cancel.
                    let small = T::sigmoid(s, -x.abs());
                    let slope =
                        T::Vector::select(s.splat(T::ZERO).lt(x), (s.splat(T::ONE) - t) - small, small - t);
                    slope * g
                },
            ),
        }
    }
}

/// `dx[i] = slope(x[i], t[i], dloss)`.
#[inline(always)]
fn slopes<T: Element, S: Simd>(
    (s, x, target, dloss, dx): (S, &[T], &[T], Upstream<'_, T>, &mut [T]),
    slope: impl Fn(T::Vector<S>, T::Vector<S>, T::Vector<S>) -> T::Vector<S>,
) {
    match dloss {
        Upstream::Each(dlosses) => slices::map3(s, [x, target, dlosses], dx, slope),
        Upstream::All(dloss) => {
            let dloss = s.splat(dloss);
            slices::map2(
                s,
                x,
                target,
                dx,
                #[inline(always)]
                |x, t| slope(x, t, dloss),
            );
        }
    }
}

/// The gradient of the targets: −dx where only the difference matters, −dloss·x for the binary cross-entropy.
struct TargetChunk<'a, T> {
    op: Loss<T>,
    x: &'a [T],
    dloss: Upstream<'a, T>,
    dx: &'a [T],
    dtarget: &'a mut [T],
}

impl<T: Element> Kernel for TargetChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { op, x, dloss, dx, dtarget } = self;
        match (op, dloss) {
            (Loss::BceWithLogits, Upstream::Each(dlosses)) => slices::map2(
                s,
                dlosses,
                x,
                dtarget,
                #[inline(always)]
                |g, x| -g * x,
            ),
            (Loss::BceWithLogits, Upstream::All(dloss)) => {
                let g = s.splat(-dloss);
                slices::map(
                    s,
                    x,
                    dtarget,
                    #[inline(always)]
                    |x| g * x,
                );
            }
            _ => slices::map(
                s,
                dx,
                dtarget,
                #[inline(always)]
                |dx| -dx,
            ),
        }
    }
}
