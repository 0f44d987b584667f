//! Group normalisation of `[samples, channels, inner]`: the channels of a sample fall into groups of
//! neighbours, and `y = (x − mean)·rstd·γ + β` with `rstd = 1 / √(var + eps)` of each group (Wu and He 2018).
//!
//! γ and β are per channel. A group lies in memory as one row, and what [`layer_norm`](super::layer_norm)
//! says about rows holds for it, with n its elements, D its channels, and `k + D` for k in `dx`: the error
//! bounds, squares that overflow, NaN and infinities, constant groups, gradients of every size. With one
//! group and `inner = 1` the results are those of `layer_norm`, bit by bit. The gradients of channels of 64
//! elements or more (32 of `f64`) apply γ separately: they also require a normal `γ·rstd`, and that
//! `2¹⁰·Σ|dy|·(|x̂| + 1)` does not overflow; a `dx` below the range is off by up to `4·(|x̂| + 1)` units
//! more.

use super::layer_norm::{RowMoments, backward_row};
use super::{
    channels, compiled_once, deviation_scales, lengths, spare_if, unless_given, valid_eps, whole_rows,
};
use crate::buffer::Scratch;
use crate::context;
use crate::error::{Error, Result};
use crate::parallel::{self, Indices, Rows, RowsMut};
use crate::simd::{Element, Float, Kernel, Simd, slices};

/// Elements per parallel chunk, at least: 64 KiB of f32.
const CHUNK: usize = 16 * 1024;
/// Samples per chunk in the backward pass of short channels, at least: each chunk has sums of two samples.
const SAMPLES: usize = 16;
/// Those of layer normalisation.
const NANOSECONDS_PER_ELEMENT: f64 = 0.25;
const NANOSECONDS_PER_ELEMENT_BACKWARD: f64 = 0.5;

/// How the elements of x lie: `[samples, channels, inner]`, the channels in groups of equal size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Channels of a sample.
    pub channels: usize,
    /// Elements of a channel, such as height × width.
    pub inner: usize,
    /// Groups of a sample.
    pub groups: usize,
}

impl Default for Layout {
    /// Nothing: no channels, in one group.
    fn default() -> Self {
        Self { channels: 0, inner: 1, groups: 1 }
    }
}

impl Layout {
    /// The number of rows: groups of all samples.
    fn rows<T>(self, op: &'static str, x: &[T]) -> Result<usize> {
        let Self { channels, inner, groups } = self;
        if groups == 0 || !channels.is_multiple_of(groups) {
            let message = format!("{channels} channels do not fall into {groups} equal groups");
            return Err(Error::shape(op, message));
        }
        let Some(sample) = channels.checked_mul(inner) else {
            return Err(Error::shape(op, format!("{channels} channels of {inner} elements are too many")));
        };
        Ok(whole_rows(op, x, sample)? * groups)
    }

    /// Channels of a group.
    fn depth(self) -> usize {
        self.channels / self.groups
    }

    /// Elements of a group.
    fn row(self) -> usize {
        self.depth() * self.inner
    }
}

/// Normalises each group of channels.
///
/// ```
/// use gristmill::kernels::group_norm::{Forward, Layout};
/// // One sample of four channels in two groups, two elements each.
/// let layout = Layout { channels: 4, inner: 2, groups: 2 };
/// let x = [1.0_f32, 1.0, 3.0, 3.0, 10.0, 14.0, 14.0, 10.0];
/// let (gamma, mut y) = ([1.0, 1.0, 1.0, 5.0], [0.0; 8]);
/// let call = Forward { x: &x, layout, gamma: Some(&gamma), eps: 0.0, y: &mut y, ..Forward::default() };
/// call.run()?;
/// assert_eq!(y, [-1.0, -1.0, 1.0, 1.0, -1.0, 1.0, 5.0, -5.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug)]
pub struct Forward<'a, T> {
    /// Whole samples.
    pub x: &'a [T],
    /// How the elements of `x` lie.
    pub layout: Layout,
    /// γ, one element per channel; `None`, the default, for 1.
    pub gamma: Option<&'a [T]>,
    /// β, one element per channel; `None`, the default, for 0.
    pub beta: Option<&'a [T]>,
    /// Added to the variance: finite and not negative, 1e−5 by default.
    pub eps: f64,
    /// Output of the length of `x`.
    pub y: &'a mut [T],
    /// Output for [`Backward`], one element per sample and group; not written if `None`, the default.
    pub mean: Option<&'a mut [T]>,
    /// Like `mean`.
    pub rstd: Option<&'a mut [T]>,
}

impl<T> Default for Forward<'_, T> {
    fn default() -> Self {
        let layout = Layout::default();
        Self { x: &[], layout, gamma: None, beta: None, eps: 1e-5, y: &mut [], mean: None, rstd: None }
    }
}

impl<T: Element> Forward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` is not whole samples, the channels do not fall into equal groups or another
    /// slice does not fit, [`Error::Value`] when `eps` is negative or not finite.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("group_norm::forward", |call: Forward<'_, T>| -> Result<()> {
            const OP: &str = "group_norm";
            let Forward { x, layout, gamma, beta, eps, y, mean, rstd } = call;
            let rows = layout.rows(OP, x)?;
            let Layout { channels, inner, .. } = layout;
            lengths!(OP, gamma == channels, beta == channels, y == x.len(), mean == rows, rstd == rows);
            valid_eps(OP, eps)?;
            let settings = context::settings()?;

            if rows == 0 {
                return Ok(());
            }
            let (ones, zeros) =
                (unless_given(gamma, channels, T::ONE), unless_given(beta, channels, T::ZERO));
            let gamma = gamma.or(ones.as_deref()).unwrap_or_default();
            let beta = beta.or(zeros.as_deref()).unwrap_or_default();
            let repeated =
                channels::are_short::<T>(inner).then(|| [gamma, beta].map(|x| channels::repeat(x, inner)));
            let [gamma, beta] =
                repeated.as_ref().map_or([gamma, beta], |repeated| repeated.each_ref().map(|x| &x[..]));
            let (mut spare_mean, mut spare_rstd) =
                (spare_if(mean.is_none(), rows), spare_if(rstd.is_none(), rows));
            let eps = T::from_f64(eps);
            let chunk = (CHUNK / layout.row().max(1)).max(1);
            let len = chunk * layout.row();
            let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
            let parts = (
                Indices(rows.div_ceil(chunk)),
                Rows(x, len),
                RowsMut::new(y, len),
                RowsMut::new(mean.unwrap_or(&mut spare_mean), chunk),
                RowsMut::new(rstd.unwrap_or(&mut spare_rstd), chunk),
            );
            parallel::for_each(settings, parts, work, |(index, x, y, mean, rstd)| {
                let first = index * chunk;
                settings.simd.run(ForwardChunk { x, layout, first, gamma, beta, eps, y, mean, rstd });
            });
            Ok(())
        })
    }
}

/// The groups of one parallel chunk.
struct ForwardChunk<'a, T> {
    x: &'a [T],
    layout: Layout,
    /// The number of the first row.
    first: usize,
    /// One per channel or, if channels are short, one per element of a sample; β likewise.
    gamma: &'a [T],
    beta: &'a [T],
    eps: T,
    y: &'a mut [T],
    mean: &'a mut [T],
    rstd: &'a mut [T],
}

impl<T: Element> Kernel for ForwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Layout { inner, groups, .. } = self.layout;
        // Parameters of a group.
        let params = self.gamma.len() / groups;
        let rows = self.x.chunks_exact(self.layout.row()).zip(self.y.chunks_exact_mut(self.layout.row()));
        for (row, (x, y)) in rows.enumerate() {
            let moments = RowMoments::new(s, x, self.eps);
            (self.mean[row], self.rstd[row]) = (moments.mean, moments.rstd);
            let group = (self.first + row) % groups * params;
            let (gamma, beta) = (&self.gamma[group..][..params], &self.beta[group..][..params]);
            if channels::are_short::<T>(inner) {
                moments.normalise(s, x, gamma, beta, y);
                continue;
            }
            let rest = s.splat(moments.rest * moments.rstd);
            let (mean, rstd) = (s.splat(moments.mean), s.splat(moments.rstd));
            let channels = x.chunks_exact(inner).zip(y.chunks_exact_mut(inner));
            for ((x, y), (&gamma, &beta)) in channels.zip(gamma.iter().zip(beta)) {
                let (gamma, beta) = (s.splat(gamma), s.splat(beta));
                slices::map(
                    s,
                    x,
                    y,
                    #[inline(always)]
                    |x| (x - mean).mul_sub(rstd, rest).mul_add(gamma, beta),
                );
            }
        }
    }
}

/// The gradients of [`Forward`], given its `x`, `gamma`, `mean` and `rstd`.
///
/// `dx` is that of [`layer_norm::Backward`](super::layer_norm::Backward) for each group; per channel
/// `dgamma = Σ dy·x̂` and `dbeta = Σ dy`, within
/// `(k + samples per chunk + log₂ samples + 64)·q·u·Σ|dy|·(|x̂| + 1)` and the same of `Σ|dy|`. All outputs
/// are overwritten.
#[derive(Debug, Default)]
pub struct Backward<'a, T> {
    /// Whole samples.
    pub x: &'a [T],
    /// How the elements of `x` lie.
    pub layout: Layout,
    /// γ, one element per channel; `None`, the default, for 1.
    pub gamma: Option<&'a [T]>,
    /// One element per sample and group, from [`Forward`].
    pub mean: &'a [T],
    /// One element per sample and group, from [`Forward`].
    pub rstd: &'a [T],
    /// The gradient of `y`, of the length of `x`.
    pub dy: &'a [T],
    /// Output of the length of `x`.
    pub dx: &'a mut [T],
    /// Output, one element per channel; `None`, the default, if not wanted.
    pub dgamma: Option<&'a mut [T]>,
    /// Output, one element per channel; `None`, the default, if not wanted.
    pub dbeta: Option<&'a mut [T]>,
}

impl<T: Element> Backward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` is not whole samples, the channels do not fall into equal groups or another
    /// slice does not fit.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("group_norm::backward", |call: Backward<'_, T>| -> Result<()> {
            const OP: &str = "group_norm_backward";
            let Backward { x, layout, gamma, mean, rstd, dy, dx, dgamma, dbeta } = call;
            let rows = layout.rows(OP, x)?;
            let Layout { channels, inner, groups } = layout;
            lengths!(OP, gamma == channels, mean == rows, rstd == rows, dy == x.len(), dx == x.len());
            lengths!(OP, dgamma == channels, dbeta == channels);
            let settings = context::settings()?;

            if rows == 0 {
                [dgamma, dbeta].into_iter().flatten().for_each(|sum| sum.fill(T::ZERO));
                return Ok(());
            }
            let ones = unless_given(gamma, channels, T::ONE);
            let gamma = gamma.or(ones.as_deref()).unwrap_or_default();
            let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT_BACKWARD) as usize;
            if channels::are_short::<T>(inner) {
                let gamma = &channels::repeat(gamma, inner)[..];
                let (samples, sample) = (rows / groups, channels * inner);
                let chunk = (CHUNK / sample).clamp(SAMPLES.min(samples), samples);
                // The sums of each chunk: of dgamma, then of dbeta.
                let mut sums = Scratch::new(samples.div_ceil(chunk) * 2 * sample);
                let parts = (
                    Rows(x, chunk * sample),
                    Rows(dy, chunk * sample),
                    Rows(mean, chunk * groups),
                    Rows(rstd, chunk * groups),
                    RowsMut::new(dx, chunk * sample),
                    RowsMut::new(&mut sums, 2 * sample),
                );
                parallel::for_each(settings, parts, work, |(x, dy, mean, rstd, dx, sums)| {
                    settings.simd.run(ShortBackward { x, layout, gamma, mean, rstd, dy, dx, sums });
                });
                slices::merge_rows(&mut sums, 2 * sample);
                for (gradient, sums) in [dgamma, dbeta].into_iter().zip(sums.chunks_exact(sample)) {
                    channels::sum(sums, inner, gradient.unwrap_or_default());
                }
                return Ok(());
            }
            let chunk = (CHUNK / layout.row()).max(1);
            // For each row the sums of its channels: of dgamma, then of dbeta.
            let mut sums = Scratch::new(rows * 2 * layout.depth());
            let parts = (
                (
                    Indices(rows.div_ceil(chunk)),
                    Rows(x, chunk * layout.row()),
                    Rows(dy, chunk * layout.row()),
                ),
                (Rows(mean, chunk), Rows(rstd, chunk)),
                RowsMut::new(dx, chunk * layout.row()),
                RowsMut::new(&mut sums, chunk * 2 * layout.depth()),
            );
            parallel::for_each(settings, parts, work, |((index, x, dy), (mean, rstd), dx, sums)| {
                let first = index * chunk;
                settings.simd.run(LongBackward { x, layout, first, gamma, mean, rstd, dy, dx, sums });
            });
            slices::merge_rows(&mut sums, 2 * channels);
            let mut gradients = [dgamma, dbeta];
            for (group, sums) in sums[..2 * channels].chunks_exact(2 * layout.depth()).enumerate() {
                let place = group * layout.depth()..(group + 1) * layout.depth();
                for (gradient, sums) in gradients.iter_mut().zip(sums.chunks_exact(layout.depth())) {
                    if let Some(gradient) = gradient {
                        gradient[place.clone()].copy_from_slice(sums);
                    }
                }
            }
            Ok(())
        })
    }
}

/// Of whole samples, with γ and the sums per element of a sample.
struct ShortBackward<'a, T> {
    x: &'a [T],
    layout: Layout,
    gamma: &'a [T],
    mean: &'a [T],
    rstd: &'a [T],
    dy: &'a [T],
    dx: &'a mut [T],
    sums: &'a mut [T],
}

impl<T: Element> Kernel for ShortBackward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.sums.fill(T::ZERO);
        let (dgamma, dbeta) = self.sums.split_at_mut(self.gamma.len());
        let len = self.layout.row();
        let inputs = self.x.chunks_exact(len).zip(self.dy.chunks_exact(len));
        let moments = self.mean.iter().zip(self.rstd);
        for (row, (((x, dy), dx), (&mean, &rstd))) in
            inputs.zip(self.dx.chunks_exact_mut(len)).zip(moments).enumerate()
        {
            let group = row % self.layout.groups * len;
            let (dgamma, dbeta) = (&mut dgamma[group..][..len], &mut dbeta[group..][..len]);
            backward_row(s, [x, dy, &self.gamma[group..][..len]], mean, rstd, [dx, dgamma, dbeta]);
        }
    }
}

/// Of whole rows, with γ per channel and sums per channel of each row.
struct LongBackward<'a, T> {
    x: &'a [T],
    layout: Layout,
    /// The number of the first row.
    first: usize,
    gamma: &'a [T],
    mean: &'a [T],
    rstd: &'a [T],
    dy: &'a [T],
    dx: &'a mut [T],
    sums: &'a mut [T],
}

impl<T: Element> Kernel for LongBackward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Layout { inner, groups, .. } = self.layout;
        let (len, depth) = (self.layout.row(), self.layout.depth());
        let inverse_n = T::ONE / T::from_f64(len as f64);
        let inputs = self.x.chunks_exact(len).zip(self.dy.chunks_exact(len));
        let outputs = self.dx.chunks_exact_mut(len).zip(self.sums.chunks_exact_mut(2 * depth));
        for (row, ((x, dy), (dx, sums))) in inputs.zip(outputs).enumerate() {
            let (mean, rstd) = (self.mean[row], self.rstd[row]);
            let gamma = &self.gamma[(self.first + row) % groups * depth..][..depth];
            let (dgamma, dbeta) = sums.split_at_mut(depth);
            let (scale, unscale) = deviation_scales(mean, rstd);
            let (factor, scaled_center) = (s.splat(scale), s.splat(mean * scale));
            let (mut sum_d, mut sum_g, mut sum_gd) = (T::ZERO, T::ZERO, T::ZERO);
            let channels = x.chunks_exact(inner).zip(dy.chunks_exact(inner)).zip(gamma);
            for (((x, dy), &gamma), (dgamma, dbeta)) in channels.zip(dgamma.iter_mut().zip(&mut *dbeta)) {
                let [of_d, of_dy, of_dyd] = slices::sums::<T, S, 2, 2, 3>(
                    s,
                    [x, dy],
                    #[inline(always)]
                    |[of_d, of_dy, of_dyd], [x, dy]| {
                        let d = x.mul_sub(factor, scaled_center);
                        [of_d + d, of_dy + dy, dy.mul_add(d, of_dyd)]
                    },
                );
                sum_d += of_d;
                sum_g += gamma * of_dy;
                sum_gd += gamma * of_dyd;
                (*dgamma, *dbeta) = (of_dyd, of_dy);
            }
            // The mean that was saved is rounded: `rest`, scaled, is what it lacks.
            let (rest, scaled_rstd) = (sum_d * inverse_n, rstd * unscale);
            for (dgamma, dbeta) in dgamma.iter_mut().zip(&*dbeta) {
                *dgamma = (*dgamma - rest * *dbeta) * scaled_rstd;
            }
            // dx = γ·rstd·dy − rstd·mean(g) − x̂·rstd·mean(g·x̂).
            let offset = s.splat(-(sum_g * inverse_n) * rstd);
            let slope = s.splat((sum_gd - rest * sum_g) * inverse_n * scaled_rstd * rstd);
            let (center, rest, rstds) = (s.splat(mean), s.splat(rest * scaled_rstd), s.splat(rstd));
            let channels = x.chunks_exact(inner).zip(dy.chunks_exact(inner));
            for (((x, dy), dx), &gamma) in channels.zip(dx.chunks_exact_mut(inner)).zip(gamma) {
                let factor = s.splat(gamma * rstd);
                slices::map2(
                    s,
                    x,
                    dy,
                    dx,
                    #[inline(always)]
                    |x, dy| {
                        let normal = (x - center).mul_sub(rstds, rest);
                        normal.neg_mul_add(slope, dy.mul_add(factor, offset))
                    },
                );
            }
        }
    }
}
