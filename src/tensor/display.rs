//! Printing tensors as nested rows; long axes are cut in the middle.

use std::fmt;

use super::Tensor;
use crate::simd::Element;

/// Axes longer than this show their first and last three indices.
const LONGEST: usize = 8;

impl<T: Element> fmt::Display for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = f.precision().unwrap_or(4);
        write_axis(f, self.compact().data(), self.shape(), precision, 0)
    }
}

impl<T: Element> fmt::Debug for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor<{}>{:?} {self}", T::NAME, self.dims())
    }
}

fn write_axis<T: Element>(
    f: &mut fmt::Formatter<'_>,
    data: &[T],
    shape: &[usize],
    precision: usize,
    depth: usize,
) -> fmt::Result {
    let Some((&len, inner)) = shape.split_first() else {
        return write!(f, "{:.precision$}", data[0]);
    };
    let step = inner.iter().product::<usize>();
    write!(f, "[")?;
    let cut = len > LONGEST;
    let ends = (0..if cut { 4 } else { len }).chain(if cut { len - 3..len } else { 0..0 });
    for i in ends {
        if i > 0 && inner.is_empty() {
            write!(f, ", ")?;
        } else if i > 0 {
            write!(f, ",{}{}", "\n".repeat(inner.len()), " ".repeat(depth + 1))?;
        }
        if cut && i == 3 {
            write!(f, "…")?;
        } else {
            write_axis(f, &data[i * step..][..step], inner, precision, depth + 1)?;
        }
    }
    write!(f, "]")
}
