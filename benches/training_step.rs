//! Networks: one training step, inference, an optimizer's step; and what the tape costs by itself.

mod common;

fn main() {
    common::criterion::bench(
        common::case,
        &[
            "training_step/mlp_resnet/f32/{100x32,100x100,100x512}",
            "training_step/two_layer_net/f32/64x1000x100x10",
            "inference/mlp_resnet/f32/{1,100}x{32,100,512}",
            "optimizer_step/mlp_resnet/f32/100",
            "tape/{record,backward}/f32/64x4",
        ],
    );
}
