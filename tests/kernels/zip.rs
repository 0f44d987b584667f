//! Functions of operands that lie anywhere, against the same functions of whole arrays.

use crate::common::*;
use gristmill::kernels::map::{self, Binary, Unary};
use gristmill::kernels::zip::{self, Operand, Ternary};
use gristmill::{Element, reference};
use proptest::prelude::*;

const TERNARY: [Ternary; 3] = [Ternary::MulAdd, Ternary::Lerp, Ternary::Where];

/// The four kinds of an operand, and the whole array that each stands for.
struct Operands<T> {
    data: Vec<T>,
    shape: [usize; 2],
    stride: usize,
}

impl<T: Element> Operands<T> {
    fn new(shape: [usize; 2], gap: usize, seed: u64) -> Self {
        let [rows, cols] = shape;
        let stride = cols + gap;
        let mut data = noise::<T>((rows * stride).max(rows + cols + 1), seed);
        // Zeros for `where`, halves for `lerp`, and what is no number.
        for (i, x) in data.iter_mut().enumerate() {
            match (i as u64 * 31 + seed) % 13 {
                0 => *x = T::ZERO,
                1 => *x = -T::ZERO,
                2 => *x = T::from_f64(0.5),
                3 => *x = T::NAN,
                4 => *x = T::INFINITY,
                _ => {}
            }
        }
        Self { data, shape, stride }
    }

    fn kind(&self, kind: usize) -> (Operand<'_, T>, Vec<T>) {
        let ([rows, cols], data) = (self.shape, &self.data);
        let every = |f: &dyn Fn(usize, usize) -> T| -> Vec<T> {
            (0..rows * cols).map(|i| f(i / cols, i % cols)).collect()
        };
        match kind {
            0 => {
                // Nothing behind the last row.
                let end = if rows == 0 { 0 } else { (rows - 1) * self.stride + cols };
                (Operand::Matrix(&data[..end], self.stride), every(&|i, j| data[i * self.stride + j]))
            }
            1 => (Operand::Row(&data[..cols]), every(&|_, j| data[j])),
            2 => (Operand::Column(&data[..rows]), every(&|i, _| data[i])),
            _ => (Operand::Scalar(data[0]), every(&|_, _| data[0])),
        }
    }
}

#[track_caller]
fn assert_same<T: Element>(name: &str, actual: &[T], expected: &[T]) {
    let bits = |x: &[T]| -> Vec<u64> {
        x.iter().map(|x| if x.is_nan() { 1 } else { x.to_f64().to_bits() }).collect()
    };
    assert_eq!(bits(actual), bits(expected), "{name}");
}

/// One number, with the roundings that are documented.
fn value<T: Element>(fused: bool, op: Ternary, a: T, b: T, c: T) -> T {
    let mul_add = |x: T, y: T, z: T| if fused { x.mul_add(y, z) } else { x * y + z };
    match op {
        Ternary::MulAdd => mul_add(a, b, c),
        Ternary::Lerp if c < T::from_f64(0.5) => mul_add(c, b - a, a),
        Ternary::Lerp => mul_add(-(b - a), T::ONE - c, b),
        Ternary::Where => T::from_f64(reference::zip::choose(a.to_f64(), b.to_f64(), c.to_f64())),
    }
}

fn check<T: Element>(shape: [usize; 2], gap: usize, seed: u64) {
    let len = shape[0] * shape[1];
    let sides: Vec<Operands<T>> = (0..3).map(|n| Operands::new(shape, gap, seed + n)).collect();
    on_every_isa(|isa| {
        let (mut y, mut whole) = (vec![T::NAN; len], vec![T::NAN; len]);
        for kinds in 0..64 {
            let [(a, all_a), (b, all_b), (c, all_c)] = [0, 1, 2].map(|n| sides[n].kind(kinds >> (2 * n) & 3));
            let name = format!("{isa} {shape:?} {kinds}");
            if kinds < 4 {
                for op in [Unary::Exp, Unary::Abs] {
                    zip::unary(op, a, shape, &mut y).unwrap();
                    map::unary(op, &all_a, &mut whole).unwrap();
                    assert_same(&name, &y, &whole);
                }
            }
            if kinds < 16 {
                for op in [Binary::Sub, Binary::Div, Binary::Max, Binary::Pow] {
                    zip::binary(op, a, b, shape, &mut y).unwrap();
                    map::binary(op, &all_a, &all_b, &mut whole).unwrap();
                    assert_same(&name, &y, &whole);
                }
            }
            for op in TERNARY {
                let expected: Vec<T> =
                    (0..len).map(|i| value(isa.has_fma(), op, all_a[i], all_b[i], all_c[i])).collect();
                zip::ternary(op, [a, b, c], shape, &mut y).unwrap();
                assert_same(&format!("{name} {op:?}"), &y, &expected);
                let mut in_place = all_a.clone();
                zip::ternary_in_place(op, &mut in_place, [b, c], shape).unwrap();
                assert_same(&format!("{name} {op:?} in place"), &in_place, &expected);

                let dy = noise::<T>(len, 77);
                let mut gradients = [vec![T::NAN; len], vec![T::NAN; len], vec![T::NAN; len]];
                let each = gradients.each_mut().map(|x| Some(&mut x[..]));
                zip::TernaryBackward { op, abc: [a, b, c], dy: &dy, shape, gradients: each }.run().unwrap();
                let slopes: [&dyn Fn(usize) -> T; 3] = match op {
                    Ternary::MulAdd => [&|i| dy[i] * all_b[i], &|i| dy[i] * all_a[i], &|i| dy[i]],
                    Ternary::Lerp => [&|i| dy[i] * (T::ONE - all_c[i]), &|i| dy[i] * all_c[i], &|i| {
                        dy[i] * (all_b[i] - all_a[i])
                    }],
                    Ternary::Where => {
                        [&|_| T::ZERO, &|i| if all_a[i] != T::ZERO { dy[i] } else { T::ZERO }, &|i| {
                            if all_a[i] != T::ZERO { T::ZERO } else { dy[i] }
                        }]
                    }
                };
                for (gradient, slope) in gradients.iter().zip(slopes) {
                    assert_same(
                        &format!("{name} {op:?} gradient"),
                        gradient,
                        &(0..len).map(slope).collect::<Vec<_>>(),
                    );
                }
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn where_operands_lie_changes_nothing(rows in 0usize..9, cols in 0usize..40, gap in 0usize..5, seed in 0u64..1000) {
        check::<f32>([rows, cols], gap, seed);
        check::<f64>([rows, cols], gap, seed);
    }
}

#[test]
fn several_chunks_and_long_rows() {
    check::<f32>([700, 33], 3, 5);
    check::<f64>([2, 9001], 7, 6);
}

#[test]
fn gradients_agree_with_differences_of_the_reference() {
    let f = [reference::zip::mul_add, reference::zip::lerp];
    for (op, f) in [Ternary::MulAdd, Ternary::Lerp].into_iter().zip(f) {
        for abc in [[0.3, 1.7, 0.2], [-1.0, 0.4, 0.9]] {
            let h = 1e-6;
            let mut gradients = [[0.0_f64]; 3];
            let each = gradients.each_mut().map(|x| Some(&mut x[..]));
            zip::TernaryBackward {
                op,
                abc: abc.map(Operand::Scalar),
                dy: &[1.0],
                shape: [1, 1],
                gradients: each,
            }
            .run()
            .unwrap();
            for n in 0..3 {
                let [mut left, mut right] = [abc; 2];
                left[n] -= h;
                right[n] += h;
                let slope = (f(right[0], right[1], right[2]) - f(left[0], left[1], left[2])) / (2.0 * h);
                assert!((gradients[n][0] - slope).abs() < 1e-8, "{op:?} {n}");
            }
        }
    }
}

#[test]
fn ends_of_lerp_are_exact_and_axpy_is_fused() {
    let (a, b) = (noise::<f32>(100, 1), noise::<f32>(100, 2));
    let mut y = vec![0.0; 100];
    for (weight, end) in [(0.0, &a), (1.0, &b)] {
        zip::ternary(
            Ternary::Lerp,
            [Operand::Row(&a), Operand::Row(&b), Operand::Scalar(weight)],
            [1, 100],
            &mut y,
        )
        .unwrap();
        assert_eq!(&y, end);
    }
    on_every_isa(|isa| {
        let mut y = b.clone();
        map::axpy(1.7, &a, &mut y).unwrap();
        let fused = |i: usize| if isa.has_fma() { 1.7_f32.mul_add(a[i], b[i]) } else { 1.7 * a[i] + b[i] };
        assert!((0..100).all(|i| y[i] == fused(i)));
    });
}

#[test]
fn wrong_lengths_are_named() {
    let x = [0.0_f32; 6];
    let text = |result: gristmill::Result<()>| result.unwrap_err().to_string();
    let scalar = Operand::Scalar(1.0);
    let mut y = [0.0; 6];
    assert_eq!(
        text(zip::unary(Unary::Exp, Operand::Matrix(&x[..5], 3), [2, 3], &mut y)),
        "unary: x has 5 elements with a row stride of 3, expected 2×3"
    );
    assert_eq!(text(zip::unary(Unary::Exp, scalar, [2, 2], &mut y)), "unary: y has 6 elements, expected 4");
    assert_eq!(
        text(zip::binary(Binary::Add, scalar, Operand::Row(&x), [2, 3], &mut y)),
        "binary: b is a row of 6, expected 2×3"
    );
    assert_eq!(
        text(zip::ternary(Ternary::Where, [scalar, scalar, Operand::Column(&x)], [2, 3], &mut y)),
        "ternary: c is a column of 6, expected 2×3"
    );
    assert_eq!(
        text(zip::unary(Unary::Exp, Operand::Matrix(&x, usize::MAX), [3, 2], &mut y)),
        format!("unary: x has 6 elements with a row stride of {}, expected 3×2", usize::MAX)
    );
    assert_eq!(
        text(zip::unary(Unary::Exp, scalar, [usize::MAX, 2], &mut y)),
        format!("unary: {}×2 elements are too many", usize::MAX)
    );
    assert_eq!(
        text(
            zip::TernaryBackward {
                op: Ternary::Lerp,
                abc: [scalar; 3],
                dy: &x,
                shape: [2, 3],
                gradients: [None, Some(&mut [0.0; 5]), None]
            }
            .run()
        ),
        "ternary_backward: db has 5 elements, expected 6"
    );
    // Also the gradient before it is left as it was.
    let mut da = [7.0; 6];
    let gradients: [Option<&mut [f32]>; 3] = [Some(&mut da), Some(&mut [0.0; 5]), None];
    zip::TernaryBackward { op: Ternary::Lerp, abc: [scalar; 3], dy: &x, shape: [2, 3], gradients }
        .run()
        .unwrap_err();
    assert_eq!(da, [7.0; 6]);
}
