//! How near kernels come to what this machine can do, and where their speed falls off a cliff.
//!
//! ```sh
//! cargo bench --bench roofline                                 # the list of kernels, on one thread and on all
//! cargo bench --bench roofline -- --threads 1 --svg roofline.svg --json roofline.json layer_norm gemm
//! cargo bench --bench roofline -- --cliffs                     # exit code 1 if size, layout or threads cost speed
//! ```

#[path = "../common/mod.rs"]
mod common;

mod cliffs;
mod plot;
mod probes;
mod roof;
mod rounds;

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use common::kernels::{Case, dimensions};
use gristmill::simd::Dispatcher;
use gristmill::{Context, Isa};
use indicatif::{ProgressBar, ProgressStyle};
use probes::{Machine, Probes};
use roof::{Configuration, Kernel, Standing};
use rounds::{Pace, estimate};
use serde::Serialize;

/// The kernels of the table: sizes of the main job, of a transformer, and of each level of memory.
const CASES: &[&str] = &[
    "gemm/NT/f32/{100x784x100,100x100x50,100x100x10,128x768x3072}",
    "gemm/TN/f32/{100x100x784,768x128x768}",
    "gemm/NN/f32/{100x50x100,64x64x64,512x512x512,1x1024x1024}",
    "gemm/NN/f64/{64x64x64,512x512x512}",
    "map/{relu,relu_backward,gelu,gelu_backward,add}/f32/{2000,10000,400000,16000000}",
    "map/{tanh,sigmoid,exp,silu_backward}/f32/{2000,400000}",
    "map/gelu/f64/{2000,400000}",
    "map/{add_row,mul_col}/f32/{100x100,512x768}",
    "reduce/{sum_all,sum_rows,sum_cols,max_rows,argmax_rows,variance_rows}/f32/{100x100,512x768}",
    "reduce/sum_all/f32/32768x1024",
    "softmax/{forward,backward}/f32/{100x10,128x128,512x512,16384x1024}",
    "{log_softmax,logsumexp}/{forward,backward}/f32/{100x10,512x512}",
    "cross_entropy/{forward,backward}/f32/{100x10,128x1000,16384x2000}",
    "cross_entropy/options_{forward,backward}/f32/128x1000",
    "soft_cross_entropy/{forward,backward}/f32/{100x10,128x1000}",
    "nll_loss/{forward,backward}/f32/128x1000",
    "loss/{squared_error,bce_with_logits}{,_backward}/f32/{1000,400000}",
    "layer_norm/{forward,backward}/f32/{16x100,128x512,512x768,16384x1024}",
    "layer_norm/{forward,backward}/f64/512x768",
    "batch_norm/{forward,backward,infer}/f32/{100x50,100x100,1024x512,16384x1024}",
    "dropout/{forward,backward}/f32/{10000,400000}",
    "rng/{uniform,normal,bernoulli}/f32/{10000,400000}",
    "update/{sgd,sgd_momentum,rmsprop,adam}/f32/{1000,50000,400000,12000000}",
    "update/adam/f64/200000",
    "training_step/mlp_resnet/f32/100x100",
    "inference/mlp_resnet/f32/{1x100,100x100}",
];

/// A few of them, for a look.
const QUICK: &[&str] = &[
    "gemm/{NT/f32/100x784x100,NN/f32/512x512x512}",
    "map/gelu/f32/10000",
    "softmax/forward/f32/128x128",
    "layer_norm/{forward,backward}/f32/512x768",
    "batch_norm/forward/f32/100x100",
    "update/adam/f32/{50000,400000}",
];

/// What no kernel splits into jobs: its share of the roof of several threads is that of one, divided.
const WORTH_SPLITTING: f64 = 100e-6;

#[derive(Parser)]
#[command(about = "Measures the roofs of this machine and how near the kernels come")]
struct Arguments {
    /// Only the cases whose names contain one of these; the full name of a case that is not in the list adds
    /// it
    filters: Vec<String>,
    /// Instruction sets; all of this CPU if not given, without `portable` beside others
    #[arg(long, value_delimiter = ',', value_parser = isa)]
    isa: Vec<Isa>,
    /// Numbers of threads; one and all if not given
    #[arg(long, value_delimiter = ',')]
    threads: Vec<usize>,
    /// A few kernels, few rounds
    #[arg(long)]
    quick: bool,
    /// Writes everything to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draws the rooflines to this file
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Looks for cliffs instead: neighbouring sizes, threads and layouts that cost too much
    #[arg(long)]
    cliffs: bool,
    /// Fewer sizes, for CI
    #[arg(long, requires = "cliffs")]
    short: bool,
    /// Everything once, to see that it runs
    #[arg(long)]
    test: bool,
    /// What `cargo bench` passes to its programs, and `cargo test` does not
    #[arg(long, hide = true)]
    bench: bool,
    /// What is meant for criterion's benches: nothing is measured
    #[arg(long, hide = true)]
    save_baseline: Option<String>,
    #[arg(long, hide = true)]
    baseline: Option<String>,
}

fn isa(name: &str) -> Result<Isa, String> {
    let isa = Isa::from_name(name).filter(|&isa| Dispatcher::new(isa).is_some());
    isa.ok_or_else(|| {
        let available: Vec<_> = Isa::available().map(Isa::name).collect();
        format!("not available here; available: {}", available.join(", "))
    })
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    configurations: Vec<Configuration>,
}

fn main() -> ExitCode {
    common::start_at_the_root();
    run(Arguments::parse()).unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn run(mut arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    if arguments.save_baseline.is_some() || arguments.baseline.is_some() {
        return Ok(ExitCode::SUCCESS);
    }
    let all = rayon::current_num_threads();
    if arguments.isa.is_empty() {
        let isas: Vec<Isa> = Isa::available().collect();
        // Beside others, portable is for other machines.
        arguments.isa.extend(isas.iter().filter(|&&isa| isas.len() == 1 || isa != Isa::Portable));
    }
    if arguments.threads.is_empty() {
        arguments.threads.extend(if all == 1 { vec![1] } else { vec![1, all] });
    }
    if let Some(threads) = arguments.threads.iter().find(|threads| !(1..=all).contains(threads)) {
        return Err(format!("{threads} threads: there are 1 to {all}").into());
    }
    let is_test = arguments.test || !arguments.bench;
    if arguments.cliffs && !is_test {
        return cliffs::run(&arguments.isa, &arguments.filters, arguments.short);
    }

    let machine = Machine::new();
    let pace = match (is_test, arguments.quick) {
        (true, _) => Pace::ONCE,
        (_, true) => Pace { rounds: 5, slices: 3, slice: Duration::from_micros(300) },
        _ => Pace { rounds: 15, slices: 5, slice: Duration::from_micros(400) },
    };
    if is_test {
        run_once(&names(CASES, &arguments.filters))?;
    }
    let names = names(if is_test || arguments.quick { QUICK } else { CASES }, &arguments.filters);
    describe(&machine);
    let mut report = Report { machine, configurations: vec![] };
    for &isa in &arguments.isa {
        for &threads in &arguments.threads {
            let context = Context::new().isa(isa).threads(threads);
            let configuration =
                context.run(|| configuration(isa, threads, &report.machine, &names, pace))??;
            report.configurations.push(configuration);
        }
    }
    if let Some(file) = arguments.json {
        serde_json::to_writer_pretty(BufWriter::new(File::create(file)?), &report)?;
    }
    if let Some(file) = arguments.svg {
        plot::draw(&file, &report.machine, &report.configurations)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The names in the list that contain a filter, and the filters that name a case outside it.
fn names(list: &[&str], filters: &[String]) -> Vec<String> {
    let listed: Vec<String> = list.iter().flat_map(|pattern| common::expand(pattern)).collect();
    let wanted = |name: &&String| filters.is_empty() || filters.iter().any(|filter| name.contains(filter));
    let unlisted = filters.iter().filter(|filter| !listed.contains(filter) && common::case(filter).is_ok());
    listed.iter().filter(wanted).chain(unlisted).cloned().collect()
}

/// Runs the cases, without the largest, which take seconds to build.
fn run_once(names: &[String]) -> Result<(), Box<dyn Error>> {
    for name in names {
        let shape = name.rsplit('/').next().and_then(dimensions).unwrap_or_default();
        if shape.iter().product::<usize>() <= 1 << 20 {
            common::case(name)?.run()?;
        }
    }
    Ok(())
}

/// Probes and kernels with one instruction set and number of threads.
fn configuration(
    isa: Isa,
    threads: usize,
    machine: &Machine,
    names: &[String],
    pace: Pace,
) -> Result<Configuration, Box<dyn Error>> {
    let simd = Dispatcher::new(isa).ok_or("the CPU lost its instruction set")?;
    let probes = Probes::new(simd, threads, machine);
    let mut configuration = Configuration::new(isa, threads, &probes, machine, pace);
    show_probes(&configuration);
    let bar =
        ProgressBar::new(names.len() as u64).with_style(ProgressStyle::with_template("{pos}/{len} {msg}")?);
    for name in names {
        bar.set_message(name.clone());
        bar.inc(1);
        let mut case: Case = common::case(name)?;
        if threads > 1 && Context::new().threads(1).run(|| estimate(&mut case))?? < WORTH_SPLITTING {
            continue;
        }
        let kernel = roof::measure(&mut case, &probes, machine, threads, pace)?;
        bar.suspend(|| show_kernel(&kernel));
        configuration.kernels.push(kernel);
    }
    bar.finish_and_clear();
    Ok(configuration)
}

fn describe(machine: &Machine) {
    println!("{}, {} cores", machine.cpu, machine.cores);
    for level in &machine.levels[..machine.levels.len() - 1] {
        println!("{} × {} of {} KiB", level.count, level.name, level.bytes >> 10);
    }
}

fn show_probes(configuration: &Configuration) {
    let Configuration { isa, threads, gflops_f32, gflops_f64, .. } = configuration;
    println!("\n{isa}, {threads} thread{}", if *threads == 1 { "" } else { "s" });
    println!("multiply-adds: {gflops_f32:.1} GFLOP/s in f32, {gflops_f64:.1} in f64");
    println!("{:<5} {:>8} {:>8} {:>8} {:>8} {:>8}  GB/s", "", "read", "update", "triad", "copy", "write");
    for level in &configuration.levels {
        let roof::Bandwidths { level, read, update, triad, copy, write } = level;
        println!("{level:<5} {read:>8.1} {update:>8.1} {triad:>8.1} {copy:>8.1} {write:>8.1}");
    }
    println!(
        "\n{:<40} {:>7} {:>10} {:>8} {:>7}  {:<4} {:>5} {:<12} {:<4} {:>5}",
        "", "flop/B", "µs", "GFLOP/s", "GB/s", "roof", "hot", "% (quartiles)", "roof", "cold"
    );
}

fn show_kernel(kernel: &Kernel) {
    let of_roof = |Standing { bound, percent, .. }: &Standing| {
        let quartiles = format!("({:.0}, {:.0})", percent.q1, percent.q3);
        format!("{bound:<4} {:>5.0} {quartiles:<12}", percent.median)
    };
    let Standing { microseconds, gflops, gigabytes_per_second, .. } = kernel.hot;
    let (hot, cold) = (of_roof(&kernel.hot), kernel.cold.as_ref().map(of_roof).unwrap_or_default());
    println!(
        "{:<40} {:>7.3} {microseconds:>10.2} {gflops:>8.2} {gigabytes_per_second:>7.1}  {hot} {}",
        kernel.id,
        kernel.intensity,
        cold.trim_end()
    );
}
