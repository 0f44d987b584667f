//! Random numbers, from the first-level cache to memory.

mod common;

fn main() {
    common::criterion::bench(
        common::kernels::case,
        &["rng/{uniform,normal,bernoulli}/{f32,f64}/{127,1003,30000,500000,8000000}"],
    );
}
