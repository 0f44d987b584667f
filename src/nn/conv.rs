//! Convolutions.

use super::display::display_as_tree;
use super::init::{self, Fan, Nonlinearity};
use super::{Module, Parameter, Visitor};
use crate::autograd::{ConvOptions, Epilogue, Padding};
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::simd::Element;
use crate::tensor::Tensor;

/// A convolution of sequences, `[batch, channels, length]`.
pub type Conv1d<T = f32> = Conv<1, T>;

/// A convolution of images, `[batch, channels, height, width]`.
pub type Conv2d<T = f32> = Conv<2, T>;

/// The cross-correlation of x of `[batch, inputs, …]`, with `D` axes behind the channels, with a weight of
/// `[outputs, inputs / groups, kernel …]`, and a bias of `[outputs]`: a [`Conv1d`] or a [`Conv2d`]. Without
/// the batch, x is a single sequence or image.
///
/// Weight and bias start uniform in ±1/√(inputs / groups · taps), in this order, as in PyTorch.
///
/// ```
/// use gristmill::{Rng, Tensor, autograd::{ConvOptions, Padding}, nn::{Conv2d, Module}};
/// let options = ConvOptions { stride: [2, 2], padding: Padding::Zeros([1, 1]), ..ConvOptions::default() };
/// let layer: Conv2d = Conv2d::with_options(3, 16, [3, 3], options, &mut Rng::seed(4))?;
/// assert_eq!(layer.weight().value().shape(), [16, 3, 3, 3]);
/// assert_eq!(layer.forward(&Tensor::zeros([5, 3, 32, 32])?)?.shape(), [5, 16, 16, 16]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct Conv<const D: usize, T: Element = f32> {
    weight: Parameter<T>,
    bias: Option<Parameter<T>>,
    options: ConvOptions<D>,
}

impl<const D: usize, T: Element> Conv<D, T> {
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
        let shape = [&[outputs, inputs / groups], &kernel[..]].concat();
        let (weight, bias) = uniform(&shape, outputs, rng)?;
        Self::from_parameters(&weight, Some(&bias), options)
    }

    /// A layer with these parameters, which other layers may share: weight of
    /// `[outputs, inputs / groups, kernel …]`, bias of `[outputs]` or none.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit each other or the groups.
    pub fn from_parameters(
        weight: &Parameter<T>,
        bias: Option<&Parameter<T>>,
        options: ConvOptions<D>,
    ) -> Result<Self> {
        let value = weight.value();
        let outputs = value.shape().first().copied().unwrap_or(0);
        if value.rank() != D + 2 || options.groups == 0 || !outputs.is_multiple_of(options.groups) {
            let message = format!("a weight of {:?} does not fit {} groups", value.shape(), options.groups);
            return Err(Error::shape(Self::NAME, message));
        }
        if let Some(bias) = bias.map(Parameter::value).filter(|bias| bias.shape() != [outputs]) {
            let message = format!("bias {:?} does not fit weight {:?}", bias.shape(), value.shape());
            return Err(Error::shape(Self::NAME, message));
        }
        Ok(Self { weight: weight.clone(), bias: bias.cloned(), options })
    }

    const NAME: &'static str = if D == 1 { "Conv1d" } else { "Conv2d" };

    /// Removes the bias.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Self { bias: None, ..self }
    }

    /// The weight, `[outputs, inputs / groups, kernel …]`.
    pub fn weight(&self) -> &Parameter<T> {
        &self.weight
    }

    /// The bias, `[outputs]`.
    pub fn bias(&self) -> Option<&Parameter<T>> {
        self.bias.as_ref()
    }

    /// Stride, padding, dilation and groups.
    pub fn options(&self) -> ConvOptions<D> {
        self.options
    }

    #[track_caller]
    fn run(&self, x: &Tensor<T>, then: Option<Epilogue<'_, T>>) -> Result<Tensor<T>> {
        let (weight, bias) = (self.weight.read(), self.bias.as_ref().map(Parameter::read));
        x.convolved(&weight, bias.as_deref(), self.options, then)
    }
}

/// A weight of `[outputs, inputs, …]` and a bias, as PyTorch draws them for convolutions.
pub(super) fn uniform<T: Element>(
    shape: &[usize],
    outputs: usize,
    rng: &mut Rng,
) -> Result<(Parameter<T>, Parameter<T>)> {
    // Kaiming with slope √5 is 1/√fan, which PyTorch also uses for the bias.
    let after = Nonlinearity::LeakyReLU(5.0_f64.sqrt());
    let weight = init::kaiming_uniform(shape, Fan::In, after, rng)?;
    let fan: usize = shape[1..].iter().product();
    let bound = 1.0 / (fan as f64).sqrt();
    let bias = init::uniform([outputs], -bound, bound, rng)?;
    Ok((Parameter::new(&weight), Parameter::new(&bias)))
}

/// What a description says of options that are not the default.
pub(super) fn describe<const D: usize>(options: &ConvOptions<D>) -> String {
    let ConvOptions { stride, padding, dilation, groups, output_padding } = *options;
    let mut text = String::new();
    if stride != [1; D] {
        text += &format!(", stride {stride:?}");
    }
    match padding {
        Padding::Zeros(zeros) if zeros == [0; D] => {}
        Padding::Zeros(zeros) => text += &format!(", padding {zeros:?}"),
        Padding::Sides(sides) => text += &format!(", padding {sides:?}"),
        Padding::Same => text += ", same padding",
    }
    if output_padding != [0; D] {
        text += &format!(", output padding {output_padding:?}");
    }
    if dilation != [1; D] {
        text += &format!(", dilation {dilation:?}");
    }
    if groups != 1 {
        text += &format!(", {groups} groups");
    }
    text
}

display_as_tree!(Conv<T>, D);

impl<const D: usize, T: Element> Module<T> for Conv<D, T> {
    #[track_caller]
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.run(x, None)
    }

    #[track_caller]
    fn forward_then(&self, x: &Tensor<T>, then: Epilogue<'_, T>) -> Result<Tensor<T>> {
        self.run(x, Some(then))
    }

    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a, T>) {
        visitor.parameter("weight", &self.weight);
        if let Some(bias) = &self.bias {
            visitor.parameter("bias", bias);
        }
    }

    fn flops(&self, input: &[usize]) -> u64 {
        let weight = self.weight.value();
        let output = self.options.output(input, weight.shape()).unwrap_or_default();
        let terms: u64 = weight.shape()[1..].iter().map(|&n| n as u64).product();
        2 * terms * output.iter().map(|&n| n as u64).product::<u64>()
    }

    fn describe(&self) -> String {
        let value = self.weight.value();
        let (outputs, inputs) = (value.shape()[0], value.shape()[1] * self.options.groups);
        let bias = if self.bias.is_some() { "" } else { ", no bias" };
        let (kernel, options) = (&value.shape()[2..], describe(&self.options));
        format!("{}({inputs} → {outputs}, kernel {kernel:?}{options}{bias})", Self::NAME)
    }
}
