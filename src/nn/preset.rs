//! The conventions of other frameworks as presets.

use super::{BatchNorm1d, Linear, LinearInit, LinearOptions, RunningVar};
use crate::autograd::WeightLayout;
use crate::error::Result;
use crate::rng::Rng;
use crate::simd::Element;

/// The framework whose conventions layers and optimizers follow where frameworks differ; each difference is
/// also an option with a name.
///
/// | | PyTorch | Needle |
/// |---|---|---|
/// | weight of a linear layer | `[outputs, inputs]` | `[inputs, outputs]` |
/// | starting weight | ±1/√inputs | ±√(6/inputs) |
/// | starting bias | ±1/√inputs | ±√(6/outputs) |
/// | running variance | unbiased | biased |
/// | momentum of SGD | v ← βv + g, first v = g | v ← βv + (1 − β)g from v = 0 |
/// | learning rate of Adam, if none is given | 0.001 | 0.01 |
///
/// ```
/// use gristmill::{Rng, Tensor, nn::{Module, Preset, ReLU, Sequential}, optim::Optimizer};
/// let (preset, mut rng) = (Preset::Needle, Rng::seed(4));
/// let model: Sequential = Sequential::new()
///     .add(preset.linear(784, 100, &mut rng)?)
///     .add(preset.batch_norm(100)?)
///     .add(ReLU)
///     .add(preset.linear(100, 10, &mut rng)?);
/// let mut optimizer = preset.sgd(model.parameters(), 0.01, 0.9);
/// model.forward(&Tensor::zeros([8, 784])?)?.cross_entropy(&[0; 8])?.backward()?;
/// optimizer.step()?;
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    /// PyTorch's: the defaults of this crate.
    #[default]
    PyTorch,
    /// The conventions of needle, the framework of the course CMU 10-414.
    Needle,
}

impl Preset {
    /// The layout and initial values of a linear layer.
    pub fn linear_options(self) -> LinearOptions {
        match self {
            Self::PyTorch => LinearOptions::default(),
            Self::Needle => {
                LinearOptions { layout: WeightLayout::InOut, init: LinearInit::Needle, bias: true }
            }
        }
    }

    /// A linear layer.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if there are no inputs or no outputs; see [`Linear::new`].
    pub fn linear<T: Element>(self, inputs: usize, outputs: usize, rng: &mut Rng) -> Result<Linear<T>> {
        Linear::with_options(inputs, outputs, self.linear_options(), rng)
    }

    /// Which variance the running variance of a batch normalisation estimates.
    pub fn running_var(self) -> RunningVar {
        match self {
            Self::PyTorch => RunningVar::Unbiased,
            Self::Needle => RunningVar::Biased,
        }
    }

    /// Batch normalisation of `[rows, features]`; in both frameworks 0.1 is the weight of the new batch.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the number of features is too large; see
    /// [`BatchNorm1d::new`].
    pub fn batch_norm<T: Element>(self, features: usize) -> Result<BatchNorm1d<T>> {
        Ok(BatchNorm1d::new(features)?.running_var(self.running_var()))
    }
}
