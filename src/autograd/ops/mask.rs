//! Comparisons, and selections by their results.
//!
//! There are no boolean tensors: a mask is a tensor of the same element type, in which 0 is false and
//! everything else, including NaN, is true. Comparisons return 1 and 0.

use super::{Backward, Op};
use crate::autograd::{Gradients, Parent, is_recording, record};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::simd::Element;
use crate::tensor::{Shape, Tensor, zip::zip};

fn number<T: Element>(truth: bool) -> T {
    if truth { T::ONE } else { T::ZERO }
}

fn is_true<T: Element>(x: T) -> bool {
    x != T::ZERO
}

/// Comparisons of two tensors and of a tensor and a number.
macro_rules! comparisons {
    ($($symbol:literal $name:ident $scalar:ident $compare:expr;)+) => {
        impl<T: Element> Tensor<T> {
            $(
                #[doc = concat!("1 where x ", $symbol, " y, else 0, with broadcasting. Not recorded.")]
                ///
                /// # Errors
                /// [`Error::Shape`] if the shapes cannot be broadcast.
                pub fn $name(&self, other: &Self) -> Result<Self> {
                    let shape = Shape::broadcast(stringify!($name), &self.dims(), &other.dims())?;
                    zip(shape, [self, other], |[x, y]| number($compare(&x, &y)))
                }

                #[doc = concat!("1 where x ", $symbol, " number, else 0. Plain numbers without a gradient.")]
                ///
                /// # Errors
                /// [`Error::Setting`] for an invalid `GRISTMILL_` variable.
                pub fn $scalar(&self, number: T) -> Result<Self> {
                    zip(self.dims(), [self], |[x]| self::number($compare(&x, &number)))
                }
            )+
        }
    };
}
comparisons! {
    "=" eq eq_scalar T::eq;
    "≠" ne ne_scalar T::ne;
    "<" lt lt_scalar T::lt;
    "≤" le le_scalar T::le;
    ">" gt gt_scalar T::gt;
    "≥" ge ge_scalar T::ge;
}

macro_rules! logical {
    ($($what:literal $name:ident $combine:expr;)+) => {
        impl<T: Element> Tensor<T> {
            $(
                #[doc = concat!("1 where ", $what, ", else 0, with broadcasting; all but 0 is true.")]
                /// Not recorded.
                ///
                /// # Errors
                /// [`Error::Shape`] if the shapes cannot be broadcast.
                pub fn $name(&self, other: &Self) -> Result<Self> {
                    let shape = Shape::broadcast(stringify!($name), &self.dims(), &other.dims())?;
                    zip(shape, [self, other], |[x, y]| number($combine(is_true(x), is_true(y))))
                }
            )+
        }
    };
}
logical! {
    "both are true" logical_and |x, y| x && y;
    "one or both are true" logical_or |x, y| x || y;
    "one is true but not both" logical_xor |x, y| x != y;
}

/// Selects the elements of one tensor where a mask is true, those of another elsewhere.
pub(crate) struct Where<T: Element> {
    mask: Tensor<T>,
    shapes: [Shape; 2],
    parents: [Parent; 2],
}

impl<T: Element> Backward<T> for Where<T> {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        for (side, when) in [(0, true), (1, false)] {
            // Selected, not multiplied: NaN in the other tensor has no effect.
            gradients.add(self.parents[side], || {
                let choose = |[mask, dy]: [T; 2]| if is_true(mask) == when { dy } else { T::ZERO };
                zip(dy.dims(), [&self.mask, &dy], choose)?.sum_to(self.shapes[side])
            })?;
        }
        Ok(())
    }
}

/// The elements at these positions of a tensor broadcast from `from` to `shape`.
pub(crate) struct MaskedSelect {
    places: Buffer<usize>,
    shape: Shape,
    from: Shape,
    parent: Parent,
}

impl<T: Element> Backward<T> for MaskedSelect {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        gradients.add(self.parent, || {
            let mut dx = Buffer::full(self.shape.elements(), T::ZERO);
            let to = dx.fresh_mut();
            self.places.iter().zip(dy.compact().data()).for_each(|(&place, &dy)| to[place] = dy);
            Tensor::from_buffer(dx, self.shape).sum_to(self.from)
        })
    }
}

/// A matrix with everything beyond a diagonal set to 0.
pub(crate) struct Triangle {
    lower: bool,
    diagonal: isize,
    parent: Parent,
}

impl<T: Element> Backward<T> for Triangle {
    fn backward(&self, dy: Tensor<T>, gradients: &mut Gradients<T>) -> Result<()> {
        gradients.add(self.parent, || triangle(&dy, self.lower, self.diagonal))
    }
}

fn triangle<T: Element>(x: &Tensor<T>, lower: bool, diagonal: isize) -> Result<Tensor<T>> {
    let (rows, cols) = (x.shape()[x.rank() - 2], x.shape()[x.rank() - 1]);
    let x = x.compact();
    Tensor::build(x.dims(), |y| {
        if !y.is_empty() {
            let pairs = y.chunks_exact_mut(cols).zip(x.data().chunks_exact(cols));
            for (row, (y, x)) in pairs.enumerate().map(|(i, pair)| (i % rows, pair)) {
                // The first column beyond the lower triangle, which is the first column of the upper triangle
                // above it.
                let first = (row as isize).saturating_add(diagonal).saturating_add(isize::from(lower));
                let end = first.clamp(0, cols as isize) as usize;
                let kept = if lower { 0..end } else { end..cols };
                y.fill(T::ZERO);
                y[kept.clone()].copy_from_slice(&x[kept]);
            }
        }
        Ok(())
    })
}

impl<T: Element> Tensor<T> {
    /// 1 where x is 0, else 0. Not recorded: there is no gradient.
    ///
    /// # Errors
    /// [`Error::Setting`] for an invalid `GRISTMILL_` variable.
    pub fn logical_not(&self) -> Result<Self> {
        self.eq_scalar(T::ZERO)
    }

    /// The positions of the elements that are not 0, counted through all elements row by row.
    ///
    /// ```
    /// use gristmill::Tensor;
    /// let x = Tensor::from([[0.5, 0.0], [-1.0, 2.0]]);
    /// assert_eq!(x.lt_scalar(1.0)?.flatnonzero(), [0, 1, 2]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn flatnonzero(&self) -> Vec<usize> {
        let x = self.compact();
        x.data().iter().enumerate().filter_map(|(place, &x)| is_true(x).then_some(place)).collect()
    }

    /// This tensor as a mask; an error if it requires a gradient.
    fn as_mask(&self, op: &'static str) -> Result<&Self> {
        if is_recording() && self.is_tracked() {
            return Err(Error::autograd(op, "there is no gradient of a mask; detach it"));
        }
        Ok(self)
    }

    /// The elements of `on_true` where this mask is true (not 0), those of `on_false` elsewhere; all three
    /// are broadcast.
    ///
    /// ```
    /// use gristmill::Tensor;
    /// let x = Tensor::from([-1.0, 2.0, -3.0]);
    /// let positive = x.gt_scalar(0.0)?;
    /// assert_eq!(positive.where_cond(&x, &Tensor::scalar(0.0))?.to_vec(), [0.0, 2.0, 0.0]);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes cannot be broadcast; [`Error::Autograd`] if the mask requires a
    /// gradient.
    #[track_caller]
    pub fn where_cond(&self, on_true: &Self, on_false: &Self) -> Result<Self> {
        let mask = self.as_mask("where_cond")?;
        let shape = Shape::broadcast("where_cond", &on_true.dims(), &on_false.dims())?;
        let shape = Shape::broadcast("where_cond", &mask.dims(), &shape)?;
        let y = zip(shape, [mask, on_true, on_false], |[mask, x, y]| if is_true(mask) { x } else { y })?;
        record("where_cond", y, [on_true, on_false], |parents, _| {
            let shapes = [on_true.dims(), on_false.dims()];
            Op::Where(Where { mask: mask.detach(), shapes, parents })
        })
    }

    /// A copy with `value` where `mask`, which is broadcast to this shape, is true (not 0).
    ///
    /// # Errors
    /// [`Error::Shape`] if the mask cannot be broadcast; [`Error::Autograd`] if it requires a gradient.
    #[track_caller]
    pub fn masked_fill(&self, mask: &Self, value: T) -> Result<Self> {
        let mask = mask.as_mask("masked_fill")?;
        if Shape::broadcast("masked_fill", &self.dims(), &mask.dims())? != self.dims() {
            let message = format!("a mask of {:?} does not broadcast to {:?}", mask.shape(), self.shape());
            return Err(Error::shape("masked_fill", message));
        }
        let y = zip(self.dims(), [mask, self], |[mask, x]| if is_true(mask) { value } else { x })?;
        record("masked_fill", y, [self], |[parent], _| {
            let parents = [None, parent];
            Op::Where(Where { mask: mask.detach(), shapes: [self.dims(); 2], parents })
        })
    }

    /// The elements where `mask` is true (not 0), row by row, `[n]`; both are broadcast.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes cannot be broadcast; [`Error::Autograd`] if the mask requires a
    /// gradient.
    #[track_caller]
    pub fn masked_select(&self, mask: &Self) -> Result<Self> {
        let mask = mask.as_mask("masked_select")?;
        let shape = Shape::broadcast("masked_select", &self.dims(), &mask.dims())?;
        let places = mask.view_broadcast(shape).flatnonzero();
        let x = self.view_broadcast(shape).compact();
        let y = Tensor::build(Shape::new(&[places.len()])?, |y| {
            y.iter_mut().zip(&places).for_each(|(y, &place)| *y = x.data()[place]);
            Ok(())
        })?;
        record("masked_select", y, [self], |[parent], _| {
            let places = Buffer::copy_of(&places);
            Op::MaskedSelect(MaskedSelect { places, shape, from: self.dims(), parent })
        })
    }

    /// The matrices of the last two axes with everything above a diagonal set to 0. Diagonal 0 is the main
    /// one, others are counted to the right.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are fewer than two axes.
    #[track_caller]
    pub fn tril(&self, diagonal: isize) -> Result<Self> {
        self.triangle("tril", true, diagonal)
    }

    /// The matrices of the last two axes with everything below a diagonal set to 0; see
    /// [`tril`](Tensor::tril).
    ///
    /// # Errors
    /// [`Error::Shape`] if there are fewer than two axes.
    #[track_caller]
    pub fn triu(&self, diagonal: isize) -> Result<Self> {
        self.triangle("triu", false, diagonal)
    }

    #[track_caller]
    fn triangle(&self, name: &'static str, lower: bool, diagonal: isize) -> Result<Self> {
        if self.rank() < 2 {
            return Err(Error::shape(name, format!("{:?} is not a matrix", self.shape())));
        }
        let y = triangle(self, lower, diagonal)?;
        record(name, y, [self], |[parent], _| Op::Triangle(Triangle { lower, diagonal, parent }))
    }
}
