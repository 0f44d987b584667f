//! Elementwise losses against their references, PyTorch and their promises.

use crate::common::*;
use crate::laws::near;
use crate::registry::losses;
use gristmill::Element;
use gristmill::kernels::loss::{self, Loss};

fn all<T: Element>(delta: f64) -> [Loss<T>; 4] {
    let huber = Loss::Huber { delta: T::from_f64(delta) };
    [Loss::SquaredError, Loss::AbsoluteError, huber, Loss::BceWithLogits]
}

/// Loss and derivative of each element.
fn expected<T: Element>(op: Loss<T>, x: &[f64], target: &[f64]) -> (Vec<f64>, Vec<f64>) {
    x.iter().zip(target).map(|(&x, &t)| losses::loss_and_slope(op, x, t)).unzip()
}

#[test]
fn the_gradient_of_the_targets_is_minus_that_of_the_predictions_and_changes_nothing_else() {
    let (x, dlosses) = (noise::<f32>(300, 1), noise::<f32>(300, 2));
    let target: Vec<f32> = noise(300, 3).iter().map(|t: &f32| t.abs()).collect();
    on_every_isa(|isa| {
        for op in all::<f32>(0.5) {
            for uniform in [None, Some(0.3)] {
                let backward = |dx: &mut [f32], dtarget| match uniform {
                    None => loss::Backward { op, x: &x, target: &target, dlosses: &dlosses, dx, dtarget }
                        .run()
                        .unwrap(),
                    Some(g) => loss::BackwardUniform { op, x: &x, target: &target, dloss: g, dx, dtarget }
                        .run()
                        .unwrap(),
                };
                let [mut dx, mut dtarget, mut alone] = [(); 3].map(|()| vec![f32::NAN; x.len()]);
                backward(&mut dx, Some(&mut dtarget));
                backward(&mut alone, None);
                assert_eq!(dx, alone, "{isa} {op:?}");
                for (i, (&dx, &dtarget)) in dx.iter().zip(&dtarget).enumerate() {
                    let of_logits = op == Loss::BceWithLogits;
                    let expected = if of_logits { -uniform.unwrap_or(dlosses[i]) * x[i] } else { -dx };
                    assert_eq!(dtarget, expected, "{isa} {op:?} dtarget[{i}]");
                }
            }
        }
    });
}

/// The reference and the kernels in f64 agree with PyTorch; f32 is measured against the reference.
#[test]
fn pytorch_agrees() {
    for case in fixture("losses") {
        let (name, x, target) = (case["name"].as_str().unwrap(), data(&case["x"]), data(&case["target"]));
        let (name, reduction) = name.rsplit_once('_').unwrap();
        let op = match name {
            "mse" => Loss::SquaredError,
            "l1" => Loss::AbsoluteError,
            "huber" => Loss::Huber { delta: 1.0 },
            "bce_with_logits" => Loss::BceWithLogits,
            other => panic!("unknown loss {other}"),
        };
        let dloss = if reduction == "mean" { 1.0 / x.len() as f64 } else { 1.0 };
        let (total, gradient) = ([case["loss"].as_f64().unwrap()], data(&case["dx"]));
        let close = |name: &str, losses: &[f64], dx: &[f64]| {
            assert_close(name, &[losses.iter().sum::<f64>() * dloss], &total, 1e-10, 0.0);
            assert_close(name, dx, &gradient, 1e-10, 1e-15);
        };
        let (losses, slopes) = expected(op, &x, &target);
        close(&format!("reference {name}"), &losses, &slopes.iter().map(|s| s * dloss).collect::<Vec<_>>());
        on_every_isa(|isa| {
            let (mut losses, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            loss::forward(op, &x, &target, &mut losses).unwrap();
            loss::BackwardUniform { op, x: &x, target: &target, dloss, dx: &mut dx, dtarget: None }
                .run()
                .unwrap();
            close(&format!("{isa} {name}"), &losses, &dx);
        });
        let op = match op {
            Loss::SquaredError => Loss::SquaredError,
            Loss::AbsoluteError => Loss::AbsoluteError,
            Loss::Huber { delta } => Loss::Huber { delta: delta as f32 },
            Loss::BceWithLogits => Loss::BceWithLogits,
        };
        let (x, target) = (narrow::<f32>(&x), narrow(&target));
        near(&losses::loss_forward_of(op, x.clone(), target.clone())).unwrap();
        let dlosses = vec![dloss as f32; x.len()];
        near(&losses::loss_backward_of(op, x, target, dlosses, true)).unwrap();
    }
}

/// Where the label is sure and right, loss and gradient are tiny and still relatively accurate.
#[test]
fn confident_predictions_keep_their_digits() {
    on_every_isa(|isa| {
        let x = [20.0_f32, -20.0, 80.0, -80.0];
        let target = [1.0, 0.0, 1.0, 0.0];
        let (mut losses, mut dx) = ([0.0; 4], [0.0; 4]);
        loss::forward(Loss::BceWithLogits, &x, &target, &mut losses).unwrap();
        loss::BackwardUniform {
            op: Loss::BceWithLogits,
            x: &x,
            target: &target,
            dloss: 1.0,
            dx: &mut dx,
            dtarget: None,
        }
        .run()
        .unwrap();
        let tiny = |x: f64| (-x).exp().ln_1p();
        let slope = |x: f64| 1.0 / (1.0 + x.exp());
        let name = format!("{isa}");
        let u = unit::<f32>();
        assert_close(&name, &losses, &[tiny(20.0), tiny(20.0), tiny(80.0), tiny(80.0)], 12.0 * u, 0.0);
        assert_close(&name, &dx, &[-slope(20.0), slope(20.0), -slope(80.0), slope(80.0)], 8.0 * u, 0.0);
    });
}

#[test]
fn special_values_are_as_documented() {
    let inf = f64::INFINITY;
    let of = |op, x: f64, t: f64| {
        let (mut y, mut dx) = ([0.0], [0.0]);
        loss::forward(op, &[x], &[t], &mut y).unwrap();
        loss::BackwardUniform { op, x: &[x], target: &[t], dloss: 1.0, dx: &mut dx, dtarget: None }
            .run()
            .unwrap();
        (y[0], dx[0])
    };
    on_every_isa(|_| {
        for op in all(1.0) {
            let (loss, slope) = of(op, f64::NAN, 0.5);
            assert!(loss.is_nan() && slope.is_nan(), "{op:?}");
        }
        assert_eq!(of(Loss::SquaredError, inf, 0.0), (inf, inf));
        assert_eq!(of(Loss::AbsoluteError, -inf, 0.0), (inf, -1.0));
        assert_eq!(of(Loss::AbsoluteError, 2.0, 2.0), (0.0, 0.0));
        assert_eq!(of(Loss::AbsoluteError, -0.0, 0.0), (0.0, 0.0));
        assert!(of(Loss::AbsoluteError, inf, inf).1.is_nan());
        assert_eq!(of(Loss::Huber { delta: 2.0 }, -inf, 0.0), (inf, -2.0));
        assert_eq!(of(Loss::Huber { delta: 2.0 }, 2.0, 0.0), (2.0, 2.0));
        assert_eq!(of(Loss::BceWithLogits, inf, 0.0), (inf, 1.0));
        assert_eq!(of(Loss::BceWithLogits, -inf, 1.0), (inf, -1.0));
        assert!(of(Loss::BceWithLogits, inf, 1.0).0.is_nan());
        assert_eq!(of(Loss::BceWithLogits, 0.0, 1.0), (2f64.ln(), -0.5));
    });
    for op in all::<f32>(1.0) {
        loss::forward(op, &[], &[], &mut []).unwrap();
        loss::Backward { op, x: &[], target: &[], dlosses: &[], dx: &mut [], dtarget: Some(&mut []) }
            .run()
            .unwrap();
    }
}

#[test]
fn wrong_arguments_are_named() {
    let x = [0.0_f32; 3];
    let text = |result: gristmill::Result<()>| result.unwrap_err().to_string();
    assert_eq!(
        text(loss::forward(Loss::SquaredError, &x, &[0.0; 2], &mut [0.0; 3])),
        "squared_error: target has 2 elements, expected 3"
    );
    assert_eq!(
        text(loss::forward(Loss::AbsoluteError, &x, &x, &mut [0.0; 2])),
        "absolute_error: losses has 2 elements, expected 3"
    );
    assert_eq!(
        text(
            loss::Backward {
                op: Loss::AbsoluteError,
                x: &x,
                target: &x,
                dlosses: &[0.0; 2],
                dx: &mut [0.0; 3],
                dtarget: None
            }
            .run()
        ),
        "absolute_error: dlosses has 2 elements, expected 3"
    );
    assert_eq!(
        text(
            loss::BackwardUniform {
                op: Loss::SquaredError,
                x: &x,
                target: &x,
                dloss: 1.0,
                dx: &mut [0.0; 3],
                dtarget: Some(&mut [0.0; 4])
            }
            .run()
        ),
        "squared_error: dtarget has 4 elements, expected 3"
    );
    for delta in [0.0, -1.0, f32::INFINITY, f32::NAN] {
        assert_eq!(
            text(loss::forward(Loss::Huber { delta }, &x, &x, &mut [0.0; 3])),
            format!("huber: delta must be positive and finite, got {delta}")
        );
    }
    let mut targets = vec![0.5_f32; 50_000];
    targets[40_001] = 1.5;
    targets[49_999] = f32::NAN;
    let x = vec![0.0; targets.len()];
    let mut losses = x.clone();
    assert_eq!(
        text(loss::forward(Loss::BceWithLogits, &x, &targets, &mut losses)),
        "bce_with_logits: target 1.5 at index 40001 is outside 0 to 1"
    );
    assert_eq!(
        text(
            loss::BackwardUniform {
                op: Loss::BceWithLogits,
                x: &x[..1],
                target: &[f32::NAN],
                dloss: 1.0,
                dx: &mut [0.0],
                dtarget: None
            }
            .run()
        ),
        "bce_with_logits: target NaN at index 0 is outside 0 to 1"
    );
}
