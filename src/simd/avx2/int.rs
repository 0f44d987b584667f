//! Integers and masks of AVX2.

use std::arch::x86_64::*;

use super::{Avx2, Int, M32, M64, Mask, U32, U64, first_of_8, first_of_16};

/// The low and the high half of each 32-bit product.
#[inline]
#[target_feature(enable = "avx2")]
fn mul_wide_256(x: __m256i, y: __m256i) -> (__m256i, __m256i) {
    let even = _mm256_mul_epu32(x, y);
    let odd = _mm256_mul_epu32(_mm256_srli_epi64::<32>(x), _mm256_srli_epi64::<32>(y));
    let low = _mm256_blend_epi32::<0b10101010>(even, _mm256_slli_epi64::<32>(odd));
    let high = _mm256_blend_epi32::<0b10101010>(_mm256_srli_epi64::<32>(even), odd);
    (low, high)
}

/// What `U32` and `U64` share.
macro_rules! int {
    ($scalar:ident, $mask:ident, $half:literal, $splat:ident as $signed:ident) => {
        type Scalar = $scalar;
        type Mask = $mask;
        #[inline(always)]
        fn splat(_: Avx2, x: $scalar) -> Self {
            // SAFETY: the token is proof of AVX2.
            unsafe { Self($splat(x as $signed), $splat(x as $signed)) }
        }
        #[inline(always)]
        unsafe fn load_ptr(_: Avx2, from: *const $scalar) -> Self {
            // SAFETY: the caller's promise; the token is proof of AVX2.
            unsafe { Self(_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add($half).cast())) }
        }
        #[inline(always)]
        unsafe fn store_ptr(self, to: *mut $scalar) {
            // SAFETY: the caller's promise; this vector is proof of AVX2.
            unsafe {
                _mm256_storeu_si256(to.cast(), self.0);
                _mm256_storeu_si256(to.add($half).cast(), self.1);
            }
        }
        #[inline(always)]
        fn select(mask: $mask, if_true: Self, if_false: Self) -> Self {
            // SAFETY: the vectors are proof of AVX2.
            unsafe {
                Self(
                    _mm256_blendv_epi8(if_false.0, if_true.0, mask.0),
                    _mm256_blendv_epi8(if_false.1, if_true.1, mask.1),
                )
            }
        }
        binary! {
            and -> Self = |x, y| _mm256_and_si256(x, y);
            or -> Self = |x, y| _mm256_or_si256(x, y);
            xor -> Self = |x, y| _mm256_xor_si256(x, y);
        }
    };
}

/// A shift of both halves by the same count.
macro_rules! shifts {
    ($($name:ident = $intrinsic:ident;)+) => { $(
        #[inline(always)]
        fn $name(self, count: u32) -> Self {
            // SAFETY: this vector is proof of AVX2.
            unsafe {
                let count = _mm_cvtsi32_si128(count as i32);
                Self($intrinsic(self.0, count), $intrinsic(self.1, count))
            }
        }
    )+ };
}

impl Int<Avx2> for U32 {
    int!(u32, M32, 8, _mm256_set1_epi32 as i32);
    shifts! {
        shl = _mm256_sll_epi32;
        shr = _mm256_srl_epi32;
        sar = _mm256_sra_epi32;
    }
    binary! {
        eq -> M32 = |x, y| _mm256_cmpeq_epi32(x, y);
        lt -> M32 = |x, y| {
            let flip = _mm256_set1_epi32(i32::MIN);
            _mm256_cmpgt_epi32(_mm256_xor_si256(y, flip), _mm256_xor_si256(x, flip))
        };
    }
    #[inline(always)]
    fn iota(_: Avx2) -> Self {
        // SAFETY: the token is proof of AVX2.
        unsafe {
            Self(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15))
        }
    }
    #[inline(always)]
    fn mul_wide(self, other: Self) -> (Self, Self) {
        // SAFETY: this vector is proof of AVX2.
        let (first, second) = unsafe { (mul_wide_256(self.0, other.0), mul_wide_256(self.1, other.1)) };
        (Self(first.0, second.0), Self(first.1, second.1))
    }
}

impl Int<Avx2> for U64 {
    int!(u64, M64, 4, _mm256_set1_epi64x as i64);
    shifts! {
        shl = _mm256_sll_epi64;
        shr = _mm256_srl_epi64;
    }
    binary! {
        eq -> M64 = |x, y| _mm256_cmpeq_epi64(x, y);
        lt -> M64 = |x, y| {
            let flip = _mm256_set1_epi64x(i64::MIN);
            _mm256_cmpgt_epi64(_mm256_xor_si256(y, flip), _mm256_xor_si256(x, flip))
        };
    }
    #[inline(always)]
    fn iota(_: Avx2) -> Self {
        // SAFETY: the token is proof of AVX2.
        unsafe { Self(_mm256_setr_epi64x(0, 1, 2, 3), _mm256_setr_epi64x(4, 5, 6, 7)) }
    }
    #[inline(always)]
    fn sar(self, count: u32) -> Self {
        // SAFETY: this vector is proof of AVX2.
        let sign = unsafe {
            let zero = _mm256_setzero_si256();
            Self(_mm256_cmpgt_epi64(zero, self.0), _mm256_cmpgt_epi64(zero, self.1))
        };
        self.shr(count).or(sign.shl(64 - count))
    }
    #[inline(always)]
    fn mul_wide(self, other: Self) -> (Self, Self) {
        // SAFETY: this vector is proof of AVX2.
        unsafe {
            let low = Self(_mm256_mul_epu32(self.0, other.0), _mm256_mul_epu32(self.1, other.1));
            (low, Self(_mm256_setzero_si256(), _mm256_setzero_si256()))
        }
    }
}

macro_rules! mask {
    ($mask:ident, $first:ident, $splat:ident, $equal:ident, $movemask:ident, $cast:ident, $half:literal, $low:expr, $high:expr) => {
        impl Mask<Avx2> for $mask {
            #[inline(always)]
            fn from_bits(_: Avx2, bits: u32) -> Self {
                // SAFETY: the token is proof of AVX2.
                unsafe {
                    let bits = $splat(bits as _);
                    Self(
                        $equal(_mm256_and_si256(bits, $low), $low),
                        $equal(_mm256_and_si256(bits, $high), $high),
                    )
                }
            }
            #[inline(always)]
            fn to_bits(self) -> u32 {
                // SAFETY: the mask is proof of AVX2.
                unsafe {
                    let (low, high) = ($movemask($cast(self.0)) as u32, $movemask($cast(self.1)) as u32);
                    low | high << $half
                }
            }
            #[inline(always)]
            fn first(_: Avx2, count: usize) -> Self {
                // SAFETY: the token is proof of AVX2.
                unsafe { $first(count) }
            }
            binary! {
                and -> Self = |x, y| _mm256_and_si256(x, y);
                or -> Self = |x, y| _mm256_or_si256(x, y);
            }
            unary! {
                not = |x| _mm256_xor_si256(x, _mm256_set1_epi32(-1));
            }
        }
    };
}
mask!(
    M32,
    first_of_16,
    _mm256_set1_epi32,
    _mm256_cmpeq_epi32,
    _mm256_movemask_ps,
    _mm256_castsi256_ps,
    8,
    _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128),
    _mm256_setr_epi32(1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15)
);
mask!(
    M64,
    first_of_8,
    _mm256_set1_epi64x,
    _mm256_cmpeq_epi64,
    _mm256_movemask_pd,
    _mm256_castsi256_pd,
    4,
    _mm256_setr_epi64x(1, 2, 4, 8),
    _mm256_setr_epi64x(16, 32, 64, 128)
);
