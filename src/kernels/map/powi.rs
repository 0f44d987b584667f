//! Whole powers.

use super::{Function, Reads, constant};
use crate::reference::map::Twin;
use crate::simd::{Element, Simd};

#[derive(Clone, Copy)]
pub(super) struct Powi {
    power: i32,
}

impl Powi {
    pub fn new(power: i32) -> Self {
        Self { power }
    }
}

impl<T: Element> Function<T> for Powi {
    const READS: Reads = Reads::Input;
    const COSTS: [f64; 2] = [1.0, 1.0];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        T::powi(s, x, self.power.into())
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        // The derivative of x⁰ is 0 also where 1/x is infinite.
        let below = if self.power == 0 { 0 } else { i64::from(self.power) - 1 };
        dy * (constant::<T, S>(s, self.power.into()) * T::powi(s, x, below))
    }
}

impl Twin for Powi {
    fn value(&self, x: f64) -> f64 {
        x.powf(self.power.into())
    }

    fn derivative(&self, x: f64) -> f64 {
        let power = f64::from(self.power);
        if power == 0.0 { 0.0 } else { power * x.powf(power - 1.0) }
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (2.0, 0.0)
    }

    fn derivative_bound(&self, _x: f64) -> (f64, f64) {
        (5.0, 0.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[4, 110], [5, 110]]
    }

    fn is_tame(&self, x: f64) -> bool {
        x.abs() < 8.0
    }
}
