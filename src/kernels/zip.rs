//! Elementwise functions of one, two or three operands that are broadcast to `rows × cols` elements: matrices
//! with a row stride, rows, columns and numbers, read without a copy. The result is contiguous.
//!
//! Results are bit-identical to those of [`map`](super::map), however the operands are laid out. Among the
//! functions of three arguments, `a·b + c` and both halves of `lerp` are each one fused multiply-add (after
//! the differences of `lerp`).

use super::map::{Binary, Unary, pair, with_function};
use super::{Operand as _, compiled_once, lengths};
use crate::context::{self, Settings};
use crate::error::{Error, Result};
use crate::parallel::{self, Indices, RowsMut};
use crate::simd::{Element, Float, Kernel, Simd};

/// An operand of an elementwise function of `rows × cols` elements.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a, T> {
    /// Row i begins at element `i·stride` of the data; its elements are contiguous. With a stride of `cols`
    /// there are no gaps, with a stride of 0 all rows are the same.
    Matrix(&'a [T], usize),
    /// `cols` elements, the same in each row.
    Row(&'a [T]),
    /// `rows` elements, each repeated along its row.
    Column(&'a [T]),
    /// One number for all elements.
    Scalar(T),
}

/// A function of three arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ternary {
    /// a·b + c, rounded once where the instruction set has fused multiply-add.
    MulAdd,
    /// From a to b by the weight c: `a + c·(b − a)`, or `b − (b − a)·(1 − c)` for c ≥ ½, as in PyTorch:
    /// exactly a and b at the ends.
    Lerp,
    /// b where a is not 0 (NaN is not), else c; exact.
    Where,
}

/// A row of an operand.
#[derive(Clone, Copy)]
enum OperandRow<'a, T> {
    Slice(&'a [T]),
    Number(T),
}

impl<'a, T: Element> Operand<'a, T> {
    fn check(&self, op: &'static str, name: &str, [rows, cols]: [usize; 2]) -> Result<()> {
        let wrong = |what: String| Err(Error::shape(op, format!("{name} {what}, expected {rows}×{cols}")));
        match *self {
            _ if rows == 0 || cols == 0 => Ok(()),
            Operand::Matrix(data, stride) => {
                // The last row needs no gap behind it.
                let end = (rows - 1).checked_mul(stride).and_then(|start| start.checked_add(cols));
                if end.is_some_and(|end| end <= data.len()) {
                    return Ok(());
                }
                wrong(format!("has {} elements with a row stride of {stride}", data.len()))
            }
            Operand::Row(row) if row.len() != cols => wrong(format!("is a row of {}", row.len())),
            Operand::Column(col) if col.len() != rows => wrong(format!("is a column of {}", col.len())),
            _ => Ok(()),
        }
    }

    #[inline(always)]
    fn row(self, i: usize, cols: usize) -> OperandRow<'a, T> {
        match self {
            Operand::Matrix(data, stride) => OperandRow::Slice(&data[i * stride..i * stride + cols]),
            Operand::Row(row) => OperandRow::Slice(row),
            Operand::Column(col) => OperandRow::Number(col[i]),
            Operand::Scalar(x) => OperandRow::Number(x),
        }
    }
}

fn elements(op: &'static str, [rows, cols]: [usize; 2]) -> Result<usize> {
    rows.checked_mul(cols).ok_or_else(|| Error::shape(op, format!("{rows}×{cols} elements are too many")))
}

/// `y[i, j] = f(x[i, j])`.
///
/// # Errors
/// [`Error::Shape`] when the operand does not have, or `y` is not, `shape[0] × shape[1]` elements.
///
/// ```
/// use gristmill::kernels::{map::Unary, zip::{self, Operand}};
/// // The first two columns of three.
/// let mut y = [0.0_f32; 4];
/// zip::unary(Unary::Square, Operand::Matrix(&[1.0, 2.0, 9.0, 3.0, 4.0], 3), [2, 2], &mut y)?;
/// assert_eq!(y, [1.0, 4.0, 9.0, 16.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn unary<T: Element>(op: Unary<T>, x: Operand<'_, T>, shape: [usize; 2], y: &mut [T]) -> Result<()> {
    compiled_once!("zip::unary", |op: Unary<T>,
                                  x: Operand<'_, T>,
                                  shape: [usize; 2],
                                  y: &mut [T]|
     -> Result<()> {
        lengths!("unary", y == elements("unary", shape)?);
        x.check("unary", "x", shape)?;
        let (settings, cols) = (context::settings()?, shape[1]);
        with_function(op, &mut |f| {
            by_row(settings, f.forward_cost(), cols, y, &|i, y| match x.row(i, cols) {
                OperandRow::Slice(x) => f.forward(settings.simd, x, y),
                OperandRow::Number(x) => {
                    let mut value = [x];
                    f.forward_in_place(settings.simd, &mut value);
                    y.fill(value[0]);
                }
            });
        });
        Ok(())
    })
}

/// `y[i, j] = a[i, j] op b[i, j]`.
///
/// # Errors
/// [`Error::Shape`] when an operand does not have, or `y` is not, `shape[0] × shape[1]` elements.
///
/// ```
/// use gristmill::kernels::{map::Binary, zip::{self, Operand}};
/// let mut y = [0.0_f32; 4];
/// zip::binary(Binary::Add, Operand::Column(&[10.0, 20.0]), Operand::Row(&[1.0, 2.0]), [2, 2], &mut y)?;
/// assert_eq!(y, [11.0, 12.0, 21.0, 22.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn binary<T: Element>(
    op: Binary,
    a: Operand<'_, T>,
    b: Operand<'_, T>,
    shape: [usize; 2],
    y: &mut [T],
) -> Result<()> {
    compiled_once!("zip::binary", |op: Binary,
                                   a: Operand<'_, T>,
                                   b: Operand<'_, T>,
                                   shape: [usize; 2],
                                   y: &mut [T]|
     -> Result<()> {
        lengths!("binary", y == elements("binary", shape)?);
        a.check("binary", "a", shape)?;
        b.check("binary", "b", shape)?;
        let (settings, f, cols) = (context::settings()?, pair::<T>(op), shape[1]);
        by_row(settings, f.cost(), cols, y, &|i, y| match (a.row(i, cols), b.row(i, cols)) {
            (OperandRow::Slice(a), OperandRow::Slice(b)) => f.with_row(settings.simd, a, b, y),
            (OperandRow::Slice(a), OperandRow::Number(b)) => f.with_column(settings.simd, a, &[b], cols, y),
            (OperandRow::Number(a), OperandRow::Slice(b)) => f.with_number(settings.simd, a, b, y),
            (OperandRow::Number(a), OperandRow::Number(b)) => {
                let mut value = [T::ZERO];
                f.with_number(settings.simd, a, &[b], &mut value);
                y.fill(value[0]);
            }
        });
        Ok(())
    })
}

/// Nanoseconds per f32 of a function of three arguments. Measured on one core with AVX2:
/// `cargo bench --bench criterion -- 'map/(mul_add|lerp)'`.
const TERNARY_COST: f64 = 0.3;
/// Elements per parallel chunk, in whole rows.
const CHUNK: usize = 4 * 1024;

/// `work(i, row i of y)` for every row of `cols` elements.
fn by_row<T: Element>(
    settings: Settings,
    cost: f64,
    cols: usize,
    y: &mut [T],
    work: &(dyn Fn(usize, &mut [T]) + Sync),
) {
    if y.is_empty() {
        return;
    }
    let nanoseconds = (y.len() as f64 * cost * 16.0 / T::LANES as f64) as usize;
    let rows = (CHUNK / cols).max(1);
    let chunks = (y.len() / cols).div_ceil(rows);
    let parts = (Indices(chunks), RowsMut::new(y, rows * cols));
    parallel::for_each(settings, parts, nanoseconds, |(chunk, y)| {
        for (i, y) in y.chunks_exact_mut(cols).enumerate() {
            work(chunk * rows + i, y);
        }
    });
}

/// `y[i, j] = f(a[i, j], b[i, j], c[i, j])`.
///
/// # Errors
/// [`Error::Shape`] when an operand does not have, or `y` is not, `shape[0] × shape[1]` elements.
///
/// ```
/// use gristmill::kernels::zip::{self, Operand, Ternary};
/// let mut y = [0.0_f32; 3];
/// let (a, b) = (Operand::Row(&[1.0, 2.0, 3.0]), Operand::Scalar(10.0));
/// zip::ternary(Ternary::MulAdd, [a, b, Operand::Scalar(1.0)], [1, 3], &mut y)?;
/// assert_eq!(y, [11.0, 21.0, 31.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn ternary<T: Element>(
    op: Ternary,
    abc: [Operand<'_, T>; 3],
    shape: [usize; 2],
    y: &mut [T],
) -> Result<()> {
    compiled_once!("zip::ternary", |op: Ternary,
                                    abc: [Operand<'_, T>; 3],
                                    shape: [usize; 2],
                                    y: &mut [T]|
     -> Result<()> {
        lengths!("ternary", y == elements("ternary", shape)?);
        for (operand, name) in abc.iter().zip(["a", "b", "c"]) {
            operand.check("ternary", name, shape)?;
        }
        let settings = context::settings()?;
        by_row(settings, TERNARY_COST, shape[1], y, &|i, y| {
            let [a, b, c] = abc.map(|operand| operand.row(i, shape[1]));
            settings.simd.run(ThreeToOne { op, abc: [Some(a), Some(b), Some(c)], y });
        });
        Ok(())
    })
}

/// `a[i, j] = f(a[i, j], b[i, j], c[i, j])`, where `a` has no gaps.
///
/// # Errors
/// [`Error::Shape`] when an operand does not have, or `a` is not, `shape[0] × shape[1]` elements.
///
/// ```
/// use gristmill::kernels::zip::{self, Operand, Ternary};
/// // An average that moves a tenth of the way.
/// let mut average = [1.0_f32, 2.0];
/// let target = [Operand::Row(&[1.0, 12.0]), Operand::Scalar(0.1)];
/// zip::ternary_in_place(Ternary::Lerp, &mut average, target, [1, 2])?;
/// assert_eq!(average, [1.0, 3.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn ternary_in_place<T: Element>(
    op: Ternary,
    a: &mut [T],
    bc: [Operand<'_, T>; 2],
    shape: [usize; 2],
) -> Result<()> {
    compiled_once!("zip::ternary_in_place", |op: Ternary,
                                             a: &mut [T],
                                             bc: [Operand<'_, T>; 2],
                                             shape: [usize; 2]|
     -> Result<()> {
        lengths!("ternary_in_place", a == elements("ternary_in_place", shape)?);
        for (operand, name) in bc.iter().zip(["b", "c"]) {
            operand.check("ternary_in_place", name, shape)?;
        }
        let settings = context::settings()?;
        by_row(settings, TERNARY_COST, shape[1], a, &|i, y| {
            let [b, c] = bc.map(|operand| operand.row(i, shape[1]));
            settings.simd.run(ThreeToOne { op, abc: [None, Some(b), Some(c)], y });
        });
        Ok(())
    })
}

/// One row; an operand that is `None` is the row of `y` itself.
struct ThreeToOne<'a, T> {
    op: Ternary,
    abc: [Option<OperandRow<'a, T>>; 3],
    y: &'a mut [T],
}

impl<T: Element> Kernel for ThreeToOne<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { op, abc, y } = self;
        let numbers = abc.map(|part| part.map_or([T::ZERO; LANES], OperandRow::number));
        let [a, b, c] = [0, 1, 2].map(|i| abc[i].map(|part| Line::of(part, &numbers[i])));
        match op {
            Ternary::MulAdd => each(
                s,
                [a, b, c],
                y,
                #[inline(always)]
                |[a, b, c]| a.mul_add(b, c),
            ),
            Ternary::Lerp => {
                let (half, one) = (s.splat(T::from_f64(0.5)), s.splat(T::ONE));
                each(
                    s,
                    [a, b, c],
                    y,
                    #[inline(always)]
                    |[a, b, c]| {
                        let (difference, rest) = (b - a, one - c);
                        let (near_a, near_b) = (c.mul_add(difference, a), difference.neg_mul_add(rest, b));
                        T::Vector::select(c.lt(half), near_a, near_b)
                    },
                );
            }
            Ternary::Where => {
                let zero = s.splat(T::ZERO);
                each(
                    s,
                    [a, b, c],
                    y,
                    #[inline(always)]
                    |[a, b, c]| T::Vector::select(a.eq(zero), c, b),
                );
            }
        }
    }
}

/// The most lanes that a register has.
const LANES: usize = 16;

impl<T: Element> OperandRow<'_, T> {
    /// A register's worth of the number, or of zeros.
    #[inline(always)]
    fn number(self) -> [T; LANES] {
        match self {
            OperandRow::Number(x) => [x; LANES],
            OperandRow::Slice(_) => [T::ZERO; LANES],
        }
    }
}

/// A row that is read register by register, or a register's worth of one number that is read repeatedly:
/// without a branch, for which the compiler would emit a loop for each combination of three operands.
#[derive(Clone, Copy)]
struct Line<'a, T> {
    data: &'a [T],
    /// All ones for a row, 0 for a number.
    mask: usize,
}

impl<'a, T: Element> Line<'a, T> {
    #[inline(always)]
    fn of(part: OperandRow<'a, T>, number: &'a [T; LANES]) -> Self {
        match part {
            OperandRow::Slice(data) => Self { data, mask: usize::MAX },
            OperandRow::Number(_) => Self { data: number, mask: 0 },
        }
    }

    #[inline(always)]
    fn load<S: Simd>(self, s: S, at: usize, count: usize) -> T::Vector<S> {
        let from = &self.data[at & self.mask..][..count];
        if count == T::LANES { s.load(from) } else { s.load_partial(from) }
    }
}

/// `y[i] = f(x[0][i], x[1][i], …)`, where a line that is `None` is `y` itself.
#[inline(always)]
fn each<T: Element, S: Simd, const N: usize>(
    s: S,
    lines: [Option<Line<'_, T>>; N],
    y: &mut [T],
    f: impl Fn([T::Vector<S>; N]) -> T::Vector<S>,
) {
    let mut at = 0;
    while at < y.len() {
        let count = (y.len() - at).min(T::LANES);
        let y = &mut y[at..at + count];
        let here = Line { data: &*y, mask: 0 };
        // A loop, since the closure of `map` on an array may stay a function of its own, which lacks the
        // instructions.
        let mut values = [s.splat(T::ZERO); N];
        for (value, line) in values.iter_mut().zip(lines) {
            *value = match line {
                Some(line) => line.load(s, at, count),
                None => here.load(s, 0, count),
            };
        }
        let value = f(values);
        if count == T::LANES {
            s.store(value, y)
        } else {
            s.store_partial(value, y)
        }
        at += count;
    }
}

/// The gradients of the operands of [`ternary`], each of `shape[0] × shape[1]` elements; that of a row, a
/// column or a number is still to be summed over the elements that share it.
///
/// `a·b + c`: `dy·b`, `dy·a`, `dy`. Lerp: `dy·(1 − c)`, `dy·c`, `dy·(b − a)`, as long as the differences
/// do not overflow. Where: 0, and `dy` for the one that was chosen.
#[derive(Debug)]
pub struct TernaryBackward<'a, T> {
    /// Which function.
    pub op: Ternary,
    /// Its operands.
    pub abc: [Operand<'a, T>; 3],
    /// The gradient of the result, `shape[0] × shape[1]` elements.
    pub dy: &'a [T],
    /// Rows and columns of the result.
    pub shape: [usize; 2],
    /// Outputs of `shape[0] × shape[1]` elements each; `None` for those that are not wanted.
    pub gradients: [Option<&'a mut [T]>; 3],
}

impl<T: Element> TernaryBackward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`] when an operand does not have, or an array is not, `shape[0] × shape[1]` elements.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("zip::ternary_backward", |call: TernaryBackward<'_, T>| -> Result<()> {
            let TernaryBackward { op, abc, dy, shape, gradients } = call;
            const NAME: &str = "ternary_backward";
            let (settings, len, [_, cols]) = (context::settings()?, elements(NAME, shape)?, shape);
            lengths!(NAME, dy == len);
            for (operand, name) in abc.iter().zip(["a", "b", "c"]) {
                operand.check(NAME, name, shape)?;
            }
            for (gradient, name) in gradients.iter().zip(["da", "db", "dc"]) {
                gradient.expect_len(NAME, name, len)?;
            }
            for (n, gradient) in gradients.into_iter().enumerate() {
                let Some(gradient) = gradient else { continue };
                by_row(settings, TERNARY_COST, cols, gradient, &|i, to| {
                    let abc = abc.map(|operand| operand.row(i, cols));
                    let dy = &dy[i * cols..(i + 1) * cols];
                    settings.simd.run(OneOfThree { op, n, abc, dy, to });
                });
            }
            Ok(())
        })
    }
}

/// The gradient of operand `n`.
struct OneOfThree<'a, T> {
    op: Ternary,
    n: usize,
    abc: [OperandRow<'a, T>; 3],
    dy: &'a [T],
    to: &'a mut [T],
}

impl<T: Element> Kernel for OneOfThree<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { op, n, abc, dy, to } = self;
        let numbers = abc.map(OperandRow::number);
        let [a, b, c] = [0, 1, 2].map(|i| Some(Line::of(abc[i], &numbers[i])));
        let dy = Some(Line { data: dy, mask: usize::MAX });
        let (zero, one) = (s.splat(T::ZERO), s.splat(T::ONE));
        match (op, n) {
            (Ternary::MulAdd, 0) => each(
                s,
                [dy, b],
                to,
                #[inline(always)]
                |[dy, b]| dy * b,
            ),
            (Ternary::MulAdd, 1) | (Ternary::Lerp, 1) => {
                each(
                    s,
                    [dy, if op == Ternary::Lerp { c } else { a }],
                    to,
                    #[inline(always)]
                    |[dy, factor]| dy * factor,
                );
            }
            (Ternary::MulAdd, _) => each(
                s,
                [dy],
                to,
                #[inline(always)]
                |[dy]| dy,
            ),
            (Ternary::Lerp, 0) => each(
                s,
                [dy, c],
                to,
                #[inline(always)]
                |[dy, c]| dy * (one - c),
            ),
            (Ternary::Lerp, _) => each(
                s,
                [dy, a, b],
                to,
                #[inline(always)]
                |[dy, a, b]| dy * (b - a),
            ),
            (Ternary::Where, 0) => to.fill(T::ZERO),
            (Ternary::Where, 1) => each(
                s,
                [dy, a],
                to,
                #[inline(always)]
                |[dy, a]| T::Vector::select(a.eq(zero), zero, dy),
            ),
            (Ternary::Where, _) => each(
                s,
                [dy, a],
                to,
                #[inline(always)]
                |[dy, a]| T::Vector::select(a.eq(zero), dy, zero),
            ),
        }
    }
}
