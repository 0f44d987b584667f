//! The fuzz targets of the kernels near their seeds; `fuzz/README.md` tells of them.

#[path = "../../fuzz/src/kernels.rs"]
mod kernels;

use crate::common::smoke;

fn run(target: &str) {
    kernels::start(target);
    smoke::run(target, |bytes| kernels::check(target, bytes));
}

#[test]
fn gemm() {
    run("gemm");
}

#[test]
fn map() {
    run("map");
}

#[test]
fn reduce() {
    run("reduce");
}

#[test]
fn softmax_loss() {
    run("softmax_loss");
}

#[test]
fn norms() {
    run("norms");
}

#[test]
fn update() {
    run("update");
}
