//! Making tensors.

use super::{Shape, Tensor};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::simd::Element;

impl<T: Element> Tensor<T> {
    /// The numbers of a slice, row by row.
    ///
    /// # Errors
    /// [`Error::Shape`] when their number is not that of the shape.
    ///
    /// ```
    /// use gristmill::Tensor;
    /// let matrix = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], [2, 2])?;
    /// assert_eq!(matrix.shape(), [2, 2]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn from_slice(values: &[T], shape: impl AsRef<[usize]>) -> Result<Self> {
        let shape = Shape::new(shape.as_ref())?;
        if values.len() != shape.elements() {
            let message = format!("{} elements do not fill the shape {shape:?}", values.len());
            return Err(Error::shape("from_slice", message));
        }
        Ok(Self::from_buffer(Buffer::copy_of(values), shape))
    }

    /// A tensor without axes.
    pub fn scalar(value: T) -> Self {
        Self::from_buffer(Buffer::full(1, value), Shape::from_dims(&[]))
    }

    /// All elements equal to `value`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the shape has too many axes or elements.
    pub fn full(shape: impl AsRef<[usize]>, value: T) -> Result<Self> {
        let shape = Shape::new(shape.as_ref())?;
        Self::build(shape, |data| {
            data.fill(value);
            Ok(())
        })
    }

    /// All elements 0.
    ///
    /// # Errors
    /// As [`full`](Tensor::full).
    pub fn zeros(shape: impl AsRef<[usize]>) -> Result<Self> {
        Self::full(shape, T::ZERO)
    }

    /// All elements 1.
    ///
    /// # Errors
    /// As [`full`](Tensor::full).
    pub fn ones(shape: impl AsRef<[usize]>) -> Result<Self> {
        Self::full(shape, T::ONE)
    }

    /// 0, 1, …, n − 1.
    pub fn arange(n: usize) -> Result<Self> {
        Self::build(Shape::new(&[n])?, |data| {
            data.iter_mut().enumerate().for_each(|(i, x)| *x = T::from_f64(i as f64));
            Ok(())
        })
    }

    /// The identity matrix of `[n, n]`.
    pub fn eye(n: usize) -> Result<Self> {
        Self::build(Shape::new(&[n, n])?, |data| {
            data.fill(T::ZERO);
            data.iter_mut().step_by(n + 1).for_each(|x| *x = T::ONE);
            Ok(())
        })
    }

    /// `[labels, classes]` with a 1 at each row's label and 0 elsewhere.
    ///
    /// # Errors
    /// [`Error::Value`] when a label is not one of the classes.
    pub fn one_hot(labels: &[usize], classes: usize) -> Result<Self> {
        if let Some((row, label)) = labels.iter().enumerate().find(|&(_, &label)| label >= classes) {
            let message = format!("label {label} of row {row} is not one of {classes} classes");
            return Err(Error::value("one_hot", message));
        }
        let shape = Shape::new(&[labels.len(), classes])?;
        Self::build(shape, |data| {
            data.fill(T::ZERO);
            labels.iter().enumerate().for_each(|(row, &label)| data[row * classes + label] = T::ONE);
            Ok(())
        })
    }

    /// Uniform in [low, high).
    ///
    /// # Errors
    /// [`Error::Value`] when a bound is not finite or `high < low`.
    pub fn rand(shape: impl AsRef<[usize]>, low: f64, high: f64, rng: &mut Rng) -> Result<Self> {
        Self::build(Shape::new(shape.as_ref())?, |data| rng.fill_uniform(low, high, data))
    }

    /// Normal with this mean and standard deviation.
    ///
    /// # Errors
    /// [`Error::Value`] when a parameter is not finite or `std < 0`.
    pub fn randn(shape: impl AsRef<[usize]>, mean: f64, std: f64, rng: &mut Rng) -> Result<Self> {
        Self::build(Shape::new(shape.as_ref())?, |data| rng.fill_normal(mean, std, data))
    }

    /// 1 with probability `p`, else 0.
    ///
    /// # Errors
    /// [`Error::Value`] when `p` is not in [0, 1].
    pub fn bernoulli(shape: impl AsRef<[usize]>, p: f64, rng: &mut Rng) -> Result<Self> {
        Self::build(Shape::new(shape.as_ref())?, |data| rng.fill_bernoulli(p, data))
    }
}
