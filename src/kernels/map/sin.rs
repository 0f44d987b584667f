//! The sine.

use super::{Function, Reads};
use crate::reference::map::Twin;
use crate::simd::{Element, Simd};

#[derive(Clone, Copy)]
pub(super) struct Sin;

impl<T: Element> Function<T> for Sin {
    const READS: Reads = Reads::Input;
    const COSTS: [f64; 2] = [0.95, 1.0];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        T::sin(s, x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        dy * T::cos(s, x)
    }
}

impl Twin for Sin {
    fn value(&self, x: f64) -> f64 {
        x.sin()
    }

    fn derivative(&self, x: f64) -> f64 {
        x.cos()
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (2.0, 0.0)
    }

    fn derivative_bound(&self, _x: f64) -> (f64, f64) {
        (3.0, 0.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[27, 57], [27, 57]]
    }
}
