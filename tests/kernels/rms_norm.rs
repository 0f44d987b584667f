//! Root mean square normalisation against its reference, PyTorch and its promises.

use crate::common::*;
use crate::laws::near;
use crate::registry::norms;
use gristmill::{Element, kernels::rms_norm, reference};

struct Case<T> {
    x: Vec<T>,
    cols: usize,
    gamma: Option<Vec<T>>,
    eps: f64,
    dy: Vec<T>,
}

/// y, rstd, dx, dgamma.
fn run<T: Element>(case: &Case<T>) -> [Vec<T>; 4] {
    let Case { x, cols, gamma, eps, dy } = case;
    let gamma = gamma.as_deref();
    let [mut y, mut inferred, mut dx] = [(); 3].map(|()| vec![T::NAN; x.len()]);
    let (mut rstd, mut dgamma) = (vec![T::NAN; x.len() / cols], vec![T::NAN; *cols]);
    rms_norm::Forward { x, cols: *cols, gamma, eps: *eps, y: &mut y, rstd: Some(&mut rstd) }.run().unwrap();
    rms_norm::Forward { x, cols: *cols, gamma, eps: *eps, y: &mut inferred, ..Default::default() }
        .run()
        .unwrap();
    let bits = |y: &[T]| y.iter().map(|y| y.to_f64().to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&y), bits(&inferred), "infer");
    rms_norm::Backward { x, cols: *cols, gamma, rstd: &rstd, dy, dx: &mut dx, dgamma: Some(&mut dgamma) }
        .run()
        .unwrap();
    [y, rstd, dx, dgamma]
}

/// Compares with the reference, within the bounds of the registry.
fn check<T: Element>(case: &Case<T>) {
    let Case { x, cols, gamma, eps, dy } = case;
    let (x, gamma, dy) = (x.clone(), gamma.clone(), dy.clone());
    near(&norms::rms_norm_forward_of(x.clone(), *cols, gamma.clone(), *eps, true)).unwrap();
    near(&norms::rms_norm_backward_of(x, *cols, gamma, *eps, dy, true)).unwrap();
}

fn case<T: Element>(rows: usize, cols: usize, mean: f64, std: f64, seed: u64) -> Case<T> {
    let x: Vec<f64> = noise::<f64>(rows * cols, seed).iter().map(|z| mean + std * z).collect();
    Case {
        x: narrow(&x),
        cols,
        gamma: (!seed.is_multiple_of(3)).then(|| noise(cols, seed + 1)),
        eps: T::EPSILON.to_f64(),
        dy: noise(rows * cols, seed + 3),
    }
}

#[test]
fn squares_that_overflow_do_no_harm() {
    for scale in [1e18, 1e20, 1e30, 1e37] {
        check(&case::<f32>(3, 100, 0.0, scale, 1));
        check(&case::<f32>(2, 300, 0.1 * scale, 0.9 * scale, 2));
    }
    // Here rstd is subnormal.
    let largest = case::<f32>(2, 100, 0.0, 3.4e38, 3);
    let (y, _) = reference::rms_norm(&widen(&largest.x), 100, &[1.0; 100], 0.0);
    assert_close("y of 3.4e38", &run(&largest)[0], &y, 60.0 * unit::<f32>(), 0.0);
    let huge = case::<f64>(2, 100, 1e200, 1e199, 2);
    let [y, ..] = run(&huge);
    let small = Case { x: huge.x.iter().map(|x| x * 2.0_f64.powi(-600)).collect(), eps: 0.0, ..huge };
    // A power of two changes nothing.
    assert_close("y of 1e200", &y, &run(&small)[0], 1e-15, 0.0);
}

#[test]
fn pytorch_agrees() {
    let cases = fixture("rms_norm");
    assert_eq!(cases.len(), 4);
    for (index, fixture) in cases.iter().enumerate() {
        let field = |field: &str| data(&fixture[field]);
        let (x, gamma, dy) = (field("x"), field("weight"), field("dy"));
        let (cols, eps) = (gamma.len(), fixture["eps"].as_f64().unwrap_or(f64::EPSILON));
        let double = Case { x: x.clone(), cols, gamma: Some(gamma.clone()), eps, dy: dy.clone() };
        let [y, _, dx, dgamma] = run(&double);
        for (what, actual) in [("y", y), ("dx", dx), ("dweight", dgamma)] {
            // Where dx cancels (a single column), what is left are rounding errors of both.
            assert_close(&format!("case {index} {what}"), &actual, &field(what), 1e-10, 1e-13);
        }
        check(&double);
        let gamma = Some(narrow(&gamma));
        check::<f32>(&Case { x: narrow(&x), cols, gamma, eps, dy: narrow(&dy) });
    }
}

#[test]
fn bad_numbers_spoil_their_row_only_and_zeros_stay_zeros() {
    on_every_isa(|isa| {
        let mut case = case::<f32>(3, 40, 0.0, 1.0, 1);
        let [clean, ..] = run(&case);
        let mut others_are_clean = |bad: f32| {
            case.x[50] = bad;
            let [y, ..] = run(&case);
            assert_eq!((&y[..40], &y[80..]), (&clean[..40], &clean[80..]), "{isa} {bad}");
            y[40..80].to_vec()
        };
        assert!(others_are_clean(f32::NAN).iter().all(|y| y.is_nan()), "{isa}");
        for bad in [f32::INFINITY, f32::NEG_INFINITY] {
            let y = others_are_clean(bad);
            assert!(y.iter().enumerate().all(|(i, &y)| if i == 10 { y.is_nan() } else { y == 0.0 }), "{isa}");
        }
        for eps in [1e-5, 0.0] {
            let zeros = Case { x: vec![0.0; 80], cols: 40, gamma: None, eps, dy: vec![1.0; 80] };
            let [y, ..] = run::<f32>(&zeros);
            assert!(y.iter().all(|&y| if eps == 0.0 { y.is_nan() } else { y == 0.0 }), "{isa} {eps}");
        }
    });
}

#[test]
fn no_rows_give_no_output_and_zero_gradients() {
    let mut dgamma = [1.0_f32; 3];
    rms_norm::Forward::<f32> { x: &[], cols: 3, eps: 1e-5, y: &mut [], ..Default::default() }.run().unwrap();
    rms_norm::Backward::<f32> {
        x: &[],
        cols: 3,
        rstd: &[],
        dy: &[],
        dx: &mut [],
        dgamma: Some(&mut dgamma),
        ..Default::default()
    }
    .run()
    .unwrap();
    assert_eq!(dgamma, [0.0; 3]);
    rms_norm::Forward::<f64> { x: &[], cols: 0, eps: 1e-5, y: &mut [], ..Default::default() }.run().unwrap();
    rms_norm::Backward::<f64> { x: &[], cols: 0, rstd: &[], dy: &[], dx: &mut [], ..Default::default() }
        .run()
        .unwrap();
}

#[test]
fn a_gradient_not_wanted_changes_nothing_else() {
    let case = case::<f32>(5, 30, 1.0, 2.0, 1);
    let [_, rstd, dx, _] = run(&case);
    let mut other = vec![0.0; 150];
    rms_norm::Backward {
        x: &case.x,
        cols: 30,
        gamma: case.gamma.as_deref(),
        rstd: &rstd,
        dy: &case.dy,
        dx: &mut other,
        ..Default::default()
    }
    .run()
    .unwrap();
    assert_eq!(dx, other);
}

#[test]
fn bad_arguments_are_named() {
    let forward = |x: usize, cols, gamma: Option<&[f32]>, eps, y: usize, rstd: usize| {
        let (mut y, mut rstd) = (vec![0.0; y], vec![0.0; rstd]);
        rms_norm::Forward { x: &vec![0.0; x], cols, gamma, eps, y: &mut y, rstd: Some(&mut rstd) }
            .run()
            .unwrap_err()
            .to_string()
    };
    assert_eq!(forward(7, 3, None, 1e-5, 7, 2), "rms_norm: 7 elements are not whole rows of 3");
    assert_eq!(forward(6, 3, Some(&[1.0]), 1e-5, 6, 2), "rms_norm: gamma has 1 elements, expected 3");
    assert_eq!(forward(6, 3, None, 1e-5, 5, 2), "rms_norm: y has 5 elements, expected 6");
    assert_eq!(forward(6, 3, None, 1e-5, 6, 3), "rms_norm: rstd has 3 elements, expected 2");
    assert_eq!(forward(6, 3, None, -1.0, 6, 2), "rms_norm: eps is -1, expected a finite number ≥ 0");
    let error = rms_norm::Forward {
        x: &[0.0_f32; 6],
        cols: 3,
        eps: f64::NAN,
        y: &mut [0.0; 6],
        ..Default::default()
    }
    .run()
    .unwrap_err();
    assert_eq!(error.to_string(), "rms_norm: eps is NaN, expected a finite number ≥ 0");
    let (x, r) = ([0.0_f32; 6], [0.0; 2]);
    let error = rms_norm::Backward {
        x: &x,
        cols: 3,
        rstd: &r,
        dy: &x,
        dx: &mut [0.0; 6],
        dgamma: Some(&mut [0.0; 2]),
        ..Default::default()
    }
    .run()
    .unwrap_err();
    assert_eq!(error.to_string(), "rms_norm_backward: dgamma has 2 elements, expected 3");
}
