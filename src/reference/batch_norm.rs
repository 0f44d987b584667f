//! Batch normalisation, column by column.

use super::layer_norm::moments;

fn column(x: &[f64], cols: usize, c: usize) -> Vec<f64> {
    x.iter().skip(c).step_by(cols).copied().collect()
}

/// `y = (x − mean)·rstd·γ + β` for each column; returns y, the means, the biased variances and the reciprocal
/// standard deviations.
pub fn batch_norm(x: &[f64], cols: usize, gamma: &[f64], beta: &[f64], eps: f64) -> [Vec<f64>; 4] {
    let (mut y, mut means, mut vars, mut rstds) = (vec![0.0; x.len()], vec![], vec![], vec![]);
    for c in 0..cols {
        let x = column(x, cols, c);
        let (mean, var, rstd) = moments(&x, eps);
        for (r, x) in x.iter().enumerate() {
            y[r * cols + c] = (x - mean) * rstd * gamma[c] + beta[c];
        }
        means.push(mean);
        vars.push(var);
        rstds.push(rstd);
    }
    [y, means, vars, rstds]
}

/// The gradients dx, dγ and dβ in training, given dy.
pub fn batch_norm_backward(x: &[f64], cols: usize, gamma: &[f64], eps: f64, dy: &[f64]) -> [Vec<f64>; 3] {
    let (mut dx, mut dgamma, mut dbeta) = (vec![0.0; x.len()], vec![], vec![]);
    for c in 0..cols {
        let (x, dy) = (column(x, cols, c), column(dy, cols, c));
        let n = x.len() as f64;
        let (mean, _, rstd) = moments(&x, eps);
        let normal: Vec<f64> = x.iter().map(|x| (x - mean) * rstd).collect();
        let sum_dy: f64 = dy.iter().sum();
        let sum_dyx: f64 = dy.iter().zip(&normal).map(|(dy, x)| dy * x).sum();
        for (r, (dy, normal)) in dy.iter().zip(&normal).enumerate() {
            dx[r * cols + c] = rstd * gamma[c] * (dy - sum_dy / n - normal * sum_dyx / n);
        }
        dgamma.push(sum_dyx);
        dbeta.push(sum_dy);
    }
    [dx, dgamma, dbeta]
}

/// `y = (x − mean) / √(var + eps) · γ + β` with the statistics given for each column.
pub fn batch_norm_infer(
    x: &[f64],
    cols: usize,
    gamma: &[f64],
    beta: &[f64],
    mean: &[f64],
    var: &[f64],
    eps: f64,
) -> Vec<f64> {
    let y = |(i, x): (usize, &f64)| {
        let c = i % cols;
        (x - mean[c]) / (var[c] + eps).sqrt() * gamma[c] + beta[c]
    };
    x.iter().enumerate().map(y).collect()
}

/// The gradients dx, dγ and dβ in evaluation, given dy.
pub fn batch_norm_infer_backward(
    x: &[f64],
    cols: usize,
    gamma: &[f64],
    mean: &[f64],
    var: &[f64],
    eps: f64,
    dy: &[f64],
) -> [Vec<f64>; 3] {
    let (mut dx, mut dgamma, mut dbeta) = (vec![], vec![0.0; cols], vec![0.0; cols]);
    for (i, (x, dy)) in x.iter().zip(dy).enumerate() {
        let c = i % cols;
        let rstd = 1.0 / (var[c] + eps).sqrt();
        dx.push(dy * gamma[c] * rstd);
        dgamma[c] += dy * (x - mean[c]) * rstd;
        dbeta[c] += dy;
    }
    [dx, dgamma, dbeta]
}
