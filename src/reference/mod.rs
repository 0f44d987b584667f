//! The naive twin of every kernel: one formula after the other in `f64`, written for the eye.
//!
//! The tests measure every kernel against these, on every instruction set.

mod cross_entropy;
mod log_softmax;
mod logsumexp;
mod loss;
mod reduce;
mod softmax;

pub use cross_entropy::*;
pub use log_softmax::*;
pub use logsumexp::*;
pub use loss::*;
pub use reduce::*;
pub use softmax::*;
