//! Where images and labels come from.

use std::sync::Arc;

use crate::context;
use crate::error::{Error, Result};
use crate::kernels::same_len;
use crate::simd::{Kernel, Simd};
use crate::tensor::Tensor;

/// Images of one shape, each with a label.
///
/// A data set is read through `&self`, from the worker thread of a [`DataLoader`](super::DataLoader), image by image
/// straight into the batch.
///
/// ```
/// use gristmill::{Result, data::{DataLoader, Dataset}};
///
/// /// Checkerboards of 8 × 8 pixels: the label says which corner is white.
/// struct Boards(usize);
///
/// impl Dataset for Boards {
///     fn len(&self) -> usize { self.0 }
///     fn shape(&self) -> &[usize] { &[8, 8, 1] }
///     fn classes(&self) -> usize { 2 }
///     fn label(&self, index: usize) -> usize { index % 2 }
///     fn read(&self, index: usize, out: &mut [f32]) -> Result<()> {
///         for (i, pixel) in out.iter_mut().enumerate() {
///             *pixel = ((i / 8 + i % 8 + index) % 2) as f32;
///         }
///         Ok(())
///     }
/// }
///
/// for batch in &DataLoader::new(Boards(10)).batch_size(4) {
///     let (images, labels) = batch?;
///     assert_eq!(images.shape(), [labels.len(), 8, 8, 1]);
/// }
/// # Ok::<(), gristmill::Error>(())
/// ```
pub trait Dataset: Send + Sync {
    /// The number of images.
    fn len(&self) -> usize;

    /// Whether there are no images.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape of one image, for [transforms](super::Transform) `[height, width, channels]`.
    fn shape(&self) -> &[usize];

    /// The number of classes: every label is below it.
    fn classes(&self) -> usize;

    /// Writes image `index`, below [`len`](Dataset::len), to `out`, which has as many elements as the shape.
    ///
    /// Every element must be written: `out` holds numbers of other images.
    ///
    /// # Errors
    /// Whatever keeps the image from being read; it ends the epoch.
    fn read(&self, index: usize, out: &mut [f32]) -> Result<()>;

    /// The class of image `index`, below [`len`](Dataset::len).
    fn label(&self, index: usize) -> usize;

    /// Told a few images ahead that image `index`, below [`len`](Dataset::len), is going to be read: a chance to ask for
    /// its memory. Does nothing unless implemented.
    fn read_soon(&self, index: usize) {
        let _ = index;
    }
}

/// A shared data set, also `Arc<dyn Dataset>`.
impl<D: Dataset + ?Sized> Dataset for Arc<D> {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn is_empty(&self) -> bool {
        (**self).is_empty()
    }

    fn shape(&self) -> &[usize] {
        (**self).shape()
    }

    fn classes(&self) -> usize {
        (**self).classes()
    }

    fn read(&self, index: usize, out: &mut [f32]) -> Result<()> {
        (**self).read(index, out)
    }

    fn label(&self, index: usize) -> usize {
        (**self).label(index)
    }

    fn read_soon(&self, index: usize) {
        (**self).read_soon(index);
    }
}

/// Images that lie in memory as numbers.
///
/// ```
/// use gristmill::{Tensor, data::{Dataset, TensorDataset}};
/// let points = Tensor::from_slice(&[0.0, 0.5, 1.0, 1.5, 2.0, 2.5], [3, 2])?;
/// let points = TensorDataset::new(&points, vec![0, 1, 1], 2)?;
/// assert_eq!((points.len(), points.shape()), (3, &[2][..]));
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TensorDataset {
    images: Tensor<f32>,
    labels: Vec<usize>,
    classes: usize,
}

impl TensorDataset {
    /// The images `images[0]`, `images[1]`, … of a tensor `[n, …]`, whose numbers are shared, with `n` labels below
    /// `classes`.
    ///
    /// # Errors
    /// [`Error::Shape`] when `images` has no axes or another number of images than there are labels;
    /// [`Error::Value`] when a label is not one of the classes.
    pub fn new(images: &Tensor<f32>, labels: Vec<usize>, classes: usize) -> Result<Self> {
        const OP: &str = "TensorDataset";
        if images.shape().first() != Some(&labels.len()) {
            let message = format!("{} labels do not fit images of shape {:?}", labels.len(), images.shape());
            return Err(Error::shape(OP, message));
        }
        if let Some((index, label)) = labels.iter().enumerate().find(|&(_, &label)| label >= classes) {
            let message = format!("label {label} of image {index} is not one of {classes} classes");
            return Err(Error::value(OP, message));
        }
        Ok(Self { images: images.compact(), labels, classes })
    }
}

impl Dataset for TensorDataset {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn shape(&self) -> &[usize] {
        &self.images.shape()[1..]
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn read(&self, index: usize, out: &mut [f32]) -> Result<()> {
        check_index("TensorDataset", index, self.len())?;
        let size = self.images.len() / self.len();
        same_len("TensorDataset", "out", out, size)?;
        out.copy_from_slice(&self.images.data()[index * size..][..size]);
        Ok(())
    }

    /// # Panics
    /// If `index` is not below [`len`](Dataset::len).
    fn label(&self, index: usize) -> usize {
        self.labels[index]
    }
}

/// An error unless there is an image `index` among `len`.
pub(super) fn check_index(op: &'static str, index: usize, len: usize) -> Result<()> {
    if index < len {
        return Ok(());
    }
    Err(Error::value(op, format!("there is no image {index} among {len}")))
}

/// `out[i] = pixels[i] / 255`, rounded once: for the [`read`](Dataset::read) of images stored as bytes.
///
/// # Errors
/// [`Error::Shape`] when the lengths differ.
pub fn scale_pixels(pixels: &[u8], out: &mut [f32]) -> Result<()> {
    same_len("scale_pixels", "out", out, pixels.len())?;
    context::settings()?.simd.run(Scale { pixels, out });
    Ok(())
}

struct Scale<'a> {
    pixels: &'a [u8],
    out: &'a mut [f32],
}

impl Kernel for Scale<'_> {
    type Output = ();

    /// 1/255 = 257/2¹⁶ + 1/255/2¹⁶. The first product is exact, and the error of the second one is too small to
    /// change how the sum of any of the 256 pixels is rounded: the quotients without a division.
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        const HIGH: f32 = 257.0 / 65_536.0;
        const LOW: f32 = 1.0 / 255.0 / 65_536.0;
        for (&pixel, out) in self.pixels.iter().zip(self.out) {
            let pixel = f32::from(pixel);
            *out = pixel * HIGH + pixel * LOW;
        }
    }
}
