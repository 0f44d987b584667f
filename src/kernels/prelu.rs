//! The parametric ReLU of `[samples, channels, inner]`: x where x > 0, else slope · x, with a slope for each
//! channel (He et al. 2015).
//!
//! With a single slope samples, channels and inner elements are one. Results are rounded once. The derivative
//! at 0 is the slope, as in PyTorch; NaN stays NaN.

use super::{channels, compiled_once, lengths, whole_rows};
use crate::buffer::Scratch;
use crate::context;
use crate::error::{Error, Result};
use crate::parallel::{self, Indices, Rows, RowsMut};
use crate::simd::{Element, Float, Kernel, Simd, slices};

/// Elements per parallel chunk, at least: 64 KiB of f32. With a single slope the elements that are summed
/// together.
const CHUNK: usize = 16 * 1024;
/// Samples per chunk in the backward pass of short channels, at least: each chunk has the sums of a sample.
const SAMPLES: usize = 16;
/// As a ReLU with its gradient. Estimates, not yet measured: `cargo bench --bench criterion -- prelu`.
const NANOSECONDS_PER_ELEMENT: f64 = 0.1;
const NANOSECONDS_PER_ELEMENT_BACKWARD: f64 = 0.2;

/// `y` from `x`, whole samples of a channel of `inner` elements for each slope.
///
/// # Errors
/// [`Error::Shape`] when `x` is not whole samples, `y` has another length or there is no slope.
///
/// ```
/// let mut y = [0.0_f32; 4];
/// gristmill::kernels::prelu::forward(&[-2.0, 2.0, -2.0, 2.0], &[0.25, 0.5], 2, &mut y)?;
/// assert_eq!(y, [-0.5, 2.0, -1.0, 2.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn forward<T: Element>(x: &[T], slope: &[T], inner: usize, y: &mut [T]) -> Result<()> {
    compiled_once!("prelu::forward", |x: &[T], slope: &[T], inner: usize, y: &mut [T]| -> Result<()> {
        let run = Run::new("prelu", x, slope, inner)?;
        lengths!("prelu", y == x.len());
        let settings = context::settings()?;
        let repeated = run.short.then(|| channels::repeat(slope, inner));
        let slope = repeated.as_deref().unwrap_or(slope);
        let chunk = (CHUNK / run.len.max(1)).max(1);
        let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
        let len = chunk * run.len;
        let parts = (Indices(x.len().div_ceil(len.max(1))), Rows(x, len), RowsMut::new(y, len));
        parallel::for_each(settings, parts, work, |(index, x, y)| {
            settings.simd.run(ForwardChunk { x, run, first: index * chunk, slope, y });
        });
        Ok(())
    })
}

/// What is done in one go: a channel, a sample of short channels, or part of everything with a single slope.
#[derive(Clone, Copy)]
struct Run {
    /// Its elements; with a single slope there may be fewer in the last one.
    len: usize,
    /// Whether it is a sample of short channels.
    short: bool,
}

impl Run {
    fn new<T: Element>(op: &'static str, x: &[T], slope: &[T], inner: usize) -> Result<Self> {
        if slope.is_empty() {
            return Err(Error::shape(op, "there is no slope"));
        }
        let Some(sample) = slope.len().checked_mul(inner) else {
            return Err(Error::shape(
                op,
                format!("{} channels of {inner} elements are too many", slope.len()),
            ));
        };
        whole_rows(op, x, sample)?;
        Ok(if slope.len() == 1 {
            Self { len: CHUNK, short: false }
        } else if channels::are_short::<T>(inner) {
            Self { len: sample, short: true }
        } else {
            Self { len: inner, short: false }
        })
    }
}

/// The runs of one parallel chunk.
struct ForwardChunk<'a, T> {
    x: &'a [T],
    run: Run,
    /// The number of the first run.
    first: usize,
    /// One per channel or, if channels are short, one per element of a sample.
    slope: &'a [T],
    y: &'a mut [T],
}

impl<T: Element> Kernel for ForwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let zero = s.splat(T::ZERO);
        let runs = self.x.chunks(self.run.len).zip(self.y.chunks_mut(self.run.len));
        for (index, (x, y)) in runs.enumerate() {
            if self.run.short {
                slices::map2(
                    s,
                    x,
                    self.slope,
                    y,
                    #[inline(always)]
                    |x, slope| T::Vector::select(zero.lt(x), x, x * slope),
                );
                continue;
            }
            let slope = s.splat(self.slope[(self.first + index) % self.slope.len()]);
            slices::map(
                s,
                x,
                y,
                #[inline(always)]
                |x| T::Vector::select(zero.lt(x), x, x * slope),
            );
        }
    }
}

/// The gradients of [`forward`], given its `x` and `slope`, in one pass: `dx = dy` where x > 0, else
/// `dy·slope`, and for each channel `dslope = Σ x·dy` where x ≤ 0.
///
/// Both are overwritten. `dslope` is within `(k + log₂ samples)·u·Σ|x·dy|` with
/// `k = min(inner, 4096)/16 + inner/4096 + 20`, `u` being the unit roundoff; with fewer than 64 inner
/// elements (32 of `f64`) within `(samples per chunk + inner + 20 + log₂ chunks)·u·Σ|x·dy|`, and with a
/// single slope within `(300 + log₂ n)·u·Σ|x·dy|` for n elements. That holds as long as `Σ|x·dy|` does not
/// overflow; each term that underflows adds a unit of the smallest number.
#[derive(Debug, Default)]
pub struct Backward<'a, T> {
    /// Whole samples of a channel of `inner` elements for each slope.
    pub x: &'a [T],
    /// One element per channel.
    pub slope: &'a [T],
    /// The number of elements of a channel.
    pub inner: usize,
    /// The gradient of `y`, of the length of `x`.
    pub dy: &'a [T],
    /// Output of the length of `x`.
    pub dx: &'a mut [T],
    /// Output of the length of `slope`; `None`, the default, if not wanted.
    pub dslope: Option<&'a mut [T]>,
}

impl<T: Element> Backward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` is not whole samples, another slice does not fit or there is no slope.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("prelu::backward", |call: Backward<'_, T>| -> Result<()> {
            const OP: &str = "prelu_backward";
            let Backward { x, slope, inner, dy, dx, dslope } = call;
            let run = Run::new(OP, x, slope, inner)?;
            lengths!(OP, dy == x.len(), dx == x.len(), dslope == slope.len());
            let settings = context::settings()?;

            if x.is_empty() {
                dslope.unwrap_or_default().fill(T::ZERO);
                return Ok(());
            }
            let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT_BACKWARD) as usize;
            let runs = x.len().div_ceil(run.len);
            if run.short {
                let slope = &channels::repeat(slope, inner)[..];
                let chunk = (CHUNK / run.len).clamp(SAMPLES.min(runs), runs);
                let mut sums = Scratch::new(runs.div_ceil(chunk) * run.len);
                let len = chunk * run.len;
                let parts =
                    (Rows(x, len), Rows(dy, len), RowsMut::new(dx, len), RowsMut::new(&mut sums, run.len));
                parallel::for_each(settings, parts, work, |(x, dy, dx, dslope)| {
                    settings.simd.run(ShortBackward { x, slope, dy, dx, dslope });
                });
                slices::merge_rows(&mut sums, run.len);
                channels::sum(&sums[..run.len], inner, dslope.unwrap_or_default());
                return Ok(());
            }
            let chunk = (CHUNK / run.len).max(1);
            let len = chunk * run.len;
            let mut sums = Scratch::new(runs);
            let parts = (
                Indices(runs.div_ceil(chunk)),
                Rows(x, len),
                Rows(dy, len),
                RowsMut::new(dx, len),
                RowsMut::new(&mut sums, chunk),
            );
            parallel::for_each(settings, parts, work, |(index, x, dy, dx, sums)| {
                settings.simd.run(LongBackward {
                    x,
                    len: run.len,
                    first: index * chunk,
                    slope,
                    dy,
                    dx,
                    sums,
                });
            });
            slices::merge_rows(&mut sums, slope.len());
            if let Some(dslope) = dslope {
                dslope.copy_from_slice(&sums[..slope.len()]);
            }
            Ok(())
        })
    }
}

/// Of whole samples, with slopes and sums per element of a sample.
struct ShortBackward<'a, T> {
    x: &'a [T],
    slope: &'a [T],
    dy: &'a [T],
    dx: &'a mut [T],
    dslope: &'a mut [T],
}

impl<T: Element> Kernel for ShortBackward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (zero, len) = (s.splat(T::ZERO), self.slope.len());
        self.dslope.fill(T::ZERO);
        let inputs = self.x.chunks_exact(len).zip(self.dy.chunks_exact(len));
        for ((x, dy), dx) in inputs.zip(self.dx.chunks_exact_mut(len)) {
            slices::update(
                s,
                [x, dy, self.slope],
                [dx, &mut *self.dslope],
                #[inline(always)]
                |[x, dy, slope], [_, dslope]| {
                    let positive = zero.lt(x);
                    [
                        T::Vector::select(positive, dy, dy * slope),
                        T::Vector::select(positive, dslope, x.mul_add(dy, dslope)),
                    ]
                },
            );
        }
    }
}

/// Of runs with one slope and one sum each.
struct LongBackward<'a, T> {
    x: &'a [T],
    len: usize,
    /// The number of the first run.
    first: usize,
    slope: &'a [T],
    dy: &'a [T],
    dx: &'a mut [T],
    sums: &'a mut [T],
}

impl<T: Element> Kernel for LongBackward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let zero = s.splat(T::ZERO);
        let inputs = self.x.chunks(self.len).zip(self.dy.chunks(self.len));
        let outputs = self.dx.chunks_mut(self.len).zip(self.sums);
        for (index, ((x, dy), (dx, sum))) in inputs.zip(outputs).enumerate() {
            let slope = s.splat(self.slope[(self.first + index) % self.slope.len()]);
            *sum = slices::map_and_sum(
                s,
                [x, dy],
                dx,
                #[inline(always)]
                |[x, dy], sum| {
                    let positive = zero.lt(x);
                    (
                        T::Vector::select(positive, dy, dy * slope),
                        T::Vector::select(positive, sum, x.mul_add(dy, sum)),
                    )
                },
            );
        }
    }
}
