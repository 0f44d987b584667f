//! The parameters of an optimizer with their state, and the step over all of them.

use crate::buffer::Buffer;
use crate::context;
use crate::error::{Error, Result};
use crate::kernels::reduce::{self, Reduce};
use crate::kernels::update::{self, Progress, Rule, Step};
use crate::nn::{Held, Parameter};
use crate::simd::Element;

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
pub(super) const STATES: usize = 3;

/// An optimizer's parameters, with each kind of state in one flat buffer.
pub(super) struct Parameters<T: Element> {
    pub list: Vec<Parameter<T>>,
    pub groups: Vec<ParamGroup>,
    /// The last step taken, by parameter.
    pub progress: Vec<Progress>,
    /// Empty until first used.
    pub state: [Buffer<T>; STATES],
    pub clip_norm: Option<f64>,
    pub clip_value: Option<f64>,
    /// The indices of the parameters in the order in which they are locked, by address, so that optimizers on
    /// several threads cannot deadlock.
    order: Vec<usize>,
    held: Memory<(usize, Held<'static, T>)>,
    work: Memory<Step<'static, T>>,
}

impl<T: Element> Parameters<T> {
    pub fn new(parameters: Vec<Parameter<T>>) -> Self {
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
    pub fn group(&mut self, parameters: impl IntoIterator<Item = Parameter<T>>, group: ParamGroup) {
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
    pub fn step(&mut self, rule: Rule) -> Result<()> {
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
