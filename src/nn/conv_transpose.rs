//! Transposed convolutions.

use super::conv::{describe, uniform};
use super::display::display_as_tree;
use super::{Module, Parameter, Visitor};
use crate::autograd::ConvOptions;
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::simd::Element;
use crate::tensor::Tensor;

/// A transposed convolution of sequences, `[batch, channels, length]`.
pub type ConvTranspose1d<T = f32> = ConvTranspose<1, T>;

/// A transposed convolution of images, `[batch, channels, height, width]`.
pub type ConvTranspose2d<T = f32> = ConvTranspose<2, T>;

/// The gradient of a convolution with respect to its input, run forward: x of `[batch, inputs, …]`, with `D`
/// axes behind the channels, weight of `[inputs, outputs / groups, kernel …]`, bias of `[outputs]`. With a
/// stride, the output is larger than x: `(n − 1)·stride − padding + dilation·(kernel − 1) + output_padding +
/// 1`.
///
/// Weight and bias start uniform in ±1/√(outputs / groups · taps), in this order, as in PyTorch.
///
/// ```
/// use gristmill::{Rng, Tensor, autograd::ConvOptions, nn::{ConvTranspose2d, Module}};
/// let options = ConvOptions { stride: [2, 2], ..ConvOptions::default() };
/// let layer: ConvTranspose2d = ConvTranspose2d::with_options(16, 3, [2, 2], options, &mut Rng::seed(4))?;
/// assert_eq!(layer.forward(&Tensor::zeros([5, 16, 8, 8])?)?.shape(), [5, 3, 16, 16]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct ConvTranspose<const D: usize, T: Element = f32> {
    weight: Parameter<T>,
    bias: Option<Parameter<T>>,
    options: ConvOptions<D>,
}

impl<const D: usize, T: Element> ConvTranspose<D, T> {
    /// A layer with a bias, a stride of 1 and no padding.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are no inputs, outputs or taps.
    pub fn new(inputs: usize, outputs: usize, kernel: [usize; D], rng: &mut Rng) -> Result<Self> {
        Self::with_options(inputs, outputs, kernel, ConvOptions::default(), rng)
    }

    /// A layer with a bias and these options.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are no inputs, outputs or taps, or if the groups do not divide inputs and
    /// outputs.
    pub fn with_options(
        inputs: usize,
        outputs: usize,
        kernel: [usize; D],
        options: ConvOptions<D>,
        rng: &mut Rng,
    ) -> Result<Self> {
        let groups = options.groups;
        if groups == 0 || !inputs.is_multiple_of(groups) || !outputs.is_multiple_of(groups) {
            let message = format!("{groups} groups do not divide {inputs} inputs and {outputs} outputs");
            return Err(Error::shape(Self::NAME, message));
        }
        let shape = [&[inputs, outputs / groups], &kernel[..]].concat();
        let (weight, bias) = uniform(&shape, outputs, rng)?;
        Ok(Self { weight, bias: Some(bias), options })
    }

    const NAME: &'static str = if D == 1 { "ConvTranspose1d" } else { "ConvTranspose2d" };

    /// Removes the bias.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Self { bias: None, ..self }
    }

    /// The weight, `[inputs, outputs / groups, kernel …]`.
    pub fn weight(&self) -> &Parameter<T> {
        &self.weight
    }

    /// The bias, `[outputs]`.
    pub fn bias(&self) -> Option<&Parameter<T>> {
        self.bias.as_ref()
    }

    /// Stride, padding, dilation, groups and output padding.
    pub fn options(&self) -> ConvOptions<D> {
        self.options
    }
}

display_as_tree!(ConvTranspose<T>, D);

impl<const D: usize, T: Element> Module<T> for ConvTranspose<D, T> {
    #[track_caller]
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let (weight, bias) = (self.weight.read(), self.bias.as_ref().map(Parameter::read));
        x.convolved_transposed(&weight, bias.as_deref(), self.options)
    }

    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a, T>) {
        visitor.parameter("weight", &self.weight);
        if let Some(bias) = &self.bias {
            visitor.parameter("bias", bias);
        }
    }

    fn flops(&self, input: &[usize]) -> u64 {
        let weight = self.weight.value();
        let terms: u64 = weight.shape()[1..].iter().map(|&n| n as u64).product();
        2 * terms * input.iter().map(|&n| n as u64).product::<u64>()
    }

    fn describe(&self) -> String {
        let value = self.weight.value();
        let (inputs, outputs) = (value.shape()[0], value.shape()[1] * self.options.groups);
        let bias = if self.bias.is_some() { "" } else { ", no bias" };
        let (kernel, options) = (&value.shape()[2..], describe(&self.options));
        format!("{}({inputs} → {outputs}, kernel {kernel:?}{options}{bias})", Self::NAME)
    }
}
