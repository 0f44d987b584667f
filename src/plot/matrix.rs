//! A confusion matrix as a picture.

use super::{Anchor, COLORS, FAINT, INK, Picture, width_of};
use crate::metrics::ConfusionMatrix;

const CELL: f64 = 44.0;

/// The counts of a confusion matrix: a row for each actual class, with its error at the end, a column for
/// each predicted one. Correct predictions are blue, shaded by their fraction of the row; mistakes orange,
/// shaded relative to the most frequent mistake.
///
/// ```
/// use gristmill::{metrics::ConfusionMatrix, plot};
/// let mut matrix = ConfusionMatrix::new(3);
/// matrix.add(&[0, 1, 2, 2], &[0, 1, 1, 2])?;
/// assert!(plot::confusion(&matrix).to_svg().contains("predicted"));
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn confusion(matrix: &ConfusionMatrix) -> Picture {
    let classes = matrix.classes();
    let widest = (0..classes).map(|class| width_of(matrix.name(class))).fold(0.0, f64::max);
    // Names that are wider than a cell are written at an angle.
    let aslant = widest > CELL - 6.0;
    let left = 44.0 + widest;
    let top = 60.0 + if aslant { 0.75 * widest + 12.0 } else { 20.0 };
    let side = CELL * classes as f64;
    let mut picture = Picture::new((left + side + 84.0).max(300.0), top + side + 24.0);
    let error = format!("{:.2} % of {} wrong", 100.0 * matrix.error(), matrix.total());
    picture.title(20.0, &if matrix.total() > 0 { error } else { "nothing counted".into() });
    picture.text([left + side / 2.0, 50.0], Anchor::Middle, FAINT, "", "predicted");
    let middle = top + side / 2.0;
    let turned = format!("transform=\"rotate(-90 20 {middle:.1})\"");
    picture.text([20.0, middle], Anchor::Middle, FAINT, &turned, "actual");
    picture.text([left + side + 68.0, top - 10.0], Anchor::End, FAINT, "", "error");

    let counts = || (0..classes).flat_map(|actual| (0..classes).map(move |predicted| (actual, predicted)));
    let misses = counts().filter(|(actual, predicted)| actual != predicted);
    let most = misses.map(|(actual, predicted)| matrix.count(actual, predicted)).max().unwrap_or(0).max(1);
    for class in 0..classes {
        let at = CELL * (class as f64 + 0.5);
        let name = matrix.name(class);
        if aslant {
            let [x, y] = [left + at - 4.0, top - 8.0];
            let turned = format!("transform=\"rotate(-45 {x:.1} {y:.1})\"");
            picture.text([x, y], Anchor::Start, INK, &turned, name);
        } else {
            picture.text([left + at, top - 10.0], Anchor::Middle, INK, "", name);
        }
        picture.text([left - 10.0, top + at + 4.0], Anchor::End, INK, "", name);
        let error = matrix.class_error(class);
        let error = if error.is_nan() { "–".into() } else { format!("{:.2} %", 100.0 * error) };
        picture.text([left + side + 68.0, top + at + 4.0], Anchor::End, FAINT, "", &error);
    }
    for (actual, predicted) in counts() {
        let count = matrix.count(actual, predicted);
        let (color, share) = if actual == predicted {
            (COLORS[0], count as f64 / matrix.support(actual).max(1) as f64)
        } else {
            // The square root makes rare mistakes visible.
            (COLORS[1], (count as f64 / most as f64).sqrt())
        };
        let (x, y) = (left + CELL * predicted as f64, top + CELL * actual as f64);
        let (fill, opacity) = if count == 0 { ("#f4f4f4", 1.0) } else { (color, 0.1 + 0.75 * share) };
        picture.put(format_args!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{w}\" height=\"{w}\" rx=\"3\" fill=\"{fill}\" \
             fill-opacity=\"{opacity:.3}\"/>",
            x + 1.0,
            y + 1.0,
            w = CELL - 2.0
        ));
        if count > 0 {
            let ink = if opacity > 0.55 { "white" } else { INK };
            picture.text([x + CELL / 2.0, y + CELL / 2.0 + 4.0], Anchor::Middle, ink, "", &count.to_string());
        }
    }
    picture
}
