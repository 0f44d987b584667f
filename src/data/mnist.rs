//! The MNIST database of handwritten digits, and others in its format.

use std::fmt;
use std::path::Path;

use super::dataset::{Dataset, check_index, scale_pixels};
use super::idx::Idx;
use crate::error::{Error, Result};
use crate::simd::prefetch;

/// The digits.
const CLASSES: usize = 10;

/// What the classes of Fashion-MNIST are.
pub const FASHION_MNIST_CLASSES: [&str; 10] =
    ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"];

/// Which part of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// To learn from: 60,000 images of MNIST.
    Train,
    /// To be judged by: 10,000 images of MNIST.
    Test,
}

/// Grey images in classes, one byte per pixel, in memory: MNIST, and with the same code Fashion-MNIST, KMNIST, EMNIST and
/// whatever has images `[n, rows, cols]` and labels `[n]` in idx files.
///
/// As a [`Dataset`], an image is `[rows, cols, 1]` of numbers in [0, 1]: pixel / 255.
///
/// ```no_run
/// use gristmill::data::{Mnist, Split};
/// let test = Mnist::load("data", Split::Test)?;
/// assert_eq!((test.len(), test.rows(), test.cols()), (10_000, 28, 28));
/// assert_eq!(test.label(0), 7);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct Mnist {
    pixels: Vec<u8>,
    labels: Vec<u8>,
    shape: [usize; 3],
    classes: usize,
}

impl Mnist {
    /// Reads `train-images-idx3-ubyte.gz` and `train-labels-idx1-ubyte.gz` of a folder, or `t10k-…` for the test split;
    /// without `.gz` where only that is there. The files of Fashion-MNIST and KMNIST have the same names.
    ///
    /// # Errors
    /// As [`from_files`](Mnist::from_files).
    pub fn load(dir: impl AsRef<Path>, split: Split) -> Result<Self> {
        let dir = dir.as_ref();
        let name = match split {
            Split::Train => "train",
            Split::Test => "t10k",
        };
        let file = |kind: &str| {
            let zipped = dir.join(format!("{name}-{kind}-ubyte.gz"));
            let plain = zipped.with_extension("");
            if !zipped.exists() && plain.exists() { plain } else { zipped }
        };
        Self::from_files(file("images-idx3"), file("labels-idx1"))
    }

    /// Reads images `[n, rows, cols]` and labels `[n]` below 10 from idx files.
    ///
    /// # Errors
    /// As [`from_files_with_classes`](Mnist::from_files_with_classes).
    pub fn from_files(images: impl AsRef<Path>, labels: impl AsRef<Path>) -> Result<Self> {
        Self::from_files_with_classes(images, labels, CLASSES)
    }

    /// Reads images `[n, rows, cols]` and labels `[n]` below `classes` from idx files.
    ///
    /// # Errors
    /// [`Error::File`] when [`Idx::read`] fails, a file has another number of dimensions, the files hold different
    /// numbers of images and labels, or a label is not one of the classes.
    pub fn from_files_with_classes(
        images: impl AsRef<Path>,
        labels: impl AsRef<Path>,
        classes: usize,
    ) -> Result<Self> {
        let (images_path, labels_path) = (images.as_ref(), labels.as_ref());
        let (images, labels) = (Idx::read(images_path)?, Idx::read(labels_path)?);
        let [count, rows, cols] = images.dims[..] else {
            let message = format!("images have 3 dimensions [n, rows, cols], found {:?}", images.dims);
            return Err(Error::file(images_path, message));
        };
        if labels.dims.len() != 1 {
            let message = format!("labels have 1 dimension [n], found {:?}", labels.dims);
            return Err(Error::file(labels_path, message));
        }
        let labels: Vec<u8> = labels.data;
        if labels.len() != count {
            let message =
                format!("{} labels for the {count} images of {}", labels.len(), images_path.display());
            return Err(Error::file(labels_path, message));
        }
        if let Some((index, label)) =
            labels.iter().enumerate().find(|&(_, &label)| usize::from(label) >= classes)
        {
            let message = format!("label {label} of image {index} is not one of {classes} classes");
            return Err(Error::file(labels_path, message));
        }
        Ok(Self { pixels: images.data, labels, shape: [rows, cols, 1], classes })
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The height of an image in pixels.
    pub fn rows(&self) -> usize {
        self.shape[0]
    }

    /// The width of an image in pixels.
    pub fn cols(&self) -> usize {
        self.shape[1]
    }

    /// The pixels of an image, row by row; 0 is the background.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Mnist::len).
    pub fn image(&self, index: usize) -> &[u8] {
        assert!(index < self.len(), "there is no image {index} among {}", self.len());
        let size = self.rows() * self.cols();
        &self.pixels[index * size..][..size]
    }

    /// The class of an image: the digit.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Mnist::len).
    pub fn label(&self, index: usize) -> usize {
        usize::from(self.labels[index])
    }

    /// The number of classes: 10 digits, unless the files were read with another number.
    pub const fn classes(&self) -> usize {
        self.classes
    }
}

impl Dataset for Mnist {
    fn len(&self) -> usize {
        self.len()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn classes(&self) -> usize {
        self.classes()
    }

    fn read(&self, index: usize, out: &mut [f32]) -> Result<()> {
        check_index("Mnist", index, self.len())?;
        scale_pixels(self.image(index), out)
    }

    fn read_soon(&self, index: usize) {
        prefetch(self.image(index));
    }

    /// # Panics
    /// If `index` is not below [`len`](Mnist::len).
    fn label(&self, index: usize) -> usize {
        self.label(index)
    }
}

impl fmt::Debug for Mnist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mnist({} images of {} × {})", self.len(), self.rows(), self.cols())
    }
}
