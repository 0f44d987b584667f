//! Functions that change an array in place, and the gradient of a ReLU.

use super::{CHUNK, PLAIN, nanoseconds};
use crate::context;
use crate::error::Result;
use crate::kernels::{compiled_once, lengths};
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::{Element, Float, Kernel, Simd, slices};

/// The gradient of the input of a ReLU, or of a ReLU with dropout behind it, from their output `y`:
/// `dx = scale·dy`, or 0 where `y ≤ 0`. `scale` is 1, or the factor of the dropout. Where y is NaN, dx is
/// `scale·dy`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) when the lengths differ.
pub fn gate<T: Element>(y: &[T], scale: T, dy: &[T], dx: &mut [T]) -> Result<()> {
    compiled_once!("map::gate", |y: &[T], scale: T, dy: &[T], dx: &mut [T]| -> Result<()> {
        lengths!("gate", y == dx.len(), dy == dx.len());
        let settings = context::settings()?;
        let parts = (Rows(y, CHUNK), Rows(dy, CHUNK), RowsMut::new(dx, CHUNK));
        parallel::for_each(settings, parts, (dy.len() as f64 * PLAIN) as usize, |(y, dy, dx)| {
            settings.simd.run(GateChunk { y, scale, dy, dx });
        });
        Ok(())
    })
}

struct GateChunk<'a, T> {
    y: &'a [T],
    scale: T,
    dy: &'a [T],
    dx: &'a mut [T],
}

impl<T: Element> Kernel for GateChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (zero, scale) = (s.splat(T::ZERO), s.splat(self.scale));
        slices::map2(
            s,
            self.y,
            self.dy,
            self.dx,
            #[inline(always)]
            |y, dy| T::Vector::select(y.le(zero), zero, dy * scale),
        );
    }
}

/// `y[i] += x[i]`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) when the lengths differ.
pub fn accumulate<T: Element>(x: &[T], y: &mut [T]) -> Result<()> {
    compiled_once!("map::accumulate", |x: &[T], y: &mut [T]| -> Result<()> {
        lengths!("accumulate", y == x.len());
        let settings = context::settings()?;
        let work = nanoseconds::<T>(x.len(), PLAIN);
        parallel::for_each(settings, (Rows(x, CHUNK), RowsMut::new(y, CHUNK)), work, |(x, y)| {
            settings.simd.run(AccumulateChunk { x, y });
        });
        Ok(())
    })
}

/// `y[i] += alpha·x[i]`, fused.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) when the lengths differ.
pub fn axpy<T: Element>(alpha: T, x: &[T], y: &mut [T]) -> Result<()> {
    compiled_once!("map::axpy", |alpha: T, x: &[T], y: &mut [T]| -> Result<()> {
        lengths!("axpy", y == x.len());
        axpby(alpha, x, T::ONE, y)
    })
}

/// `y[i] = alpha·x[i] + beta·y[i]`, the first product fused with the sum. With `beta` = 0, `y` is only
/// written, not read: NaN in it has no effect.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) when the lengths differ.
///
/// ```
/// let mut y = [10.0, f32::NAN];
/// gristmill::kernels::map::axpby(2.0, &[1.0, 2.0], 0.0, &mut y)?;
/// assert_eq!(y, [2.0, 4.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn axpby<T: Element>(alpha: T, x: &[T], beta: T, y: &mut [T]) -> Result<()> {
    compiled_once!("map::axpby", |alpha: T, x: &[T], beta: T, y: &mut [T]| -> Result<()> {
        lengths!("axpby", y == x.len());
        let settings = context::settings()?;
        let work = nanoseconds::<T>(x.len(), PLAIN);
        parallel::for_each(settings, (Rows(x, CHUNK), RowsMut::new(y, CHUNK)), work, |(x, y)| {
            settings.simd.run(AxpbyChunk { alpha, x, beta, y });
        });
        Ok(())
    })
}

/// `x[i] = alpha·x[i]`.
///
/// # Errors
/// [`Error::Setting`](crate::Error::Setting) when the environment asks for what this machine does not have.
pub fn scale<T: Element>(alpha: T, x: &mut [T]) -> Result<()> {
    compiled_once!("map::scale", |alpha: T, x: &mut [T]| -> Result<()> {
        let settings = context::settings()?;
        let work = nanoseconds::<T>(x.len(), PLAIN);
        parallel::for_each(settings, (RowsMut::new(x, CHUNK),), work, |(x,)| {
            settings.simd.run(ScaleChunk { alpha, x });
        });
        Ok(())
    })
}

struct AccumulateChunk<'a, T> {
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Element> Kernel for AccumulateChunk<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        slices::map2_in_place(
            s,
            self.x,
            self.y,
            #[inline(always)]
            |x, y| y + x,
        );
    }
}

struct AxpbyChunk<'a, T> {
    alpha: T,
    x: &'a [T],
    beta: T,
    y: &'a mut [T],
}

impl<T: Element> Kernel for AxpbyChunk<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (alpha, beta) = (s.splat(self.alpha), s.splat(self.beta));
        if self.beta == T::ZERO {
            return slices::map(
                s,
                self.x,
                self.y,
                #[inline(always)]
                |x| alpha * x,
            );
        }
        slices::map2_in_place(
            s,
            self.x,
            self.y,
            #[inline(always)]
            |x, y| alpha.mul_add(x, beta * y),
        );
    }
}

struct ScaleChunk<'a, T> {
    alpha: T,
    x: &'a mut [T],
}

impl<T: Element> Kernel for ScaleChunk<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let alpha = s.splat(self.alpha);
        slices::map_in_place(
            s,
            self.x,
            #[inline(always)]
            |x| alpha * x,
        );
    }
}
