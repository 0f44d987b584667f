//! Group normalisation against its reference, PyTorch and its promises.

use crate::common::*;
use crate::laws::near;
use crate::registry::norms;
use gristmill::kernels::group_norm::{self, Layout};
use gristmill::{Element, kernels::layer_norm};

struct Case<T> {
    x: Vec<T>,
    layout: Layout,
    gamma: Option<Vec<T>>,
    beta: Option<Vec<T>>,
    eps: f64,
    dy: Vec<T>,
}

/// y, mean, rstd, dx, dgamma, dbeta.
fn run<T: Element>(case: &Case<T>) -> [Vec<T>; 6] {
    let Case { x, layout, gamma, beta, eps, dy } = case;
    let (gamma, beta) = (gamma.as_deref(), beta.as_deref());
    let rows = x.len() / (layout.channels * layout.inner) * layout.groups;
    let [mut y, mut dx] = [(); 2].map(|()| vec![T::NAN; x.len()]);
    let [mut mean, mut rstd] = [(); 2].map(|()| vec![T::NAN; rows]);
    let [mut dgamma, mut dbeta] = [(); 2].map(|()| vec![T::NAN; layout.channels]);
    group_norm::Forward {
        x,
        layout: *layout,
        gamma,
        beta,
        eps: *eps,
        y: &mut y,
        mean: Some(&mut mean),
        rstd: Some(&mut rstd),
    }
    .run()
    .unwrap();
    group_norm::Backward {
        x,
        layout: *layout,
        gamma,
        mean: &mean,
        rstd: &rstd,
        dy,
        dx: &mut dx,
        dgamma: Some(&mut dgamma),
        dbeta: Some(&mut dbeta),
    }
    .run()
    .unwrap();
    [y, mean, rstd, dx, dgamma, dbeta]
}

/// Compares with the reference, within the bounds of the registry.
fn check<T: Element>(case: &Case<T>) {
    let Case { x, layout, gamma, beta, eps, dy } = case;
    let (x, gamma, beta, dy) = (x.clone(), gamma.clone(), beta.clone(), dy.clone());
    near(&norms::group_norm_forward_of(x.clone(), *layout, gamma.clone(), beta, *eps)).unwrap();
    near(&norms::group_norm_backward_of(x, *layout, gamma, *eps, dy, [true; 2])).unwrap();
}

fn case<T: Element>(samples: usize, shape: [usize; 3], mean: f64, std: f64, seed: u64) -> Case<T> {
    let [groups, depth, inner] = shape;
    let layout = Layout { channels: groups * depth, inner, groups };
    let len = samples * layout.channels * inner;
    let x: Vec<f64> = noise::<f64>(len, seed).iter().map(|z| mean + std * z).collect();
    Case {
        x: narrow(&x),
        layout,
        gamma: (!seed.is_multiple_of(3)).then(|| noise(layout.channels, seed + 1)),
        beta: (!seed.is_multiple_of(5)).then(|| noise(layout.channels, seed + 2)),
        eps: 1e-5,
        dy: noise(len, seed + 3),
    }
}

#[test]
fn means_far_above_the_deviation_do_not_reach_y() {
    for inner in [1, 7, 100, 1000] {
        for mean in [1e3, -1e4, 3e5] {
            check(&case::<f32>(2, [3, 4, inner], mean, 1.0, 1));
        }
        check(&case::<f64>(2, [3, 4, inner], 1e10, 1.0, 1));
    }
}

#[test]
fn squares_that_overflow_do_no_harm() {
    for scale in [1e20, 1e30, 1e37] {
        for inner in [5, 100] {
            check(&case::<f32>(2, [2, 3, inner], 0.3 * scale, scale, 1));
        }
    }
    for inner in [5, 100] {
        let huge = Case { eps: 0.0, ..case::<f64>(2, [2, 3, inner], 1e199, 1e200, 1) };
        let [y, .., dx, _, _] = run(&huge);
        // A power of two changes nothing in y, and itself in dx.
        let scale = 2.0_f64.powi(-600);
        let small = Case { x: huge.x.iter().map(|x| x * scale).collect(), ..huge };
        let [small_y, .., small_dx, _, _] = run(&small);
        let small_dx: Vec<f64> = small_dx.iter().map(|dx| dx * scale).collect();
        assert_close("y of 1e200", &y, &small_y, 1e-15, 0.0);
        assert_close("dx of 1e200", &dx, &small_dx, 1e-15, 0.0);
    }
}

#[test]
fn one_group_of_single_elements_is_layer_norm_to_the_bit() {
    let case = case::<f32>(37, [1, 50, 1], 1.0, 2.0, 1);
    let [y, mean, rstd, dx, dgamma, dbeta] = run(&case);
    let (gamma, beta) = (case.gamma.as_deref(), case.beta.as_deref());
    let [mut ly, mut ldx] = [(); 2].map(|()| vec![0.0; case.x.len()]);
    let [mut lmean, mut lrstd] = [(); 2].map(|()| vec![0.0; 37]);
    let [mut lgamma, mut lbeta] = [(); 2].map(|()| vec![0.0; 50]);
    let stats = (Some(&mut lmean[..]), Some(&mut lrstd[..]));
    let call = layer_norm::Forward { x: &case.x, cols: 50, gamma, beta, y: &mut ly, ..Default::default() };
    layer_norm::Forward { mean: stats.0, rstd: stats.1, ..call }.run().unwrap();
    let sums = (Some(&mut lgamma[..]), Some(&mut lbeta[..]));
    let call = layer_norm::Backward { x: &case.x, cols: 50, gamma, dy: &case.dy, ..Default::default() };
    let call = layer_norm::Backward { mean: &mean, rstd: &rstd, dx: &mut ldx, ..call };
    layer_norm::Backward { dgamma: sums.0, dbeta: sums.1, ..call }.run().unwrap();
    assert_eq!([y, mean, rstd, dx, dgamma, dbeta], [ly, lmean, lrstd, ldx, lgamma, lbeta]);
}

#[test]
fn pytorch_agrees() {
    let cases = fixture("group_norm");
    assert_eq!(cases.len(), 5);
    for (index, fixture) in cases.iter().enumerate() {
        let field = |field: &str| data(&fixture[field]);
        let (x, gamma, beta, dy) = (field("x"), field("weight"), field("bias"), field("dy"));
        let inner = fixture["x"]["shape"].as_array().unwrap()[2..]
            .iter()
            .map(|n| n.as_u64().unwrap() as usize)
            .product();
        let groups = fixture["groups"].as_u64().unwrap() as usize;
        let layout = Layout { channels: gamma.len(), inner, groups };
        let eps = fixture["eps"].as_f64().unwrap();
        let double = Case {
            x: x.clone(),
            layout,
            gamma: Some(gamma.clone()),
            beta: Some(beta.clone()),
            eps,
            dy: dy.clone(),
        };
        let [y, _, _, dx, dgamma, dbeta] = run(&double);
        for (what, actual) in [("y", y), ("dx", dx), ("dweight", dgamma), ("dbias", dbeta)] {
            assert_close(&format!("case {index} {what}"), &actual, &field(what), 1e-10, 1e-12);
        }
        check(&double);
        check::<f32>(&Case {
            x: narrow(&x),
            layout,
            gamma: Some(narrow(&gamma)),
            beta: Some(narrow(&beta)),
            eps,
            dy: narrow(&dy),
        });
    }
}

#[test]
fn one_bad_number_spoils_its_group_only_and_constant_groups_give_beta() {
    for inner in [3, 70] {
        on_every_isa(|isa| {
            let mut case = case::<f32>(2, [3, 2, inner], 0.0, 1.0, 1);
            let [clean, ..] = run(&case);
            let group = 4 * 2 * inner..5 * 2 * inner;
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                case.x[group.start + 1] = bad;
                let [y, ..] = run(&case);
                assert!(y[group.clone()].iter().all(|y| y.is_nan()), "{isa} {bad}");
                let others = |y: &[f32]| [&y[..group.start], &y[group.end..]].concat();
                assert_eq!(others(&y), others(&clean), "{isa} {bad}");
            }
            case.x.fill(3.0);
            let [y, mean, ..] = run(&case);
            let beta = case.beta.as_ref().unwrap();
            assert!(y.iter().enumerate().all(|(i, &y)| y == beta[i / inner % 6]), "{isa}");
            assert_eq!(mean, [3.0; 6]);
        });
    }
}

#[test]
fn no_samples_give_no_output_and_zero_gradients() {
    for layout in [
        Layout { channels: 4, inner: 3, groups: 2 },
        Layout { channels: 4, inner: 0, groups: 2 },
        Layout { channels: 4, inner: 100, groups: 2 },
    ] {
        let (mut dgamma, mut dbeta) = ([1.0_f32; 4], [1.0; 4]);
        group_norm::Forward::<f32> { x: &[], layout, eps: 1e-5, y: &mut [], ..Default::default() }
            .run()
            .unwrap();
        group_norm::Backward {
            x: &[],
            layout,
            mean: &[],
            rstd: &[],
            dy: &[],
            dx: &mut [],
            dgamma: Some(&mut dgamma),
            dbeta: Some(&mut dbeta),
            ..Default::default()
        }
        .run()
        .unwrap();
        assert_eq!((dgamma, dbeta), ([0.0; 4], [0.0; 4]));
    }
    let none = Layout { channels: 0, inner: 3, groups: 2 };
    group_norm::Forward::<f64> { x: &[], layout: none, eps: 1e-5, y: &mut [], ..Default::default() }
        .run()
        .unwrap();
}

#[test]
fn gradients_not_wanted_change_nothing_else() {
    for inner in [3, 70] {
        let case = case::<f32>(5, [2, 3, inner], 1.0, 2.0, 1);
        let [_, mean, rstd, dx, dgamma, dbeta] = run(&case);
        let (gamma, layout) = (case.gamma.as_deref(), case.layout);
        let (mut other, mut sums) = (vec![0.0; dx.len()], vec![0.0; 6]);
        let mut backward = |dgamma: Option<&mut [f32]>, dbeta: Option<&mut [f32]>| {
            let (x, dy) = (&case.x, &case.dy);
            group_norm::Backward {
                x,
                layout,
                gamma,
                mean: &mean,
                rstd: &rstd,
                dy,
                dx: &mut other,
                dgamma,
                dbeta,
            }
            .run()
            .unwrap();
            assert_eq!(dx, other);
        };
        backward(None, None);
        backward(Some(&mut sums), None);
        assert_eq!(dgamma, sums);
        backward(None, Some(&mut sums));
        assert_eq!(dbeta, sums);
    }
}

#[test]
fn bad_arguments_are_named() {
    let forward = |x: usize, [channels, inner, groups]: [usize; 3], gamma: Option<&[f32]>, rows: usize| {
        let (mut y, mut mean, mut rstd) = (vec![0.0; x], vec![0.0; rows], vec![0.0; rows]);
        let layout = Layout { channels, inner, groups };
        let x = vec![0.0; x];
        group_norm::Forward {
            x: &x,
            layout,
            gamma,
            eps: 1e-5,
            y: &mut y,
            mean: Some(&mut mean),
            rstd: Some(&mut rstd),
            ..Default::default()
        }
        .run()
        .unwrap_err()
        .to_string()
    };
    assert_eq!(forward(7, [3, 1, 3], None, 1), "group_norm: 7 elements are not whole rows of 3");
    let uneven = "channels do not fall into";
    assert_eq!(forward(12, [3, 2, 2], None, 1), format!("group_norm: 3 {uneven} 2 equal groups"));
    assert_eq!(forward(12, [3, 2, 0], None, 1), format!("group_norm: 3 {uneven} 0 equal groups"));
    assert_eq!(forward(12, [4, 3, 2], Some(&[1.0]), 2), "group_norm: gamma has 1 elements, expected 4");
    assert_eq!(forward(12, [4, 3, 2], None, 1), "group_norm: mean has 1 elements, expected 2");
    assert!(forward(12, [usize::MAX, 3, 1], None, 1).ends_with("channels of 3 elements are too many"));
    let layout = Layout { channels: 4, inner: 3, groups: 2 };
    let (x, m) = ([0.0_f32; 12], [0.0; 2]);
    let error = group_norm::Backward {
        x: &x,
        layout,
        mean: &m,
        rstd: &m,
        dy: &x,
        dx: &mut [0.0; 12],
        dgamma: Some(&mut [0.0; 2]),
        ..Default::default()
    }
    .run();
    assert_eq!(error.unwrap_err().to_string(), "group_norm_backward: dgamma has 2 elements, expected 4");
}
