//! A product whose operands are known: how its blocks and panels are cut and shared among threads.

use std::marker::PhantomData;
use std::ops::Range;

use super::gemv::VectorMatrix;
use super::patches::PackPatches;
use super::shared::SharedB;
use super::tile::{ARows, BPanel, CTile, Far, Finish, LINE, Operands, Tile};
use super::{Bias, Epilogue, KC, MatRef, NEAR, NEAR_B, Path, Plan, Right, WAYS, pack, plan};
use crate::buffer::Scratch;
use crate::context::Settings;
use crate::parallel::{self, Indices, RowsMut};
use crate::simd::{Element, Kernel, Simd};

/// A product whose C has its columns side by side, and is not empty. In this order, so that no copy reads
/// alpha and beta at once: it would wait for the stores, as above.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Product<'a, T: Element> {
    pub(super) alpha: T,
    pub(super) a: &'a MatRef<'a, T>,
    pub(super) b: Right<'a, T>,
    pub(super) beta: T,
    pub(super) epilogue: &'a Epilogue<'a, T>,
    pub(super) c: CTile<T>,
}

// SAFETY: tasks write different elements of C, which the caller of the product borrows exclusively.
unsafe impl<T: Element> Sync for Product<'_, T> {}

impl<T: Element> Product<'_, T> {
    #[inline]
    pub(super) fn run(&self, settings: Settings) {
        let ([m, k], n) = (self.a.shape(), self.b.cols());
        if let Right::Matrix(b) = self.b
            && plan::is_small(settings, [m, k], b)
        {
            return settings.simd.run(Small { product: self, b });
        }
        let plan = Plan::new(settings, self.a, &self.b);
        if plan.tasks == 1 || !parallel::pays(settings, plan.nanoseconds) {
            return self.part(settings, &plan, None, 0..m, 0..n);
        }
        if !plan.splits_k {
            let shared = SharedB::new(&plan);
            return parallel::for_each_index(settings, plan.tasks, plan.nanoseconds, &|task| {
                let (rows, cols) = plan.place(task);
                self.part(settings, &plan, shared.as_ref(), rows, cols);
            });
        }
        // The sums of each block of k side by side, then the chain over them in order: the same roundings.
        let blocks = plan.tasks;
        let mut sums = Scratch::new(blocks * m * n);
        let parts = RowsMut::new(&mut sums, m * n);
        parallel::for_each(settings, (parts, Indices(blocks)), plan.nanoseconds, |(sums, block)| {
            let c = CTile { start: sums.as_mut_ptr(), row_stride: n as isize };
            let epilogue = &Epilogue::default();
            let product = &Product { alpha: T::ONE, beta: T::ZERO, epilogue, c, ..*self };
            let (rows, cols, k) = (0..m, 0..n, block * KC..((block + 1) * KC).min(k));
            settings.simd.run(Block { product, plan: &plan, shared: None, rows, cols, k });
        });
        settings.simd.run(AddBlocks { product: self, sums: &sums, shape: [m, n] });
    }

    /// All of k for some rows and columns of C.
    fn part(
        &self,
        settings: Settings,
        plan: &Plan,
        shared: Option<&SharedB<T>>,
        rows: Range<usize>,
        cols: Range<usize>,
    ) {
        match plan.path {
            Path::Vector => settings.simd.run(VectorMatrix { product: self, cols }),
            _ => settings.simd.run(Block { product: self, plan, shared, rows, cols, k: 0..self.a.cols() }),
        }
    }
}

/// All of a product that is small: panel by panel, B read where it lies unless its columns are strided,
/// without a plan, which would take as long.
pub(super) struct Small<'a, T: Element> {
    product: &'a Product<'a, T>,
    b: &'a MatRef<'a, T>,
}

impl<T: Element> Kernel for Small<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { product, b } = self;
        let ([m, k], n) = (product.a.shape(), b.cols());
        let (row_stride, col_stride) = (product.a.row_stride(), product.a.col_stride());
        let a = ARows { start: product.a.at(0, 0), row_stride, col_stride };
        let (width, mut scratch) = (plan::tile_width(S::FILE, m), None);
        for panel in panels::<T>(0..n, width, true) {
            let packs = b.col_stride() != 1 || plan::packs_tail::<T>(S::FILE, width, panel.tail, m);
            let (start, row_stride) = if packs && k > 0 {
                let width = panel.registers * T::LANES;
                let packed = scratch.get_or_insert_with(|| Scratch::new(width * k));
                let panels = std::iter::once(panel.clone());
                s.run(pack::Pack { b: *b, rows: 0..k, panels, packed: &mut packed[..] });
                (packed.as_ptr(), width as isize)
            } else {
                (b.at(0, panel.col), b.row_stride())
            };
            let b = BPanel { start, row_stride, tail: panel.tail };
            let (finish, c) = (product.finish(true, true, 0, panel.col), product.c.at(0, panel.col));
            let operands = Operands { k, a, b, finish, c, far: Far { b: false, c: false } };
            // SAFETY: all rows and the panel's columns lie inside A, B, C and what the epilogue reads, whose
            // shapes were compared; a packed panel is padded to whole registers.
            unsafe {
                if const { plan::packs_tails(S::FILE) } || packs || panel.tail == T::LANES {
                    column::<S, T, true>(s, m, &panel, operands);
                } else {
                    column::<S, T, false>(s, m, &panel, operands);
                }
            }
        }
        // SAFETY: as above.
        unsafe { product.epilogue.finish(s, &product.c, 0..m, 0..n) };
    }
}

/// `C ← epilogue(alpha · sums + beta · C)` over the sums of all blocks of k.
pub(super) struct AddBlocks<'a, T: Element> {
    product: &'a Product<'a, T>,
    sums: &'a [T],
    shape: [usize; 2],
}

impl<T: Element> Kernel for AddBlocks<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { product, sums, shape: [m, n] } = self;
        let blocks = sums.len() / (m * n);
        for (block, sums) in sums.chunks_exact(m * n).enumerate() {
            let k = block * KC..(block + 1) * KC;
            for (row, sums) in sums.chunks_exact(n).enumerate() {
                for (at, sums) in sums.chunks(T::LANES).enumerate() {
                    let col = at * T::LANES;
                    let finish = product.finish(k.start == 0, block + 1 == blocks, row, col);
                    // SAFETY: these elements lie inside C and the biases, and are written by this thread
                    // only.
                    unsafe { finish.store(s, [[s.load_partial(sums)]], product.c.at(row, col), sums.len()) };
                }
            }
        }
        // SAFETY: as above.
        unsafe { product.epilogue.finish(s, &product.c, 0..m, 0..n) };
    }
}

impl<T: Element> Product<'_, T> {
    /// What is done with the sums of one block of k in the tile at (row, col).
    #[inline(always)]
    pub(super) fn finish(&self, first: bool, last: bool, row: usize, col: usize) -> Finish<T> {
        let bias = |bias: &[T], at: usize| if last { bias[at..].as_ptr() } else { std::ptr::null() };
        Finish {
            alpha: self.alpha,
            beta: if first { self.beta } else { T::ONE },
            col_bias: if let Bias::PerColumn(values) = self.epilogue.bias {
                bias(values, col)
            } else {
                std::ptr::null()
            },
            row_bias: if let Bias::PerRow(values) = self.epilogue.bias {
                bias(values, row)
            } else {
                std::ptr::null()
            },
        }
    }
}

/// A rectangle of C over a range of k that begins at a multiple of KC.
pub(super) struct Block<'a, T: Element> {
    product: &'a Product<'a, T>,
    plan: &'a Plan,
    shared: Option<&'a SharedB<T>>,
    rows: Range<usize>,
    cols: Range<usize>,
    k: Range<usize>,
}

impl<T: Element> Kernel for Block<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { product, plan, shared, rows, cols, k } = self;
        let (mut scratch, mut compact) = (None, None);
        for cols in pieces(cols, plan.strip * T::LANES) {
            let packed_from = plan.packed_from::<T>(rows.len(), &cols);
            let prepacked = plan.path == Path::Prepacked;
            let panels = |cols: Range<usize>| panels::<T>(cols, plan.width, !prepacked);
            let whole_k = k.start..k.end.max(k.start + 1);
            for depth in pieces(whole_k, KC).map(|depth| depth.start..depth.end.min(k.end)) {
                let size = (cols.end - packed_from).next_multiple_of(T::LANES) * depth.len();
                let packed = match product.b {
                    Right::Matrix(_) | Right::Patches(_) if size > 0 => {
                        let panels = panels(cols.clone()).filter(|panel| panel.col >= packed_from);
                        let pack = |packed: &mut [T]| {
                            let (rows, panels) = (depth.clone(), panels.clone());
                            match product.b {
                                Right::Matrix(b) => s.run(pack::Pack { b: *b, rows, panels, packed }),
                                Right::Patches(patches) => {
                                    s.run(PackPatches { patches, rows, panels, packed });
                                }
                                Right::Packed(_) => {}
                            }
                        };
                        match shared.and_then(|shared| shared.get(&depth, &cols, pack)) {
                            Some(packed) => Some(packed),
                            None => {
                                let scratch = scratch.get_or_insert_with(|| Scratch::new(size));
                                pack(&mut scratch[..]);
                                Some(&**scratch)
                            }
                        }
                    }
                    _ => None,
                };
                let last_k = depth.end == product.a.cols();
                for rows in pieces(rows.clone(), plan.block[0]) {
                    let a = if plan.copies_a {
                        let to = compact.get_or_insert_with(|| Scratch::new(pack::COMPACT));
                        pack::compact(*product.a, rows.clone(), depth.clone(), to)
                    } else {
                        let (row_stride, col_stride) = (product.a.row_stride(), product.a.col_stride());
                        ARows { start: product.a.at(rows.start, depth.start), row_stride, col_stride }
                    };
                    for panel in panels(cols.clone()) {
                        let packed = packed.filter(|_| panel.col >= packed_from);
                        let (start, row_stride) = match packed {
                            Some(packed) => (
                                packed[(panel.col - packed_from) * depth.len()..].as_ptr(),
                                (panel.registers * T::LANES) as isize,
                            ),
                            None => product.b.panel(depth.start, panel.col),
                        };
                        let far =
                            Far { b: panel.registers * depth.len() * LINE > NEAR_B, c: plan.bytes > NEAR };
                        let operands = Operands {
                            k: depth.len(),
                            a,
                            b: BPanel { start, row_stride, tail: panel.tail },
                            finish: product.finish(depth.start == k.start, last_k, rows.start, panel.col),
                            c: product.c.at(rows.start, panel.col),
                            far,
                        };
                        let whole = packed.is_some() || prepacked || panel.tail == T::LANES;
                        // SAFETY: the rows, the panel's columns and `depth` lie inside A, B, C and what the
                        // epilogue reads, whose shapes were compared; packed panels are padded to whole
                        // registers.
                        unsafe {
                            if const { plan::packs_tails(S::FILE) } || whole {
                                column::<S, T, true>(s, rows.len(), &panel, operands);
                            } else {
                                column::<S, T, false>(s, rows.len(), &panel, operands);
                            }
                        }
                    }
                    if last_k {
                        // SAFETY: these rows and columns lie inside C.
                        unsafe { product.epilogue.finish(s, &product.c, rows, cols.clone()) };
                    }
                }
            }
        }
    }
}

/// The range in pieces of this length, the last one shorter.
#[inline(always)]
pub(super) fn pieces(range: Range<usize>, len: usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let piece = start..start.saturating_add(len).min(range.end);
        start = piece.end;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Columns of C that one pass of the microkernel computes.
#[derive(Clone)]
pub(super) struct Panel {
    pub(super) col: usize,
    pub(super) registers: usize,
    /// Lanes of the last register.
    pub(super) tail: usize,
}

/// The columns in panels of at most `width` registers: as equal as they can be, or all but the last one full.
#[inline(always)]
pub(super) fn panels<T: Element>(cols: Range<usize>, width: usize, equal: bool) -> Panels<T> {
    let registers = cols.len().div_ceil(T::LANES);
    let (count, each, more) = shares(registers, width);
    let (each, more) = if equal { (each, more) } else { (width, 0) };
    Panels { cols, count, each, more, element: PhantomData }
}

/// What [`panels`] gives: `count` of them are left, of which the first `more` have one register more than
/// `each`.
#[derive(Clone)]
pub(super) struct Panels<T> {
    cols: Range<usize>,
    count: usize,
    each: usize,
    more: usize,
    element: PhantomData<T>,
}

impl<T: Element> Iterator for Panels<T> {
    type Item = Panel;

    #[inline(always)]
    fn next(&mut self) -> Option<Panel> {
        self.count = self.count.checked_sub(1)?;
        let (col, len) = (self.cols.start, self.cols.len());
        let registers = (self.each + usize::from(self.more > 0)).min(len.div_ceil(T::LANES));
        self.more = self.more.saturating_sub(1);
        self.cols.start = (col + registers * T::LANES).min(self.cols.end);
        Some(Panel { col, registers, tail: (len - (registers - 1) * T::LANES).min(T::LANES) })
    }
}

/// `len` in shares of at most `most`, as equal as they can be: their number, the smaller size, and how many
/// have one more.
#[inline(always)]
pub(super) fn shares(len: usize, most: usize) -> (usize, usize, usize) {
    // Divisions take as long as a small tile.
    if len <= most {
        return (1, len, 0);
    }
    if most == 1 {
        return (len, 1, 0);
    }
    let count = len.div_ceil(most);
    (count, len / count, len % count)
}

/// One panel of B over some rows of C, in tiles as equally high as they can be. `operands` are those of the
/// first tile.
///
/// # Safety
/// These rows and the panel's columns lie inside A, B, C and the biases; if `WHOLE`, all registers of B can
/// be read.
#[inline(always)]
pub(super) unsafe fn column<S: Simd, T: Element, const WHOLE: bool>(
    s: S,
    rows: usize,
    panel: &Panel,
    mut operands: Operands<T>,
) {
    let front = plan::is_front::<T>(S::FILE, panel.registers, panel.tail);
    let highest = plan::tile_height(S::FILE, panel.registers, front, !WHOLE);
    // One line of each row is in use at a time, all of them in one set of the first-level cache if rows are
    // pages apart.
    let paged = plan::is_paged::<T>(operands.a.row_stride);
    let (count, each, more) = shares(rows, if paged { highest.min(WAYS) } else { highest });
    for i in 0..count {
        let height = each + usize::from(i < more);
        // SAFETY: the caller's promise.
        unsafe { by_shape::<S, T, WHOLE>(s, height, panel.registers, front, &operands) };
        operands = operands.below(height);
    }
}

/// Runs the tile of this height and width; `front` tiles compute half a register.
///
/// # Safety
/// As for [`Tile::new`].
#[inline(always)]
pub(super) unsafe fn by_shape<S: Simd, T: Element, const WHOLE: bool>(
    s: S,
    height: usize,
    registers: usize,
    front: bool,
    operands: &Operands<T>,
) {
    macro_rules! tiles {
        ($($n:literal $front:literal $whole:tt: $($m:literal)+;)+) => {
            match (registers, front, height) {
                $($(($n, $front, $m) => {
                    // The tiles that the instruction set has no use or no registers for are not compiled.
                    if const { plan::is_tile(S::FILE, $m, $n, $front) } {
                        // SAFETY: the caller's promise.
                        s.run(unsafe { Tile::<T, $m, $n, $whole, $front>::new(operands) })
                    } else {
                        no_tile(registers, front, height)
                    }
                })+)+
                _ => no_tile(registers, front, height),
            }
        };
    }
    tiles! {
        // What the mask of a front tile leaves out is not computed either.
        1 true false: 1 2 3 4 5 6 7 8 9 10 11 12;
        1 false WHOLE: 1 2 3 4 5 6 7 8 9 10 11 12;
        2 false WHOLE: 1 2 3 4 5 6 7 8 9 10 11 12;
        3 false WHOLE: 1 2 3 4 5 6 7 8;
        4 false WHOLE: 1 2 3 4 5 6;
        5 false WHOLE: 1 2 3 4;
        6 false WHOLE: 1 2 3 4;
        7 false WHOLE: 1 2;
        8 false WHOLE: 1 2;
    }
}

/// No panel is cut so that it needs another tile than those above.
#[cold]
#[inline(never)]
fn no_tile(registers: usize, front: bool, height: usize) {
    unreachable!("no tile of {height} rows and {registers} registers (front: {front})")
}
