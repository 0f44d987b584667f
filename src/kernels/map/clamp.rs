//! Between two ends.

use super::{Function, Reads};
use crate::reference::map::{Twin, is_off};
use crate::simd::{Element, Float, Mask, Simd};

#[derive(Clone, Copy)]
pub(super) struct Clamp<T> {
    pub min: T,
    pub max: T,
}

impl<T: Element> Function<T> for Clamp<T> {
    const READS: Reads = Reads::Input;
    const COSTS: [f64; 2] = [0.1, 0.15];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        // NaN and zeros of x stay: `min` and `max` give the second operand when the two do not differ.
        s.splat(self.max).min(s.splat(self.min).max(x))
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        let inside = s.splat(self.min).le(x).and(x.le(s.splat(self.max)));
        T::Vector::select(inside, dy, s.splat(T::ZERO))
    }
}

impl<T: Element> Twin for Clamp<T> {
    fn value(&self, x: f64) -> f64 {
        let (min, max) = (self.min.to_f64(), self.max.to_f64());
        // NaN stays.
        let x = if x < min { min } else { x };
        if x > max { max } else { x }
    }

    fn derivative(&self, x: f64) -> f64 {
        if self.min.to_f64() <= x && x <= self.max.to_f64() { 1.0 } else { 0.0 }
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (0.0, 0.0)
    }

    fn derivative_bound(&self, _x: f64) -> (f64, f64) {
        (1.0, 0.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[2, 2], [2, 2]]
    }

    fn is_tame(&self, x: f64) -> bool {
        is_off(x, self.min.to_f64()) && is_off(x, self.max.to_f64())
    }

    fn is_flat(&self) -> bool {
        true
    }
}
