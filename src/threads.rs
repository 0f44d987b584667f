//! The threads of rayon's pool: the only file that names rayon.

/// The number of threads in the rayon pool of the calling thread.
pub(crate) fn count() -> usize {
    rayon::current_num_threads()
}

/// Queues a job for any thread of the pool.
pub(crate) fn spawn(job: impl FnOnce() + Send + 'static) {
    rayon::spawn(job);
}

/// Runs one other job of the pool, if one is queued and the calling thread belongs to the pool; says whether
/// it did.
pub(crate) fn yield_now() -> bool {
    rayon::yield_now() == Some(rayon::Yield::Executed)
}
