//! What a parameter or a state is at present: read by any number of threads, changed by one at a time.
//!
//! Threads that run one model must not wait for each other, nor even write to the same cache line: a counter of readers
//! would cost them as much as a small layer. So a reader notes in a list of its own thread what it reads (a hazard
//! pointer: Michael 2004), and who changes the value looks through the lists first. If somebody reads it, the change is
//! made in a copy, and the old tensor is kept until nobody does: neither side waits for the other.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::simd::Element;
use crate::tensor::Tensor;

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

/// A tensor that can be changed while others read it.
pub(super) struct Value<T: Element> {
    /// From a box; never null.
    current: AtomicPtr<Tensor<T>>,
    /// Whether the current tensor may be changed in place: nobody begins to read it then.
    closed: AtomicBool,
    /// Whether anybody ever read without the lock.
    was_read: AtomicBool,
    /// Earlier tensors that somebody may still read, from boxes.
    earlier: Mutex<Vec<*mut Tensor<T>>>,
}

// SAFETY: tensors may be sent and shared; the pointers are the only owners of theirs.
unsafe impl<T: Element> Send for Value<T> {}
// SAFETY: as above; who changes the current tensor holds the lock and is alone with it.
unsafe impl<T: Element> Sync for Value<T> {}

impl<T: Element> Value<T> {
    pub fn new(tensor: Tensor<T>) -> Self {
        Self {
            current: AtomicPtr::new(Box::into_raw(Box::new(tensor))),
            closed: AtomicBool::new(false),
            was_read: AtomicBool::new(false),
            earlier: Mutex::new(Vec::new()),
        }
    }

    /// Keeps others from changing it; waits for who does.
    pub fn lock(&self) -> Locked<'_, T> {
        let earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { value: self, closed: false, earlier }
    }

    /// The tensor for as long as it is read, without a lock; `None` while it is changed, and when this thread reads many
    /// others.
    pub fn read(&self) -> Option<Read<'_, T>> {
        let pin = free_pin()?;
        let current = self.current.load(Ordering::Acquire);
        pin.store(current.cast(), Ordering::Relaxed);
        if !self.was_read.load(Ordering::Relaxed) {
            self.was_read.store(true, Ordering::Relaxed);
        }
        // Who closes the value after this sees the pin; if it was closed before, or another tensor put in place, that is
        // seen here.
        fence(Ordering::SeqCst);
        let read = Read { tensor: current, pin, value: PhantomData };
        let is_open = !self.closed.load(Ordering::Acquire) && self.current.load(Ordering::Acquire) == current;
        is_open.then_some(read)
    }
}

impl<T: Element> Drop for Value<T> {
    fn drop(&mut self) {
        let earlier = self.earlier.get_mut().unwrap_or_else(PoisonError::into_inner);
        for tensor in earlier.drain(..).chain([*self.current.get_mut()]) {
            // SAFETY: from a box; who reads a tensor borrows the value.
            drop(unsafe { Box::from_raw(tensor) });
        }
    }
}

/// A tensor that stays as it is meanwhile.
pub(super) struct Read<'a, T: Element> {
    tensor: *const Tensor<T>,
    pin: &'static AtomicPtr<()>,
    /// The pin is of this thread.
    value: PhantomData<(&'a Value<T>, *const ())>,
}

impl<T: Element> Deref for Read<'_, T> {
    type Target = Tensor<T>;
    #[inline]
    fn deref(&self) -> &Tensor<T> {
        // SAFETY: pinned: nobody changes or frees it.
        unsafe { &*self.tensor }
    }
}

impl<T: Element> Drop for Read<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.pin.store(ptr::null_mut(), Ordering::Release);
    }
}

/// A value that nobody else changes meanwhile.
pub(super) struct Locked<'a, T: Element> {
    value: &'a Value<T>,
    closed: bool,
    earlier: MutexGuard<'a, Vec<*mut Tensor<T>>>,
}

impl<T: Element> Locked<'_, T> {
    /// The tensor, to be changed. Who reads it now goes on reading the old one, who wants to read it waits for the lock.
    pub fn change(&mut self) -> &mut Tensor<T> {
        let value = self.value;
        let current = value.current.load(Ordering::Relaxed);
        if !self.closed {
            self.closed = true;
            value.closed.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if value.was_read.load(Ordering::Relaxed) && is_read(current.cast()) {
                // The numbers are copied when they are written: the old tensor shares them.
                let copy = Tensor::clone(self);
                value.current.store(Box::into_raw(Box::new(copy)), Ordering::Release);
                self.earlier.push(current);
            }
        }
        // SAFETY: locked, closed, and not read by anybody.
        unsafe { &mut *value.current.load(Ordering::Relaxed) }
    }
}

impl<T: Element> Deref for Locked<'_, T> {
    type Target = Tensor<T>;
    fn deref(&self) -> &Tensor<T> {
        // SAFETY: only who has the lock changes it, and `change` borrows the lock.
        unsafe { &*self.value.current.load(Ordering::Relaxed) }
    }
}

impl<T: Element> Drop for Locked<'_, T> {
    fn drop(&mut self) {
        if self.closed {
            self.value.closed.store(false, Ordering::Release);
            self.earlier.retain(|&tensor| {
                let read = is_read(tensor.cast());
                if !read {
                    // SAFETY: from a box, no longer the current one, and not read by anybody.
                    drop(unsafe { Box::from_raw(tensor) });
                }
                read
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(x: f32) -> Value<f32> {
        Value::new(Tensor::full([3], x).unwrap())
    }

    fn write(value: &Value<f32>, x: f32) {
        let mut locked = value.lock();
        let tensor = locked.change();
        match tensor.data_mut() {
            Some(numbers) => numbers.fill(x),
            None => *tensor = Tensor::full([3], x).unwrap(),
        }
    }

    #[test]
    fn who_reads_keeps_the_old_numbers_and_nobody_waits() {
        let value = value(1.0);
        let read = value.read().unwrap();
        write(&value, 2.0);
        assert_eq!(read.to_vec(), [1.0; 3]);
        assert_eq!(value.read().unwrap().to_vec(), [2.0; 3]);
        assert_eq!(value.lock().earlier.len(), 1);
        drop(read);
        write(&value, 3.0);
        assert_eq!(value.lock().earlier.len(), 0);
    }

    #[test]
    fn what_nobody_reads_is_changed_in_place() {
        let value = value(1.0);
        drop(value.read());
        let before = value.lock().data().as_ptr();
        write(&value, 2.0);
        let after = value.read().unwrap();
        assert_eq!((after.data().as_ptr(), after.to_vec()), (before, vec![2.0; 3]));
    }

    #[test]
    fn a_value_that_is_changed_is_not_read_without_the_lock() {
        let value = value(1.0);
        let mut locked = value.lock();
        assert!(value.read().is_some());
        locked.change();
        assert!(value.read().is_none());
        drop(locked);
        assert!(value.read().is_some());
    }

    #[test]
    fn a_thread_reads_few_values_at_once() {
        let values: Vec<_> = (0..6).map(|i| value(i as f32)).collect();
        let read: Vec<_> = values.iter().map(Value::read).collect();
        assert_eq!(read.iter().flatten().count(), PINS);
        drop(read);
        assert!(values[5].read().is_some());
    }

    /// Each tensor has one number three times: nobody sees a half of one change.
    #[test]
    fn threads_that_read_see_whole_changes_only() {
        let value = value(0.0);
        let rounds = if cfg!(miri) { 30 } else { 20_000 };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut last = 0.0;
                    for _ in 0..rounds {
                        let seen = value.read().map_or_else(|| value.lock().to_vec(), |read| read.to_vec());
                        assert!(
                            seen.iter().all(|&x| x == seen[0]) && seen[0] >= last,
                            "{seen:?} after {last}"
                        );
                        last = seen[0];
                    }
                });
            }
            (1..rounds).for_each(|x| write(&value, x as f32));
        });
        write(&value, -1.0);
        assert_eq!(value.lock().earlier.len(), 0);
    }
}
