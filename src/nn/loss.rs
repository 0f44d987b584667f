//! Losses as objects with options.

use crate::autograd::{CrossEntropyOptions, Reduction};
use crate::error::Result;
use crate::simd::Element;
use crate::tensor::Tensor;

/// Cross-entropy of logits with class indices or probabilities; by default the mean over the rows, with all
/// classes weighted equally.
///
/// ```
/// use gristmill::{Tensor, nn::CrossEntropyLoss};
/// let loss = CrossEntropyLoss::new().label_smoothing(0.1).ignore_index(0);
/// assert_eq!(loss.describe(), "CrossEntropyLoss(label_smoothing 0.1, ignore_index 0)");
/// let logits = Tensor::<f64>::zeros([3, 4])?;
/// assert!((loss.forward(&logits, &[0, 1, 2])?.item()? - 4f64.ln()).abs() < 1e-15);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CrossEntropyLoss<T: Element = f32> {
    reduction: Reduction,
    label_smoothing: f64,
    ignore_index: Option<usize>,
    weight: Option<Tensor<T>>,
}

impl<T: Element> Default for CrossEntropyLoss<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Element> CrossEntropyLoss<T> {
    /// The mean over the rows, without further options.
    pub fn new() -> Self {
        Self { reduction: Reduction::Mean, label_smoothing: 0.0, ignore_index: None, weight: None }
    }

    /// How the losses of the rows are combined.
    #[must_use]
    pub fn reduction(self, reduction: Reduction) -> Self {
        Self { reduction, ..self }
    }

    /// The part of the target that is spread evenly over all classes, from 0 to 1.
    #[must_use]
    pub fn label_smoothing(self, label_smoothing: f64) -> Self {
        Self { label_smoothing, ..self }
    }

    /// Rows with this class index are ignored.
    #[must_use]
    pub fn ignore_index(self, index: usize) -> Self {
        Self { ignore_index: Some(index), ..self }
    }

    /// The weight of each class, `[classes]`; it receives no gradient.
    #[must_use]
    pub fn weight(self, weight: &Tensor<T>) -> Self {
        Self { weight: Some(weight.detach()), ..self }
    }

    /// The loss of logits of `[rows, classes]` for one class index per row.
    ///
    /// # Errors
    /// The errors of [`Tensor::cross_entropy_with`]: [`Error::Shape`](crate::Error::Shape) and
    /// [`Error::Value`](crate::Error::Value).
    pub fn forward(&self, logits: &Tensor<T>, targets: &[usize]) -> Result<Tensor<T>> {
        logits.cross_entropy_with(targets, self.options())
    }

    /// The loss of logits of `[rows, classes]` for class probabilities of the same shape.
    ///
    /// # Errors
    /// The errors of [`Tensor::soft_cross_entropy`]: [`Error::Shape`](crate::Error::Shape) and
    /// [`Error::Value`](crate::Error::Value).
    pub fn forward_soft(&self, logits: &Tensor<T>, targets: &Tensor<T>) -> Result<Tensor<T>> {
        logits.soft_cross_entropy(targets, self.options())
    }

    /// A short description of the loss: the options that differ from the defaults.
    pub fn describe(&self) -> String {
        let mut options = vec![];
        if self.reduction != Reduction::Mean {
            options.push(format!("reduction {:?}", self.reduction));
        }
        if self.label_smoothing != 0.0 {
            options.push(format!("label_smoothing {}", self.label_smoothing));
        }
        options.extend(self.ignore_index.map(|index| format!("ignore_index {index}")));
        options.extend(self.weight.as_ref().map(|weight| format!("{} weights", weight.len())));
        if options.is_empty() {
            return "CrossEntropyLoss".to_owned();
        }
        format!("CrossEntropyLoss({})", options.join(", "))
    }

    fn options(&self) -> CrossEntropyOptions<'_, T> {
        CrossEntropyOptions {
            reduction: self.reduction,
            label_smoothing: self.label_smoothing,
            ignore_index: self.ignore_index,
            weight: self.weight.as_ref(),
        }
    }
}

macro_rules! loss {
    (
        $(#[$doc:meta])+ $name:ident, |$loss:ident, $x:ident, $target:ident| $forward:expr
        $(, $(#[$field_doc:meta])+ $field:ident)?
    ) => {
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
            /// [`Error::Shape`](crate::Error::Shape) if the shapes differ;
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
