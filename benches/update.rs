//! Optimizer steps: a bias, a small network, more than the second-level cache holds.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gristmill::Element;
use gristmill::kernels::update::{self, Adam, RmsProp, Sgd};

fn updates<T: Element>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("update");
    group
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .sample_size(10);
    for len in [100, 100_000, 4_000_000] {
        let g: Vec<T> = (0..len).map(|i| T::from_f64((i % 101) as f64 - 50.0)).collect();
        let [mut p, mut a, mut b] = [(); 3].map(|()| vec![T::ONE; len]);
        group.throughput(Throughput::Elements(len as u64));
        let name = |rule: &str| BenchmarkId::new(format!("{rule}/{}", T::NAME), len);
        let plain = Sgd::default();
        group.bench_function(name("sgd"), |bench| {
            bench.iter(|| update::sgd(&plain, 2, black_box(&g), &mut p, &mut []))
        });
        let momentum = Sgd { momentum: 0.9, ..plain };
        group.bench_function(name("sgd_momentum"), |bench| {
            bench.iter(|| update::sgd(&momentum, 2, black_box(&g), &mut p, &mut a))
        });
        let rmsprop = RmsProp::default();
        group.bench_function(name("rmsprop"), |bench| {
            bench.iter(|| update::rmsprop(&rmsprop, black_box(&g), &mut p, &mut a, &mut [], &mut []))
        });
        let adam = Adam::default();
        group.bench_function(name("adam"), |bench| {
            bench.iter(|| update::adam(&adam, 1000, black_box(&g), &mut p, &mut a, &mut b, &mut []))
        });
    }
}

criterion_group!(benches, updates::<f32>);
criterion_main!(benches);
