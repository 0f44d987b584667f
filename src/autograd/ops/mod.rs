//! The differentiable operations, one family per file: forward pass, what is kept, backward pass.

mod batch_norm;
mod binary;
mod concat;
mod conv;
mod cross_entropy;
mod dropout;
mod einsum;
mod embedding;
mod epilogue;
mod gather;
mod group_norm;
mod index;
mod layer_norm;
mod linear;
mod loss;
mod mask;
mod matmul;
mod pool;
mod prelu;
mod reduce;
mod rms_norm;
mod softmax;
mod sort;
mod statistics;
mod ternary;
mod unary;
mod view;

use std::sync::Arc;

pub use batch_norm::BatchStatistics;
pub use conv::{ConvOptions, Padding};
pub use cross_entropy::CrossEntropyOptions;
pub use epilogue::Epilogue;
pub use linear::WeightLayout;
pub use loss::Reduction;
pub use pool::{Divisor, PoolOptions};
pub use unary::unary_functions;

use super::Gradients;
use super::custom::Custom;
use super::hook::Hooked;
use crate::error::{Error, Result};
use crate::simd::Element;
use crate::tensor::Tensor;
use crate::tensor::track::Leaf;

/// What an operation keeps from its forward pass, and its backward pass.
pub(crate) trait Backward<T: Element> {
    /// Adds the contributions of the result's gradient to the gradients of the parents.
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()>;
}

macro_rules! ops {
    ($($op:ident($kept:ty),)+) => {
        /// A node of the tape.
        pub(crate) enum Op<T: Element> {
            /// A tensor whose gradient the user asked for.
            Leaf(Arc<Leaf<T>>),
            /// Already run by a backward pass.
            Freed,
            $(#[allow(missing_docs)] $op($kept),)+
        }

        impl<T: Element> Op<T> {
            pub(crate) fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
                match self {
                    Op::Leaf(leaf) => gradients.arrive(leaf, dy),
                    Op::Freed => Err(Error::autograd(
                        "backward",
                        "this part of the tape was run through before; \
                         use backward_retain_graph the first time",
                    )),
                    $(Op::$op(kept) => kept.backward(dy, gradients),)+
                }
            }
        }
    };
}

ops! {
    AveragePool(pool::AveragePool),
    BatchNorm(batch_norm::BatchNorm<T>),
    Binary(binary::BinaryOp<T>),
    BinaryScalar(binary::BinaryScalar<T>),
    Broadcast(view::Broadcast),
    Concat(concat::Concat),
    Conv(conv::Conv<T>),
    CrossEntropy(cross_entropy::CrossEntropy<T>),
    Cumsum(sort::Cumsum),
    Custom(Custom<T>),
    Dot(statistics::Dot<T>),
    Dropout(dropout::Dropout),
    Embedding(embedding::Embedding),
    Extreme(reduce::Extreme<T>),
    Gather(gather::Gather),
    GroupNorm(group_norm::GroupNorm<T>),
    Hooked(Hooked<T>),
    IndexAdd(gather::IndexAdd),
    IndexSelect(gather::IndexSelect),
    LayerNorm(layer_norm::LayerNorm<T>),
    Linear(linear::Linear<T>),
    Loss(loss::LossOp<T>),
    MaskedSelect(mask::MaskedSelect),
    MatMul(matmul::MatMul<T>),
    MaxPool(pool::MaxPool<T>),
    NllLoss(cross_entropy::NllLoss<T>),
    Part(index::Part),
    Permute(view::Permute),
    Prelu(prelu::Prelu<T>),
    Reduced(statistics::Reduced<T>),
    Reshape(view::Reshape),
    RmsNorm(rms_norm::RmsNorm<T>),
    Scatter(gather::Scatter),
    SoftCrossEntropy(cross_entropy::SoftCrossEntropy<T>),
    Softmax(softmax::Softmax<T>),
    Sum(reduce::Sum<T>),
    Ternary(ternary::TernaryOp<T>),
    Triangle(mask::Triangle),
    Unary(unary::UnaryOp<T>),
    Variance(reduce::Variance<T>),
    Where(mask::Where<T>),
}

impl<T: Element> Op<T> {
    /// Drops what was kept.
    pub(crate) fn free(&mut self) {
        *self = Op::Freed;
    }
}
