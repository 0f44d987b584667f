//! The parts of a tensor's index: positions, ranges, new axes.

use std::fmt;
use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use super::{MAX_RANK, Shape, strided};
use crate::error::{Error, Result};
use crate::simd::Element;

/// A selection along one axis. Integers and ranges convert to it; negative ones count from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AxisIndex {
    /// A single position; the axis is removed.
    At(isize),
    /// Every `step`-th position from `start` up to, but not including, `end`; `None` is the end of the axis.
    Range {
        /// The first position.
        start: isize,
        /// The position after the last one.
        end: Option<isize>,
        /// The distance between positions, at least 1.
        step: usize,
    },
    /// All of the axes that no other part of the index names.
    Ellipsis,
    /// A new axis of length 1.
    NewAxis,
}

/// In an index: all axes that its other parts do not name, like `...` in PyTorch.
#[derive(Clone, Copy, Debug)]
pub struct Ellipsis;

/// In an index: a new axis of length 1, like `None` in PyTorch.
#[derive(Clone, Copy, Debug)]
pub struct NewAxis;

/// In an index: every `step`-th position of a range, like `start:end:step` in PyTorch. To reverse an axis,
/// see [`Tensor::flip`](super::Tensor::flip).
///
/// ```
/// use gristmill::Tensor;
/// use gristmill::tensor::step;
/// let x: Tensor = Tensor::arange(10)?;
/// assert_eq!(x.index(step(1..8, 3))?.to_vec(), [1.0, 4.0, 7.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn step(range: impl Into<AxisIndex>, step: usize) -> AxisIndex {
    match range.into() {
        AxisIndex::Range { start, end, .. } => AxisIndex::Range { start, end, step },
        other => other,
    }
}

/// An index: a position, a range, or a tuple of them, one for each axis from the first one on. Axes without
/// an entry are taken whole.
pub trait Index {
    /// The parts, outermost axis first.
    fn picks(self) -> impl AsRef<[AxisIndex]>;
}

impl Index for &[AxisIndex] {
    fn picks(self) -> impl AsRef<[AxisIndex]> {
        self
    }
}

macro_rules! picks {
    ($($type:ty, $value:ident => $pick:expr;)+) => {$(
        impl From<$type> for AxisIndex {
            #[inline]
            fn from($value: $type) -> Self {
                $pick
            }
        }
        impl Index for $type {
            fn picks(self) -> impl AsRef<[AxisIndex]> {
                [AxisIndex::from(self)]
            }
        }
    )+};
}
picks! {
    RangeFull, _all => AxisIndex::Range { start: 0, end: None, step: 1 };
    Ellipsis, _rest => AxisIndex::Ellipsis;
    NewAxis, _new => AxisIndex::NewAxis;
}

/// A position that does not fit in `isize` is beyond every axis.
fn place<I: TryInto<isize>>(index: I) -> isize {
    index.try_into().unwrap_or(isize::MAX)
}

fn range<I: TryInto<isize>>(start: isize, end: I) -> AxisIndex {
    AxisIndex::Range { start, end: Some(place(end)), step: 1 }
}

/// A range that includes its end.
fn closed<I: TryInto<isize>>(start: isize, last: I) -> AxisIndex {
    let last = place(last);
    AxisIndex::Range { start, end: (last != -1).then(|| last.saturating_add(1)), step: 1 }
}

macro_rules! integers {
    ($($integer:ident)+) => {$( picks! {
        $integer, index => AxisIndex::At(place(index));
        Range<$integer>, r => range(place(r.start), r.end);
        RangeFrom<$integer>, r => AxisIndex::Range { start: place(r.start), end: None, step: 1 };
        RangeTo<$integer>, r => range(0, r.end);
        RangeInclusive<$integer>, r => closed(place(*r.start()), *r.end());
        RangeToInclusive<$integer>, r => closed(0, r.end);
    } )+};
}
integers!(i32 isize usize);

impl Index for AxisIndex {
    fn picks(self) -> impl AsRef<[AxisIndex]> {
        [self]
    }
}

macro_rules! tuples {
    ($($($part:ident)+;)+) => {$(
        impl<$($part: Into<AxisIndex>),+> Index for ($($part,)+) {
            #[allow(non_snake_case)]
            fn picks(self) -> impl AsRef<[AxisIndex]> {
                let ($($part,)+) = self;
                [$($part.into()),+]
            }
        }
    )+};
}
tuples! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
}

impl fmt::Display for AxisIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            AxisIndex::At(index) => write!(f, "{index}"),
            AxisIndex::Range { start, end, step } => {
                let end = end.map(|end| end.to_string()).unwrap_or_default();
                match (start, step) {
                    (0, 1) => write!(f, "..{end}"),
                    (_, 1) => write!(f, "{start}..{end}"),
                    _ => write!(f, "{start}..{end} by steps of {step}"),
                }
            }
            AxisIndex::Ellipsis => write!(f, "..."),
            AxisIndex::NewAxis => write!(f, "new axis"),
        }
    }
}

/// A part of an array: its first element, and its axes.
#[derive(Clone, Copy)]
pub(crate) struct Region {
    pub offset: usize,
    pub shape: Shape,
    pub strides: Shape,
}

impl Region {
    /// The part that `picks` select from an array with this shape and these strides.
    pub fn of(shape: Shape, strides: &[usize], picks: &[AxisIndex]) -> Result<Self> {
        let error = |message: String| Error::shape("index", message);
        let bad = |message| Err(error(message));
        let named =
            picks.iter().filter(|pick| matches!(pick, AxisIndex::At(_) | AxisIndex::Range { .. })).count();
        if named > shape.len() {
            return bad(format!("{named} axes are named, the shape {shape:?} has {}", shape.len()));
        }
        let mut rest = Some(shape.len() - named);
        let (mut axis, mut offset) = (0, 0);
        let (mut dims, mut steps, mut rank) = ([0; MAX_RANK], [0; MAX_RANK], 0);
        let mut keep = |len, step| {
            if rank == MAX_RANK {
                return Err(error(format!("the result has more than {MAX_RANK} axes")));
            }
            (dims[rank], steps[rank]) = (len, step);
            rank += 1;
            Ok(())
        };
        for &pick in picks.iter().chain(rest_is_open(picks)) {
            match pick {
                AxisIndex::NewAxis => keep(1, 0)?,
                AxisIndex::Ellipsis => {
                    let Some(count) = rest.take() else {
                        return bad("an index has room for one ellipsis".to_owned());
                    };
                    (axis..axis + count).try_for_each(|axis| keep(shape[axis], strides[axis]))?;
                    axis += count;
                }
                AxisIndex::At(index) => {
                    let len = shape[axis];
                    let Some(at) = from_front(index, len).filter(|&at| at < len) else {
                        return bad(format!("index {index} does not exist on axis {axis} of {shape:?}"));
                    };
                    offset += at * strides[axis];
                    axis += 1;
                }
                AxisIndex::Range { start, end, step } => {
                    let len = shape[axis];
                    let first = from_front(start, len);
                    let last = end.map_or(Some(len), |end| from_front(end, len));
                    let (Some(first), Some(last)) = (first, last) else {
                        return bad(format!("{pick} lies outside axis {axis} of {shape:?}"));
                    };
                    if first > last || step == 0 {
                        return bad(format!("{pick} is no range of axis {axis} of {shape:?}"));
                    }
                    offset += first * strides[axis];
                    let count = (last - first).div_ceil(step);
                    // A single position has no next one, so that any stride will do.
                    keep(count, if count > 1 { strides[axis] * step } else { strides[axis] })?;
                    axis += 1;
                }
            }
        }
        let (shape, strides) = (Shape::from_dims(&dims[..rank]), Shape::from_dims(&steps[..rank]));
        Ok(Self { offset, shape, strides })
    }
}

impl Region {
    /// Writes `values`, row by row, to the elements of the region.
    pub fn write<T: Element>(&self, values: &[T], to: &mut [T]) {
        if !values.is_empty() {
            strided::write(values, &self.shape, &self.strides, &mut to[self.offset..]);
        }
    }
}

/// The implicit ellipsis at the end of an index without one.
fn rest_is_open(picks: &[AxisIndex]) -> Option<&'static AxisIndex> {
    (!picks.contains(&AxisIndex::Ellipsis)).then_some(&AxisIndex::Ellipsis)
}

/// A position on an axis, or its end, counted from the front.
fn from_front(index: isize, len: usize) -> Option<usize> {
    let index = if index < 0 { index.checked_add_unsigned(len)? } else { index };
    usize::try_from(index).ok().filter(|&index| index <= len)
}
