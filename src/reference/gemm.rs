//! Matrix multiplication by definition.

/// `alpha · A · B + beta · C` for row-major A of `[m, k]`, B of `[k, n]`, C of `[m, n]`; `beta = 0` ignores
/// C.
pub fn gemm(alpha: f64, a: &[f64], b: &[f64], beta: f64, c: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
    let mut out = Vec::with_capacity(m * n);
    for i in 0..m {
        // By rows of B, in memory order.
        let mut sums = vec![0.0; n];
        for p in 0..k {
            for (sum, b) in sums.iter_mut().zip(&b[p * n..]) {
                *sum += a[i * k + p] * b;
            }
        }
        let old = |j: usize| if beta == 0.0 { 0.0 } else { beta * c[i * n + j] };
        out.extend(sums.iter().enumerate().map(|(j, sum)| alpha * sum + old(j)));
    }
    out
}
