//! Any CPU: the virtual register is `wide`'s 64-byte vector, built from what the compiler's target offers.
//!
//! Where the target has no fused multiply-add (plain x86-64), `mul_add` rounds twice.

#![allow(clippy::needless_range_loop, reason = "a loop is compiled faster than an array mapped by a closure")]

use wide::{f32x16, f64x8, i32x16, u32x16, u64x8};

use super::{Float, Int, Isa, Kernel, Mask, RegisterFile, Simd, operators};

/// Needs nothing from the CPU beyond the compiler's target.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

impl Portable {
    /// The token.
    #[inline]
    pub const fn new() -> Option<Self> {
        Some(Self)
    }
}

impl Simd for Portable {
    const ISA: Isa = Isa::Portable;
    /// Nominal: as the target may have AVX. With narrower registers the compiler keeps some accumulators in
    /// memory.
    const FILE: RegisterFile = RegisterFile { count: 16, parts: 2, mask: 0, masked_loads: false };
    type F32 = F32;
    type F64 = F64;
    type U32 = U32;
    type U64 = U64;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        fn trampoline<K: Kernel>(s: Portable, kernel: K) -> K::Output {
            kernel.run(s)
        }
        trampoline(self, kernel)
    }

    #[inline(always)]
    fn widen(self, x: F32) -> (F64, F64) {
        let x = x.0.to_array();
        let (mut first, mut second) = ([0.0; 8], [0.0; 8]);
        for i in 0..8 {
            first[i] = x[i].into();
            second[i] = x[8 + i].into();
        }
        (F64(f64x8::new(first)), F64(f64x8::new(second)))
    }

    #[inline(always)]
    fn narrow(self, first: F64, second: F64) -> F32 {
        let (first, second) = (first.0.to_array(), second.0.to_array());
        let mut x = [0.0; 16];
        for i in 0..8 {
            x[i] = first[i] as f32;
            x[8 + i] = second[i] as f32;
        }
        F32(f32x16::new(x))
    }

    /// Where this set is but what CPUs without another one fall back to, what it takes to compile counts for
    /// more than a call.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[inline(always)]
    fn part<A, R>(self, x: A, f: impl FnOnce(A) -> R) -> R {
        #[inline(never)]
        fn outlined<A, R>(x: A, f: impl FnOnce(A) -> R) -> R {
            f(x)
        }
        outlined(x, f)
    }
}

/// 16 × f32.
#[derive(Clone, Copy, Debug)]
pub struct F32(f32x16);
/// 8 × f64.
#[derive(Clone, Copy, Debug)]
pub struct F64(f64x8);
/// 16 × u32.
#[derive(Clone, Copy, Debug)]
pub struct U32(u32x16);
/// 8 × u64.
#[derive(Clone, Copy, Debug)]
pub struct U64(u64x8);
/// 16 truth values, all bits of a lane alike.
#[derive(Clone, Copy, Debug)]
pub struct M32(u32x16);
/// 8 truth values, all bits of a lane alike.
#[derive(Clone, Copy, Debug)]
pub struct M64(u64x8);

operators!(F32, |a, b| Add add Self(a.0 + b.0), Sub sub Self(a.0 - b.0), Mul mul Self(a.0 * b.0), Div div Self(a.0 / b.0));
operators!(F64, |a, b| Add add Self(a.0 + b.0), Sub sub Self(a.0 - b.0), Mul mul Self(a.0 * b.0), Div div Self(a.0 / b.0));
operators!(U32, |a, b| Add add Self(a.0 + b.0), Sub sub Self(a.0 - b.0));
operators!(U64, |a, b| Add add Self(a.0 + b.0), Sub sub Self(a.0 - b.0));

/// 1.5 · 2⁵²: added to a double below 2⁵¹ in magnitude, it leaves the nearest integer in the low bits.
const MAGIC: f64 = 6755399441055744.0;

macro_rules! float {
    ($vector:ident, $wide:ident, $bits:ident, $wide_bits:ident, $mask:ident, $scalar:ident, $lanes:literal,
     $to_int:expr, $from_int:expr) => {
        impl std::ops::Neg for $vector {
            type Output = Self;
            #[inline(always)]
            fn neg(self) -> Self {
                Self::from_bits(self.to_bits().xor($bits($wide_bits::splat((-0.0 as $scalar).to_bits()))))
            }
        }

        impl $vector {
            /// The fixed tree: lanes i and i + n/2, then i and i + n/4, …
            #[inline(always)]
            fn reduce(self, op: impl Fn($scalar, $scalar) -> $scalar) -> $scalar {
                let mut lanes = self.0.to_array();
                let mut half = $lanes / 2;
                while half > 0 {
                    for i in 0..half {
                        lanes[i] = op(lanes[i], lanes[i + half]);
                    }
                    half /= 2;
                }
                lanes[0]
            }
        }

        impl Float<Portable> for $vector {
            type Scalar = $scalar;
            type Bits = $bits;
            type Mask = $mask;

            #[inline(always)]
            fn splat(_: Portable, x: $scalar) -> Self {
                Self($wide::splat(x))
            }
            #[inline(always)]
            unsafe fn load_ptr(_: Portable, from: *const $scalar) -> Self {
                // SAFETY: the caller's promise; an array has the alignment of its element.
                Self($wide::new(unsafe { *from.cast() }))
            }
            #[inline(always)]
            unsafe fn load_ptr_partial(_: Portable, from: *const $scalar, count: usize) -> Self {
                let mut lanes = [0.0; $lanes];
                // SAFETY: the caller's promise.
                lanes[..count].copy_from_slice(unsafe { std::slice::from_raw_parts(from, count) });
                Self($wide::new(lanes))
            }
            #[inline(always)]
            unsafe fn store_ptr(self, to: *mut $scalar) {
                // SAFETY: the caller's promise; an array has the alignment of its element.
                unsafe { *to.cast() = self.0.to_array() }
            }
            #[inline(always)]
            unsafe fn store_ptr_partial(self, to: *mut $scalar, count: usize) {
                // SAFETY: the caller's promise.
                let to = unsafe { std::slice::from_raw_parts_mut(to, count) };
                to.copy_from_slice(&self.0.to_array()[..count]);
            }
            #[inline(always)]
            unsafe fn transpose_ptr(
                _: Portable,
                from: *const $scalar,
                stride: usize,
                rows: usize,
                to: *mut $scalar,
                to_stride: usize,
            ) {
                for i in 0..$lanes {
                    for j in 0..$lanes {
                        // SAFETY: the caller's promise.
                        unsafe { *to.add(j * to_stride + i) = *from.add(i.min(rows - 1) * stride + j) };
                    }
                }
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                Self(self.0.mul_add(a.0, b.0))
            }
            #[inline(always)]
            fn mul_sub(self, a: Self, b: Self) -> Self {
                Self(self.0.mul_add(a.0, (-b).0))
            }
            #[inline(always)]
            fn neg_mul_add(self, a: Self, b: Self) -> Self {
                Self((-self).0.mul_add(a.0, b.0))
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                Self::select(self.lt(other), self, other)
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                Self::select(other.lt(self), self, other)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                Self::from_bits(self.to_bits().and($bits($wide_bits::splat(!(-0.0 as $scalar).to_bits()))))
            }
            #[inline(always)]
            fn copysign(self, sign: Self) -> Self {
                let bit = $bits($wide_bits::splat((-0.0 as $scalar).to_bits()));
                Self::from_bits(self.abs().to_bits().or(sign.to_bits().and(bit)))
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                Self(self.0.sqrt())
            }
            #[inline(always)]
            fn floor(self) -> Self {
                let mut lanes = self.0.to_array();
                for lane in &mut lanes {
                    *lane = lane.floor();
                }
                Self($wide::new(lanes))
            }
            #[inline(always)]
            fn ceil(self) -> Self {
                let mut lanes = self.0.to_array();
                for lane in &mut lanes {
                    *lane = lane.ceil();
                }
                Self($wide::new(lanes))
            }
            #[inline(always)]
            fn round_ties_even(self) -> Self {
                let mut lanes = self.0.to_array();
                for lane in &mut lanes {
                    *lane = lane.round_ties_even();
                }
                Self($wide::new(lanes))
            }
            #[inline(always)]
            fn eq(self, other: Self) -> $mask {
                $mask($vector(self.0.simd_eq(other.0)).to_bits().0)
            }
            #[inline(always)]
            fn lt(self, other: Self) -> $mask {
                $mask($vector(self.0.simd_lt(other.0)).to_bits().0)
            }
            #[inline(always)]
            fn le(self, other: Self) -> $mask {
                $mask($vector(self.0.simd_le(other.0)).to_bits().0)
            }
            #[inline(always)]
            fn is_nan(self) -> $mask {
                Float::eq(self, self).not()
            }
            #[inline(always)]
            fn select(mask: $mask, if_true: Self, if_false: Self) -> Self {
                Self::from_bits(Int::select(mask, if_true.to_bits(), if_false.to_bits()))
            }
            #[inline(always)]
            fn to_bits(self) -> $bits {
                // SAFETY: as many plain numbers of the same width. (An array mapped lane by lane is a loop,
                // which the optimiser sees through slowly and not always.)
                $bits(unsafe { std::mem::transmute::<$wide, $wide_bits>(self.0) })
            }
            #[inline(always)]
            fn from_bits(bits: $bits) -> Self {
                // SAFETY: as many plain numbers of the same width.
                Self(unsafe { std::mem::transmute::<$wide_bits, $wide>(bits.0) })
            }
            #[inline(always)]
            fn to_int(self) -> $bits {
                let convert: fn($vector) -> $bits = $to_int;
                convert(self)
            }
            #[inline(always)]
            fn from_int(int: $bits) -> Self {
                let convert: fn($bits) -> $vector = $from_int;
                convert(int)
            }
            #[inline(always)]
            fn reduce_add(self) -> $scalar {
                self.reduce(|a, b| a + b)
            }
            #[inline(always)]
            fn reduce_min(self) -> $scalar {
                self.reduce(|a, b| if a < b { a } else { b })
            }
            #[inline(always)]
            fn reduce_max(self) -> $scalar {
                self.reduce(|a, b| if a > b { a } else { b })
            }
        }
    };
}
float!(
    F32,
    f32x16,
    U32,
    u32x16,
    M32,
    f32,
    16,
    // SAFETY: as many plain integers of the same width.
    |x| U32(unsafe { std::mem::transmute::<i32x16, u32x16>(x.0.fast_round_int()) }),
    // SAFETY: as above.
    |int| F32(f32x16::from_i32x16(unsafe { std::mem::transmute::<u32x16, i32x16>(int.0) }))
);
float!(
    F64,
    f64x8,
    U64,
    u64x8,
    M64,
    f64,
    8,
    |x| U64(F64(x.0 + f64x8::splat(MAGIC)).to_bits().0 - u64x8::splat(MAGIC.to_bits())),
    |int| F64(F64::from_bits(U64(int.0 + u64x8::splat(MAGIC.to_bits()))).0 - f64x8::splat(MAGIC))
);

macro_rules! int {
    ($vector:ident, $wide:ident, $mask:ident, $scalar:ident, $signed:ident, $lanes:literal, $mul_wide:expr) => {
        impl Int<Portable> for $vector {
            type Scalar = $scalar;
            type Mask = $mask;
            #[inline(always)]
            fn splat(_: Portable, x: $scalar) -> Self {
                Self($wide::splat(x))
            }
            #[inline(always)]
            fn iota(_: Portable) -> Self {
                let mut lanes = [0; $lanes];
                for i in 0..$lanes {
                    lanes[i] = i as $scalar;
                }
                Self($wide::new(lanes))
            }
            #[inline(always)]
            unsafe fn load_ptr(_: Portable, from: *const $scalar) -> Self {
                // SAFETY: the caller's promise; an array has the alignment of its element.
                Self($wide::new(unsafe { *from.cast() }))
            }
            #[inline(always)]
            unsafe fn store_ptr(self, to: *mut $scalar) {
                // SAFETY: the caller's promise; an array has the alignment of its element.
                unsafe { *to.cast() = self.0.to_array() }
            }
            #[inline(always)]
            fn and(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }
            #[inline(always)]
            fn or(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
            #[inline(always)]
            fn xor(self, other: Self) -> Self {
                Self(self.0 ^ other.0)
            }
            #[inline(always)]
            fn shl(self, count: u32) -> Self {
                Self(self.0.unbounded_shl_scalar(count))
            }
            #[inline(always)]
            fn shr(self, count: u32) -> Self {
                Self(self.0.unbounded_shr_scalar(count))
            }
            #[inline(always)]
            fn sar(self, count: u32) -> Self {
                let mut lanes = self.0.to_array();
                for lane in &mut lanes {
                    *lane = (*lane as $signed >> count) as $scalar;
                }
                Self($wide::new(lanes))
            }
            #[inline(always)]
            fn eq(self, other: Self) -> $mask {
                $mask(self.0.simd_eq(other.0))
            }
            #[inline(always)]
            fn lt(self, other: Self) -> $mask {
                $mask(self.0.simd_lt(other.0))
            }
            #[inline(always)]
            fn select(mask: $mask, if_true: Self, if_false: Self) -> Self {
                Self(mask.0.bitselect(if_true.0, if_false.0))
            }
            #[inline(always)]
            fn mul_wide(self, other: Self) -> (Self, Self) {
                let (mut low, mut high) = (self.0.to_array(), other.0.to_array());
                let product: fn($scalar, $scalar) -> ($scalar, $scalar) = $mul_wide;
                for i in 0..$lanes {
                    (low[i], high[i]) = product(low[i], high[i]);
                }
                (Self($wide::new(low)), Self($wide::new(high)))
            }
        }

        impl Mask<Portable> for $mask {
            #[inline(always)]
            fn from_bits(_: Portable, bits: u32) -> Self {
                let mut lanes = [0; $lanes];
                for i in 0..$lanes {
                    lanes[i] = if bits >> i & 1 == 1 { $scalar::MAX } else { 0 };
                }
                Self($wide::new(lanes))
            }
            #[inline(always)]
            fn to_bits(self) -> u32 {
                self.0.to_bitmask()
            }
            #[inline(always)]
            fn and(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }
            #[inline(always)]
            fn or(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
            #[inline(always)]
            fn not(self) -> Self {
                Self(self.0 ^ $wide::splat($scalar::MAX))
            }
        }
    };
}
int!(U32, u32x16, M32, u32, i32, 16, |a, b| {
    let product = u64::from(a) * u64::from(b);
    (product as u32, (product >> 32) as u32)
});
int!(U64, u64x8, M64, u64, i64, 8, |a, b| ((a & 0xFFFF_FFFF) * (b & 0xFFFF_FFFF), 0));
