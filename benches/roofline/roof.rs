//! A kernel against the roof over it: what the machine would need for its operations, or for its bytes, if it
//! did nothing else.

use gristmill::{Isa, Result};
use serde::Serialize;

use crate::common::kernels::Case;
use crate::probes::{Level, Machine, Mix, Probes};
use crate::rounds::{Pace, Quartiles, seconds};

/// What the probes found for one instruction set and number of threads.
#[derive(Debug, Serialize)]
pub struct Configuration {
    pub isa: &'static str,
    pub threads: usize,
    /// Multiply-adds are two operations.
    pub gflops_f32: f64,
    pub gflops_f64: f64,
    pub levels: Vec<Bandwidths>,
    pub kernels: Vec<Kernel>,
}

/// GB/s in one level, bytes read and bytes written together.
#[derive(Debug, Serialize)]
pub struct Bandwidths {
    pub level: String,
    pub read: f64,
    pub update: f64,
    pub triad: f64,
    pub copy: f64,
    pub write: f64,
}

impl Configuration {
    /// The medians of the probes, which take turns.
    pub fn new(isa: Isa, threads: usize, probes: &Probes, machine: &Machine, pace: Pace) -> Self {
        let mut rates: Vec<Vec<f64>> = vec![];
        for _ in 0..pace.rounds {
            let mut round = vec![probes.peak::<f32>(pace), probes.peak::<f64>(pace)];
            for level in 0..machine.levels.len() {
                round.extend(Mix::ALL.map(|mix| probes.bandwidth(level, mix, pace)));
            }
            rates.push(round);
        }
        let median = |probe: usize| Quartiles::new(rates.iter().map(|round| round[probe])).median / 1e9;
        let bandwidths = |(level, Level { name, .. }): (usize, &Level)| {
            let [read, update, triad, copy, write] =
                std::array::from_fn(|mix| median(2 + level * Mix::ALL.len() + mix));
            Bandwidths { level: name.clone(), read, update, triad, copy, write }
        };
        Self {
            isa: isa.name(),
            threads,
            gflops_f32: median(0),
            gflops_f64: median(1),
            levels: machine.levels.iter().enumerate().map(bandwidths).collect(),
            kernels: vec![],
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Kernel {
    pub id: String,
    /// Of one call.
    pub flops: f64,
    pub bytes_read: f64,
    pub bytes_written: f64,
    /// Operations per byte.
    pub intensity: f64,
    /// Called again and again.
    pub hot: Standing,
    /// Caches emptied before each call; of kernels whose operands fit into a cache.
    pub cold: Option<Standing>,
}

/// How far below the roof.
#[derive(Debug, Serialize)]
pub struct Standing {
    pub microseconds: f64,
    pub gflops: f64,
    pub gigabytes_per_second: f64,
    /// `FMA`, or the level of memory.
    pub bound: String,
    /// The roof's time in percent of the kernel's, round by round.
    pub percent: Quartiles,
}

/// The times of one round.
struct Round {
    kernel: f64,
    operations: f64,
    bytes: f64,
}

/// The kernel and the probes that make up its roof, in turns.
pub fn measure(
    case: &mut Case,
    probes: &Probes,
    machine: &Machine,
    threads: usize,
    pace: Pace,
) -> Result<Kernel> {
    let (id, flops, read, written) = (case.id.clone(), case.flops, case.read, case.written);
    let bytes = read + written;
    let is_f64 = id.split('/').any(|part| part == "f64");
    let operations = || flops / if is_f64 { probes.peak::<f64>(pace) } else { probes.peak::<f32>(pace) };
    let mixes = Mix::around(written / bytes, case.in_place());
    let mixed = |seconds: &dyn Fn(Mix) -> f64| mixes.iter().map(|&(mix, weight)| weight * seconds(mix)).sum();
    let held = if case.in_place() { read } else { bytes };
    let (level, memory) = (machine.level_of(held, threads), machine.levels.len() - 1);

    let calls = pace.calls(case)?;
    let hot = rounds(
        pace.rounds,
        || {
            // The probes took its place in the caches.
            case.run()?;
            pace.turn(case, calls)
        },
        || [operations(), mixed(&|mix| bytes / probes.bandwidth(level, mix, pace))],
    )?;
    let cold = (level < memory).then(|| {
        rounds(
            pace.rounds,
            || {
                probes.evict();
                seconds(case, 1)
            },
            // As many bytes as the kernel moves: few never come at the rate of many.
            || [operations(), mixed(&|mix| probes.cold_seconds(mix, bytes))],
        )
    });
    let standing =
        |rounds: &[Round], level: usize| Standing::new(flops, bytes, rounds, &machine.levels[level].name);
    let (hot, cold) = (standing(&hot, level), cold.transpose()?.map(|rounds| standing(&rounds, memory)));
    Ok(Kernel { id, flops, bytes_read: read, bytes_written: written, intensity: flops / bytes, hot, cold })
}

/// Kernel and roof one after the other, in alternating order.
fn rounds(
    rounds: usize,
    mut kernel: impl FnMut() -> Result<f64>,
    roof: impl Fn() -> [f64; 2],
) -> Result<Vec<Round>> {
    let round = |i: usize| {
        let above = i.is_multiple_of(2).then(&roof);
        let kernel = kernel()?;
        let [operations, bytes] = above.unwrap_or_else(&roof);
        Ok(Round { kernel, operations, bytes })
    };
    (0..rounds).map(round).collect()
}

impl Standing {
    fn new(flops: f64, bytes: f64, rounds: &[Round], level: &str) -> Self {
        let seconds = Quartiles::new(rounds.iter().map(|round| round.kernel)).median;
        let by_operations =
            Quartiles::new(rounds.iter().map(|round| round.operations / round.bytes)).median > 1.0;
        let percent = |round: &Round| 100.0 * round.operations.max(round.bytes) / round.kernel;
        Self {
            microseconds: seconds * 1e6,
            gflops: flops / seconds / 1e9,
            gigabytes_per_second: bytes / seconds / 1e9,
            bound: if by_operations { "FMA" } else { level }.to_owned(),
            percent: Quartiles::new(rounds.iter().map(percent)),
        }
    }
}
