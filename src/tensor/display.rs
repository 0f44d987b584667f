//! Printing tensors as nested rows; long axes are cut in the middle.

use std::fmt;

use super::Tensor;
use crate::simd::Element;

/// Axes longer than this show their first and last three indices.
const LONGEST: usize = 8;

impl<T: Element> fmt::Display for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = f.precision().unwrap_or(4);
        write_axis(f, &self.compact().view_all(), self.shape(), precision, 0)
    }
}

impl<T: Element> fmt::Debug for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor<{}>{:?} {self}", T::NAME, self.dims())
    }
}

impl<T: Element> Tensor<T> {
    fn view_all(&self) -> Vec<T> {
        self.data().to_vec()
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
    let mut first = true;
    for i in 0..len {
        let cut = len > LONGEST && (3..len - 3).contains(&i);
        if cut && i > 3 {
            continue;
        }
        if !first {
            write!(f, ",")?;
            if inner.is_empty() {
                write!(f, " ")?;
            } else {
                write!(f, "{}{}", "\n".repeat(inner.len()), " ".repeat(depth + 1))?;
            }
        }
        first = false;
        if cut {
            write!(f, "…")?;
        } else {
            write_axis(f, &data[i * step..][..step], inner, precision, depth + 1)?;
        }
    }
    write!(f, "]")
}
