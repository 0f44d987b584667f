//! Dropout.

use std::sync::Mutex;

use super::display::display_as_tree;
use super::visit::lock;
use super::{Follower, Mode, Module, Visitor};
use crate::error::{Error, Result};
use crate::kernels::dropout::Key;
use crate::rng::Rng;
use crate::simd::Element;
use crate::tensor::Tensor;

/// In training, each element becomes 0 with probability p and is divided by 1 − p otherwise (Srivastava et
/// al. 2014, inverted); in evaluation nothing happens. Each forward pass has a mask of its own, even on
/// threads that share the layer: the sequence of masks is fixed, but which thread gets which mask is not.
pub struct Dropout {
    p: f64,
    mode: Mode,
    rng: Mutex<Rng>,
}

impl Dropout {
    /// A layer with its own stream of random numbers, split off from `rng`.
    ///
    /// # Errors
    /// [`Error::Value`] if `p` is not in [0, 1].
    pub fn new(p: f64, rng: &mut Rng) -> Result<Self> {
        if !(0.0..=1.0).contains(&p) {
            return Err(Error::value("Dropout", format!("{p} is not a probability")));
        }
        Ok(Self { p, mode: Mode::default(), rng: Mutex::new(rng.split()) })
    }
}

impl Dropout {
    /// The probability and the mask of the next forward pass, if it drops anything.
    pub(super) fn draw(&self) -> Option<(f64, Key)> {
        let drops = self.mode.is_training() && self.p > 0.0;
        drops.then(|| (self.p, lock(&self.rng).split().into()))
    }
}

display_as_tree!(Dropout);

impl<T: Element> Module<T> for Dropout {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        match self.draw() {
            Some((p, key)) => x.dropout(p, key),
            None => Ok(x.clone()),
        }
    }

    fn follows(&self) -> Option<Follower<'_>> {
        Some(Follower::Dropout(self))
    }

    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a, T>) {
        visitor.mode(&self.mode);
        visitor.rng("rng", &self.rng);
    }

    fn describe(&self) -> String {
        format!("Dropout({})", self.p)
    }
}
