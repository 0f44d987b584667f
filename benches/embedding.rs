//! Embedding: a small table, one of words, and one that no cache holds; shapes are rows × elements × indices.

mod common;

fn main() {
    common::criterion::bench(
        common::kernels::case,
        &["embedding/{forward,backward}/{f32,f64}/{100x16x1000,1000x129x1000,50000x128x8192,1000x768x32768}"],
    );
}
