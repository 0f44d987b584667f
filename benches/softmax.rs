//! Softmax and its relatives: the logits of ten classes, a middling layer, the vocabulary of a language model, and more
//! than a cache holds.

mod common;

fn main() {
    common::criterion::bench(
        common::kernels::case,
        &[
            "{softmax,log_softmax,logsumexp}/{forward,backward}/{f32,f64}/{100x10,127x129,128x1000,32x50257,8192x1024}",
        ],
    );
}
