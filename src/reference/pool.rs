//! Pooling.

use crate::kernels::pool::{Shape, Windows};

/// The pixels of a window along an axis that lie inside the image, and the number of those in the padded one.
fn pixels(shape: &Shape, axis: usize, outputs: usize, i: usize) -> (Vec<usize>, usize) {
    let n = shape.size[axis];
    match shape.windows {
        Windows::Adaptive(_) => {
            let pixels: Vec<_> = (i * n / outputs..((i + 1) * n).div_ceil(outputs)).collect();
            let count = pixels.len();
            (pixels, count)
        }
        Windows::Sliding { window, .. } => {
            let [before, after] = window.padding[axis];
            let taps =
                (0..window.kernel[axis]).map(|tap| i * window.stride[axis] + tap * window.dilation[axis]);
            let taps: Vec<_> = taps.filter(|&place| place < before + n + after).collect();
            let inside = taps.iter().filter(|&&place| place >= before && place < before + n);
            (inside.map(|place| place - before).collect(), taps.len())
        }
    }
}

/// Calls `f` for each window: its plane, its place in the output, its pixels row by row, and the number of
/// them with padding.
fn windows(shape: &Shape, mut f: impl FnMut(usize, usize, &[usize], usize)) {
    let [rows, cols] = shape.output().expect("sizes that fit");
    for plane in 0..shape.planes {
        for i in 0..rows {
            for j in 0..cols {
                let (down, height) = pixels(shape, 0, rows, i);
                let (along, width) = pixels(shape, 1, cols, j);
                let row =
                    |&h: &usize| along.iter().map(move |w| (plane * shape.size[0] + h) * shape.size[1] + w);
                let all: Vec<_> = down.iter().flat_map(row).collect();
                f(plane, (plane * rows + i) * cols + j, &all, height * width);
            }
        }
    }
}

/// The number of windows of all planes.
fn outputs(shape: &Shape) -> usize {
    let [rows, cols] = shape.output().expect("sizes that fit");
    shape.planes * rows * cols
}

/// The largest element of each window, and where it lies: the first one, or the last NaN.
pub fn max_pool(shape: &Shape, x: &[f64]) -> (Vec<f64>, Vec<Option<usize>>) {
    let (mut y, mut places) = (vec![f64::NEG_INFINITY; outputs(shape)], vec![None; outputs(shape)]);
    windows(shape, |_, to, pixels, _| {
        for &pixel in pixels {
            if places[to].is_none() || x[pixel] > y[to] || x[pixel].is_nan() {
                (y[to], places[to]) = (x[pixel], Some(pixel));
            }
        }
    });
    (y, places)
}

/// The gradient of x.
pub fn max_pool_backward(shape: &Shape, x: &[f64], dy: &[f64]) -> Vec<f64> {
    let mut dx = vec![0.0; x.len()];
    for (place, dy) in max_pool(shape, x).1.iter().zip(dy) {
        if let Some(place) = place {
            dx[*place] += dy;
        }
    }
    dx
}

/// The average of each window.
pub fn avg_pool(shape: &Shape, count_include_pad: bool, divisor: Option<f64>, x: &[f64]) -> Vec<f64> {
    let mut y = vec![0.0; outputs(shape)];
    windows(shape, |_, to, pixels, padded| {
        let count = if count_include_pad { padded } else { pixels.len() };
        y[to] = pixels.iter().map(|&pixel| x[pixel]).sum::<f64>() / divisor.unwrap_or(count as f64);
    });
    y
}

/// The gradient of x.
pub fn avg_pool_backward(
    shape: &Shape,
    count_include_pad: bool,
    divisor: Option<f64>,
    dy: &[f64],
) -> Vec<f64> {
    let mut dx = vec![0.0; shape.planes * shape.size[0] * shape.size[1]];
    windows(shape, |_, from, pixels, padded| {
        let count = if count_include_pad { padded } else { pixels.len() };
        for &pixel in pixels {
            dx[pixel] += dy[from] / divisor.unwrap_or(count as f64);
        }
    });
    dx
}
