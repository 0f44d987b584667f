//! Elementwise functions and their derivatives, one number at a time.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// The error function 2/√π ∫₀ˣ e^(−t²) dt; the difference from 1 where that does not cancel.
pub fn erf(x: f64) -> f64 {
    if x.abs() < 1.0 { erf_series(x) } else { (1.0 - erfc(x.abs())).copysign(x) }
}

/// 2/√π ∫₀ˣ e^(−t²) dt by its series, 2/√π · e^(−x²) · Σ 2ⁿ x²ⁿ⁺¹ / (1·3·5·…·(2n + 1)); all terms have the same sign.
fn erf_series(x: f64) -> f64 {
    let (mut term, mut sum) = (x, 0.0);
    for n in 0..60 {
        sum += term;
        term *= 2.0 * x * x / (2 * n + 3) as f64;
    }
    2.0 / PI.sqrt() * (-x * x).exp() * sum
}

/// 1 − erf x: by the series where |x| < 1, else by the continued fraction
/// e^(−t²)/√π · 1/(t + (1/2)/(t + (2/2)/(t + …))) of t = |x|.
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
fn normal_cdf(x: f64) -> f64 {
    0.5 * erfc(-x * FRAC_1_SQRT_2)
}

/// −1, ±0 or 1; NaN of NaN.
pub fn sign(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() { x } else { x.signum() }
}

/// x within \[min, max\]; NaN stays.
pub fn clamp(x: f64, min: f64, max: f64) -> f64 {
    let x = if x < min { min } else { x };
    if x > max { max } else { x }
}

/// 1 where min ≤ x ≤ max, else 0, also at NaN.
pub fn clamp_derivative(x: f64, min: f64, max: f64) -> f64 {
    if min <= x && x <= max { 1.0 } else { 0.0 }
}

/// −ln(1 + e⁻ˣ), without overflow.
pub fn log_sigmoid(x: f64) -> f64 {
    if x < 0.0 { x - x.exp().ln_1p() } else { -(-x).exp().ln_1p() }
}

/// σ(−x)
pub fn log_sigmoid_derivative(x: f64) -> f64 {
    sigmoid(-x)
}

/// 2/√π·e^(−x²)
pub fn erf_derivative(x: f64) -> f64 {
    2.0 / PI.sqrt() * (-x * x).exp()
}

/// 1/√x
pub fn rsqrt(x: f64) -> f64 {
    1.0 / x.sqrt()
}

/// −½·x^(−3/2)
pub fn rsqrt_derivative(x: f64) -> f64 {
    -0.5 / (x * x.sqrt())
}

/// The sign; 0 of 0.
pub fn abs_derivative(x: f64) -> f64 {
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

/// x, or slope·x where x is not positive.
pub fn leaky_relu(x: f64, slope: f64) -> f64 {
    if x > 0.0 { x } else { slope * x }
}

/// 1, or slope where x is not positive.
pub fn leaky_relu_derivative(x: f64, slope: f64) -> f64 {
    if x > 0.0 { 1.0 } else { slope }
}

/// 1 / (1 + e⁻ˣ)
pub fn sigmoid(x: f64) -> f64 {
    if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }
}

/// σ(x)·σ(−x)
pub fn sigmoid_derivative(x: f64) -> f64 {
    sigmoid(x) * sigmoid(-x)
}

/// 1 − tanh² x
pub fn tanh_derivative(x: f64) -> f64 {
    4.0 * sigmoid_derivative(2.0 * x)
}

/// x·Φ(x)
pub fn gelu(x: f64) -> f64 {
    if x == f64::NEG_INFINITY { -0.0 } else { x * normal_cdf(x) }
}

/// Φ(x) + x·φ(x)
pub fn gelu_derivative(x: f64) -> f64 {
    let density = (-0.5 * x * x).exp() / (2.0 * PI).sqrt();
    normal_cdf(x) + if x.is_infinite() { 0.0 } else { x * density }
}

/// 2√(2/π)·(x + 0.044715·x³)
pub fn gelu_tanh_argument(x: f64) -> f64 {
    2.0 * (2.0 / PI).sqrt() * (x + 0.044715 * x * x * x)
}

/// x·½·(1 + tanh(v/2)) = x·σ(v), v the [argument](gelu_tanh_argument).
pub fn gelu_tanh(x: f64) -> f64 {
    if x == f64::NEG_INFINITY { -0.0 } else { x * sigmoid(gelu_tanh_argument(x)) }
}

/// σ(v) + x·σ(v)·σ(−v)·v'
pub fn gelu_tanh_derivative(x: f64) -> f64 {
    if x.is_infinite() {
        return relu_derivative(x);
    }
    let v = gelu_tanh_argument(x);
    let slope = 2.0 * (2.0 / PI).sqrt() * (1.0 + 3.0 * 0.044715 * x * x);
    sigmoid(v) + x * sigmoid_derivative(v) * slope
}

/// x·σ(x)
pub fn silu(x: f64) -> f64 {
    if x == f64::NEG_INFINITY { -0.0 } else { x * sigmoid(x) }
}

/// σ(x)·(1 + x·σ(−x))
pub fn silu_derivative(x: f64) -> f64 {
    if x.is_infinite() { relu_derivative(x) } else { sigmoid(x) * (1.0 + x * sigmoid(-x)) }
}

/// x·tanh(ln(1 + eˣ)), as a quotient of sums of positive terms.
pub fn mish(x: f64) -> f64 {
    if x == f64::NEG_INFINITY {
        return -0.0;
    }
    let f = (-x.abs()).exp();
    if x < 0.0 {
        x * (f * (f + 2.0) / (f * (f + 2.0) + 2.0))
    } else {
        x * ((1.0 + 2.0 * f) / (1.0 + 2.0 * f + 2.0 * f * f))
    }
}

/// tanh t + x·σ(x)·(1 − tanh² t), t = ln(1 + eˣ)
pub fn mish_derivative(x: f64) -> f64 {
    if x.is_infinite() {
        return relu_derivative(x);
    }
    let t = if x > 20.0 { 1.0 } else { x.exp().ln_1p().tanh() };
    t + x * sigmoid(x) * (1.0 - t * t)
}

/// n·xⁿ⁻¹; 0 when n is 0.
pub fn powi_derivative(x: f64, n: i32) -> f64 {
    if n == 0 { 0.0 } else { f64::from(n) * x.powf(f64::from(n) - 1.0) }
}

/// b·aᵇ⁻¹; 0 where b is 0.
pub fn pow_base_derivative(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { b * a.powf(b - 1.0) }
}

/// aᵇ·ln a; 0 where a is 0 and b ≥ 0.
pub fn pow_exponent_derivative(a: f64, b: f64) -> f64 {
    if a == 0.0 && b >= 0.0 { 0.0 } else { a.powf(b) * a.ln() }
}

/// ln(1 + eˣ), or x where x > 20.
pub fn softplus(x: f64) -> f64 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

/// σ(x), or 1 where x > 20.
pub fn softplus_derivative(x: f64) -> f64 {
    if x > 20.0 { 1.0 } else { sigmoid(x) }
}

/// x, or alpha·(eˣ − 1) where x is not positive.
pub fn elu(x: f64, alpha: f64) -> f64 {
    if x > 0.0 { x } else { alpha * x.exp_m1() }
}

/// 1, or alpha·eˣ where x is not positive.
pub fn elu_derivative(x: f64, alpha: f64) -> f64 {
    if x > 0.0 { 1.0 } else { alpha * x.exp() }
}

/// p·xᵖ⁻¹; 0 when p is 0.
pub fn powf_derivative(x: f64, p: f64) -> f64 {
    if p == 0.0 { 0.0 } else { p * x.powf(p - 1.0) }
}

/// The smaller; NaN if either is NaN.
pub fn minimum(a: f64, b: f64) -> f64 {
    if a.is_nan() || a < b { a } else { b }
}

/// The larger; NaN if either is NaN.
pub fn maximum(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}
