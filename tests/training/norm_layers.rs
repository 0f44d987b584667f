//! Normalising, embedding and activating layers with parameters: their derivatives, PyTorch's defaults and
//! bad input.

use crate::common::{assert_close, data, fixture, noise};
use gristmill::autograd::{BatchStatistics, Reduction, gradcheck};
use gristmill::nn::*;
use gristmill::optim::{Optimizer, SGD};
use gristmill::{Result, Rng, Tensor};

type T64 = Tensor<f64>;

/// Numbers in ±1, away from 0, so that no function has a kink near them.
fn input(shape: &[usize], seed: u64) -> T64 {
    let away = |x: &f64| (x.abs() * 0.9 + 0.05).copysign(*x);
    let values: Vec<f64> = noise::<f64>(shape.iter().product(), seed).iter().map(away).collect();
    Tensor::from_slice(&values, shape).unwrap()
}

/// Checks `f` on the inputs as they are and on transposed views of copies of them.
#[track_caller]
fn check(f: impl Fn(&[T64]) -> Result<T64>, inputs: &[T64]) {
    gradcheck(&f, inputs).unwrap();
    let view = |x: &T64| x.transpose(0, -1)?.contiguous()?.transpose(0, -1);
    gradcheck(|inputs| f(&inputs.iter().map(view).collect::<Result<Vec<_>>>()?), inputs).unwrap();
}

/// y and the gradients of x and of the parameters, in their order, for the gradient dy.
fn pass(layer: &dyn Module<f64>, x: &T64, dy: &T64) -> Vec<Vec<f64>> {
    let x = x.requires_grad();
    let y = layer.forward(&x).unwrap();
    y.backward_with(dy).unwrap();
    let gradients = layer.parameters().into_iter().map(|p| p.grad().unwrap().to_vec());
    [y.to_vec(), x.grad().unwrap().to_vec()].into_iter().chain(gradients).collect()
}

fn tensor(value: &serde_json::Value) -> T64 {
    let shape: Vec<usize> =
        value["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
    Tensor::from_slice(&data(value), shape).unwrap()
}

#[track_caller]
fn error<T>(result: Result<T>) -> String {
    result.err().expect("bad input is an error").to_string()
}

#[test]
fn rms_norm_has_its_gradients_and_pytorchs_defaults() {
    let (x, gamma) = (input(&[2, 3, 4], 1), input(&[4], 2));
    check(|x| x[0].rms_norm(Some(&x[1]), Some(1e-2)), &[x.clone(), gamma.clone()]);
    check(|x| x[0].rms_norm(None, None), std::slice::from_ref(&x));
    for case in fixture("rms_norm") {
        let mut layer = RMSNorm::new(data(&case["weight"]).len()).unwrap();
        if let Some(eps) = case["eps"].as_f64() {
            layer = layer.eps(eps);
        }
        layer.weight().set(&tensor(&case["weight"])).unwrap();
        let got = pass(&layer, &tensor(&case["x"]), &tensor(&case["dy"]));
        for (name, got) in ["y", "dx", "dweight"].iter().zip(&got) {
            assert_close(name, got, &data(&case[name]), 1e-10, 1e-13);
        }
    }
    let layer: RMSNorm = RMSNorm::new(4).unwrap();
    assert_eq!(layer.describe(), "RMSNorm(4)");
    assert_eq!(layer.state_dict().into_keys().collect::<Vec<_>>(), ["weight"]);
    assert_eq!(
        error(x.rms_norm(Some(&input(&[3], 1)), None)),
        "rms_norm: x [2, 3, 4] does not fit gamma [3]"
    );
    assert_eq!(error(T64::scalar(1.0).rms_norm(None, None)), "rms_norm: a scalar has no last axis");
    assert_eq!(error(x.rms_norm(None, Some(-1.0))), "rms_norm: eps is -1, expected a finite number ≥ 0");
}

#[test]
fn group_norm_has_its_gradients_and_pytorchs_defaults() {
    let (gamma, beta) = (input(&[4], 2), input(&[4], 3));
    for shape in [&[3, 4][..], &[2, 4, 3], &[2, 4, 3, 2], &[2, 4, 40]] {
        let x = input(shape, 1);
        check(|x| x[0].group_norm(2, Some((&x[1], &x[2])), 1e-2), &[x.clone(), gamma.clone(), beta.clone()]);
        check(|x| x[0].group_norm(1, None, 1e-2), std::slice::from_ref(&x));
    }
    for case in fixture("group_norm") {
        let groups = case["groups"].as_u64().unwrap() as usize;
        let layer = GroupNorm::new(groups, data(&case["weight"]).len()).unwrap();
        layer.weight().unwrap().set(&tensor(&case["weight"])).unwrap();
        layer.bias().unwrap().set(&tensor(&case["bias"])).unwrap();
        let got = pass(&layer, &tensor(&case["x"]), &tensor(&case["dy"]));
        for (name, got) in ["y", "dx", "dweight", "dbias"].iter().zip(&got) {
            assert_close(name, got, &data(&case[name]), 1e-10, 1e-12);
        }
    }
    let layer: GroupNorm = GroupNorm::new(2, 4).unwrap();
    assert_eq!(layer.describe(), "GroupNorm(2 groups of 4)");
    assert_eq!(layer.state_dict().into_keys().collect::<Vec<_>>(), ["bias", "weight"]);
    let plain = GroupNorm::new(2, 4).unwrap().without_affine();
    assert!(plain.parameters().is_empty());
    let x = input(&[2, 4, 3], 1);
    assert!(plain.forward(&x).unwrap().equals(&x.group_norm(2, None, 1e-5).unwrap()));

    assert_eq!(error(GroupNorm::<f32>::new(3, 4)), "GroupNorm: 4 channels do not fall into 3 equal groups");
    assert_eq!(error(plain.forward(&input(&[2, 6], 1))), "GroupNorm: x [2, 6] does not have 4 channels");
    assert_eq!(error(x.group_norm(3, None, 1e-5)), "group_norm: 4 channels do not fall into 3 equal groups");
    assert_eq!(
        error(gamma.group_norm(1, None, 1e-5)),
        "group_norm: expected [samples, channels, …], got [4]"
    );
    let empty = T64::zeros([0, 4, 3]).unwrap().requires_grad();
    let y = plain.forward(&empty).unwrap();
    assert_eq!(y.shape(), [0, 4, 3]);
    assert!(T64::zeros([2, 4, 0]).unwrap().group_norm(2, None, 1e-5).is_ok());
}

/// x of `[samples, features, length]` as rows of features, in plain loops.
fn rows_of(x: &T64) -> T64 {
    let &[samples, features, length] = x.shape() else { panic!("three axes") };
    let from = x.to_vec();
    let place = |i: usize| {
        let (sample, position, feature) = (i / features / length, i / features % length, i % features);
        from[(sample * features + feature) * length + position]
    };
    let values: Vec<f64> = (0..x.len()).map(place).collect();
    Tensor::from_slice(&values, [samples * length, features]).unwrap()
}

#[test]
fn batch_norm_of_three_axes_is_that_of_its_rows() {
    let (x, dy) = (input(&[3, 4, 5], 1), input(&[3, 4, 5], 2));
    let (wide, tall) = (BatchNorm1d::new(4).unwrap(), BatchNorm1d::new(4).unwrap());
    for layer in [&wide, &tall] {
        layer.weight().set(&input(&[4], 3)).unwrap();
        layer.bias().set(&input(&[4], 4)).unwrap();
    }
    for training in [true, true, false] {
        for layer in [&wide, &tall] {
            if !training {
                layer.eval();
            }
            Module::<f64>::zero_grad(layer);
        }
        let got = pass(&wide, &x, &dy);
        let expected = pass(&tall, &rows_of(&x), &rows_of(&dy));
        let as_rows = |values: &[f64]| rows_of(&Tensor::from_slice(values, [3, 4, 5]).unwrap()).to_vec();
        assert_eq!(as_rows(&got[0]), expected[0], "y");
        assert_eq!(as_rows(&got[1]), expected[1], "dx");
        assert_eq!(got[2..], expected[2..], "dweight and dbias");
        let (mean, var) = wide.running_stats();
        let (tall_mean, tall_var) = tall.running_stats();
        assert!(mean.equals(&tall_mean) && var.equals(&tall_var));
    }
    // After two batches: mean ← 0.9·mean + 0.1·m, var ← 0.9·var + 0.1·v·n/(n − 1).
    let rows = rows_of(&x);
    let (m, v) = (rows.mean_axes(&[0], false).unwrap(), rows.var_axes(&[0], 1, false).unwrap());
    let (mean, var) = wide.running_stats();
    let expected = |start: f64, batch: &T64| -> Vec<f64> {
        batch.to_vec().iter().map(|batch| 0.81 * start + 0.19 * batch).collect()
    };
    assert_close("running mean", &mean.to_vec(), &expected(0.0, &m), 1e-12, 1e-12);
    assert_close("running var", &var.to_vec(), &expected(1.0, &v), 1e-12, 1e-12);
}

#[test]
fn batch_norm_of_three_axes_has_its_gradients_and_what_follows() {
    let (x, gamma, beta) = (input(&[3, 2, 4], 1), input(&[2], 2), input(&[2], 3));
    check(
        |x| x[0].batch_norm(Some((&x[1], &x[2])), BatchStatistics::Batch(None), 1e-2),
        &[x.clone(), gamma.clone(), beta.clone()],
    );
    let (mean, var) = ([0.1, -0.2], [0.5, 1.5]);
    let running = || BatchStatistics::Running { mean: &mean, var: &var };
    check(|x| x[0].batch_norm(Some((&x[1], &x[2])), running(), 1e-2), &[x.clone(), gamma, beta]);

    let dropout = || Dropout::new(0.3, &mut gristmill::Rng::seed(1)).unwrap();
    let fused = Sequential::new().add(BatchNorm1d::new(2).unwrap()).add(ReLU).add(dropout());
    let y = BatchNorm1d::new(2).unwrap().forward(&x).unwrap();
    let one_by_one = dropout().forward(&y.relu().unwrap()).unwrap();
    assert_eq!(fused.forward(&x).unwrap().to_vec(), one_by_one.to_vec());

    let layer = BatchNorm1d::<f64>::new(3).unwrap();
    assert_eq!(
        error(Module::<f64>::forward(&layer, &x)),
        "batch_norm: x [3, 2, 4] does not fit gamma [3] and beta [3]"
    );
    assert_eq!(
        error(Module::<f64>::forward(&layer, &input(&[1, 3, 1], 1))),
        "batch_norm: expected more than 1 row in training, got [1, 3]"
    );
    assert_eq!(
        error(Module::<f64>::forward(&layer, &input(&[3], 1))),
        "batch_norm: expected [rows, features] or [samples, features, length], got [3]"
    );
}

#[test]
fn embedding_learns_the_rows_it_gave_but_not_the_padding() {
    let table = input(&[5, 3], 1);
    check(|x| x[0].embedding(&[4, 0, 4, 2], None)?.square(), std::slice::from_ref(&table));
    let layer = Embedding::from_tensor(&table).unwrap().padding_idx(1).unwrap();
    let weight = layer.weight().value().to_vec();
    assert_eq!(weight[3..6], [0.0; 3]);
    let y = layer.embed(&[4, 1, 4]).unwrap();
    assert_eq!(y.to_vec(), [&weight[12..], &[0.0; 3], &weight[12..]].concat());
    y.sum().unwrap().backward().unwrap();
    let expected: Vec<f64> = (0..15).map(|i| if i < 12 { 0.0 } else { 2.0 }).collect();
    assert_eq!(layer.weight().grad().unwrap().to_vec(), expected);

    let numbers = T64::from_slice(&[4.0, 1.0, 4.0, 0.0], [2, 2]).unwrap();
    let from_numbers = layer.forward(&numbers).unwrap();
    assert_eq!(from_numbers.shape(), [2, 2, 3]);
    assert_eq!(from_numbers.to_vec(), layer.embed(&[4, 1, 4, 0]).unwrap().to_vec());
    for (bad, name) in [(-1.0, "-1"), (0.5, "0.5"), (5.0, "5"), (f64::NAN, "NaN")] {
        let x = T64::from_slice(&[0.0, bad], [2]).unwrap();
        let expected = format!("Embedding: {name} at position 1 is not an index in 0..5");
        assert_eq!(error(layer.forward(&x)), expected);
    }
    assert_eq!(
        error(layer.forward(&numbers.requires_grad())),
        "Embedding: there is no gradient of indices; detach them"
    );
    assert_eq!(error(layer.embed(&[0, 9])), "embedding: index 9 at position 1 is not in 0..5");
    assert_eq!(error(table.embedding(&[0], Some(5))), "embedding: padding_idx 5 is not in 0..5");
    assert_eq!(
        error(Embedding::from_tensor(&table).unwrap().padding_idx(5)),
        "Embedding: padding_idx 5 is not in 0..5"
    );
    assert_eq!(
        error(input(&[3], 1).embedding(&[0], None)),
        "embedding: expected a table of [rows, dim], got [3]"
    );
    assert_eq!(layer.describe(), "Embedding(5 × 3, padding 1)");
    assert_eq!(layer.embed(&[]).unwrap().shape(), [0, 3]);
}

#[test]
fn embedding_starts_normal() {
    let layer: Embedding<f64> = Embedding::new(300, 200, &mut gristmill::Rng::seed(1)).unwrap();
    let weight = layer.weight().value();
    assert!(weight.mean().unwrap().item().unwrap().abs() < 0.02);
    let var = weight.var_axes(&[0, 1], 0, false).unwrap().item().unwrap();
    assert!((var - 1.0).abs() < 0.02, "{var}");
}

#[test]
fn prelu_has_its_gradients_and_pytorchs_defaults() {
    for shape in [&[3, 4][..], &[2, 4, 3], &[2, 4, 40]] {
        let x = input(shape, 1);
        check(|x| x[0].prelu(&x[1]), &[x.clone(), input(&[4], 2)]);
        check(|x| x[0].prelu(&x[1]), &[x, input(&[1], 2)]);
    }
    let x = input(&[7], 1);
    check(|x| x[0].prelu(&x[1]), &[x.clone(), input(&[1], 2)]);
    let layer = PReLU::new(1).unwrap();
    assert_eq!(layer.forward(&x).unwrap().to_vec(), x.leaky_relu(0.25).unwrap().to_vec());
    assert_eq!(layer.describe(), "PReLU(1)");
    let channels = PReLU::with_init(2, 0.5).unwrap();
    let y = channels.forward(&T64::from_slice(&[-2.0, -4.0, 2.0, 4.0], [2, 2]).unwrap()).unwrap();
    assert_eq!(y.to_vec(), [-1.0, -2.0, 2.0, 4.0]);
    assert_eq!(channels.state_dict().into_keys().collect::<Vec<_>>(), ["weight"]);
    assert_eq!(error(PReLU::<f32>::new(0)), "PReLU: there must be a parameter");
    assert_eq!(
        error(channels.forward(&input(&[2, 3], 1))),
        "prelu: slope [2] does not fit x [2, 3]: [1] or [channels] would"
    );
    assert_eq!(error(channels.forward(&x)), "prelu: slope [2] does not fit x [7]: [1] or [channels] would");
}

#[test]
fn softmax_layers_are_the_methods() {
    let x = input(&[2, 3, 4], 1);
    for dim in [0, 1, -1] {
        let (softmax, log) = (Softmax::new(dim), LogSoftmax::new(dim));
        assert_eq!(softmax.forward(&x).unwrap().to_vec(), x.softmax(dim).unwrap().to_vec());
        assert_eq!(log.forward(&x).unwrap().to_vec(), x.log_softmax(dim).unwrap().to_vec());
    }
    check(|x| Softmax::default().forward(&x[0]), std::slice::from_ref(&x));
    check(|x| LogSoftmax::default().forward(&x[0]), std::slice::from_ref(&x));
    let names = Sequential::<f64>::new().add(Softmax::default()).add(LogSoftmax::new(0)).summary();
    assert!(names.contains("Softmax(-1)") && names.contains("LogSoftmax(0)"), "{names}");
    assert!(Module::<f64>::forward(&Softmax::new(3), &x).is_err());
}

#[test]
fn batch_norm_without_affine_has_no_parameters() {
    let x = input(&[4, 3], 1);
    let (bare, full) =
        (BatchNorm1d::<f64>::new(3).unwrap().affine(false), BatchNorm1d::<f64>::new(3).unwrap());
    assert!(bare.parameters().is_empty());
    assert_eq!(bare.state_dict().into_keys().collect::<Vec<_>>(), ["running_mean", "running_var"]);
    assert_eq!(bare.describe(), "BatchNorm1d(3, affine: false)");
    for _ in 0..2 {
        assert!(bare.forward(&x).unwrap().equals(&full.forward(&x).unwrap()));
        bare.eval();
        full.eval();
    }
}

#[test]
fn batch_norm_without_running_statistics_uses_those_of_the_batch_in_evaluation_too() {
    let (x, other) = (input(&[4, 3], 1), input(&[2, 3], 2));
    let (bare, full) =
        (BatchNorm1d::<f64>::new(3).unwrap().track_running_stats(false), BatchNorm1d::<f64>::new(3).unwrap());
    assert_eq!(bare.state_dict().into_keys().collect::<Vec<_>>(), ["bias", "weight"]);
    assert_eq!(bare.describe(), "BatchNorm1d(3, track_running_stats: false)");
    for batch in [&x, &other] {
        let expected = full.forward(batch).unwrap();
        for training in [true, false] {
            if training {
                bare.train()
            } else {
                bare.eval()
            }
            assert!(bare.forward(batch).unwrap().equals(&expected));
        }
    }
    let error = bare.forward(&input(&[1, 3], 3)).unwrap_err().to_string();
    assert_eq!(error, "batch_norm: expected more than 1 row in training, got [1, 3]");
    // In a network a ReLU behind it is part of the same pass.
    let network = Sequential::new().add(bare).add(ReLU);
    assert!(network.forward(&x).unwrap().equals(&full.forward(&x).unwrap().relu().unwrap()));
}

/// PyTorch 2: outputs of no rows, a mean of NaN, gradients of 0, running statistics as they were.
#[test]
fn a_batch_of_no_rows_goes_through_a_training_step() {
    let mut rng = Rng::seed(1);
    let model: Sequential<f64> = Sequential::new()
        .add(Linear::new(4, 3, &mut rng).unwrap())
        .add(BatchNorm1d::new(3).unwrap())
        .add(ReLU)
        .add(Dropout::new(0.5, &mut rng).unwrap())
        .add(Residual::new(Sequential::new().add(Linear::new(3, 3, &mut rng).unwrap())))
        .add(LayerNorm::new(3).unwrap())
        .add(Linear::new(3, 2, &mut rng).unwrap());
    let before = model.state_dict();
    let x = Tensor::zeros([0, 4]).unwrap().requires_grad();
    let logits = model.forward(&x).unwrap();
    assert_eq!(logits.shape(), [0, 2]);
    assert_eq!((logits.argmax().unwrap(), logits.softmax(1).unwrap().shape()), (vec![], &[0, 2][..]));
    let loss = logits.cross_entropy(&[]).unwrap();
    assert!(loss.item().unwrap().is_nan());
    loss.backward().unwrap();
    assert_eq!(x.grad().unwrap().shape(), [0, 4]);
    for parameter in model.parameters() {
        let gradient = parameter.grad().unwrap();
        assert_eq!(gradient.shape(), parameter.value().shape());
        assert!(gradient.to_vec().iter().all(|&g| g == 0.0), "{gradient:?}");
    }
    SGD::new(model.parameters(), 0.1).step().unwrap();
    assert!(model.state_dict().iter().all(|(name, value)| value.equals(&before[name])));

    // Other losses, and batches of samples that have a length.
    let (y, target) = (Tensor::<f64>::zeros([0, 2]).unwrap().requires_grad(), Tensor::zeros([0, 2]).unwrap());
    let mse = y.mse_loss(&target, Reduction::Mean).unwrap();
    assert!(mse.item().unwrap().is_nan());
    mse.backward().unwrap();
    assert_eq!(y.grad().unwrap().shape(), [0, 2]);
    for shape in [[0, 3, 5], [2, 3, 0]] {
        let norm = BatchNorm1d::<f64>::new(3).unwrap();
        let x = Tensor::zeros(shape).unwrap().requires_grad();
        let y = norm.forward(&x).unwrap();
        assert_eq!(y.shape(), shape);
        y.sum().unwrap().backward().unwrap();
        assert_eq!(norm.weight().grad().unwrap().to_vec(), [0.0; 3]);
        assert_eq!(x.grad().unwrap().shape(), shape);
    }
}
