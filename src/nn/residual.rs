//! A shortcut around a module.

use super::display::display_as_tree;
use super::{Module, Trace, Visitor};
use crate::autograd::Epilogue;
use crate::error::Result;
use crate::simd::Element;
use crate::tensor::Tensor;

/// `x + inner(x)` (He et al. 2016).
pub struct Residual<T: Element = f32> {
    inner: Box<dyn Module<T>>,
}

impl<T: Element> Residual<T> {
    /// A shortcut around `inner`, which must keep the shape.
    pub fn new(inner: impl Module<T> + 'static) -> Self {
        Self { inner: Box::new(inner) }
    }
}

display_as_tree!(Residual<T>);

impl<T: Element> Module<T> for Residual<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.inner.forward(x).map_err(|error| error.in_layer("inner"))?.add(x)
    }

    fn forward_then(&self, x: &Tensor<T>, then: Epilogue<'_, T>) -> Result<Tensor<T>> {
        match then.add {
            None => self.inner.forward_then(x, Epilogue { add: Some(x), ..then }),
            Some(_) => then.apply(&self.forward(x)?),
        }
    }

    fn trace(&self, x: &Tensor<T>, trace: &mut Trace) -> Result<Tensor<T>> {
        trace.child("inner", &*self.inner, x)?.add(x)
    }

    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a, T>) {
        visitor.child("inner", &*self.inner);
    }

    fn describe(&self) -> String {
        "Residual".into()
    }
}
