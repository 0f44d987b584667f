//! Cliffs: where a little more costs far more. Only times of the same few milliseconds are compared, never
//! with a figure of another day or machine.
//!
//! - *Threads*: all threads are not slower than one, at any size from [`SHORTEST_SPLIT`] to
//!   [`LONGEST_SPLIT`].
//! - *Size*: one element more in a dimension does not cost rate, which is operations or bytes per second.
//!   Rows count in whole registers, those of products in halves: that 17 columns take the two registers of 32
//!   is no cliff. Rates that rise with the size are none either.
//! - *Layout*: a product takes about the same time whichever operands are transposed.
//! - *Crowd*: a pool of four threads for each core takes at most twice the time of the usual one.
//!
//! The fixed cost of a call hides what the kernel does: calls below [`SHORTEST`] are not compared. What looks
//! like a cliff is measured three times again, and is one if each time three quarters of the rounds agree; of
//! threads only while the machine gives them: beside each round a loop without memory, [`SPIN`] long, is
//! split over all threads, too, and must gain.

use std::error::Error;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use gristmill::context::settings;
use gristmill::{Context, Element, Isa};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use crate::common::kernels::{Case, dimensions};
use crate::common::{case, expand};
use crate::rounds::{Pace, Quartiles, estimate};

/// Cliffs that are known and stay: kind, name of the slower side, reason.
const ACCEPTED: &[(Kind, &str, &str)] = &[
    (Kind::Layout, "gemm/NT/f32/1x1024x1024", PAGES_APART),
    (Kind::Layout, "gemm/TT/f32/1x1024x1024", PAGES_APART),
    (Kind::Layout, "gemm/NN/f32/1024x1024x1", PAGES_APART),
    (Kind::Layout, "gemm/NT/f32/1024x1024x1", PAGES_APART),
    (Kind::Layout, "gemm/NT/f64/1x1024x1024", PAGES_APART),
    (Kind::Layout, "gemm/TT/f64/1x1024x1024", PAGES_APART),
    (Kind::Layout, "gemm/NN/f64/1024x1024x1", PAGES_APART),
    (Kind::Layout, "gemm/NT/f64/1024x1024x1", PAGES_APART),
];

/// 3 to 5 times as slow as the other layout on Zen 3 and Zen 5; a `Linear` packs its weight instead.
const PAGES_APART: &str = "one row times columns that lie whole pages apart, which share a set of each cache";

/// Seconds of a call that are mostly the kernel's.
const SHORTEST: f64 = 1e-6;
/// Seconds on one thread between which a kernel may begin to split its work.
const SHORTEST_SPLIT: f64 = 2e-6;
const LONGEST_SPLIT: f64 = 1e-3;
/// Seconds on one thread of a loop that all threads must shorten by a quarter. Two do, where to fork and join
/// takes up to a quarter of that, several times what [`gristmill`] reckons with, and no neighbour has one of
/// the cores.
const SPIN: f64 = 50e-6;

/// Operations on n elements.
const BY_LENGTH: &[&str] = &[
    "map/{abs,relu,leaky_relu,sigmoid,tanh,gelu,gelu_tanh,silu,softplus,elu,exp,ln,sqrt,square}{,_backward}",
    "map/{reciprocal,pow_3,pow_1.7}{,_backward}",
    "map/{add,mul,max,axpby,scale}",
    "loss/{squared_error,absolute_error,huber,bce_with_logits}{,_backward}",
    "dropout/{forward,backward}",
    "rng/{uniform,normal,bernoulli}",
    "update/{sgd,sgd_momentum,rmsprop,adam}",
];
/// Operations on rows × columns.
const BY_ROW: &[&str] = &[
    "map/{add_row,mul_col}",
    "reduce/{sum,mean,max,min,squares,variance}_{all,rows,cols}",
    "reduce/argmax_{all,rows}",
    "{softmax,log_softmax,logsumexp,cross_entropy,layer_norm,batch_norm}/{forward,backward}",
    "batch_norm/infer",
];
/// Sizes at which tiles, registers, blocks and pages end.
const EDGES: &[usize] = &[6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 240, 256, 480, 512, 1024, 2048, 4096];
const FEW_EDGES: &[usize] = &[8, 16, 32, 64, 96, 256, 1024];
/// Hidden widths of the main job's network, of which the layers inside have half.
const WIDTHS: &[usize] = &[45, 64, 128];
/// Products of the main job, of a transformer, of vectors and of slim matrices, beside squares.
const PRODUCTS: &[&str] = &[
    "100x784x100,784x100x100,100x100x784,100x100x50,100x50x100,50x100x100,100x100x10,100x10x100,10x100x100",
    "128x768x768,1x1024x1024,1024x1024x1,8x1024x1024,1024x1024x8,1000x8x1000,64x4096x64",
];
/// Work that a pool of too many threads shares: long and short, once and many times over.
const CROWDED: &[&str] = &[
    "gemm/NN/f32/{64x64x64,256x256x256,512x512x512}",
    "map/exp/f32/{30000,500000}",
    "reduce/sum_all/f32/1000x1000",
    "{layer_norm,batch_norm,softmax}/{forward,backward}/f32/1000x100",
    "update/adam/f32/500000",
    "training_step/mlp_resnet/f32/100x100",
];
const SQUARES: &[usize] = &[24, 32, 45, 48, 63, 64, 65, 96, 127, 128, 129, 192, 256, 384, 512];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Threads,
    Size,
    Layout,
    Crowd,
}

impl Kind {
    /// How much longer the slower side may take. The short form is for machines that nobody has looked at
    /// yet, and there only twice as much is a cliff.
    fn limit(self, short: bool) -> f64 {
        let limit = match self {
            Kind::Threads => 1.05,
            // 35 % less.
            Kind::Size => 1.0 / 0.65,
            Kind::Layout => 1.6,
            Kind::Crowd => 2.0,
        };
        if short { 2.0 * limit } else { limit }
    }
}

/// Cases that are compared with one another: one after the other on all threads and on one, in ascending
/// order; three neighbouring sizes; all layouts; one in the usual pool and in a crowded one.
struct Plan {
    kind: Kind,
    ids: Vec<String>,
}

/// Checks everything, or the cases whose names contain one of the filters, with these instruction sets.
pub fn run(isas: &[Isa], filters: &[String], short: bool) -> Result<ExitCode, Box<dyn Error>> {
    let mut gate = Gate::new(short);
    let wanted = |id: &String| filters.is_empty() || filters.iter().any(|filter| id.contains(filter));
    let plans: Vec<Plan> = plans(short).into_iter().filter(|plan| plan.ids.iter().any(wanted)).collect();
    for &isa in isas {
        let style = ProgressStyle::with_template("{elapsed} {pos}/{len} {msg}")?;
        let bar = ProgressBar::new(plans.len() as u64).with_style(style);
        for plan in &plans {
            bar.set_message(plan.ids[0].clone());
            for line in Context::new().isa(isa).run(|| gate.check(plan))?? {
                bar.suspend(|| println!("{isa:<8} {line}"));
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
    }
    let Gate { facts, cliffs, undecided, .. } = gate;
    println!("{facts} facts checked, {cliffs} cliffs");
    if undecided > 0 {
        println!("{undecided} not decided: there was one core for all threads");
    }
    Ok(if cliffs > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn plans(short: bool) -> Vec<Plan> {
    let (elements, edges, step) =
        if short { ("f32", FEW_EDGES, 2.0_f64) } else { ("{f32,f64}", EDGES, 1.25) };
    let mut plans = vec![];
    let mut sizes = |edges: &[usize], id: &dyn Fn(usize, usize) -> String| {
        plans.extend(edges.iter().map(|&edge| {
            let ids = [edge - 1, edge, edge + 1].map(|size| id(size, edge));
            Plan { kind: Kind::Size, ids: ids.to_vec() }
        }));
    };
    for op in ops(BY_LENGTH, elements) {
        sizes(edges, &|n, _| format!("{op}/{n}"));
        sizes(&[1 << 14, 1 << 15, 1 << 16], &|n, _| format!("{op}/{n}"));
    }
    for op in ops(BY_ROW, elements) {
        sizes(edges, &|n, edge| format!("{op}/{}x{n}", 32768 / edge));
        sizes(edges, &|n, _| format!("{op}/{n}x100"));
    }
    for op in ops(&["gemm/{NN,NT,TN,TT}"], elements) {
        let small = &edges[..edges.partition_point(|&edge| edge <= if short { 128 } else { 512 })];
        sizes(small, &|n, _| format!("{op}/{n}x{n}x{n}"));
        sizes(edges, &|n, _| format!("{op}/{n}x100x100"));
        sizes(edges, &|n, _| format!("{op}/100x{n}x100"));
        sizes(edges, &|n, _| format!("{op}/100x100x{n}"));
        sizes(small, &|n, _| format!("{op}/256x256x{n}"));
    }
    sizes(WIDTHS, &|n, _| format!("training_step/mlp_resnet/f32/100x{n}"));

    let growing = |first: f64| (0..).map(move |i| (first * step.powi(i)) as usize);
    let mut threads = |first: f64, id: &dyn Fn(usize) -> String| {
        let ids = growing(first).take_while(|&n| n <= 1 << 22).map(id).collect();
        plans.push(Plan { kind: Kind::Threads, ids });
    };
    for op in ops(BY_LENGTH, elements) {
        threads(256.0, &|n| format!("{op}/{n}"));
    }
    for op in ops(BY_ROW, elements) {
        threads(4.0, &|n| format!("{op}/{n}x100"));
        threads(2.0, &|n| format!("{op}/{n}x1000"));
    }
    for op in ops(&["gemm/{NN,NT,TN}"], elements) {
        threads(16.0, &|n| format!("{op}/{n}x{n}x{n}"));
        threads(4.0, &|n| format!("{op}/{n}x100x100"));
        threads(4.0, &|n| format!("{op}/100x{n}x100"));
        threads(64.0, &|n| format!("{op}/1x{n}x{n}"));
    }
    threads(2.0, &|n| format!("training_step/mlp_resnet/f32/{n}x100"));
    threads(1.0, &|n| format!("inference/mlp_resnet/f32/{n}x100"));

    let squares = SQUARES.iter().filter(|&&n| !short || n <= 256).map(|n| format!("{n}x{n}x{n}"));
    let products = PRODUCTS.iter().flat_map(|list| list.split(',').map(str::to_owned));
    for shape in squares.chain(products) {
        for element in expand(elements) {
            let ids = expand(&format!("gemm/{{NN,NT,TN,TT}}/{element}/{shape}"));
            plans.push(Plan { kind: Kind::Layout, ids });
        }
    }
    let crowded = CROWDED.iter().flat_map(|pattern| expand(pattern));
    plans.extend(crowded.map(|id| Plan { kind: Kind::Crowd, ids: vec![id] }));
    plans
}

/// `family/op/element` of these patterns.
fn ops(patterns: &[&str], elements: &str) -> Vec<String> {
    patterns.iter().flat_map(|pattern| expand(&format!("{pattern}/{elements}"))).collect()
}

/// A case on so many threads.
#[derive(Clone, Copy)]
struct Side {
    case: usize,
    threads: usize,
}

struct Gate {
    short: bool,
    threads: usize,
    first: Pace,
    again: Pace,
    facts: usize,
    cliffs: usize,
    undecided: usize,
}

impl Gate {
    fn new(short: bool) -> Self {
        let first = if short {
            Pace { rounds: 5, slices: 2, slice: Duration::from_micros(150) }
        } else {
            Pace { rounds: 9, slices: 3, slice: Duration::from_micros(250) }
        };
        let again = Pace { rounds: 15, slices: 4, slice: Duration::from_millis(1) };
        let threads = rayon::current_num_threads();
        Self { short, threads, first, again, facts: 0, cliffs: 0, undecided: 0 }
    }

    /// Returns a line for each cliff.
    fn check(&mut self, plan: &Plan) -> Result<Vec<String>, Box<dyn Error>> {
        let on_one = |case| Side { case, threads: 1 };
        if plan.kind == Kind::Crowd {
            let sides = [4 * self.threads, self.threads].map(|threads| Side { case: 0, threads });
            return self.compare(plan.kind, &mut [case(&plan.ids[0])?], &sides);
        }
        if plan.kind != Kind::Threads {
            let mut cases = plan.ids.iter().map(|id| case(id)).collect::<Result<Vec<_>, _>>()?;
            let sides: Vec<Side> = (0..cases.len()).map(on_one).collect();
            return self.compare(plan.kind, &mut cases, &sides);
        }
        let sides = [Side { case: 0, threads: self.threads }, on_one(0)];
        let steps = steps_of_spin();
        let mut lines = vec![];
        for id in &plan.ids {
            let mut cases = [case(id)?, spin(steps)];
            let seconds = Context::new().threads(1).run(|| estimate(&mut cases[0]))??;
            if seconds > LONGEST_SPLIT || self.threads == 1 {
                break;
            }
            if seconds >= SHORTEST_SPLIT {
                lines.extend(self.compare(plan.kind, &mut cases, &sides)?);
            }
        }
        Ok(lines)
    }

    fn compare(
        &mut self,
        kind: Kind,
        cases: &mut [Case],
        sides: &[Side],
    ) -> Result<Vec<String>, Box<dyn Error>> {
        let seconds = measure(cases, sides, self.first)?;
        let medians: Vec<f64> = seconds.iter().map(|seconds| median(seconds)).collect();
        let mut by_time: Vec<usize> = (0..sides.len()).collect();
        by_time.sort_by(|&a, &b| medians[a].total_cmp(&medians[b]));
        // The side that may be slow, and the other one.
        let pairs = match kind {
            Kind::Threads | Kind::Crowd => vec![[0, 1]],
            Kind::Size => vec![[1, 0], [2, 1]],
            Kind::Layout => vec![[by_time[sides.len() - 1], by_time[0]]],
        };
        let mut lines = vec![];
        for pair in pairs.into_iter().filter(|&[_, fast]| medians[fast] >= SHORTEST) {
            self.facts += 1;
            if ratio(cases, sides, &seconds, pair).median > kind.limit(self.short) {
                lines.extend(self.confirm(kind, cases, pair.map(|side| sides[side]))?);
            }
        }
        Ok(lines)
    }

    /// Measures a suspect again; a line if it is a cliff.
    fn confirm(
        &mut self,
        kind: Kind,
        cases: &mut [Case],
        pair: [Side; 2],
    ) -> Result<Option<String>, Box<dyn Error>> {
        let mut line = None;
        let mut sides = pair.to_vec();
        if kind == Kind::Threads {
            sides.extend(pair.map(|side| Side { case: 1, ..side }));
        }
        for _ in 0..3 {
            let seconds = measure(cases, &sides, self.again)?;
            if kind == Kind::Threads && ratio(cases, &sides, &seconds, [2, 3]).median > 0.75 {
                self.undecided += 1;
                return Ok(None);
            }
            let Quartiles { q1, median: ratio, q3 } = ratio(cases, &sides, &seconds, [0, 1]);
            if q1 <= kind.limit(self.short) {
                return Ok(None);
            }
            let [slow, fast] = pair.map(|side| &cases[side.case].id);
            let than = match kind {
                Kind::Threads => "1 thread",
                Kind::Crowd => "a thread for each core",
                _ => fast,
            };
            let microseconds = median(&seconds[0]) * 1e6;
            line = Some(format!(
                "{kind:?} {slow}: {microseconds:.1} µs, for the same work {ratio:.2} × ({q1:.2}, {q3:.2}) {than}"
            ));
        }
        let slow = &cases[pair[0].case].id;
        if let Some((_, _, reason)) = ACCEPTED.iter().find(|(k, id, _)| (k, id) == (&kind, &&**slow)) {
            return Ok(line.map(|line| format!("{line}; accepted: {reason}")));
        }
        self.cliffs += 1;
        Ok(line)
    }
}

/// Steps of [`turn`] that take [`SPIN`].
fn steps_of_spin() -> usize {
    let steps = 1 << 16;
    let seconds = (0..5).map(|_| {
        let start = Instant::now();
        turn(steps);
        start.elapsed().as_secs_f64()
    });
    (steps as f64 * SPIN / seconds.fold(f64::INFINITY, f64::min)) as usize
}

/// A case that splits so many steps over the threads of the context.
fn spin(steps: usize) -> Case {
    Case::new("spin".to_owned(), steps as f64, [0.0; 2], vec![], move |_| {
        let threads = settings()?.threads;
        (0..threads).into_par_iter().for_each(|_| turn(steps / threads));
        Ok(())
    })
}

/// Steps that wait for one another.
fn turn(steps: usize) {
    black_box(
        (0..steps as u64).fold(black_box(1_u64), |x, step| (x ^ step).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
    );
}

/// What `work` gives with so many threads: those of a pool of their own if the usual one has not as many.
fn with_threads<R: Send>(
    threads: usize,
    work: impl FnOnce() -> gristmill::Result<R> + Send,
) -> gristmill::Result<R> {
    static CROWD: OnceLock<rayon::ThreadPool> = OnceLock::new();
    let context = Context::new().threads(threads).isa(settings()?.simd.isa());
    if threads <= rayon::current_num_threads() {
        return context.run(work)?;
    }
    let pool = || rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a few threads more");
    CROWD.get_or_init(pool).install(|| context.run(work))?
}

/// Seconds per call of each side, round by round; the sides take turns.
fn measure(cases: &mut [Case], sides: &[Side], pace: Pace) -> gristmill::Result<Vec<Vec<f64>>> {
    let mut calls = vec![];
    for &Side { case, threads } in sides {
        calls.push(with_threads(threads, || pace.calls(&mut cases[case]))?);
    }
    let mut seconds = vec![vec![]; sides.len()];
    for round in 0..pace.rounds {
        for turn in 0..sides.len() {
            let side = if round.is_multiple_of(2) { turn } else { sides.len() - 1 - turn };
            let Side { case, threads } = sides[side];
            seconds[side].push(with_threads(threads, || pace.turn(&mut cases[case], calls[side]))?);
        }
    }
    Ok(seconds)
}

fn median(seconds: &[f64]) -> f64 {
    Quartiles::new(seconds.iter().copied()).median
}

/// Time for the same work, slow / fast, round by round.
fn ratio(cases: &[Case], sides: &[Side], seconds: &[Vec<f64>], [slow, fast]: [usize; 2]) -> Quartiles {
    let [slow_work, fast_work] = [slow, fast].map(|side| work(&cases[sides[side].case]));
    let rounds = seconds[slow].iter().zip(&seconds[fast]);
    Quartiles::new(rounds.map(|(slow, fast)| (slow / slow_work) / (fast / fast_work)))
}

/// Operations, or bytes of who computes nothing, as if rows were whole registers.
fn work(case: &Case) -> f64 {
    let work = if case.flops > 0.0 { case.flops } else { case.read + case.written };
    let mut parts = case.id.rsplit('/');
    let cols = parts.next().and_then(dimensions).and_then(|shape| shape.last().copied());
    match (cols, parts.next()) {
        // The rows of a network are those of its layers.
        _ if case.id.contains("mlp_resnet") => work,
        (Some(cols), Some(element)) => {
            let lanes = if element == "f64" { f64::LANES } else { f32::LANES };
            // With AVX2 a register is a pair, of which products leave out what they do not need.
            let lanes = if case.id.starts_with("gemm") { lanes / 2 } else { lanes };
            work * cols.next_multiple_of(lanes) as f64 / cols as f64
        }
        _ => work,
    }
}
