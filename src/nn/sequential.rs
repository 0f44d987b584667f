//! One module after the other.

use super::{Module, Visitor};
use crate::error::Result;
use crate::simd::Element;
use crate::tensor::Tensor;

/// Modules of which each gets the result of the one before; named `0`, `1`, … .
#[derive(Default)]
pub struct Sequential<T: Element = f32> {
    layers: Vec<Box<dyn Module<T>>>,
}

impl<T: Element> Sequential<T> {
    /// No module: the input itself.
    pub fn new() -> Self {
        Self { layers: Vec::new() }
    }

    /// With `layer` at the end.
    #[must_use]
    #[allow(clippy::should_implement_trait)]
    pub fn add(mut self, layer: impl Module<T> + 'static) -> Self {
        self.layers.push(Box::new(layer));
        self
    }
}

impl<T: Element> Module<T> for Sequential<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let _scope = crate::profile::scope("forward");
        let Some((first, rest)) = self.layers.split_first() else { return Ok(x.clone()) };
        rest.iter().try_fold(first.forward(x)?, |x, layer| layer.forward(&x))
    }

    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a, T>) {
        for (index, layer) in self.layers.iter().enumerate() {
            visitor.child(&index.to_string(), &**layer);
        }
    }

    fn describe(&self) -> String {
        "Sequential".into()
    }
}
