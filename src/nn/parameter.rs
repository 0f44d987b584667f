//! What a layer holds: parameters, which are learned, and states, which are not.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::autograd::{HookHandle, is_recording};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::simd::Element;
use crate::tensor::Tensor;
use crate::value::{Locked, Read, Value};

/// A learned tensor: a leaf of the tape whose numbers an optimizer changes. Clones refer to the same
/// parameter.
#[derive(Clone)]
pub struct Parameter<T: Element = f32>(Arc<Shared<T>>);

struct Shared<T: Element> {
    tensor: Value<Tensor<T>>,
    frozen: AtomicBool,
}

impl<T: Element> Parameter<T> {
    /// A parameter with the initial value `value`.
    pub fn new(value: &Tensor<T>) -> Self {
        Self(Arc::new(Shared { tensor: Value::new(value.requires_grad()), frozen: AtomicBool::new(false) }))
    }

    fn lock(&self) -> Locked<'_, Tensor<T>> {
        self.0.tensor.lock()
    }

    /// [`tensor`](Parameter::tensor) for a forward pass; if the pass is not recorded, this does not touch any
    /// shared data.
    pub(super) fn read(&self) -> Present<'_, T> {
        let read = if is_recording() { None } else { self.0.tensor.read() };
        read.map_or_else(|| Present::Copy(self.tensor()), Present::Read)
    }

    /// The current value as a leaf: operations on it are recorded, unless the parameter is frozen.
    pub fn tensor(&self) -> Tensor<T> {
        if self.is_frozen() { self.value() } else { self.lock().clone() }
    }

    /// The current value, not tracked.
    pub fn value(&self) -> Tensor<T> {
        self.lock().detach()
    }

    /// The gradient accumulated since the last [`zero_grad`](Parameter::zero_grad), if there is one.
    pub fn grad(&self) -> Option<Tensor<T>> {
        self.lock().grad()
    }

    /// Clears the gradient.
    pub fn zero_grad(&self) {
        self.lock().zero_grad();
    }

    /// Freezes the parameter: its gradient is cleared, it receives no more gradients, and no optimizer
    /// changes it.
    pub fn freeze(&self) {
        self.0.frozen.store(true, Ordering::Relaxed);
        self.zero_grad();
    }

    /// Lets the parameter learn again.
    pub fn unfreeze(&self) {
        self.0.frozen.store(false, Ordering::Relaxed);
    }

    /// Whether the parameter is frozen.
    pub fn is_frozen(&self) -> bool {
        self.0.frozen.load(Ordering::Relaxed)
    }

    /// Passes every gradient of the parameter through `hook`: see [`Tensor::register_hook`].
    pub fn register_hook(
        &self,
        hook: impl Fn(&Tensor<T>) -> Result<Tensor<T>> + Send + Sync + 'static,
    ) -> HookHandle {
        self.lock().register_hook(hook).expect("a parameter is a leaf")
    }

    /// Replaces the numbers by others of the same shape.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes differ.
    pub fn set(&self, value: &Tensor<T>) -> Result<()> {
        let mut tensor = self.lock();
        same_shape("Parameter::set", &tensor, value)?;
        let new = Tensor::from_slice(value.compact().data(), value.shape())?.with_leaf_of(&tensor);
        *tensor.change() = new;
        Ok(())
    }

    /// Whether both are the same parameter.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Lets `f` change the numbers, given the gradient; does nothing without a gradient. Other holders of the
    /// old value keep it unchanged. The parameter is locked meanwhile, so that `f` must not access it in any
    /// other way.
    ///
    /// # Errors
    /// The error that `f` returns.
    pub fn update(&self, f: impl FnOnce(&mut [T], &[T]) -> Result<()>) -> Result<()> {
        self.hold().numbers().map_or(Ok(()), |(values, grad)| f(values, grad))
    }

    /// Locks the parameter.
    pub(crate) fn hold(&self) -> Held<'_, T> {
        let tensor = self.lock();
        let grad = if self.is_frozen() { None } else { tensor.grad() };
        Held { tensor, grad }
    }

    /// The parameter's address, which gives the order in which to lock several parameters.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// The number of elements.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.lock().len()
    }
}

/// A locked parameter and its gradient.
pub(crate) struct Held<'a, T: Element> {
    tensor: Locked<'a, Tensor<T>>,
    grad: Option<Tensor<T>>,
}

impl<T: Element> Held<'_, T> {
    pub fn len(&self) -> usize {
        self.tensor.len()
    }

    pub fn has_grad(&self) -> bool {
        self.grad.is_some()
    }

    /// The numbers, mutable, and the gradient if there is one.
    pub fn numbers(&mut self) -> Option<(&mut [T], &[T])> {
        let grad = self.grad.as_ref()?;
        let tensor = self.tensor.change();
        if tensor.data_mut().is_none() {
            *tensor = Tensor::from_buffer(Buffer::copy_of(tensor.data()), tensor.dims()).with_leaf_of(tensor);
        }
        let values = tensor.data_mut().expect("just made, and nobody else has it");
        Some((values, grad.data()))
    }
}

/// A tensor that a layer updates without learning it, such as a running mean. Clones refer to the same state.
#[derive(Clone)]
pub struct State<T: Element = f32>(Arc<Value<Tensor<T>>>);

impl<T: Element> State<T> {
    /// A state with the initial value `value`.
    pub fn new(value: &Tensor<T>) -> Self {
        Self(Arc::new(Value::new(value.detach())))
    }

    /// The state's address.
    pub(super) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// The current value.
    pub fn value(&self) -> Tensor<T> {
        self.0.lock().clone()
    }

    /// [`value`](State::value) for a forward pass, which does not touch any shared data.
    pub(super) fn read(&self) -> Present<'_, T> {
        self.0.read().map_or_else(|| Present::Copy(self.value()), Present::Read)
    }

    /// Replaces the numbers by others of the same shape.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes differ.
    pub fn set(&self, value: &Tensor<T>) -> Result<()> {
        let mut tensor = self.0.lock();
        same_shape("State::set", &tensor, value)?;
        *tensor.change() = value.compact();
        Ok(())
    }
}

/// The value of a parameter or a state during a forward pass.
pub(super) enum Present<'a, T: Element> {
    Read(Read<'a, Tensor<T>>),
    Copy(Tensor<T>),
}

impl<T: Element> Deref for Present<'_, T> {
    type Target = Tensor<T>;
    #[inline]
    fn deref(&self) -> &Tensor<T> {
        match self {
            Self::Read(tensor) => tensor,
            Self::Copy(tensor) => tensor,
        }
    }
}

fn same_shape<T: Element>(op: &'static str, old: &Tensor<T>, new: &Tensor<T>) -> Result<()> {
    if old.shape() == new.shape() {
        return Ok(());
    }
    Err(Error::shape(op, format!("a value of shape {:?} for one of shape {:?}", new.shape(), old.shape())))
}
