//! Batch normalisation against its reference, PyTorch and its promises.

use crate::common::*;
use crate::laws::near;
use crate::registry::norms;
use gristmill::Element;
use gristmill::kernels::batch_norm::{self, After, Gate, Running};
use gristmill::kernels::map;

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
    let [mut y, mut dx] = [(); 2].map(|()| vec![T::NAN; x.len()]);
    let [mut mean, mut rstd, mut dgamma, mut dbeta] = [(); 4].map(|()| vec![T::NAN; *cols]);
    batch_norm::Forward {
        x,
        cols: *cols,
        gamma,
        beta,
        eps: *eps,
        y: &mut y,
        mean: Some(&mut mean),
        rstd: Some(&mut rstd),
        ..Default::default()
    }
    .run()
    .unwrap();
    batch_norm::Backward {
        x,
        cols: *cols,
        gamma,
        mean: &mean,
        rstd: &rstd,
        dy,
        dx: &mut dx,
        dgamma: Some(&mut dgamma),
        dbeta: Some(&mut dbeta),
        ..Default::default()
    }
    .run()
    .unwrap();
    [y, mean, rstd, dx, dgamma, dbeta]
}

/// Compares with the reference, within the bounds of the registry.
fn check<T: Element>(case: &Case<T>) {
    let Case { x, cols, gamma, beta, eps, dy } = case;
    let (x, gamma, beta, dy) = (x.clone(), gamma.clone(), beta.clone(), dy.clone());
    near(&norms::batch_norm_forward_of(x.clone(), *cols, gamma.clone(), beta, *eps)).unwrap();
    near(&norms::batch_norm_backward_of(x, *cols, gamma, *eps, dy)).unwrap();
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
    for (rows, cols) in [(7, 40), (100, 100), (1000, 5)] {
        for mean in [1e3, -1e4, 3e5] {
            let case = case::<f32>(rows, cols, mean, 1.0, 1);
            check(&case);
            // A mean rounded to f32 would be off by up to u·|mean|, many times this.
            let [y, ..] = run(&Case { gamma: None, beta: None, ..case });
            let column_sum = y.iter().step_by(cols).map(|&y| f64::from(y)).sum::<f64>() / rows as f64;
            assert!(column_sum.abs() < 4.0 * unit::<f32>() * (rows.min(128) as f64 + 20.0), "{column_sum:e}");
        }
        check(&case::<f64>(rows, cols, 1e10, 1.0, 1));
    }
}

#[test]
fn blocks_of_rows_with_other_means_are_merged() {
    // One block, whole ones, a last one of a row, an odd number of them; the mean climbs, jumps, or is far
    // away.
    for rows in [128, 129, 256, 385, 1000, 2000] {
        let ramp = |i: usize| 1e-3 * i as f64;
        let jump = |i: usize| if i < 300 { 0.0 } else { 1e3 };
        let far = |i: usize| 3e5 + (i / 128) as f64;
        for (which, mean) in [&ramp as &dyn Fn(usize) -> f64, &jump, &far].into_iter().enumerate() {
            let mut case = case::<f32>(rows, 3, 0.0, 1e-2, which as u64);
            for (i, x) in case.x.iter_mut().enumerate() {
                *x = (f64::from(*x) + mean(i / 3)) as f32;
            }
            check(&case);
        }
    }
}

#[test]
fn squares_that_overflow_do_no_harm() {
    for scale in [1e20, 1e30, 1e37] {
        check(&case::<f32>(100, 20, 0.3 * scale, scale, 1));
    }
    // The sum itself overflows; the ordinary columns beside it keep their bits.
    check(&case::<f32>(300, 3, 2.5e38, 1e37, 1));
    let mut mixed = case::<f32>(50, 3, 1.0, 1.0, 2);
    let [clean, ..] = run(&mixed);
    mixed.x.iter_mut().skip(1).step_by(3).for_each(|x| *x *= 1e30);
    let [y, ..] = run(&mixed);
    for c in [0, 2] {
        assert!(y.iter().skip(c).step_by(3).eq(clean.iter().skip(c).step_by(3)));
    }
    check(&mixed);
    let huge = case::<f64>(30, 4, 1e200, 1e199, 2);
    let [y, ..] = run(&huge);
    let small = Case { x: huge.x.iter().map(|x| x * 2.0_f64.powi(-600)).collect(), eps: 0.0, ..huge };
    // A power of two changes nothing.
    assert_close("y of 1e200", &y, &run(&small)[0], 1e-15, 0.0);
}

#[test]
fn pytorch_agrees_in_training() {
    for fixture in fixture("batch_norm") {
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
        for (what, actual) in [("y", y), ("dx", dx), ("dweight", dgamma), ("dbias", dbeta)] {
            let expected = field(what);
            let largest = expected.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
            assert_close(&format!("{name} {what}"), &actual, &expected, 1e-10, 1e-10 * largest);
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

fn check_running<T: Element>(fixture: &serde_json::Value, relative: f64) {
    let (gamma, beta) = (narrow::<T>(&data(&fixture["weight"])), narrow::<T>(&data(&fixture["bias"])));
    let (eps, momentum) = (fixture["eps"].as_f64().unwrap(), fixture["momentum"].as_f64().unwrap());
    let (x, cols) = (narrow::<T>(&data(&fixture["x"])), gamma.len());
    let steps = fixture["train_y"].as_array().unwrap().len();
    let batches: Vec<&[T]> = x.chunks(x.len() / steps).collect();
    let (mut running_mean, mut running_var) = (vec![T::ZERO; cols], vec![T::ONE; cols]);
    let (mut y, mut mean, mut rstd) =
        (vec![T::NAN; batches[0].len()], vec![T::NAN; cols], vec![T::NAN; cols]);
    let close = |what: &str, step: usize, actual: &[T]| {
        assert_close(&format!("{what} {step}"), actual, &data(&fixture[what][step]), relative, relative);
    };
    for (step, x) in batches.iter().enumerate() {
        let running = Running { mean: &mut running_mean, var: &mut running_var, momentum, unbiased: true };
        let (gamma, beta) = (Some(&gamma[..]), Some(&beta[..]));
        batch_norm::Forward {
            x,
            cols,
            gamma,
            beta,
            eps,
            running: Some(running),
            y: &mut y,
            mean: Some(&mut mean),
            rstd: Some(&mut rstd),
            ..Default::default()
        }
        .run()
        .unwrap();
        close("train_y", step, &y);
        close("running_mean", step, &running_mean);
        close("running_var", step, &running_var);
    }
    for (step, x) in batches.iter().enumerate() {
        batch_norm::Infer {
            x,
            cols,
            gamma: Some(&gamma),
            beta: Some(&beta),
            running_mean: &running_mean,
            running_var: &running_var,
            eps,
            y: &mut y,
            ..Default::default()
        }
        .run()
        .unwrap();
        close("eval_y", step, &y);
    }
}

#[test]
fn pytorch_agrees_on_running_statistics() {
    for fixture in fixture("batch_norm_running") {
        check_running::<f64>(&fixture, 1e-10);
        // Three batches of values about 1, deviations of 0.1 and more: ten roundings of inputs ten times the
        // deviation.
        check_running::<f32>(&fixture, 100.0 * unit::<f32>());
    }
}

#[test]
fn the_biased_variance_and_any_momentum_can_be_asked_for() {
    let (mut running_mean, mut running_var) = ([10.0_f64], [20.0]);
    let (mut y, mut mean, mut rstd) = ([0.0; 2], [0.0], [0.0]);
    let running = Running { mean: &mut running_mean, var: &mut running_var, momentum: 0.25, unbiased: false };
    batch_norm::Forward {
        x: &[1.0, 3.0],
        cols: 1,
        eps: 0.0,
        running: Some(running),
        y: &mut y,
        mean: Some(&mut mean),
        rstd: Some(&mut rstd),
        ..Default::default()
    }
    .run()
    .unwrap();
    assert_eq!((running_mean, running_var), ([8.0], [15.25]));
    let running = Running { mean: &mut running_mean, var: &mut running_var, momentum: 1.0, unbiased: true };
    batch_norm::Forward {
        x: &[1.0, 3.0],
        cols: 1,
        eps: 0.0,
        running: Some(running),
        y: &mut y,
        mean: Some(&mut mean),
        rstd: Some(&mut rstd),
        ..Default::default()
    }
    .run()
    .unwrap();
    assert_eq!((running_mean, running_var), ([2.0], [2.0]));
}

#[test]
fn one_bad_number_spoils_its_column_only() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        on_every_isa(|isa| {
            let mut case = case::<f32>(10, 40, 0.0, 1.0, 1);
            let [clean, clean_mean, ..] = run(&case);
            case.x[45] = bad;
            let [y, mean, rstd, ..] = run(&case);
            assert!(mean[5].is_nan() && rstd[5].is_nan(), "{isa} {bad}: {} {}", mean[5], rstd[5]);
            for (i, (y, clean)) in y.iter().zip(&clean).enumerate() {
                assert!(if i % 40 == 5 { y.is_nan() } else { y == clean }, "{isa} {bad} at {i}");
            }
            assert_eq!(mean[6..], clean_mean[6..]);
        });
    }
}

#[test]
fn constant_columns_give_beta() {
    for x in [0.0, -0.0, 3.0, 1e-40, 1e38] {
        for (rows, cols) in [(2, 1), (7, 20), (200, 3), (1000, 2)] {
            let case = Case {
                x: vec![x as f32; rows * cols],
                cols,
                gamma: None,
                beta: Some(vec![0.25; cols]),
                eps: 1e-5,
                dy: noise(rows * cols, 1),
            };
            let [y, mean, ..] = run(&case);
            assert!(y.iter().all(|&y| y == 0.25), "{x} × {rows}: {y:?}");
            assert!(mean.iter().all(|&mean| mean == x as f32));
        }
    }
}

#[test]
fn no_rows_in_inference_give_zero_gradients_whatever_the_statistics() {
    for var in [f32::NAN, 0.0, f32::INFINITY] {
        let (statistics, mut dgamma, mut dbeta) = ([var; 3], [1.0; 3], [1.0; 3]);
        let (none, mean, var) = ([], &statistics, &statistics);
        batch_norm::InferBackward {
            x: &none,
            cols: 3,
            running_mean: mean,
            running_var: var,
            eps: 0.0,
            dy: &none,
            dx: &mut [],
            dgamma: Some(&mut dgamma),
            dbeta: Some(&mut dbeta),
            ..Default::default()
        }
        .run()
        .unwrap();
        assert_eq!((dgamma, dbeta), ([0.0; 3], [0.0; 3]), "{statistics:?}");
    }
}

#[test]
fn bad_arguments_are_named() {
    let forward = |x: usize, cols, gamma: Option<&[f32]>, eps, momentum| {
        let (mut y, mut mean, mut rstd) = (vec![0.0; x], vec![0.0; cols], vec![0.0; cols]);
        let (mut running_mean, mut running_var) = (vec![0.0; cols], vec![0.0; 3]);
        let running = Running { mean: &mut running_mean, var: &mut running_var, momentum, unbiased: true };
        let x = vec![0.0; x];
        batch_norm::Forward {
            x: &x,
            cols,
            gamma,
            eps,
            running: Some(running),
            y: &mut y,
            mean: Some(&mut mean),
            rstd: Some(&mut rstd),
            ..Default::default()
        }
        .run()
        .unwrap_err()
        .to_string()
    };
    assert_eq!(forward(7, 3, None, 1e-5, 0.1), "batch_norm: 7 elements are not whole rows of 3");
    assert_eq!(
        forward(3, 3, None, 1e-5, 0.1),
        "batch_norm: expected more than 1 row in training, got [1, 3]"
    );
    assert_eq!(
        forward(0, 3, None, 1e-5, 0.1),
        "batch_norm: expected more than 1 row in training, got [0, 3]"
    );
    assert_eq!(forward(6, 3, Some(&[1.0]), 1e-5, 0.1), "batch_norm: gamma has 1 elements, expected 3");
    assert_eq!(forward(8, 4, None, 1e-5, 0.1), "batch_norm: running var has 3 elements, expected 4");
    assert_eq!(forward(6, 3, None, f64::NAN, 0.1), "batch_norm: eps is NaN, expected a finite number ≥ 0");
    assert_eq!(forward(6, 3, None, 1e-5, 1.5), "batch_norm: momentum is 1.5, expected 0 to 1");
    let (x, m) = ([0.0_f32; 6], [0.0; 3]);
    let error = batch_norm::Backward {
        x: &x,
        cols: 3,
        mean: &m,
        rstd: &m,
        dy: &x,
        dx: &mut [0.0; 5],
        ..Default::default()
    }
    .run()
    .unwrap_err();
    assert_eq!(error.to_string(), "batch_norm_backward: dx has 5 elements, expected 6");
    let error = batch_norm::Infer {
        x: &x,
        cols: 3,
        running_mean: &m,
        running_var: &m[..2],
        eps: 1e-5,
        y: &mut [0.0; 6],
        ..Default::default()
    }
    .run()
    .unwrap_err();
    assert_eq!(error.to_string(), "batch_norm_infer: running_var has 2 elements, expected 3");
}

#[test]
fn what_follows_in_the_same_pass_has_the_bits_of_the_steps_one_by_one() {
    fn check<T: Element>() {
        for (rows, cols) in [(2, 1), (5, 3), (37, 16), (20, 17), (130, 50), (9, 600)] {
            let len = rows * cols;
            let (x, residual, dy) = (noise::<T>(len, 1), noise::<T>(len, 2), noise::<T>(len, 3));
            let (gamma, beta) = (noise::<T>(cols, 4), noise::<T>(cols, 5));
            let (gamma, beta) = (Some(&gamma[..]), Some(&beta[..]));
            let zeros = |len: usize| vec![T::ZERO; len];
            on_every_isa(|isa| {
                let (mut y, mut mean, mut rstd) = (zeros(len), zeros(cols), zeros(cols));
                batch_norm::Forward {
                    x: &x,
                    cols,
                    gamma,
                    beta,
                    eps: 1e-5,
                    y: &mut y,
                    mean: Some(&mut mean),
                    rstd: Some(&mut rstd),
                    ..Default::default()
                }
                .run()
                .unwrap();
                let mut given = zeros(len);
                batch_norm::Infer {
                    x: &x,
                    cols,
                    gamma,
                    beta,
                    running_mean: &mean,
                    running_var: &rstd,
                    eps: 1e-5,
                    y: &mut given,
                    ..Default::default()
                }
                .run()
                .unwrap();
                for after in [After::Nothing, After::Relu, After::AddRelu(&residual)] {
                    let one_by_one = |y: &[T]| {
                        let (mut sum, mut out) = (y.to_vec(), zeros(len));
                        if let After::AddRelu(residual) = after {
                            map::binary(map::Binary::Add, y, residual, &mut sum).unwrap();
                        }
                        map::unary(map::Unary::Relu, &sum, &mut out).unwrap();
                        if let After::Nothing = after { y.to_vec() } else { out }
                    };
                    let (mut z, mut m, mut r) = (zeros(len), zeros(cols), zeros(cols));
                    batch_norm::Forward {
                        x: &x,
                        cols,
                        gamma,
                        beta,
                        eps: 1e-5,
                        after,
                        y: &mut z,
                        mean: Some(&mut m),
                        rstd: Some(&mut r),
                        ..Default::default()
                    }
                    .run()
                    .unwrap();
                    assert!(z == one_by_one(&y) && m == mean && r == rstd, "{isa} {rows} x {cols} {after:?}");
                    batch_norm::Infer {
                        x: &x,
                        cols,
                        gamma,
                        beta,
                        running_mean: &mean,
                        running_var: &rstd,
                        eps: 1e-5,
                        after,
                        y: &mut z,
                    }
                    .run()
                    .unwrap();
                    assert!(z == one_by_one(&given), "{isa} infer {rows} x {cols} {after:?}");
                }

                let (mut gated, scale) = (zeros(len), T::from_f64(1.25));
                map::gate(&y, scale, &dy, &mut gated).unwrap();
                for ((&y, &dy), &gated) in y.iter().zip(&dy).zip(&gated) {
                    assert!(gated == if y > T::ZERO { dy * scale } else { T::ZERO });
                }
                let gradients = |gate: bool| {
                    let (mut dx, mut dgamma, mut dbeta) = (zeros(len), zeros(cols), zeros(cols));
                    let outs = (&mut dx[..], &mut dgamma[..], &mut dbeta[..]);
                    if gate {
                        let gate = Some(Gate { y: &y, scale });
                        batch_norm::Backward {
                            x: &x,
                            cols,
                            gamma,
                            mean: &mean,
                            rstd: &rstd,
                            gate,
                            dy: &dy,
                            dx: outs.0,
                            dgamma: Some(outs.1),
                            dbeta: Some(outs.2),
                        }
                        .run()
                    } else {
                        batch_norm::Backward {
                            x: &x,
                            cols,
                            gamma,
                            mean: &mean,
                            rstd: &rstd,
                            dy: &gated,
                            dx: outs.0,
                            dgamma: Some(outs.1),
                            dbeta: Some(outs.2),
                            ..Default::default()
                        }
                        .run()
                    }
                    .unwrap();
                    [dx, dgamma, dbeta].concat()
                };
                assert!(gradients(true) == gradients(false), "{isa} {rows} x {cols} backward");
            });
        }
    }
    check::<f32>();
    check::<f64>();
    let (x, mut y, mut m, mut r) = ([1.0_f32; 4], [0.0; 4], [0.0; 2], [0.0; 2]);
    let after = After::AddRelu(&[1.0; 3]);
    let error = batch_norm::Forward {
        x: &x,
        cols: 2,
        eps: 1e-5,
        after,
        y: &mut y,
        mean: Some(&mut m),
        rstd: Some(&mut r),
        ..Default::default()
    }
    .run();
    assert_eq!(error.unwrap_err().to_string(), "batch_norm: residual has 3 elements, expected 4");
}
