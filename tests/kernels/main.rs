//! The kernels: each family against its reference, PyTorch and its promises, and all of them against the
//! laws.

#[path = "../common/mod.rs"]
mod common;
#[path = "../registry/mod.rs"]
mod registry;

mod batch_norm;
mod conv;
mod convert;
mod cross_entropy;
mod cumsum;
mod dropout;
mod embedding;
mod fuzz;
mod gemm;
mod group_norm;
mod laws;
mod layer_norm;
mod loss;
mod map;
mod math;
mod memory;
mod norm;
mod pool;
mod prelu;
mod reduce;
mod rms_norm;
mod rng;
mod scales;
mod simd;
mod softmax;
mod update;
mod zip;

// What the fuzz targets call, by the names that it has in their crate.
extern crate self as gristmill_fuzz;
extern crate self as libfuzzer_sys;
use common::smoke::{fuzz_target, start};
use fuzz::kernels;
