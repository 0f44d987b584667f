//! Group normalisation of `[samples, channels, inner]`, group by group.

use super::layer_norm::moments;

/// `y = (x − mean)·rstd·γ + β`, γ and β per channel; returns y, and mean and rstd of each group of each
/// sample.
pub fn group_norm(
    x: &[f64],
    [channels, inner, groups]: [usize; 3],
    gamma: &[f64],
    beta: &[f64],
    eps: f64,
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (mut y, mut means, mut rstds) = (vec![], vec![], vec![]);
    for group in x.chunks(channels / groups * inner) {
        let (mean, _, rstd) = moments(group, eps);
        for &x in group {
            let channel = y.len() / inner % channels;
            y.push((x - mean) * rstd * gamma[channel] + beta[channel]);
        }
        means.push(mean);
        rstds.push(rstd);
    }
    (y, means, rstds)
}

/// The gradients dx, dγ and dβ, given dy.
pub fn group_norm_backward(
    x: &[f64],
    [channels, inner, groups]: [usize; 3],
    gamma: &[f64],
    eps: f64,
    dy: &[f64],
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let len = channels / groups * inner;
    let (mut dx, mut dgamma, mut dbeta) = (vec![], vec![0.0; channels], vec![0.0; channels]);
    for (x, dy) in x.chunks(len).zip(dy.chunks(len)) {
        let (mean, _, rstd) = moments(x, eps);
        let start = dx.len();
        let channel = |i: usize| (start + i) / inner % channels;
        let normal: Vec<f64> = x.iter().map(|x| (x - mean) * rstd).collect();
        let g: Vec<f64> = dy.iter().enumerate().map(|(i, dy)| dy * gamma[channel(i)]).collect();
        let mean_g = g.iter().sum::<f64>() / len as f64;
        let mean_gx = g.iter().zip(&normal).map(|(g, x)| g * x).sum::<f64>() / len as f64;
        for i in 0..len {
            dx.push(rstd * (g[i] - mean_g - normal[i] * mean_gx));
            dgamma[channel(i)] += dy[i] * normal[i];
            dbeta[channel(i)] += dy[i];
        }
    }
    (dx, dgamma, dbeta)
}
