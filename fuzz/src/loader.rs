//! Data sets, samplers and batches of any size, errors and panics in what the user writes, batches made here
//! and ahead, epochs left in the middle and side by side: no deadlock, every sample in its place, and what
//! went wrong comes out.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, set_hook, take_hook};
use std::sync::Arc;
use std::time::Duration;

use gristmill::data::{
    Batch, Collate, Collated, DataLoader, Dataset, RandomSampler, Sampler, Samples, SequentialSampler,
    Subset, TensorDataset, WeightedRandomSampler, random_split,
};
use gristmill::{Error, Result, Rng, Tensor};

use super::Input;

pub fn check(bytes: &[u8]) {
    let mut input = Input(bytes);
    let plan = Plan::draw(&mut input);
    match input.below(5) {
        0 => plan.run(|faults| Ok(numbers(plan.samples, faults)), |seen| seen),
        1 => plan.run_images(),
        2 => {
            // Every second sample of twice as many.
            let places = (0..plan.samples).map(|index| 2 * index).collect();
            plan.run_part(2 * plan.samples, places, |whole, places| Subset::new(whole, places.to_vec()));
        }
        3 => {
            let places = Rng::seed(1).permutation(plan.samples);
            plan.run_part(plan.samples, places, |whole, places| {
                let [all, none] = random_split(whole, [plan.samples, 0], &mut Rng::seed(1))?;
                assert!(none.is_empty() && all.indices() == places);
                Ok(all)
            });
        }
        _ => plan.run(
            |faults| {
                let rows: Vec<f64> = (0..plan.samples).map(|index| index as f64).collect();
                Ok(Rows(TensorDataset::new([&Tensor::from_slice(&rows, [plan.samples])?])?, faults))
            },
            |seen| seen,
        ),
    }
}

/// Before the first input: panics of the user's are part of the plan, and say nothing; the others do.
pub fn start() {
    let others = take_hook();
    set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.payload().downcast_ref::<String>().map(String::as_str));
        if !panic.payload().is::<Planned>() && !text.is_some_and(|text| text.contains("planned")) {
            others(panic);
        }
    }));
}

/// A panic that is no text.
struct Planned;

/// What goes wrong when a sample is read.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Error,
    Text,
    String,
    Other,
}

impl Fault {
    fn happen(self) -> Error {
        match self {
            Fault::Error => Error::value("planned", "an error"),
            Fault::Text => panic!("planned"),
            Fault::String => panic!("planned, number {}", std::hint::black_box(1)),
            Fault::Other => panic_any(Planned),
        }
    }
}

#[derive(Clone, Debug)]
struct Faults {
    bad: BTreeSet<usize>,
    fault: Fault,
    /// Where the fault strikes: when a sample is read, or when its batch is made.
    late: bool,
    /// So long that batches are made ahead.
    slow: bool,
    /// Kernels run, and a loader, where a sample is read.
    deep: bool,
}

impl Faults {
    fn meet(&self, index: usize, late: bool) -> Result<()> {
        if self.slow && !late {
            std::thread::sleep(Duration::from_micros(120));
        }
        if self.deep && !late {
            let inner = DataLoader::new(numbers(3, self.none())).prefetch(1);
            assert_eq!(inner.iter().take(2).filter(|batch| batch.is_ok()).count(), 2);
            Tensor::<f32>::ones([40, 40])?.matmul(&Tensor::ones([40, 40])?)?;
        }
        if late == self.late && self.bad.contains(&index) {
            return Err(self.fault.happen());
        }
        Ok(())
    }

    fn none(&self) -> Faults {
        Faults { bad: BTreeSet::new(), slow: false, deep: false, ..*self }
    }
}

/// What a batch tells of its samples: index, and a number drawn for each.
type Seen = Vec<(usize, u64)>;

struct Numbers {
    samples: usize,
    faults: Arc<Faults>,
}

impl Samples for Numbers {
    type Sample = (usize, u64);

    fn len(&self) -> usize {
        self.samples
    }

    fn get(&self, index: usize, rng: &mut Rng) -> Result<(usize, u64)> {
        assert!(index < self.samples);
        self.faults.meet(index, false)?;
        Ok((index, rng.next_u32().into()))
    }
}

type Whole = Collated<Numbers, Box<dyn Fn(Seen) -> Result<Seen> + Send + Sync>>;

fn numbers(samples: usize, faults: Faults) -> Whole {
    let faults = Arc::new(faults);
    let samples = Numbers { samples, faults: faults.clone() };
    samples.collate(Box::new(move |seen: Seen| {
        seen.iter().try_for_each(|&(index, _)| faults.meet(index, true))?;
        Ok(seen)
    }))
}

struct Rows(TensorDataset<1, f64>, Faults);

impl Collate for Rows {
    type Batch = Seen;

    fn samples(&self) -> usize {
        self.0.len()
    }

    fn collate(&self, picks: &mut gristmill::data::Picks<'_>) -> Result<Seen> {
        let indices = picks.indices().to_vec();
        for &index in &indices {
            [false, true].iter().try_for_each(|&late| self.1.meet(index, late))?;
        }
        let [rows] = self.0.collate(picks)?;
        assert_eq!(rows.shape(), [indices.len()]);
        Ok(rows.to_vec().into_iter().map(|row| (row as usize, 0)).collect())
    }
}

/// Images that say which they are.
struct Images {
    samples: usize,
    shape: Vec<usize>,
    faults: Faults,
}

impl Dataset for Images {
    fn len(&self) -> usize {
        self.samples
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn classes(&self) -> usize {
        self.samples
    }

    fn label(&self, index: usize) -> usize {
        index
    }

    fn read_soon(&self, index: usize) {
        assert!(index < self.samples);
    }

    fn read(&self, index: usize, out: &mut [f32]) -> Result<()> {
        self.faults.meet(index, false)?;
        out.fill(index as f32);
        self.faults.meet(index, true)
    }
}

fn seen((images, labels): Batch) -> Seen {
    assert_eq!(images.shape()[0], labels.len());
    let size = images.len() / labels.len();
    let images = images.to_vec();
    let pixel = |i: usize| images.get(i * size).filter(|_| size > 0).copied().unwrap_or(0.0);
    labels.iter().enumerate().map(|(i, &label)| (label, pixel(i).to_bits().into())).collect()
}

/// A sampler of the user's, right or wrong.
struct Own {
    order: Vec<usize>,
    count: usize,
    fails: bool,
}

impl Sampler for Own {
    fn order(&self, _: usize, _: &mut Rng) -> Result<Vec<usize>> {
        if self.fails { Err(Error::value("planned", "no order")) } else { Ok(self.order.clone()) }
    }

    fn count(&self, _: usize) -> usize {
        self.count
    }
}

/// What is loaded, and how.
struct Plan {
    samples: usize,
    batch_size: usize,
    drop_last: bool,
    prefetch: Option<usize>,
    sampler: (usize, usize, bool),
    own: Vec<usize>,
    /// How many batches are taken before the epoch is left.
    taken: usize,
    leaves_in_panic: bool,
    side_by_side: bool,
    faults: Faults,
}

/// More than there is memory for.
const ABSURD: usize = 1 << 60;

impl Plan {
    fn draw(input: &mut Input) -> Self {
        let samples = input.below(48);
        let below = |input: &mut Input, n: usize| input.below(n);
        let fault = input.pick(&[Fault::Error, Fault::Text, Fault::String, Fault::Other]);
        let flags = input.byte();
        let flag = |bit: u8| flags >> bit & 1 == 1;
        let faults = Faults {
            bad: (0..input.below(4)).map(|_| below(input, samples)).collect(),
            fault,
            late: flag(0),
            slow: flag(1) && flag(2) && flag(3),
            deep: flag(4) && flag(5) && flag(6),
        };
        let any = input.below(20);
        let counts = [samples, 0, 1, 3 * samples + 1, any, ABSURD];
        Self {
            samples,
            batch_size: input.pick(&[1, 2, 3, 7, 10, samples, samples + 1, 0, usize::MAX]),
            drop_last: input.flag(),
            prefetch: input.pick(&[None, Some(0), Some(1), Some(2), Some(5), Some(usize::MAX)]),
            sampler: (input.below(6), input.pick(&counts), flag(7)),
            taken: input.pick(&[usize::MAX, usize::MAX, 0, 1, 2]),
            leaves_in_panic: input.below(8) == 1,
            side_by_side: input.flag(),
            own: {
                let len = input.below(40);
                input.take(len).iter().map(|&byte| usize::from(byte)).collect()
            },
            faults,
        }
    }

    /// `None` if there is no such sampler.
    fn sampled<D: Collate + 'static>(&self, loader: DataLoader<D>) -> Option<DataLoader<D>> {
        let (kind, count, replacement) = self.sampler;
        let weights = || self.own.iter().map(|&weight| weight as f64).chain(std::iter::repeat(1.0));
        Some(match kind {
            0 => loader.sampler(SequentialSampler).rng(Rng::seed(7)),
            1 => loader.shuffle(Rng::seed(7)),
            2 => loader
                .rng(Rng::seed(7))
                .sampler(RandomSampler::new().num_samples(count).replacement(replacement)),
            3 => {
                let weights: Vec<f64> = weights().take(self.samples).collect();
                let sampler = WeightedRandomSampler::new(weights).ok()?;
                loader.rng(Rng::seed(7)).sampler(sampler.num_samples(count).replacement(replacement))
            }
            4 => {
                let order = self.own.iter().map(|&index| index % self.samples.max(1)).collect();
                loader.rng(Rng::seed(7)).sampler(Own { order, count, fails: false })
            }
            _ => {
                let order = self.own.clone();
                loader.rng(Rng::seed(7)).sampler(Own { order, count: self.own.len(), fails: replacement })
            }
        })
    }

    fn run_images(&self) {
        let shape = [1 + self.own.len() % 3, 2, 1];
        let with = |faults: &Faults| {
            let images = Images { samples: self.samples, shape: shape.to_vec(), faults: faults.clone() };
            let check = move |image: &mut [f32], given: [usize; 3], rng: &mut Rng| -> Result<()> {
                assert_eq!(given, shape);
                image.iter_mut().for_each(|x| *x += rng.uniform() as f32);
                Ok(())
            };
            DataLoader::new(images).transform(check)
        };
        self.check(with, seen);
    }

    fn run<D: Collate + 'static>(
        &self,
        make: impl Fn(Faults) -> Result<D>,
        seen: impl Fn(D::Batch) -> Seen + Copy,
    ) {
        self.check(|faults| DataLoader::new(make(faults.clone()).expect("a data set as it should be")), seen);
    }

    /// The samples at `places` of a whole; what goes wrong does so there.
    fn run_part(
        &self,
        whole: usize,
        places: Vec<usize>,
        part: impl Fn(Whole, &[usize]) -> Result<Subset<Whole>>,
    ) {
        let place =
            |index: usize| places.iter().position(|&place| place == index).expect("it is in the part");
        let make = |faults: Faults| {
            let bad = faults.bad.iter().filter_map(|&bad| places.get(bad).copied()).collect();
            part(numbers(whole, Faults { bad, ..faults }), &places)
        };
        self.run(make, |seen| seen.into_iter().map(|(index, drawn)| (place(index), drawn)).collect());
    }

    fn check<D: Collate + 'static>(
        &self,
        make: impl Fn(&Faults) -> DataLoader<D>,
        seen: impl Fn(D::Batch) -> Seen + Copy,
    ) {
        let Some(plain) = self.sampled(make(&self.faults.none())) else { return };
        let plain = plain.batch_size(usize::MAX).prefetch(0);
        let Some(loader) = self.sampled(make(&self.faults)) else { return };
        let mut loader = loader.batch_size(self.batch_size).drop_last(self.drop_last);
        if let Some(batches) = self.prefetch {
            loader = loader.prefetch(batches);
        }
        // What two epochs hold, each made as one batch.
        let epochs: Vec<Option<Seen>> = (0..2)
            .map(|_| {
                let batches: Vec<_> = plain.iter().collect();
                assert!(batches.len() <= 1);
                match batches.into_iter().next() {
                    None => Some(Vec::new()),
                    Some(batch) => batch.ok().map(seen),
                }
            })
            .collect();
        self.right(&epochs);
        let (kind, count, _) = self.sampler;
        let whole = epochs[0].as_ref().map_or(0, Vec::len);
        if epochs[0].is_some() && !(kind == 4 && count != whole) && self.batch_size > 0 {
            let batches =
                if self.drop_last { whole / self.batch_size } else { whole.div_ceil(self.batch_size) };
            assert_eq!(loader.len(), batches);
        }
        if self.side_by_side {
            let mut iterators = [loader.iter(), loader.iter()];
            let mut taken = [0, 0];
            loop {
                let mut ended = 0;
                for ((batches, epoch), taken) in iterators.iter_mut().zip(&epochs).zip(&mut taken) {
                    let batch = batches.next();
                    ended += usize::from(batch.is_none());
                    self.expect(epoch, *taken, batch.map(|batch| batch.map(seen)));
                    *taken += 1;
                }
                if ended == 2 || taken[0] > self.taken {
                    break;
                }
            }
            return;
        }
        for epoch in &epochs {
            let leave = || {
                let mut batches = loader.iter();
                for taken in 0.. {
                    if taken >= self.taken {
                        if self.leaves_in_panic {
                            panic_any(Planned);
                        }
                        return;
                    }
                    let batch = batches.next();
                    let ended = batch.is_none();
                    self.expect(epoch, taken, batch.map(|batch| batch.map(seen)));
                    if ended {
                        assert!(batches.next().is_none() && batches.next().is_none());
                        return;
                    }
                }
            };
            let left = catch_unwind(AssertUnwindSafe(leave));
            assert!(left.is_ok() || self.leaves_in_panic && self.taken < usize::MAX);
        }
    }

    /// What the samplers promise of an order.
    fn right(&self, epochs: &[Option<Seen>]) {
        let (kind, count, _) = self.sampler;
        for epoch in epochs {
            let Some(epoch) = epoch else {
                let absurd = count == ABSURD && matches!(kind, 2 | 3);
                let wrong = kind == 3 || kind == 5;
                assert!(self.samples == 0 || absurd || wrong, "an epoch without a reason to fail");
                continue;
            };
            assert!(epoch.iter().all(|&(index, _)| index < self.samples));
            let different: BTreeSet<usize> = epoch.iter().map(|&(index, _)| index).collect();
            match kind {
                0 => assert!(epoch.iter().map(|seen| seen.0).eq(0..self.samples)),
                1 => assert!(different.len() == self.samples && epoch.len() == self.samples),
                2 | 3 => assert_eq!(epoch.len(), count),
                _ => {}
            }
        }
    }

    /// Checks batch number `nth` of an epoch.
    fn expect(&self, epoch: &Option<Seen>, nth: usize, batch: Option<Result<Seen>>) {
        let Some(epoch) = epoch.as_ref().filter(|_| self.batch_size > 0) else {
            match (nth, batch) {
                (0, Some(Err(_))) => return,
                (0, _) => panic!("an epoch that cannot be begins with an error"),
                (_, batch) => return assert!(batch.is_none()),
            }
        };
        let mut batches = epoch.chunks(self.batch_size.min(1 << 20));
        if self.drop_last && epoch.len() % self.batch_size != 0 {
            batches.next_back();
        }
        let fails = |batch: &[(usize, u64)]| batch.iter().any(|(index, _)| self.faults.bad.contains(index));
        // A fault ends the epoch.
        let first = batches.clone().position(fails);
        let expected = batches.nth(nth).filter(|_| first.is_none_or(|first| nth <= first));
        match (expected, batch) {
            (None, None) => {}
            (Some(expected), Some(Ok(batch))) => {
                assert!(first != Some(nth), "a fault is lost");
                assert_eq!(batch, expected);
            }
            (Some(_), Some(Err(error))) => {
                assert_eq!(first, Some(nth), "{error}");
                let text = error.to_string();
                let cause = if self.faults.fault == Fault::Other { "without a message" } else { "planned" };
                assert!(text.contains(cause), "{text}");
            }
            (expected, _) => panic!("batch {nth}: expected {expected:?}"),
        }
    }
}
