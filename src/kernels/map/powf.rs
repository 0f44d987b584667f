//! Powers.

use super::{Function, Reads};
use crate::reference::map::Twin;
use crate::simd::{Element, Float, Mask, Simd};

/// The largest exponent whose power is a product.
const LARGEST_PRODUCT: f64 = 16.0;

/// xᵖ and the power its derivative needs.
#[derive(Clone, Copy)]
pub(super) struct Powf<T> {
    p: T,
    power: Power<T>,
    derivative: Power<T>,
}

#[derive(Clone, Copy)]
enum Power<T> {
    /// x to the `n`, or one over it.
    Product { n: u32, inverse: bool },
    /// e^(p·ln |x|).
    Exponential { p: T, parity: Parity },
}

#[derive(Clone, Copy, PartialEq)]
enum Parity {
    Even,
    Odd,
    Fraction,
}

impl<T: Element> Powf<T> {
    pub fn new(p: T) -> Self {
        // The derivative of x⁰ is 0 also where 1/x is infinite.
        let below = if p == T::ZERO { T::ZERO } else { p - T::ONE };
        Self { p, power: Power::new(p), derivative: Power::new(below) }
    }
}

impl<T: Element> Power<T> {
    fn new(p: T) -> Self {
        let exponent = p.to_f64();
        if exponent.trunc() == exponent && exponent.abs() <= LARGEST_PRODUCT {
            return Self::Product { n: exponent.abs() as u32, inverse: exponent < 0.0 };
        }
        // Infinities are even.
        let integer = exponent.is_infinite() || exponent.trunc() == exponent;
        let parity = match exponent % 2.0 {
            _ if !integer => Parity::Fraction,
            rest if rest.abs() == 1.0 => Parity::Odd,
            _ => Parity::Even,
        };
        Self::Exponential { p, parity }
    }

    #[inline(always)]
    fn of<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        let (zero, one) = (s.splat(T::ZERO), s.splat(T::ONE));
        match self {
            Self::Product { mut n, inverse } => {
                let (mut product, mut square) = (one, x);
                while n > 0 {
                    if n % 2 == 1 {
                        product = product * square;
                    }
                    square = square * square;
                    n /= 2;
                }
                if inverse { one / product } else { product }
            }
            Self::Exponential { p, parity } => {
                let size = x.abs();
                let power = T::exp(s, T::ln(s, size) * s.splat(p));
                // 1 to the power of infinity or NaN, where the product above is 0·∞ or NaN.
                let power = T::Vector::select(size.eq(one), one, power);
                match parity {
                    Parity::Even => power,
                    Parity::Odd => power.copysign(x),
                    Parity::Fraction => {
                        let undefined = x.lt(zero).and(s.splat(-T::INFINITY).lt(x));
                        T::Vector::select(undefined, s.splat(T::NAN), power)
                    }
                }
            }
        }
    }
}

impl<T: Element> Function<T> for Powf<T> {
    const READS: Reads = Reads::Input;
    const COSTS: [f64; 2] = [1.6, 1.7];

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S> {
        self.power.of(s, x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, _y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S> {
        dy * (s.splat(self.p) * self.derivative.of(s, x))
    }
}

/// The error of xᵖ in u.
fn bound(p: f64, x: f64) -> f64 {
    let product = p.trunc() == p && p.abs() <= LARGEST_PRODUCT;
    if product { p.abs() } else { 4.0 + 5.0 * (p * x.abs().ln()).abs() }
}

impl<T: Element> Twin for Powf<T> {
    fn value(&self, x: f64) -> f64 {
        x.powf(self.p.to_f64())
    }

    fn derivative(&self, x: f64) -> f64 {
        let p = self.p.to_f64();
        if p == 0.0 { 0.0 } else { p * x.powf(p - 1.0) }
    }

    fn value_bound(&self, x: f64) -> (f64, f64) {
        (bound(self.p.to_f64(), x), 0.0)
    }

    fn derivative_bound(&self, x: f64) -> (f64, f64) {
        (bound(self.p.to_f64() - 1.0, x) + 3.0, 0.0)
    }

    fn operations(&self) -> [[u32; 2]; 2] {
        match self.power {
            Power::Product { n, .. } => [[n; 2], [n + 1; 2]],
            Power::Exponential { .. } => [[55, 65], [60, 60]],
        }
    }

    fn is_tame(&self, x: f64) -> bool {
        x > 0.2 && x < 8.0
    }
}
