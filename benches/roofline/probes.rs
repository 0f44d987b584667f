//! What the machine can do: multiply-adds per second, and bytes per second from and to each level of memory.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::{Barrier, Mutex};
use std::time::Instant;

use gristmill::Element;
use gristmill::buffer::Buffer;
use gristmill::simd::{Dispatcher, Float, Int, Kernel, Simd};
use serde::Serialize;

use crate::rounds::Pace;

/// One cache, or the memory behind all of them.
#[derive(Clone, Debug, Serialize)]
pub struct Level {
    pub name: String,
    /// Of one cache; of memory, what probes walk through.
    pub bytes: usize,
    /// How many of these caches there are.
    pub count: usize,
}

/// The computer.
#[derive(Debug, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    /// From the first-level cache to memory.
    pub levels: Vec<Level>,
}

impl Machine {
    /// What Linux tells. Elsewhere: caches of 32 KiB and 512 KiB per core, and 16 MiB for all.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let named = cpu_info.lines().find(|line| line.starts_with("model name"));
        let cpu = named.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, name)| name);
        let mut levels: Vec<Level> = (0..8)
            .filter_map(|i| cache(&format!("/sys/devices/system/cpu/cpu0/cache/index{i}"), cores))
            .collect();
        if levels.is_empty() {
            let sizes = [("L1", 32 << 10, cores), ("L2", 512 << 10, cores), ("L3", 16 << 20, 1)];
            levels.extend(sizes.map(|(name, bytes, count)| Level { name: name.to_owned(), bytes, count }));
        }
        levels.sort_by_key(|level| level.bytes);
        let last: usize = levels.last().map_or(0, |level| level.bytes * level.count);
        let bytes = (4 * last).max(cores << 23);
        levels.push(Level { name: "DRAM".to_owned(), bytes, count: 1 });
        Self { cpu: cpu.to_owned(), cores, levels }
    }

    /// What so many threads have of this level.
    pub fn capacity(&self, level: usize, threads: usize) -> usize {
        let Level { bytes, count, .. } = self.levels[level];
        bytes * threads.min(count)
    }

    /// The first level that holds so many bytes.
    pub fn level_of(&self, bytes: f64, threads: usize) -> usize {
        let memory = self.levels.len() - 1;
        (0..memory).find(|&level| bytes <= self.capacity(level, threads) as f64).unwrap_or(memory)
    }
}

/// A cache of data from Linux's description of it.
fn cache(folder: &str, cores: usize) -> Option<Level> {
    let read = |name: &str| fs::read_to_string(Path::new(folder).join(name)).ok();
    if read("type")?.trim() == "Instruction" {
        return None;
    }
    let size = read("size")?;
    let kib: usize = size.trim().strip_suffix('K')?.parse().ok()?;
    // `0-3,8-11`: the CPUs that share it.
    let cpus: Vec<usize> = read("shared_cpu_list")?
        .trim()
        .split(',')
        .filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(last.parse::<usize>().ok()? + 1 - first.parse::<usize>().ok()?)
        })
        .collect();
    let sharing: usize = cpus.iter().sum();
    let name = format!("L{}", read("level")?.trim());
    Some(Level { name, bytes: kib << 10, count: cores.div_ceil(sharing.max(1)) })
}

/// What a probe does with memory. The loops are those of kernels: stores go through the caches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// All of it is read.
    Read,
    /// One read, one write, in place: z ← z · a.
    Update,
    /// Two reads, one write: z ← x · a + y.
    Triad,
    /// One read, one write: z ← x · a; a plain copy would become a call of `memcpy`, which may pass by the
    /// caches.
    Copy,
    /// All of it is written.
    Write,
}

impl Mix {
    pub const ALL: [Mix; 5] = [Mix::Read, Mix::Update, Mix::Triad, Mix::Copy, Mix::Write];

    /// Which part of the bytes moved is written.
    fn written(self) -> f64 {
        match self {
            Mix::Read => 0.0,
            Mix::Triad => 1.0 / 3.0,
            Mix::Update | Mix::Copy => 0.5,
            Mix::Write => 1.0,
        }
    }

    /// Pieces of memory that are walked through side by side. Three are faster than one in memory, slower in
    /// caches.
    fn streams(self, in_memory: bool) -> usize {
        match self {
            Mix::Read | Mix::Update | Mix::Write if !in_memory => 1,
            Mix::Copy => 2,
            _ => 3,
        }
    }

    /// How often each byte of memory is moved.
    fn moves(self) -> usize {
        if self == Mix::Update { 2 } else { 1 }
    }

    /// The mixes on either side of this part of written bytes, with their weights.
    pub fn around(written: f64, in_place: bool) -> Vec<(Mix, f64)> {
        let mixes: &[Mix] = if in_place {
            &[Mix::Read, Mix::Update]
        } else {
            &[Mix::Read, Mix::Triad, Mix::Copy, Mix::Write]
        };
        let pairs = mixes.windows(2).map(|pair| (pair[0], pair[1]));
        let (less, more) =
            pairs.clone().find(|(_, more)| written <= more.written()).unwrap_or((Mix::Copy, Mix::Write));
        let weight = (written - less.written()) / (more.written() - less.written());
        // A hundredth of the time of one is below what can be measured.
        [(less, 1.0 - weight), (more, weight)].into_iter().filter(|(_, weight)| *weight > 0.01).collect()
    }
}

/// f32 that a pass takes in one turn of its loop, in each stream.
const TURN: usize = 4 * f32::LANES;
/// f32 that are walked through before the clock is looked at again: 1 MiB.
const PIECE: usize = 1 << 18;

/// Probes for one instruction set and one number of threads.
pub struct Probes<'a> {
    simd: Dispatcher,
    threads: usize,
    machine: &'a Machine,
    memory: Vec<Mutex<Memory>>,
}

/// What one thread walks through, and where it goes on.
struct Memory {
    numbers: Buffer<f32>,
    /// The first one that is used, at a multiple of 1 MiB: 16 KiB across a multiple of 256 MiB, where the
    /// system likes to put large buffers, were read at 116 GB/s from the first-level cache of a Zen 4, others
    /// at 173.
    start: usize,
    at: usize,
}

impl<'a> Probes<'a> {
    pub fn new(simd: Dispatcher, threads: usize, machine: &'a Machine) -> Self {
        let len = machine.capacity(machine.levels.len() - 1, 1) / threads / size_of::<f32>();
        let memory = || {
            // A header more would be twice the memory.
            let numbers = Buffer::full(len - f32::LANES, 1.0);
            let start = numbers.as_ptr().align_offset(PIECE * size_of::<f32>());
            Mutex::new(Memory { numbers, start, at: 0 })
        };
        Self { simd, threads, machine, memory: (0..threads).map(|_| memory()).collect() }
    }

    /// Does the work on each thread at the same time.
    fn on_all_threads(&self, work: impl Fn(&mut Memory) -> f64 + Sync) -> Vec<f64> {
        let work = |thread: usize| work(&mut self.memory[thread].lock().expect("no thread panicked"));
        if self.threads == 1 {
            return vec![work(0)];
        }
        let start = Barrier::new(self.threads);
        let results = rayon::broadcast(|thread| {
            (thread.index() < self.threads).then(|| {
                start.wait();
                work(thread.index())
            })
        });
        results.into_iter().flatten().collect()
    }

    /// Operations per second, a multiply-add being two.
    pub fn peak<T: Element>(&self, pace: Pace) -> f64 {
        // As many chains as hide the latency of a multiply-add and fit the registers beside factor and summand:
        // which of these numbers that is, the measurement tells.
        let rates = [self.chains::<T, 3>(pace), self.chains::<T, 6>(pace), self.chains::<T, 12>(pace)];
        rates.into_iter().fold(0.0, f64::max)
    }

    /// Operations per second in `N` chains of virtual registers on each thread.
    fn chains<T: Element, const N: usize>(&self, pace: Pace) -> f64 {
        let half = black_box(T::from_f64(0.5));
        let chains = || self.simd.run(Chains::<T, N> { factor: half, summand: half });
        self.on_all_threads(|_| pace.rate(chains)).iter().sum()
    }

    /// Bytes per second in this level.
    pub fn bandwidth(&self, level: usize, mix: Mix, pace: Pace) -> f64 {
        // Half of the first level; of the others, far more than the level before and far less than the level
        // itself.
        let capacity = |level: usize| self.machine.capacity(level, self.threads) as f64;
        let last = self.machine.levels.len() - 1;
        let bytes = match level {
            0 => capacity(0) / 2.0,
            _ if level == last => capacity(last),
            _ => (capacity(level - 1) * capacity(level)).sqrt(),
        };
        let len = bytes as usize / size_of::<f32>() / self.threads;
        let streams = mix.streams(level == last);
        let rates = self.on_all_threads(|memory| {
            if level < last {
                memory.walk(self.simd, mix, streams, len, len);
            }
            pace.rate(|| memory.walk(self.simd, mix, streams, len, PIECE))
        });
        rates.iter().sum()
    }

    /// Empties the caches: reads twice what the last one holds.
    pub fn evict(&self) {
        self.on_all_threads(|memory| {
            let second_half = memory.numbers.len() / 2;
            let numbers = &mut memory.numbers.fresh_mut()[second_half..];
            self.simd.run(Pass { mix: Mix::Read, streams: [numbers, &mut [], &mut []], times: 1 });
            0.0
        });
    }

    /// Seconds for this many bytes, no more than the last cache holds, from and to memory; once.
    pub fn cold_seconds(&self, mix: Mix, bytes: f64) -> f64 {
        self.evict();
        let len = (bytes as usize / mix.moves() / size_of::<f32>()).div_ceil(self.threads);
        let seconds = self.on_all_threads(|memory| {
            memory.at = 0;
            let start = Instant::now();
            let walked = memory.walk(self.simd, mix, mix.streams(true), len, len);
            // Loops work on whole turns.
            start.elapsed().as_secs_f64() * bytes / (walked * self.threads) as f64
        });
        seconds.into_iter().fold(0.0, f64::max)
    }
}

impl Memory {
    /// Walks through `part` of the first `len` numbers, again and again if `part` is more, and returns the
    /// bytes moved. The next call goes on where this one stopped.
    fn walk(&mut self, simd: Dispatcher, mix: Mix, streams: usize, len: usize, part: usize) -> usize {
        let numbers = &mut self.numbers.fresh_mut()[self.start..];
        let stream = (len.min(numbers.len()) / streams / TURN * TURN).max(TURN);
        let piece = (part / streams).next_multiple_of(TURN).min(stream);
        let times = (part / streams / piece).max(1);
        if self.at + piece > stream {
            self.at = 0;
        }
        let at = self.at;
        self.at += piece;
        let mut parts = numbers.chunks_exact_mut(stream);
        let [x, y, z] = std::array::from_fn(|i| match parts.next() {
            Some(numbers) if i < streams => &mut numbers[at..at + piece],
            _ => &mut [],
        });
        simd.run(Pass { mix, streams: [x, y, z], times });
        times * piece * streams * mix.moves() * size_of::<f32>()
    }
}

/// `N` independent chains x ← x · factor + summand; returns the operations.
struct Chains<T, const N: usize> {
    factor: T,
    summand: T,
}

impl<T: Element, const N: usize> Kernel for Chains<T, N> {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        const STEPS: usize = 4096;
        let (factor, summand) = (s.splat(self.factor), s.splat(self.summand));
        let mut chains = [s.splat(T::ONE); N];
        for _ in 0..STEPS {
            for x in &mut chains {
                *x = x.mul_add(factor, summand);
            }
        }
        black_box(chains);
        2 * STEPS * N * T::LANES
    }
}

/// A walk through memory, so many times. Streams that the mix does not need are empty.
struct Pass<'a> {
    mix: Mix,
    streams: [&'a mut [f32]; 3],
    times: usize,
}

impl Kernel for Pass<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let lanes = s.lanes::<f32>();
        let starts = [0, lanes, 2 * lanes, 3 * lanes];
        // Numbers stay what they are, far from subnormal ones.
        let factor = s.splat(black_box(1.0_f32));
        let [x, y, z] = self.streams;
        for _ in 0..self.times {
            // Every pass is one of its own.
            let (x, y, z) = (black_box(&mut *x), &mut *y, &mut *z);
            match self.mix {
                Mix::Read => {
                    // Bits are joined in one cycle and on more ports than numbers are added.
                    let mut seen = [s.splat(0.0_f32).to_bits(); 2];
                    turns(
                        [x, y, z],
                        #[inline(always)]
                        |x| {
                            for (i, start) in starts.into_iter().enumerate() {
                                seen[i % 2] = seen[i % 2].or(s.load(&x[start..]).to_bits());
                            }
                        },
                    );
                    black_box(seen);
                }
                Mix::Update => turns(
                    [x, y, z],
                    #[inline(always)]
                    |x| {
                        for start in starts {
                            s.store(s.load(&x[start..]) * factor, &mut x[start..]);
                        }
                    },
                ),
                Mix::Write => turns(
                    [x, y, z],
                    #[inline(always)]
                    |x| {
                        for start in starts {
                            s.store(factor, &mut x[start..]);
                        }
                    },
                ),
                Mix::Copy => {
                    for (x, z) in x.chunks_exact(TURN).zip(y.chunks_exact_mut(TURN)) {
                        for start in starts {
                            s.store(s.load(&x[start..]) * factor, &mut z[start..]);
                        }
                    }
                }
                Mix::Triad => {
                    let parts = x.chunks_exact(TURN).zip(y.chunks_exact(TURN));
                    for ((x, y), z) in parts.zip(z.chunks_exact_mut(TURN)) {
                        for start in starts {
                            s.store(
                                s.load(&x[start..]).mul_add(factor, s.load(&y[start..])),
                                &mut z[start..],
                            );
                        }
                    }
                }
            }
        }
    }
}

/// Goes through the first stream, or through all three side by side.
#[inline(always)]
fn turns([x, y, z]: [&mut [f32]; 3], mut turn: impl FnMut(&mut [f32])) {
    if y.is_empty() {
        for x in x.chunks_exact_mut(TURN) {
            turn(x);
        }
        return;
    }
    for ((x, y), z) in x.chunks_exact_mut(TURN).zip(y.chunks_exact_mut(TURN)).zip(z.chunks_exact_mut(TURN)) {
        turn(x);
        turn(y);
        turn(z);
    }
}
