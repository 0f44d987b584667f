//! Layer normalisation: rows of a small network, odd ones, and those of a transformer, which no cache holds.

mod common;

fn main() {
    common::criterion::bench(
        common::kernels::case,
        &["layer_norm/{forward,backward}/{f32,f64}/{100x10,100x100,127x129,128x1000,2048x768,8192x768}"],
    );
}
