//! The matrix of the patches of an image as an operand that is never written as a whole: a row for each tap
//! of the window in each channel, a column for each position of the window.
//!
//! What a block of it needs is staged first: the rows of the image with their padding, where columns that the
//! window's stride leaves out of a tap are moved to a plane of their own (one for each phase of the stride).
//! Then every row of the matrix is, for each row of positions, one piece of a plane, and packing copies whole
//! registers.

mod direct;
mod gradient;
mod lanes;

use std::ops::Range;

pub(in crate::kernels) use direct::Direct;
pub(in crate::kernels) use gradient::{Gradient, Images};
pub(in crate::kernels) use lanes::LaneGradient;

use super::{KC, Panel};
use crate::buffer::Scratch;
use crate::simd::{Element, Float, Kernel, Mask, Simd};

/// The window and its positions along one axis of the image.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Axis {
    /// Pixels of the image.
    pub size: usize,
    /// Positions of the window.
    pub positions: usize,
    /// Pixels from one position to the next.
    pub stride: usize,
    /// Taps of the window.
    pub taps: usize,
    /// The pixel of the first tap in the first position; negative or beyond the image in the padding.
    pub first: isize,
    /// Pixels from one tap to the next; may be negative.
    pub step: isize,
}

impl Axis {
    /// The lowest pixel of the first position.
    fn lowest(&self) -> isize {
        self.first + (self.step * (self.taps as isize - 1)).min(0)
    }

    /// The place of a tap among those of its window, from the lowest on.
    #[inline(always)]
    fn order(&self, tap: usize) -> usize {
        if self.step < 0 { self.taps - 1 - tap } else { tap }
    }

    /// Pixels between the lowest and this one, in that order.
    #[inline(always)]
    fn distance(&self, order: usize) -> usize {
        order * self.step.unsigned_abs()
    }

    /// The number of different remainders of distances by the stride: they recur with this period.
    fn phases(&self) -> usize {
        let (mut a, mut b) = (self.stride, self.step.unsigned_abs());
        while b > 0 {
            (a, b) = (b, a % b);
        }
        (self.stride / a).min(self.taps)
    }

    /// Elements that a row of a plane has more than there are positions.
    fn reach(&self) -> usize {
        self.distance(self.taps - 1) / self.stride
    }
}

/// The matrix of the patches of an image: planes of its channels, one after the other.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Patches<'a, T> {
    pub image: &'a [T],
    /// Along the height and along the width; there is at least one tap and one position.
    pub axes: [Axis; 2],
}

impl<T: Element> Patches<'_, T> {
    /// Positions.
    pub fn cols(&self) -> usize {
        self.axes[0].positions * self.axes[1].positions
    }

    fn taps(&self) -> usize {
        self.axes[0].taps * self.axes[1].taps
    }

    /// The channels that these rows of the matrix are taps of.
    fn channels(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start / self.taps()..(rows.end - 1) / self.taps() + 1
    }
}

/// Lanes of the widest register, which may be read before and behind what is staged.
const SLACK: usize = 16;

/// What a block of the matrix needs of the image, in planes.
struct Stage<T: Element> {
    memory: Scratch<T>,
    channels: Range<usize>,
    /// Rows of positions, and the columns of these; all columns if there is more than one row.
    rows: Range<usize>,
    cols: Range<usize>,
    phases: [usize; 2],
    /// Elements of a row of a plane, and rows of it.
    pitch: usize,
    height: usize,
}

impl<T: Element> Stage<T> {
    /// For these channels and positions.
    fn new<S: Simd>(s: S, patches: &Patches<'_, T>, channels: Range<usize>, positions: Range<usize>) -> Self {
        let [down, along] = &patches.axes;
        let width = along.positions;
        let rows = positions.start / width..(positions.end - 1) / width + 1;
        let start = rows.start * width;
        let cols = if rows.len() == 1 { positions.start - start..positions.end - start } else { 0..width };
        let phases = [down.phases(), along.phases()];
        let (height, pitch) = (rows.len() + down.reach(), cols.len() + along.reach());
        let memory = Scratch::new(0);
        let mut stage = Self { memory, channels, rows, cols, phases, pitch, height };
        let len = stage.channels.len() * stage.per_channel();
        stage.memory = Scratch::new(len + 2 * SLACK);
        stage.memory[..SLACK].fill(T::ZERO);
        s.run(Fill { stage: &mut stage, patches });
        stage.memory[SLACK + len..].fill(T::ZERO);
        stage
    }

    /// Elements that a channel takes.
    fn per_channel(&self) -> usize {
        self.phases[0] * self.phases[1] * self.height * self.pitch
    }

    /// Where in the memory the rows of the matrix have the first position; `offsets` has an element for each.
    fn offsets(&self, patches: &Patches<'_, T>, taps: Range<usize>, offsets: &mut [usize]) {
        let [down, along] = &patches.axes;
        let plane = self.height * self.pitch;
        let per_channel = patches.taps();
        let mut channel = taps.start / per_channel;
        let (mut i, mut j) = (taps.start % per_channel / along.taps, taps.start % along.taps);
        for offset in &mut offsets[..taps.len()] {
            let (i_order, j_order) = (down.order(i), along.order(j));
            let phase = i_order % self.phases[0] * self.phases[1] + j_order % self.phases[1];
            let row = down.distance(i_order) / down.stride;
            let col = along.distance(j_order) / along.stride;
            let planes = (channel - self.channels.start) * self.phases[0] * self.phases[1] + phase;
            *offset = SLACK + planes * plane + row * self.pitch + col;
            j += 1;
            if j == along.taps {
                (i, j) = (i + 1, 0);
            }
            if i == down.taps {
                (channel, i) = (channel + 1, 0);
            }
        }
    }

    /// The pieces of rows of planes that a register with `lanes` positions from this one on consists of.
    fn pieces(&self, width: usize, position: usize, lanes: usize) -> Pieces {
        let (mut row, mut col) = (position / width - self.rows.start, position % width - self.cols.start);
        let mut pieces = Pieces { from: [0; SLACK], lane: [0; SLACK], count: 0 };
        let mut lane = 0;
        while lane < lanes {
            // Relative to the first position; lane 0 of the register that is read lies before the piece.
            pieces.from[pieces.count] = (row * self.pitch + col) as isize - lane as isize;
            pieces.lane[pieces.count] = lane;
            pieces.count += 1;
            lane += width - self.cols.start - col;
            (row, col) = (row + 1, 0);
        }
        pieces
    }
}

/// Copies what is staged into its planes; a function of its own, which all that stage share.
struct Fill<'a, 'p, T: Element> {
    stage: &'a mut Stage<T>,
    patches: &'a Patches<'p, T>,
}

impl<T: Element> Kernel for Fill<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { stage, patches } = self;
        let [down, along] = &patches.axes;
        let pixels = down.size * along.size;
        let mut to = stage.memory.as_mut_ptr().wrapping_add(SLACK);
        for channel in stage.channels.clone() {
            let plane = &patches.image[channel * pixels..];
            for phase in 0..stage.phases[0] {
                let lowest = down.lowest()
                    + (stage.rows.start * down.stride + down.distance(phase) % down.stride) as isize;
                for phase in 0..stage.phases[1] {
                    let left = along.lowest()
                        + (stage.cols.start * along.stride + along.distance(phase) % along.stride) as isize;
                    // The first column inside the image, and the first one behind it.
                    let inside = |pixel: isize| {
                        let columns = (pixel - left).max(0) as usize;
                        columns.div_ceil(along.stride).min(stage.pitch)
                    };
                    let (start, end) = (inside(0), inside(along.size as isize));
                    for row in 0..stage.height {
                        let pixel = lowest + (row * down.stride) as isize;
                        // SAFETY: a row of a plane, behind which is another one, or a register of slack;
                        // columns from `start` to `end` lie inside the image.
                        unsafe {
                            if pixel < 0 || pixel >= down.size as isize || start >= end {
                                zero(s, to, stage.pitch);
                            } else {
                                zero(s, to, start);
                                let from = pixel as usize * along.size + start * along.stride;
                                let from = from.wrapping_add_signed(left);
                                copy(s, &plane[from..], along.stride, to.add(start), end - start);
                                zero(s, to.add(end), stage.pitch - end);
                            }
                            to = to.add(stage.pitch);
                        }
                    }
                }
            }
        }
    }
}

/// See [`Stage::pieces`]: where each is read, and its first lane.
struct Pieces {
    from: [isize; SLACK],
    lane: [usize; SLACK],
    count: usize,
}

impl Pieces {
    /// Reads the register of each of these rows of the matrix and writes them `stride` elements apart.
    ///
    /// # Safety
    /// The pieces lie inside what `from` and `offsets` point to, with a register of slack; the registers can
    /// be written.
    #[inline(always)]
    unsafe fn copy<S: Simd, T: Element>(
        &self,
        s: S,
        from: *const T,
        offsets: &[usize],
        mut to: *mut T,
        stride: usize,
    ) {
        let start = from.wrapping_offset(self.from[0]);
        let first = |lane: usize| <T::Vector<S> as Float<S>>::Mask::first(s, lane);
        // SAFETY: the caller's promise.
        unsafe {
            match self.count {
                0 | 1 => {
                    for &offset in offsets {
                        T::Vector::load_ptr(s, start.wrapping_add(offset)).store_ptr(to);
                        to = to.wrapping_add(stride);
                    }
                }
                2 => {
                    let (second, mask) = (from.wrapping_offset(self.from[1]), first(self.lane[1]));
                    for &offset in offsets {
                        let register = T::Vector::select(
                            mask,
                            T::Vector::load_ptr(s, start.wrapping_add(offset)),
                            T::Vector::load_ptr(s, second.wrapping_add(offset)),
                        );
                        register.store_ptr(to);
                        to = to.wrapping_add(stride);
                    }
                }
                count => {
                    for &offset in offsets {
                        let mut register = T::Vector::load_ptr(s, start.wrapping_add(offset));
                        for piece in 1..count {
                            let from = from.wrapping_offset(self.from[piece]).wrapping_add(offset);
                            let rest = T::Vector::load_ptr(s, from);
                            register = T::Vector::select(first(self.lane[piece]), register, rest);
                        }
                        register.store_ptr(to);
                        to = to.wrapping_add(stride);
                    }
                }
            }
        }
    }
}

/// `len` zeros, and more up to a whole register.
///
/// # Safety
/// The registers can be written.
#[inline(always)]
unsafe fn zero<S: Simd, T: Element>(s: S, to: *mut T, len: usize) {
    let mut i = 0;
    while i < len {
        // SAFETY: the caller's promise.
        unsafe { s.splat(T::ZERO).store_ptr(to.add(i)) };
        i += T::LANES;
    }
}

/// Every `stride`th element, `len` in all, and if there are more of them more up to a whole register.
///
/// # Safety
/// The registers can be written.
#[inline(always)]
unsafe fn copy<S: Simd, T: Element>(s: S, from: &[T], stride: usize, to: *mut T, len: usize) {
    debug_assert!((len - 1) * stride < from.len());
    let mut i = 0;
    // SAFETY: the caller's promise.
    unsafe {
        if stride == 1 {
            while i < len && i + T::LANES <= from.len() {
                T::Vector::load_ptr(s, from.as_ptr().add(i)).store_ptr(to.add(i));
                i += T::LANES;
            }
        }
        while i < len {
            *to.add(i) = *from.as_ptr().add(i * stride);
            i += 1;
        }
    }
}

/// Packs some rows of the matrix into these panels, as [`Pack`](super::pack::Pack) does.
pub(super) struct PackPatches<'a, T, P> {
    pub patches: &'a Patches<'a, T>,
    /// At most [`KC`].
    pub rows: Range<usize>,
    pub panels: P,
    pub packed: &'a mut [T],
}

impl<T: Element, P: Iterator<Item = Panel> + Clone> Kernel for PackPatches<'_, T, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { patches, rows, panels, packed } = self;
        let Some(first) = panels.clone().next() else { return };
        let end =
            panels.clone().fold(0, |_, panel| panel.col + (panel.registers - 1) * T::LANES + panel.tail);
        let stage = Stage::new(s, patches, patches.channels(&rows), first.col..end);
        let mut offsets = [0; KC];
        let offsets = &mut offsets[..rows.len()];
        stage.offsets(patches, rows.clone(), offsets);
        let mut packed = packed;
        for Panel { col, registers, tail } in panels {
            let width = registers * T::LANES;
            let (panel, rest) = packed.split_at_mut(rows.len() * width);
            packed = rest;
            for j in 0..registers {
                let lanes = if j + 1 < registers { T::LANES } else { tail };
                let pieces = stage.pieces(patches.axes[1].positions, col + j * T::LANES, lanes);
                let to = panel[j * T::LANES..].as_mut_ptr();
                // SAFETY: the stage holds these rows of positions for these rows of the matrix; the panel
                // has a row of `width` for each.
                unsafe { pieces.copy(s, stage.memory.as_ptr(), offsets, to, width) };
            }
        }
    }
}

/// Packs some rows of the matrix and some of its columns row by row: the `i`th row begins at `i · stride`.
/// Behind each row, up to a register less one element is written, too.
pub(in crate::kernels) struct CopyPatches<'a, T> {
    pub patches: &'a Patches<'a, T>,
    pub rows: Range<usize>,
    /// At most [`KC`].
    pub cols: Range<usize>,
    pub to: *mut T,
    pub stride: usize,
}

impl<T: Element> Kernel for CopyPatches<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { patches, rows, cols, to, stride } = self;
        let positions = patches.axes[1].positions;
        let stage = Stage::new(s, patches, patches.channels(&rows), cols.clone());
        let mut offsets = [0; KC];
        let offsets = &mut offsets[..rows.len()];
        stage.offsets(patches, rows, offsets);
        for col in cols.clone().step_by(T::LANES) {
            let pieces = stage.pieces(positions, col, (cols.end - col).min(T::LANES));
            let to = to.wrapping_add(col - cols.start);
            // SAFETY: as above; `to` has room for a row of `stride` elements each, as its fields say.
            unsafe { pieces.copy(s, stage.memory.as_ptr(), offsets, to, stride) };
        }
    }
}
