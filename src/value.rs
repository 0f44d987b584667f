//! A value, such as a parameter's current tensor, that any number of threads read and one thread at a time
//! changes.
//!
//! Threads that run one model must not wait for each other, nor even write to the same cache line: a counter
//! of readers would cost them as much as a small layer. So each thread publishes what it reads in a list of
//! its own (hazard pointers: Michael 2004), and a writer scans these lists first. If the value is being read,
//! the change is made in a copy, and the old value is kept until its last reader is done. Writers never wait
//! for readers, and readers only wait while a change is being made.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Values that a thread may read at the same time: as many as a batch normalisation has. Further ones are
/// copied.
const PINS: usize = 4;

/// What one thread is reading.
#[repr(align(128))]
struct Pins {
    read: [AtomicPtr<()>; PINS],
    /// Whether a running thread uses these pins.
    taken: AtomicBool,
    next: *const Pins,
}

// SAFETY: `next` is written before other threads see it, and what it points to is never freed.
unsafe impl Sync for Pins {}

/// The pins of all threads: a list that only grows, since the pins of a thread that ended are reused by a new
/// one.
static PINS_OF_ALL: AtomicPtr<Pins> = AtomicPtr::new(ptr::null_mut());

fn all_pins() -> impl Iterator<Item = &'static Pins> {
    // SAFETY: pins in the list are never freed.
    let first = unsafe { PINS_OF_ALL.load(Ordering::Acquire).as_ref() };
    // SAFETY: as above.
    std::iter::successors(first, |pins| unsafe { pins.next.as_ref() })
}

/// Whether any thread is reading the value at this address. A reader that starts after this check sees
/// everything that was written before it.
fn is_read(address: *mut ()) -> bool {
    fence(Ordering::SeqCst);
    all_pins().any(|pins| pins.read.iter().any(|pin| pin.load(Ordering::Acquire) == address))
}

thread_local! {
    static MINE: Mine = const { Mine(Cell::new(None)) };
}

struct Mine(Cell<Option<&'static Pins>>);

impl Drop for Mine {
    fn drop(&mut self) {
        if let Some(pins) = self.0.take() {
            pins.taken.store(false, Ordering::Release);
        }
    }
}

/// A free pin of this thread, if there is one.
fn free_pin() -> Option<&'static AtomicPtr<()>> {
    let pins = MINE.try_with(|mine| {
        mine.0.get().unwrap_or_else(|| {
            let pins = claim();
            mine.0.set(Some(pins));
            pins
        })
    });
    pins.ok()?.read.iter().find(|pin| pin.load(Ordering::Relaxed).is_null())
}

#[cold]
fn claim() -> &'static Pins {
    if let Some(pins) = all_pins().find(|pins| !pins.taken.swap(true, Ordering::AcqRel)) {
        return pins;
    }
    let read = [const { AtomicPtr::new(ptr::null_mut()) }; PINS];
    let pins = Box::leak(Box::new(Pins { read, taken: AtomicBool::new(true), next: ptr::null() }));
    let mut first = PINS_OF_ALL.load(Ordering::Acquire);
    loop {
        pins.next = first;
        match PINS_OF_ALL.compare_exchange(first, pins, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return pins,
            Err(now) => first = now,
        }
    }
}

/// A value that can be changed while other threads read it.
pub(crate) struct Value<V> {
    /// From a `Box`; never null.
    current: AtomicPtr<V>,
    /// Whether the current value may be changed in place: no new reads start then.
    closed: AtomicBool,
    /// Whether the value was ever read without the lock.
    was_read: AtomicBool,
    /// Earlier values, each from a `Box`, that may still be read.
    earlier: Mutex<Vec<*mut V>>,
}

// SAFETY: the pointers are the only owners of values that may be sent and shared.
unsafe impl<V: Send + Sync> Send for Value<V> {}
// SAFETY: as above; a writer of the current value holds the lock and is alone with it.
unsafe impl<V: Send + Sync> Sync for Value<V> {}

impl<V> Value<V> {
    pub fn new(value: V) -> Self {
        Self {
            current: AtomicPtr::new(Box::into_raw(Box::new(value))),
            closed: AtomicBool::new(false),
            was_read: AtomicBool::new(false),
            earlier: Mutex::new(Vec::new()),
        }
    }

    /// Locks the value against changes by other threads, after waiting for a change in progress.
    pub fn lock(&self) -> Locked<'_, V> {
        let earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { value: self, closed: false, earlier }
    }

    /// Reads the value without a lock; `None` while it is being changed, or if this thread already reads
    /// several others.
    pub fn read(&self) -> Option<Read<'_, V>> {
        let pin = free_pin()?;
        let current = self.current.load(Ordering::Acquire);
        // `Release`: a writer that finds this pin also sees which reads through the pin have ended.
        pin.store(current.cast(), Ordering::Release);
        if !self.was_read.load(Ordering::Relaxed) {
            self.was_read.store(true, Ordering::Relaxed);
        }
        // A writer that closes the value after this fence sees the pin; if the value was closed or replaced
        // before, the loads below see that.
        fence(Ordering::SeqCst);
        let closed = self.closed.load(Ordering::Acquire);
        // This pointer, not the first one: another value may have been allocated at the same address.
        let pinned = self.current.load(Ordering::Acquire);
        let read = Read { current: pinned, pin, value: PhantomData };
        (!closed && pinned == current).then_some(read)
    }
}

impl<V> Drop for Value<V> {
    fn drop(&mut self) {
        let earlier = self.earlier.get_mut().unwrap_or_else(PoisonError::into_inner);
        for value in earlier.drain(..).chain([*self.current.get_mut()]) {
            // SAFETY: from a `Box`; every reader of these values borrows `self`.
            drop(unsafe { Box::from_raw(value) });
        }
    }
}

/// A value that stays unchanged while it is read.
pub(crate) struct Read<'a, V> {
    current: *const V,
    pin: &'static AtomicPtr<()>,
    /// Not `Send`: the pin belongs to this thread.
    value: PhantomData<(&'a Value<V>, *const ())>,
}

impl<V> Deref for Read<'_, V> {
    type Target = V;
    #[inline]
    fn deref(&self) -> &V {
        // SAFETY: the value is pinned, so that no thread changes or frees it.
        unsafe { &*self.current }
    }
}

impl<V> Drop for Read<'_, V> {
    #[inline]
    fn drop(&mut self) {
        self.pin.store(ptr::null_mut(), Ordering::Release);
    }
}

/// A value that no other thread can change.
pub(crate) struct Locked<'a, V> {
    value: &'a Value<V>,
    closed: bool,
    earlier: MutexGuard<'a, Vec<*mut V>>,
}

impl<V: Clone> Locked<'_, V> {
    /// The value, for changing it. Threads that are reading the old value keep reading it; new readers wait
    /// for the lock. A clone of the value must not change together with it.
    pub fn change(&mut self) -> &mut V {
        let value = self.value;
        let current = value.current.load(Ordering::Relaxed);
        if !self.closed {
            self.closed = true;
            value.closed.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if value.was_read.load(Ordering::Relaxed) && is_read(current.cast()) {
                let copy = V::clone(self);
                value.current.store(Box::into_raw(Box::new(copy)), Ordering::Release);
                self.earlier.push(current);
            }
        }
        // SAFETY: the value is locked, closed and not being read.
        unsafe { &mut *value.current.load(Ordering::Relaxed) }
    }
}

impl<V> Deref for Locked<'_, V> {
    type Target = V;
    fn deref(&self) -> &V {
        // SAFETY: only the holder of the lock changes the value, and `change` borrows the lock.
        unsafe { &*self.value.current.load(Ordering::Relaxed) }
    }
}

impl<V> Drop for Locked<'_, V> {
    fn drop(&mut self) {
        if self.closed {
            self.value.closed.store(false, Ordering::Release);
            self.earlier.retain(|&value| {
                let read = is_read(value.cast());
                if !read {
                    // SAFETY: from a `Box`, no longer current and not being read.
                    drop(unsafe { Box::from_raw(value) });
                }
                read
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(value: &Value<[u32; 3]>, x: u32) {
        *value.lock().change() = [x; 3];
    }

    #[test]
    fn who_reads_keeps_the_old_value_and_nobody_waits() {
        let value = Value::new([1; 3]);
        let read = value.read().unwrap();
        write(&value, 2);
        assert_eq!(*read, [1; 3]);
        assert_eq!(*value.read().unwrap(), [2; 3]);
        assert_eq!(value.lock().earlier.len(), 1);
        drop(read);
        write(&value, 3);
        assert_eq!(value.lock().earlier.len(), 0);
    }

    #[test]
    fn what_nobody_reads_is_changed_in_place() {
        let value = Value::new([1; 3]);
        drop(value.read());
        let before = ptr::from_ref(&*value.lock());
        write(&value, 2);
        let after = value.read().unwrap();
        assert_eq!((ptr::from_ref(&*after), *after), (before, [2; 3]));
    }

    #[test]
    fn a_value_that_is_changed_is_not_read_without_the_lock() {
        let value = Value::new([1; 3]);
        let mut locked = value.lock();
        assert!(value.read().is_some());
        locked.change();
        assert!(value.read().is_none());
        drop(locked);
        assert!(value.read().is_some());
    }

    #[test]
    fn a_thread_reads_few_values_at_once() {
        let values = [0, 1, 2, 3, 4, 5].map(Value::new);
        let read: Vec<_> = values.iter().map(Value::read).collect();
        assert_eq!(read.iter().flatten().count(), PINS);
        drop(read);
        assert!(values[5].read().is_some());
    }

    #[test]
    fn a_thread_that_ends_leaves_its_pins_to_others() {
        let value = Value::new([1; 3]);
        let many = || (0..50).for_each(|_| std::thread::scope(|s| drop(s.spawn(|| drop(value.read())))));
        many();
        let pins = all_pins().count();
        many();
        // Other tests run on threads of their own.
        assert!(all_pins().count() < pins + 20);
    }

    /// Each value holds the same number three times, so that a half-finished change would be visible.
    #[test]
    fn threads_that_read_see_whole_changes_in_their_order() {
        let value = Value::new([0; 3]);
        let rounds = if cfg!(miri) { 30 } else { 20_000 };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut last = 0;
                    for _ in 0..rounds {
                        let seen = value.read().map_or_else(|| *value.lock(), |read| *read);
                        assert!(
                            seen.iter().all(|&x| x == seen[0]) && seen[0] >= last,
                            "{seen:?} after {last}"
                        );
                        last = seen[0];
                    }
                });
            }
            (1..rounds).for_each(|x| write(&value, x));
        });
        write(&value, 0);
        assert_eq!(value.lock().earlier.len(), 0);
    }
}
