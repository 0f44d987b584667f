//! The largest element of each window.

use super::{CHUNK, Shape, Spans};
use crate::buffer::Scratch;
use crate::context;
use crate::error::Result;
use crate::kernels::{compiled_once, lengths};
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::{Element, Float, Kernel, Simd};

/// Of an element of a window, from L2: `cargo bench --bench criterion -- pool`.
const NANOSECONDS_PER_ELEMENT: f64 = 0.5;

/// The largest element of each window; −∞ in a window that lies in the padding.
///
/// ```
/// use gristmill::kernels::pool::{MaxForward, Shape, Windows};
/// use gristmill::kernels::window::Window;
/// let window = Window { kernel: [1, 2], stride: [1, 2], ..Window::default() };
/// let shape = Shape { planes: 1, size: [1, 5], windows: Windows::Sliding { window, ceil: true } };
/// let mut y = [0.0; 3];
/// MaxForward { shape, x: &[3.0, 1.0, -2.0, -1.0, 7.0], y: &mut y }.run()?;
/// assert_eq!(y, [3.0, -1.0, 7.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug)]
pub struct MaxForward<'a, T> {
    /// The sizes.
    pub shape: Shape,
    /// `[planes, height, width]`.
    pub x: &'a [T],
    /// Output, `[planes, output height, output width]`.
    pub y: &'a mut [T],
}

impl<T: Element> MaxForward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where [`Shape::output`] fails, or when a slice has another length
    /// than its shape.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("pool::max_forward", |call: MaxForward<'_, T>| -> Result<()> {
            const OP: &str = "max_pool";
            let MaxForward { shape, x, y } = call;
            let sizes = shape.sizes(OP)?;
            lengths!(OP, x == sizes.x, y == sizes.y);
            let settings = context::settings()?;
            let [height, width] = shape.size;
            let spans = [0, 1].map(|axis| shape.spans(axis, sizes.output[axis]));
            let (pixels, positions) = (height * width, sizes.output[0] * sizes.output[1]);
            let planes = (CHUNK / pixels).max(1);
            let work = (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize;
            let parts = (Rows(x, planes * pixels), RowsMut::new(y, planes * positions));
            if positions == 0 {
                return Ok(());
            }
            parallel::for_each(settings, parts, work, |(x, y)| {
                settings.simd.run(ForwardChunk { x, size: shape.size, spans: &spans, y });
            });
            Ok(())
        })
    }
}

struct ForwardChunk<'a, T> {
    x: &'a [T],
    size: [usize; 2],
    spans: &'a [Spans; 2],
    y: &'a mut [T],
}

/// The larger one; NaN if either is.
#[inline(always)]
fn larger<T: Element>(a: T, b: T) -> T {
    if b > a || b.is_nan() { b } else { a }
}

impl<T: Element> Kernel for ForwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, size: [height, width], spans: [down, along], y } = self;
        let (rows, cols) = (down.bounds.len() / 3, along.bounds.len() / 3);
        let mut columns = Scratch::new(width);
        for (x, y) in x.chunks_exact(height * width).zip(y.chunks_exact_mut(rows * cols)) {
            for ((top, bottom, _), y) in down.iter().zip(y.chunks_exact_mut(cols)) {
                // The largest of each column, then of those of each window.
                let mut lines = (top..bottom).step_by(down.step).map(|row| &x[row * width..][..width]);
                let Some(first) = lines.next() else {
                    y.fill(T::from_f64(f64::NEG_INFINITY));
                    continue;
                };
                columns.copy_from_slice(first);
                for line in lines {
                    for (to, from) in columns.chunks_mut(T::LANES).zip(line.chunks(T::LANES)) {
                        let largest = s.load_partial(to).maximum(s.load_partial(from));
                        s.store_partial(largest, to);
                    }
                }
                for ((left, right, _), y) in along.iter().zip(y) {
                    let window = columns[left..right].iter().step_by(along.step);
                    *y = window.copied().reduce(larger).unwrap_or(T::from_f64(f64::NEG_INFINITY));
                }
            }
        }
    }
}

/// The gradient of [`MaxForward`]: that of a window goes to its first largest element, row by row, or to its
/// last NaN, as in PyTorch; where windows overlap, gradients add up in their order.
///
/// ```
/// use gristmill::kernels::pool::{MaxBackward, Shape, Windows};
/// use gristmill::kernels::window::Window;
/// let window = Window { kernel: [1, 2], ..Window::default() };
/// let shape = Shape { planes: 1, size: [1, 3], windows: Windows::Sliding { window, ceil: false } };
/// let mut dx = [0.5; 3];
/// MaxBackward { shape, x: &[1.0, 1.0, 1.0], dy: &[1.0, 10.0], dx: &mut dx }.run()?;
/// assert_eq!(dx, [1.0, 10.0, 0.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug)]
pub struct MaxBackward<'a, T> {
    /// The sizes.
    pub shape: Shape,
    /// As in the forward pass.
    pub x: &'a [T],
    /// The gradient of the output, `[planes, output height, output width]`.
    pub dy: &'a [T],
    /// Output, `[planes, height, width]`.
    pub dx: &'a mut [T],
}

impl<T: Element> MaxBackward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// As for [`MaxForward`].
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("pool::max_backward", |call: MaxBackward<'_, T>| -> Result<()> {
            const OP: &str = "max_pool_backward";
            let MaxBackward { shape, x, dy, dx } = call;
            let sizes = shape.sizes(OP)?;
            lengths!(OP, x == sizes.x, dy == sizes.y, dx == sizes.x);
            let settings = context::settings()?;
            let spans = [0, 1].map(|axis| shape.spans(axis, sizes.output[axis]));
            let (pixels, positions) = (shape.size[0] * shape.size[1], sizes.output[0] * sizes.output[1]);
            let planes = (CHUNK / pixels).max(1);
            let work = (x.len() as f64 * 2.0 * NANOSECONDS_PER_ELEMENT) as usize;
            if positions == 0 {
                dx.fill(T::ZERO);
                return Ok(());
            }
            let parts =
                (Rows(x, planes * pixels), Rows(dy, planes * positions), RowsMut::new(dx, planes * pixels));
            parallel::for_each(settings, parts, work, |(x, dy, dx)| {
                BackwardChunk { x, size: shape.size, spans: &spans, dy, dx }.run();
            });
            Ok(())
        })
    }
}

struct BackwardChunk<'a, T> {
    x: &'a [T],
    size: [usize; 2],
    spans: &'a [Spans; 2],
    dy: &'a [T],
    dx: &'a mut [T],
}

impl<T: Element> BackwardChunk<'_, T> {
    /// Comparisons and choices, one by one: nothing for registers.
    fn run(self) {
        let Self { x, size: [height, width], spans: [down, along], dy, dx } = self;
        let pixels = height * width;
        let (rows, cols) = (down.bounds.len() / 3, along.bounds.len() / 3);
        dx.fill(T::ZERO);
        let planes = x.chunks_exact(pixels).zip(dx.chunks_exact_mut(pixels));
        for ((x, dx), dy) in planes.zip(dy.chunks_exact(rows * cols)) {
            for ((top, bottom, _), dy) in down.iter().zip(dy.chunks_exact(cols)) {
                for ((left, right, _), &dy) in along.iter().zip(dy) {
                    if left == right {
                        continue;
                    }
                    let (mut place, mut largest) = (None, T::ZERO);
                    for row in (top..bottom).step_by(down.step) {
                        let line = &x[row * width..][left..right];
                        for (col, &x) in line.iter().enumerate().step_by(along.step) {
                            if place.is_none() || x > largest || x.is_nan() {
                                (place, largest) = (Some(row * width + left + col), x);
                            }
                        }
                    }
                    if let Some(place) = place {
                        dx[place] += dy;
                    }
                }
            }
        }
    }
}
