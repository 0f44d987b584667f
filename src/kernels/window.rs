//! The windows of convolutions and pooling: where they lie on an image.

use crate::error::{Error, Result};

/// A window that slides over images of `[height, width]`, as PyTorch's convolutions have it. Each pair is
/// `[along the height, along the width]`.
///
/// ```
/// use gristmill::kernels::window::Window;
/// let window = Window { kernel: [3, 3], stride: [2, 2], padding: [[1, 1]; 2], ..Window::default() };
/// assert_eq!(window.positions([32, 28])?, [16, 14]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its taps.
    pub kernel: [usize; 2],
    /// Pixels from one position of the window to the next.
    pub stride: [usize; 2],
    /// Zeros before the first pixel and after the last one.
    pub padding: [[usize; 2]; 2],
    /// Pixels from one tap to the next.
    pub dilation: [usize; 2],
}

impl Default for Window {
    /// One pixel: `kernel`, `stride` and `dilation` of 1, without padding.
    fn default() -> Self {
        Self { kernel: [1; 2], stride: [1; 2], padding: [[0; 2]; 2], dilation: [1; 2] }
    }
}

impl Window {
    /// How often the window fits an image of this height and width: `⌊(n + padding − span)/stride⌋ + 1` with
    /// `span = dilation·(kernel − 1) + 1`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the window spans more than the padded image, when the image, the kernel, the
    /// stride or the dilation is 0, or when a size overflows.
    pub fn positions(&self, size: [usize; 2]) -> Result<[usize; 2]> {
        self.positions_of("window", size)
    }

    /// [`positions`](Window::positions) for an operation of this name.
    pub(crate) fn positions_of(&self, op: &'static str, size: [usize; 2]) -> Result<[usize; 2]> {
        let mut positions = [0; 2];
        for (axis, positions) in positions.iter_mut().enumerate() {
            let (n, kernel, stride) = (size[axis], self.kernel[axis], self.stride[axis]);
            for (name, value) in
                [("image", n), ("kernel", kernel), ("stride", stride), ("dilation", self.dilation[axis])]
            {
                if value == 0 {
                    let side = ["height", "width"][axis];
                    return Err(Error::shape(
                        op,
                        format!("the {name} is 0 along the {side}: {self}, {size:?}"),
                    ));
                }
            }
            let span = (kernel - 1).checked_mul(self.dilation[axis]).and_then(|span| span.checked_add(1));
            let [before, after] = self.padding[axis];
            let padded = n.checked_add(before).and_then(|n| n.checked_add(after));
            // Places are counted in `isize` later on.
            let whole = padded.zip(span).filter(|&(n, span)| {
                n.max(span).max(stride).max(self.dilation[axis]) <= isize::MAX as usize / 4
            });
            let Some((padded, span)) = whole else {
                return Err(Error::shape(op, format!("sizes overflow: {self}, images of {size:?}")));
            };
            if span > padded {
                let message = format!(
                    "a window that spans {span} over {padded} padded pixels: {self}, images of {size:?}"
                );
                return Err(Error::shape(op, message));
            }
            *positions = (padded - span) / stride + 1;
        }
        Ok(positions)
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kernel, stride, padding, dilation } = self;
        write!(f, "kernel {kernel:?}, stride {stride:?}, padding {padding:?}, dilation {dilation:?}")
    }
}
