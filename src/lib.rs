//! CPU kernels for deep learning, forward and backward, under a thin tape-based autograd.

pub mod buffer;
pub mod context;
pub mod error;
pub mod kernels;
pub mod math;
mod parallel;
pub mod reference;
pub mod rng;
pub mod simd;

pub use context::Context;
pub use error::{Error, Result};
pub use rng::Rng;
pub use simd::{Element, Isa};
