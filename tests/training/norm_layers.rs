//! Normalising, embedding and activating layers with parameters: their derivatives, PyTorch's defaults and bad input.

use crate::common::{assert_close, data, fixture, noise};
use gristmill::autograd::{BatchStatistics, gradcheck};
use gristmill::nn::*;
use gristmill::{Result, Tensor};

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
