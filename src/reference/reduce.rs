//! Sums, products, means, extrema, vector norms, variances, positions and cumulative sums: of all elements,
//! by row and by column.

/// `Σ x[i]`.
pub fn sum(x: &[f64]) -> f64 {
    x.iter().sum()
}

/// `Σ x[i] / n`; NaN if there are no elements.
pub fn mean(x: &[f64]) -> f64 {
    sum(x) / x.len() as f64
}

/// `Σ x[i]²`.
pub fn sum_of_squares(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum()
}

/// The largest; NaN if any is NaN; −∞ if there are no elements.
pub fn max(x: &[f64]) -> f64 {
    x.iter().fold(f64::NEG_INFINITY, |max, &x| if x > max || x.is_nan() { x } else { max })
}

/// The smallest; NaN if any is NaN; +∞ if there are no elements.
pub fn min(x: &[f64]) -> f64 {
    x.iter().fold(f64::INFINITY, |min, &x| if x < min || x.is_nan() { x } else { min })
}

/// `Σ (x[i] − mean)² / (n − correction)`; NaN if `n <= correction`.
///
/// The mean is that of `x[i] − x[0]`, which is small if the numbers are similar.
pub fn variance(x: &[f64], correction: usize) -> f64 {
    if x.len() <= correction {
        return f64::NAN;
    }
    let shifted: Vec<f64> = x.iter().map(|v| v - x[0]).collect();
    let mean = mean(&shifted);
    let squares: f64 = shifted.iter().map(|v| (v - mean) * (v - mean)).sum();
    squares / (x.len() - correction) as f64
}

/// The first index of the largest, or of the first NaN; `None` if there are no elements.
pub fn argmax(x: &[f64]) -> Option<usize> {
    let max = max(x);
    x.iter().position(|&v| v == max || v.is_nan())
}

/// The first index of the smallest, or of the first NaN; `None` if there are no elements.
pub fn argmin(x: &[f64]) -> Option<usize> {
    let min = min(x);
    x.iter().position(|&v| v == min || v.is_nan())
}

/// `Π x[i]`.
pub fn prod(x: &[f64]) -> f64 {
    x.iter().product()
}

/// `dy·Π x[j]` over all j ≠ i.
pub fn prod_backward(x: &[f64], dy: f64) -> Vec<f64> {
    let others = |i: usize| x.iter().enumerate().filter(move |&(j, _)| j != i).map(|(_, &v)| v);
    (0..x.len()).map(|i| dy * others(i).product::<f64>()).collect()
}

/// 1 if any is not 0, else 0.
pub fn any(x: &[f64]) -> f64 {
    if x.iter().any(|&v| v != 0.0) { 1.0 } else { 0.0 }
}

/// 1 if none is 0, else 0.
pub fn all(x: &[f64]) -> f64 {
    if x.iter().all(|&v| v != 0.0) { 1.0 } else { 0.0 }
}

/// The number of elements that are not 0.
pub fn count_nonzero(x: &[f64]) -> usize {
    x.iter().filter(|&&v| v != 0.0).count()
}

/// `Σ a[i]·b[i]`.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The square root of the [`variance`].
pub fn std(x: &[f64], correction: usize) -> f64 {
    let scale = max_norm(x);
    if scale == 0.0 || !scale.is_finite() {
        return variance(x, correction).sqrt();
    }
    let scaled: Vec<f64> = x.iter().map(|v| v / scale).collect();
    variance(&scaled, correction).sqrt() * scale
}

/// `Σ |x[i]|`.
pub fn l1_norm(x: &[f64]) -> f64 {
    x.iter().map(|v| v.abs()).sum()
}

/// `√Σ x[i]²`, computed from numbers divided by the largest.
pub fn l2_norm(x: &[f64]) -> f64 {
    let scale = max_norm(x);
    if scale == 0.0 || !scale.is_finite() {
        return scale;
    }
    x.iter().map(|v| (v / scale) * (v / scale)).sum::<f64>().sqrt() * scale
}

/// `max |x[i]|`; NaN if any is NaN; 0 if there are no elements.
pub fn max_norm(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |max: f64, &v| if v.abs() > max || v.is_nan() { v.abs() } else { max })
}

/// The sign of x\[i\] times dy.
pub fn l1_norm_backward(x: &[f64], dy: f64) -> Vec<f64> {
    x.iter().map(|&v| dy * super::map::sign(v)).collect()
}

/// `dy·x[i]/√Σ x²`; 0 where that is 0.
pub fn l2_norm_backward(x: &[f64], dy: f64) -> Vec<f64> {
    let norm = l2_norm(x);
    x.iter().map(|v| if norm == 0.0 { 0.0 } else { dy * (v / norm) }).collect()
}

/// The sign of x\[i\] times a share of dy where |x\[i\]| is the largest, else 0.
pub fn max_norm_backward(x: &[f64], dy: f64) -> Vec<f64> {
    let norm = max_norm(x);
    let ties = x.iter().filter(|v| v.abs() == norm).count() as f64;
    x.iter().map(|&v| if v.abs() == norm { dy / ties * super::map::sign(v) } else { 0.0 }).collect()
}

/// `x[0] + … + x[i]`, or with `reverse` `x[i] + … + x[n − 1]`.
pub fn cumsum(x: &[f64], reverse: bool) -> Vec<f64> {
    let mut sum = 0.0;
    let add = |x: &f64| {
        sum += x;
        sum
    };
    if !reverse {
        return x.iter().map(add).collect();
    }
    let mut y: Vec<f64> = x.iter().rev().map(add).collect();
    y.reverse();
    y
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
