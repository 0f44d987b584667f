//! Tensors and the tape.

#[path = "../common/mod.rs"]
mod common;

mod autograd;
mod einsum;
mod files;
mod functions;
mod gradchecks;
mod graphs;
mod hostile;
mod indexing;
mod memory;
mod numerics;
mod tensor;
