//! Conversions from and to arrays of the crate `ndarray`.

use ndarray::{Array, ArrayD, ArrayView, Dimension};

use super::{Shape, Tensor};
use crate::error::{Error, Result};
use crate::simd::Element;

/// The numbers of an array in any memory order, copied.
///
/// # Errors
/// [`Error::Shape`] if there are more than [`MAX_RANK`](super::MAX_RANK) axes.
///
/// ```
/// use gristmill::Tensor;
/// let array = ndarray::array![[1.0, 2.0], [3.0, 4.0]];
/// let tensor = Tensor::try_from(array.t())?;
/// assert_eq!(tensor.to_vec(), [1.0, 3.0, 2.0, 4.0]);
/// assert_eq!(tensor.to_ndarray()[[0, 1]], 3.0);
/// # Ok::<(), gristmill::Error>(())
/// ```
impl<T: Element, D: Dimension> TryFrom<ArrayView<'_, T, D>> for Tensor<T> {
    type Error = Error;

    fn try_from(array: ArrayView<'_, T, D>) -> Result<Self> {
        Self::build(Shape::new(array.shape())?, |data| {
            data.iter_mut().zip(&array).for_each(|(to, &from)| *to = from);
            Ok(())
        })
    }
}

/// [`Error::Shape`] if there are more than [`MAX_RANK`](super::MAX_RANK) axes.
impl<T: Element, D: Dimension> TryFrom<&Array<T, D>> for Tensor<T> {
    type Error = Error;

    fn try_from(array: &Array<T, D>) -> Result<Self> {
        array.view().try_into()
    }
}

impl<T: Element> Tensor<T> {
    /// A copy of the numbers as an array of `ndarray`, row by row.
    pub fn to_ndarray(&self) -> ArrayD<T> {
        // There are as many numbers as the shape has elements.
        ArrayD::from_shape_vec(self.shape(), self.to_vec()).expect("a tensor fills its shape")
    }
}
