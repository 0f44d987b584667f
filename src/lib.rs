//! CPU kernels for deep learning, forward **and backward**: matrix multiplication, maps, reductions, softmax,
//! losses, normalisation, dropout and optimizer steps, under a thin tape-based autograd with layers,
//! optimizers and data loading.
//!
//! Results are bit-identical for any number of threads and on every instruction set with fused multiply-add;
//! each kernel documents its error bound and how it treats NaN and infinities.
//!
//! ```
//! use gristmill::nn::{Linear, Module, ReLU, Sequential};
//! use gristmill::optim::{Adam, Optimizer};
//! use gristmill::{Rng, Tensor};
//!
//! let mut rng = Rng::seed(4);
//! let model = Sequential::new()
//!     .add(Linear::new(2, 16, &mut rng)?)
//!     .add(ReLU)
//!     .add(Linear::new(16, 2, &mut rng)?);
//! let mut optimizer = Adam::new(model.parameters()).lr(0.01);
//! let (x, labels): (Tensor, _) = (Tensor::rand([64, 2], -1.0, 1.0, &mut rng)?, vec![0; 64]);
//! for _ in 0..10 {
//!     optimizer.zero_grad();
//!     let loss = model.forward(&x)?.cross_entropy(&labels)?;
//!     loss.backward()?;
//!     optimizer.step()?;
//! }
//! # Ok::<(), gristmill::Error>(())
//! ```
//!
//! Types that are generic over `T = f32` need an annotation once, `let x: Tensor = …`, since Rust does not
//! infer a type from a default. Without optimisation the kernels are a hundred times slower: use `--release`.
//!
//! - [`kernels`]: slices in, slices out. With `default-features = false`, these and the modules that they use
//!   are the whole crate.
//! - [`Tensor`] and [`autograd`]: arrays with gradients. [`nn`], [`optim`], [`data`]: layers, optimizers,
//!   batches.
//! - [`metrics`], [`train`]: accuracy and confusion matrices; early stopping, history, checkpoints. [`plot`]:
//!   pictures.
//! - [`Context`]: instruction set and threads, also through `GRISTMILL_ISA` and `GRISTMILL_THREADS`.
//! - [`guide`]: chapters on tensors, gradients, layers, data sets, optimizers and kernels of your own, saving
//!   and resuming, serving. [`coming_from`]: PyTorch's names, including tensor operations, and their
//!   equivalents here.
//! - [`reference`](mod@reference): the naive reference of every kernel.
//!
//! Features: `train` (default) is everything above the kernels; `npz` reads and writes NumPy's archives
//! (`tensor::save_npz`), `ndarray` converts from and to the arrays of that crate.
#![cfg_attr(not(feature = "train"), allow(rustdoc::broken_intra_doc_links))]
// Floors 2 to 5 are tested from outside. Leaving them out lets the unit tests of the lower floors compile in
// seconds; compiling all kernels once more for these few tests took minutes.
#![cfg_attr(test, allow(dead_code, unused_imports))]

#[cfg(all(feature = "train", not(test)))]
pub mod autograd;
pub mod buffer;
pub mod context;
#[cfg(all(feature = "train", not(test)))]
pub mod data;
pub mod error;
mod files;
#[cfg(all(feature = "train", any(doc, doctest)))]
pub mod guide;
#[cfg(not(test))]
pub mod kernels;
pub mod math;
#[cfg(all(feature = "train", not(test)))]
pub mod metrics;
#[cfg(all(feature = "train", not(test)))]
pub mod nn;
#[cfg(all(feature = "train", not(test)))]
pub mod optim;
mod parallel;
#[cfg(all(feature = "train", not(test)))]
pub mod plot;
pub mod profile;
pub mod reference;
pub mod rng;
pub mod simd;
#[cfg(all(feature = "train", not(test)))]
pub mod tensor;
mod threads;
#[cfg(all(feature = "train", not(test)))]
pub mod train;
#[cfg(feature = "train")]
mod value;

pub use context::{Context, Subnormals};
pub use error::{Error, Result};
pub use rng::Rng;
pub use simd::{Element, Isa};
#[cfg(all(feature = "train", not(test)))]
pub use tensor::Tensor;

/// Names and differences for users who come from PyTorch or needle.
#[cfg(feature = "train")]
#[doc = include_str!("../docs/COMING_FROM.md")]
pub mod coming_from {}

/// Compiles and runs the snippets of the README.
#[cfg(all(doctest, feature = "train"))]
#[doc = include_str!("../README.md")]
struct Readme;
