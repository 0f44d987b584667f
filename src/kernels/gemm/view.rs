//! Matrices as views of slices, with any strides.

use std::marker::PhantomData;

use crate::error::{Error, Result};

/// Where the elements of a matrix lie relative to element (0, 0), and which slice elements they span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    rows: usize,
    cols: usize,
    row_stride: isize,
    col_stride: isize,
}

impl Layout {
    /// The index of element (0, 0) in a slice whose first element is the lowest in memory, or an error when the
    /// matrix does not fit `len` elements.
    fn origin(&self, op: &'static str, len: usize) -> Result<usize> {
        if self.rows == 0 || self.cols == 0 {
            return Ok(0);
        }
        let span = |count: usize, stride: isize| (count - 1).checked_mul(stride.unsigned_abs());
        let (down, along) = (span(self.rows, self.row_stride), span(self.cols, self.col_stride));
        let needed = down.zip(along).and_then(|(d, a)| d.checked_add(a)).and_then(|last| last.checked_add(1));
        match (down, along, needed) {
            (Some(down), Some(along), Some(needed)) if needed <= len => {
                let below = |span: usize, stride: isize| if stride < 0 { span } else { 0 };
                Ok(below(down, self.row_stride) + below(along, self.col_stride))
            }
            _ => Err(Error::shape(
                op,
                format!(
                    "{} × {} with strides {} and {} needs {} elements, the slice has {len}",
                    self.rows,
                    self.cols,
                    self.row_stride,
                    self.col_stride,
                    needed.map_or("too many".into(), |needed| needed.to_string())
                ),
            )),
        }
    }

    /// Whether no two places are the same element.
    fn is_injective(&self) -> bool {
        let (row, col) = (self.row_stride.unsigned_abs(), self.col_stride.unsigned_abs());
        let down = self.rows <= 1 || row != 0;
        let along = self.cols <= 1 || col != 0;
        let apart = self.rows <= 1
            || self.cols <= 1
            || row >= col.saturating_mul(self.cols)
            || col >= row.saturating_mul(self.rows);
        self.rows == 0 || self.cols == 0 || (down && along && apart)
    }

    /// From element (0, 0) to (row, col); any number for a place outside the matrix.
    #[inline(always)]
    fn offset(&self, row: usize, col: usize) -> isize {
        let down = (row as isize).wrapping_mul(self.row_stride);
        down.wrapping_add((col as isize).wrapping_mul(self.col_stride))
    }

    fn transposed(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride }
    }
}

/// A matrix to read: element (i, j) lies `i · row_stride + j · col_stride` elements from element (0, 0).
///
/// ```
/// use gristmill::kernels::gemm::MatRef;
/// let matrix = MatRef::row_major(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, 3)?;
/// assert_eq!((matrix.get(1, 0), matrix.t().get(0, 1)), (4.0, 4.0));
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a, T> {
    origin: *const T,
    layout: Layout,
    data: PhantomData<&'a [T]>,
}

// SAFETY: a shared slice, seen otherwise.
unsafe impl<T: Sync> Send for MatRef<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for MatRef<'_, T> {}

/// A matrix to write; no two places are the same element.
#[derive(Debug)]
pub struct MatMut<'a, T> {
    origin: *mut T,
    layout: Layout,
    data: PhantomData<&'a mut [T]>,
}

// SAFETY: an exclusive slice, seen otherwise.
unsafe impl<T: Send> Send for MatMut<'_, T> {}

impl<'a, T: Copy> MatRef<'a, T> {
    /// A matrix with any strides. `data` starts at the lowest element: with a negative stride that is the end of a
    /// row or column. A stride of zero repeats a row or column.
    ///
    /// # Errors
    /// [`Error::Shape`] when the matrix needs more elements than `data` has.
    pub fn new(
        data: &'a [T],
        rows: usize,
        cols: usize,
        row_stride: isize,
        col_stride: isize,
    ) -> Result<Self> {
        let layout = Layout { rows, cols, row_stride, col_stride };
        let origin = layout.origin("MatRef::new", data.len())?;
        Ok(Self { origin: data.as_ptr().wrapping_add(origin), layout, data: PhantomData })
    }

    /// Rows one after the other without gaps.
    ///
    /// # Errors
    /// [`Error::Shape`] unless `data` has at least `rows · cols` elements.
    pub fn row_major(data: &'a [T], rows: usize, cols: usize) -> Result<Self> {
        Self::new(data, rows, cols, stride(cols)?, 1)
    }

    /// Columns one after the other without gaps.
    ///
    /// # Errors
    /// [`Error::Shape`] unless `data` has at least `rows · cols` elements.
    pub fn col_major(data: &'a [T], rows: usize, cols: usize) -> Result<Self> {
        Self::new(data, rows, cols, 1, stride(rows)?)
    }

    /// The transpose: the same elements with rows and columns exchanged.
    pub fn t(self) -> Self {
        Self { layout: self.layout.transposed(), ..self }
    }

    /// Element (row, col).
    ///
    /// # Panics
    /// If it lies outside the matrix.
    #[track_caller]
    pub fn get(&self, row: usize, col: usize) -> T {
        assert!(row < self.rows() && col < self.cols(), "({row}, {col}) lies outside {:?}", self.shape());
        // SAFETY: inside the matrix, which lies inside the slice.
        unsafe { *self.at(row, col) }
    }

    /// Where element (row, col) lies, if it is inside the matrix.
    #[inline(always)]
    pub(super) fn at(&self, row: usize, col: usize) -> *const T {
        self.origin.wrapping_offset(self.layout.offset(row, col))
    }
}

impl<'a, T: Copy> MatMut<'a, T> {
    /// A matrix with any strides for which no two places are the same element; see [`MatRef::new`].
    ///
    /// # Errors
    /// [`Error::Shape`] when the matrix needs more elements than `data` has, or when places coincide.
    pub fn new(
        data: &'a mut [T],
        rows: usize,
        cols: usize,
        row_stride: isize,
        col_stride: isize,
    ) -> Result<Self> {
        let layout = Layout { rows, cols, row_stride, col_stride };
        let origin = layout.origin("MatMut::new", data.len())?;
        if !layout.is_injective() {
            let message =
                format!("strides {row_stride} and {col_stride} make places of {rows} × {cols} coincide");
            return Err(Error::shape("MatMut::new", message));
        }
        Ok(Self { origin: data.as_mut_ptr().wrapping_add(origin), layout, data: PhantomData })
    }

    /// Rows one after the other without gaps.
    ///
    /// # Errors
    /// [`Error::Shape`] unless `data` has at least `rows · cols` elements.
    pub fn row_major(data: &'a mut [T], rows: usize, cols: usize) -> Result<Self> {
        Self::new(data, rows, cols, stride(cols)?, 1)
    }

    /// Columns one after the other without gaps.
    ///
    /// # Errors
    /// [`Error::Shape`] unless `data` has at least `rows · cols` elements.
    pub fn col_major(data: &'a mut [T], rows: usize, cols: usize) -> Result<Self> {
        Self::new(data, rows, cols, 1, stride(rows)?)
    }

    /// The transpose: the same elements with rows and columns exchanged.
    pub fn t(self) -> Self {
        Self { layout: self.layout.transposed(), ..self }
    }

    /// Where element (row, col) lies, if it is inside the matrix.
    #[inline(always)]
    pub(super) fn at(&self, row: usize, col: usize) -> *mut T {
        self.origin.wrapping_offset(self.layout.offset(row, col))
    }
}

macro_rules! shape {
    ($view:ident) => {
        impl<T> $view<'_, T> {
            /// The number of rows.
            #[inline(always)]
            pub fn rows(&self) -> usize {
                self.layout.rows
            }
            /// The number of columns.
            #[inline(always)]
            pub fn cols(&self) -> usize {
                self.layout.cols
            }
            /// `[rows, columns]`.
            #[inline(always)]
            pub fn shape(&self) -> [usize; 2] {
                [self.layout.rows, self.layout.cols]
            }
            /// Elements from one row to the next.
            #[inline(always)]
            pub fn row_stride(&self) -> isize {
                self.layout.row_stride
            }
            /// Elements from one column to the next.
            #[inline(always)]
            pub fn col_stride(&self) -> isize {
                self.layout.col_stride
            }
        }
    };
}
shape!(MatRef);
shape!(MatMut);

fn stride(len: usize) -> Result<isize> {
    len.try_into().map_err(|_| Error::shape("MatRef", format!("a stride of {len} elements overflows")))
}
