//! Creating tensors.

use super::{Shape, Tensor};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::simd::Element;

impl<T: Element> Tensor<T> {
    /// The numbers of a slice, row by row.
    ///
    /// # Errors
    /// [`Error::Shape`] if their number is not that of the shape.
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
    /// [`Error::Shape`] if the shape has too many axes or elements.
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
    /// [`Error::Shape`] if the shape has too many axes or elements.
    pub fn zeros(shape: impl AsRef<[usize]>) -> Result<Self> {
        Self::full(shape, T::ZERO)
    }

    /// All elements 1.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shape has too many axes or elements.
    pub fn ones(shape: impl AsRef<[usize]>) -> Result<Self> {
        Self::full(shape, T::ONE)
    }

    /// 0, 1, …, n − 1.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not enough memory.
    pub fn arange(n: usize) -> Result<Self> {
        Self::build(Shape::new(&[n])?, |data| {
            data.iter_mut().enumerate().for_each(|(i, x)| *x = T::from_f64(i as f64));
            Ok(())
        })
    }

    /// `start`, `start + step`, … as long as they are below `end`, or above it for a negative step: ⌈(end −
    /// start) / step⌉ numbers, each `start + i·step` computed in f64.
    ///
    /// # Errors
    /// [`Error::Value`] if a number is not finite, the step is 0, or it leads away from the end;
    /// [`Error::Shape`] if there is not enough memory.
    pub fn arange_step(start: f64, end: f64, step: f64) -> Result<Self> {
        let steps = (end - start) / step;
        if !(start.is_finite() && end.is_finite() && step.is_finite() && step != 0.0 && steps >= 0.0) {
            let message = format!("there is no way from {start} to {end} in steps of {step}");
            return Err(Error::value("arange_step", message));
        }
        Self::build(Shape::new(&[steps.ceil() as usize])?, |data| {
            data.iter_mut().enumerate().for_each(|(i, x)| *x = T::from_f64((i as f64).mul_add(step, start)));
            Ok(())
        })
    }

    /// `steps` equidistant numbers from `start` to `end`, both included; only `start` for one step. The first
    /// half is computed from the start, the second from the end, so that both ends are exact.
    ///
    /// ```
    /// use gristmill::Tensor;
    /// assert_eq!(Tensor::<f32>::linspace(0.0, 1.0, 5)?.to_vec(), [0.0, 0.25, 0.5, 0.75, 1.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] if an end is not finite.
    pub fn linspace(start: f64, end: f64, steps: usize) -> Result<Self> {
        if !(start.is_finite() && end.is_finite()) {
            let message = format!("from {start} to {end}: an end is not finite");
            return Err(Error::value("linspace", message));
        }
        let gaps = steps.saturating_sub(1).max(1);
        // The distance between the ends may overflow.
        let step = end / gaps as f64 - start / gaps as f64;
        Self::build(Shape::new(&[steps])?, |data| {
            for (i, x) in data.iter_mut().enumerate() {
                *x = T::from_f64(if i < steps.div_ceil(2) {
                    (i as f64).mul_add(step, start)
                } else {
                    ((gaps - i) as f64).mul_add(-step, end)
                });
            }
            Ok(())
        })
    }

    /// All elements equal to `value`, of the shape of this tensor.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not enough memory.
    pub fn full_like(&self, value: T) -> Result<Self> {
        Self::full(self.shape(), value)
    }

    /// Zeros of the shape of this tensor.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not enough memory.
    pub fn zeros_like(&self) -> Result<Self> {
        self.full_like(T::ZERO)
    }

    /// Ones of the shape of this tensor.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not enough memory.
    pub fn ones_like(&self) -> Result<Self> {
        self.full_like(T::ONE)
    }

    /// The identity matrix of `[n, n]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not enough memory.
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
    /// [`Error::Value`] if a label is not one of the classes.
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
    /// [`Error::Value`] if a bound is not finite or `high < low`.
    pub fn rand(shape: impl AsRef<[usize]>, low: f64, high: f64, rng: &mut Rng) -> Result<Self> {
        Self::build(Shape::new(shape.as_ref())?, |data| rng.fill_uniform(low, high, data))
    }

    /// Normally distributed with this mean and standard deviation.
    ///
    /// # Errors
    /// [`Error::Value`] if `mean` or `std` is not finite, or if `std < 0`.
    pub fn randn(shape: impl AsRef<[usize]>, mean: f64, std: f64, rng: &mut Rng) -> Result<Self> {
        Self::build(Shape::new(shape.as_ref())?, |data| rng.fill_normal(mean, std, data))
    }

    /// 1 with probability `p`, else 0.
    ///
    /// # Errors
    /// [`Error::Value`] if `p` is not in [0, 1].
    pub fn bernoulli(shape: impl AsRef<[usize]>, p: f64, rng: &mut Rng) -> Result<Self> {
        Self::build(Shape::new(shape.as_ref())?, |data| rng.fill_bernoulli(p, data))
    }
}
