//! Splitting work over the threads of rayon's pool: the only file that names rayon.
//!
//! Work is cut into chunks whose bounds do not depend on the number of threads; the threads take the chunks from one
//! shared queue, the caller from its front, helpers from its back: so that in one call after the other the same thread
//! works on the same end of the same memory, and finds it in its cache. The caller never waits for a thread that has not
//! begun: help that comes late finds nothing to do.
//!
//! A job of rayon that has helped spins for [`Settings::spin`] in wait for more work of the same caller, as the threads
//! of OpenMP do: to wake a parked thread takes 20 to 60 µs, to hand work to one that spins 0.2 µs. In a training step
//! that is the difference between two threads for the largest products and two threads for most of it.
//!
//! Helpers enter the floating-point environment of the settings for the time of a task, as the caller has for the time of
//! its kernel.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::context::{Context, Settings};
use crate::error::Result;
use crate::profile;
use crate::simd::environment::{self, Environment};

/// What a job must be worth, in nanoseconds, when other threads spin: some ten times what it costs to hand it
/// over and to move the numbers between caches.
const NANOSECONDS_PER_JOB: usize = 5_000;
/// The same when a thread must be woken first.
const NANOSECONDS_TO_WAKE: usize = 40_000;
/// How long a helper stays in all. A thread of the pool that waits for something of its own may have taken up the job of
/// helping, and learns only then that its wait is over.
const STAY: Duration = Duration::from_millis(5);
/// The most chunks that threads share: counts of them stay far below 32 bits.
const MOST_CHUNKS: usize = 1 << 31;
/// Looks between two looks at the clock.
const LOOKS: usize = 64;

/// The number of threads of the rayon pool that the caller is on.
pub fn pool_threads() -> usize {
    rayon::current_num_threads()
}

/// How many jobs work of this many nanoseconds on one thread is worth, at most one per chunk.
pub(crate) fn jobs(settings: Settings, chunks: usize, nanoseconds: usize) -> usize {
    (nanoseconds / NANOSECONDS_PER_JOB).min(settings.threads).min(chunks).max(1)
}

/// Whether other threads can be had for work of this many nanoseconds: because they spin, because it is worth
/// waking them, or because calls come so close together that it will be worth it.
pub(crate) fn pays(settings: Settings, nanoseconds: usize) -> bool {
    jobs(settings, usize::MAX, nanoseconds) > 1
        && with_team(|team| team.pays(settings.spin(), nanoseconds)).unwrap_or(false)
}

/// Calls `work` once with each of `0..chunks`, on as many threads as `nanoseconds` of work are worth.
///
/// The order of the calls is not fixed: each must write only what belongs to its chunk.
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

/// Calls `a` and `b`, which take `nanoseconds` together, on two threads if there is a second one to be had. Kernels inside
/// stay on their thread.
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

thread_local! {
    static TEAM: Owner = Owner::default();
    /// Whether this thread is inside [`Team::help`].
    static HELPING: Cell<bool> = const { Cell::new(false) };
}

/// Calls `f` with this thread's team unless it is at work already: a kernel inside a kernel stays on its thread.
fn with_team<R>(f: impl FnOnce(&Owner) -> R) -> Option<R> {
    TEAM.try_with(|team| (!team.at_work.get()).then(|| f(team))).ok().flatten()
}

/// A thread's side of its team.
#[derive(Default)]
struct Owner {
    team: Arc<Team>,
    at_work: Cell<bool>,
    /// When there last was work for several threads and no helper.
    missed: Cell<Option<Instant>>,
}

/// What a thread that calls kernels shares with its helpers.
#[derive(Default)]
struct Team {
    entrance: Entrance,
    queue: Queue,
    /// Jobs that are on their way, at work or spinning.
    helpers: Line<AtomicUsize>,
    /// Written by the owner while the entrance is closed and nobody inside; read by who is inside.
    task: UnsafeCell<Option<Task>>,
    /// Whether a helper met subnormal numbers in this task, if the profile asks.
    met_subnormals: AtomicBool,
    /// The first panic of a helper.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `task` is guarded by the entrance.
unsafe impl Send for Team {}
// SAFETY: as above.
unsafe impl Sync for Team {}

/// The chunks that were taken: from the front (32 bits) and from the back (32 bits).
#[derive(Default)]
struct Queue(Line<AtomicU64>);

#[derive(Clone, Copy)]
enum End {
    Front,
    Back,
}

impl Queue {
    /// One from the back.
    const BACK: u64 = 1 << 32;

    /// Only for the owner, with nobody inside.
    fn fill(&self) {
        self.0.0.store(0, Ordering::Relaxed);
    }

    /// Leaves nothing to take.
    fn stop(&self, chunks: usize) {
        self.0.0.store(chunks as u64, Ordering::Relaxed);
    }

    /// The next chunk from this end, if one is left.
    fn take(&self, end: End, chunks: usize) -> Option<usize> {
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

/// A cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Line<T>(T);

#[derive(Clone, Copy)]
struct Task {
    chunks: usize,
    /// Lives as long as somebody is inside.
    work: *const (dyn Fn(usize) + Sync),
    environment: Environment,
    /// How long who helped spins.
    spin: Duration,
    /// Whether to look for subnormal numbers.
    profiled: bool,
}

/// Who may come in to help: helpers inside (16 bits), places left (16 bits), number of the task (32 bits).
#[derive(Default)]
struct Entrance(Line<AtomicU64>);

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

    /// Lets so many helpers in to the next task. Only for the owner, with nobody inside and no places.
    fn open(&self, places: usize) {
        let task = self.0.0.load(Ordering::Relaxed) / Self::TASK;
        let places = (places as u64).min(Self::PLACE - 1);
        self.0.0.store(((task + 1) << 32) + places * Self::PLACE, Ordering::Release);
    }

    /// Lets nobody in any more, and waits until all are out.
    fn close(&self) {
        let mut state = self.0.0.fetch_and(!((Self::PLACE - 1) * Self::PLACE), Ordering::Acquire);
        let mut looks = 0_usize;
        while Self::inside(state) > 0 {
            looks += 1;
            // After some 100 µs a helper has probably lost its core, perhaps to this thread.
            if looks > 2000 {
                std::thread::yield_now()
            } else {
                std::hint::spin_loop()
            }
            state = self.0.0.load(Ordering::Acquire);
        }
    }

    /// Goes in if there is a place and the task is not `last`; gives its number.
    fn enter(&self, last: Option<u64>) -> Option<u64> {
        let state = self.0.0.load(Ordering::Relaxed);
        let task = state / Self::TASK;
        if Self::places(state) == 0 || last == Some(task) {
            return None;
        }
        let inside = state - Self::PLACE + Self::INSIDE;
        self.0.0.compare_exchange(state, inside, Ordering::Acquire, Ordering::Relaxed).ok().map(|_| task)
    }

    fn leave(&self) {
        self.0.0.fetch_sub(Self::INSIDE, Ordering::Release);
    }
}

impl Owner {
    fn pays(&self, spin: Duration, nanoseconds: usize) -> bool {
        if self.team.helpers.0.load(Ordering::Relaxed) > 0 || nanoseconds >= 2 * NANOSECONDS_TO_WAKE {
            return true;
        }
        let now = Instant::now();
        self.missed.replace(Some(now)).is_some_and(|last| now.duration_since(last) < spin)
    }

    /// Calls `work` with each of `0..chunks`, with the help of so many others as come.
    fn run(
        &self,
        settings: Settings,
        chunks: usize,
        wanted: usize,
        nanoseconds: usize,
        work: &(dyn Fn(usize) + Sync),
    ) {
        /// Lets nobody go on with a task that is over, also after a panic.
        struct Close<'a>(&'a Owner, usize);
        impl Drop for Close<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.team.queue.stop(self.1);
                }
                self.0.team.entrance.close();
                self.0.at_work.set(false);
            }
        }

        let team = &self.team;
        self.at_work.set(true);
        team.queue.fill();
        *team.panic.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // SAFETY: only the lifetime changes; `Close` waits until nobody is inside who could use it.
        let erased =
            unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), *const (dyn Fn(usize) + Sync)>(work) };
        let (spin, profiled) = (settings.spin(), profile::is_on());
        let task = Task { chunks, work: erased, environment: settings.environment(), spin, profiled };
        // SAFETY: the entrance is closed and nobody inside.
        unsafe { *team.task.get() = Some(task) };
        let close = Close(self, chunks);
        team.entrance.open(wanted);
        // To wake a thread costs this one time, too.
        let worth = (nanoseconds / NANOSECONDS_TO_WAKE).max(1);
        let wanted = wanted.min(pool_threads()).min(worth);
        let missing = wanted.saturating_sub(team.helpers.0.load(Ordering::Relaxed));
        for _ in 0..missing {
            team.helpers.0.fetch_add(1, Ordering::Relaxed);
            let team = team.clone();
            rayon::spawn(move || {
                // The caller's own thread comes too late.
                let own = TEAM.try_with(|owner| Arc::ptr_eq(&owner.team, &team)).unwrap_or(true);
                if !own {
                    team.help(spin);
                }
                team.helpers.0.fetch_sub(1, Ordering::Relaxed);
            });
        }
        team.take_chunks(End::Front, chunks, work);
        drop(close);
        if profiled && team.met_subnormals.swap(false, Ordering::Relaxed) {
            environment::note_subnormals();
        }
        let panic = team.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Team {
    fn take_chunks(&self, end: End, chunks: usize, work: &(dyn Fn(usize) + Sync)) {
        while let Some(chunk) = self.queue.take(end, chunks) {
            work(chunk);
        }
    }

    /// Takes chunks as a helper, in the environment of the task.
    fn help_with(&self, task: Task) {
        let _environment = task.environment.enter();
        if task.profiled {
            environment::forget_subnormals();
        }
        // SAFETY: it lives until all are out.
        self.take_chunks(End::Back, task.chunks, unsafe { &*task.work });
        if task.profiled && environment::met_subnormals() {
            self.met_subnormals.store(true, Ordering::Relaxed);
        }
    }

    /// A helper's life: tasks, and spinning between them, at first for `spin`.
    fn help(&self, mut spin: Duration) {
        // A job that another helper took up while it spun helps once, and gives the thread back to that one.
        let inner = HELPING.replace(true);
        let begun = Instant::now();
        let (mut last, mut idle, mut looks) = (None, begun, 0);
        loop {
            if let Some(number) = self.entrance.enter(last) {
                // SAFETY: inside, the task stays as it is.
                let task = unsafe { *self.task.get() }.expect("set before the entrance opens");
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.help_with(task))) {
                    // The caller stops when nothing is left.
                    self.queue.stop(task.chunks);
                    self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
                }
                self.entrance.leave();
                (last, idle, looks, spin) = (Some(number), Instant::now(), 0, task.spin);
                if idle.duration_since(begun) > STAY {
                    break;
                }
            }
            if inner || spin.is_zero() {
                break;
            }
            looks += 1;
            std::hint::spin_loop();
            // A pool that has other work gets its thread back.
            if looks % LOOKS == 0
                && (idle.elapsed() > spin || rayon::yield_now() == Some(rayon::Yield::Executed))
            {
                break;
            }
        }
        HELPING.set(inner);
    }
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
    if profile::is_on() {
        profile::add_work(None, 0, parts.bytes());
    }
    for_each_index(settings, count, nanoseconds, &|i| {
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
    /// Of all chunks.
    fn bytes(&self) -> usize;
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
    fn bytes(&self) -> usize {
        0
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
// SAFETY: it stands for the exclusive slice.
unsafe impl<T: Send> Send for RowsMut<'_, T> {}

// SAFETY: shared chunks are only read.
unsafe impl<'a, T: Sync> Chunks for Rows<'a, T> {
    type Chunk = &'a [T];
    fn count(&self) -> usize {
        self.0.len().div_ceil(self.1.max(1))
    }
    fn bytes(&self) -> usize {
        size_of_val(self.0)
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
    fn bytes(&self) -> usize {
        self.len * size_of::<T>()
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
            fn bytes(&self) -> usize {
                [$(self.$index.bytes()),+].iter().sum()
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
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);

#[cfg(test)]
mod tests {
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
        while with_team(|team| team.team.helpers.0.load(Ordering::Relaxed)) != Some(0) {
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
