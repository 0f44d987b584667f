//! Switching recording off for the rest of a block.

use std::marker::PhantomData;

use super::RECORDING;

/// As long as this guard exists, nothing is recorded on this thread; returned by [`no_grad_guard`].
#[must_use = "recording goes on as soon as it is dropped"]
#[derive(Debug)]
pub struct NoGrad {
    before: bool,
    /// Not `Send`: the guard belongs to its thread.
    _here: PhantomData<*const ()>,
}

/// [`no_grad`](super::no_grad) until the end of the block that holds the guard. Nested guards must be dropped
/// in reverse order.
///
/// ```
/// use gristmill::{Tensor, autograd::{is_recording, no_grad_guard}};
/// let w = Tensor::<f32>::ones([3])?.requires_grad();
/// {
///     let _guard = no_grad_guard();
///     assert!(!w.exp()?.is_tracked());
/// }
/// assert!(w.exp()?.is_tracked());
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn no_grad_guard() -> NoGrad {
    NoGrad { before: RECORDING.replace(false), _here: PhantomData }
}

impl Drop for NoGrad {
    fn drop(&mut self) {
        RECORDING.set(self.before);
    }
}
