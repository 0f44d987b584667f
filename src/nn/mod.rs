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
mod conv;
mod conv_transpose;
mod display;
mod dropout;
mod embedding;
mod file;
mod gradcheck;
mod group_norm;
pub mod init;
mod layer_norm;
mod linear;
mod loss;
mod module;
mod module_list;
mod packed;
mod parameter;
mod pool;
mod prelu;
mod preset;
mod residual;
mod rms_norm;
mod sequential;
mod softmax;
mod state_dict;
mod summary;
mod trace;
mod values;
mod visit;

pub use activation::{Flatten, GELU, Identity, LeakyReLU, ReLU, SiLU, Sigmoid, Tanh};
pub use batch_norm::{BatchNorm1d, RunningVar};
pub use checkpoint::{Checkpoint, load, save};
pub use conv::{Conv, Conv1d, Conv2d};
pub use conv_transpose::{ConvTranspose, ConvTranspose1d, ConvTranspose2d};
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use gradcheck::gradcheck;
pub use group_norm::GroupNorm;
pub use layer_norm::LayerNorm;
pub use linear::{Linear, LinearInit, LinearOptions};
pub use loss::{BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, L1Loss, MSELoss};
pub use module::{Follower, Module};
pub use module_list::ModuleList;
pub(crate) use parameter::Held;
pub use parameter::{Parameter, State};
pub use pool::{
    AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveMaxPool1d, AdaptiveMaxPool2d, AvgPool1d, AvgPool2d,
    MaxPool1d, MaxPool2d,
};
pub use prelu::PReLU;
pub use preset::Preset;
pub use residual::Residual;
pub use rms_norm::RMSNorm;
pub use sequential::Sequential;
pub use softmax::{LogSoftmax, Softmax};
pub use state_dict::StateDict;
pub use trace::Trace;
pub use visit::{Item, Mode, Visitor};
