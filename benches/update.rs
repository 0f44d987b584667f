//! Optimizer steps: a bias, small networks, and more parameters than a cache holds.

mod common;

fn main() {
    common::criterion::bench(
        common::kernels::case,
        &["update/{sgd,sgd_momentum,rmsprop,adam}/{f32,f64}/{127,1003,30000,500000,8000000}"],
    );
}
