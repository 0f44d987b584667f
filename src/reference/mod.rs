//! The naive twin of every kernel: one formula after the other in `f64`, written for the eye.
//!
//! The tests measure every kernel against these, on every instruction set.

pub mod map;
mod softmax;

pub use softmax::*;
