//! CPU kernels for deep learning, forward **and backward**: matrix multiplication, maps, reductions, softmax, losses,
//! normalisation, dropout and optimizer steps, under a thin tape-based autograd with layers, optimizers and data
//! loading.
//!
//! Results are the same bits for any number of threads and on every instruction set with fused multiply-add; each
//! kernel states its error bound and what NaN and infinities do.
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
//! Types that are generic over `T = f32` need it said once, `let x: Tensor = …`, as Rust does not infer a type from a
//! default. Of a crate that is built without optimisation the kernels are a hundred times slower: use `--release`.
//!
//! - [`kernels`]: slices in, slices out. All there is with `default-features = false`, but for what they stand on.
//! - [`Tensor`] and [`autograd`]: arrays with gradients. [`nn`], [`optim`], [`data`]: layers, optimizers, batches.
//! - [`metrics`], [`train`]: accuracy and confusion; early stopping, history, checkpoints. [`plot`]: pictures.
//! - [`Context`]: instruction set and threads, also through `GRISTMILL_ISA` and `GRISTMILL_THREADS`.
//! - [`guide`]: chapters on tensors, gradients, layers, data sets, optimizers and kernels of one's own, saving and
//!   resuming, serving. [`coming_from`]: PyTorch's names, tensor operations included, and what they are here.
//! - [`reference`](mod@reference): the naive twin of every kernel.
//!
//! Features: `train` (default) is everything above the kernels; `npz` reads and writes NumPy's archives
//! (`tensor::save_npz`), `ndarray` takes arrays of that crate.
#![cfg_attr(not(feature = "train"), allow(rustdoc::broken_intra_doc_links))]
// Floors 2 to 5 are tested from outside. Without them the tests of the floors below compile in seconds: to compile all
// kernels once more for these few took minutes.
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

/// Names and differences for who comes from PyTorch or needle.
#[cfg(feature = "train")]
#[doc = include_str!("../docs/COMING_FROM.md")]
pub mod coming_from {}

/// The snippets of the README.
#[cfg(all(doctest, feature = "train"))]
#[doc = include_str!("../README.md")]
struct Readme;
