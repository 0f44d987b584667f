//! The tanh formula of GELU.

use std::f64::consts::PI;

use super::{Function, HUGE, Reads, above, between, constant, gates};
use crate::reference::map::{Twin, relu_derivative, sigmoid};
use crate::simd::{Element, Float, Simd};

/// 2√(2/π).
const LINEAR: f64 = 1.595_769_121_605_730_7;
/// 2√(2/π)·0.044715.
const CUBIC: f64 = LINEAR * 0.044715;

#[derive(Clone, Copy)]
pub(super) struct GeluTanh;

impl<T: Element> Function<T> for GeluTanh {
    const READS: Reads = Reads::Input;
    const COSTS: [f64; 2] = [0.7, 0.8];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        let (linear, cubic) = (constant::<T, S>(s, LINEAR), constant::<T, S>(s, CUBIC));
        above(s, -HUGE, x) * T::sigmoid(s, x * (x * x).mul_add(cubic, linear))
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        let (linear, cubic) = (constant::<T, S>(s, LINEAR), constant::<T, S>(s, CUBIC));
        // At ±40 the gate is 0 or 1 in f64 too.
        let x = between(s, x, 40.0);
        let square = x * x;
        let (gate, rest) = gates::<T, S>(s, x * square.mul_add(cubic, linear));
        let slope = square.mul_add(constant::<T, S>(s, 3.0) * cubic, linear);
        dy * (gate * (x * slope).mul_add(rest, s.splat(T::ONE)))
    }
}

/// v = 2√(2/π)·(x + 0.044715·x³)
fn argument(x: f64) -> f64 {
    2.0 * (2.0 / PI).sqrt() * (x + 0.044715 * x * x * x)
}

impl Twin for GeluTanh {
    fn value(&self, x: f64) -> f64 {
        if x == f64::NEG_INFINITY { -0.0 } else { x * sigmoid(argument(x)) }
    }

    fn derivative(&self, x: f64) -> f64 {
        if x.is_infinite() {
            return relu_derivative(x);
        }
        let (v, slope) = (argument(x), 2.0 * (2.0 / PI).sqrt() * (1.0 + 3.0 * 0.044715 * x * x));
        sigmoid(v) + x * sigmoid(v) * sigmoid(-v) * slope
    }

    fn value_bound(&self, x: f64) -> (f64, f64) {
        (5.0 + 5.0 * argument(x).abs(), 0.0)
    }

    fn derivative_bound(&self, x: f64) -> (f64, f64) {
        (16.0 + 5.0 * x.abs(), 16.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[30, 40], [40, 50]]
    }

    fn is_tame(&self, x: f64) -> bool {
        x.abs() < 5.0
    }
}
