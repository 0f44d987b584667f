//! A value, such as the present tensor of a parameter, that any number of threads read and one at a time changes.
//!
//! Threads that run one model must not wait for each other, nor even write to the same cache line: a counter of readers
//! would cost them as much as a small layer. So a reader notes in a list of its own thread what it reads (a hazard
//! pointer: Michael 2004), and who changes the value looks through the lists first. If somebody reads it, the change is
//! made in a copy, and the old value is kept until nobody does: who changes it does not wait for readers, and a reader waits
//! only for a change that is being made.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Values that a thread may read at the same time: those of a batch normalisation. Further ones are copied.
const PINS: usize = 4;

/// What one thread reads.
#[repr(align(128))]
struct Pins {
    read: [AtomicPtr<()>; PINS],
    /// Whether a thread that lives has it.
    taken: AtomicBool,
    next: *const Pins,
}

// SAFETY: `next` is written before others see it, and what it points to lives for ever.
unsafe impl Sync for Pins {}

/// The pins of all threads: a list that only grows, since a thread that ends leaves its pins to another one.
static PINS_OF_ALL: AtomicPtr<Pins> = AtomicPtr::new(ptr::null_mut());

fn all_pins() -> impl Iterator<Item = &'static Pins> {
    // SAFETY: pins in the list live for ever.
    let first = unsafe { PINS_OF_ALL.load(Ordering::Acquire).as_ref() };
    // SAFETY: as above.
    std::iter::successors(first, |pins| unsafe { pins.next.as_ref() })
}

/// Whether somebody reads what is at this address. Who begins after this has looked finds what was written before.
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

/// A pin of this thread that is free, if it has one.
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

/// A value that can be changed while others read it.
pub(crate) struct Value<V> {
    /// From a box; never null.
    current: AtomicPtr<V>,
    /// Whether the current one may be changed in place: nobody begins to read it then.
    closed: AtomicBool,
    /// Whether anybody ever read without the lock.
    was_read: AtomicBool,
    /// Earlier ones that somebody may still read, from boxes.
    earlier: Mutex<Vec<*mut V>>,
}

// SAFETY: the pointers are the only owners of values that may be sent and shared.
unsafe impl<V: Send + Sync> Send for Value<V> {}
// SAFETY: as above; who changes the current value holds the lock and is alone with it.
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

    /// Keeps others from changing it; waits for who does.
    pub fn lock(&self) -> Locked<'_, V> {
        let earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { value: self, closed: false, earlier }
    }

    /// The value for as long as it is read, without a lock; `None` while it is changed, and when this thread reads many
    /// others.
    pub fn read(&self) -> Option<Read<'_, V>> {
        let pin = free_pin()?;
        let current = self.current.load(Ordering::Acquire);
        // Also tells who finds this pin what was read with it before.
        pin.store(current.cast(), Ordering::Release);
        if !self.was_read.load(Ordering::Relaxed) {
            self.was_read.store(true, Ordering::Relaxed);
        }
        // Who closes the value after this sees the pin; if it was closed before, or another one put in place, that is
        // seen here.
        fence(Ordering::SeqCst);
        let closed = self.closed.load(Ordering::Acquire);
        // This pointer, and not the first: another value may have come to lie at the same address.
        let pinned = self.current.load(Ordering::Acquire);
        let read = Read { current: pinned, pin, value: PhantomData };
        (!closed && pinned == current).then_some(read)
    }
}

impl<V> Drop for Value<V> {
    fn drop(&mut self) {
        let earlier = self.earlier.get_mut().unwrap_or_else(PoisonError::into_inner);
        for value in earlier.drain(..).chain([*self.current.get_mut()]) {
            // SAFETY: from a box; who reads one borrows this.
            drop(unsafe { Box::from_raw(value) });
        }
    }
}

/// A value that stays as it is meanwhile.
pub(crate) struct Read<'a, V> {
    current: *const V,
    pin: &'static AtomicPtr<()>,
    /// The pin is of this thread.
    value: PhantomData<(&'a Value<V>, *const ())>,
}

impl<V> Deref for Read<'_, V> {
    type Target = V;
    #[inline]
    fn deref(&self) -> &V {
        // SAFETY: pinned: nobody changes or frees it.
        unsafe { &*self.current }
    }
}

impl<V> Drop for Read<'_, V> {
    #[inline]
    fn drop(&mut self) {
        self.pin.store(ptr::null_mut(), Ordering::Release);
    }
}

/// A value that nobody else changes meanwhile.
pub(crate) struct Locked<'a, V> {
    value: &'a Value<V>,
    closed: bool,
    earlier: MutexGuard<'a, Vec<*mut V>>,
}

impl<V: Clone> Locked<'_, V> {
    /// The value, to be changed. Who reads it now goes on reading the old one, who wants to read it waits for the lock. A
    /// clone of it must not change when it does.
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
        // SAFETY: locked, closed, and not read by anybody.
        unsafe { &mut *value.current.load(Ordering::Relaxed) }
    }
}

impl<V> Deref for Locked<'_, V> {
    type Target = V;
    fn deref(&self) -> &V {
        // SAFETY: only who has the lock changes it, and `change` borrows the lock.
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
                    // SAFETY: from a box, no longer the current one, and not read by anybody.
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
        // Other tests have threads of their own.
        assert!(all_pins().count() < pins + 20);
    }

    /// Each value has one number three times: nobody sees a half of one change.
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
