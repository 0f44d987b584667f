//! The passes that reductions are built from: the term of each element, summed along rows and down columns on
//! any number of threads.

mod columns;

pub(in crate::kernels) use columns::{ColumnPlaces, column_totals};

use crate::buffer::Scratch;
use crate::context::Settings;
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::{Element, Float, Kernel, Mask, Simd, slices};

/// Elements per parallel chunk, of a row or of rows: a power of two of summation blocks, so that
/// merging the sums of pieces in pairs is merging those of blocks in pairs.
pub(in crate::kernels) const CHUNK: usize = 16 * slices::BLOCK;
/// Rows that are added to one another before their sum is merged in pairs with other sums.
const ROW_BLOCK: usize = 128;
/// Rows that are added before the next panel's turn: they stay in the first cache, so that the panels of a
/// block read memory forwards. Measured on one core with AVX2: 128 rows of 1000 f32 take 9 µs with and 11 µs
/// without.
const STEPS: usize = 16;
/// Registers side by side in a pass down the columns: eight chains of additions with AVX2 hide their latency.
const PANEL: usize = 4;
/// Columns per parallel chunk.
pub(in crate::kernels) const STRIP: usize = 512;
/// Measured on one core with AVX2, from L2: `cargo bench --bench criterion -- reduce`.
const NANOSECONDS_PER_ELEMENT: f64 = 0.1;

/// Nanoseconds that one pass over `x` takes on one thread.
pub(in crate::kernels) fn work<T>(x: &[T]) -> usize {
    (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize
}

/// The powers of two that keep the sums of a variance in range, and the divisors that undo them.
///
/// Deviations are scaled by `scale` ≤ 1/√n, so that the sum of their squares is at most the variance; their
/// own sum is scaled by a further power ≤ 1/n. Scaling by powers of two does not round.
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
        let bits = n.checked_next_power_of_two().map_or(usize::BITS, usize::trailing_zeros) as i32;
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

/// What each element contributes to a result and how contributions are combined. `P` holds a parameter: one
/// number for a row, one for each column.
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

/// The result for one row, on as many threads as pay off.
pub(in crate::kernels) fn total<T: Element>(settings: Settings, term: Term<T, T>, x: &[T]) -> T {
    if x.len() <= CHUNK {
        let mut y = [T::ZERO];
        settings.simd.run(RowTotals { term, x, cols: x.len(), y: &mut y });
        return y[0];
    }
    let mut pieces = Scratch::new(x.len().div_ceil(CHUNK));
    row_totals(settings, term, x, CHUNK, &mut pieces);
    settings.simd.run(MergeRows { join: term.join(), rows: &mut pieces, cols: 1 });
    pieces[0]
}

/// `Σ a·b`, in the order of [`total`].
pub(in crate::kernels) fn dot<T: Element>(settings: Settings, a: &[T], b: &[T]) -> T {
    if a.len() <= CHUNK {
        return settings.simd.run(Dot { a, b });
    }
    let mut pieces = Scratch::new(a.len().div_ceil(CHUNK));
    let parts = (Rows(a, CHUNK), Rows(b, CHUNK), RowsMut::new(&mut pieces, 1));
    parallel::for_each(settings, parts, 2 * work(a), |(a, b, y)| y[0] = settings.simd.run(Dot { a, b }));
    settings.simd.run(MergeRows { join: Join::Add, rows: &mut pieces, cols: 1 });
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

/// The variance of one row, in two passes on as many threads as pay off.
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
    let chunk = (CHUNK / cols).max(1);
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

/// The index of the first largest or smallest element of each row, or of its first NaN.
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

/// How two results are combined.
#[derive(Clone, Copy)]
enum Join {
    Add,
    Multiply,
    Max,
    Min,
}

/// Joins all rows into the first: neighbours in pairs, then pairs of these, and so on.
struct MergeRows<'a, T> {
    join: Join,
    rows: &'a mut [T],
    cols: usize,
}

impl<T: Element> Kernel for MergeRows<'_, T> {
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
