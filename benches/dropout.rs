//! Dropout: from a batch of a small network to more than the second-level cache holds.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gristmill::{Element, kernels::dropout};

fn dropouts<T: Element>(criterion: &mut Criterion) {
    let key = dropout::Key { seed: 1, stream: 2 };
    let mut group = criterion.benchmark_group("dropout");
    group
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .sample_size(10);
    for len in [100, 10_000, 2_000_000] {
        let (x, mut y) = (vec![T::ONE; len], vec![T::ZERO; len]);
        group.throughput(Throughput::Elements(len as u64));
        group.bench_function(BenchmarkId::new(format!("forward/{}", T::NAME), len), |b| {
            b.iter(|| dropout::forward(black_box(&x), 0.1, key, &mut y))
        });
    }
}

criterion_group!(benches, dropouts::<f32>, dropouts::<f64>);
criterion_main!(benches);
