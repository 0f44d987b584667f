//! What runs for a shape: decided from the shape, the strides and the instruction set before anything is computed.

use std::fmt;
use std::ops::Range;

use super::{KC, MatRef, NC_REGISTERS};
use crate::context::Settings;
use crate::parallel;
use crate::simd::{Element, Isa};

/// Tiles of rows from which packing B in place of reading it where it lies pays, if its rows are far apart.
const PACKED_FROM: usize = 5;
/// Registers of columns that a task of a vector times a matrix has at least.
const VECTOR_REGISTERS: usize = 8;
/// Bytes from row to row of B from which the rows are far apart: a block of KC of them then has more pages than the
/// first-level TLB has entries.
const FAR: usize = 3072;
/// Bytes of a block of KC rows of B above which, where a register is a pair, the rows count as far apart, too: measured
/// on Zen 4 with AVX2, packing gains up to a fifth from there on and loses a little below.
const DEEP: usize = 64 * 1024;

/// Rows of the highest tile with this many registers: as many accumulators as hide the latency of the multiply-adds
/// and fit the register file.
#[inline(always)]
pub(super) const fn tile_height(isa: Isa, registers: usize) -> usize {
    match (isa, registers) {
        (Isa::Avx512, 1 | 2) => 12,
        (Isa::Avx512, 3) => 8,
        (Isa::Avx512, 4..=6) => 4,
        (Isa::Avx512, _) => 2,
        // A register is a pair here.
        (_, 1) => 6,
        (_, 2) => 3,
        (_, 3) => 2,
        (_, _) => 1,
    }
}

/// Rows of the highest tile of half a register: as many accumulators as in the others.
pub(super) const FRONT_HEIGHT: usize = 12;

/// Whether of a panel's registers only half of one is computed: where a register is a pair.
#[inline(always)]
pub(super) const fn is_front<T: Element>(isa: Isa, registers: usize, tail: usize) -> bool {
    matches!(isa, Isa::Avx2) && registers == 1 && tail <= T::LANES / 2
}

/// Registers of the widest tile for this many rows: the fewer rows, the wider.
const fn tile_width(isa: Isa, rows: usize) -> usize {
    match (isa, rows) {
        (Isa::Avx512, 0..=2) => 8,
        (Isa::Avx512, 3 | 4) => 6,
        (Isa::Avx512, _) => 3,
        (_, 0 | 1) => 6,
        (_, 2) => 3,
        (_, 3) => 2,
        (_, _) => 1,
    }
}

/// How B is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// One operand is a vector: the other one is read once, where it lies.
    Vector,
    /// B is read where it lies.
    InPlace,
    /// Blocks of B are copied, so that each panel is one stream.
    Packed,
}

/// What runs for a product, see [`plan()`](super::plan()).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// m, k and n of the product that runs: of the transposed one if [`transposed`](Plan::transposed).
    pub shape: [usize; 3],
    /// Whether `Cᵀ = Bᵀ · Aᵀ` is computed.
    pub transposed: bool,
    /// How B is read, or A if transposed.
    pub path: Path,
    /// Rows and columns of the largest tile of C that stays in registers.
    pub tile: [usize; 2],
    /// Parts that the threads take from one queue; 1 stays on the caller's thread.
    pub tasks: usize,
    /// Whether the parts are blocks of k.
    pub splits_k: bool,
    /// The instruction set.
    pub isa: Isa,
    /// The element type.
    pub element: &'static str,
    /// Multiplications and additions.
    pub flops: usize,
    /// Bytes of A, B and C.
    pub bytes: usize,
    /// Registers of B that are packed, or used, before the next block of k.
    pub(super) strip: usize,
    /// Registers of the widest panel.
    pub(super) width: usize,
    /// Rows and columns of a task.
    task: [usize; 2],
    /// What it takes on one thread.
    pub(super) nanoseconds: usize,
}

impl Plan {
    /// For C of `[m, n]` with columns side by side, and the strides of B.
    #[inline]
    pub(super) fn new<T: Element>(settings: Settings, shape: [usize; 3], b: &MatRef<'_, T>) -> Self {
        let [m, k, n] = shape;
        let isa = settings.simd.isa();
        let registers = n.div_ceil(T::LANES);
        let width = tile_width(isa, m).min(registers);
        let height = tile_height(isa, width);
        // Rows in different pages: those of B are then better side by side, once enough rows of A share them.
        let deep = isa != Isa::Avx512 && k.min(KC).saturating_mul(n).saturating_mul(size_of::<T>()) > DEEP;
        let far = deep || b.row_stride().unsigned_abs() * size_of::<T>() >= FAR;
        let path = match b.col_stride() {
            _ if m == 1 => Path::Vector,
            1 if !far || m < PACKED_FROM * height => Path::InPlace,
            _ => Path::Packed,
        };
        let strip = match path {
            Path::Packed if m > 2 * height => NC_REGISTERS,
            Path::Packed => width,
            _ => registers,
        };
        let [flops, elements] = flops_and_elements(shape);
        let bytes = elements.saturating_mul(size_of::<T>());
        // 60 GFLOP/s in f32, half of that in f64, or 20 bytes a nanosecond.
        let nanoseconds = (flops / (240 / size_of::<T>())).max(bytes / 20);
        let (element, transposed) = (T::NAME, false);
        let tile = if is_front::<T>(isa, registers, n) {
            [FRONT_HEIGHT.min(m), T::LANES / 2]
        } else {
            [height.min(m), width * T::LANES]
        };
        let (task, tasks, splits_k) = ([m, n], 1, false);
        let plan = Self {
            shape,
            transposed,
            path,
            tile,
            tasks,
            splits_k,
            isa,
            element,
            flops,
            bytes,
            strip,
            width,
            task,
            nanoseconds,
        };
        let jobs = parallel::jobs(settings, usize::MAX, nanoseconds);
        if jobs == 1 { plan } else { plan.split(jobs, height, T::LANES, k.div_ceil(KC)) }
    }

    /// Enough tasks for all threads to finish together. Columns first: who shares none packs none twice.
    fn split(self, jobs: usize, height: usize, lanes: usize, blocks: usize) -> Self {
        let ([m, _, n], wanted) = (self.shape, 4 * jobs);
        let panel = if m == 1 { VECTOR_REGISTERS } else { self.width } * lanes;
        let cols = n.div_ceil(n.div_ceil(panel).min(wanted)).next_multiple_of(panel);
        let col_tasks = n.div_ceil(cols);
        let rows = m.div_ceil(wanted.div_ceil(col_tasks)).next_multiple_of(height).max(2 * height);
        let tasks = col_tasks * m.div_ceil(rows);
        let splits_k = m > 1 && tasks < 2 * jobs && blocks >= 2 * jobs;
        Self { task: [rows, cols], tasks: if splits_k { blocks } else { tasks }, splits_k, ..self }
    }

    /// The rows and columns of a task.
    pub(super) fn place(&self, task: usize) -> (Range<usize>, Range<usize>) {
        let ([m, _, n], [rows, cols]) = (self.shape, self.task);
        let col_tasks = n.div_ceil(cols);
        let (row, col) = (task / col_tasks * rows, task % col_tasks * cols);
        (row..(row + rows).min(m), col..(col + cols).min(n))
    }
}

/// 2 · m · k · n, and the elements of A, B and C.
fn flops_and_elements([m, k, n]: [usize; 3]) -> [usize; 2] {
    let mul = |x: usize, y: usize| x.saturating_mul(y);
    [mul(mul(m, n), mul(k, 2)), mul(m, k).saturating_add(mul(k, n)).saturating_add(mul(m, n))]
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [m, k, n] = self.shape;
        write!(
            f,
            "gemm {} {m} × {k} × {n}{} with {}: ",
            self.element,
            if self.transposed { " (transposed)" } else { "" },
            self.isa
        )?;
        match self.path {
            Path::Vector => write!(f, "vector times matrix")?,
            Path::InPlace => write!(f, "B read in place, tiles of {} × {}", self.tile[0], self.tile[1])?,
            Path::Packed => write!(f, "B packed, tiles of {} × {}", self.tile[0], self.tile[1])?,
        }
        write!(f, ", {} task{}", self.tasks, if self.tasks == 1 { "" } else { "s" })?;
        if self.splits_k {
            write!(f, " along k")?;
        }
        write!(f, "; {:.2} MFLOP, {} kB", self.flops as f64 / 1e6, self.bytes / 1000)
    }
}
