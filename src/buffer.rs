//! Memory for elements: aligned to 64 bytes, taken from and returned to one pool for the whole process.
//!
//! A block serves one size class, of which there are four from each power of two to the next. Blocks are zeroed when they
//! come from the system and never handed out for anything but plain numbers, so that what a recycled block still holds is
//! valid, if stale. Large blocks ask Linux for huge pages: to go through them takes 5 to 25 % less time, to touch them for
//! the first time a third.

use std::alloc::{self, Layout};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::simd::Element;

/// One cache line, one virtual register.
const ALIGNMENT: usize = 64;
/// The header and seven registers.
const SMALLEST: usize = 512;
/// Four from each power of two to the next, up to 2⁴⁸ bytes.
const CLASSES: usize = 4 * 48;
/// A huge page.
const HUGE_PAGE: usize = 2 << 20;

/// Free blocks by class, each of which knows the next one, and their bytes in all.
static FREE: [Mutex<Free>; CLASSES] = [const { Mutex::new(Free(None)) }; CLASSES];
static FREE_BYTES: AtomicUsize = AtomicUsize::new(0);
/// More than this many free bytes are given back to the system.
static LIMIT: AtomicUsize = AtomicUsize::new(1 << 30);

/// The first cache line of a block.
#[repr(C, align(64))]
struct Header {
    owners: AtomicUsize,
    class: u32,
    /// While the block is free.
    next: Free,
}

/// Blocks that nobody uses: a list through their headers, so that to keep one takes no memory.
struct Free(Option<NonNull<Header>>);

// SAFETY: free blocks are plain memory, and the list is all that leads to them.
unsafe impl Send for Free {}

impl Free {
    fn pop(&mut self) -> Option<NonNull<Header>> {
        let block = self.0?;
        // SAFETY: blocks of the list are alive and used by nobody else.
        self.0 = unsafe { (*block.as_ptr()).next.0.take() };
        Some(block)
    }

    /// Takes a block that nobody uses any more.
    fn push(&mut self, block: NonNull<Header>) {
        // SAFETY: the caller hands the block over.
        unsafe { (*block.as_ptr()).next.0 = self.0 };
        self.0 = Some(block);
    }
}

fn lock(free: &Mutex<Free>) -> MutexGuard<'_, Free> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The class of the smallest blocks that have so many bytes, if there is one.
fn class(bytes: usize) -> Option<u32> {
    // From 5 to 8 quarters of a power of two.
    let power = (bytes.max(SMALLEST) - 1).ilog2();
    let quarters = bytes.max(SMALLEST).div_ceil(1 << (power - 2)) as u32;
    let class = 4 * power + quarters - 5;
    ((class as usize) < CLASSES).then_some(class)
}

fn size(class: u32) -> usize {
    (class as usize % 4 + 5) << (class / 4 - 2)
}

/// Whole huge pages are worth more than the one that may be cut from two blocks.
fn layout(class: u32) -> Layout {
    let size = size(class);
    let align = if size < 2 * HUGE_PAGE { ALIGNMENT } else { HUGE_PAGE };
    Layout::from_size_align(size, align).expect("a class is below 2^48 bytes")
}

/// A block with room for this many bytes, or `None` when there is no such memory.
fn take(bytes: usize) -> Option<NonNull<Header>> {
    let class = class(bytes.checked_add(size_of::<Header>())?)?;
    if let Some(block) = lock(&FREE[class as usize]).pop() {
        FREE_BYTES.fetch_sub(size(class), Ordering::Relaxed);
        // SAFETY: a free block has no owners; its header was written when it was made.
        unsafe { block.as_ref().owners.store(1, Ordering::Relaxed) };
        return Some(block);
    }
    let layout = layout(class);
    // SAFETY: the layout is not empty.
    let block = NonNull::new(unsafe { alloc::alloc(layout) })?;
    #[cfg(all(target_os = "linux", not(miri)))]
    if layout.align() == HUGE_PAGE {
        // SAFETY: the pages are the block's own, and what they hold stays. A system that does not know it says no, and
        // nothing is lost.
        unsafe { libc::madvise(block.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
    }
    // SAFETY: the block is ours, has the size of the layout and begins with a header.
    unsafe {
        block.write_bytes(0, layout.size());
        let block = block.cast::<Header>();
        block.write(Header { owners: AtomicUsize::new(1), class, next: Free(None) });
        Some(block)
    }
}

fn give_back(block: NonNull<Header>) {
    // SAFETY: the last owner hands over the block.
    let class = unsafe { block.as_ref().class };
    let size = size(class);
    if FREE_BYTES.fetch_add(size, Ordering::Relaxed) + size > LIMIT.load(Ordering::Relaxed) {
        FREE_BYTES.fetch_sub(size, Ordering::Relaxed);
        // SAFETY: made by `take` with this layout; nobody owns it any more.
        unsafe { alloc::dealloc(block.as_ptr().cast(), layout(class)) };
    } else {
        lock(&FREE[class as usize]).push(block);
    }
}

/// Whether the system would give so many bytes. Asked of sizes that are not absurd, it costs nothing.
#[cfg(feature = "train")]
pub(crate) fn has_room(bytes: usize) -> bool {
    if bytes < 1 << 32 {
        return true;
    }
    let Ok(layout) = Layout::from_size_align(bytes, ALIGNMENT) else { return false };
    // SAFETY: the layout is not empty; the memory goes back untouched. Without the black box a compiler may leave out both.
    unsafe {
        let memory = std::hint::black_box(alloc::alloc(layout));
        if !memory.is_null() {
            alloc::dealloc(memory, layout);
        }
        !memory.is_null()
    }
}

/// Bytes in free blocks, which the pool keeps for the next buffers.
pub fn free_memory() -> usize {
    FREE_BYTES.load(Ordering::Relaxed)
}

/// The most bytes that the pool keeps in free blocks, 1 GiB unless it is set; blocks that are freed beyond it go back to
/// the system. With 0 nothing is kept, and every buffer comes from the system.
pub fn limit_free_memory(bytes: usize) {
    LIMIT.store(bytes, Ordering::Relaxed);
    if free_memory() > bytes {
        release_memory();
    }
}

/// Gives all free blocks of the pool back to the system.
pub fn release_memory() {
    for (class, free) in FREE.iter().enumerate() {
        let mut blocks = std::mem::replace(&mut *lock(free), Free(None));
        while let Some(block) = blocks.pop() {
            FREE_BYTES.fetch_sub(size(class as u32), Ordering::Relaxed);
            // SAFETY: made by `take` with this layout; nobody owns it.
            unsafe { alloc::dealloc(block.as_ptr().cast(), layout(class as u32)) };
        }
    }
}

/// What a [`Buffer`] can hold: plain numbers, of which any bits are one.
pub trait Number: private::Plain {}

mod private {
    /// # Safety
    /// Any bits are a value, and an alignment of 64 bytes is enough.
    pub unsafe trait Plain: Copy + Send + Sync + 'static {}
}

macro_rules! numbers {
    ($($number:ident)+) => {$(
        // SAFETY: it is a plain number.
        unsafe impl private::Plain for $number {}
        impl Number for $number {}
    )+};
}
numbers!(f32 f64 usize);

/// A slice of elements with one or more owners. A single owner may write.
pub struct Buffer<T: Number> {
    block: NonNull<Header>,
    len: usize,
    element: std::marker::PhantomData<T>,
}

// SAFETY: shared owners only read; writing needs a single owner, which `get_mut` checks.
unsafe impl<T: Number> Send for Buffer<T> {}
// SAFETY: as above.
unsafe impl<T: Number> Sync for Buffer<T> {}

impl<T: Number> Buffer<T> {
    /// `len` numbers of unknown value, to be overwritten.
    ///
    /// # Panics
    /// If there is no memory for it.
    #[inline]
    pub fn stale(len: usize) -> Self {
        Self::try_stale(len).unwrap_or_else(|error| panic!("{error}"))
    }

    /// `len` numbers of unknown value, to be overwritten.
    ///
    /// # Errors
    /// [`Error::Shape`] when there is no memory for them.
    #[inline]
    pub fn try_stale(len: usize) -> Result<Self> {
        match len.checked_mul(size_of::<T>()).and_then(take) {
            Some(block) => Ok(Self { block, len, element: std::marker::PhantomData }),
            None => Err(Error::shape(
                "buffer",
                format!("there is no memory for {len} elements of {}", std::any::type_name::<T>()),
            )),
        }
    }

    /// `len` times `value`.
    pub fn full(len: usize, value: T) -> Self {
        let mut buffer = Self::stale(len);
        buffer.fresh_mut().fill(value);
        buffer
    }

    /// A copy of `values`.
    pub fn copy_of(values: &[T]) -> Self {
        let mut buffer = Self::stale(values.len());
        buffer.fresh_mut().copy_from_slice(values);
        buffer
    }

    fn data(&self) -> *mut T {
        // SAFETY: the elements follow the header in the same block.
        unsafe { self.block.as_ptr().add(1).cast() }
    }

    /// The numbers, if this is the only owner.
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut [T]> {
        // SAFETY: an owner keeps the block alive; a count of one, read with `Acquire`, means that no other owner is
        // left to read, and none can come while `self` is borrowed.
        unsafe {
            (self.block.as_ref().owners.load(Ordering::Acquire) == 1)
                .then(|| std::slice::from_raw_parts_mut(self.data(), self.len))
        }
    }

    /// The numbers of a buffer that was just made.
    ///
    /// # Panics
    /// If there are other owners.
    #[inline]
    pub fn fresh_mut(&mut self) -> &mut [T] {
        self.get_mut().expect("a buffer is written before it is shared")
    }
}

impl<T: Number> Deref for Buffer<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the block holds `len` numbers: zeros or what an earlier owner wrote.
        unsafe { std::slice::from_raw_parts(self.data(), self.len) }
    }
}

impl<T: Number + fmt::Debug> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Number> AsRef<[T]> for Buffer<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<'a, T: Number> IntoIterator for &'a Buffer<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Equal numbers, in whatever they lie.
impl<T: Number + PartialEq, R: AsRef<[T]> + ?Sized> PartialEq<R> for Buffer<T> {
    fn eq(&self, other: &R) -> bool {
        **self == *other.as_ref()
    }
}

impl<T: Number> Clone for Buffer<T> {
    /// One more owner of the same numbers.
    #[inline]
    fn clone(&self) -> Self {
        // SAFETY: an owner keeps the block alive.
        let owners = unsafe { self.block.as_ref().owners.fetch_add(1, Ordering::Relaxed) };
        if owners > isize::MAX as usize {
            // Only forgotten clones come to so many; one more round would free what is in use.
            std::process::abort();
        }
        Self { block: self.block, len: self.len, element: std::marker::PhantomData }
    }
}

impl<T: Number> Drop for Buffer<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: an owner keeps the block alive.
        if unsafe { self.block.as_ref().owners.fetch_sub(1, Ordering::Release) } == 1 {
            fence(Ordering::Acquire);
            give_back(self.block);
        }
    }
}

/// Scratch memory of one kernel call: a [`Buffer`] with a single owner.
pub(crate) struct Scratch<T: Element>(Buffer<T>);

impl<T: Element> Scratch<T> {
    /// `len` numbers of unknown value.
    #[inline]
    pub fn new(len: usize) -> Self {
        Self(Buffer::stale(len))
    }
}

impl<T: Element> Deref for Scratch<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Element> DerefMut for Scratch<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        self.0.fresh_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_recycled_and_written_by_single_owners_only() {
        let mut first = Buffer::<f32>::full(100, 1.5);
        assert_eq!(first.as_ptr().addr() % ALIGNMENT, 0);
        let second = first.clone();
        assert!(first.get_mut().is_none());
        drop(second);
        first.get_mut().unwrap()[99] = 2.0;
        assert_eq!(first.iter().sum::<f32>(), 99.0 * 1.5 + 2.0);
        assert_eq!(Buffer::<f64>::stale(0).len(), 0);
        drop(first);
        release_memory();
    }

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
    fn large_blocks_begin_with_a_huge_page_and_are_zeroed() {
        let buffer = Buffer::<f32>::stale(3 << 20);
        assert_eq!(buffer.block.as_ptr().addr() % HUGE_PAGE, 0);
        drop(buffer);
        release_memory();
        assert!(Buffer::<f32>::stale(3 << 20).iter().all(|&x| x == 0.0));
    }

    #[test]
    fn the_last_owner_on_any_thread_gives_the_block_back() {
        let buffer = Buffer::<f64>::full(1000, 0.25);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let buffer = buffer.clone();
                scope.spawn(move || assert!(buffer.iter().all(|&x| x == 0.25)));
            }
        });
    }
}
