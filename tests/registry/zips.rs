//! Elementwise functions of operands that lie anywhere.

use gristmill::kernels::zip::{self, Operand, Ternary};
use gristmill::{Element, reference};

use super::maps::{arguments, function, operands, pair_of, pairs_near, rounded, values_near};
use super::{Case, Draw, Kernel, Length, entries, near, strictly};

pub const KERNELS: &[Kernel] = entries![
    "zip::unary" => unary; 2,
    "zip::binary" => binary; 2,
    "zip::ternary" => ternary; 2,
    "zip::ternary_in_place" => ternary_in_place; 2,
    "zip::ternary_backward" => ternary_backward; 2,
];

/// How an operand lies.
#[derive(Clone, Copy, Debug)]
enum Lie {
    Matrix(usize),
    Row,
    Column,
    Scalar,
}

/// The shape of a result: a matrix or, so that elements can be looked at one by one, a single row of as many
/// elements as it has.
#[derive(Clone, Copy, Debug)]
struct Shape {
    rows: usize,
    cols: usize,
    is_row: bool,
}

impl Shape {
    fn draw(draw: &mut Draw) -> Self {
        if draw.below(3) == 2 {
            return Self { rows: 1, cols: draw.len(), is_row: true };
        }
        let [rows, cols] = draw.matrix();
        Self { rows, cols, is_row: false }
    }

    fn len(self) -> usize {
        self.rows * self.cols
    }

    /// With the length that the result has.
    fn of<T>(self, y: &[T]) -> [usize; 2] {
        if self.is_row { [1, y.len()] } else { [self.rows, self.cols] }
    }

    /// Ways to lie; `first` is of an operand by which a row's length shows.
    fn lie(self, draw: &mut Draw, first: bool) -> Lie {
        let n = self.cols;
        if self.is_row {
            return if first { Lie::Row } else { draw.pick(&[Lie::Row, Lie::Scalar]) };
        }
        draw.pick(&[Lie::Matrix(n), Lie::Matrix(n + 3), Lie::Matrix(0), Lie::Row, Lie::Column, Lie::Scalar])
    }

    /// The length of the operand's slice: nothing behind the last row.
    fn data_len(self, lie: Lie) -> usize {
        match lie {
            Lie::Matrix(_) if self.rows == 0 => 0,
            Lie::Matrix(stride) => (self.rows - 1) * stride + self.cols,
            Lie::Row => self.cols,
            Lie::Column => self.rows,
            Lie::Scalar => 1,
        }
    }

    /// Element by element.
    fn gathered(self, lie: Lie, x: &[f64]) -> Vec<f64> {
        let place = |i: usize| match lie {
            Lie::Matrix(stride) => i / self.cols * stride + i % self.cols,
            Lie::Row => i % self.cols,
            Lie::Column => i / self.cols,
            Lie::Scalar => 0,
        };
        (0..self.len()).map(|i| x[place(i)]).collect()
    }

    fn side<T: Element>(self, case: Case<T>, name: &'static str, lie: Lie, values: Vec<T>) -> Case<T> {
        let case = match lie {
            Lie::Row if self.is_row => case.input_per_item(name, 1, values),
            _ => case.input(name, values),
        };
        let length = match lie {
            Lie::Scalar => Length::Any,
            // Of no elements no operand is read.
            _ if self.len() == 0 => Length::Any,
            Lie::Matrix(_) => Length::AtLeast,
            Lie::Row | Lie::Column => Length::Exact,
        };
        case.lengths(length, &[name])
    }

    fn result<T: Element>(self, case: Case<T>, name: &'static str) -> Case<T> {
        if self.is_row { case.output_per_item(name, 1, self.len()) } else { case.output(name, self.len()) }
    }
}

fn of<T: Element>(lie: Lie, x: &[T]) -> Operand<'_, T> {
    match lie {
        Lie::Matrix(stride) => Operand::Matrix(x, stride),
        Lie::Row => Operand::Row(x),
        Lie::Column => Operand::Column(x),
        Lie::Scalar => Operand::Scalar(x[0]),
    }
}

fn unary<T: Element>(draw: &mut Draw) -> Case<T> {
    let (op, shape) = (function::<T>(draw), Shape::draw(draw));
    let lie = shape.lie(draw, true);
    let case = Case::new(format!("{op:?} {shape:?} {lie:?}"));
    let case = shape.side(case, "x", lie, arguments(draw, shape.data_len(lie)));
    shape
        .result(case, "y")
        .run(move |[x], [], [y]| zip::unary(op, of(lie, x), shape.of(y), y))
        .expect(move |[x], [], [_]| [values_near(op, &shape.gathered(lie, x))])
        .refuses("an absurd shape", move |[x], [], [y]| zip::unary(op, of(lie, x), [usize::MAX, 2], y))
}

fn binary<T: Element>(draw: &mut Draw) -> Case<T> {
    let (op, shape) = (pair_of(draw), Shape::draw(draw));
    let lies = [shape.lie(draw, true), shape.lie(draw, false)];
    let [a, b] = operands(draw, op, lies.map(|lie| shape.data_len(lie)));
    let case = Case::new(format!("{op:?} {shape:?} {lies:?}"));
    let case = shape.side(shape.side(case, "a", lies[0], a), "b", lies[1], b);
    shape
        .result(case, "y")
        .run(move |[a, b], [], [y]| zip::binary(op, of(lies[0], a), of(lies[1], b), shape.of(y), y))
        .expect(move |[a, b], [], [_]| {
            let (a, b) = (shape.gathered(lies[0], a), shape.gathered(lies[1], b));
            [pairs_near::<T>(op, a.len(), |i| a[i], |i| b[i])]
        })
        .refuses("an absurd shape", move |[a, b], [], [y]| {
            zip::binary(op, of(lies[0], a), of(lies[1], b), [2, usize::MAX], y)
        })
}

/// Numbers for the three operands: zeros for `where`, weights on either side of ½ for `lerp`.
fn numbers<T: Element>(draw: &mut Draw, op: Ternary, n: usize, len: usize) -> Vec<T> {
    let (low, high) = if (op, n) == (Ternary::Lerp, 2) { (-0.25, 1.25) } else { (-1.0, 1.0) };
    let mut values: Vec<T> = draw.values(len, low, high);
    if (op, n) == (Ternary::Where, 0) {
        values.iter_mut().filter(|x| x.to_f64().abs() < 0.4).for_each(|x| *x = T::ZERO);
    }
    values
}

const TERNARY: [Ternary; 3] = [Ternary::MulAdd, Ternary::Lerp, Ternary::Where];

/// The value and its bound.
fn three<T: Element>(op: Ternary, [a, b, c]: [f64; 3]) -> (f64, f64) {
    match op {
        Ternary::MulAdd => (reference::zip::mul_add(a, b, c), rounded::<T>(2.0, (a * b).abs() + c.abs())),
        Ternary::Lerp => {
            // Two differences, a product and a sum.
            let (weight, end) = if c < 0.5 { (c, a) } else { (1.0 - c, b) };
            let size = (weight * (b - a)).abs() + end.abs();
            (reference::zip::lerp(a, b, c), rounded::<T>(4.0, size))
        }
        Ternary::Where => (reference::zip::choose(a, b, c), 0.0),
    }
}

fn ternary<T: Element>(draw: &mut Draw) -> Case<T> {
    let (op, shape) = (draw.pick(&TERNARY), Shape::draw(draw));
    let lies = [0, 1, 2].map(|n| shape.lie(draw, n == 0));
    let mut case = Case::new(format!("{op:?} {shape:?} {lies:?}"));
    for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
        let values = numbers(draw, op, n, shape.data_len(lies[n]));
        case = shape.side(case, name, lies[n], values);
    }
    let all = move |abc: [&[f64]; 3], i: usize| [0, 1, 2].map(|n| abc[n][i]);
    shape
        .result(case, "y")
        .run(move |abc: [&[T]; 3], [], [y]| {
            zip::ternary(op, [0, 1, 2].map(|n| of(lies[n], abc[n])), shape.of(y), y)
        })
        .expect(move |abc: [&[f64]; 3], [], [_]| {
            let abc = [0, 1, 2].map(|n| shape.gathered(lies[n], abc[n]));
            let abc = abc.each_ref().map(|x| &x[..]);
            let exact = (0..shape.len()).map(|i| three::<T>(op, all(abc, i)).0).collect();
            [strictly(exact, |i| three::<T>(op, all(abc, i)).1)]
        })
        .refuses("an absurd shape", move |abc: [&[T]; 3], [], [y]| {
            zip::ternary(op, [0, 1, 2].map(|n| of(lies[n], abc[n])), [usize::MAX, 2], y)
        })
}

fn ternary_in_place<T: Element>(draw: &mut Draw) -> Case<T> {
    let (op, shape) = (draw.pick(&TERNARY), Shape::draw(draw));
    let lies = [shape.lie(draw, true), shape.lie(draw, false)];
    let mut case = Case::new(format!("{op:?} {shape:?} {lies:?}"));
    for (n, name) in ["b", "c"].into_iter().enumerate() {
        let values = numbers(draw, op, n + 1, shape.data_len(lies[n]));
        case = shape.side(case, name, lies[n], values);
    }
    let a = numbers(draw, op, 0, shape.len());
    let case = if shape.is_row { case.in_place_per_item("a", 1, a) } else { case.in_place("a", a) };
    case.run(move |[b, c], [], [a]| {
        let shape = shape.of(a);
        zip::ternary_in_place(op, a, [of(lies[0], b), of(lies[1], c)], shape)
    })
    .expect(move |[b, c], [], [a]| {
        let (b, c) = (shape.gathered(lies[0], b), shape.gathered(lies[1], c));
        let exact = (0..shape.len()).map(|i| three::<T>(op, [a[i], b[i], c[i]]).0).collect();
        [strictly(exact, |i| three::<T>(op, [a[i], b[i], c[i]]).1)]
    })
    .refuses("an absurd shape", move |[b, c], [], [a]| {
        zip::ternary_in_place(op, a, [of(lies[0], b), of(lies[1], c)], [usize::MAX, 2])
    })
}

/// The gradients; two roundings, of a difference and a product, or one or none.
fn slopes(op: Ternary, [a, b, c]: [f64; 3], dy: f64) -> [f64; 3] {
    match op {
        Ternary::MulAdd => [dy * b, dy * a, dy],
        Ternary::Lerp => [dy * (1.0 - c), dy * c, dy * (b - a)],
        Ternary::Where if a == 0.0 => [0.0, 0.0, dy],
        Ternary::Where => [0.0, dy, 0.0],
    }
}

fn ternary_backward<T: Element>(draw: &mut Draw) -> Case<T> {
    let (op, shape) = (draw.pick(&TERNARY), Shape::draw(draw));
    let lies = [0, 1, 2].map(|n| shape.lie(draw, n == 0));
    let wanted = [0; 3].map(|_| draw.below(4) != 3);
    let mut case = Case::new(format!("{op:?} {shape:?} {lies:?}, wanted {wanted:?}"));
    for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
        let values = numbers(draw, op, n, shape.data_len(lies[n]));
        case = shape.side(case, name, lies[n], values);
    }
    let dy = draw.values(shape.len(), -1.0, 1.0);
    let mut case = if shape.is_row { case.input_per_item("dy", 1, dy) } else { case.input("dy", dy) };
    for (wanted, name) in wanted.into_iter().zip(["da", "db", "dc"]) {
        case = if wanted { shape.result(case, name) } else { case.output_per_item(name, 0, 0) };
    }
    case.run(move |[a, b, c, dy], [], gradients| {
        let abc = [of(lies[0], a), of(lies[1], b), of(lies[2], c)];
        let mut wanted = wanted.into_iter();
        let gradients = gradients.map(|gradient| wanted.next()?.then_some(gradient));
        zip::TernaryBackward { op, abc, dy, shape: shape.of(dy), gradients }.run()
    })
    .expect(move |[a, b, c, dy], [], [..]: [&[f64]; 3]| {
        let abc = [(0, a), (1, b), (2, c)].map(|(n, x)| shape.gathered(lies[n], x));
        [0, 1, 2].map(|n| {
            if !wanted[n] {
                return near(Vec::new(), |_| 0.0);
            }
            let slope = |i: usize| slopes(op, abc.each_ref().map(|x| x[i]), dy[i])[n];
            let exact: Vec<f64> = (0..shape.len()).map(slope).collect();
            let difference = op == Ternary::Lerp && n != 1;
            strictly(exact.clone(), |i| if difference { rounded::<T>(2.0, exact[i].abs()) } else { 0.0 })
        })
    })
    .refuses("an absurd shape", move |[a, b, c, dy], [], gradients| {
        let abc = [of(lies[0], a), of(lies[1], b), of(lies[2], c)];
        zip::TernaryBackward { op, abc, dy, shape: [usize::MAX, 2], gradients: gradients.map(Some) }.run()
    })
}
