//! Pooling of images and of sequences.

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::error::{Error, Result};
use crate::kernels::pool::{self, AverageBackward, AverageForward, MaxBackward, MaxForward, Windows};
use crate::kernels::window::Window;
use crate::simd::Element;
use crate::tensor::{Numbers, Shape, Tensor};

/// Options of a pooling over `D` axes; the defaults are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions<const D: usize> {
    /// Elements from one window to the next; the size of the kernel if `None`, the default.
    pub stride: Option<[usize; D]>,
    /// Padding on both sides of each axis, at most half of the kernel; none by default.
    pub padding: [usize; D],
    /// Elements from one tap of the window to the next; 1 by default. PyTorch has it for maxima only.
    pub dilation: [usize; D],
    /// Whether a last window that only partly fits counts, unless it would begin in the padding; false by
    /// default.
    pub ceil_mode: bool,
}

impl<const D: usize> Default for PoolOptions<D> {
    fn default() -> Self {
        Self { stride: None, padding: [0; D], dilation: [1; D], ceil_mode: false }
    }
}

/// The number of elements that averages are divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Divisor {
    /// That of the window, with the padding: PyTorch's default.
    #[default]
    Window,
    /// That of the window inside the input: `count_include_pad=False`.
    Inside,
    /// This one: `divisor_override`.
    Fixed(f64),
}

impl Divisor {
    fn parts(self) -> (bool, Option<f64>) {
        match self {
            Self::Window => (true, None),
            Self::Inside => (false, None),
            Self::Fixed(divisor) => (true, Some(divisor)),
        }
    }
}

/// Height and width; sequences have a height of 1.
fn pair<const D: usize>(sizes: [usize; D], missing: usize) -> [usize; 2] {
    if D == 1 { [missing, sizes[0]] } else { [sizes[0], sizes[1]] }
}

impl<const D: usize> PoolOptions<D> {
    fn windows(&self, kernel: [usize; D]) -> Windows {
        let padding = pair(self.padding, 0).map(|padding| [padding; 2]);
        let (stride, dilation) = (pair(self.stride.unwrap_or(kernel), 1), pair(self.dilation, 1));
        let window = Window { kernel: pair(kernel, 1), stride, padding, dilation };
        Windows::Sliding { window, ceil: self.ceil_mode }
    }
}

/// The sizes of a pooling of the last `D` axes of x, and the shape of its result.
fn shapes<const D: usize>(op: &'static str, x: &[usize], windows: Windows) -> Result<(pool::Shape, Shape)> {
    let Some((leading, size)) =
        x.split_last_chunk::<D>().filter(|(leading, _)| [1, 2].contains(&leading.len()))
    else {
        let axes = if D == 1 { "length" } else { "height, width" };
        let message = format!("x must be [batch, channels, {axes}] or [channels, {axes}], got {x:?}");
        return Err(Error::shape(op, message));
    };
    let shape = pool::Shape { planes: leading.iter().product(), size: pair(*size, 1), windows };
    let output = shape.output_of(op)?;
    Ok((shape, Shape::join(&[leading, &output[2 - D..]])?))
}

pub(crate) struct MaxPool<T: Element> {
    x: Numbers<T>,
    dims: Shape,
    shape: pool::Shape,
    parent: Parent,
}

impl<T: Element> Backward<T> for MaxPool<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let (x, dy, shape) = (self.x.data(), dy.compact(), self.shape);
        gradients.add(self.parent, || {
            Tensor::build(self.dims, |dx| MaxBackward { shape, x, dy: dy.data(), dx }.run())
        })
    }
}

pub(crate) struct AveragePool {
    dims: Shape,
    shape: pool::Shape,
    divisor: Divisor,
    parent: Parent,
}

impl<T: Element> Backward<T> for AveragePool {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let (dy, shape, (count_include_pad, divisor)) = (dy.compact(), self.shape, self.divisor.parts());
        gradients.add(self.parent, || {
            Tensor::build(self.dims, |dx| {
                AverageBackward { shape, count_include_pad, divisor, dy: dy.data(), dx }.run()
            })
        })
    }
}

impl<T: Element> Tensor<T> {
    #[track_caller]
    pub(crate) fn max_pooled<const D: usize>(&self, op: &'static str, windows: Windows) -> Result<Self> {
        let (shape, dims) = shapes::<D>(op, self.shape(), windows)?;
        let x = self.compact();
        let y = Tensor::build(dims, |y| MaxForward { shape, x: x.data(), y }.run())?;
        record(op, y, [self], |[parent], _| {
            Op::MaxPool(MaxPool { x: x.numbers(), dims: self.dims(), shape, parent })
        })
    }

    #[track_caller]
    pub(crate) fn averaged<const D: usize>(
        &self,
        op: &'static str,
        windows: Windows,
        divisor: Divisor,
    ) -> Result<Self> {
        let (shape, dims) = shapes::<D>(op, self.shape(), windows)?;
        let (x, (count_include_pad, by)) = (self.compact(), divisor.parts());
        let y = Tensor::build(dims, |y| {
            AverageForward { shape, count_include_pad, divisor: by, x: x.data(), y }.run()
        })?;
        record(op, y, [self], |[parent], _| {
            Op::AveragePool(AveragePool { dims: self.dims(), shape, divisor, parent })
        })
    }
}

impl<T: Element> Tensor<T> {
    /// The largest element of each window of x of `[batch, channels, height, width]`, or without the batch. A
    /// NaN makes its windows NaN; of equal elements, the first one gets the gradient.
    ///
    /// # Errors
    /// [`Error::Shape`] if the window does not fit the padded x or the padding is more than half of it.
    ///
    /// ```
    /// use gristmill::{Tensor, autograd::PoolOptions};
    /// let x = Tensor::<f32>::arange(16)?.reshape([1, 1, 4, 4])?;
    /// assert_eq!(x.max_pool2d([2, 2], PoolOptions::default())?.to_vec(), [5.0, 7.0, 13.0, 15.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    #[track_caller]
    pub fn max_pool2d(&self, kernel: [usize; 2], options: PoolOptions<2>) -> Result<Self> {
        self.max_pooled::<2>("max_pool2d", options.windows(kernel))
    }

    /// [`max_pool2d`](Tensor::max_pool2d) for x of `[batch, channels, length]` or `[channels, length]`.
    ///
    /// # Errors
    /// As for `max_pool2d`.
    #[track_caller]
    pub fn max_pool1d(&self, kernel: [usize; 1], options: PoolOptions<1>) -> Result<Self> {
        self.max_pooled::<1>("max_pool1d", options.windows(kernel))
    }

    /// The average of each window of x of `[batch, channels, height, width]`, or without the batch.
    ///
    /// # Errors
    /// [`Error::Shape`] if the window does not fit the padded x or the padding is more than half of it;
    /// [`Error::Value`] if the divisor is 0 or not finite.
    #[track_caller]
    pub fn avg_pool2d(&self, kernel: [usize; 2], options: PoolOptions<2>, divisor: Divisor) -> Result<Self> {
        self.averaged::<2>("avg_pool2d", options.windows(kernel), divisor)
    }

    /// [`avg_pool2d`](Tensor::avg_pool2d) for x of `[batch, channels, length]` or `[channels, length]`.
    ///
    /// # Errors
    /// As for `avg_pool2d`.
    #[track_caller]
    pub fn avg_pool1d(&self, kernel: [usize; 1], options: PoolOptions<1>, divisor: Divisor) -> Result<Self> {
        self.averaged::<1>("avg_pool1d", options.windows(kernel), divisor)
    }

    /// The largest elements of windows that give an output of this height and width: the `i`th of m along n
    /// elements covers `⌊i·n/m⌋ .. ⌈(i + 1)·n/m⌉`.
    ///
    /// # Errors
    /// [`Error::Shape`] if x is empty or does not have the axes.
    #[track_caller]
    pub fn adaptive_max_pool2d(&self, output: [usize; 2]) -> Result<Self> {
        self.max_pooled::<2>("adaptive_max_pool2d", Windows::Adaptive(output))
    }

    /// [`adaptive_max_pool2d`](Tensor::adaptive_max_pool2d) for sequences.
    ///
    /// # Errors
    /// As for `adaptive_max_pool2d`.
    #[track_caller]
    pub fn adaptive_max_pool1d(&self, output: usize) -> Result<Self> {
        self.max_pooled::<1>("adaptive_max_pool1d", Windows::Adaptive([1, output]))
    }

    /// The averages of windows that give an output of this height and width; those of
    /// [`adaptive_max_pool2d`](Tensor::adaptive_max_pool2d). `[1, 1]` averages each channel.
    ///
    /// # Errors
    /// As for `adaptive_max_pool2d`.
    #[track_caller]
    pub fn adaptive_avg_pool2d(&self, output: [usize; 2]) -> Result<Self> {
        self.averaged::<2>("adaptive_avg_pool2d", Windows::Adaptive(output), Divisor::Window)
    }

    /// [`adaptive_avg_pool2d`](Tensor::adaptive_avg_pool2d) for sequences.
    ///
    /// # Errors
    /// As for `adaptive_max_pool2d`.
    #[track_caller]
    pub fn adaptive_avg_pool1d(&self, output: usize) -> Result<Self> {
        self.averaged::<1>("adaptive_avg_pool1d", Windows::Adaptive([1, output]), Divisor::Window)
    }
}
