//! Parts of vectors of two lanes of 64 bits.

use std::arch::aarch64::*;
pub use std::arch::aarch64::{
    float64x2_t as Floats, uint64x2_t as Ints, vabsq_f64 as abs, vaddq_f64 as add, vaddq_u64 as add_ints,
    vandq_u64 as and, vbslq_f64 as select, vbslq_u64 as select_ints, vceqq_f64 as eq, vceqq_u64 as eq_ints,
    vcleq_f64 as le, vcltq_f64 as lt, vcltq_u64 as lt_ints, vdivq_f64 as div, vdupq_n_f64 as splat,
    vdupq_n_u64 as splat_ints, veorq_u64 as xor, vfmaq_f64 as add_product, vfmsq_f64 as sub_product,
    vld1q_f64 as load, vld1q_u64 as load_ints, vmulq_f64 as mul, vnegq_f64 as neg, vorrq_u64 as or,
    vreinterpretq_f64_u64 as from_bits, vreinterpretq_u64_f64 as to_bits, vrndmq_f64 as floor,
    vrndnq_f64 as round, vrndpq_f64 as ceil, vsqrtq_f64 as sqrt, vst1q_f64 as store, vst1q_u64 as store_ints,
    vsubq_f64 as sub, vsubq_u64 as sub_ints, vtstq_u64 as test,
};

#[inline(always)]
pub unsafe fn narrow(first: Floats, second: Floats) -> float32x4_t {
    // SAFETY: a part of a vector is proof of NEON, here and below.
    unsafe { vcvt_high_f32_f64(vcvt_f32_f64(first), second) }
}

#[inline(always)]
pub unsafe fn to_int(x: Floats) -> Ints {
    // SAFETY: as above.
    unsafe { vreinterpretq_u64_s64(vcvtnq_s64_f64(x)) }
}

#[inline(always)]
pub unsafe fn from_int(x: Ints) -> Floats {
    // SAFETY: as above.
    unsafe { vcvtq_f64_s64(vreinterpretq_s64_u64(x)) }
}

/// Shifted left, or right if `count` is negative.
#[inline(always)]
pub unsafe fn shift(x: Ints, count: i32) -> Ints {
    // SAFETY: as above.
    unsafe { vshlq_u64(x, vdupq_n_s64(count.into())) }
}

/// Shifted right, filled with the sign bit.
#[inline(always)]
pub unsafe fn shift_signed(x: Ints, count: i32) -> Ints {
    // SAFETY: as above.
    unsafe { vreinterpretq_u64_s64(vshlq_s64(vreinterpretq_s64_u64(x), vdupq_n_s64((-count).into()))) }
}

/// The products of the low halves, and 0.
#[inline(always)]
pub unsafe fn mul_wide(x: Ints, y: Ints) -> (Ints, Ints) {
    // SAFETY: as above.
    unsafe { (vmull_u32(vmovn_u64(x), vmovn_u64(y)), vdupq_n_u64(0)) }
}

/// Bit i from lane i.
#[inline(always)]
pub unsafe fn mask_bits([a, b, c, d]: [Ints; 4]) -> u32 {
    const BITS: [u16; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
    // SAFETY: as above; the table is a register long.
    unsafe {
        let low = vuzp1q_u32(vreinterpretq_u32_u64(a), vreinterpretq_u32_u64(b));
        let high = vuzp1q_u32(vreinterpretq_u32_u64(c), vreinterpretq_u32_u64(d));
        let lanes = vuzp1q_u16(vreinterpretq_u16_u32(low), vreinterpretq_u16_u32(high));
        vaddvq_u16(vandq_u16(lanes, vld1q_u16(BITS.as_ptr()))).into()
    }
}

/// Whether a bit of a lane is set.
#[inline(always)]
pub unsafe fn any(x: Ints) -> bool {
    // SAFETY: as above.
    unsafe { vmaxvq_u32(vreinterpretq_u32_u64(x)) != 0 }
}

/// Both lanes.
#[inline(always)]
pub unsafe fn reduce(x: Floats, op: impl Fn(f64, f64) -> f64) -> f64 {
    // SAFETY: as above.
    unsafe { op(vgetq_lane_f64::<0>(x), vgetq_lane_f64::<1>(x)) }
}

/// The first `count` lanes, fewer than all; the others are 0.
///
/// # Safety
/// `count` elements can be read at `from`.
#[inline(always)]
pub unsafe fn load_front(from: *const f64, count: usize) -> Floats {
    // SAFETY: as above, and the caller's promise.
    unsafe {
        let zero = vdupq_n_f64(0.0);
        if count == 0 { zero } else { vld1q_lane_f64::<0>(from, zero) }
    }
}

/// Writes the first `count` lanes, fewer than all.
///
/// # Safety
/// `count` elements can be written at `to`.
#[inline(always)]
pub unsafe fn store_front(to: *mut f64, count: usize, x: Floats) {
    if count != 0 {
        // SAFETY: as above, and the caller's promise.
        unsafe { vst1q_lane_f64::<0>(to, x) }
    }
}

/// The columns of the square at these rows.
///
/// # Safety
/// Two elements can be read at each.
#[inline(always)]
pub unsafe fn columns(rows: [*const f64; 2]) -> [Floats; 2] {
    // SAFETY: as above, and the caller's promise.
    unsafe {
        let (r0, r1) = (load(rows[0]), load(rows[1]));
        [vtrn1q_f64(r0, r1), vtrn2q_f64(r0, r1)]
    }
}
