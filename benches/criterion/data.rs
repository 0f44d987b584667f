//! Making batches of MNIST, and what a worker leaves of that on the caller's thread.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use gristmill::Rng;
use gristmill::data::{DataLoader, Mnist, Normalize, RandomCrop, RandomFlipHorizontal, Split};

pub fn bench() {
    let mut criterion = Criterion::default().configure_from_args();
    let train = match Mnist::load("data", Split::Train) {
        Ok(train) => Arc::new(train),
        // A package does not bring it.
        Err(error) => return eprintln!("data/ is left out: {error}"),
    };
    let loader =
        |prefetch| DataLoader::new(train.clone()).batch_size(100).shuffle(Rng::seed(4)).prefetch(prefetch);
    let augmented = |prefetch| {
        loader(prefetch)
            .transform(RandomCrop::new(2))
            .transform(RandomFlipHorizontal::new(0.5).expect("a probability"))
            .transform(Normalize::new(&[0.1307], &[0.3081]).expect("numbers"))
    };

    let mut group = criterion.benchmark_group("data");
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(500));
    group.sample_size(20).nresamples(2000);
    group.throughput(Throughput::Elements(100));
    for (name, loader) in [("batch", loader(0)), ("batch_augmented", augmented(0))] {
        let mut batches = loader.iter();
        group.bench_function(BenchmarkId::new(name, "mnist/100"), |b| {
            b.iter(|| {
                let batch = batches.next();
                if batch.is_none() {
                    batches = loader.iter();
                }
                black_box(batch)
            });
        });
    }
    group.throughput(Throughput::Elements(60_000));
    for prefetch in [0, 2] {
        let loader = loader(prefetch);
        group.bench_function(BenchmarkId::new(format!("epoch/prefetch_{prefetch}"), "mnist/100"), |b| {
            b.iter(|| loader.iter().for_each(|batch| drop(black_box(batch))));
        });
    }
    group.bench_function(BenchmarkId::new("permutation", 60_000), |b| {
        let mut rng = Rng::seed(4);
        b.iter(|| rng.permutation(60_000));
    });
    group.finish();
}
