//! Initial values of parameters.
//!
//! For a weight of `[outputs, inputs, …]`, which is PyTorch's layout, fan-in is inputs and fan-out is
//! outputs, each times the size of the further axes.

use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::simd::Element;
use crate::tensor::Tensor;

/// The function after a layer, which determines the gain of its weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Nonlinearity {
    /// No function; gain 1.
    Linear,
    /// Gain 1.
    Sigmoid,
    /// Gain 5/3.
    Tanh,
    /// Gain √2.
    ReLU,
    /// Gain √(2 / (1 + slope²)).
    LeakyReLU(f64),
}

impl Nonlinearity {
    /// The factor on the standard deviation of the weights.
    pub fn gain(self) -> f64 {
        match self {
            Self::Linear | Self::Sigmoid => 1.0,
            Self::Tanh => 5.0 / 3.0,
            Self::ReLU => 2.0_f64.sqrt(),
            Self::LeakyReLU(slope) => (2.0 / (1.0 + slope * slope)).sqrt(),
        }
    }
}

/// Which variance Kaiming initialisation preserves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fan {
    /// The variance of the outputs in the forward pass.
    #[default]
    In,
    /// The variance of the gradients in the backward pass.
    Out,
}

/// (fan-in, fan-out).
fn fans(op: &'static str, shape: &[usize]) -> Result<(f64, f64)> {
    let [outputs, inputs, rest @ ..] = shape else {
        return Err(Error::shape(op, format!("{shape:?} has fewer than two axes: it has no fan")));
    };
    let field: usize = rest.iter().product();
    if inputs * field == 0 || outputs * field == 0 {
        return Err(Error::shape(op, format!("{shape:?} is empty: it has no fan")));
    }
    Ok(((inputs * field) as f64, (outputs * field) as f64))
}

/// All elements equal to `value`.
///
/// # Errors
/// [`Error::Shape`] if the shape is too large.
pub fn constant<T: Element>(shape: impl AsRef<[usize]>, value: T) -> Result<Tensor<T>> {
    Tensor::full(shape, value)
}

/// Uniform in [low, high).
///
/// # Errors
/// [`Error::Value`] if a bound is not finite or `high < low`.
pub fn uniform<T: Element>(
    shape: impl AsRef<[usize]>,
    low: f64,
    high: f64,
    rng: &mut Rng,
) -> Result<Tensor<T>> {
    Tensor::rand(shape, low, high, rng)
}

/// Normally distributed with this mean and standard deviation.
///
/// # Errors
/// [`Error::Value`] if `mean` or `std` is not finite, or if `std < 0`.
pub fn normal<T: Element>(
    shape: impl AsRef<[usize]>,
    mean: f64,
    std: f64,
    rng: &mut Rng,
) -> Result<Tensor<T>> {
    Tensor::randn(shape, mean, std, rng)
}

/// Uniform in ±gain·√(6 / (fan-in + fan-out)) (Glorot and Bengio 2010).
///
/// # Errors
/// [`Error::Shape`] if the shape has no fan-in and fan-out.
pub fn xavier_uniform<T: Element>(shape: impl AsRef<[usize]>, gain: f64, rng: &mut Rng) -> Result<Tensor<T>> {
    let (fan_in, fan_out) = fans("xavier_uniform", shape.as_ref())?;
    let bound = gain * (6.0 / (fan_in + fan_out)).sqrt();
    Tensor::rand(shape, -bound, bound, rng)
}

/// Normally distributed with standard deviation gain·√(2 / (fan-in + fan-out)) (Glorot and Bengio 2010).
///
/// # Errors
/// [`Error::Shape`] if the shape has no fan-in and fan-out.
pub fn xavier_normal<T: Element>(shape: impl AsRef<[usize]>, gain: f64, rng: &mut Rng) -> Result<Tensor<T>> {
    let (fan_in, fan_out) = fans("xavier_normal", shape.as_ref())?;
    Tensor::randn(shape, 0.0, gain * (2.0 / (fan_in + fan_out)).sqrt(), rng)
}

/// Uniform in ±gain·√(3 / fan) (He et al. 2015).
///
/// # Errors
/// [`Error::Shape`] if the shape has no fan-in and fan-out.
pub fn kaiming_uniform<T: Element>(
    shape: impl AsRef<[usize]>,
    fan: Fan,
    nonlinearity: Nonlinearity,
    rng: &mut Rng,
) -> Result<Tensor<T>> {
    let bound = kaiming_std("kaiming_uniform", shape.as_ref(), fan, nonlinearity)? * 3.0_f64.sqrt();
    Tensor::rand(shape, -bound, bound, rng)
}

/// Normally distributed with standard deviation gain/√fan (He et al. 2015).
///
/// # Errors
/// [`Error::Shape`] if the shape has no fan-in and fan-out.
pub fn kaiming_normal<T: Element>(
    shape: impl AsRef<[usize]>,
    fan: Fan,
    nonlinearity: Nonlinearity,
    rng: &mut Rng,
) -> Result<Tensor<T>> {
    let std = kaiming_std("kaiming_normal", shape.as_ref(), fan, nonlinearity)?;
    Tensor::randn(shape, 0.0, std, rng)
}

fn kaiming_std(op: &'static str, shape: &[usize], fan: Fan, nonlinearity: Nonlinearity) -> Result<f64> {
    let (fan_in, fan_out) = fans(op, shape)?;
    let fan = match fan {
        Fan::In => fan_in,
        Fan::Out => fan_out,
    };
    Ok(nonlinearity.gain() / fan.sqrt())
}
