//! Conversions between tensors and arrays or vectors.

use super::{Shape, Tensor};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::simd::Element;

impl<T: Element> Tensor<T> {
    fn of_elements(values: &[T], dims: &[usize]) -> Self {
        Self::from_buffer(Buffer::copy_of(values), Shape::from_dims(dims))
    }

    /// The same numbers in another element type, each rounded once; not tracked.
    ///
    /// ```
    /// use gristmill::Tensor;
    /// let x: Tensor<f64> = Tensor::from([1.0, 1e-9]);
    /// let y: Tensor<f32> = x.cast()?;
    /// assert_eq!(y.to_vec(), [1.0, 1e-9]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Setting`] for an invalid `GRISTMILL_` variable.
    pub fn cast<U: Element>(&self) -> Result<Tensor<U>> {
        let x = self.compact();
        Tensor::build(x.dims(), |y| {
            y.iter_mut().zip(x.data()).for_each(|(y, x)| *y = U::from_f64(x.to_f64()));
            Ok(())
        })
    }

    /// The numbers of a matrix as a vector of rows.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not two axes.
    pub fn to_vec2(&self) -> Result<Vec<Vec<T>>> {
        match *self.shape() {
            [rows, cols] => {
                let x = self.compact();
                Ok((0..rows).map(|row| x.data()[row * cols..][..cols].to_vec()).collect())
            }
            _ => Err(Error::shape("to_vec2", format!("{:?} does not have two axes", self.shape()))),
        }
    }

    /// The numbers of a tensor with three axes as a vector of matrices.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not three axes.
    pub fn to_vec3(&self) -> Result<Vec<Vec<Vec<T>>>> {
        if self.rank() != 3 {
            return Err(Error::shape("to_vec3", format!("{:?} does not have three axes", self.shape())));
        }
        let x = self.detach();
        (0..self.shape()[0]).map(|place| x.select(0, place as isize)?.to_vec2()).collect()
    }
}

/// `[n]`.
impl<T: Element> From<&[T]> for Tensor<T> {
    fn from(values: &[T]) -> Self {
        Self::of_elements(values, &[values.len()])
    }
}

/// `[n]`.
impl<T: Element> From<Vec<T>> for Tensor<T> {
    fn from(values: Vec<T>) -> Self {
        Self::from(values.as_slice())
    }
}

/// A tensor without axes.
impl<T: Element> From<T> for Tensor<T> {
    fn from(value: T) -> Self {
        Self::scalar(value)
    }
}

/// `[A]`.
///
/// ```
/// use gristmill::Tensor;
/// let matrix = Tensor::from([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
/// assert_eq!(matrix.shape(), [2, 3]);
/// assert_eq!(matrix.to_vec2()?, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
/// # Ok::<(), gristmill::Error>(())
/// ```
impl<T: Element, const A: usize> From<[T; A]> for Tensor<T> {
    fn from(values: [T; A]) -> Self {
        Self::of_elements(&values, &[A])
    }
}

/// `[A, B]`.
impl<T: Element, const A: usize, const B: usize> From<[[T; B]; A]> for Tensor<T> {
    fn from(values: [[T; B]; A]) -> Self {
        Self::of_elements(values.as_flattened(), &[A, B])
    }
}

/// `[A, B, C]`.
impl<T: Element, const A: usize, const B: usize, const C: usize> From<[[[T; C]; B]; A]> for Tensor<T> {
    fn from(values: [[[T; C]; B]; A]) -> Self {
        Self::of_elements(values.as_flattened().as_flattened(), &[A, B, C])
    }
}

/// `[A, B, C, D]`.
impl<T: Element, const A: usize, const B: usize, const C: usize, const D: usize> From<[[[[T; D]; C]; B]; A]>
    for Tensor<T>
{
    fn from(values: [[[[T; D]; C]; B]; A]) -> Self {
        Self::of_elements(values.as_flattened().as_flattened().as_flattened(), &[A, B, C, D])
    }
}

/// Rows of the same length; without rows, `[0, 0]`.
impl<T: Element> TryFrom<Vec<Vec<T>>> for Tensor<T> {
    type Error = Error;

    fn try_from(rows: Vec<Vec<T>>) -> Result<Self> {
        let cols = rows.first().map_or(0, Vec::len);
        if let Some((row, other)) = rows.iter().enumerate().find(|(_, row)| row.len() != cols) {
            let message = format!("row {row} has {} elements, row 0 has {cols}", other.len());
            return Err(Error::shape("from", message));
        }
        Ok(Self::of_elements(&rows.concat(), &[rows.len(), cols]))
    }
}
