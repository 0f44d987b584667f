//! Layer normalisation: rows of a small network, of a transformer, and more than the second-level cache holds.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gristmill::{Element, kernels::layer_norm};

fn layer_norms<T: Element>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("layer_norm");
    group
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .sample_size(10);
    for (rows, cols) in [(100, 10), (100, 100), (128, 1000), (2048, 1024)] {
        let x: Vec<T> = (0..rows * cols).map(|i| T::from_f64((i % 101) as f64)).collect();
        let (gamma, beta) = (vec![T::ONE; cols], vec![T::ZERO; cols]);
        let (mut y, mut mean, mut rstd) = (x.clone(), vec![T::ZERO; rows], vec![T::ONE; rows]);
        let (mut dgamma, mut dbeta) = (gamma.clone(), beta.clone());
        let (gamma, beta) = (Some(&gamma[..]), Some(&beta[..]));
        group.throughput(Throughput::Elements(x.len() as u64));
        let size = format!("{}/{rows}x{cols}", T::NAME);
        group.bench_function(BenchmarkId::new("forward", &size), |b| {
            b.iter(|| {
                layer_norm::forward(black_box(&x), cols, gamma, beta, 1e-5, &mut y, &mut mean, &mut rstd)
            })
        });
        let dy = y.clone();
        group.bench_function(BenchmarkId::new("backward", &size), |b| {
            b.iter(|| {
                let x = black_box(&x);
                layer_norm::backward(x, cols, gamma, &mean, &rstd, &dy, &mut y, &mut dgamma, &mut dbeta)
            })
        });
    }
}

criterion_group!(benches, layer_norms::<f32>, layer_norms::<f64>);
criterion_main!(benches);
