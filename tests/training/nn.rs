//! Layers, initialisation, checkpoints and optimizers; training gives the same bits everywhere.

use std::collections::BTreeMap;

use crate::common::{
    assert_close, data, fixture, narrow, noise, on_every_isa, same_bits_everywhere, unit, widen,
};
use gristmill::autograd::{Epilogue, Reduction};
use gristmill::data::{DataLoader, Mnist, Split};
use gristmill::nn::init::{
    Fan, Nonlinearity, kaiming_normal, kaiming_uniform, xavier_normal, xavier_uniform,
};
use gristmill::nn::*;
use gristmill::optim::{Adam, AdamW, Decay, Optimizer, ParamGroup, RMSprop, SGD, grad_norm};
use gristmill::tensor::{load_safetensors, save_safetensors};
use gristmill::{Context, Element, Isa, Result, Rng, Tensor};

fn network(rng: &mut Rng) -> Result<Sequential> {
    let inner = Sequential::new()
        .add(Linear::new(20, 10, rng)?)
        .add(BatchNorm1d::new(10)?)
        .add(ReLU)
        .add(Dropout::new(0.1, rng)?)
        .add(Linear::new(10, 20, rng)?)
        .add(LayerNorm::new(20)?);
    let first = Sequential::new().add(Flatten).add(Linear::new(784, 20, rng)?).add(ReLU);
    Ok(first.add(Residual::new(inner)).add(ReLU).add(Linear::new(20, 10, rng)?))
}

/// Some steps on real images; all numbers of the model afterwards.
fn train(steps: usize) -> Result<Vec<f32>> {
    let mut rng = Rng::seed(4);
    let model = network(&mut rng)?;
    let mut optimizer = Adam::new(model.parameters()).weight_decay(1e-3);
    let images = Mnist::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../data"), Split::Test)?;
    let loader = DataLoader::new(images).batch_size(100).shuffle(rng.split());
    for batch in loader.iter().take(steps) {
        let (images, labels) = batch?;
        let loss = model.forward(&images)?.cross_entropy(&labels)?;
        optimizer.zero_grad();
        loss.backward()?;
        optimizer.step()?;
    }
    Ok(model.state_dict().values().flat_map(Tensor::to_vec).collect())
}

#[test]
fn training_gives_the_same_bits_on_every_isa_and_number_of_threads() {
    same_bits_everywhere(|| train(10).unwrap());
    assert_ne!(train(1).unwrap(), train(2).unwrap());
}

/// The SHA-256 of all parameters and states after 100 steps on the real images, stored: the same on every
/// machine with fused multiply-add. With GRISTMILL_BLESS=1 the file is written anew.
#[test]
fn a_hundred_steps_give_the_stored_hash() {
    use sha2::{Digest, Sha256};
    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/hundred_steps.sha256");
    let mut hashes = Vec::new();
    for isa in Isa::available().filter(|isa| isa.has_fma()) {
        for threads in [1, 3] {
            let numbers = Context::new().isa(isa).threads(threads).run(|| train(100)).unwrap().unwrap();
            let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            hashes.push((isa, threads, hash));
        }
    }
    if std::env::var_os("GRISTMILL_BLESS").is_some() {
        std::fs::write(FILE, format!("{}\n", hashes[0].2)).unwrap();
    }
    let golden = std::fs::read_to_string(FILE).unwrap();
    for (isa, threads, hash) in hashes {
        assert_eq!(hash, golden.trim(), "{isa}, {threads} threads");
    }
}

#[test]
fn a_checkpoint_gives_the_same_bits_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let (model, other) = (network(&mut Rng::seed(1)).unwrap(), network(&mut Rng::seed(2)).unwrap());
    model.forward(&Tensor::randn([8, 784], 0.0, 1.0, &mut Rng::seed(3)).unwrap()).unwrap();
    model.save(&path).unwrap();
    other.load(&path).unwrap();
    model.eval();
    other.eval();
    let x = Tensor::randn([4, 784], 0.0, 1.0, &mut Rng::seed(5)).unwrap();
    assert!(model.forward(&x).unwrap().equals(&other.forward(&x).unwrap()));
    let names: Vec<String> = model.state_dict().into_keys().collect();
    assert_eq!(names[..3], ["1.bias", "1.weight", "3.inner.0.bias"]);
    assert!(names.contains(&"3.inner.1.running_var".to_owned()));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing but the checkpoint stays");
}

#[test]
fn what_does_not_fit_is_named_and_the_model_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let model: Sequential = Sequential::new().add(Linear::new(3, 2, &mut Rng::seed(1)).unwrap());
    let before = model.state_dict();
    let unchanged = || {
        let after = model.state_dict();
        assert!(before.iter().all(|(name, value)| value.equals(&after[name])));
    };
    let refused = |text: &str| {
        let error = model.load(&path).unwrap_err().to_string();
        assert!(error.contains("model.safetensors") && error.contains(text), "{error}");
        unchanged();
    };
    refused("cannot be read");
    std::fs::write(&path, b"not a checkpoint").unwrap();
    refused("is not a safetensors file");
    let other = |layer: Linear| Sequential::new().add(layer).save(&path).unwrap();
    other(Linear::new(3, 4, &mut Rng::seed(1)).unwrap());
    refused("0.bias has shape [4], the model needs [2]");
    other(Linear::new(3, 2, &mut Rng::seed(1)).unwrap().without_bias());
    refused("0.bias is missing");
    let deeper: Sequential =
        Sequential::new().add(Linear::new(3, 2, &mut Rng::seed(1)).unwrap()).add(LayerNorm::new(2).unwrap());
    deeper.save(&path).unwrap();
    refused("1.bias is not a name of the model");
    let wrapped: BTreeMap<String, Tensor> =
        before.iter().map(|(name, value)| (format!("module.{name}"), value.clone())).collect();
    save_safetensors(&wrapped, &path).unwrap();
    refused(
        "load_state_dict: 0.bias is missing, and so are 0.weight; module.0.bias is not a name of the model, \
         nor are module.0.weight; the values have the prefix `module.`, as DataParallel puts it, before",
    );
    model.load_state_dict(&load_safetensors(&path).unwrap().without_prefix("module.").unwrap()).unwrap();
    let hint = |rename: &dyn Fn(&str) -> String| {
        let renamed = before.iter().map(|(name, value)| (rename(name), value.clone())).collect();
        model.load_state_dict(&renamed).unwrap_err().to_string()
    };
    assert!(
        hint(&|name| format!("_orig_mod.{name}")).contains("prefix `_orig_mod.`, as torch.compile puts it,")
    );
    assert!(hint(&|name| format!("module._orig_mod.{name}")).contains("prefix `module._orig_mod.` before"));
    assert!(
        hint(&|name| name.replace("0.", "0._orig_mod."))
            .ends_with("`_orig_mod.` of torch.compile inside their names")
    );
    assert!(
        hint(&|name| name.replace("0.", ""))
            .ends_with("the model has the prefix `0.` before the names of the values")
    );
    assert!(
        hint(&|name| name.replace("0.", "fc"))
            .ends_with("fcbias is not a name of the model, nor are fcweight")
    );
    let many: BTreeMap<String, Tensor> =
        (0..20).map(|i| (format!("x{i:02}"), before["0.bias"].clone())).collect();
    let error = model.load_state_dict(&many).unwrap_err().to_string();
    assert!(error.contains("x00 is not a name of the model, nor are x01, x02, "), "{error}");
    assert!(error.ends_with("x07, x08 and 11 more"), "{error}");
    unchanged();
    Sequential::<f32>::new().add(Linear::new(3, 2, &mut Rng::seed(1)).unwrap()).save(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for len in 0..whole.len() {
        std::fs::write(&path, &whole[..len]).unwrap();
        refused("");
    }
    let missing = folder.path().join("none").join("model.safetensors");
    assert!(model.save(&missing).unwrap_err().to_string().contains("cannot be written"));
    let partial = BTreeMap::from([("0.weight".to_owned(), Tensor::zeros([2, 3]).unwrap())]);
    assert!(model.load_state_dict(&partial).is_err());
    unchanged();
}

#[test]
fn an_error_names_the_layer_that_it_comes_from() {
    let mut rng = Rng::seed(4);
    let mut linear = |inputs, outputs| Linear::new(inputs, outputs, &mut rng).unwrap();
    let inner = Sequential::new().add(linear(4, 4)).add(ReLU).add(linear(5, 4));
    let model: Sequential = Sequential::new().add(linear(3, 4)).add(Residual::new(inner)).add(linear(4, 2));
    let text = |result: Result<Tensor>| result.unwrap_err().to_string();
    let x = Tensor::ones([2, 3]).unwrap();
    let expected = "linear: x [2, 4] does not fit weight [4, 5] and bias [4], in layer 1.inner.2";
    assert_eq!(text(model.forward(&x)), expected);
    assert_eq!(model.summary_for(&[2, 3]).unwrap_err().to_string(), expected);
    let expected = "linear: x [2, 7] does not fit weight [4, 3] and bias [4], in layer 0";
    assert_eq!(text(model.forward(&Tensor::ones([2, 7]).unwrap())), expected);
    assert_eq!(format!("{:?}", model.forward(&Tensor::ones([2, 7]).unwrap()).unwrap_err()), expected);
}

#[test]
fn a_box_is_the_module_in_it() {
    let make = || {
        let mut rng = Rng::seed(4);
        (Linear::new(6, 6, &mut rng).unwrap(), Dropout::new(0.3, &mut rng).unwrap())
    };
    let ((linear, dropout), (boxed_linear, boxed_dropout)) = (make(), make());
    let boxes: [Box<dyn Module>; 3] = [Box::new(boxed_linear), Box::new(ReLU), Box::new(boxed_dropout)];
    let plain: Sequential = Sequential::new().add(linear).add(ReLU).add(dropout);
    let boxed: Sequential = boxes.into_iter().fold(Sequential::new(), Sequential::add);
    let x = Tensor::randn([5, 6], 0.0, 1.0, &mut Rng::seed(1)).unwrap();
    assert!(plain.forward(&x).unwrap().equals(&boxed.forward(&x).unwrap()));
    assert_eq!(plain.to_string(), boxed.to_string());
    assert_eq!(plain.summary_for(&[5, 6]).unwrap(), boxed.summary_for(&[5, 6]).unwrap());
    assert!(plain.state_dict().keys().eq(boxed.state_dict().keys()));
    assert_eq!(plain.rng_state(), boxed.rng_state());
}

#[test]
fn modes_switch_dropout_and_batch_norm() {
    let mut rng = Rng::seed(6);
    let model = Sequential::new().add(Dropout::new(0.5, &mut rng).unwrap()).add(BatchNorm1d::new(4).unwrap());
    let x: Tensor = Tensor::randn([64, 4], 3.0, 2.0, &mut rng).unwrap();
    let (a, b) = (model.forward(&x).unwrap(), model.forward(&x).unwrap());
    assert!(!a.equals(&b), "each forward pass in training drops others");
    model.eval();
    assert!(model.forward(&x).unwrap().equals(&model.forward(&x).unwrap()));
    model.train();
    assert!(!model.forward(&x).unwrap().equals(&model.forward(&x).unwrap()));
    assert!(
        Dropout::new(1.5, &mut rng).is_err()
            && BatchNorm1d::<f32>::new(2).unwrap().momentum(f64::NAN).is_err()
    );
    let one_row = BatchNorm1d::new(4).unwrap().forward(&Tensor::<f32>::ones([1, 4]).unwrap());
    assert!(one_row.unwrap_err().to_string().starts_with("batch_norm"));
}

#[test]
fn shared_parameters_are_counted_and_stepped_once() {
    struct Tied(Linear);
    impl Module for Tied {
        fn forward(&self, x: &Tensor) -> Result<Tensor> {
            self.0.forward(&self.0.forward(x)?)
        }
        fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
            visitor.child("a", &self.0);
            visitor.child("b", &self.0);
        }
        fn describe(&self) -> String {
            "Tied".into()
        }
    }
    let model = Tied(Linear::new(2, 2, &mut Rng::seed(1)).unwrap());
    assert_eq!(model.parameters().len(), 2);
    assert!(model.summary().ends_with("6 parameters\n"));
}

#[test]
fn starting_values_have_their_bounds_and_deviations() {
    let mut rng = Rng::seed(7);
    let largest = |x: Tensor<f64>| x.to_vec().iter().fold(0.0, |max: f64, x| max.max(x.abs()));
    let deviation = |x: Tensor<f64>| x.var_axes(&[0, 1], 0, false).unwrap().item().unwrap().sqrt();
    let near =
        |value: f64, expected: f64| assert!((value / expected - 1.0).abs() < 0.02, "{value} {expected}");
    let (relu, shape) = (Nonlinearity::ReLU, [300, 200]);
    near(largest(xavier_uniform(shape, 2.0, &mut rng).unwrap()), 2.0 * (6.0_f64 / 500.0).sqrt());
    near(deviation(xavier_normal(shape, 2.0, &mut rng).unwrap()), 2.0 * (2.0_f64 / 500.0).sqrt());
    near(largest(kaiming_uniform(shape, Fan::In, relu, &mut rng).unwrap()), (6.0_f64 / 200.0).sqrt());
    near(deviation(kaiming_normal(shape, Fan::Out, relu, &mut rng).unwrap()), (2.0_f64 / 300.0).sqrt());
    assert_eq!(Nonlinearity::Tanh.gain(), 5.0 / 3.0);
    assert!(kaiming_normal::<f32>([3], Fan::In, relu, &mut rng).is_err());
    let linear: Linear<f64> = Linear::new(400, 50, &mut rng).unwrap();
    near(largest(linear.weight().value()), 0.05);
    assert!(largest(linear.bias().unwrap().value().unsqueeze(0).unwrap()) <= 0.05);
}

/// Steps the optimizer with the gradients of PyTorch's run and compares the parameter after each.
fn check_optimizer<T: Element>(
    case: &serde_json::Value,
    make: impl Fn(Vec<Parameter<T>>) -> Box<dyn Optimizer<T>>,
) {
    let numbers = |value: &serde_json::Value| -> Vec<f64> {
        value["data"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let parameter =
        Parameter::new(&Tensor::from_slice(&narrow::<T>(&numbers(&case["initial"])), [7]).unwrap());
    let mut optimizer = make(vec![parameter.clone()]);
    let steps =
        case["grads"].as_array().unwrap().iter().zip(case["params_after_each_step"].as_array().unwrap());
    for (step, (grad, expected)) in steps.enumerate() {
        optimizer.zero_grad();
        let grad = Tensor::from_slice(&narrow::<T>(&numbers(grad)), [7]).unwrap();
        parameter.tensor().mul(&grad).unwrap().sum().unwrap().backward().unwrap();
        optimizer.step().unwrap();
        // Gradients rounded to f32 move Adam's direction by a few u where they are near 0; 12 steps of at
        // most 0.1.
        let tolerance = if T::NAME == "f64" { 1e-10 } else { 2000.0 * unit::<T>() };
        let name = format!("{} step {step}", case["name"]);
        assert_close(&name, &parameter.value().to_vec(), &numbers(expected), tolerance, tolerance);
    }
}

#[test]
fn optimizers_follow_pytorch() {
    let text = include_str!("../../examples/optimizers.json");
    let file: serde_json::Value = serde_json::from_str(text).unwrap();
    let mut seen = 0;
    for case in file["cases"].as_array().unwrap() {
        fn make<T: Element>(name: &str, p: Vec<Parameter<T>>) -> Option<Box<dyn Optimizer<T>>> {
            Some(match name {
                "sgd" => Box::new(SGD::new(p, 0.1)),
                "sgd_weight_decay" => Box::new(SGD::new(p, 0.01).weight_decay(0.9)),
                "sgd_momentum" => Box::new(SGD::new(p, 0.1).momentum(0.9)),
                "sgd_momentum_dampening_decay" => {
                    Box::new(SGD::new(p, 0.05).momentum(0.8).dampening(0.3).weight_decay(0.05))
                }
                "sgd_nesterov" => Box::new(SGD::new(p, 0.1).momentum(0.9).nesterov(true)),
                "rmsprop" => Box::new(RMSprop::new(p).lr(0.1).alpha(0.9)),
                "rmsprop_centered_momentum" => Box::new(
                    RMSprop::new(p).lr(0.02).alpha(0.95).centered(true).momentum(0.5).weight_decay(0.1),
                ),
                "adam" => Box::new(Adam::new(p).lr(0.1).betas(0.9, 0.99).eps(0.001)),
                "adam_defaults" => Box::new(Adam::new(p)),
                "adam_weight_decay" => Box::new(Adam::new(p).lr(0.001).weight_decay(0.001)),
                "adam_amsgrad" => Box::new(Adam::new(p).lr(0.1).amsgrad(true)),
                "adamw" => Box::new(AdamW::new(p).lr(0.01).weight_decay(0.1)),
                _ => return None,
            })
        }
        let name = case["name"].as_str().unwrap();
        if make::<f64>(name, Vec::new()).is_some() {
            check_optimizer::<f64>(case, |p| make(name, p).unwrap());
            check_optimizer::<f32>(case, |p| make(name, p).unwrap());
            seen += 1;
        }
    }
    assert_eq!(seen, 12);
}

#[test]
fn optimizers_leave_alone_what_has_no_gradient_and_refuse_bad_numbers() {
    let value = Tensor::from_slice(&noise::<f32>(5, 1), [5]).unwrap();
    let (moved, resting) = (Parameter::new(&value), Parameter::new(&value));
    let mut optimizer =
        SGD::new(vec![resting.clone(), moved.clone()], 0.5).weight_decay(0.1).decay(Decay::Decoupled);
    moved.tensor().sum().unwrap().backward().unwrap();
    let held = moved.value();
    optimizer.step().unwrap();
    assert!(resting.value().equals(&value) && held.equals(&value), "who holds the old value keeps it");
    let expected: Vec<f32> = value.to_vec().iter().map(|w| w * 0.95 - 0.5).collect();
    assert_close("sgdw", &moved.value().to_vec(), &widen(&expected), 1e-6, 1e-6);
    for lr in [f64::NAN, -1.0, f64::INFINITY] {
        optimizer.set_lr(lr);
        assert!(optimizer.step().is_err());
    }
    assert!(Adam::new(vec![moved.clone()]).betas(1.0, 0.9).step().is_err());
    assert!(SGD::new(vec![moved], 0.1).nesterov(true).step().is_err());
}

#[test]
fn a_state_that_is_no_longer_used_rests() {
    let parameter = with_gradient(&[1.0, 2.0], &[1.0, -1.0]);
    let mut optimizer = SGD::new(vec![parameter.clone()], 0.5).momentum(0.5);
    optimizer.step().unwrap();
    let mut plain = optimizer.momentum(0.0);
    plain.step().unwrap();
    assert_eq!(parameter.value().to_vec(), [0.0, 3.0]);
    plain.momentum(0.5).step().unwrap();
    assert_eq!(parameter.value().to_vec(), [-0.75, 3.75], "the buffer is still the first gradient");
}

/// A module that lets nothing be done for it, and does nothing for others: the composed twin of a layer.
struct Plain<M>(M);

impl<M: Module> Module for Plain<M> {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.forward(x)
    }

    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
        visitor.child("0", &self.0);
    }

    fn describe(&self) -> String {
        "Plain".into()
    }
}

/// Linear → ReLU → Dropout → Residual(Linear → norm → ReLU → Dropout → Linear → norm) → ReLU → norm → ReLU,
/// from the same random numbers, each layer behind `wrap`.
macro_rules! network {
    ($wrap:expr, $p:expr) => {{
        let mut rng = Rng::seed(9);
        let inner = Sequential::new()
            .add($wrap(Linear::new(20, 9, &mut rng).unwrap()))
            .add($wrap(BatchNorm1d::new(9).unwrap()))
            .add($wrap(ReLU))
            .add($wrap(Dropout::new($p, &mut rng).unwrap()))
            .add($wrap(Linear::new(9, 20, &mut rng).unwrap()))
            .add($wrap(BatchNorm1d::new(20).unwrap()));
        Sequential::new()
            .add($wrap(Linear::new(33, 20, &mut rng).unwrap().without_bias()))
            .add($wrap(ReLU))
            .add($wrap(Dropout::new($p, &mut rng).unwrap()))
            .add($wrap(Residual::new(inner)))
            .add($wrap(ReLU))
            .add($wrap(BatchNorm1d::new(20).unwrap()))
            .add($wrap(ReLU))
    }};
}

#[test]
fn what_layers_do_in_one_pass_has_the_bits_of_the_layers_one_by_one() {
    fn itself<M>(layer: M) -> M {
        layer
    }
    for p in [0.0, 0.3, 1.0] {
        let (fused, composed): (Sequential, Sequential) = (network!(itself, p), network!(Plain, p));
        let mut values = noise::<f32>(37 * 33, 5);
        for bad in [None, Some(f32::NAN), Some(f32::INFINITY)] {
            values[100] = bad.unwrap_or(values[100]);
            for training in [true, false, true] {
                let run = |model: &Sequential| -> Vec<Vec<u32>> {
                    if training {
                        model.train()
                    } else {
                        model.eval()
                    }
                    model.zero_grad();
                    let x = Tensor::from_slice(&values, [37, 33]).unwrap().requires_grad();
                    let y = model.forward(&x).unwrap();
                    let weights = Tensor::from_slice(&noise::<f32>(37 * 20, 6), [37, 20]).unwrap();
                    y.mul(&weights).unwrap().sum().unwrap().backward().unwrap();
                    let states = model.state_dict().into_values().filter(|state| state.rank() == 1);
                    let grads = model.parameters().into_iter().map(|p| p.grad().unwrap());
                    let all = [y.detach(), x.grad().unwrap()].into_iter().chain(grads).chain(states);
                    // One NaN is as good as another.
                    let bits = |x: f32| if x.is_nan() { u32::MAX } else { x.to_bits() };
                    all.map(|tensor| tensor.to_vec().into_iter().map(bits).collect()).collect()
                };
                let (a, b) = (run(&fused), run(&composed));
                // The names of the states sort otherwise: as many of each numbers in any order.
                let sorted = |mut lists: Vec<Vec<u32>>| {
                    let states = lists.split_off(2 + fused.parameters().len());
                    let mut states = states.concat();
                    states.sort_unstable();
                    (lists, states)
                };
                assert!(sorted(a) == sorted(b), "p {p}, bad {bad:?}, training {training}");
            }
        }
    }
}

#[test]
fn what_follows_a_layer_is_checked() {
    let mut rng = Rng::seed(1);
    let (x, other) = (Tensor::<f32>::ones([4, 3]).unwrap(), Tensor::ones([4, 2]).unwrap());
    let linear: Linear = Linear::new(3, 3, &mut rng).unwrap();
    let norm = BatchNorm1d::new(3).unwrap();
    let layers: [&dyn Module; 2] = [&linear, &norm];
    for layer in layers {
        let add = Epilogue { add: Some(&other), dropout: None };
        let error = layer.forward_then(&x, add).unwrap_err().to_string();
        assert!(error.ends_with("what is added is [4, 2], expected [4, 3]"), "{error}");
        let key = Rng::seed(3).into();
        assert!(layer.forward_then(&x, Epilogue { add: None, dropout: Some((1.5, key)) }).is_err());
    }
}

/// A parameter of these numbers with this gradient.
fn with_gradient(values: &[f64], grad: &[f64]) -> Parameter<f64> {
    let parameter = Parameter::new(&Tensor::from_slice(values, [values.len()]).unwrap());
    let grad = Tensor::from_slice(grad, [grad.len()]).unwrap();
    parameter.tensor().mul(&grad).unwrap().sum().unwrap().backward().unwrap();
    parameter
}

#[test]
fn groups_have_their_own_rate_and_decay() {
    let new = || [1.0, 2.0, 3.0].map(|value| with_gradient(&[value], &[1.0]));
    let [a, b, c] = new();
    let half = ParamGroup { lr_scale: 0.5, weight_decay: Some(0.0) };
    // A parameter that is named again belongs to the later group; a new one is taken in.
    let mut optimizer = SGD::new(vec![a.clone(), b.clone(), a.clone()], 0.1)
        .weight_decay(0.5)
        .group([b.clone(), c.clone()], half);
    optimizer.step().unwrap();
    let values = || [&a, &b, &c].map(|p| p.value().item().unwrap());
    assert_close("groups", &values(), &[1.0 - 0.1 * 1.5, 2.0 - 0.05, 3.0 - 0.05], 1e-15, 1e-15);
    optimizer.set_lr(0.2);
    optimizer.step().unwrap();
    assert_close("set_lr", &values()[1..], &[1.95 - 0.1, 2.95 - 0.1], 1e-15, 1e-15);

    // What joins later leaves the others' moments as they are.
    let [a, _, c] = new();
    let mut alone = Adam::new(vec![a.clone()]);
    alone.step().unwrap();
    let mut both = alone.group([c.clone()], ParamGroup::default());
    both.step().unwrap();
    let [expected, _, first] = new();
    let mut reference = Adam::new(vec![expected.clone()]);
    reference.step().unwrap();
    reference.step().unwrap();
    Adam::new(vec![first.clone()]).step().unwrap();
    assert!(a.value().equals(&expected.value()) && c.value().equals(&first.value()));
}

#[test]
fn gradients_are_clipped_by_norm_and_value() {
    let new = || [with_gradient(&[0.0, 0.0], &[3.0, 0.0]), with_gradient(&[0.0], &[-4.0])];
    let [a, b] = new();
    assert_eq!(grad_norm(&[a.clone(), b.clone()]).unwrap(), 5.0);
    let mut optimizer = SGD::new(vec![a.clone(), b.clone()], 1.0).clip_grad_norm(1.0);
    optimizer.step().unwrap();
    // PyTorch divides by the norm plus 1e-6.
    let scale = 1.0 / (5.0 + 1e-6);
    assert_close("norm", &a.value().to_vec(), &[-3.0 * scale, 0.0], 1e-15, 1e-15);
    assert_close("norm", &b.value().to_vec(), &[4.0 * scale], 1e-15, 1e-15);
    assert_eq!(a.grad().unwrap().to_vec(), [3.0, 0.0], "gradients stay as they are");

    let [a, b] = new();
    SGD::new(vec![a.clone(), b.clone()], 1.0).clip_grad_norm(10.0).clip_grad_value(3.5).step().unwrap();
    assert_eq!((a.value().to_vec(), b.value().to_vec()), (vec![-3.0, 0.0], vec![3.5]));

    for limit in [0.0, -1.0, f64::NAN] {
        let [a, _] = new();
        assert!(SGD::new(vec![a.clone()], 1.0).clip_grad_norm(limit).step().is_err());
        assert!(SGD::new(vec![a.clone()], 1.0).clip_grad_value(limit).step().is_err());
        assert_eq!(a.value().to_vec(), [0.0, 0.0]);
    }
}

#[test]
fn gradient_norms_are_right_where_squares_overflow_or_vanish() {
    for (grad, expected) in [
        ([3e200, -4e200], 5e200),
        ([3e-200, 4e-200], 5e-200),
        ([0.0, 0.0], 0.0),
        ([f64::INFINITY, 1.0], f64::INFINITY),
        ([f64::MAX, 0.0], f64::MAX),
    ] {
        let norm = grad_norm(&[with_gradient(&[1.0, 1.0], &grad)]).unwrap();
        assert!(norm == expected || (norm / expected - 1.0).abs() < 1e-15, "{norm:e}, expected {expected:e}");
    }
    assert!(grad_norm(&[with_gradient(&[1.0], &[f64::NAN])]).unwrap().is_nan());
    assert_eq!(grad_norm::<f32>(&[]).unwrap(), 0.0);
}

#[test]
fn optimizers_of_shared_parameters_do_not_wait_for_each_other() {
    let parameters: Vec<_> = (0..20).map(|i| with_gradient(&[f64::from(i)], &[1.0])).collect();
    std::thread::scope(|scope| {
        for turn in [0, 7, 13] {
            let mut mine = parameters.clone();
            mine.rotate_left(turn);
            mine.reverse();
            scope.spawn(move || {
                let mut optimizer = SGD::new(mine, 0.5);
                for _ in 0..1000 {
                    optimizer.step().unwrap();
                }
            });
        }
    });
    for (i, parameter) in parameters.iter().enumerate() {
        assert_eq!(parameter.value().item().unwrap(), i as f64 - 1500.0);
    }
}

#[test]
fn losses_as_modules_are_the_methods() {
    let (x, target) =
        (Tensor::from_slice(&noise::<f64>(6, 2), [2, 3]).unwrap(), Tensor::zeros([2, 3]).unwrap());
    let same = |a: Result<Tensor<f64>>, b: Result<Tensor<f64>>| assert!(a.unwrap().equals(&b.unwrap()));
    let sum = Reduction::Sum;
    same(MSELoss::default().forward(&x, &target), x.mse_loss(&target, Reduction::Mean));
    same(L1Loss { reduction: sum }.forward(&x, &target), x.l1_loss(&target, sum));
    same(HuberLoss { reduction: sum, delta: 0.3 }.forward(&x, &target), x.huber_loss(&target, 0.3, sum));
    same(BCEWithLogitsLoss::default().forward(&x, &target), x.bce_with_logits_loss(&target, Reduction::Mean));
    same(CrossEntropyLoss::default().forward(&x, &[0, 2]), x.cross_entropy(&[0, 2]));
}

/// Losses and gradients of every combination of options, PyTorch's in f64.
fn check_losses_of_classes<T: Element>() {
    let tolerance = 50.0 * unit::<T>();
    let tensor = |value: &serde_json::Value| {
        let shape: Vec<usize> =
            value["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
        Tensor::from_slice(&narrow::<T>(&data(value)), shape).unwrap()
    };
    let cases = fixture("cross_entropy");
    assert_eq!(cases.len(), 66);
    for case in cases {
        let (kind, smoothing) = (case["kind"].as_str().unwrap(), case["label_smoothing"].as_f64().unwrap());
        let reduction = match case["reduction"].as_str().unwrap() {
            "mean" => Reduction::Mean,
            "sum" => Reduction::Sum,
            _ => Reduction::None,
        };
        let weight = (!case["weight"].is_null()).then(|| tensor(&case["weight"]));
        let ignore_index = case["ignore_index"].as_u64().map(|index| index as usize);
        let mut loss = CrossEntropyLoss::new().reduction(reduction).label_smoothing(smoothing);
        if let Some(weight) = &weight {
            loss = loss.weight(weight);
        }
        if let Some(index) = ignore_index {
            loss = loss.ignore_index(index);
        }
        let (x, dy) = (tensor(&case["x"]).requires_grad(), tensor(&case["dy"]));
        let name = format!("{kind} {} {reduction:?}, weights {}", loss.describe(), weight.is_some());
        let close = |what: &str, actual: Tensor<T>, expected: &serde_json::Value| {
            let name = format!("{name}: {what}");
            assert_close(&name, &actual.to_vec(), &data(expected), tolerance, tolerance);
        };
        let y = if kind == "probabilities" {
            let targets = tensor(&case["targets"]).requires_grad();
            let y = loss.forward_soft(&x, &targets).unwrap();
            y.backward_with(&dy).unwrap();
            close("dtargets", targets.grad().unwrap(), &case["dtargets"]);
            y
        } else {
            let targets: Vec<usize> =
                case["targets"].as_array().unwrap().iter().map(|t| t.as_u64().unwrap() as usize).collect();
            let y = match kind {
                "nll" => x.nll_loss(&targets, weight.as_ref(), ignore_index, reduction).unwrap(),
                _ => loss.forward(&x, &targets).unwrap(),
            };
            y.backward_with(&dy).unwrap();
            y
        };
        close("y", y.detach(), &case["y"]);
        close("dx", x.grad().unwrap(), &case["dx"]);
    }
}

#[test]
fn losses_of_classes_follow_pytorch() {
    on_every_isa(|_| {
        check_losses_of_classes::<f64>();
        check_losses_of_classes::<f32>();
    });
}

#[test]
fn the_mean_of_ignored_rows_alone_is_nan_with_gradients_of_zero() {
    let x = Tensor::from_slice(&noise::<f64>(6, 2), [2, 3]).unwrap().requires_grad();
    for smoothing in [0.0, 0.1] {
        let loss =
            CrossEntropyLoss::new().ignore_index(1).label_smoothing(smoothing).forward(&x, &[1, 1]).unwrap();
        assert!(loss.item().unwrap().is_nan());
        loss.backward().unwrap();
        assert_eq!(x.grad().unwrap().to_vec(), [0.0; 6]);
    }
}

/// A safetensors file with these tensors: name, type, shape, bytes.
fn safetensors(tensors: &[(&str, &str, &[usize], &[u8])]) -> Vec<u8> {
    let (mut header, mut data) = (Vec::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.push(format!(
            "\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":{offsets:?}}}"
        ));
        data.extend(*bytes);
    }
    let header = format!("{{{}}}", header.join(","));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

/// `[1.5, −3]` in each type that a model may have been trained in.
#[test]
fn checkpoints_of_other_types_are_converted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let f32s: Vec<u8> = [1.5_f32, -3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let f64s: Vec<u8> = [1.5_f64, -3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let types: [(&str, &[u8]); 4] = [
        ("BF16", &[0xC0, 0x3F, 0x40, 0xC0]),
        ("F16", &[0x00, 0x3E, 0x00, 0xC2]),
        ("F32", &f32s),
        ("F64", &f64s),
    ];
    for (dtype, bytes) in types {
        let file = safetensors(&[("0.weight", dtype, &[2, 1], bytes), ("0.bias", dtype, &[2], bytes)]);
        std::fs::write(&path, file).unwrap();
        fn check<T: Element>(path: &std::path::Path) {
            let model = || Sequential::<T>::new().add(Linear::new(1, 2, &mut Rng::seed(1)).unwrap());
            let expected = [1.5, -3.0].map(T::from_f64);
            let (a, b, c) = (model(), model(), model());
            a.load(path).unwrap();
            b.load_state_dict(&load_safetensors(path).unwrap()).unwrap();
            Checkpoint::load(path).unwrap().restore(&c).unwrap();
            for model in [a, b, c] {
                assert!(model.state_dict().values().all(|value| value.to_vec() == expected));
            }
        }
        check::<f32>(&path);
        check::<f64>(&path);
    }
}

#[test]
fn what_a_file_holds_beside_the_model_is_passed_over_by_every_reader() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let (one, two) = (1.0_f32.to_le_bytes(), 2_i64.to_le_bytes());
    let names = ["weight", "bias", "running_mean", "running_var"];
    let mut tensors: Vec<(&str, &str, &[usize], &[u8])> =
        names.iter().map(|&name| (name, "F32", &[1][..], &one[..])).collect();
    tensors.push(("num_batches_tracked", "I64", &[], &two));
    tensors.push(("@optimizer.exp_avg", "F32", &[1], &one));
    std::fs::write(&path, safetensors(&tensors)).unwrap();
    let model: BatchNorm1d = BatchNorm1d::new(1).unwrap();
    model.load(&path).unwrap();
    model.load_state_dict(&load_safetensors(&path).unwrap()).unwrap();
    Checkpoint::load(&path).unwrap().restore(&model).unwrap();
    assert!(model.state_dict().values().all(|value| value.to_vec() == [1.0]));

    // What has no conversion is passed over where nobody needs it, and said where somebody does.
    tensors.push(("other", "F8_E4M3", &[1], &one[..1]));
    std::fs::write(&path, safetensors(&tensors)).unwrap();
    model.load_state_dict(&load_safetensors(&path).unwrap()).unwrap();
    model.load(&path).unwrap();
    tensors[1] = ("bias", "F8_E4M3", &[1], &one[..1]);
    tensors.truncate(4);
    std::fs::write(&path, safetensors(&tensors)).unwrap();
    let expected = "does not fit the model: load_state_dict: bias is missing; \
                    1 of its tensors could not be read: bias holds F8_E4M3, which has no conversion";
    for error in [model.load(&path), Checkpoint::load(&path).unwrap().restore(&model)] {
        assert_eq!(error.unwrap_err().to_string(), format!("{}: {expected}", path.display()));
    }
    // Quantised weights are numbers of another scale.
    for (dtype, len) in [("I8", 1), ("U8", 1), ("BOOL", 1), ("I32", 4)] {
        tensors[1] = ("bias", dtype, &[1], &two[..len]);
        std::fs::write(&path, safetensors(&tensors)).unwrap();
        let expected = format!("bias holds {dtype}, where a model has floating-point numbers");
        for error in [model.load(&path), Checkpoint::load(&path).unwrap().restore(&model)] {
            let error = error.unwrap_err().to_string();
            assert!(error.starts_with(&path.display().to_string()) && error.ends_with(&expected), "{error}");
        }
        if dtype != "BOOL" {
            assert_eq!(load_safetensors::<f32>(&path).unwrap()["bias"].to_vec(), [2.0]);
        }
    }
    assert!(model.state_dict().values().all(|value| value.to_vec() == [1.0]));
    // A section of which nothing could be read.
    tensors[1] = ("bias", "F32", &[1], &one);
    tensors.push(("@optimizer.exp_avg", "I32", &[1], &two[..4]));
    std::fs::write(&path, safetensors(&tensors)).unwrap();
    let error = Checkpoint::<f32>::load(&path).unwrap().section("optimizer").err().unwrap().to_string();
    assert!(
        error.ends_with(
            "has no section optimizer; @optimizer.exp_avg holds I32, where a model has floating-point numbers"
        ),
        "{error}"
    );
}

#[test]
fn what_is_given_in_place_of_a_checkpoint_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    let model: Linear = Linear::new(1, 1, &mut Rng::seed(1)).unwrap();
    let torch =
        b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0e\0\0\0model/data.pkl\x80\x02}q\0.";
    for (bytes, what) in [
        (
            torch.as_slice(),
            "is not a safetensors file: it is a file of torch.save: in Python, safetensors.torch.save_file",
        ),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "it is a Python pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "it is a Git LFS pointer"),
        (b"\n<html><body>Sign in</body></html>", "it is an HTML page"),
        (b"\x93NUMPY\x01\0", "it is a .npy file"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let errors = [
            model.load(&path),
            Checkpoint::<f32>::load(&path).map(drop),
            load_safetensors::<f32>(&path).map(drop),
        ];
        for error in errors {
            let error = error.unwrap_err().to_string();
            assert!(error.contains("model.pt: ") && error.contains(what), "{error}");
        }
    }
}
