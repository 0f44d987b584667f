//! What runs for a shape: decided from the shape, the strides and the instruction set before anything is
//! computed.

use std::fmt;
use std::ops::Range;

use super::{KC, MC, MC_SHALLOW, MatRef, NC_REGISTERS, PAGE, Right, SHALLOW, WAYS, shares};
use crate::context::Settings;
use crate::parallel;
use crate::simd::{Element, Isa, RegisterFile};

/// Tiles of rows from which packing B in place of reading it where it lies pays, if its rows are far apart.
const PACKED_FROM: usize = 5;
/// Columns that a task of a vector times a matrix has at least.
const VECTOR_COLUMNS: usize = 128;
/// Where a register is a line, and with more than one block of k: bytes from row to row of B from which the
/// rows are far apart. A block of KC of them then has more pages than the first-level TLB has entries.
const FAR: usize = 3072;
/// Terms of the sums up to which writing C takes longer than computing it.
const FLAT: usize = 32;
/// Bytes of a block of KC rows of B from which it pays to pack it once for [`MANY`] rows of A or more.
const DEEP: usize = 64 * 1024;
const MANY: usize = 128;
/// Bytes of a B that each thread packs for itself.
const COPIES: usize = 48 * 1024;
/// Tiles of rows and columns of B from which copying blocks of an A whose columns are pages apart pays.
const COPIED_FROM: usize = 4;
const COPIED_COLUMNS: usize = 128;
/// Rows from which packing the last panel pays where a register is a pair and both halves would be masked.
const RAGGED_FROM: usize = 32;

/// Rows of the highest tile: as many chains as hide the latency of a multiply-add, twice.
const HIGHEST: usize = 12;
/// Registers of the widest tile of one or two rows, and of more.
const WIDEST: usize = 8;
const WIDE: usize = 6;

/// Virtual registers of accumulators: three quarters of the register file, the rest is for A, B and masks.
const fn accumulators(file: RegisterFile) -> usize {
    file.count * 3 / 4 / file.parts
}

/// Rows of the highest tile with this many registers: as many accumulators as hide the latency of the
/// multiply-adds and fit the register file. Of their one register, `front` tiles compute half; masks take
/// registers, too.
#[inline(always)]
pub(super) const fn tile_height(file: RegisterFile, registers: usize, front: bool, masked: bool) -> usize {
    let all = accumulators(file);
    let height = match registers {
        // Half registers.
        1 if front => 2 * all,
        // Else the mask would push an accumulator out.
        1 if masked && !fits(file, all, 1, false, true) => all - 1,
        0 | 1 => all,
        // Panels as wide as that have two rows at most.
        _ if registers > WIDE && all / registers > 2 => 2,
        _ => all / registers,
    };
    if height > HIGHEST {
        HIGHEST
    } else if height == 0 {
        1
    } else {
        height
    }
}

/// Whether the accumulators of a tile, a broadcast number of A, one virtual register of B and its mask fit
/// the registers.
const fn fits(file: RegisterFile, rows: usize, registers: usize, front: bool, masked: bool) -> bool {
    let parts = if front { file.parts / 2 } else { file.parts };
    rows * registers * parts + 1 + parts + if masked { file.mask } else { 0 } <= file.count
}

/// Whether there is such a tile: one that [`tile_height`] can ask for, of panels that [`tile_width`] can ask
/// for. All of these fit the registers, which is checked where an instruction set is compiled.
pub(super) const fn is_tile(file: RegisterFile, rows: usize, registers: usize, front: bool) -> bool {
    let exists = registers <= tile_width(file, 1)
        && rows <= tile_height(file, registers, front, false)
        && (!front || file.has_fronts());
    assert!(!exists || fits(file, rows, registers, front, false), "a tile that spills");
    exists
}

/// Whether of a panel's registers only half of one is computed: where a register is a pair.
#[inline(always)]
pub(super) const fn is_front<T: Element>(file: RegisterFile, registers: usize, tail: usize) -> bool {
    file.has_fronts() && registers == 1 && tail <= T::LANES / 2
}

/// Whether a panel is packed that would lie in place but for a last register of which `tail` lanes exist: if
/// that is a pair of which both halves count, and there are rows enough.
#[inline(always)]
pub(super) fn packs_tail<T: Element>(file: RegisterFile, width: usize, tail: usize, rows: usize) -> bool {
    let ragged = 0 < tail && tail < T::LANES;
    let pays = file.has_fronts() && width == 1 && tail > T::LANES / 2 && rows >= RAGGED_FROM;
    ragged && (packs_tails(file) || pays)
}

/// Whether that holds of every such panel: without masked loads, a tile reads what is not whole as slowly as
/// packing does.
#[inline(always)]
pub(super) const fn packs_tails(file: RegisterFile) -> bool {
    !file.masked_loads
}

/// Bytes from element to element, as far as they can be counted.
fn bytes_of<T>(stride: isize) -> usize {
    stride.unsigned_abs().saturating_mul(size_of::<T>())
}

/// Whether rows lie a whole number of pages apart.
#[inline(always)]
pub(super) fn is_paged<T>(row_stride: isize) -> bool {
    bytes_of::<T>(row_stride).is_multiple_of(PAGE)
}

/// Registers of the widest tile for this many rows: few rows leave registers for more columns. Up to 8 rows
/// are one tile, so that B is read once; more are cut into tiles of 6.
#[inline(always)]
pub(super) const fn tile_width(file: RegisterFile, rows: usize) -> usize {
    let height = match rows {
        0 => 1,
        1..=8 => rows,
        _ => 6,
    };
    let (width, most) = (accumulators(file) / height, if rows <= 2 { WIDEST } else { WIDE });
    if width > most {
        most
    } else if width == 0 {
        1
    } else {
        width
    }
}

/// What so many multiply-adds take on one thread: 60 GFLOP/s in f32, half of that in f64.
pub(crate) const fn nanoseconds<T>(multiply_adds: usize) -> usize {
    multiply_adds / (120 / size_of::<T>())
}

/// Multiply-adds up to which a product is small: some ten microseconds.
const SMALL: usize = 1 << 19;
/// Bytes over which a small B may be spread: a near part of a second-level cache, and as many pages as the
/// first-level TLB has entries.
const SPREAD: usize = 128 * 1024;

/// Whether tiles run on one thread without a plan: what [`Plan`] says of such a product is what they do, at
/// less cost.
#[inline]
pub(super) fn is_small<T: Element>(settings: Settings, [m, k]: [usize; 2], b: &MatRef<'_, T>) -> bool {
    let multiply_adds = m.saturating_mul(b.cols()).saturating_mul(k);
    let lines = if b.col_stride() == 1 { (k, b.row_stride()) } else { (b.cols(), b.col_stride()) };
    m > 1
        && k <= KC
        && multiply_adds <= SMALL
        && bytes_of::<T>(lines.1).saturating_mul(lines.0) <= SPREAD
        && parallel::jobs(settings, usize::MAX, nanoseconds::<T>(multiply_adds)) == 1
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
    /// B was packed before.
    Prepacked,
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
    /// Why so.
    pub why: &'static str,
    /// Rows and columns of the largest tile of C that stays in registers.
    pub tile: [usize; 2],
    /// Rows of C, terms of its sums and columns of C that are worked on together, at most.
    pub block: [usize; 3],
    /// Parts that the threads take from one queue. 1 stays on the caller's thread, and so does small work
    /// when no helper is spinning.
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
    /// Whether blocks of A are copied before they are used.
    pub copies_a: bool,
    /// The registers of the instruction set.
    file: RegisterFile,
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
    /// For C with columns side by side, and the strides of A and B.
    #[inline]
    pub(super) fn new<T: Element>(settings: Settings, a: &MatRef<'_, T>, b: &Right<'_, T>) -> Self {
        let shape @ [m, k, n] = [a.rows(), a.cols(), b.cols()];
        let (isa, file) = (settings.simd.isa(), settings.simd.register_file());
        let registers = n.div_ceil(T::LANES).max(1);
        let (width, [row_stride, col_stride]) = match b {
            Right::Matrix(b) => (tile_width(file, m), [b.row_stride(), b.col_stride()]),
            Right::Packed(packed) => (packed.width, [0, 1]),
            Right::Patches(_) => (tile_width(file, m), [0, 0]),
        };
        let patches = matches!(b, Right::Patches(_));
        let width = width.min(registers);
        let front = is_front::<T>(file, registers, n);
        let highest = tile_height(file, width, front, false);
        let height = if is_paged::<T>(a.row_stride()) { highest.min(WAYS) } else { highest };
        let row_bytes = bytes_of::<T>(row_stride);
        let far = if file.is_whole() {
            row_bytes >= FAR && k > KC
        } else {
            // A block of KC rows then lies in a few sets of a cache, which cannot hold it.
            row_bytes > 0 && row_bytes.is_multiple_of(PAGE)
        };
        let deep = k.min(KC).saturating_mul(n).saturating_mul(size_of::<T>()) > DEEP;
        let small = matches!(b, Right::Matrix(b) if is_small(settings, [m, k], b));
        let (path, why) = match col_stride {
            _ if patches => (Path::Packed, "its columns are patches of an image"),
            _ if m == 1 => (Path::Vector, "an operand is a vector"),
            _ if matches!(b, Right::Packed(_)) => (Path::Prepacked, "as B came"),
            1 if small => (Path::InPlace, "it is small"),
            1 if far && m >= PACKED_FROM * height => (Path::Packed, "its rows lie far apart"),
            1 if deep && m >= MANY => (Path::Packed, "it is large and used by many rows"),
            1 => (Path::InPlace, "its rows lie in one piece"),
            _ => (Path::Packed, "its rows do not lie in one piece"),
        };
        let strip = match path {
            // As equal as whole panels allow: A is read once more for each.
            Path::Packed if patches || m > 2 * height && !small => {
                registers.div_ceil(registers.div_ceil(NC_REGISTERS)).next_multiple_of(width)
            }
            Path::Packed => width,
            _ => registers,
        };
        let [flops, elements] = flops_and_elements(shape);
        let bytes = elements.saturating_mul(size_of::<T>());
        // As long as the multiply-adds take, or the bytes at 20 a nanosecond.
        let nanoseconds = nanoseconds::<T>(flops / 2).max(bytes / 20);
        let (element, transposed) = (T::NAME, false);
        let columns = if front { T::LANES / 2 } else { width * T::LANES };
        let tile = [height.min(m), columns];
        let jobs = if m == 0 || n == 0 { 1 } else { parallel::jobs(settings, usize::MAX, nanoseconds) };
        let by = match path {
            Path::Vector => Split::Vector,
            Path::Packed if !patches && k.saturating_mul(n).saturating_mul(size_of::<T>()) <= COPIES => {
                Split::RowsOnly
            }
            _ if k <= FLAT => Split::Rows,
            _ => Split::Columns,
        };
        let panel = if path == Path::Packed { width.min(registers.div_ceil(jobs)) } else { width };
        let (task, tasks, splits_k) = match jobs {
            1 => ([m, n], 1, false),
            _ => split(shape, by, jobs, height, panel * T::LANES),
        };
        // Columns of A that lie side by side: each step along k is another line, all in few sets of a cache.
        let pitch = bytes_of::<T>(a.col_stride());
        let aliased = a.row_stride() == 1 && pitch > 0 && pitch.is_multiple_of(PAGE);
        let copies_a = aliased && m >= COPIED_FROM * height && task[1] >= COPIED_COLUMNS;
        let (depth, cols) = (KC.min(k), (strip * T::LANES).min(n));
        let mc = match () {
            _ if small => m,
            _ if depth * cols <= SHALLOW => MC_SHALLOW,
            _ => m.div_ceil((m / MC).max(1)),
        };
        Self {
            shape,
            transposed,
            path,
            why,
            tile,
            block: [mc.min(m).max(1), depth, cols],
            tasks,
            splits_k,
            isa,
            file,
            element,
            flops,
            bytes,
            copies_a,
            strip,
            width,
            task,
            nanoseconds,
        }
    }

    /// The first of these columns whose panel is packed: all are, none, or the last one.
    #[inline(always)]
    pub(super) fn packed_from<T: Element>(&self, rows: usize, cols: &Range<usize>) -> usize {
        let tail = cols.len() % T::LANES;
        match self.path {
            Path::Packed => cols.start,
            Path::InPlace if packs_tail::<T>(self.file, self.width, tail, rows) => {
                let (_, registers, _) = shares(cols.len().div_ceil(T::LANES), self.width);
                cols.end - tail - (registers - 1) * T::LANES
            }
            _ => cols.end,
        }
    }

    /// Columns of a task, if several tasks use the same ones and each would pack all its columns at once.
    pub(super) fn shared_columns(&self) -> Option<usize> {
        let ([m, _, n], [rows, cols]) = (self.shape, self.task);
        let shares = self.path == Path::Packed && !self.splits_k && rows < m && cols.min(n) <= self.block[2];
        shares.then_some(cols)
    }

    /// The rows and columns of a task. Tasks that are neighbours go to one thread, if possible: rows of A
    /// from left to right, or the columns that it packed from top to bottom.
    pub(super) fn place(&self, task: usize) -> (Range<usize>, Range<usize>) {
        let ([m, _, n], [rows, cols]) = (self.shape, self.task);
        let [row_tasks, col_tasks] = [m.div_ceil(rows), n.div_ceil(cols)];
        let (row, col) = match self.path {
            Path::Packed => (task % row_tasks * rows, task / row_tasks * cols),
            _ => (task / col_tasks * rows, task % col_tasks * cols),
        };
        (row..(row + rows).min(m), col..(col + cols).min(n))
    }
}

/// How work is shared.
enum Split {
    /// Columns first, since tasks that share no columns pack none twice.
    Columns,
    /// Rows first: C is most of the memory, and each thread writes a piece of it from end to end.
    Rows,
    /// Rows only, a task for each thread, which packs all of B for itself: to do that takes less time than to
    /// fetch what another thread packed, or to write C side by side with it.
    RowsOnly,
    /// Columns only, no more tasks than threads, since rows of B are read in pieces as long as a task.
    Vector,
}

/// Rows and columns of a task, the number of tasks, and whether they are blocks of k: enough for all threads
/// to finish together.
fn split(
    [m, k, n]: [usize; 3],
    split: Split,
    jobs: usize,
    height: usize,
    width: usize,
) -> ([usize; 2], usize, bool) {
    let blocks = k.div_ceil(KC);
    let (wanted, panel, row_tasks) = match split {
        Split::Columns => (4 * jobs, width, 1),
        Split::Rows => (4 * jobs, width, m.div_ceil(2 * height).min(4 * jobs)),
        Split::RowsOnly => (jobs, n, jobs),
        Split::Vector => (jobs, VECTOR_COLUMNS.next_multiple_of(width), 1),
    };
    let enough = wanted.min(2 * jobs);
    let cols = n.div_ceil(n.div_ceil(panel).min(wanted / row_tasks)).next_multiple_of(panel);
    let col_tasks = n.div_ceil(cols);
    let rows = m.div_ceil(wanted.div_ceil(col_tasks)).next_multiple_of(height).max(2 * height);
    let tasks = col_tasks * m.div_ceil(rows);
    let splits_k = m > 1 && tasks < enough && blocks >= 2 * jobs;
    ([rows, cols], if splits_k { blocks } else { tasks }, splits_k)
}

/// 2 · m · k · n, and the elements of A, B and C.
pub(super) fn flops_and_elements([m, k, n]: [usize; 3]) -> [usize; 2] {
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
        let name = match self.path {
            Path::Vector => "vector times matrix",
            Path::InPlace => "B read in place",
            Path::Packed => "B packed",
            Path::Prepacked => "B prepacked",
        };
        write!(f, "{name} ({})", self.why)?;
        if self.path != Path::Vector {
            let ([rows, cols], [mc, kc, nc]) = (self.tile, self.block);
            write!(f, ", tiles of {rows} × {cols} in blocks of {mc} × {kc} × {nc}")?;
        }
        if self.copies_a {
            write!(f, ", blocks of A copied")?;
        }
        write!(f, ", {} task{}", self.tasks, if self.tasks == 1 { "" } else { "s" })?;
        if self.splits_k {
            write!(f, " along k")?;
        }
        write!(f, "; {:.2} MFLOP, {} kB", self.flops as f64 / 1e6, self.bytes / 1000)
    }
}
