//! Batches of a data set, epoch after epoch.

use std::any::Any;
use std::iter::FusedIterator;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use super::dataset::Dataset;
use super::transform::Transform;
use crate::buffer::Buffer;
use crate::context::{self, Context};
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::tensor::{Shape, Tensor};

const OP: &str = "DataLoader";
/// How many images ahead of reading one the data set is told. In random order, a batch of 100 images of MNIST takes
/// 22 µs instead of 52 µs with 2, 4 or 8 (AVX2, `cargo bench --bench data`).
const AHEAD: usize = 4;

/// Images of shape `[batch, …]` and their labels, a slice in recycled memory.
pub type Batch = (Tensor<f32>, Buffer<usize>);

/// Hands out a data set in batches; each `for batch in &loader` is a new epoch.
///
/// With [`shuffle`](DataLoader::shuffle) each epoch has an order of its own. Order and contents are a function of the
/// generator and the number of the epoch; random transforms draw from a generator for each image of each epoch. Neither
/// depends on the size of a batch or on [`prefetch`](DataLoader::prefetch).
///
/// The epoch of a loader with a batch size of 0 or an empty data set consists of an error. An error of the data set or
/// of a transform is the last item of its epoch, and so is a panic, as [`Error::Value`]; the loader stays usable.
///
/// ```
/// use gristmill::{Rng, Tensor, data::{DataLoader, TensorDataset}};
/// let points = TensorDataset::new(&Tensor::rand([10, 2], 0.0, 1.0, &mut Rng::seed(1))?, vec![0; 10], 1)?;
/// let loader = DataLoader::new(points).batch_size(4).shuffle(Rng::seed(2));
/// assert_eq!(loader.len(), 3);
/// for epoch in 0..2 {
///     let mut points = 0;
///     for batch in &loader {
///         let (images, labels) = batch?;
///         assert_eq!(images.shape(), [labels.len(), 2]);
///         points += labels.len();
///     }
///     assert_eq!(points, 10);
/// }
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct DataLoader<D> {
    dataset: Arc<D>,
    transforms: Chain,
    batch_size: usize,
    drop_last: bool,
    prefetch: usize,
    shuffle: bool,
    rng: Rng,
    epoch: AtomicU64,
}

impl<D: Dataset + 'static> DataLoader<D> {
    /// One image per batch, in the order of the data set, two batches made ahead.
    ///
    /// An `Arc` of a data set is a data set too.
    pub fn new(dataset: D) -> Self {
        Self {
            dataset: Arc::new(dataset),
            transforms: Vec::new(),
            batch_size: 1,
            drop_last: false,
            prefetch: 2,
            shuffle: false,
            rng: Rng::seed(0),
            epoch: AtomicU64::new(0),
        }
    }

    /// The number of images in a batch; the last batch of an epoch has what is left.
    pub fn batch_size(mut self, images: usize) -> Self {
        self.batch_size = images;
        self
    }

    /// Puts the images of every epoch in another random order. The generator serves random transforms too.
    pub fn shuffle(mut self, rng: Rng) -> Self {
        self.shuffle = true;
        self.rng(rng)
    }

    /// The generator of random transforms when images are not shuffled; without it, `Rng::seed(0)`.
    pub fn rng(mut self, rng: Rng) -> Self {
        self.rng = rng;
        self
    }

    /// Whether a last batch with fewer images is left out.
    pub fn drop_last(mut self, drop_last: bool) -> Self {
        self.drop_last = drop_last;
        self
    }

    /// Changes each image, after the transforms given before; images must be `[height, width, channels]`.
    pub fn transform(mut self, transform: impl Transform + 'static) -> Self {
        self.transforms.push(Arc::new(transform));
        self
    }

    /// How many batches a thread makes ahead; 0 makes each on the caller's thread when it is asked for.
    pub fn prefetch(mut self, batches: usize) -> Self {
        self.prefetch = batches;
        self
    }

    /// The number of the next epoch, 0 at first: to go on with the order and the transforms of an interrupted training.
    pub fn next_epoch(mut self, epoch: u64) -> Self {
        self.epoch = AtomicU64::new(epoch);
        self
    }

    /// The number of batches in an epoch; 0 if the batch size is 0.
    pub fn len(&self) -> usize {
        match self.images_in_epoch() {
            0 => 0,
            images => images.div_ceil(self.batch_size),
        }
    }

    /// Whether there are no batches in an epoch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The data set.
    pub fn dataset(&self) -> &D {
        &self.dataset
    }

    /// Starts the next epoch, as `&loader` does in a `for`.
    pub fn iter(&self) -> Batches<D> {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed);
        Batches(self.start(epoch).unwrap_or_else(|error| Source::Failed(Some(error))))
    }

    fn images_in_epoch(&self) -> usize {
        let images = self.dataset.len();
        match (self.batch_size, self.drop_last) {
            (0, _) => 0,
            (_, false) => images,
            (batch_size, true) => images - images % batch_size,
        }
    }

    fn start(&self, epoch: u64) -> Result<Source<D>> {
        if self.batch_size == 0 {
            return Err(Error::value(OP, "the batch size must be at least 1, got 0"));
        }
        if self.dataset.is_empty() {
            return Err(Error::value(OP, "the data set is empty"));
        }
        let shape = self.dataset.shape();
        let transforms = match (shape.try_into(), &self.transforms[..]) {
            (_, []) => None,
            (Ok(shape), transforms) => Some((shape, transforms.to_vec())),
            (Err(_), _) => {
                let message = format!("transforms need images [height, width, channels], got {shape:?}");
                return Err(Error::shape(OP, message));
            }
        };

        let mut rng = nth_split(&self.rng, epoch);
        let (mut order_rng, image_rng) = (rng.split(), rng.split());
        let images = self.dataset.len();
        let mut order = if self.shuffle { order_rng.permutation(images) } else { (0..images).collect() };
        order.truncate(self.images_in_epoch());
        let epoch = Epoch {
            dataset: self.dataset.clone(),
            transforms,
            rng: image_rng,
            order,
            done: 0,
            batch_size: self.batch_size,
        };
        Ok(match self.prefetch {
            0 => Source::Here(epoch),
            ahead => Source::Ahead(Worker::start(epoch, ahead.min(self.len()))?),
        })
    }
}

impl<D: Dataset + 'static> IntoIterator for &DataLoader<D> {
    type Item = Result<Batch>;
    type IntoIter = Batches<D>;

    fn into_iter(self) -> Batches<D> {
        self.iter()
    }
}

/// What call `n` of `rng.split()` gives.
fn nth_split(rng: &Rng, n: u64) -> Rng {
    Rng { position: rng.position.wrapping_add(n.wrapping_mul(2)), ..*rng }.split()
}

/// The batches of one epoch. Dropped early, it waits for the batch in the making and ends the worker.
pub struct Batches<D>(Source<D>);

enum Source<D> {
    Failed(Option<Error>),
    Here(Epoch<D>),
    Ahead(Worker),
}

impl<D: Dataset> Iterator for Batches<D> {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        let _scope = crate::profile::scope("DataLoader::next");
        match &mut self.0 {
            Source::Failed(error) => error.take().map(Err),
            Source::Here(epoch) => epoch.next(),
            Source::Ahead(worker) => worker.next(),
        }
    }
}

impl<D: Dataset> FusedIterator for Batches<D> {}

type Chain = Vec<Arc<dyn Transform>>;

/// Makes the batches of one epoch.
struct Epoch<D> {
    dataset: Arc<D>,
    /// With the shape of the images, if there are any.
    transforms: Option<([usize; 3], Chain)>,
    /// Image `i` draws from the split `i` of this.
    rng: Rng,
    order: Vec<usize>,
    /// How many of `order` have been handed out.
    done: usize,
    batch_size: usize,
}

impl<D: Dataset> Epoch<D> {
    fn next(&mut self) -> Option<Result<Batch>> {
        let indices = &self.order[self.done..];
        let indices = &indices[..indices.len().min(self.batch_size)];
        if indices.is_empty() {
            return None;
        }
        let (mut labels, mut read) = (Buffer::stale(indices.len()), 0);
        // A panic leaves behind a half-written batch only, which is dropped.
        let gather = AssertUnwindSafe(|| self.gather(indices, labels.fresh_mut(), &mut read));
        let images = catch_unwind(gather).unwrap_or_else(|panic| {
            let place = format!("image {}", indices[read.min(indices.len() - 1)]);
            Err(panicked(&place, &*panic))
        });
        self.done = if images.is_ok() { self.done + indices.len() } else { self.order.len() };
        Some(images.map(|images| (images, labels)))
    }

    /// The images of `indices`, their labels, and while it runs how many of them were read.
    fn gather(&self, indices: &[usize], labels: &mut [usize], read: &mut usize) -> Result<Tensor<f32>> {
        let shape = self.dataset.shape();
        let shape = Shape::join(&[&[indices.len()], shape])?;
        Tensor::build(shape, |data| {
            let size = data.len() / indices.len();
            for (i, &index) in indices.iter().enumerate() {
                if let Some(&later) = self.order.get(self.done + i + AHEAD) {
                    self.dataset.read_soon(later);
                }
                let image = &mut data[i * size..][..size];
                self.dataset.read(index, image)?;
                if let Some((shape, transforms)) = &self.transforms {
                    let mut rng = nth_split(&self.rng, index as u64);
                    transforms.iter().try_for_each(|transform| transform.apply(image, *shape, &mut rng))?;
                }
                labels[i] = self.dataset.label(index);
                *read = i + 1;
            }
            Ok(())
        })
    }
}

fn panicked(place: &str, panic: &(dyn Any + Send)) -> Error {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::value(OP, format!("panic at {place}: {}", message.unwrap_or("without a message")))
}

/// A thread that makes the batches of one epoch ahead.
struct Worker {
    /// `None` once the epoch has ended.
    batches: Option<Receiver<Result<Batch>>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Keeps up to `ahead` batches ready, at least one.
    fn start<D: Dataset + 'static>(mut epoch: Epoch<D>, ahead: usize) -> Result<Self> {
        // One batch more waits in the hands of the worker.
        let (sender, batches) = sync_channel(ahead.saturating_sub(1));
        // Kernels called by the data set or a transform run as they would on the caller's thread.
        let settings = context::settings()?;
        let context = Context::new().isa(settings.simd.isa()).threads(settings.threads);
        let work = move || {
            let sent = context.run(|| {
                while let Some(batch) = epoch.next() {
                    if sender.send(batch).is_err() {
                        return;
                    }
                }
            });
            if let Err(error) = sent {
                drop(sender.send(Err(error)));
            }
        };
        let thread = thread::Builder::new().name("gristmill-data".into()).spawn(work);
        let thread = thread.map_err(|error| {
            Error::setting("DataLoader::prefetch", format!("there is no thread to be had: {error}"))
        })?;
        Ok(Self { batches: Some(batches), thread: Some(thread) })
    }

    fn next(&mut self) -> Option<Result<Batch>> {
        if let Ok(batch) = self.batches.as_ref()?.recv() {
            return Some(batch);
        }
        self.batches = None;
        let panic = self.thread.take()?.join().err()?;
        Some(Err(panicked("the end of the worker thread", &*panic)))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Without a receiver the worker ends.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
