//! The backward pass of training.

use super::{
    CHUNK, Grid, NANOSECONDS_PER_ELEMENT, gated, gradient_sums, scale_deviations, split, training_rows,
};
use crate::buffer::Scratch;
use crate::context;
use crate::error::Result;
use crate::kernels::{Operand, compiled_once, lengths, unless_given};
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::{Element, Float, Kernel, Simd, columns, slices};

/// The gradients of [`Forward`](super::Forward), given its `x`, `gamma`, `mean` and `rstd`.
///
/// `dgamma = Σ dy·x̂`, `dbeta = Σ dy` and, with means over the column,
/// `dx = rstd·γ·(dy − mean(dy) − x̂·mean(dy·x̂))`. All outputs are overwritten. `dgamma` is within
/// `k·q·u·Σ|dy|·(|x̂| + 1)` and `dbeta` within `k·u·Σ|dy|`.
#[derive(Debug, Default)]
pub struct Backward<'a, T> {
    /// Whole rows, at least two.
    pub x: &'a [T],
    /// The number of elements in a row.
    pub cols: usize,
    /// γ, `cols` elements; `None`, the default, for 1.
    pub gamma: Option<&'a [T]>,
    /// One element per column, from [`Forward`](super::Forward).
    pub mean: &'a [T],
    /// One element per column, from [`Forward`](super::Forward).
    pub rstd: &'a [T],
    /// Where a ReLU followed: `dy` is the gradient of its result, and all gradients have the bits that they
    /// have if that of the ReLU is computed first. `None` by default.
    pub gate: Option<Gate<'a, T>>,
    /// The gradient of `y`, of the length of `x`.
    pub dy: &'a [T],
    /// Output of the length of `x`.
    pub dx: &'a mut [T],
    /// Output of `cols` elements; `None`, the default, if not wanted.
    pub dgamma: Option<&'a mut [T]>,
    /// Output of `cols` elements; `None`, the default, if not wanted.
    pub dbeta: Option<&'a mut [T]>,
}

impl<T: Element> Backward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows or has fewer than two of them, or
    /// another slice does not fit.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("batch_norm::backward", |call: Backward<'_, T>| -> Result<()> {
            const OP: &str = "batch_norm_backward";
            let Backward { x, cols, gamma, mean, rstd, gate, dy, dx, dgamma, dbeta } = call;
            let rows = training_rows(OP, x, cols)?;
            lengths!(OP, gamma == cols, mean == cols, rstd == cols, dy == x.len(), dx == x.len());
            lengths!(OP, dgamma == cols, dbeta == cols);
            gate.map(|gate| gate.y).expect_len(OP, "gate", x.len())?;
            let settings = context::settings()?;

            let ones = unless_given(gamma, cols, T::ONE);
            let gamma = gamma.or(ones.as_deref()).unwrap_or_default();
            let grid = Grid { rows, cols };
            let mut scratch = Scratch::new(7 * cols);
            let [scale, center, scaled_rstd, factor, slope, offset, dgammas] = split(&mut scratch, cols);
            scale_deviations([mean, rstd], [scale, center, scaled_rstd]);
            let (dgamma, dbeta) = (dgamma.unwrap_or_default(), dbeta.unwrap_or_default());
            let sums = gradient_sums(settings, grid, x, dy, gate, [scale, center]);
            for (columns, sums) in grid.strips().zip(sums.chunks(3 * grid.width())) {
                let [sum_dy, sum_dyd, sum_d] = [0, 1, 2].map(|k| &sums[k * grid.width()..][..columns.len()]);
                if !dbeta.is_empty() {
                    dbeta[columns.clone()].copy_from_slice(sum_dy);
                }
                settings.simd.run(Slopes {
                    n: rows,
                    inputs: [
                        sum_dy,
                        sum_dyd,
                        sum_d,
                        &scaled_rstd[columns.clone()],
                        &scale[columns.clone()],
                        &gamma[columns.clone()],
                    ],
                    outputs: [
                        &mut factor[columns.clone()],
                        &mut slope[columns.clone()],
                        &mut offset[columns.clone()],
                        &mut dgammas[columns],
                    ],
                });
            }
            dgamma.copy_from_slice(&dgammas[..dgamma.len()]);

            let chunk = cols * (CHUNK / cols).max(1);
            let params = [mean, factor, slope, offset];
            let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
            let parts = (
                Rows(x, chunk),
                Rows(dy, chunk),
                Rows(gate.map_or(&[], |gate| gate.y), chunk),
                RowsMut::new(dx, chunk),
            );
            parallel::for_each(settings, parts, work, |(x, dy, y, dx)| {
                let gate = gate.map(|gate| Gate { y, ..gate });
                settings.simd.run(Gradient { x, dy, gate, cols, params, dx });
            });
            Ok(())
        })
    }
}

/// The output of the ReLU that came after, and of the dropout after that if any: the gradient is `scale·dy`
/// where it is above 0, else 0.
#[derive(Clone, Copy, Debug)]
pub struct Gate<'a, T> {
    /// The output.
    pub y: &'a [T],
    /// 1, or what dropout multiplied with.
    pub scale: T,
}

/// From Σdy, Σdy·d, Σd, rstd/scale, scale and γ to the factor, slope and offset of dx = factor·((dy − offset)
/// − (x − mean)·slope), and to dγ.
struct Slopes<'a, T> {
    n: usize,
    inputs: [&'a [T]; 6],
    outputs: [&'a mut [T]; 4],
}

impl<T: Element> Kernel for Slopes<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = s.splat(T::from_f64(self.n as f64));
        slices::update(
            s,
            self.inputs,
            self.outputs,
            #[inline(always)]
            |[sum_dy, sum_dyd, sum_d, scaled_rstd, scale, gamma], _| {
                // The mean that was saved is rounded: `rest`, scaled, is what it lacks.
                let rest = sum_d / n;
                let dgamma = rest.neg_mul_add(sum_dy, sum_dyd) * scaled_rstd;
                let slope = dgamma / n * scaled_rstd;
                let offset = rest.neg_mul_add(slope, sum_dy / n);
                [scaled_rstd * scale * gamma, slope * scale, offset, dgamma]
            },
        );
    }
}

/// `factor·((dy − offset) − (x − center)·slope)`.
#[inline(always)]
fn gradient<T: Element, S: Simd>(
    x: T::Vector<S>,
    dy: T::Vector<S>,
    [center, factor, slope, offset]: [T::Vector<S>; 4],
) -> T::Vector<S> {
    (x - center).neg_mul_add(slope, dy - offset) * factor
}

/// `dx = factor·((dy − offset) − (x − center)·slope)`.
struct Gradient<'a, T> {
    x: &'a [T],
    dy: &'a [T],
    gate: Option<Gate<'a, T>>,
    cols: usize,
    params: [&'a [T]; 4],
    dx: &'a mut [T],
}

impl<T: Element> Kernel for Gradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, dy, gate, cols, params, dx } = self;
        // Four params and three operands of one register each fill the 16 registers of AVX2.
        match gate {
            None => columns::map::<T, S, 1, 2, 4>(
                s,
                [x, dy],
                cols,
                params,
                dx,
                #[inline(always)]
                |[x, dy], params| gradient::<T, S>(x, dy, params),
            ),
            Some(gate) => columns::map::<T, S, 1, 3, 4>(
                s,
                [x, dy, gate.y],
                cols,
                params,
                dx,
                #[inline(always)]
                |[x, dy, y], params| gradient::<T, S>(x, gated(s, gate.scale, y, dy), params),
            ),
        }
    }
}
