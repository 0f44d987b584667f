//! Elementwise functions and their derivatives, one number at a time.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// A function of one number for tests and benches: its formula in `f64`, and the bounds that its kernel
/// guarantees. It is defined in the file of the kernel and returned by
/// [`Unary::twin`](crate::kernels::map::Unary::twin).
pub trait Twin: Send + Sync {
    /// The value.
    fn value(&self, x: f64) -> f64;

    /// The derivative.
    fn derivative(&self, x: f64) -> f64;

    /// The documented error of the kernel's value in u, relative and absolute; 2 ULP are at most 4 u.
    fn value_bound(&self, x: f64) -> (f64, f64);

    /// The same for the derivative; the absolute part is due to terms that cancel.
    fn derivative_bound(&self, x: f64) -> (f64, f64);

    /// The kernel's operations for a value and for a gradient, each in `f32` and in `f64`, since polynomials
    /// differ.
    fn operations(&self) -> [[u32; 2]; 2];

    /// Whether random graphs may use it at `x`: it is smooth there, and its numbers stay small.
    fn is_tame(&self, x: f64) -> bool {
        x.abs() < 50.0
    }

    /// Whether a derivative of 0 turns every gradient into 0, even infinities and NaN.
    fn is_flat(&self) -> bool {
        false
    }
}

/// Far enough from a kink.
pub(crate) fn is_off(x: f64, kink: f64) -> bool {
    (x - kink).abs() > 0.02
}

/// Far enough from a jump of rounding.
pub(crate) fn between_integers(x: f64) -> bool {
    is_off(2.0 * x, (2.0 * x).round())
}

/// The error function 2/√π ∫₀ˣ e^(−t²) dt; computed as the difference from 1 where that does not cancel.
pub fn erf(x: f64) -> f64 {
    if x.abs() < 1.0 { erf_series(x) } else { (1.0 - erfc(x.abs())).copysign(x) }
}

/// 2/√π ∫₀ˣ e^(−t²) dt by its series, 2/√π · e^(−x²) · Σ 2ⁿ x²ⁿ⁺¹ / (1·3·5·…·(2n + 1)); all terms have the
/// same sign.
fn erf_series(x: f64) -> f64 {
    let (mut term, mut sum) = (x, 0.0);
    for n in 0..60 {
        sum += term;
        term *= 2.0 * x * x / (2 * n + 3) as f64;
    }
    2.0 / PI.sqrt() * (-x * x).exp() * sum
}

/// 1 − erf x: by the series where |x| < 1, otherwise by the continued fraction e^(−t²)/√π · 1/(t + (1/2)/(t +
/// (2/2)/(t + …))) of t = |x|.
fn erfc(x: f64) -> f64 {
    if x.abs() < 1.0 {
        return 1.0 - erf_series(x);
    }
    let t = x.abs();
    let fraction = (1..400).rev().fold(t, |rest, n| t + n as f64 / 2.0 / rest);
    let tail = (-t * t).exp() / (PI.sqrt() * fraction);
    if x > 0.0 { tail } else { 2.0 - tail }
}

/// The normal distribution Φ(x) = ½·(1 + erf(x/√2)), without cancellation.
pub(crate) fn normal_cdf(x: f64) -> f64 {
    0.5 * erfc(-x * FRAC_1_SQRT_2)
}

/// −1, ±0 or 1; NaN for NaN.
pub fn sign(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() { x } else { x.signum() }
}

/// x, or 0 where x is negative.
pub fn relu(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

/// 1 where x is positive.
pub fn relu_derivative(x: f64) -> f64 {
    if x <= 0.0 { 0.0 } else { 1.0 }
}

/// 1 / (1 + e⁻ˣ)
pub fn sigmoid(x: f64) -> f64 {
    if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }
}

/// b·aᵇ⁻¹; 0 where b is 0.
pub fn pow_base_derivative(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { b * a.powf(b - 1.0) }
}

/// aᵇ·ln a; 0 where a is 0 and b ≥ 0.
pub fn pow_exponent_derivative(a: f64, b: f64) -> f64 {
    if a == 0.0 && b >= 0.0 { 0.0 } else { a.powf(b) * a.ln() }
}

/// The smaller; NaN if either is NaN.
pub fn minimum(a: f64, b: f64) -> f64 {
    if a.is_nan() || a < b { a } else { b }
}

/// The larger; NaN if either is NaN.
pub fn maximum(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}
