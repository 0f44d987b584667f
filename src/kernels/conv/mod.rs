//! Convolutions over images `[batch, channels, height, width]` (cross-correlations, as PyTorch's), with
//! stride, dilation, groups and padding for each side; 1-D is a height of 1.
//!
//! `y[n, o, i, j] = bias[o] + Σ weight[o, c, a, b] · x[n, c, i·stride + a·dilation − padding, …]`, where o
//! reads the channels of its group, and x is 0 in the padding.
//!
//! Each is a product with the matrix of patches, one row for each tap in each channel and one column for each
//! position of the window; the matrix is never written, only the panels that are in use. Padding counts as
//! numbers that are 0: an infinite weight gives NaN there.
//!
//! **Rounding.** The bits are those of [`gemm`] with the explicit matrix: sums run in the order
//! of the weight's memory (c, a, b), in backward passes over (o, a, b) and over (n, i, j), in chains of fused
//! multiply-adds that are cut every [`KC`](super::gemm::KC) terms. They do not depend on other images of the
//! batch, on threads or on the instruction set, and the error bound is that of a product of that depth.

mod input;
mod weight;

use super::gemm::patches::{Axis, Direct, Patches};
use super::gemm::{self, Bias, Epilogue, MatMut, MatRef, Right, multiply};
use super::map::Unary;
use super::window::Window;
use super::{compiled_once, lengths};
use crate::context::{self, Settings};
use crate::error::{Error, Result};
use crate::parallel::{self, Indices, RowsMut};
use crate::profile;
use crate::simd::Element;

pub use input::BackwardInput;
pub use weight::BackwardWeight;

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The number of images.
    pub batch: usize,
    /// Channels of the input and of the output.
    pub channels: [usize; 2],
    /// Groups of channels that are convolved independently; must divide both.
    pub groups: usize,
    /// Height and width of the input.
    pub size: [usize; 2],
    /// The kernel, its stride, padding and dilation.
    pub window: Window,
}

impl Default for Shape {
    /// Nothing in one group, with a kernel of one pixel.
    fn default() -> Self {
        Self { batch: 0, channels: [0; 2], groups: 1, size: [0; 2], window: Window::default() }
    }
}

impl Shape {
    /// Height and width of the output.
    ///
    /// # Errors
    /// [`Error::Shape`] when the groups do not divide the channels, or where [`Window::positions`] fails.
    pub fn output(&self) -> Result<[usize; 2]> {
        self.output_of("conv")
    }

    /// [`output`](Shape::output) for an operation of this name.
    pub(crate) fn output_of(&self, op: &'static str) -> Result<[usize; 2]> {
        Ok(self.sizes(op)?.positions)
    }

    fn sizes(&self, op: &'static str) -> Result<Sizes> {
        let Self { batch, channels: [inputs, outputs], groups, size, window } = *self;
        if groups == 0 || !inputs.is_multiple_of(groups) || !outputs.is_multiple_of(groups) {
            let message =
                format!("{groups} groups do not divide {inputs} input and {outputs} output channels");
            return Err(Error::shape(op, message));
        }
        let positions = window.positions_of(op, size)?;
        let product = |factors: &[usize]| {
            let product = factors.iter().try_fold(1_usize, |product, &n| product.checked_mul(n));
            // Elements are counted in bytes and in `isize` later on.
            product.filter(|&n| n <= isize::MAX as usize / 16)
        };
        let [height, width] = size;
        let [kernel_height, kernel_width] = window.kernel;
        let sizes = [
            product(&[batch, inputs, height, width]),
            product(&[outputs, inputs / groups, kernel_height, kernel_width]),
            product(&[batch, outputs, positions[0], positions[1]]),
            product(&[inputs.max(outputs), kernel_height, kernel_width]),
        ];
        let [Some(x), Some(weight), Some(y), Some(_)] = sizes else {
            return Err(Error::shape(op, format!("sizes overflow: {self:?}")));
        };
        Ok(Sizes { positions, x, weight, y })
    }

    /// Channels of one group.
    fn per_group(&self) -> [usize; 2] {
        self.channels.map(|channels| channels / self.groups)
    }

    /// The axes of the patches of the input.
    fn axes(&self, positions: [usize; 2]) -> [Axis; 2] {
        let window = &self.window;
        [0, 1].map(|axis| Axis {
            size: self.size[axis],
            positions: positions[axis],
            stride: window.stride[axis],
            taps: window.kernel[axis],
            first: -(window.padding[axis][0] as isize),
            step: window.dilation[axis] as isize,
        })
    }

    /// Tells a profile how much is computed.
    fn tell<T>(&self, sizes: &Sizes) {
        if profile::is_on() {
            let [inputs, outputs] = self.per_group();
            let k = inputs * self.window.kernel[0] * self.window.kernel[1];
            let columns = sizes.positions[0].saturating_mul(sizes.positions[1]);
            let flops = sizes.y.saturating_mul(k).saturating_mul(2);
            let bytes = sizes.x.saturating_add(sizes.weight).saturating_add(sizes.y) * size_of::<T>();
            profile::add_work(Some([outputs, k, columns]), flops, bytes);
        }
    }
}

/// What follows from a [`Shape`]: positions of the window, and lengths of the operands.
struct Sizes {
    positions: [usize; 2],
    x: usize,
    weight: usize,
    y: usize,
}

/// The convolution, what is added to it, and a function of the sum.
///
/// ```
/// use gristmill::kernels::conv::{Forward, Shape};
/// use gristmill::kernels::window::Window;
/// let window = Window { kernel: [1, 2], ..Window::default() };
/// let shape = Shape { batch: 1, channels: [1, 1], size: [1, 3], window, ..Shape::default() };
/// let mut y = [0.0; 2];
/// Forward { shape, x: &[1.0, 2.0, 3.0], weight: &[1.0, 10.0], y: &mut y, ..Forward::default() }.run()?;
/// assert_eq!(y, [21.0, 32.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug)]
pub struct Forward<'a, T> {
    /// The sizes.
    pub shape: Shape,
    /// Images, `[batch, input channels, height, width]`.
    pub x: &'a [T],
    /// `[output channels, input channels / groups, kernel height, kernel width]`.
    pub weight: &'a [T],
    /// One number for each output channel; `None`, the default, for 0.
    pub bias: Option<&'a [T]>,
    /// Added after the bias: of the shape of `y`; `None`, the default, for 0.
    pub residual: Option<&'a [T]>,
    /// A function of the result; none by default.
    pub activation: Option<Unary<T>>,
    /// Output, `[batch, output channels, output height, output width]`.
    pub y: &'a mut [T],
}

impl<T> Default for Forward<'_, T> {
    fn default() -> Self {
        let shape = Shape::default();
        Self { shape, x: &[], weight: &[], bias: None, residual: None, activation: None, y: &mut [] }
    }
}

impl<T: Element> Forward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`] when the groups do not divide the channels, the window does not fit the padded image
    /// or has a size of 0, a size overflows, or a slice has another length than its shape.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("conv::forward", |call: Forward<'_, T>| -> Result<()> {
            const OP: &str = "conv";
            let Forward { shape, x, weight, bias, residual, activation, y } = call;
            let sizes = shape.sizes(OP)?;
            lengths!(OP, x == sizes.x, weight == sizes.weight, bias == shape.channels[1]);
            lengths!(OP, residual == sizes.y, y == sizes.y);
            shape.tell::<T>(&sizes);
            let settings = context::settings()?;
            let ([inputs, outputs], groups) = (shape.per_group(), shape.groups);
            let (axes, pixels) = (shape.axes(sizes.positions), shape.size[0] * shape.size[1]);
            let positions = sizes.positions[0] * sizes.positions[1];
            let k = inputs * shape.window.kernel[0] * shape.window.kernel[1];
            let operands = |i: usize| {
                let group = i % groups;
                let rows = group * outputs..(group + 1) * outputs;
                let len = outputs * positions;
                let bias = bias.map_or(Bias::None, |bias| Bias::PerRow(&bias[rows.clone()]));
                let residual = residual.map(|x| row_major(&x[i * len..][..len], outputs, positions));
                let weight = row_major(&weight[rows.start * k..rows.end * k], outputs, k);
                (weight, Epilogue { bias, residual, activation, relu_mask: None })
            };
            let (images, count) = (Images { x, channels: inputs, pixels, axes }, shape.batch * groups);
            images.multiply(settings, count, [outputs, k], &operands, y);
            Ok(())
        })
    }
}

/// A row-major matrix in a slice that has its length.
fn row_major<T: Element>(x: &[T], rows: usize, cols: usize) -> MatRef<'_, T> {
    MatRef::row_major(x, rows, cols).expect("a slice of this length")
}

/// The inputs of many products: the channels of each group of each image.
struct Images<'a, T> {
    x: &'a [T],
    /// Of one group, with so many pixels each.
    channels: usize,
    pixels: usize,
    axes: [Axis; 2],
}

/// Rows of a product up to which patches are read where they are staged.
const FEW_ROWS: usize = 12;
/// Multiply-adds of the products that a thread takes at a time, at least.
const TASK: usize = 1 << 18;

impl<T: Element> Images<'_, T> {
    /// `C ← epilogue(A · patches)` for `count` products with C of `m` rows and k terms, one after the other in
    /// `c`: side by side, or one after the other with all threads, where there are few.
    fn multiply<'a>(
        &'a self,
        settings: Settings,
        count: usize,
        [m, k]: [usize; 2],
        operands: &(dyn Fn(usize) -> (MatRef<'a, T>, Epilogue<'a, T>) + Sync),
        c: &mut [T],
    ) {
        let Self { x, channels, pixels, axes } = *self;
        let n = axes[0].positions * axes[1].positions;
        if count == 0 || m == 0 || n == 0 {
            return;
        }
        // The patches of windows of one pixel without stride and padding are the image.
        let is_plain = axes
            .iter()
            .all(|axis| axis.taps == 1 && axis.stride == 1 && axis.first == 0 && axis.positions == axis.size);
        let is_direct = !is_plain && k > 0 && m <= FEW_ROWS;
        let multiply_adds = m.saturating_mul(k).saturating_mul(n);
        let work = gemm::nanoseconds::<T>(multiply_adds).max(m * n / 4);
        let one = |settings: Settings, i: usize, c: &mut [T]| {
            let (a, epilogue) = operands(i);
            let image = &x[i * channels * pixels..][..channels * pixels];
            let c = MatMut::row_major(c, m, n).expect("a slice of this length");
            let (matrix, patches);
            let b = if is_plain || k == 0 {
                matrix = row_major(image, k, n);
                Right::Matrix(&matrix)
            } else {
                patches = Patches { image, axes };
                Right::Patches(&patches)
            };
            multiply(settings, T::ONE, &a, b, T::ZERO, &epilogue, &c);
        };
        let few = count < 2 * settings.threads && parallel::jobs(settings, usize::MAX, work) > 1;
        if few && !is_direct {
            return c.chunks_exact_mut(m * n).enumerate().for_each(|(i, c)| one(settings, i, c));
        }
        let alone = Settings { threads: 1, ..settings };
        let each = (TASK / multiply_adds.max(1)).clamp(1, count.div_ceil(2 * settings.threads));
        let parts = (Indices(count.div_ceil(each)), RowsMut::new(c, each * m * n));
        parallel::for_each(settings, parts, work.saturating_mul(count), |(task, c)| {
            let range = task * each..((task + 1) * each).min(count);
            if is_direct {
                let patches = Patches { image: x, axes };
                return settings.simd.run(Direct { patches, channels, operands, range, c });
            }
            c.chunks_exact_mut(m * n).zip(range).for_each(|(c, i)| one(alone, i, c));
        });
    }
}
