//! Losses of classes against their references, PyTorch and their promises.

use crate::common::*;
use crate::laws::near;
use crate::registry::losses::{self, Rule};
use gristmill::kernels::cross_entropy::{self, Options};
use gristmill::kernels::{nll_loss, soft_cross_entropy};
use gristmill::reference;

/// The reference and the kernel in f64 agree with PyTorch; f32 is measured against the reference.
#[test]
fn pytorch_agrees() {
    for case in fixture("softmax") {
        let z = data(&case["x"]);
        let classes = case["x"]["shape"][1].as_u64().unwrap() as usize;
        let targets: Vec<usize> =
            case["target"].as_array().unwrap().iter().map(|t| t.as_u64().unwrap() as usize).collect();
        let rows = targets.len();
        let mean = 1.0 / rows as f64;
        for (kind, smoothing, dloss) in [("mean", 0.0, mean), ("sum", 0.0, 1.0), ("smooth_0.1", 0.1, mean)] {
            let total = [case[format!("cross_entropy_{kind}")].as_f64().unwrap()];
            let gradient = data(&case[format!("dcross_entropy_{kind}")]);
            let close = |name: &str, losses: &[f64], dlogits: &[f64]| {
                let name = format!("{name} cross_entropy_{kind} of {}", case["name"]);
                assert_close(&name, &[losses.iter().sum::<f64>() * dloss], &total, 1e-10, 1e-13);
                assert_close(&name, dlogits, &gradient, 1e-10, 1e-13);
            };
            let (dlosses, ones) = (vec![dloss; rows], vec![1.0; classes]);
            let options = Options { label_smoothing: smoothing, ..Options::default() };
            let losses = reference::cross_entropy(&z, &targets, classes, smoothing, &ones, None);
            let dlogits =
                reference::cross_entropy_backward(&z, &targets, classes, smoothing, &ones, None, &dlosses);
            close("reference", &losses, &dlogits);
            on_every_isa(|isa| {
                let [mut losses, mut lse, mut rest] = [(); 3].map(|()| vec![0.0; rows]);
                let mut dz = vec![0.0; z.len()];
                cross_entropy::Forward {
                    logits: &z,
                    targets: &targets,
                    classes,
                    options,
                    losses: &mut losses,
                    logsumexp: &mut lse,
                    rest: &mut rest,
                }
                .run()
                .unwrap();
                cross_entropy::Backward {
                    logits: &z,
                    targets: &targets,
                    classes,
                    options,
                    logsumexp: &lse,
                    rest: &rest,
                    dlosses: &dlosses,
                    dlogits: &mut dz,
                }
                .run()
                .unwrap();
                close(isa.name(), &losses, &dz);
            });
            let rule = Rule { smoothing, ..Rule::default() };
            let (z, dlosses, targets) = (narrow::<f32>(&z), narrow(&dlosses), targets.clone());
            near(&losses::cross_entropy_forward_of(z.clone(), targets.clone(), classes, rule, vec![]))
                .unwrap();
            near(&losses::cross_entropy_backward_of(z, targets, classes, rule, vec![], dlosses)).unwrap();
        }
    }
}

#[test]
fn a_dominating_target_has_a_loss_near_zero_whatever_its_size() {
    on_every_isa(|isa| {
        for offset in [0.0_f32, 1e4, -1e6] {
            let (mut loss, mut lse, mut rest) = ([f32::NAN], [0.0], [0.0]);
            let z = [offset, offset + 16.0, offset];
            let options = Options::default();
            cross_entropy::Forward {
                logits: &z,
                targets: &[1],
                classes: 3,
                options,
                losses: &mut loss,
                logsumexp: &mut lse,
                rest: &mut rest,
            }
            .run()
            .unwrap();
            let expected = (2.0 * (-16f64).exp()).ln_1p();
            assert_close(&format!("{isa} at {offset}"), &loss, &[expected], 0.0, 12.0 * unit::<f32>());
        }
    });
}

#[test]
fn infinities_and_nan_are_what_pytorch_makes_of_them() {
    let inf = f64::INFINITY;
    // NaN, +∞, −∞ alone, −∞ beside the target, a target of −∞.
    let z = [0.0, f64::NAN, 0.0, inf, -inf, -inf, 0.0, -inf, -inf, 0.0];
    on_every_isa(|isa| {
        let ([mut losses, mut lse, mut rest], mut dz) = ([[0.0; 5]; 3], [0.0; 10]);
        let plain = Options::default();
        cross_entropy::Forward {
            logits: &z,
            targets: &[0; 5],
            classes: 2,
            options: plain,
            losses: &mut losses,
            logsumexp: &mut lse,
            rest: &mut rest,
        }
        .run()
        .unwrap();
        assert!(losses[..3].iter().all(|loss| loss.is_nan()), "{isa}: {losses:?}");
        assert_eq!(losses[3..], [0.0, inf], "{isa}");
        cross_entropy::Backward {
            logits: &z,
            targets: &[0; 5],
            classes: 2,
            options: plain,
            logsumexp: &lse,
            rest: &rest,
            dlosses: &[1.0; 5],
            dlogits: &mut dz,
        }
        .run()
        .unwrap();
        assert!(dz[..6].iter().all(|dz| dz.is_nan()), "{isa}: {dz:?}");
        assert_eq!(dz[6..], [0.0, 0.0, -1.0, 1.0], "{isa}");
        let smoothed = Options { label_smoothing: 0.1, ..Options::default() };
        let mut two = |options| {
            let (losses, lse, rest) = (&mut losses[..2], &mut lse[..2], &mut rest[..2]);
            cross_entropy::Forward {
                logits: &z[6..],
                targets: &[0; 2],
                classes: 2,
                options,
                losses,
                logsumexp: lse,
                rest,
            }
            .run()
            .unwrap();
            [losses[0], losses[1]]
        };
        assert_eq!(two(smoothed), [inf, inf], "{isa}, smoothed");
        let weightless = Options { weight: Some(&[0.0, 1.0]), ..Options::default() };
        let [first, second] = two(weightless);
        assert_eq!(first, 0.0, "{isa}");
        assert!(second.is_nan(), "{isa}: 0 times ∞");
        let t = [0.0, 1.0, 0.5, 0.5, 1.0, 0.0, 1.0, 0.0, 0.5, 0.5];
        soft_cross_entropy::Forward {
            logits: &z,
            targets: &t,
            classes: 2,
            label_smoothing: 0.0,
            losses: &mut losses,
            logsumexp: &mut lse,
            rest: &mut rest,
            ..Default::default()
        }
        .run()
        .unwrap();
        assert!(losses[..4].iter().all(|loss| loss.is_nan()), "{isa}: {losses:?}");
        assert_eq!(losses[4], inf, "{isa}");
    });
}

#[test]
fn the_gradient_of_the_targets_changes_nothing_else() {
    let (z, t, losses) = (noise::<f32>(300, 1), noise::<f32>(300, 2), noise::<f32>(30, 3));
    let lse = narrow::<f32>(&reference::logsumexp(&widen(&z), 10));
    on_every_isa(|isa| {
        let [mut dz, mut dt, mut alone] = [(); 3].map(|()| vec![f32::NAN; 300]);
        let backward = |dz: &mut [f32], dt| {
            soft_cross_entropy::Backward {
                logits: &z,
                targets: &t,
                classes: 10,
                label_smoothing: 0.1,
                logsumexp: &lse,
                rest: &[0.0; 30],
                dlosses: &losses,
                dlogits: dz,
                dtargets: dt,
                ..Default::default()
            }
            .run()
            .unwrap();
        };
        backward(&mut dz, Some(&mut dt));
        backward(&mut alone, None);
        assert_eq!(dz, alone, "{isa}");
    });
}

#[test]
fn ignored_rows_count_nothing_whatever_they_hold() {
    let z = [f64::NAN, f64::INFINITY, 0.0, 0.0];
    on_every_isa(|isa| {
        for label_smoothing in [0.0, 0.1] {
            // Not a class.
            let options = Options { label_smoothing, ignore_index: Some(9), ..Options::default() };
            let ([mut losses, mut lse, mut rest], mut dz) = ([[f64::NAN; 2]; 3], [f64::NAN; 4]);
            cross_entropy::Forward {
                logits: &z,
                targets: &[9, 1],
                classes: 2,
                options,
                losses: &mut losses,
                logsumexp: &mut lse,
                rest: &mut rest,
            }
            .run()
            .unwrap();
            let dlosses = [f64::INFINITY, 1.0];
            cross_entropy::Backward {
                logits: &z,
                targets: &[9, 1],
                classes: 2,
                options,
                logsumexp: &lse,
                rest: &rest,
                dlosses: &dlosses,
                dlogits: &mut dz,
            }
            .run()
            .unwrap();
            assert_close(&format!("{isa} losses"), &losses, &[0.0, 2f64.ln()], 1e-15, 0.0);
            assert_eq!(dz[..2], [0.0; 2], "{isa}");
            nll_loss::Forward {
                log_p: &z,
                targets: &[9, 1],
                classes: 2,
                ignore_index: Some(9),
                losses: &mut losses,
                ..Default::default()
            }
            .run()
            .unwrap();
            nll_loss::Backward {
                targets: &[9, 1],
                classes: 2,
                ignore_index: Some(9),
                dlosses: &[f64::INFINITY, 2.0],
                dlog_p: &mut dz,
                ..Default::default()
            }
            .run()
            .unwrap();
            assert_eq!((losses, dz), ([0.0; 2], [0.0, 0.0, 0.0, -2.0]), "{isa}");
        }
    });
}

#[test]
fn wrong_arguments_are_named() {
    let z = [0.0_f32; 40];
    let forward = |targets: &[usize], classes, smoothing, losses, logsumexp| {
        let (mut losses, mut logsumexp) = (vec![0.0; losses], vec![0.0; logsumexp]);
        let options = Options { label_smoothing: smoothing, ..Options::default() };
        cross_entropy::Forward {
            logits: &z,
            targets,
            classes,
            options,
            losses: &mut losses,
            logsumexp: &mut logsumexp,
            rest: &mut [0.0; 4],
        }
        .run()
        .unwrap_err()
        .to_string()
    };
    assert_eq!(forward(&[0; 4], 7, 0.0, 4, 4), "cross_entropy: 40 elements are not whole rows of 7");
    assert_eq!(forward(&[0; 3], 10, 0.0, 4, 4), "cross_entropy: targets has 3 elements, expected 4");
    assert_eq!(forward(&[0; 4], 10, 0.0, 3, 4), "cross_entropy: losses has 3 elements, expected 4");
    assert_eq!(forward(&[0; 4], 10, 0.0, 4, 3), "cross_entropy: logsumexp has 3 elements, expected 4");
    assert_eq!(
        forward(&[0, 9, 0, 12], 10, 0.0, 4, 4),
        "cross_entropy: target 12 of row 3 is not one of 10 classes"
    );
    assert_eq!(forward(&[0; 4], 10, 1.5, 4, 4), "cross_entropy: label smoothing 1.5 is outside 0 to 1");
    assert_eq!(forward(&[0; 4], 10, f32::NAN, 4, 4), "cross_entropy: label smoothing NaN is outside 0 to 1");
    let plain = Options::default();
    let error = cross_entropy::Backward {
        logits: &z,
        targets: &[0; 4],
        classes: 10,
        options: plain,
        logsumexp: &z[..4],
        rest: &z[..4],
        dlosses: &[0.0; 3],
        dlogits: &mut [0.0; 40],
    }
    .run();
    assert_eq!(error.unwrap_err().to_string(), "cross_entropy: dlosses has 3 elements, expected 4");
    let error = cross_entropy::Backward {
        logits: &z,
        targets: &[0; 4],
        classes: 10,
        options: plain,
        logsumexp: &z[..4],
        rest: &z[..4],
        dlosses: &z[..4],
        dlogits: &mut [0.0; 4],
    }
    .run();
    assert_eq!(error.unwrap_err().to_string(), "cross_entropy: dlogits has 4 elements, expected 40");
    let error = cross_entropy::Backward {
        logits: &z,
        targets: &[0; 4],
        classes: 10,
        options: plain,
        logsumexp: &z[..4],
        rest: &z[..3],
        dlosses: &z[..4],
        dlogits: &mut [0.0; 40],
    }
    .run();
    assert_eq!(error.unwrap_err().to_string(), "cross_entropy: rest has 3 elements, expected 4");
    let [mut a, mut b, mut c] = [[0.0_f32; 4]; 3];
    let few = Options { weight: Some(&[1.0; 3]), ..plain };
    let error = cross_entropy::Forward {
        logits: &z,
        targets: &[0; 4],
        classes: 10,
        options: few,
        losses: &mut a,
        logsumexp: &mut b,
        rest: &mut c,
    }
    .run();
    assert_eq!(error.unwrap_err().to_string(), "cross_entropy: weight has 3 elements, expected 10");
    let other = Options { ignore_index: Some(11), ..plain };
    let error = cross_entropy::Forward {
        logits: &z,
        targets: &[0, 11, 12, 0],
        classes: 10,
        options: other,
        losses: &mut a,
        logsumexp: &mut b,
        rest: &mut c,
    }
    .run();
    assert_eq!(error.unwrap_err().to_string(), "cross_entropy: target 12 of row 2 is not one of 10 classes");

    let soft = |targets: usize, smoothing, weight: Option<&[f32]>| {
        let (t, [mut a, mut b, mut c]) = (vec![0.0; targets], [[0.0; 4]; 3]);
        let error = soft_cross_entropy::Forward {
            logits: &z,
            targets: &t,
            classes: 10,
            label_smoothing: smoothing,
            weight,
            losses: &mut a,
            logsumexp: &mut b,
            rest: &mut c,
        }
        .run();
        error.unwrap_err().to_string()
    };
    assert_eq!(soft(39, 0.0, None), "soft_cross_entropy: targets has 39 elements, expected 40");
    assert_eq!(soft(40, -0.5, None), "soft_cross_entropy: label smoothing -0.5 is outside 0 to 1");
    assert_eq!(soft(40, 0.0, Some(&[1.0])), "soft_cross_entropy: weight has 1 elements, expected 10");
    let (x, lse, mut dx) = (&z[..], &[0.0; 4], [0.0; 40]);
    let error = soft_cross_entropy::Backward {
        logits: x,
        targets: x,
        classes: 10,
        label_smoothing: 0.0,
        logsumexp: lse,
        rest: lse,
        dlosses: lse,
        dlogits: &mut dx,
        dtargets: Some(&mut [0.0; 4]),
        ..Default::default()
    }
    .run();
    assert_eq!(error.unwrap_err().to_string(), "soft_cross_entropy: dtargets has 4 elements, expected 40");

    let error = nll_loss::Forward {
        log_p: &z,
        targets: &[0, 0, 0, 10],
        classes: 10,
        ignore_index: Some(3),
        losses: &mut [0.0; 4],
        ..Default::default()
    }
    .run();
    assert_eq!(error.unwrap_err().to_string(), "nll_loss: target 10 of row 3 is not one of 10 classes");
    let error = nll_loss::Backward {
        targets: &[0; 4],
        classes: 10,
        weight: Some(&[1.0]),
        dlosses: &[0.0; 4],
        dlog_p: &mut dx,
        ..Default::default()
    }
    .run();
    assert_eq!(error.unwrap_err().to_string(), "nll_loss: weight has 1 elements, expected 10");
    let error = nll_loss::total_weight(&[0, 1, 2], Some(&[1.0_f32]), Some(1));
    assert_eq!(error.unwrap_err().to_string(), "nll_loss: target 2 of row 2 is not one of 1 classes");

    for classes in [0, 10] {
        cross_entropy::Forward::<f32> {
            logits: &[],
            targets: &[],
            classes,
            options: plain,
            losses: &mut [],
            logsumexp: &mut [],
            rest: &mut [],
        }
        .run()
        .unwrap();
        cross_entropy::Backward::<f32> {
            logits: &[],
            targets: &[],
            classes,
            options: plain,
            logsumexp: &[],
            rest: &[],
            dlosses: &[],
            dlogits: &mut [],
        }
        .run()
        .unwrap();
        soft_cross_entropy::Forward::<f32> { classes, label_smoothing: 0.1, ..Default::default() }
            .run()
            .unwrap();
        let none = Some(&mut [][..]);
        let call =
            soft_cross_entropy::Backward::<f32> { classes, label_smoothing: 0.1, ..Default::default() };
        soft_cross_entropy::Backward { dtargets: none, ..call }.run().unwrap();
        nll_loss::Forward::<f32> { classes, ..Default::default() }.run().unwrap();
        nll_loss::Backward::<f32> { classes, ..Default::default() }.run().unwrap();
    }
}
