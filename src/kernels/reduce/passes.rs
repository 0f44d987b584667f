//! The passes under the reductions: what an element contributes, by row on any number of threads, down the columns.

use crate::buffer::Scratch;
use crate::context::Settings;
use crate::parallel::{self, Indices, Rows, RowsMut};
use crate::simd::{Element, Float, Kernel, Mask, Simd, slices};

/// Elements of a row or of rows that one job takes at a time: a power of two of summation blocks, so that merging
/// the sums of pieces in pairs is merging those of blocks in pairs.
pub(in crate::kernels) const PIECE: usize = 16 * slices::BLOCK;
/// Rows that are added to one another before their sum is merged in pairs with other sums.
const ROW_BLOCK: usize = 128;
/// Rows that are added before the next panel's turn: they stay in the first cache, so that the panels of a block read
/// memory forwards. Measured on one core with AVX2: 128 rows of 1000 f32 take 9 µs with and 11 µs without.
const STEPS: usize = 16;
/// Registers side by side in a pass down the columns: eight chains of additions with AVX2 hide their latency.
const PANEL: usize = 4;
/// Columns that one job takes at a time.
pub(in crate::kernels) const STRIP: usize = 512;
/// Measured on one core with AVX2, from L2: `cargo bench --bench criterion -- reduce`.
const NANOSECONDS_PER_ELEMENT: f64 = 0.1;

/// Nanoseconds that one pass over `x` takes on one thread.
pub(in crate::kernels) fn work<T>(x: &[T]) -> usize {
    (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize
}

/// The powers of two that keep the sums of a variance in range, and the divisors that undo them.
///
/// Deviations are scaled by `scale` ≤ 1/√n, so that the sum of their squares is at most the variance; their own sum is
/// scaled by a further power ≤ 1/n. Scaling by powers of two does not round.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Spread<T> {
    scale: T,
    mean_scale: T,
    mean_divisor: T,
    divisor: T,
}

impl<T: Element> Spread<T> {
    /// `None` when there is no variance of `n` elements.
    pub(in crate::kernels) fn new(n: usize, correction: usize) -> Option<Self> {
        let divisor = n.checked_sub(correction).filter(|&divisor| divisor > 0)?;
        let bits = n.next_power_of_two().trailing_zeros() as i32;
        let nth = 0.5_f64.powi(bits);
        let scale = 0.5_f64.powi((bits + 1) / 2);
        Some(Self {
            scale: T::from_f64(scale),
            mean_scale: T::from_f64(scale * nth),
            mean_divisor: T::from_f64(n as f64 * nth),
            divisor: T::from_f64(divisor as f64 * scale * scale),
        })
    }

    /// The mean of the scaled deviations from the first element, from their sum.
    #[inline(always)]
    pub(in crate::kernels) fn mean(self, sum: T) -> T {
        sum / self.mean_divisor
    }

    /// The variance from the sum of the squares of the scaled deviations from the mean.
    #[inline(always)]
    pub(in crate::kernels) fn variance(self, squares: T) -> T {
        squares / self.divisor
    }
}

/// What each element contributes to a result and how contributions become one. `P` holds a parameter: one number
/// for a row, one for each column.
#[derive(Clone, Copy)]
pub(in crate::kernels) enum Term<T, P> {
    /// `Σ x`.
    Value,
    /// `Σ x²`.
    Square,
    /// `Σ |x|`.
    Size,
    /// `Σ 1` of what is not 0.
    NonZero,
    /// `Π x`.
    Product,
    /// The largest magnitude.
    MaxSize,
    /// 1 if any is not 0, else 0.
    Any,
    /// 0 if any is 0, else 1.
    All,
    /// `Σ exp(x − shift)`.
    Exponential {
        /// What keeps it in range.
        shift: P,
    },
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// `Σ (x − first)`, scaled.
    Deviation { spread: Spread<T>, first: P },
    /// `Σ ((x − first) − mean)²`, scaled.
    Squared { spread: Spread<T>, first: P, mean: P },
}

impl<T, P> Term<T, P> {
    const fn join(&self) -> Join {
        match self {
            Term::Max | Term::MaxSize | Term::Any => Join::Max,
            Term::Min | Term::All => Join::Min,
            Term::Product => Join::Multiply,
            Term::Value | Term::Square | Term::Size | Term::NonZero | Term::Exponential { .. } => Join::Add,
            Term::Deviation { .. } | Term::Squared { .. } => Join::Add,
        }
    }
}

/// 0 where x is ±0, else 1, also where x is NaN.
#[inline(always)]
fn one_unless_zero<T: Element, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    T::Vector::select(x.eq(s.splat(T::ZERO)), s.splat(T::ZERO), s.splat(T::ONE))
}

/// `(x − first)·scale`, rounded once; neither product overflows where the result does not.
#[inline(always)]
fn deviation<S: Simd, V: Float<S>>(x: V, scale: V, first: V) -> V {
    x.mul_sub(scale, first * scale)
}

/// `((x − first)·scale − mean)²`.
#[inline(always)]
fn squared<S: Simd, V: Float<S>>(x: V, scale: V, first: V, mean: V) -> V {
    let deviation = deviation(x, scale, first) - mean;
    deviation * deviation
}

/// The result for one row, on as many threads as it is worth.
pub(in crate::kernels) fn total<T: Element>(settings: Settings, term: Term<T, T>, x: &[T]) -> T {
    if x.len() <= PIECE {
        let mut y = [T::ZERO];
        settings.simd.run(RowTotals { term, x, cols: x.len(), y: &mut y });
        return y[0];
    }
    let mut pieces = Scratch::new(x.len().div_ceil(PIECE));
    row_totals(settings, term, x, PIECE, &mut pieces);
    settings.simd.run(Merge { join: term.join(), rows: &mut pieces, cols: 1 });
    pieces[0]
}

/// `Σ a·b`, in the order of [`total`].
pub(in crate::kernels) fn dot<T: Element>(settings: Settings, a: &[T], b: &[T]) -> T {
    if a.len() <= PIECE {
        return settings.simd.run(Dot { a, b });
    }
    let mut pieces = Scratch::new(a.len().div_ceil(PIECE));
    let parts = (Rows(a, PIECE), Rows(b, PIECE), RowsMut::new(&mut pieces, 1));
    parallel::for_each(settings, parts, 2 * work(a), |(a, b, y)| y[0] = settings.simd.run(Dot { a, b }));
    settings.simd.run(Merge { join: Join::Add, rows: &mut pieces, cols: 1 });
    pieces[0]
}

struct Dot<'a, T> {
    a: &'a [T],
    b: &'a [T],
}

impl<T: Element> Kernel for Dot<'_, T> {
    type Output = T;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> T {
        slices::sum2(
            s,
            self.a,
            self.b,
            #[inline(always)]
            |a, b| a * b,
        )
    }
}

/// The variance of one row, in two passes on as many threads as they are worth.
pub(in crate::kernels) fn long_variance<T: Element>(settings: Settings, spread: Spread<T>, x: &[T]) -> T {
    let first = x[0];
    let mean = spread.mean(total(settings, Term::Deviation { spread, first }, x));
    spread.variance(total(settings, Term::Squared { spread, first, mean }, x))
}

/// The result for each row of `cols` elements, of which the last may be shorter.
pub(in crate::kernels) fn row_totals<T: Element>(
    settings: Settings,
    term: Term<T, T>,
    x: &[T],
    cols: usize,
    y: &mut [T],
) {
    let chunk = (PIECE / cols).max(1);
    let parts = (Rows(x, chunk * cols), RowsMut::new(y, chunk));
    parallel::for_each(settings, parts, work(x), |(x, y)| settings.simd.run(RowTotals { term, x, cols, y }));
}

struct RowTotals<'a, T> {
    term: Term<T, T>,
    x: &'a [T],
    cols: usize,
    y: &'a mut [T],
}

impl<T: Element> Kernel for RowTotals<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (x, y) in self.x.chunks(self.cols).zip(self.y) {
            *y = row_total(s, self.term, x);
        }
    }
}

#[inline(always)]
fn row_total<T: Element, S: Simd>(s: S, term: Term<T, T>, x: &[T]) -> T {
    match term {
        Term::Max => slices::max(s, x),
        Term::Min => slices::min(s, x),
        Term::Value => slices::sum(
            s,
            x,
            #[inline(always)]
            |x| x,
        ),
        Term::Square => slices::sum(
            s,
            x,
            #[inline(always)]
            |x| x * x,
        ),
        Term::Size => slices::sum(
            s,
            x,
            #[inline(always)]
            |x| x.abs(),
        ),
        Term::NonZero => slices::sum(
            s,
            x,
            #[inline(always)]
            |x| one_unless_zero::<T, S>(s, x),
        ),
        Term::Product => slices::product(s, x),
        Term::MaxSize => slices::max_size(s, x),
        Term::Any | Term::All => {
            let any = matches!(term, Term::Any);
            let zero = s.splat(T::ZERO);
            let place = slices::position(
                s,
                x,
                #[inline(always)]
                |x| if any { x.eq(zero).not() } else { x.eq(zero) },
            );
            if place.is_some() == any { T::ONE } else { T::ZERO }
        }
        Term::Exponential { shift } => {
            let shift = s.splat(shift);
            slices::sum(
                s,
                x,
                #[inline(always)]
                |x| T::exp(s, x - shift),
            )
        }
        Term::Deviation { spread, first } => deviations(s, spread, first, x),
        Term::Squared { spread, first, mean } => squares(s, spread, [first, mean], x),
    }
}

/// [`Term::Deviation`] of a row.
#[inline(always)]
fn deviations<T: Element, S: Simd>(s: S, spread: Spread<T>, first: T, x: &[T]) -> T {
    let (scale, first) = (s.splat(spread.mean_scale), s.splat(first));
    slices::sum(
        s,
        x,
        #[inline(always)]
        |x| deviation(x, scale, first),
    )
}

/// [`Term::Squared`] of a row.
#[inline(always)]
fn squares<T: Element, S: Simd>(s: S, spread: Spread<T>, [first, mean]: [T; 2], x: &[T]) -> T {
    let (scale, first, mean) = (s.splat(spread.scale), s.splat(first), s.splat(mean));
    slices::sum(
        s,
        x,
        #[inline(always)]
        |x| squared(x, scale, first, mean),
    )
}

/// Both passes of each row while it is in the cache.
pub(in crate::kernels) struct RowVariances<'a, T> {
    pub spread: Spread<T>,
    pub x: &'a [T],
    pub cols: usize,
    pub y: &'a mut [T],
}

impl<T: Element> Kernel for RowVariances<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let spread = self.spread;
        for (x, y) in self.x.chunks_exact(self.cols).zip(self.y) {
            let first = x[0];
            let mean = spread.mean(deviations(s, spread, first, x));
            *y = spread.variance(squares(s, spread, [first, mean], x));
        }
    }
}

/// The first place of the largest or the smallest element of each row, or of its first NaN.
pub(in crate::kernels) struct RowPlaces<'a, T> {
    pub extreme: Extreme,
    pub x: &'a [T],
    pub cols: usize,
    pub y: &'a mut [usize],
}

/// Which element is looked for.
#[derive(Clone, Copy)]
pub(in crate::kernels) enum Extreme {
    Largest,
    Smallest,
}

impl Extreme {
    pub(in crate::kernels) const fn term<T, P>(self) -> Term<T, P> {
        match self {
            Extreme::Largest => Term::Max,
            Extreme::Smallest => Term::Min,
        }
    }
}

impl<T: Element> Kernel for RowPlaces<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (x, y) in self.x.chunks_exact(self.cols).zip(self.y) {
            let extreme = s.splat(match self.extreme {
                Extreme::Largest => slices::max(s, x),
                Extreme::Smallest => slices::min(s, x),
            });
            let place = slices::position(
                s,
                x,
                #[inline(always)]
                |x| x.eq(extreme).or(x.is_nan()),
            );
            *y = place.expect("the extreme element, or a NaN, is one of the row");
        }
    }
}

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
                    // Lanes behind the last column are 0 on both sides.
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
/// Where a row is narrower than a panel, several side by side pass for one; the places of a column in such a wide row
/// are merged in pairs in the end.
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
        settings.simd.run(Merge { join, rows: strip, cols: width });
        if fold == 1 {
            y.copy_from_slice(&strip[..y.len()]);
        }
    }
    if fold > 1 {
        let totals = &mut totals[..wide + rest.len()];
        if !rest.is_empty() {
            down(rest, rest.len(), 0, &mut totals[wide..]);
        }
        settings.simd.run(Merge { join, rows: totals, cols });
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
/// Every width of a panel compiles every term again, so that there are three: where columns do not fill the
/// last register it is moved back over those of the one before, and where one register has too few columns it
/// is masked. Down a few registers it is the additions' latency that counts, not their number.
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

/// `width` columns from `column` on: so many `rows`, and one of totals.
struct Place<T> {
    x: *const T,
    rows: usize,
    stride: usize,
    column: usize,
    y: *mut T,
    width: usize,
}

/// A panel of `R` registers, at least half of them full. Those that columns do not fill lie flush with the
/// last column: in lanes that two have in common both compute the same.
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

/// How two results become one.
#[derive(Clone, Copy)]
enum Join {
    Add,
    Multiply,
    Max,
    Min,
}

/// All rows become one, the first: neighbours are joined, then neighbours of these, and so on.
struct Merge<'a, T> {
    join: Join,
    rows: &'a mut [T],
    cols: usize,
}

impl<T: Element> Kernel for Merge<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { join, rows, cols } = self;
        match join {
            Join::Add => in_pairs(
                rows,
                cols,
                #[inline(always)]
                |a, b| a + b,
            ),
            Join::Multiply => in_pairs(
                rows,
                cols,
                #[inline(always)]
                |a, b| a * b,
            ),
            Join::Max => in_pairs(
                rows,
                cols,
                #[inline(always)]
                |a, b| if a > b || a.is_nan() { a } else { b },
            ),
            Join::Min => in_pairs(
                rows,
                cols,
                #[inline(always)]
                |a, b| if a < b || a.is_nan() { a } else { b },
            ),
        }
    }
}

#[inline(always)]
fn in_pairs<T: Element>(rows: &mut [T], cols: usize, join: impl Fn(T, T) -> T) {
    let mut span = cols;
    while span < rows.len() {
        for pair in rows.chunks_mut(2 * span).filter(|pair| pair.len() > span) {
            let (left, right) = pair.split_at_mut(span);
            for (a, b) in left[..cols].iter_mut().zip(&right[..right.len().min(cols)]) {
                *a = join(*a, *b);
            }
        }
        span *= 2;
    }
}
