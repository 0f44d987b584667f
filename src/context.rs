//! What kernels run with: the instruction set, the number of jobs that they split their work into, how long
//! helper threads spin, and how subnormal numbers are treated.
//!
//! | | default | variable of the process | for one closure on one thread |
//! |---|---|---|---|
//! | instruction set | the widest of the CPU | `GRISTMILL_ISA`: `avx512`, `avx2`, `neon`, `portable` | [`Context::isa`] |
//! | jobs | all threads of the current rayon pool | `GRISTMILL_THREADS`: 1, 2, … | [`Context::threads`] |
//! | spinning | 200 µs | `GRISTMILL_SPIN`: microseconds, 0 to park at once | [`Context::spin`] |
//! | subnormal numbers | kept | `GRISTMILL_SUBNORMALS`: `keep`, `flush` | [`Context::subnormals`] |
//!
//! Results only depend on the last of these, except that the portable build rounds differently on a target
//! without fused multiply-add. They do not depend on the floating-point environment that the process has set:
//! on all its threads, every kernel rounds to nearest, traps nothing and treats subnormal numbers as its
//! settings say, and it restores the caller's control bits (MXCSR, FPCR) when it ends.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::simd::environment::{self, Entered, Environment};
use crate::simd::{Dispatcher, Isa};

/// How kernels treat subnormal numbers, those between 0 and the smallest normal number (1.2e-38 in f32,
/// 2.2e-308 in f64).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Subnormals {
    /// Like any other number, as IEEE 754 requires. Many processors take a hundred times as long for each.
    #[default]
    Keep,
    /// Subnormal operands and results of arithmetic are replaced by 0 of the same sign. Operations that only
    /// move numbers or change single bits (copies, `neg`, `abs`) keep them.
    ///
    /// x86 decides after rounding whether a result is subnormal, ARM before: results that round up to the
    /// smallest normal number differ between the two. Not available on other architectures or under Miri.
    Flush,
}

impl Subnormals {
    /// `keep` or `flush`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Flush => "flush",
        }
    }

    fn environment(self) -> Option<Environment> {
        match self {
            Self::Keep => Some(Environment::KEEP),
            Self::Flush => Environment::FLUSH,
        }
    }

    /// `self` if this machine supports it.
    fn available(self, setting: &'static str) -> Result<Self> {
        match self.environment() {
            Some(_) => Ok(self),
            None => Err(Error::setting(
                setting,
                format!("subnormal numbers cannot be flushed on {}", std::env::consts::ARCH),
            )),
        }
    }
}

/// How long helper threads spin by default; see [`Context::spin`].
pub const DEFAULT_SPIN: Duration = Duration::from_micros(200);

/// What a kernel call runs with; resolved once per call, then passed down by value.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The instruction set, as a value that proves that the CPU supports it.
    pub simd: Dispatcher,
    /// The largest number of jobs a kernel splits its work into.
    pub threads: usize,
    /// How subnormal numbers are treated.
    pub subnormals: Subnormals,
    pub(crate) spin: Spin,
}

/// Microseconds in 32 bits, so that settings fit in two words: small kernels are slowed down by every further
/// word that is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spin(u32);

impl Spin {
    /// Rounded up, so that only 0 becomes 0.
    const fn new(spin: Duration) -> Self {
        let microseconds = spin.as_nanos().div_ceil(1000);
        Self(if microseconds > u32::MAX as u128 { u32::MAX } else { microseconds as u32 })
    }
}

impl Settings {
    /// How long helper threads spin before they park.
    pub const fn spin(self) -> Duration {
        Duration::from_micros(self.spin.0 as u64)
    }

    /// The same settings, but with subnormal numbers flushed where the machine can do so.
    pub(crate) fn flushing(self) -> Self {
        match Environment::FLUSH {
            Some(_) => Self { subnormals: Subnormals::Flush, ..self },
            None => self,
        }
    }

    /// The floating-point environment of kernels with these settings.
    pub(crate) fn environment(self) -> Environment {
        self.subnormals.environment().unwrap_or(Environment::KEEP)
    }
}

/// A choice of instruction set, threads, spinning and subnormal numbers for the kernels called inside
/// [`Context::run`].
///
/// ```
/// use gristmill::{Context, Isa};
/// for isa in Isa::available() {
///     let context = Context::new().isa(isa).threads(1);
///     let inside = context.run(|| gristmill::context::settings().unwrap().simd.isa());
///     assert_eq!(inside.unwrap(), isa);
/// }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Context {
    isa: Option<Isa>,
    threads: Option<usize>,
    spin: Option<Spin>,
    subnormals: Option<Subnormals>,
}

thread_local! {
    static OVERRIDE: Cell<Option<Settings>> = const { Cell::new(None) };
    /// The environment of the settings in force, cached after the first use: kernels need it before their
    /// settings.
    static ENVIRONMENT: Cell<Option<Environment>> = const { Cell::new(None) };
}

impl Context {
    /// A context that changes nothing.
    pub const fn new() -> Self {
        Self { isa: None, threads: None, spin: None, subnormals: None }
    }

    /// Exactly these settings, except for the number of jobs.
    pub(crate) const fn of(settings: Settings, threads: usize) -> Self {
        Self {
            isa: Some(settings.simd.isa()),
            threads: Some(threads),
            spin: Some(settings.spin),
            subnormals: Some(settings.subnormals),
        }
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

    /// Sets how long a helper thread spins, waiting for the next kernel of the same caller, before it parks:
    /// 200 µs by default, in whole microseconds up to some 71 minutes; with [`Duration::ZERO`] it parks at
    /// once. Handing work to a spinning thread takes 0.2 µs, waking a parked one 20 to 60 µs: without
    /// spinning, only kernels of more than 80 µs are shared. A spinning thread uses its core.
    pub const fn spin(mut self, spin: Duration) -> Self {
        self.spin = Some(Spin::new(spin));
        self
    }

    /// Sets how subnormal numbers are treated.
    pub const fn subnormals(mut self, subnormals: Subnormals) -> Self {
        self.subnormals = Some(subnormals);
        self
    }

    /// Runs `f` on this thread with these settings, then restores the previous ones, even after a panic.
    ///
    /// All of `f` runs in the floating-point environment of the kernels, including its own arithmetic: a
    /// whole training run inside it is bit-identical even in a process that rounds upwards.
    ///
    /// # Errors
    /// [`Error::Setting`] if the CPU lacks the instruction set, the number of threads is zero, or subnormal
    /// numbers cannot be flushed on this machine.
    pub fn run<R>(self, f: impl FnOnce() -> R) -> Result<R> {
        let mut settings = settings()?;
        if let Some(isa) = self.isa {
            settings.simd = Dispatcher::new(isa).ok_or_else(|| unavailable("Context::isa", isa.name()))?;
        }
        if let Some(threads) = self.threads {
            settings.threads = at_least_one("Context::threads", threads)?;
        }
        if let Some(spin) = self.spin {
            settings.spin = spin;
        }
        if let Some(subnormals) = self.subnormals {
            settings.subnormals = subnormals.available("Context::subnormals")?;
        }

        struct Restore(Option<Settings>, Option<Environment>);
        impl Drop for Restore {
            fn drop(&mut self) {
                OVERRIDE.set(self.0);
                ENVIRONMENT.set(self.1);
            }
        }
        let environment = ENVIRONMENT.replace(Some(settings.environment()));
        let _restore = Restore(OVERRIDE.replace(Some(settings)), environment);
        Ok(in_environment(f))
    }
}

/// Enters the floating-point environment of kernels called at this point, until the result is dropped.
///
/// Invalid settings are not reported here: the kernel asks for its [`settings`] next.
#[inline(always)]
pub(crate) fn enter_environment() -> Entered {
    present_environment().enter()
}

/// Runs `f`, whose arithmetic is outside of kernels, in the floating-point environment that kernels would
/// have.
pub(crate) fn in_environment<R>(f: impl FnOnce() -> R) -> R {
    environment::within(present_environment(), f)
}

#[inline(always)]
fn present_environment() -> Environment {
    ENVIRONMENT.get().unwrap_or_else(first_environment)
}

#[cold]
fn first_environment() -> Environment {
    let environment = settings().map_or(Environment::KEEP, Settings::environment);
    ENVIRONMENT.set(Some(environment));
    environment
}

/// The settings of a kernel called at this point.
///
/// # Errors
/// [`Error::Setting`] if one of the `GRISTMILL_` variables has an unknown or unsupported value.
#[inline]
pub fn settings() -> Result<Settings> {
    match OVERRIDE.get() {
        Some(settings) => Ok(settings),
        None => defaults(),
    }
}

/// The values of the variables. If the number of threads is not set, it is that of the current pool.
#[derive(Clone, Copy, Debug)]
struct Defaults {
    simd: Dispatcher,
    threads: Option<usize>,
    spin: Spin,
    subnormals: Subnormals,
}

fn defaults() -> Result<Settings> {
    static DEFAULTS: OnceLock<Result<Defaults>> = OnceLock::new();
    let defaults = DEFAULTS.get_or_init(|| {
        Defaults::from_variables(|name| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned()))
    });
    match defaults {
        Ok(Defaults { simd, threads, spin, subnormals }) => Ok(Settings {
            simd: *simd,
            threads: threads.unwrap_or_else(crate::threads::count),
            spin: *spin,
            subnormals: *subnormals,
        }),
        Err(Error::Setting { setting, message }) => Err(Error::setting(setting, message.clone())),
        Err(other) => unreachable!("from_variables gives setting errors only, not {other}"),
    }
}

impl Defaults {
    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let simd = match variable("GRISTMILL_ISA") {
            None => Dispatcher::widest(),
            Some(name) => Isa::from_name(&name)
                .and_then(Dispatcher::new)
                .ok_or_else(|| unavailable("GRISTMILL_ISA", &name))?,
        };
        let number = |setting: &'static str, what: &str| match variable(setting) {
            None => Ok(None),
            Some(text) => match text.parse::<usize>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Error::setting(setting, format!("expected a number of {what}, got {text:?}"))),
            },
        };
        let threads = match number("GRISTMILL_THREADS", "threads")? {
            None => None,
            Some(threads) => Some(at_least_one("GRISTMILL_THREADS", threads)?),
        };
        let spin = number("GRISTMILL_SPIN", "microseconds")?;
        let spin = spin.map_or(DEFAULT_SPIN, |microseconds| Duration::from_micros(microseconds as u64));
        let spin = Spin::new(spin);
        const SUBNORMALS: &str = "GRISTMILL_SUBNORMALS";
        let subnormals = match variable(SUBNORMALS) {
            None => Subnormals::Keep,
            Some(name) => [Subnormals::Keep, Subnormals::Flush]
                .into_iter()
                .find(|subnormals| subnormals.name() == name)
                .ok_or_else(|| Error::setting(SUBNORMALS, format!("expected keep or flush, got {name:?}")))?
                .available(SUBNORMALS)?,
        };
        Ok(Self { simd, threads, spin, subnormals })
    }
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
        let read = |variables: &[(&str, &str)]| {
            let find = |name: &str| variables.iter().find(|(n, _)| *n == name);
            Defaults::from_variables(|name| find(name).map(|(_, value)| value.to_string()))
        };
        let defaults = read(&[]).unwrap();
        assert_eq!((defaults.threads, defaults.spin), (None, Spin::new(DEFAULT_SPIN)));
        assert_eq!(defaults.subnormals, Subnormals::Keep);
        let all = read(&[
            ("GRISTMILL_ISA", "portable"),
            ("GRISTMILL_THREADS", "3"),
            ("GRISTMILL_SPIN", "0"),
            ("GRISTMILL_SUBNORMALS", "keep"),
        ]);
        let all = all.unwrap();
        assert_eq!((all.simd.isa(), all.threads, all.spin), (Isa::Portable, Some(3), Spin(0)));
        let message = |name, value| read(&[(name, value)]).unwrap_err().to_string();
        assert!(
            message("GRISTMILL_ISA", "sse9").starts_with("GRISTMILL_ISA: \"sse9\" is not available here")
        );
        assert_eq!(message("GRISTMILL_THREADS", "0"), "GRISTMILL_THREADS: must be at least 1, got 0");
        assert_eq!(
            message("GRISTMILL_THREADS", "two"),
            "GRISTMILL_THREADS: expected a number of threads, got \"two\""
        );
        assert_eq!(
            message("GRISTMILL_SPIN", "-1"),
            "GRISTMILL_SPIN: expected a number of microseconds, got \"-1\""
        );
        assert_eq!(
            message("GRISTMILL_SUBNORMALS", "drop"),
            "GRISTMILL_SUBNORMALS: expected keep or flush, got \"drop\""
        );
    }

    #[test]
    fn settings_are_two_words_and_spin_in_whole_microseconds() {
        assert_eq!(size_of::<Option<Settings>>(), 16);
        for (spin, expected) in [
            (Duration::ZERO, Duration::ZERO),
            (Duration::from_nanos(1), Duration::from_micros(1)),
            (Duration::from_micros(250), Duration::from_micros(250)),
            (Duration::MAX, Duration::from_micros(u32::MAX.into())),
        ] {
            assert_eq!(Context::new().spin(spin).run(|| settings().unwrap().spin()).unwrap(), expected);
        }
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
