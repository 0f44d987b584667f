//! Layer normalisation against its reference, PyTorch and its promises.

use crate::common::*;
use crate::laws::near;
use crate::registry::norms;
use gristmill::Element;
use gristmill::kernels::layer_norm::{Backward, Forward};

struct Case<T> {
    x: Vec<T>,
    cols: usize,
    gamma: Option<Vec<T>>,
    beta: Option<Vec<T>>,
    eps: f64,
    dy: Vec<T>,
}

/// y, mean, rstd, dx, dgamma, dbeta.
fn run<T: Element>(case: &Case<T>) -> [Vec<T>; 6] {
    let Case { x, cols, gamma, beta, eps, dy } = case;
    let (gamma, beta) = (gamma.as_deref(), beta.as_deref());
    let rows = x.len() / cols;
    let [mut y, mut dx] = [(); 2].map(|()| vec![T::NAN; x.len()]);
    let [mut mean, mut rstd] = [(); 2].map(|()| vec![T::NAN; rows]);
    let [mut dgamma, mut dbeta] = [(); 2].map(|()| vec![T::NAN; *cols]);
    let (cols, eps) = (*cols, *eps);
    let (of_mean, of_rstd) = (Some(&mut mean[..]), Some(&mut rstd[..]));
    Forward { x, cols, gamma, beta, eps, y: &mut y, mean: of_mean, rstd: of_rstd }.run().unwrap();
    let dx_of = &mut dx;
    let (of_gamma, of_beta) = (Some(&mut dgamma[..]), Some(&mut dbeta[..]));
    let (mean_of, rstd_of) = (&mean, &rstd);
    Backward {
        x,
        cols,
        gamma,
        mean: mean_of,
        rstd: rstd_of,
        dy,
        dx: dx_of,
        dgamma: of_gamma,
        dbeta: of_beta,
    }
    .run()
    .unwrap();
    [y, mean, rstd, dx, dgamma, dbeta]
}

/// Compares with the reference, within the bounds of the registry.
fn check<T: Element>(case: &Case<T>) {
    let Case { x, cols, gamma, beta, eps, dy } = case;
    let (x, gamma, beta, dy) = (x.clone(), gamma.clone(), beta.clone(), dy.clone());
    near(&norms::layer_norm_forward_of(x.clone(), *cols, gamma.clone(), beta, *eps)).unwrap();
    near(&norms::layer_norm_backward_of(x, *cols, gamma, *eps, dy, [true; 2])).unwrap();
}

fn case<T: Element>(rows: usize, cols: usize, mean: f64, std: f64, seed: u64) -> Case<T> {
    let x: Vec<f64> = noise::<f64>(rows * cols, seed).iter().map(|z| mean + std * z).collect();
    Case {
        x: narrow(&x),
        cols,
        gamma: (!seed.is_multiple_of(3)).then(|| noise(cols, seed + 1)),
        beta: (!seed.is_multiple_of(5)).then(|| noise(cols, seed + 2)),
        eps: 1e-5,
        dy: noise(rows * cols, seed + 3),
    }
}

#[test]
fn means_far_above_the_deviation_do_not_reach_y() {
    for cols in [7, 100, 1000] {
        for mean in [1e3, -1e4, 3e5] {
            let case = case::<f32>(4, cols, mean, 1.0, 1);
            check(&case);
            // A mean rounded to f32 would be off by up to u·|mean|, many times this.
            let [y, ..] = run(&Case { gamma: None, beta: None, ..case });
            let row_sum = y[..cols].iter().map(|&y| f64::from(y)).sum::<f64>() / cols as f64;
            assert!(row_sum.abs() < 4.0 * unit::<f32>() * (cols as f64 / 16.0 + 20.0), "{row_sum:e}");
        }
        check(&case::<f64>(4, cols, 1e10, 1.0, 1));
    }
}

#[test]
fn squares_that_overflow_do_no_harm() {
    for scale in [1e20, 1e30, 1e37] {
        check(&Case { eps: 1e-5, ..case::<f32>(3, 100, 0.3 * scale, scale, 1) });
    }
    // The sum itself overflows.
    check(&case::<f32>(2, 300, 2.5e38, 1e37, 1));
    let huge = case::<f64>(2, 100, 1e200, 1e199, 2);
    let [y, ..] = run(&huge);
    let small = Case { x: huge.x.iter().map(|x| x * 2.0_f64.powi(-600)).collect(), eps: 0.0, ..huge };
    // A power of two changes nothing.
    assert_close("y of 1e200", &y, &run(&small)[0], 1e-15, 0.0);
}

#[test]
fn pytorch_agrees() {
    for fixture in fixture("layer_norm") {
        let name = fixture["name"].as_str().unwrap();
        let field = |field: &str| data(&fixture[field]);
        let (x, gamma, beta, dy) = (field("x"), field("weight"), field("bias"), field("dy"));
        let (cols, eps) = (gamma.len(), fixture["eps"].as_f64().unwrap());
        let double = Case {
            x: x.clone(),
            cols,
            gamma: Some(gamma.clone()),
            beta: Some(beta.clone()),
            eps,
            dy: dy.clone(),
        };
        let [y, _, _, dx, dgamma, dbeta] = run(&double);
        // Relative to the largest: x̂ of a mean of 1000 and a small deviation has lost digits in PyTorch too.
        for (what, actual) in [("y", y), ("dx", dx), ("dweight", dgamma), ("dbias", dbeta)] {
            let expected = field(what);
            let largest = expected.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
            // Where the exact value is 0 (a single column), PyTorch leaves rounding errors.
            let absolute = (1e-10 * largest).max(1e-12);
            assert_close(&format!("{name} {what}"), &actual, &expected, 1e-10, absolute);
        }
        check(&double);
        check::<f32>(&Case {
            x: narrow(&x),
            cols,
            gamma: Some(narrow(&gamma)),
            beta: Some(narrow(&beta)),
            eps,
            dy: narrow(&dy),
        });
    }
}

#[test]
fn one_bad_number_spoils_its_row_only() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        on_every_isa(|isa| {
            let mut case = case::<f32>(3, 40, 0.0, 1.0, 1);
            let [clean, ..] = run(&case);
            case.x[50] = bad;
            let [y, ..] = run(&case);
            assert!(y[40..80].iter().all(|y| y.is_nan()), "{isa} {bad}");
            assert_eq!((&y[..40], &y[80..]), (&clean[..40], &clean[80..]), "{isa} {bad}");
        });
    }
}

#[test]
fn constant_rows_subnormals_and_one_column_give_beta() {
    for x in [0.0, -0.0, 3.0, 1e-40, 1e38] {
        for cols in [1, 7, 100] {
            let case = Case {
                x: vec![x as f32; 2 * cols],
                cols,
                gamma: None,
                beta: Some(vec![0.25; cols]),
                eps: 1e-5,
                dy: noise(2 * cols, 1),
            };
            let [y, mean, ..] = run(&case);
            assert!(y.iter().all(|&y| y == 0.25), "{x} × {cols}: {y:?}");
            assert_eq!(mean, [x as f32; 2]);
        }
    }
}

#[test]
fn no_rows_give_no_output_and_zero_gradients() {
    let (mut dgamma, mut dbeta) = ([1.0_f32; 3], [1.0; 3]);
    Forward::<f32> { cols: 3, ..Forward::default() }.run().unwrap();
    let (of_gamma, of_beta) = (Some(&mut dgamma[..]), Some(&mut dbeta[..]));
    Backward { cols: 3, dgamma: of_gamma, dbeta: of_beta, ..Backward::default() }.run().unwrap();
    assert_eq!((dgamma, dbeta), ([0.0; 3], [0.0; 3]));
    Forward::<f64>::default().run().unwrap();
}

#[test]
fn gradients_not_wanted_change_nothing_else() {
    let case = case::<f32>(5, 30, 1.0, 2.0, 1);
    let [_, mean, rstd, dx, dgamma, _] = run(&case);
    let (mut other, mut other_gamma, gamma) = (vec![0.0; 150], vec![0.0; 30], case.gamma.as_deref());
    let mut backward = |dgamma| {
        let (x, dy, dx) = (&case.x, &case.dy, &mut other);
        let (mean, rstd) = (&mean, &rstd);
        Backward { x, cols: 30, gamma, mean, rstd, dy, dx, dgamma, dbeta: None }.run().unwrap();
    };
    backward(None);
    backward(Some(&mut other_gamma));
    assert_eq!(dx, other);
    assert_eq!(dgamma, other_gamma);
}

#[test]
fn statistics_need_not_be_kept() {
    let case = case::<f32>(5, 30, 1.0, 2.0, 1);
    let [expected, ..] = run(&case);
    let (mut y, gamma, beta) = (vec![0.0; 150], case.gamma.as_deref(), case.beta.as_deref());
    Forward { x: &case.x, cols: 30, gamma, beta, eps: case.eps, y: &mut y, ..Forward::default() }
        .run()
        .unwrap();
    assert_eq!(y, expected);
}

#[test]
fn bad_arguments_are_named() {
    let forward = |x: usize, cols, gamma: Option<&[f32]>, eps, y: usize, mean: usize| {
        let (mut y, mut mean, mut rstd) = (vec![0.0; y], vec![0.0; mean], vec![0.0; 2]);
        let (x, y, mean, rstd) = (&vec![0.0; x], &mut y, Some(&mut mean[..]), Some(&mut rstd[..]));
        Forward { x, cols, gamma, beta: None, eps, y, mean, rstd }.run().unwrap_err().to_string()
    };
    assert_eq!(forward(7, 3, None, 1e-5, 7, 2), "layer_norm: 7 elements are not whole rows of 3");
    assert_eq!(forward(6, 3, Some(&[1.0]), 1e-5, 6, 2), "layer_norm: gamma has 1 elements, expected 3");
    assert_eq!(forward(6, 3, None, 1e-5, 5, 2), "layer_norm: y has 5 elements, expected 6");
    assert_eq!(forward(6, 3, None, 1e-5, 6, 3), "layer_norm: mean has 3 elements, expected 2");
    assert_eq!(forward(6, 3, None, -1.0, 6, 2), "layer_norm: eps is -1, expected a finite number ≥ 0");
    let (x, mean, mut dx, mut dgamma) = (&[0.0_f32; 6][..], &[0.0; 2][..], [0.0; 6], [0.0; 2]);
    let (rstd, dy, dx, dgamma) = (mean, x, &mut dx[..], Some(&mut dgamma[..]));
    let error =
        Backward { x, cols: 3, gamma: None, mean, rstd, dy, dx, dgamma, dbeta: None }.run().unwrap_err();
    assert_eq!(error.to_string(), "layer_norm_backward: dgamma has 2 elements, expected 3");
}

#[test]
fn without_rows_any_number_of_columns_is_nothing() {
    use gristmill::kernels::{group_norm, nll_loss, rms_norm, soft_cross_entropy};
    let many = 1 << 62;
    gristmill::kernels::layer_norm::Forward::<f32> { cols: many, ..Default::default() }.run().unwrap();
    rms_norm::Forward::<f32> { cols: many, ..Default::default() }.run().unwrap();
    let layout = group_norm::Layout { channels: many, inner: 1, groups: 1 };
    group_norm::Forward::<f32> { layout, ..Default::default() }.run().unwrap();
    nll_loss::Forward::<f32> { classes: many, ..Default::default() }.run().unwrap();
    soft_cross_entropy::Forward::<f32> { classes: many, ..Default::default() }.run().unwrap();
    soft_cross_entropy::Backward::<f32> { classes: many, ..Default::default() }.run().unwrap();
}
