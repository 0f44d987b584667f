//! Modules that run one after the other.

use super::display::display_as_tree;
use super::{Follower, Module, Trace, Visitor};
use crate::autograd::Epilogue;
use crate::error::Result;
use crate::simd::Element;
use crate::tensor::Tensor;

/// Modules named `0`, `1`, …, each of which takes the result of the previous one.
#[derive(Default)]
pub struct Sequential<T: Element = f32> {
    layers: Vec<Box<dyn Module<T>>>,
}

impl<T: Element> Sequential<T> {
    /// A network without modules, which returns its input.
    pub fn new() -> Self {
        Self { layers: Vec::new() }
    }

    /// Appends `layer`.
    #[must_use]
    #[allow(clippy::should_implement_trait)]
    pub fn add(mut self, layer: impl Module<T> + 'static) -> Self {
        self.layers.push(Box::new(layer));
        self
    }
}

impl<T: Element> Sequential<T> {
    /// Runs the layers; the last one also runs `then`. A ReLU, and dropout behind it, are handed to the layer
    /// before them.
    fn run(&self, x: &Tensor<T>, then: Option<Epilogue<'_, T>>) -> Result<Tensor<T>> {
        let _scope = crate::profile::scope("forward");
        let mut x = x.clone();
        let mut then = then;
        let mut layers = self.layers.iter().enumerate().peekable();
        while let Some((index, layer)) = layers.next() {
            let mut epilogue = None;
            if layers.next_if(|(_, next)| matches!(next.follows(), Some(Follower::ReLU))).is_some() {
                let dropout = match layers.peek().and_then(|(_, next)| next.follows()) {
                    Some(Follower::Dropout(dropout)) => {
                        layers.next();
                        dropout.draw()
                    }
                    _ => None,
                };
                epilogue = Some(Epilogue { add: None, dropout });
            } else if layers.peek().is_none() {
                epilogue = then.take();
            }
            let y = match epilogue {
                Some(epilogue) => layer.forward_then(&x, epilogue),
                None => layer.forward(&x),
            };
            x = y.map_err(|error| error.in_layer(&index.to_string()))?;
        }
        then.map_or(Ok(x.clone()), |then| then.apply(&x))
    }
}

display_as_tree!(Sequential<T>);

impl<T: Element> Module<T> for Sequential<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.run(x, None)
    }

    fn forward_then(&self, x: &Tensor<T>, then: Epilogue<'_, T>) -> Result<Tensor<T>> {
        self.run(x, Some(then))
    }

    fn trace(&self, x: &Tensor<T>, trace: &mut Trace) -> Result<Tensor<T>> {
        let mut layers = self.layers.iter().enumerate();
        layers.try_fold(x.clone(), |x, (index, layer)| trace.child(&index.to_string(), &**layer, &x))
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
