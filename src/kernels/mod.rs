//! The kernels: slices in, slices out, forward beside backward.
//!
//! Inputs come first, outputs last. Every call checks its lengths, resolves the [`context`] once,
//! allocates nothing but recycled scratch memory, and writes every element of its outputs and nothing else.
//! Results are the same bits for any number of threads and on any instruction set with fused multiply-add.

pub mod batch_norm;
mod channels;
pub mod conv;
pub mod convert;
pub mod cross_entropy;
pub mod cumsum;
pub mod dropout;
pub mod embedding;
pub mod gemm;
pub mod group_norm;
pub mod layer_norm;
pub mod log_softmax;
pub mod logsumexp;
pub mod loss;
pub mod map;
pub mod nll_loss;
pub mod norm;
pub mod pool;
pub mod pow;
pub mod prelu;
pub mod reduce;
pub mod rms_norm;
pub mod soft_cross_entropy;
pub mod softmax;
pub mod update;
pub mod window;
pub mod zip;

use crate::buffer::Scratch;
use crate::context;
use crate::error::{Error, Result};
use crate::profile;
use crate::simd::environment::Entered;
use crate::simd::{self, Element};

/// The body of a public kernel, compiled in this crate for `f32` and for `f64`, whoever calls it: a copy for
/// each instruction set takes the compiler seconds. The first argument is the name of the kernel in a
/// [`profile`](mod@crate::profile), the second a closure without captures; its parameters, whose types are
/// written with `T`, take the values of the variables of the same names.
macro_rules! compiled_once {
    ($name:literal, |$($arg:ident: $type:ty),* $(,)?| -> $result:ty $body:block) => {{
        let _call = $crate::kernels::call($name);
        fn generic<T: Element>($($arg: $type),*) -> $result $body

        macro_rules! compiled_for {
            ($element:ident) => {{
                type T = $element;
                // Not inlined: arithmetic must stay within the environment that `_call` entered.
                #[inline(never)]
                fn compiled($($arg: $type),*) -> $result {
                    generic::<T>($($arg),*)
                }
                let compiled: fn($($type),*) -> $result = compiled;
                // SAFETY: `T` of the caller is this element type, so that both are the same function type.
                #[allow(clippy::missing_transmute_annotations)]
                unsafe {
                    std::mem::transmute(compiled)
                }
            }};
        }
        let compiled: fn($($type),*) -> $result =
            if $crate::simd::is::<T, f32>() { compiled_for!(f32) } else { compiled_for!(f64) };
        compiled($($arg),*)
    }};
}
pub(crate) use compiled_once;

/// Checks the lengths of operands by the names of their variables, as in
/// `lengths!(OP, gamma == cols, y == x.len())`: returns an [`Error::Shape`] that names the first operand with
/// another number of elements. An operand that is `None` fits.
macro_rules! lengths {
    ($op:expr, $($operand:ident == $expected:expr),+ $(,)?) => {
        $($crate::kernels::Operand::expect_len(&$operand, $op, stringify!($operand), $expected)?;)+
    };
}
pub(crate) use lengths;

/// A slice of elements that a kernel reads or writes, which may be optional.
pub(crate) trait Operand {
    /// The number of elements; `None` if the operand was not given.
    fn given_len(&self) -> Option<usize>;

    /// An error unless the operand has `expected` elements or was not given.
    fn expect_len(&self, op: &'static str, name: &str, expected: usize) -> Result<()> {
        match self.given_len() {
            Some(len) if len != expected => {
                Err(Error::shape(op, format!("{name} has {len} elements, expected {expected}")))
            }
            _ => Ok(()),
        }
    }
}

impl<T> Operand for &[T] {
    fn given_len(&self) -> Option<usize> {
        Some(self.len())
    }
}

impl<T> Operand for &mut [T] {
    fn given_len(&self) -> Option<usize> {
        Some(self.len())
    }
}

impl<O: Operand> Operand for Option<O> {
    fn given_len(&self) -> Option<usize> {
        self.as_ref().and_then(Operand::given_len)
    }
}

/// What lasts as long as the call of a kernel: its row of the profile, and the floating-point environment.
pub(crate) struct Call {
    _profile: profile::Scope,
    _environment: Entered,
}

/// Begins a call of the kernel of this name.
#[inline(always)]
pub(crate) fn call(name: &'static str) -> Call {
    Call { _environment: context::enter_environment(), _profile: profile::scope(name) }
}

/// The number of rows of `cols` elements in `x`, which must be whole.
pub(crate) fn whole_rows<T>(op: &'static str, x: &[T], cols: usize) -> Result<usize> {
    if cols == 0 && x.is_empty() {
        return Ok(0);
    }
    if cols == 0 || !x.len().is_multiple_of(cols) {
        return Err(Error::shape(op, format!("{} elements are not whole rows of {cols}", x.len())));
    }
    Ok(x.len() / cols)
}

/// How many rows of `cols` elements a parallel job takes at a time: 4 Ki elements, which stay in the first
/// cache.
pub(crate) fn rows_per_chunk(cols: usize) -> usize {
    (4 * 1024 / cols.max(1)).max(1)
}

/// An error unless `eps`, which is added to a variance, is finite and not negative.
pub(crate) fn valid_eps(op: &'static str, eps: f64) -> Result<()> {
    if eps.is_finite() && eps >= 0.0 {
        return Ok(());
    }
    Err(Error::value(op, format!("eps is {eps}, expected a finite number ≥ 0")))
}

/// `len` times `value`, to stand in for what the caller did not give.
pub(crate) fn unless_given<T: Element>(given: Option<&[T]>, len: usize, value: T) -> Option<Scratch<T>> {
    if given.is_some() {
        return None;
    }
    let mut scratch = Scratch::new(len);
    scratch.fill(value);
    Some(scratch)
}

/// `len` elements for an output that the caller does not want, or none.
pub(crate) fn spare_if<T: Element>(unwanted: bool, len: usize) -> Scratch<T> {
    Scratch::new(if unwanted { len } else { 0 })
}

/// A power of two that brings deviations from `center` near 1 if `rstd` is one over their size, and its
/// inverse. Products with such deviations leave the range where those with the normalised ones do, and have
/// the same digits. 1 where the scaled center would be beyond the range, as in a constant row of large
/// numbers, and where deviations are of ordinary size: sums of many short rows would wait for the scale.
#[inline(always)]
pub(crate) fn deviation_scales<T: Element>(center: T, rstd: T) -> (T, T) {
    const EXPONENT: u64 = 0x7FF << 52;
    let ordinary = T::from_f64(ORDINARY);
    if rstd * ordinary >= T::ONE && rstd <= ordinary {
        return (T::ONE, T::ONE);
    }
    let largest = T::from_f64(power_of_two(if simd::is::<T, f32>() { 126 } else { 1022 }));
    let power = T::from_f64(f64::from_bits(rstd.to_f64().to_bits() & EXPONENT));
    let scale = if power < largest { power } else { largest };
    let (inverse, scaled) = (T::ONE / scale, center * scale);
    if inverse.is_finite() && (scaled + scaled).is_finite() { (scale, inverse) } else { (T::ONE, T::ONE) }
}

/// Deviations up to this number, and down to one over it, are summed as they are.
const ORDINARY: f64 = 1024.0;

/// 2^exponent, for exponents of normal numbers.
pub(crate) const fn power_of_two(exponent: i64) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

/// A power of two that brings the deviations of a row or column, the squares of which overflow, back into the
/// middle of the range, and its inverse: 2⁻⁸⁰ and 2⁸⁰ or, for f64, 2⁻⁶⁰⁰ and 2⁶⁰⁰.
pub(crate) fn rescue_scales<T: Element>() -> (T, T) {
    let exponent = if simd::is::<T, f32>() { 80 } else { 600 };
    (T::from_f64(power_of_two(-exponent)), T::from_f64(power_of_two(exponent)))
}
