//! The product of the gradients of a convolution's output with the patches of its input, summed over a batch
//! of images: the gradient of the weight.

use std::iter;
use std::ops::Range;

use super::super::pack::Pack;
use super::super::product::{column, panels, pieces};
use super::super::tile::{ARows, BPanel, CTile, Far, Finish, LINE, Operands};
use super::super::{KC, MC, MatRef, NEAR_B, plan};
use super::{Axis, CopyPatches, Patches, SLACK};
use crate::buffer::Scratch;
use crate::context::Settings;
use crate::parallel::{self, Indices, RowsMut};
use crate::simd::{Element, Kernel, Simd};

/// The images of a batch and the gradients of their outputs; of both, some channels.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Images<'a, T> {
    pub x: &'a [T],
    /// Channels of an image, the first one to read, and how many.
    pub channels: [usize; 3],
    pub axes: [Axis; 2],
    pub dy: &'a [T],
    /// The same for dy.
    pub outputs: [usize; 3],
    pub batch: usize,
}

impl<T: Element> Images<'_, T> {
    fn positions(&self) -> usize {
        self.axes[0].positions * self.axes[1].positions
    }

    /// Taps in all channels that are read.
    fn taps(&self) -> usize {
        self.channels[2] * self.axes[0].taps * self.axes[1].taps
    }

    pub(super) fn patches(&self, image: usize) -> Patches<'_, T> {
        let [channels, first, count] = self.channels;
        let pixels = self.axes[0].size * self.axes[1].size;
        let image = &self.x[(image * channels + first) * pixels..][..count * pixels];
        Patches { image, axes: self.axes }
    }

    /// dy of an image, transposed: a row for each position.
    pub(super) fn gradients(&self, image: usize) -> MatRef<'_, T> {
        let ([channels, first, count], positions) = (self.outputs, self.positions());
        let dy = &self.dy[(image * channels + first) * positions..][..count * positions];
        MatRef::row_major(dy, count, positions).expect("a slice of this length").t()
    }

    /// The images and positions that make up these terms of the sums, each with the number of terms before
    /// it.
    #[inline(always)]
    fn parts(&self, terms: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>, usize)> {
        let (positions, start) = (self.positions(), terms.start);
        let mut at = start;
        iter::from_fn(move || {
            let (image, first) = (at / positions, at % positions);
            let len = (positions - first).min(terms.end - at);
            let part = (image, first..first + len, at - start);
            at += len;
            (len > 0).then_some(part)
        })
    }
}

/// `dweight[o, t] = Σ dy[n, o, p] · patches[n, t, p]` over all n and p in ascending order, cut every [`KC`]
/// terms as in any product; `dbias[o]` is the sum with a row of ones in the place of patches.
///
/// It is the transpose that is computed: patches are copied row by row, as A, and dy is packed as B.
pub(in crate::kernels) struct Gradient<'a, T> {
    pub images: Images<'a, T>,
    pub dweight: &'a mut [T],
    pub dbias: Option<&'a mut [T]>,
}

/// Elements of the sums of all blocks of terms, if the threads share these.
const SUMS: usize = 1 << 18;

impl<T: Element> Gradient<'_, T> {
    pub fn run(self, settings: Settings) {
        let Self { images, dweight, dbias } = self;
        let (taps, outputs) = (images.taps(), images.outputs[2]);
        let (terms, rows) = (images.batch * images.positions(), taps + usize::from(dbias.is_some()));
        let len = rows * outputs;
        if len == 0 {
            return;
        }
        let mut sums = Scratch::new(len);
        let nanoseconds = plan::nanoseconds::<T>(len.saturating_mul(terms));
        let jobs = parallel::jobs(settings, usize::MAX, nanoseconds);
        let file = settings.simd.register_file();
        let width = plan::tile_width(file, rows).min(outputs.div_ceil(T::LANES));
        let height = plan::tile_height(file, width, false, false);
        let blocks = terms.div_ceil(KC);
        let part = |c: &mut [T], rows: Range<usize>, blocks: Range<usize>| {
            let c = CTile { start: c.as_mut_ptr(), row_stride: outputs as isize };
            settings.simd.run(Part { images: &images, width, rows, blocks, c });
        };
        if blocks == 0 {
            sums.fill(T::ZERO);
        } else if jobs == 1 || blocks == 1 {
            part(&mut sums, 0..rows, 0..blocks);
        } else if rows >= 2 * jobs * height || len.saturating_mul(blocks) > SUMS {
            let each = rows.div_ceil(jobs).next_multiple_of(height);
            let parts = (RowsMut::new(&mut sums, each * outputs), Indices(rows.div_ceil(each)));
            parallel::for_each(settings, parts, nanoseconds, |(sums, i)| {
                part(sums, i * each..((i + 1) * each).min(rows), 0..blocks);
            });
        } else {
            // The sums of each block side by side, then the chain over them in order: the same roundings.
            let mut of_blocks = Scratch::new(len * blocks);
            let parts = (RowsMut::new(&mut of_blocks, len), Indices(blocks));
            parallel::for_each(settings, parts, nanoseconds, |(sums, i)| part(sums, 0..rows, i..i + 1));
            settings.simd.run(AddRows { rows: &of_blocks, sums: &mut sums });
        }
        for (output, dweight) in dweight.chunks_exact_mut(taps.max(1)).enumerate() {
            dweight.iter_mut().zip(sums[output..].iter().step_by(outputs)).for_each(|(to, &x)| *to = x);
        }
        if let Some(dbias) = dbias {
            dbias.copy_from_slice(&sums[taps * outputs..]);
        }
    }
}

/// Elements from row to row of copied patches: a multiple of a line, and not of a page.
const PITCH: usize = KC + SLACK;

/// Some rows of the transposed gradient over some blocks of [`KC`] terms; `c` begins with the first of them.
struct Part<'a, T> {
    images: &'a Images<'a, T>,
    /// Registers of a panel.
    width: usize,
    rows: Range<usize>,
    blocks: Range<usize>,
    c: CTile<T>,
}

impl<T: Element> Kernel for Part<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { images, width, rows, blocks, c } = self;
        let (terms, taps, outputs) = (images.batch * images.positions(), images.taps(), images.outputs[2]);
        let mut packed = Scratch::new(outputs.next_multiple_of(T::LANES) * KC);
        let mut copied = Scratch::new(MC.min(rows.len()) * PITCH);
        for block in blocks.clone() {
            let range = block * KC..((block + 1) * KC).min(terms);
            for panel in panels::<T>(0..outputs, width, true) {
                let row = panel.registers * T::LANES;
                let to = &mut packed[panel.col * range.len()..][..range.len() * row];
                for (image, rows, before) in images.parts(range.clone()) {
                    let packed = &mut to[before * row..][..rows.len() * row];
                    let b = images.gradients(image);
                    s.run(Pack { b, rows, panels: iter::once(panel.clone()), packed });
                }
            }
            for rows in pieces(rows.clone(), MC).map(|some| (some.start - rows.start, some)) {
                let (at, rows) = rows;
                let of_patches = rows.start..rows.end.min(taps);
                if !of_patches.is_empty() {
                    for (image, cols, before) in images.parts(range.clone()) {
                        let (patches, to) = (&images.patches(image), copied[before..].as_mut_ptr());
                        s.run(CopyPatches { patches, rows: of_patches.clone(), cols, to, stride: PITCH });
                    }
                }
                if rows.end > taps {
                    copied[of_patches.len() * PITCH..][..range.len()].fill(T::ONE);
                }
                for panel in panels::<T>(0..outputs, width, true) {
                    let row = panel.registers * T::LANES;
                    let beta = if block == blocks.start { T::ZERO } else { T::ONE };
                    let finish = Finish {
                        alpha: T::ONE,
                        beta,
                        col_bias: std::ptr::null(),
                        row_bias: std::ptr::null(),
                    };
                    let operands = Operands {
                        k: range.len(),
                        a: ARows { start: copied.as_ptr(), row_stride: PITCH as isize, col_stride: 1 },
                        b: BPanel {
                            start: packed[panel.col * range.len()..].as_ptr(),
                            row_stride: row as isize,
                            tail: panel.tail,
                        },
                        finish,
                        c: c.at(at, panel.col),
                        far: Far { b: panel.registers * range.len() * LINE > NEAR_B, c: false },
                    };
                    // SAFETY: the copied rows have `range.len()` terms each, the packed panel as many whole
                    // registers; C has these rows and the panel's columns, and nobody else writes them.
                    unsafe { column::<S, T, true>(s, rows.len(), &panel, operands) };
                }
            }
        }
    }
}

/// The sum of all rows, one after the other.
struct AddRows<'a, T> {
    rows: &'a [T],
    sums: &'a mut [T],
}

impl<T: Element> Kernel for AddRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let len = self.sums.len();
        for start in (0..len).step_by(T::LANES) {
            let end = (start + T::LANES).min(len);
            let mut sum = s.load_partial(&self.rows[start..end]);
            for row in self.rows.chunks_exact(len).skip(1) {
                sum = s.load_partial(&row[start..end]) + sum;
            }
            s.store_partial(sum, &mut self.sums[start..end]);
        }
    }
}
