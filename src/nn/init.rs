//! Starting values of parameters.
//!
//! For a weight of `[outputs, inputs, …]`, as PyTorch lays it out, fan-in is inputs and fan-out outputs, times what
//! further axes hold.

use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::simd::Element;
use crate::tensor::Tensor;

/// The function after a layer, which decides how much its weights must make up for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Nonlinearity {
    /// None; gain 1.
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
    /// What the standard deviation of the weights is multiplied with.
    pub fn gain(self) -> f64 {
        match self {
            Self::Linear | Self::Sigmoid => 1.0,
            Self::Tanh => 5.0 / 3.0,
            Self::ReLU => 2.0_f64.sqrt(),
            Self::LeakyReLU(slope) => (2.0 / (1.0 + slope * slope)).sqrt(),
        }
    }
}

/// Whose variance Kaiming initialisation keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fan {
    /// That of the outputs of the forward pass.
    #[default]
    In,
    /// That of the gradients of the backward pass.
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
/// [`Error::Shape`] for a shape that is too large.
pub fn constant<T: Element>(shape: impl AsRef<[usize]>, value: T) -> Result<Tensor<T>> {
    Tensor::full(shape, value)
}

/// Uniform in [low, high).
///
/// # Errors
/// [`Error::Value`] when a bound is not finite or `high < low`.
pub fn uniform<T: Element>(
    shape: impl AsRef<[usize]>,
    low: f64,
    high: f64,
    rng: &mut Rng,
) -> Result<Tensor<T>> {
    Tensor::rand(shape, low, high, rng)
}

/// Normal with this mean and standard deviation.
///
/// # Errors
/// [`Error::Value`] when a parameter is not finite or `std < 0`.
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
/// [`Error::Shape`] for a shape without fans.
pub fn xavier_uniform<T: Element>(shape: impl AsRef<[usize]>, gain: f64, rng: &mut Rng) -> Result<Tensor<T>> {
    let (fan_in, fan_out) = fans("xavier_uniform", shape.as_ref())?;
    let bound = gain * (6.0 / (fan_in + fan_out)).sqrt();
    Tensor::rand(shape, -bound, bound, rng)
}

/// Normal with standard deviation gain·√(2 / (fan-in + fan-out)) (Glorot and Bengio 2010).
///
/// # Errors
/// [`Error::Shape`] for a shape without fans.
pub fn xavier_normal<T: Element>(shape: impl AsRef<[usize]>, gain: f64, rng: &mut Rng) -> Result<Tensor<T>> {
    let (fan_in, fan_out) = fans("xavier_normal", shape.as_ref())?;
    Tensor::randn(shape, 0.0, gain * (2.0 / (fan_in + fan_out)).sqrt(), rng)
}

/// Uniform in ±gain·√(3 / fan) (He et al. 2015).
///
/// # Errors
/// [`Error::Shape`] for a shape without fans.
pub fn kaiming_uniform<T: Element>(
    shape: impl AsRef<[usize]>,
    fan: Fan,
    nonlinearity: Nonlinearity,
    rng: &mut Rng,
) -> Result<Tensor<T>> {
    let bound = kaiming_std("kaiming_uniform", shape.as_ref(), fan, nonlinearity)? * 3.0_f64.sqrt();
    Tensor::rand(shape, -bound, bound, rng)
}

/// Normal with standard deviation gain/√fan (He et al. 2015).
///
/// # Errors
/// [`Error::Shape`] for a shape without fans.
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
