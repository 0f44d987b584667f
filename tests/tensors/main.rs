//! Tensors and the tape.

#[path = "../common/mod.rs"]
mod common;

mod autograd;
mod corners;
mod einsum;
mod files;
mod functions;
mod gradchecks;
mod graphs;
mod hostile;
mod indexing;
mod memory;
mod numerics;
mod scales;
mod tensor;

// What the fuzz targets call, by the names that it has in their crate.
extern crate self as gristmill_fuzz;
extern crate self as libfuzzer_sys;
use common::smoke::{fuzz_target, start};
