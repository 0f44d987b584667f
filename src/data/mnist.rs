//! The MNIST database of handwritten digits, and others in the same format.

use std::fmt;
use std::path::{Path, PathBuf};

use super::dataset::{Dataset, check_index, scale_pixels};
use super::idx::Idx;
use crate::error::{Error, Result};
use crate::simd::prefetch;

/// The digits.
const CLASSES: usize = 10;

/// The names of Fashion-MNIST's classes.
pub const FASHION_MNIST_CLASSES: [&str; 10] =
    ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"];

/// A part of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// Training images: 60,000 in MNIST.
    Train,
    /// Test images: 10,000 in MNIST.
    Test,
}

/// Grey images with labels, one byte per pixel, in memory: MNIST, and with the same code Fashion-MNIST,
/// KMNIST, EMNIST and anything that has images `[n, rows, cols]` and labels `[n]` in idx files.
///
/// As a [`Dataset`], an image consists of `[rows, cols, 1]` numbers in [0, 1]: pixel / 255.
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
    /// Reads images and labels from a folder: `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, or
    /// `t10k-…` for the test split, with or without `.gz`. Fashion-MNIST and KMNIST use the same names.
    ///
    /// Kaggle's names are also recognised (`train-images.idx3-ubyte`, and files in a folder of the same
    /// name), and so is the place where torchvision stores them, `MNIST/raw` or `raw`.
    ///
    /// # Errors
    /// [`Error::File`] naming every path that was tried if a file is missing, or for the reasons given at
    /// [`from_files`](Mnist::from_files).
    pub fn load(dir: impl AsRef<Path>, split: Split) -> Result<Self> {
        let dir = dir.as_ref();
        let part = match split {
            Split::Train => "train",
            Split::Test => "t10k",
        };
        let mut missing = Missing::default();
        // Both from the same folder: the labels of another set could have the same number.
        for folder in [dir.to_owned(), dir.join("MNIST/raw"), dir.join("raw")] {
            if folder != dir && !folder.is_dir() {
                missing.tried.push(format!("{} (no such folder)", folder.display()));
                continue;
            }
            let images = missing.find(&folder, &format!("{part}-images"), "idx3-ubyte");
            let labels = missing.find(&folder, &format!("{part}-labels"), "idx1-ubyte");
            if let (Some(images), Some(labels)) = (images, labels) {
                return Self::from_files(images, labels);
            }
        }
        Err(missing.error())
    }

    /// Reads images `[n, rows, cols]` and labels `[n]` below 10 from idx files.
    ///
    /// # Errors
    /// [`Error::File`] if a file is not a valid idx file, has another number of dimensions, or if the numbers
    /// of images and labels differ or a label is 10 or more.
    pub fn from_files(images: impl AsRef<Path>, labels: impl AsRef<Path>) -> Result<Self> {
        Self::from_files_with_classes(images, labels, CLASSES)
    }

    /// Reads images `[n, rows, cols]` and labels `[n]` below `classes` from idx files.
    ///
    /// # Errors
    /// [`Error::File`] if [`Idx::read`] fails, a file has another number of dimensions, the numbers of images
    /// and labels differ, or a label is not below `classes`.
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

/// The paths where a file was searched.
#[derive(Default)]
struct Missing {
    tried: Vec<String>,
}

impl Missing {
    /// The file of this name in a folder, under any of its usual names.
    fn find(&mut self, folder: &Path, name: &str, kind: &str) -> Option<PathBuf> {
        let before = self.tried.len();
        for name in [format!("{name}-{kind}"), format!("{name}.{kind}")] {
            let place = folder.join(&name);
            let inside = place.is_dir().then(|| place.join(&name));
            for plain in [Some(place), inside].into_iter().flatten() {
                let mut zipped = plain.clone().into_os_string();
                zipped.push(".gz");
                for path in [PathBuf::from(zipped), plain] {
                    if path.is_file() {
                        self.tried.truncate(before);
                        return Some(path);
                    }
                    self.tried.push(path.display().to_string());
                }
            }
        }
        None
    }

    /// Names all paths that were tried.
    fn error(mut self) -> Error {
        let first = self.tried.remove(0);
        Error::file(
            first,
            format!("cannot be opened: it is not there, nor is any of {}", self.tried.join(", ")),
        )
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
