//! The network of the main job: one training step, and inference.

mod common;

fn main() {
    common::criterion::bench(
        common::case,
        &[
            "training_step/mlp_resnet/f32/{100x32,100x100,100x512}",
            "inference/mlp_resnet/f32/{1,100}x{32,100,512}",
        ],
    );
}
