//! Elementwise functions against their references and their promises.

use crate::common::*;
use crate::registry::maps::functions;
use gristmill::Element;
use gristmill::kernels::map::{self, Binary, Reads, Unary};

fn forward<T: Element>(op: Unary<T>, x: &[T]) -> Vec<T> {
    let mut y = vec![T::NAN; x.len()];
    map::unary(op, x, &mut y).unwrap();
    y
}

fn backward<T: Element>(op: Unary<T>, x: &[T], dy: &[T]) -> Vec<T> {
    let mut dx = vec![T::NAN; x.len()];
    map::UnaryBackward { op, x, y: &forward(op, x), dy, dx: &mut dx }.run().unwrap();
    dx
}

/// What `backward_reads` leaves out is not read.
#[test]
fn a_derivative_reads_what_it_says() {
    fn check<T: Element>() {
        let x: Vec<T> = (-40..40).map(|i| T::from_f64(f64::from(i) / 8.0)).collect();
        let (dy, nothing) = (vec![T::from_f64(1.5); x.len()], vec![T::NAN; x.len()]);
        for op in functions::<T>() {
            let y = forward(op, &x);
            let (only_x, only_y) = match op.backward_reads() {
                Reads::Neither => (&nothing, &nothing),
                Reads::Input => (&x, &nothing),
                Reads::Output => (&nothing, &y),
            };
            let mut dx = vec![T::ZERO; x.len()];
            map::UnaryBackward { op, x: only_x, y: only_y, dy: &dy, dx: &mut dx }.run().unwrap();
            assert_same(&format!("{op:?}"), &dx, &backward(op, &x, &dy));
        }
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn pytorch_gives_the_same_activations_and_gradients() {
    let fixture: serde_json::Value =
        serde_json::from_str(include_str!("../fixtures/activations.json")).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 10);
    for case in cases {
        let numbers = |key: &str| -> Vec<f64> {
            case[key]["data"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
        };
        let name = case["name"].as_str().unwrap();
        check_case::<f32>(name, &numbers("x"), &numbers("y"), &numbers("dx"));
        check_case::<f64>(name, &numbers("x"), &numbers("y"), &numbers("dx"));
    }
}

fn check_case<T: Element>(name: &str, x: &[f64], y: &[f64], dx: &[f64]) {
    let op = match name {
        "relu" => Unary::Relu,
        "sigmoid" => Unary::Sigmoid,
        "tanh" => Unary::Tanh,
        "gelu" => Unary::Gelu,
        "gelu_tanh" => Unary::GeluTanh,
        "silu" => Unary::Silu,
        "softplus" => Unary::Softplus,
        "leaky_relu" => Unary::LeakyRelu { slope: T::from_f64(0.01) },
        "elu" => Unary::Elu { alpha: T::ONE },
        "exp" => Unary::Exp,
        _ => panic!("{name}: no such function"),
    };
    let inputs = narrow::<T>(x);
    let u = unit::<T>();
    // f64: PyTorch's own error where it subtracts from 1. f32: the bounds above, and the rounding of x, which
    // changes the functions by up to |x|·u relative.
    let relative =
        |bound: f64, x: f64| if T::NAME == "f64" { 1e-10 } else { (bound + 3.0 * x.abs() + 1.0) * u };
    on_every_isa(|isa| {
        assert_within(&format!("{isa} {name}"), &forward(op, &inputs), y, |i| {
            let (bound, absolute) = op.twin().value_bound(x[i]);
            let cancelled = if name.starts_with("gelu") { x[i].abs() * f64::EPSILON } else { 0.0 };
            relative(bound, x[i]) * y[i].abs() + u * absolute + cancelled
        });
        let ones = vec![T::ONE; x.len()];
        assert_within(&format!("{isa} {name} gradient"), &backward(op, &inputs, &ones), dx, |i| {
            let (bound, absolute) = op.twin().derivative_bound(x[i]);
            relative(bound, x[i]) * dx[i].abs() + u * absolute + 8.0 * f64::EPSILON
        });
    });
    for (x, (y, expected)) in x.iter().zip(forward(op, &inputs).iter().zip(y)) {
        if *expected == 0.0 && y.to_f64() == 0.0 {
            let signs = (y.to_f64().is_sign_negative(), expected.is_sign_negative());
            assert_eq!(signs.0, signs.1, "{name} f({x:?}): sign of zero");
        }
    }
}

#[test]
fn special_values_give_limits() {
    let inf = f64::INFINITY;
    let tiny = f64::from_bits(1);
    let nan = f64::NAN;
    // (function, [f(−∞), f(−0), f(0), f(+∞)], [f'(−∞), f'(−0), f'(0), f'(+∞)])
    let (ln_2, peak) = (std::f64::consts::LN_2, std::f64::consts::FRAC_2_SQRT_PI);
    let table: [(Unary<f64>, [f64; 4], [f64; 4]); 43] = [
        (Unary::Sin, [nan, -0.0, 0.0, nan], [nan, 1.0, 1.0, nan]),
        (Unary::Cos, [nan, 1.0, 1.0, nan], [nan, 0.0, 0.0, nan]),
        (Unary::Mish, [-0.0, -0.0, 0.0, inf], [0.0, 0.6, 0.6, 1.0]),
        (Unary::Powi(0), [1.0; 4], [0.0; 4]),
        (Unary::Powi(3), [-inf, -0.0, 0.0, inf], [inf, 0.0, 0.0, inf]),
        (Unary::Powi(-2), [0.0, inf, inf, 0.0], [0.0, inf, -inf, -0.0]),
        (Unary::Powi(i32::MIN), [0.0, inf, inf, 0.0], [0.0, inf, -inf, -0.0]),
        (Unary::Neg, [inf, 0.0, -0.0, -inf], [-1.0, -1.0, -1.0, -1.0]),
        (Unary::Abs, [inf, 0.0, 0.0, inf], [-1.0, 0.0, 0.0, 1.0]),
        (Unary::Relu, [0.0, -0.0, 0.0, inf], [0.0, 0.0, 0.0, 1.0]),
        (Unary::LeakyRelu { slope: 0.5 }, [-inf, -0.0, 0.0, inf], [0.5, 0.5, 0.5, 1.0]),
        (Unary::Sigmoid, [0.0, 0.5, 0.5, 1.0], [0.0, 0.25, 0.25, 0.0]),
        (Unary::Tanh, [-1.0, -0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]),
        (Unary::Gelu, [-0.0, -0.0, 0.0, inf], [0.0, 0.5, 0.5, 1.0]),
        (Unary::GeluTanh, [-0.0, -0.0, 0.0, inf], [0.0, 0.5, 0.5, 1.0]),
        (Unary::Silu, [-0.0, -0.0, 0.0, inf], [0.0, 0.5, 0.5, 1.0]),
        (Unary::Elu { alpha: 2.0 }, [-2.0, -0.0, 0.0, inf], [0.0, 2.0, 2.0, 1.0]),
        (Unary::Clamp { min: -0.5, max: 1.25 }, [-0.5, -0.0, 0.0, 1.25], [0.0, 1.0, 1.0, 0.0]),
        (Unary::Floor, [-inf, -0.0, 0.0, inf], [0.0; 4]),
        (Unary::Ceil, [-inf, -0.0, 0.0, inf], [0.0; 4]),
        (Unary::Round, [-inf, -0.0, 0.0, inf], [0.0; 4]),
        (Unary::Sign, [-1.0, -0.0, 0.0, 1.0], [0.0; 4]),
        (Unary::LogSigmoid, [-inf, -ln_2, -ln_2, -0.0], [1.0, 0.5, 0.5, 0.0]),
        (Unary::Erf, [-1.0, -0.0, 0.0, 1.0], [0.0, peak, peak, 0.0]),
        (Unary::Exp2, [0.0, 1.0, 1.0, inf], [0.0, ln_2, ln_2, inf]),
        (Unary::Expm1, [-1.0, -0.0, 0.0, inf], [0.0, 1.0, 1.0, inf]),
        (Unary::Log2, [nan, -inf, -inf, inf], [-0.0, -inf, inf, 0.0]),
        (Unary::Log1p, [nan, -0.0, 0.0, inf], [-0.0, 1.0, 1.0, 0.0]),
        (Unary::Rsqrt, [nan, -inf, inf, 0.0], [nan, inf, -inf, -0.0]),
        (Unary::Exp, [0.0, 1.0, 1.0, inf], [0.0, 1.0, 1.0, inf]),
        (Unary::Ln, [nan, -inf, -inf, inf], [-0.0, -inf, inf, 0.0]),
        (Unary::Sqrt, [nan, -0.0, 0.0, inf], [nan, -inf, inf, 0.0]),
        (Unary::Square, [inf, 0.0, 0.0, inf], [-inf, -0.0, 0.0, inf]),
        (Unary::Reciprocal, [-0.0, -inf, inf, 0.0], [0.0, -inf, -inf, 0.0]),
        (Unary::Powf(0.0), [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]),
        (Unary::Powf(1.0), [-inf, -0.0, 0.0, inf], [1.0, 1.0, 1.0, 1.0]),
        (Unary::Powf(-1.0), [-0.0, -inf, inf, 0.0], [0.0, -inf, -inf, 0.0]),
        (Unary::Powf(0.25), [inf, 0.0, 0.0, inf], [0.0, inf, inf, 0.0]),
        (Unary::Powf(-0.25), [0.0, inf, inf, 0.0], [-0.0, -inf, -inf, 0.0]),
        (Unary::Powf(17.0), [-inf, -0.0, 0.0, inf], [inf, 0.0, 0.0, inf]),
        (Unary::Powf(18.0), [inf, 0.0, 0.0, inf], [-inf, -0.0, 0.0, inf]),
        (Unary::Powf(-inf), [0.0, inf, inf, 0.0], [nan, -inf, -inf, nan]),
        (Unary::Powf(inf), [inf, 0.0, 0.0, inf], [inf, nan, nan, inf]),
    ];
    let x = [-inf, -0.0, 0.0, inf];
    on_every_isa(|isa| {
        for (op, y, slope) in table {
            let same = |what: &str, actual: &[f64], expected: &[f64]| {
                let alike = |(a, e): (&f64, &f64)| {
                    a == e && (*e != 0.0 || what != "value" || a.to_bits() == e.to_bits())
                };
                let fits =
                    actual.iter().zip(expected).all(|(a, e)| (a.is_nan() && e.is_nan()) || alike((a, e)));
                assert!(fits, "{isa} {op:?} {what} of {x:?}: {actual:?}, expected {expected:?}");
            };
            same("value", &forward(op, &x), &y);
            same("gradient", &backward(op, &x, &[1.0; 4]), &slope);
            let of_nan = forward(op, &[nan]);
            let constant = matches!(op, Unary::Powf(p) if p == 0.0) || op == Unary::Powi(0);
            assert!(of_nan[0].is_nan() != constant, "{isa} {op:?} of NaN: {of_nan:?}");
            assert!(forward::<f64>(op, &[]).is_empty());
            let product =
                matches!(op, Unary::Powf(p) if !p.is_finite() || p.abs() > 16.0 || p.fract() != 0.0);
            let exact = op.twin().value(tiny);
            let of_tiny = forward(op, &[tiny])[0];
            let bound = if product { exact.abs() * 1e-12 } else { exact.abs() * 4.0 * f64::EPSILON };
            assert!(
                of_tiny == exact || (of_tiny - exact).abs() <= bound.max(tiny),
                "{isa} {op:?}: {of_tiny:e} {exact:e}"
            );
        }
        assert_eq!(forward(Unary::Powf(nan), &[1.0]), [1.0]);
        assert_eq!(forward(Unary::Powf(inf), &[-1.0, 0.5, 2.0]), [1.0, 0.0, inf]);
        assert!(forward(Unary::Powf(0.5), &[-2.0])[0].is_nan());
        assert!(forward(Unary::Ln, &[-tiny])[0].is_nan());
        assert_eq!(forward(Unary::Softplus, &[-inf, inf, 0.0]), [0.0, inf, std::f64::consts::LN_2]);
        assert!(forward(Unary::Softplus, &[nan])[0].is_nan());
        assert_eq!(backward(Unary::Relu, &[-1.0, 0.0, 1.0], &[inf, nan, inf]), [0.0, 0.0, inf]);
        assert_eq!(backward(Unary::Floor, &[0.5, nan], &[nan, inf]), [0.0, 0.0]);
        // As PyTorch's clamp: dy where min ≤ x ≤ max, else 0, also at NaN.
        let clamp = Unary::Clamp { min: -1.0, max: 2.0 };
        let x = [-1.0, 2.0, (-1.0_f64).next_down(), 2.0_f64.next_up(), nan];
        assert_eq!(backward(clamp, &x, &[3.0, -4.0, inf, nan, 5.0]), [3.0, -4.0, 0.0, 0.0, 0.0]);
        let crossed = Unary::Clamp { min: 1.0, max: -1.0 };
        assert_eq!(forward(crossed, &[-2.0, 0.0, 2.0]), [-1.0; 3]);
        assert_eq!(backward(crossed, &[-2.0, 0.0, 2.0], &[1.0; 3]), [0.0; 3]);
        for x in [-2.0_f64, -1.5, -0.5, 0.25, 0.5, 1.5, 2.5, 1e300] {
            let all = [Unary::Floor, Unary::Ceil, Unary::Round, Unary::Sign].map(|op| forward(op, &[x])[0]);
            assert_eq!(all, [x.floor(), x.ceil(), x.round_ties_even(), x.signum()], "{x}");
        }
    });
}

#[test]
fn gradients_agree_with_finite_differences() {
    for op in functions::<f64>() {
        for x in [0.3, 0.9, 1.7, 2.9] {
            let h = 1e-5;
            let [left, right] = [x - h, x + h].map(|x| forward(op, &[x])[0]);
            let slope = (right - left) / (2.0 * h);
            let gradient = backward(op, &[x], &[1.0])[0];
            // h²/6 of the third derivative, and the rounding of both values over 2h.
            let bound = 1e-6 * (1.0 + slope.abs() + right.abs()) * (1.0 + x.powi(-3));
            assert!((gradient - slope).abs() <= bound, "{op:?} at {x}: {gradient}, differences give {slope}");
        }
    }
}

#[track_caller]
fn assert_same<T: Element>(name: &str, actual: &[T], expected: &[T]) {
    assert_within(name, actual, &widen(expected), |_| 0.0);
}

fn check_updates<T: Element>() {
    for len in (0..70).chain([16 * 1024, 40_000]) {
        let (x, y0) = (noise::<T>(len, 1), noise::<T>(len, 2));
        let (alpha, beta) = (T::from_f64(1.7), T::from_f64(-0.3));
        on_every_isa(|isa| {
            let each =
                |f: &dyn Fn(T, T) -> T| -> Vec<T> { x.iter().zip(&y0).map(|(&x, &y)| f(x, y)).collect() };
            let mut y = y0.clone();
            map::accumulate(&x, &mut y).unwrap();
            assert_same("accumulate", &y, &each(&|x, y| y + x));
            y.clone_from(&y0);
            map::scale(alpha, &mut y).unwrap();
            assert_same("scale", &y, &each(&|_, y| alpha * y));
            y.clone_from(&y0);
            map::axpby(alpha, &x, beta, &mut y).unwrap();
            let fused = |x: T, y: T| alpha.mul_add(x, beta * y);
            let twice = |x: T, y: T| alpha * x + beta * y;
            assert_same("axpby", &y, &each(if isa.has_fma() { &fused } else { &twice }));
            y.fill(T::NAN);
            map::axpby(alpha, &x, T::ZERO, &mut y).unwrap();
            assert_same("axpby with beta 0", &y, &each(&|x, _| alpha * x));
        });
    }
}

#[test]
fn updates_in_place_are_rounded_as_documented() {
    check_updates::<f32>();
    check_updates::<f64>();
}

#[test]
fn wrong_lengths_are_named() {
    let mut y = [0.0; 5];
    let text = |result: gristmill::Result<()>| result.unwrap_err().to_string();
    let x = [1.0_f32; 6];
    assert_eq!(text(map::unary(Unary::Exp, &x, &mut y)), "unary: y has 5 elements, expected 6");
    let op = Unary::Exp;
    assert_eq!(
        text(map::UnaryBackward { op, x: &x, y: &x[1..], dy: &x, dx: &mut y }.run()),
        "unary_backward: y has 5 elements, expected 6"
    );
    assert_eq!(
        text(map::UnaryBackward { op, x: &x, y: &x, dy: &x[2..], dx: &mut y }.run()),
        "unary_backward: dy has 4 elements, expected 6"
    );
    assert_eq!(
        text(map::UnaryBackward { op, x: &x, y: &x, dy: &x, dx: &mut y }.run()),
        "unary_backward: dx has 5 elements, expected 6"
    );
    assert_eq!(text(map::binary(Binary::Add, &x, &x[1..], &mut y)), "binary: b has 5 elements, expected 6");
    assert_eq!(text(map::binary(Binary::Add, &x, &x, &mut y)), "binary: y has 5 elements, expected 6");
    assert_eq!(
        text(map::binary_scalar(Binary::Add, &x, 1.0, &mut y)),
        "binary_scalar: y has 5 elements, expected 6"
    );
    assert_eq!(
        text(map::scalar_binary(Binary::Add, 1.0, &x, &mut y)),
        "scalar_binary: y has 5 elements, expected 6"
    );
    assert_eq!(
        text(map::binary_row(Binary::Add, &x, &x[2..], &mut y)),
        "binary_row: 6 elements are not whole rows of 4"
    );
    assert_eq!(
        text(map::binary_row(Binary::Add, &x, &[], &mut y)),
        "binary_row: 6 elements are not whole rows of 0"
    );
    assert_eq!(
        text(map::binary_col(Binary::Add, &x, &x[2..], &mut y)),
        "binary_col: 6 elements do not fall into 4 rows"
    );
    assert_eq!(
        text(map::binary_col(Binary::Add, &x, &[], &mut y)),
        "binary_col: 6 elements do not fall into 0 rows"
    );
    assert_eq!(
        text(map::binary_col(Binary::Add, &x, &x, &mut y)),
        "binary_col: y has 5 elements, expected 6"
    );
    assert_eq!(text(map::accumulate(&x, &mut y)), "accumulate: y has 5 elements, expected 6");
    assert_eq!(text(map::axpby(1.0, &x, 0.0, &mut y)), "axpby: y has 5 elements, expected 6");
}
