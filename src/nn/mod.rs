//! Layers: one per file, each a [`Module`].
//!
//! ```
//! use gristmill::{Rng, Tensor, nn::{Linear, Module, ReLU, Sequential}};
//! let mut rng = Rng::seed(4);
//! let model: Sequential = Sequential::new()
//!     .add(Linear::new(784, 100, &mut rng)?)
//!     .add(ReLU)
//!     .add(Linear::new(100, 10, &mut rng)?);
//! let logits = model.forward(&Tensor::zeros([2, 784])?)?;
//! assert_eq!(logits.shape(), [2, 10]);
//! # Ok::<(), gristmill::Error>(())
//! ```

mod activation;
mod batch_norm;
mod checkpoint;
mod dropout;
pub mod init;
mod layer_norm;
mod linear;
mod loss;
mod module;
mod parameter;
mod residual;
mod sequential;

pub use activation::{Flatten, GELU, Identity, LeakyReLU, ReLU, SiLU, Sigmoid, Tanh};
pub use batch_norm::{BatchNorm1d, RunningVar};
pub use checkpoint::{load, save};
pub use dropout::Dropout;
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use loss::{BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, L1Loss, MSELoss};
pub use module::{Follower, Item, Mode, Module, Visitor};
pub(crate) use parameter::Held;
pub use parameter::{Parameter, State};
pub use residual::Residual;
pub use sequential::Sequential;
