//! The systems of the examples give the numbers of their sources: the tests run the code of the examples.

mod common;

#[allow(dead_code)]
#[path = "../examples/batch_norm.rs"]
mod batch_norm;
#[allow(dead_code)]
#[path = "../examples/optimizers.rs"]
mod optimizers;

use common::{assert_close, data, fixture};
use gristmill::nn::{Module, RunningVar};
use gristmill::{Rng, Tensor};

/// Roundings of f64 in formulas of a few operations.
const CLOSE: f64 = 1e-12;

#[track_caller]
fn close(name: &str, actual: &Tensor<f64>, expected: &[f64]) {
    assert_close(name, &actual.to_vec(), expected, CLOSE, CLOSE);
}

#[test]
fn optimizers_follow_their_closed_forms_on_a_parabola() {
    for rule in &optimizers::RULES {
        let rows = optimizers::parabola(rule).unwrap();
        assert_eq!(rows.len(), 5);
        for row in &rows {
            assert_close(rule.name, &[row.dy_dx, row.p], &[row.dy_dx_closed, row.p_closed], CLOSE, CLOSE);
            assert_close(rule.name, &[row.dy_dp], &[row.x * row.x], CLOSE, CLOSE);
        }
        assert_ne!(rows[4].p, 1.2);
    }
}

#[test]
fn optimizers_and_closed_forms_follow_pytorch() {
    for rule in &optimizers::RULES {
        let steps = optimizers::stored(rule).unwrap();
        assert_eq!((steps.len(), steps[0][2].len()), (12, 7), "{}", rule.name);
        let difference = optimizers::largest_difference(&steps);
        assert!(difference < CLOSE, "{}: {difference:e}", rule.name);
    }
}

/// PyTorch leaves the gradient as it is; the parameter after the step shows the decay.
#[test]
fn l2_decay_acts_on_the_parameter_and_not_on_its_gradient() {
    let rule = optimizers::RULES.iter().find(|rule| rule.weight_decay > 0.0).unwrap();
    let row = &optimizers::parabola(rule).unwrap()[0];
    let square = row.x * row.x;
    assert_close("p", &[row.p], &[1.2 - 0.01 * (square + 0.9 * 1.2)], CLOSE, CLOSE);
    assert_close("dy/dp", &[row.dy_dp], &[square], CLOSE, CLOSE);
}

#[test]
fn batch_norm_of_seed_123_gives_the_documents_numbers() {
    let passes = batch_norm::passes().unwrap();
    let stored = fixture("batch_norm").into_iter().find(|case| case["name"] == "seed123").unwrap();
    assert_eq!(passes.x.to_vec(), data(&stored["x"]), "drawn as NumPy draws");
    let first = [1.65328862, 0.60845792, 0.51520137, 1.06970231, 1.47430633];
    assert_close("y[0]", &passes.y.to_vec()[..5], &first, 0.0, 0.5e-8);
    close("y", &passes.y, &data(&stored["y"]));
    close("dx", &passes.dx.unwrap(), &data(&stored["dx"]));
    close("dx on paper", &passes.dx_on_paper, &data(&stored["dx"]));
    close("dweight", &passes.dweight.unwrap(), &data(&stored["dweight"]));
    close("dbias", &passes.dbias.unwrap(), &data(&stored["dbias"]));
}

#[test]
fn running_statistics_follow_pytorch_and_needle() {
    let history = batch_norm::running(0.2, RunningVar::Unbiased).unwrap();
    let first = [0.46641115, 0.18851114, -0.57237571, 0.99333476, 1.2092339];
    assert_close("first training row", &history.training[0].to_vec()[..5], &first, 0.0, 0.6e-8);
    let stored = &fixture("batch_norm_running")[0];
    for i in 0..3 {
        close("training", &history.training[i], &data(&stored["train_y"][i]));
        close("running mean", &history.mean[i], &data(&stored["running_mean"][i]));
        close("running var", &history.var[i], &data(&stored["running_var"][i]));
        close("evaluation", &history.evaluation[i], &data(&stored["eval_y"][i]));
    }
    // Of three rows the unbiased variance is 3/2 of the biased one.
    let needle = batch_norm::running(0.2, RunningVar::Biased).unwrap();
    let unbiased = history.var[0].to_vec();
    let expected: Vec<f64> = unbiased.iter().map(|var| 0.8 + (var - 0.8) / 1.5).collect();
    close("biased var", &needle.var[0], &expected);
    close("mean", &needle.mean[2], &history.mean[2].to_vec());
}

#[test]
fn the_weight_of_the_old_value_is_one_minus_the_weight_of_the_new_one() {
    let mut rng = Rng::numpy(4);
    let layer = batch_norm::layer_of_old_weight(0.9, &mut rng).unwrap();
    let x = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 3.0, 6.0, 9.0, 12.0, 15.0], [2, 5]).unwrap();
    for _ in 0..2 {
        layer.forward(&x).unwrap();
    }
    let (mean, var) = layer.running_stats();
    // mean ← 0.9·mean + 0.1·(2, 4, …), twice from 0; var likewise from 1 with the unbiased (2, 8, …).
    close("mean", &mean, &[0.38, 0.76, 1.14, 1.52, 1.9]);
    let expected: Vec<f64> = (1..=5).map(|k| 0.81 + 0.19 * 2.0 * f64::from(k * k)).collect();
    close("var", &var, &expected);
    layer.reset_running_stats().unwrap();
    let (mean, var) = layer.running_stats();
    assert_eq!((mean.to_vec(), var.to_vec()), (vec![0.0; 5], vec![1.0; 5]));
}

#[test]
fn several_forward_passes_before_one_backward_pass_accumulate() {
    let (once, each) = (batch_norm::gradients(true).unwrap(), batch_norm::gradients(false).unwrap());
    close("dweight", &once.dweight, &each.dweight.to_vec());
    close("dbias", &once.dbias, &each.dbias.to_vec());
    assert_eq!(once.dx.len(), 3);
    for (a, b) in once.dx.iter().zip(&each.dx) {
        close("dx", a, &b.to_vec());
    }
}
