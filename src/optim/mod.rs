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
mod preset;
mod radam;
mod rmsprop;
mod schedule;
mod sgd;
mod state;

pub use crate::kernels::update::Decay;
pub use adam::AdamW;
pub use schedule::{
    Anneal, CosineAnnealingLR, ExponentialLR, LRScheduler, LinearLR, MultiStepLR, OneCycleLR, PlateauMode,
    ReduceLROnPlateau, StepLR, ThresholdMode,
};

use crate::buffer::Buffer;
use crate::context;
use crate::error::{Error, Result};
use crate::kernels::reduce::{self, Reduce};
use crate::kernels::update::{self, Progress, Rule, Step};
use crate::nn::{Held, Parameter, StateDict};
use crate::simd::Element;

/// The interface of all optimizers. `Box<dyn Optimizer>` holds any of them; the chapter
/// [optimizer](crate::guide::optimizer) of the guide implements one with all methods.
pub trait Optimizer<T: Element = f32>: Send {
    /// Changes every parameter that has a gradient; a frozen one has none. Gradients are kept until
    /// [`zero_grad`](Optimizer::zero_grad). Your own optimizer can change numbers with [`Parameter::update`].
    ///
    /// # Errors
    /// [`Error::Value`] for a hyperparameter outside its domain; then nothing is changed.
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
    /// [`Error::Value`] or [`Error::Shape`] naming what is missing or does not fit.
    fn load_state_dict(&mut self, state: &StateDict<T>) -> Result<()>;
}

/// Settings for some of an optimizer's parameters, in place of those for all.
///
/// ```
/// use gristmill::{Rng, nn::{BatchNorm1d, Linear, Module, Sequential}, optim::{AdamW, ParamGroup}};
/// let mut rng = Rng::seed(4);
/// let model: Sequential = Sequential::new().add(Linear::new(8, 4, &mut rng)?).add(BatchNorm1d::new(4)?);
/// // No decay for biases and norms.
/// let vectors = model.parameters().into_iter().filter(|parameter| parameter.value().rank() == 1);
/// let optimizer = AdamW::new(model.parameters())
///     .group(vectors, ParamGroup { weight_decay: Some(0.0), ..ParamGroup::default() });
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParamGroup {
    /// The learning rate as a multiple of the optimizer's, so that schedules apply to it, too; 1 by default.
    pub lr_scale: f64,
    /// λ, if different from the optimizer's.
    pub weight_decay: Option<f64>,
}

impl Default for ParamGroup {
    fn default() -> Self {
        Self { lr_scale: 1.0, weight_decay: None }
    }
}

/// The L2 norm of all gradients of these parameters together, correct even if squares overflow; NaN if one
/// element is NaN.
///
/// # Errors
/// [`Error::Setting`] for an invalid `GRISTMILL_` variable; see [`Context`](crate::Context).
pub fn grad_norm<T: Element>(parameters: &[Parameter<T>]) -> Result<f64> {
    let grads = || parameters.iter().filter_map(Parameter::grad);
    let mut squares = 0.0;
    for grad in grads() {
        squares += reduce::all(Reduce::SumOfSquares, grad.data())?.to_f64();
    }
    if (1e-30..1e38).contains(&squares) || squares.is_nan() {
        return Ok(squares.sqrt());
    }
    // The squares overflow or underflow, though the numbers do not.
    let numbers = || grads().flat_map(|grad| grad.to_vec()).map(Element::to_f64);
    let largest = numbers().fold(0.0, |largest: f64, x| largest.max(x.abs()));
    if largest == 0.0 || largest.is_infinite() {
        return Ok(largest);
    }
    Ok(largest * numbers().map(|x| (x / largest) * (x / largest)).sum::<f64>().sqrt())
}

/// The most state tensors that a rule has.
const STATES: usize = 3;

/// An optimizer's parameters, with each kind of state in one flat buffer.
struct Parameters<T: Element> {
    list: Vec<Parameter<T>>,
    groups: Vec<ParamGroup>,
    /// The last step taken, by parameter.
    progress: Vec<Progress>,
    /// Empty until first used.
    state: [Buffer<T>; STATES],
    clip_norm: Option<f64>,
    clip_value: Option<f64>,
    /// The indices of the parameters in the order in which they are locked, by address, so that optimizers on
    /// several threads cannot deadlock.
    order: Vec<usize>,
    held: Memory<(usize, Held<'static, T>)>,
    work: Memory<Step<'static, T>>,
}

impl<T: Element> Parameters<T> {
    fn new(parameters: Vec<Parameter<T>>) -> Self {
        let mut this = Self {
            list: Vec::new(),
            groups: Vec::new(),
            progress: Vec::new(),
            state: std::array::from_fn(|_| Buffer::stale(0)),
            clip_norm: None,
            clip_value: None,
            order: Vec::new(),
            held: Memory(Vec::new()),
            work: Memory(Vec::new()),
        };
        this.group(parameters, ParamGroup::default());
        this
    }

    /// Adds the parameters that are new, and applies these settings to all of them.
    fn group(&mut self, parameters: impl IntoIterator<Item = Parameter<T>>, group: ParamGroup) {
        for parameter in parameters {
            match self.list.iter().position(|known| known.is(&parameter)) {
                Some(known) => self.groups[known] = group,
                None => {
                    self.list.push(parameter);
                    self.groups.push(group);
                    self.progress.push(Progress { step: 0, carried: 1.0 });
                }
            }
        }
        self.order = (0..self.list.len()).collect();
        self.order.sort_unstable_by_key(|&index| self.list[index].address());
    }

    /// Runs the steps of all parameters that have a gradient in one pass.
    fn step(&mut self, rule: Rule) -> Result<()> {
        context::in_environment(|| self.step_here(rule))
    }

    fn step_here(&mut self, rule: Rule) -> Result<()> {
        let scale = match self.clip_norm {
            Some(limit) => {
                positive("clip_grad_norm", limit)?;
                // As in PyTorch: not above 1, NaN if the norm is NaN.
                let scale = limit / (grad_norm(&self.list)? + 1e-6);
                if scale > 1.0 { 1.0 } else { scale }
            }
            None => 1.0,
        };
        if let Some(limit) = self.clip_value {
            positive("clip_grad_value", limit)?;
        }

        let mut held = self.held.take();
        held.extend(self.order.iter().map(|&index| (index, self.list[index].hold())));
        held.sort_unstable_by_key(|&(index, _)| index);

        let total = held.iter().map(|(_, held)| held.len()).sum();
        let used: [bool; STATES] = std::array::from_fn(|part| rule.uses(part));
        for (state, used) in self.state.iter_mut().zip(used) {
            if used && state.len() < total {
                let mut more = Buffer::full(total, T::from_f64(rule.initial()));
                more.fresh_mut()[..state.len()].copy_from_slice(state);
                *state = more;
            }
        }
        let mut state = self.state.each_mut().map(|state| state.fresh_mut());
        let mut work = self.work.take();
        for (index, held) in &mut held {
            let len = held.len();
            let mut mine =
                state.each_mut().map(|rest| rest.split_off_mut(..len.min(rest.len())).unwrap_or_default());
            for (mine, _) in mine.iter_mut().zip(used).filter(|(_, used)| !used) {
                *mine = &mut [];
            }
            let Some((values, grad)) = held.numbers() else { continue };
            let (mut rule, group) = (rule, self.groups[*index]);
            let (lr, weight_decay) = rule.lr_and_decay();
            *lr *= group.lr_scale;
            *weight_decay = group.weight_decay.unwrap_or(*weight_decay);
            let Progress { step, carried } = self.progress[*index];
            // A loaded state may contain any number.
            let at = Progress { step: step.saturating_add(1), carried };
            let mut step = Step::of_parts(&rule, at, grad, values, mine)?;
            if self.clip_norm.is_some() {
                step = step.grad_scale(T::from_f64(scale));
            }
            if let Some(limit) = self.clip_value {
                step = step.grad_clip(T::from_f64(limit));
            }
            work.push(step);
        }
        update::run(&mut work)?;
        self.work = Memory::of(work);
        for (index, _) in held.iter().filter(|(_, held)| held.has_grad()) {
            let progress = &mut self.progress[*index];
            progress.step = progress.step.saturating_add(1);
            progress.carried = rule.carry(*progress)?;
        }
        self.held = Memory::of(held);
        Ok(())
    }
}

fn positive(op: &'static str, limit: f64) -> Result<()> {
    if limit > 0.0 {
        Ok(())
    } else {
        Err(Error::value(op, format!("the limit is {limit}, expected more than 0")))
    }
}

/// The memory of a list that is built in every step, kept for the next step. It has no elements, and can be
/// sent to any thread whatever their type.
struct Memory<A>(Vec<A>);

// SAFETY: the list is empty.
unsafe impl<A> Send for Memory<A> {}
// SAFETY: the list is empty.
unsafe impl<A> Sync for Memory<A> {}

impl<A> Memory<A> {
    fn of<B>(list: Vec<B>) -> Self {
        Self(recycled(list))
    }

    fn take<B>(&mut self) -> Vec<B> {
        recycled(std::mem::take(&mut self.0))
    }
}

/// Reuses the memory of a list for one whose elements differ in lifetime only: the standard library collects
/// in place.
fn recycled<A, B>(mut list: Vec<A>) -> Vec<B> {
    list.clear();
    list.into_iter().map(|_| unreachable!("the list is empty")).collect()
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
            /// [`grad_norm`](super::grad_norm), is at most `limit`. The gradients stored in the parameters
            /// stay unchanged.
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
use optimizer;

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
