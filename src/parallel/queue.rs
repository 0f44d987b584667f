//! The chunks of a task, taken from both ends, and the counter that lets helpers in.

use std::sync::atomic::{AtomicU64, Ordering};

/// A value alone on its cache lines, so that threads that use its neighbours do not slow each other down. 128
/// bytes: processors fetch lines in pairs.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Line<T>(pub T);

/// How many chunks were taken from the front (low 32 bits) and from the back (high 32 bits).
#[derive(Default)]
pub(super) struct Queue(Line<AtomicU64>);

#[derive(Clone, Copy)]
pub(super) enum End {
    Front,
    Back,
}

impl Queue {
    /// One chunk taken from the back.
    const BACK: u64 = 1 << 32;

    /// Makes all chunks available. Only for the owner, while no helper is inside.
    #[inline]
    pub fn fill(&self) {
        self.0.0.store(0, Ordering::Relaxed);
    }

    /// Marks all chunks as taken.
    #[inline]
    pub fn stop(&self, chunks: usize) {
        self.0.0.store(chunks as u64, Ordering::Relaxed);
    }

    /// Takes the next chunk from this end, if one is left.
    #[inline]
    pub fn take(&self, end: End, chunks: usize) -> Option<usize> {
        let one = match end {
            End::Front => 1,
            End::Back => Self::BACK,
        };
        let taken = self.0.0.fetch_add(one, Ordering::Relaxed);
        let (front, back) = ((taken % Self::BACK) as usize, (taken / Self::BACK) as usize);
        (front + back < chunks).then(|| match end {
            End::Front => front,
            End::Back => chunks - 1 - back,
        })
    }
}

/// Controls which helpers take part in a task: the number of helpers inside (16 bits), free places (16 bits)
/// and the number of the task (32 bits) in one word.
#[derive(Default)]
pub(super) struct Entrance(Line<AtomicU64>);

impl Entrance {
    const INSIDE: u64 = 1;
    const PLACE: u64 = 1 << 16;
    const TASK: u64 = 1 << 32;

    fn inside(state: u64) -> u64 {
        state % Self::PLACE
    }

    fn places(state: u64) -> u64 {
        state / Self::PLACE % Self::PLACE
    }

    /// Admits up to `places` helpers to the next task. Only for the owner, while no helper is inside and no
    /// place free.
    #[inline]
    pub fn open(&self, places: usize) {
        let task = self.0.0.load(Ordering::Relaxed) / Self::TASK;
        let places = (places as u64).min(Self::PLACE - 1);
        self.0.0.store(((task + 1) << 32) + places * Self::PLACE, Ordering::Release);
    }

    /// Admits no more helpers, and waits until all of them have left.
    #[inline]
    pub fn close(&self) {
        let mut state = self.0.0.fetch_and(!((Self::PLACE - 1) * Self::PLACE), Ordering::Acquire);
        let mut looks = 0_usize;
        while Self::inside(state) > 0 {
            looks += 1;
            // After some 100 µs the helper has probably lost its core, perhaps to this thread.
            if looks > 2000 {
                std::thread::yield_now()
            } else {
                std::hint::spin_loop()
            }
            state = self.0.0.load(Ordering::Acquire);
        }
    }

    /// Enters if a place is free and the task is not `last`; returns the number of the task.
    #[inline]
    pub fn enter(&self, last: Option<u64>) -> Option<u64> {
        let state = self.0.0.load(Ordering::Relaxed);
        let task = state / Self::TASK;
        if Self::places(state) == 0 || last == Some(task) {
            return None;
        }
        let inside = state - Self::PLACE + Self::INSIDE;
        self.0.0.compare_exchange(state, inside, Ordering::Acquire, Ordering::Relaxed).ok().map(|_| task)
    }

    #[inline]
    pub fn leave(&self) {
        self.0.0.fetch_sub(Self::INSIDE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_gives_each_chunk_once_from_whichever_end() {
        for chunks in 0..20 {
            for pattern in 0..1_u32 << 12 {
                let (queue, mut taken) = (Queue::default(), vec![]);
                let ends = (0..).map(|i| if pattern >> (i % 12) & 1 == 0 { End::Front } else { End::Back });
                taken.extend(ends.map_while(|end| queue.take(end, chunks)));
                taken.sort_unstable();
                assert_eq!(taken, (0..chunks).collect::<Vec<_>>());
                assert!([End::Front, End::Back].iter().all(|&end| queue.take(end, chunks).is_none()));
                queue.fill();
                assert_eq!(queue.take(End::Back, 3), Some(2));
                queue.stop(3);
                assert!([End::Front, End::Back].iter().all(|&end| queue.take(end, 3).is_none()));
            }
        }
    }
}
