//! Dropout, from the first-level cache to memory.

mod common;

fn main() {
    common::criterion::bench(
        common::kernels::case,
        &["dropout/{forward,backward}/{f32,f64}/{127,1003,30000,500000,8000000}"],
    );
}
