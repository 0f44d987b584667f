//! Group normalisation.

use super::display::display_as_tree;
use super::{Module, Parameter, Visitor};
use crate::error::{Error, Result};
use crate::simd::Element;
use crate::tensor::Tensor;

/// `(x − mean) / sqrt(var + eps) · weight + bias` for x of `[samples, channels, …]` (Wu and He 2018), with
/// the mean and the biased variance of each group of neighbouring channels of each sample. eps is 1e-5 by
/// default; weights start as 1, biases as 0.
///
/// With one group, it is layer normalisation over all axes but the first, with parameters per channel; with
/// as many groups as channels, it is instance normalisation.
///
/// ```
/// use gristmill::{Tensor, nn::{GroupNorm, Module}};
/// let layer: GroupNorm = GroupNorm::new(2, 6)?;
/// assert_eq!(layer.forward(&Tensor::zeros([5, 6, 8, 8])?)?.shape(), [5, 6, 8, 8]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct GroupNorm<T: Element = f32> {
    affine: Option<(Parameter<T>, Parameter<T>)>,
    groups: usize,
    channels: usize,
    eps: f64,
}

impl<T: Element> GroupNorm<T> {
    /// A layer that divides `channels` channels into `groups` groups.
    ///
    /// # Errors
    /// [`Error::Value`] if the channels cannot be divided into equal groups, [`Error::Shape`] if there are
    /// too many.
    pub fn new(num_groups: usize, num_channels: usize) -> Result<Self> {
        if num_groups == 0 || !num_channels.is_multiple_of(num_groups) {
            let message = format!("{num_channels} channels do not fall into {num_groups} equal groups");
            return Err(Error::value("GroupNorm", message));
        }
        let weight = Parameter::new(&Tensor::ones([num_channels])?);
        let bias = Parameter::new(&Tensor::zeros([num_channels])?);
        Ok(Self { affine: Some((weight, bias)), groups: num_groups, channels: num_channels, eps: 1e-5 })
    }

    /// Sets the number that is added to the variance before the square root.
    #[must_use]
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// Removes weight and bias.
    #[must_use]
    pub fn without_affine(self) -> Self {
        Self { affine: None, ..self }
    }

    /// The scale γ, `[channels]`.
    pub fn weight(&self) -> Option<&Parameter<T>> {
        self.affine.as_ref().map(|(weight, _)| weight)
    }

    /// The shift β, `[channels]`.
    pub fn bias(&self) -> Option<&Parameter<T>> {
        self.affine.as_ref().map(|(_, bias)| bias)
    }
}

display_as_tree!(GroupNorm<T>);

impl<T: Element> Module<T> for GroupNorm<T> {
    #[track_caller]
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        if x.shape().get(1).is_some_and(|&channels| channels != self.channels) {
            let message = format!("x {:?} does not have {} channels", x.shape(), self.channels);
            return Err(Error::shape("GroupNorm", message));
        }
        let affine = self.affine.as_ref().map(|(weight, bias)| (weight.read(), bias.read()));
        x.group_norm(self.groups, affine.as_ref().map(|(weight, bias)| (&**weight, &**bias)), self.eps)
    }

    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a, T>) {
        if let Some((weight, bias)) = &self.affine {
            visitor.parameter("weight", weight);
            visitor.parameter("bias", bias);
        }
    }

    fn describe(&self) -> String {
        let affine = if self.affine.is_some() { "" } else { ", not affine" };
        format!("GroupNorm({} groups of {}{affine})", self.groups, self.channels)
    }
}
