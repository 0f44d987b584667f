//! Softmax and its relatives, row by row.

/// `exp(x[i] − max x) / Σ exp(x[j] − max x)` of each row of `cols`.
pub fn softmax(x: &[f64], cols: usize) -> Vec<f64> {
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks(cols) {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let exps: Vec<f64> = row.iter().map(|x| (x - max).exp()).collect();
        let sum: f64 = exps.iter().sum();
        y.extend(exps.iter().map(|e| e / sum));
    }
    y
}

/// `y[i]·(dy[i] − Σ y[j]·dy[j])` of each row, where `y` is the softmax.
pub fn softmax_backward(y: &[f64], dy: &[f64], cols: usize) -> Vec<f64> {
    let mut dx = Vec::with_capacity(y.len());
    for (y, dy) in y.chunks(cols).zip(dy.chunks(cols)) {
        let dot: f64 = y.iter().zip(dy).map(|(y, dy)| y * dy).sum();
        dx.extend(y.iter().zip(dy).map(|(y, dy)| y * (dy - dot)));
    }
    dx
}
