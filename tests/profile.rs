//! Profiles: of a program that asks for one, and of a process whose environment does.

use std::process::Command;

use gristmill::kernels::gemm::{MatMut, MatRef, gemm};
use gristmill::kernels::map::{self, Unary};
use gristmill::{Context, profile};

/// Two products and a function.
fn work() -> gristmill::Result<()> {
    let (a, mut c) = (vec![1.0_f32; 64 * 64], vec![0.0; 64 * 64]);
    let _scope = profile::scope("work");
    for _ in 0..2 {
        let (a, c) = (MatRef::row_major(&a, 64, 64)?, MatMut::row_major(&mut c, 64, 64)?);
        gemm(1.0, a, a, 0.0, c)?;
    }
    map::unary(Unary::Exp, &a, &mut c)
}

/// What the process of [`run`] does.
#[test]
fn child() -> gristmill::Result<()> {
    if std::env::var_os("GRISTMILL_PROFILE").is_some() { work() } else { Ok(()) }
}

/// The standard error of a process that works with this in its environment.
fn run(variable: &str) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let command = command.args(["--exact", "child", "--nocapture"]).env("GRISTMILL_PROFILE", variable);
    let output = command.output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_program_gets_rows_with_calls_times_and_work() -> gristmill::Result<()> {
    if std::env::var_os("GRISTMILL_PROFILE").is_some() {
        return Ok(());
    }
    profile::start(profile::Mode::Shapes);
    work()?;
    let profile = profile::finish();
    work()?; // not in it any more
    let row = |name| profile.rows.iter().find(|row| row.name == name).unwrap();
    let product = row("gemm::gemm");
    assert_eq!((product.calls, product.shape), (2, Some([64; 3])));
    assert_eq!((product.flops, product.bytes), (4.0 * 64f64.powi(3), 2.0 * 3.0 * 4.0 * 4096.0));
    let function = row("map::unary");
    assert_eq!((function.calls, function.flops, function.bytes), (1, 0.0, 2.0 * 4.0 * 4096.0));
    let outer = row("work");
    assert!(outer.total >= product.total + function.total && outer.own <= outer.total - product.total);
    assert!(profile.elapsed >= outer.total);
    assert!(profile::finish().rows.is_empty());
    // In the same test, since a process has one profile.
    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    for threads in [1, 2] {
        assert_eq!(subnormal_calls(threads), (1, 0), "{threads} threads");
    }
    Ok(())
}

/// A product of ordinary numbers, and one of which the last rows are too small: whoever computes them.
#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
fn subnormal_calls(threads: usize) -> (u64, u64) {
    let (n, tiny) = (256, 1e-30_f32);
    let mut a = vec![1.0; n * n];
    a[n * (n - 1)..].fill(tiny);
    let (b, mut c) = (vec![0.7e-10; n * n], vec![0.0; n * n]);
    profile::start(profile::Mode::Table);
    let product = |a: &[f32], c: &mut [f32]| {
        let [a, b] = [a, &b].map(|x| MatRef::row_major(x, n, n).unwrap());
        gemm(1.0, a, b, 0.0, MatMut::row_major(c, n, n).unwrap()).unwrap();
    };
    let run = || {
        // A scope around them does not count what its kernels met.
        let _scope = profile::scope("work");
        product(&b, &mut c);
        product(&a, &mut c);
        product(&b, &mut c);
    };
    Context::new().threads(threads).run(run).unwrap();
    let profile = profile::finish();
    let row = |name| profile.rows.iter().find(|row| row.name == name).unwrap();
    let product = row("gemm::gemm");
    assert!(product.subnormal_own > std::time::Duration::ZERO && product.subnormal_own < product.own);
    assert!(profile.to_string().contains("\n1 of 4 calls met subnormal numbers: "), "{profile}");
    (product.subnormal_calls, row("work").subnormal_calls)
}

#[test]
fn the_environment_gets_a_table_or_a_trace_and_nothing_if_it_says_so() {
    let table = run("1");
    let row = table.lines().find(|line| line.starts_with("gemm::gemm ")).unwrap();
    assert_eq!(row.split_whitespace().nth(1), Some("2"), "{table}");
    assert!(run("shapes").contains("gemm::gemm 64x64x64 "));
    assert!(!run("0").contains("gemm"));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    assert!(run(path.to_str().unwrap()).contains("gristmill: wrote"));
    let trace: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let names: Vec<_> = events.iter().map(|event| event["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["gemm::gemm", "gemm::gemm", "map::unary", "work"]);
    assert_eq!(events[0]["args"]["shape"], "64x64x64");
    let time = |event: &serde_json::Value, key| event[key].as_f64().unwrap();
    let (first, outer) = (&events[0], &events[3]);
    assert!(time(first, "ts") >= time(outer, "ts") && time(first, "dur") <= time(outer, "dur"));

    let nowhere = folder.path().join("missing").join("trace.json");
    assert!(run(nowhere.to_str().unwrap()).contains("missing"), "the file that cannot be written is named");
}
