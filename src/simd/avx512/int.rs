//! Integers and masks of AVX-512.

use std::arch::x86_64::*;

use super::{Avx512, Int, M32, M64, Mask, U32, U64};

/// What `U32` and `U64` share but for the names of the intrinsics.
macro_rules! int {
    ($scalar:ident as $signed:ident, $mask:ident, $splat:ident, $select:ident, $eq:ident, $lt:ident,
     $($shift:ident = $intrinsic:ident),+) => {
        type Scalar = $scalar;
        type Mask = $mask;
        #[inline(always)]
        fn splat(_: Avx512, x: $scalar) -> Self {
            // SAFETY: the token is proof of AVX-512.
            unsafe { Self($splat(x as $signed)) }
        }
        #[inline(always)]
        unsafe fn load_ptr(_: Avx512, from: *const $scalar) -> Self {
            // SAFETY: the caller's promise; the token is proof of AVX-512.
            unsafe { Self(_mm512_loadu_si512(from.cast())) }
        }
        #[inline(always)]
        unsafe fn store_ptr(self, to: *mut $scalar) {
            // SAFETY: the caller's promise; this vector is proof of AVX-512.
            unsafe { _mm512_storeu_si512(to.cast(), self.0) }
        }
        #[inline(always)]
        fn select(mask: $mask, if_true: Self, if_false: Self) -> Self {
            // SAFETY: the vectors are proof of AVX-512.
            unsafe { Self($select(mask.0, if_false.0, if_true.0)) }
        }
        $(
            #[inline(always)]
            fn $shift(self, count: u32) -> Self {
                // SAFETY: this vector is proof of AVX-512.
                unsafe { Self($intrinsic(self.0, _mm_cvtsi32_si128(count as i32))) }
            }
        )+
        binary! {
            and -> Self = |x, y| _mm512_and_si512(x, y);
            or -> Self = |x, y| _mm512_or_si512(x, y);
            xor -> Self = |x, y| _mm512_xor_si512(x, y);
            eq -> $mask = |x, y| $eq(x, y);
            lt -> $mask = |x, y| $lt(x, y);
        }
    };
}

impl Int<Avx512> for U32 {
    int!(
        u32 as i32,
        M32,
        _mm512_set1_epi32,
        _mm512_mask_blend_epi32,
        _mm512_cmpeq_epu32_mask,
        _mm512_cmplt_epu32_mask,
        shl = _mm512_sll_epi32,
        shr = _mm512_srl_epi32,
        sar = _mm512_sra_epi32
    );
    #[inline(always)]
    fn iota(_: Avx512) -> Self {
        // SAFETY: the token is proof of AVX-512.
        unsafe { Self(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)) }
    }
    #[inline(always)]
    fn mul_wide(self, other: Self) -> (Self, Self) {
        // SAFETY: this vector is proof of AVX-512.
        unsafe {
            let even = _mm512_mul_epu32(self.0, other.0);
            let odd = _mm512_mul_epu32(_mm512_srli_epi64::<32>(self.0), _mm512_srli_epi64::<32>(other.0));
            let odd_lanes = 0b1010101010101010;
            let low = _mm512_mask_blend_epi32(odd_lanes, even, _mm512_slli_epi64::<32>(odd));
            let high = _mm512_mask_blend_epi32(odd_lanes, _mm512_srli_epi64::<32>(even), odd);
            (Self(low), Self(high))
        }
    }
}

impl Int<Avx512> for U64 {
    int!(
        u64 as i64,
        M64,
        _mm512_set1_epi64,
        _mm512_mask_blend_epi64,
        _mm512_cmpeq_epu64_mask,
        _mm512_cmplt_epu64_mask,
        shl = _mm512_sll_epi64,
        shr = _mm512_srl_epi64,
        sar = _mm512_sra_epi64
    );
    #[inline(always)]
    fn iota(_: Avx512) -> Self {
        // SAFETY: the token is proof of AVX-512.
        unsafe { Self(_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7)) }
    }
    #[inline(always)]
    fn mul_wide(self, other: Self) -> (Self, Self) {
        // SAFETY: this vector is proof of AVX-512.
        unsafe { (Self(_mm512_mul_epu32(self.0, other.0)), Self(_mm512_setzero_si512())) }
    }
}

macro_rules! mask {
    ($mask:ident, $bits:ident) => {
        impl Mask<Avx512> for $mask {
            #[inline(always)]
            fn from_bits(_: Avx512, bits: u32) -> Self {
                Self(bits as $bits)
            }
            #[inline(always)]
            fn to_bits(self) -> u32 {
                self.0.into()
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
                Self(!self.0)
            }
        }
    };
}
mask!(M32, __mmask16);
mask!(M64, __mmask8);
