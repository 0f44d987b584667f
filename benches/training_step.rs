//! One training step of the main job's network, on all threads of the context: `training_step/f32/100x100`.

#[path = "common/mlp_resnet.rs"]
mod mlp_resnet;

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mlp_resnet::Step;

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("training_step/f32");
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1)).sample_size(20);
    for (batch, hidden) in [(100, 32), (100, 100), (100, 512)] {
        let mut step = Step::new(batch, hidden).expect("the shapes fit");
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(format!("{batch}x{hidden}"), |b| b.iter(|| step.run().expect("the step runs")));
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
