//! The quality of predictions: accuracy, top-k, the confusion matrix with precision, recall and F1, running
//! means.
//!
//! ```
//! use gristmill::{Tensor, metrics::{ConfusionMatrix, accuracy, top_k_accuracy}};
//! let logits: Tensor = Tensor::from_slice(&[2.0, 1.0, 0.0, 0.0, 1.0, 2.0], [2, 3])?;
//! let labels = [0, 1];
//! assert_eq!(accuracy(&logits, &labels)?, 0.5);
//! assert_eq!(top_k_accuracy(&logits, &labels, 2)?, 1.0);
//! let mut confusion = ConfusionMatrix::new(3);
//! confusion.add(&logits.argmax()?, &labels)?;
//! assert_eq!(confusion.count(1, 2), 1);
//! # Ok::<(), gristmill::Error>(())
//! ```

mod confusion;

pub use confusion::ConfusionMatrix;

use crate::error::{Error, Result};
use crate::simd::Element;
use crate::tensor::Tensor;

/// The fraction of rows of `[n, classes]` whose largest number is at the label; NaN if there are no rows. Of
/// equal numbers the first counts as the largest; NaN counts as larger than any number.
///
/// # Errors
/// [`Error::Shape`] if the shape is not `[labels, classes]`; [`Error::Value`] if a label is not one of the
/// classes.
pub fn accuracy<T: Element>(logits: &Tensor<T>, labels: &[usize]) -> Result<f64> {
    top_k_accuracy(logits, labels, 1)
}

/// The fraction of rows of `[n, classes]` in which the label is among the `k` largest numbers; NaN if there
/// are no rows. Of equal numbers the first counts as the largest; NaN counts as larger than any number.
///
/// # Errors
/// [`Error::Shape`] if the shape is not `[labels, classes]`; [`Error::Value`] if a label is not one of the
/// classes or `k` is 0.
pub fn top_k_accuracy<T: Element>(logits: &Tensor<T>, labels: &[usize], k: usize) -> Result<f64> {
    const OP: &str = "top_k_accuracy";
    let &[rows, classes] = logits.shape() else {
        return Err(Error::shape(OP, format!("expected [n, classes], got {:?}", logits.shape())));
    };
    if rows != labels.len() {
        let message = format!("{} labels for logits of shape {:?}", labels.len(), logits.shape());
        return Err(Error::shape(OP, message));
    }
    if k == 0 {
        return Err(Error::value(OP, "k is 0, expected at least 1"));
    }
    check_labels(OP, labels, classes)?;
    let numbers = logits.compact();
    let among = |&(row, &label): &(&[T], &usize)| {
        let mine = row[label];
        let before = |(place, &x): (usize, &T)| match (x.is_nan(), mine.is_nan()) {
            (true, false) => true,
            (false, true) => false,
            (true, true) => place < label,
            _ => x > mine || (x == mine && place < label),
        };
        row.iter().enumerate().filter(|&(place, x)| before((place, x))).count() < k
    };
    let right = numbers.data().chunks_exact(classes.max(1)).zip(labels).filter(among).count();
    Ok(right as f64 / rows as f64)
}

/// A running weighted mean: for a loss over batches of different sizes.
///
/// ```
/// use gristmill::metrics::Mean;
/// let mut loss = Mean::default();
/// loss.add(0.5, 100.0);
/// loss.add(0.2, 50.0);
/// assert!((loss.mean() - 0.4).abs() < 1e-15);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    /// Adds a value, such as the mean of a batch, with a weight, such as its size.
    pub fn add(&mut self, value: f64, weight: f64) {
        self.sum += value * weight;
        self.weight += weight;
    }

    /// The mean so far; NaN if nothing has been added.
    pub fn mean(&self) -> f64 {
        self.sum / self.weight
    }

    /// The sum of the weights.
    pub fn weight(&self) -> f64 {
        self.weight
    }
}

/// Checks that each label is below `classes`.
fn check_labels(op: &'static str, labels: &[usize], classes: usize) -> Result<()> {
    match labels.iter().enumerate().find(|&(_, &label)| label >= classes) {
        None => Ok(()),
        Some((row, label)) => {
            Err(Error::value(op, format!("{label} in row {row} is not one of {classes} classes")))
        }
    }
}
