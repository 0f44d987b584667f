//! AVX-512 F, BW, DQ and VL: the virtual register is one `zmm`, masks are `k` registers.

use std::arch::x86_64::*;

use super::{Float, Int, Isa, Kernel, Mask, RegisterFile, Simd, operators, x86};

/// Proof that the CPU has AVX-512 F, BW, DQ and VL (every CPU with AVX-512 since Skylake-X and Zen 4).
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

impl Avx512 {
    /// The token, if the CPU has these instructions.
    #[inline]
    pub fn new() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma");
        has.then_some(Self(()))
    }
}

impl Simd for Avx512 {
    const ISA: Isa = Isa::Avx512;
    const FILE: RegisterFile = RegisterFile { count: 32, parts: 1, mask: 0, masked_loads: true };
    type F32 = F32;
    type F64 = F64;
    type U32 = U32;
    type U64 = U64;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn trampoline<K: Kernel>(s: Avx512, kernel: K) -> K::Output {
            kernel.run(s)
        }
        // SAFETY: the token exists only where the CPU has these instructions.
        unsafe { trampoline(self, kernel) }
    }

    #[inline(always)]
    fn widen(self, x: F32) -> (F64, F64) {
        // SAFETY: the token is proof of AVX-512.
        unsafe {
            let (low, high) = (_mm512_castps512_ps256(x.0), _mm512_extractf32x8_ps::<1>(x.0));
            (F64(_mm512_cvtps_pd(low)), F64(_mm512_cvtps_pd(high)))
        }
    }

    #[inline(always)]
    fn narrow(self, first: F64, second: F64) -> F32 {
        // SAFETY: the token is proof of AVX-512.
        unsafe {
            let low = _mm512_castps256_ps512(_mm512_cvtpd_ps(first.0));
            F32(_mm512_insertf32x8::<1>(low, _mm512_cvtpd_ps(second.0)))
        }
    }
}

// The operations below are made of these pieces. Each `unsafe` leans on the same promise: a vector is made
// from the token `Avx512`, which exists only where the CPU has the instructions.

macro_rules! unary {
    ($($name:ident = |$x:ident| $value:expr;)+) => { $(
        #[inline(always)]
        fn $name(self) -> Self {
            let $x = self.0;
            // SAFETY: this vector is proof of AVX-512.
            unsafe { Self($value) }
        }
    )+ };
}

macro_rules! binary {
    ($($name:ident -> $result:ident = |$x:ident, $y:ident| $value:expr;)+) => { $(
        #[inline(always)]
        fn $name(self, other: Self) -> $result {
            let ($x, $y) = (self.0, other.0);
            // SAFETY: this vector is proof of AVX-512.
            unsafe { $result($value) }
        }
    )+ };
}

macro_rules! ternary {
    ($($name:ident = $intrinsic:ident;)+) => { $(
        #[inline(always)]
        fn $name(self, a: Self, b: Self) -> Self {
            // SAFETY: this vector is proof of AVX-512.
            unsafe { Self($intrinsic(self.0, a.0, b.0)) }
        }
    )+ };
}

macro_rules! reductions {
    ($scalar:ident, $low:ident, $high:ident; $($name:ident = $pair:ident, $rest:ident;)+) => { $(
        #[inline(always)]
        fn $name(self) -> $scalar {
            // SAFETY: this vector is proof of AVX-512.
            unsafe { x86::$rest($pair($low(self.0), $high::<1>(self.0))) }
        }
    )+ };
}

mod int;

/// 16 × f32.
#[derive(Clone, Copy, Debug)]
pub struct F32(__m512);
/// 8 × f64.
#[derive(Clone, Copy, Debug)]
pub struct F64(__m512d);
/// 16 × u32.
#[derive(Clone, Copy, Debug)]
pub struct U32(__m512i);
/// 8 × u64.
#[derive(Clone, Copy, Debug)]
pub struct U64(__m512i);
/// 16 truth values.
#[derive(Clone, Copy, Debug)]
pub struct M32(__mmask16);
/// 8 truth values.
#[derive(Clone, Copy, Debug)]
pub struct M64(__mmask8);

operators!(F32, |a, b|
    Add add Self(_mm512_add_ps(a.0, b.0)),
    Sub sub Self(_mm512_sub_ps(a.0, b.0)),
    Mul mul Self(_mm512_mul_ps(a.0, b.0)),
    Div div Self(_mm512_div_ps(a.0, b.0)));
operators!(F64, |a, b|
    Add add Self(_mm512_add_pd(a.0, b.0)),
    Sub sub Self(_mm512_sub_pd(a.0, b.0)),
    Mul mul Self(_mm512_mul_pd(a.0, b.0)),
    Div div Self(_mm512_div_pd(a.0, b.0)));
operators!(U32, |a, b|
    Add add Self(_mm512_add_epi32(a.0, b.0)),
    Sub sub Self(_mm512_sub_epi32(a.0, b.0)));
operators!(U64, |a, b|
    Add add Self(_mm512_add_epi64(a.0, b.0)),
    Sub sub Self(_mm512_sub_epi64(a.0, b.0)));

impl std::ops::Neg for F32 {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        // SAFETY: this vector is proof of AVX-512.
        unsafe { Self(_mm512_xor_ps(self.0, _mm512_set1_ps(-0.0))) }
    }
}

impl std::ops::Neg for F64 {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        // SAFETY: this vector is proof of AVX-512.
        unsafe { Self(_mm512_xor_pd(self.0, _mm512_set1_pd(-0.0))) }
    }
}

/// What `F32` and `F64` share but for the names of the intrinsics.
macro_rules! float {
    ($scalar:ident, $mask:ident, $splat:ident, $load:ident, $store:ident, $masked_load:ident, $masked_store:ident,
     $select:ident, $transpose:ident) => {
        type Scalar = $scalar;
        type Mask = $mask;

        #[inline(always)]
        fn splat(_: Avx512, x: $scalar) -> Self {
            // SAFETY: the token is proof of AVX-512.
            unsafe { Self($splat(x)) }
        }
        #[inline(always)]
        unsafe fn load_ptr(_: Avx512, from: *const $scalar) -> Self {
            // SAFETY: the caller's promise; the token is proof of AVX-512.
            unsafe { Self($load(from)) }
        }
        #[inline(always)]
        unsafe fn load_ptr_partial(s: Avx512, from: *const $scalar, count: usize) -> Self {
            // SAFETY: the masked load touches the first `count` elements only; the token is proof of AVX-512.
            unsafe { Self($masked_load(<$mask>::first(s, count).0, from)) }
        }
        #[inline(always)]
        unsafe fn store_ptr(self, to: *mut $scalar) {
            // SAFETY: the caller's promise; this vector is proof of AVX-512.
            unsafe { $store(to, self.0) }
        }
        #[inline(always)]
        unsafe fn store_ptr_partial(self, to: *mut $scalar, count: usize) {
            // SAFETY: the masked store touches the first `count` elements only; this vector is proof of
            // AVX-512.
            unsafe { $masked_store(to, <$mask>::first(Avx512(()), count).0, self.0) }
        }
        #[inline(always)]
        unsafe fn transpose_ptr(
            _: Avx512,
            from: *const $scalar,
            stride: usize,
            rows: usize,
            to: *mut $scalar,
            to_stride: usize,
        ) {
            // SAFETY: the caller's promise; the token is proof of AVX-512.
            unsafe { $transpose(from, stride, rows, to, to_stride) }
        }
        #[inline(always)]
        fn select(mask: $mask, if_true: Self, if_false: Self) -> Self {
            // SAFETY: the vectors are proof of AVX-512.
            unsafe { Self($select(mask.0, if_false.0, if_true.0)) }
        }
    };
}

/// Transposes a square of 16 × 16 floats, each row read once as a whole.
///
/// # Safety
/// As [`Float::transpose_ptr`].
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn transpose_f32(from: *const f32, stride: usize, rows: usize, to: *mut f32, to_stride: usize) {
    // SAFETY: the caller's promise covers `rows` registers to read and 16 to write.
    unsafe {
        let row = |r: usize| _mm512_loadu_ps(from.add(r.min(rows - 1) * stride));
        // Four rows at a time, so that 128 bits hold four rows of one column: of columns c, 4 + c, 8 + c, 12
        // + c.
        let quarter = |r: usize| {
            let (r0, r1, r2, r3) = (row(r), row(r + 1), row(r + 2), row(r + 3));
            let double = |x| _mm512_castps_pd(x);
            let (a, b) = (double(_mm512_unpacklo_ps(r0, r1)), double(_mm512_unpackhi_ps(r0, r1)));
            let (c, d) = (double(_mm512_unpacklo_ps(r2, r3)), double(_mm512_unpackhi_ps(r2, r3)));
            let (lo, hi) = (|x, y| _mm512_unpacklo_pd(x, y), |x, y| _mm512_unpackhi_pd(x, y));
            [lo(a, c), hi(a, c), lo(b, d), hi(b, d)]
        };
        let (q0, q1, q2, q3) = (quarter(0), quarter(4), quarter(8), quarter(12));
        for c in 0..4 {
            let columns = gather_lanes([q0[c], q1[c], q2[c], q3[c]]);
            for (lane, column) in columns.into_iter().enumerate() {
                _mm512_storeu_ps(to.add((4 * lane + c) * to_stride), _mm512_castpd_ps(column));
            }
        }
    }
}

/// Transposes a square of 8 × 8 doubles, each row read once as a whole.
///
/// # Safety
/// As [`Float::transpose_ptr`].
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn transpose_f64(from: *const f64, stride: usize, rows: usize, to: *mut f64, to_stride: usize) {
    // SAFETY: the caller's promise covers `rows` registers to read and 8 to write.
    unsafe {
        let row = |r: usize| _mm512_loadu_pd(from.add(r.min(rows - 1) * stride));
        // Two rows at a time, so that 128 bits hold two rows of one column: of columns c, 2 + c, 4 + c, 6 +
        // c.
        let pair =
            |r: usize| [_mm512_unpacklo_pd(row(r), row(r + 1)), _mm512_unpackhi_pd(row(r), row(r + 1))];
        let (p0, p1, p2, p3) = (pair(0), pair(2), pair(4), pair(6));
        for c in 0..2 {
            for (lane, column) in gather_lanes([p0[c], p1[c], p2[c], p3[c]]).into_iter().enumerate() {
                _mm512_storeu_pd(to.add((2 * lane + c) * to_stride), column);
            }
        }
    }
}

/// Transposes a square of 4 × 4 times 128 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn gather_lanes([x0, x1, x2, x3]: [__m512d; 4]) -> [__m512d; 4] {
    let even = |x, y| _mm512_shuffle_f64x2::<0x88>(x, y);
    let odd = |x, y| _mm512_shuffle_f64x2::<0xDD>(x, y);
    let (e01, e23, o01, o23) = (even(x0, x1), even(x2, x3), odd(x0, x1), odd(x2, x3));
    [even(e01, e23), even(o01, o23), odd(e01, e23), odd(o01, o23)]
}

/// For `fixupimm`, four bits for each kind of argument, NaN first: 2 is that NaN, 4 and 5 are −∞ and +∞, 3 is
/// the NaN of invalid operations, 0 keeps the value. The kinds are quiet and signalling NaN, ±0, 1, −∞, +∞,
/// negative and positive.
const LOGARITHMS: i32 = 0x0353_0422;

impl Float<Avx512> for F32 {
    type Bits = U32;
    float!(
        f32,
        M32,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_maskz_loadu_ps,
        _mm512_mask_storeu_ps,
        _mm512_mask_blend_ps,
        transpose_f32
    );

    /// Quarters of rows are exchanged first, so that transposing within them gives the columns in order.
    #[inline(always)]
    unsafe fn mul_add_square(
        self,
        _: Avx512,
        factors: *const f32,
        from: *const f32,
        stride: usize,
        rows: usize,
    ) -> Self {
        macro_rules! square {
            ($row:ident) => {{
                let mut sum = self.0;
                let lanes = [
                    gather_lanes([$row!(0), $row!(4), $row!(8), $row!(12)]),
                    gather_lanes([$row!(1), $row!(5), $row!(9), $row!(13)]),
                    gather_lanes([$row!(2), $row!(6), $row!(10), $row!(14)]),
                    gather_lanes([$row!(3), $row!(7), $row!(11), $row!(15)]),
                ];
                for l in 0..4 {
                    let (r0, r1) = (_mm512_castpd_ps(lanes[0][l]), _mm512_castpd_ps(lanes[1][l]));
                    let (r2, r3) = (_mm512_castpd_ps(lanes[2][l]), _mm512_castpd_ps(lanes[3][l]));
                    let (a, b) = (_mm512_unpacklo_ps(r0, r1), _mm512_unpackhi_ps(r0, r1));
                    let (c, d) = (_mm512_unpacklo_ps(r2, r3), _mm512_unpackhi_ps(r2, r3));
                    let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
                    let (c, d) = (_mm512_castps_pd(c), _mm512_castps_pd(d));
                    let factors = factors.add(4 * l);
                    let column = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
                    sum = _mm512_fmadd_ps(_mm512_set1_ps(*factors), column, sum);
                    let column = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
                    sum = _mm512_fmadd_ps(_mm512_set1_ps(*factors.add(1)), column, sum);
                    let column = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
                    sum = _mm512_fmadd_ps(_mm512_set1_ps(*factors.add(2)), column, sum);
                    let column = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
                    sum = _mm512_fmadd_ps(_mm512_set1_ps(*factors.add(3)), column, sum);
                }
                Self(sum)
            }};
        }
        // SAFETY: the caller's promise; this vector is proof of AVX-512.
        unsafe {
            if rows == 16 {
                macro_rules! row {
                    ($r:literal) => {
                        _mm512_castps_pd(_mm512_loadu_ps(from.add($r * stride)))
                    };
                }
                square!(row)
            } else {
                macro_rules! row {
                    ($r:literal) => {
                        _mm512_castps_pd(_mm512_loadu_ps(from.add(rows.min($r + 1).wrapping_sub(1) * stride)))
                    };
                }
                square!(row)
            }
        }
    }
    unary! {
        abs = |x| _mm512_abs_ps(x);
        sqrt = |x| _mm512_sqrt_ps(x);
        floor = |x| _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(x);
        ceil = |x| _mm512_roundscale_ps::<{ _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC }>(x);
        round_ties_even = |x| _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
    }
    binary! {
        min -> Self = |x, y| _mm512_min_ps(x, y);
        max -> Self = |x, y| _mm512_max_ps(x, y);
        copysign -> Self = |x, y| _mm512_or_ps(
            _mm512_andnot_ps(_mm512_set1_ps(-0.0), x),
            _mm512_and_ps(_mm512_set1_ps(-0.0), y),
        );
        eq -> M32 = |x, y| _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(x, y);
        lt -> M32 = |x, y| _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, y);
        le -> M32 = |x, y| _mm512_cmp_ps_mask::<_CMP_LE_OQ>(x, y);
    }
    ternary! {
        mul_add = _mm512_fmadd_ps;
        mul_sub = _mm512_fmsub_ps;
        neg_mul_add = _mm512_fnmadd_ps;
    }
    reductions! { f32, _mm512_castps512_ps256, _mm512_extractf32x8_ps;
        reduce_add = _mm256_add_ps, add_ps;
        reduce_min = _mm256_min_ps, min_ps;
        reduce_max = _mm256_max_ps, max_ps;
    }
    #[inline(always)]
    fn is_nan(self) -> M32 {
        // SAFETY: this vector is proof of AVX-512.
        unsafe { M32(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0)) }
    }
    #[inline(always)]
    fn to_bits(self) -> U32 {
        // SAFETY: this vector is proof of AVX-512.
        unsafe { U32(_mm512_castps_si512(self.0)) }
    }
    #[inline(always)]
    fn from_bits(bits: U32) -> Self {
        // SAFETY: the vector is proof of AVX-512.
        unsafe { Self(_mm512_castsi512_ps(bits.0)) }
    }
    #[inline(always)]
    fn to_int(self) -> U32 {
        // SAFETY: this vector is proof of AVX-512.
        unsafe { U32(_mm512_cvtps_epi32(self.0)) }
    }
    #[inline(always)]
    fn from_int(int: U32) -> Self {
        // SAFETY: the vector is proof of AVX-512.
        unsafe { Self(_mm512_cvtepi32_ps(int.0)) }
    }
    #[inline(always)]
    fn scaled(self, n: Self) -> Option<Self> {
        // SAFETY: this vector is proof of AVX-512.
        Some(unsafe { Self(_mm512_scalef_ps(self.0, n.0)) })
    }
    #[inline(always)]
    fn exponent_and_mantissa(self) -> Option<(Self, Self)> {
        // SAFETY: this vector is proof of AVX-512.
        unsafe {
            let mantissa = _mm512_getmant_ps::<_MM_MANT_NORM_P75_1P5, _MM_MANT_SIGN_SRC>(self.0);
            // A mantissa below 1 has its exponent raised by one.
            let exponent = _mm512_sub_ps(_mm512_getexp_ps(self.0), _mm512_getexp_ps(mantissa));
            Some((Self(exponent), Self(mantissa)))
        }
    }
    #[inline(always)]
    fn logarithm_or(self, value: Self) -> Option<Self> {
        // SAFETY: this vector is proof of AVX-512.
        Some(unsafe { Self(_mm512_fixupimm_ps::<0>(value.0, self.0, _mm512_set1_epi32(LOGARITHMS))) })
    }
}

impl Float<Avx512> for F64 {
    type Bits = U64;
    float!(
        f64,
        M64,
        _mm512_set1_pd,
        _mm512_loadu_pd,
        _mm512_storeu_pd,
        _mm512_maskz_loadu_pd,
        _mm512_mask_storeu_pd,
        _mm512_mask_blend_pd,
        transpose_f64
    );

    /// Quarters of rows are exchanged first, so that transposing within them gives the columns in order.
    #[inline(always)]
    unsafe fn mul_add_square(
        self,
        _: Avx512,
        factors: *const f64,
        from: *const f64,
        stride: usize,
        rows: usize,
    ) -> Self {
        macro_rules! square {
            ($row:ident) => {{
                let mut sum = self.0;
                let even = gather_lanes([$row!(0), $row!(2), $row!(4), $row!(6)]);
                let odd = gather_lanes([$row!(1), $row!(3), $row!(5), $row!(7)]);
                for l in 0..4 {
                    let factors = factors.add(2 * l);
                    let column = _mm512_unpacklo_pd(even[l], odd[l]);
                    sum = _mm512_fmadd_pd(_mm512_set1_pd(*factors), column, sum);
                    let column = _mm512_unpackhi_pd(even[l], odd[l]);
                    sum = _mm512_fmadd_pd(_mm512_set1_pd(*factors.add(1)), column, sum);
                }
                Self(sum)
            }};
        }
        // SAFETY: the caller's promise; this vector is proof of AVX-512.
        unsafe {
            if rows == 8 {
                macro_rules! row {
                    ($r:literal) => {
                        _mm512_loadu_pd(from.add($r * stride))
                    };
                }
                square!(row)
            } else {
                macro_rules! row {
                    ($r:literal) => {
                        _mm512_loadu_pd(from.add(rows.min($r + 1).wrapping_sub(1) * stride))
                    };
                }
                square!(row)
            }
        }
    }
    unary! {
        abs = |x| _mm512_abs_pd(x);
        sqrt = |x| _mm512_sqrt_pd(x);
        floor = |x| _mm512_roundscale_pd::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(x);
        ceil = |x| _mm512_roundscale_pd::<{ _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC }>(x);
        round_ties_even = |x| _mm512_roundscale_pd::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
    }
    binary! {
        min -> Self = |x, y| _mm512_min_pd(x, y);
        max -> Self = |x, y| _mm512_max_pd(x, y);
        copysign -> Self = |x, y| _mm512_or_pd(
            _mm512_andnot_pd(_mm512_set1_pd(-0.0), x),
            _mm512_and_pd(_mm512_set1_pd(-0.0), y),
        );
        eq -> M64 = |x, y| _mm512_cmp_pd_mask::<_CMP_EQ_OQ>(x, y);
        lt -> M64 = |x, y| _mm512_cmp_pd_mask::<_CMP_LT_OQ>(x, y);
        le -> M64 = |x, y| _mm512_cmp_pd_mask::<_CMP_LE_OQ>(x, y);
    }
    ternary! {
        mul_add = _mm512_fmadd_pd;
        mul_sub = _mm512_fmsub_pd;
        neg_mul_add = _mm512_fnmadd_pd;
    }
    reductions! { f64, _mm512_castpd512_pd256, _mm512_extractf64x4_pd;
        reduce_add = _mm256_add_pd, add_pd;
        reduce_min = _mm256_min_pd, min_pd;
        reduce_max = _mm256_max_pd, max_pd;
    }
    #[inline(always)]
    fn is_nan(self) -> M64 {
        // SAFETY: this vector is proof of AVX-512.
        unsafe { M64(_mm512_cmp_pd_mask::<_CMP_UNORD_Q>(self.0, self.0)) }
    }
    #[inline(always)]
    fn to_bits(self) -> U64 {
        // SAFETY: this vector is proof of AVX-512.
        unsafe { U64(_mm512_castpd_si512(self.0)) }
    }
    #[inline(always)]
    fn from_bits(bits: U64) -> Self {
        // SAFETY: the vector is proof of AVX-512.
        unsafe { Self(_mm512_castsi512_pd(bits.0)) }
    }
    #[inline(always)]
    fn to_int(self) -> U64 {
        // SAFETY: this vector is proof of AVX-512.
        unsafe { U64(_mm512_cvtpd_epi64(self.0)) }
    }
    #[inline(always)]
    fn from_int(int: U64) -> Self {
        // SAFETY: the vector is proof of AVX-512.
        unsafe { Self(_mm512_cvtepi64_pd(int.0)) }
    }
    #[inline(always)]
    fn scaled(self, n: Self) -> Option<Self> {
        // SAFETY: this vector is proof of AVX-512.
        Some(unsafe { Self(_mm512_scalef_pd(self.0, n.0)) })
    }
    #[inline(always)]
    fn exponent_and_mantissa(self) -> Option<(Self, Self)> {
        // SAFETY: this vector is proof of AVX-512.
        unsafe {
            let mantissa = _mm512_getmant_pd::<_MM_MANT_NORM_P75_1P5, _MM_MANT_SIGN_SRC>(self.0);
            // A mantissa below 1 has its exponent raised by one.
            let exponent = _mm512_sub_pd(_mm512_getexp_pd(self.0), _mm512_getexp_pd(mantissa));
            Some((Self(exponent), Self(mantissa)))
        }
    }
    #[inline(always)]
    fn logarithm_or(self, value: Self) -> Option<Self> {
        // SAFETY: this vector is proof of AVX-512.
        Some(unsafe { Self(_mm512_fixupimm_pd::<0>(value.0, self.0, _mm512_set1_epi64(LOGARITHMS as i64))) })
    }
}
