//! Losses as objects with their options.

use crate::autograd::Reduction;
use crate::error::Result;
use crate::simd::Element;
use crate::tensor::Tensor;

/// Cross-entropy of logits with class indices; see [`Tensor::cross_entropy_with`].
#[derive(Clone, Copy, Debug, Default)]
pub struct CrossEntropyLoss {
    /// Mean by default.
    pub reduction: Reduction,
    /// In [0, 1]; 0 by default.
    pub label_smoothing: f64,
}

impl CrossEntropyLoss {
    /// The loss of logits of `[rows, classes]` for one class index per row.
    ///
    /// # Errors
    /// As [`Tensor::cross_entropy_with`].
    pub fn forward<T: Element>(&self, logits: &Tensor<T>, targets: &[usize]) -> Result<Tensor<T>> {
        logits.cross_entropy_with(targets, self.reduction, T::from_f64(self.label_smoothing))
    }
}

macro_rules! loss {
    ($(#[$doc:meta])+ $name:ident, |$loss:ident, $x:ident, $target:ident| $forward:expr $(, $(#[$field_doc:meta])+ $field:ident)?) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug)]
        pub struct $name {
            /// Mean by default.
            pub reduction: Reduction,
            $($(#[$field_doc])+ pub $field: f64,)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self { reduction: Reduction::Mean, $($field: 1.0)? }
            }
        }

        impl $name {
            /// The loss of an input for a target of the same shape.
            ///
            /// # Errors
            /// [`Error::Shape`](crate::Error::Shape) when the shapes differ;
            /// [`Error::Value`](crate::Error::Value) for a target or option outside its domain.
            pub fn forward<T: Element>(&self, $x: &Tensor<T>, $target: &Tensor<T>) -> Result<Tensor<T>> {
                let $loss = self;
                $forward
            }
        }
    };
}

loss! {
    /// `(x − target)²`.
    MSELoss, |loss, x, target| x.mse_loss(target, loss.reduction)
}
loss! {
    /// `|x − target|`.
    L1Loss, |loss, x, target| x.l1_loss(target, loss.reduction)
}
loss! {
    /// Quadratic up to delta, linear beyond; see [`Tensor::huber_loss`].
    HuberLoss, |loss, x, target| x.huber_loss(target, T::from_f64(loss.delta), loss.reduction),
    /// 1 by default.
    delta
}
loss! {
    /// Binary cross-entropy of `sigmoid(x)`; see [`Tensor::bce_with_logits_loss`].
    BCEWithLogitsLoss, |loss, x, target| x.bce_with_logits_loss(target, loss.reduction)
}
