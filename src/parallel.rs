//! Splitting work over rayon: the only file that names it.
//!
//! Work is cut into chunks whose bounds do not depend on the number of threads; the jobs take the chunks from one
//! shared counter. Work that costs less than a fork and a join stays on the caller's thread.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::context::Settings;

/// What a job must be worth, in nanoseconds: a few times the 5 to 20 µs that a fork and a join of rayon cost.
const NANOSECONDS_PER_JOB: usize = 40_000;

/// The number of threads of the rayon pool that the caller is on.
pub fn pool_threads() -> usize {
    rayon::current_num_threads()
}

/// How many jobs work of this many nanoseconds on one thread is worth, at most one per chunk.
pub(crate) fn jobs(settings: Settings, chunks: usize, nanoseconds: usize) -> usize {
    (nanoseconds / NANOSECONDS_PER_JOB).min(settings.threads).min(chunks).max(1)
}

/// Calls `work` once with each of `0..chunks`, on as many threads as `nanoseconds` of work are worth.
///
/// The order of the calls is not fixed: each must write only what belongs to its chunk.
pub(crate) fn for_each_index(
    settings: Settings,
    chunks: usize,
    nanoseconds: usize,
    work: impl Fn(usize) + Sync,
) {
    let jobs = jobs(settings, chunks, nanoseconds);
    if jobs == 1 {
        return (0..chunks).for_each(work);
    }
    let next = AtomicUsize::new(0);
    let take = || {
        loop {
            let chunk = next.fetch_add(1, Ordering::Relaxed);
            if chunk >= chunks {
                return;
            }
            work(chunk);
        }
    };
    rayon::in_place_scope(|scope| {
        for _ in 1..jobs {
            scope.spawn(|_| take());
        }
        take();
    });
}

/// Calls `work` once with each chunk of `parts`, on as many threads as `nanoseconds` of work are worth.
///
/// `parts` is a [`Rows`], a [`RowsMut`], [`Indices`] or a tuple of them.
pub(crate) fn for_each<P: Chunks>(
    settings: Settings,
    parts: P,
    nanoseconds: usize,
    work: impl Fn(P::Chunk) + Sync,
) {
    let count = parts.count();
    for_each_index(settings, count, nanoseconds, |i| {
        // SAFETY: `for_each_index` hands out each index once.
        work(unsafe { parts.chunk(i) });
    });
}

/// Something that falls into chunks, each to be used once.
///
/// # Safety
/// Chunks of different indices do not overlap where they can be written.
pub(crate) unsafe trait Chunks: Sync {
    type Chunk;
    fn count(&self) -> usize;
    /// # Safety
    /// `index < count()`, and no index is asked for twice.
    unsafe fn chunk(&self, index: usize) -> Self::Chunk;
}

/// The numbers below this one: beside other parts, they say which chunk is which.
pub(crate) struct Indices(pub usize);

// SAFETY: numbers cannot be written.
unsafe impl Chunks for Indices {
    type Chunk = usize;
    fn count(&self) -> usize {
        self.0
    }
    unsafe fn chunk(&self, index: usize) -> usize {
        index
    }
}

/// A slice in chunks of a fixed length, the last one shorter; shared. An empty one is empty in every chunk.
pub(crate) struct Rows<'a, T>(pub &'a [T], pub usize);

/// A slice in chunks of a fixed length, the last one shorter; to be written. An empty one is empty in every chunk.
pub(crate) struct RowsMut<'a, T> {
    data: *mut T,
    len: usize,
    chunk: usize,
    owner: std::marker::PhantomData<&'a mut [T]>,
}

impl<'a, T> RowsMut<'a, T> {
    pub fn new(data: &'a mut [T], chunk: usize) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len(), chunk, owner: std::marker::PhantomData }
    }
}

// SAFETY: the chunks are disjoint parts of one exclusive slice, and each is handed out once.
unsafe impl<T: Send> Sync for RowsMut<'_, T> {}

// SAFETY: shared chunks are only read.
unsafe impl<'a, T: Sync> Chunks for Rows<'a, T> {
    type Chunk = &'a [T];
    fn count(&self) -> usize {
        self.0.len().div_ceil(self.1.max(1))
    }
    unsafe fn chunk(&self, index: usize) -> &'a [T] {
        let start = (index * self.1).min(self.0.len());
        &self.0[start..(start + self.1).min(self.0.len())]
    }
}

// SAFETY: chunks of different indices are different parts of the slice.
unsafe impl<'a, T: Send> Chunks for RowsMut<'a, T> {
    type Chunk = &'a mut [T];
    fn count(&self) -> usize {
        self.len.div_ceil(self.chunk.max(1))
    }
    unsafe fn chunk(&self, index: usize) -> &'a mut [T] {
        let start = (index * self.chunk).min(self.len);
        // SAFETY: inside the slice, which nobody else uses; the caller asks for each index once.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), self.chunk.min(self.len - start)) }
    }
}

macro_rules! tuple {
    ($($part:ident $index:tt),+) => {
        // SAFETY: each part keeps its own promise.
        unsafe impl<$($part: Chunks),+> Chunks for ($($part,)+) {
            type Chunk = ($($part::Chunk,)+);
            fn count(&self) -> usize {
                let counts = [$(self.$index.count()),+];
                debug_assert!(counts.iter().all(|&count| count == 0 || count == self.0.count()));
                self.0.count()
            }
            unsafe fn chunk(&self, index: usize) -> Self::Chunk {
                // SAFETY: the caller's promise.
                unsafe { ($(self.$index.chunk(index),)+) }
            }
        }
    };
}
tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Context;

    #[test]
    fn every_chunk_is_visited_once_for_any_number_of_threads() {
        for threads in [1, 2, 3, 7] {
            let settings =
                Context::new().threads(threads).run(|| crate::context::settings().unwrap()).unwrap();
            let input: Vec<u32> = (0..1001).collect();
            let mut output = vec![0; 1001];
            let parts = (Rows(&input, 10), RowsMut::new(&mut output, 10));
            for_each(settings, parts, usize::MAX, |(x, y): (&[u32], &mut [u32])| {
                x.iter().zip(y).for_each(|(x, y)| *y += x + 1);
            });
            assert!(output.iter().zip(&input).all(|(y, x)| *y == x + 1));
        }
    }

    #[test]
    fn an_empty_slice_beside_others_is_empty_in_every_chunk() {
        let settings = Context::new().run(|| crate::context::settings().unwrap()).unwrap();
        let (input, mut output) = ([1, 2, 3], [0; 3]);
        let parts = (Indices(2), RowsMut::new(&mut output, 2), Rows(&input, 2), RowsMut::new(&mut [0; 0], 2));
        for_each(settings, parts, 0, |(index, y, x, none)| {
            assert!(none.is_empty());
            y.iter_mut().zip(x).for_each(|(y, x)| *y = 10 * index + x);
        });
        assert_eq!(output, [1, 2, 13]);
    }

    #[test]
    fn little_work_is_not_split() {
        let settings = Context::new().threads(8).run(|| crate::context::settings().unwrap()).unwrap();
        assert_eq!(jobs(settings, 100, NANOSECONDS_PER_JOB), 1);
        assert_eq!(jobs(settings, 100, 3 * NANOSECONDS_PER_JOB), 3);
        assert_eq!(jobs(settings, 2, usize::MAX), 2);
    }
}
