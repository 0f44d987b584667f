//! Memory for elements: aligned to 64 bytes, taken from and returned to a pool.
//!
//! A block belongs to one size class; there are four classes from each power of two to the next. Blocks are
//! zeroed when they come from the system and only ever hold plain numbers, so that the contents of a recycled
//! block are valid, if stale. Large blocks ask Linux for huge pages: that makes going through them 5 to 25 %
//! faster, and touching them for the first time takes a third of the time.
//!
//! Each thread keeps some of the free blocks that it took itself, so that threads working on separate data do
//! not wait for each other. All other free blocks, and those of a thread that ends, are in one pool for the
//! whole process. [`free_memory`], [`limit_free_memory`] and [`release_memory`] count and reach the blocks of
//! all threads.

mod block;
mod own;
mod shared;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

use self::block::Header;
use self::shared::{FREE_BYTES, LIMIT};
use crate::error::{Error, Result};

/// A block with room for this many bytes, or `None` if the system has no such memory.
fn take(bytes: usize) -> Option<NonNull<Header>> {
    let class = block::class(bytes.checked_add(size_of::<Header>())?)?;
    match own::take(class) {
        Ok(block) => Some(block),
        Err(home) => shared::take(class, home),
    }
}

fn give_back(block: NonNull<Header>) {
    // SAFETY: the last owner hands over the block.
    let (class, home) = unsafe { (block.as_ref().class, block.as_ref().home) };
    if !own::keep(block, class, home) {
        shared::give(block, class);
    }
}

/// Whether the system would give this many bytes. For ordinary sizes the check costs nothing.
#[cfg(feature = "train")]
pub(crate) fn has_room(bytes: usize) -> bool {
    use std::alloc::{self, Layout};
    if bytes < 1 << 32 {
        return true;
    }
    let Ok(layout) = Layout::from_size_align(bytes, block::ALIGNMENT) else { return false };
    // SAFETY: the layout is not empty; the memory goes back untouched. Without the black box a compiler may
    // remove the allocation and its release together.
    unsafe {
        let memory = std::hint::black_box(alloc::alloc(layout));
        if !memory.is_null() {
            alloc::dealloc(memory, layout);
        }
        !memory.is_null()
    }
}

/// Bytes in free blocks, which the pool and the threads keep for the next buffers.
pub fn free_memory() -> usize {
    let unused = own::unused();
    FREE_BYTES.load(Ordering::Relaxed).saturating_sub(unused)
}

/// Sets the most bytes that the free blocks of all threads may have together, 1 GiB by default; blocks that
/// are freed beyond it go back to the system. With 0 no block is kept, and every buffer comes from the
/// system.
///
/// A thread keeps up to 16 MiB of its free blocks for itself. What counts for it is the most that it has kept
/// since the last [`release_memory`].
pub fn limit_free_memory(bytes: usize) {
    LIMIT.store(bytes, Ordering::Relaxed);
    if FREE_BYTES.load(Ordering::Relaxed) > bytes {
        release_memory();
    }
}

/// Gives all free blocks back to the system: those of the pool, and those that threads keep for themselves.
pub fn release_memory() {
    own::release();
    shared::release();
}

/// What a [`Buffer`] can hold: plain numbers, for which every bit pattern is valid.
pub trait Number: private::Plain {}

mod private {
    /// # Safety
    /// Every bit pattern is valid, and an alignment of 64 bytes is enough.
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

/// A slice of elements with one or more owners. Only a single owner may write.
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
    /// `len` numbers of unspecified value, to be overwritten.
    ///
    /// # Panics
    /// If the system has no memory for them.
    #[inline]
    pub fn stale(len: usize) -> Self {
        Self::try_stale(len).unwrap_or_else(|error| panic!("{error}"))
    }

    /// `len` numbers of unspecified value, to be overwritten.
    ///
    /// # Errors
    /// [`Error::Shape`] if the system has no memory for them.
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

    /// `len` elements equal to `value`.
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
        // SAFETY: an owner keeps the block alive; a count of one, read with `Acquire`, means that no other
        // owner is left to read, and none can appear while `self` is borrowed.
        unsafe {
            (self.block.as_ref().owners.load(Ordering::Acquire) == 1)
                .then(|| std::slice::from_raw_parts_mut(self.data(), self.len))
        }
    }

    /// The numbers of a buffer that was just created.
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

/// Compares the numbers, whatever kind of slice holds them.
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
            // Only leaked clones can reach this count; if it wrapped around, memory in use would be freed.
            std::process::abort();
        }
        Self { block: self.block, len: self.len, element: std::marker::PhantomData }
    }
}

impl<T: Number> Drop for Buffer<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: an owner keeps the block alive.
        let owners = unsafe { &self.block.as_ref().owners };
        // No second owner can appear beside the only one, so it need not decrement the count: the usual case.
        if owners.load(Ordering::Acquire) == 1 {
            give_back(self.block);
        } else if owners.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            give_back(self.block);
        }
    }
}

/// Scratch memory of one kernel call: a [`Buffer`] with a single owner.
pub(crate) struct Scratch<T: Number>(Buffer<T>);

impl<T: Number> Scratch<T> {
    /// `len` numbers of unspecified value.
    #[inline]
    pub fn new(len: usize) -> Self {
        Self(Buffer::stale(len))
    }
}

impl<T: Number> Deref for Scratch<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Number> DerefMut for Scratch<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        self.0.fresh_mut()
    }
}

/// Held by tests that release or count free memory, so that they do not run at the same time.
#[cfg(test)]
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(test)]
mod tests {
    use super::block::{ALIGNMENT, HUGE_PAGE};
    use super::shared::lock;
    use super::*;

    #[test]
    fn buffers_are_aligned_recycled_and_written_by_single_owners_only() {
        let _alone = lock(&ALONE);
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
    fn large_blocks_begin_with_a_huge_page_and_are_zeroed() {
        let _alone = lock(&ALONE);
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

    /// Drops a buffer while thread-local variables are destroyed, before and after the free blocks of the
    /// thread.
    #[test]
    fn buffers_may_outlive_the_free_blocks_of_their_thread() {
        struct Late(std::cell::RefCell<Vec<Buffer<f32>>>);
        impl Drop for Late {
            fn drop(&mut self) {
                self.0.get_mut().push(Buffer::full(5000, 2.0));
                self.0.get_mut().clear();
            }
        }
        thread_local! {
            static BEFORE: Late = const { Late(std::cell::RefCell::new(Vec::new())) };
            static AFTER: Late = const { Late(std::cell::RefCell::new(Vec::new())) };
        }
        std::thread::spawn(|| {
            BEFORE.with(|late| late.0.borrow_mut().push(Buffer::full(5000, 1.0)));
            AFTER.with(|late| late.0.borrow_mut().push(Buffer::full(5000, 1.0)));
        })
        .join()
        .unwrap();
    }
}
