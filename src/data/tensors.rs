//! Tensors as data sets.

use super::collate::{Collate, Picks};
use super::dataset::{Dataset, check_index};
use crate::error::{Error, Result};
use crate::kernels::Operand as _;
use crate::simd::Element;
use crate::tensor::Tensor;

/// Tensors with the same first axis: sample `i` consists of row `i` of each. A batch is an array of as many
/// tensors.
///
/// ```
/// use gristmill::{Tensor, data::{DataLoader, TensorDataset}};
/// let x: Tensor = Tensor::from_slice(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [3, 2])?;
/// let y = Tensor::from_slice(&[10.0, 11.0, 12.0], [3])?;
/// for batch in &DataLoader::new(TensorDataset::new([&x, &y])?).batch_size(2) {
///     let [x, y] = batch?;
///     assert_eq!((x.shape(), y.shape()), (&[y.len(), 2][..], &[y.len()][..]));
/// }
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TensorDataset<const N: usize, T: Element = f32> {
    tensors: [Tensor<T>; N],
    len: usize,
}

impl<const N: usize, T: Element> TensorDataset<N, T> {
    /// The rows of these tensors, whose numbers are shared.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are no tensors, one has no axes, or their first axes differ.
    pub fn new(tensors: [&Tensor<T>; N]) -> Result<Self> {
        let firsts = tensors.map(|tensor| tensor.shape().first().copied());
        match firsts.first() {
            Some(&Some(len)) if firsts.iter().all(|&first| first == Some(len)) => {
                Ok(Self { tensors: tensors.map(Tensor::compact), len })
            }
            _ => {
                let shapes = tensors.map(Tensor::shape);
                let message = format!("expected tensors with the same first axis, got the shapes {shapes:?}");
                Err(Error::shape("TensorDataset", message))
            }
        }
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The whole tensors.
    pub fn tensors(&self) -> &[Tensor<T>; N] {
        &self.tensors
    }

    /// These rows of each tensor, in this order; an index may occur more than once.
    ///
    /// # Errors
    /// [`Error::Value`] for an index that does not exist.
    pub fn rows(&self, indices: &[usize]) -> Result<[Tensor<T>; N]> {
        let mut batch = self.tensors.clone();
        for tensor in &mut batch {
            *tensor = tensor.gather_rows(indices)?;
        }
        Ok(batch)
    }
}

impl<const N: usize, T: Element> Collate for TensorDataset<N, T> {
    type Batch = [Tensor<T>; N];

    fn samples(&self) -> usize {
        self.len
    }

    fn collate(&self, picks: &mut Picks<'_>) -> Result<Self::Batch> {
        self.rows(picks.indices())
    }
}

/// Labelled images, or points, in memory: a [`Dataset`].
///
/// ```
/// use gristmill::{Tensor, data::{Dataset, LabeledTensors}};
/// let points = Tensor::from_slice(&[0.0, 0.5, 1.0, 1.5, 2.0, 2.5], [3, 2])?;
/// let points = LabeledTensors::new(&points, vec![0, 1, 1], 2)?;
/// assert_eq!((points.len(), points.shape()), (3, &[2][..]));
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LabeledTensors {
    images: Tensor<f32>,
    labels: Vec<usize>,
    classes: usize,
}

impl LabeledTensors {
    /// The images `images[0]`, `images[1]`, … of a tensor `[n, …]`, whose numbers are shared, with `n` labels
    /// below `classes`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `images` has no axes or the number of images is not that of the labels;
    /// [`Error::Value`] if a label is not one of the classes.
    pub fn new(images: &Tensor<f32>, labels: Vec<usize>, classes: usize) -> Result<Self> {
        const OP: &str = "LabeledTensors";
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

impl Dataset for LabeledTensors {
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
        check_index("LabeledTensors", index, self.len())?;
        let size = self.images.len() / self.len();
        out.expect_len("LabeledTensors", "out", size)?;
        out.copy_from_slice(&self.images.data()[index * size..][..size]);
        Ok(())
    }

    /// # Panics
    /// If `index` is not below [`len`](Dataset::len).
    fn label(&self, index: usize) -> usize {
        self.labels[index]
    }
}
