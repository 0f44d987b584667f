//! Batch normalisation: batches of the MLP-ResNet, odd and wide ones, a tall one, and one that no cache holds.

mod common;

fn main() {
    common::criterion::bench(
        common::kernels::case,
        &[
            "batch_norm/{forward,backward,infer}/{f32,f64}/{100x50,100x100,127x129,128x1000,50000x16,8192x1024}",
        ],
    );
}
