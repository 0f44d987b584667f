//! Numbers as bytes in files.

use super::{Shape, Tensor};
use crate::error::Result;
use crate::simd::environment::{self, Environment};
use crate::simd::{self, Element};

/// The encoding of a number in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    F16,
    BF16,
    F32,
    F64,
    /// With this number of bytes.
    Signed(usize),
    Unsigned(usize),
    /// One byte; 0 is false.
    Bool,
}

impl Encoding {
    /// The format of the elements themselves.
    pub fn of<T: Element>() -> Self {
        if simd::is::<T, f32>() { Encoding::F32 } else { Encoding::F64 }
    }

    /// The number of bytes per number.
    pub fn width(self) -> usize {
        match self {
            Encoding::Bool => 1,
            Encoding::F16 | Encoding::BF16 => 2,
            Encoding::F32 => 4,
            Encoding::F64 => 8,
            Encoding::Signed(width) | Encoding::Unsigned(width) => width,
        }
    }

    /// Decodes the number in the low bytes of `bits`.
    fn number(self, bits: u64) -> f64 {
        match self {
            Encoding::F16 => half(bits as u16),
            Encoding::BF16 => f32::from_bits((bits as u32) << 16).into(),
            Encoding::F32 => f32::from_bits(bits as u32).into(),
            Encoding::F64 => f64::from_bits(bits),
            Encoding::Signed(width) => {
                let shift = 64 - 8 * width as u32;
                ((bits << shift) as i64 >> shift) as f64
            }
            Encoding::Unsigned(_) => bits as f64,
            Encoding::Bool => f64::from(u8::from(bits != 0)),
        }
    }

    /// A tensor of the numbers in `bytes`, as many as its shape has, each rounded to the nearest number of
    /// its type.
    pub fn decode<T: Element>(self, bytes: &[u8], big_endian: bool, shape: Shape) -> Result<Tensor<T>> {
        debug_assert_eq!(bytes.len(), shape.elements() * self.width());
        let number = |bits| T::from_f64(self.number(bits));
        let read = |data: &mut [T]| {
            for (x, bytes) in data.iter_mut().zip(bytes.chunks_exact(self.width())) {
                let mut low = [0; 8];
                low[..bytes.len()].copy_from_slice(bytes);
                if big_endian {
                    low[..bytes.len()].reverse();
                }
                *x = number(u64::from_le_bytes(low));
            }
        };
        // Numbers in a file are not flushed.
        Tensor::build(shape, |data| {
            environment::within(Environment::KEEP, || read(data));
            Ok(())
        })
    }
}

/// Decodes an IEEE half-precision number.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1F), f64::from(bits & 0x3FF));
    let size = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -size } else { size }
}

/// The numbers row by row, little-endian.
pub(crate) fn encode<T: Element>(tensor: &Tensor<T>) -> Vec<u8> {
    let compact = tensor.compact();
    let mut bytes = Vec::with_capacity(compact.len() * size_of::<T>());
    for x in compact.data() {
        // An f32 is converted to f64 and back unchanged.
        match Encoding::of::<T>() {
            Encoding::F32 => bytes.extend((x.to_f64() as f32).to_le_bytes()),
            _ => bytes.extend(x.to_f64().to_le_bytes()),
        }
    }
    bytes
}
