//! Matrix products of the main job and of larger networks, beside the crate `matrixmultiply`:
//! `gemm/f32/100x784x100/NT/gristmill`. Elements are floating-point operations.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gristmill::kernels::gemm::{MatMut, MatRef, gemm};

/// (m, k, n), and whether A and B lie row by row (N) or column by column (T).
const CASES: [([usize; 3], &str); 11] = [
    ([100, 784, 100], "NN"),
    ([100, 784, 100], "NT"),
    ([100, 100, 784], "TN"),
    ([100, 100, 50], "NT"),
    ([100, 50, 100], "NN"),
    ([50, 100, 100], "TN"),
    ([100, 100, 10], "NT"),
    ([64, 64, 64], "NN"),
    ([512, 512, 512], "NN"),
    ([1, 1024, 1024], "NN"),
    ([64, 4096, 64], "NN"),
];

fn strides(order: &str, rows: usize, cols: usize) -> (isize, isize) {
    if order == "N" { (cols as isize, 1) } else { (1, rows as isize) }
}

macro_rules! family {
    ($criterion:ident, $element:ident, $rival:ident) => {
        for ([m, k, n], orders) in CASES {
            let (a, b) = (vec![0.5 as $element; m * k], vec![0.25 as $element; k * n]);
            let mut c = vec![0.0; m * n];
            let ((ra, ca), (rb, cb)) = (strides(&orders[..1], m, k), strides(&orders[1..], k, n));
            let name = format!("gemm/{}/{m}x{k}x{n}/{orders}", stringify!($element));
            let mut group = $criterion.benchmark_group(name);
            group.warm_up_time(Duration::from_millis(100));
            group.measurement_time(Duration::from_millis(400)).sample_size(10);
            group.throughput(Throughput::Elements(2 * (m * k * n) as u64));
            group.bench_function("gristmill", |bench| {
                bench.iter(|| {
                    let a = MatRef::new(&a, m, k, ra, ca).expect("fits");
                    let b = MatRef::new(&b, k, n, rb, cb).expect("fits");
                    gemm(1.0, a, b, 0.0, MatMut::row_major(&mut c, m, n).expect("fits")).expect("fits");
                })
            });
            group.bench_function("matrixmultiply", |bench| {
                // SAFETY: the pointers and strides describe the three vectors.
                bench.iter(|| unsafe {
                    let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
                    matrixmultiply::$rival(m, k, n, 1.0, a, ra, ca, b, rb, cb, 0.0, c, n as isize, 1)
                })
            });
        }
    };
}

fn bench(criterion: &mut Criterion) {
    family!(criterion, f32, sgemm);
    family!(criterion, f64, dgemm);
}

criterion_group!(benches, bench);
criterion_main!(benches);
