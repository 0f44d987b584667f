//! Layers without parameters.

use super::display::display_as_tree;
use super::{Follower, Module, Visitor};
use crate::error::Result;
use crate::simd::Element;
use crate::tensor::Tensor;

macro_rules! layer {
    ($(#[$doc:meta])+ $name:ident, |$x:ident| $forward:expr) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $name;

        display_as_tree!($name);

        impl<T: Element> Module<T> for $name {
            fn forward(&self, $x: &Tensor<T>) -> Result<Tensor<T>> {
                $forward
            }

            fn visit<'a>(&'a self, _: &mut Visitor<'_, 'a, T>) {}

            fn describe(&self) -> String {
                stringify!($name).into()
            }
        }
    };
}

/// max(x, 0).
#[derive(Clone, Copy, Debug, Default)]
pub struct ReLU;

display_as_tree!(ReLU);

impl<T: Element> Module<T> for ReLU {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        x.relu()
    }

    fn follows(&self) -> Option<Follower<'_>> {
        Some(Follower::ReLU)
    }

    fn visit<'a>(&'a self, _: &mut Visitor<'_, 'a, T>) {}

    fn describe(&self) -> String {
        "ReLU".into()
    }
}

layer! {
    /// x·Φ(x), the exact form.
    GELU, |x| x.gelu()
}
layer! {
    /// x · sigmoid(x).
    SiLU, |x| x.silu()
}
layer! {
    /// 1 / (1 + e⁻ˣ).
    Sigmoid, |x| x.sigmoid()
}
layer! {
    /// The hyperbolic tangent.
    Tanh, |x| x.tanh()
}
layer! {
    /// The input itself.
    Identity, |x| Ok(x.clone())
}
layer! {
    /// `[rows, …]` to `[rows, everything else]`.
    Flatten, |x| x.flatten(1)
}

/// x where x > 0, else slope · x.
#[derive(Clone, Copy, Debug)]
pub struct LeakyReLU {
    /// 0.01 by default.
    pub slope: f64,
}

impl Default for LeakyReLU {
    fn default() -> Self {
        Self { slope: 0.01 }
    }
}

display_as_tree!(LeakyReLU);

impl<T: Element> Module<T> for LeakyReLU {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        x.leaky_relu(T::from_f64(self.slope))
    }

    fn visit<'a>(&'a self, _: &mut Visitor<'_, 'a, T>) {}

    fn describe(&self) -> String {
        format!("LeakyReLU({})", self.slope)
    }
}
