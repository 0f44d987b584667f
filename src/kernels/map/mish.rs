//! Mish.

use super::{Function, HUGE, Reads, between, constant};
use crate::reference::map::{Twin, relu_derivative, sigmoid};
use crate::simd::{Element, Float, Simd};

#[derive(Clone, Copy)]
pub(super) struct Mish;

impl<T: Element> Function<T> for Mish {
    const READS: Reads = Reads::Input;
    const COSTS: [f64; 2] = [1.5, 0.8];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        T::mish(s, x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        // With f = exp(−|x|), A and the divisor D as in `math::mish`: A/D + 4x·f·(1 + f)·(1 or f)/D².
        let (one, two, negative) = (s.splat(T::ONE), constant::<T, S>(s, 2.0), x.lt(s.splat(T::ZERO)));
        let f = T::exp(s, -x.abs());
        let dividend = T::Vector::select(negative, f * (two + f), one + two * f);
        let divisor = dividend + T::Vector::select(negative, two, two * f * f);
        let factor = T::Vector::select(negative, f, f * f) * (one + f);
        let slope = constant::<T, S>(s, 4.0) * between(s, x, HUGE) * (factor / (divisor * divisor));
        dy * (dividend / divisor + slope)
    }
}

impl Twin for Mish {
    fn value(&self, x: f64) -> f64 {
        // A quotient of sums of positive terms.
        let f = (-x.abs()).exp();
        if x == f64::NEG_INFINITY {
            -0.0
        } else if x < 0.0 {
            x * (f * (f + 2.0) / (f * (f + 2.0) + 2.0))
        } else {
            x * ((1.0 + 2.0 * f) / (1.0 + 2.0 * f + 2.0 * f * f))
        }
    }

    fn derivative(&self, x: f64) -> f64 {
        if x.is_infinite() {
            return relu_derivative(x);
        }
        // tanh t + x·σ(x)·(1 − tanh² t), t = ln(1 + eˣ)
        let t = if x > 20.0 { 1.0 } else { x.exp().ln_1p().tanh() };
        t + x * sigmoid(x) * (1.0 - t * t)
    }

    fn value_bound(&self, _x: f64) -> (f64, f64) {
        (5.0, 0.0)
    }

    fn derivative_bound(&self, _x: f64) -> (f64, f64) {
        (16.0, 16.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        [[54, 64], [38, 48]]
    }

    fn is_tame(&self, x: f64) -> bool {
        x.abs() < 15.0
    }
}
