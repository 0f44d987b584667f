//! The sigmoid linear unit.

use super::{Function, HUGE, Reads, between, gates};
use crate::reference::map::{Twin, relu_derivative, sigmoid};
use crate::simd::{Element, Float, Simd};

#[derive(Clone, Copy)]
pub(super) struct Silu;

impl<T: Element> Function<T> for Silu {
    const READS: Reads = Reads::Input;
    const COSTS: [f64; 2] = [0.7, 0.6];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        T::silu(s, x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        let (gate, rest) = gates::<T, S>(s, x);
        dy * (gate * between(s, x, HUGE).mul_add(rest, s.splat(T::ONE)))
    }
}

impl Twin for Silu {
    fn value(&self, x: f64) -> f64 {
        if x == f64::NEG_INFINITY { -0.0 } else { x * sigmoid(x) }
    }

    fn derivative(&self, x: f64) -> f64 {
        if x.is_infinite() { relu_derivative(x) } else { sigmoid(x) * (1.0 + x * sigmoid(-x)) }
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (5.0, 0.0)
    }

    fn derivative_bound(&self, x: f64) -> (f64, f64) {
        // Neither of the two terms that cancel is above 1.13.
        (16.0 + 5.0 * x.abs(), 16.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[25, 35], [29, 39]]
    }
}
