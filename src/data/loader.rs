//! Batches of a data set, epoch after epoch.

use std::any::Any;
use std::iter::FusedIterator;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::collate::{Collate, Picks};
use super::dataset::Dataset;
use super::sampler::{RandomSampler, Sampler, SequentialSampler};
use super::transform::Transform;
use crate::context::{self, Context};
use crate::error::{Error, Result};
use crate::rng::Rng;

const OP: &str = "DataLoader";

/// Hands out a data set in batches; each `for batch in &loader` is a new epoch.
///
/// With [`shuffle`](DataLoader::shuffle) or a [`sampler`](DataLoader::sampler), each epoch has its own order.
/// Order and contents are a function of the generator and the number of the epoch; random transforms draw
/// from a separate generator for each image of each epoch. Neither depends on the batch size or on
/// [`prefetch`](DataLoader::prefetch).
///
/// If the batch size is 0 or the data set is empty, the only item of an epoch is an error. An error of the
/// data set or of a transform, or a panic (as [`Error::Value`]), is the last item of its epoch; the loader
/// stays usable.
///
/// ```
/// use gristmill::{Rng, Tensor, data::{DataLoader, LabeledTensors}};
/// let points = LabeledTensors::new(&Tensor::rand([10, 2], 0.0, 1.0, &mut Rng::seed(1))?, vec![0; 10], 1)?;
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
    /// `None`: a thread makes batches ahead if that pays.
    prefetch: Option<usize>,
    sampler: Box<dyn Sampler>,
    rng: Rng,
    epoch: AtomicU64,
}

impl<D: Dataset + 'static> DataLoader<D> {
    /// Adds a transform, which is applied to each image after those added before; images must be
    /// `[height, width, channels]`.
    pub fn transform(mut self, transform: impl Transform + 'static) -> Self {
        self.transforms.push(Arc::new(transform));
        self
    }
}

impl<D: Collate + 'static> DataLoader<D> {
    /// A loader with one sample per batch, in the order of the data set.
    ///
    /// An `Arc` of a data set is also a data set.
    pub fn new(dataset: D) -> Self {
        Self {
            dataset: Arc::new(dataset),
            transforms: Vec::new(),
            batch_size: 1,
            drop_last: false,
            prefetch: None,
            sampler: Box::new(SequentialSampler),
            rng: Rng::seed(0),
            epoch: AtomicU64::new(0),
        }
    }

    /// Sets the number of samples in a batch; the last batch of an epoch may have fewer.
    pub fn batch_size(mut self, samples: usize) -> Self {
        self.batch_size = samples;
        self
    }

    /// Takes the samples in a new random order in every epoch. Random transforms also use this generator.
    pub fn shuffle(self, rng: Rng) -> Self {
        self.sampler(RandomSampler::new()).rng(rng)
    }

    /// Sets the sampler, which chooses the samples of every epoch and their order; it draws from the
    /// generator given to [`rng`](DataLoader::rng).
    pub fn sampler(mut self, sampler: impl Sampler + 'static) -> Self {
        self.sampler = Box::new(sampler);
        self
    }

    /// Sets the generator of samplers and random transforms; `Rng::seed(0)` by default.
    pub fn rng(mut self, rng: Rng) -> Self {
        self.rng = rng;
        self
    }

    /// Whether to skip a last batch with fewer samples; false by default.
    pub fn drop_last(mut self, drop_last: bool) -> Self {
        self.drop_last = drop_last;
        self
    }

    /// Sets how many batches a thread makes ahead; with 0, each batch is made on the caller's thread when it
    /// is requested. By default, batches are made on the caller's thread until several of an epoch took
    /// longer than 100 µs: a shorter batch costs less than handing it over. From then on a thread makes two
    /// batches ahead.
    pub fn prefetch(mut self, batches: usize) -> Self {
        self.prefetch = Some(batches);
        self
    }

    /// Sets the number of the next epoch, initially 0, to continue with the order and the transforms of an
    /// interrupted training run.
    pub fn next_epoch(mut self, epoch: u64) -> Self {
        self.epoch = AtomicU64::new(epoch);
        self
    }

    /// The number of batches in an epoch; 0 if the batch size is 0.
    pub fn len(&self) -> usize {
        match self.whole_batches(self.sampler.count(self.dataset.samples())) {
            0 => 0,
            samples => samples.div_ceil(self.batch_size),
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

    /// Starts the next epoch, as does iterating over `&loader` with `for`.
    pub fn iter(&self) -> Batches<D> {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed);
        Batches(self.start(epoch).unwrap_or_else(|error| Source::Failed(Some(error))))
    }

    /// The number of an epoch's samples that end up in batches.
    fn whole_batches(&self, samples: usize) -> usize {
        match (self.batch_size, self.drop_last) {
            (0, _) => 0,
            (_, false) => samples,
            (batch_size, true) => samples - samples % batch_size,
        }
    }

    fn start(&self, epoch: u64) -> Result<Source<D>> {
        if self.batch_size == 0 {
            return Err(Error::value(OP, "the batch size must be at least 1, got 0"));
        }
        if self.dataset.samples() == 0 {
            return Err(Error::value(OP, "the data set is empty"));
        }
        let mut rng = self.rng.nth_split(epoch);
        let (mut order_rng, sample_rng) = (rng.split(), rng.split());
        let samples = self.dataset.samples();
        let mut order = self.sampler.order(samples, &mut order_rng)?;
        if let Some(index) = order.iter().find(|&&index| index >= samples) {
            let message = format!("the sampler gives index {index}, but there are {samples} samples");
            return Err(Error::value(OP, message));
        }
        order.truncate(self.whole_batches(order.len()));
        let epoch = Epoch {
            dataset: self.dataset.clone(),
            transforms: self.transforms.clone(),
            rng: sample_rng,
            draws: draws(&order, samples),
            order,
            done: 0,
            batch_size: self.batch_size,
        };
        Ok(match self.prefetch {
            None => Source::Watched(epoch, PATIENCE),
            Some(0) => Source::Here(epoch),
            Some(ahead) => {
                // The actual length: the sampler's count may be wrong.
                let batches = epoch.order.len().div_ceil(self.batch_size);
                Source::Ahead(Worker::start(epoch, ahead.min(batches))?)
            }
        })
    }
}

impl<D: Collate + 'static> IntoIterator for &DataLoader<D> {
    type Item = Result<D::Batch>;
    type IntoIter = Batches<D>;

    fn into_iter(self) -> Batches<D> {
        self.iter()
    }
}

/// For each sample of an epoch, the split of the generator from which it draws: split `index`, or
/// `index + n·samples` for its `n`th repetition. Empty if no sample is repeated.
fn draws(order: &[usize], samples: usize) -> Vec<u64> {
    let mut seen = vec![0_u64; samples];
    let mut draw = |&index: &usize| {
        let again = seen[index];
        seen[index] += 1;
        index as u64 + again * samples as u64
    };
    let draws: Vec<u64> = order.iter().map(&mut draw).collect();
    if seen.iter().all(|&times| times <= 1) { Vec::new() } else { draws }
}

/// The batches of one epoch. Dropping it early waits for the batch in progress and stops the worker.
pub struct Batches<D: Collate>(Source<D>);

enum Source<D: Collate> {
    Failed(Option<Error>),
    Here(Epoch<D>),
    /// Made here until this many more batches took long.
    Watched(Epoch<D>, u32),
    Ahead(Worker<D::Batch>),
}

/// The cost of getting a batch from another thread, which has to be woken for the next one: measured as 30 to
/// 130 µs.
const HAND_OVER: Duration = Duration::from_micros(100);
/// The number of slow batches in an epoch after which a thread makes batches ahead: the first ones are slow
/// because they touch memory for the first time.
const PATIENCE: u32 = 3;
/// How many batches that thread makes ahead.
const AHEAD: usize = 2;

impl<D: Collate + 'static> Batches<D> {
    /// The next batch, made here; if batches take long, a thread makes the later ones.
    fn watched(&mut self) -> Option<Result<D::Batch>> {
        let Source::Watched(epoch, patience) = &mut self.0 else { return None };
        let start = Instant::now();
        let batch = context::in_environment(|| epoch.next());
        *patience -= u32::from(start.elapsed() > HAND_OVER);
        if *patience == 0
            && let Source::Watched(epoch, _) = std::mem::replace(&mut self.0, Source::Failed(None))
        {
            self.0 =
                Worker::start(epoch, AHEAD).map_or_else(|error| Source::Failed(Some(error)), Source::Ahead);
        }
        batch
    }
}

impl<D: Collate + 'static> Iterator for Batches<D> {
    type Item = Result<D::Batch>;

    fn next(&mut self) -> Option<Result<D::Batch>> {
        let _scope = crate::profile::scope("DataLoader::next");
        match &mut self.0 {
            Source::Failed(error) => error.take().map(Err),
            // The environment that a worker thread would have.
            Source::Here(epoch) => context::in_environment(|| epoch.next()),
            Source::Watched(..) => self.watched(),
            Source::Ahead(worker) => worker.next(),
        }
    }
}

impl<D: Collate + 'static> FusedIterator for Batches<D> {}

type Chain = Vec<Arc<dyn Transform>>;

/// Makes the batches of one epoch.
struct Epoch<D> {
    dataset: Arc<D>,
    transforms: Chain,
    /// Sample `i` draws from split `i` of this generator, or from the split in `draws`, if that is not empty.
    rng: Rng,
    order: Vec<usize>,
    draws: Vec<u64>,
    /// How many of `order` are done.
    done: usize,
    batch_size: usize,
}

impl<D: Collate> Epoch<D> {
    fn next(&mut self) -> Option<Result<D::Batch>> {
        let order = &self.order[self.done..];
        let count = order.len().min(self.batch_size);
        if count == 0 {
            return None;
        }
        let mut picks = Picks {
            order,
            draws: self.draws.get(self.done..).unwrap_or_default(),
            count,
            taken: 0,
            rng: &self.rng,
            transforms: &self.transforms,
        };
        // A panic only leaves a half-written batch behind, which is dropped.
        let collate = AssertUnwindSafe(|| self.dataset.collate(&mut picks));
        let batch = catch_unwind(collate)
            .unwrap_or_else(|panic| Err(panicked(&format!("sample {}", picks.latest()), &*panic)));
        self.done = if batch.is_ok() { self.done + count } else { self.order.len() };
        Some(batch)
    }
}

fn panicked(place: &str, panic: &(dyn Any + Send)) -> Error {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::value(OP, format!("panic at {place}: {}", message.unwrap_or("without a message")))
}

/// A thread that makes the batches of one epoch ahead.
struct Worker<B> {
    /// `None` once the epoch has ended.
    batches: Option<Receiver<Result<B>>>,
    thread: Option<JoinHandle<()>>,
}

impl<B: Send + 'static> Worker<B> {
    /// Keeps up to `ahead` batches ready, at least one.
    fn start<D: Collate<Batch = B> + 'static>(mut epoch: Epoch<D>, ahead: usize) -> Result<Self> {
        // The worker itself holds one more finished batch.
        let (sender, batches) = sync_channel(ahead.saturating_sub(1));
        // Kernels called by the data set or a transform use the settings of the caller's thread.
        let settings = context::settings()?;
        let context = Context::of(settings, settings.threads);
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

    fn next(&mut self) -> Option<Result<B>> {
        if let Ok(batch) = self.batches.as_ref()?.recv() {
            return Some(batch);
        }
        self.batches = None;
        let panic = self.thread.take()?.join().err()?;
        Some(Err(panicked("the end of the worker thread", &*panic)))
    }
}

impl<B> Drop for Worker<B> {
    fn drop(&mut self) {
        // Dropping the receiver makes the worker stop.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
