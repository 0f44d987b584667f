//! Matrix multiplication by its definition.

/// `alpha · A · B + beta · C` for row-major A of `[m, k]`, B of `[k, n]`, C of `[m, n]`; `beta = 0` ignores C.
pub fn gemm(alpha: f64, a: &[f64], b: &[f64], beta: f64, c: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
    let mut out = vec![0.0; m * n];
    for i in 0..m {
        for j in 0..n {
            let sum: f64 = (0..k).map(|p| a[i * k + p] * b[p * n + j]).sum();
            let old = if beta == 0.0 { 0.0 } else { beta * c[i * n + j] };
            out[i * n + j] = alpha * sum + old;
        }
    }
    out
}
