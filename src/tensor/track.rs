//! What a tensor knows of its gradient: that it is a leaf with a place for one, or which node of which tape made it.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::ThreadId;

use super::Tensor;
use crate::error::Result;
use crate::simd::Element;

/// Where the gradient of a tensor goes.
#[derive(Clone)]
pub(crate) enum Track<T: Element> {
    /// A tensor the user asked a gradient for.
    Leaf(Arc<Leaf<T>>),
    /// The result of a recorded operation.
    Node(Handle),
}

/// The accumulated gradient of a leaf, and the hooks through which gradients come, if there are any.
pub(crate) struct Leaf<T: Element> {
    pub grad: Mutex<Option<Tensor<T>>>,
    pub hooks: OnceLock<Hooks<T>>,
}

/// The hooks of one tensor, in their order.
pub(crate) struct Hooks<T: Element>(pub Mutex<Vec<Hook<T>>>);

/// A function that gradients pass through, until it is no longer live.
#[derive(Clone)]
pub(crate) struct Hook<T: Element> {
    pub function: Arc<HookFunction<T>>,
    pub live: Arc<AtomicBool>,
}

pub(crate) type HookFunction<T> = dyn Fn(&Tensor<T>) -> Result<Tensor<T>> + Send + Sync;

/// Node `index` of a tape. The tape counts its handles by the owners of the token.
pub(crate) struct Handle {
    pub token: Arc<Token>,
    pub index: usize,
}

/// One tape's identity: the thread it lives on, and what to do when its last handle goes.
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
        // The tape owns the token too: two owners are the tape and this handle.
        if Arc::strong_count(&self.token) == 2 {
            (self.token.on_last)(&self.token);
        }
    }
}
