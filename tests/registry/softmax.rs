//! Softmax, log-softmax and log-sum-exp.

use gristmill::kernels::{log_softmax, logsumexp, softmax};
use gristmill::{Element, reference};

use super::reductions::column_length;
use super::{Case, Draw, Kernel, entries, log2_ceil, near, unit};

pub const KERNELS: &[Kernel] = entries![
    "softmax::forward" => softmax_forward,
    "softmax::backward" => softmax_backward,
    "log_softmax::forward" => log_softmax_forward,
    "log_softmax::backward" => log_softmax_backward,
    "logsumexp::forward" => logsumexp_forward,
    "logsumexp::backward" => logsumexp_backward,
    "logsumexp::forward_cols" => logsumexp_forward_cols,
    "logsumexp::backward_cols" => logsumexp_backward_cols,
];

/// The most additions from an element of a row to its sum, as documented.
fn depth<T: Element>(n: usize) -> f64 {
    n.min(4096).div_ceil(4 * T::LANES) as f64 + 6.0 + log2_ceil(n.div_ceil(4096))
}

/// The same for a column.
fn column_depth(n: usize) -> f64 {
    (n as f64).min(128.0 + log2_ceil(n))
}

/// A bound made of a depth and units: of the kernel, and of the reference, with n additions in f64.
fn both<T: Element>(depth: f64, n: usize, bound: impl Fn(f64, f64) -> f64) -> f64 {
    bound(depth, unit::<T>()) + bound(n as f64, unit::<f64>())
}

/// Σ|x| of each row.
fn sizes(x: &[f64], cols: usize) -> Vec<f64> {
    reference::by_row(x, cols, |x| x.iter().map(|x| x.abs()).sum())
}

fn logits<T: Element>(draw: &mut Draw, len: usize) -> Vec<T> {
    let scale = draw.pick(&[1.0, 30.0, 500.0]);
    let offset = draw.pick(&[0.0, 1e4]);
    draw.values(len, offset - scale, offset + scale)
}

fn softmax_forward<T: Element>(draw: &mut Draw) -> Case<T> {
    let [rows, cols] = draw.matrix();
    Case::new(format!("{rows} × {cols}"))
        .input_per_item("x", cols, logits(draw, rows * cols))
        .output_per_item("y", cols, rows * cols)
        .run(move |[x], [], [y]| softmax::forward(x, cols, y))
        .expect(move |[x], [], [_]| {
            let max = reference::by_row(x, cols, reference::max);
            let ln_n = (cols as f64).ln();
            let y = reference::softmax(x, cols);
            [near(y.clone(), |i| {
                both::<T>(depth::<T>(cols), cols, |d, u| (d + ln_n + 12.0 + max[i / cols] - x[i]) * u * y[i])
            })]
        })
        .refuses("rows that are not whole", move |[x], [], [y]| softmax::forward(x, x.len() + 1, y))
        .refuses("absurd rows", move |[x], [], [y]| softmax::forward(x, usize::MAX, y))
}

fn softmax_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let [rows, cols] = draw.matrix();
    Case::new(format!("{rows} × {cols}"))
        .input_per_item("y", cols, draw.values(rows * cols, 0.0, 1.0))
        .input_per_item("dy", cols, draw.values(rows * cols, -1.0, 1.0))
        .output_per_item("dx", cols, rows * cols)
        .run(move |[y, dy], [], [dx]| softmax::backward(y, dy, cols, dx))
        .expect(move |[y, dy], [], [_]| {
            let terms: Vec<f64> = y.iter().zip(dy).map(|(y, dy)| y * dy).collect();
            let (sums, sizes) = (reference::by_row(&terms, cols, reference::sum), sizes(&terms, cols));
            [near(reference::softmax_backward(y, dy, cols), |i| {
                let (rest, size) = ((dy[i] - sums[i / cols]).abs(), sizes[i / cols]);
                both::<T>(depth::<T>(cols), cols, |d, u| (2.0 * rest + (d + 1.0) * size) * y[i] * u)
            })]
        })
        .refuses("absurd rows", move |[y, dy], [], [dx]| softmax::backward(y, dy, usize::MAX, dx))
}

fn log_softmax_forward<T: Element>(draw: &mut Draw) -> Case<T> {
    let [rows, cols] = draw.matrix();
    Case::new(format!("{rows} × {cols}"))
        .input_per_item("x", cols, logits(draw, rows * cols))
        .output_per_item("y", cols, rows * cols)
        .run(move |[x], [], [y]| log_softmax::forward(x, cols, y))
        .expect(move |[x], [], [_]| {
            let max = reference::by_row(x, cols, reference::max);
            let ln_n = (cols as f64).ln();
            let y = reference::log_softmax(x, cols);
            [near(y.clone(), |i| {
                let distance = max[i / cols] - x[i];
                both::<T>(depth::<T>(cols), cols, |d, u| (d + 4.0 + 5.0 * ln_n + distance + y[i].abs()) * u)
            })]
        })
        .refuses("absurd rows", move |[x], [], [y]| log_softmax::forward(x, usize::MAX, y))
}

fn log_softmax_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let [rows, cols] = draw.matrix();
    Case::new(format!("{rows} × {cols}"))
        .input_per_item("y", cols, draw.values(rows * cols, -9.0, 0.0))
        .input_per_item("dy", cols, draw.values(rows * cols, -1.0, 1.0))
        .output_per_item("dx", cols, rows * cols)
        .run(move |[y, dy], [], [dx]| log_softmax::backward(y, dy, cols, dx))
        .expect(move |[y, dy], [], [_]| {
            let (sums, sizes) = (reference::by_row(dy, cols, reference::sum), sizes(dy, cols));
            let dx = reference::log_softmax_backward(y, dy, cols);
            [near(dx.clone(), |i| {
                let (sum, size) = (sums[i / cols].abs(), sizes[i / cols]);
                both::<T>(depth::<T>(cols), cols, |d, u| {
                    (dx[i].abs() + (4.0 * sum + d * size) * y[i].exp()) * u
                })
            })]
        })
        .refuses("absurd rows", move |[y, dy], [], [dx]| log_softmax::backward(y, dy, usize::MAX, dx))
}

fn logsumexp_forward<T: Element>(draw: &mut Draw) -> Case<T> {
    let [rows, cols] = draw.matrix();
    Case::new(format!("{rows} × {cols}"))
        .input_per_item("x", cols, logits(draw, rows * cols))
        .output_per_item("y", 1, rows)
        .run(move |[x], [], [y]| logsumexp::forward(x, cols, y))
        .expect(move |[x], [], [_]| {
            let ln_n = (cols as f64).ln();
            let y = reference::logsumexp(x, cols);
            [near(y.clone(), |i| {
                both::<T>(depth::<T>(cols), cols, |d, u| (d + 4.0 + 5.0 * ln_n + y[i].abs()) * u)
            })]
        })
        .refuses("absurd rows", move |[x], [], [y]| logsumexp::forward(x, usize::MAX, y))
}

fn logsumexp_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let [rows, cols] = draw.matrix();
    let x: Vec<T> = logits(draw, rows * cols);
    let wide: Vec<f64> = x.iter().map(|x| x.to_f64()).collect();
    let y = reference::logsumexp(&wide, cols).into_iter().map(T::from_f64).collect();
    Case::new(format!("{rows} × {cols}"))
        .input_per_item("x", cols, x)
        .input_per_item("y", 1, y)
        .input_per_item("dy", 1, draw.values(rows, -1.0, 1.0))
        .output_per_item("dx", cols, rows * cols)
        .run(move |[x, y, dy], [], [dx]| logsumexp::Backward { x, y, dy, cols, dx }.run())
        .expect(move |[x, y, dy], [], [_]| {
            let dx = reference::logsumexp_backward(x, y, dy, cols);
            [near(dx.clone(), |i| {
                let distance = (x[i] - y[i / cols]).abs();
                both::<T>(depth::<T>(cols), cols, |d, u| (distance + d + 8.0) * u * dx[i].abs())
            })]
        })
        .refuses("absurd rows", move |[x, y, dy], [], [dx]| {
            logsumexp::Backward { x, y, dy, cols: usize::MAX, dx }.run()
        })
}

/// Columns of a matrix as its rows.
fn transposed(x: &[f64], cols: usize) -> Vec<f64> {
    let rows = x.len() / cols;
    (0..x.len()).map(|i| x[i % rows * cols + i / rows]).collect()
}

fn logsumexp_forward_cols<T: Element>(draw: &mut Draw) -> Case<T> {
    let [rows, cols] = draw.matrix();
    Case::new(format!("{rows} × {cols}"))
        .input("x", logits(draw, rows * cols))
        .output("y", cols)
        .lengths(column_length(cols), &["x"])
        .run(move |[x], [], [y]| logsumexp::forward_cols(x, cols, y))
        .expect(move |[x], [], [_]| {
            let y = match rows {
                0 => vec![f64::NEG_INFINITY; cols],
                _ => reference::logsumexp(&transposed(x, cols), rows),
            };
            [near(y.clone(), |i| {
                both::<T>(column_depth(rows), rows, |d, u| {
                    (d + 4.0 + 5.0 * (rows as f64).ln() + y[i].abs()) * u
                })
            })]
        })
        .refuses("absurd columns", move |[x], [], [y]| logsumexp::forward_cols(x, usize::MAX, y))
}

fn logsumexp_backward_cols<T: Element>(draw: &mut Draw) -> Case<T> {
    let [rows, cols] = draw.matrix();
    let x: Vec<T> = logits(draw, rows * cols);
    let wide: Vec<f64> = x.iter().map(|x| x.to_f64()).collect();
    let y = match rows {
        0 => vec![-T::INFINITY; cols],
        _ => reference::logsumexp(&transposed(&wide, cols), rows).into_iter().map(T::from_f64).collect(),
    };
    Case::new(format!("{rows} × {cols}"))
        .input("x", x)
        .input("y", y)
        .input("dy", draw.values(cols, -1.0, 1.0))
        .output("dx", rows * cols)
        .run(move |[x, y, dy], [], [dx]| logsumexp::BackwardCols { x, y, dy, cols, dx }.run())
        .expect(move |[x, y, dy], [], [_]| {
            let dx = reference::logsumexp_backward(&transposed(x, cols), y, dy, rows.max(1));
            let dx: Vec<f64> = (0..x.len()).map(|i| dx[i % cols * rows + i / cols]).collect();
            [near(dx.clone(), |i| {
                let distance = (x[i] - y[i % cols]).abs();
                both::<T>(column_depth(rows), rows, |d, u| (distance + d + 8.0) * u * dx[i].abs())
            })]
        })
        .refuses("absurd columns", move |[x, y, dy], [], [dx]| {
            logsumexp::BackwardCols { x, y, dy, cols: usize::MAX, dx }.run()
        })
}
