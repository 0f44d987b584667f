//! Passes down the columns.

use super::{MergeRows, PANEL, ROW_BLOCK, STEPS, STRIP, Term, deviation, one_unless_zero, squared, work};
use crate::buffer::Scratch;
use crate::context::Settings;
use crate::parallel::{self, Indices, RowsMut};
use crate::simd::{Element, Float, Kernel, Mask, Simd};

/// The first row in which each column, from `start` on, has its extreme element or a NaN.
pub(in crate::kernels) struct ColumnPlaces<'a, T> {
    pub extremes: &'a [T],
    pub x: &'a [T],
    pub cols: usize,
    pub start: usize,
    pub y: &'a mut [usize],
}

impl<T: Element> Kernel for ColumnPlaces<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        const NOWHERE: usize = usize::MAX;
        self.y.fill(NOWHERE);
        let mut missing = self.y.len();
        for (i, row) in self.x.chunks_exact(self.cols).enumerate() {
            let row = &row[self.start..self.start + self.y.len()];
            let registers = row.chunks(T::LANES).zip(self.extremes[self.start..].chunks(T::LANES));
            for ((x, extreme), y) in registers.zip(self.y.chunks_mut(T::LANES)) {
                let x = s.load_partial(x);
                let mut found = x.eq(s.load_partial(extreme)).or(x.is_nan()).to_bits();
                while found != 0 {
                    let lane = found.trailing_zeros() as usize;
                    found &= found - 1;
                    // Lanes behind the last column are 0 in both operands.
                    if let Some(y) = y.get_mut(lane).filter(|y| **y == NOWHERE) {
                        *y = i;
                        missing -= 1;
                    }
                }
            }
            if missing == 0 {
                return;
            }
        }
    }
}

/// The result for each column: passes down blocks of rows, whose results are merged in pairs.
///
/// Where a row is narrower than a panel, several rows are treated as one wide row, and the results of a
/// column at its places in that row are merged in pairs in the end.
pub(in crate::kernels) fn column_totals<T: Element>(
    settings: Settings,
    term: Term<T, &[T]>,
    x: &[T],
    cols: usize,
    y: &mut [T],
) {
    let fold = match term {
        Term::Deviation { .. } | Term::Squared { .. } | Term::Exponential { .. } => 1,
        _ => (PANEL * T::LANES / cols).clamp(1, (x.len() / cols / ROW_BLOCK).max(1)),
    };
    let wide = fold * cols;
    let (x, rest) = x.split_at(x.len() / wide * wide);
    let (blocks, width) = (x.len().div_ceil(ROW_BLOCK * wide), wide.min(STRIP));
    let parts = wide.div_ceil(width) * blocks;
    let down = |x: &[T], stride, start, y: &mut [T]| settings.simd.run(Down { term, x, stride, start, y });
    let pass = |y: &mut [T]| {
        parallel::for_each(settings, (Indices(parts), RowsMut::new(y, width)), work(x), |(part, y)| {
            let (start, top) = (part / blocks * width, part % blocks * ROW_BLOCK * wide);
            let x = &x[top..x.len().min(top + ROW_BLOCK * wide)];
            let width = y.len().min(wide - start);
            down(x, wide, start, &mut y[..width]);
        });
    };
    if blocks == 1 && fold == 1 {
        return pass(y);
    }

    let join = term.join();
    let mut totals = Scratch::new((parts * width).max(2 * wide));
    pass(&mut totals[..parts * width]);
    for (strip, y) in totals[..parts * width].chunks_mut(blocks * width).zip(y.chunks_mut(width)) {
        settings.simd.run(MergeRows { join, rows: strip, cols: width });
        if fold == 1 {
            y.copy_from_slice(&strip[..y.len()]);
        }
    }
    if fold > 1 {
        let totals = &mut totals[..wide + rest.len()];
        if !rest.is_empty() {
            down(rest, rest.len(), 0, &mut totals[wide..]);
        }
        settings.simd.run(MergeRows { join, rows: totals, cols });
        y.copy_from_slice(&totals[..cols]);
    }
}

/// The columns from `start` on of all rows of `stride` elements, as many as there are in `y`.
struct Down<'a, T> {
    term: Term<T, &'a [T]>,
    x: &'a [T],
    stride: usize,
    start: usize,
    y: &'a mut [T],
}

impl<T: Element> Kernel for Down<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { term, x, stride, start, y } = self;
        match term {
            Term::Value => panels(
                (s, x, stride, start, y),
                T::ZERO,
                #[inline(always)]
                |sum, x, _| sum + x,
            ),
            Term::Square => panels(
                (s, x, stride, start, y),
                T::ZERO,
                #[inline(always)]
                |sum, x, _| sum + x * x,
            ),
            Term::Max => panels(
                (s, x, stride, start, y),
                -T::INFINITY,
                #[inline(always)]
                |max, x, _| max.maximum(x),
            ),
            Term::Min => panels(
                (s, x, stride, start, y),
                T::INFINITY,
                #[inline(always)]
                |min, x, _| min.minimum(x),
            ),
            Term::Size => panels(
                (s, x, stride, start, y),
                T::ZERO,
                #[inline(always)]
                |sum, x, _| sum + x.abs(),
            ),
            Term::NonZero => panels(
                (s, x, stride, start, y),
                T::ZERO,
                #[inline(always)]
                |sum, x, _| sum + one_unless_zero::<T, S>(s, x),
            ),
            Term::Product => panels(
                (s, x, stride, start, y),
                T::ONE,
                #[inline(always)]
                |product, x, _| product * x,
            ),
            Term::MaxSize => panels(
                (s, x, stride, start, y),
                T::ZERO,
                #[inline(always)]
                |max, x, _| max.maximum(x.abs()),
            ),
            Term::Any => panels(
                (s, x, stride, start, y),
                T::ZERO,
                #[inline(always)]
                |any, x, _| any.max(one_unless_zero::<T, S>(s, x)),
            ),
            Term::All => panels(
                (s, x, stride, start, y),
                T::ONE,
                #[inline(always)]
                |all, x, _| all.min(one_unless_zero::<T, S>(s, x)),
            ),
            Term::Exponential { shift } => panels(
                (s, x, stride, start, y),
                T::ZERO,
                #[inline(always)]
                |sum, x, column| sum + T::exp(s, x - s.load_partial(&shift[column..])),
            ),
            Term::Deviation { spread, first } => {
                let scale = s.splat(spread.mean_scale);
                panels(
                    (s, x, stride, start, y),
                    T::ZERO,
                    #[inline(always)]
                    |sum, x, column| sum + deviation(x, scale, s.load_partial(&first[column..])),
                );
            }
            Term::Squared { spread, first, mean } => {
                let scale = s.splat(spread.scale);
                panels(
                    (s, x, stride, start, y),
                    T::ZERO,
                    #[inline(always)]
                    |sum, x, column| {
                        sum + squared(
                            x,
                            scale,
                            s.load_partial(&first[column..]),
                            s.load_partial(&mean[column..]),
                        )
                    },
                );
            }
        }
    }
}

/// `step(total, x, column)` down the columns, [`PANEL`] registers side by side.
///
/// Every term is compiled for every width of a panel, so there are only three: where columns do not fill the
/// last register, it is moved back over the columns of the one before, and a single register with too few
/// columns is masked. With few registers the latency of the additions counts, not their number.
#[inline(always)]
fn panels<T: Element, S: Simd>(
    (s, x, stride, start, y): (S, &[T], usize, usize, &mut [T]),
    first: T,
    step: impl Fn(T::Vector<S>, T::Vector<S>, usize) -> T::Vector<S> + Copy,
) {
    y.fill(first);
    let steps = if y.len() > PANEL * T::LANES { STEPS } else { ROW_BLOCK };
    assert!(start + y.len() <= stride);
    for x in x.chunks(steps * stride) {
        let (mut column, mut left, mut y) = (start, y.len(), y.as_mut_ptr());
        let rows = x.len() / stride;
        while left > 0 {
            let width = left.min(PANEL * T::LANES);
            let place = Place { x: x.as_ptr().wrapping_add(column), rows, stride, column, y, width };
            // SAFETY: so many columns are left in `y`, and in each of the rows, from `column` on.
            unsafe {
                if left > 2 * T::LANES {
                    panel::<T, S, PANEL>(s, place, step);
                } else if left >= T::LANES {
                    panel::<T, S, 2>(s, place, step);
                } else {
                    narrow_panel(s, place, step);
                }
            }
            y = y.wrapping_add(width);
            column += width;
            left -= width;
        }
    }
}

/// `width` columns from `column` on, of `rows` rows and of the totals.
struct Place<T> {
    x: *const T,
    rows: usize,
    stride: usize,
    column: usize,
    y: *mut T,
    width: usize,
}

/// A panel of `R` registers, at least half of them full. The others end at the last column: lanes that two
/// registers share compute the same result.
///
/// # Safety
/// The columns exist in `x` and `y`, and are at least half of `R` registers and at most all.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "iterators would be most of what is compiled")]
unsafe fn panel<T: Element, S: Simd, const R: usize>(
    s: S,
    Place { x: mut row, rows, stride, column, y, width }: Place<T>,
    step: impl Fn(T::Vector<S>, T::Vector<S>, usize) -> T::Vector<S>,
) {
    let mut places = [0; R];
    for j in 0..R {
        let place = j * T::LANES;
        places[j] = if j < R / 2 { place } else { place.min(width - T::LANES) };
    }
    let mut totals = [s.splat(T::ZERO); R];
    for j in 0..R {
        // SAFETY: the caller's promise.
        totals[j] = unsafe { T::Vector::load_ptr(s, y.add(places[j])) };
    }
    for _ in 0..rows {
        for j in 0..R {
            // SAFETY: the caller's promise.
            let x = unsafe { T::Vector::load_ptr(s, row.add(places[j])) };
            totals[j] = step(totals[j], x, column + places[j]);
        }
        row = row.wrapping_add(stride);
    }
    for j in 0..R {
        // SAFETY: the caller's promise.
        unsafe { totals[j].store_ptr(y.add(places[j])) };
    }
}

/// Fewer columns than a register has lanes.
///
/// # Safety
/// The columns exist in `x` and `y`.
#[inline(always)]
unsafe fn narrow_panel<T: Element, S: Simd>(
    s: S,
    Place { x: mut row, rows, stride, column, y, width }: Place<T>,
    step: impl Fn(T::Vector<S>, T::Vector<S>, usize) -> T::Vector<S>,
) {
    // SAFETY: the caller's promise.
    let mut total = unsafe { T::Vector::load_ptr_partial(s, y, width) };
    for _ in 0..rows {
        // SAFETY: the caller's promise.
        total = step(total, unsafe { T::Vector::load_ptr_partial(s, row, width) }, column);
        row = row.wrapping_add(stride);
    }
    // SAFETY: the caller's promise.
    unsafe { total.store_ptr_partial(y, width) };
}
