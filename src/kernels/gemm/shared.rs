//! B packed by the threads of one product together: each block once, by the first task that needs it.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{KC, Plan};
use crate::buffer::Scratch;
use crate::simd::Element;

/// The most blocks that are shared.
const BLOCKS: usize = 64;

const EMPTY: u8 = 0;
const TAKEN: u8 = 1;
const READY: u8 = 2;

/// Room for a whole B: the blocks of [`KC`] rows one after the other, in each the columns of one task after
/// those of another.
pub(super) struct SharedB<T: Element> {
    packed: *mut T,
    /// In whole registers.
    cols: usize,
    /// Columns of a task, and the number of tasks side by side.
    task_cols: usize,
    tasks: usize,
    states: [AtomicU8; BLOCKS],
    /// What `packed` points to.
    _memory: Scratch<T>,
}

// SAFETY: a block is written by the one task that took it, and read by others once it is ready.
unsafe impl<T: Element> Sync for SharedB<T> {}

impl<T: Element> SharedB<T> {
    /// For a product in which several tasks use the same columns of a B that is packed, unless there are too
    /// many blocks.
    pub fn new(plan: &Plan) -> Option<Self> {
        let [_, k, n] = plan.shape;
        let task_cols = plan.shared_columns()?;
        let (tasks, cols) = (n.div_ceil(task_cols), n.next_multiple_of(T::LANES));
        let blocks = k.div_ceil(KC) * tasks;
        if blocks > BLOCKS {
            return None;
        }
        let mut memory = Scratch::new(k * cols);
        let (packed, states) = (memory.as_mut_ptr(), [const { AtomicU8::new(EMPTY) }; BLOCKS]);
        Some(Self { packed, cols, task_cols, tasks, states, _memory: memory })
    }

    /// The block of these rows, at most [`KC`] from a multiple of it on, and of all columns of a task: as it
    /// was packed, or packed now. `None` while another thread packs it, so that no thread waits for
    /// another.
    #[inline(always)]
    pub fn get(&self, rows: &Range<usize>, cols: &Range<usize>, pack: impl FnOnce(&mut [T])) -> Option<&[T]> {
        let state = &self.states[rows.start / KC * self.tasks + cols.start / self.task_cols];
        let len = cols.len().next_multiple_of(T::LANES) * rows.len();
        let start = self.packed.wrapping_add(rows.start * self.cols + cols.start * rows.len());
        match state.compare_exchange(EMPTY, TAKEN, Ordering::Acquire, Ordering::Acquire) {
            Ok(_) => {
                // SAFETY: blocks are disjoint parts of the memory, and this one is nobody else's until it is
                // ready.
                pack(unsafe { std::slice::from_raw_parts_mut(start, len) });
                state.store(READY, Ordering::Release);
            }
            Err(READY) => {}
            Err(_) => return None,
        }
        // SAFETY: ready, it is only read.
        Some(unsafe { std::slice::from_raw_parts(start, len) })
    }
}
