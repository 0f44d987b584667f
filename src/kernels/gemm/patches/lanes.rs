//! The gradient of the weight of a convolution with few output channels in a group, with positions in lanes:
//! output channels would fill a small part of a register.

use super::super::{KC, pieces};
use super::Stage;
use super::gradient::Images;
use crate::buffer::Scratch;
use crate::simd::{Element, Float, Kernel, Mask, Simd};

/// Taps that are summed at a time: as many accumulators as registers allow.
const TAPS: usize = 6;
/// Rows of positions that are staged at once.
const BAND: usize = 32;
/// As [`Gradient`](super::Gradient), in another order: positions are summed row by row in the lanes of a
/// register, from left to right, the sums of images are added one after the other, and the lanes at last.
pub(in crate::kernels) struct LaneGradient<'a, T> {
    pub images: Images<'a, T>,
    pub dweight: &'a mut [T],
    pub dbias: Option<&'a mut [T]>,
}

impl<T: Element> Kernel for LaneGradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { images, dweight, mut dbias } = self;
        let [down, along] = images.axes;
        let (taps, inputs) = (down.taps * along.taps, images.channels[2]);
        // For each tap and the bias a register: of all images, and of one.
        let mut memory = Scratch::new(2 * (taps + 1) * T::LANES);
        let (totals, sums) = memory.split_at_mut((taps + 1) * T::LANES);
        let mut offsets = [0; KC];
        for (output, dweight) in dweight.chunks_exact_mut(inputs * taps).enumerate() {
            for (channel, dweight) in dweight.chunks_exact_mut(taps).enumerate() {
                totals.fill(T::ZERO);
                for image in 0..images.batch {
                    sums.fill(T::ZERO);
                    let (patches, dy) = (images.patches(image), images.gradients(image));
                    for rows in pieces(0..down.positions, BAND) {
                        let positions = rows.start * along.positions..rows.end * along.positions;
                        let stage = Stage::new(s, &patches, channel..channel + 1, positions);
                        stage.offsets(&patches, channel * taps..(channel + 1) * taps, &mut offsets);
                        let band = Band {
                            from: stage.memory.as_ptr(),
                            pitch: stage.pitch,
                            dy: dy.at(rows.start * along.positions, output),
                            width: along.positions,
                            rows: rows.len(),
                        };
                        let (sums, of_bias) = sums.split_at_mut(taps * T::LANES);
                        let groups = offsets[..taps].chunks(TAPS).zip(sums.chunks_mut(TAPS * T::LANES));
                        for (offsets, sums) in groups {
                            match offsets.len() {
                                1 => band.add::<S, 1>(s, offsets, sums),
                                2 => band.add::<S, 2>(s, offsets, sums),
                                3 => band.add::<S, 3>(s, offsets, sums),
                                4 => band.add::<S, 4>(s, offsets, sums),
                                5 => band.add::<S, 5>(s, offsets, sums),
                                _ => band.add::<S, 6>(s, offsets, sums),
                            }
                        }
                        if channel == 0 && dbias.is_some() {
                            band.sum(s, of_bias);
                        }
                    }
                    for (total, sum) in totals.chunks_exact_mut(T::LANES).zip(sums.chunks_exact(T::LANES)) {
                        s.store(s.load(total) + s.load(sum), total);
                    }
                }
                let mut totals = totals.chunks_exact(T::LANES).map(
                    #[inline(always)]
                    |total| s.load(total).reduce_add(),
                );
                dweight.iter_mut().zip(&mut totals).for_each(|(to, total)| *to = total);
                if let (0, Some(dbias), Some(total)) = (channel, dbias.as_deref_mut(), totals.next()) {
                    dbias[output] = total;
                }
            }
        }
    }
}

/// Rows of positions of one channel of an image, and the gradients of one output channel there.
struct Band<T> {
    from: *const T,
    pitch: usize,
    dy: *const T,
    width: usize,
    rows: usize,
}

impl<T: Element> Band<T> {
    /// Adds the products of the gradients and `N` taps to their sums, a register each.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "as in the tiles of products: less to compile")]
    fn add<S: Simd, const N: usize>(&self, s: S, offsets: &[usize], sums: &mut [T]) {
        let mut local = [s.splat(T::ZERO); N];
        for t in 0..N {
            local[t] = s.load(&sums[t * T::LANES..]);
        }
        let whole = self.width / T::LANES * T::LANES;
        let tail = self.width - whole;
        let mask = <T::Vector<S> as Float<S>>::Mask::first(s, tail);
        for row in 0..self.rows {
            let dy = self.dy.wrapping_add(row * self.width);
            let from = self.from.wrapping_add(row * self.pitch);
            // SAFETY: the gradients have these rows; the planes have a register of slack behind each.
            unsafe {
                for col in (0..whole).step_by(T::LANES) {
                    let dy = T::Vector::load_ptr(s, dy.wrapping_add(col));
                    for t in 0..N {
                        let x = T::Vector::load_ptr(s, from.wrapping_add(offsets[t] + col));
                        local[t] = dy.mul_add(x, local[t]);
                    }
                }
                if tail > 0 {
                    let dy = T::Vector::load_ptr_partial(s, dy.wrapping_add(whole), tail);
                    for t in 0..N {
                        // Lanes behind the row hold other pixels, of which 0 times one may be NaN.
                        let x = T::Vector::load_ptr(s, from.wrapping_add(offsets[t] + whole));
                        local[t] = T::Vector::select(mask, dy.mul_add(x, local[t]), local[t]);
                    }
                }
            }
        }
        for t in 0..N {
            s.store(local[t], &mut sums[t * T::LANES..]);
        }
    }

    /// Adds the gradients to their sum, a register.
    #[inline(always)]
    fn sum<S: Simd>(&self, s: S, to: &mut [T]) {
        let mut sum = s.load(to);
        for row in 0..self.rows {
            for col in (0..self.width).step_by(T::LANES) {
                let count = (self.width - col).min(T::LANES);
                let dy = self.dy.wrapping_add(row * self.width + col);
                // SAFETY: the gradients have these rows.
                sum = sum + unsafe { T::Vector::load_ptr_partial(s, dy, count) };
            }
        }
        s.store(sum, to);
    }
}
