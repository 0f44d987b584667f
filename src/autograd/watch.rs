//! The backward pass that checks every gradient: for [`grad`] and for anomaly mode.

use std::sync::Arc;

use super::{DETECT_ANOMALY, Gradients, Node, Op, Sweep, accumulate, all_finite, no_grad, not_recorded};
use crate::context;
use crate::error::{Error, Result};
use crate::profile;
use crate::simd::Element;
use crate::tensor::Tensor;
use crate::tensor::track::{Leaf, Track};

/// Options of [`grad_with`].
#[derive(Clone, Copy)]
pub struct GradOptions<'a, T: Element = f32> {
    /// The gradient of the final result with respect to this one, of its shape; by default the result must be
    /// a single number, with gradient 1.
    pub gradient: Option<&'a Tensor<T>>,
    /// Whether the tape is kept, so that it can run again; by default it is freed.
    pub retain_graph: bool,
}

impl<T: Element> Default for GradOptions<'_, T> {
    fn default() -> Self {
        Self { gradient: None, retain_graph: false }
    }
}

/// The gradients of a single number with respect to these tensors, which may be leaves or recorded; no
/// gradients are accumulated in leaves.
///
/// ```
/// use gristmill::{Tensor, autograd::grad};
/// let w = Tensor::from_slice(&[2.0, -3.0], [2])?.requires_grad();
/// let squares = w.square()?;
/// let [dw, dsquares] = &grad(&squares.sum()?, &[&w, &squares])?[..] else { unreachable!() };
/// assert_eq!((dw.to_vec(), dsquares.to_vec()), (vec![4.0, -6.0], vec![1.0, 1.0]));
/// assert!(w.grad().is_none());
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// [`Error::Autograd`] if the result was not recorded, has more than one element, was recorded on another
/// thread or has already been run backward, or if it does not depend on an input, which is named; any error
/// of a backward pass.
pub fn grad<T: Element>(result: &Tensor<T>, inputs: &[&Tensor<T>]) -> Result<Vec<Tensor<T>>> {
    let gradients = grad_with(result, inputs, GradOptions::default())?;
    let unused = |i| Error::autograd("grad", format!("the result does not depend on input {i}"));
    gradients.into_iter().enumerate().map(|(i, gradient)| gradient.ok_or_else(|| unused(i))).collect()
}

/// [`grad`] for a result of any shape; `None` for an input that the result does not depend on.
///
/// # Errors
/// [`Error::Autograd`] if the result was not recorded, was recorded on another thread or has already been run
/// backward; [`Error::Shape`] if `options.gradient` does not have the result's shape; any error of a backward
/// pass.
pub fn grad_with<T: Element>(
    result: &Tensor<T>,
    inputs: &[&Tensor<T>],
    options: GradOptions<'_, T>,
) -> Result<Vec<Option<Tensor<T>>>> {
    let _scope = profile::scope("grad");
    let _environment = context::enter_environment();
    let gradient = match options.gradient {
        Some(gradient) => result.fitting(gradient)?,
        None => result.unit_gradient()?,
    };
    let mut wanted = Wanted(Vec::with_capacity(inputs.len()));
    for (i, input) in inputs.iter().enumerate() {
        let place = match (&input.track, &result.track) {
            (None, _) => {
                return Err(Error::autograd("grad", format!("input {i} requires no gradient")));
            }
            (Some(Track::Leaf(leaf)), _) => Origin::Leaf(leaf.clone()),
            (Some(Track::Node(node)), Some(Track::Node(root))) if Arc::ptr_eq(&node.token, &root.token) => {
                Origin::Node(node.index)
            }
            (Some(Track::Node(_)), _) => Origin::Elsewhere,
        };
        wanted.0.push((place, None));
    }
    match &result.track {
        None => return Err(not_recorded("grad")),
        Some(Track::Leaf(leaf)) => wanted.at_leaf(leaf, gradient)?,
        Some(Track::Node(handle)) => {
            let mut sweep = Sweep::start(handle, gradient)?;
            let (nodes, gradients) = (&mut sweep.nodes[..=handle.index], &mut sweep.gradients);
            no_grad(|| run(nodes, gradients, options.retain_graph, Some(&mut wanted)))?;
        }
    }
    no_grad(|| wanted.settle())
}

enum Origin<T: Element> {
    Leaf(Arc<Leaf<T>>),
    Node(usize),
    /// On another tape: never reached.
    Elsewhere,
}

/// The tensors whose gradients are wanted, and the gradients that have arrived.
struct Wanted<T: Element>(Vec<(Origin<T>, Option<Tensor<T>>)>);

impl<T: Element> Wanted<T> {
    fn at_leaf(&mut self, leaf: &Arc<Leaf<T>>, gradient: Tensor<T>) -> Result<()> {
        for (place, caught) in &mut self.0 {
            if matches!(place, Origin::Leaf(wanted) if Arc::ptr_eq(wanted, leaf)) {
                *caught = Some(match caught.take() {
                    None => gradient.clone(),
                    Some(sum) => accumulate(sum, gradient.clone())?,
                });
            }
        }
        Ok(())
    }

    fn at_node(&mut self, index: usize, gradient: &Tensor<T>) {
        for (place, caught) in &mut self.0 {
            if matches!(place, Origin::Node(wanted) if *wanted == index) {
                *caught = Some(gradient.clone());
            }
        }
    }

    /// The gradients; those of leaves are passed through their hooks.
    fn settle(self) -> Result<Vec<Option<Tensor<T>>>> {
        let each = |(place, caught): (Origin<T>, Option<Tensor<T>>)| match (place, caught) {
            (Origin::Leaf(leaf), Some(sum)) => Ok(Some(leaf.hooked(sum)?.compact())),
            (_, caught) => Ok(caught.map(|gradient| gradient.compact())),
        };
        self.0.into_iter().map(each).collect()
    }
}

/// The backward pass of anomaly mode.
pub(super) fn run_backward<T: Element>(
    nodes: &mut [Node<T>],
    gradients: &mut Gradients<T>,
    retain: bool,
) -> Result<()> {
    run(nodes, gradients, retain, None)
}

/// A backward pass that delivers gradients to the tensors in `wanted`, or to the leaves if there is none.
fn run<T: Element>(
    nodes: &mut [Node<T>],
    gradients: &mut Gradients<T>,
    retain: bool,
    mut wanted: Option<&mut Wanted<T>>,
) -> Result<()> {
    let detect = DETECT_ANOMALY.get();
    let not_finite = |what: String| Err(Error::autograd("backward", what + " is not finite"));
    if detect && gradients.slots.iter().flatten().any(|gradient| !all_finite(gradient)) {
        return not_finite("the gradient that was given".into());
    }
    for index in (0..nodes.len()).rev() {
        let Some(mut gradient) = gradients.slots[index].take() else { continue };
        let node = &mut nodes[index];
        let op = match &node.op {
            Op::Hooked(hooked) => {
                gradient = hooked.hooks.run(gradient)?;
                &*hooked.inner
            }
            op => op,
        };
        if let Some(wanted) = &mut wanted {
            wanted.at_node(index, &gradient);
        }
        match (op, &mut wanted) {
            (Op::Leaf(leaf), Some(wanted)) => wanted.at_leaf(leaf, gradient)?,
            _ => op.backward(gradient, gradients)?,
        }
        // All pending gradients were finite before this node.
        let made = &gradients.slots[..index];
        if detect && made.iter().flatten().any(|gradient| !all_finite(gradient)) {
            return not_finite(format!("the gradient that the operation at {} passes on", node.at));
        }
        if !retain {
            node.op.free();
        }
    }
    gradients.settle()
}
