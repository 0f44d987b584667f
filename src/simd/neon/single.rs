//! Parts of vectors of four lanes of 32 bits.

use std::arch::aarch64::*;
pub use std::arch::aarch64::{
    float32x4_t as Floats, uint32x4_t as Ints, vabsq_f32 as abs, vaddq_f32 as add, vaddq_u32 as add_ints,
    vandq_u32 as and, vbslq_f32 as select, vbslq_u32 as select_ints, vceqq_f32 as eq, vceqq_u32 as eq_ints,
    vcleq_f32 as le, vcltq_f32 as lt, vcltq_u32 as lt_ints, vcvt_high_f64_f32 as widen_high,
    vdivq_f32 as div, vdupq_n_f32 as splat, vdupq_n_u32 as splat_ints, veorq_u32 as xor,
    vfmaq_f32 as add_product, vfmsq_f32 as sub_product, vld1q_f32 as load, vld1q_u32 as load_ints,
    vmulq_f32 as mul, vnegq_f32 as neg, vorrq_u32 as or, vreinterpretq_f32_u32 as from_bits,
    vreinterpretq_u32_f32 as to_bits, vrndmq_f32 as floor, vrndnq_f32 as round, vrndpq_f32 as ceil,
    vsqrtq_f32 as sqrt, vst1q_f32 as store, vst1q_u32 as store_ints, vsubq_f32 as sub, vsubq_u32 as sub_ints,
    vtstq_u32 as test,
};

#[inline(always)]
pub unsafe fn widen_low(x: Floats) -> float64x2_t {
    // SAFETY: a part of a vector is proof of NEON, here and below.
    unsafe { vcvt_f64_f32(vget_low_f32(x)) }
}

#[inline(always)]
pub unsafe fn to_int(x: Floats) -> Ints {
    // SAFETY: as above.
    unsafe { vreinterpretq_u32_s32(vcvtnq_s32_f32(x)) }
}

#[inline(always)]
pub unsafe fn from_int(x: Ints) -> Floats {
    // SAFETY: as above.
    unsafe { vcvtq_f32_s32(vreinterpretq_s32_u32(x)) }
}

/// Shifted left, or right if `count` is negative.
#[inline(always)]
pub unsafe fn shift(x: Ints, count: i32) -> Ints {
    // SAFETY: as above.
    unsafe { vshlq_u32(x, vdupq_n_s32(count)) }
}

/// Shifted right, filled with the sign bit.
#[inline(always)]
pub unsafe fn shift_signed(x: Ints, count: i32) -> Ints {
    // SAFETY: as above.
    unsafe { vreinterpretq_u32_s32(vshlq_s32(vreinterpretq_s32_u32(x), vdupq_n_s32(-count))) }
}

/// The low and the high half of each product.
#[inline(always)]
pub unsafe fn mul_wide(x: Ints, y: Ints) -> (Ints, Ints) {
    // SAFETY: as above.
    unsafe {
        let first = vreinterpretq_u32_u64(vmull_u32(vget_low_u32(x), vget_low_u32(y)));
        let second = vreinterpretq_u32_u64(vmull_high_u32(x, y));
        (vuzp1q_u32(first, second), vuzp2q_u32(first, second))
    }
}

/// Bit i from lane i.
#[inline(always)]
pub unsafe fn mask_bits([a, b, c, d]: [Ints; 4]) -> u32 {
    const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
    // SAFETY: as above; the table is a register long.
    unsafe {
        let low = vuzp1q_u16(vreinterpretq_u16_u32(a), vreinterpretq_u16_u32(b));
        let high = vuzp1q_u16(vreinterpretq_u16_u32(c), vreinterpretq_u16_u32(d));
        let lanes = vuzp1q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high));
        let bits = vandq_u8(lanes, vld1q_u8(BITS.as_ptr()));
        let (low, high) = (vaddv_u8(vget_low_u8(bits)), vaddv_u8(vget_high_u8(bits)));
        u32::from(low) | u32::from(high) << 8
    }
}

/// Whether a bit of a lane is set.
#[inline(always)]
pub unsafe fn any(x: Ints) -> bool {
    // SAFETY: as above.
    unsafe { vmaxvq_u32(x) != 0 }
}

/// Lanes 0 and 2, 1 and 3, and then both.
#[inline(always)]
pub unsafe fn reduce(x: Floats, op: impl Fn(f32, f32) -> f32) -> f32 {
    // SAFETY: as above.
    unsafe {
        let even = op(vgetq_lane_f32::<0>(x), vgetq_lane_f32::<2>(x));
        op(even, op(vgetq_lane_f32::<1>(x), vgetq_lane_f32::<3>(x)))
    }
}

/// The first `count` lanes, fewer than all; the others are 0.
///
/// # Safety
/// `count` elements can be read at `from`.
#[inline(always)]
pub unsafe fn load_front(from: *const f32, count: usize) -> Floats {
    // SAFETY: as above, and the caller's promise.
    unsafe {
        let zero = vdupq_n_f32(0.0);
        match count {
            0 => zero,
            1 => vld1q_lane_f32::<0>(from, zero),
            2 => vcombine_f32(vld1_f32(from), vdup_n_f32(0.0)),
            _ => vld1q_lane_f32::<2>(from.add(2), vcombine_f32(vld1_f32(from), vdup_n_f32(0.0))),
        }
    }
}

/// Writes the first `count` lanes, fewer than all.
///
/// # Safety
/// `count` elements can be written at `to`.
#[inline(always)]
pub unsafe fn store_front(to: *mut f32, count: usize, x: Floats) {
    // SAFETY: as above, and the caller's promise.
    unsafe {
        match count {
            0 => {}
            1 => vst1q_lane_f32::<0>(to, x),
            2 => vst1_f32(to, vget_low_f32(x)),
            _ => {
                vst1_f32(to, vget_low_f32(x));
                vst1q_lane_f32::<2>(to.add(2), x);
            }
        }
    }
}

/// The columns of the square at these rows.
///
/// # Safety
/// Four elements can be read at each.
#[inline(always)]
pub unsafe fn columns(rows: [*const f32; 4]) -> [Floats; 4] {
    // SAFETY: as above, and the caller's promise.
    unsafe {
        let [r0, r1, r2, r3] = [load(rows[0]), load(rows[1]), load(rows[2]), load(rows[3])];
        // Columns 0 and 2, 1 and 3 of two rows.
        let even = [vtrn1q_f32(r0, r1), vtrn1q_f32(r2, r3)].map(|x| vreinterpretq_f64_f32(x));
        let odd = [vtrn2q_f32(r0, r1), vtrn2q_f32(r2, r3)].map(|x| vreinterpretq_f64_f32(x));
        [
            vreinterpretq_f32_f64(vtrn1q_f64(even[0], even[1])),
            vreinterpretq_f32_f64(vtrn1q_f64(odd[0], odd[1])),
            vreinterpretq_f32_f64(vtrn2q_f64(even[0], even[1])),
            vreinterpretq_f32_f64(vtrn2q_f64(odd[0], odd[1])),
        ]
    }
}
