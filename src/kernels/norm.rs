//! Norms of all elements, of rows and of columns, and their gradients: `Σ |x|`, `√Σ x²` and `max |x|`.
//!
//! Columns means: `x` is rows of `cols` elements, and the result has one element per column.
//!
//! With d and u as in [`reduce`](super::reduce), the L1 norm is within `d·u` relative, the L2 norm within
//! `(d/2 + 2)·u`, the largest magnitude exact. The L2 norm is accurate wherever it does not itself leave the
//! range: where the sum of squares overflows, or is so small that squares underflow, the elements are
//! multiplied by a power of two that brings the largest near 1, and the norm by its inverse. That choice
//! depends on the row (or column) alone.
//!
//! NaN gives NaN, ±∞ gives +∞, and the norm of an empty slice is 0.

use super::reduce::passes::{CHUNK, Term, column_totals, row_totals, total, work};
use super::reduce::{check_rows, fill_with, middle_scales, squares_are_safe};
use super::{compiled_once, lengths, whole_rows};
use crate::buffer::Scratch;
use crate::context::{self, Settings};
use crate::error::Result;
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::{Element, Float, Kernel, Simd, slices};

/// Which norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Norm {
    /// `Σ |x|`. The derivative is the sign of x, 0 at 0.
    L1,
    /// `√Σ x²`. The derivative is `x/√Σ x²`, 0 where the norm is 0.
    L2,
    /// `max |x|`. The derivative is the sign of x at the largest magnitudes, which share it, and 0 elsewhere.
    Max,
}

impl Norm {
    const fn term<T, P>(self) -> Term<T, P> {
        match self {
            Norm::L1 => Term::Size,
            Norm::L2 => Term::Square,
            Norm::Max => Term::MaxSize,
        }
    }
}

/// The norm of all elements.
///
/// # Errors
/// [`Error::Setting`](crate::Error::Setting) when the environment asks for what this machine does not have.
///
/// ```
/// use gristmill::kernels::norm::{self, Norm};
/// assert_eq!(norm::all(Norm::L1, &[3.0_f32, -4.0])?, 7.0);
/// assert_eq!(norm::all(Norm::L2, &[3e30_f32, -4e30])?, 5e30);
/// assert_eq!(norm::all(Norm::Max, &[3.0_f32, -4.0])?, 4.0);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn all<T: Element>(op: Norm, x: &[T]) -> Result<T> {
    compiled_once!("norm::all", |op: Norm, x: &[T]| -> Result<T> {
        if x.is_empty() {
            return Ok(T::ZERO);
        }
        let settings = context::settings()?;
        let y = total(settings, op.term(), x);
        Ok(if op == Norm::L2 { root(settings, y, x.iter().copied(), x.len()) } else { y })
    })
}

/// The norm of each row of `cols` elements; `y` has one element per row.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows or `y` has another length.
pub fn rows<T: Element>(op: Norm, x: &[T], cols: usize, y: &mut [T]) -> Result<()> {
    compiled_once!("norm::rows", |op: Norm, x: &[T], cols: usize, y: &mut [T]| -> Result<()> {
        check_rows("norm", x, cols, y)?;
        if x.is_empty() {
            return fill_with(y, || Ok(T::ZERO));
        }
        let settings = context::settings()?;
        if cols <= CHUNK {
            row_totals(settings, op.term(), x, cols, y);
        } else {
            for (x, y) in x.chunks_exact(cols).zip(&mut *y) {
                *y = total(settings, op.term(), x);
            }
        }
        if op == Norm::L2 {
            for (x, y) in x.chunks_exact(cols).zip(y) {
                *y = root(settings, *y, x.iter().copied(), cols);
            }
        }
        Ok(())
    })
}

/// The norm of each of the `cols` columns, to `y` of `cols` elements.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows or `y` has not `cols` elements.
pub fn cols<T: Element>(op: Norm, x: &[T], cols: usize, y: &mut [T]) -> Result<()> {
    compiled_once!("norm::cols", |op: Norm, x: &[T], cols: usize, y: &mut [T]| -> Result<()> {
        let rows = whole_rows("norm", x, cols)?;
        lengths!("norm", y == cols);
        if x.is_empty() {
            return fill_with(y, || Ok(T::ZERO));
        }
        let settings = context::settings()?;
        column_totals(settings, op.term(), x, cols, y);
        if op == Norm::L2 {
            for (j, y) in y.iter_mut().enumerate() {
                *y = root(settings, *y, x[j..].iter().step_by(cols).copied(), rows);
            }
        }
        Ok(())
    })
}

/// The root of a sum of squares; where that may have left the range, of the sum over scaled elements.
fn root<T: Element>(settings: Settings, squares: T, x: impl Iterator<Item = T> + Clone, len: usize) -> T {
    if squares_are_safe(squares, len) {
        return squares.sqrt();
    }
    let Some((scale, back)) = middle_scales(x.clone()) else { return squares.sqrt() };
    let mut scaled = Scratch::new(len);
    scaled.iter_mut().zip(x).for_each(|(to, x)| *to = x * scale);
    total(settings, Term::Square, &scaled).sqrt() * back
}

/// The gradient of [`rows`] from `x`, the norms `y` and their gradients `dy`, one of each per row.
///
/// Of the L1 and the max norm exact but for one rounding (the share), of L2 within 3u relative unless y
/// or x/y is subnormal: then the few digits of that are those of the gradient; where y is beyond the
/// range, it is 0. Of the L1 norm NaN where x is; of the others in all of a row whose y is, and of L2
/// also where x and y are infinite.
///
/// ```
/// use gristmill::kernels::norm::{Norm, RowsBackward};
/// let mut dx = [0.0_f32; 3];
/// let (op, x) = (Norm::Max, &[2.0, -5.0, 5.0]);
/// RowsBackward { op, x, y: &[5.0], dy: &[1.0], cols: 3, dx: &mut dx }.run()?;
/// assert_eq!(dx, [0.0, -0.5, 0.5]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug)]
pub struct RowsBackward<'a, T> {
    /// Which norm.
    pub op: Norm,
    /// Whole rows.
    pub x: &'a [T],
    /// The norm of each row, from [`rows`].
    pub y: &'a [T],
    /// The gradient of each norm.
    pub dy: &'a [T],
    /// The number of elements in a row.
    pub cols: usize,
    /// Output of the length of `x`.
    pub dx: &'a mut [T],
}

impl<T: Element> RowsBackward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows, when `y` or `dy` has not one element
    /// per row, when `dx` has another length than `x`.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("norm::rows_backward", |call: RowsBackward<'_, T>| -> Result<()> {
            let RowsBackward { op, x, y, dy, cols, dx } = call;
            check_rows("norm", x, cols, y)?;
            lengths!("norm", dy == y.len(), dx == x.len());
            if x.is_empty() {
                return Ok(());
            }
            let settings = context::settings()?;
            let chunk = (CHUNK / 16 / cols).max(1);
            let parts =
                (Rows(x, chunk * cols), Rows(y, chunk), Rows(dy, chunk), RowsMut::new(dx, chunk * cols));
            parallel::for_each(settings, parts, 2 * work(x), |(x, y, dy, dx)| {
                settings.simd.run(RowsBackwardChunk { op, x, y, dy, cols, dx });
            });
            Ok(())
        })
    }
}

/// The gradient of [`cols`], as [`RowsBackward`]; `y` and `dy` have one element per column.
#[derive(Debug)]
pub struct ColsBackward<'a, T> {
    /// Which norm.
    pub op: Norm,
    /// Whole rows.
    pub x: &'a [T],
    /// The norm of each column, from [`cols`].
    pub y: &'a [T],
    /// The gradient of each norm.
    pub dy: &'a [T],
    /// The number of columns.
    pub cols: usize,
    /// Output of the length of `x`.
    pub dx: &'a mut [T],
}

impl<T: Element> ColsBackward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows, when `y` or `dy` has not `cols`
    /// elements, when `dx` has another length than `x`.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("norm::cols_backward", |call: ColsBackward<'_, T>| -> Result<()> {
            let ColsBackward { op, x, y, dy, cols, dx } = call;
            whole_rows("norm", x, cols)?;
            lengths!("norm", y == cols, dy == cols, dx == x.len());
            if x.is_empty() {
                return Ok(());
            }
            let settings = context::settings()?;
            let mut share = Scratch::new(cols);
            share.copy_from_slice(dy);
            if op == Norm::Max {
                let mut ties = Scratch::new(cols);
                ties.fill(T::ZERO);
                for x in x.chunks_exact(cols) {
                    for ((ties, x), y) in ties.iter_mut().zip(x).zip(y) {
                        *ties += if x.abs() == *y { T::ONE } else { T::ZERO };
                    }
                }
                // Where the norm is NaN there are no ties, and the gradient is NaN.
                share.iter_mut().zip(&ties[..]).filter(|(_, ties)| **ties > T::ONE).for_each(
                    |(share, ties)| {
                        *share = *share / *ties;
                    },
                );
            }
            let share = &share[..];
            let chunk = (CHUNK / 16 / cols).max(1) * cols;
            parallel::for_each(
                settings,
                (Rows(x, chunk), RowsMut::new(dx, chunk)),
                2 * work(x),
                |(x, dx)| {
                    settings.simd.run(ColsBackwardChunk { op, x, y, share, dx });
                },
            );
            Ok(())
        })
    }
}

struct RowsBackwardChunk<'a, T> {
    op: Norm,
    x: &'a [T],
    y: &'a [T],
    dy: &'a [T],
    cols: usize,
    dx: &'a mut [T],
}

impl<T: Element> Kernel for RowsBackwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, dx) = (self.x.chunks_exact(self.cols), self.dx.chunks_exact_mut(self.cols));
        for (((x, &y), &dy), dx) in x.zip(self.y).zip(self.dy).zip(dx) {
            let mut share = dy;
            if self.op == Norm::Max {
                let ties = x.iter().filter(|x| x.abs() == y).count();
                share = if ties > 1 { dy / T::from_f64(ties as f64) } else { dy };
            }
            let (op, y, share) = (self.op, s.splat(y), s.splat(share));
            slices::map(
                s,
                x,
                dx,
                #[inline(always)]
                |x| gradient::<T, S>(s, op, x, y, share),
            );
        }
    }
}

struct ColsBackwardChunk<'a, T> {
    op: Norm,
    x: &'a [T],
    y: &'a [T],
    share: &'a [T],
    dx: &'a mut [T],
}

impl<T: Element> Kernel for ColsBackwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let op = self.op;
        let cols = self.y.len();
        for (x, dx) in self.x.chunks_exact(cols).zip(self.dx.chunks_exact_mut(cols)) {
            slices::map3(
                s,
                [x, self.y, self.share],
                dx,
                #[inline(always)]
                |x, y, share| gradient::<T, S>(s, op, x, y, share),
            );
        }
    }
}

/// The gradient of x, whose norm is y.
#[inline(always)]
fn gradient<T: Element, S: Simd>(
    s: S,
    op: Norm,
    x: T::Vector<S>,
    y: T::Vector<S>,
    share: T::Vector<S>,
) -> T::Vector<S> {
    let (zero, one) = (s.splat(T::ZERO), s.splat(T::ONE));
    // Zero and NaN are kept.
    let sign = T::Vector::select(x.eq(zero), x, one.copysign(x));
    let sign = T::Vector::select(x.is_nan(), x, sign);
    let slope = match op {
        Norm::L1 => return share * sign,
        Norm::L2 => T::Vector::select(y.eq(zero), zero, x / y),
        Norm::Max => T::Vector::select(x.abs().eq(y), sign, T::Vector::select(y.is_nan(), y, zero)),
    };
    share * slope
}
