//! Random numbers: filling a slice, shuffling the indices of an epoch.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gristmill::Rng;

fn random_numbers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rng");
    group
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .sample_size(10);
    let (mut rng, mut out) = (Rng::seed(1), vec![0.0_f32; 10_000]);
    let mut indices: Vec<usize> = (0..10_000).collect();
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("fill_uniform/f32", |b| b.iter(|| rng.fill_uniform(-1.0, 1.0, &mut out)));
    group.bench_function("fill_normal/f32", |b| b.iter(|| rng.fill_normal(0.0, 1.0, &mut out)));
    group.bench_function("fill_bernoulli/f32", |b| b.iter(|| rng.fill_bernoulli(0.5, &mut out)));
    group.bench_function("shuffle", |b| b.iter(|| rng.shuffle(&mut indices)));
}

criterion_group!(benches, random_numbers);
criterion_main!(benches);
