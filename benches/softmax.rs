//! Softmax and its relatives: the logits of ten classes, a middling layer, the vocabulary of a language model.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gristmill::Element;
use gristmill::kernels::{cross_entropy, log_softmax, logsumexp, softmax};

fn family<T: Element>(criterion: &mut Criterion) {
    for (rows, cols) in [(100, 10), (128, 1000), (32, 50_257)] {
        let x: Vec<T> = (0..rows * cols).map(|i| T::from_f64((i % 101) as f64 / 10.0)).collect();
        let targets: Vec<usize> = (0..rows).map(|row| row * 7 % cols).collect();
        let (dy, mut y, mut dx) = (x.clone(), x.clone(), x.clone());
        let (mut losses, mut lse) = (vec![T::ZERO; rows], vec![T::ZERO; rows]);
        let dlosses = vec![T::ONE; rows];

        let mut group = criterion.benchmark_group("softmax");
        group.throughput(Throughput::Elements((rows * cols) as u64));
        group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(500));
        group.sample_size(10);
        let mut bench = |name: &str, run: &mut dyn FnMut() -> gristmill::Result<()>| {
            let id = BenchmarkId::new(name, format!("{}/{rows}x{cols}", T::NAME));
            group.bench_function(id, |b| b.iter(&mut *run));
        };
        bench("softmax/forward", &mut || softmax::forward(black_box(&x), cols, &mut y));
        bench("softmax/backward", &mut || softmax::backward(black_box(&y), &dy, cols, &mut dx));
        bench("log_softmax/forward", &mut || log_softmax::forward(black_box(&x), cols, &mut y));
        bench("log_softmax/backward", &mut || log_softmax::backward(black_box(&y), &dy, cols, &mut dx));
        bench("logsumexp/forward", &mut || logsumexp::forward(black_box(&x), cols, &mut lse));
        bench("logsumexp/backward", &mut || {
            logsumexp::backward(black_box(&x), &lse, &dlosses, cols, &mut dx)
        });
        for (name, smoothing) in [("", T::ZERO), ("_smoothed", T::from_f64(0.1))] {
            bench(&format!("cross_entropy{name}/forward"), &mut || {
                cross_entropy::forward(black_box(&x), &targets, cols, smoothing, &mut losses, &mut lse)
            });
            bench(&format!("cross_entropy{name}/backward"), &mut || {
                cross_entropy::backward(black_box(&x), &targets, cols, smoothing, &lse, &dlosses, &mut dx)
            });
        }
        group.finish();
    }
}

criterion_group!(benches, family::<f32>);
criterion_main!(benches);
