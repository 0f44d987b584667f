//! Making batches from samples of any type.

use std::sync::Arc;

use super::transform::Transform;
use crate::error::{Error, Result};
use crate::rng::Rng;

/// The source from which a [`DataLoader`](super::DataLoader) makes batches.
///
/// Implemented by every [`Dataset`](super::Dataset) of images and by [`TensorDataset`](super::TensorDataset);
/// [`Samples::collate`] makes one from samples of any type. Implement it yourself if a batch is made as a
/// whole: by a query, a kernel, or from a file that is read in one piece.
///
/// ```
/// use gristmill::{Result, data::{Collate, DataLoader, Picks}};
///
/// /// The squares of the first numbers.
/// struct Squares(usize);
///
/// impl Collate for Squares {
///     type Batch = Vec<usize>;
///     fn samples(&self) -> usize { self.0 }
///     fn collate(&self, picks: &mut Picks<'_>) -> Result<Vec<usize>> {
///         Ok(picks.map(|pick| pick.index * pick.index).collect())
///     }
/// }
///
/// let batches: Result<Vec<_>> = DataLoader::new(Squares(5)).batch_size(3).iter().collect();
/// assert_eq!(batches?, [vec![0, 1, 4], vec![9, 16]]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub trait Collate: Send + Sync {
    /// A batch, made on a worker thread.
    type Batch: Send + 'static;

    /// The number of samples.
    fn samples(&self) -> usize;

    /// Makes the batch of these samples, of which there is at least one, in their order.
    ///
    /// # Errors
    /// Any error in reading a sample; it ends the epoch.
    fn collate(&self, picks: &mut Picks<'_>) -> Result<Self::Batch>;
}

/// The samples of one batch, one after the other. A panic is attributed to the sample that was taken last.
pub struct Picks<'a> {
    /// The rest of the epoch: first this batch, then the batches after it.
    pub(super) order: &'a [usize],
    /// The split of `rng` from which each sample draws, if that is not the one with its index.
    pub(super) draws: &'a [u64],
    /// How many of `order` are in this batch.
    pub(super) count: usize,
    pub(super) taken: usize,
    pub(super) rng: &'a Rng,
    pub(super) transforms: &'a [Arc<dyn Transform>],
}

impl<'a> Picks<'a> {
    /// The indices of all samples of the batch, including those already taken.
    pub fn indices(&self) -> &'a [usize] {
        &self.order[..self.count]
    }

    /// The sample `ahead` positions after the next one, which may be in a later batch.
    pub(super) fn later(&self, ahead: usize) -> Option<usize> {
        self.order.get(self.taken + ahead).copied()
    }

    /// The sample that was taken last.
    pub(super) fn latest(&self) -> usize {
        self.order[self.taken.saturating_sub(1)]
    }
}

impl<'a> Iterator for Picks<'a> {
    type Item = Pick<'a>;

    #[inline]
    fn next(&mut self) -> Option<Pick<'a>> {
        let index = *self.indices().get(self.taken)?;
        let split = self.draws.get(self.taken).copied().unwrap_or(index as u64);
        self.taken += 1;
        Some(Pick { index, split, rng: self.rng })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count - self.taken, Some(self.count - self.taken))
    }
}

impl ExactSizeIterator for Picks<'_> {}

/// One sample of a batch.
pub struct Pick<'a> {
    /// The index of the sample, below the number of samples.
    pub index: usize,
    split: u64,
    rng: &'a Rng,
}

impl Pick<'_> {
    /// The sample's own generator: a function of the loader's generator, the epoch and the index. If a
    /// sampler returns an index more than once in an epoch, each occurrence has its own.
    pub fn rng(&self) -> Rng {
        self.rng.nth_split(self.split)
    }
}

/// Samples of your own type, read one by one.
///
/// ```
/// use gristmill::{Result, Rng, Tensor, data::{DataLoader, Samples}};
///
/// /// Texts of 1 to 4 bytes.
/// struct Texts(Vec<&'static str>);
///
/// impl Samples for Texts {
///     type Sample = Vec<f32>;
///     fn len(&self) -> usize { self.0.len() }
///     fn get(&self, index: usize, _: &mut Rng) -> Result<Vec<f32>> {
///         Ok(self.0[index].bytes().map(f32::from).collect())
///     }
/// }
///
/// // A batch is as long as its longest text.
/// let padded = Texts(vec!["a", "bc", "defg"]).collate(|texts| {
///     let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
///     let count = texts.len();
///     let numbers = texts.into_iter().flat_map(|mut text| {
///         text.resize(longest, 0.0);
///         text
///     });
///     Tensor::from_slice(&numbers.collect::<Vec<_>>(), [count, longest])
/// });
/// let loader = DataLoader::new(padded).batch_size(2);
/// let shapes: Result<Vec<_>> = loader.iter().map(|batch| Ok(batch?.shape().to_vec())).collect();
/// assert_eq!(shapes?, [[2, 2], [1, 4]]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub trait Samples: Send + Sync {
    /// The type of a sample.
    type Sample;

    /// The number of samples.
    fn len(&self) -> usize;

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sample `index`, below [`len`](Samples::len). Anything random in it must be drawn from `rng`, which
    /// belongs to this sample in this epoch.
    ///
    /// # Errors
    /// Any error in reading the sample; it ends the epoch.
    fn get(&self, index: usize, rng: &mut Rng) -> Result<Self::Sample>;

    /// A source of batches, each made by `batch` from its samples, in their order.
    fn collate<B, F>(self, batch: F) -> Collated<Self, F>
    where
        Self: Sized,
        F: Fn(Vec<Self::Sample>) -> Result<B> + Send + Sync,
    {
        Collated { samples: self, batch }
    }
}

/// Samples and the function that makes batches of them; see [`Samples::collate`].
#[derive(Clone, Debug)]
pub struct Collated<S, F> {
    samples: S,
    batch: F,
}

impl<S: Samples, B: Send + 'static, F> Collate for Collated<S, F>
where
    F: Fn(Vec<S::Sample>) -> Result<B> + Send + Sync,
{
    type Batch = B;

    fn samples(&self) -> usize {
        self.samples.len()
    }

    fn collate(&self, picks: &mut Picks<'_>) -> Result<B> {
        self.gather(picks, |index| index)
    }
}

impl<S: Samples, F> Collated<S, F> {
    /// The batch of the samples at `place` of these indices.
    pub(super) fn gather<B>(&self, picks: &mut Picks<'_>, place: impl Fn(usize) -> usize) -> Result<B>
    where
        F: Fn(Vec<S::Sample>) -> Result<B>,
    {
        let get = |pick: super::Pick<'_>| self.samples.get(place(pick.index), &mut pick.rng());
        (self.batch)(picks.map(get).collect::<Result<_>>()?)
    }
}

/// Samples in memory, of any type that can be cloned; an `Arc` makes a large one cheap to clone.
///
/// ```
/// use gristmill::data::{DataLoader, Samples, VecDataset};
/// let words = VecDataset::new(vec!["flour", "grist", "mill"]);
/// let loader = DataLoader::new(words.collate(|words| Ok(words.join(" ")))).batch_size(2);
/// let batches: gristmill::Result<Vec<String>> = loader.iter().collect();
/// assert_eq!(batches?, ["flour grist", "mill"]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VecDataset<S>(Vec<S>);

impl<S> VecDataset<S> {
    /// These samples, in this order.
    pub fn new(samples: Vec<S>) -> Self {
        Self(samples)
    }

    /// The samples.
    pub fn samples(&self) -> &[S] {
        &self.0
    }
}

impl<S> FromIterator<S> for VecDataset<S> {
    fn from_iter<I: IntoIterator<Item = S>>(samples: I) -> Self {
        Self(samples.into_iter().collect())
    }
}

impl<S: Clone + Send + Sync> Samples for VecDataset<S> {
    type Sample = S;

    fn len(&self) -> usize {
        self.0.len()
    }

    /// # Errors
    /// [`Error::Value`] if there is no such sample.
    fn get(&self, index: usize, _: &mut Rng) -> Result<S> {
        self.0.get(index).cloned().ok_or_else(|| {
            Error::value("VecDataset", format!("there is no sample {index} among {}", self.0.len()))
        })
    }
}
