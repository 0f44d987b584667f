//! The naive twin of every kernel: one formula after the other in `f64`, written for the eye.
//!
//! The tests measure every kernel against these, on every instruction set.

mod gemm;
mod batch_norm;
mod dropout;
mod layer_norm;
mod reduce;
pub mod map;
mod softmax;
mod update;

pub use gemm::*;
pub use batch_norm::*;
pub use dropout::*;
pub use layer_norm::*;
pub use reduce::*;
pub use softmax::*;
pub use update::*;
