//! Data sets, transforms of their images, and batches.
//!
//! A [`Dataset`] writes image `i` as numbers into a slice that it is given; examples are [`Mnist`] and
//! [`LabeledTensors`]. A [`DataLoader`] puts the images of an epoch in order, applies each [`Transform`] to
//! them and returns them in batches, which a worker thread makes ahead where that pays. The random numbers
//! for an image only depend on the loader's generator, the epoch and the index of the image: an epoch is the
//! same on every machine, for any batch size and however many batches are made ahead.
//!
//! Data without labels and samples of other types work the same way: a [`TensorDataset`] returns rows of
//! several tensors, and [`Samples::collate`] makes batches of your own type from samples of your own type.
//! [`random_split`] divides a data set into parts; a [`Sampler`] chooses the samples of an epoch.
//!
//! ```no_run
//! use gristmill::{Rng, data};
//! let train = data::Mnist::load("data", data::Split::Train)?;
//! let loader = data::DataLoader::new(train)
//!     .batch_size(100)
//!     .shuffle(Rng::seed(4))
//!     .transform(data::RandomCrop::new(2))
//!     .transform(data::Normalize::new(&[0.1307], &[0.3081])?);
//! for batch in &loader {
//!     let (images, labels) = batch?;
//!     assert_eq!(images.shape(), [100, 28, 28, 1]);
//!     assert_eq!(labels.len(), 100);
//! }
//! # Ok::<(), gristmill::Error>(())
//! ```

mod collate;
mod csv;
mod dataset;
mod gzip;
mod idx;
mod loader;
mod mnist;
mod sampler;
mod split;
mod tensors;
mod transform;

pub use collate::{Collate, Collated, Pick, Picks, Samples, VecDataset};
pub use csv::{Csv, CsvFormat};
pub use dataset::{Batch, Dataset, scale_pixels};
pub use idx::{Idx, IdxElement, read_idx};
pub use loader::{Batches, DataLoader};
pub use mnist::{FASHION_MNIST_CLASSES, Mnist, Split};
pub use sampler::{RandomSampler, Sampler, SequentialSampler, WeightedRandomSampler};
pub use split::{Lengths, Subset, random_split};
pub use tensors::{LabeledTensors, TensorDataset};
pub use transform::{Compose, Normalize, RandomCrop, RandomFlipHorizontal, Transform};
