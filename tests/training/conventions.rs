//! What frameworks do differently, as options and as presets.

use crate::common::{assert_close, noise};
use gristmill::autograd::{Epilogue, WeightLayout, gradcheck};
use gristmill::nn::init::{Fan, Nonlinearity, kaiming_uniform};
use gristmill::nn::*;
use gristmill::optim::{Optimizer, SGD};
use gristmill::{Rng, Tensor};
use proptest::prelude::*;

type T64 = Tensor<f64>;

fn tensor(shape: &[usize], seed: u64) -> T64 {
    Tensor::from_slice(&noise::<f64>(shape.iter().product(), seed), shape).unwrap()
}

proptest! {
    #[test]
    fn both_layouts_of_a_weight_give_the_same_results_and_gradients(
        rows in 1_usize..20, inputs in 1_usize..70, outputs in 1_usize..70, bias: bool, follows: bool, seed: u64,
    ) {
        let layer = |layout| {
            let (weight, bias_value) = (tensor(&[outputs, inputs], seed), tensor(&[outputs], seed ^ 1));
            Linear::from_tensors(&weight, bias.then_some(&bias_value)).unwrap().layout(layout).unwrap()
        };
        let x = tensor(&[rows, inputs], seed ^ 2);
        let run = |layer: &Linear<f64>| {
            let x = x.requires_grad();
            let y = match follows {
                true => layer.forward_then(&x, Epilogue::default()).unwrap(),
                false => layer.forward(&x).unwrap(),
            };
            y.backward_with(&tensor(&[rows, outputs], seed ^ 3)).unwrap();
            (y.to_vec(), x.grad().unwrap().to_vec(), layer.bias().map(|bias| bias.grad().unwrap().to_vec()))
        };
        let (out_in, in_out) = (layer(WeightLayout::OutIn), layer(WeightLayout::InOut));
        let ((y, dx, db), (y2, dx2, db2)) = (run(&out_in), run(&in_out));
        // Sums of up to 70 products below 1 in another order.
        let bound = 70.0 * 70.0 * f64::EPSILON;
        assert_close("y", &y2, &y, 0.0, bound);
        assert_close("dx", &dx2, &dx, 0.0, bound);
        prop_assert_eq!(db, db2);
        let dw = |layer: &Linear<f64>| layer.weight().grad().unwrap();
        assert_close("dw", &dw(&in_out).t().unwrap().to_vec(), &dw(&out_in).to_vec(), 0.0, bound);
    }
}

#[test]
fn the_gradients_of_a_weight_of_inputs_by_outputs_are_right() {
    let inputs = [tensor(&[5, 4], 1), tensor(&[4, 3], 2), tensor(&[3], 3), tensor(&[5, 3], 4)];
    gradcheck(|x| x[0].linear_with(&x[1], WeightLayout::InOut, Some(&x[2]), None), &inputs[..3]).unwrap();
    let with_residual = |x: &[T64]| {
        let then = Epilogue { add: Some(&x[3]), dropout: None };
        x[0].linear_with(&x[1], WeightLayout::InOut, Some(&x[2]), Some(then))
    };
    gradcheck(with_residual, &inputs).unwrap();
}

#[test]
fn what_does_not_fit_a_layout_is_named() {
    let text = |result: gristmill::Result<T64>| result.unwrap_err().to_string();
    let (x, w) = (tensor(&[5, 4], 1), tensor(&[3, 4], 2));
    assert_eq!(
        text(x.linear_with(&w, WeightLayout::InOut, None, None)),
        "linear: x [5, 4] does not fit weight [3, 4]"
    );
    let bias = tensor(&[4], 3);
    assert_eq!(
        text(x.linear_with(&w.t().unwrap(), WeightLayout::InOut, Some(&bias), None)),
        "linear: x [5, 4] does not fit weight [4, 3] and bias [4]"
    );
    let parameter = Parameter::new(&bias);
    let error = Linear::from_parameters(&parameter, None, WeightLayout::InOut).err().unwrap();
    assert_eq!(error.to_string(), "Linear: weight must be [inputs, outputs], got [4]");
    let error = Linear::from_parameters(&Parameter::new(&w), Some(&parameter), WeightLayout::OutIn).err();
    assert_eq!(error.unwrap().to_string(), "Linear: bias [4] does not fit weight [3, 4]");
}

#[test]
fn a_linear_layer_of_needle_draws_as_needle_does() {
    let (mut rng, mut same) = (Rng::seed(4), Rng::seed(4));
    let layer: Linear<f64> = Preset::Needle.linear(30, 20, &mut rng).unwrap();
    // Weight first, of [inputs, outputs]; then the bias as a weight of [outputs, 1], whose inputs are the
    // outputs.
    let weight: T64 = kaiming_uniform([30, 20], Fan::Out, Nonlinearity::ReLU, &mut same).unwrap();
    let bias: T64 = kaiming_uniform([20, 1], Fan::Out, Nonlinearity::ReLU, &mut same).unwrap();
    assert!(layer.weight().value().equals(&weight));
    assert_close("bias", &layer.bias().unwrap().value().to_vec(), &bias.to_vec(), 1e-15, 0.0);
    assert_eq!(rng, same);
    let largest = weight.to_vec().iter().fold(0.0, |max: f64, x| max.max(x.abs()));
    let bound = (6.0_f64 / 30.0).sqrt();
    assert!(largest <= bound && largest > 0.95 * bound);

    let layer: Linear<f64> = Preset::PyTorch.linear(30, 20, &mut Rng::seed(4)).unwrap();
    let plain: Linear<f64> = Linear::new(30, 20, &mut Rng::seed(4)).unwrap();
    assert!(layer.weight().value().equals(&plain.weight().value()));
    assert_eq!(Module::<f64>::describe(&layer), "Linear(30 → 20)");
}

#[test]
fn running_statistics_follow_the_named_variance_and_momentum() {
    let x = tensor(&[6, 2], 5);
    let column = |c: usize| -> Vec<f64> { x.to_vec().into_iter().skip(c).step_by(2).collect() };
    let after = |layer: BatchNorm1d<f64>| {
        layer.forward(&x).unwrap();
        let (mean, var) = layer.running_stats();
        (mean.to_vec(), var.to_vec())
    };
    let expected = |momentum: f64, divisor: f64| -> (Vec<f64>, Vec<f64>) {
        let of = |c: usize| {
            let values = column(c);
            let mean = values.iter().sum::<f64>() / 6.0;
            let var = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / divisor;
            (momentum * mean, (1.0 - momentum) + momentum * var)
        };
        (0..2).map(of).unzip()
    };
    let check = |layer: BatchNorm1d<f64>, momentum: f64, divisor: f64| {
        let ((mean, var), (expected_mean, expected_var)) = (after(layer), expected(momentum, divisor));
        assert_close("mean", &mean, &expected_mean, 1e-14, 1e-15);
        assert_close("var", &var, &expected_var, 1e-14, 1e-15);
    };
    check(Preset::PyTorch.batch_norm(2).unwrap(), 0.1, 5.0);
    check(Preset::Needle.batch_norm(2).unwrap(), 0.1, 6.0);
    check(BatchNorm1d::new(2).unwrap().momentum(0.3).unwrap(), 0.3, 5.0);
    check(BatchNorm1d::new(2).unwrap().momentum_of_old(0.8).unwrap(), 0.2, 5.0);
    assert!(BatchNorm1d::<f64>::new(2).unwrap().momentum_of_old(1.5).is_err());
}

#[test]
fn an_averaged_momentum_is_the_average_from_the_first_step_on() {
    let parameter: Parameter<f64> = Parameter::new(&tensor(&[3], 6));
    let mut optimizer = Preset::Needle.sgd(vec![parameter.clone()], 0.1, 0.9).weight_decay(0.2);
    let (mut expected, mut u) = (parameter.value().to_vec(), [0.0; 3]);
    for step in 0..5 {
        let grad = noise::<f64>(3, 10 + step);
        optimizer.zero_grad();
        let dy = Tensor::from_slice(&grad, [3]).unwrap();
        parameter.tensor().mul(&dy).unwrap().sum().unwrap().backward().unwrap();
        optimizer.step().unwrap();
        for ((p, u), g) in expected.iter_mut().zip(&mut u).zip(&grad) {
            *u = 0.9 * *u + 0.1 * (g + 0.2 * *p);
            *p -= 0.1 * *u;
        }
        assert_close("needle", &parameter.value().to_vec(), &expected, 1e-14, 1e-15);
    }
    // PyTorch's dampening starts with the whole first gradient.
    let first = |optimizer: fn(SGD<f64>) -> SGD<f64>| {
        let parameter = Parameter::new(&T64::zeros([1]).unwrap());
        parameter.tensor().sum().unwrap().backward().unwrap();
        optimizer(SGD::new(vec![parameter.clone()], 1.0)).step().unwrap();
        parameter.value().item().unwrap()
    };
    assert_eq!(first(|sgd| sgd.momentum(0.75).dampening(0.75)), -1.0);
    assert_eq!(first(|sgd| sgd.momentum(0.75).dampening(0.75).dampen_first(true)), -0.25);
    assert_eq!(first(|sgd| sgd.averaged_momentum(0.75)), -0.25);
}
