//! Elementwise functions of one or two arrays, and their gradients.
//!
//! Every function is given by one formula for whole registers and tails; an element does not depend on its
//! neighbours. NaN gives NaN unless a function says otherwise, ±∞ give the limit of the function (never ∞·0 =
//! NaN), −0 is kept by the odd functions, by relu and by those that are x times something, and empty slices
//! are fine everywhere. The error bounds are in u, half the distance from 1 to the next number; 1 ULP is 1 u
//! to 2 u. They hold with fused multiply-add; `docs/NUMERICS.md` has those without it, and what was measured.

// A function of one argument is a file and a line of the list below, which makes the enum, what chooses by
// it, and the method of a tensor. What tests and benches know of it stands in its file, too.
mod abs;
mod ceil;
mod clamp;
mod cos;
mod elu;
mod erf;
mod exp;
mod exp2;
mod expm1;
mod floor;
mod function;
mod gelu;
mod gelu_tanh;
mod in_place;
mod leaky_relu;
mod ln;
mod log1p;
mod log2;
mod log_sigmoid;
mod mish;
mod neg;
mod pairs;
mod powf;
mod powi;
mod reciprocal;
mod relu;
mod round;
mod rsqrt;
mod sigmoid;
mod sign;
mod silu;
mod sin;
mod softplus;
mod sqrt;
mod square;
mod tanh;

pub use in_place::{accumulate, axpby, axpy, gate, scale};
pub use pairs::{Binary, binary, binary_col, binary_row, binary_scalar, scalar_binary};

use function::{Function, HUGE, Lines, above, between, constant, gates};
pub(crate) use pairs::pair;

use super::{compiled_once, lengths};
use crate::context;
use crate::error::Result;
use crate::parallel::{self, Rows, RowsMut};
use crate::reference::map::Twin;
use crate::simd::Element;

/// Calls a macro with all functions of one argument: docs, the variant, the file (whose name is also that of
/// the tensor's method), and parameters, each with a value for tests.
macro_rules! functions {
    ($with:ident) => {
        $with! {
            /// −x, exact.
            Neg neg;
            /// |x|, exact. The derivative at ±0 is 0.
            Abs abs;
            /// max(x, 0), exact; −0 stays −0. The derivative at 0 is 0.
            Relu relu;
            /// x where x > 0, else slope·x (one rounding).
            LeakyRelu leaky_relu {
                /// The factor of what is not positive; PyTorch's default is 0.01.
                slope: T = T::from_f64(0.01),
            };
            /// x within \[min, max\], exact; max where min > max. The derivative is 1 where min ≤ x ≤ max,
            /// else 0, also at NaN: that of PyTorch's `clamp` (its `hardtanh` has 0 at the ends and 1 at
            /// NaN).
            Clamp clamp {
                /// The lower end; hardtanh's is −1.
                min: T = T::from_f64(-1.0),
                /// The upper end; hardtanh's is 1.
                max: T = T::from_f64(1.0),
            };
            /// Rounded towards −∞, exact. The derivative is 0.
            Floor floor;
            /// Rounded towards +∞, exact. The derivative is 0.
            Ceil ceil;
            /// The nearest integer, halves to the even one, exact. The derivative is 0.
            Round round;
            /// −1, ±0 or 1, exact. The derivative is 0.
            Sign sign;
            /// 1 / (1 + e⁻ˣ), within 1 ULP.
            Sigmoid sigmoid;
            /// ln σ(x) = −ln(1 + e⁻ˣ), within 2 ULP.
            LogSigmoid log_sigmoid;
            /// The hyperbolic tangent, within 1 ULP (f64: 1.5).
            Tanh tanh;
            /// sin x, within 0.6 ULP in f32 and 1 ULP in f64, for every x; NaN of ±∞. From 2²⁰ on a lane at a
            /// time, some 10 ns.
            Sin sin;
            /// cos x, as [`Sin`](Unary::Sin).
            Cos cos;
            /// The error function, within 1 ULP in f32 and 1.5 ULP in f64.
            Erf erf;
            /// x·Φ(x) = x·½·(1 + erf(x/√2)), within 2 ULP for x > 0 and 3u·|x| for x < 0, where 1 + erf
            /// cancels. D. Hendrycks and K. Gimpel, 2016.
            Gelu gelu;
            /// x·½·(1 + tanh(√(2/π)·(x + 0.044715·x³))), the approximation of [`Gelu`](Unary::Gelu) by the
            /// same authors, computed as x·σ(v) with v = 2√(2/π)·(x + 0.044715·x³), which does not cancel:
            /// within (5 + 5·|v|)·u of itself.
            GeluTanh gelu_tanh;
            /// x·σ(x), within 1 ULP (f64: 1.2).
            Silu silu;
            /// x·tanh(ln(1 + eˣ)), within 1.2 ULP. D. Misra, 2019.
            Mish mish;
            /// ln(1 + eˣ), within 2 ULP; x where x > 20, as in PyTorch.
            Softplus softplus;
            /// x where x > 0, else alpha·(eˣ − 1), within 2 ULP.
            Elu elu {
                /// The limit at −∞ is −alpha; PyTorch's default is 1.
                alpha: T = T::from_f64(1.0),
            };
            /// eˣ, within 1 ULP.
            Exp exp;
            /// 2ˣ, within 1 ULP.
            Exp2 exp2;
            /// eˣ − 1, also near 0, within 1 ULP.
            Expm1 expm1;
            /// The natural logarithm, within 1 ULP; −∞ of ±0, NaN of negative numbers.
            Ln ln;
            /// The binary logarithm, within 1 ULP; −∞ of ±0, NaN of negative numbers.
            Log2 log2;
            /// ln(1 + x), also near 0, within 1 ULP; −∞ of −1, NaN below.
            Log1p log1p;
            /// The square root, correctly rounded; NaN of negative numbers.
            Sqrt sqrt;
            /// 1/√x, within 2 ULP: the square root and the quotient are rounded. ±∞ of ±0, NaN of negative
            /// numbers.
            Rsqrt rsqrt;
            /// x².
            Square square;
            /// 1/x, correctly rounded.
            Reciprocal reciprocal;
            /// xᵖ with the special cases of C's `pow`: x⁰ = 1 and 1ᵖ = 1 also with NaN, NaN of a negative
            /// number with a p that is not an integer. Integers p up to ±16 by multiplication, within |p|·u
            /// as long as x to the |p| is normal; others as e^(p·ln |x|), within (4 + 5·|p·ln |x||)·u.
            Powf powf (power: T = T::from_f64(1.7));
            /// xⁿ of a whole n, within 1 ULP; x⁰ = 1 also with NaN.
            Powi powi (power: i32 = 3);
        }
    };
}
#[cfg(feature = "train")]
pub(crate) use functions;

macro_rules! unary {
    ($(
        $(#[$doc:meta])+
        $variant:ident $name:ident
        $({ $($(#[$field_doc:meta])+ $field:ident: $type:ty = $sample:expr,)+ })?
        $(($argument:ident: $argument_type:ty = $argument_sample:expr))?;
    )+) => {
        /// A function of one argument. `slope`, `alpha` and exponents are any numbers.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Unary<T> {
            $($(#[$doc])+ $variant $({ $($(#[$field_doc])+ $field: $type),+ })? $(($argument_type))?,)+
        }

        impl<T: Element> Unary<T> {
            /// Every function once, with some value of each parameter.
            ///
            /// ```
            /// use gristmill::kernels::map::Unary;
            /// assert!(Unary::<f32>::all().contains(&Unary::Mish));
            /// ```
            pub fn all() -> Vec<Self> {
                vec![$(Self::$variant $({ $($field: $sample),+ })? $(($argument_sample))?),+]
            }

            /// The function's name, which is that of the method of a tensor.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => stringify!($name),)+
                }
            }

            /// Which array the derivative is computed from, which a training step has to keep.
            pub fn backward_reads(self) -> Reads {
                match self {
                    $(Self::$variant $({ $($field),+ })? $(($argument))? => {
                        reads::<T, _>($name::$variant $({ $($field),+ })? $(::new($argument))?)
                    })+
                }
            }

            /// The function and its derivative in `f64`, how far the kernel may be off, and what it costs.
            pub fn twin(self) -> Box<dyn Twin> {
                match self {
                    $(Self::$variant $({ $($field),+ })? $(($argument))? => {
                        Box::new($name::$variant $({ $($field),+ })? $(::new($argument))?)
                    })+
                }
            }
        }

        /// Calls `with` with the function.
        pub(crate) fn with_function<T: Element>(op: Unary<T>, with: &mut dyn FnMut(&dyn Lines<T>)) {
            match op {
                $(Unary::$variant $({ $($field),+ })? $(($argument))? => {
                    with(&$name::$variant $({ $($field),+ })? $(::new($argument))?);
                })+
            }
        }
    };
}
functions!(unary);

/// Which array [`UnaryBackward`] reads beside the gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Neither x nor y.
    Neither,
    /// x.
    Input,
    /// y.
    Output,
}

/// The array that a function's gradient reads.
fn reads<T: Element, F: Function<T>>(_: F) -> Reads {
    F::READS
}

/// `y[i] = f(x[i])`.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) when the lengths differ.
///
/// ```
/// use gristmill::kernels::map::{Unary, unary};
/// let mut y = [0.0; 3];
/// unary(Unary::Relu, &[-1.0, 0.5, f32::INFINITY], &mut y)?;
/// assert_eq!(y, [0.0, 0.5, f32::INFINITY]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn unary<T: Element>(op: Unary<T>, x: &[T], y: &mut [T]) -> Result<()> {
    compiled_once!("map::unary", |op: Unary<T>, x: &[T], y: &mut [T]| -> Result<()> {
        lengths!("unary", y == x.len());
        let settings = context::settings()?;
        with_function(op, &mut |f| {
            let work = nanoseconds::<T>(x.len(), f.forward_cost());
            parallel::for_each(settings, (Rows(x, CHUNK), RowsMut::new(y, CHUNK)), work, |(x, y)| {
                f.forward(settings.simd, x, y);
            });
        });
        Ok(())
    })
}

/// The gradient of [`unary`]: `dx[i] = dy[i]·f'(x[i])`. It reads `x` or `y` or neither, which
/// [`Unary::backward_reads`] tells.
///
/// The derivative has the relative error of the function and about 4u more; where it is a difference of terms
/// (sigmoid and tanh near ±1, gelu and silu near their minimum), the error is relative to the terms. This
/// holds for x and dy of every magnitude as long as f'(x) is a normal number, and still is when multiplied or
/// divided by 4: where f'(x) underflows, dx has only the digits that are left of it, however large dy is. For
/// the reciprocal, y and dy·y must be normal numbers, for the binary logarithm dy and 2·dy. Where relu and
/// its relatives are flat, dx is 0 whatever dy is, as it is for clamp, floor, ceil, round and sign.
///
/// ```
/// use gristmill::kernels::map::{Unary, UnaryBackward, unary};
/// let (x, mut y, mut dx) = ([3.0, -2.0], [0.0; 2], [0.0; 2]);
/// unary(Unary::Square, &x, &mut y)?;
/// UnaryBackward { op: Unary::Square, x: &x, y: &y, dy: &[1.0, 10.0], dx: &mut dx }.run()?;
/// assert_eq!(dx, [6.0, -40.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug)]
pub struct UnaryBackward<'a, T> {
    /// Which function.
    pub op: Unary<T>,
    /// The input of [`unary`]; any slice of its length if it is not read.
    pub x: &'a [T],
    /// The output of [`unary`], of the length of `x`; any slice of that length if it is not read.
    pub y: &'a [T],
    /// The gradient of `y`, of the length of `x`.
    pub dy: &'a [T],
    /// Output of the length of `x`.
    pub dx: &'a mut [T],
}

impl<T: Element> UnaryBackward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when the lengths differ.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("map::unary_backward", |call: UnaryBackward<'_, T>| -> Result<()> {
            let UnaryBackward { op, x, y, dy, dx } = call;
            lengths!("unary_backward", y == x.len(), dy == x.len(), dx == x.len());
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
        })
    }
}

/// Elements per parallel chunk: 16 KiB of f32.
const CHUNK: usize = 4 * 1024;
/// Nanoseconds per f32 of a function that only streams through the cache; measured on one core with AVX2 by
/// `cargo bench --bench criterion -- map`, as are the costs of the functions.
const PLAIN: f64 = 0.15;

/// What `len` elements cost on one thread.
fn nanoseconds<T: Element>(len: usize, per_f32: f64) -> usize {
    (len as f64 * per_f32 * 16.0 / T::LANES as f64) as usize
}
