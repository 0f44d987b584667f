//! Blocks of memory in size classes, and lists of free ones.

use std::alloc::{self, Layout};
use std::ptr::NonNull;
use std::sync::atomic::AtomicUsize;

/// One cache line, one virtual register.
pub(super) const ALIGNMENT: usize = 64;
/// The smallest block: the header and seven registers.
const SMALLEST: usize = 512;
/// Four classes from each power of two to the next, up to 2⁴⁸ bytes.
pub(super) const CLASSES: usize = 4 * 48;
/// The class of the smallest blocks.
pub(super) const FIRST: usize = 35;
/// The size of a huge page.
pub(super) const HUGE_PAGE: usize = 2 << 20;

/// The first cache line of a block.
#[repr(C, align(64))]
pub(super) struct Header {
    pub owners: AtomicUsize,
    pub class: u32,
    /// The next free block; only used while this block is free.
    pub next: Free,
    /// The address of the free blocks of the thread that took this block; only compared, since that thread
    /// may have ended.
    pub home: usize,
}

/// Free blocks, linked through their headers, so that keeping one takes no memory.
#[derive(Default)]
pub(super) struct Free(pub Option<NonNull<Header>>);

// SAFETY: free blocks are plain memory that only the list refers to.
unsafe impl Send for Free {}

impl Free {
    #[inline]
    pub fn pop(&mut self) -> Option<NonNull<Header>> {
        let block = self.0?;
        // SAFETY: blocks of the list are allocated and not in use.
        self.0 = unsafe { (*block.as_ptr()).next.0.take() };
        Some(block)
    }

    /// Adds a block that is no longer in use.
    #[inline]
    pub fn push(&mut self, block: NonNull<Header>) {
        // SAFETY: the caller hands the block over.
        unsafe { (*block.as_ptr()).next.0 = self.0 };
        self.0 = Some(block);
    }
}

/// The smallest class whose blocks have this many bytes; `None` if there is none.
#[inline]
pub(super) fn class(bytes: usize) -> Option<u32> {
    // From 5 to 8 quarters of a power of two.
    let power = (bytes.max(SMALLEST) - 1).ilog2();
    let quarters = bytes.max(SMALLEST).div_ceil(1 << (power - 2)) as u32;
    let class = 4 * power + quarters - 5;
    ((class as usize) < CLASSES).then_some(class)
}

/// The bytes of a block of this class.
#[inline]
pub(super) fn size(class: u32) -> usize {
    (class as usize % 4 + 5) << (class / 4 - 2)
}

/// Blocks of two huge pages and more begin with one: smaller ones would lose too much of the pages that they
/// are cut from.
fn layout(class: u32) -> Layout {
    let size = size(class);
    let align = if size < 2 * HUGE_PAGE { ALIGNMENT } else { HUGE_PAGE };
    Layout::from_size_align(size, align).expect("a class is below 2^48 bytes")
}

/// A zeroed block from the system, with one owner.
pub(super) fn allocate(class: u32, home: usize) -> Option<NonNull<Header>> {
    let layout = layout(class);
    // SAFETY: the layout is not empty.
    let block = NonNull::new(unsafe { alloc::alloc(layout) })?;
    #[cfg(all(target_os = "linux", not(miri)))]
    if layout.align() == HUGE_PAGE {
        // SAFETY: the pages belong to the block, and their contents stay. A kernel without huge pages returns
        // an error, which does no harm.
        unsafe { libc::madvise(block.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
    }
    // SAFETY: the block is ours, has the size of the layout and begins with a header.
    unsafe {
        block.write_bytes(0, layout.size());
        let block = block.cast::<Header>();
        block.write(Header { owners: AtomicUsize::new(1), class, next: Free(None), home });
        Some(block)
    }
}

/// Gives a block without owners back to the system.
pub(super) fn free(block: NonNull<Header>, class: u32) {
    // SAFETY: made by `allocate` with this layout; it has no owners any more.
    unsafe { alloc::dealloc(block.as_ptr().cast(), layout(class)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_at_most_a_quarter_larger_than_asked_for() {
        let edges = (3..40).flat_map(|power| (4..8).map(move |quarters| quarters << (power - 2)));
        for bytes in edges.flat_map(|edge: usize| [edge - 1, edge, edge + 1]) {
            let class = class(bytes).unwrap();
            assert!(
                size(class) >= bytes && (size(class) == SMALLEST || size(class) < bytes + bytes / 4 + 2),
                "{bytes}"
            );
            assert!(
                size(class).is_multiple_of(ALIGNMENT) && self::class(size(class)) == Some(class),
                "{bytes}"
            );
        }
        assert!(class(1 << 48).is_some() && class((1 << 48) + 1).is_none() && class(usize::MAX).is_none());
    }

    #[test]
    fn classes_begin_with_the_smallest() {
        assert_eq!((class(0), size(FIRST as u32)), (Some(FIRST as u32), SMALLEST));
    }
}
