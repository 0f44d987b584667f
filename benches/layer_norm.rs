//! Layer and root mean square normalisation: rows of a small network, odd ones, and those of a transformer, which no
//! cache holds. Group normalisation: rows, short channels, and images that a cache holds or none.

mod common;

fn main() {
    common::criterion::bench(
        common::kernels::case,
        &[
            "layer_norm/{forward,backward}/{f32,f64}/{100x10,100x100,127x129,128x1000,2048x768,8192x768}",
            "rms_norm/{forward,backward,infer}/{f32,f64}/{100x10,100x100,127x129,128x1000,2048x768,8192x768}",
            "group_norm/{forward,backward}/{f32,f64}/{100x100x1x4,16x64x49x8,8x32x1024x8,8x128x3136x32}",
        ],
    );
}
