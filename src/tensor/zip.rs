//! Elementwise functions that have no kernel of their own.

use super::{Shape, Tensor};
use crate::context;
use crate::error::Result;
use crate::parallel::{self, Indices, RowsMut};
use crate::simd::Element;

/// The number of elements that one job writes.
const CHUNK: usize = 1 << 14;
/// An estimate: the cost of memory traffic.
const NANOSECONDS_PER_ELEMENT: f64 = 0.3;

/// Applies `f` to the elements of tensors that are broadcast to `shape`.
pub(crate) fn zip<T: Element, const N: usize>(
    shape: Shape,
    inputs: [&Tensor<T>; N],
    f: impl Fn([T; N]) -> T + Sync,
) -> Result<Tensor<T>> {
    let inputs =
        inputs.map(|x| if x.dims() == shape { x.compact() } else { x.view_broadcast(shape).compact() });
    let inputs: [&[T]; N] = std::array::from_fn(|i| inputs[i].data());
    Tensor::build(shape, |y| {
        let work = (y.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
        let parts = (Indices(y.len().div_ceil(CHUNK)), RowsMut::new(y, CHUNK));
        let settings = context::settings()?;
        let _environment = context::enter_environment();
        parallel::for_each(settings, parts, work, |(chunk, y)| {
            let x = inputs.map(|x| &x[chunk * CHUNK..][..y.len()]);
            for (i, y) in y.iter_mut().enumerate() {
                *y = f(std::array::from_fn(|input| x[input][i]));
            }
        });
        Ok(())
    })
}
