//! Printing tensors like PyTorch: nested rows in columns, abbreviated if there are many elements.

use std::fmt;

use super::Tensor;
use crate::simd::Element;

/// Tensors with more elements than this are abbreviated.
const MANY: usize = 1000;
/// The number of indices that an abbreviated axis shows at each end.
const EDGE: usize = 3;
const LINE_WIDTH: usize = 80;
const PRECISION: usize = 4;

/// Nested rows, with all numbers in columns of the same width: with a trailing dot (`2.`) if all are
/// integers, otherwise with 4 decimals; with exponents if the largest is more than 1000 times the smallest
/// (apart from 0) or above 10⁸, or if there are fractions and the smallest is below 10⁻⁴. An explicit
/// precision (`{:.2}`) sets the number of decimals and avoids exponents.
///
/// Of more than 1000 elements, only the first and last three of each longer axis are shown. Without elements:
/// `[]`.
///
/// ```
/// use gristmill::Tensor;
/// let x = Tensor::from([[1.0, -0.5], [12.25, f32::NAN]]);
/// assert_eq!(x.to_string(), "[[ 1.0000, -0.5000],\n [12.2500,     NaN]]");
/// assert_eq!(Tensor::<f32>::arange(3)?.to_string(), "[0., 1., 2.]");
/// # Ok::<(), gristmill::Error>(())
/// ```
impl<T: Element> fmt::Display for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len() == 0 {
            return write!(f, "[]");
        }
        let cut = self.len() > MANY;
        let mut shown = Vec::new();
        collect(self.raw(), self.shape(), &self.strides(), cut, &mut shown);
        let style = Style::of(&shown, f.precision());
        let mut texts = shown.iter().map(|&x| style.text(x)).collect::<Vec<_>>().into_iter();
        let width = texts.as_slice().iter().map(String::len).max().unwrap_or(0);
        write_axis(f, &mut texts, self.shape(), cut, width, 0)
    }
}

/// The type and the shape, then the numbers.
impl<T: Element> fmt::Debug for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gap = if self.rank() > 1 { "\n" } else { " " };
        write!(f, "Tensor<{}>{:?}{gap}", T::NAME, self.dims())?;
        fmt::Display::fmt(self, f)
    }
}

/// The indices of an axis that are shown; `None` for those left out.
fn places(len: usize, cut: bool) -> impl Iterator<Item = Option<usize>> {
    let ends = if cut && len > 2 * EDGE { Some(len - EDGE) } else { None };
    let front = 0..ends.map_or(len, |_| EDGE);
    front.map(Some).chain(ends.map(|_| None)).chain(ends.map_or(0..0, |back| back..len).map(Some))
}

/// The elements that are shown, in their order.
fn collect<T: Element>(data: &[T], shape: &[usize], strides: &[usize], cut: bool, shown: &mut Vec<f64>) {
    match (shape, strides) {
        ([len, shape @ ..], [stride, strides @ ..]) => {
            for place in places(*len, cut).flatten() {
                collect(&data[place * stride..], shape, strides, cut, shown);
            }
        }
        _ => shown.push(data[0].to_f64()),
    }
}

/// How numbers are written.
enum Style {
    /// With a trailing dot.
    Whole,
    Fixed(usize),
    Exponent,
}

impl Style {
    /// The format for these numbers by PyTorch's rules.
    fn of(numbers: &[f64], precision: Option<usize>) -> Self {
        if let Some(precision) = precision {
            return Style::Fixed(precision);
        }
        let sizes = || numbers.iter().map(|x| x.abs()).filter(|&x| x != 0.0 && x.is_finite());
        let (least, most) =
            sizes().fold((f64::INFINITY, 0.0), |(least, most): (f64, f64), x| (least.min(x), most.max(x)));
        let whole = sizes().all(|x| x.fract() == 0.0);
        if most / least > 1000.0 || most > 1e8 || (!whole && least < 1e-4) {
            Style::Exponent
        } else if whole {
            Style::Whole
        } else {
            Style::Fixed(PRECISION)
        }
    }

    fn text(&self, x: f64) -> String {
        match self {
            _ if !x.is_finite() => x.to_string(),
            Style::Whole => format!("{x:.0}."),
            Style::Fixed(precision) => format!("{x:.precision$}"),
            Style::Exponent => {
                let text = format!("{x:.PRECISION$e}");
                let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                let (sign, power) = exponent.strip_prefix('-').map_or(('+', exponent), |power| ('-', power));
                format!("{digits}e{sign}{power:0>2}")
            }
        }
    }
}

fn write_axis(
    f: &mut fmt::Formatter<'_>,
    texts: &mut impl Iterator<Item = String>,
    shape: &[usize],
    cut: bool,
    width: usize,
    depth: usize,
) -> fmt::Result {
    let Some((&len, inner)) = shape.split_first() else {
        return write!(f, "{:>width$}", texts.next().unwrap_or_default());
    };
    let per_line = (LINE_WIDTH.saturating_sub(depth) / (width + 2)).max(1);
    write!(f, "[")?;
    for (i, place) in places(len, cut).enumerate() {
        match i {
            0 => {}
            _ if inner.is_empty() && i % per_line > 0 => write!(f, ", ")?,
            _ => write!(f, ",{}{}", "\n".repeat(inner.len().max(1)), " ".repeat(depth + 1))?,
        }
        match place {
            None if inner.is_empty() => write!(f, " ...")?,
            None => write!(f, "...")?,
            Some(_) => write_axis(f, texts, inner, cut, width, depth + 1)?,
        }
    }
    write!(f, "]")
}
