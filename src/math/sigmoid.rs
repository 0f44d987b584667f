//! 1 / (1 + e⁻ˣ).
use crate::simd::{Element, Simd};
/// TODO
#[inline(always)]
pub fn sigmoid<T: Element, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    let one = s.splat(T::ONE);
    one / (one + T::exp(s, -x))
}
