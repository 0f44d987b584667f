//! Optimizer steps: one pass over a parameter, its gradient and its state, with the formulas of
//! `torch.optim`; or one pass over many parameters, each with a [`Step`] of its own: see [`run`].
//!
//! Every step is a short chain of rounded operations. With `G = |g| + λ·|p|`, a moment is within
//! `8·u·(|moment| + G)` of its exact value (`G²` for squares), and what the step adds to a parameter within
//! `16·u`, relative, plus what an error of `8·u·G` in the gradient does to it. Where that is a sum of two
//! terms, which may cancel, the errors are relative to both: RMSprop's buffer is within `16·u` of what it
//! keeps and what comes in, and for NAdam the error in the gradient is `12·u·G`. Centered RMSprop subtracts,
//! and its root can lose half the digits. What depends on the step alone (bias corrections) is computed once,
//! in `f64`. NaN and infinities in a gradient go where the formulas take them: into that element's parameter
//! and state.
//!
//! Steps flush subnormal numbers, whatever the [`Context`](crate::Context) says: a gradient, parameter or
//! state below the smallest normal number (2⁻¹²⁶ in `f32`) counts as 0, and 0 with the result's sign takes
//! the place of a result below it. So moments whose gradients stay away become 0, as do weights that decay
//! away (under a penalty alone they stop where `λ·p` becomes 0), and the bounds above are plus a few times
//! that number. Otherwise a moment would stop above 0, since 0.9 times the smallest number is rounded to that
//! number again, and on many CPUs each operation on it would take a hundred cycles, in every step to come.
//! x86 and ARM do this without an instruction more (see [`Subnormals::Flush`](crate::Subnormals::Flush) for
//! where they differ). Elsewhere what is stored is compared, and a number below the range that is not stored,
//! such as the square of a tiny gradient, still counts.

// A rule is a file and a line of the list below; what tests and benches ask of it stands in its file, too.
mod adagrad;
mod adam;
mod lion;
mod moments;
mod nadam;
mod radam;
mod rmsprop;
mod sgd;
mod step;

pub use step::{Step, run};

use crate::error::{Error, Result};
use crate::simd::{Dispatcher, Element};
use step::{Chunk, Formula, StepKernel};

/// What weight decay `λ` does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decay {
    /// A penalty: adds `λ·p` to the gradient.
    L2,
    /// Shrinks the parameter: `p ← p·(1 − lr·λ)` before the step, as in AdamW.
    Decoupled,
}

/// The progress of a parameter: the number of its step, and what its rule carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// The number of the step; the first is 1.
    pub step: u64,
    /// The number that the rule carries from step to step, 1 before the first: see [`Rule::carry`].
    pub carried: f64,
}

impl From<u64> for Progress {
    /// A step of a rule that carries nothing.
    fn from(step: u64) -> Self {
        Self { step, carried: 1.0 }
    }
}

/// A slice of an optimizer's state, as long as the parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// PyTorch's name of it.
    pub name: &'static str,
    /// What it is computed from.
    pub kind: Kind,
}

/// What a slice of state is computed from, which decides how large its errors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An average or a sum of gradients.
    Moment,
    /// An average or a sum of their squares, or the largest of them.
    Square,
    /// A buffer of directions.
    Direction,
}

/// A hyperparameter of any kind, to be read or changed.
#[derive(Debug)]
pub enum Setting<'a> {
    /// A number.
    Number(&'a mut f64),
    /// A switch.
    Flag(&'a mut bool),
    /// What weight decay does.
    Decay(&'a mut Decay),
}

/// What a rule consists of; `self` has its hyperparameters.
trait Update: Copy + Default {
    /// What all elements of a step have in common.
    type Prepared<T: Element>: Formula<T>;

    const NAME: &'static str;
    /// Up to three.
    const STATE: &'static [Part];
    /// Per element on one core with AVX2: `cargo bench --bench criterion -- update`.
    const NANOSECONDS: f64 = 0.4;
    /// Arithmetic per element by default.
    const OPERATIONS: u32;

    fn validate(&self) -> Result<()>;

    /// All of them, by name.
    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)>;

    /// Whether this part of the state is in use; it is empty otherwise.
    fn uses(&self, _part: usize) -> bool {
        true
    }

    /// What the state starts from.
    fn initial(&self) -> f64 {
        0.0
    }

    /// What is carried after the step.
    fn carry(&self, at: Progress) -> Result<f64> {
        Ok(at.carried)
    }

    /// The learning rate in a step.
    fn lr_at(&self, lr: f64, _at: Progress) -> f64 {
        lr
    }

    fn prepare<T: Element>(&self, at: Progress) -> Result<Self::Prepared<T>>;

    /// The naive twin: the parameter and the parts of the state after a step of one element.
    fn exact(&self, at: Progress, g: f64, p: f64, state: [f64; 3]) -> [f64; 4];
}

/// `settings!(self: name Kind, …)`: hyperparameters by name.
macro_rules! settings {
    ($self:ident: $($name:ident $kind:ident),+) => {
        vec![$((stringify!($name), Setting::$kind(&mut $self.$name))),+]
    };
}
use settings;

macro_rules! rules {
    ($($file:ident::$name:ident,)+) => {
        $(pub use $file::$name;)+

        /// The hyperparameters of any rule.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Rule {
            $(
                #[doc = concat!("Those of [`", stringify!($name), "`](struct@", stringify!($name), ").")]
                $name($name),
            )+
        }

        $(
            impl From<$name> for Rule {
                fn from(rule: $name) -> Self {
                    Self::$name(rule)
                }
            }

            impl $name {
                /// Whether the hyperparameters make sense.
                ///
                /// # Errors
                /// [`Error::Value`] names the first that does not.
                pub fn validate(&self) -> Result<()> {
                    Update::validate(self)
                }

                /// All hyperparameters by name, to be read or changed.
                pub fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
                    Update::settings(self)
                }
            }
        )+

        impl Rule {
            /// Every rule with its defaults.
            pub fn all() -> Vec<Self> {
                vec![$(Self::$name($name::default())),+]
            }

            /// The rule's name.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$name(_) => $name::NAME,)+ }
            }

            /// The parts of the state.
            pub fn state(&self) -> &'static [Part] {
                match self { $(Self::$name(_) => $name::STATE,)+ }
            }

            /// Whether this part of the state is in use; it is empty otherwise.
            pub fn uses(&self, part: usize) -> bool {
                match self { $(Self::$name(rule) => part < $name::STATE.len() && rule.uses(part),)+ }
            }

            /// What the parts of the state start from.
            pub fn initial(&self) -> f64 {
                match self { $(Self::$name(rule) => rule.initial(),)+ }
            }

            /// The number that the rule carries on from this step: NAdam's product of momenta.
            ///
            /// # Errors
            /// Those of computing it.
            pub fn carry(&self, at: Progress) -> Result<f64> {
                match self { $(Self::$name(rule) => rule.carry(at),)+ }
            }

            /// Whether the hyperparameters make sense.
            ///
            /// # Errors
            /// [`Error::Value`] names the first that does not.
            pub fn validate(&self) -> Result<()> {
                match self { $(Self::$name(rule) => rule.validate(),)+ }
            }

            /// All hyperparameters by name, to be read or changed.
            pub fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
                match self { $(Self::$name(rule) => rule.settings(),)+ }
            }

            /// The learning rate and λ, to be read or changed.
            pub fn lr_and_decay(&mut self) -> (&mut f64, &mut f64) {
                match self { $(Self::$name(rule) => (&mut rule.lr, &mut rule.weight_decay),)+ }
            }

            /// What λ does.
            pub fn decay(&self) -> Decay {
                match self { $(Self::$name(rule) => rule.decay,)+ }
            }

            /// Arithmetic per element, with the defaults.
            pub fn operations(&self) -> u32 {
                match self { $(Self::$name(_) => $name::OPERATIONS,)+ }
            }

            /// The naive twin of a step: from a gradient, a parameter and the parts of the state of one
            /// element, in `f64`, the parameter and the parts of the state after it.
            pub fn exact(&self, at: Progress, grad: f64, param: f64, state: [f64; 3]) -> [f64; 4] {
                match self { $(Self::$name(rule) => rule.exact(at, grad, param, state),)+ }
            }
        }

        impl<'a, T: Element> Step<'a, T> {
            /// The step of a rule, with an empty slice for each part that the rule does not have.
            pub(crate) fn of_parts(
                rule: &Rule,
                at: Progress,
                grad: &'a [T],
                param: &'a mut [T],
                state: [&'a mut [T]; 3],
            ) -> Result<Self> {
                // One choice between rules, and not one for each question.
                match rule {
                    $(Rule::$name(rule) => {
                        let decay = (rule.lr, rule.weight_decay, rule.decay);
                        Self::of_rule(rule, Prepared::$name, decay, at, (grad, param, state))
                    })+
                }
            }
        }

        /// What a rule prepared for a step.
        #[derive(Clone, Copy)]
        enum Prepared<T: Element> {
            $($name(<$name as Update>::Prepared<T>),)+
        }

        impl<T: Element> Prepared<T> {
            fn nanoseconds_per_element(&self) -> f64 {
                match self { $(Self::$name(_) => $name::NANOSECONDS,)+ }
            }

            fn run(self, simd: Dispatcher, chunk: Chunk<'_, T>) {
                match self { $(Self::$name(formula) => simd.run(StepKernel { formula, chunk }),)+ }
            }
        }
    };
}

rules! {
    sgd::Sgd,
    rmsprop::RmsProp,
    adam::Adam,
    adagrad::Adagrad,
    lion::Lion,
    nadam::NAdam,
    radam::RAdam,
}

fn at_least_zero(op: &'static str, name: &str, value: f64) -> Result<()> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(Error::value(op, format!("{name} is {value}, expected a finite number ≥ 0")))
}

fn below_one(op: &'static str, name: &str, value: f64) -> Result<()> {
    if (0.0..1.0).contains(&value) {
        return Ok(());
    }
    Err(Error::value(op, format!("{name} is {value}, expected a number in [0, 1)")))
}
