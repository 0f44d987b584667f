//! The parametric ReLU.

use super::display::display_as_tree;
use super::{Module, Parameter, Visitor};
use crate::error::{Error, Result};
use crate::simd::Element;
use crate::tensor::Tensor;

/// x where x > 0, else weight · x, with a learned weight (He et al. 2015): a single one, or one for each
/// channel of x of `[samples, channels, …]`. Weights start as 0.25.
///
/// ```
/// use gristmill::{Tensor, nn::{Module, PReLU}};
/// let y = PReLU::new(1)?.forward(&Tensor::<f32>::from_slice(&[-4.0, 4.0], [2])?)?;
/// assert_eq!(y.to_vec(), [-1.0, 4.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct PReLU<T: Element = f32> {
    weight: Parameter<T>,
}

impl<T: Element> PReLU<T> {
    /// A layer with one weight, or with as many weights as x has channels.
    ///
    /// # Errors
    /// [`Error::Shape`] if `num_parameters` is 0 or too large.
    pub fn new(num_parameters: usize) -> Result<Self> {
        Self::with_init(num_parameters, T::from_f64(0.25))
    }

    /// A layer whose weights start as `init`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `num_parameters` is 0 or too large.
    pub fn with_init(num_parameters: usize, init: T) -> Result<Self> {
        if num_parameters == 0 {
            return Err(Error::shape("PReLU", "there must be a parameter"));
        }
        Ok(Self { weight: Parameter::new(&Tensor::full([num_parameters], init)?) })
    }

    /// The slopes below 0, `[num_parameters]`.
    pub fn weight(&self) -> &Parameter<T> {
        &self.weight
    }
}

display_as_tree!(PReLU<T>);

impl<T: Element> Module<T> for PReLU<T> {
    #[track_caller]
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        x.prelu(&*self.weight.read())
    }

    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a, T>) {
        visitor.parameter("weight", &self.weight);
    }

    fn describe(&self) -> String {
        format!("PReLU({})", self.weight.len())
    }
}
