//! Products of few rows with matrices of patches, read where they are staged: packing a panel would take as
//! long as the few rows that use it.

use std::ops::Range;

use super::super::tile::CTile;
use super::super::{Bias, Epilogue, KC, MatRef, pieces};
use super::{Patches, Stage};
use crate::simd::{Element, Float, Kernel, Simd};

/// Rows of a tile, at most.
const ROWS: usize = 6;
/// Elements of the planes that are staged at once, about: they stay in a first-level cache, or for many rows
/// of positions in a second-level cache.
const STAGED: usize = 8 * 1024;
/// Rows of positions of one channel that are staged at once, at least.
const BAND: usize = 4;

/// `C ← epilogue(A · patches)`, row-major, for products whose images lie one after the other, as their C do.
pub(in crate::kernels) struct Direct<'a, 'f, T: Element> {
    /// The images of all products.
    pub patches: Patches<'a, T>,
    /// Channels of one of them.
    pub channels: usize,
    /// A and the epilogue of each.
    pub operands: &'f (dyn Fn(usize) -> (MatRef<'a, T>, Epilogue<'a, T>) + Sync + 'f),
    /// Which products.
    pub range: Range<usize>,
    /// C of the first of them.
    pub c: &'f mut [T],
}

impl<T: Element> Kernel for Direct<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { patches, channels, operands, range, c } = self;
        let (n, k) = (patches.cols(), channels * patches.taps());
        let [down, along] = &patches.axes;
        let plane = |rows: usize| {
            (rows + down.reach()) * down.phases() * (along.positions + along.reach()) * along.phases()
        };
        let band = (STAGED / (channels * plane(1)).max(1)).clamp(BAND, down.positions.max(BAND));
        let (depth, at_once) = if k <= KC {
            (k.max(1), (STAGED / (channels * plane(band.min(down.positions)))).max(1))
        } else {
            (KC, 1)
        };
        let mut offsets = [0; KC];
        for products in pieces(range.clone(), at_once) {
            for rows in pieces(0..down.positions, band) {
                for terms in pieces(0..k, depth) {
                    let of_first = products.start * channels * patches.taps();
                    let terms_of_first = of_first + terms.start..of_first + terms.end;
                    let of_products = if products.len() == 1 {
                        patches.channels(&terms_of_first)
                    } else {
                        products.start * channels..products.end * channels
                    };
                    let positions = rows.start * along.positions..rows.end * along.positions;
                    let stage = Stage::new(s, &patches, of_products, positions);
                    stage.offsets(&patches, terms_of_first, &mut offsets);
                    for product in products.clone() {
                        let (a, epilogue) = operands(product);
                        let m = a.rows();
                        let c = c[(product - range.start) * m * n..][..m * n].as_mut_ptr();
                        let planes = (product - products.start) * channels * stage.per_channel();
                        let block = Block {
                            a: &a,
                            terms: terms.clone(),
                            from: stage.memory.as_ptr().wrapping_add(planes),
                            offsets: &offsets[..terms.len()],
                            pitch: stage.pitch,
                            rows: rows.clone(),
                            width: along.positions,
                            bias: if let (Bias::PerRow(bias), true) = (epilogue.bias, terms.end == k) {
                                bias.as_ptr()
                            } else {
                                std::ptr::null()
                            },
                            c: CTile { start: c, row_stride: n as isize },
                        };
                        for rows in pieces(0..m, ROWS) {
                            block.tiles(s, rows);
                        }
                        if terms.end == k {
                            let c = CTile { start: c, row_stride: n as isize };
                            let cols = rows.start * along.positions..rows.end * along.positions;
                            // SAFETY: these rows and columns lie inside C, which nobody else uses.
                            unsafe { epilogue.finish(s, &c, 0..m, cols) };
                        }
                    }
                }
            }
        }
    }
}

/// Some terms of the sums of one product, for some rows of positions.
struct Block<'a, T> {
    a: &'a MatRef<'a, T>,
    terms: Range<usize>,
    /// The planes, and where in them each term has the first position.
    from: *const T,
    offsets: &'a [usize],
    pitch: usize,
    rows: Range<usize>,
    /// Positions in a row.
    width: usize,
    /// Added to the sums, an element for each row of C; null if it is not yet time, or there is none.
    bias: *const T,
    c: CTile<T>,
}

impl<T: Element> Block<'_, T> {
    #[inline(always)]
    fn tiles<S: Simd>(&self, s: S, rows: Range<usize>) {
        for cols in pieces(0..self.width, T::LANES) {
            let is_front = S::FILE.has_fronts() && cols.len() <= T::LANES / 2;
            let lanes = if is_front { T::LANES / 2 } else { T::LANES };
            // Where nothing is added to, the last columns are computed with others before them, so that the
            // register is whole.
            let start =
                if self.terms.start == 0 && self.width >= lanes { cols.end - lanes } else { cols.start };
            let start = start.min(cols.start);
            let (row, lanes) = (rows.start, cols.end - start);
            // Half registers are compiled only where there are some.
            if const { S::FILE.has_fronts() } && is_front {
                self.rows::<S, true>(s, row, rows.len(), start, lanes);
            } else {
                self.rows::<S, false>(s, row, rows.len(), start, lanes);
            }
        }
    }

    /// [`column`](Self::column) for a number of rows up to [`ROWS`]: a tile is rows by registers, as many as
    /// hide the latency of a multiply-add.
    #[inline(always)]
    fn rows<S: Simd, const FRONT: bool>(&self, s: S, row: usize, rows: usize, col: usize, lanes: usize) {
        match rows {
            1 => self.column::<S, 1, 6, FRONT>(s, row, col, lanes),
            2 => self.column::<S, 2, 3, FRONT>(s, row, col, lanes),
            3 => self.column::<S, 3, 2, FRONT>(s, row, col, lanes),
            4 => self.column::<S, 4, 1, FRONT>(s, row, col, lanes),
            5 => self.column::<S, 5, 1, FRONT>(s, row, col, lanes),
            _ => self.column::<S, 6, 1, FRONT>(s, row, col, lanes),
        }
    }

    /// `M` rows of C from `row` on, and `lanes` positions from `col` on in all rows of positions, `N` of
    /// which are computed at a time. `FRONT`: the lanes lie in the first half of a register.
    #[inline(always)]
    fn column<S: Simd, const M: usize, const N: usize, const FRONT: bool>(
        &self,
        s: S,
        row: usize,
        col: usize,
        lanes: usize,
    ) {
        let count = self.rows.len();
        for first in (0..count).step_by(N) {
            // The last ones are computed more than once where fewer are left.
            let line = |j: usize| (first + j).min(count - 1);
            s.run(Tile::<T, M, N, FRONT> { block: self, row, col, lanes, lines: std::array::from_fn(line) });
        }
    }
}

/// See [`Block::column`].
struct Tile<'a, T, const M: usize, const N: usize, const FRONT: bool> {
    block: &'a Block<'a, T>,
    row: usize,
    col: usize,
    lanes: usize,
    /// The rows of positions, from the first one of the block on.
    lines: [usize; N],
}

impl<T: Element, const M: usize, const N: usize, const FRONT: bool> Kernel for Tile<'_, T, M, N, FRONT> {
    type Output = ();

    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "as in the tiles of products: less to compile")]
    fn run<S: Simd>(self, s: S) {
        let Self { block, row, col, lanes, lines } = self;
        let mut sums = [[s.splat(T::ZERO); N]; M];
        let mut from = [block.from; N];
        for j in 0..N {
            from[j] = block.from.wrapping_add(lines[j] * block.pitch + col);
        }
        let (stride, step) = (block.a.row_stride(), block.a.col_stride());
        let mut a = block.a.at(row, block.terms.start);
        // SAFETY: A has these rows and terms; the planes have a register of slack behind every position.
        unsafe {
            for &offset in block.offsets {
                let mut x = [s.splat(T::ZERO); N];
                for j in 0..N {
                    x[j] = T::Vector::load_ptr(s, from[j].wrapping_add(offset));
                }
                let mut factor = a;
                for i in 0..M {
                    let a = s.splat(*factor);
                    for j in 0..N {
                        sums[i][j] = if FRONT {
                            a.mul_add_front(x[j], sums[i][j])
                        } else {
                            a.mul_add(x[j], sums[i][j])
                        };
                    }
                    factor = factor.wrapping_offset(stride);
                }
                a = a.wrapping_offset(step);
            }
        }
        for i in 0..M {
            for j in 0..N {
                let at = (block.rows.start + lines[j]) * block.width + col;
                let to = block.c.at(row + i, at).start;
                // SAFETY: these positions lie inside C and the bias; nobody else uses them.
                unsafe {
                    let mut sum = sums[i][j];
                    // A line that is computed twice is written once.
                    if j > 0 && lines[j] == lines[j - 1] {
                        continue;
                    }
                    if block.terms.start > 0 {
                        sum = sum + T::Vector::load_ptr_partial(s, to, lanes);
                    }
                    if !block.bias.is_null() {
                        sum = sum + s.splat(*block.bias.add(row + i));
                    }
                    if FRONT && lanes == T::LANES / 2 {
                        sum.store_ptr_partial(to, T::LANES / 2);
                    } else if lanes == T::LANES {
                        sum.store_ptr(to);
                    } else {
                        sum.store_ptr_partial(to, lanes);
                    }
                }
            }
        }
    }
}
