//! Negative log-likelihood of class indices, row by row.

/// `−w[t]·log_p[t]` for each row, where t is its target and w the weight of each class; 0 if the target is
/// ignored.
pub fn nll_loss(
    log_p: &[f64],
    targets: &[usize],
    classes: usize,
    weight: &[f64],
    ignore_index: Option<usize>,
) -> Vec<f64> {
    let row = |(log_p, &target): (&[f64], &usize)| {
        if ignore_index == Some(target) { 0.0 } else { -weight[target] * log_p[target] }
    };
    log_p.chunks(classes).zip(targets).map(row).collect()
}

/// `−w[t]·dloss` at each row's target unless that is ignored, 0 elsewhere.
pub fn nll_loss_backward(
    targets: &[usize],
    classes: usize,
    weight: &[f64],
    ignore_index: Option<usize>,
    dlosses: &[f64],
) -> Vec<f64> {
    let mut dlog_p = vec![0.0; targets.len() * classes];
    for ((row, &target), dloss) in dlog_p.chunks_mut(classes).zip(targets).zip(dlosses) {
        if ignore_index != Some(target) {
            row[target] = -weight[target] * dloss;
        }
    }
    dlog_p
}
