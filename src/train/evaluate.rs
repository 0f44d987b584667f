//! Evaluating a model on held-out data.

use crate::autograd::no_grad;
use crate::error::{Error, Result};
use crate::metrics::{ConfusionMatrix, Mean};
use crate::nn::Module;
use crate::tensor::Tensor;

/// The results of a classifier on a data set.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The mean cross-entropy of the samples.
    pub loss: f64,
    /// Which classes were confused with which: errors in total and by class.
    pub confusion: ConfusionMatrix,
}

/// One pass over batches of images and labels without learning. The model returns logits `[batch, classes]`;
/// it is put into evaluation mode and stays there.
///
/// # Errors
/// Any error of the batches or of the model; [`Error::Value`] if there are no batches.
pub fn evaluate<L: AsRef<[usize]>>(
    model: &(impl Module + ?Sized),
    batches: impl IntoIterator<Item = Result<(Tensor, L)>>,
) -> Result<Evaluation> {
    model.eval();
    let mut loss = Mean::default();
    let mut confusion = None;
    for batch in batches {
        let (images, labels) = batch?;
        let labels = labels.as_ref();
        let logits = no_grad(|| model.forward(&images))?;
        loss.add(logits.cross_entropy(labels)?.item()?.into(), labels.len() as f64);
        let classes = logits.shape().last().copied().unwrap_or(0);
        confusion.get_or_insert_with(|| ConfusionMatrix::new(classes)).add(&logits.argmax()?, labels)?;
    }
    let confusion = confusion.ok_or_else(|| Error::value("evaluate", "there are no batches"))?;
    Ok(Evaluation { loss: loss.mean(), confusion })
}
