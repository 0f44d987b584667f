//! Modules print as their tree.

use std::fmt;

use super::Module;
use crate::simd::Element;

impl<T: Element> fmt::Display for dyn Module<T> + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tree())
    }
}

/// Makes a layer print as its tree; a layer without parameters is one of any element type,
/// and one over some axes has their number before the element type.
macro_rules! display_as_tree {
    ($layer:ident<T>) => {
        impl<T: crate::simd::Element> std::fmt::Display for $layer<T> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&$crate::nn::Module::<T>::tree(self))
            }
        }
    };
    ($layer:ident<T>, $axes:ident) => {
        impl<const $axes: usize, T: crate::simd::Element> std::fmt::Display for $layer<$axes, T> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&$crate::nn::Module::<T>::tree(self))
            }
        }
    };
    ($layer:ident) => {
        impl std::fmt::Display for $layer {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&$crate::nn::Module::<f32>::tree(self))
            }
        }
    };
}
pub(super) use display_as_tree;
