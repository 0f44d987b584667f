//! The gradient of the input, which is also the transposed convolution.

use super::{Images, Shape, row_major};
use crate::buffer::Scratch;
use crate::context;
use crate::error::Result;
use crate::kernels::gemm::patches::Axis;
use crate::kernels::gemm::{Bias, Epilogue};
use crate::kernels::{compiled_once, lengths};
use crate::parallel::{self, Indices, Rows, RowsMut};
use crate::simd::Element;

/// The gradient of the input of [`Forward`](super::Forward): `dx[n, c, h, w]` is the sum of
/// `weight[o, c, a, b] · dy[n, o, i, j]` over all o, a and b that read this pixel.
///
/// With `dy` as its input it is the transposed convolution of PyTorch: `shape` is that of the convolution it
/// belongs to, so that `shape.size` is the size of its result (with the output padding), and `weight` is
/// `[its input channels, its output channels / groups, …]`.
///
/// ```
/// use gristmill::kernels::conv::{BackwardInput, Shape};
/// use gristmill::kernels::window::Window;
/// let window = Window { kernel: [1, 3], stride: [1, 2], ..Window::default() };
/// let shape = Shape { batch: 1, channels: [1, 1], size: [1, 5], window, ..Shape::default() };
/// let mut dx = [0.0; 5];
/// BackwardInput { shape, weight: &[1.0, 10.0, 100.0], dy: &[1.0, 2.0], dx: &mut dx, ..Default::default() }
///     .run()?;
/// assert_eq!(dx, [1.0, 10.0, 102.0, 20.0, 200.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug)]
pub struct BackwardInput<'a, T> {
    /// The sizes.
    pub shape: Shape,
    /// As in the forward pass.
    pub weight: &'a [T],
    /// The gradient of the output, `[batch, output channels, output height, output width]`.
    pub dy: &'a [T],
    /// One number for each input channel, which is added, for a transposed convolution; `None`, the default,
    /// for 0.
    pub bias: Option<&'a [T]>,
    /// If x was the output of a ReLU, that output: dx is 0 where it is not above 0, and so is the gradient of
    /// the input of the ReLU.
    pub relu_mask: Option<&'a [T]>,
    /// Output, `[batch, input channels, height, width]`.
    pub dx: &'a mut [T],
}

impl<T> Default for BackwardInput<'_, T> {
    fn default() -> Self {
        let shape = Shape::default();
        Self { shape, weight: &[], dy: &[], bias: None, relu_mask: None, dx: &mut [] }
    }
}

impl<T: Element> BackwardInput<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) as for [`Forward`](super::Forward).
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("conv::backward_input", |call: BackwardInput<'_, T>| -> Result<()> {
            const OP: &str = "conv_backward_input";
            let BackwardInput { shape, weight, dy, bias, relu_mask, dx } = call;
            let sizes = shape.sizes(OP)?;
            lengths!(OP, weight == sizes.weight, dy == sizes.y, bias == shape.channels[0]);
            lengths!(OP, relu_mask == sizes.x, dx == sizes.x);
            shape.tell::<T>(&sizes);
            let settings = context::settings()?;
            let ([inputs, outputs], groups) = (shape.per_group(), shape.groups);
            let [height, width] = shape.size;
            let positions = sizes.positions[0] * sizes.positions[1];
            let kernel = shape.window.kernel[0] * shape.window.kernel[1];
            let strides = shape.window.stride;
            let mut selected = Scratch::new(weight.len());
            let phases = [0, 1].map(|axis| strides[axis].min(shape.size[axis]));
            for (down, along) in (0..phases[0]).flat_map(|i| (0..phases[1]).map(move |j| (i, j))) {
                let lines = [
                    Line::new(&shape, 0, down, sizes.positions[0]),
                    Line::new(&shape, 1, along, sizes.positions[1]),
                ];
                let taps = lines[0].axis.taps * lines[1].axis.taps;
                let k = outputs * taps;
                // For each group a matrix of input channels by (output channel, tap).
                let is_transposed = kernel == 1 && taps == 1;
                if !is_transposed {
                    select(weight, &shape, &lines, &mut selected[..]);
                }
                let axes = lines.map(|line| line.axis);
                let n = axes[0].positions * axes[1].positions;
                let is_whole = phases == [1; 2];
                let operands = |i: usize| {
                    let group = i % groups;
                    let channels = group * inputs..(group + 1) * inputs;
                    let a = if is_transposed {
                        row_major(&weight[group * outputs * inputs..][..outputs * inputs], outputs, inputs)
                            .t()
                    } else {
                        row_major(&selected[group * inputs * k..][..inputs * k], inputs, k)
                    };
                    let bias = bias.map_or(Bias::None, |bias| Bias::PerRow(&bias[channels]));
                    let mask = relu_mask.filter(|_| is_whole);
                    let relu_mask = mask.map(|x| row_major(&x[i * inputs * n..][..inputs * n], inputs, n));
                    (a, Epilogue { bias, relu_mask, ..Epilogue::default() })
                };
                let images = Images { x: dy, channels: outputs, pixels: positions, axes };
                let count = shape.batch * groups;
                if is_whole {
                    images.multiply(settings, count, [inputs, k], &operands, dx);
                    return Ok(());
                }
                let mut part = Scratch::new(count * inputs * n);
                images.multiply(settings, count, [inputs, k], &operands, &mut part);
                let planes = (
                    Indices(count * inputs),
                    Rows(&part, n.max(1)),
                    Rows(relu_mask.unwrap_or_default(), height * width),
                    RowsMut::new(&mut *dx, height * width),
                );
                parallel::for_each(settings, planes, part.len(), |(_, from, mask, dx)| {
                    let rows = (down..height).step_by(strides[0]).zip(from.chunks_exact(axes[1].positions));
                    for (row, from) in rows {
                        let places = (along..width).step_by(strides[1]).map(|col| row * width + col);
                        for (place, &x) in places.zip(from) {
                            let is_masked = mask.get(place).is_some_and(|&y| y <= T::ZERO);
                            dx[place] = if is_masked { T::ZERO } else { x };
                        }
                    }
                });
            }
            Ok(())
        })
    }
}

/// The pixels of an axis with the same remainder by the stride, as positions of a window over dy: the taps
/// that reach them, every `every`th one from `first` on.
struct Line {
    axis: Axis,
    first: usize,
    every: usize,
}

impl Line {
    fn new(shape: &Shape, axis: usize, phase: usize, positions: usize) -> Self {
        let Shape { size, window, .. } = shape;
        let (stride, dilation) = (window.stride[axis], window.dilation[axis]);
        let (kernel, padded) = (window.kernel[axis], phase + window.padding[axis][0]);
        let every = stride / gcd(stride, dilation);
        let reaches = |tap: usize| tap.wrapping_mul(dilation) % stride == padded % stride;
        let first = (0..every.min(kernel)).find(|&tap| reaches(tap)).unwrap_or(kernel);
        let taps = (kernel - first).div_ceil(every);
        let start = padded as isize - (first * dilation) as isize;
        let axis = Axis {
            size: positions,
            positions: (size[axis] - phase).div_ceil(stride),
            stride: 1,
            taps,
            first: if taps == 0 { 0 } else { start / stride as isize },
            step: -((dilation / gcd(stride, dilation)) as isize),
        };
        Self { axis, first, every }
    }

    fn taps(&self) -> impl Iterator<Item = usize> + Clone {
        let (first, every) = (self.first, self.every);
        (0..self.axis.taps).map(move |i| first + i * every)
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The taps of these lines: for each group and each of its input channels a row, with the output channels and
/// their taps in order.
fn select<T: Element>(weight: &[T], shape: &Shape, lines: &[Line; 2], to: &mut [T]) {
    let ([inputs, outputs], [height, width]) = (shape.per_group(), shape.window.kernel);
    let mut to = to.iter_mut();
    for channel in 0..shape.groups * inputs {
        let (group, channel) = (channel / inputs, channel % inputs);
        for output in group * outputs..(group + 1) * outputs {
            let plane = &weight[(output * inputs + channel) * height * width..];
            for row in lines[0].taps() {
                for (tap, to) in lines[1].taps().zip(&mut to) {
                    *to = plane[row * width + tap];
                }
            }
        }
    }
}
