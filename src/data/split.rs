//! Parts of a data set.

use std::sync::Arc;

use super::collate::{Collate, Collated, Picks, Samples};
use super::dataset::{Dataset, check_index};
use super::tensors::TensorDataset;
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::simd::Element;
use crate::tensor::Tensor;

const OP: &str = "random_split";
/// How far the sum of fractions may be from 1: they are often written with two digits.
const ROUNDING: f64 = 1e-9;

/// The number of samples in each part: counts `[50_000, 10_000]` or fractions `[0.8, 0.2]`.
pub trait Lengths<const N: usize> {
    /// The counts for a data set of `len` samples.
    ///
    /// # Errors
    /// [`Error::Value`] if counts do not sum to `len`, a fraction is not in [0, 1] or fractions do not sum to
    /// 1.
    fn counts(&self, len: usize) -> Result<[usize; N]>;
}

impl<const N: usize> Lengths<N> for [usize; N] {
    fn counts(&self, len: usize) -> Result<[usize; N]> {
        let sum = self.iter().try_fold(0_usize, |sum, &count| sum.checked_add(count));
        if sum == Some(len) {
            return Ok(*self);
        }
        Err(Error::value(OP, format!("the counts {self:?} do not sum to the {len} samples there are")))
    }
}

/// Each part gets its fraction rounded down; the remaining samples go to the first parts, one each.
impl<const N: usize> Lengths<N> for [f64; N] {
    fn counts(&self, len: usize) -> Result<[usize; N]> {
        if let Some(fraction) = self.iter().find(|fraction| !(0.0..=1.0).contains(*fraction)) {
            return Err(Error::value(OP, format!("{fraction} in {self:?} is not a fraction of the whole")));
        }
        let sum: f64 = self.iter().sum();
        if (sum - 1.0).abs() > ROUNDING {
            return Err(Error::value(OP, format!("the fractions {self:?} sum to {sum}, expected 1")));
        }
        let mut left = len;
        let mut counts = self.map(|fraction| {
            // A fraction such as 0.7 of 10 means 7, even if the product is slightly less.
            let count = (fraction * len as f64 * (1.0 + f64::EPSILON)) as usize;
            left -= count.min(left);
            count
        });
        // Distributes the remaining ones in turn, if there are parts.
        (0..left).for_each(|i| counts[i % N] += 1);
        Ok(counts)
    }
}

/// Divides a data set into random parts: each sample is in exactly one of them. The parts share the data set.
///
/// The order of the samples is `rng.permutation(len)`; the first part takes the first of them, and so on.
///
/// ```
/// use gristmill::{Rng, Tensor, data::{DataLoader, LabeledTensors, random_split}};
/// let points = LabeledTensors::new(&Tensor::zeros([100, 2])?, vec![0; 100], 1)?;
/// let [train, test] = random_split(points, [0.8, 0.2], &mut Rng::seed(4))?;
/// assert_eq!((train.len(), test.len()), (80, 20));
/// assert_eq!(DataLoader::new(train).batch_size(10).len(), 8);
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// [`Error::Value`] if counts do not sum to the number of samples, a fraction is not in [0, 1] or fractions
/// do not sum to 1.
pub fn random_split<D: Collate, const N: usize>(
    dataset: D,
    lengths: impl Lengths<N>,
    rng: &mut Rng,
) -> Result<[Subset<D>; N]> {
    let counts = lengths.counts(dataset.samples())?;
    let mut order = rng.permutation(dataset.samples()).into_iter();
    let whole = Arc::new(dataset);
    Ok(counts.map(|count| Subset { whole: whole.clone(), indices: order.by_ref().take(count).collect() }))
}

/// Selected samples of a data set in a given order; the data set is shared. A subset of images is also a
/// [`Dataset`]; subsets of [`TensorDataset`]s and of [`Collated`] samples make the same kind of batches as
/// the whole.
#[derive(Debug)]
pub struct Subset<D> {
    whole: Arc<D>,
    indices: Vec<usize>,
}

impl<D> Clone for Subset<D> {
    fn clone(&self) -> Self {
        Self { whole: self.whole.clone(), indices: self.indices.clone() }
    }
}

impl<D: Collate> Subset<D> {
    /// The samples at these indices; an index may occur more than once.
    ///
    /// # Errors
    /// [`Error::Value`] naming an index that does not exist.
    pub fn new(whole: impl Into<Arc<D>>, indices: Vec<usize>) -> Result<Self> {
        let whole = whole.into();
        indices.iter().try_for_each(|&index| check_index("Subset", index, whole.samples()))?;
        Ok(Self { whole, indices })
    }

    /// The number of samples in the subset.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether the subset is empty.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The indices of the samples in the whole data set.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// The data set that this is a part of.
    pub fn whole(&self) -> &D {
        &self.whole
    }
}

impl<D: Dataset> Dataset for Subset<D> {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn shape(&self) -> &[usize] {
        self.whole.shape()
    }

    fn classes(&self) -> usize {
        self.whole.classes()
    }

    fn read(&self, index: usize, out: &mut [f32]) -> Result<()> {
        check_index("Subset", index, self.indices.len())?;
        self.whole.read(self.indices[index], out)
    }

    fn read_soon(&self, index: usize) {
        self.whole.read_soon(self.indices[index]);
    }

    /// # Panics
    /// If `index` is not below [`len`](Dataset::len).
    fn label(&self, index: usize) -> usize {
        self.whole.label(self.indices[index])
    }
}

impl<const N: usize, T: Element> Collate for Subset<TensorDataset<N, T>> {
    type Batch = [Tensor<T>; N];

    fn samples(&self) -> usize {
        self.indices.len()
    }

    fn collate(&self, picks: &mut Picks<'_>) -> Result<Self::Batch> {
        let rows: Vec<usize> = picks.map(|pick| self.indices[pick.index]).collect();
        self.whole.rows(&rows)
    }
}

impl<S: Samples, B: Send + 'static, F> Collate for Subset<Collated<S, F>>
where
    F: Fn(Vec<S::Sample>) -> Result<B> + Send + Sync,
{
    type Batch = B;

    fn samples(&self) -> usize {
        self.indices.len()
    }

    fn collate(&self, picks: &mut Picks<'_>) -> Result<B> {
        self.whole.gather(picks, |index| self.indices[index])
    }
}
