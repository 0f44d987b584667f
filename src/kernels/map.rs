//! Elementwise functions of one or two arrays, and their gradients.
//!
//! Every function is given by one formula for whole registers and tails; an element does not depend on its neighbours.
//! NaN gives NaN unless a function says otherwise, ±∞ give the limit of the function (never ∞·0 = NaN), −0 is kept by
//! the odd functions, by relu and by those that are x times something, and empty slices are fine everywhere.
//! The error bounds are in u, half the distance from 1 to the next number; 1 ULP is 1 u to 2 u.
//! They hold with fused multiply-add; `docs/NUMERICS.md` has those without it, and what was measured.

use super::{compiled_once, same_len, whole_rows};
use crate::context;
use crate::error::{Error, Result};
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::{Dispatcher, Element, Float, Kernel, Mask, Simd, slices};

/// A function of one argument. `slope`, `alpha` and exponents are any numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary<T> {
    /// −x, exact.
    Neg,
    /// |x|, exact. The derivative at ±0 is 0.
    Abs,
    /// max(x, 0), exact; −0 stays −0. The derivative at 0 is 0.
    Relu,
    /// x where x > 0, else slope·x (one rounding).
    LeakyRelu {
        /// The factor of what is not positive; PyTorch's default is 0.01.
        slope: T,
    },
    /// x within \[min, max\], exact; max where min > max. The derivative is 1 where min ≤ x ≤ max, else 0, also at NaN:
    /// that of PyTorch's `clamp` (its `hardtanh` has 0 at the ends and 1 at NaN).
    Clamp {
        /// The lower end; hardtanh's is −1.
        min: T,
        /// The upper end; hardtanh's is 1.
        max: T,
    },
    /// Rounded towards −∞, exact. The derivative is 0.
    Floor,
    /// Rounded towards +∞, exact. The derivative is 0.
    Ceil,
    /// The nearest integer, halves to the even one, exact. The derivative is 0.
    Round,
    /// −1, ±0 or 1, exact. The derivative is 0.
    Sign,
    /// 1 / (1 + e⁻ˣ), within 1 ULP.
    Sigmoid,
    /// ln σ(x) = −ln(1 + e⁻ˣ), within 2 ULP.
    LogSigmoid,
    /// The hyperbolic tangent, within 1 ULP (f64: 1.5).
    Tanh,
    /// sin x, within 0.6 ULP in f32 and 1 ULP in f64, for every x; NaN of ±∞. From 2²⁰ on a lane at a time, some 10 ns.
    Sin,
    /// cos x, as [`Sin`](Unary::Sin).
    Cos,
    /// The error function, within 1 ULP in f32 and 1.5 ULP in f64.
    Erf,
    /// x·Φ(x) = x·½·(1 + erf(x/√2)), within 2 ULP for x > 0 and 3u·|x| for x < 0, where 1 + erf cancels.
    /// D. Hendrycks and K. Gimpel, 2016.
    Gelu,
    /// x·½·(1 + tanh(√(2/π)·(x + 0.044715·x³))), the approximation of [`Gelu`](Unary::Gelu) by the same authors, computed
    /// as x·σ(v) with v = 2√(2/π)·(x + 0.044715·x³), which does not cancel: within (5 + 5·|v|)·u of itself.
    GeluTanh,
    /// x·σ(x), within 1 ULP (f64: 1.2).
    Silu,
    /// x·tanh(ln(1 + eˣ)), within 1.2 ULP. D. Misra, 2019.
    Mish,
    /// ln(1 + eˣ), within 2 ULP; x where x > 20, as in PyTorch.
    Softplus,
    /// x where x > 0, else alpha·(eˣ − 1), within 2 ULP.
    Elu {
        /// The limit at −∞ is −alpha; PyTorch's default is 1.
        alpha: T,
    },
    /// eˣ, within 1 ULP.
    Exp,
    /// 2ˣ, within 1 ULP.
    Exp2,
    /// eˣ − 1, also near 0, within 1 ULP.
    Expm1,
    /// The natural logarithm, within 1 ULP; −∞ of ±0, NaN of negative numbers.
    Ln,
    /// The binary logarithm, within 1 ULP; −∞ of ±0, NaN of negative numbers.
    Log2,
    /// ln(1 + x), also near 0, within 1 ULP; −∞ of −1, NaN below.
    Log1p,
    /// The square root, correctly rounded; NaN of negative numbers.
    Sqrt,
    /// 1/√x, within 2 ULP: the square root and the quotient are rounded. ±∞ of ±0, NaN of negative numbers.
    Rsqrt,
    /// x².
    Square,
    /// 1/x, correctly rounded.
    Reciprocal,
    /// xᵖ with the special cases of C's `pow`: x⁰ = 1 and 1ᵖ = 1 also with NaN, NaN of a negative number with a p that is
    /// not an integer. Integers p up to ±16 by multiplication, within |p|·u as
    /// long as x to the |p| is normal; others as e^(p·ln |x|), within
    /// (4 + 5·|p·ln |x||)·u.
    Powf(T),
    /// xⁿ of a whole n, within 1 ULP; x⁰ = 1 also with NaN.
    Powi(i32),
}

/// Which array [`unary_backward`] reads beside the gradient. The other one may be any of that length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Neither x nor y.
    Neither,
    /// x.
    Input,
    /// y.
    Output,
}

impl<T: Element> Unary<T> {
    /// Which array the derivative is computed from: what a training step has to keep.
    pub fn backward_reads(self) -> Reads {
        match self {
            Self::Neg | Self::Floor | Self::Ceil | Self::Round | Self::Sign => Reads::Neither,
            Self::Relu | Self::Sigmoid | Self::Tanh | Self::Exp | Self::Exp2 => Reads::Output,
            Self::Sqrt | Self::Rsqrt | Self::Reciprocal => Reads::Output,
            Self::Abs | Self::LeakyRelu { .. } | Self::Clamp { .. } | Self::Elu { .. } => Reads::Input,
            Self::LogSigmoid | Self::Softplus | Self::Erf | Self::Gelu | Self::GeluTanh => Reads::Input,
            Self::Silu | Self::Expm1 | Self::Ln | Self::Log2 | Self::Log1p => Reads::Input,
            Self::Square | Self::Sin | Self::Cos | Self::Mish => Reads::Input,
            Self::Powf(_) | Self::Powi(_) => Reads::Input,
        }
    }
}

/// A function of two arguments; one rounding each, except for the power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// a + b.
    Add,
    /// a − b.
    Sub,
    /// a·b.
    Mul,
    /// a / b.
    Div,
    /// The smaller; NaN if either is NaN, either zero of two zeros.
    Min,
    /// The larger; NaN if either is NaN, either zero of two zeros.
    Max,
    /// a to the b, within 1 ULP, with the special cases of C99: a⁰ = 1ᵇ = (−1)^±∞ = 1 also with NaN, NaN of a negative a with
    /// a finite b that is not whole. Its gradients: [`pow`](super::pow).
    Pow,
}

compiled_once! {
    /// The gradient before a ReLU, and before the dropout of its result, from the output of both: `dx = scale·dy`, or 0
    /// where `y ≤ 0`. `scale` is 1, or what dropout multiplied with. Where y is NaN, the gradient passes.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths differ.
    pub fn gate<T: Element>(y: &[T], scale: T, dy: &[T], dx: &mut [T]) -> Result<()> {
        same_len("gate", "y", y, dx.len())?;
        same_len("gate", "dy", dy, dx.len())?;
        let settings = context::settings()?;
        let parts = (Rows(y, CHUNK), Rows(dy, CHUNK), RowsMut::new(dx, CHUNK));
        parallel::for_each(settings, parts, (dy.len() as f64 * 0.15) as usize, |(y, dy, dx)| {
            settings.simd.run(Gate { y, scale, dy, dx });
        });
        Ok(())
    }
}

struct Gate<'a, T> {
    y: &'a [T],
    scale: T,
    dy: &'a [T],
    dx: &'a mut [T],
}

impl<T: Element> Kernel for Gate<'_, T> {
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

compiled_once! {
    /// `y[i] = f(x[i])`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths differ.
    ///
    /// ```
    /// use gristmill::kernels::map::{Unary, unary};
    /// let mut y = [0.0; 3];
    /// unary(Unary::Relu, &[-1.0, 0.5, f32::INFINITY], &mut y)?;
    /// assert_eq!(y, [0.0, 0.5, f32::INFINITY]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn unary<T: Element>(op: Unary<T>, x: &[T], y: &mut [T]) -> Result<()> {
        same_len("unary", "y", y, x.len())?;
        let settings = context::settings()?;
        with_function(op, &mut |f| {
            let work = nanoseconds::<T>(x.len(), f.forward_cost());
            parallel::for_each(settings, (Rows(x, CHUNK), RowsMut::new(y, CHUNK)), work, |(x, y)| {
                f.forward(settings.simd, x, y);
            });
        });
        Ok(())
    }
}

compiled_once! {
    /// `dx[i] = dy[i]·f'(x[i])`, where `x` and `y` are the input and the output of [`unary`]; which of them is read says
    /// [`Unary::backward_reads`].
    ///
    /// The derivative has the relative error of the function and about 4u more; where it is a difference of terms
    /// (sigmoid and tanh near ±1, gelu and silu near their minimum), that is relative to the terms.
    /// That holds at every size of x and dy as long as f'(x) is a normal number, and one still when
    /// multiplied or divided by 4: where it underflows, its few digits are those of dx, however large dy is.
    /// Of the reciprocal y and dy·y must be normal numbers, of the binary logarithm dy and 2·dy. Where relu
    /// and its relatives are flat, dx is 0 whatever dy is; so is that of clamp, floor, ceil, round and sign.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths differ.
    ///
    /// ```
    /// use gristmill::kernels::map::{Unary, unary, unary_backward};
    /// let (x, mut y, mut dx) = ([3.0, -2.0], [0.0; 2], [0.0; 2]);
    /// unary(Unary::Square, &x, &mut y)?;
    /// unary_backward(Unary::Square, &x, &y, &[1.0, 10.0], &mut dx)?;
    /// assert_eq!(dx, [6.0, -40.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn unary_backward<T: Element>(op: Unary<T>, x: &[T], y: &[T], dy: &[T], dx: &mut [T]) -> Result<()> {
        same_len("unary_backward", "y", y, x.len())?;
        same_len("unary_backward", "dy", dy, x.len())?;
        same_len("unary_backward", "dx", dx, x.len())?;
        let settings = context::settings()?;
        with_function(op, &mut |f| {
            let work = nanoseconds::<T>(x.len(), f.backward_cost());
            let inputs = (Rows(x, CHUNK), Rows(y, CHUNK), Rows(dy, CHUNK));
            let parts = (inputs.0, inputs.1, inputs.2, RowsMut::new(dx, CHUNK));
            parallel::for_each(settings, parts, work, |(x, y, dy, dx)| {
                f.backward(settings.simd, [x, y], dy, dx);
            });
        });
        Ok(())
    }
}

compiled_once! {
    /// `y[i] = a[i] op b[i]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths differ.
    ///
    /// ```
    /// use gristmill::kernels::map::{Binary, binary};
    /// let mut y = [0.0; 2];
    /// binary(Binary::Max, &[1.0, f32::NAN], &[2.0, 3.0], &mut y)?;
    /// assert!(y[0] == 2.0 && y[1].is_nan());
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn binary<T: Element>(op: Binary, a: &[T], b: &[T], y: &mut [T]) -> Result<()> {
        same_len("binary", "b", b, a.len())?;
        same_len("binary", "y", y, a.len())?;
        let (settings, f) = (context::settings()?, pair::<T>(op));
        let work = nanoseconds::<T>(a.len(), f.cost());
        let parts = (Rows(a, CHUNK), Rows(b, CHUNK), RowsMut::new(y, CHUNK));
        parallel::for_each(settings, parts, work, |(a, b, y)| f.with_row(settings.simd, a, b, y));
        Ok(())
    }
}

compiled_once! {
    /// `y[i] = a[i] op b`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths differ.
    pub fn binary_scalar<T: Element>(op: Binary, a: &[T], b: T, y: &mut [T]) -> Result<()> {
        same_len("binary_scalar", "y", y, a.len())?;
        let (settings, f) = (context::settings()?, pair::<T>(op));
        let work = nanoseconds::<T>(a.len(), f.cost());
        parallel::for_each(settings, (Rows(a, CHUNK), RowsMut::new(y, CHUNK)), work, |(a, y)| {
            f.with_column(settings.simd, a, &[b], a.len(), y);
        });
        Ok(())
    }
}

compiled_once! {
    /// `y[i] = a op b[i]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths differ.
    pub fn scalar_binary<T: Element>(op: Binary, a: T, b: &[T], y: &mut [T]) -> Result<()> {
        same_len("scalar_binary", "y", y, b.len())?;
        let (settings, f) = (context::settings()?, pair::<T>(op));
        let work = nanoseconds::<T>(b.len(), f.cost());
        parallel::for_each(settings, (Rows(b, CHUNK), RowsMut::new(y, CHUNK)), work, |(b, y)| {
            f.with_number(settings.simd, a, b, y);
        });
        Ok(())
    }
}

compiled_once! {
    /// `y[i, j] = a[i, j] op row[j]`: `a` and `y` have rows of `row.len()` elements.
    ///
    /// # Errors
    /// [`Error::Shape`] when `a` is not whole rows or `y` has another length.
    ///
    /// ```
    /// use gristmill::kernels::map::{Binary, binary_row};
    /// let mut y = [0.0; 4];
    /// binary_row(Binary::Add, &[1.0, 2.0, 3.0, 4.0], &[10.0, 20.0], &mut y)?;
    /// assert_eq!(y, [11.0, 22.0, 13.0, 24.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn binary_row<T: Element>(op: Binary, a: &[T], row: &[T], y: &mut [T]) -> Result<()> {
        whole_rows("binary_row", a, row.len())?;
        same_len("binary_row", "y", y, a.len())?;
        let (settings, f) = (context::settings()?, pair::<T>(op));
        let (work, chunk) = (nanoseconds::<T>(a.len(), f.cost()), row_chunk(row.len()));
        parallel::for_each(settings, (Rows(a, chunk), RowsMut::new(y, chunk)), work, |(a, y)| {
            f.with_row(settings.simd, a, row, y);
        });
        Ok(())
    }
}

compiled_once! {
    /// `y[i, j] = a[i, j] op col[i]`: `a` and `y` have `col.len()` rows.
    ///
    /// # Errors
    /// [`Error::Shape`] when `a` does not fall into that many rows or `y` has another length.
    ///
    /// ```
    /// use gristmill::kernels::map::{Binary, binary_col};
    /// let mut y = [0.0; 4];
    /// binary_col(Binary::Mul, &[1.0, 2.0, 3.0, 4.0], &[10.0, 100.0], &mut y)?;
    /// assert_eq!(y, [10.0, 20.0, 300.0, 400.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn binary_col<T: Element>(op: Binary, a: &[T], col: &[T], y: &mut [T]) -> Result<()> {
        let fits = if col.is_empty() { a.is_empty() } else { a.len().is_multiple_of(col.len()) };
        if !fits {
            let message = format!("{} elements do not fall into {} rows", a.len(), col.len());
            return Err(Error::shape("binary_col", message));
        }
        same_len("binary_col", "y", y, a.len())?;
        if a.is_empty() {
            return Ok(());
        }
        let (settings, f) = (context::settings()?, pair::<T>(op));
        let work = nanoseconds::<T>(a.len(), f.cost());
        let cols = a.len() / col.len();
        let chunk = row_chunk(cols);
        let parts = (Rows(a, chunk), Rows(col, chunk / cols), RowsMut::new(y, chunk));
        parallel::for_each(settings, parts, work, |(a, col, y)| f.with_column(settings.simd, a, col, cols, y));
        Ok(())
    }
}

compiled_once! {
    /// `y[i] += x[i]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths differ.
    pub fn accumulate<T: Element>(x: &[T], y: &mut [T]) -> Result<()> {
        same_len("accumulate", "y", y, x.len())?;
        let settings = context::settings()?;
        let work = nanoseconds::<T>(x.len(), PLAIN);
        parallel::for_each(settings, (Rows(x, CHUNK), RowsMut::new(y, CHUNK)), work, |(x, y)| {
            settings.simd.run(Accumulate { x, y });
        });
        Ok(())
    }
}

compiled_once! {
    /// `y[i] += alpha·x[i]`, fused.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths differ.
    pub fn axpy<T: Element>(alpha: T, x: &[T], y: &mut [T]) -> Result<()> {
        same_len("axpy", "y", y, x.len())?;
        axpby(alpha, x, T::ONE, y)
    }
}

compiled_once! {
    /// `y[i] = alpha·x[i] + beta·y[i]`, the first product fused with the sum. With `beta` = 0, `y` is written only: a NaN in
    /// it is gone.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths differ.
    ///
    /// ```
    /// let mut y = [10.0, f32::NAN];
    /// gristmill::kernels::map::axpby(2.0, &[1.0, 2.0], 0.0, &mut y)?;
    /// assert_eq!(y, [2.0, 4.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn axpby<T: Element>(alpha: T, x: &[T], beta: T, y: &mut [T]) -> Result<()> {
        same_len("axpby", "y", y, x.len())?;
        let settings = context::settings()?;
        let work = nanoseconds::<T>(x.len(), PLAIN);
        parallel::for_each(settings, (Rows(x, CHUNK), RowsMut::new(y, CHUNK)), work, |(x, y)| {
            settings.simd.run(Axpby { alpha, x, beta, y });
        });
        Ok(())
    }
}

compiled_once! {
    /// `x[i] = alpha·x[i]`.
    ///
    /// # Errors
    /// [`Error::Setting`] when the environment asks for what this machine does not have.
    pub fn scale<T: Element>(alpha: T, x: &mut [T]) -> Result<()> {
        let settings = context::settings()?;
        let work = nanoseconds::<T>(x.len(), PLAIN);
        parallel::for_each(settings, (RowsMut::new(x, CHUNK),), work, |(x,)| {
            settings.simd.run(Scale { alpha, x });
        });
        Ok(())
    }
}

/// Elements per parallel chunk: 16 KiB of f32.
const CHUNK: usize = 4 * 1024;
/// Nanoseconds per f32 of a function that only streams through the cache; measured on one core with AVX2 by
/// `cargo bench --bench criterion -- map`, as are the costs of the functions below.
const PLAIN: f64 = 0.15;

/// What `len` elements cost on one thread.
fn nanoseconds<T: Element>(len: usize, per_f32: f64) -> usize {
    (len as f64 * per_f32 * 16.0 / T::LANES as f64) as usize
}

/// A chunk of whole rows of `cols` elements.
fn row_chunk(cols: usize) -> usize {
    cols * (CHUNK / cols.max(1)).max(1)
}

// Functions of one argument.

/// One function, chosen before the loop.
pub(crate) trait Function<T: Element>: Copy + Send + Sync {
    /// Nanoseconds per f32 of the value on one core: the middle of AVX2 and AVX-512.
    const FORWARD_COST: f64;
    /// The same of the gradient.
    const BACKWARD_COST: f64;
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S>;
    /// dy · f'(x), with y = f(x).
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S>;
}

/// One function, compiled for every instruction set, to be called for a line of numbers at a time: what splits the
/// work is compiled once for all functions.
pub(crate) trait Lines<T: Element>: Sync {
    /// [`Function::FORWARD_COST`].
    fn forward_cost(&self) -> f64;
    /// [`Function::BACKWARD_COST`].
    fn backward_cost(&self) -> f64;
    /// `y[i] = f(x[i])`.
    fn forward(&self, simd: Dispatcher, x: &[T], y: &mut [T]);
    /// `x[i] = f(x[i])`.
    fn forward_in_place(&self, simd: Dispatcher, x: &mut [T]);
    /// `dx[i] = dy[i] · f'(x[i])`.
    fn backward(&self, simd: Dispatcher, xy: [&[T]; 2], dy: &[T], dx: &mut [T]);
}

impl<T: Element, F: Function<T>> Lines<T> for F {
    fn forward_cost(&self) -> f64 {
        F::FORWARD_COST
    }

    fn backward_cost(&self) -> f64 {
        F::BACKWARD_COST
    }

    fn forward(&self, simd: Dispatcher, x: &[T], y: &mut [T]) {
        assert_eq!(x.len(), y.len());
        simd.run(ForwardKernel { f: *self, x: x.as_ptr(), y: y.as_mut_ptr(), len: y.len() });
    }

    fn forward_in_place(&self, simd: Dispatcher, x: &mut [T]) {
        let to = x.as_mut_ptr();
        simd.run(ForwardKernel { f: *self, x: to, y: to, len: x.len() });
    }

    fn backward(&self, simd: Dispatcher, [x, y]: [&[T]; 2], dy: &[T], dx: &mut [T]) {
        simd.run(BackwardKernel { f: *self, x, y, dy, dx });
    }
}

/// Calls `with` with the function.
pub(crate) fn with_function<T: Element>(op: Unary<T>, with: &mut dyn FnMut(&dyn Lines<T>)) {
    match op {
        Unary::Neg => with(&Neg),
        Unary::Abs => with(&Abs),
        Unary::Relu => with(&Relu),
        Unary::LeakyRelu { slope } => with(&LeakyRelu(slope)),
        Unary::Clamp { min, max } => with(&Clamp { min, max }),
        Unary::Floor => with(&Floor),
        Unary::Ceil => with(&Ceil),
        Unary::Round => with(&Round),
        Unary::Sign => with(&Sign),
        Unary::Sigmoid => with(&Sigmoid),
        Unary::LogSigmoid => with(&LogSigmoid),
        Unary::Tanh => with(&Tanh),
        Unary::Sin => with(&Sin),
        Unary::Cos => with(&Cos),
        Unary::Erf => with(&Erf),
        Unary::Gelu => with(&Gelu),
        Unary::GeluTanh => with(&GeluTanh),
        Unary::Silu => with(&Silu),
        Unary::Mish => with(&Mish),
        Unary::Softplus => with(&Softplus),
        Unary::Elu { alpha } => with(&Elu(alpha)),
        Unary::Exp => with(&Exp),
        Unary::Exp2 => with(&Exp2),
        Unary::Expm1 => with(&Expm1),
        Unary::Ln => with(&Ln),
        Unary::Log2 => with(&Log2),
        Unary::Log1p => with(&Log1p),
        Unary::Sqrt => with(&Sqrt),
        Unary::Rsqrt => with(&Rsqrt),
        Unary::Square => with(&Square),
        Unary::Reciprocal => with(&Reciprocal),
        Unary::Powf(p) => with(&Powf::new(p)),
        Unary::Powi(n) => with(&Powi(n)),
    }
}

/// `y[i] = f(x[i])`.
struct ForwardKernel<F, T> {
    f: F,
    /// `x` and `y` are each `len` elements long, and the same elements or none in common.
    x: *const T,
    y: *mut T,
    len: usize,
}

impl<T: Element, F: Function<T>> Kernel for ForwardKernel<F, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let f = self.f;
        // SAFETY: who makes the kernel says so of `x` and `y`.
        unsafe {
            slices::map_from(
                s,
                self.x,
                self.y,
                self.len,
                #[inline(always)]
                |x| f.value(s, x),
            );
        }
    }
}

struct BackwardKernel<'a, F, T> {
    f: F,
    x: &'a [T],
    y: &'a [T],
    dy: &'a [T],
    dx: &'a mut [T],
}

impl<T: Element, F: Function<T>> Kernel for BackwardKernel<'_, F, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let f = self.f;
        slices::map3(
            s,
            [self.x, self.y, self.dy],
            self.dx,
            #[inline(always)]
            |x, y, dy| f.gradient(s, x, y, dy),
        );
    }
}

/// `$name` with its costs, its value from `(s, x)` and its gradient from `(s, x, y, dy)`.
macro_rules! functions {
    ($($name:ident $(($parameter:ident))?, ($forward:literal, $backward:literal), |$s:ident, $x:ident| $value:expr,
       |$gs:ident, $gx:ident, $gy:ident, $dy:ident| $gradient:expr;)+) => { $(
        functions!(@struct $name $($parameter)?);
        impl<T: Element> Function<T> for functions!(@type $name $($parameter)?) {
            const FORWARD_COST: f64 = $forward;
            const BACKWARD_COST: f64 = $backward;
            #[inline(always)]
            fn value<S: Simd>(self, $s: S, $x: T::Vector<S>) -> T::Vector<S> {
                $(let $parameter = $s.splat(self.0);)?
                $value
            }
            #[inline(always)]
            fn gradient<S: Simd>(
                self,
                $gs: S,
                $gx: T::Vector<S>,
                $gy: T::Vector<S>,
                $dy: T::Vector<S>,
            ) -> T::Vector<S> {
                $(let $parameter = $gs.splat(self.0);)?
                $gradient
            }
        }
    )+ };
    (@struct $name:ident) => {
        #[derive(Clone, Copy)]
        struct $name;
    };
    (@struct $name:ident $parameter:ident) => {
        #[derive(Clone, Copy)]
        struct $name<T>(T);
    };
    (@type $name:ident) => { $name };
    (@type $name:ident $parameter:ident) => { $name<T> };
}

functions! {
    Neg, (0.1, 0.15), |_s, x| -x, |_s, _x, _y, dy| -dy;
    Abs, (0.1, 0.15), |_s, x| x.abs(), |s, x, _y, dy| {
        let (zero, one) = (s.splat(T::ZERO), s.splat(T::ONE));
        let sign = T::Vector::select(x.lt(zero), -one, T::Vector::select(zero.lt(x), one, x));
        dy * sign
    };
    Relu, (0.1, 0.15), |s, x| s.splat(T::ZERO).max(x), |s, _x, y, dy| {
        let zero = s.splat(T::ZERO);
        T::Vector::select(y.le(zero), zero, dy)
    };
    LeakyRelu(slope), (0.1, 0.15), |s, x| T::Vector::select(s.splat(T::ZERO).lt(x), x, slope * x), |s, x, _y, dy| {
        T::Vector::select(s.splat(T::ZERO).lt(x), dy, slope * dy)
    };
    Floor, (0.1, 0.1), |_s, x| x.floor(), |s, _x, _y, _dy| s.splat(T::ZERO);
    Ceil, (0.1, 0.1), |_s, x| x.ceil(), |s, _x, _y, _dy| s.splat(T::ZERO);
    Round, (0.1, 0.1), |_s, x| x.round_ties_even(), |s, _x, _y, _dy| s.splat(T::ZERO);
    Sign, (0.1, 0.1), |s, x| {
        // Zero and NaN stay what they are.
        T::Vector::select(x.eq(s.splat(T::ZERO)).or(x.is_nan()), x, s.splat(T::ONE).copysign(x))
    }, |s, _x, _y, _dy| s.splat(T::ZERO);
    LogSigmoid, (1.1, 0.65), |s, x| -T::softplus(s, -x), |s, x, _y, dy| dy * T::sigmoid(s, -x);
    Erf, (0.7, 0.45), |s, x| T::erf(s, x), |s, x, _y, dy| {
        // At ±40 the slope is 0 in f64 too.
        let near = between(s, x, 40.0);
        dy * (T::exp(s, -(near * near)) * constant::<T, S>(s, std::f64::consts::FRAC_2_SQRT_PI))
    };
    Sigmoid, (0.6, 0.15), |s, x| T::sigmoid(s, x), |s, _x, y, dy| dy * (y * (s.splat(T::ONE) - y));
    Tanh, (0.7, 0.15), |s, x| T::tanh(s, x), |s, _x, y, dy| dy * y.neg_mul_add(y, s.splat(T::ONE));
    Gelu, (0.8, 1.2), |s, x| above(s, -HUGE, x) * normal_cdf::<T, S>(s, x), |s, x, _y, dy| {
        // At ±40 the density is 0 in f64 too.
        let near = between(s, x, 40.0);
        let density = T::exp(s, near * near * constant::<T, S>(s, -0.5)) * constant::<T, S>(s, DENSITY_AT_0);
        dy * near.mul_add(density, normal_cdf::<T, S>(s, x))
    };
    GeluTanh, (0.7, 0.8), |s, x| {
        let (linear, cubic) = (constant::<T, S>(s, GELU_LINEAR), constant::<T, S>(s, GELU_CUBIC));
        above(s, -HUGE, x) * T::sigmoid(s, x * (x * x).mul_add(cubic, linear))
    }, |s, x, _y, dy| {
        let (linear, cubic) = (constant::<T, S>(s, GELU_LINEAR), constant::<T, S>(s, GELU_CUBIC));
        // At ±40 the gate is 0 or 1 in f64 too.
        let x = between(s, x, 40.0);
        let square = x * x;
        let (gate, rest) = gates::<T, S>(s, x * square.mul_add(cubic, linear));
        let slope = square.mul_add(constant::<T, S>(s, 3.0) * cubic, linear);
        dy * (gate * (x * slope).mul_add(rest, s.splat(T::ONE)))
    };
    Silu, (0.7, 0.6), |s, x| T::silu(s, x), |s, x, _y, dy| {
        let (gate, rest) = gates::<T, S>(s, x);
        dy * (gate * between(s, x, HUGE).mul_add(rest, s.splat(T::ONE)))
    };
    Sin, (0.95, 1.0), |s, x| T::sin(s, x), |s, x, _y, dy| dy * T::cos(s, x);
    Cos, (0.95, 1.0), |s, x| T::cos(s, x), |s, x, _y, dy| dy * -T::sin(s, x);
    Mish, (1.5, 0.8), |s, x| T::mish(s, x), |s, x, _y, dy| {
        // With f = exp(−|x|), A and the divisor D as in `math::mish`: A/D + 4x·f·(1 + f)·(1 or f)/D².
        let (one, two, negative) = (s.splat(T::ONE), constant::<T, S>(s, 2.0), x.lt(s.splat(T::ZERO)));
        let f = T::exp(s, -x.abs());
        let dividend = T::Vector::select(negative, f * (two + f), one + two * f);
        let divisor = dividend + T::Vector::select(negative, two, two * f * f);
        let factor = T::Vector::select(negative, f, f * f) * (one + f);
        let slope = constant::<T, S>(s, 4.0) * between(s, x, HUGE) * (factor / (divisor * divisor));
        dy * (dividend / divisor + slope)
    };
    Softplus, (1.1, 0.65), |s, x| {
        T::Vector::select(constant::<T, S>(s, SOFTPLUS_THRESHOLD).lt(x), x, T::softplus(s, x))
    }, |s, x, _y, dy| {
        T::Vector::select(constant::<T, S>(s, SOFTPLUS_THRESHOLD).lt(x), dy, dy * T::sigmoid(s, x))
    };
    Elu(alpha), (0.8, 0.4), |s, x| {
        T::Vector::select(s.splat(T::ZERO).lt(x), x, alpha * T::exp_m1(s, x))
    }, |s, x, _y, dy| {
        T::Vector::select(s.splat(T::ZERO).lt(x), dy, dy * (alpha * T::exp(s, x)))
    };
    Exp, (0.4, 0.15), |s, x| T::exp(s, x), |_s, _x, y, dy| dy * y;
    Exp2, (0.35, 0.15), |s, x| T::exp2(s, x), |s, _x, y, dy| {
        dy * (y * constant::<T, S>(s, std::f64::consts::LN_2))
    };
    Expm1, (0.8, 0.4), |s, x| T::exp_m1(s, x), |s, x, _y, dy| dy * T::exp(s, x);
    Ln, (0.5, 0.2), |s, x| T::ln(s, x), |_s, x, _y, dy| dy / x;
    Log2, (0.7, 0.2), |s, x| T::log2(s, x), |s, x, _y, dy| {
        dy * constant::<T, S>(s, std::f64::consts::LOG2_E) / x
    };
    Log1p, (0.7, 0.2), |s, x| T::ln_1p(s, x), |s, x, _y, dy| dy / (s.splat(T::ONE) + x);
    Sqrt, (0.2, 0.15), |_s, x| x.sqrt(), |_s, _x, y, dy| dy / (y + y);
    Rsqrt, (0.35, 0.15), |s, x| s.splat(T::ONE) / x.sqrt(), |s, _x, y, dy| {
        dy * (constant::<T, S>(s, -0.5) * y * y * y)
    };
    Square, (0.1, 0.15), |_s, x| x * x, |_s, x, _y, dy| dy * (x + x);
    Reciprocal, (0.15, 0.15), |s, x| s.splat(T::ONE) / x, |_s, _x, y, dy| -(dy * y * y);
}

#[derive(Clone, Copy)]
struct Clamp<T> {
    min: T,
    max: T,
}

impl<T: Element> Function<T> for Clamp<T> {
    const FORWARD_COST: f64 = 0.1;
    const BACKWARD_COST: f64 = 0.15;
    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        // NaN and zeros of x stay: `min` and `max` give the second operand when the two do not differ.
        s.splat(self.max).min(s.splat(self.min).max(x))
    }
    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        let inside = s.splat(self.min).le(x).and(x.le(s.splat(self.max)));
        T::Vector::select(inside, dy, s.splat(T::ZERO))
    }
}

/// Stands for ±∞ where a factor is 0 there.
const HUGE: f64 = 1e30;
/// 1/√(2π).
const DENSITY_AT_0: f64 = 0.398_942_280_401_432_7;
/// 2√(2/π).
const GELU_LINEAR: f64 = 1.595_769_121_605_730_7;
/// 2√(2/π)·0.044715.
const GELU_CUBIC: f64 = GELU_LINEAR * 0.044715;
/// From here on softplus is the identity: PyTorch's default.
const SOFTPLUS_THRESHOLD: f64 = 20.0;

#[inline(always)]
fn constant<T: Element, S: Simd>(s: S, x: f64) -> T::Vector<S> {
    s.splat(T::from_f64(x))
}

/// `x`, but at least `low`; NaN stays.
#[inline(always)]
fn above<S: Simd, V: Float<S, Scalar = T>, T: Element>(s: S, low: f64, x: V) -> V {
    V::splat(s, T::from_f64(low)).max(x)
}

/// `x`, but at least `−limit` and at most `limit`; NaN stays.
#[inline(always)]
fn between<S: Simd, V: Float<S, Scalar = T>, T: Element>(s: S, x: V, limit: f64) -> V {
    above(s, -limit, V::splat(s, T::from_f64(limit)).min(x))
}

/// Φ(x) = ½·(1 + erf(x/√2)).
#[inline(always)]
fn normal_cdf<T: Element, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    let half = constant::<T, S>(s, 0.5);
    T::erf(s, x * constant::<T, S>(s, std::f64::consts::FRAC_1_SQRT_2)).mul_add(half, half)
}

/// σ(x) and σ(−x), each accurate where it is small.
#[inline(always)]
fn gates<T: Element, S: Simd>(s: S, x: T::Vector<S>) -> (T::Vector<S>, T::Vector<S>) {
    let one = s.splat(T::ONE);
    let e = T::exp(s, -x.abs());
    let large = one / (one + e);
    let small = e * large;
    let negative = x.lt(s.splat(T::ZERO));
    (T::Vector::select(negative, small, large), T::Vector::select(negative, large, small))
}

/// The largest exponent whose power is a product.
const LARGEST_PRODUCT: f64 = 16.0;

/// xᵖ and the power its derivative needs.
#[derive(Clone, Copy)]
struct Powf<T> {
    p: T,
    power: Power<T>,
    derivative: Power<T>,
}

#[derive(Clone, Copy)]
enum Power<T> {
    /// x to the `n`, or one over it.
    Product { n: u32, inverse: bool },
    /// e^(p·ln |x|).
    Exponential { p: T, parity: Parity },
}

#[derive(Clone, Copy, PartialEq)]
enum Parity {
    Even,
    Odd,
    Fraction,
}

impl<T: Element> Powf<T> {
    fn new(p: T) -> Self {
        // The derivative of x⁰ is 0 also where 1/x is infinite.
        let below = if p == T::ZERO { T::ZERO } else { p - T::ONE };
        Self { p, power: Power::new(p), derivative: Power::new(below) }
    }
}

impl<T: Element> Power<T> {
    fn new(p: T) -> Self {
        let exponent = p.to_f64();
        if exponent.trunc() == exponent && exponent.abs() <= LARGEST_PRODUCT {
            return Self::Product { n: exponent.abs() as u32, inverse: exponent < 0.0 };
        }
        // Infinities are even.
        let integer = exponent.is_infinite() || exponent.trunc() == exponent;
        let parity = match exponent % 2.0 {
            _ if !integer => Parity::Fraction,
            rest if rest.abs() == 1.0 => Parity::Odd,
            _ => Parity::Even,
        };
        Self::Exponential { p, parity }
    }

    #[inline(always)]
    fn of<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        let (zero, one) = (s.splat(T::ZERO), s.splat(T::ONE));
        match self {
            Self::Product { mut n, inverse } => {
                let (mut product, mut square) = (one, x);
                while n > 0 {
                    if n % 2 == 1 {
                        product = product * square;
                    }
                    square = square * square;
                    n /= 2;
                }
                if inverse { one / product } else { product }
            }
            Self::Exponential { p, parity } => {
                let size = x.abs();
                let power = T::exp(s, T::ln(s, size) * s.splat(p));
                // 1 to the power of infinity or NaN, where the product above is 0·∞ or NaN.
                let power = T::Vector::select(size.eq(one), one, power);
                match parity {
                    Parity::Even => power,
                    Parity::Odd => power.copysign(x),
                    Parity::Fraction => {
                        let undefined = x.lt(zero).and(s.splat(-T::INFINITY).lt(x));
                        T::Vector::select(undefined, s.splat(T::NAN), power)
                    }
                }
            }
        }
    }
}

impl<T: Element> Function<T> for Powf<T> {
    const FORWARD_COST: f64 = 1.6;
    const BACKWARD_COST: f64 = 1.7;
    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        self.power.of(s, x)
    }
    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        dy * (s.splat(self.p) * self.derivative.of(s, x))
    }
}

#[derive(Clone, Copy)]
struct Powi(i32);

impl<T: Element> Function<T> for Powi {
    const FORWARD_COST: f64 = 1.0;
    const BACKWARD_COST: f64 = 1.0;
    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        T::powi(s, x, self.0.into())
    }
    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        // The derivative of x⁰ is 0 also where 1/x is infinite.
        let below = if self.0 == 0 { 0 } else { i64::from(self.0) - 1 };
        dy * (constant::<T, S>(s, self.0.into()) * T::powi(s, x, below))
    }
}

// Functions of two arguments.

/// One function, chosen before the loop.
pub(crate) trait Pair<T: Element>: Copy + Send + Sync {
    /// Nanoseconds per f32 on one core with AVX2.
    const COST: f64;
    fn value<S: Simd>(self, s: S, a: T::Vector<S>, b: T::Vector<S>) -> T::Vector<S>;
}

/// One function of two arguments, compiled for every instruction set, to be called for a few rows at a time; see
/// [`Lines`].
pub(crate) trait PairLines<T: Element>: Sync {
    /// [`Pair::COST`].
    fn cost(&self) -> f64;
    /// Each row of `a` with `row`, which is not empty.
    fn with_row(&self, simd: Dispatcher, a: &[T], row: &[T], y: &mut [T]);
    /// Each row, of `cols` elements, of `a` with its element of `col`; `cols` is not 0.
    fn with_column(&self, simd: Dispatcher, a: &[T], col: &[T], cols: usize, y: &mut [T]);
    /// One number with each element of `b`.
    fn with_number(&self, simd: Dispatcher, a: T, b: &[T], y: &mut [T]);
}

impl<T: Element, F: Pair<T>> PairLines<T> for F {
    fn cost(&self) -> f64 {
        F::COST
    }

    fn with_row(&self, simd: Dispatcher, a: &[T], row: &[T], y: &mut [T]) {
        simd.run(RowKernel { f: *self, a, row, y });
    }

    fn with_column(&self, simd: Dispatcher, a: &[T], col: &[T], cols: usize, y: &mut [T]) {
        simd.run(ColumnKernel { f: *self, a, col, cols, y });
    }

    fn with_number(&self, simd: Dispatcher, a: T, b: &[T], y: &mut [T]) {
        simd.run(LeftKernel { f: *self, a, b, y });
    }
}

/// The function.
pub(crate) fn pair<T: Element>(op: Binary) -> &'static dyn PairLines<T> {
    match op {
        Binary::Add => &Sum,
        Binary::Sub => &Difference,
        Binary::Mul => &Product,
        Binary::Div => &Quotient,
        Binary::Min => &Smaller,
        Binary::Max => &Larger,
        Binary::Pow => &PowerOf,
    }
}

macro_rules! pairs {
    ($($name:ident, $cost:expr, |$s:ident, $a:ident, $b:ident| $value:expr;)+) => { $(
        #[derive(Clone, Copy)]
        struct $name;
        impl<T: Element> Pair<T> for $name {
            const COST: f64 = $cost;
            #[inline(always)]
            fn value<S: Simd>(self, $s: S, $a: T::Vector<S>, $b: T::Vector<S>) -> T::Vector<S> {
                $value
            }
        }
    )+ };
}

pairs! {
    Sum, PLAIN, |_s, a, b| a + b;
    Difference, PLAIN, |_s, a, b| a - b;
    Product, PLAIN, |_s, a, b| a * b;
    Quotient, PLAIN, |_s, a, b| a / b;
    Smaller, PLAIN, |_s, a, b| a.minimum(b);
    Larger, PLAIN, |_s, a, b| a.maximum(b);
    PowerOf, 2.5, |s, a, b| T::pow(s, a, b);
}

/// Each row of `a` with `row`, which is not empty.
struct RowKernel<'a, F, T> {
    f: F,
    a: &'a [T],
    row: &'a [T],
    y: &'a mut [T],
}

impl<T: Element, F: Pair<T>> Kernel for RowKernel<'_, F, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (f, cols) = (self.f, self.row.len());
        for (a, y) in self.a.chunks_exact(cols).zip(self.y.chunks_exact_mut(cols)) {
            slices::map2(
                s,
                a,
                self.row,
                y,
                #[inline(always)]
                |a, b| f.value(s, a, b),
            );
        }
    }
}

/// Each row of `a` with its element of `col`; `cols` is not 0.
struct ColumnKernel<'a, F, T> {
    f: F,
    a: &'a [T],
    col: &'a [T],
    cols: usize,
    y: &'a mut [T],
}

impl<T: Element, F: Pair<T>> Kernel for ColumnKernel<'_, F, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let f = self.f;
        let rows = self.a.chunks_exact(self.cols).zip(self.y.chunks_exact_mut(self.cols));
        for ((a, y), &b) in rows.zip(self.col) {
            let b = s.splat(b);
            slices::map(
                s,
                a,
                y,
                #[inline(always)]
                |a| f.value(s, a, b),
            );
        }
    }
}

struct LeftKernel<'a, F, T> {
    f: F,
    a: T,
    b: &'a [T],
    y: &'a mut [T],
}

impl<T: Element, F: Pair<T>> Kernel for LeftKernel<'_, F, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (f, a) = (self.f, s.splat(self.a));
        slices::map(
            s,
            self.b,
            self.y,
            #[inline(always)]
            |b| f.value(s, a, b),
        );
    }
}

// Updates in place.

struct Accumulate<'a, T> {
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Element> Kernel for Accumulate<'_, T> {
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

struct Axpby<'a, T> {
    alpha: T,
    x: &'a [T],
    beta: T,
    y: &'a mut [T],
}

impl<T: Element> Kernel for Axpby<'_, T> {
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

struct Scale<'a, T> {
    alpha: T,
    x: &'a mut [T],
}

impl<T: Element> Kernel for Scale<'_, T> {
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
