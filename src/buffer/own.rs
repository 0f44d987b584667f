//! The free blocks that each thread keeps for itself.

use std::cell::{OnceCell, UnsafeCell};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::block::{self, FIRST, Free, Header, size};
use super::shared::{self, FREE_BYTES, count_free, lock};

/// How many classes a thread keeps blocks of: those up to 1 MiB. Computing on larger blocks takes so long
/// that locking the process's pool does not matter.
const OWN_CLASSES: usize = 80 - FIRST;
/// The most blocks of one class that a thread keeps.
const MOST_OWN_BLOCKS: u32 = 256;
/// The most bytes in blocks that a thread keeps: some training steps of a small network.
const MOST_OWN_BYTES: usize = 16 << 20;

/// The free blocks of each running thread.
static OWNERS: Mutex<Vec<Arc<Own>>> = Mutex::new(Vec::new());

/// The free blocks of one thread, all of which it took itself: blocks that other threads free go to the
/// process's pool, so that a thread that only frees does not hoard what another one keeps taking.
#[repr(align(128))]
struct Own {
    /// Set by the thread itself for a few instructions at a time, and by others while they count or release
    /// free memory. Only those others wait for it.
    busy: AtomicBool,
    blocks: UnsafeCell<OwnBlocks>,
}

// SAFETY: only the thread that set `busy` uses the blocks.
unsafe impl Sync for Own {}

struct OwnBlocks {
    free: [Free; OWN_CLASSES],
    counts: [u32; OWN_CLASSES],
    bytes: usize,
    /// The bytes that [`FREE_BYTES`] counts for this thread: the most that it has kept, so that the shared
    /// counter is written only when the thread keeps more.
    reserved: usize,
}

thread_local! {
    static OWN: OwnHandle = const { OwnHandle(OnceCell::new()) };
}

/// The thread's reference to its free blocks.
struct OwnHandle(OnceCell<Arc<Own>>);

impl Drop for OwnHandle {
    fn drop(&mut self) {
        let Some(own) = self.0.take() else { return };
        lock(&OWNERS).retain(|other| !Arc::ptr_eq(other, &own));
        let Some(OwnBlocks { mut free, bytes, reserved, .. }) = own.take_all() else { return };
        FREE_BYTES.fetch_sub(reserved - bytes, Ordering::Relaxed);
        for (class, free) in free.iter_mut().enumerate() {
            while let Some(block) = free.pop() {
                shared::push(FIRST + class, block);
            }
        }
    }
}

/// Calls `f` with the free blocks of this thread, unless the thread is shutting down.
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

    /// Calls `f` unless another thread uses the blocks.
    #[inline]
    fn try_use<R>(&self, f: impl FnOnce(&mut OwnBlocks) -> R) -> Option<R> {
        if self.busy.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: `busy` was not set, and other threads leave the blocks alone until it is cleared. `f` does
        // not panic: every closure passed here only works on lists and numbers.
        let result = f(unsafe { &mut *self.blocks.get() });
        self.busy.store(false, Ordering::Release);
        Some(result)
    }

    /// [`try_use`](Own::try_use) that waits, but not for ever: after a `fork` the thread that holds it may
    /// not exist in this process.
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

    /// Keeps a block that is no longer in use, if there is room for it; says whether it did.
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

    /// Reserves this many bytes for the thread if it may keep them; says whether it may.
    #[cold]
    fn reserve(&mut self, bytes: usize) -> bool {
        let may = bytes <= MOST_OWN_BYTES && count_free(bytes - self.reserved);
        if may {
            self.reserved = bytes;
        }
        may
    }
}

/// Whether threads keep blocks of this class.
#[inline]
fn is_own(class: usize) -> bool {
    (FIRST..FIRST + OWN_CLASSES).contains(&class)
}

/// A block of this class from the thread's own free ones, with one owner, or else the address that marks new
/// blocks as taken by this thread.
#[inline]
pub(super) fn take(class: u32) -> Result<NonNull<Header>, usize> {
    let mut home = 0;
    if is_own(class as usize) {
        let block = with_own(|own| {
            home = ptr::from_ref(own).addr();
            own.try_use(|blocks| blocks.pop(class as usize)).flatten()
        });
        if let Some(Some(block)) = block {
            // SAFETY: a free block has no owners; its header was written when it was allocated.
            unsafe { block.as_ref().owners.store(1, Ordering::Relaxed) };
            return Ok(block);
        }
    }
    Err(home)
}

/// Keeps a block without owners, if this thread took it and has room for it; says whether it did.
#[inline]
pub(super) fn keep(block: NonNull<Header>, class: u32, home: usize) -> bool {
    let keep = |owner: &OwnHandle| {
        let own = owner.0.get().filter(|own| Arc::as_ptr(own).addr() == home)?;
        own.try_use(|blocks| blocks.push(class as usize, block))
    };
    is_own(class as usize) && OWN.try_with(keep) == Ok(Some(true))
}

/// Bytes that are counted as free for threads though they do not keep them now.
pub(super) fn unused() -> usize {
    let unused = |own: &Arc<Own>| own.wait_and_use(|blocks| blocks.reserved - blocks.bytes);
    lock(&OWNERS).iter().filter_map(unused).sum()
}

/// Gives the free blocks of all threads back to the system.
pub(super) fn release() {
    for own in &*lock(&OWNERS) {
        let Some(OwnBlocks { mut free, reserved, .. }) = own.take_all() else { continue };
        FREE_BYTES.fetch_sub(reserved, Ordering::Relaxed);
        for (class, free) in free.iter_mut().enumerate() {
            while let Some(block) = free.pop() {
                block::free(block, (FIRST + class) as u32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ALONE, Buffer, release_memory};
    use super::*;

    /// How many blocks of the class of buffers with this many elements this thread keeps, and its bytes in
    /// all classes.
    fn own(numbers: usize) -> (u32, usize) {
        let class = block::class(4 * numbers + size_of::<Header>()).unwrap() as usize - FIRST;
        with_own(|own| own.wait_and_use(|blocks| (blocks.counts[class], blocks.bytes))).flatten().unwrap()
    }

    #[test]
    fn classes_of_threads_end_with_a_megabyte() {
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
}
