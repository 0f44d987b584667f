//! Optimizers: each owns its state and changes the parameters that it was given.
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

mod adagrad;
mod adam;
mod lion;
mod nadam;
mod optimizer;
mod parameters;
mod preset;
mod radam;
mod rmsprop;
mod schedule;
mod sgd;
mod state;

pub use crate::kernels::update::Decay;
pub use adam::AdamW;
pub use optimizer::Optimizer;
pub use parameters::{ParamGroup, grad_norm};
pub use schedule::{
    Anneal, CosineAnnealingLR, ExponentialLR, LRScheduler, LinearLR, MultiStepLR, OneCycleLR, PlateauMode,
    ReduceLROnPlateau, StepLR, ThresholdMode,
};

use self::parameters::Parameters;
use crate::kernels::update::Rule;
use crate::nn::Parameter;
use crate::simd::Element;

macro_rules! optimizers {
    ($($rule:ident => $file:ident::$name:ident,)+) => {
        $(pub use $file::$name;)+

        /// The optimizer of a rule.
        ///
        /// ```
        /// use gristmill::{kernels::update::{Adam, Rule}, optim, Tensor, nn::Parameter};
        /// let parameters = vec![Parameter::new(&Tensor::<f32>::ones([3])?)];
        /// let optimizer = optim::of_rule(Rule::Adam(Adam { lr: 0.01, ..Adam::default() }), parameters);
        /// assert_eq!(optimizer.learning_rate(), 0.01);
        /// # Ok::<(), gristmill::Error>(())
        /// ```
        pub fn of_rule<T: Element>(rule: Rule, parameters: Vec<Parameter<T>>) -> Box<dyn Optimizer<T>> {
            let parameters = Parameters::new(parameters);
            match rule {
                $(Rule::$rule(config) => Box::new($name { config, parameters }),)+
            }
        }
    };
}

optimizers! {
    Sgd => sgd::SGD,
    RmsProp => rmsprop::RMSprop,
    Adam => adam::Adam,
    Adagrad => adagrad::Adagrad,
    Lion => lion::Lion,
    NAdam => nadam::NAdam,
    RAdam => radam::RAdam,
}
