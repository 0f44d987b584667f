//! A table of vectors, looked up by index.

use super::display::display_as_tree;
use super::{Module, Parameter, Visitor};
use crate::error::{Error, Result};
use crate::kernels::embedding::check_padding;
use crate::rng::Rng;
use crate::simd::Element;
use crate::tensor::{Shape, Tensor};

/// A learned vector for each index; weight is `[num_embeddings, embedding_dim]`.
///
/// Initial weights are normally distributed with mean 0 and standard deviation 1, PyTorch's default.
///
/// ```
/// use gristmill::{Rng, nn::Embedding};
/// let layer: Embedding = Embedding::new(10, 3, &mut Rng::seed(4))?;
/// assert_eq!(layer.embed(&[7, 7, 0])?.shape(), [3, 3]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub struct Embedding<T: Element = f32> {
    weight: Parameter<T>,
    rows: usize,
    dim: usize,
    padding_idx: Option<usize>,
}

impl<T: Element> Embedding<T> {
    /// A layer for the indices below `num_embeddings`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the table is too large.
    pub fn new(num_embeddings: usize, embedding_dim: usize, rng: &mut Rng) -> Result<Self> {
        Self::from_tensor(&Tensor::randn([num_embeddings, embedding_dim], 0.0, 1.0, rng)?)
    }

    /// A layer whose initial weights are this table, `[num_embeddings, embedding_dim]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the table does not have two axes.
    pub fn from_tensor(weight: &Tensor<T>) -> Result<Self> {
        let &[rows, dim] = weight.shape() else {
            let message = format!("weight must be [num_embeddings, embedding_dim], got {:?}", weight.shape());
            return Err(Error::shape("Embedding", message));
        };
        Ok(Self { weight: Parameter::new(weight), rows, dim, padding_idx: None })
    }

    /// Makes one index the padding index: its vector becomes 0 and does not learn.
    ///
    /// # Errors
    /// [`Error::Value`] if it is not one of the indices.
    pub fn padding_idx(self, index: usize) -> Result<Self> {
        check_padding("Embedding", Some(index), self.rows)?;
        let mut weight = self.weight.value().to_vec();
        weight[index * self.dim..][..self.dim].fill(T::ZERO);
        self.weight.set(&Tensor::from_slice(&weight, [self.rows, self.dim])?)?;
        Ok(Self { padding_idx: Some(index), ..self })
    }

    /// The table, `[num_embeddings, embedding_dim]`.
    pub fn weight(&self) -> &Parameter<T> {
        &self.weight
    }

    /// The vectors of these indices, `[indices, embedding_dim]`.
    ///
    /// # Errors
    /// [`Error::Value`] naming an index that is not in the table, and its position.
    #[track_caller]
    pub fn embed(&self, indices: &[usize]) -> Result<Tensor<T>> {
        self.weight.read().embedding(indices, self.padding_idx)
    }
}

display_as_tree!(Embedding<T>);

impl<T: Element> Module<T> for Embedding<T> {
    /// The vectors of indices that are given as floating-point numbers: `[…]` to `[…, embedding_dim]`. In
    /// `f32`, indices are exact up to 2²⁴.
    ///
    /// # Errors
    /// [`Error::Value`] for a number that is not an index of the table; [`Error::Autograd`] if x requires a
    /// gradient, which indices do not have.
    #[track_caller]
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        if x.is_tracked() {
            return Err(Error::autograd("Embedding", "there is no gradient of indices; detach them"));
        }
        let index = |(position, x): (usize, T)| {
            let x = x.to_f64();
            // The conversion cuts off fractions and saturates numbers out of range.
            let index = x as usize;
            if index as f64 == x && index < self.rows {
                return Ok(index);
            }
            let message = format!("{x} at position {position} is not an index in 0..{}", self.rows);
            Err(Error::value("Embedding", message))
        };
        let indices: Vec<usize> = x.to_vec().into_iter().enumerate().map(index).collect::<Result<_>>()?;
        self.embed(&indices)?.reshape(&Shape::join(&[x.shape(), &[self.dim]])?[..])
    }

    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a, T>) {
        visitor.parameter("weight", &self.weight);
    }

    fn describe(&self) -> String {
        let padding = self.padding_idx.map_or(String::new(), |index| format!(", padding {index}"));
        format!("Embedding({} × {}{padding})", self.rows, self.dim)
    }
}
