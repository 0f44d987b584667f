//! The average of each window.

use super::{CHUNK, Shape, Spans};
use crate::buffer::Scratch;
use crate::context;
use crate::error::{Error, Result};
use crate::kernels::{compiled_once, lengths};
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::{Element, Kernel, Simd};

/// Of an element of a window, from L2: `cargo bench --bench criterion -- pool`.
const NANOSECONDS_PER_ELEMENT: f64 = 0.5;

/// The average of each window.
///
/// ```
/// use gristmill::kernels::pool::{AverageForward, Shape, Windows};
/// use gristmill::kernels::window::Window;
/// let window = Window { kernel: [1, 3], stride: [1, 2], padding: [[0, 0], [1, 1]], ..Window::default() };
/// let shape = Shape { planes: 1, size: [1, 4], windows: Windows::Sliding { window, ceil: true } };
/// let x = &[1.0, 2.0, 3.0, 4.0];
/// let mut y = [0.0; 3];
/// AverageForward { shape, count_include_pad: true, divisor: None, x, y: &mut y }.run()?;
/// assert_eq!(y, [1.0, 3.0, 2.0]);
/// AverageForward { shape, count_include_pad: false, divisor: None, x, y: &mut y }.run()?;
/// assert_eq!(y, [1.5, 3.0, 4.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug)]
pub struct AverageForward<'a, T> {
    /// The sizes.
    pub shape: Shape,
    /// Whether padding counts as zeros of the window, as it does by default; what [`ceil`] adds beyond it
    /// never does.
    ///
    /// [`ceil`]: super::Windows::Sliding::ceil
    pub count_include_pad: bool,
    /// What the sum of each window is divided by; `None`, the default, for the number of its elements.
    pub divisor: Option<f64>,
    /// `[planes, height, width]`.
    pub x: &'a [T],
    /// Output, `[planes, output height, output width]`.
    pub y: &'a mut [T],
}

impl<T> Default for AverageForward<'_, T> {
    fn default() -> Self {
        Self { shape: Shape::default(), count_include_pad: true, divisor: None, x: &[], y: &mut [] }
    }
}

impl<T: Element> AverageForward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`] where [`Shape::output`] fails, or when a slice has another length than its shape;
    /// [`Error::Value`] when the divisor is 0 or not finite.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("pool::average_forward", |call: AverageForward<'_, T>| -> Result<()> {
            const OP: &str = "avg_pool";
            let AverageForward { shape, count_include_pad, divisor, x, y } = call;
            let sizes = shape.sizes(OP)?;
            lengths!(OP, x == sizes.x, y == sizes.y);
            let means = Means::new(OP, &shape, sizes.output, count_include_pad, divisor)?;
            let settings = context::settings()?;
            let (pixels, positions) = (shape.size[0] * shape.size[1], sizes.output[0] * sizes.output[1]);
            if positions == 0 {
                return Ok(());
            }
            let planes = (CHUNK / pixels).max(1);
            let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
            let parts = (Rows(x, planes * pixels), RowsMut::new(y, planes * positions));
            parallel::for_each(settings, parts, work, |(x, y)| {
                settings.simd.run(ForwardChunk { x, means: &means, y });
            });
            Ok(())
        })
    }
}

/// Windows and what their sums are divided by.
struct Means {
    size: [usize; 2],
    spans: [Spans; 2],
    count_include_pad: bool,
    divisor: Option<f64>,
}

impl Means {
    fn new(
        op: &'static str,
        shape: &Shape,
        output: [usize; 2],
        count_include_pad: bool,
        divisor: Option<f64>,
    ) -> Result<Self> {
        if let Some(divisor) = divisor.filter(|divisor| !divisor.is_finite() || *divisor == 0.0) {
            return Err(Error::value(op, format!("the divisor is {divisor}")));
        }
        let spans = [0, 1].map(|axis| shape.spans(axis, output[axis]));
        Ok(Self { size: shape.size, spans, count_include_pad, divisor })
    }

    /// What the sum of the window of these rows and columns is divided by.
    #[inline(always)]
    fn divisor<T: Element>(&self, rows: (usize, usize, usize), cols: (usize, usize, usize)) -> T {
        T::from_f64(self.divisor.unwrap_or_else(|| {
            let count = |axis: usize, (start, end, padded): (usize, usize, usize)| {
                if self.count_include_pad {
                    padded.div_ceil(self.spans[axis].step)
                } else {
                    (end - start).div_ceil(self.spans[axis].step)
                }
            };
            (count(0, rows) * count(1, cols)) as f64
        }))
    }
}

struct ForwardChunk<'a, T> {
    x: &'a [T],
    means: &'a Means,
    y: &'a mut [T],
}

impl<T: Element> Kernel for ForwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, means, y } = self;
        let ([height, width], [down, along]) = (means.size, &means.spans);
        let (rows, cols) = (down.bounds.len() / 3, along.bounds.len() / 3);
        let mut columns = Scratch::new(width);
        for (x, y) in x.chunks_exact(height * width).zip(y.chunks_exact_mut(rows * cols)) {
            for (of_rows, y) in down.iter().zip(y.chunks_exact_mut(cols)) {
                columns.fill(T::ZERO);
                for row in (of_rows.0..of_rows.1).step_by(down.step) {
                    let line = &x[row * width..][..width];
                    for (to, from) in columns.chunks_mut(T::LANES).zip(line.chunks(T::LANES)) {
                        let sum = s.load_partial(to) + s.load_partial(from);
                        s.store_partial(sum, to);
                    }
                }
                for (of_cols, y) in along.iter().zip(y) {
                    let mut sum = T::ZERO;
                    for &x in columns[of_cols.0..of_cols.1].iter().step_by(along.step) {
                        sum += x;
                    }
                    *y = sum / means.divisor::<T>(of_rows, of_cols);
                }
            }
        }
    }
}

/// The gradient of [`AverageForward`]: each element of a window gets that of its result, divided alike; where
/// windows overlap, gradients add up from left to right, then from the top.
///
/// ```
/// use gristmill::kernels::pool::{AverageBackward, Shape, Windows};
/// let shape = Shape { planes: 1, size: [1, 3], windows: Windows::Adaptive([1, 2]) };
/// let mut dx = [0.5; 3];
/// AverageBackward { shape, dy: &[2.0, 4.0], dx: &mut dx, ..AverageBackward::default() }.run()?;
/// assert_eq!(dx, [1.0, 3.0, 2.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug)]
pub struct AverageBackward<'a, T> {
    /// The sizes.
    pub shape: Shape,
    /// As in the forward pass.
    pub count_include_pad: bool,
    /// As in the forward pass.
    pub divisor: Option<f64>,
    /// The gradient of the output, `[planes, output height, output width]`.
    pub dy: &'a [T],
    /// Output, `[planes, height, width]`.
    pub dx: &'a mut [T],
}

impl<T> Default for AverageBackward<'_, T> {
    fn default() -> Self {
        Self { shape: Shape::default(), count_include_pad: true, divisor: None, dy: &[], dx: &mut [] }
    }
}

impl<T: Element> AverageBackward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// As for [`AverageForward`].
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("pool::average_backward", |call: AverageBackward<'_, T>| -> Result<()> {
            const OP: &str = "avg_pool_backward";
            let AverageBackward { shape, count_include_pad, divisor, dy, dx } = call;
            let sizes = shape.sizes(OP)?;
            lengths!(OP, dy == sizes.y, dx == sizes.x);
            let means = Means::new(OP, &shape, sizes.output, count_include_pad, divisor)?;
            let settings = context::settings()?;
            let (pixels, positions) = (shape.size[0] * shape.size[1], sizes.output[0] * sizes.output[1]);
            if positions == 0 {
                dx.fill(T::ZERO);
                return Ok(());
            }
            let planes = (CHUNK / pixels).max(1);
            let work = (dx.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
            let parts = (Rows(dy, planes * positions), RowsMut::new(dx, planes * pixels));
            parallel::for_each(settings, parts, work, |(dy, dx)| {
                settings.simd.run(BackwardChunk { means: &means, dy, dx });
            });
            Ok(())
        })
    }
}

struct BackwardChunk<'a, T> {
    means: &'a Means,
    dy: &'a [T],
    dx: &'a mut [T],
}

impl<T: Element> Kernel for BackwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { means, dy, dx } = self;
        let ([height, width], [down, along]) = (means.size, &means.spans);
        let (rows, cols) = (down.bounds.len() / 3, along.bounds.len() / 3);
        let mut columns = Scratch::new(width);
        dx.fill(T::ZERO);
        for (dx, dy) in dx.chunks_exact_mut(height * width).zip(dy.chunks_exact(rows * cols)) {
            for (of_rows, dy) in down.iter().zip(dy.chunks_exact(cols)) {
                columns.fill(T::ZERO);
                for (of_cols, &dy) in along.iter().zip(dy) {
                    let dy = dy / means.divisor::<T>(of_rows, of_cols);
                    for to in columns[of_cols.0..of_cols.1].iter_mut().step_by(along.step) {
                        *to += dy;
                    }
                }
                for row in (of_rows.0..of_rows.1).step_by(down.step) {
                    let line = &mut dx[row * width..][..width];
                    for (to, from) in line.chunks_mut(T::LANES).zip(columns.chunks(T::LANES)) {
                        let sum = s.load_partial(to) + s.load_partial(from);
                        s.store_partial(sum, to);
                    }
                }
            }
        }
    }
}
