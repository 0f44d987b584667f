//! Which instruction set the kernels use and into how many jobs they split their work.
//!
//! The default is the widest instruction set of the CPU and all threads of the current rayon pool.
//! `GRISTMILL_ISA` (`avx512`, `avx2`, `portable`) and `GRISTMILL_THREADS` (1, 2, …) change the default of the
//! process; [`Context::run`] changes it for one closure on one thread. Results do not depend on either, except that
//! the portable build rounds differently on a target without fused multiply-add.

use std::cell::Cell;
use std::sync::OnceLock;

use crate::error::{Error, Result};
use crate::simd::{Dispatcher, Isa};

/// What a kernel call runs with; resolved once per call, then passed down by value.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The instruction set, as a value that proves that the CPU has it.
    pub simd: Dispatcher,
    /// The largest number of jobs a kernel splits its work into.
    pub threads: usize,
}

/// A choice of instruction set and threads for the kernels called inside [`Context::run`].
///
/// ```
/// use gristmill::{Context, Isa};
/// for isa in Isa::available() {
///     let inside = Context::new().isa(isa).threads(1).run(|| gristmill::context::settings().unwrap().simd.isa());
///     assert_eq!(inside.unwrap(), isa);
/// }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Context {
    isa: Option<Isa>,
    threads: Option<usize>,
}

thread_local! {
    static OVERRIDE: Cell<Option<Settings>> = const { Cell::new(None) };
}

impl Context {
    /// Changes nothing until told otherwise.
    pub const fn new() -> Self {
        Self { isa: None, threads: None }
    }

    /// Uses this instruction set.
    pub const fn isa(mut self, isa: Isa) -> Self {
        self.isa = Some(isa);
        self
    }

    /// Splits the work of one kernel into at most this many jobs on the current rayon pool.
    pub const fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Runs `f` on this thread with these settings and puts the old ones back, also after a panic.
    ///
    /// # Errors
    /// [`Error::Setting`] when the CPU lacks the instruction set, or when the number of threads is zero.
    pub fn run<R>(self, f: impl FnOnce() -> R) -> Result<R> {
        let mut settings = settings()?;
        if let Some(isa) = self.isa {
            settings.simd = Dispatcher::new(isa).ok_or_else(|| unavailable("Context::isa", isa.name()))?;
        }
        if let Some(threads) = self.threads {
            settings.threads = at_least_one("Context::threads", threads)?;
        }

        struct Restore(Option<Settings>);
        impl Drop for Restore {
            fn drop(&mut self) {
                OVERRIDE.set(self.0);
            }
        }
        let _restore = Restore(OVERRIDE.replace(Some(settings)));
        Ok(f())
    }
}

/// The settings that a kernel called here and now runs with.
///
/// # Errors
/// [`Error::Setting`] when `GRISTMILL_ISA` or `GRISTMILL_THREADS` holds something unknown or unsupported.
#[inline]
pub fn settings() -> Result<Settings> {
    match OVERRIDE.get() {
        Some(settings) => Ok(settings),
        None => defaults(),
    }
}

fn defaults() -> Result<Settings> {
    static DEFAULTS: OnceLock<Result<(Dispatcher, Option<usize>)>> = OnceLock::new();
    let defaults = DEFAULTS.get_or_init(|| {
        from_variables(
            std::env::var_os("GRISTMILL_ISA").map(|v| v.to_string_lossy().into_owned()).as_deref(),
            std::env::var_os("GRISTMILL_THREADS").map(|v| v.to_string_lossy().into_owned()).as_deref(),
        )
    });
    match defaults {
        Ok((simd, threads)) => {
            Ok(Settings { simd: *simd, threads: threads.unwrap_or_else(crate::parallel::pool_threads) })
        }
        Err(Error::Setting { setting, message }) => Err(Error::setting(setting, message.clone())),
        Err(other) => unreachable!("from_variables gives setting errors only, not {other}"),
    }
}

fn from_variables(isa: Option<&str>, threads: Option<&str>) -> Result<(Dispatcher, Option<usize>)> {
    let simd = match isa {
        None => Dispatcher::widest(),
        Some(name) => Isa::from_name(name)
            .and_then(Dispatcher::new)
            .ok_or_else(|| unavailable("GRISTMILL_ISA", name))?,
    };
    let threads = match threads {
        None => None,
        Some(text) => {
            let count = text.parse().map_err(|_| {
                Error::setting("GRISTMILL_THREADS", format!("expected a number of threads, got {text:?}"))
            })?;
            Some(at_least_one("GRISTMILL_THREADS", count)?)
        }
    };
    Ok((simd, threads))
}

fn unavailable(setting: &'static str, name: &str) -> Error {
    let available: Vec<_> = Isa::available().map(Isa::name).collect();
    Error::setting(setting, format!("{name:?} is not available here; available: {}", available.join(", ")))
}

fn at_least_one(setting: &'static str, threads: usize) -> Result<usize> {
    if threads == 0 { Err(Error::setting(setting, "must be at least 1, got 0")) } else { Ok(threads) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_and_bad_ones_are_named() {
        let (simd, threads) = from_variables(Some("portable"), Some("3")).unwrap();
        assert_eq!((simd.isa(), threads), (Isa::Portable, Some(3)));
        let message = |isa, threads| from_variables(isa, threads).unwrap_err().to_string();
        assert!(message(Some("sse9"), None).starts_with("GRISTMILL_ISA: \"sse9\" is not available here"));
        assert_eq!(message(None, Some("0")), "GRISTMILL_THREADS: must be at least 1, got 0");
        assert_eq!(
            message(None, Some("two")),
            "GRISTMILL_THREADS: expected a number of threads, got \"two\""
        );
    }

    #[test]
    fn overrides_nest_and_are_put_back_after_a_panic() {
        let outer = settings().unwrap().threads;
        Context::new()
            .threads(5)
            .run(|| {
                let _ = std::panic::catch_unwind(|| Context::new().threads(7).run(|| panic!("inside")));
                assert_eq!(settings().unwrap().threads, 5);
            })
            .unwrap();
        assert_eq!(settings().unwrap().threads, outer);
        assert!(Context::new().threads(0).run(|| ()).is_err());
    }
}
