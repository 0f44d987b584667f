//! Cases of the table under `family/op/element/shape/isa/threads`, each checked against its reference, then
//! timed.

use std::collections::HashSet;
use std::env;
use std::process::Command;
use std::time::{Duration, Instant};

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, Throughput};

use crate::common::kernels::Case;
use crate::common::{case, checked, expand, settings_name};

/// The cases that these patterns name (see [`expand`]) and the command line selects.
pub fn bench(patterns: &[&str]) {
    let settings = settings_name().unwrap_or_else(|error| panic!("{error}"));
    let mut names: Vec<String> = patterns.iter().flat_map(|pattern| expand(pattern)).collect();
    names.sort_by(|a, b| parts(a).0.cmp(parts(b).0));

    // Plots of 100,000 resamples would take longer than the measurement, and ten samples do not know that
    // much.
    let mut criterion = Criterion::default()
        .with_measurement(Time)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .sample_size(10)
        .nresamples(2000)
        .configure_from_args();
    let listing = env::args().any(|argument| argument == "--list");
    let selected = if listing { None } else { selected() };

    for names in names.chunk_by(|a, b| parts(a).0 == parts(b).0) {
        let mut group = criterion.benchmark_group(parts(&names[0]).0);
        for name in names {
            let (_, element, shape) = parts(name);
            let id = BenchmarkId::new(element, format!("{shape}/{settings}"));
            if listing {
                group.bench_function(id, |_| ());
            } else if selected.as_ref().is_none_or(|ids| ids.contains(&format!("{name}/{settings}"))) {
                let mut case = checked(case(name));
                group.throughput(throughput(&case));
                group.bench_function(id, |bencher| bencher.iter(|| case.run().expect("it ran before")));
            }
        }
    }
}

/// `layer_norm/backward`, `f32` and `8192x768`.
fn parts(name: &str) -> (&str, &str, &str) {
    let mut parts = name.rsplitn(3, '/');
    let (shape, element) = (parts.next(), parts.next());
    let [group, element, shape] = [parts.next(), element, shape].map(|part| part.expect("four parts"));
    (group, element, shape)
}

/// The ids that the command line selects, or `None` for all. Criterion wants a throughput before it says
/// whether it runs a case, and a large case should not be built for nothing; so this program is asked to list
/// them.
fn selected() -> Option<HashSet<String>> {
    let mut arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--test").collect();
    // It does not go with `--list` either, and has a value.
    if let Some(at) = arguments.iter().position(|argument| argument == "--profile-time") {
        arguments.drain(at..arguments.len().min(at + 2));
    }
    let mut program = Command::new(env::current_exe().expect("a program knows its name"));
    let listed = program.args(arguments).args(["--list", "--format", "terse"]).output().ok()?;
    let lines = String::from_utf8(listed.stdout).ok()?;
    let ids = lines.lines().filter_map(|line| line.strip_suffix(": benchmark"));
    listed.status.success().then(|| ids.map(str::to_owned).collect())
}

/// Products are bound by arithmetic, everything else by memory, or would like to be.
fn throughput(case: &Case) -> Throughput {
    match case.id.split('/').next() {
        Some("gemm" | "training_step" | "inference") => Throughput::Elements(case.flops as u64),
        _ => Throughput::Bytes((case.read + case.written) as u64),
    }
}

/// Wall time, with throughputs in GFLOP/s (elements are operations) and GB/s.
struct Time;

impl Measurement for Time {
    type Intermediate = Instant;
    type Value = Duration;

    fn start(&self) -> Instant {
        WallTime.start()
    }

    fn end(&self, start: Instant) -> Duration {
        WallTime.end(start)
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        WallTime.add(a, b)
    }

    fn zero(&self) -> Duration {
        WallTime.zero()
    }

    fn to_f64(&self, time: &Duration) -> f64 {
        WallTime.to_f64(time)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for Time {
    fn scale_values(&self, typical: f64, nanoseconds: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_values(typical, nanoseconds)
    }

    fn scale_throughputs(&self, _: f64, throughput: &Throughput, nanoseconds: &mut [f64]) -> &'static str {
        let (amount, unit) = match *throughput {
            Throughput::Elements(flops) => (flops, "GFLOP/s"),
            Throughput::Bytes(bytes) => (bytes, "GB/s"),
            _ => unreachable!("throughputs are operations or bytes"),
        };
        nanoseconds.iter_mut().for_each(|value| *value = amount as f64 / *value);
        unit
    }

    fn scale_for_machines(&self, nanoseconds: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_for_machines(nanoseconds)
    }
}
