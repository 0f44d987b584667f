//! Reductions: from a row of a small network to more than a cache holds.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gristmill::Element;
use gristmill::kernels::reduce::{self, Reduce};

fn reductions<T: Element>(criterion: &mut Criterion) {
    for (rows, cols) in [(100, 10), (128, 1000), (65_536, 10), (4096, 4096)] {
        let x: Vec<T> = (0..rows * cols).map(|i| T::from_f64((i % 101) as f64)).collect();
        let size = format!("{}/{rows}x{cols}", T::NAME);
        let (mut by_row, mut by_col) = (vec![T::ZERO; rows], vec![T::ZERO; cols]);
        let mut places = vec![0; rows];

        let mut group = criterion.benchmark_group("reduce");
        group.throughput(Throughput::Bytes(size_of_val(&x[..]) as u64));
        group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(300));
        group.sample_size(10);
        for op in [Reduce::Sum, Reduce::Max] {
            let name = |part: &str| BenchmarkId::new(format!("{op:?}/{part}").to_lowercase(), &size);
            group.bench_function(name("all"), |b| b.iter(|| reduce::all(op, black_box(&x))));
            group.bench_function(name("rows"), |b| {
                b.iter(|| reduce::rows(op, black_box(&x), cols, &mut by_row))
            });
            group.bench_function(name("cols"), |b| {
                b.iter(|| reduce::cols(op, black_box(&x), cols, &mut by_col))
            });
        }
        let name = |name: &str| BenchmarkId::new(name, &size);
        group.bench_function(name("argmax/rows"), |b| {
            b.iter(|| reduce::argmax_rows(black_box(&x), cols, &mut places))
        });
        group.bench_function(name("variance/rows"), |b| {
            b.iter(|| reduce::variance_rows(black_box(&x), cols, 0, &mut by_row))
        });
        group.bench_function(name("variance/cols"), |b| {
            b.iter(|| reduce::variance_cols(black_box(&x), cols, 0, &mut by_col))
        });
        group.finish();
    }
}

criterion_group!(benches, reductions::<f32>);
criterion_main!(benches);
