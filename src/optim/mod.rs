//! Optimizers: each owns its state and changes the parameters it was given.
//!
//! ```
//! use gristmill::{Rng, Tensor, nn::{Linear, Module}, optim::{Optimizer, SGD}};
//! let model: Linear = Linear::new(3, 1, &mut Rng::seed(4))?;
//! let mut optimizer = SGD::new(model.parameters(), 0.1).momentum(0.9);
//! optimizer.zero_grad();
//! let loss = model.forward(&Tensor::ones([8, 3])?)?.square()?.mean()?;
//! loss.backward()?;
//! optimizer.step()?;
//! # Ok::<(), gristmill::Error>(())
//! ```

mod adam;
mod rmsprop;
mod schedule;
mod sgd;

pub use crate::kernels::update::Decay;
pub use adam::{Adam, AdamW};
pub use rmsprop::RMSprop;
pub use schedule::{
    Anneal, CosineAnnealingLR, ExponentialLR, LRScheduler, LinearLR, MultiStepLR, OneCycleLR, PlateauMode,
    ReduceLROnPlateau, StepLR, ThresholdMode,
};
pub use sgd::SGD;

use crate::buffer::Buffer;
use crate::error::Result;
use crate::nn::Parameter;
use crate::simd::Element;

/// What all optimizers do.
pub trait Optimizer<T: Element = f32> {
    /// Changes every parameter that has a gradient.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) for a hyperparameter outside its domain; nothing is changed then.
    fn step(&mut self) -> Result<()>;

    /// Forgets the gradients of all parameters.
    fn zero_grad(&self);

    /// The learning rate.
    fn lr(&self) -> f64;

    /// Changes the learning rate from the next step on.
    fn set_lr(&mut self, lr: f64);
}

/// Parameters with `N` numbers of state per element, each kind of state in one flat buffer.
struct Group<T: Element, const N: usize> {
    parameters: Vec<Parameter<T>>,
    /// Steps taken, by parameter.
    steps: Vec<u64>,
    state: [Buffer<T>; N],
}

impl<T: Element, const N: usize> Group<T, N> {
    fn new(parameters: Vec<Parameter<T>>) -> Self {
        let len = parameters.iter().map(Parameter::len).sum();
        Self {
            steps: vec![0; parameters.len()],
            parameters,
            state: std::array::from_fn(|_| Buffer::full(len, T::ZERO)),
        }
    }

    /// Calls `update` for every parameter with a gradient: step number, gradient, parameter, its states. States that
    /// are not `used` are empty slices.
    fn step(
        &mut self,
        used: [bool; N],
        mut update: impl FnMut(u64, &[T], &mut [T], [&mut [T]; N]) -> Result<()>,
    ) -> Result<()> {
        let mut state = self.state.each_mut().map(|state| state.fresh_mut());
        for (parameter, step) in self.parameters.iter().zip(&mut self.steps) {
            let len = parameter.len();
            let mine = state.each_mut().map(|rest| rest.split_off_mut(..len).expect("one state per element"));
            let mut index = 0;
            let mine = mine.map(|state| {
                index += 1;
                if used[index - 1] { state } else { &mut [] }
            });
            parameter.update(|values, grad| {
                *step += 1;
                update(*step, grad, values, mine)
            })?;
        }
        Ok(())
    }
}

/// The methods every optimizer has: setters of its hyperparameters, and the trait.
macro_rules! optimizer {
    ($name:ident, { $($(#[$doc:meta])+ $setter:ident: $type:ty),+ $(,)? }, |$self:ident| $step:expr) => {
        impl<T: Element> $name<T> {
            $(
                $(#[$doc])+
                #[must_use]
                pub fn $setter(mut self, $setter: $type) -> Self {
                    self.config.$setter = $setter;
                    self
                }
            )+
        }

        impl<T: Element> Optimizer<T> for $name<T> {
            fn step(&mut self) -> Result<()> {
                self.config.validate()?;
                let _scope = crate::profile::scope(concat!("optim::", stringify!($name), "::step"));
                let $self = self;
                $step
            }

            fn zero_grad(&self) {
                self.group.parameters.iter().for_each(Parameter::zero_grad);
            }

            fn lr(&self) -> f64 {
                self.config.lr
            }

            fn set_lr(&mut self, lr: f64) {
                self.config.lr = lr;
            }
        }
    };
}
use optimizer;
