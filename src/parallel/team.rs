//! A calling thread, its helpers, and the task that they share.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::queue::{End, Entrance, Line, Queue};
use crate::context::Settings;
use crate::profile;
use crate::simd::environment::{self, Environment};
use crate::threads;

/// The least work, in nanoseconds, for which a parked thread is woken: about what waking it costs.
pub(super) const NANOSECONDS_TO_WAKE: usize = 40_000;
/// The longest that a helper stays. A pool thread that is waiting for something else may have picked up the
/// job of helping, and only notices the end of its wait after the job has ended.
const STAY: Duration = Duration::from_millis(5);
/// Polls between two readings of the clock.
const LOOKS: usize = 64;

thread_local! {
    static TEAM: Owner = Owner::default();
    /// Whether this thread is inside [`Team::help`].
    static HELPING: Cell<bool> = const { Cell::new(false) };
}

/// Calls `f` with this thread's team unless the team is busy: a kernel inside a kernel stays on its thread.
pub(super) fn with_team<R>(f: impl FnOnce(&Owner) -> R) -> Option<R> {
    TEAM.try_with(|team| (!team.busy.get()).then(|| f(team))).ok().flatten()
}

/// The calling thread's side of its team.
#[derive(Default)]
pub(super) struct Owner {
    team: Arc<Team>,
    busy: Cell<bool>,
    /// When there last was work for several threads but no helper.
    missed: Cell<Option<Instant>>,
}

/// What a calling thread shares with its helpers.
#[derive(Default)]
struct Team {
    entrance: Entrance,
    queue: Queue,
    /// Helper jobs that are queued, working or spinning.
    helpers: Line<AtomicUsize>,
    /// Written by the owner while the entrance is closed and no helper is inside; read by helpers inside.
    task: UnsafeCell<Option<Task>>,
    /// Whether a helper met subnormal numbers in this task; only kept while the profile is on.
    met_subnormals: AtomicBool,
    /// The first panic of a helper.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `task` is guarded by the entrance.
unsafe impl Send for Team {}
// SAFETY: as above.
unsafe impl Sync for Team {}

#[derive(Clone, Copy)]
struct Task {
    chunks: usize,
    /// Valid as long as a helper is inside.
    work: *const (dyn Fn(usize) + Sync),
    environment: Environment,
    /// How long a helper spins after the task.
    spin: Duration,
    /// Whether to look for subnormal numbers.
    profiled: bool,
}

impl Owner {
    /// Whether a helper spins, the work is worth waking one for, or calls come less than `spin` apart.
    #[inline]
    pub fn pays(&self, spin: Duration, nanoseconds: usize) -> bool {
        if self.team.helpers.0.load(Ordering::Relaxed) > 0 || nanoseconds >= 2 * NANOSECONDS_TO_WAKE {
            return true;
        }
        let now = Instant::now();
        self.missed.replace(Some(now)).is_some_and(|last| now.duration_since(last) < spin)
    }

    /// Calls `work` with each of `0..chunks`, helped by up to `wanted` other threads: as many as arrive in
    /// time.
    pub fn run(
        &self,
        settings: Settings,
        chunks: usize,
        wanted: usize,
        nanoseconds: usize,
        work: &(dyn Fn(usize) + Sync),
    ) {
        /// Makes sure that no helper is left in a task that has ended, even by a panic.
        struct Close<'a>(&'a Owner, usize);
        impl Drop for Close<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.team.queue.stop(self.1);
                }
                self.0.team.entrance.close();
                self.0.busy.set(false);
            }
        }

        let team = &self.team;
        self.busy.set(true);
        team.queue.fill();
        *team.panic.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // SAFETY: only the lifetime changes; `Close` waits until no helper that could use it is inside.
        let erased =
            unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), *const (dyn Fn(usize) + Sync)>(work) };
        let (spin, profiled) = (settings.spin(), profile::is_on());
        let task = Task { chunks, work: erased, environment: settings.environment(), spin, profiled };
        // SAFETY: the entrance is closed and no helper is inside.
        unsafe { *team.task.get() = Some(task) };
        let close = Close(self, chunks);
        team.entrance.open(wanted);
        // Waking a helper also takes time on this thread.
        let worth = (nanoseconds / NANOSECONDS_TO_WAKE).max(1);
        let wanted = wanted.min(threads::count()).min(worth);
        let missing = wanted.saturating_sub(team.helpers.0.load(Ordering::Relaxed));
        for _ in 0..missing {
            team.helpers.0.fetch_add(1, Ordering::Relaxed);
            let team = team.clone();
            threads::spawn(move || {
                // A pool thread may pick up the job that it queued itself: by then the task is over.
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

#[cfg(test)]
impl Owner {
    pub fn helpers(&self) -> usize {
        self.team.helpers.0.load(Ordering::Relaxed)
    }
}

impl Team {
    fn take_chunks(&self, end: End, chunks: usize, work: &(dyn Fn(usize) + Sync)) {
        while let Some(chunk) = self.queue.take(end, chunks) {
            work(chunk);
        }
    }

    /// Takes chunks as a helper, in the floating-point environment of the task.
    fn help_with(&self, task: Task) {
        let _environment = task.environment.enter();
        if task.profiled {
            environment::forget_subnormals();
        }
        // SAFETY: `work` is valid until all helpers have left.
        self.take_chunks(End::Back, task.chunks, unsafe { &*task.work });
        if task.profiled && environment::met_subnormals() {
            self.met_subnormals.store(true, Ordering::Relaxed);
        }
    }

    /// Helps with task after task and spins between them, at first for `spin`.
    fn help(&self, mut spin: Duration) {
        // This job was picked up by a helper that was spinning: it helps once, then returns to that helper.
        let inner = HELPING.replace(true);
        let begun = Instant::now();
        let (mut last, mut idle, mut looks) = (None, begun, 0);
        loop {
            if let Some(number) = self.entrance.enter(last) {
                // SAFETY: the task does not change while a helper is inside.
                let task = unsafe { *self.task.get() }.expect("set before the entrance opens");
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.help_with(task))) {
                    // Leaves no chunks, so that the caller stops.
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
            // If the pool has other work, it gets its thread back.
            if looks % LOOKS == 0 && (idle.elapsed() > spin || threads::yield_now()) {
                break;
            }
        }
        HELPING.set(inner);
    }
}
