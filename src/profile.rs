//! Where the time goes: a table per operation at the end of the process, or a trace for Perfetto and Chrome.
//!
//! `GRISTMILL_PROFILE=1` prints the table to standard error when the process ends, `GRISTMILL_PROFILE=shapes`
//! has one row for each shape of a product, and `GRISTMILL_PROFILE=trace.json` (any name with that extension)
//! writes the start and end of every call to a file that <https://ui.perfetto.dev> and `chrome://tracing`
//! open. A program can do the same with [`start`] and [`finish`]. While profiling is off, it costs a kernel
//! call one load and one branch.
//!
//! A row's *own* time is the time that its calls did not spend in rows nested in them: for `backward`, that
//! is the cost of the tape and the time spent waiting for a thread that works on the other of two products.
//! Bytes are those of the operands that threads share chunk by chunk, each counted once; operations are
//! counted for products only.
//!
//! A last line says how many calls met subnormal numbers, as an operand or as a result that lost digits, and
//! how much longer they took than they would have at the pace of the other calls of their rows: that is what
//! [`Subnormals::Flush`](crate::Subnormals::Flush) may save. On ARM only results are detected.
//!
//! ```
//! use gristmill::{kernels::softmax, profile};
//! profile::start(profile::Mode::Table);
//! {
//!     let _scope = profile::scope("my part");
//!     softmax::forward(&[0.0_f32, 1.0], 2, &mut [0.0; 2])?;
//! }
//! let profile = profile::finish();
//! assert_eq!(profile.rows.iter().find(|row| row.name == "softmax::forward").map(|row| row.calls), Some(1));
//! println!("{profile}");
//! # Ok::<(), gristmill::Error>(())
//! ```

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::simd::environment;

/// What is recorded of each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Totals per name.
    Table,
    /// Totals per name and shape of a product.
    Shapes,
    /// The same as `Shapes`, plus the start and end of the first million calls.
    Trace,
}

/// The most calls that a trace records.
const MOST_EVENTS: usize = 1_000_000;

const UNKNOWN: u8 = 0;
const OFF: u8 = 1;
const ON: u8 = 2;
static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);
static RECORD: Mutex<Option<Record>> = Mutex::new(None);
static NEXT_THREAD: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static THREAD: RefCell<Thread> = RefCell::new(Thread {
        number: NEXT_THREAD.fetch_add(1, Ordering::Relaxed),
        open: Vec::new(),
    });
}

struct Thread {
    number: u64,
    open: Vec<Open>,
}

/// A call in progress.
struct Open {
    name: &'static str,
    start: Instant,
    /// Time spent in nested calls.
    inside: Duration,
    /// Whether the call's own arithmetic met subnormal numbers before the nested call that is running now.
    met_subnormals: bool,
    work: Work,
}

#[derive(Clone, Copy, Default)]
struct Work {
    shape: Option<[usize; 3]>,
    flops: f64,
    bytes: f64,
}

struct Record {
    mode: Mode,
    start: Instant,
    rows: HashMap<(&'static str, Option<[usize; 3]>), Row>,
    events: Vec<Event>,
}

/// The totals of one row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// The operation, or the name given to [`scope`].
    pub name: &'static str,
    /// m, k and n of a product, if shapes were recorded.
    pub shape: Option<[usize; 3]>,
    /// The number of calls.
    pub calls: u64,
    /// From start to end.
    pub total: Duration,
    /// Without nested rows.
    pub own: Duration,
    /// Multiplications and additions of products.
    pub flops: f64,
    /// Bytes of operands and results.
    pub bytes: f64,
    /// Calls whose own arithmetic met a subnormal number.
    pub subnormal_calls: u64,
    /// The share of these calls in `own`.
    pub subnormal_own: Duration,
    /// The share of these calls in [`work`](Row::work).
    subnormal_work: f64,
}

impl Row {
    /// The amount of work in all calls, so that long and short ones can be compared.
    fn work(&self) -> f64 {
        Work { shape: None, flops: self.flops, bytes: self.bytes }.amount(self.calls)
    }

    /// How much longer the calls that met subnormal numbers took than the others would have taken for the
    /// same work; `None` if either kind is missing.
    fn subnormal_cost(&self) -> Option<f64> {
        let rest = self.work() - self.subnormal_work;
        let rate = (self.own - self.subnormal_own).as_secs_f64() / rest;
        let cost = self.subnormal_own.as_secs_f64() - rate * self.subnormal_work;
        (self.subnormal_calls > 0 && self.subnormal_calls < self.calls && rest > 0.0).then_some(cost.max(0.0))
    }
}

impl Work {
    /// Operations for products, otherwise bytes, otherwise calls.
    fn amount(self, calls: u64) -> f64 {
        match self {
            Self { flops, .. } if flops > 0.0 => flops,
            Self { bytes, .. } if bytes > 0.0 => bytes,
            _ => calls as f64,
        }
    }
}

#[derive(Clone, Debug)]
struct Event {
    name: &'static str,
    shape: Option<[usize; 3]>,
    thread: u64,
    start: Duration,
    length: Duration,
}

/// What was recorded between [`start`] and [`finish`].
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// In descending order of own time.
    pub rows: Vec<Row>,
    /// From [`start`] to [`finish`].
    pub elapsed: Duration,
    events: Vec<Event>,
}

fn record() -> MutexGuard<'static, Option<Record>> {
    RECORD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts recording on all threads and discards earlier records, including those that `GRISTMILL_PROFILE`
/// asked for.
pub fn start(mode: Mode) {
    is_on();
    begin(&mut record(), mode);
}

/// The state only changes while the record is locked.
fn begin(record: &mut Option<Record>, mode: Mode) {
    *record = Some(Record { mode, start: Instant::now(), rows: HashMap::new(), events: Vec::new() });
    STATE.store(ON, Ordering::Relaxed);
}

/// Stops recording and returns the record, which is empty if nothing was being recorded. Calls still in
/// progress are not included.
pub fn finish() -> Profile {
    is_on();
    end().unwrap_or_default()
}

fn end() -> Option<Profile> {
    let record = {
        let mut record = record();
        STATE.store(OFF, Ordering::Relaxed);
        record.take()?
    };
    let mut rows: Vec<Row> = record.rows.into_values().collect();
    rows.sort_by(|a, b| b.own.cmp(&a.own).then_with(|| (a.name, a.shape).cmp(&(b.name, b.shape))));
    Some(Profile { rows, elapsed: record.start.elapsed(), events: record.events })
}

/// Whether calls are being recorded.
#[inline]
pub(crate) fn is_on() -> bool {
    match STATE.load(Ordering::Relaxed) {
        OFF => false,
        UNKNOWN => read_variable(),
        _ => true,
    }
}

/// Records the time until the result is dropped under this name. Kernels, backward passes, optimizer steps
/// and waits for a batch do this themselves. Nested scopes of a thread must end in reverse order, as blocks
/// do.
#[inline]
#[must_use = "the time until it is dropped is recorded"]
pub fn scope(name: &'static str) -> Scope {
    Scope { recorded: is_on() && open(name), thread: std::marker::PhantomData }
}

/// See [`scope`].
pub struct Scope {
    recorded: bool,
    /// Not `Send`: a scope ends on the thread where it started.
    thread: std::marker::PhantomData<*const ()>,
}

impl Drop for Scope {
    #[inline]
    fn drop(&mut self) {
        if self.recorded {
            close();
        }
    }
}

#[cold]
fn open(name: &'static str) -> bool {
    let call = Open {
        name,
        start: Instant::now(),
        inside: Duration::ZERO,
        met_subnormals: false,
        work: Work::default(),
    };
    let opened = THREAD.try_with(|thread| {
        let open = &mut thread.borrow_mut().open;
        if let Some(outer) = open.last_mut() {
            outer.met_subnormals |= environment::met_subnormals();
        }
        open.push(call);
    });
    environment::forget_subnormals();
    opened.is_ok()
}

#[cold]
fn close() {
    let _ = THREAD.try_with(|thread| {
        let mut thread = thread.borrow_mut();
        let Some(Open { name, start, inside, met_subnormals, work }) = thread.open.pop() else { return };
        let length = start.elapsed();
        let met_subnormals = met_subnormals || environment::met_subnormals();
        environment::forget_subnormals();
        if let Some(outer) = thread.open.last_mut() {
            outer.inside += length;
        }
        let mut record = record();
        let Some(record) = record.as_mut().filter(|record| record.start <= start) else { return };
        let shape = work.shape.filter(|_| record.mode != Mode::Table);
        let row = record.rows.entry((name, shape)).or_insert(Row {
            name,
            shape,
            calls: 0,
            total: Duration::ZERO,
            own: Duration::ZERO,
            flops: 0.0,
            bytes: 0.0,
            subnormal_calls: 0,
            subnormal_own: Duration::ZERO,
            subnormal_work: 0.0,
        });
        let own = length.saturating_sub(inside);
        row.calls += 1;
        row.total += length;
        row.own += own;
        if met_subnormals {
            row.subnormal_calls += 1;
            row.subnormal_own += own;
            row.subnormal_work += work.amount(1);
        }
        row.flops += work.flops;
        row.bytes += work.bytes;
        if record.mode == Mode::Trace && record.events.len() < MOST_EVENTS {
            let start = start.duration_since(record.start);
            record.events.push(Event { name, shape, thread: thread.number, start, length });
        }
    });
}

/// Adds to the work of the innermost call on this thread.
#[cold]
pub(crate) fn add_work(shape: Option<[usize; 3]>, flops: usize, bytes: usize) {
    let _ = THREAD.try_with(|thread| {
        if let Some(call) = thread.borrow_mut().open.last_mut() {
            call.work.shape = call.work.shape.or(shape);
            call.work.flops += flops as f64;
            call.work.bytes += bytes as f64;
        }
    });
}

/// The value of `GRISTMILL_PROFILE`, read once.
#[cold]
fn read_variable() -> bool {
    let mut record = record();
    if STATE.load(Ordering::Relaxed) == UNKNOWN {
        let wanted = std::env::var_os("GRISTMILL_PROFILE").and_then(|text| wanted(&text.to_string_lossy()));
        match wanted {
            Some((mode, path)) if at_exit() => {
                let _ = TRACE_TO.set(path);
                begin(&mut record, mode);
            }
            _ => STATE.store(OFF, Ordering::Relaxed),
        }
    }
    STATE.load(Ordering::Relaxed) == ON
}

/// The file that a trace goes to when the process ends.
static TRACE_TO: OnceLock<Option<PathBuf>> = OnceLock::new();

/// What a value of the variable asks for. An unknown word asks for a table, since whoever set the variable
/// wants to see something.
fn wanted(text: &str) -> Option<(Mode, Option<PathBuf>)> {
    match text {
        "" | "0" => None,
        "shapes" => Some((Mode::Shapes, None)),
        path if path.ends_with(".json") => Some((Mode::Trace, Some(path.into()))),
        _ => Some((Mode::Table, None)),
    }
}

/// Registers [`report`] to be called when the process ends, where the platform supports that.
fn at_exit() -> bool {
    #[cfg(any(unix, windows))]
    {
        unsafe extern "C" {
            fn atexit(callback: extern "C" fn()) -> std::ffi::c_int;
        }
        // SAFETY: the function is part of the C library that the standard library links, and the callback
        // does not unwind.
        unsafe { atexit(report) == 0 }
    }
    #[cfg(not(any(unix, windows)))]
    false
}

#[cfg_attr(not(any(unix, windows)), allow(dead_code))]
extern "C" fn report() {
    let _ = std::panic::catch_unwind(|| {
        let Some(profile) = end() else { return };
        let mut err = io::stderr().lock();
        let _ = match TRACE_TO.get().and_then(Option::as_ref) {
            Some(path) => match profile.write_trace(path) {
                Ok(()) => writeln!(err, "gristmill: wrote {}", path.display()),
                Err(error) => writeln!(err, "gristmill: {error}"),
            },
            None => writeln!(err, "{profile}"),
        };
    });
}

impl Profile {
    /// Writes the trace, in the format of Chrome's trace events, to a temporary file next to `path`, then
    /// renames it.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be written.
    pub fn write_trace(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        crate::files::replace(path, |file| file.write_all(self.trace().as_bytes()))
            .map_err(|error| Error::file(path, error.to_string()))
    }

    /// The trace as JSON; empty brackets if the mode was not [`Mode::Trace`].
    pub fn trace(&self) -> String {
        let mut json = String::from("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[");
        for (i, event) in self.events.iter().enumerate() {
            let [start, length] = [event.start, event.length].map(|time| time.as_nanos() as f64 / 1e3);
            let comma = if i == 0 { "" } else { "," };
            let _ = write!(json, "{comma}\n{{\"name\":\"");
            for c in event.name.chars() {
                let _ = match c {
                    '"' | '\\' => write!(json, "\\{c}"),
                    c if c < ' ' => write!(json, "\\u{:04x}", c as u32),
                    c => write!(json, "{c}"),
                };
            }
            let _ = write!(
                json,
                "\",\"ph\":\"X\",\"pid\":1,\"tid\":{},\"ts\":{start},\"dur\":{length}",
                event.thread
            );
            if let Some([m, k, n]) = event.shape {
                let _ = write!(json, ",\"args\":{{\"shape\":\"{m}x{k}x{n}\"}}");
            }
            json.push('}');
        }
        json.push_str("\n]}\n");
        json
    }
}

impl fmt::Display for Profile {
    /// A table; "share" is a row's share of the own times of all rows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own: f64 = self.rows.iter().map(|row| row.own.as_secs_f64()).sum();
        let name = |row: &Row| match row.shape {
            Some([m, k, n]) => format!("{} {m}x{k}x{n}", row.name),
            None => row.name.to_owned(),
        };
        let width = self.rows.iter().map(|row| name(row).chars().count()).max().unwrap_or(0).max(9);
        writeln!(
            f,
            "{:width$} {:>9} {:>11} {:>11} {:>11} {:>7} {:>7} {:>7}",
            "operation", "calls", "total ms", "own ms", "mean µs", "share %", "GFLOP/s", "GB/s"
        )?;
        for row in &self.rows {
            let (total, mine) = (row.total.as_secs_f64(), row.own.as_secs_f64());
            let rate = |amount: f64| match amount {
                0.0 => String::new(),
                _ => format!("{:.1}", amount / total.max(1e-9) / 1e9),
            };
            writeln!(
                f,
                "{:width$} {:>9} {:>11.3} {:>11.3} {:>11.3} {:>7.1} {:>7} {:>7}",
                name(row),
                row.calls,
                total * 1e3,
                mine * 1e3,
                total * 1e6 / row.calls.max(1) as f64,
                100.0 * mine / own.max(1e-12),
                rate(row.flops),
                rate(row.bytes)
            )?;
        }
        write!(
            f,
            "{:.3} ms in all; own times of all threads: {:.3} ms",
            self.elapsed.as_secs_f64() * 1e3,
            own * 1e3
        )?;
        let met: u64 = self.rows.iter().map(|row| row.subnormal_calls).sum();
        if met > 0 {
            let time: Duration = self.rows.iter().map(|row| row.subnormal_own).sum();
            let cost: f64 = self.rows.iter().filter_map(Row::subnormal_cost).sum();
            let calls: u64 = self.rows.iter().map(|row| row.calls).sum();
            write!(
                f,
                "\n{met} of {calls} calls met subnormal numbers: {:.3} ms, \
                 {:.3} ms more than at the pace of the others",
                time.as_secs_f64() * 1e3,
                cost * 1e3
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_says_what_is_recorded() {
        assert_eq!(wanted("0"), None);
        assert_eq!(wanted(""), None);
        assert_eq!(wanted("1"), Some((Mode::Table, None)));
        assert_eq!(wanted("shapes"), Some((Mode::Shapes, None)));
        assert_eq!(wanted("out/trace.json"), Some((Mode::Trace, Some("out/trace.json".into()))));
    }

    #[test]
    fn own_times_do_not_hold_what_is_inside_and_names_are_escaped() {
        let millisecond = Duration::from_millis(1);
        let row = |name, own: u32| Row {
            name,
            shape: None,
            calls: 2,
            total: 2 * millisecond,
            own: own * millisecond,
            flops: 4e6,
            bytes: 0.0,
            subnormal_calls: 1,
            subnormal_own: own * millisecond * 3 / 4,
            subnormal_work: 2e6,
        };
        let event = Event {
            name: "a \"b\"\n",
            shape: Some([1, 2, 3]),
            thread: 7,
            start: millisecond,
            length: millisecond,
        };
        let profile = Profile {
            rows: vec![row("outer", 1), row("inner", 3)],
            elapsed: 4 * millisecond,
            events: vec![event],
        };
        let text = profile.to_string();
        assert!(
            text.contains("outer             2       2.000       1.000    1000.000    25.0     2.0"),
            "{text}"
        );
        // 3 of 4 ms were spent in two of four calls; the others took 1 ms for the same amount of work.
        assert!(
            text.ends_with(
                "\n2 of 4 calls met subnormal numbers: 3.000 ms, 2.000 ms more than at the pace of the others"
            ),
            "{text}"
        );
        assert_eq!(
            profile.trace(),
            "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n{\"name\":\"a \\\"b\\\"\\u000a\",\"ph\":\"X\",\"pid\":1,\"tid\":7,\
             \"ts\":1000,\"dur\":1000,\"args\":{\"shape\":\"1x2x3\"}}\n]}\n"
        );
    }
}
