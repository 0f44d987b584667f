//! Elementwise functions of one and two arrays, updates in place, and the gradients of powers.

use gristmill::kernels::map::{self, Binary, Unary};
use gristmill::kernels::pow;
use gristmill::{Element, Result, reference::map as reference};

use super::{Case, Draw, Kernel, Length, Near, entries, strictly, unit};

pub const KERNELS: &[Kernel] = entries![
    "map::unary" => unary; 8,
    "map::unary_backward" => unary_backward; 8,
    "map::binary" => binary; 2,
    "map::binary_scalar" => binary_scalar; 2,
    "map::scalar_binary" => scalar_binary; 2,
    "map::binary_row" => binary_row; 2,
    "map::binary_col" => binary_col; 2,
    "map::gate" => gate,
    "map::accumulate" => accumulate,
    "map::axpy" => axpy,
    "map::axpby" => axpby,
    "map::scale" => scale,
    "pow::base_backward" => base_backward,
    "pow::exponent_backward" => exponent_backward,
];

/// All functions of one argument, with parameters; powers with many.
pub fn functions<T: Element>() -> Vec<Unary<T>> {
    let mut all = Unary::all();
    all.extend(
        [-17.0, -2.5, -2.0, -1.0, 0.0, 0.5, 1.0, 3.0, 7.0, 16.0, 21.0].map(|p| Unary::Powf(T::from_f64(p))),
    );
    all.extend([-17, -2, -1, 0, 1, 2, 16, 21].map(Unary::Powi));
    all
}

/// One of them, its parameter perhaps another one.
pub fn function<T: Element>(draw: &mut Draw) -> Unary<T> {
    let op = draw.pick(&functions::<T>());
    let mut parameter = || T::from_f64(4.0 * draw.unit() - 2.0);
    match op {
        Unary::LeakyRelu { .. } => Unary::LeakyRelu { slope: parameter() },
        Unary::Elu { .. } => Unary::Elu { alpha: parameter() },
        Unary::Clamp { .. } => Unary::Clamp { min: parameter(), max: parameter() },
        op => op,
    }
}

/// Where functions bend, where they saturate, and near 0.
pub fn arguments<T: Element>(draw: &mut Draw, len: usize) -> Vec<T> {
    let size = draw.pick(&[12.0, 1.0, 0.01, 100.0]);
    draw.values(len, -size, size)
}

/// The distance between subnormal numbers, of which a few may be lost where a result or a factor is
/// subnormal.
fn subnormal<T: Element>() -> f64 {
    if T::NAME == "f32" { 0.5_f64.powi(149) } else { f64::from_bits(1) }
}

/// The reference is in f64 itself: its own error is about as large, and it calls one more rounded function.
pub fn own<T: Element>(bound: f64) -> f64 {
    if T::NAME == "f64" { 2.0 * bound + 6.0 } else { bound }
}

/// For bounds that grow with x: infinities are no worse than 1000.
fn finite(x: f64) -> f64 {
    x.clamp(-1000.0, 1000.0)
}

/// What a function must give.
pub fn values_near<T: Element>(op: Unary<T>, x: &[f64]) -> Vec<Near> {
    let twin = op.twin();
    let exact: Vec<f64> = x.iter().map(|&x| twin.value(x)).collect();
    strictly(exact.clone(), |i| {
        let (relative, absolute) = twin.value_bound(finite(x[i]));
        let lost = 4.0 * subnormal::<T>() * (1.0 + finite(x[i]).abs());
        unit::<T>() * (own::<T>(relative) * exact[i].abs() + absolute) + lost
    })
}

/// What a gradient must be.
fn gradient_near<T: Element>(op: Unary<T>, x: f64, dy: f64) -> Near {
    let twin = op.twin();
    let slope = twin.derivative(x);
    if slope == 0.0 && twin.is_flat() {
        return Near { exact: 0.0, bound: 0.0 };
    }
    let exact = dy * slope;
    // The largest number whose reciprocal is normal.
    let largest = if T::NAME == "f32" { 126_f64.exp2() } else { 1022_f64.exp2() };
    // Nothing is promised where the derivative or its product with dy leaves the range of T, nor where a
    // derivative that is rounded to 0 meets an infinity.
    let leaves = slope.abs() > largest || exact.is_finite() && exact.abs() > largest;
    if leaves || dy.is_infinite() && slope.abs() < 1e-3 {
        return Near { exact: 0.0, bound: f64::INFINITY };
    }
    let x = finite(x);
    let (relative, absolute) = twin.derivative_bound(x);
    // A subnormal factor is multiplied by p or a polynomial of degree 3, and by dy.
    let p = match op {
        Unary::Powf(p) => p.to_f64().abs(),
        Unary::Powi(n) => f64::from(n).abs(),
        _ => 0.0,
    };
    let lost = 4.0 * subnormal::<T>() * (1.0 + p) * (1.0 + x.abs()).powi(3) * (1.0 + dy.abs());
    let bound = unit::<T>() * (own::<T>(relative) * exact.abs() + own::<T>(absolute) * dy.abs()) + lost;
    Near { exact, bound: if exact.is_finite() { bound } else { 0.0 } }
}

fn unary<T: Element>(draw: &mut Draw) -> Case<T> {
    let (op, len) = (function(draw), draw.len());
    Case::new(format!("{op:?} of {len}"))
        .input_per_item("x", 1, arguments(draw, len))
        .output_per_item("y", 1, len)
        .run(move |[x], [], [y]| map::unary(op, x, y))
        .expect(move |[x], [], [_]| [values_near(op, x)])
}

fn unary_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let (op, len) = (function::<T>(draw), draw.len());
    let (x, twin): (Vec<T>, _) = (arguments(draw, len), op.twin());
    let y = x.iter().map(|x| T::from_f64(twin.value(x.to_f64()))).collect();
    Case::new(format!("{op:?} of {len}"))
        .input_per_item("x", 1, x)
        .input_per_item("y", 1, y)
        .input_per_item("dy", 1, draw.values(len, -2.0, 2.0))
        .output_per_item("dx", 1, len)
        .run(move |[x, y, dy], [], [dx]| map::UnaryBackward { op, x, y, dy, dx }.run())
        .expect(move |[x, _, dy], [], [_]| {
            [x.iter().zip(dy).map(|(&x, &dy)| gradient_near(op, x, dy)).collect()]
        })
}

const PAIRS: [Binary; 7] =
    [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Min, Binary::Max, Binary::Pow];

pub fn pair_of(draw: &mut Draw) -> Binary {
    draw.pick(&PAIRS)
}

/// Arguments of a function of two; of powers also whole exponents, and bases of either sign.
pub fn operands<T: Element>(draw: &mut Draw, op: Binary, [a, b]: [usize; 2]) -> [Vec<T>; 2] {
    if op != Binary::Pow {
        return [draw.values(a, -1.0, 1.0), draw.values(b, -1.0, 1.0)];
    }
    let low = draw.pick(&[0.01, -4.0]);
    let whole = draw.flip();
    let exponents = draw.values::<T>(b, -6.0, 6.0).into_iter();
    let rounded = |x: T| if whole { T::from_f64(x.to_f64().round()) } else { x };
    [draw.values(a, low, 4.0), exponents.map(rounded).collect()]
}

/// What a function of two must give, at `len` places. What f64 rounds and T rounds again is as if rounded
/// once.
pub fn pairs_near<T: Element>(
    op: Binary,
    len: usize,
    a: impl Fn(usize) -> f64,
    b: impl Fn(usize) -> f64,
) -> Vec<Near> {
    let pair = |(a, b): (f64, f64)| match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Min => reference::minimum(a, b),
        Binary::Max => reference::maximum(a, b),
        Binary::Pow => a.powf(b),
    };
    // Within 1 ULP, of f64 without fused multiply-add 2, and the C library's.
    let relative = match op {
        Binary::Pow if T::NAME == "f32" => 2.0,
        Binary::Pow => 6.0,
        _ => 0.0,
    };
    let exact: Vec<f64> = (0..len).map(|i| pair((a(i), b(i)))).collect();
    strictly(exact.clone(), |i| relative * unit::<T>() * exact[i].abs())
}

fn binary<T: Element>(draw: &mut Draw) -> Case<T> {
    let (op, len) = (pair_of(draw), draw.len());
    let [a, b] = operands(draw, op, [len; 2]);
    Case::new(format!("{op:?} of {len}"))
        .input_per_item("a", 1, a)
        .input_per_item("b", 1, b)
        .output_per_item("y", 1, len)
        .run(move |[a, b], [], [y]| map::binary(op, a, b, y))
        .expect(move |[a, b], [], [_]| [pairs_near::<T>(op, len, |i| a[i], |i| b[i])])
}

fn binary_scalar<T: Element>(draw: &mut Draw) -> Case<T> {
    let (op, len) = (pair_of(draw), draw.len());
    let [a, b] = operands::<T>(draw, op, [len, 1]);
    let b = b[0];
    Case::new(format!("{op:?} of {len} and {b}"))
        .input_per_item("a", 1, a)
        .output_per_item("y", 1, len)
        .run(move |[a], [], [y]| map::binary_scalar(op, a, b, y))
        .expect(move |[a], [], [_]| [pairs_near::<T>(op, len, |i| a[i], |_| b.to_f64())])
}

fn scalar_binary<T: Element>(draw: &mut Draw) -> Case<T> {
    let (op, len) = (pair_of(draw), draw.len());
    let [a, b] = operands::<T>(draw, op, [1, len]);
    let a = a[0];
    Case::new(format!("{op:?} of {a} and {len}"))
        .input_per_item("b", 1, b)
        .output_per_item("y", 1, len)
        .run(move |[b], [], [y]| map::scalar_binary(op, a, b, y))
        .expect(move |[b], [], [_]| [pairs_near::<T>(op, len, |_| a.to_f64(), |i| b[i])])
}

fn binary_row<T: Element>(draw: &mut Draw) -> Case<T> {
    let (op, [rows, cols]) = (pair_of(draw), draw.matrix());
    let [a, row] = operands(draw, op, [rows * cols, cols]);
    Case::new(format!("{op:?} of {rows} × {cols}"))
        .input_per_item("a", cols, a)
        .input("row", row)
        .output_per_item("y", cols, rows * cols)
        .lengths(Length::Any, &["row"])
        .run(move |[a, row], [], [y]| map::binary_row(op, a, row, y))
        .expect(move |[a, row], [], [_]| [pairs_near::<T>(op, a.len(), |i| a[i], |i| row[i % cols])])
        .refuses("a row that is longer than all", move |[a, _], [], [y]| {
            map::binary_row(op, a, &[a, &[T::ONE]].concat(), y)
        })
}

fn binary_col<T: Element>(draw: &mut Draw) -> Case<T> {
    let (op, [rows, cols]) = (pair_of(draw), draw.matrix());
    let [a, col] = operands(draw, op, [rows * cols, rows]);
    Case::new(format!("{op:?} of {rows} × {cols}"))
        .input_per_item("a", cols, a)
        .input_per_item("col", 1, col)
        .output_per_item("y", cols, rows * cols)
        .lengths(Length::Any, &["col"])
        .run(move |[a, col], [], [y]| map::binary_col(op, a, col, y))
        .expect(move |[a, col], [], [_]| [pairs_near::<T>(op, a.len(), |i| a[i], |i| col[i / cols])])
        .refuses("more rows than elements", move |[a, _], [], [y]| {
            map::binary_col(op, a, &[a, &[T::ONE]].concat(), y)
        })
}

fn gate<T: Element>(draw: &mut Draw) -> Case<T> {
    let len = draw.len();
    let scale = T::from_f64(draw.pick(&[1.0, 2.0, 1.0 / 0.9]));
    Case::new(format!("{len}, scale {scale}"))
        .input_per_item("y", 1, draw.values(len, -1.0, 1.0))
        .input_per_item("dy", 1, draw.values(len, -1.0, 1.0))
        .output_per_item("dx", 1, len)
        .run(move |[y, dy], [], [dx]| map::gate(y, scale, dy, dx))
        .expect(move |[y, dy], [], [_]| {
            let dx = |(&y, &dy)| if y <= 0.0 { 0.0 } else { dy * scale.to_f64() };
            [strictly(y.iter().zip(dy).map(dx).collect(), |_| 0.0)]
        })
}

/// What so many roundings, one after the other, make of terms of a size: γ of the kernel and of its
/// reference.
pub fn rounded<T: Element>(times: f64, size: f64) -> f64 {
    let steps = times * (unit::<T>() + unit::<f64>());
    steps / (1.0 - steps) * size
}

fn accumulate<T: Element>(draw: &mut Draw) -> Case<T> {
    let len = draw.len();
    Case::new(len)
        .input_per_item("x", 1, draw.values(len, -1.0, 1.0))
        .in_place_per_item("y", 1, draw.values(len, -1.0, 1.0))
        .run(move |[x], [], [y]| map::accumulate(x, y))
        .expect(move |[x], [], [y]| [pairs_near::<T>(Binary::Add, x.len(), |i| x[i], |i| y[i])])
}

fn axpy<T: Element>(draw: &mut Draw) -> Case<T> {
    let alpha = T::from_f64(draw.pick(&[1.7, 1.0, 0.0, -0.3]));
    update(draw, [alpha, T::ONE], move |x, y| map::axpy(alpha, x, y))
}

fn axpby<T: Element>(draw: &mut Draw) -> Case<T> {
    let [alpha, beta] = [0; 2].map(|_| T::from_f64(draw.pick(&[1.7, 1.0, 0.0, -0.3])));
    update(draw, [alpha, beta], move |x, y| map::axpby(alpha, x, beta, y))
}

/// `y = alpha·x + beta·y`, where a beta of 0 does not read y.
fn update<T: Element>(
    draw: &mut Draw,
    [alpha, beta]: [T; 2],
    run: impl Fn(&[T], &mut [T]) -> Result<()> + 'static,
) -> Case<T> {
    let len = draw.len();
    Case::new(format!("{len}, alpha {alpha}, beta {beta}"))
        .input_per_item("x", 1, draw.values(len, -1.0, 1.0))
        .in_place_per_item("y", 1, draw.values(len, -1.0, 1.0))
        .run(move |[x], [], [y]| run(x, y))
        .expect(move |[x], [], [y]| {
            let (alpha, beta) = (alpha.to_f64(), beta.to_f64());
            let terms = |i: usize| [alpha * x[i], if beta == 0.0 { 0.0 } else { beta * y[i] }];
            let exact = (0..x.len()).map(|i| terms(i)[0] + terms(i)[1]).collect();
            [strictly(exact, |i| rounded::<T>(2.0, terms(i)[0].abs() + terms(i)[1].abs()))]
        })
}

fn scale<T: Element>(draw: &mut Draw) -> Case<T> {
    let len = draw.len();
    let alpha = T::from_f64(draw.pick(&[1.7, 1.0, 0.0, -0.3]));
    Case::new(format!("{len}, alpha {alpha}"))
        .in_place_per_item("x", 1, draw.values(len, -1.0, 1.0))
        .lengths(Length::Any, &["x"])
        .run(move |[], [], [x]| map::scale(alpha, x))
        .expect(move |[], [], [x]| [pairs_near::<T>(Binary::Mul, x.len(), |i| x[i], |_| alpha.to_f64())])
}

/// The error of a power and of a logarithm, in u: 1 ULP each, without fused multiply-add 2.
const POWER: f64 = 4.0;

fn base_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let len = draw.len();
    let [a, b] = operands(draw, Binary::Pow, [len; 2]);
    Case::new(len)
        .input_per_item("a", 1, a)
        .input_per_item("b", 1, b)
        .input_per_item("dy", 1, draw.values(len, -1.0, 1.0))
        .output_per_item("da", 1, len)
        .run(move |[a, b, dy], [], [da]| pow::BaseBackward { a, b, dy, da }.run())
        .expect(move |[a, b, dy], [], [_]| {
            let da = |i: usize| match b[i] {
                0.0 => 0.0,
                _ => dy[i] * reference::pow_base_derivative(a[i], b[i]),
            };
            let exact: Vec<f64> = (0..a.len()).map(da).collect();
            [strictly(exact.clone(), |i| {
                // The error of b − 1 counts |ln a| times.
                let below = b[i] - 1.0;
                let rounding = (T::from_f64(below).to_f64() - below).abs() * a[i].abs().ln().abs();
                (rounded::<T>(POWER + 2.0, 1.0) + rounding) * exact[i].abs()
            })]
        })
}

fn exponent_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let len = draw.len();
    let [a, b] = operands::<T>(draw, Binary::Pow, [len; 2]);
    let y = a.iter().zip(&b).map(|(a, b)| T::from_f64(a.to_f64().powf(b.to_f64()))).collect();
    Case::new(len)
        .input_per_item("a", 1, a)
        .input_per_item("b", 1, b)
        .input_per_item("y", 1, y)
        .input_per_item("dy", 1, draw.values(len, -1.0, 1.0))
        .output_per_item("db", 1, len)
        .run(move |[a, b, y, dy], [], [db]| pow::ExponentBackward { a, b, y, dy, db }.run())
        .expect(move |[a, b, _, dy], [], [_]| {
            let db = |i: usize| match a[i] {
                0.0 if b[i] >= 0.0 => 0.0,
                _ => dy[i] * reference::pow_exponent_derivative(a[i], b[i]),
            };
            let exact: Vec<f64> = (0..a.len()).map(db).collect();
            // The logarithm, the rounding of y and two products.
            [strictly(exact.clone(), |i| rounded::<T>(POWER + 3.0, exact[i].abs()))]
        })
}
