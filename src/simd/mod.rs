//! One virtual register of 64 bytes on every instruction set, and the choice of the set at run time.
//!
//! A kernel is a struct that implements [`Kernel`]: it is written once, generic over [`Simd`] and over the
//! element type, and [`Dispatcher::run`] compiles it once per instruction set and calls the right copy.
//!
//! The tokens [`Portable`], [`Avx2`] and so on are witnesses: one can only be had when the CPU supports
//! the instructions, every vector is made from a token, and so every operation on a vector is safe to call.
//!
//! Everything below a kernel's `run` must be `#[inline(always)]`: only then is it compiled with the
//! instructions that the trampoline turns on.
//!
//! ```
//! use gristmill::simd::{Dispatcher, Float, Kernel, Simd};
//!
//! /// y ← a·x + y
//! struct Axpy<'a>(f32, &'a [f32], &'a mut [f32]);
//!
//! impl Kernel for Axpy<'_> {
//!     type Output = ();
//!     #[inline(always)]
//!     fn run<S: Simd>(self, s: S) {
//!         let a = s.splat(self.0);
//!         let lanes = s.lanes::<f32>();
//!         for (x, y) in self.1.chunks(lanes).zip(self.2.chunks_mut(lanes)) {
//!             let sum = a.mul_add(s.load_partial(x), s.load_partial(y));
//!             s.store_partial(sum, y);
//!         }
//!     }
//! }
//!
//! let mut y = [1.0; 20];
//! Dispatcher::widest().run(Axpy(2.0, &[3.0; 20], &mut y));
//! assert_eq!(y, [7.0; 20]);
//! ```

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod columns;
mod element;
pub(crate) mod environment;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;
mod portable;
mod registers;
mod sets;
pub(crate) mod slices;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::fmt;
use std::mem::MaybeUninit;
use std::ops::{Add, Div, Mul, Neg, Sub};

pub use element::Element;
pub(crate) use element::{is, smallest_normal};
pub use registers::RegisterFile;

sets::instruction_sets! {
    /// What the compiler's target offers, through the crate `wide`: SSE2, NEON, wasm SIMD128.
    Portable "portable" in portable, cfg(true),
        fused: cfg!(any(target_arch = "aarch64", target_feature = "fma"));
    /// 64-bit ARM with NEON, which has fused multiply-add.
    Neon "neon" in neon, cfg(all(target_arch = "aarch64", target_endian = "little")), fused: true;
    /// x86-64 with AVX2 and FMA.
    Avx2 "avx2" in avx2, cfg(target_arch = "x86_64"), fused: true;
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512 "avx512" in avx512, cfg(target_arch = "x86_64"), fused: true;
}

/// Asks for the memory of `x` to be brought into the cache, without waiting for it; does nothing off x86-64
/// and in Miri.
#[cfg(feature = "train")]
#[inline]
pub(crate) fn prefetch(x: &[u8]) {
    if cfg!(all(target_arch = "x86_64", not(miri))) {
        for line in x.chunks(64) {
            prefetch_line::<u8, false>(line.as_ptr());
        }
    }
}

/// Asks for a line to be brought into the first-level cache, or if `FAR` the second.
#[inline(always)]
#[cfg_attr(any(miri, not(target_arch = "x86_64")), allow(unused_variables))]
fn prefetch_line<T, const FAR: bool>(line: *const T) {
    // SAFETY: SSE is part of x86-64, and a hint reads nothing.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        if FAR { _mm_prefetch::<_MM_HINT_T1>(line.cast()) } else { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
    }
}

/// A computation written once for all instruction sets.
pub trait Kernel {
    /// What it returns.
    type Output;

    /// The computation; must be `#[inline(always)]`, with everything that it calls on vectors.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// An instruction set, as a zero-sized value that exists only where the CPU has it.
pub trait Simd: Copy + fmt::Debug + Send + Sync + Into<Dispatcher> + 'static {
    /// Its name.
    const ISA: Isa;
    /// The registers that its virtual ones are made of.
    const FILE: RegisterFile;
    /// 16 × f32.
    type F32: Float<Self, Scalar = f32, Bits = Self::U32>;
    /// 8 × f64.
    type F64: Float<Self, Scalar = f64, Bits = Self::U64>;
    /// 16 × u32, with the masks of the 16 × f32.
    type U32: Int<Self, Scalar = u32, Mask = <Self::F32 as Float<Self>>::Mask>;
    /// 8 × u64, with the masks of the 8 × f64.
    type U64: Int<Self, Scalar = u64, Mask = <Self::F64 as Float<Self>>::Mask>;

    /// Asks for the line of this address to be brought into the first-level cache, without waiting for it. A
    /// hint: any address will do; nothing happens off x86-64 and in Miri.
    #[inline(always)]
    fn prefetch<T>(self, line: *const T) {
        prefetch_line::<T, false>(line);
    }

    /// The same into the second-level cache, for lines that share one set of the first.
    #[inline(always)]
    fn prefetch_far<T>(self, line: *const T) {
        prefetch_line::<T, true>(line);
    }

    /// Runs the kernel, compiled with these instructions, in a function of its own, also from inside another
    /// kernel.
    fn run<K: Kernel>(self, kernel: K) -> K::Output;

    /// `f(x)`, which the portable set of x86-64 and 64-bit ARM calls as a function of its own: what is long and used in
    /// many places is compiled once there.
    #[inline(always)]
    fn part<A, R>(self, x: A, f: impl FnOnce(A) -> R) -> R {
        f(x)
    }

    /// The lanes as f64, exactly: the first half, and the second.
    fn widen(self, x: Self::F32) -> (Self::F64, Self::F64);

    /// The lanes of both, each rounded to the nearest f32.
    fn narrow(self, first: Self::F64, second: Self::F64) -> Self::F32;

    /// The number of elements in a register.
    #[inline(always)]
    fn lanes<T: Element>(self) -> usize {
        T::LANES
    }

    /// All lanes equal to `x`.
    #[inline(always)]
    fn splat<T: Element>(self, x: T) -> T::Vector<Self> {
        T::Vector::splat(self, x)
    }

    /// The first [`lanes`](Simd::lanes) elements of `from`.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline(always)]
    fn load<T: Element>(self, from: &[T]) -> T::Vector<Self> {
        assert!(from.len() >= T::LANES);
        // SAFETY: `from` holds a whole register.
        unsafe { T::Vector::load_ptr(self, from.as_ptr()) }
    }

    /// The elements of `from`, at most [`lanes`](Simd::lanes) of them; the other lanes are 0. Reads nothing
    /// else.
    #[inline(always)]
    fn load_partial<T: Element>(self, from: &[T]) -> T::Vector<Self> {
        // SAFETY: `from` holds `from.len()` elements; `load_ptr_partial` reads no more than a register.
        unsafe { T::Vector::load_ptr_partial(self, from.as_ptr(), from.len().min(T::LANES)) }
    }

    /// The elements of `from`; the other lanes are `fill`.
    #[inline(always)]
    fn load_partial_or<T: Element>(self, from: &[T], fill: T) -> T::Vector<Self> {
        let mask = <T::Vector<Self> as Float<Self>>::Mask::first(self, from.len().min(T::LANES));
        T::Vector::select(mask, self.load_partial(from), self.splat(fill))
    }

    /// Writes a whole register to the front of `to`.
    ///
    /// # Panics
    /// If `to` is shorter than a register.
    #[inline(always)]
    fn store<T: Element>(self, vector: T::Vector<Self>, to: &mut [T]) {
        assert!(to.len() >= T::LANES);
        // SAFETY: `to` holds a whole register.
        unsafe { vector.store_ptr(to.as_mut_ptr()) }
    }

    /// Writes the first `to.len()` lanes, at most a register. Writes nothing else.
    #[inline(always)]
    fn store_partial<T: Element>(self, vector: T::Vector<Self>, to: &mut [T]) {
        // SAFETY: `to` holds `to.len()` elements; `store_ptr_partial` writes no more than a register.
        unsafe { vector.store_ptr_partial(to.as_mut_ptr(), to.len().min(T::LANES)) }
    }
}

/// A register of floats. Arithmetic is IEEE 754 in each lane, rounded to nearest.
pub trait Float<S: Simd>:
    Copy
    + fmt::Debug
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// The element.
    type Scalar: Copy;
    /// The integers of the same width.
    type Bits: Int<S, Mask = Self::Mask>;
    /// The result of a comparison.
    type Mask: Mask<S>;

    /// All lanes equal to `x`.
    fn splat(s: S, x: Self::Scalar) -> Self;

    /// A whole register from memory of any alignment.
    ///
    /// # Safety
    /// A register's worth of elements can be read at `from`.
    unsafe fn load_ptr(s: S, from: *const Self::Scalar) -> Self;

    /// The first `count` lanes from memory, the others 0; `count` is at most a register's worth.
    ///
    /// # Safety
    /// `count` elements can be read at `from`.
    unsafe fn load_ptr_partial(s: S, from: *const Self::Scalar, count: usize) -> Self;

    /// A whole register to memory of any alignment.
    ///
    /// # Safety
    /// A register's worth of elements can be written at `to`.
    unsafe fn store_ptr(self, to: *mut Self::Scalar);

    /// The first `count` lanes to memory; `count` is at most a register's worth.
    ///
    /// # Safety
    /// `count` elements can be written at `to`.
    unsafe fn store_ptr_partial(self, to: *mut Self::Scalar, count: usize);

    /// Reads `rows` registers, one every `stride` elements, and writes the transpose as a square of
    /// registers, one every `to_stride` elements: `to[j · to_stride + i] = from[i · stride + j]`. Where
    /// `rows` is less than a register's worth, the last row stands for the missing ones.
    ///
    /// # Safety
    /// Each of the registers can be read, and each of a register's worth of registers can be written; `rows`
    /// is not 0.
    unsafe fn transpose_ptr(
        s: S,
        from: *const Self::Scalar,
        stride: usize,
        rows: usize,
        to: *mut Self::Scalar,
        to_stride: usize,
    );

    /// Chains of [`mul_add`](Float::mul_add)s along rows of memory, one for each lane: lane i becomes
    /// `self[i] + factors[0] · from[i · stride] + factors[1] · from[i · stride + 1] + …`, in this order, over
    /// a register's worth of terms. Where `rows` is less than a register's worth, the last row stands for the
    /// missing ones.
    ///
    /// # Safety
    /// A register can be read at `factors` and at the beginning of each of the `rows`, which are not 0.
    #[inline(always)]
    unsafe fn mul_add_square(
        self,
        s: S,
        factors: *const Self::Scalar,
        from: *const Self::Scalar,
        stride: usize,
        rows: usize,
    ) -> Self {
        let lanes = 64 / size_of::<Self::Scalar>();
        let mut square = [const { MaybeUninit::<Self::Scalar>::uninit() }; 256];
        let square = square.as_mut_ptr().cast::<Self::Scalar>();
        let mut sum = self;
        // SAFETY: the caller's promise; the transpose writes a register for each lane.
        unsafe {
            Self::transpose_ptr(s, from, stride, rows, square, lanes);
            for k in 0..lanes {
                sum = Self::splat(s, *factors.add(k)).mul_add(Self::load_ptr(s, square.add(k * lanes)), sum);
            }
        }
        sum
    }

    /// `self · a + b`, rounded once where [`Isa::has_fma`].
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// [`mul_add`](Float::mul_add) in the first half of the lanes; what the others hold is not specified.
    /// Cheaper where a register is a pair.
    #[inline(always)]
    fn mul_add_front(self, a: Self, b: Self) -> Self {
        self.mul_add(a, b)
    }
    /// `self · a − b`, rounded once where [`Isa::has_fma`].
    fn mul_sub(self, a: Self, b: Self) -> Self;
    /// `b − self · a`, rounded once where [`Isa::has_fma`].
    fn neg_mul_add(self, a: Self, b: Self) -> Self;
    /// `if self < other { self } else { other }`: `other` when either is NaN or both are zero.
    fn min(self, other: Self) -> Self;
    /// `if self > other { self } else { other }`: `other` when either is NaN or both are zero.
    fn max(self, other: Self) -> Self;
    /// The sign bit cleared.
    fn abs(self) -> Self;
    /// The magnitude of `self` with the sign bit of `sign`.
    fn copysign(self, sign: Self) -> Self;
    /// The square root, correctly rounded; NaN below zero.
    fn sqrt(self) -> Self;
    /// Rounded towards −∞.
    fn floor(self) -> Self;
    /// Rounded towards +∞.
    fn ceil(self) -> Self;
    /// Rounded to the nearest integer, halves to the even one.
    fn round_ties_even(self) -> Self;

    /// `self == other`; false with NaN.
    fn eq(self, other: Self) -> Self::Mask;
    /// `self < other`; false with NaN.
    fn lt(self, other: Self) -> Self::Mask;
    /// `self <= other`; false with NaN.
    fn le(self, other: Self) -> Self::Mask;
    /// Whether a lane is NaN.
    fn is_nan(self) -> Self::Mask;
    /// `if_true` where the mask is set, else `if_false`.
    fn select(mask: Self::Mask, if_true: Self, if_false: Self) -> Self;

    /// The same bits as integers.
    fn to_bits(self) -> Self::Bits;
    /// The same bits as floats.
    fn from_bits(bits: Self::Bits) -> Self;
    /// The nearest signed integer, halves to the even one; for magnitudes below 2³¹ (f32) or 2⁵¹ (f64).
    fn to_int(self) -> Self::Bits;
    /// The nearest float to a signed integer; for magnitudes below 2³¹ (f32) or 2⁵¹ (f64).
    fn from_int(int: Self::Bits) -> Self;

    /// `self · 2ⁿ` of a whole n, rounded once, where an instruction does that.
    #[inline(always)]
    fn scaled(self, _n: Self) -> Option<Self> {
        None
    }
    /// `(k, m)` with self = 2ᵏ·m and ¾ ≤ m < 1½, of positive finite lanes, where instructions do that.
    #[inline(always)]
    fn exponent_and_mantissa(self) -> Option<(Self, Self)> {
        None
    }
    /// What a logarithm of `self` is, where an instruction chooses: `value` of positive finite lanes, −∞ of
    /// zeros, +∞ of +∞, else NaN.
    #[inline(always)]
    fn logarithm_or(self, _value: Self) -> Option<Self> {
        None
    }

    /// The sum in a fixed tree: lanes i and i + n/2, then i and i + n/4, …
    fn reduce_add(self) -> Self::Scalar;
    /// [`min`](Float::min) over the same tree.
    fn reduce_min(self) -> Self::Scalar;
    /// [`max`](Float::max) over the same tree.
    fn reduce_max(self) -> Self::Scalar;

    /// The smaller; NaN if either is NaN.
    #[inline(always)]
    fn minimum(self, other: Self) -> Self {
        Self::select(self.is_nan(), self, self.min(other))
    }

    /// The larger; NaN if either is NaN.
    #[inline(always)]
    fn maximum(self, other: Self) -> Self {
        Self::select(self.is_nan(), self, self.max(other))
    }
}

/// A register of unsigned integers; arithmetic wraps around.
pub trait Int<S: Simd>: Copy + fmt::Debug + Send + Sync + Add<Output = Self> + Sub<Output = Self> {
    /// The element.
    type Scalar: Copy;
    /// The result of a comparison.
    type Mask: Mask<S>;

    /// All lanes equal to `x`.
    fn splat(s: S, x: Self::Scalar) -> Self;
    /// 0, 1, 2, …
    fn iota(s: S) -> Self;
    /// A whole register from memory of any alignment.
    ///
    /// # Safety
    /// A register's worth of elements can be read at `from`.
    unsafe fn load_ptr(s: S, from: *const Self::Scalar) -> Self;
    /// A whole register to memory of any alignment.
    ///
    /// # Safety
    /// A register's worth of elements can be written at `to`.
    unsafe fn store_ptr(self, to: *mut Self::Scalar);
    /// Bitwise and.
    fn and(self, other: Self) -> Self;
    /// Bitwise or.
    fn or(self, other: Self) -> Self;
    /// Bitwise exclusive or.
    fn xor(self, other: Self) -> Self;
    /// Shifted left by `count` bits, fewer than the width.
    fn shl(self, count: u32) -> Self;
    /// Shifted right by `count` bits, fewer than the width, filled with zeros.
    fn shr(self, count: u32) -> Self;
    /// Shifted right by `count` bits, at least 1 and fewer than the width, filled with the sign bit.
    fn sar(self, count: u32) -> Self;
    /// `self == other`.
    fn eq(self, other: Self) -> Self::Mask;
    /// `self < other`, both unsigned.
    fn lt(self, other: Self) -> Self::Mask;
    /// `if_true` where the mask is set, else `if_false`.
    fn select(mask: Self::Mask, if_true: Self, if_false: Self) -> Self;
    /// The low and the high half of each 32-bit product; of 64-bit lanes, the products of their low 32 bits,
    /// and 0.
    fn mul_wide(self, other: Self) -> (Self, Self);
}

/// One truth value per lane.
pub trait Mask<S: Simd>: Copy + fmt::Debug + Send + Sync {
    /// Lane i from bit i.
    fn from_bits(s: S, bits: u32) -> Self;
    /// Bit i from lane i; the other bits are 0.
    fn to_bits(self) -> u32;
    /// Both.
    fn and(self, other: Self) -> Self;
    /// Either.
    fn or(self, other: Self) -> Self;
    /// Exactly the others.
    fn not(self) -> Self;

    /// The first `count` lanes.
    #[inline(always)]
    fn first(s: S, count: usize) -> Self {
        debug_assert!(count <= 16);
        Self::from_bits(s, (1 << count) - 1)
    }

    /// Whether any lane is set.
    #[inline(always)]
    fn any(self) -> bool {
        self.to_bits() != 0
    }
}

/// The operators of a vector type, by their intrinsics.
macro_rules! operators {
    ($vector:ty, |$a:ident, $b:ident| $($trait:ident $method:ident $value:expr),+) => { $(
        impl std::ops::$trait for $vector {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                let ($a, $b) = (self, other);
                // SAFETY: a vector is proof of its instruction set.
                #[allow(unused_unsafe)]
                unsafe {
                    $value
                }
            }
        }
    )+ };
}
pub(crate) use operators;
