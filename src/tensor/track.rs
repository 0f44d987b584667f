//! A tensor's link to its gradient: it is a leaf with a slot for the gradient, or a node of a tape.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::ThreadId;

use super::Tensor;
use crate::error::Result;
use crate::simd::Element;

/// Where the gradient of a tensor goes.
#[derive(Clone)]
pub(crate) enum Track<T: Element> {
    /// A tensor whose gradient the user asked for.
    Leaf(Arc<Leaf<T>>),
    /// The result of a recorded operation.
    Node(Handle),
}

/// The accumulated gradient of a leaf, and the hooks that gradients pass through, if there are any.
pub(crate) struct Leaf<T: Element> {
    pub grad: Mutex<Option<Tensor<T>>>,
    pub hooks: OnceLock<Hooks<T>>,
}

/// The hooks of one tensor, in order.
pub(crate) struct Hooks<T: Element>(pub Mutex<Vec<Hook<T>>>);

/// A function that gradients pass through until it is unregistered.
#[derive(Clone)]
pub(crate) struct Hook<T: Element> {
    pub function: Arc<HookFunction<T>>,
    pub live: Arc<AtomicBool>,
}

pub(crate) type HookFunction<T> = dyn Fn(&Tensor<T>) -> Result<Tensor<T>> + Send + Sync;

/// Node `index` of a tape. The owners of the token count the tape's handles.
pub(crate) struct Handle {
    pub token: Arc<Token>,
    pub index: usize,
}

/// The identity of a tape: its thread, and what to do when its last handle is dropped.
pub(crate) struct Token {
    pub thread: ThreadId,
    pub on_last: fn(&Token),
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        Self { token: self.token.clone(), index: self.index }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // The tape owns the token, too: with two owners, this is the last handle.
        if Arc::strong_count(&self.token) == 2 {
            (self.token.on_last)(&self.token);
        }
    }
}
