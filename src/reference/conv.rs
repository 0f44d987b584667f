//! Convolutions.

use crate::kernels::conv::Shape;

/// Every product of the sums: calls `term` with the places in y, in the weight and, unless it lies in the
/// padding, in x.
fn terms(shape: &Shape, mut term: impl FnMut(usize, usize, Option<usize>)) {
    let Shape { batch, channels: [inputs, outputs], groups, size: [height, width], window } = *shape;
    let [rows, cols] = shape.output().expect("sizes that fit");
    let [kernel_height, kernel_width] = window.kernel;
    let pixel = |axis: usize, position: usize, tap: usize, size: usize| {
        let pixel = position * window.stride[axis] + tap * window.dilation[axis];
        pixel.checked_sub(window.padding[axis][0]).filter(|&pixel| pixel < size)
    };
    for n in 0..batch {
        for o in 0..outputs {
            for i in 0..rows {
                for j in 0..cols {
                    for c in 0..inputs / groups {
                        for a in 0..kernel_height {
                            for b in 0..kernel_width {
                                let channel = n * inputs + o / (outputs / groups) * (inputs / groups) + c;
                                let place = pixel(0, i, a, height).zip(pixel(1, j, b, width));
                                let x = place.map(|(h, w)| (channel * height + h) * width + w);
                                let weight =
                                    ((o * (inputs / groups) + c) * kernel_height + a) * kernel_width + b;
                                term(((n * outputs + o) * rows + i) * cols + j, weight, x);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `Σ weight·x`, where x is 0 in the padding.
pub fn conv(shape: &Shape, x: &[f64], weight: &[f64]) -> Vec<f64> {
    let [rows, cols] = shape.output().expect("sizes that fit");
    let mut y = vec![0.0; shape.batch * shape.channels[1] * rows * cols];
    terms(shape, |to, tap, from| y[to] += weight[tap] * from.map_or(0.0, |from| x[from]));
    y
}

/// The gradient of x.
pub fn conv_backward_input(shape: &Shape, weight: &[f64], dy: &[f64]) -> Vec<f64> {
    let mut dx = vec![0.0; shape.batch * shape.channels[0] * shape.size[0] * shape.size[1]];
    terms(shape, |from, tap, to| {
        if let Some(to) = to {
            dx[to] += weight[tap] * dy[from];
        }
    });
    dx
}

/// The gradients of the weight and of the bias.
pub fn conv_backward_weight(shape: &Shape, x: &[f64], dy: &[f64]) -> [Vec<f64>; 2] {
    let [inputs, outputs] = shape.channels;
    let [height, width] = shape.window.kernel;
    let mut dweight = vec![0.0; outputs * (inputs / shape.groups) * height * width];
    terms(shape, |at, tap, from| dweight[tap] += dy[at] * from.map_or(0.0, |from| x[from]));
    let mut dbias = vec![0.0; outputs];
    let [rows, cols] = shape.output().expect("sizes that fit");
    for (i, dy) in dy.iter().enumerate() {
        dbias[i / (rows * cols) % outputs] += dy;
    }
    [dweight, dbias]
}
