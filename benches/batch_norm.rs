//! Batch normalisation: batches of a small network, wide ones, tall ones, and more than the second-level cache holds.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gristmill::{Element, kernels::batch_norm};

fn batch_norms<T: Element>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch_norm");
    group
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .sample_size(10);
    for (rows, cols) in [(100, 50), (100, 100), (128, 1000), (50_000, 16), (2048, 1024)] {
        let x: Vec<T> = (0..rows * cols).map(|i| T::from_f64((i % 101) as f64)).collect();
        let (gamma, beta, var) = (vec![T::ONE; cols], vec![T::ZERO; cols], vec![T::ONE; cols]);
        let (mut y, mut mean, mut rstd) = (x.clone(), vec![T::ZERO; cols], vec![T::ONE; cols]);
        let (mut dgamma, mut dbeta) = (gamma.clone(), beta.clone());
        let (gamma, beta) = (Some(&gamma[..]), Some(&beta[..]));
        group.throughput(Throughput::Elements(x.len() as u64));
        let size = format!("{}/{rows}x{cols}", T::NAME);
        group.bench_function(BenchmarkId::new("forward", &size), |b| {
            b.iter(|| {
                batch_norm::forward(
                    black_box(&x),
                    cols,
                    gamma,
                    beta,
                    1e-5,
                    None,
                    &mut y,
                    &mut mean,
                    &mut rstd,
                )
            })
        });
        let dy = y.clone();
        group.bench_function(BenchmarkId::new("backward", &size), |b| {
            b.iter(|| {
                let x = black_box(&x);
                batch_norm::backward(x, cols, gamma, &mean, &rstd, &dy, &mut y, &mut dgamma, &mut dbeta)
            })
        });
        group.bench_function(BenchmarkId::new("infer", &size), |b| {
            b.iter(|| batch_norm::infer(black_box(&x), cols, gamma, beta, &mean, &var, 1e-5, &mut y))
        });
    }
}

criterion_group!(benches, batch_norms::<f32>);
criterion_main!(benches);
