//! The gradients of the weight and of the bias.

use super::Shape;
use crate::context::{self};
use crate::error::Result;
use crate::kernels::gemm::patches::{Gradient, Images, LaneGradient};
use crate::kernels::gemm::{self};
use crate::kernels::{compiled_once, lengths};
use crate::parallel::{self, Indices, RowsMut};
use crate::simd::Element;

/// Output channels of a group up to which positions lie in the lanes of a register, and not output channels.
const FEW_OUTPUTS: usize = 4;

/// The gradients of the weight and of the bias of [`Forward`](super::Forward):
/// `dweight[o, c, a, b] = Σ dy[n, o, i, j] · x[n, c, …]` over all images and positions, and
/// `dbias[o] = Σ dy[n, o, i, j]`, which is computed in the same pass.
///
/// ```
/// use gristmill::kernels::conv::{BackwardWeight, Shape};
/// use gristmill::kernels::window::Window;
/// let window = Window { kernel: [1, 2], ..Window::default() };
/// let shape = Shape { batch: 1, channels: [1, 1], size: [1, 3], window, ..Shape::default() };
/// let (mut dweight, mut dbias) = ([0.0; 2], [0.0]);
/// let (x, dy) = (&[1.0, 2.0, 3.0], &[1.0, 10.0]);
/// BackwardWeight { shape, x, dy, dweight: &mut dweight, dbias: Some(&mut dbias) }.run()?;
/// assert_eq!((dweight, dbias), ([21.0, 32.0], [11.0]));
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug)]
pub struct BackwardWeight<'a, T> {
    /// The sizes.
    pub shape: Shape,
    /// The input, as in the forward pass.
    pub x: &'a [T],
    /// The gradient of the output, `[batch, output channels, output height, output width]`.
    pub dy: &'a [T],
    /// Output, `[output channels, input channels / groups, kernel height, kernel width]`.
    pub dweight: &'a mut [T],
    /// Output, one element for each output channel; not written if `None`, the default.
    pub dbias: Option<&'a mut [T]>,
}

impl<T> Default for BackwardWeight<'_, T> {
    fn default() -> Self {
        Self { shape: Shape::default(), x: &[], dy: &[], dweight: &mut [], dbias: None }
    }
}

impl<T: Element> BackwardWeight<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) as for [`Forward`](super::Forward).
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("conv::backward_weight", |call: BackwardWeight<'_, T>| -> Result<()> {
            const OP: &str = "conv_backward_weight";
            let BackwardWeight { shape, x, dy, dweight, mut dbias } = call;
            let sizes = shape.sizes(OP)?;
            lengths!(OP, x == sizes.x, dy == sizes.y, dweight == sizes.weight, dbias == shape.channels[1]);
            shape.tell::<T>(&sizes);
            let settings = context::settings()?;
            let ([inputs, outputs], groups) = (shape.per_group(), shape.groups);
            let k = inputs * shape.window.kernel[0] * shape.window.kernel[1];
            let of_group = |group: usize| Images {
                x,
                channels: [shape.channels[0], group * inputs, inputs],
                axes: shape.axes(sizes.positions),
                dy,
                outputs: [shape.channels[1], group * outputs, outputs],
                batch: shape.batch,
            };
            let kernel = shape.window.kernel[0] * shape.window.kernel[1];
            // Without weights, only the bias has a gradient.
            if k > 0 && outputs > 0 && outputs < FEW_OUTPUTS && kernel <= gemm::KC {
                let positions = sizes.positions[0] * sizes.positions[1];
                let multiply_adds = sizes.weight.saturating_mul(positions).saturating_mul(shape.batch);
                let dbias = dbias.unwrap_or_default();
                let parts =
                    (Indices(groups), RowsMut::new(dweight, outputs * k), RowsMut::new(dbias, outputs));
                let work = gemm::nanoseconds::<T>(multiply_adds.saturating_mul(2));
                parallel::for_each(settings, parts, work, |(group, dweight, dbias)| {
                    let dbias = (!dbias.is_empty()).then_some(dbias);
                    settings.simd.run(LaneGradient { images: of_group(group), dweight, dbias });
                });
                return Ok(());
            }
            for group in 0..groups {
                let rows = group * outputs..(group + 1) * outputs;
                let dweight = &mut dweight[rows.start * k..rows.end * k];
                let dbias = dbias.as_deref_mut().map(|dbias| &mut dbias[rows]);
                Gradient { images: of_group(group), dweight, dbias }.run(settings);
            }
            Ok(())
        })
    }
}
