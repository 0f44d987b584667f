//! Convolutions of images and of sequences, and their transposes.

use super::epilogue::{Epilogue, KeptEpilogue};
use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, record};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::kernels::conv::{self, BackwardInput, BackwardWeight, Forward};
use crate::kernels::map::Unary;
use crate::kernels::window::Window;
use crate::simd::Element;
use crate::tensor::{Numbers, Shape, Tensor};

/// The padding of a convolution over `D` axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding<const D: usize> {
    /// So many zeros on both sides of each axis.
    Zeros([usize; D]),
    /// So many zeros before and after each axis.
    Sides([[usize; 2]; D]),
    /// As many zeros as give the output the size of the input; of an odd number, the last one comes after it.
    /// Only for a stride of 1.
    Same,
}

/// Options of a convolution over `D` axes; the defaults are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvOptions<const D: usize> {
    /// Elements from one position of the kernel to the next; 1 by default.
    pub stride: [usize; D],
    /// Zeros around the input; none by default.
    pub padding: Padding<D>,
    /// Elements from one tap of the kernel to the next; 1 by default.
    pub dilation: [usize; D],
    /// Groups of channels that are convolved independently; 1 by default.
    pub groups: usize,
    /// Of a transposed convolution: elements that the output has more at its end, below the stride. (PyTorch
    /// also takes more, below the dilation.) 0 by default.
    pub output_padding: [usize; D],
}

impl<const D: usize> Default for ConvOptions<D> {
    fn default() -> Self {
        Self {
            stride: [1; D],
            padding: Padding::Zeros([0; D]),
            dilation: [1; D],
            groups: 1,
            output_padding: [0; D],
        }
    }
}

/// The last `D` sizes as height and width; sequences have a height of 1.
fn plane<const D: usize>(sizes: &[usize], missing: usize) -> [usize; 2] {
    let last = |from_end: usize| if from_end < D { sizes[sizes.len() - 1 - from_end] } else { missing };
    [last(1), last(0)]
}

impl<const D: usize> ConvOptions<D> {
    /// The window of a kernel of this height and width.
    fn window(&self, op: &'static str, kernel: [usize; 2]) -> Result<Window> {
        let (stride, dilation) = (plane::<D>(&self.stride, 1), plane::<D>(&self.dilation, 1));
        let sides = |axis: usize| -> Result<[usize; 2]> {
            // Sequences lie along the width.
            let Some(own) = (axis + D).checked_sub(2) else { return Ok([0; 2]) };
            match self.padding {
                Padding::Zeros(zeros) => Ok([zeros[own]; 2]),
                Padding::Sides(sides) => Ok(sides[own]),
                Padding::Same if stride == [1; 2] => {
                    let all = kernel[axis].saturating_sub(1).saturating_mul(dilation[axis]);
                    Ok([all / 2, all - all / 2])
                }
                Padding::Same => {
                    let message = format!("`Padding::Same` with a stride of {:?}", self.stride);
                    Err(Error::shape(op, message))
                }
            }
        };
        Ok(Window { kernel, stride, padding: [sides(0)?, sides(1)?], dilation })
    }

    /// The shape of the result for x and a weight of these shapes, if they fit.
    pub(crate) fn output(&self, x: &[usize], weight: &[usize]) -> Option<Vec<usize>> {
        self.shape("conv", x, weight).ok().map(|(_, output)| output.to_vec())
    }

    /// The sizes of a convolution, and the shape of its result.
    fn shape(&self, op: &'static str, x: &[usize], weight: &[usize]) -> Result<(conv::Shape, Shape)> {
        let (batch, channels, size) = images::<D>(op, x)?;
        let &[outputs, per_group, ..] = kernel_of::<D>(op, weight)? else { unreachable!("checked") };
        if per_group.checked_mul(self.groups) != Some(channels) {
            let message = format!("x {x:?} does not fit weight {weight:?} in {} groups", self.groups);
            return Err(Error::shape(op, message));
        }
        let window = self.window(op, plane::<D>(weight, 1))?;
        let shape = conv::Shape { batch, channels: [channels, outputs], groups: self.groups, size, window };
        let output = shape.output_of(op)?;
        Ok((shape, result::<D>(x, outputs, output)?))
    }

    /// The same of a transposed one: the sizes are those of the convolution whose gradient it is.
    fn transposed(&self, op: &'static str, x: &[usize], weight: &[usize]) -> Result<(conv::Shape, Shape)> {
        let (batch, channels, from) = images::<D>(op, x)?;
        let &[inputs, per_group, ..] = kernel_of::<D>(op, weight)? else { unreachable!("checked") };
        let outputs = per_group.checked_mul(self.groups);
        let Some(outputs) = outputs.filter(|_| inputs == channels) else {
            let message = format!("x {x:?} does not fit weight {weight:?} in {} groups", self.groups);
            return Err(Error::shape(op, message));
        };
        let window = self.window(op, plane::<D>(weight, 1))?;
        let extra = plane::<D>(&self.output_padding, 0);
        let mut size = [0; 2];
        for axis in 0..2 {
            let Window { kernel, stride, padding, dilation } = window;
            if extra[axis] > 0 && extra[axis] >= stride[axis] {
                let message = format!(
                    "output padding {:?} must be below the stride {:?}",
                    self.output_padding, self.stride
                );
                return Err(Error::shape(op, message));
            }
            let steps = from[axis].checked_sub(1).and_then(|n| n.checked_mul(stride[axis]));
            let span = kernel[axis].checked_sub(1).and_then(|taps| taps.checked_mul(dilation[axis]));
            let whole = steps.zip(span).and_then(|(a, b)| a.checked_add(b)?.checked_add(extra[axis] + 1));
            let padded = padding[axis][0].checked_add(padding[axis][1]);
            let left = whole.zip(padded).and_then(|(whole, padded)| whole.checked_sub(padded));
            let Some(left) = left.filter(|&left| left > 0) else {
                let message = format!("x {x:?} and {window} leave no output");
                return Err(Error::shape(op, message));
            };
            size[axis] = left;
        }
        let shape = conv::Shape { batch, channels: [outputs, inputs], groups: self.groups, size, window };
        shape.output_of(op)?;
        Ok((shape, result::<D>(x, outputs, size)?))
    }
}

/// The number of images, their channels, and height and width; without a batch it is one image.
fn images<const D: usize>(op: &'static str, x: &[usize]) -> Result<(usize, usize, [usize; 2])> {
    match x.len().checked_sub(D) {
        Some(2) => Ok((x[0], x[1], plane::<D>(x, 1))),
        Some(1) => Ok((1, x[0], plane::<D>(x, 1))),
        _ => {
            let axes = if D == 1 { "length" } else { "height, width" };
            let message = format!("x must be [batch, channels, {axes}] or [channels, {axes}], got {x:?}");
            Err(Error::shape(op, message))
        }
    }
}

/// The weight's shape, if it has an axis for each size of the kernel and two for channels.
fn kernel_of<'a, const D: usize>(op: &'static str, weight: &'a [usize]) -> Result<&'a [usize]> {
    if weight.len() == D + 2 {
        return Ok(weight);
    }
    let message = format!("the weight must have {} axes, got {weight:?}", D + 2);
    Err(Error::shape(op, message))
}

/// The shape of a result for x of this shape.
fn result<const D: usize>(x: &[usize], channels: usize, size: [usize; 2]) -> Result<Shape> {
    Shape::join(&[&x[..x.len() - D - 1], &[channels], &size[2 - D..]])
}

pub(crate) struct Conv<T: Element> {
    x: Numbers<T>,
    weight: Numbers<T>,
    /// The shapes of x and of the weight.
    dims: [Shape; 2],
    shape: conv::Shape,
    transposed: bool,
    epilogue: Option<KeptEpilogue<T>>,
    parents: [Parent; 3],
}

impl<T: Element> Backward<T> for Conv<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        let (x, weight, shape) = (self.x.data(), self.weight.data(), self.shape);
        let dy = match &self.epilogue {
            Some(then) => then.backward(&dy.dense())?,
            None => dy.compact(),
        };
        gradients.add(self.epilogue.as_ref().and_then(|then| then.residual), || Ok(dy.clone()))?;
        let [of_x, of_weight, of_bias] = self.parents;
        gradients.add(of_x, || {
            Tensor::build(self.dims[0], |dx| {
                if self.transposed {
                    return Forward { shape, x: dy.data(), weight, y: dx, ..Forward::default() }.run();
                }
                BackwardInput { shape, weight, dy: dy.data(), dx, ..BackwardInput::default() }.run()
            })
        })?;
        if self.transposed {
            gradients.add(of_weight, || {
                Tensor::build(self.dims[1], |dweight| {
                    BackwardWeight { shape, x: dy.data(), dy: x, dweight, dbias: None }.run()
                })
            })?;
            let channels = self.shape.channels[0];
            return gradients.add(of_bias, || {
                dy.reshape([shape.batch, channels, shape.size[0] * shape.size[1]])?.sum_axes(&[0, 2], false)
            });
        }
        if of_weight.is_none() && of_bias.is_none() {
            return Ok(());
        }
        let mut dbias = Buffer::stale(if of_bias.is_some() { shape.channels[1] } else { 0 });
        let dweight = Tensor::build(self.dims[1], |dweight| {
            let dbias = of_bias.map(|_| dbias.fresh_mut());
            BackwardWeight { shape, x, dy: dy.data(), dweight, dbias }.run()
        })?;
        gradients.add(of_weight, || Ok(dweight))?;
        gradients.add(of_bias, || {
            let dims = Shape::from_dims(&[dbias.len()]);
            Ok(Tensor::from_buffer(dbias, dims))
        })
    }
}

impl<T: Element> Tensor<T> {
    /// [`conv1d`](Tensor::conv1d) or [`conv2d`](Tensor::conv2d), with an epilogue or without.
    #[track_caller]
    pub(crate) fn convolved<const D: usize>(
        &self,
        weight: &Self,
        bias: Option<&Self>,
        options: ConvOptions<D>,
        then: Option<Epilogue<'_, T>>,
    ) -> Result<Self> {
        let op = if D == 1 { "conv1d" } else { "conv2d" };
        let (shape, dims) = options.shape(op, self.shape(), weight.shape())?;
        check_bias(op, bias, shape.channels[1])?;
        then.map_or(Ok(()), |then| then.check(op, &dims))?;
        let (x, w, bias_data) = (self.compact(), weight.compact(), bias.map(Tensor::compact));
        let residual = then.and_then(|then| then.add).map(Tensor::compact);
        let y = Tensor::build(dims, |y| {
            let (x, weight) = (x.data(), w.data());
            let (bias, residual) =
                (bias_data.as_ref().map(Tensor::data), residual.as_ref().map(Tensor::data));
            let activation = then.map(|_| Unary::Relu);
            Forward { shape, x, weight, bias, residual, activation, y: &mut *y }.run()?;
            then.map_or(Ok(()), |then| then.drop_from(y))
        })?;
        let inputs = [Some(self), Some(weight), bias, then.and_then(|then| then.add)];
        record(op, y, inputs, |[of_x, of_weight, of_bias, residual], y| {
            let (dims, epilogue) = ([self.dims(), weight.dims()], then.map(|then| then.keep(y, residual)));
            let (x, weight, parents) = (x.numbers(), w.numbers(), [of_x, of_weight, of_bias]);
            Op::Conv(Conv { x, weight, dims, shape, transposed: false, epilogue, parents })
        })
    }

    /// [`conv_transpose1d`](Tensor::conv_transpose1d) or [`conv_transpose2d`](Tensor::conv_transpose2d).
    #[track_caller]
    pub(crate) fn convolved_transposed<const D: usize>(
        &self,
        weight: &Self,
        bias: Option<&Self>,
        options: ConvOptions<D>,
    ) -> Result<Self> {
        let op = if D == 1 { "conv_transpose1d" } else { "conv_transpose2d" };
        let (shape, dims) = options.transposed(op, self.shape(), weight.shape())?;
        check_bias(op, bias, shape.channels[0])?;
        let (x, w, bias_data) = (self.compact(), weight.compact(), bias.map(Tensor::compact));
        let y = Tensor::build(dims, |y| {
            let bias = bias_data.as_ref().map(Tensor::data);
            BackwardInput { shape, weight: w.data(), dy: x.data(), bias, relu_mask: None, dx: y }.run()
        })?;
        record(op, y, [Some(self), Some(weight), bias], |parents, _| {
            let (x, weight, dims) = (x.numbers(), w.numbers(), [self.dims(), weight.dims()]);
            Op::Conv(Conv { x, weight, dims, shape, transposed: true, epilogue: None, parents })
        })
    }
}

fn check_bias<T: Element>(op: &'static str, bias: Option<&Tensor<T>>, channels: usize) -> Result<()> {
    match bias.map(Tensor::shape) {
        Some(shape) if shape != [channels] => {
            Err(Error::shape(op, format!("the bias is {shape:?}, expected [{channels}]")))
        }
        _ => Ok(()),
    }
}

impl<T: Element> Tensor<T> {
    /// The cross-correlation of x of `[batch, channels, height, width]`, or of a single image without the
    /// batch, with a weight of `[outputs, channels / groups, kernel height, kernel width]`, and a bias of
    /// `[outputs]`: `[batch, outputs, …]`, with sizes of
    /// `⌊(n + padding − dilation·(kernel − 1) − 1)/stride⌋ + 1`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit, the kernel is larger than the padded image, or a size is 0.
    ///
    /// ```
    /// use gristmill::{Tensor, autograd::{ConvOptions, Padding}};
    /// let (x, weight) = (Tensor::<f32>::ones([2, 3, 8, 8])?, Tensor::ones([4, 3, 3, 3])?);
    /// let options = ConvOptions { padding: Padding::Same, ..ConvOptions::default() };
    /// let y = x.conv2d(&weight, None, options)?;
    /// assert_eq!(y.shape(), [2, 4, 8, 8]);
    /// assert_eq!(y.index((0, 0, 0))?.to_vec()[..2], [12.0, 18.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    #[track_caller]
    pub fn conv2d(&self, weight: &Self, bias: Option<&Self>, options: ConvOptions<2>) -> Result<Self> {
        self.convolved(weight, bias, options, None)
    }

    /// [`conv2d`](Tensor::conv2d) followed by an epilogue, in the same pass. The bits are those of the
    /// separate operations.
    ///
    /// # Errors
    /// [`Error::Shape`] as for `conv2d`, or if the epilogue does not fit; [`Error::Value`] if dropout's p is
    /// not in [0, 1].
    #[track_caller]
    pub fn conv2d_then(
        &self,
        weight: &Self,
        bias: Option<&Self>,
        options: ConvOptions<2>,
        then: Epilogue<'_, T>,
    ) -> Result<Self> {
        self.convolved(weight, bias, options, Some(then))
    }

    /// [`conv2d`](Tensor::conv2d) for sequences: x of `[batch, channels, length]` or `[channels, length]`,
    /// weight of `[outputs, channels / groups, kernel]`.
    ///
    /// # Errors
    /// As for `conv2d`.
    #[track_caller]
    pub fn conv1d(&self, weight: &Self, bias: Option<&Self>, options: ConvOptions<1>) -> Result<Self> {
        self.convolved(weight, bias, options, None)
    }

    /// [`conv1d`](Tensor::conv1d) followed by an epilogue; see [`conv2d_then`](Tensor::conv2d_then).
    ///
    /// # Errors
    /// As for `conv2d_then`.
    #[track_caller]
    pub fn conv1d_then(
        &self,
        weight: &Self,
        bias: Option<&Self>,
        options: ConvOptions<1>,
        then: Epilogue<'_, T>,
    ) -> Result<Self> {
        self.convolved(weight, bias, options, Some(then))
    }

    /// The transposed convolution, which is the gradient of [`conv2d`](Tensor::conv2d) with respect to its
    /// input, run forward: x of `[batch, channels, height, width]` or without the batch, weight of
    /// `[channels, outputs / groups, kernel height, kernel width]`, bias of `[outputs]`. Sizes become
    /// `(n − 1)·stride − padding + dilation·(kernel − 1) + output_padding + 1`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit, nothing is left of the output, or the output padding is not
    /// below the stride.
    #[track_caller]
    pub fn conv_transpose2d(
        &self,
        weight: &Self,
        bias: Option<&Self>,
        options: ConvOptions<2>,
    ) -> Result<Self> {
        self.convolved_transposed(weight, bias, options)
    }

    /// [`conv_transpose2d`](Tensor::conv_transpose2d) for sequences.
    ///
    /// # Errors
    /// As for `conv_transpose2d`.
    #[track_caller]
    pub fn conv_transpose1d(
        &self,
        weight: &Self,
        bias: Option<&Self>,
        options: ConvOptions<1>,
    ) -> Result<Self> {
        self.convolved_transposed(weight, bias, options)
    }
}
