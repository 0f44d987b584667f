//! Pooling of images `[planes, height, width]`, where a plane is a channel of an image: the largest element or
//! the average of each window. 1-D is a height of 1.
//!
//! **Special values.** A NaN in a window makes its result NaN. Padding never wins and is 0 in averages. Of
//! zeros of both signs the sign of the largest is unspecified.
//!
//! **Rounding.** Maxima are exact. A window is summed column by column from the top, then from left to right,
//! and divided: `(h + w + 1)·u` relative to the sum of magnitudes for windows of h × w, `u` being the unit
//! roundoff.

mod average;
mod max;

pub use average::{AverageBackward, AverageForward};
pub use max::{MaxBackward, MaxForward};

use super::window::Window;
use crate::buffer::Scratch;
use crate::error::{Error, Result};

/// Elements of planes per parallel chunk, at least: 64 KiB of f32.
const CHUNK: usize = 16 * 1024;

/// Where windows lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// A window that slides over the image. Its padding is at most half of the kernel.
    Sliding {
        /// Kernel, stride, padding and dilation.
        window: Window,
        /// Whether a last window that only partly fits counts, unless it would begin in the padding after the
        /// image.
        ceil: bool,
    },
    /// As many windows as give this height and width: the `i`th of m along n pixels covers
    /// `⌊i·n/m⌋ .. ⌈(i + 1)·n/m⌉`.
    Adaptive([usize; 2]),
}

/// The sizes of a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Images times channels.
    pub planes: usize,
    /// Height and width of the input.
    pub size: [usize; 2],
    /// Where windows lie.
    pub windows: Windows,
}

impl Default for Shape {
    /// No planes, of which every pixel is a window.
    fn default() -> Self {
        let windows = Windows::Sliding { window: Window::default(), ceil: false };
        Self { planes: 0, size: [1; 2], windows }
    }
}

impl Shape {
    /// Height and width of the output.
    ///
    /// # Errors
    /// [`Error::Shape`] when the window does not fit the padded image, the padding is more than half of the
    /// kernel, the image is empty, or a size overflows.
    pub fn output(&self) -> Result<[usize; 2]> {
        self.output_of("pool")
    }

    /// [`output`](Shape::output) for an operation of this name.
    pub(crate) fn output_of(&self, op: &'static str) -> Result<[usize; 2]> {
        Ok(self.sizes(op)?.output)
    }

    fn sizes(&self, op: &'static str) -> Result<Sizes> {
        let Self { planes, size, windows } = *self;
        let output = match windows {
            Windows::Adaptive(output) => {
                if size.contains(&0) {
                    return Err(Error::shape(op, format!("an image of {size:?} is empty")));
                }
                output
            }
            Windows::Sliding { window, ceil } => {
                let mut output = window.positions_of(op, size)?;
                for axis in 0..2 {
                    let ([before, after], kernel) = (window.padding[axis], window.kernel[axis]);
                    if before.max(after) > kernel / 2 {
                        let message = format!("the padding is more than half of the kernel: {window}");
                        return Err(Error::shape(op, message));
                    }
                    let (n, stride) = (size[axis], window.stride[axis]);
                    let span = (kernel - 1) * window.dilation[axis] + 1;
                    let rest = n + before + after - span - (output[axis] - 1) * stride;
                    if ceil && rest > 0 && output[axis] * stride < n + before {
                        output[axis] += 1;
                    }
                }
                output
            }
        };
        let product = |size: [usize; 2]| {
            let product = size.iter().try_fold(planes, |product, &n| product.checked_mul(n));
            product.filter(|&n| n <= isize::MAX as usize / 16)
        };
        match (product(size), product(output)) {
            (Some(x), Some(y)) => Ok(Sizes { output, x, y }),
            _ => Err(Error::shape(op, format!("sizes overflow: {self:?}"))),
        }
    }

    /// The windows along an axis.
    fn spans(&self, axis: usize, output: usize) -> Spans {
        let n = self.size[axis];
        let mut spans = Spans { bounds: Scratch::new(3 * output), step: 1 };
        for (i, bounds) in spans.bounds.chunks_exact_mut(3).enumerate() {
            let (start, end, padded) = match self.windows {
                Windows::Adaptive(_) => {
                    // Products of u128, since sizes need not be small.
                    let place = |i: usize| i as u128 * n as u128;
                    let start = (place(i) / output as u128) as usize;
                    let end = place(i + 1).div_ceil(output as u128) as usize;
                    (start, end, end - start)
                }
                Windows::Sliding { window, .. } => {
                    let (dilation, [before, after]) = (window.dilation[axis], window.padding[axis]);
                    let first = i * window.stride[axis];
                    let last = first + (window.kernel[axis] - 1) * dilation;
                    // Of dilated windows, the first tap inside the image.
                    let start = if first >= before {
                        first - before
                    } else {
                        (before - first).next_multiple_of(dilation) - (before - first)
                    };
                    let end = (last + 1).saturating_sub(before).min(n);
                    (start.min(end), end, (last + 1).min(n + before + after) - first)
                }
            };
            bounds.copy_from_slice(&[start, end, padded]);
        }
        if let Windows::Sliding { window, .. } = self.windows {
            spans.step = window.dilation[axis];
        }
        spans
    }
}

/// What follows from a [`Shape`].
struct Sizes {
    output: [usize; 2],
    x: usize,
    y: usize,
}

/// The windows along one axis: of each, the first pixel inside the image, the end, and the number of pixels
/// with those in the padding.
struct Spans {
    bounds: Scratch<usize>,
    /// Pixels from tap to tap.
    step: usize,
}

impl Spans {
    fn iter(&self) -> impl Iterator<Item = (usize, usize, usize)> + Clone {
        self.bounds.chunks_exact(3).map(|bounds| (bounds[0], bounds[1], bounds[2]))
    }
}
