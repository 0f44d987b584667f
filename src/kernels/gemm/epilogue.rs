//! What happens to C once its sums are done, while it is still in a near cache.

use std::ops::Range;

use super::tile::CTile;
use super::view::MatRef;
use crate::error::{Error, Result};
use crate::kernels::map::{Unary, with_function};
use crate::simd::{Element, Float, Kernel, Simd};

/// A vector that is added to the rows or the columns of the result.
#[derive(Clone, Copy, Debug, Default)]
pub enum Bias<'a, T> {
    /// Nothing.
    #[default]
    None,
    /// `bias[j]` to column j, as a linear layer does.
    PerColumn(&'a [T]),
    /// `bias[i]` to row i.
    PerRow(&'a [T]),
}

/// What is done with `x = alpha · A · B + beta · C` before it is stored, in this order: `x + bias`,
/// `+ residual`, `activation(x)`, 0 where `relu_mask ≤ 0`.
///
/// The result has the bits that the same steps have when they are called one after the other, as
/// [`map::unary`](crate::kernels::map::unary) and [`map::binary`](crate::kernels::map::binary).
///
/// ```
/// use gristmill::kernels::gemm::{Bias, Epilogue, MatMut, MatRef, gemm_with_epilogue};
/// use gristmill::kernels::map::Unary;
/// let (x, w, bias) = ([1.0, 2.0], [1.0, -1.0, 0.5, 0.5], [0.5, -9.0]);
/// let mut y = [0.0; 2];
/// let epilogue = Epilogue {
///     bias: Bias::PerColumn(&bias),
///     activation: Some(Unary::Relu),
///     ..Epilogue::default()
/// };
/// let (x, w) = (MatRef::row_major(&x, 1, 2)?, MatRef::row_major(&w, 2, 2)?);
/// gemm_with_epilogue(1.0, x, w, 0.0, epilogue, MatMut::row_major(&mut y, 1, 2)?)?;
/// assert_eq!(y, [2.5, 0.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a, T> {
    /// A vector, added to every row or to every column.
    pub bias: Bias<'a, T>,
    /// A matrix of the shape of C, with any strides, that is added.
    pub residual: Option<MatRef<'a, T>>,
    /// A function of each element.
    pub activation: Option<Unary<T>>,
    /// A matrix of the shape of C, with any strides: where it is 0 or negative, the result is 0. With the
    /// output of a ReLU as the mask, a product that is the gradient after that ReLU becomes the gradient
    /// before it.
    pub relu_mask: Option<MatRef<'a, T>>,
}

impl<T> Default for Epilogue<'_, T> {
    /// Nothing but `alpha · A · B + beta · C`.
    fn default() -> Self {
        Self { bias: Bias::None, residual: None, activation: None, relu_mask: None }
    }
}

impl<'a, T> From<Bias<'a, T>> for Epilogue<'a, T> {
    /// A bias and nothing else.
    fn from(bias: Bias<'a, T>) -> Self {
        Self { bias, ..Self::default() }
    }
}

impl<T: Element> Epilogue<'_, T> {
    /// An error unless everything fits C.
    pub(super) fn check(&self, [rows, cols]: [usize; 2]) -> Result<()> {
        let bias = match self.bias {
            Bias::None => None,
            Bias::PerColumn(bias) => Some(("column", bias.len(), cols)),
            Bias::PerRow(bias) => Some(("row", bias.len(), rows)),
        };
        if let Some((place, len, expected)) = bias.filter(|&(_, len, expected)| len != expected) {
            let message = format!("the bias per {place} has {len} elements, expected {expected}");
            return Err(Error::shape("gemm", message));
        }
        for (name, matrix) in [("residual", &self.residual), ("ReLU mask", &self.relu_mask)] {
            if let Some(matrix) = matrix.filter(|matrix| matrix.shape() != [rows, cols]) {
                let message = format!("the {name} is {:?}, expected {:?}", matrix.shape(), [rows, cols]);
                return Err(Error::shape("gemm", message));
            }
        }
        Ok(())
    }

    /// The same for the transpose of C.
    pub(super) fn transposed(self) -> Self {
        let bias = match self.bias {
            Bias::None => Bias::None,
            Bias::PerColumn(bias) => Bias::PerRow(bias),
            Bias::PerRow(bias) => Bias::PerColumn(bias),
        };
        Self {
            bias,
            residual: self.residual.map(MatRef::t),
            relu_mask: self.relu_mask.map(MatRef::t),
            ..self
        }
    }

    /// What comes after the bias, for these rows and columns of C.
    ///
    /// # Safety
    /// They lie inside C, and nobody else uses them.
    #[inline(always)]
    pub(super) unsafe fn finish<S: Simd>(&self, s: S, c: &CTile<T>, rows: Range<usize>, cols: Range<usize>) {
        if self.residual.is_some() || self.activation.is_some() || self.relu_mask.is_some() {
            s.run(AfterBias { epilogue: self, c, rows, cols });
        }
    }
}

/// Pass by pass, as C is in a near cache, so that not every function is compiled with every other part.
struct AfterBias<'a, T> {
    epilogue: &'a Epilogue<'a, T>,
    c: &'a CTile<T>,
    rows: Range<usize>,
    cols: Range<usize>,
}

impl<T: Element> Kernel for AfterBias<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { epilogue, c, rows, cols } = self;
        let part = |matrix| Combine { matrix, c: *c, rows: rows.clone(), cols: cols.clone() };
        if let Some(residual) = epilogue.residual {
            s.run(Add(part(residual)));
        }
        if let Some(activation) = epilogue.activation {
            let whole = c.row_stride == cols.len() as isize;
            let (lines, len) = if whole { (1, rows.len() * cols.len()) } else { (rows.len(), cols.len()) };
            with_function(activation, &mut |f| {
                for line in 0..lines {
                    let start = c.at(rows.start + line, cols.start).start;
                    // SAFETY: these elements lie inside C, and nobody else uses them.
                    f.forward_in_place(s.into(), unsafe { std::slice::from_raw_parts_mut(start, len) });
                }
            });
        }
        if let Some(mask) = epilogue.relu_mask {
            s.run(GateLine(part(mask)));
        }
    }
}

/// A rectangle of C and a matrix of the shape of C.
struct Combine<'a, T> {
    matrix: MatRef<'a, T>,
    c: CTile<T>,
    rows: Range<usize>,
    cols: Range<usize>,
}

impl<T: Element> Combine<'_, T> {
    /// `x ← f(x, matrix)`.
    #[inline(always)]
    fn each<S: Simd>(self, s: S, f: impl Fn(T::Vector<S>, T::Vector<S>) -> T::Vector<S>) {
        for row in self.rows {
            let mut col = self.cols.start;
            while col < self.cols.end {
                let count = (self.cols.end - col).min(T::LANES);
                let to = self.c.at(row, col).start;
                // SAFETY: these elements lie inside C and the matrix of its shape.
                unsafe {
                    let x = f(load(s, to, count), load_row(s, &self.matrix, row, col, count));
                    if count == T::LANES {
                        x.store_ptr(to);
                    } else {
                        x.store_ptr_partial(to, count);
                    }
                }
                col += count;
            }
        }
    }
}

/// Adds the matrix.
struct Add<'a, T>(Combine<'a, T>);

impl<T: Element> Kernel for Add<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.0.each(
            s,
            #[inline(always)]
            |x, residual| x + residual,
        );
    }
}

/// 0 where the matrix is not above 0.
struct GateLine<'a, T>(Combine<'a, T>);

impl<T: Element> Kernel for GateLine<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let zero = s.splat(T::ZERO);
        self.0.each(
            s,
            #[inline(always)]
            |x, mask| T::Vector::select(mask.le(zero), zero, x),
        );
    }
}

/// # Safety
/// `count` elements can be read.
#[inline(always)]
unsafe fn load<S: Simd, T: Element>(s: S, from: *const T, count: usize) -> T::Vector<S> {
    // SAFETY: the caller's promise.
    unsafe {
        if count == T::LANES {
            T::Vector::load_ptr(s, from)
        } else {
            T::Vector::load_ptr_partial(s, from, count)
        }
    }
}

/// `count` elements of a row, from column `col` on.
///
/// # Safety
/// They lie inside the matrix.
#[inline(always)]
unsafe fn load_row<S: Simd, T: Element>(
    s: S,
    matrix: &MatRef<'_, T>,
    row: usize,
    col: usize,
    count: usize,
) -> T::Vector<S> {
    if matrix.col_stride() == 1 {
        // SAFETY: the caller's promise.
        return unsafe { load(s, matrix.at(row, col), count) };
    }
    let mut values = [T::ZERO; 16];
    for (j, value) in values[..count].iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *value = unsafe { *matrix.at(row, col + j) };
    }
    s.load_partial(&values[..count])
}
