//! The logarithm of the softmax, row by row.

/// `(x[i] − max x) − ln Σ exp(x[j] − max x)` of each row of `cols`.
pub fn log_softmax(x: &[f64], cols: usize) -> Vec<f64> {
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks(cols) {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|x| (x - max).exp()).sum();
        y.extend(row.iter().map(|x| (x - max) - sum.ln()));
    }
    y
}

/// `dy[i] − exp(y[i])·Σ dy[j]` of each row, where `y` is the logarithm of the softmax.
pub fn log_softmax_backward(y: &[f64], dy: &[f64], cols: usize) -> Vec<f64> {
    let mut dx = Vec::with_capacity(y.len());
    for (y, dy) in y.chunks(cols).zip(dy.chunks(cols)) {
        let sum: f64 = dy.iter().sum();
        dx.extend(y.iter().zip(dy).map(|(y, dy)| dy - y.exp() * sum));
    }
    dx
}
