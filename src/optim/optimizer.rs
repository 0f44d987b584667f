//! The interface of all optimizers, and its implementation for those of a rule.

use crate::error::Result;
use crate::nn::StateDict;
use crate::simd::Element;

/// The interface of all optimizers. `Box<dyn Optimizer>` holds any of them; the chapter
/// [optimizer](crate::guide::optimizer) of the guide implements one with all methods.
pub trait Optimizer<T: Element = f32>: Send {
    /// Changes every parameter that has a gradient; a frozen one has none. Gradients are kept until
    /// [`zero_grad`](Optimizer::zero_grad). Your own optimizer can change numbers with
    /// [`Parameter::update`](crate::nn::Parameter::update).
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) for a hyperparameter outside its domain; then nothing is
    /// changed.
    fn step(&mut self) -> Result<()>;

    /// Clears the gradients of all parameters.
    fn zero_grad(&self);

    /// The learning rate. (The builders' `lr` sets it.)
    fn learning_rate(&self) -> f64;

    /// Changes the learning rate from the next step on; if it is outside its domain, that step returns an
    /// error.
    fn set_lr(&mut self, lr: f64);

    /// Everything that a step depends on except parameters and gradients: settings by name, and for parameter
    /// `i` of the list `i.step` and the state under PyTorch's names, such as `i.exp_avg`. Saved in a
    /// [`Checkpoint`](crate::nn::Checkpoint), it lets training continue with the same bits.
    fn state_dict(&self) -> StateDict<T>;

    /// Restores a [`state_dict`](Optimizer::state_dict) of the same optimizer for parameters of the same
    /// shapes in the same order; all of it or, on an error, nothing. The settings, including learning rate
    /// and groups, are replaced by those of the state.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) or [`Error::Shape`](crate::Error::Shape) naming what is missing
    /// or does not fit.
    fn load_state_dict(&mut self, state: &StateDict<T>) -> Result<()>;
}

/// The methods of every optimizer: setters of its hyperparameters, and the trait.
macro_rules! optimizer {
    ($name:ident, { $($(#[$doc:meta])+ $setter:ident: $type:ty),+ $(,)? }) => {
        impl<T: Element> $name<T> {
            $(
                $(#[$doc])+
                #[must_use]
                pub fn $setter(mut self, $setter: $type) -> Self {
                    self.config.$setter = $setter;
                    self
                }
            )+

            /// Gives these parameters their own settings; parameters that the optimizer does not have yet are
            /// added.
            #[must_use]
            pub fn group(
                mut self,
                parameters: impl IntoIterator<Item = Parameter<T>>,
                group: $crate::optim::ParamGroup,
            ) -> Self {
                self.parameters.group(parameters, group);
                self
            }

            /// In each step, scales the gradients so that their overall norm,
            /// [`grad_norm`](crate::optim::grad_norm), is at most `limit`. The gradients stored in the
            /// parameters stay unchanged.
            #[must_use]
            pub fn clip_grad_norm(mut self, limit: f64) -> Self {
                self.parameters.clip_norm = Some(limit);
                self
            }

            /// In each step, clamps each element of a gradient to [−`limit`, `limit`], after the norm has
            /// been clipped. The gradients stored in the parameters stay unchanged.
            #[must_use]
            pub fn clip_grad_value(mut self, limit: f64) -> Self {
                self.parameters.clip_value = Some(limit);
                self
            }
        }

        impl<T: Element> $crate::optim::Optimizer<T> for $name<T> {
            fn step(&mut self) -> $crate::Result<()> {
                self.config.validate()?;
                let _scope = crate::profile::scope(concat!("optim::", stringify!($name), "::step"));
                self.parameters.step(self.config.into())
            }

            fn zero_grad(&self) {
                self.parameters.list.iter().for_each(Parameter::zero_grad);
            }

            fn learning_rate(&self) -> f64 {
                self.config.lr
            }

            fn set_lr(&mut self, lr: f64) {
                self.config.lr = lr;
            }

            fn state_dict(&self) -> $crate::nn::StateDict<T> {
                self.parameters.state_dict(stringify!($name), self.config.into())
            }

            fn load_state_dict(&mut self, state: &$crate::nn::StateDict<T>) -> $crate::Result<()> {
                let mut config = self.config;
                $crate::optim::state::read(stringify!($name), config.settings(), state)?;
                config.validate()?;
                self.parameters.load_state_dict(config.into(), state)?;
                self.config = config;
                Ok(())
            }
        }
    };
}
pub(super) use optimizer;
