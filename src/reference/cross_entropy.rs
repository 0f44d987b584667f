//! Cross-entropy of logits with class indices or probabilities, row by row.

use super::{log_softmax, softmax};

/// `(1 − s)·w[t]·(−ln p[t]) + s/classes·Σ w[c]·(−ln p[c])` for each row, where p is its softmax, t its
/// target, s the label smoothing and w the weight of each class; 0 if the target is ignored.
pub fn cross_entropy(
    logits: &[f64],
    targets: &[usize],
    classes: usize,
    label_smoothing: f64,
    weight: &[f64],
    ignore_index: Option<usize>,
) -> Vec<f64> {
    let log_p = log_softmax(logits, classes);
    let row = |(log_p, &target): (&[f64], &usize)| {
        if ignore_index == Some(target) {
            return 0.0;
        }
        let hard = (1.0 - label_smoothing) * weight[target] * -log_p[target];
        // Without smoothing, the second term must not become NaN as zero times infinity.
        if label_smoothing == 0.0 {
            return hard;
        }
        let sum: f64 = log_p.iter().zip(weight).map(|(log_p, w)| w * -log_p).sum();
        hard + label_smoothing / classes as f64 * sum
    };
    log_p.chunks(classes).zip(targets).map(row).collect()
}

/// `dloss·((1 − s)·w[t]·(p[i] − [i = t]) + s/classes·(p[i]·Σ w[c] − w[i]))` for each row; 0 if its target is
/// ignored.
pub fn cross_entropy_backward(
    logits: &[f64],
    targets: &[usize],
    classes: usize,
    label_smoothing: f64,
    weight: &[f64],
    ignore_index: Option<usize>,
    dlosses: &[f64],
) -> Vec<f64> {
    let mut dlogits = softmax(logits, classes);
    let (share, total) = (label_smoothing / classes as f64, weight.iter().sum::<f64>());
    for ((row, &target), dloss) in dlogits.chunks_mut(classes).zip(targets).zip(dlosses) {
        if ignore_index == Some(target) {
            row.fill(0.0);
            continue;
        }
        for (i, p) in row.iter_mut().enumerate() {
            let at_target = if i == target { 1.0 } else { 0.0 };
            let hard = (1.0 - label_smoothing) * weight[target] * (*p - at_target);
            *p = dloss * (hard + share * (*p * total - weight[i]));
        }
    }
    dlogits
}

/// `Σ q[c]·w[c]·(−ln p[c])` for each row, where p is its softmax, `q = (1 − s)·target + s/classes` and w the
/// weight of each class.
pub fn soft_cross_entropy(
    logits: &[f64],
    targets: &[f64],
    classes: usize,
    label_smoothing: f64,
    weight: &[f64],
) -> Vec<f64> {
    let (log_p, share) = (log_softmax(logits, classes), label_smoothing / classes as f64);
    let row = |(log_p, targets): (&[f64], &[f64])| {
        (0..classes).map(|c| ((1.0 - label_smoothing) * targets[c] + share) * weight[c] * -log_p[c]).sum()
    };
    log_p.chunks(classes).zip(targets.chunks(classes)).map(row).collect()
}

/// The gradients of logits and targets: `dloss·(p[i]·Σ q[c]·w[c] − q[i]·w[i])` and
/// `dloss·(1 − s)·w[i]·(−ln p[i])`.
pub fn soft_cross_entropy_backward(
    logits: &[f64],
    targets: &[f64],
    classes: usize,
    label_smoothing: f64,
    weight: &[f64],
    dlosses: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let (p, log_p) = (softmax(logits, classes), log_softmax(logits, classes));
    let share = label_smoothing / classes as f64;
    let (mut dlogits, mut dtargets) = (vec![], vec![]);
    for (row, dloss) in dlosses.iter().enumerate() {
        let at = row * classes;
        let mass = |c: usize| ((1.0 - label_smoothing) * targets[at + c] + share) * weight[c];
        let total: f64 = (0..classes).map(mass).sum();
        for c in 0..classes {
            dlogits.push(dloss * (p[at + c] * total - mass(c)));
            dtargets.push(dloss * (1.0 - label_smoothing) * weight[c] * -log_p[at + c]);
        }
    }
    (dlogits, dtargets)
}
