//! B in the order in which products read it, to be packed once and used many times.

use super::Panel;
use super::pack::Pack;
use super::plan::tile_width;
use super::view::MatRef;
use crate::buffer::Buffer;
use crate::context::{self, Settings};
use crate::error::Result;
use crate::parallel::{self, Indices, RowsMut};
use crate::simd::Element;

/// The right-hand side of products, packed once: weights in inference.
///
/// Products with it have the bits of those with the matrix itself, on every instruction set, and spend no
/// time on packing. They are fastest with the one that was in use when it was packed. It holds
/// `rows · columns` elements, the columns rounded up to whole registers.
///
/// ```
/// use gristmill::kernels::gemm::{Epilogue, MatMut, MatRef, PackedB, gemm_prepacked};
/// let weight = MatRef::row_major(&[1.0, 2.0, 3.0, 4.0], 2, 2)?;
/// // A layer's weight is [outputs, inputs]: the product is with its transpose.
/// let packed = PackedB::new(weight.t())?;
/// let mut y = [0.0; 2];
/// let x = MatRef::row_major(&[1.0, 10.0], 1, 2)?;
/// gemm_prepacked(1.0, x, &packed, 0.0, Epilogue::default(), MatMut::row_major(&mut y, 1, 2)?)?;
/// assert_eq!(y, [21.0, 43.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone)]
pub struct PackedB<T: Element> {
    /// Panels from left to right, each with all its rows.
    data: Buffer<T>,
    rows: usize,
    cols: usize,
    /// Registers of a panel; the last one may have fewer.
    pub(super) width: usize,
}

impl<T: Element> PackedB<T> {
    /// Packs B.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) when the environment asks for an unknown instruction set,
    /// [`Error::Shape`](crate::Error::Shape) when there is no memory for it.
    pub fn new(b: MatRef<'_, T>) -> Result<Self> {
        let settings = context::settings()?;
        let [rows, cols] = b.shape();
        let width = tile_width(settings.simd.register_file(), usize::MAX);
        let padded = cols.checked_next_multiple_of(T::LANES).unwrap_or(usize::MAX);
        let mut data = Buffer::try_stale(rows.saturating_mul(padded))?;
        if rows > 0 && cols > 0 {
            fill(settings, b, width, data.fresh_mut());
        }
        Ok(Self { data, rows, cols, width })
    }

    /// The number of rows of B.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns of B.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Where a row of the panel that begins at this column lies, and the elements from one of its rows to the
    /// next. Whole registers can be read.
    #[inline(always)]
    pub(super) fn panel(&self, row: usize, col: usize) -> (*const T, isize) {
        let cols = (self.width * T::LANES).min((self.cols - col).next_multiple_of(T::LANES));
        (self.data[col * self.rows..].as_ptr().wrapping_add(row * cols), cols as isize)
    }

    /// B as a matrix, if it has one column.
    pub(super) fn column(&self) -> MatRef<'_, T> {
        MatRef::new(&self.data, self.rows, 1, T::LANES as isize, 1).expect("a panel of one register")
    }
}

fn fill<T: Element>(settings: Settings, b: MatRef<'_, T>, width: usize, data: &mut [T]) {
    let [rows, cols] = b.shape();
    let panel = width * T::LANES;
    let parts = (RowsMut::new(data, rows * panel), Indices(cols.div_ceil(panel)));
    // One nanosecond for four elements that are read and written.
    parallel::for_each(settings, parts, rows.saturating_mul(cols) / 4, |(data, index)| {
        let (col, registers) = (index * panel, data.len() / rows / T::LANES);
        let tail = (cols - col - (registers - 1) * T::LANES).min(T::LANES);
        let panels = std::iter::once(Panel { col, registers, tail });
        settings.simd.run(Pack { b, rows: 0..rows, panels, packed: data });
    });
}
