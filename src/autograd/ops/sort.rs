//! Sorting along an axis, and cumulative sums.

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::context;
use crate::error::{Error, Result};
use crate::kernels::cumsum;
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::Element;
use crate::tensor::{Tensor, axis::Axis, resolve_axis};

/// The estimated nanoseconds for each comparison of two keys.
const NANOSECONDS_PER_COMPARISON: usize = 2;

/// An integer that orders like `x`, or in the opposite order; 0 and −0 are equal, NaN is above everything.
fn key<T: Element>(x: T, descending: bool) -> u64 {
    let bits = (x.to_f64() + 0.0).to_bits();
    let ascending = match bits >> 63 {
        _ if x.is_nan() => u64::MAX,
        0 => bits | 1 << 63,
        _ => !bits,
    };
    if descending { !ascending } else { ascending }
}

/// The positions of the first `keep` elements of each row in order; equal elements keep the order of their
/// positions.
fn order<T: Element>(x: &[T], len: usize, keep: usize, descending: bool) -> Result<Vec<usize>> {
    let mut places = vec![0; x.len() / len * keep];
    let work = x.len() * (len.ilog2() as usize + 1) * NANOSECONDS_PER_COMPARISON;
    let rows = (1024 / len).max(1);
    let parts = (RowsMut::new(&mut places, rows * keep), Rows(x, rows * len));
    parallel::for_each(context::settings()?, parts, work, |(places, x)| {
        // With the position after the key, no two are equal, so that the faster unstable sort is stable.
        let mut keys: Vec<u128> = Vec::with_capacity(len);
        for (places, x) in places.chunks_exact_mut(keep).zip(x.chunks_exact(len)) {
            let keyed = |(place, &x): (usize, &T)| u128::from(key(x, descending)) << 64 | place as u128;
            keys.clear();
            keys.extend(x.iter().enumerate().map(keyed));
            if keep < len {
                keys.select_nth_unstable(keep - 1);
                keys.truncate(keep);
            }
            keys.sort_unstable();
            places.iter_mut().zip(&keys).for_each(|(place, &key)| *place = key as u64 as usize);
        }
    });
    Ok(places)
}

/// The cumulative sums along an axis.
pub(crate) struct Cumsum {
    axis: usize,
    parent: Parent,
}

impl<T: Element> Backward<T> for Cumsum {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        gradients.add(self.parent, || cumulate(&dy, self.axis, true))
    }
}

/// The cumulative sums along an axis, from its end if `reverse`.
fn cumulate<T: Element>(x: &Tensor<T>, axis: usize, reverse: bool) -> Result<Tensor<T>> {
    let Axis { len, inner, .. } = Axis::of(x.shape(), axis);
    let x = x.dense();
    Tensor::build(x.dims(), |y| match inner {
        _ if y.is_empty() => Ok(()),
        1 => cumsum::rows(x.data(), len, reverse, y),
        _ => {
            let blocks = x.data().chunks_exact(len * inner).zip(y.chunks_exact_mut(len * inner));
            blocks.into_iter().try_for_each(|(x, y)| cumsum::cols(x, inner, reverse, y))
        }
    })
}

impl<T: Element> Tensor<T> {
    /// The elements of each row of an axis in order, with their original positions, of the same shape and row
    /// by row.
    ///
    /// As in PyTorch, a scalar is treated as a vector of one element here and in [`argsort`](Tensor::argsort)
    /// and [`cumsum`](Tensor::cumsum), and the result is a scalar again. The sort is stable. NaN counts as
    /// larger than every number: it comes last, or first if `descending`. The gradient goes back to the
    /// original positions.
    ///
    /// ```
    /// use gristmill::Tensor;
    /// let (sorted, places) = Tensor::from([3.0, 1.0, 2.0]).sort(0, false)?;
    /// assert_eq!((sorted.to_vec(), places), (vec![1.0, 2.0, 3.0], vec![1, 2, 0]));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis does not exist.
    #[track_caller]
    pub fn sort(&self, axis: isize, descending: bool) -> Result<(Self, Vec<usize>)> {
        if let Some(vector) = self.scalar_as_vector(axis)? {
            let (y, places) = vector.sort(0, descending)?;
            return Ok((y.squeeze(0)?, places));
        }
        let axis = resolve_axis("sort", axis, self.rank())?;
        self.first_places("sort", axis, self.shape()[axis], descending)
    }

    /// The original positions of the sorted elements of each row of an axis, as [`sort`](Tensor::sort)
    /// returns them, in the form that [`gather`](Tensor::gather) takes.
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis does not exist.
    pub fn argsort(&self, axis: isize, descending: bool) -> Result<Vec<usize>> {
        if let Some(vector) = self.scalar_as_vector(axis)? {
            return vector.argsort(0, descending);
        }
        let axis = resolve_axis("argsort", axis, self.rank())?;
        self.ordered(axis, self.shape()[axis], descending)
    }

    /// The `k` largest elements of each row of an axis, or the smallest ones, in order, with their positions:
    /// the first ones of [`sort`](Tensor::sort), descending for the largest.
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis does not exist; [`Error::Value`] if it is shorter than `k`.
    #[track_caller]
    pub fn topk(&self, k: usize, axis: isize, largest: bool) -> Result<(Self, Vec<usize>)> {
        if let Some(vector) = self.scalar_as_vector(axis)?.filter(|_| k == 1) {
            let (y, places) = vector.topk(1, 0, largest)?;
            return Ok((y.squeeze(0)?, places));
        }
        let axis = resolve_axis("topk", axis, self.rank())?;
        if k > self.shape()[axis] {
            let message = format!("axis {axis} of {:?} has no {k} elements", self.shape());
            return Err(Error::value("topk", message));
        }
        self.first_places("topk", axis, k, largest)
    }

    /// The distinct elements in ascending order, with NaN last and counted as one value; for each element of
    /// the tensor, the position of its value among them; and the number of occurrences of each value. Not
    /// recorded: there is no gradient.
    ///
    /// ```
    /// use gristmill::Tensor;
    /// let (values, places, counts) = Tensor::from([3.0, 1.0, 3.0]).unique()?;
    /// assert_eq!(values.to_vec(), [1.0, 3.0]);
    /// assert_eq!((places, counts), (vec![1, 0, 1], vec![1, 2]));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Setting`] for an invalid `GRISTMILL_` variable.
    pub fn unique(&self) -> Result<(Self, Vec<usize>, Vec<usize>)> {
        let x = self.compact();
        let (mut values, mut places, mut counts) = (Vec::new(), vec![0; x.len()], Vec::<usize>::new());
        let sorted = if x.len() == 0 { vec![] } else { order(x.data(), x.len(), x.len(), false)? };
        for place in sorted {
            let value = x.data()[place];
            match (values.last(), counts.last_mut()) {
                (Some(&last), Some(count)) if key(last, false) == key(value, false) => *count += 1,
                _ => {
                    values.push(value);
                    counts.push(1);
                }
            }
            places[place] = values.len() - 1;
        }
        Ok((Tensor::from_slice(&values, [values.len()])?, places, counts))
    }

    #[track_caller]
    fn first_places(
        &self,
        name: &'static str,
        axis: usize,
        keep: usize,
        descending: bool,
    ) -> Result<(Self, Vec<usize>)> {
        let places = self.ordered(axis, keep, descending)?;
        Ok((self.gathered(name, axis, &places, self.dims().with(axis, keep))?, places))
    }

    /// The positions of the first `keep` elements along an axis of a tensor of positions.
    fn ordered(&self, axis: usize, keep: usize, descending: bool) -> Result<Vec<usize>> {
        let Axis { outer, len, inner } = Axis::of(self.shape(), axis);
        if self.len() == 0 || keep == 0 {
            return Ok(Vec::new());
        }
        if inner == 1 {
            return order(self.compact().data(), len, keep, descending);
        }
        let last =
            self.view_reshape(crate::tensor::Shape::from_dims(&[outer, len, inner])).view_transpose(1, 2);
        let rows = order(last.compact().data(), len, keep, descending)?;
        let mut places = vec![0; rows.len()];
        for (places, rows) in places.chunks_exact_mut(keep * inner).zip(rows.chunks_exact(keep * inner)) {
            for (i, row) in rows.chunks_exact(keep).enumerate() {
                places[i..].iter_mut().step_by(inner).zip(row).for_each(|(to, &place)| *to = place);
            }
        }
        Ok(places)
    }

    /// The sums of each element and all those before it in its row of an axis, in the order and with the
    /// error bound of [`kernels::cumsum`](cumsum).
    ///
    /// ```
    /// use gristmill::Tensor;
    /// let x = Tensor::from([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    /// assert_eq!(x.cumsum(1)?.to_vec(), [1.0, 3.0, 6.0, 4.0, 9.0, 15.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis does not exist.
    #[track_caller]
    pub fn cumsum(&self, axis: isize) -> Result<Self> {
        if let Some(vector) = self.scalar_as_vector(axis)? {
            return vector.cumsum(0)?.squeeze(0);
        }
        let axis = resolve_axis("cumsum", axis, self.rank())?;
        record("cumsum", cumulate(self, axis, false)?, [self], |[parent], _| {
            Op::Cumsum(Cumsum { axis, parent })
        })
    }
}
