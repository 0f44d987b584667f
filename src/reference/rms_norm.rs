//! Root mean square normalisation, row by row.

fn inverse_root_mean_square(x: &[f64], eps: f64) -> f64 {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    1.0 / (mean + eps).sqrt()
}

/// `y = x·rstd·γ` of each row of `cols`; returns y and the rstd.
pub fn rms_norm(x: &[f64], cols: usize, gamma: &[f64], eps: f64) -> (Vec<f64>, Vec<f64>) {
    let (mut y, mut rstds) = (vec![], vec![]);
    for row in x.chunks(cols) {
        let rstd = inverse_root_mean_square(row, eps);
        y.extend(row.iter().zip(gamma).map(|(x, gamma)| x * rstd * gamma));
        rstds.push(rstd);
    }
    (y, rstds)
}

/// The gradients dx and dγ, given dy.
pub fn rms_norm_backward(
    x: &[f64],
    cols: usize,
    gamma: &[f64],
    eps: f64,
    dy: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let n = cols as f64;
    let (mut dx, mut dgamma) = (vec![], vec![0.0; cols]);
    for (x, dy) in x.chunks(cols).zip(dy.chunks(cols)) {
        let rstd = inverse_root_mean_square(x, eps);
        let normal: Vec<f64> = x.iter().map(|x| x * rstd).collect();
        let g: Vec<f64> = dy.iter().zip(gamma).map(|(dy, gamma)| dy * gamma).collect();
        let mean_gx = g.iter().zip(&normal).map(|(g, x)| g * x).sum::<f64>() / n;
        for c in 0..cols {
            dx.push(rstd * (g[c] - normal[c] * mean_gx));
            dgamma[c] += dy[c] * normal[c];
        }
    }
    (dx, dgamma)
}
