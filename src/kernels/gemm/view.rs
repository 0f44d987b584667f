//! Matrices as views of slices, with any strides.

use std::marker::PhantomData;

use crate::error::{Error, Result};

/// Where the elements of a matrix lie relative to element (0, 0), and which slice elements they span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Strided {
    rows: usize,
    cols: usize,
    row_stride: isize,
    col_stride: isize,
}

impl Strided {
    /// The index of element (0, 0) in a slice whose first element is the lowest in memory, or an error when
    /// `count` such matrices, `stride` elements apart, do not fit `len` elements.
    #[inline]
    fn origin(&self, op: &'static str, count: usize, stride: usize, len: usize) -> Result<usize> {
        if count == 0 || self.rows == 0 || self.cols == 0 {
            return Ok(0);
        }
        let span = |count: usize, stride: usize| (count - 1).checked_mul(stride);
        let down = span(self.rows, self.row_stride.unsigned_abs());
        let along = span(self.cols, self.col_stride.unsigned_abs());
        let needed = down.zip(along).and_then(|(down, along)| down.checked_add(along)?.checked_add(1));
        let needed = needed.zip(span(count, stride)).and_then(|(one, others)| one.checked_add(others));
        match (down, along, needed) {
            (Some(down), Some(along), Some(needed)) if needed <= len => {
                let below = |span: usize, stride: isize| if stride < 0 { span } else { 0 };
                Ok(below(down, self.row_stride) + below(along, self.col_stride))
            }
            _ => Err(self.too_large(op, count, stride, needed, len)),
        }
    }

    #[cold]
    fn too_large(
        &self,
        op: &'static str,
        count: usize,
        apart: usize,
        needed: Option<usize>,
        len: usize,
    ) -> Error {
        let Self { rows, cols, row_stride, col_stride } = self;
        let needed = needed.map_or("too many".into(), |needed| needed.to_string());
        let batch =
            if count > 1 { format!("{count} matrices {apart} elements apart, of ") } else { String::new() };
        let strides = format!("strides {row_stride} and {col_stride}");
        let message =
            format!("{batch}{rows} × {cols} with {strides} needs {needed} elements, the slice has {len}");
        Error::shape(op, message)
    }

    /// Rows without gaps, if they fit `len` elements.
    #[inline]
    fn compact(rows: usize, cols: usize, len: usize) -> Option<Self> {
        let row_stride = isize::try_from(cols).ok()?;
        let fits = rows.checked_mul(cols)? <= len;
        fits.then_some(Self { rows, cols, row_stride, col_stride: 1 })
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
    layout: Strided,
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
    layout: Strided,
    data: PhantomData<&'a mut [T]>,
}

// SAFETY: an exclusive slice, seen otherwise.
unsafe impl<T: Send> Send for MatMut<'_, T> {}

impl<'a, T: Copy> MatRef<'a, T> {
    /// A matrix with any strides. `data` starts at the lowest element: with a negative stride that is the end
    /// of a row or column. A stride of zero repeats a row or column.
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
        let layout = Strided { rows, cols, row_stride, col_stride };
        let origin = layout.origin("MatRef::new", 1, 0, data.len())?;
        Ok(Self { origin: data.as_ptr().wrapping_add(origin), layout, data: PhantomData })
    }

    /// Rows one after the other without gaps.
    ///
    /// # Errors
    /// [`Error::Shape`] unless `data` has at least `rows · cols` elements.
    #[inline]
    pub fn row_major(data: &'a [T], rows: usize, cols: usize) -> Result<Self> {
        match Strided::compact(rows, cols, data.len()) {
            Some(layout) => Ok(Self { origin: data.as_ptr(), layout, data: PhantomData }),
            None => Self::new(data, rows, cols, stride(cols)?, 1),
        }
    }

    /// Columns one after the other without gaps.
    ///
    /// # Errors
    /// [`Error::Shape`] unless `data` has at least `rows · cols` elements.
    #[inline]
    pub fn col_major(data: &'a [T], rows: usize, cols: usize) -> Result<Self> {
        match Strided::compact(cols, rows, data.len()) {
            Some(layout) => {
                Ok(Self { origin: data.as_ptr(), layout: layout.transposed(), data: PhantomData })
            }
            None => Self::new(data, rows, cols, 1, stride(rows)?),
        }
    }

    /// The transpose: the same elements with rows and columns exchanged.
    #[inline]
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
        let layout = Strided { rows, cols, row_stride, col_stride };
        let origin = layout.origin("MatMut::new", 1, 0, data.len())?;
        if layout.overlaps(1, 0) {
            let message =
                format!("with strides {row_stride} and {col_stride}, places of {rows} × {cols} may coincide");
            return Err(Error::shape("MatMut::new", message));
        }
        Ok(Self { origin: data.as_mut_ptr().wrapping_add(origin), layout, data: PhantomData })
    }

    /// Rows one after the other without gaps.
    ///
    /// # Errors
    /// [`Error::Shape`] unless `data` has at least `rows · cols` elements.
    #[inline]
    pub fn row_major(data: &'a mut [T], rows: usize, cols: usize) -> Result<Self> {
        match Strided::compact(rows, cols, data.len()) {
            Some(layout) => Ok(Self { origin: data.as_mut_ptr(), layout, data: PhantomData }),
            None => Self::new(data, rows, cols, stride(cols)?, 1),
        }
    }

    /// Columns one after the other without gaps.
    ///
    /// # Errors
    /// [`Error::Shape`] unless `data` has at least `rows · cols` elements.
    #[inline]
    pub fn col_major(data: &'a mut [T], rows: usize, cols: usize) -> Result<Self> {
        match Strided::compact(cols, rows, data.len()) {
            Some(layout) => {
                Ok(Self { origin: data.as_mut_ptr(), layout: layout.transposed(), data: PhantomData })
            }
            None => Self::new(data, rows, cols, 1, stride(rows)?),
        }
    }

    /// The transpose: the same elements with rows and columns exchanged.
    #[inline]
    pub fn t(self) -> Self {
        Self { layout: self.layout.transposed(), ..self }
    }

    /// Where element (row, col) lies, if it is inside the matrix.
    #[inline(always)]
    pub(in crate::kernels) fn at(&self, row: usize, col: usize) -> *mut T {
        self.origin.wrapping_offset(self.layout.offset(row, col))
    }
}

/// Matrices to read, all of one shape and the same number of elements apart.
///
/// ```
/// use gristmill::kernels::gemm::BatchRef;
/// let data: Vec<f32> = (0..12).map(|i| i as f32).collect();
/// let batch = BatchRef::row_major(&data, 2, 2, 3)?;
/// assert_eq!((batch.count(), batch.shape()), (2, [2, 3]));
/// assert_eq!((batch.get(1).get(0, 2), batch.t().get(1).get(2, 0)), (8.0, 8.0));
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BatchRef<'a, T> {
    first: MatRef<'a, T>,
    count: usize,
    stride: usize,
}

/// Matrices to write, all of one shape and the same number of elements apart; no two places are the same
/// element.
#[derive(Debug)]
pub struct BatchMut<'a, T> {
    first: MatMut<'a, T>,
    count: usize,
    stride: usize,
}

// SAFETY: its matrices are disjoint; the caller that takes one from a shared batch promises that no other does.
unsafe impl<T: Send> Sync for BatchMut<'_, T> {}

impl Strided {
    /// Whether two places of all the matrices may be the same element: unless each stride steps over what the
    /// smaller ones reach.
    fn overlaps(&self, count: usize, stride: usize) -> bool {
        let (row, col) = (self.row_stride.unsigned_abs(), self.col_stride.unsigned_abs());
        let mut axes = [(stride, count), (row, self.rows), (col, self.cols)];
        if axes.iter().any(|&(_, len)| len == 0) {
            return false;
        }
        axes.sort_unstable();
        let mut reach = 0_usize;
        axes.iter().filter(|&&(_, len)| len > 1).any(|&(stride, len)| {
            let overlaps = stride <= reach;
            reach = reach.saturating_add(stride.saturating_mul(len - 1));
            overlaps
        })
    }
}

impl<'a, T: Copy> BatchRef<'a, T> {
    /// `count` matrices of `rows` × `cols`, `stride` elements apart, each as in [`MatRef::new`]. A stride of
    /// zero repeats a matrix.
    ///
    /// # Errors
    /// [`Error::Shape`] when they need more elements than `data` has.
    pub fn new(
        data: &'a [T],
        count: usize,
        stride: usize,
        [rows, cols]: [usize; 2],
        [row_stride, col_stride]: [isize; 2],
    ) -> Result<Self> {
        let layout = Strided { rows, cols, row_stride, col_stride };
        let origin = layout.origin("BatchRef::new", count, stride, data.len())?;
        let first = MatRef { origin: data.as_ptr().wrapping_add(origin), layout, data: PhantomData };
        Ok(Self { first, count, stride })
    }

    /// Rows and matrices one after the other without gaps.
    ///
    /// # Errors
    /// [`Error::Shape`] unless `data` has at least `count · rows · cols` elements.
    pub fn row_major(data: &'a [T], count: usize, rows: usize, cols: usize) -> Result<Self> {
        Self::new(data, count, rows.saturating_mul(cols), [rows, cols], [stride(cols)?, 1])
    }

    /// Each matrix transposed.
    pub fn t(self) -> Self {
        Self { first: self.first.t(), ..self }
    }

    /// One of the matrices.
    ///
    /// # Panics
    /// Unless `index < count`.
    #[track_caller]
    pub fn get(&self, index: usize) -> MatRef<'a, T> {
        assert!(index < self.count, "matrix {index} of a batch of {}", self.count);
        let origin = self.first.origin.wrapping_add(index.wrapping_mul(self.stride));
        MatRef { origin, ..self.first }
    }
}

impl<'a, T: Copy> BatchMut<'a, T> {
    /// `count` matrices of `rows` × `cols`, `stride` elements apart, for which no two places are the same
    /// element; see [`BatchRef::new`].
    ///
    /// # Errors
    /// [`Error::Shape`] when they need more elements than `data` has, or when places coincide.
    pub fn new(
        data: &'a mut [T],
        count: usize,
        stride: usize,
        [rows, cols]: [usize; 2],
        [row_stride, col_stride]: [isize; 2],
    ) -> Result<Self> {
        let layout = Strided { rows, cols, row_stride, col_stride };
        let origin = layout.origin("BatchMut::new", count, stride, data.len())?;
        if layout.overlaps(count, stride) {
            let message = format!(
                "with strides {stride}, {row_stride} and {col_stride}, places of {count} times {rows} × {cols} may coincide"
            );
            return Err(Error::shape("BatchMut::new", message));
        }
        let origin = data.as_mut_ptr().wrapping_add(origin);
        Ok(Self { first: MatMut { origin, layout, data: PhantomData }, count, stride })
    }

    /// Rows and matrices one after the other without gaps.
    ///
    /// # Errors
    /// [`Error::Shape`] unless `data` has at least `count · rows · cols` elements.
    pub fn row_major(data: &'a mut [T], count: usize, rows: usize, cols: usize) -> Result<Self> {
        Self::new(data, count, rows.saturating_mul(cols), [rows, cols], [stride(cols)?, 1])
    }

    /// One of the matrices.
    ///
    /// # Safety
    /// `index < count`, and nobody else uses this one.
    #[inline]
    pub(in crate::kernels) unsafe fn get(&self, index: usize) -> MatMut<'_, T> {
        let origin = self.first.origin.wrapping_add(index.wrapping_mul(self.stride));
        MatMut { origin, layout: self.first.layout, data: PhantomData }
    }
}

macro_rules! batch {
    ($view:ident) => {
        impl<T> $view<'_, T> {
            /// The number of matrices.
            pub fn count(&self) -> usize {
                self.count
            }
            /// `[rows, columns]` of each matrix.
            pub fn shape(&self) -> [usize; 2] {
                self.first.shape()
            }
        }
    };
}
batch!(BatchRef);
batch!(BatchMut);

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

#[cold]
fn stride(len: usize) -> Result<isize> {
    len.try_into().map_err(|_| Error::shape("MatRef", format!("a stride of {len} elements overflows")))
}
