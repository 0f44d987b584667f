//! Elementwise functions: in cache (4096 elements), in a call too small to matter (16), and in memory (2²² elements).
//!
//! One thread, so that the numbers are nanoseconds per element of a core: the costs in `kernels/map.rs` come from here.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gristmill::kernels::map::{self, Binary, Unary};
use gristmill::{Context, Element};

fn numbers<T: Element>(len: usize) -> Vec<T> {
    (0..len).map(|i| T::from_f64((i % 613) as f64 / 100.0 + 0.01)).collect()
}

fn functions<T: Element>(c: &mut Criterion) {
    let len = 4096;
    let all = [
        ("relu", Unary::Relu),
        ("sigmoid", Unary::Sigmoid),
        ("tanh", Unary::Tanh),
        ("gelu", Unary::Gelu),
        ("gelu_tanh", Unary::GeluTanh),
        ("silu", Unary::Silu),
        ("softplus", Unary::Softplus),
        ("elu", Unary::Elu { alpha: T::ONE }),
        ("exp", Unary::Exp),
        ("ln", Unary::Ln),
        ("sqrt", Unary::Sqrt),
        ("reciprocal", Unary::Reciprocal),
        ("pow_3", Unary::Powf(T::from_f64(3.0))),
        ("pow_1.7", Unary::Powf(T::from_f64(1.7))),
    ];
    let (x, dy) = (numbers::<T>(len), numbers::<T>(len));
    let (mut y, mut dx) = (x.clone(), x.clone());
    let mut group = c.benchmark_group("map");
    group.throughput(Throughput::Elements(len as u64));
    for (name, op) in all {
        group.bench_function(format!("{name}/forward/{}/{len}", T::NAME), |b| {
            b.iter(|| map::unary(op, black_box(&x), &mut y).unwrap())
        });
    }
    for (name, op) in [("gelu", Unary::Gelu), ("silu", Unary::Silu), ("relu", Unary::Relu)] {
        group.bench_function(format!("{name}/backward/{}/{len}", T::NAME), |b| {
            b.iter(|| map::unary_backward(op, black_box(&x), &y, &dy, &mut dx).unwrap())
        });
    }
}

fn pairs(c: &mut Criterion) {
    let mut group = c.benchmark_group("map");
    for len in [16, 4096, 1 << 22] {
        let (a, b) = (numbers::<f32>(len), numbers::<f32>(len));
        let mut y = a.clone();
        group.throughput(Throughput::Elements(len as u64));
        group.bench_function(format!("add/f32/{len}"), |bench| {
            bench.iter(|| map::binary(Binary::Add, black_box(&a), &b, &mut y).unwrap())
        });
        group.bench_function(format!("axpby/f32/{len}"), |bench| {
            bench.iter(|| map::axpby(0.5, black_box(&a), 0.5, &mut y).unwrap())
        });
    }
    for (rows, cols) in [(100, 10), (100, 100), (128, 1000)] {
        let (a, row, col) = (numbers::<f32>(rows * cols), numbers::<f32>(cols), numbers::<f32>(rows));
        let mut y = a.clone();
        group.throughput(Throughput::Elements((rows * cols) as u64));
        group.bench_function(format!("add_row/f32/{rows}x{cols}"), |bench| {
            bench.iter(|| map::binary_row(Binary::Add, black_box(&a), &row, &mut y).unwrap())
        });
        group.bench_function(format!("mul_col/f32/{rows}x{cols}"), |bench| {
            bench.iter(|| map::binary_col(Binary::Mul, black_box(&a), &col, &mut y).unwrap())
        });
    }
}

fn all(c: &mut Criterion) {
    Context::new()
        .threads(1)
        .run(|| {
            functions::<f32>(c);
            functions::<f64>(c);
            pairs(c);
        })
        .unwrap();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .sample_size(10);
    targets = all
}
criterion_main!(benches);
