//! TODO
use crate::simd::Simd;
/// TODO
#[inline(always)]
pub fn f32<S: Simd>(_s: S, x: S::F32) -> S::F32 {
    x
}
/// TODO
#[inline(always)]
pub fn f64<S: Simd>(_s: S, x: S::F64) -> S::F64 {
    x
}
