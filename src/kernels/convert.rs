//! Conversions between element types: bytes of images, f32, f64, i32, and the narrow floats bf16 and f16 as
//! their 16 bits.
//!
//! Every result is rounded once to the nearest number, ties to even, subnormal numbers included, and is the
//! same on every instruction set. Numbers too large for the narrower type become infinite; infinities and
//! signs of zero are kept; NaN becomes a quiet NaN with the leading bits of its payload.

use super::lengths;
use crate::context;
use crate::error::Result;
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::{Kernel, Simd};

/// Elements per parallel chunk.
const CHUNK: usize = 4 * 1024;
/// Measured on one core with AVX2, bf16 there and back by halves: `cargo bench --bench criterion -- convert`.
/// With f16 it is at most 0.35.
const NANOSECONDS_PER_ELEMENT: f64 = 0.2;

/// `y[i] = f(x[i])`. The compiler vectorises the loop for the instruction set of the kernel.
struct Each<'a, A, B, F> {
    x: &'a [A],
    y: &'a mut [B],
    f: F,
}

impl<A: Copy, B, F: Fn(A) -> B> Kernel for Each<'_, A, B, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (&x, y) in self.x.iter().zip(self.y) {
            *y = (self.f)(x);
        }
    }
}

fn each<A: Copy + Sync, B: Send>(
    name: &'static str,
    x: &[A],
    y: &mut [B],
    f: impl Fn(A) -> B + Copy + Sync,
) -> Result<()> {
    let _call = super::call(name);
    lengths!(name, y == x.len());
    let settings = context::settings()?;
    let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
    parallel::for_each(settings, (Rows(x, CHUNK), RowsMut::new(y, CHUNK)), work, |(x, y)| {
        settings.simd.run(Each { x, y, f });
    });
    Ok(())
}

macro_rules! conversions {
    ($(
        $(#[$doc:meta])+
        $name:ident($from:ty => $to:ty $(, $parameter:ident)*) = |$x:ident| $value:expr;
    )+) => { $(
        $(#[$doc])+
        ///
        /// # Errors
        /// [`Error::Shape`](crate::Error::Shape) when the lengths differ.
        pub fn $name(x: &[$from] $(, $parameter: f32)*, y: &mut [$to]) -> Result<()> {
            each(stringify!($name), x, y, #[inline(always)] |$x: $from| $value)
        }
    )+ };
}

conversions! {
    /// `y[i] = x[i]·scale + shift`, both rounded: pixels to numbers, with `scale = 1/255` to \[0, 1\].
    ///
    /// ```
    /// let mut y = [0.0; 2];
    /// gristmill::kernels::convert::u8_to_f32(&[0, 255], 2.0 / 255.0, -1.0, &mut y)?;
    /// assert_eq!(y, [-1.0, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    u8_to_f32(u8 => f32, scale, shift) = |x| f32::from(x) * scale + shift;
    /// Exact.
    f32_to_f64(f32 => f64) = |x| f64::from(x);
    /// The nearest f32.
    f64_to_f32(f64 => f32) = |x| x as f32;
    /// Rounded towards 0, as by PyTorch's `int()`; saturated to the range of i32; NaN becomes 0.
    f32_to_i32(f32 => i32) = |x| x as i32;
    /// The nearest f32.
    i32_to_f32(i32 => f32) = |x| x as f32;
    /// The bits of the nearest bf16: f32 with 7 instead of 23 stored bits of the significand.
    f32_to_bf16(f32 => u16) = |x| to_bf16(x);
    /// The number with these bits as bf16.
    bf16_to_f32(u16 => f32) = |x| from_bf16(x);
    /// The bits of the nearest IEEE binary16; 65520 and above are infinite.
    ///
    /// ```
    /// let mut y = [0; 3];
    /// gristmill::kernels::convert::f32_to_f16(&[1.0, -65504.0, 65520.0], &mut y)?;
    /// assert_eq!(y, [0x3C00, 0xFBFF, 0x7C00]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    f32_to_f16(f32 => u16) = |x| to_f16(x);
    /// The number with these bits as IEEE binary16.
    f16_to_f32(u16 => f32) = |x| from_f16(x);
}

/// The magnitude bits of f32's infinity; above are NaN.
const INFINITY: u32 = 0x7F80_0000;
const QUIET: u32 = 0x0040_0000;

#[inline(always)]
fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    // Adds half a unit of the result, less one bit if the result is even: ties to even. A carry into the
    // exponent is right.
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1));
    let kept = if bits & !(1 << 31) > INFINITY { bits | QUIET } else { rounded };
    (kept >> 16) as u16
}

#[inline(always)]
fn from_bf16(x: u16) -> f32 {
    quiet(u32::from(x) << 16)
}

#[inline(always)]
fn quiet(bits: u32) -> f32 {
    f32::from_bits(if bits & !(1 << 31) > INFINITY { bits | QUIET } else { bits })
}

#[inline(always)]
fn to_f16(x: f32) -> u16 {
    let (bits, size) = (x.to_bits(), x.to_bits() & !(1 << 31));
    // Exponents differ by 112.
    let normal = (size.wrapping_add(0x0FFF + (size >> 13 & 1)).wrapping_sub(112 << 23)) >> 13;
    // The distance between numbers near 1/2 is that between f16's subnormal numbers, so that the sum is
    // rounded to it.
    let subnormal = (f32::from_bits(size) + 0.5).to_bits().wrapping_sub(0.5_f32.to_bits());
    let nan = (size >> 13 & 0x3FF) | 0x7E00;
    let finite = if size < 113 << 23 { subnormal } else { normal.min(0x7C00) };
    let magnitude = if size > INFINITY { nan } else { finite };
    (magnitude | bits >> 16 & 0x8000) as u16
}

#[inline(always)]
fn from_f16(x: u16) -> f32 {
    let (sign, size) = (u32::from(x & 0x8000) << 16, u32::from(x & 0x7FFF) << 13);
    // Times 2¹¹², exact also for numbers that are subnormal in f16.
    let scaled = (f32::from_bits(size) * f32::from_bits((127 + 112) << 23)).to_bits();
    let special = size | INFINITY;
    quiet(sign | if size >= 0x7C00 << 13 { special } else { scaled })
}
