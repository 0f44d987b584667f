//! Whole jobs, where a bench of single calls sees nothing: how a training changes from its first part to its
//! last, and what threads of one process do to each other.
//!
//! ```sh
//! cargo bench --bench jobs                          # all figures
//! cargo bench --bench jobs -- --only dqn            # trainings whose names contain this
//! cargo bench --bench jobs -- --gate                # exit code 1 if a training slows down
//! cargo bench --bench jobs -- --test                # one short round: does it run?
//! ```

#[path = "../common/dqn.rs"]
mod dqn;
mod epochs;
mod idle;
#[allow(dead_code)] // Other benches use more of it.
#[path = "../common/kernels.rs"]
mod kernels;
#[allow(dead_code)]
#[path = "../common/mlp_resnet.rs"]
mod mlp_resnet;
mod threads;

use std::process::ExitCode;

use clap::Parser;
use epochs::{Size, TRAININGS, Verdict};
use gristmill::Result;

/// Measures whole jobs.
#[derive(Parser)]
struct Flags {
    /// Only trainings whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Trainings alone; fails where the last part is slower than the second, or anything is subnormal
    #[arg(long)]
    gate: bool,
    /// One short round
    #[arg(long)]
    test: bool,
    /// What `cargo bench` passes to its programs, and `cargo test` does not
    #[arg(long, hide = true)]
    bench: bool,
    /// What is meant for criterion, such as a filter: nothing is measured
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    others: Vec<String>,
}

fn main() -> ExitCode {
    run(&Flags::parse()).unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn run(flags: &Flags) -> Result<ExitCode> {
    if !flags.others.is_empty() {
        println!("Jobs are not run: {} is for criterion", flags.others.join(" "));
        return Ok(ExitCode::SUCCESS);
    }
    let test = flags.test || !flags.bench;
    let size = if test { Size::Test } else { Size::Whole };
    let wanted = |name: &str| flags.only.as_ref().is_none_or(|only| name.contains(only));
    let mut failed = Vec::new();
    for (name, make) in TRAININGS.iter().filter(|(name, _)| wanted(name)) {
        if let Verdict::Slows(why) = epochs::judge(name, *make, size)? {
            failed.push(format!("{name}: {why}"));
        }
    }
    if !flags.gate && flags.only.is_none() {
        threads::run(test)?;
        idle::run(test)?;
    }
    // A short round fails for what is subnormal only, not for times.
    if (flags.gate || test) && !failed.is_empty() {
        eprintln!("{}", failed.join("\n"));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
