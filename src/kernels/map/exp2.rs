//! Powers of 2.

use std::f64::consts::LN_2;

use super::{Function, Reads, constant};
use crate::reference::map::Twin;
use crate::simd::{Element, Simd};

#[derive(Clone, Copy)]
pub(super) struct Exp2;

impl<T: Element> Function<T> for Exp2 {
    const READS: Reads = Reads::Output;
    const COSTS: [f64; 2] = [0.35, 0.15];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        T::exp2(s, x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, _x: T::Vector<S>, y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        dy * (y * constant::<T, S>(s, LN_2))
    }
}

impl Twin for Exp2 {
    fn value(&self, x: f64) -> f64 {
        x.exp2()
    }

    fn derivative(&self, x: f64) -> f64 {
        x.exp2() * LN_2
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (4.0, 0.0)
    }

    fn derivative_bound(&self, _x: f64) -> (f64, f64) {
        (8.0, 0.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[27, 37], [2, 2]]
    }

    fn is_tame(&self, x: f64) -> bool {
        x.abs() < 8.0
    }
}
