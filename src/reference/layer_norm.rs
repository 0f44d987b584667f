//! Layer normalisation, row by row.

/// The mean, the biased variance and `1 / √(var + eps)` of a slice.
pub(super) fn moments(x: &[f64], eps: f64) -> (f64, f64, f64) {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let mean = mean + x.iter().map(|x| x - mean).sum::<f64>() / n;
    let var = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    (mean, var, 1.0 / (var + eps).sqrt())
}

/// `y = (x − mean)·rstd·γ + β` of each row of `cols`; returns y, the means and the rstd.
pub fn layer_norm(
    x: &[f64],
    cols: usize,
    gamma: &[f64],
    beta: &[f64],
    eps: f64,
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (mut y, mut means, mut rstds) = (vec![], vec![], vec![]);
    for row in x.chunks(cols) {
        let (mean, _, rstd) = moments(row, eps);
        for c in 0..cols {
            y.push((row[c] - mean) * rstd * gamma[c] + beta[c]);
        }
        means.push(mean);
        rstds.push(rstd);
    }
    (y, means, rstds)
}

/// The gradients dx, dγ and dβ, given dy.
pub fn layer_norm_backward(
    x: &[f64],
    cols: usize,
    gamma: &[f64],
    eps: f64,
    dy: &[f64],
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let n = cols as f64;
    let (mut dx, mut dgamma, mut dbeta) = (vec![], vec![0.0; cols], vec![0.0; cols]);
    for (x, dy) in x.chunks(cols).zip(dy.chunks(cols)) {
        let (mean, _, rstd) = moments(x, eps);
        let normal: Vec<f64> = x.iter().map(|x| (x - mean) * rstd).collect();
        let g: Vec<f64> = dy.iter().zip(gamma).map(|(dy, gamma)| dy * gamma).collect();
        let mean_g = g.iter().sum::<f64>() / n;
        let mean_gx = g.iter().zip(&normal).map(|(g, x)| g * x).sum::<f64>() / n;
        for c in 0..cols {
            dx.push(rstd * (g[c] - mean_g - normal[c] * mean_gx));
            dgamma[c] += dy[c] * normal[c];
            dbeta[c] += dy[c];
        }
    }
    (dx, dgamma, dbeta)
}
