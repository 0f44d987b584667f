//! Batch normalisation over the columns of `[rows × cols]`: `y = (x − mean)·rstd·γ + β` with
//! `rstd = 1/√(var + eps)`.
//!
//! In training ([`Forward`], [`Backward`]) the mean and the biased variance are of each column of `x`; in
//! inference ([`Infer`], [`InferBackward`]) they are given. The statistics of a block of 128 rows take two
//! passes over it while a cache has it: `m`, the mean as summed, then `d = x − m` with `r = Σd/n`, what the
//! rounding of `m` left over, and `q = Σd² − r·Σd`. Blocks are merged in pairs by the rule of Chan, Golub and
//! LeVeque (1983). Then `var = q/n` and `y = (x − mean)·a + b` with `a = rstd·γ` and `b = β − r·a`, one fused
//! multiply-add. So the rounding of the mean, up to `u·|mean|`, does not reach `y`, however large the mean is
//! against the deviation.
//!
//! Sums run down the same blocks. With `k = min(n, 128) + 4·log₂(n/128) + 20`, `u` the unit roundoff and
//! `q = 1 + (k·u·max|x|·rstd)²`, `y` is within `k·q·u·(|γ|·(|x̂| + 1) + |β|)` of its exact value, `rstd`
//! within `k·q·u`, relative, and `dx` within
//! `4·k·q·u·|γ|·rstd·(|dy| + mean|dy| + (|x̂| + 1)·(mean|dy·x̂| + mean|dy|))`.
//!
//! Where squares overflow (|x − mean| above 1e19 in `f32`), the column is summed once more, scaled by a power
//! of two: all columns whose differences `x − mean` are finite come out right. Where squares underflow, so
//! that `var + eps` is less than n times the smallest normal number, `rstd` has lost digits. NaN or ±∞ in a
//! column gives NaN in that whole column of `y`, `mean` and `rstd`. A constant column gives β, and with
//! `eps = 0` NaN.
//!
//! Gradients are right at every size: they are sums of products with deviations that a power of two brings
//! near 1 where they are above 2¹⁰ or below 2⁻¹⁰. They require that `rstd`, `γ·rstd` and `rstd·max|dy|` are
//! normal numbers and `2¹⁰·Σ|dy|·(|x̂| + 1)` and its product with `rstd` do not overflow; `dgamma` does with
//! the first and the sum. What of the products falls below the smallest number counts with 2¹⁰·n of its units
//! in `dgamma`, with `2¹³·|γ|·rstd·(|x̂| + 1)` of them in `dx`.

mod backward;
mod forward;
mod infer;

use std::ops::Range;

pub use backward::{Backward, Gate};
pub use forward::{Forward, Running};
pub use infer::{Infer, InferBackward};

use super::{deviation_scales, lengths, whole_rows};
use crate::buffer::Scratch;
use crate::context::Settings;
use crate::error::{Error, Result};
use crate::parallel::{self, Indices, Rows, RowsMut};
use crate::simd::{Element, Float, Kernel, Simd, columns, slices};

/// Rows that are summed one after the other before their sum is merged with others.
const BLOCK: usize = 128;
/// Columns per chunk of the sums.
const STRIP: usize = 512;
/// Elements per chunk of the outputs, at least: 64 KiB of f32.
const CHUNK: usize = 16 * 1024;
/// Of one pass, measured on one core with AVX2: `cargo bench --bench criterion -- batch_norm`.
const NANOSECONDS_PER_ELEMENT: f64 = 0.1;

/// What follows the normalisation in the same pass, with the bits that [`map`](super::map)'s functions give
/// afterwards.
#[derive(Clone, Copy, Debug, Default)]
pub enum After<'a, T> {
    /// `y`.
    #[default]
    Nothing,
    /// `max(y, 0)`.
    Relu,
    /// `max(y + r, 0)` with a residual of the shape of y.
    AddRelu(&'a [T]),
}

impl<T: Element> After<'_, T> {
    fn check(self, op: &'static str, len: usize) -> Result<()> {
        match self {
            After::AddRelu(residual) => {
                lengths!(op, residual == len);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The number of rows, at least two: a single row has no variance.
fn training_rows<T>(op: &'static str, x: &[T], cols: usize) -> Result<usize> {
    let rows = whole_rows(op, x, cols)?;
    if rows < 2 {
        let message = format!("expected more than 1 row in training, got [{rows}, {cols}]");
        return Err(Error::shape(op, message));
    }
    Ok(rows)
}

/// Parts of `len` elements.
fn split<T, const N: usize>(mut scratch: &mut [T], len: usize) -> [&mut [T]; N] {
    std::array::from_fn(|_| scratch.split_off_mut(..len).unwrap_or_default())
}

/// How rows and columns are cut into chunks: by their numbers alone.
#[derive(Clone, Copy)]
struct Grid {
    rows: usize,
    cols: usize,
}

impl Grid {
    fn width(self) -> usize {
        self.cols.clamp(1, STRIP)
    }

    fn strip(self, index: usize) -> Range<usize> {
        let start = index * self.width();
        start..self.cols.min(start + self.width())
    }

    fn strip_count(self) -> usize {
        self.cols.div_ceil(self.width())
    }

    fn strips(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.strip_count()).map(move |index| self.strip(index))
    }

    /// The three numbers that [`by_block`] has of each of a strip's `count` columns.
    fn thirds<T>(self, numbers: &[T], count: usize) -> [&[T]; 3] {
        [0, 1, 2].map(|k| &numbers[k * self.width()..][..count])
    }
}

/// K numbers for each column of each block of rows: `compute(rows, columns, numbers)` those of one block of
/// one strip of columns. The result has for each block and in it for each strip K times its numbers, each
/// time the [`width`](Grid::width).
fn by_block<T: Element, const K: usize>(
    settings: Settings,
    grid: Grid,
    compute: impl Fn(Range<usize>, Range<usize>, &mut [T]) + Sync,
) -> Scratch<T> {
    let (strips, blocks) = (grid.strip_count(), grid.rows.div_ceil(BLOCK).max(1));
    let len = K * grid.width();
    let mut numbers = Scratch::new(blocks * strips * len);
    let work = (grid.rows as f64 * grid.cols as f64 * NANOSECONDS_PER_ELEMENT) as usize;
    let parts = (Indices(blocks * strips), RowsMut::new(&mut numbers, len));
    parallel::for_each(settings, parts, work, |(index, numbers)| {
        let (block, strip) = (index / strips, index % strips);
        let rows = block * BLOCK..grid.rows.min((block + 1) * BLOCK);
        compute(rows, grid.strip(strip), numbers);
    });
    numbers
}

/// What brings the deviations of each column near 1: a power of two, the mean times that, and what rstd
/// becomes.
fn scale_deviations<T: Element>([mean, rstd]: [&[T]; 2], [scale, center, scaled_rstd]: [&mut [T]; 3]) {
    let outputs = scale.iter_mut().zip(center).zip(scaled_rstd);
    for ((&mean, &rstd), ((scale, center), scaled_rstd)) in mean.iter().zip(rstd).zip(outputs) {
        let (up, down) = deviation_scales(mean, rstd);
        (*scale, *center, *scaled_rstd) = (up, mean * up, rstd * down);
    }
}

/// Σ dy, Σ dy·d and Σ d of each column, for d = x·scale − center.
fn gradient_sums<T: Element>(
    settings: Settings,
    grid: Grid,
    x: &[T],
    dy: &[T],
    gate: Option<Gate<'_, T>>,
    deviation: [&[T]; 2],
) -> Scratch<T> {
    let mut sums = by_block::<T, 3>(settings, grid, |rows, columns, sums| {
        let part = rows.start * grid.cols..rows.end * grid.cols;
        let gate = gate.map(|gate| Gate { y: &gate.y[part.clone()], ..gate });
        let [x, dy] = [x, dy].map(|x| &x[part.clone()]);
        let deviation = deviation.map(|params| &params[columns.clone()]);
        let scaled = deviation[0].iter().any(|&scale| scale != T::ONE);
        settings.simd.run(GradientSums { x, dy, gate, cols: grid.cols, columns, deviation, scaled, sums });
    });
    slices::merge_rows(&mut sums, grid.strip_count() * 3 * grid.width());
    sums
}

/// `y = (x − params[0])·params[1] + params[2]` in each column, and what comes after.
fn scale_columns<T: Element>(
    settings: Settings,
    x: &[T],
    cols: usize,
    params: [&[T]; 3],
    after: After<'_, T>,
    y: &mut [T],
) {
    let chunk = cols * (CHUNK / cols.max(1)).max(1);
    let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
    let residual: &[T] = if let After::AddRelu(residual) = after { residual } else { &[] };
    let parts = (Rows(x, chunk), Rows(residual, chunk), RowsMut::new(y, chunk));
    parallel::for_each(settings, parts, work, |(x, residual, y)| {
        let after = if let After::AddRelu(_) = after { After::AddRelu(residual) } else { after };
        settings.simd.run(ScaleColumns { x, cols, params, after, y });
    });
}

/// Σ dy, Σ dy·d and Σ d for d = x·scale − center.
struct GradientSums<'a, T> {
    x: &'a [T],
    dy: &'a [T],
    gate: Option<Gate<'a, T>>,
    cols: usize,
    columns: Range<usize>,
    /// The scale and the center.
    deviation: [&'a [T]; 2],
    /// Whether the scale is not 1 everywhere.
    scaled: bool,
    sums: &'a mut [T],
}

/// The gradient before a gate: that of a ReLU, which lets pass where `y` is NaN, too, and what dropout
/// multiplied with.
#[inline(always)]
fn gated<T: Element, S: Simd>(s: S, scale: T, y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
    let zero = s.splat(T::ZERO);
    T::Vector::select(y.le(zero), zero, dy * s.splat(scale))
}

/// One row more in the sums.
#[inline(always)]
fn add_row<T: Element, S: Simd>(
    [sum_dy, sum_dyd, sum_d]: [T::Vector<S>; 3],
    dy: T::Vector<S>,
    d: T::Vector<S>,
) -> [T::Vector<S>; 3] {
    [sum_dy + dy, dy.mul_add(d, sum_dyd), sum_d + d]
}

impl<T: Element> Kernel for GradientSums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.gate {
            // As most are: a load and a register less.
            None if !self.scaled => columns::sums(
                s,
                [self.x, self.dy],
                self.cols,
                self.columns,
                [self.deviation[1]],
                self.sums,
                #[inline(always)]
                |sums, [x, dy], [center]| add_row::<T, S>(sums, dy, x - center),
            ),
            Some(gate) if !self.scaled => columns::sums(
                s,
                [self.x, self.dy, gate.y],
                self.cols,
                self.columns,
                [self.deviation[1]],
                self.sums,
                #[inline(always)]
                |sums, [x, dy, y], [center]| add_row::<T, S>(sums, gated(s, gate.scale, y, dy), x - center),
            ),
            None => columns::sums(
                s,
                [self.x, self.dy],
                self.cols,
                self.columns,
                self.deviation,
                self.sums,
                #[inline(always)]
                |sums, [x, dy], [scale, center]| add_row::<T, S>(sums, dy, x.mul_sub(scale, center)),
            ),
            Some(gate) => columns::sums(
                s,
                [self.x, self.dy, gate.y],
                self.cols,
                self.columns,
                self.deviation,
                self.sums,
                #[inline(always)]
                |sums, [x, dy, y], [scale, center]| {
                    add_row::<T, S>(sums, gated(s, gate.scale, y, dy), x.mul_sub(scale, center))
                },
            ),
        }
    }
}

/// `(x − center)·factor + offset`.
#[inline(always)]
fn scaled<T: Element, S: Simd>(x: T::Vector<S>, [center, factor, offset]: [T::Vector<S>; 3]) -> T::Vector<S> {
    (x - center).mul_add(factor, offset)
}

/// `y = after((x − center)·factor + offset)`.
struct ScaleColumns<'a, T> {
    x: &'a [T],
    cols: usize,
    params: [&'a [T]; 3],
    after: After<'a, T>,
    y: &'a mut [T],
}

impl<T: Element> Kernel for ScaleColumns<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, cols, params, after, y } = self;
        let zero = s.splat(T::ZERO);
        match after {
            After::Nothing => columns::map::<T, S, 2, 1, 3>(
                s,
                [x],
                cols,
                params,
                y,
                #[inline(always)]
                |[x], params| scaled::<T, S>(x, params),
            ),
            After::Relu => columns::map::<T, S, 2, 1, 3>(
                s,
                [x],
                cols,
                params,
                y,
                #[inline(always)]
                |[x], params| zero.max(scaled::<T, S>(x, params)),
            ),
            After::AddRelu(residual) => columns::map::<T, S, 2, 2, 3>(
                s,
                [x, residual],
                cols,
                params,
                y,
                #[inline(always)]
                |[x, residual], params| zero.max(scaled::<T, S>(x, params) + residual),
            ),
        }
    }
}
