//! The naive twin of every kernel: one formula after the other in `f64`, written for the eye.
//!
//! The tests measure every kernel against these, on every instruction set.

mod gemm;
mod batch_norm;
mod dropout;
mod layer_norm;
mod cross_entropy;
mod log_softmax;
mod logsumexp;
mod loss;
mod reduce;
pub mod map;
mod softmax;
mod update;

pub use gemm::*;
pub use batch_norm::*;
pub use dropout::*;
pub use layer_norm::*;
pub use cross_entropy::*;
pub use log_softmax::*;
pub use logsumexp::*;
pub use loss::*;
pub use reduce::*;
pub use softmax::*;
pub use update::*;
