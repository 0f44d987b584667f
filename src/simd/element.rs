//! The element types, `f32` and `f64`, behind one sealed trait.

use std::any::TypeId;
use std::fmt;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use super::{Float, Simd};
use crate::buffer::Number;
use crate::math;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// `f32` or `f64`.
///
/// The vector functions take whole registers; their accuracy is stated in [`math`].
pub trait Element:
    sealed::Sealed
    + Number
    + Copy
    + Default
    + PartialEq
    + PartialOrd
    + fmt::Debug
    + fmt::Display
    + Send
    + Sync
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + 'static
{
    /// The register of 64 bytes.
    type Vector<S: Simd>: Float<S, Scalar = Self>;
    /// Elements in a register: 16 or 8.
    const LANES: usize;
    /// `f32` or `f64`.
    const NAME: &'static str;
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// +∞.
    const INFINITY: Self;
    /// Not a number.
    const NAN: Self;
    /// The distance from 1 to the next larger number: 2⁻²³ or 2⁻⁵².
    const EPSILON: Self;

    /// The nearest number of this type.
    fn from_f64(x: f64) -> Self;
    /// The same number as an `f64`.
    fn to_f64(self) -> f64;
    /// `self · a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// The square root, correctly rounded.
    fn sqrt(self) -> Self;
    /// The magnitude.
    fn abs(self) -> Self;
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// Not a number.
    fn is_nan(self) -> bool;

    /// eˣ.
    fn exp<S: Simd>(s: S, x: Self::Vector<S>) -> Self::Vector<S>;
    /// 2ˣ.
    fn exp2<S: Simd>(s: S, x: Self::Vector<S>) -> Self::Vector<S>;
    /// eˣ − 1, also near 0.
    fn exp_m1<S: Simd>(s: S, x: Self::Vector<S>) -> Self::Vector<S>;
    /// The natural logarithm.
    fn ln<S: Simd>(s: S, x: Self::Vector<S>) -> Self::Vector<S>;
    /// ln(1 + x), also near 0.
    fn ln_1p<S: Simd>(s: S, x: Self::Vector<S>) -> Self::Vector<S>;
    /// The binary logarithm.
    fn log2<S: Simd>(s: S, x: Self::Vector<S>) -> Self::Vector<S>;
    /// The hyperbolic tangent.
    fn tanh<S: Simd>(s: S, x: Self::Vector<S>) -> Self::Vector<S>;
    /// 1 / (1 + e⁻ˣ).
    fn sigmoid<S: Simd>(s: S, x: Self::Vector<S>) -> Self::Vector<S>;
    /// x / (1 + e⁻ˣ).
    fn silu<S: Simd>(s: S, x: Self::Vector<S>) -> Self::Vector<S>;
    /// ln(1 + eˣ).
    fn softplus<S: Simd>(s: S, x: Self::Vector<S>) -> Self::Vector<S>;
    /// sin x.
    fn sin<S: Simd>(s: S, x: Self::Vector<S>) -> Self::Vector<S>;
    /// cos x.
    fn cos<S: Simd>(s: S, x: Self::Vector<S>) -> Self::Vector<S>;
    /// x·tanh(ln(1 + eˣ)).
    fn mish<S: Simd>(s: S, x: Self::Vector<S>) -> Self::Vector<S>;
    /// xʸ, with the special cases of C99.
    fn pow<S: Simd>(s: S, x: Self::Vector<S>, y: Self::Vector<S>) -> Self::Vector<S>;
    /// xⁿ of a whole n.
    fn powi<S: Simd>(s: S, x: Self::Vector<S>, n: i64) -> Self::Vector<S>;
    /// The error function 2/√π ∫₀ˣ e^(−t²) dt.
    fn erf<S: Simd>(s: S, x: Self::Vector<S>) -> Self::Vector<S>;
}

/// Whether two element types are the same.
#[inline(always)]
pub(crate) fn is<T: Element, U: Element>() -> bool {
    TypeId::of::<T>() == TypeId::of::<U>()
}

/// The smallest positive normal number of an element type.
#[inline(always)]
pub(crate) fn smallest_normal<T: Element>() -> f64 {
    if is::<T, f32>() { f64::from(f32::MIN_POSITIVE) } else { f64::MIN_POSITIVE }
}

macro_rules! element {
    ($scalar:ident, $vector:ident, $lanes:literal, $whole:ident) => {
        impl Element for $scalar {
            type Vector<S: Simd> = S::$vector;
            const LANES: usize = $lanes;
            const NAME: &'static str = stringify!($scalar);
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const INFINITY: Self = $scalar::INFINITY;
            const NAN: Self = $scalar::NAN;
            const EPSILON: Self = $scalar::EPSILON;

            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                x as $scalar
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self.into()
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                $scalar::mul_add(self, a, b)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $scalar::sqrt(self)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                $scalar::abs(self)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                $scalar::is_finite(self)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                $scalar::is_nan(self)
            }
            #[inline(always)]
            fn exp<S: Simd>(s: S, x: S::$vector) -> S::$vector {
                s.part(
                    x,
                    #[inline(always)]
                    |x| math::exp::$scalar(s, x),
                )
            }
            #[inline(always)]
            fn exp2<S: Simd>(s: S, x: S::$vector) -> S::$vector {
                s.part(
                    x,
                    #[inline(always)]
                    |x| math::exp2::exp2::<$scalar, S>(s, x),
                )
            }
            #[inline(always)]
            fn exp_m1<S: Simd>(s: S, x: S::$vector) -> S::$vector {
                s.part(
                    x,
                    #[inline(always)]
                    |x| math::exp_m1::$scalar(s, x),
                )
            }
            #[inline(always)]
            fn ln<S: Simd>(s: S, x: S::$vector) -> S::$vector {
                s.part(
                    x,
                    #[inline(always)]
                    |x| math::ln::ln::<$scalar, S>(s, x),
                )
            }
            #[inline(always)]
            fn ln_1p<S: Simd>(s: S, x: S::$vector) -> S::$vector {
                s.part(
                    x,
                    #[inline(always)]
                    |x| math::ln::ln_1p::<$scalar, S>(s, x),
                )
            }
            #[inline(always)]
            fn log2<S: Simd>(s: S, x: S::$vector) -> S::$vector {
                s.part(
                    x,
                    #[inline(always)]
                    |x| math::ln::log2::<$scalar, S>(s, x),
                )
            }
            #[inline(always)]
            fn tanh<S: Simd>(s: S, x: S::$vector) -> S::$vector {
                s.part(
                    x,
                    #[inline(always)]
                    |x| math::tanh::tanh::<$scalar, S>(s, x),
                )
            }
            #[inline(always)]
            fn sigmoid<S: Simd>(s: S, x: S::$vector) -> S::$vector {
                s.part(
                    x,
                    #[inline(always)]
                    |x| math::sigmoid::sigmoid::<$scalar, S>(s, x),
                )
            }
            #[inline(always)]
            fn silu<S: Simd>(s: S, x: S::$vector) -> S::$vector {
                s.part(
                    x,
                    #[inline(always)]
                    |x| math::sigmoid::silu::<$scalar, S>(s, x),
                )
            }
            #[inline(always)]
            fn softplus<S: Simd>(s: S, x: S::$vector) -> S::$vector {
                s.part(
                    x,
                    #[inline(always)]
                    |x| math::softplus::softplus::<$scalar, S>(s, x),
                )
            }
            #[inline(always)]
            fn sin<S: Simd>(s: S, x: S::$vector) -> S::$vector {
                s.part(
                    x,
                    #[inline(always)]
                    |x| math::trig::$scalar(s, x, math::trig::Wave::Sine),
                )
            }
            #[inline(always)]
            fn cos<S: Simd>(s: S, x: S::$vector) -> S::$vector {
                s.part(
                    x,
                    #[inline(always)]
                    |x| math::trig::$scalar(s, x, math::trig::Wave::Cosine),
                )
            }
            #[inline(always)]
            fn mish<S: Simd>(s: S, x: S::$vector) -> S::$vector {
                s.part(
                    x,
                    #[inline(always)]
                    |x| math::mish::mish::<$scalar, S>(s, x),
                )
            }
            #[inline(always)]
            fn pow<S: Simd>(s: S, x: S::$vector, y: S::$vector) -> S::$vector {
                s.part(
                    (x, y),
                    #[inline(always)]
                    |(x, y)| math::pow::$scalar(s, x, y),
                )
            }
            #[inline(always)]
            fn powi<S: Simd>(s: S, x: S::$vector, n: i64) -> S::$vector {
                s.part(
                    (x, n),
                    #[inline(always)]
                    |(x, n)| math::pow::$whole(s, x, n),
                )
            }
            #[inline(always)]
            fn erf<S: Simd>(s: S, x: S::$vector) -> S::$vector {
                s.part(
                    x,
                    #[inline(always)]
                    |x| math::erf::$scalar(s, x),
                )
            }
        }
    };
}
element!(f32, F32, 16, whole_f32);
element!(f64, F64, 8, whole_f64);
