//! CPU kernels for deep learning, forward and backward, under a thin tape-based autograd.

#[cfg(feature = "train")]
pub mod autograd;
pub mod buffer;
pub mod context;
#[cfg(feature = "train")]
pub mod data;
pub mod error;
pub mod kernels;
pub mod math;
#[cfg(feature = "train")]
pub mod nn;
#[cfg(feature = "train")]
pub mod optim;
mod parallel;
pub mod reference;
pub mod rng;
pub mod simd;
#[cfg(feature = "train")]
pub mod tensor;

pub use context::Context;
pub use error::{Error, Result};
pub use rng::Rng;
pub use simd::{Element, Isa};
#[cfg(feature = "train")]
pub use tensor::Tensor;
