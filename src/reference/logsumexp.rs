//! The logarithm of the sum of exponentials, row by row.

/// `m + ln Σ exp(x[j] − m)` of each row of `cols`, where m is the largest, or 0 if that is not finite.
pub fn logsumexp(x: &[f64], cols: usize) -> Vec<f64> {
    let row = |row: &[f64]| {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let shift = if max.is_finite() { max } else { 0.0 };
        shift + row.iter().map(|x| (x - shift).exp()).sum::<f64>().ln()
    };
    x.chunks(cols).map(row).collect()
}

/// `dy·exp(x[i] − y)` for each row, where `y` is its log-sum-exp, which only matters for whether it is
/// finite, and `dy` is the gradient of that.
pub fn logsumexp_backward(x: &[f64], y: &[f64], dy: &[f64], cols: usize) -> Vec<f64> {
    let mut dx = Vec::with_capacity(x.len());
    for ((x, y), dy) in x.chunks(cols).zip(y).zip(dy) {
        if y.is_finite() {
            dx.extend(super::softmax(x, cols).iter().map(|p| dy * p));
        } else {
            dx.extend(x.iter().map(|x| dy * (x - y).exp()));
        }
    }
    dx
}
