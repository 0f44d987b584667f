//! Reductions of everything, by row and by column: sum, mean, largest, smallest, sum of squares, variance, argmax.
//!
//! Columns means: `x` is rows of `cols` elements, and the result has one element per column.
//!
//! **Rounding.** With u = 2⁻²⁴ (f32) or 2⁻⁵³ (f64), to first order:
//! * sums of n elements and sums by row: within `d·u·Σ|x|`, where `d = ⌈min(n, 4096)/(4·lanes)⌉ + 6 + ⌈log₂⌈n/4096⌉⌉`
//!   additions at the most lead from an element to the result (16 lanes of f32, 8 of f64): 78 additions for a million f32;
//! * sums by column: the same with `d = 128 + ⌈log₂ n⌉` for n rows, or `n` where that is less;
//! * a sum of squares and a mean: one rounding more;
//! * a variance: `(d + 7 + 2κ)·u` relative, with `κ = |x₀ − mean|/σ ≤ √n`, where x₀ is the first element (of the row,
//!   of the column) and σ² = Σ(x − mean)²/n; it does not grow with the mean. Where squares underflow, n times the
//!   smallest subnormal number is added. Nothing overflows unless the variance does.
//!
//! **Special values.** Sums and means are IEEE 754: a NaN, or infinities of both signs, give NaN. The largest and the
//! smallest of anything with a NaN are NaN. Which zero is the largest of −0 and +0 is not said. The variance of anything
//! with a NaN or an infinity is NaN; one that is too large for the type is +∞.
//! Of nothing, a sum is 0, a mean and a variance are NaN, and a largest, a smallest or its place is an error.

use super::{compiled_once, same_len, whole_rows};
use crate::buffer::Scratch;
use crate::context::{self, Settings};
use crate::error::{Error, Result};
use crate::parallel::{self, Indices, Rows, RowsMut};
use crate::simd::{Element, Float, Kernel, Mask, Simd, slices};

/// Elements of a row or of rows that one job takes at a time: a power of two of summation blocks, so that merging
/// the sums of pieces in pairs is merging those of blocks in pairs.
const PIECE: usize = 16 * slices::BLOCK;
/// Rows that are added to one another before their sum is merged in pairs with other sums.
const ROW_BLOCK: usize = 128;
/// Rows that are added before the next panel's turn: they stay in the first cache, so that the panels of a block read
/// memory forwards. Measured on one core with AVX2: 128 rows of 1000 f32 take 9 µs with and 11 µs without.
const STEPS: usize = 16;
/// Registers side by side in a pass down the columns: eight chains of additions with AVX2 hide their latency.
const PANEL: usize = 4;
/// Columns that one job takes at a time.
const STRIP: usize = 512;
/// Measured on one core with AVX2, from L2: `cargo bench --bench reduce`.
const NANOSECONDS_PER_ELEMENT: f64 = 0.1;

/// What many elements become.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reduce {
    /// `Σ x`.
    Sum,
    /// `Σ x / n`.
    Mean,
    /// The largest; NaN if any is NaN.
    Max,
    /// The smallest; NaN if any is NaN.
    Min,
    /// `Σ x²`.
    SumOfSquares,
}

impl Reduce {
    const fn name(self) -> &'static str {
        match self {
            Reduce::Sum => "sum",
            Reduce::Mean => "mean",
            Reduce::Max => "max",
            Reduce::Min => "min",
            Reduce::SumOfSquares => "sum_of_squares",
        }
    }

    const fn term<T, P>(self) -> Term<T, P> {
        match self {
            Reduce::Sum | Reduce::Mean => Term::Value,
            Reduce::SumOfSquares => Term::Square,
            Reduce::Max => Term::Max,
            Reduce::Min => Term::Min,
        }
    }

    /// The result for no elements.
    fn of_nothing<T: Element>(self) -> Result<T> {
        match self {
            Reduce::Sum | Reduce::SumOfSquares => Ok(T::ZERO),
            Reduce::Mean => Ok(T::NAN),
            Reduce::Max | Reduce::Min => Err(of_nothing(self.name())),
        }
    }

    /// Makes means of the sums of `count` elements.
    fn finish<T: Element>(self, count: usize, totals: &mut [T]) {
        if self == Reduce::Mean {
            let count = T::from_f64(count as f64);
            totals.iter_mut().for_each(|total| *total = *total / count);
        }
    }
}

fn of_nothing(op: &'static str) -> Error {
    Error::shape(op, "there are no elements to choose from")
}

compiled_once! {
    /// All elements of `x` become one.
    ///
    /// # Errors
    /// [`Error::Shape`] for the largest or the smallest of nothing.
    ///
    /// ```
    /// use gristmill::kernels::reduce::{self, Reduce};
    /// assert_eq!(reduce::all(Reduce::Mean, &[1.0_f32, 2.0, 6.0])?, 3.0);
    /// assert_eq!(reduce::all(Reduce::SumOfSquares, &[1.0_f32, 2.0, 6.0])?, 41.0);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn all<T: Element>(op: Reduce, x: &[T]) -> Result<T> {
        if x.is_empty() {
            return op.of_nothing();
        }
        let mut y = [total(context::settings()?, op.term(), x)];
        op.finish(x.len(), &mut y);
        Ok(y[0])
    }
}

compiled_once! {
    /// Each row of `cols` elements becomes one; `y` has one element per row.
    ///
    /// With `cols = 0`, `x` is empty and every element of `y` is the result for nothing.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` is not whole rows, when `y` has another length, for the largest or the smallest of nothing.
    ///
    /// ```
    /// use gristmill::kernels::reduce::{self, Reduce};
    /// let mut y = [0.0_f32; 2];
    /// reduce::rows(Reduce::Max, &[1.0, 5.0, 3.0, 4.0, 2.0, 0.0], 3, &mut y)?;
    /// assert_eq!(y, [5.0, 4.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn rows<T: Element>(op: Reduce, x: &[T], cols: usize, y: &mut [T]) -> Result<()> {
        check_rows(op.name(), x, cols, y)?;
        if x.is_empty() {
            return fill_with(y, || op.of_nothing());
        }
        let settings = context::settings()?;
        if cols <= PIECE {
            row_totals(settings, op.term(), x, cols, y);
        } else {
            for (x, y) in x.chunks_exact(cols).zip(&mut *y) {
                *y = total(settings, op.term(), x);
            }
        }
        op.finish(cols, y);
        Ok(())
    }
}

compiled_once! {
    /// Each of the `cols` columns becomes one element of `y`.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` is not whole rows, when `y` has not `cols` elements, for the largest or the smallest of no rows.
    ///
    /// ```
    /// use gristmill::kernels::reduce::{self, Reduce};
    /// let mut y = [0.0_f32; 3];
    /// reduce::cols(Reduce::Sum, &[1.0, 5.0, 3.0, 4.0, 2.0, 0.0], 3, &mut y)?;
    /// assert_eq!(y, [5.0, 7.0, 3.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn cols<T: Element>(op: Reduce, x: &[T], cols: usize, y: &mut [T]) -> Result<()> {
        let rows = whole_rows(op.name(), x, cols)?;
        same_len(op.name(), "y", y, cols)?;
        if x.is_empty() {
            return fill_with(y, || op.of_nothing());
        }
        column_totals(context::settings()?, op.term(), x, cols, y);
        op.finish(rows, y);
        Ok(())
    }
}

compiled_once! {
    /// The first index of the largest element; the first NaN is larger than all.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` is empty.
    ///
    /// ```
    /// use gristmill::kernels::reduce;
    /// assert_eq!(reduce::argmax(&[1.0, 7.0, 7.0])?, 1);
    /// assert_eq!(reduce::argmax(&[1.0, f32::NAN, f32::INFINITY])?, 1);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn argmax<T: Element>(x: &[T]) -> Result<usize> {
        if x.is_empty() {
            return Err(of_nothing("argmax"));
        }
        let settings = context::settings()?;
        let mut place = [0];
        if x.len() <= PIECE {
            settings.simd.run(RowArgmax { x, cols: x.len(), y: &mut place });
            return Ok(place[0]);
        }
        let mut largest = Scratch::new(x.len().div_ceil(PIECE));
        row_totals(settings, Term::Max, x, PIECE, &mut largest);
        settings.simd.run(RowArgmax { x: &largest, cols: largest.len(), y: &mut place });
        let start = place[0] * PIECE;
        let piece = &x[start..x.len().min(start + PIECE)];
        settings.simd.run(RowArgmax { x: piece, cols: piece.len(), y: &mut place });
        Ok(start + place[0])
    }
}

compiled_once! {
    /// [`argmax`] of each row of `cols` elements; `y` has one element per row.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` is not whole rows, when `y` has another length, when rows are empty.
    ///
    /// ```
    /// let mut y = [0; 2];
    /// gristmill::kernels::reduce::argmax_rows(&[1.0_f32, 5.0, 3.0, 4.0, 2.0, 0.0], 3, &mut y)?;
    /// assert_eq!(y, [1, 0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn argmax_rows<T: Element>(x: &[T], cols: usize, y: &mut [usize]) -> Result<()> {
        check_rows("argmax", x, cols, y)?;
        if x.is_empty() {
            return fill_with(y, || Err(of_nothing("argmax")));
        }
        let settings = context::settings()?;
        let chunk = (PIECE / cols).max(1);
        let parts = (Rows(x, chunk * cols), RowsMut::new(y, chunk));
        parallel::for_each(settings, parts, work(x), |(x, y)| settings.simd.run(RowArgmax { x, cols, y }));
        Ok(())
    }
}

compiled_once! {
    /// `Σ (x − mean)² / (n − correction)`: 0 for the variance of these numbers, 1 for the unbiased estimate of that of
    /// the population they were drawn from. NaN when `n <= correction`.
    ///
    /// Two passes over `x − x[0]`: right also where the mean is a million times the deviation, and for numbers of 1e30.
    ///
    /// # Errors
    /// None of its own.
    ///
    /// ```
    /// let x = [1e6_f32, 1e6 + 1.0, 1e6 + 2.0];
    /// assert_eq!(gristmill::kernels::reduce::variance_all(&x, 1)?, 1.0);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn variance_all<T: Element>(x: &[T], correction: usize) -> Result<T> {
        let Some(spread) = Spread::new(x.len(), correction) else { return Ok(T::NAN) };
        Ok(long_variance(context::settings()?, spread, x))
    }
}

compiled_once! {
    /// [`variance_all`] of each row of `cols` elements; `y` has one element per row.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` is not whole rows or `y` has another length.
    pub fn variance_rows<T: Element>(x: &[T], cols: usize, correction: usize, y: &mut [T]) -> Result<()> {
        check_rows("variance", x, cols, y)?;
        let Some(spread) = Spread::new(cols, correction) else { return fill_with(y, || Ok(T::NAN)) };
        let settings = context::settings()?;
        if cols <= PIECE {
            let chunk = (PIECE / cols).max(1);
            let parts = (Rows(x, chunk * cols), RowsMut::new(y, chunk));
            parallel::for_each(settings, parts, 2 * work(x), |(x, y)| {
                settings.simd.run(RowVariances { spread, x, cols, y });
            });
        } else {
            for (x, y) in x.chunks_exact(cols).zip(y) {
                *y = long_variance(settings, spread, x);
            }
        }
        Ok(())
    }
}

compiled_once! {
    /// [`variance_all`] of each of the `cols` columns, to `y` of `cols` elements.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` is not whole rows or `y` has not `cols` elements.
    pub fn variance_cols<T: Element>(x: &[T], cols: usize, correction: usize, y: &mut [T]) -> Result<()> {
        let rows = whole_rows("variance", x, cols)?;
        same_len("variance", "y", y, cols)?;
        let Some(spread) = Spread::new(rows, correction) else { return fill_with(y, || Ok(T::NAN)) };
        let settings = context::settings()?;
        let mut first = Scratch::new(cols);
        first.copy_from_slice(&x[..cols]);
        let mut mean = Scratch::new(cols);
        column_totals(settings, Term::Deviation { spread, first: &first }, x, cols, &mut mean);
        mean.iter_mut().for_each(|mean| *mean = spread.mean(*mean));
        column_totals(settings, Term::Squared { spread, first: &first, mean: &mean }, x, cols, y);
        y.iter_mut().for_each(|y| *y = spread.variance(*y));
        Ok(())
    }
}

/// An error unless `x` is whole rows of `cols` and `y` has one element for each; rows of nothing are as many as `y` has.
fn check_rows<T, Y>(op: &'static str, x: &[T], cols: usize, y: &[Y]) -> Result<()> {
    let rows = whole_rows(op, x, cols)?;
    if cols == 0 { Ok(()) } else { same_len(op, "y", y, rows) }
}

fn fill_with<Y: Copy>(y: &mut [Y], value: impl Fn() -> Result<Y>) -> Result<()> {
    if !y.is_empty() {
        y.fill(value()?);
    }
    Ok(())
}

/// Nanoseconds that one pass over `x` takes on one thread.
fn work<T>(x: &[T]) -> usize {
    (x.len() as f64 * NANOSECONDS_PER_ELEMENT) as usize
}

/// The powers of two that keep the sums of a variance in range, and the divisors that undo them.
///
/// Deviations are scaled by `scale` ≤ 1/√n, so that the sum of their squares is at most the variance; their own sum is
/// scaled by a further power ≤ 1/n. Scaling by powers of two does not round.
#[derive(Clone, Copy)]
struct Spread<T> {
    scale: T,
    mean_scale: T,
    mean_divisor: T,
    divisor: T,
}

impl<T: Element> Spread<T> {
    /// `None` when there is no variance of `n` elements.
    fn new(n: usize, correction: usize) -> Option<Self> {
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
    fn mean(self, sum: T) -> T {
        sum / self.mean_divisor
    }

    /// The variance from the sum of the squares of the scaled deviations from the mean.
    #[inline(always)]
    fn variance(self, squares: T) -> T {
        squares / self.divisor
    }
}

/// What each element contributes to a result and how contributions become one. `P` holds a parameter: one number
/// for a row, one for each column.
#[derive(Clone, Copy)]
enum Term<T, P> {
    /// `Σ x`.
    Value,
    /// `Σ x²`.
    Square,
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
            Term::Max => Join::Max,
            Term::Min => Join::Min,
            Term::Value | Term::Square | Term::Deviation { .. } | Term::Squared { .. } => Join::Add,
        }
    }
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
fn total<T: Element>(settings: Settings, term: Term<T, T>, x: &[T]) -> T {
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

/// The variance of one row, in two passes on as many threads as they are worth.
fn long_variance<T: Element>(settings: Settings, spread: Spread<T>, x: &[T]) -> T {
    let first = x[0];
    let mean = spread.mean(total(settings, Term::Deviation { spread, first }, x));
    spread.variance(total(settings, Term::Squared { spread, first, mean }, x))
}

/// The result for each row of `cols` elements, of which the last may be shorter.
fn row_totals<T: Element>(settings: Settings, term: Term<T, T>, x: &[T], cols: usize, y: &mut [T]) {
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
        Term::Deviation { spread, first } => {
            let (scale, first) = (s.splat(spread.mean_scale), s.splat(first));
            slices::sum(
                s,
                x,
                #[inline(always)]
                |x| deviation(x, scale, first),
            )
        }
        Term::Squared { spread, first, mean } => {
            let (scale, first, mean) = (s.splat(spread.scale), s.splat(first), s.splat(mean));
            slices::sum(
                s,
                x,
                #[inline(always)]
                |x| squared(x, scale, first, mean),
            )
        }
    }
}

/// Both passes of each row while it is in the cache.
struct RowVariances<'a, T> {
    spread: Spread<T>,
    x: &'a [T],
    cols: usize,
    y: &'a mut [T],
}

impl<T: Element> Kernel for RowVariances<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let spread = self.spread;
        for (x, y) in self.x.chunks_exact(self.cols).zip(self.y) {
            let first = x[0];
            let mean = spread.mean(row_total(s, Term::Deviation { spread, first }, x));
            *y = spread.variance(row_total(s, Term::Squared { spread, first, mean }, x));
        }
    }
}

struct RowArgmax<'a, T> {
    x: &'a [T],
    cols: usize,
    y: &'a mut [usize],
}

impl<T: Element> Kernel for RowArgmax<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (x, y) in self.x.chunks_exact(self.cols).zip(self.y) {
            let max = s.splat(slices::max(s, x));
            let place = slices::position(
                s,
                x,
                #[inline(always)]
                |x| x.eq(max).or(x.is_nan()),
            );
            *y = place.expect("the largest element, or a NaN, is one of the row");
        }
    }
}

/// The result for each column: passes down blocks of rows, whose results are merged in pairs.
///
/// Where a row is narrower than a panel, several side by side pass for one; the places of a column in such a wide row
/// are merged in pairs in the end.
fn column_totals<T: Element>(settings: Settings, term: Term<T, &[T]>, x: &[T], cols: usize, y: &mut [T]) {
    let fold = match term {
        Term::Deviation { .. } | Term::Squared { .. } => 1,
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
#[inline(always)]
fn panels<T: Element, S: Simd>(
    (s, x, stride, start, y): (S, &[T], usize, usize, &mut [T]),
    first: T,
    step: impl Fn(T::Vector<S>, T::Vector<S>, usize) -> T::Vector<S> + Copy,
) {
    y.fill(first);
    let steps = if y.len() > PANEL * T::LANES { STEPS } else { ROW_BLOCK };
    for x in x.chunks(steps * stride) {
        let mut column = start;
        let mut whole = y.chunks_exact_mut(PANEL * T::LANES);
        for y in &mut whole {
            panel::<T, S, PANEL, true>((s, x, stride, column, y), step);
            column += PANEL * T::LANES;
        }
        let y = whole.into_remainder();
        match y.len().div_ceil(T::LANES) {
            0 => {}
            1 => panel::<T, S, 1, false>((s, x, stride, column, y), step),
            2 => panel::<T, S, 2, false>((s, x, stride, column, y), step),
            3 => panel::<T, S, 3, false>((s, x, stride, column, y), step),
            _ => panel::<T, S, PANEL, false>((s, x, stride, column, y), step),
        }
    }
}

/// One panel of `R` registers, of which the last is not whole unless `WHOLE`.
#[inline(always)]
fn panel<T: Element, S: Simd, const R: usize, const WHOLE: bool>(
    (s, x, stride, column, y): (S, &[T], usize, usize, &mut [T]),
    step: impl Fn(T::Vector<S>, T::Vector<S>, usize) -> T::Vector<S>,
) {
    let width = if WHOLE { R * T::LANES } else { y.len() };
    let mut totals: [T::Vector<S>; R] = std::array::from_fn(
        #[inline(always)]
        |j| load::<T, S>(s, &y[j * T::LANES..], WHOLE || j + 1 < R),
    );
    for row in x.chunks_exact(stride) {
        let row = &row[column..column + width];
        for (j, total) in totals.iter_mut().enumerate() {
            *total = step(
                *total,
                load::<T, S>(s, &row[j * T::LANES..], WHOLE || j + 1 < R),
                column + j * T::LANES,
            );
        }
    }
    for (total, y) in totals.into_iter().zip(y.chunks_mut(T::LANES)) {
        if WHOLE { s.store(total, y) } else { s.store_partial(total, y) }
    }
}

#[inline(always)]
fn load<T: Element, S: Simd>(s: S, from: &[T], whole: bool) -> T::Vector<S> {
    if whole { s.load(from) } else { s.load_partial(from) }
}

/// How two results become one.
#[derive(Clone, Copy)]
enum Join {
    Add,
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
