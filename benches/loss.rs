//! Losses: the logits of ten classes, a middling layer, the vocabulary of a language model; and elementwise ones, from
//! the first-level cache to memory.

mod common;

fn main() {
    common::criterion::bench(
        common::kernels::case,
        &[
            "cross_entropy/{forward,backward}/{f32,f64}/{100x10,127x129,128x1000,32x50257,8192x1024}",
            "cross_entropy/options_{forward,backward}/f32/{100x10,128x1000}",
            "{soft_cross_entropy,nll_loss}/{forward,backward}/{f32,f64}/{100x10,127x129,128x1000,8192x1024}",
            "loss/{squared_error,absolute_error,huber,bce_with_logits}{,_backward}/{f32,f64}/{127,1003,500000}",
            "loss/{squared_error,bce_with_logits}{,_backward}/{f32,f64}/{30000,8000000}",
        ],
    );
}
