//! The free blocks of the process, and how many bytes are free in all.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::block::{self, CLASSES, Free, Header, size};

/// The free blocks of the process by class.
static FREE: [Line<Mutex<Free>>; CLASSES] = [const { Line(Mutex::new(Free(None))) }; CLASSES];
/// Bytes in the blocks of [`FREE`], plus the bytes that threads have reserved for theirs.
pub(super) static FREE_BYTES: AtomicUsize = AtomicUsize::new(0);
/// Free bytes beyond this limit go back to the system.
pub(super) static LIMIT: AtomicUsize = AtomicUsize::new(1 << 30);

/// A value alone on its cache lines, so that threads that use its neighbours do not slow each other down.
#[repr(align(128))]
struct Line<T>(T);

#[inline]
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts this many more bytes as free, unless that would exceed the limit; says whether it did.
#[inline]
pub(super) fn count_free(bytes: usize) -> bool {
    let may = FREE_BYTES.fetch_add(bytes, Ordering::Relaxed) + bytes <= LIMIT.load(Ordering::Relaxed);
    if !may {
        FREE_BYTES.fetch_sub(bytes, Ordering::Relaxed);
    }
    may
}

/// Keeps a block whose bytes are counted as free.
pub(super) fn push(class: usize, block: NonNull<Header>) {
    lock(&FREE[class].0).push(block);
}

/// A block with one owner, the thread whose own blocks are at `home`: from the process's free blocks or from
/// the system.
#[inline(never)]
pub(super) fn take(class: u32, home: usize) -> Option<NonNull<Header>> {
    let Some(block) = lock(&FREE[class as usize].0).pop() else { return block::allocate(class, home) };
    FREE_BYTES.fetch_sub(size(class), Ordering::Relaxed);
    // SAFETY: a free block has no owners and no other user; its header was written when it was allocated.
    unsafe {
        (*block.as_ptr()).home = home;
        block.as_ref().owners.store(1, Ordering::Relaxed);
    }
    Some(block)
}

/// Keeps a block without owners, or gives it back to the system if the limit is reached.
#[inline(never)]
pub(super) fn give(block: NonNull<Header>, class: u32) {
    if count_free(size(class)) {
        push(class as usize, block);
    } else {
        block::free(block, class);
    }
}

/// Gives all of the process's free blocks back to the system.
pub(super) fn release() {
    for (class, free) in FREE.iter().enumerate() {
        let mut blocks = std::mem::take(&mut *lock(&free.0));
        while let Some(block) = blocks.pop() {
            FREE_BYTES.fetch_sub(size(class as u32), Ordering::Relaxed);
            block::free(block, class as u32);
        }
    }
}
