//! Reductions, norms and cumulative sums.

use gristmill::kernels::cumsum;
use gristmill::kernels::norm::{self, Norm};
use gristmill::kernels::reduce::{self, Reduce};
use gristmill::{Element, Result, reference};

use super::{Case, Draw, Kernel, Length, Near, entries, log2_ceil, strictly, unit};

pub const KERNELS: &[Kernel] = entries![
    "reduce::all" => all; 3,
    "reduce::rows" => rows; 3,
    "reduce::cols" => cols; 3,
    "reduce::argmax" => argmax,
    "reduce::argmin" => argmin,
    "reduce::argmax_rows" => argmax_rows,
    "reduce::argmin_rows" => argmin_rows,
    "reduce::argmax_cols" => argmax_cols,
    "reduce::argmin_cols" => argmin_cols,
    "reduce::count_nonzero" => count_nonzero,
    "reduce::dot" => dot,
    "reduce::prod_backward" => prod_backward,
    "reduce::variance_all" => variance_all,
    "reduce::variance_rows" => variance_rows,
    "reduce::variance_cols" => variance_cols,
    "reduce::std_all" => std_all,
    "reduce::std_rows" => std_rows,
    "reduce::std_cols" => std_cols,
    "norm::all" => norm_all,
    "norm::rows" => norm_rows,
    "norm::cols" => norm_cols,
    "norm::rows_backward" => norm_rows_backward,
    "norm::cols_backward" => norm_cols_backward,
    "cumsum::rows" => cumsum_rows,
    "cumsum::cols" => cumsum_cols,
];

/// The most additions from an element of a row to its sum, as documented.
pub fn row_depth<T: Element>(n: usize) -> f64 {
    n.min(4096).div_ceil(4 * T::LANES) as f64 + 6.0 + log2_ceil(n.div_ceil(4096))
}

/// The most additions from an element of a column to its sum, as documented.
pub fn column_depth(n: usize) -> f64 {
    (n as f64).min(128.0 + log2_ceil(n))
}

fn smallest<T: Element>() -> f64 {
    if T::NAME == "f32" { 2f64.powi(-149) } else { f64::from_bits(1) }
}

// Three forms of a case: of everything, of each row, of each column.

/// One number of all. `near` is what it must be.
fn of_all<T: Element>(
    what: String,
    x: Vec<T>,
    run: impl Fn(&[T]) -> Result<T> + 'static,
    near: impl Fn(&[f64]) -> Near + 'static,
) -> Case<T> {
    Case::new(format!("{what} of {}", x.len()))
        .input("x", x)
        .output("y", 1)
        .lengths(Length::Any, &["x", "y"])
        .run(move |[x], [], [y]| {
            y[0] = run(x)?;
            Ok(())
        })
        .expect(move |[x], [], [_]| [vec![near(x)]])
}

fn of_rows<T: Element>(
    what: String,
    [rows, cols]: [usize; 2],
    x: Vec<T>,
    run: impl Fn(&[T], usize, &mut [T]) -> Result<()> + Copy + 'static,
    near: impl Fn(&[f64]) -> Near + 'static,
) -> Case<T> {
    Case::new(format!("{what} of {rows} × {cols} by row"))
        .input_per_item("x", cols, x)
        .output_per_item("y", 1, rows)
        .run(move |[x], [], [y]| run(x, cols, y))
        .expect(move |[x], [], [_]| [reference::by_row(x, cols, &near)])
        .refuses("absurd rows", move |[x], [], [y]| run(x, usize::MAX, y))
}

fn of_cols<T: Element>(
    what: String,
    [rows, cols]: [usize; 2],
    x: Vec<T>,
    run: impl Fn(&[T], usize, &mut [T]) -> Result<()> + Copy + 'static,
    near: impl Fn(&[f64]) -> Near + 'static,
) -> Case<T> {
    Case::new(format!("{what} of {rows} × {cols} by column"))
        .input("x", x)
        .output("y", cols)
        .lengths(column_length(cols), &["x"])
        .run(move |[x], [], [y]| run(x, cols, y))
        .expect(move |[x], [], [_]| [reference::by_column(x, cols, &near)])
        .refuses("absurd columns", move |[x], [], [y]| run(x, usize::MAX, y))
}

/// A single column may have any length.
pub fn column_length(cols: usize) -> Length {
    if cols == 1 { Length::Any } else { Length::Exact }
}

/// `exact` within `bound`; if it is not finite, just that.
fn within(exact: f64, bound: f64) -> Near {
    Near { exact, bound: if exact.is_finite() { bound } else { 0.0 } }
}

// Reductions.

const OPS: [Reduce; 9] = [
    Reduce::Sum,
    Reduce::Mean,
    Reduce::Max,
    Reduce::Min,
    Reduce::SumOfSquares,
    Reduce::Prod,
    Reduce::Any,
    Reduce::All,
    Reduce::CountNonzero,
];

/// One of them; of no elements none that needs one.
fn reduce_of(draw: &mut Draw, elements: usize) -> Reduce {
    match draw.pick(&OPS) {
        Reduce::Max | Reduce::Min if elements == 0 => Reduce::Sum,
        op => op,
    }
}

fn expected(op: Reduce, x: &[f64]) -> f64 {
    match op {
        Reduce::Sum => reference::sum(x),
        Reduce::Mean => reference::mean(x),
        Reduce::Max => reference::max(x),
        Reduce::Min => reference::min(x),
        Reduce::SumOfSquares => reference::sum_of_squares(x),
        Reduce::Prod => reference::prod(x),
        Reduce::Any => reference::any(x),
        Reduce::All => reference::all(x),
        Reduce::CountNonzero => reference::count_nonzero(x) as f64,
    }
}

/// The documented bound, and that of the reference, which adds one element after the other in f64.
pub fn bound<T: Element>(op: Reduce, x: &[f64], depth: f64) -> f64 {
    let units = (depth + 1.0) * unit::<T>() + (x.len() as f64 + 1.0) * unit::<f64>();
    match op {
        Reduce::Max | Reduce::Min | Reduce::Any | Reduce::All | Reduce::CountNonzero => 0.0,
        Reduce::Prod => x.len() as f64 * (unit::<T>() + unit::<f64>()) * reference::prod(x).abs(),
        Reduce::Sum => units * x.iter().map(|x| x.abs()).sum::<f64>(),
        Reduce::Mean => units * x.iter().map(|x| x.abs()).sum::<f64>() / x.len() as f64,
        Reduce::SumOfSquares => units * reference::sum_of_squares(x),
    }
}

fn reduced<T: Element>(op: Reduce, x: &[f64], depth: f64) -> Near {
    within(expected(op, x), bound::<T>(op, x, depth))
}

/// Numbers of any size and mean; for products of `n` such that no product of some leaves the range; for
/// counts with zeros.
fn numbers<T: Element>(draw: &mut Draw, op: Reduce, len: usize, n: usize) -> Vec<T> {
    match op {
        Reduce::Prod => {
            let spread = if n > 1000 { 1.0 / 64.0 } else { 1.0 / 8.0 };
            let size: Vec<T> = draw.values(len, 1.0 - spread, 1.0 + spread);
            size.into_iter().map(|x| if draw.unit() < 0.5 { -x } else { x }).collect()
        }
        Reduce::Any | Reduce::All | Reduce::CountNonzero => sparse(draw, len),
        _ => shifted(draw, len),
    }
}

/// Of any size, around a mean that may be large beside the spread.
fn shifted<T: Element>(draw: &mut Draw, len: usize) -> Vec<T> {
    let mean = draw.pick(&[0.0, 1.0, 1e6]);
    let size = 10f64.powi(draw.below(16) as i32 - 8);
    draw.values(len, (mean - 1.0) * size, (mean + 1.0) * size)
}

/// A share of zeros: none, a third, almost all, all.
fn sparse<T: Element>(draw: &mut Draw, len: usize) -> Vec<T> {
    let share = draw.pick(&[1.0 / 3.0, 0.0, 0.99, 1.0]);
    let values: Vec<T> = draw.values(len, -1.0, 1.0);
    values.into_iter().map(|x| if draw.unit() < share { T::ZERO } else { x }).collect()
}

fn all<T: Element>(draw: &mut Draw) -> Case<T> {
    let len = draw.len();
    let op = reduce_of(draw, len);
    of_all(
        format!("{op:?}"),
        numbers(draw, op, len, len),
        move |x| reduce::all(op, x),
        move |x| reduced::<T>(op, x, row_depth::<T>(x.len())),
    )
}

fn rows<T: Element>(draw: &mut Draw) -> Case<T> {
    let [rows, cols] = draw.matrix();
    let op = reduce_of(draw, rows);
    of_rows(
        format!("{op:?}"),
        [rows, cols],
        numbers(draw, op, rows * cols, cols),
        move |x, cols, y| reduce::rows(op, x, cols, y),
        move |x| reduced::<T>(op, x, row_depth::<T>(x.len())),
    )
}

fn cols<T: Element>(draw: &mut Draw) -> Case<T> {
    let [rows, cols] = draw.matrix();
    let op = reduce_of(draw, rows);
    of_cols(
        format!("{op:?}"),
        [rows, cols],
        numbers(draw, op, rows * cols, rows),
        move |x, cols, y| reduce::cols(op, x, cols, y),
        move |x| reduced::<T>(op, x, column_depth(x.len())),
    )
}

fn count_nonzero<T: Element>(draw: &mut Draw) -> Case<T> {
    let len = draw.len();
    of_all(
        "count".into(),
        sparse(draw, len),
        |x| Ok(place_as(reduce::count_nonzero(x)?)),
        |x| within(reference::count_nonzero(x) as f64, 0.0),
    )
}

fn dot<T: Element>(draw: &mut Draw) -> Case<T> {
    let len = draw.len();
    Case::new(len)
        .input("a", shifted(draw, len))
        .input("b", draw.values(len, -1.0, 1.0))
        .output("y", 1)
        .lengths(Length::Any, &["y"])
        .run(|[a, b], [], [y]| {
            y[0] = reduce::dot(a, b)?;
            Ok(())
        })
        .expect(|[a, b], [], [_]| {
            let n = a.len();
            let size: f64 = a.iter().zip(b).map(|(a, b)| (a * b).abs()).sum();
            let units = (row_depth::<T>(n) + 1.0) * unit::<T>() + (n as f64 + 1.0) * unit::<f64>();
            [vec![within(reference::dot(a, b), units * size)]]
        })
}

fn prod_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let [rows, cols] = draw.matrix();
    // The reference takes the square of the columns.
    let [rows, cols] = if cols > 1000 { [rows * (cols / 1000), 1000] } else { [rows, cols] };
    let mut x: Vec<T> = numbers(draw, Reduce::Prod, rows * cols, cols);
    for x in x.chunks_mut(cols) {
        for _ in 0..draw.pick(&[0, 1, 2]) {
            x[draw.below(cols)] = T::ZERO;
        }
    }
    Case::new(format!("{rows} × {cols}"))
        .input_per_item("x", cols, x)
        .input_per_item("dy", 1, draw.values(rows, -2.0, 2.0))
        .output_per_item("dx", cols, rows * cols)
        .run(move |[x, dy], [], [dx]| reduce::prod_backward(x, dy, cols, dx))
        .expect(move |[x, dy], [], [_]| {
            let rows = x.chunks(cols).zip(dy);
            let exact: Vec<f64> = rows.flat_map(|(x, &dy)| reference::prod_backward(x, dy)).collect();
            let units = cols as f64 * (unit::<T>() + unit::<f64>());
            [strictly(exact.clone(), |i| units * exact[i].abs())]
        })
        .refuses("absurd rows", move |[x, dy], [], [dx]| reduce::prod_backward(x, dy, usize::MAX, dx))
}

/// A count or a place as a number. Counted, since a conversion of 0 may give −0 where the process rounds
/// down.
fn place_as<T: Element>(place: usize) -> T {
    (0..place).fold(T::ZERO, |count, _| count + T::ONE)
}

// Places.

/// The numbers among which a place is looked for: a quarter of them alike, so that there are ties.
fn with_ties<T: Element>(draw: &mut Draw, len: usize) -> Vec<T> {
    let steps = draw.pick(&[1e9, 4.0, 1.0]);
    let values: Vec<T> = draw.values(len, -1.0, 1.0);
    values.into_iter().map(|x| T::from_f64((x.to_f64() * steps).round())).collect()
}

fn argmax<T: Element>(draw: &mut Draw) -> Case<T> {
    place(draw, reduce::argmax, reference::argmax)
}

fn argmin<T: Element>(draw: &mut Draw) -> Case<T> {
    place(draw, reduce::argmin, reference::argmin)
}

fn place<T: Element>(
    draw: &mut Draw,
    run: fn(&[T]) -> Result<usize>,
    exact: fn(&[f64]) -> Option<usize>,
) -> Case<T> {
    let len = draw.len().max(1);
    of_all(
        "place".into(),
        with_ties(draw, len),
        move |x| Ok(place_as(run(x)?)),
        move |x| within(exact(x).expect("elements") as f64, 0.0),
    )
}

type Places<T> = fn(&[T], usize, &mut [usize]) -> Result<()>;

fn argmax_rows<T: Element>(draw: &mut Draw) -> Case<T> {
    row_places(draw, reduce::argmax_rows, reference::argmax)
}

fn argmin_rows<T: Element>(draw: &mut Draw) -> Case<T> {
    row_places(draw, reduce::argmin_rows, reference::argmin)
}

/// Writes the places as numbers, too, so that they can be compared.
fn as_numbers<T: Element>(
    run: Places<T>,
    x: &[T],
    cols: usize,
    places: &mut [usize],
    y: &mut [T],
) -> Result<()> {
    run(x, cols, places)?;
    y.iter_mut().zip(places).for_each(|(y, place)| *y = place_as(*place));
    Ok(())
}

fn row_places<T: Element>(draw: &mut Draw, run: Places<T>, exact: fn(&[f64]) -> Option<usize>) -> Case<T> {
    let [rows, cols] = draw.matrix();
    Case::new(format!("{rows} × {cols}"))
        .input_per_item("x", cols, with_ties(draw, rows * cols))
        .index_per_item("places", vec![usize::MAX; rows])
        .output_per_item("y", 1, rows)
        .lengths(Length::Any, &["y"])
        .run(move |[x], [places], [y]| as_numbers(run, x, cols, places, y))
        .expect(move |[x], [_], [_]| {
            [reference::by_row(x, cols, |x| within(exact(x).expect("elements") as f64, 0.0))]
        })
        .refuses("absurd rows", move |[x], [places], [y]| as_numbers(run, x, usize::MAX, places, y))
}

fn argmax_cols<T: Element>(draw: &mut Draw) -> Case<T> {
    column_places(draw, reduce::argmax_cols, reference::argmax)
}

fn argmin_cols<T: Element>(draw: &mut Draw) -> Case<T> {
    column_places(draw, reduce::argmin_cols, reference::argmin)
}

fn column_places<T: Element>(draw: &mut Draw, run: Places<T>, exact: fn(&[f64]) -> Option<usize>) -> Case<T> {
    let [rows, cols] = draw.matrix();
    let rows = rows.max(1);
    Case::new(format!("{rows} × {cols}"))
        .input("x", with_ties(draw, rows * cols))
        .indices("places", vec![usize::MAX; cols])
        .output("y", cols)
        .lengths(column_length(cols), &["x"])
        .lengths(Length::Any, &["y"])
        .run(move |[x], [places], [y]| as_numbers(run, x, cols, places, y))
        .expect(move |[x], [_], [_]| {
            [reference::by_column(x, cols, |x| within(exact(x).expect("elements") as f64, 0.0))]
        })
        .refuses("absurd columns", move |[x], [places], [y]| as_numbers(run, x, usize::MAX, places, y))
}

// Variances and standard deviations.

/// 0 and 1, others, and more than there are elements.
fn correction(draw: &mut Draw) -> usize {
    draw.pick(&[0, 1, 3, usize::MAX])
}

fn variance_near<T: Element>(x: &[f64], correction: usize, depth: f64) -> Near {
    let exact = reference::variance(x, correction);
    if !exact.is_finite() {
        return within(exact, 0.0);
    }
    let n = x.len() as f64;
    let variance = reference::variance(x, 0);
    let shifted: Vec<f64> = x.iter().map(|v| v - x[0]).collect();
    let distance = reference::mean(&shifted).abs() / variance.sqrt().max(f64::MIN_POSITIVE);
    let units = (depth + 7.0 + 2.0 * distance) * unit::<T>() + (n + 7.0 + 2.0 * distance) * unit::<f64>();
    within(exact, units * exact + n * smallest::<T>())
}

fn variance_all<T: Element>(draw: &mut Draw) -> Case<T> {
    let (len, correction) = (draw.len(), correction(draw));
    of_all(
        format!("correction {correction}"),
        shifted(draw, len),
        move |x| reduce::variance_all(x, correction),
        move |x| variance_near::<T>(x, correction, row_depth::<T>(x.len())),
    )
}

fn variance_rows<T: Element>(draw: &mut Draw) -> Case<T> {
    let ([rows, cols], correction) = (draw.matrix(), correction(draw));
    of_rows(
        format!("correction {correction}"),
        [rows, cols],
        shifted(draw, rows * cols),
        move |x, cols, y| reduce::variance_rows(x, cols, correction, y),
        move |x| variance_near::<T>(x, correction, row_depth::<T>(x.len())),
    )
}

fn variance_cols<T: Element>(draw: &mut Draw) -> Case<T> {
    let ([rows, cols], correction) = (draw.matrix(), correction(draw));
    of_cols(
        format!("correction {correction}"),
        [rows, cols],
        shifted(draw, rows * cols),
        move |x, cols, y| reduce::variance_cols(x, cols, correction, y),
        move |x| variance_near::<T>(x, correction, column_depth(x.len())),
    )
}

/// Numbers whose squares may leave the range in either direction.
fn any_size<T: Element>(draw: &mut Draw, len: usize) -> Vec<T> {
    let exponent = draw.pick(&[0, -40, -30, -20, 18, 19, 37]);
    let size = 10f64.powi(if T::NAME == "f32" { exponent } else { 7 * exponent });
    draw.values(len, -size, size)
}

fn std_near<T: Element>(x: &[f64], correction: usize, depth: f64) -> Near {
    let largest = reference::max_norm(x);
    if !(largest > 0.0 && largest.is_finite() && x.len() > correction) {
        let alike = largest == 0.0 && x.len() > correction;
        return within(if alike { 0.0 } else { f64::NAN }, 0.0);
    }
    // Scaled by a power of two, which does not round where elements are almost alike.
    let scale = largest.log2().floor().exp2();
    let scaled: Vec<f64> = x.iter().map(|x| x / scale).collect();
    let exact = reference::variance(&scaled, correction).sqrt() * scale;
    // Far from the mean the first element counts: √n at the most.
    let n = x.len() as f64;
    let relative = (depth / 2.0 + 8.0 + 2.0 * n.sqrt()) * unit::<T>() + n * 1e-15;
    within(exact, relative * exact + smallest::<T>())
}

fn std_all<T: Element>(draw: &mut Draw) -> Case<T> {
    let (len, correction) = (draw.len(), correction(draw));
    of_all(
        format!("correction {correction}"),
        any_size(draw, len),
        move |x| reduce::std_all(x, correction),
        move |x| std_near::<T>(x, correction, row_depth::<T>(x.len())),
    )
}

fn std_rows<T: Element>(draw: &mut Draw) -> Case<T> {
    let ([rows, cols], correction) = (draw.matrix(), correction(draw));
    of_rows(
        format!("correction {correction}"),
        [rows, cols],
        any_size(draw, rows * cols),
        move |x, cols, y| reduce::std_rows(x, cols, correction, y),
        move |x| std_near::<T>(x, correction, row_depth::<T>(x.len())),
    )
}

fn std_cols<T: Element>(draw: &mut Draw) -> Case<T> {
    let ([rows, cols], correction) = (draw.matrix(), correction(draw));
    of_cols(
        format!("correction {correction}"),
        [rows, cols],
        any_size(draw, rows * cols),
        move |x, cols, y| reduce::std_cols(x, cols, correction, y),
        move |x| std_near::<T>(x, correction, column_depth(x.len()).max(row_depth::<T>(x.len()))),
    )
}

// Norms.

const NORMS: [Norm; 3] = [Norm::L1, Norm::L2, Norm::Max];

pub fn expected_norm(op: Norm, x: &[f64]) -> f64 {
    match op {
        Norm::L1 => reference::l1_norm(x),
        Norm::L2 => reference::l2_norm(x),
        Norm::Max => reference::max_norm(x),
    }
}

fn norm_near<T: Element>(op: Norm, x: &[f64], depth: f64) -> Near {
    let units = match op {
        Norm::L1 => depth,
        Norm::L2 => depth / 2.0 + 2.0,
        Norm::Max => 0.0,
    };
    let relative = units * unit::<T>() + (x.len() as f64 + 4.0) * unit::<f64>();
    let exact = expected_norm(op, x);
    within(exact, relative * exact + smallest::<T>())
}

/// Numbers of any size, also such that their squares leave the range, with ties and zeros among them.
fn of_any_scale<T: Element>(draw: &mut Draw, len: usize) -> Vec<T> {
    // The squares of f32 leave the range from ±19 on; norms do not.
    let exponent = draw.below(69) as i32 - 33;
    let scale = T::from_f64(10f64.powi(if T::NAME == "f32" { exponent } else { 7 * exponent }));
    let values: Vec<T> = draw.values(len, -1.0, 1.0);
    let tied = |x: T| match (draw.unit() * 7.0) as usize {
        0 => T::from_f64(0.5),
        1 => T::from_f64(-0.5),
        2 => T::ZERO,
        _ => x,
    };
    values.into_iter().map(tied).map(|x| x * scale).collect()
}

fn norm_all<T: Element>(draw: &mut Draw) -> Case<T> {
    let (op, len) = (draw.pick(&NORMS), draw.len());
    of_all(
        format!("{op:?}"),
        of_any_scale(draw, len),
        move |x| norm::all(op, x),
        move |x| norm_near::<T>(op, x, row_depth::<T>(x.len())),
    )
}

fn norm_rows<T: Element>(draw: &mut Draw) -> Case<T> {
    let (op, [rows, cols]) = (draw.pick(&NORMS), draw.matrix());
    of_rows(
        format!("{op:?}"),
        [rows, cols],
        of_any_scale(draw, rows * cols),
        move |x, cols, y| norm::rows(op, x, cols, y),
        move |x| norm_near::<T>(op, x, row_depth::<T>(x.len())),
    )
}

fn norm_cols<T: Element>(draw: &mut Draw) -> Case<T> {
    let (op, [rows, cols]) = (draw.pick(&NORMS), draw.matrix());
    of_cols(
        format!("{op:?}"),
        [rows, cols],
        of_any_scale(draw, rows * cols),
        move |x, cols, y| norm::cols(op, x, cols, y),
        move |x| norm_near::<T>(op, x, column_depth(x.len()).max(row_depth::<T>(x.len()))),
    )
}

/// The gradient of a row or column: within the rounding of the norm, also where that is subnormal, and 3u.
fn norm_gradient<T: Element>(op: Norm, x: &[f64], dy: f64) -> Vec<Near> {
    let norm = expected_norm(op, x);
    let slopes = match op {
        Norm::L1 => reference::l1_norm_backward(x, 1.0),
        Norm::L2 => reference::l2_norm_backward(x, 1.0),
        // NaN has no share in anything.
        Norm::Max if norm.is_nan() => vec![f64::NAN; x.len()],
        Norm::Max => reference::max_norm_backward(x, 1.0),
    };
    let lost = if op == Norm::L2 && norm > 0.0 { smallest::<T>() / norm } else { 0.0 };
    let relative = 4.0 * unit::<T>() + (x.len() as f64 + 4.0) * unit::<f64>() + lost;
    slopes.into_iter().map(|slope| within(dy * slope, relative * (dy * slope).abs())).collect()
}

fn norm_rows_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let (op, [rows, cols]) = (draw.pick(&NORMS), draw.matrix());
    let x: Vec<T> = of_any_scale(draw, rows * cols);
    let wide: Vec<f64> = x.iter().map(|x| x.to_f64()).collect();
    let y = reference::by_row(&wide, cols, |x| T::from_f64(expected_norm(op, x)));
    Case::new(format!("{op:?} of {rows} × {cols}"))
        .input_per_item("x", cols, x)
        .input_per_item("y", 1, y)
        .input_per_item("dy", 1, draw.values(rows, -1.0, 1.0))
        .output_per_item("dx", cols, rows * cols)
        .run(move |[x, y, dy], [], [dx]| norm::RowsBackward { op, x, y, dy, cols, dx }.run())
        .expect(move |[x, _, dy], [], [_]| {
            let rows = x.chunks(cols).zip(dy);
            [rows.flat_map(|(x, &dy)| norm_gradient::<T>(op, x, dy)).collect()]
        })
        .refuses("absurd rows", move |[x, y, dy], [], [dx]| {
            norm::RowsBackward { op, x, y, dy, cols: usize::MAX, dx }.run()
        })
}

fn norm_cols_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let (op, [rows, cols]) = (draw.pick(&NORMS), draw.matrix());
    let x: Vec<T> = of_any_scale(draw, rows * cols);
    let wide: Vec<f64> = x.iter().map(|x| x.to_f64()).collect();
    let y = reference::by_column(&wide, cols, |x| T::from_f64(expected_norm(op, x)));
    Case::new(format!("{op:?} of {rows} × {cols}"))
        .input("x", x)
        .input("y", y)
        .input("dy", draw.values(cols, -1.0, 1.0))
        .output("dx", rows * cols)
        .run(move |[x, y, dy], [], [dx]| norm::ColsBackward { op, x, y, dy, cols, dx }.run())
        .expect(move |[x, _, dy], [], [_]| {
            let columns = reference::by_column(x, cols, <[f64]>::to_vec);
            let columns: Vec<Vec<Near>> =
                columns.iter().zip(dy).map(|(x, &dy)| norm_gradient::<T>(op, x, dy)).collect();
            let at = |i: usize| &columns[i % cols][i / cols];
            [(0..x.len()).map(|i| within(at(i).exact, at(i).bound)).collect()]
        })
        .refuses("absurd columns", move |[x, y, dy], [], [dx]| {
            norm::ColsBackward { op, x, y, dy, cols: usize::MAX, dx }.run()
        })
}

// Cumulative sums.

/// The cumulative sums of a row or column, within `d·u·Σ|x|` of what is added up.
fn cumulated<T: Element>(x: &[f64], reverse: bool, segment: usize) -> Vec<Near> {
    let n = x.len();
    // The most additions from an element to a result, as documented.
    let depth = (n.min(segment) + n.div_ceil(segment)) as f64;
    let units = depth * unit::<T>() + n as f64 * unit::<f64>();
    let sizes = reference::cumsum(&x.iter().map(|x| x.abs()).collect::<Vec<_>>(), reverse);
    strictly(reference::cumsum(x, reverse), |i| units * sizes[i])
}

fn cumsum_rows<T: Element>(draw: &mut Draw) -> Case<T> {
    let ([rows, cols], reverse) = (draw.matrix(), draw.flip());
    Case::new(format!("{rows} × {cols}, reverse {reverse}"))
        .input_per_item("x", cols, shifted(draw, rows * cols))
        .output_per_item("y", cols, rows * cols)
        .run(move |[x], [], [y]| cumsum::rows(x, cols, reverse, y))
        .expect(move |[x], [], [_]| [x.chunks(cols).flat_map(|x| cumulated::<T>(x, reverse, 1024)).collect()])
        .refuses("absurd rows", move |[x], [], [y]| cumsum::rows(x, usize::MAX, reverse, y))
}

fn cumsum_cols<T: Element>(draw: &mut Draw) -> Case<T> {
    let ([rows, cols], reverse) = (draw.matrix(), draw.flip());
    Case::new(format!("{rows} × {cols}, reverse {reverse}"))
        .input("x", shifted(draw, rows * cols))
        .output("y", rows * cols)
        .run(move |[x], [], [y]| cumsum::cols(x, cols, reverse, y))
        .expect(move |[x], [], [_]| {
            let columns = reference::by_column(x, cols, |x| cumulated::<T>(x, reverse, 128));
            let at = |i: usize| &columns[i % cols][i / cols];
            [(0..x.len()).map(|i| within(at(i).exact, at(i).bound)).collect()]
        })
        .refuses("absurd columns", move |[x], [], [y]| cumsum::cols(x, usize::MAX, reverse, y))
}
