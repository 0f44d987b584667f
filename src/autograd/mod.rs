//! Reverse-mode differentiation on a tape.
//!
//! Each thread has one tape per element type: a `Vec` of nodes in the order in which the operations ran. An
//! operation with an input that requires a gradient appends a node with the indices of its parents and the
//! data that its backward pass needs; [`Tensor::backward`] runs once over the nodes from last to first. Nodes
//! are freed as they run, and the whole tape once no recorded tensor is left, so that a forgotten `backward`
//! does not leak memory.
//!
//! ```
//! use gristmill::Tensor;
//! let w = Tensor::from_slice(&[2.0, -3.0], [2])?.requires_grad();
//! let loss = w.mul(&w)?.sum()?; // Σ w²
//! loss.backward()?;
//! assert_eq!(w.grad().unwrap().to_vec(), [4.0, -6.0]);
//! # Ok::<(), gristmill::Error>(())
//! ```

mod custom;
mod function;
pub(crate) mod gradcheck;
mod guard;
mod hook;
mod ops;
mod watch;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub use custom::CustomOp;
pub(crate) use function::short_type_name;
pub use function::{Function, apply};
pub use gradcheck::gradcheck;
pub use guard::{NoGrad, no_grad_guard};
pub use hook::HookHandle;
pub use ops::*;
pub use watch::{GradOptions, grad, grad_with};

use crate::context;
use crate::error::{Error, Result};
use crate::kernels::map;
use crate::profile;
use crate::simd::{self, Element};
use crate::tensor::Tensor;
use crate::tensor::track::{Handle, Leaf, Token, Track};
use ops::Op;

/// The tape of one thread and element type.
struct Tape<T: Element> {
    nodes: Vec<Node<T>>,
    token: Arc<Token>,
    /// Gradients by node; kept between sweeps to reuse the memory.
    gradients: Vec<Option<Tensor<T>>>,
}

struct Node<T: Element> {
    op: Op<T>,
    at: &'static Location<'static>,
}

/// A parent of a node; `None` if it requires no gradient.
pub(crate) type Parent = Option<usize>;

/// The gradients of one sweep.
pub(crate) struct Gradients<T: Element> {
    /// By node.
    slots: Vec<Option<Tensor<T>>>,
    /// Sums that have arrived at leaves with hooks.
    hooked: Vec<(Arc<Leaf<T>>, Tensor<T>)>,
}

impl<T: Element> Gradients<T> {
    /// Adds the result of `make` to the gradient of `parent`; does not call it if the parent requires no
    /// gradient. The first contribution is moved in.
    pub(crate) fn add(&mut self, parent: Parent, make: impl FnOnce() -> Result<Tensor<T>>) -> Result<()> {
        let Some(parent) = parent else { return Ok(()) };
        let contribution = make()?;
        let slot = &mut self.slots[parent];
        *slot = Some(match slot.take() {
            None => contribution,
            Some(sum) => accumulate(sum, contribution)?,
        });
        Ok(())
    }
}

/// The sum of two gradients, computed in place in one of them if it has no other owner.
fn accumulate<T: Element>(sum: Tensor<T>, more: Tensor<T>) -> Result<Tensor<T>> {
    let (mut sum, mut more) = (sum, more);
    if let Some(data) = sum.data_mut() {
        map::accumulate(more.compact().data(), data)?;
        return Ok(sum);
    }
    if let Some(data) = more.data_mut() {
        map::accumulate(sum.compact().data(), data)?;
        return Ok(more);
    }
    let (sum, more) = (sum.compact(), more.compact());
    Tensor::build(sum.dims(), |out| map::binary(map::Binary::Add, sum.data(), more.data(), out))
}

/// The tapes of this thread.
struct Tapes {
    f32: RefCell<Tape<f32>>,
    f64: RefCell<Tape<f64>>,
}

thread_local! {
    static TAPES: Tapes = Tapes { f32: RefCell::new(Tape::new()), f64: RefCell::new(Tape::new()) };
    static RECORDING: Cell<bool> = const { Cell::new(true) };
    static DETECT_ANOMALY: Cell<bool> = const { Cell::new(false) };
}

impl<T: Element> Tape<T> {
    fn new() -> Self {
        let token = Token { thread: std::thread::current().id(), on_last: reset::<T> };
        Self { nodes: Vec::new(), token: Arc::new(token), gradients: Vec::new() }
    }

    /// Appends a node for a leaf, or returns the node of a recorded tensor.
    fn parent_of(
        &mut self,
        op: &'static str,
        tensor: &Tensor<T>,
        at: &'static Location<'static>,
    ) -> Result<Parent> {
        match &tensor.track {
            None => Ok(None),
            Some(Track::Leaf(leaf)) => {
                self.nodes.push(Node { op: Op::Leaf(leaf.clone()), at });
                Ok(Some(self.nodes.len() - 1))
            }
            Some(Track::Node(handle)) if Arc::ptr_eq(&handle.token, &self.token) => Ok(Some(handle.index)),
            Some(Track::Node(_)) => Err(Error::autograd(
                op,
                "the tensor was recorded on the tape of another thread; detach it before it crosses over",
            )),
        }
    }
}

/// Runs `f` with this thread's tape for `T`; `None` while the thread is shutting down.
fn with_tape<T: Element, R>(f: impl FnOnce(&RefCell<Tape<T>>) -> R) -> Option<R> {
    TAPES
        .try_with(|tapes| {
            let tape: &dyn Any = if simd::is::<T, f32>() { &tapes.f32 } else { &tapes.f64 };
            f(tape.downcast_ref().expect("the tape of f32 has 16 lanes, that of f64 has 8"))
        })
        .ok()
}

/// Frees all nodes; called when the last recorded tensor of a tape is dropped.
fn reset<T: Element>(token: &Token) {
    if token.thread != std::thread::current().id() {
        return;
    }
    let nodes = with_tape::<T, _>(|tape| match tape.try_borrow_mut() {
        Ok(mut tape) => std::mem::take(&mut tape.nodes),
        Err(_) => Vec::new(),
    });
    // The contents of the nodes are dropped while the tape is not borrowed; the memory of the list is kept.
    if let Some(mut nodes) = nodes {
        nodes.clear();
        with_tape::<T, _>(|tape| {
            if let Ok(mut tape) = tape.try_borrow_mut()
                && tape.nodes.is_empty()
            {
                tape.nodes = nodes;
            }
        });
    }
}

/// Runs `f` without recording, so that its results are not tracked.
///
/// ```
/// use gristmill::{Tensor, autograd::no_grad};
/// let w = Tensor::<f32>::ones([3])?.requires_grad();
/// let doubled = no_grad(|| w.add(&w))?;
/// assert!(doubled.backward().is_err());
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn no_grad<R>(f: impl FnOnce() -> R) -> R {
    with_flag(&RECORDING, false, f)
}

/// Whether operations are currently recorded on this thread.
pub fn is_recording() -> bool {
    RECORDING.get()
}

/// Runs `f` in anomaly mode: the first recorded operation whose result is not finite returns an error that
/// names its source line, and so does the backward pass at the first operation that makes a gradient that is
/// not finite. Slow, since every number is checked.
pub fn detect_anomaly<R>(f: impl FnOnce() -> R) -> R {
    with_flag(&DETECT_ANOMALY, true, f)
}

fn with_flag<R>(flag: &'static std::thread::LocalKey<Cell<bool>>, value: bool, f: impl FnOnce() -> R) -> R {
    struct Restore(&'static std::thread::LocalKey<Cell<bool>>, bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    let _restore = Restore(flag, flag.replace(value));
    f()
}

/// Appends the node that `make` builds from the parents of `inputs`, if recording is on and one of them
/// requires a gradient, and sets the position of `out` on the tape. An input that is `None` has no parent.
#[track_caller]
pub(crate) fn record<'a, T: Element, I: Into<Option<&'a Tensor<T>>>, const N: usize>(
    name: &'static str,
    out: Tensor<T>,
    inputs: [I; N],
    make: impl FnOnce([Parent; N], &Tensor<T>) -> Op<T>,
) -> Result<Tensor<T>> {
    let (inputs, at) = (inputs.map(Into::into), Location::caller());
    if !wants_grad(inputs.iter().copied().flatten()) {
        return Ok(out);
    }
    append(name, out, at, |tape, out| {
        let mut parents = [None; N];
        for (parent, input) in parents.iter_mut().zip(inputs) {
            if let Some(input) = input {
                *parent = tape.parent_of(name, input, at)?;
            }
        }
        Ok(make(parents, out))
    })
}

/// [`record`] for any number of inputs.
#[track_caller]
pub(crate) fn record_many<T: Element>(
    name: &'static str,
    out: Tensor<T>,
    inputs: &[&Tensor<T>],
    make: impl FnOnce(Vec<Parent>) -> Op<T>,
) -> Result<Tensor<T>> {
    let at = Location::caller();
    if !wants_grad(inputs.iter().copied()) {
        return Ok(out);
    }
    append(name, out, at, |tape, _| {
        let parents: Result<Vec<_>> = inputs.iter().map(|input| tape.parent_of(name, input, at)).collect();
        Ok(make(parents?))
    })
}

/// Appends the node that `make` builds, after any leaves that it adds.
#[inline]
fn append<T: Element>(
    name: &'static str,
    mut out: Tensor<T>,
    at: &'static Location<'static>,
    make: impl FnOnce(&mut Tape<T>, &Tensor<T>) -> Result<Op<T>>,
) -> Result<Tensor<T>> {
    if DETECT_ANOMALY.get() && !all_finite(&out) {
        return Err(Error::autograd(name, format!("the result at {at} is not finite")));
    }
    let track = with_tape(|tape| {
        let tape = &mut *tape.borrow_mut();
        tape.drop_if_forgotten();
        let before = tape.nodes.len();
        match make(tape, &out) {
            Ok(op) => {
                tape.nodes.push(Node { op, at });
                Ok(Track::Node(Handle { token: tape.token.clone(), index: tape.nodes.len() - 1 }))
            }
            Err(error) => {
                tape.nodes.truncate(before);
                Err(error)
            }
        }
    });
    out.track = Some(track.unwrap_or_else(|| Err(Error::autograd(name, "the thread is shutting down")))?);
    Ok(out)
}

/// Whether an operation on these inputs must be recorded.
#[inline]
fn wants_grad<'a, T: Element>(mut inputs: impl Iterator<Item = &'a Tensor<T>>) -> bool {
    RECORDING.get() && inputs.any(|input| input.track.is_some())
}

impl<T: Element> Tape<T> {
    /// Frees the nodes if the last recorded tensor was dropped on another thread, which could not free them.
    fn drop_if_forgotten(&mut self) {
        if Arc::strong_count(&self.token) == 1 {
            self.nodes.clear();
        }
    }
}

fn all_finite<T: Element>(tensor: &Tensor<T>) -> bool {
    tensor.compact().data().iter().all(|x| x.is_finite())
}

impl<T: Element> Tensor<T> {
    /// This tensor as a leaf: [`backward`](Tensor::backward) will accumulate its gradient in
    /// [`grad`](Tensor::grad). Clones share the gradient. A tensor that is recorded or already a leaf is
    /// returned as it is; after [`detach`](Tensor::detach) it becomes a new leaf.
    #[must_use]
    pub fn requires_grad(&self) -> Self {
        if self.is_tracked() {
            return self.clone();
        }
        let mut leaf = self.compact();
        leaf.track = Some(Track::Leaf(Arc::new(Leaf { grad: Mutex::new(None), hooks: OnceLock::new() })));
        leaf
    }

    /// Whether operations on this tensor are recorded.
    pub fn is_tracked(&self) -> bool {
        self.track.is_some()
    }

    fn leaf(&self) -> Option<&Leaf<T>> {
        match &self.track {
            Some(Track::Leaf(leaf)) => Some(leaf),
            _ => None,
        }
    }

    /// The gradient that backward passes have accumulated in this leaf since the last
    /// [`zero_grad`](Tensor::zero_grad), if there is one.
    pub fn grad(&self) -> Option<Tensor<T>> {
        self.leaf()?.grad.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Clears the gradient of this leaf.
    pub fn zero_grad(&self) {
        self.set_grad(None);
    }

    pub(crate) fn set_grad(&self, grad: Option<Tensor<T>>) {
        if let Some(leaf) = self.leaf() {
            *leaf.grad.lock().unwrap_or_else(PoisonError::into_inner) = grad;
        }
    }

    /// A leaf with other numbers that shares the gradient of this one.
    pub(crate) fn with_leaf_of(mut self, leaf: &Tensor<T>) -> Self {
        self.track = leaf.track.clone();
        self
    }

    /// Computes the gradient of this one-element tensor with respect to every leaf that it depends on, and
    /// adds it to the gradient of the leaf. Frees the part of the tape that it used.
    ///
    /// # Errors
    /// [`Error::Autograd`] if this tensor was not recorded, has more than one element, was recorded on
    /// another thread, or has already been run backward; any error of a backward pass.
    pub fn backward(&self) -> Result<()> {
        self.sweep(self.unit_gradient()?, false)
    }

    /// [`backward`](Tensor::backward), but keeps the tape, so that it can run again.
    pub fn backward_retain_graph(&self) -> Result<()> {
        self.sweep(self.unit_gradient()?, true)
    }

    /// [`backward`](Tensor::backward) for a tensor of any shape, given the gradient of the final result with
    /// respect to it.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes differ; [`Error::Autograd`] if this tensor was not recorded, was
    /// recorded on another thread, or has already been run backward; any error of a backward pass.
    pub fn backward_with(&self, gradient: &Tensor<T>) -> Result<()> {
        self.sweep(self.fitting(gradient)?, false)
    }

    /// The gradient for this tensor, not tracked; an error if its shape differs.
    fn fitting(&self, gradient: &Tensor<T>) -> Result<Tensor<T>> {
        if gradient.shape() == self.shape() {
            return Ok(gradient.detach().compact());
        }
        let (given, own) = (gradient.shape(), self.shape());
        let message = format!("a gradient of shape {given:?} for a tensor of shape {own:?}");
        Err(Error::shape("backward", message))
    }

    fn unit_gradient(&self) -> Result<Tensor<T>> {
        if self.len() == 1 {
            return Tensor::ones(self.shape());
        }
        let message = format!("a tensor of shape {:?} is not one number; give a gradient", self.shape());
        Err(Error::autograd("backward", message))
    }

    fn sweep(&self, gradient: Tensor<T>, retain: bool) -> Result<()> {
        let _scope = profile::scope("backward");
        let _environment = context::enter_environment();
        let handle = match &self.track {
            Some(Track::Node(handle)) => handle,
            Some(Track::Leaf(leaf)) => return no_grad(|| add_to_leaf(leaf, leaf.hooked(gradient)?)),
            None => return Err(not_recorded("backward")),
        };
        let mut sweep = Sweep::start(handle, gradient)?;
        let run = if DETECT_ANOMALY.get() { watch::run_backward } else { run_backward };
        no_grad(|| run(&mut sweep.nodes[..=handle.index], &mut sweep.gradients, retain))
    }
}

fn not_recorded(op: &'static str) -> Error {
    Error::autograd(op, "the tensor was not recorded: no input required a gradient, or recording was off")
}

/// The nodes and gradients of a tape during a backward pass; they return to the tape at the end, even after a
/// panic.
struct Sweep<T: Element> {
    nodes: Vec<Node<T>>,
    gradients: Gradients<T>,
}

impl<T: Element> Sweep<T> {
    /// Takes the nodes out of this thread's tape; `gradient` is the gradient of the last one.
    fn start(handle: &Handle, gradient: Tensor<T>) -> Result<Self> {
        let taken = with_tape::<T, _>(|tape| {
            let mut tape = tape.borrow_mut();
            let ours = Arc::ptr_eq(&tape.token, &handle.token);
            ours.then(|| Self {
                nodes: std::mem::take(&mut tape.nodes),
                gradients: Gradients { slots: std::mem::take(&mut tape.gradients), hooked: Vec::new() },
            })
        });
        let Some(Some(mut sweep)) = taken else {
            return Err(Error::autograd("backward", "the tensor was recorded on the tape of another thread"));
        };
        if handle.index >= sweep.nodes.len() {
            return Err(Error::autograd("backward", "a backward pass is running through this tape already"));
        }
        sweep.gradients.slots.resize_with(handle.index + 1, || None);
        sweep.gradients.slots[handle.index] = Some(gradient);
        Ok(sweep)
    }
}

impl<T: Element> Drop for Sweep<T> {
    fn drop(&mut self) {
        self.gradients.slots.clear();
        with_tape::<T, _>(|tape| {
            let mut tape = tape.borrow_mut();
            // A backward pass nested in this one leaves the tape empty.
            if tape.nodes.is_empty() {
                tape.nodes = std::mem::take(&mut self.nodes);
                tape.gradients = std::mem::take(&mut self.gradients.slots);
            }
        });
    }
}

fn run_backward<T: Element>(nodes: &mut [Node<T>], gradients: &mut Gradients<T>, retain: bool) -> Result<()> {
    for index in (0..nodes.len()).rev() {
        let Some(gradient) = gradients.slots[index].take() else { continue };
        let node = &mut nodes[index];
        node.op.backward(gradient, gradients)?;
        if !retain {
            node.op.free();
        }
    }
    gradients.settle()
}

fn add_to_leaf<T: Element>(leaf: &Leaf<T>, gradient: Tensor<T>) -> Result<()> {
    let mut slot = leaf.grad.lock().unwrap_or_else(PoisonError::into_inner);
    *slot = Some(match slot.take() {
        None => gradient.compact(),
        Some(sum) => accumulate(sum, gradient)?,
    });
    Ok(())
}
