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
use crate::simd::{Element, Float, Kernel, Mask, Simd, slices};

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
    /// The hyperbolic tangent, within 1 ULP.
    Tanh,
    /// The error function, within 1 ULP in f32 and 1.5 ULP in f64.
    Erf,
    /// x·Φ(x) = x·½·(1 + erf(x/√2)), within 2 ULP for x > 0 and 3u·|x| for x < 0, where 1 + erf cancels.
    /// D. Hendrycks and K. Gimpel, 2016.
    Gelu,
    /// x·½·(1 + tanh(√(2/π)·(x + 0.044715·x³))), the approximation of [`Gelu`](Unary::Gelu) by the same authors, computed
    /// as x·σ(v) with v = 2√(2/π)·(x + 0.044715·x³), which does not cancel: within (5 + 5·|v|)·u of itself.
    GeluTanh,
    /// x·σ(x), within 1 ULP.
    Silu,
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
    /// The binary logarithm, within 1.2 ULP; −∞ of ±0, NaN of negative numbers.
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
            Self::Square | Self::Powf(_) => Reads::Input,
        }
    }
}

/// A function of two arguments; one rounding each.
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
        with_function(op, Forward { x, y })
    }
}

compiled_once! {
    /// `dx[i] = dy[i]·f'(x[i])`, where `x` and `y` are the input and the output of [`unary`]; which of them is read says
    /// [`Unary::backward_reads`].
    ///
    /// The derivative has the relative error of the function and about 4u more; where it is a difference of terms
    /// (sigmoid and tanh near ±1, gelu and silu near their minimum), that is relative to the terms.
    /// Where relu and its relatives are flat, dx is 0 whatever dy is; so is that of clamp, floor, ceil, round and sign.
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
        with_function(op, Backward { x, y, dy, dx })
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
        with_pair(op, Both { a, b, y })
    }
}

compiled_once! {
    /// `y[i] = a[i] op b`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths differ.
    pub fn binary_scalar<T: Element>(op: Binary, a: &[T], b: T, y: &mut [T]) -> Result<()> {
        same_len("binary_scalar", "y", y, a.len())?;
        with_pair(op, Right { a, b, y })
    }
}

compiled_once! {
    /// `y[i] = a op b[i]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the lengths differ.
    pub fn scalar_binary<T: Element>(op: Binary, a: T, b: &[T], y: &mut [T]) -> Result<()> {
        same_len("scalar_binary", "y", y, b.len())?;
        with_pair(op, Left { a, b, y })
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
        with_pair(op, ByRow { a, row, y })
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
        with_pair(op, ByColumn { a, col, y })
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
/// `cargo bench --bench map`, as are the costs of the functions below.
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
    /// Nanoseconds per f32 of the value, on one core with AVX2.
    const FORWARD_COST: f64;
    /// The same of the gradient.
    const BACKWARD_COST: f64;
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S>;
    /// dy · f'(x), with y = f(x).
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S>;
}

/// What is to be done with the function.
pub(crate) trait Pass<T: Element> {
    type Output;
    fn with<F: Function<T>>(self, f: F) -> Self::Output;
}

pub(crate) fn with_function<T: Element, P: Pass<T>>(op: Unary<T>, pass: P) -> P::Output {
    match op {
        Unary::Neg => pass.with(Neg),
        Unary::Abs => pass.with(Abs),
        Unary::Relu => pass.with(Relu),
        Unary::LeakyRelu { slope } => pass.with(LeakyRelu(slope)),
        Unary::Clamp { min, max } => pass.with(Clamp { min, max }),
        Unary::Floor => pass.with(Floor),
        Unary::Ceil => pass.with(Ceil),
        Unary::Round => pass.with(Round),
        Unary::Sign => pass.with(Sign),
        Unary::Sigmoid => pass.with(Sigmoid),
        Unary::LogSigmoid => pass.with(LogSigmoid),
        Unary::Tanh => pass.with(Tanh),
        Unary::Erf => pass.with(Erf),
        Unary::Gelu => pass.with(Gelu),
        Unary::GeluTanh => pass.with(GeluTanh),
        Unary::Silu => pass.with(Silu),
        Unary::Softplus => pass.with(Softplus),
        Unary::Elu { alpha } => pass.with(Elu(alpha)),
        Unary::Exp => pass.with(Exp),
        Unary::Exp2 => pass.with(Exp2),
        Unary::Expm1 => pass.with(Expm1),
        Unary::Ln => pass.with(Ln),
        Unary::Log2 => pass.with(Log2),
        Unary::Log1p => pass.with(Log1p),
        Unary::Sqrt => pass.with(Sqrt),
        Unary::Rsqrt => pass.with(Rsqrt),
        Unary::Square => pass.with(Square),
        Unary::Reciprocal => pass.with(Reciprocal),
        Unary::Powf(p) => pass.with(Powf::new(p)),
    }
}

struct Forward<'a, T> {
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Element> Pass<T> for Forward<'_, T> {
    type Output = Result<()>;
    fn with<F: Function<T>>(self, f: F) -> Result<()> {
        let settings = context::settings()?;
        let work = nanoseconds::<T>(self.x.len(), F::FORWARD_COST);
        parallel::for_each(settings, (Rows(self.x, CHUNK), RowsMut::new(self.y, CHUNK)), work, |(x, y)| {
            settings.simd.run(ForwardKernel { f, x, y });
        });
        Ok(())
    }
}

struct ForwardKernel<'a, F, T> {
    f: F,
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Element, F: Function<T>> Kernel for ForwardKernel<'_, F, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let f = self.f;
        slices::map(
            s,
            self.x,
            self.y,
            #[inline(always)]
            |x| f.value(s, x),
        );
    }
}

struct Backward<'a, T> {
    x: &'a [T],
    y: &'a [T],
    dy: &'a [T],
    dx: &'a mut [T],
}

impl<T: Element> Pass<T> for Backward<'_, T> {
    type Output = Result<()>;
    fn with<F: Function<T>>(self, f: F) -> Result<()> {
        let settings = context::settings()?;
        let work = nanoseconds::<T>(self.x.len(), F::BACKWARD_COST);
        let inputs = (Rows(self.x, CHUNK), Rows(self.y, CHUNK), Rows(self.dy, CHUNK));
        let parts = (inputs.0, inputs.1, inputs.2, RowsMut::new(self.dx, CHUNK));
        parallel::for_each(settings, parts, work, |(x, y, dy, dx)| {
            settings.simd.run(BackwardKernel { f, x, y, dy, dx });
        });
        Ok(())
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
    LogSigmoid, (1.65, 1.1), |s, x| -T::softplus(s, -x), |s, x, _y, dy| dy * T::sigmoid(s, -x);
    Erf, (1.15, 0.75), |s, x| T::erf(s, x), |s, x, _y, dy| {
        // At ±40 the slope is 0 in f64 too.
        let near = between(s, x, 40.0);
        dy * (T::exp(s, -(near * near)) * constant::<T, S>(s, std::f64::consts::FRAC_2_SQRT_PI))
    };
    Sigmoid, (1.0, 0.15), |s, x| T::sigmoid(s, x), |s, _x, y, dy| dy * (y * (s.splat(T::ONE) - y));
    Tanh, (1.25, 0.15), |s, x| T::tanh(s, x), |s, _x, y, dy| dy * y.neg_mul_add(y, s.splat(T::ONE));
    Gelu, (1.3, 1.9), |s, x| above(s, -HUGE, x) * normal_cdf::<T, S>(s, x), |s, x, _y, dy| {
        // At ±40 the density is 0 in f64 too.
        let near = between(s, x, 40.0);
        let density = T::exp(s, near * near * constant::<T, S>(s, -0.5)) * constant::<T, S>(s, DENSITY_AT_0);
        dy * near.mul_add(density, normal_cdf::<T, S>(s, x))
    };
    GeluTanh, (1.2, 1.1), |s, x| {
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
    Silu, (1.2, 0.95), |s, x| T::silu(s, x), |s, x, _y, dy| {
        let (gate, rest) = gates::<T, S>(s, x);
        dy * (gate * between(s, x, HUGE).mul_add(rest, s.splat(T::ONE)))
    };
    Softplus, (1.7, 1.1), |s, x| {
        T::Vector::select(constant::<T, S>(s, SOFTPLUS_THRESHOLD).lt(x), x, T::softplus(s, x))
    }, |s, x, _y, dy| {
        T::Vector::select(constant::<T, S>(s, SOFTPLUS_THRESHOLD).lt(x), dy, dy * T::sigmoid(s, x))
    };
    Elu(alpha), (0.9, 0.7), |s, x| {
        T::Vector::select(s.splat(T::ZERO).lt(x), x, alpha * T::exp_m1(s, x))
    }, |s, x, _y, dy| {
        T::Vector::select(s.splat(T::ZERO).lt(x), dy, dy * (alpha * T::exp(s, x)))
    };
    Exp, (0.5, 0.15), |s, x| T::exp(s, x), |_s, _x, y, dy| dy * y;
    Exp2, (0.45, 0.15), |s, x| T::exp2(s, x), |s, _x, y, dy| {
        dy * (y * constant::<T, S>(s, std::f64::consts::LN_2))
    };
    Expm1, (0.85, 0.6), |s, x| T::exp_m1(s, x), |s, x, _y, dy| dy * T::exp(s, x);
    Ln, (0.8, 0.15), |s, x| T::ln(s, x), |_s, x, _y, dy| dy / x;
    Log2, (0.75, 0.15), |s, x| T::log2(s, x), |s, x, _y, dy| {
        dy * constant::<T, S>(s, std::f64::consts::LOG2_E) / x
    };
    Log1p, (1.05, 0.15), |s, x| T::ln_1p(s, x), |s, x, _y, dy| dy / (s.splat(T::ONE) + x);
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

// Functions of two arguments.

/// One function, chosen before the loop.
trait Pair<T: Element>: Copy + Send + Sync {
    fn value<S: Simd>(self, a: T::Vector<S>, b: T::Vector<S>) -> T::Vector<S>;
}

/// How the arguments lie in memory.
trait Layout<T: Element> {
    fn with<F: Pair<T>>(self, f: F) -> Result<()>;
}

fn with_pair<T: Element>(op: Binary, layout: impl Layout<T>) -> Result<()> {
    match op {
        Binary::Add => layout.with(Sum),
        Binary::Sub => layout.with(Difference),
        Binary::Mul => layout.with(Product),
        Binary::Div => layout.with(Quotient),
        Binary::Min => layout.with(Smaller),
        Binary::Max => layout.with(Larger),
    }
}

macro_rules! pairs {
    ($($name:ident, |$a:ident, $b:ident| $value:expr;)+) => { $(
        #[derive(Clone, Copy)]
        struct $name;
        impl<T: Element> Pair<T> for $name {
            #[inline(always)]
            fn value<S: Simd>(self, $a: T::Vector<S>, $b: T::Vector<S>) -> T::Vector<S> {
                $value
            }
        }
    )+ };
}

pairs! {
    Sum, |a, b| a + b;
    Difference, |a, b| a - b;
    Product, |a, b| a * b;
    Quotient, |a, b| a / b;
    Smaller, |a, b| a.minimum(b);
    Larger, |a, b| a.maximum(b);
}

struct Both<'a, T> {
    a: &'a [T],
    b: &'a [T],
    y: &'a mut [T],
}

impl<T: Element> Layout<T> for Both<'_, T> {
    fn with<F: Pair<T>>(self, f: F) -> Result<()> {
        let settings = context::settings()?;
        let work = nanoseconds::<T>(self.a.len(), PLAIN);
        let parts = (Rows(self.a, CHUNK), Rows(self.b, CHUNK), RowsMut::new(self.y, CHUNK));
        parallel::for_each(settings, parts, work, |(a, row, y)| {
            settings.simd.run(RowKernel { f, a, row, y });
        });
        Ok(())
    }
}

struct ByRow<'a, T> {
    a: &'a [T],
    row: &'a [T],
    y: &'a mut [T],
}

impl<T: Element> Layout<T> for ByRow<'_, T> {
    fn with<F: Pair<T>>(self, f: F) -> Result<()> {
        let settings = context::settings()?;
        let work = nanoseconds::<T>(self.a.len(), PLAIN);
        let (row, chunk) = (self.row, row_chunk(self.row.len()));
        parallel::for_each(settings, (Rows(self.a, chunk), RowsMut::new(self.y, chunk)), work, |(a, y)| {
            settings.simd.run(RowKernel { f, a, row, y });
        });
        Ok(())
    }
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
                |a, b| f.value::<S>(a, b),
            );
        }
    }
}

struct Right<'a, T> {
    a: &'a [T],
    b: T,
    y: &'a mut [T],
}

impl<T: Element> Layout<T> for Right<'_, T> {
    fn with<F: Pair<T>>(self, f: F) -> Result<()> {
        let settings = context::settings()?;
        let work = nanoseconds::<T>(self.a.len(), PLAIN);
        let b = self.b;
        parallel::for_each(settings, (Rows(self.a, CHUNK), RowsMut::new(self.y, CHUNK)), work, |(a, y)| {
            settings.simd.run(ColumnKernel { f, a, col: &[b], cols: a.len(), y });
        });
        Ok(())
    }
}

struct ByColumn<'a, T> {
    a: &'a [T],
    col: &'a [T],
    y: &'a mut [T],
}

impl<T: Element> Layout<T> for ByColumn<'_, T> {
    fn with<F: Pair<T>>(self, f: F) -> Result<()> {
        if self.a.is_empty() {
            return Ok(());
        }
        let settings = context::settings()?;
        let work = nanoseconds::<T>(self.a.len(), PLAIN);
        let cols = self.a.len() / self.col.len();
        let chunk = row_chunk(cols);
        let parts = (Rows(self.a, chunk), Rows(self.col, chunk / cols), RowsMut::new(self.y, chunk));
        parallel::for_each(settings, parts, work, |(a, col, y)| {
            settings.simd.run(ColumnKernel { f, a, col, cols, y });
        });
        Ok(())
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
                |a| f.value::<S>(a, b),
            );
        }
    }
}

struct Left<'a, T> {
    a: T,
    b: &'a [T],
    y: &'a mut [T],
}

impl<T: Element> Layout<T> for Left<'_, T> {
    fn with<F: Pair<T>>(self, f: F) -> Result<()> {
        let settings = context::settings()?;
        let work = nanoseconds::<T>(self.b.len(), PLAIN);
        let a = self.a;
        parallel::for_each(settings, (Rows(self.b, CHUNK), RowsMut::new(self.y, CHUNK)), work, |(b, y)| {
            settings.simd.run(LeftKernel { f, a, b, y });
        });
        Ok(())
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
            |b| f.value::<S>(a, b),
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
