//! Pooling layers.

use super::display::display_as_tree;
use super::{Module, Visitor};
use crate::autograd::{Divisor, PoolOptions};
use crate::error::Result;
use crate::simd::Element;
use crate::tensor::Tensor;

/// Layers without parameters, each with its axes: docs, name, fields, forward pass, and a description.
macro_rules! layers {
    ($(
        $(#[$doc:meta])*
        $layer:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),+ }
        |$self:ident, $x:ident| $forward:expr, $text:expr;
    )+) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $layer {
            $($(#[$field_doc])* pub $field: $type,)+
        }

        display_as_tree!($layer);

        impl<T: Element> Module<T> for $layer {
            #[track_caller]
            fn forward(&$self, $x: &Tensor<T>) -> Result<Tensor<T>> {
                $forward
            }

            fn visit<'a>(&'a self, _: &mut Visitor<'_, 'a, T>) {}

            fn describe(&$self) -> String {
                format!("{}({})", stringify!($layer), $text)
            }
        }
    )+ };
}

layers! {
    /// [`max_pool2d`](Tensor::max_pool2d): the largest element of each window of x of
    /// `[batch, channels, height, width]`.
    ///
    /// ```
    /// use gristmill::{Tensor, nn::{MaxPool2d, Module}};
    /// let y = MaxPool2d::new([2, 2]).forward(&Tensor::<f32>::zeros([5, 3, 8, 9])?)?;
    /// assert_eq!(y.shape(), [5, 3, 4, 4]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    MaxPool2d {
        /// The size of the window.
        kernel: [usize; 2],
        /// Stride, padding, dilation, ceil mode.
        options: PoolOptions<2>
    } |self, x| x.max_pool2d(self.kernel, self.options), text(&self.kernel, &self.options);

    /// [`max_pool1d`](Tensor::max_pool1d): the largest element of each window of x of
    /// `[batch, channels, length]`.
    MaxPool1d {
        /// The size of the window.
        kernel: [usize; 1],
        /// Stride, padding, dilation, ceil mode.
        options: PoolOptions<1>
    } |self, x| x.max_pool1d(self.kernel, self.options), text(&self.kernel, &self.options);

    /// [`avg_pool2d`](Tensor::avg_pool2d): the average of each window of x of
    /// `[batch, channels, height, width]`.
    AvgPool2d {
        /// The size of the window.
        kernel: [usize; 2],
        /// Stride, padding, dilation, ceil mode.
        options: PoolOptions<2>,
        /// What sums are divided by.
        divisor: Divisor
    } |self, x| x.avg_pool2d(self.kernel, self.options, self.divisor), text(&self.kernel, &self.options);

    /// [`avg_pool1d`](Tensor::avg_pool1d): the average of each window of x of `[batch, channels, length]`.
    AvgPool1d {
        /// The size of the window.
        kernel: [usize; 1],
        /// Stride, padding, dilation, ceil mode.
        options: PoolOptions<1>,
        /// What sums are divided by.
        divisor: Divisor
    } |self, x| x.avg_pool1d(self.kernel, self.options, self.divisor), text(&self.kernel, &self.options);

    /// [`adaptive_max_pool2d`](Tensor::adaptive_max_pool2d): the largest elements of as many windows as give
    /// the output its size.
    AdaptiveMaxPool2d {
        /// Height and width of the output.
        output: [usize; 2]
    } |self, x| x.adaptive_max_pool2d(self.output), format_args!("{:?}", self.output);

    /// [`adaptive_avg_pool2d`](Tensor::adaptive_avg_pool2d): the averages of as many windows as give the
    /// output its size; `[1, 1]` averages each channel.
    AdaptiveAvgPool2d {
        /// Height and width of the output.
        output: [usize; 2]
    } |self, x| x.adaptive_avg_pool2d(self.output), format_args!("{:?}", self.output);

    /// [`adaptive_avg_pool1d`](Tensor::adaptive_avg_pool1d): the averages of as many windows as give the
    /// output its length.
    AdaptiveAvgPool1d {
        /// The length of the output.
        output: usize
    } |self, x| x.adaptive_avg_pool1d(self.output), self.output;

    /// [`adaptive_max_pool1d`](Tensor::adaptive_max_pool1d): the largest elements of as many windows as give
    /// the output its length.
    AdaptiveMaxPool1d {
        /// The length of the output.
        output: usize
    } |self, x| x.adaptive_max_pool1d(self.output), self.output;
}

/// The constructors of layers with windows and of layers with the size of their output.
macro_rules! constructors {
    ($($layer:ident<$axes:literal> { $($more:ident: $value:expr),* })+; $($adaptive:ident($output:ty))+) => {
        $(impl $layer {
            /// Windows of this size that do not overlap, without padding.
            pub fn new(kernel: [usize; $axes]) -> Self {
                Self::with_options(kernel, PoolOptions::default())
            }

            /// Windows of this size with these options.
            pub fn with_options(kernel: [usize; $axes], options: PoolOptions<$axes>) -> Self {
                Self { kernel, options $(, $more: $value)* }
            }
        })+
        $(impl $adaptive {
            /// A layer whose output has this size.
            pub fn new(output: $output) -> Self {
                Self { output }
            }
        })+
    };
}

constructors! {
    MaxPool1d<1> {}
    MaxPool2d<2> {}
    AvgPool1d<1> { divisor: Divisor::Window }
    AvgPool2d<2> { divisor: Divisor::Window };
    AdaptiveAvgPool1d(usize)
    AdaptiveAvgPool2d([usize; 2])
    AdaptiveMaxPool1d(usize)
    AdaptiveMaxPool2d([usize; 2])
}

impl AvgPool1d {
    /// Sets what sums are divided by.
    #[must_use]
    pub fn divisor(self, divisor: Divisor) -> Self {
        Self { divisor, ..self }
    }
}

impl AvgPool2d {
    /// Sets what sums are divided by.
    #[must_use]
    pub fn divisor(self, divisor: Divisor) -> Self {
        Self { divisor, ..self }
    }
}

/// What a description says of a window.
fn text<const D: usize>(kernel: &[usize; D], options: &PoolOptions<D>) -> String {
    let PoolOptions { stride, padding, dilation, ceil_mode } = *options;
    let mut text = format!("{kernel:?}");
    if let Some(stride) = stride.filter(|stride| stride != kernel) {
        text += &format!(", stride {stride:?}");
    }
    if padding != [0; D] {
        text += &format!(", padding {padding:?}");
    }
    if dilation != [1; D] {
        text += &format!(", dilation {dilation:?}");
    }
    if ceil_mode {
        text += ", ceil mode";
    }
    text
}
