//! Memory for elements: aligned to 64 bytes, taken from and returned to a pool.
//!
//! A block serves one size class, of which there are four from each power of two to the next. Blocks are zeroed when they
//! come from the system and never handed out for anything but plain numbers, so that what a recycled block still holds is
//! valid, if stale. Large blocks ask Linux for huge pages: to go through them takes 5 to 25 % less time, to touch them for
//! the first time a third.
//!
//! Each thread keeps some of the free blocks that it took itself, so that threads that work on things of their own do not
//! wait for each other; the rest, and what another thread took, is in one pool for the whole process, where the free
//! blocks of a thread go, too, when it ends. [`free_memory`], [`limit_free_memory`] and [`release_memory`] count and reach
//! the blocks of all threads.

use std::alloc::{self, Layout};
use std::cell::{OnceCell, UnsafeCell};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// The class of the smallest blocks.
const FIRST: usize = 35;
/// Classes of which a thread keeps blocks: up to 1 MiB. What is computed on larger ones takes so long that the lock of the
/// pool does not count.
const OWN_CLASSES: usize = 80 - FIRST;
/// The most blocks of one class that a thread keeps.
const MOST_OWN_BLOCKS: u32 = 256;
/// The most bytes in blocks that a thread keeps: some training steps of a small network.
const MOST_OWN_BYTES: usize = 16 << 20;

/// Free blocks of the process by class, each of which knows the next one.
static FREE: [Line<Mutex<Free>>; CLASSES] = [const { Line(Mutex::new(Free(None))) }; CLASSES];
/// Bytes in the blocks of [`FREE`], and the bytes that threads have reserved for theirs.
static FREE_BYTES: AtomicUsize = AtomicUsize::new(0);
/// More than this many free bytes are given back to the system.
static LIMIT: AtomicUsize = AtomicUsize::new(1 << 30);
/// The free blocks of each thread that lives.
static OWNERS: Mutex<Vec<Arc<Own>>> = Mutex::new(Vec::new());

/// Cache lines of its own: threads that use neighbours do not disturb each other.
#[repr(align(128))]
struct Line<T>(T);

/// The first cache line of a block.
#[repr(C, align(64))]
struct Header {
    owners: AtomicUsize,
    class: u32,
    /// While the block is free.
    next: Free,
    /// Where the free blocks of the thread are that took it; only compared, as that thread may be over.
    home: usize,
}

/// Blocks that nobody uses: a list through their headers, so that to keep one takes no memory.
#[derive(Default)]
struct Free(Option<NonNull<Header>>);

// SAFETY: free blocks are plain memory, and the list is all that leads to them.
unsafe impl Send for Free {}

impl Free {
    #[inline]
    fn pop(&mut self) -> Option<NonNull<Header>> {
        let block = self.0?;
        // SAFETY: blocks of the list are alive and used by nobody else.
        self.0 = unsafe { (*block.as_ptr()).next.0.take() };
        Some(block)
    }

    /// Takes a block that nobody uses any more.
    #[inline]
    fn push(&mut self, block: NonNull<Header>) {
        // SAFETY: the caller hands the block over.
        unsafe { (*block.as_ptr()).next.0 = self.0 };
        self.0 = Some(block);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The free blocks of one thread, all of which it took itself: what others freed for it is in [`FREE`], so that a thread
/// that only frees does not hoard what another one keeps taking.
#[repr(align(128))]
struct Own {
    /// The thread itself has it for a few instructions at a time; others when they count or release free memory. Nobody
    /// but them waits.
    busy: AtomicBool,
    blocks: UnsafeCell<OwnBlocks>,
}

// SAFETY: only who set `busy` uses the blocks.
unsafe impl Sync for Own {}

struct OwnBlocks {
    free: [Free; OWN_CLASSES],
    counts: [u32; OWN_CLASSES],
    bytes: usize,
    /// What [`FREE_BYTES`] counts for this thread: the most that it has kept, so that only more touches what threads
    /// share.
    reserved: usize,
}

thread_local! {
    static OWN: Owner = const { Owner(OnceCell::new()) };
}

/// A thread's side of its free blocks.
struct Owner(OnceCell<Arc<Own>>);

impl Drop for Owner {
    fn drop(&mut self) {
        let Some(own) = self.0.take() else { return };
        lock(&OWNERS).retain(|other| !Arc::ptr_eq(other, &own));
        let Some(OwnBlocks { mut free, bytes, reserved, .. }) = own.take_all() else { return };
        FREE_BYTES.fetch_sub(reserved - bytes, Ordering::Relaxed);
        for (class, free) in free.iter_mut().enumerate() {
            while let Some(block) = free.pop() {
                lock(&FREE[FIRST + class].0).push(block);
            }
        }
    }
}

/// Calls `f` with the free blocks of this thread, unless it shuts down.
#[inline]
fn with_own<R>(f: impl FnOnce(&Own) -> R) -> Option<R> {
    OWN.try_with(|owner| f(owner.0.get_or_init(Own::register))).ok()
}

impl Own {
    #[cold]
    fn register() -> Arc<Self> {
        let own = Arc::new(Self { busy: AtomicBool::new(false), blocks: UnsafeCell::new(OwnBlocks::new()) });
        lock(&OWNERS).push(own.clone());
        own
    }

    /// Calls `f` unless somebody else is at it.
    #[inline]
    fn try_use<R>(&self, f: impl FnOnce(&mut OwnBlocks) -> R) -> Option<R> {
        if self.busy.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: `busy` was not set, and others leave the blocks alone until it is cleared. `f` does not panic: all that
        // is called here with it works on lists and numbers.
        let result = f(unsafe { &mut *self.blocks.get() });
        self.busy.store(false, Ordering::Release);
        Some(result)
    }

    /// [`try_use`](Own::try_use) that waits. Not for ever: after a `fork` the thread that has it may be none of this
    /// process.
    fn wait_and_use<R>(&self, mut f: impl FnMut(&mut OwnBlocks) -> R) -> Option<R> {
        (0..100_000).find_map(|_| {
            let result = self.try_use(&mut f);
            if result.is_none() {
                std::thread::yield_now();
            }
            result
        })
    }

    fn take_all(&self) -> Option<OwnBlocks> {
        self.wait_and_use(|blocks| std::mem::replace(blocks, OwnBlocks::new()))
    }
}

impl OwnBlocks {
    const fn new() -> Self {
        let free = [const { Free(None) }; OWN_CLASSES];
        Self { free, counts: [0; OWN_CLASSES], bytes: 0, reserved: 0 }
    }

    #[inline]
    fn pop(&mut self, class: usize) -> Option<NonNull<Header>> {
        let block = self.free[class - FIRST].pop()?;
        self.counts[class - FIRST] -= 1;
        self.bytes -= size(class as u32);
        Some(block)
    }

    /// Takes a block that nobody uses any more, if there is room for it.
    #[inline]
    fn push(&mut self, class: usize, block: NonNull<Header>) -> bool {
        let bytes = self.bytes + size(class as u32);
        if self.counts[class - FIRST] == MOST_OWN_BLOCKS || (bytes > self.reserved && !self.reserve(bytes)) {
            return false;
        }
        self.bytes = bytes;
        self.counts[class - FIRST] += 1;
        self.free[class - FIRST].push(block);
        true
    }

    /// Whether the thread may keep so many bytes; then they are reserved.
    #[cold]
    fn reserve(&mut self, bytes: usize) -> bool {
        let may = bytes <= MOST_OWN_BYTES && count_free(bytes - self.reserved);
        if may {
            self.reserved = bytes;
        }
        may
    }
}

/// Counts so many free bytes more, unless they would be more than the limit.
fn count_free(bytes: usize) -> bool {
    let may = FREE_BYTES.fetch_add(bytes, Ordering::Relaxed) + bytes <= LIMIT.load(Ordering::Relaxed);
    if !may {
        FREE_BYTES.fetch_sub(bytes, Ordering::Relaxed);
    }
    may
}

/// The class of the smallest blocks that have so many bytes, if there is one.
fn class(bytes: usize) -> Option<u32> {
    // From 5 to 8 quarters of a power of two.
    let power = (bytes.max(SMALLEST) - 1).ilog2();
    let quarters = bytes.max(SMALLEST).div_ceil(1 << (power - 2)) as u32;
    let class = 4 * power + quarters - 5;
    ((class as usize) < CLASSES).then_some(class)
}

#[inline]
fn size(class: u32) -> usize {
    (class as usize % 4 + 5) << (class / 4 - 2)
}

/// Whether threads keep blocks of this class.
#[inline]
fn is_own(class: usize) -> bool {
    (FIRST..FIRST + OWN_CLASSES).contains(&class)
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
    let mut home = 0;
    if is_own(class as usize) {
        let block = with_own(|own| {
            home = ptr::from_ref(own).addr();
            own.try_use(|blocks| blocks.pop(class as usize)).flatten()
        });
        if let Some(Some(block)) = block {
            // SAFETY: a free block has no owners; its header was written when it was made.
            unsafe { block.as_ref().owners.store(1, Ordering::Relaxed) };
            return Some(block);
        }
    }
    take_shared(class, home)
}

/// A block for the thread with these blocks of its own, from the pool of the process or from the system.
#[inline(never)]
fn take_shared(class: u32, home: usize) -> Option<NonNull<Header>> {
    let free = lock(&FREE[class as usize].0).pop();
    if let Some(block) = free {
        FREE_BYTES.fetch_sub(size(class), Ordering::Relaxed);
        // SAFETY: a free block has no owners and nobody else looks at it; its header was written when it was made.
        unsafe {
            (*block.as_ptr()).home = home;
            block.as_ref().owners.store(1, Ordering::Relaxed);
        }
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
        block.write(Header { owners: AtomicUsize::new(1), class, next: Free(None), home });
        Some(block)
    }
}

fn give_back(block: NonNull<Header>) {
    // SAFETY: the last owner hands over the block.
    let (class, home) = unsafe { (block.as_ref().class, block.as_ref().home) };
    let keep = |owner: &Owner| {
        let own = owner.0.get().filter(|own| Arc::as_ptr(own).addr() == home)?;
        own.try_use(|blocks| blocks.push(class as usize, block))
    };
    if is_own(class as usize) && OWN.try_with(keep) == Ok(Some(true)) {
        return;
    }
    give_to_all(block, class);
}

#[inline(never)]
fn give_to_all(block: NonNull<Header>, class: u32) {
    if count_free(size(class)) {
        lock(&FREE[class as usize].0).push(block);
    } else {
        free_block(block, class);
    }
}

/// Gives a block that nobody owns back to the system.
fn free_block(block: NonNull<Header>, class: u32) {
    // SAFETY: made by `take_shared` with this layout; nobody owns it any more.
    unsafe { alloc::dealloc(block.as_ptr().cast(), layout(class)) };
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

/// Bytes in free blocks, which the pool and the threads keep for the next buffers.
pub fn free_memory() -> usize {
    let unused = |own: &Arc<Own>| own.wait_and_use(|blocks| blocks.reserved - blocks.bytes);
    let unused: usize = lock(&OWNERS).iter().filter_map(unused).sum();
    FREE_BYTES.load(Ordering::Relaxed).saturating_sub(unused)
}

/// The most bytes in free blocks, those of all threads together, 1 GiB unless it is set; blocks that are freed beyond it
/// go back to the system. With 0 nothing is kept, and every buffer comes from the system.
///
/// A thread keeps up to 16 MiB of its free blocks for itself, and counts with the most that it has kept since the last
/// [`release_memory`].
pub fn limit_free_memory(bytes: usize) {
    LIMIT.store(bytes, Ordering::Relaxed);
    if FREE_BYTES.load(Ordering::Relaxed) > bytes {
        release_memory();
    }
}

/// Gives all free blocks back to the system: those of the pool, and those that any thread keeps for itself.
pub fn release_memory() {
    for own in &*lock(&OWNERS) {
        let Some(OwnBlocks { mut free, reserved, .. }) = own.take_all() else { continue };
        FREE_BYTES.fetch_sub(reserved, Ordering::Relaxed);
        for (class, free) in free.iter_mut().enumerate() {
            while let Some(block) = free.pop() {
                free_block(block, (FIRST + class) as u32);
            }
        }
    }
    for (class, free) in FREE.iter().enumerate() {
        let mut blocks = std::mem::take(&mut *lock(&free.0));
        while let Some(block) = blocks.pop() {
            FREE_BYTES.fetch_sub(size(class as u32), Ordering::Relaxed);
            free_block(block, class as u32);
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
        let owners = unsafe { &self.block.as_ref().owners };
        // Nobody can become an owner beside the only one, who need not count down: most buffers have no other.
        if owners.load(Ordering::Acquire) == 1 {
            give_back(self.block);
        } else if owners.fetch_sub(1, Ordering::Release) == 1 {
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

    /// For tests that release free memory, and those that count it.
    static ALONE: Mutex<()> = Mutex::new(());

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

    /// Blocks that this thread keeps, of the class of buffers with so many numbers, and bytes in all.
    fn own(numbers: usize) -> (u32, usize) {
        let class = class(4 * numbers + size_of::<Header>()).unwrap() as usize - FIRST;
        with_own(|own| own.wait_and_use(|blocks| (blocks.counts[class], blocks.bytes))).flatten().unwrap()
    }

    #[test]
    fn classes_of_threads_begin_with_the_smallest_and_end_with_a_megabyte() {
        assert_eq!((class(0), size(FIRST as u32)), (Some(FIRST as u32), SMALLEST));
        assert_eq!(size((FIRST + OWN_CLASSES - 1) as u32), 1 << 20);
    }

    #[test]
    fn a_thread_keeps_what_it_took_itself_and_no_more_than_its_bounds() {
        let _alone = lock(&ALONE);
        std::thread::spawn(|| {
            let theirs: Vec<_> = std::thread::spawn(|| (0..5).map(|_| Buffer::<f32>::stale(3333)).collect())
                .join()
                .expect("it does nothing else");
            drop::<Vec<_>>(theirs);
            assert_eq!(own(3333).0, 0);
            let ours: Vec<_> = (0..5).map(|_| Buffer::<f32>::stale(3333)).collect();
            drop(ours);
            assert_eq!(own(3333).0, 5);
            let many: Vec<_> = (0..2 * MOST_OWN_BLOCKS).map(|_| Buffer::<f32>::stale(3333)).collect();
            drop(many);
            assert_eq!(own(3333).0, MOST_OWN_BLOCKS);
            let large: Vec<_> = (0..40).map(|_| Buffer::<f32>::stale(200_000)).collect();
            drop(large);
            assert!((MOST_OWN_BYTES / 2..=MOST_OWN_BYTES).contains(&own(200_000).1));
            release_memory();
            assert_eq!(own(200_000), (0, 0));
        })
        .join()
        .unwrap();
    }

    /// Drops a buffer when the thread's own variables are dropped, before and after its free blocks.
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
