//! Splitting work over threads.
//!
//! Work is cut into chunks whose bounds do not depend on the number of threads. The threads take chunks from
//! one shared queue: the caller from its front, helpers from its back, so that in a series of calls each
//! thread keeps working on the same end of the same memory, which it finds in its cache. The caller never
//! waits for a thread that has not started: a helper that arrives late finds no chunks left.
//!
//! A helper is a job in rayon's pool. After a task it spins for [`Settings::spin`], waiting for more work
//! from the same caller, as the threads of OpenMP do: waking a parked thread takes 20 to 60 µs, handing work
//! to a spinning one 0.2 µs. Without spinning, only the largest products of a training step would run on two
//! threads; with it, most of the step does.
//!
//! During a task, helpers run in the floating-point environment of the settings, as the caller does during
//! its kernel.

mod chunks;
mod queue;
mod team;

use std::sync::{Mutex, PoisonError};

pub(crate) use self::chunks::{Chunks, Indices, Rows, RowsMut};
use self::team::with_team;
use crate::context::{Context, Settings};
use crate::error::Result;
use crate::profile;

/// The least work of one job, in nanoseconds, when other threads spin: some ten times the cost of handing it
/// over and of moving the data between caches.
const NANOSECONDS_PER_JOB: usize = 5_000;
/// The most chunks that threads share, so that the queue's counts stay far below 32 bits.
const MOST_CHUNKS: usize = 1 << 31;

/// The number of jobs into which to split work that takes this many nanoseconds on one thread; at most one
/// per chunk.
pub(crate) fn jobs(settings: Settings, chunks: usize, nanoseconds: usize) -> usize {
    (nanoseconds / NANOSECONDS_PER_JOB).min(settings.threads).min(chunks).max(1)
}

/// Whether work of this many nanoseconds should be shared: because helpers spin, because it is worth waking
/// them, or because calls come so close together that spinning will pay.
pub(crate) fn pays(settings: Settings, nanoseconds: usize) -> bool {
    jobs(settings, usize::MAX, nanoseconds) > 1
        && with_team(|team| team.pays(settings.spin(), nanoseconds)).unwrap_or(false)
}

/// Calls `work` once with each of `0..chunks`, on as many threads as pay for `nanoseconds` of work.
///
/// The order of the calls is not fixed: each call must only write to its own chunk.
pub(crate) fn for_each_index(
    settings: Settings,
    chunks: usize,
    nanoseconds: usize,
    work: &(dyn Fn(usize) + Sync),
) {
    let jobs = jobs(settings, chunks, nanoseconds);
    if jobs == 1 || chunks > MOST_CHUNKS || !pays(settings, nanoseconds) {
        return (0..chunks).for_each(work);
    }
    if with_team(|team| team.run(settings, chunks, jobs - 1, nanoseconds, work)).is_none() {
        (0..chunks).for_each(work);
    }
}

/// Calls `a` and `b`, which together take `nanoseconds`, on two threads if a second one is available. Kernels
/// inside them stay on their thread.
#[cfg_attr(not(feature = "train"), allow(dead_code))]
pub(crate) fn both<A: Send, B: Send>(
    settings: Settings,
    nanoseconds: usize,
    a: impl FnOnce() -> A + Send,
    b: impl FnOnce() -> B + Send,
) -> Result<(A, B)> {
    let alone = Context::of(settings, 1);
    let (a, b) = (Mutex::new((Some(a), None)), Mutex::new((Some(b), None)));
    fn run<R>(context: Context, side: &Mutex<(Option<impl FnOnce() -> R>, Option<Result<R>>)>) {
        let mut side = side.lock().unwrap_or_else(PoisonError::into_inner);
        side.1 = side.0.take().map(|work| context.run(work));
    }
    for_each_index(settings, 2, nanoseconds, &|i| if i == 0 { run(alone, &a) } else { run(alone, &b) });
    let done = "each index is handed out once";
    let a = a.into_inner().unwrap_or_else(PoisonError::into_inner).1.expect(done)?;
    Ok((a, b.into_inner().unwrap_or_else(PoisonError::into_inner).1.expect(done)?))
}

/// Calls `work` once with each chunk of `parts`, on as many threads as pay for `nanoseconds` of work.
///
/// `parts` is a [`Rows`], a [`RowsMut`], [`Indices`] or a tuple of them.
pub(crate) fn for_each<P: Chunks>(
    settings: Settings,
    parts: P,
    nanoseconds: usize,
    work: impl Fn(P::Chunk) + Sync,
) {
    let count = parts.count();
    if profile::is_on() {
        profile::add_work(None, 0, parts.bytes());
    }
    for_each_index(settings, count, nanoseconds, &|i| {
        // SAFETY: `for_each_index` hands out each index once.
        work(unsafe { parts.chunk(i) });
    });
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use super::team::NANOSECONDS_TO_WAKE;
    use super::*;

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

    fn with_threads(threads: usize) -> Settings {
        Context::new().threads(threads).run(|| crate::context::settings().unwrap()).unwrap()
    }

    #[test]
    fn many_callers_share_the_pool_and_each_chunk_is_visited_once() {
        std::thread::scope(|scope| {
            for caller in 0..4 {
                scope.spawn(move || {
                    for round in 0..300 {
                        let visits: Vec<_> =
                            (0..1 + (caller + round) % 9).map(|_| AtomicUsize::new(0)).collect();
                        for_each_index(with_threads(2 + round % 3), visits.len(), usize::MAX, &|chunk| {
                            visits[chunk].fetch_add(1, Ordering::Relaxed);
                            if round % 50 == 0 {
                                std::thread::sleep(crate::context::DEFAULT_SPIN / 2);
                            }
                        });
                        assert!(visits.iter().all(|visits| visits.load(Ordering::Relaxed) == 1));
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_on_any_thread_reaches_the_caller_and_the_team_goes_on() {
        for round in 0..20 {
            let result = catch_unwind(|| {
                for_each_index(with_threads(3), 20, usize::MAX, &|chunk| {
                    std::thread::sleep(Duration::from_micros(100));
                    assert!(chunk != round, "chunk {chunk}");
                });
            });
            let message = *result.unwrap_err().downcast::<String>().unwrap();
            assert_eq!(message, format!("chunk {round}"));
        }
        let sum = AtomicUsize::new(0);
        for_each_index(with_threads(3), 20, usize::MAX, &|chunk| {
            sum.fetch_add(chunk, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 190);
    }

    #[test]
    fn others_do_help_and_a_panic_of_theirs_reaches_the_caller() {
        let caller = std::thread::current().id();
        let helped = AtomicUsize::new(0);
        let start = Instant::now();
        let slowly = |f: &(dyn Fn(bool) + Sync)| {
            for_each_index(with_threads(2), 8, usize::MAX, &|_| {
                std::thread::sleep(Duration::from_millis(1));
                f(std::thread::current().id() != caller);
            });
        };
        while helped.load(Ordering::Relaxed) == 0 {
            assert!(start.elapsed() < Duration::from_secs(60), "nobody came");
            slowly(&|other| {
                helped.fetch_add(usize::from(other), Ordering::Relaxed);
            });
        }
        while catch_unwind(|| slowly(&|other| assert!(!other))).is_ok() {
            assert!(start.elapsed() < Duration::from_secs(60), "nobody came");
        }
    }

    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    #[test]
    fn helpers_compute_in_the_environment_of_the_settings_and_leave_it_also_by_a_panic() {
        use crate::Subnormals;
        use std::hint::black_box;
        let is_kept = || black_box(f32::MIN_POSITIVE) * black_box(0.5) != 0.0;
        let caller = std::thread::current().id();
        let start = Instant::now();
        for (subnormals, kept) in [(Subnormals::Flush, false), (Subnormals::Keep, true)] {
            let context = Context::new().threads(2).subnormals(subnormals);
            let settings = context.run(|| crate::context::settings().unwrap()).unwrap();
            let helped = AtomicUsize::new(0);
            while helped.load(Ordering::Relaxed) < 3 {
                assert!(start.elapsed() < Duration::from_secs(60), "nobody came");
                let _ = catch_unwind(|| {
                    for_each_index(settings, 8, usize::MAX, &|_| {
                        std::thread::sleep(Duration::from_millis(1));
                        if std::thread::current().id() != caller {
                            helped.fetch_add(1, Ordering::Relaxed);
                            assert_eq!(is_kept(), kept);
                            panic!("inside");
                        }
                    });
                })
                .map_err(|panic| assert_eq!(panic.downcast_ref(), Some(&"inside")));
            }
        }
        assert!(rayon::broadcast(|_| is_kept()).into_iter().all(|kept| kept));
    }

    #[test]
    fn without_spinning_a_helper_parks_at_once() {
        let context = Context::new().threads(2).spin(Duration::ZERO);
        let settings = context.run(|| crate::context::settings().unwrap()).unwrap();
        for_each_index(settings, 8, usize::MAX, &|_| std::thread::sleep(Duration::from_millis(1)));
        let start = Instant::now();
        while with_team(|team| team.helpers()) != Some(0) {
            assert!(start.elapsed() < Duration::from_secs(60), "a helper stays");
            std::thread::yield_now();
        }
        assert!(!pays(settings, NANOSECONDS_TO_WAKE), "little work is not shared");
        assert!(!pays(settings, NANOSECONDS_TO_WAKE), "not even when calls come close together");
        assert!(pays(settings, 2 * NANOSECONDS_TO_WAKE));
    }

    #[test]
    fn panics_on_all_threads_leave_nothing_behind() {
        for _ in 0..20 {
            let all = || for_each_index(with_threads(3), 8, usize::MAX, &|chunk| panic!("chunk {chunk}"));
            assert!(catch_unwind(all).is_err());
            for_each_index(with_threads(3), 8, usize::MAX, &|_| ());
        }
    }

    #[test]
    fn work_inside_work_and_inside_a_pool_is_done() {
        let count = AtomicUsize::new(0);
        let nested = || {
            for_each_index(with_threads(2), 5, usize::MAX, &|_| {
                for_each_index(with_threads(2), 7, usize::MAX, &|_| {
                    count.fetch_add(1, Ordering::Relaxed);
                });
            });
        };
        nested();
        rayon::join(nested, nested);
        // A pool whose only thread is the caller.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        pool.install(nested);
        assert_eq!(count.into_inner(), 4 * 35);
    }

    #[test]
    fn both_sides_run_once_with_the_instruction_set_of_the_caller_and_one_thread() {
        for isa in crate::Isa::available() {
            let settings =
                Context::new().isa(isa).threads(2).run(|| crate::context::settings().unwrap()).unwrap();
            let inside = || {
                let inside = crate::context::settings().unwrap();
                (inside.simd.isa(), inside.threads)
            };
            let (a, b) = both(settings, usize::MAX, inside, || (inside(), "b")).unwrap();
            assert_eq!((a, b), ((isa, 1), ((isa, 1), "b")));
        }
    }

    #[test]
    fn little_work_is_not_split() {
        let settings = Context::new().threads(8).run(|| crate::context::settings().unwrap()).unwrap();
        assert_eq!(jobs(settings, 100, NANOSECONDS_PER_JOB), 1);
        assert_eq!(jobs(settings, 100, 3 * NANOSECONDS_PER_JOB), 3);
        assert_eq!(jobs(settings, 2, usize::MAX), 2);
    }
}
