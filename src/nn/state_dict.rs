//! State beside a model's parameters: moments, counts, settings, generators.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::simd::Element;
use crate::tensor::Tensor;

/// Tensors and single values by name: the state of an optimizer, of a schedule, or the position in a training
/// run.
///
/// Values are stored as text; numbers are printed so that they read back as the same bits.
///
/// ```
/// use gristmill::{Rng, nn::StateDict};
/// let mut state: StateDict = StateDict::new();
/// state.set("epoch", 3);
/// state.set("best", 0.1);
/// state.set_rng("shuffle", &Rng::seed(4));
/// assert_eq!(state.get::<u64>("epoch")?, 3);
/// assert_eq!(state.rng("shuffle")?, Rng::seed(4));
/// let error = state.get::<u64>("best").unwrap_err();
/// assert_eq!(error.to_string(), "StateDict: best is 0.1, expected a value of u64");
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct StateDict<T: Element = f32> {
    tensors: BTreeMap<String, Tensor<T>>,
    values: BTreeMap<String, String>,
}

impl<T: Element> Default for StateDict<T> {
    fn default() -> Self {
        Self { tensors: BTreeMap::new(), values: BTreeMap::new() }
    }
}

const OP: &str = "StateDict";

impl<T: Element> StateDict<T> {
    /// An empty state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the value of a name, replacing an earlier one.
    pub fn set(&mut self, name: impl Into<String>, value: impl ToString) {
        self.values.insert(name.into(), value.to_string());
    }

    /// The value of this name.
    ///
    /// # Errors
    /// [`Error::Value`] if there is none, or if it does not parse as a `V`.
    pub fn get<V: FromStr>(&self, name: &str) -> Result<V> {
        let text = self.values.get(name).ok_or_else(|| Error::value(OP, format!("{name} is missing")))?;
        text.parse().map_err(|_| {
            let kind = std::any::type_name::<V>();
            Error::value(OP, format!("{name} is {text}, expected a value of {kind}"))
        })
    }

    /// Sets the tensor of a name, replacing an earlier one.
    pub fn set_tensor(&mut self, name: impl Into<String>, tensor: &Tensor<T>) {
        self.tensors.insert(name.into(), tensor.detach());
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`Error::Value`] if there is none, [`Error::Shape`] if it has another shape.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<&Tensor<T>> {
        let tensor = self.tensors.get(name).ok_or_else(|| Error::value(OP, format!("{name} is missing")))?;
        if tensor.shape() != shape {
            let message = format!("{name} has shape {:?}, expected {shape:?}", tensor.shape());
            return Err(Error::shape(OP, message));
        }
        Ok(tensor)
    }

    /// Stores the state of a generator under a name, as three values `name.seed`, `name.stream` and
    /// `name.position`.
    pub fn set_rng(&mut self, name: &str, rng: &Rng) {
        self.set(format!("{name}.seed"), rng.seed);
        self.set(format!("{name}.stream"), rng.stream);
        self.set(format!("{name}.position"), rng.position);
    }

    /// The generator of this name.
    ///
    /// # Errors
    /// [`Error::Value`] if one of its values is missing or not a number.
    pub fn rng(&self, name: &str) -> Result<Rng> {
        Ok(Rng {
            seed: self.get(&format!("{name}.seed"))?,
            stream: self.get(&format!("{name}.stream"))?,
            position: self.get(&format!("{name}.position"))?,
        })
    }

    /// All tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor<T>> {
        &self.tensors
    }

    /// All values by name, as text.
    pub fn values(&self) -> &BTreeMap<String, String> {
        &self.values
    }
}
