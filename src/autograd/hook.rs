//! User functions that gradients pass through.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ops::Backward;
use super::{Gradients, Op, accumulate, add_to_leaf, with_tape};
use crate::error::{Error, Result};
use crate::simd::Element;
use crate::tensor::Tensor;
use crate::tensor::track::{Hook, HookFunction, Hooks, Leaf, Track};

const OP: &str = "register_hook";

/// A registered hook, which [`remove`](HookHandle::remove) unregisters; dropping the handle leaves it
/// registered.
#[derive(Debug)]
pub struct HookHandle(Arc<AtomicBool>);

impl HookHandle {
    /// Unregisters the hook.
    pub fn remove(self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl<T: Element> Default for Hooks<T> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<T: Element> Hooks<T> {
    fn lock(&self) -> MutexGuard<'_, Vec<Hook<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, function: Arc<HookFunction<T>>) -> HookHandle {
        let live = Arc::new(AtomicBool::new(true));
        let mut hooks = self.lock();
        hooks.retain(|hook| hook.live.load(Ordering::Relaxed));
        hooks.push(Hook { function, live: live.clone() });
        HookHandle(live)
    }

    /// Passes a gradient through the hooks, one after the other.
    pub fn run(&self, gradient: Tensor<T>) -> Result<Tensor<T>> {
        // A copy, so that no lock is held while the hooks run.
        let hooks = self.lock().clone();
        let mut gradient = gradient;
        for hook in hooks.iter().filter(|hook| hook.live.load(Ordering::Relaxed)) {
            let made = (hook.function)(&gradient)?.detach();
            if made.shape() != gradient.shape() {
                let message =
                    format!("a hook made a gradient of shape {:?} of {:?}", made.shape(), gradient.shape());
                return Err(Error::shape(OP, message));
            }
            gradient = made;
        }
        Ok(gradient)
    }
}

/// An operation whose result has hooks.
pub(crate) struct Hooked<T: Element> {
    pub hooks: Hooks<T>,
    pub inner: Box<Op<T>>,
}

impl<T: Element> Backward<T> for Hooked<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        self.inner.backward(self.hooks.run(dy)?, gradients)
    }
}

impl<T: Element> Leaf<T> {
    /// Passes a gradient through the hooks.
    pub fn hooked(&self, gradient: Tensor<T>) -> Result<Tensor<T>> {
        self.hooks.get().map_or(Ok(gradient.clone()), |hooks| hooks.run(gradient))
    }
}

impl<T: Element> Gradients<T> {
    /// Adds a gradient that arrives at one use of a leaf. If the leaf has hooks, the gradient is held back
    /// until those of all other uses have arrived.
    pub(crate) fn arrive(&mut self, leaf: &Arc<Leaf<T>>, gradient: Tensor<T>) -> Result<()> {
        if leaf.hooks.get().is_none() {
            return add_to_leaf(leaf, gradient);
        }
        match self.hooked.iter_mut().find(|(known, _)| Arc::ptr_eq(known, leaf)) {
            Some((_, sum)) => *sum = accumulate(sum.clone(), gradient)?,
            None => self.hooked.push((leaf.clone(), gradient)),
        }
        Ok(())
    }

    /// After a sweep: passes the sums for leaves with hooks through them and on to the leaves.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.hooked.drain(..).try_for_each(|(leaf, sum)| add_to_leaf(&leaf, leaf.hooked(sum)?))
    }
}

impl<T: Element> Tensor<T> {
    /// Passes every gradient of this tensor through `hook`, which returns its replacement. In a backward pass
    /// it runs once, on the sum of the contributions of all uses of the tensor: for a leaf before the sum is
    /// added to [`grad`](Tensor::grad), for a recorded tensor before it propagates further back. Hooks run in
    /// the order in which they were registered, and are not recorded.
    ///
    /// ```
    /// use gristmill::Tensor;
    /// let w = Tensor::from_slice(&[3.0, -4.0], [2])?.requires_grad();
    /// let handle = w.register_hook(|g| g.clamp(-1.0, 1.0))?;
    /// w.square()?.sum()?.backward()?;
    /// assert_eq!(w.grad().unwrap().to_vec(), [1.0, -1.0]);
    /// handle.remove();
    /// w.square()?.sum()?.backward()?;
    /// assert_eq!(w.grad().unwrap().to_vec(), [7.0, -9.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Autograd`] if the tensor requires no gradient, was recorded on another thread, or its part of
    /// the tape has been freed. An error returned by a hook, or [`Error::Shape`] if it changes the shape,
    /// ends the backward pass.
    pub fn register_hook(
        &self,
        hook: impl Fn(&Tensor<T>) -> Result<Tensor<T>> + Send + Sync + 'static,
    ) -> Result<HookHandle> {
        let hook = Arc::new(hook);
        let handle = match &self.track {
            None => return Err(Error::autograd(OP, "the tensor requires no gradient")),
            Some(Track::Leaf(leaf)) => return Ok(leaf.hooks.get_or_init(Hooks::default).add(hook)),
            Some(Track::Node(handle)) => handle,
        };
        let registered = with_tape::<T, _>(|tape| {
            let mut tape = tape.borrow_mut();
            if !Arc::ptr_eq(&tape.token, &handle.token) {
                return Err(Error::autograd(OP, "the tensor was recorded on the tape of another thread"));
            }
            match tape.nodes.get_mut(handle.index).map(|node| &mut node.op) {
                None | Some(Op::Freed) => Err(Error::autograd(OP, "this part of the tape was run through")),
                Some(Op::Hooked(hooked)) => Ok(hooked.hooks.add(hook)),
                Some(op) => {
                    let inner = Box::new(std::mem::replace(op, Op::Freed));
                    let hooked = Hooked { hooks: Hooks::default(), inner };
                    let handle = hooked.hooks.add(hook);
                    *op = Op::Hooked(hooked);
                    Ok(handle)
                }
            }
        });
        registered.unwrap_or_else(|| Err(Error::autograd(OP, "the thread is shutting down")))
    }
}
