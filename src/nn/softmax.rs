//! Softmax layers.

use super::display::display_as_tree;
use super::{Module, Visitor};
use crate::error::Result;
use crate::simd::Element;
use crate::tensor::Tensor;

macro_rules! softmax {
    ($(#[$doc:meta])+ $name:ident, $method:ident) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug)]
        pub struct $name {
            /// The axis; by default −1, the last one.
            pub dim: isize,
        }

        impl $name {
            /// Sets the axis, counted from the end if negative.
            pub fn new(dim: isize) -> Self {
                Self { dim }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new(-1)
            }
        }

        display_as_tree!($name);

        impl<T: Element> Module<T> for $name {
            #[track_caller]
            fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
                x.$method(self.dim)
            }

            fn visit<'a>(&'a self, _: &mut Visitor<'_, 'a, T>) {}

            fn describe(&self) -> String {
                format!("{}({})", stringify!($name), self.dim)
            }
        }
    };
}

softmax! {
    /// `exp(x) / Σ exp(x)` along one axis. Not needed before [`CrossEntropyLoss`](super::CrossEntropyLoss),
    /// which takes logits.
    Softmax, softmax
}
softmax! {
    /// The logarithm of [`Softmax`], along one axis; the input that [`nll_loss`](Tensor::nll_loss) expects.
    LogSoftmax, log_softmax
}
