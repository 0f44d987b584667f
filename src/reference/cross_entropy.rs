//! Cross-entropy of logits with class indices, row by row.

use super::{log_softmax, softmax};

/// `(1 − s)·(−ln p[target]) + s·mean(−ln p)` of each row, where p is its softmax and s the label smoothing.
pub fn cross_entropy(logits: &[f64], targets: &[usize], classes: usize, label_smoothing: f64) -> Vec<f64> {
    let log_p = log_softmax(logits, classes);
    let row = |(log_p, &target): (&[f64], &usize)| {
        let hard = (1.0 - label_smoothing) * -log_p[target];
        // Zero times an infinity must not make a loss without smoothing NaN.
        let soft =
            |sum: f64| if label_smoothing == 0.0 { 0.0 } else { -sum * label_smoothing / classes as f64 };
        hard + soft(log_p.iter().sum())
    };
    log_p.chunks(classes).zip(targets).map(row).collect()
}

/// `dloss·(p[i] − (1 − s)·[i = target] − s/classes)` of each row.
pub fn cross_entropy_backward(
    logits: &[f64],
    targets: &[usize],
    classes: usize,
    label_smoothing: f64,
    dlosses: &[f64],
) -> Vec<f64> {
    let mut dlogits = softmax(logits, classes);
    for ((row, &target), dloss) in dlogits.chunks_mut(classes).zip(targets).zip(dlosses) {
        row[target] -= 1.0 - label_smoothing;
        row.iter_mut().for_each(|p| *p = dloss * (*p - label_smoothing / classes as f64));
    }
    dlogits
}
