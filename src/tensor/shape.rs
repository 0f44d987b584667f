//! Shapes and strides, stored inline.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use crate::buffer;
use crate::error::{Error, Result};

/// The largest number of axes of a tensor.
pub const MAX_RANK: usize = 6;

/// In the shape passed to [`reshape`](super::Tensor::reshape): the length of this axis follows from the
/// others. At most one axis can have it.
pub const INFER: usize = usize::MAX;

/// The lengths of the axes, outermost first; at most [`MAX_RANK`] of them. Dereferences to a slice.
#[derive(Clone, Copy, Eq)]
pub struct Shape {
    /// Lengths from `rank` on are 0.
    dims: [usize; MAX_RANK],
    rank: u8,
}

impl Shape {
    /// A shape with these axes.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are more than [`MAX_RANK`] axes, or if the number of elements overflows.
    pub fn new(dims: &[usize]) -> Result<Self> {
        let shape = Self::of(dims).ok_or_else(|| {
            Error::shape(
                "shape",
                format!("{dims:?} has {} axes, at most {MAX_RANK} are supported", dims.len()),
            )
        })?;
        let elements = dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim.max(1)));
        match elements {
            Some(elements) if elements <= isize::MAX as usize / 8 => Ok(shape),
            _ => Err(Error::shape("shape", format!("{dims:?} has too many elements"))),
        }
    }

    /// The axes of several parts, one part after the other.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are more than [`MAX_RANK`] axes, or if the number of elements overflows.
    pub(crate) fn join(parts: &[&[usize]]) -> Result<Self> {
        let mut shape = Self { dims: [0; MAX_RANK], rank: 0 };
        for &dim in parts.iter().copied().flatten() {
            match shape.dims.get_mut(usize::from(shape.rank)) {
                Some(place) => *place = dim,
                None => return Self::new(&parts.concat()),
            }
            shape.rank += 1;
        }
        Self::new(&shape)
    }

    fn of(dims: &[usize]) -> Option<Self> {
        let mut shape = Self { dims: [0; MAX_RANK], rank: dims.len() as u8 };
        shape.dims.get_mut(..dims.len())?.copy_from_slice(dims);
        Some(shape)
    }

    /// These axes, at most [`MAX_RANK`] of them.
    pub(crate) fn from_dims(dims: &[usize]) -> Self {
        Self::of(dims).expect("the axes of a tensor are at most MAX_RANK")
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.iter().product()
    }

    /// The distance in elements from one index to the next along each axis of a contiguous tensor.
    pub(crate) fn contiguous_strides(&self) -> Shape {
        let mut strides = *self;
        let mut step = 1;
        for axis in (0..self.len()).rev() {
            strides.dims[axis] = step;
            step *= self[axis].max(1);
        }
        strides
    }

    /// The shape with another length of `axis`.
    pub(crate) fn with(mut self, axis: usize, len: usize) -> Self {
        self.dims[..usize::from(self.rank)][axis] = len;
        self
    }

    /// The shape to which both are broadcast by NumPy's rule: axes are aligned at the right, and length 1
    /// stretches to any length.
    ///
    /// # Errors
    /// [`Error::Shape`] if axes differ, or if the machine has not enough memory for that many elements.
    pub fn broadcast(op: &'static str, a: &Self, b: &Self) -> Result<Self> {
        let rank = a.len().max(b.len());
        let mut shape = Self { dims: [0; MAX_RANK], rank: rank as u8 };
        for i in 1..=rank {
            let dim = |s: &Self| if i <= s.len() { s[s.len() - i] } else { 1 };
            shape.dims[rank - i] = match (dim(a), dim(b)) {
                (x, y) if x == y => x,
                (1, y) => y,
                (x, 1) => x,
                _ => return Err(Error::shape(op, format!("shapes do not broadcast: {a:?} and {b:?}"))),
            };
        }
        let shape = Self::new(&shape)?;
        // A view takes no memory, but results computed from it do.
        if buffer::has_room(shape.elements().saturating_mul(size_of::<f32>())) {
            Ok(shape)
        } else {
            Err(Error::shape(op, format!("there is no memory for {shape:?}")))
        }
    }
}

impl Deref for Shape {
    type Target = [usize];
    #[inline]
    fn deref(&self) -> &[usize] {
        &self.dims[..usize::from(self.rank)]
    }
}

impl PartialEq for Shape {
    /// Without a function call or branches: shapes are compared in every operation.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let different = self.dims.iter().zip(&other.dims).fold(0, |bits, (a, b)| bits | (a ^ b));
        self.rank == other.rank && different == 0
    }
}

impl Hash for Shape {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &**self)
    }
}

/// Resolves an axis that is counted from the front, or from the end if negative: −1 is the last.
pub(crate) fn resolve_axis(op: &'static str, axis: isize, rank: usize) -> Result<usize> {
    let resolved = if axis < 0 { axis + rank as isize } else { axis };
    usize::try_from(resolved)
        .ok()
        .filter(|&axis| axis < rank)
        .ok_or_else(|| Error::shape(op, format!("axis {axis} does not exist in a tensor of rank {rank}")))
}

/// Which axes are named, each at most once. As in PyTorch, a scalar has the axes 0 and −1, along which there
/// is nothing to do.
pub(crate) fn resolve_axes(op: &'static str, axes: &[isize], rank: usize) -> Result<[bool; MAX_RANK]> {
    let mut named = [false; MAX_RANK];
    for &axis in axes {
        let resolved = if rank == 0 && is_axis_of_scalar(axis) { 0 } else { resolve_axis(op, axis, rank)? };
        if std::mem::replace(&mut named[resolved], true) {
            return Err(Error::shape(op, format!("axis {axis} is named twice in {axes:?}")));
        }
    }
    Ok(named)
}

/// Whether PyTorch accepts this axis for a scalar.
pub(crate) fn is_axis_of_scalar(axis: isize) -> bool {
    axis == 0 || axis == -1
}
