//! The parametric ReLU of `[samples, channels, inner]`.

/// x where x > 0, else the slope of its channel times x.
pub fn prelu(x: &[f64], slope: &[f64], inner: usize) -> Vec<f64> {
    let y = |(i, &x): (usize, &f64)| if x > 0.0 { x } else { slope[i / inner % slope.len()] * x };
    x.iter().enumerate().map(y).collect()
}

/// The gradients of x and of the slopes, given dy.
pub fn prelu_backward(x: &[f64], slope: &[f64], inner: usize, dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (mut dx, mut dslope) = (dy.to_vec(), vec![0.0; slope.len()]);
    for i in 0..x.len() {
        let channel = i / inner % slope.len();
        // NaN is treated like a negative number.
        let positive = x[i] > 0.0;
        if !positive {
            dx[i] *= slope[channel];
            dslope[channel] += x[i] * dy[i];
        }
    }
    (dx, dslope)
}
