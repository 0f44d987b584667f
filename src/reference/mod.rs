//! The naive reference of every kernel: one formula after the other in `f64`, written to be read.
//!
//! The tests compare every kernel with these, on every instruction set.

mod batch_norm;
#[cfg(not(test))]
mod conv;
mod convert;
mod cross_entropy;
mod dropout;
mod embedding;
mod gemm;
mod group_norm;
mod layer_norm;
mod log_softmax;
mod logsumexp;
mod loss;
pub mod map;
mod nll_loss;
#[cfg(not(test))]
mod pool;
mod prelu;
mod reduce;
mod rms_norm;
mod softmax;
mod update;
pub mod zip;

pub use batch_norm::*;
#[cfg(not(test))]
pub use conv::*;
pub use convert::*;
pub use cross_entropy::*;
pub use dropout::*;
pub use embedding::*;
pub use gemm::*;
pub use group_norm::*;
pub use layer_norm::*;
pub use log_softmax::*;
pub use logsumexp::*;
pub use loss::*;
pub use nll_loss::*;
#[cfg(not(test))]
pub use pool::*;
pub use prelu::*;
pub use reduce::*;
pub use rms_norm::*;
pub use softmax::*;
pub use update::*;
