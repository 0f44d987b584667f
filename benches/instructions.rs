//! A gate that noise cannot fool: the instructions that kernels, a training step and inference take, counted
//! by callgrind and compared with `benches/instructions.json`.
//!
//! ```sh
//! cargo bench --bench instructions                # fails where a count is more than 5 % up
//! cargo bench --bench instructions -- --update    # stores the counts
//! ```
//!
//! No kernel goes uncounted: without valgrind (`--test`) it fails where no case of a kernel calls one of the
//! public ones. It also fails where this program, which uses them all, holds an intrinsic as a function of
//! its own: what calls it was not compiled with the instructions of its kernel, and runs call by call.
//!
//! One process under valgrind runs all cases with AVX2 on one thread: two calls to fill pools and moments,
//! and a third inside [`counted`]. Before them it counts the first call of a training step, which may be a
//! small factor of the third. Instructions are not time, but for the same instruction set they are the same
//! on every machine.

#[path = "criterion/cases.rs"]
mod cases;
mod common;
#[path = "../tests/registry/names.rs"]
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::ErrorKind;
use std::process::{Command, ExitCode, Output};
use std::{env, fs};

use clap::Parser;
use common::kernels::Case;
use gristmill::{Isa, profile};
use serde::{Deserialize, Serialize};

/// Small, so that valgrind is quick; with tails, and in whole registers.
const CASES: &[&str] = &[
    "gemm/NT/f32/{100x784x100,100x50x100}",
    "gemm/TN/f32/50x100x100",
    "gemm/NN/f32/{100x100x50,64x64x64,127x129x131}",
    "gemm/{NN,NT}/f32/1x512x512",
    "gemm/NN/f32/8x8x8",
    "linear/{relu,gelu,prepacked}/f32/100x50x100",
    "gemm_batched/NN/f32/100x8x8x8",
    "gemm/NN/f64/{64x64x64,127x129x131}",
    "pool/{max,average}{,_backward}/f32/{4x12x12x2x2,4x13x13x3x1,4x7x7x1x0}",
    "conv/{forward,backward_input,backward_weight}/f32/{2x6x16x12x12x5x1x0x1,1x16x16x15x15x3x1x1x1}",
    "conv/{forward,backward_input,backward_weight}/f32/{1x20x20x15x15x3x2x1x20,2x16x16x1x200x3x1x1x1}",
    "map/{relu,sigmoid,tanh,gelu,exp}{,_backward}/f32/1003",
    "map/{ln,add,axpby}/f32/{1003,1024}",
    "map/{mul_scalar,scalar_sub,gate,accumulate,axpy,scale}/f32/1003",
    "map/{pow,pow_base_backward,pow_exponent_backward}/f32/1003",
    "map/{lerp,lerp_in_place,lerp_backward}/f32/1003",
    "map/{add_row,mul_col,strided_add,strided_exp,cumsum_rows,cumsum_cols}/f32/127x129",
    "map/exp/f64/1003",
    "reduce/{sum,variance,std,l2,argmax,argmin}_{all,rows,cols}/f32/127x129",
    "reduce/{nonzero_all,dot_all,prod_backward_rows,l2_backward_rows,l2_backward_cols}/f32/127x129",
    "reduce/{max,argmax}_rows/f32/100x10",
    "reduce/sum_cols/f64/127x129",
    "{softmax,log_softmax,logsumexp}/{forward,backward}/f32/127x129",
    "logsumexp/{forward,backward}_cols/f32/127x129",
    "{softmax,cross_entropy}/{forward,backward}/f32/100x10",
    "cross_entropy/options_{forward,backward}/f32/100x10",
    "{soft_cross_entropy,nll_loss}/{forward,backward}/f32/100x10",
    "loss/{squared_error,bce_with_logits}{,_backward,_backward_uniform}/f32/1003",
    "layer_norm/{forward,backward}/f32/{100x100,127x129}",
    "layer_norm/{forward,backward}/f64/127x129",
    "rms_norm/{forward,backward,infer}/f32/{100x100,127x129}",
    "group_norm/{forward,backward}/f32/{100x100x1x4,4x16x49x4}",
    "prelu/{forward,backward}/f32/{1x1x1003,100x100x1}",
    "embedding/{forward,backward}/f32/100x16x1000",
    "batch_norm/{forward,backward,infer}/f32/{100x50,127x129}",
    "batch_norm/{forward_relu,backward_gated,infer_relu,infer_backward}/f32/127x129",
    "dropout/{forward,backward,in_place}/f32/1003",
    "rng/{uniform,normal,bernoulli}/f32/1003",
    "update/{sgd,sgd_momentum,rmsprop,adam,adagrad,lion,nadam,radam,run}/f32/1003",
    "training_step/mlp_resnet/f32/100x100",
    "training_step/two_layer_net/f32/64x1000x100x10",
    "optimizer_step/mlp_resnet/f32/100",
    "tape/{record,backward}/f32/64x4",
    "inference/mlp_resnet/f32/{1,100}x100",
];

/// Counted from its first call in the process on: nothing may be put off to a step that a user waits for.
const FIRST: &str = "training_step/mlp_resnet/f32/100x100";
/// The first call may take so many times the instructions of a later one.
const MOST_OF_FIRST: f64 = 1.5;

const STORED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.json");
/// A change of so much is reported.
const TOLERANCE: f64 = 0.05;
const WARM_UP_CALLS: usize = 2;

#[derive(Serialize, Deserialize)]
struct Counts {
    /// The compiler; another one makes other instructions.
    rustc: String,
    instructions: BTreeMap<String, u64>,
}

/// Compares the instructions that kernels take with the stored counts.
#[derive(Parser)]
struct Flags {
    /// Stores the counts
    #[arg(long)]
    update: bool,
    /// Runs and checks each case once, without valgrind
    #[arg(long)]
    test: bool,
    /// Runs the cases that the process outside counts
    #[arg(long, hide = true)]
    inside: bool,
    /// What is meant for criterion, such as a filter
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    others: Vec<String>,
}

fn main() -> ExitCode {
    // Cargo adds it, except in `cargo test`, whose profile would not be worth counting.
    let (bench, arguments): (Vec<_>, Vec<_>) = env::args().partition(|argument| argument == "--bench");
    gate(&Flags::parse_from(arguments), !bench.is_empty()).unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn gate(flags: &Flags, benching: bool) -> Result<ExitCode, Box<dyn Error>> {
    let names: Vec<String> = CASES.iter().flat_map(|pattern| common::expand(pattern)).collect();
    if flags.inside {
        run(&names)?;
        return Ok(ExitCode::SUCCESS);
    }
    every_intrinsic_is_inlined()?;
    if flags.test || !benching {
        test(&names)?;
        println!("{} cases are right", names.len());
    } else if !flags.others.is_empty() {
        println!("Instructions are not counted: {} is for criterion", flags.others.join(" "));
    } else if Isa::available().all(|isa| isa != Isa::Avx2) {
        println!("Instructions are not counted: this CPU lacks AVX2");
    } else {
        let Some(now) = count(&names)? else {
            println!("Instructions are not counted: valgrind is not installed");
            return Ok(ExitCode::SUCCESS);
        };
        if flags.update {
            fs::write(STORED, serde_json::to_string_pretty(&now)? + "\n")?;
            println!("{} counts are stored in {STORED}", now.instructions.len());
        } else {
            let stored = fs::read_to_string(STORED).map_err(|error| format!("{STORED}: {error}"))?;
            return Ok(compare(&names, &serde_json::from_str(&stored)?, &now));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Every case is right, every public kernel has a case, and criterion times what is counted here.
fn test(names: &[String]) -> Result<(), Box<dyn Error>> {
    let mut called = BTreeSet::new();
    for name in names {
        let mut case = common::checked(common::case(name));
        // What a network happens to call has no bench of its own.
        if common::kernels::case(name).is_err() {
            continue;
        }
        profile::start(profile::Mode::Table);
        case.run()?;
        called.extend(profile::finish().rows.iter().filter_map(|row| names::kernel(row.name)));
    }
    let forgotten: Vec<_> =
        names::public_kernels().into_iter().filter(|name| !called.contains(name)).collect();
    if !forgotten.is_empty() {
        return Err(
            format!("no case calls {forgotten:?}; they want benches in benches/common/kernels.rs").into()
        );
    }
    let timed = [cases::KERNELS, cases::NETWORKS].concat();
    let timed: BTreeSet<_> = timed.iter().flat_map(|pattern| common::expand(pattern)).map(op).collect();
    let untimed: BTreeSet<_> = names.iter().cloned().map(op).filter(|op| !timed.contains(op)).collect();
    if !untimed.is_empty() {
        return Err(format!("not in benches/criterion/cases.rs: {untimed:?}").into());
    }
    Ok(())
}

/// No intrinsic stands in this program as a function. With debug assertions some check their pointers and are
/// too large to be inlined, so that only optimised builds can tell.
fn every_intrinsic_is_inlined() -> Result<(), Box<dyn Error>> {
    if cfg!(debug_assertions) {
        return Ok(());
    }
    let symbols = match Command::new("nm").arg("-C").arg(env::current_exe()?).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("Symbols are not looked at: nm is not installed");
            return Ok(());
        }
        output => text(output?)?,
    };
    if !symbols.contains("gristmill::simd::") {
        return Err("nm found no symbol of a kernel: is this program stripped?".into());
    }
    // `core::core_arch::x86::avx512f::_mm512_fmadd_ps`, with or without a hash behind it; `_xgetbv` asks for
    // features.
    let intrinsics: BTreeSet<_> = symbols
        .lines()
        .filter_map(|line| line.split_once(" core::core_arch::").map(|(_, name)| name))
        .filter(|name| name.contains("::_mm"))
        .collect();
    if intrinsics.is_empty() {
        return Ok(());
    }
    Err(format!(
        "these intrinsics are functions of their own; what calls them wants #[inline(always)], or a loop in place of a \
         closure: {intrinsics:?}"
    )
    .into())
}

/// `layer_norm/backward` of `layer_norm/backward/f32/8192x768`.
fn op(name: String) -> String {
    name.splitn(3, '/').take(2).collect::<Vec<_>>().join("/")
}

/// Inside valgrind.
fn run(names: &[String]) -> Result<(), Box<dyn Error>> {
    counted(&mut common::case(FIRST)?)?;
    for name in names {
        let mut case = common::case(name)?;
        for _ in 0..WARM_UP_CALLS {
            case.run()?;
        }
        counted(&mut case)?;
    }
    Ok(())
}

/// Callgrind counts from here to its return; it finds the function by its name.
#[inline(never)]
fn counted(case: &mut Case) -> gristmill::Result<()> {
    case.run()
}

/// Runs this program under callgrind; `None` without valgrind.
fn count(names: &[String]) -> Result<Option<Counts>, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let dumps = folder.path().join("dumps");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--collect-atstart=no", "--combine-dumps=yes"]);
    valgrind.args(["--toggle-collect=*::counted", "--dump-after=*::counted"]);
    valgrind.arg(format!("--callgrind-out-file={}", dumps.display()));
    valgrind.arg(env::current_exe()?).arg("--inside");
    let output = match valgrind.env("GRISTMILL_ISA", "avx2").env("GRISTMILL_THREADS", "1").output() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        output => output?,
    };
    text(output)?;

    // A dump per call of `counted`, and one at the end.
    let dumps = fs::read_to_string(dumps)?;
    let counts: Vec<u64> =
        dumps.lines().filter_map(|line| line.strip_prefix("summary: ")?.parse().ok()).collect();
    let [first, counts @ ..] = counts.as_slice() else { return Err("callgrind counted nothing".into()) };
    if counts.len() < names.len() {
        return Err(format!("{} counts for {} cases", counts.len(), names.len()).into());
    }
    let instructions: BTreeMap<_, _> = names.iter().cloned().zip(counts.iter().copied()).collect();
    let ratio = *first as f64 / instructions[FIRST] as f64;
    println!("The first step takes {ratio:.2} times the instructions of the third");
    if ratio > MOST_OF_FIRST {
        return Err(format!(
            "the first step takes {first} instructions: over {MOST_OF_FIRST} times the third"
        )
        .into());
    }
    let rustc = text(Command::new("rustc").arg("--version").output()?)?.trim().to_owned();
    Ok(Some(Counts { rustc, instructions }))
}

/// What a program printed.
fn text(output: Output) -> Result<String, Box<dyn Error>> {
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn compare(names: &[String], stored: &Counts, now: &Counts) -> ExitCode {
    let (mut worse, mut better) = (vec![], vec![]);
    println!("{:<50} {:>12} {:>12} {:>9}", "case", "stored", "now", "change");
    for name in names {
        let count = now.instructions[name];
        let Some(&before) = stored.instructions.get(name) else {
            println!("{name:<50} {:>12} {count:>12}", "none");
            worse.push(format!("{name}: {count} instructions, and no count is stored"));
            continue;
        };
        let change = count as f64 / before as f64 - 1.0;
        let percent = format!("{:+.1} %", 100.0 * change);
        println!("{name:<50} {before:>12} {count:>12} {percent:>9}");
        let sentence = format!("{name}: {count} instructions, {before} are stored ({percent})");
        if change > TOLERANCE {
            worse.push(sentence);
        } else if change < -TOLERANCE {
            better.push(sentence);
        }
    }
    if stored.rustc != now.rustc {
        println!(
            "\nStored with {}, counted with {}: compilers differ in their counts.",
            stored.rustc, now.rustc
        );
    }
    if !better.is_empty() {
        println!("\nBetter; store the counts with --update:\n{}", better.join("\n"));
    }
    if worse.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("\nWorse; if that is meant, store the counts with --update:\n{}", worse.join("\n"));
    ExitCode::FAILURE
}
