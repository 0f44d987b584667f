//! AVX2 with FMA: the virtual register is a pair of `ymm`.

use std::arch::x86_64::*;

use super::{Float, Int, Isa, Kernel, Mask, RegisterFile, Simd, operators, x86};

/// Proof that the CPU has AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// The token, if the CPU has these instructions.
    #[inline]
    pub fn new() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

impl Simd for Avx2 {
    const ISA: Isa = Isa::Avx2;
    const FILE: RegisterFile = RegisterFile { count: 16, parts: 2, mask: 2, masked_loads: true };
    type F32 = F32;
    type F64 = F64;
    type U32 = U32;
    type U64 = U64;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma")]
        fn trampoline<K: Kernel>(s: Avx2, kernel: K) -> K::Output {
            kernel.run(s)
        }
        // SAFETY: the token exists only where the CPU has AVX2 and FMA.
        unsafe { trampoline(self, kernel) }
    }

    #[inline(always)]
    fn widen(self, x: F32) -> (F64, F64) {
        (F64::from_half(x.0), F64::from_half(x.1))
    }

    #[inline(always)]
    fn narrow(self, first: F64, second: F64) -> F32 {
        // SAFETY: the vectors are proof of AVX2.
        unsafe {
            F32(
                _mm256_set_m128(_mm256_cvtpd_ps(first.1), _mm256_cvtpd_ps(first.0)),
                _mm256_set_m128(_mm256_cvtpd_ps(second.1), _mm256_cvtpd_ps(second.0)),
            )
        }
    }
}

// The operations below are made of these pieces. Each `unsafe` leans on the same promise: a vector is made
// from the token `Avx2`, which exists only where the CPU has the instructions.

macro_rules! unary {
    ($($name:ident = |$x:ident| $value:expr;)+) => { $(
        #[inline(always)]
        fn $name(self) -> Self {
            // SAFETY: this vector is proof of AVX2 and FMA.
            unsafe {
                Self(
                    {
                        let $x = self.0;
                        $value
                    },
                    {
                        let $x = self.1;
                        $value
                    },
                )
            }
        }
    )+ };
}

macro_rules! binary {
    ($($name:ident -> $result:ident = |$x:ident, $y:ident| $value:expr;)+) => { $(
        #[inline(always)]
        fn $name(self, other: Self) -> $result {
            // SAFETY: this vector is proof of AVX2 and FMA.
            unsafe {
                $result(
                    {
                        let ($x, $y) = (self.0, other.0);
                        $value
                    },
                    {
                        let ($x, $y) = (self.1, other.1);
                        $value
                    },
                )
            }
        }
    )+ };
}

macro_rules! ternary {
    ($($name:ident = $intrinsic:ident;)+) => { $(
        #[inline(always)]
        fn $name(self, a: Self, b: Self) -> Self {
            // SAFETY: this vector is proof of AVX2 and FMA.
            unsafe { Self($intrinsic(self.0, a.0, b.0), $intrinsic(self.1, a.1, b.1)) }
        }
    )+ };
}

macro_rules! reductions {
    ($scalar:ident; $($name:ident = $pair:ident, $rest:ident;)+) => { $(
        #[inline(always)]
        fn $name(self) -> $scalar {
            // SAFETY: this vector is proof of AVX2.
            unsafe { x86::$rest($pair(self.0, self.1)) }
        }
    )+ };
}

mod int;

/// 16 × f32.
#[derive(Clone, Copy, Debug)]
pub struct F32(__m256, __m256);
/// 8 × f64.
#[derive(Clone, Copy, Debug)]
pub struct F64(__m256d, __m256d);
/// 16 × u32.
#[derive(Clone, Copy, Debug)]
pub struct U32(__m256i, __m256i);
/// 8 × u64.
#[derive(Clone, Copy, Debug)]
pub struct U64(__m256i, __m256i);
/// 16 truth values, all bits of a lane alike.
#[derive(Clone, Copy, Debug)]
pub struct M32(__m256i, __m256i);
/// 8 truth values, all bits of a lane alike.
#[derive(Clone, Copy, Debug)]
pub struct M64(__m256i, __m256i);

impl F64 {
    /// Half a register of f32, from one that is proof of AVX2.
    #[inline(always)]
    fn from_half(x: __m256) -> Self {
        // SAFETY: as said above.
        unsafe {
            let (low, high) = (_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            Self(_mm256_cvtps_pd(low), _mm256_cvtps_pd(high))
        }
    }
}

operators!(F32, |a, b|
    Add add Self(_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1)),
    Sub sub Self(_mm256_sub_ps(a.0, b.0), _mm256_sub_ps(a.1, b.1)),
    Mul mul Self(_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1)),
    Div div Self(_mm256_div_ps(a.0, b.0), _mm256_div_ps(a.1, b.1)));
operators!(F64, |a, b|
    Add add Self(_mm256_add_pd(a.0, b.0), _mm256_add_pd(a.1, b.1)),
    Sub sub Self(_mm256_sub_pd(a.0, b.0), _mm256_sub_pd(a.1, b.1)),
    Mul mul Self(_mm256_mul_pd(a.0, b.0), _mm256_mul_pd(a.1, b.1)),
    Div div Self(_mm256_div_pd(a.0, b.0), _mm256_div_pd(a.1, b.1)));
operators!(U32, |a, b|
    Add add Self(_mm256_add_epi32(a.0, b.0), _mm256_add_epi32(a.1, b.1)),
    Sub sub Self(_mm256_sub_epi32(a.0, b.0), _mm256_sub_epi32(a.1, b.1)));
operators!(U64, |a, b|
    Add add Self(_mm256_add_epi64(a.0, b.0), _mm256_add_epi64(a.1, b.1)),
    Sub sub Self(_mm256_sub_epi64(a.0, b.0), _mm256_sub_epi64(a.1, b.1)));

macro_rules! negation {
    ($vector:ident, $zero:expr, $xor:ident) => {
        impl std::ops::Neg for $vector {
            type Output = Self;
            #[inline(always)]
            fn neg(self) -> Self {
                // SAFETY: this vector is proof of AVX2.
                unsafe { Self($xor(self.0, $zero), $xor(self.1, $zero)) }
            }
        }
    };
}
negation!(F32, _mm256_set1_ps(-0.0), _mm256_xor_ps);
negation!(F64, _mm256_set1_pd(-0.0), _mm256_xor_pd);

/// Lanes 0, 1, … of 16 that come before `count`.
#[inline]
#[target_feature(enable = "avx2")]
fn first_of_16(count: usize) -> M32 {
    let count = _mm256_set1_epi32(count as i32);
    M32(
        _mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
        _mm256_cmpgt_epi32(count, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)),
    )
}

/// Lanes 0, 1, … of 8 that come before `count`.
#[inline]
#[target_feature(enable = "avx2")]
fn first_of_8(count: usize) -> M64 {
    let count = _mm256_set1_epi64x(count as i64);
    M64(
        _mm256_cmpgt_epi64(count, _mm256_setr_epi64x(0, 1, 2, 3)),
        _mm256_cmpgt_epi64(count, _mm256_setr_epi64x(4, 5, 6, 7)),
    )
}

/// Writes the first `count` of 8 elements, fewer than all. Masked stores take tens of cycles on AMD's
/// processors.
///
/// # Safety
/// `count` elements can be written at `to`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store_front_ps(to: *mut f32, count: usize, x: __m256) {
    let (mut to, mut left) = (to, _mm256_castps256_ps128(x));
    // SAFETY: the pieces of 4, 2 and 1 elements add up to `count`.
    unsafe {
        if count & 4 != 0 {
            _mm_storeu_ps(to, left);
            (to, left) = (to.add(4), _mm256_extractf128_ps::<1>(x));
        }
        if count & 2 != 0 {
            to.cast::<f64>().write_unaligned(_mm_cvtsd_f64(_mm_castps_pd(left)));
            (to, left) = (to.add(2), _mm_movehl_ps(left, left));
        }
        if count & 1 != 0 {
            to.write(_mm_cvtss_f32(left));
        }
    }
}

/// Writes the first `count` of 4 elements, fewer than all.
///
/// # Safety
/// `count` elements can be written at `to`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store_front_pd(to: *mut f64, count: usize, x: __m256d) {
    let (mut to, mut left) = (to, _mm256_castpd256_pd128(x));
    // SAFETY: the pieces of 2 and 1 elements add up to `count`.
    unsafe {
        if count & 2 != 0 {
            _mm_storeu_pd(to, left);
            (to, left) = (to.add(2), _mm256_extractf128_pd::<1>(x));
        }
        if count & 1 != 0 {
            to.write(_mm_cvtsd_f64(left));
        }
    }
}

/// What `F32` and `F64` share but for the names of the intrinsics.
macro_rules! float {
    ($scalar:ident, $half:literal, $first:ident, $splat:ident, $load:ident, $store:ident, $masked_load:ident,
     $store_front:ident, $select:ident, $from_mask:ident, $transpose:ident) => {
        type Scalar = $scalar;

        #[inline(always)]
        fn splat(_: Avx2, x: $scalar) -> Self {
            // SAFETY: the token is proof of AVX2.
            unsafe { Self($splat(x), $splat(x)) }
        }
        #[inline(always)]
        unsafe fn load_ptr(_: Avx2, from: *const $scalar) -> Self {
            // SAFETY: the caller's promise; the token is proof of AVX2.
            unsafe { Self($load(from), $load(from.add($half))) }
        }
        #[inline(always)]
        unsafe fn load_ptr_partial(_: Avx2, from: *const $scalar, count: usize) -> Self {
            // SAFETY: the masked loads touch the first `count` elements only; the token is proof of AVX2.
            unsafe {
                let mask = $first(count);
                Self($masked_load(from, mask.0), $masked_load(from.wrapping_add($half), mask.1))
            }
        }
        #[inline(always)]
        unsafe fn store_ptr(self, to: *mut $scalar) {
            // SAFETY: the caller's promise; this vector is proof of AVX2.
            unsafe {
                $store(to, self.0);
                $store(to.add($half), self.1);
            }
        }
        #[inline(always)]
        unsafe fn store_ptr_partial(self, to: *mut $scalar, count: usize) {
            // SAFETY: writes the first `count` elements only; this vector is proof of AVX2.
            unsafe {
                if count < $half {
                    $store_front(to, count, self.0);
                } else {
                    $store(to, self.0);
                    if count == 2 * $half {
                        $store(to.add($half), self.1);
                    } else {
                        $store_front(to.add($half), count - $half, self.1);
                    }
                }
            }
        }
        #[inline(always)]
        unsafe fn transpose_ptr(
            _: Avx2,
            from: *const $scalar,
            stride: usize,
            rows: usize,
            to: *mut $scalar,
            to_stride: usize,
        ) {
            // SAFETY: the caller's promise; the token is proof of AVX2.
            unsafe { x86::$transpose(from, stride, rows, to, to_stride) }
        }
        #[inline(always)]
        fn select(mask: Self::Mask, if_true: Self, if_false: Self) -> Self {
            // SAFETY: the vectors are proof of AVX2.
            unsafe {
                Self(
                    $select(if_false.0, if_true.0, $from_mask(mask.0)),
                    $select(if_false.1, if_true.1, $from_mask(mask.1)),
                )
            }
        }
        #[inline(always)]
        fn is_nan(self) -> Self::Mask {
            Mask::not(Float::eq(self, self))
        }
    };
}

impl Float<Avx2> for F32 {
    type Bits = U32;
    type Mask = M32;
    float!(
        f32,
        8,
        first_of_16,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_maskload_ps,
        store_front_ps,
        _mm256_blendv_ps,
        _mm256_castsi256_ps,
        transpose_f32
    );

    /// 128 bits of two rows each make half a register: transposed within its quarters, the rows are in order.
    #[inline(always)]
    unsafe fn mul_add_square(
        self,
        _: Avx2,
        factors: *const f32,
        from: *const f32,
        stride: usize,
        rows: usize,
    ) -> Self {
        macro_rules! half {
            ($row:ident, $r:expr) => {{
                let zero = _mm256_castps128_ps256(_mm_loadu_ps($row!($r)));
                _mm256_insertf128_ps::<1>(zero, _mm_loadu_ps($row!($r + 4)))
            }};
        }
        macro_rules! sum_half {
            ($row:ident, $r:literal, $k:expr, $sum:expr) => {{
                let (r0, r1) = (half!($row, $r), half!($row, $r + 1));
                let (r2, r3) = (half!($row, $r + 2), half!($row, $r + 3));
                let (a, b) = (_mm256_unpacklo_ps(r0, r1), _mm256_unpackhi_ps(r0, r1));
                let (c, d) = (_mm256_unpacklo_ps(r2, r3), _mm256_unpackhi_ps(r2, r3));
                let (a, b) = (_mm256_castps_pd(a), _mm256_castps_pd(b));
                let (c, d) = (_mm256_castps_pd(c), _mm256_castps_pd(d));
                let column = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
                let sum = _mm256_fmadd_ps(_mm256_set1_ps(*factors.add($k)), column, $sum);
                let column = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
                let sum = _mm256_fmadd_ps(_mm256_set1_ps(*factors.add($k + 1)), column, sum);
                let column = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
                let sum = _mm256_fmadd_ps(_mm256_set1_ps(*factors.add($k + 2)), column, sum);
                let column = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
                _mm256_fmadd_ps(_mm256_set1_ps(*factors.add($k + 3)), column, sum)
            }};
        }
        let (mut low, mut high) = (self.0, self.1);
        let mut at = [from; 16];
        for (r, at) in at.iter_mut().enumerate() {
            *at = from.wrapping_add(r.min(rows.wrapping_sub(1)) * stride);
        }
        // SAFETY: the caller's promise; this vector is proof of AVX2.
        unsafe {
            for k in (0..16).step_by(4) {
                macro_rules! row {
                    ($r:expr) => {
                        at[$r].add(k)
                    };
                }
                low = sum_half!(row, 0, k, low);
                high = sum_half!(row, 8, k, high);
            }
        }
        Self(low, high)
    }
    unary! {
        abs = |x| _mm256_andnot_ps(_mm256_set1_ps(-0.0), x);
        sqrt = |x| _mm256_sqrt_ps(x);
        floor = |x| _mm256_floor_ps(x);
        ceil = |x| _mm256_ceil_ps(x);
        round_ties_even = |x| _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
    }
    binary! {
        min -> Self = |x, y| _mm256_min_ps(x, y);
        max -> Self = |x, y| _mm256_max_ps(x, y);
        copysign -> Self = |x, y| copysign_ps(x, y);
        eq -> M32 = |x, y| _mm256_castps_si256(_mm256_cmp_ps::<_CMP_EQ_OQ>(x, y));
        lt -> M32 = |x, y| _mm256_castps_si256(_mm256_cmp_ps::<_CMP_LT_OQ>(x, y));
        le -> M32 = |x, y| _mm256_castps_si256(_mm256_cmp_ps::<_CMP_LE_OQ>(x, y));
    }
    ternary! {
        mul_add = _mm256_fmadd_ps;
        mul_sub = _mm256_fmsub_ps;
        neg_mul_add = _mm256_fnmadd_ps;
    }
    #[inline(always)]
    fn mul_add_front(self, a: Self, b: Self) -> Self {
        // SAFETY: this vector is proof of AVX2 and FMA.
        unsafe { Self(_mm256_fmadd_ps(self.0, a.0, b.0), b.1) }
    }
    reductions! { f32;
        reduce_add = _mm256_add_ps, add_ps;
        reduce_min = _mm256_min_ps, min_ps;
        reduce_max = _mm256_max_ps, max_ps;
    }
    #[inline(always)]
    fn to_bits(self) -> U32 {
        // SAFETY: this vector is proof of AVX2.
        unsafe { U32(_mm256_castps_si256(self.0), _mm256_castps_si256(self.1)) }
    }
    #[inline(always)]
    fn from_bits(bits: U32) -> Self {
        // SAFETY: the vector is proof of AVX2.
        unsafe { Self(_mm256_castsi256_ps(bits.0), _mm256_castsi256_ps(bits.1)) }
    }
    #[inline(always)]
    fn to_int(self) -> U32 {
        // SAFETY: this vector is proof of AVX2.
        unsafe { U32(_mm256_cvtps_epi32(self.0), _mm256_cvtps_epi32(self.1)) }
    }
    #[inline(always)]
    fn from_int(int: U32) -> Self {
        // SAFETY: the vector is proof of AVX2.
        unsafe { Self(_mm256_cvtepi32_ps(int.0), _mm256_cvtepi32_ps(int.1)) }
    }
}

/// 1.5 · 2⁵²: added to a double below 2⁵¹ in magnitude, it leaves the nearest integer in the low bits.
const MAGIC: f64 = 6755399441055744.0;

impl Float<Avx2> for F64 {
    type Bits = U64;
    type Mask = M64;
    float!(
        f64,
        4,
        first_of_8,
        _mm256_set1_pd,
        _mm256_loadu_pd,
        _mm256_storeu_pd,
        _mm256_maskload_pd,
        store_front_pd,
        _mm256_blendv_pd,
        _mm256_castsi256_pd,
        transpose_f64
    );

    /// 128 bits of two rows each make half a register: transposed within its quarters, the rows are in order.
    #[inline(always)]
    unsafe fn mul_add_square(
        self,
        _: Avx2,
        factors: *const f64,
        from: *const f64,
        stride: usize,
        rows: usize,
    ) -> Self {
        macro_rules! half {
            ($row:ident, $r:expr) => {{
                let zero = _mm256_castpd128_pd256(_mm_loadu_pd($row!($r)));
                _mm256_insertf128_pd::<1>(zero, _mm_loadu_pd($row!($r + 2)))
            }};
        }
        macro_rules! sum_half {
            ($row:ident, $r:literal, $k:expr, $sum:expr) => {{
                let (r0, r1) = (half!($row, $r), half!($row, $r + 1));
                let (even, odd) = (_mm256_unpacklo_pd(r0, r1), _mm256_unpackhi_pd(r0, r1));
                let sum = _mm256_fmadd_pd(_mm256_set1_pd(*factors.add($k)), even, $sum);
                _mm256_fmadd_pd(_mm256_set1_pd(*factors.add($k + 1)), odd, sum)
            }};
        }
        let (mut low, mut high) = (self.0, self.1);
        let mut at = [from; 8];
        for (r, at) in at.iter_mut().enumerate() {
            *at = from.wrapping_add(r.min(rows.wrapping_sub(1)) * stride);
        }
        // SAFETY: the caller's promise; this vector is proof of AVX2.
        unsafe {
            for k in (0..8).step_by(2) {
                macro_rules! row {
                    ($r:expr) => {
                        at[$r].add(k)
                    };
                }
                low = sum_half!(row, 0, k, low);
                high = sum_half!(row, 4, k, high);
            }
        }
        Self(low, high)
    }
    unary! {
        abs = |x| _mm256_andnot_pd(_mm256_set1_pd(-0.0), x);
        sqrt = |x| _mm256_sqrt_pd(x);
        floor = |x| _mm256_floor_pd(x);
        ceil = |x| _mm256_ceil_pd(x);
        round_ties_even = |x| _mm256_round_pd::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
    }
    binary! {
        min -> Self = |x, y| _mm256_min_pd(x, y);
        max -> Self = |x, y| _mm256_max_pd(x, y);
        copysign -> Self = |x, y| copysign_pd(x, y);
        eq -> M64 = |x, y| _mm256_castpd_si256(_mm256_cmp_pd::<_CMP_EQ_OQ>(x, y));
        lt -> M64 = |x, y| _mm256_castpd_si256(_mm256_cmp_pd::<_CMP_LT_OQ>(x, y));
        le -> M64 = |x, y| _mm256_castpd_si256(_mm256_cmp_pd::<_CMP_LE_OQ>(x, y));
    }
    ternary! {
        mul_add = _mm256_fmadd_pd;
        mul_sub = _mm256_fmsub_pd;
        neg_mul_add = _mm256_fnmadd_pd;
    }
    #[inline(always)]
    fn mul_add_front(self, a: Self, b: Self) -> Self {
        // SAFETY: this vector is proof of AVX2 and FMA.
        unsafe { Self(_mm256_fmadd_pd(self.0, a.0, b.0), b.1) }
    }
    reductions! { f64;
        reduce_add = _mm256_add_pd, add_pd;
        reduce_min = _mm256_min_pd, min_pd;
        reduce_max = _mm256_max_pd, max_pd;
    }
    #[inline(always)]
    fn to_bits(self) -> U64 {
        // SAFETY: this vector is proof of AVX2.
        unsafe { U64(_mm256_castpd_si256(self.0), _mm256_castpd_si256(self.1)) }
    }
    #[inline(always)]
    fn from_bits(bits: U64) -> Self {
        // SAFETY: the vector is proof of AVX2.
        unsafe { Self(_mm256_castsi256_pd(bits.0), _mm256_castsi256_pd(bits.1)) }
    }
    #[inline(always)]
    fn to_int(self) -> U64 {
        let magic = Self::splat(Avx2(()), MAGIC);
        (self + magic).to_bits() - magic.to_bits()
    }
    #[inline(always)]
    fn from_int(int: U64) -> Self {
        let magic = Self::splat(Avx2(()), MAGIC);
        Self::from_bits(int + magic.to_bits()) - magic
    }
}

/// The magnitude of `x` with the sign of `y`.
#[inline]
#[target_feature(enable = "avx2")]
fn copysign_ps(x: __m256, y: __m256) -> __m256 {
    let sign = _mm256_set1_ps(-0.0);
    _mm256_or_ps(_mm256_andnot_ps(sign, x), _mm256_and_ps(sign, y))
}

/// The magnitude of `x` with the sign of `y`.
#[inline]
#[target_feature(enable = "avx2")]
fn copysign_pd(x: __m256d, y: __m256d) -> __m256d {
    let sign = _mm256_set1_pd(-0.0);
    _mm256_or_pd(_mm256_andnot_pd(sign, x), _mm256_and_pd(sign, y))
}
