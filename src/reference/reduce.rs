//! Sums, means, extremes, variances and the place of the largest, of everything, by row and by column.

/// `Σ x[i]`.
pub fn sum(x: &[f64]) -> f64 {
    x.iter().sum()
}

/// `Σ x[i] / n`; NaN of nothing.
pub fn mean(x: &[f64]) -> f64 {
    sum(x) / x.len() as f64
}

/// `Σ x[i]²`.
pub fn sum_of_squares(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum()
}

/// The largest; NaN if any is NaN; −∞ of nothing.
pub fn max(x: &[f64]) -> f64 {
    x.iter().fold(f64::NEG_INFINITY, |max, &x| if x > max || x.is_nan() { x } else { max })
}

/// The smallest; NaN if any is NaN; +∞ of nothing.
pub fn min(x: &[f64]) -> f64 {
    x.iter().fold(f64::INFINITY, |min, &x| if x < min || x.is_nan() { x } else { min })
}

/// `Σ (x[i] − mean)² / (n − correction)`; NaN when `n <= correction`.
///
/// The mean is that of `x[i] − x[0]`, which is small where the numbers are alike.
pub fn variance(x: &[f64], correction: usize) -> f64 {
    if x.len() <= correction {
        return f64::NAN;
    }
    let shifted: Vec<f64> = x.iter().map(|v| v - x[0]).collect();
    let mean = mean(&shifted);
    let squares: f64 = shifted.iter().map(|v| (v - mean) * (v - mean)).sum();
    squares / (x.len() - correction) as f64
}

/// The first index of the largest, or of the first NaN; `None` of nothing.
pub fn argmax(x: &[f64]) -> Option<usize> {
    let max = max(x);
    x.iter().position(|&v| v == max || v.is_nan())
}

/// `reduce` of each row of `cols` elements.
pub fn by_row<R>(x: &[f64], cols: usize, reduce: impl Fn(&[f64]) -> R) -> Vec<R> {
    x.chunks(cols).map(reduce).collect()
}

/// `reduce` of each of the `cols` columns.
pub fn by_column<R>(x: &[f64], cols: usize, reduce: impl Fn(&[f64]) -> R) -> Vec<R> {
    let column = |j: usize| x.iter().skip(j).step_by(cols).copied().collect::<Vec<_>>();
    (0..cols).map(|j| reduce(&column(j))).collect()
}
