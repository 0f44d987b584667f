//! Modules print as their tree.

use std::fmt;

use super::{
    BatchNorm1d, Dropout, Embedding, Flatten, GELU, GroupNorm, Identity, LayerNorm, LeakyReLU, Linear,
    LogSoftmax, Module, PReLU, RMSNorm, ReLU, Residual, Sequential, SiLU, Sigmoid, Softmax, Tanh,
};
use crate::simd::Element;

impl<T: Element> fmt::Display for dyn Module<T> + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tree())
    }
}

macro_rules! display {
    ([$($generic:ident),+], [$($plain:ident),+]) => {
        $(impl<T: Element> fmt::Display for $generic<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&Module::<T>::tree(self))
            }
        })+
        $(impl fmt::Display for $plain {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&Module::<f32>::tree(self))
            }
        })+
    };
}

display!(
    [BatchNorm1d, Embedding, GroupNorm, LayerNorm, Linear, PReLU, RMSNorm, Residual, Sequential],
    [Dropout, Flatten, GELU, Identity, LeakyReLU, LogSoftmax, ReLU, SiLU, Sigmoid, Softmax, Tanh]
);
