//! Modules as wholes: printing, shapes and costs, freezing, lists, shared weights.

use crate::common::noise;
use gristmill::autograd::{WeightLayout, no_grad};
use gristmill::nn::*;
use gristmill::optim::{Adam, Optimizer, SGD};
use gristmill::{Context, Isa, Result, Rng, Tensor};

type T64 = Tensor<f64>;

fn input(shape: &[usize], seed: u64) -> T64 {
    Tensor::from_slice(&noise::<f64>(shape.iter().product(), seed), shape).unwrap()
}

fn network(rng: &mut Rng) -> Result<Sequential<f64>> {
    let inner = Sequential::new()
        .add(Linear::new(6, 4, rng)?)
        .add(BatchNorm1d::new(4)?)
        .add(Dropout::new(0.5, rng)?)
        .add(Linear::new(4, 6, rng)?);
    Ok(Sequential::new().add(Linear::new(5, 6, rng)?).add(ReLU).add(Residual::new(inner)))
}

#[test]
fn modules_print_as_trees() {
    let model = network(&mut Rng::seed(1)).unwrap();
    let expected = "\
Sequential(
  (0): Linear(5 → 6)
  (1): ReLU
  (2): Residual(
    (inner): Sequential(
      (0): Linear(6 → 4)
      (1): BatchNorm1d(4)
      (2): Dropout(0.5)
      (3): Linear(4 → 6)
    )
  )
)";
    assert_eq!(model.to_string(), expected);
    assert_eq!(model.tree(), expected);
    let boxed: Box<dyn Module<f64>> = Box::new(model);
    assert_eq!(boxed.to_string(), expected);
    assert_eq!(ReLU.to_string(), "ReLU");
    assert_eq!(Sequential::<f32>::new().to_string(), "Sequential");
}

#[test]
fn a_summary_has_shapes_parameters_operations_and_bytes() {
    let model = network(&mut Rng::seed(1)).unwrap();
    let states = model.state_dict();
    let generators = model.rng_state();
    let expected = "\
layer                  output   parameters  FLOPs  bytes
Sequential             [10, 6]
  Linear(5 → 6)        [10, 6]          36    600    288
  ReLU                 [10, 6]
  Residual             [10, 6]
    Sequential         [10, 6]
      Linear(6 → 4)    [10, 4]          28    480    224
      BatchNorm1d(4)   [10, 4]           8           128
      Dropout(0.5)     [10, 4]
      Linear(4 → 6)    [10, 6]          30    480    240
102 parameters, 1,560 FLOPs in products, 880 bytes of parameters and states, 2,400 bytes of results
";
    let squeeze = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    let summary = model.summary_for(&[10, 5]).unwrap();
    assert_eq!(squeeze(&summary), squeeze(expected), "{summary}");
    // Columns are as wide as their widest cell, and nothing has changed.
    assert_eq!(summary.lines().nth(2).unwrap().find("36"), summary.lines().nth(6).unwrap().find("28"));
    assert!(model.state_dict().iter().all(|(name, value)| value.equals(&states[name])));
    assert_eq!(model.rng_state(), generators);
    let (a, b) = (model.forward(&input(&[10, 5], 1)).unwrap(), model.forward(&input(&[10, 5], 1)).unwrap());
    assert!(!a.equals(&b), "still in training mode");
    assert!(model.summary_for(&[10, 7]).unwrap_err().to_string().starts_with("linear"));
    model.eval();
    assert!(model.summary_for(&[10, 7]).is_err());
    model.freeze("2").unwrap();
    assert!(model.summary().ends_with("\n102 parameters, 66 of them frozen\n"), "{}", model.summary());
    assert_eq!(squeeze(&model.summary())[1], "Linear(5 → 6) 36");
}

#[test]
fn frozen_parameters_stay_and_the_others_learn() {
    let model = network(&mut Rng::seed(1)).unwrap();
    model.eval();
    let mut optimizer = Adam::new(model.parameters()).lr(0.1).weight_decay(0.1);
    let mut step = || {
        let before = model.state_dict();
        optimizer.zero_grad();
        let x = input(&[8, 5], 2).requires_grad();
        model.forward(&x).unwrap().square().unwrap().mean().unwrap().backward().unwrap();
        optimizer.step().unwrap();
        let after = model.state_dict();
        let changed: Vec<String> = after
            .iter()
            .filter(|(name, value)| !value.equals(&before[*name]))
            .map(|(name, _)| name.clone())
            .collect();
        (changed, x.grad().unwrap())
    };
    let names = |model: &Sequential<f64>| -> Vec<String> {
        model.state_dict().into_keys().filter(|name| !name.contains("running")).collect()
    };
    assert_eq!(step().0, names(&model));
    // Moments of the steps before do not move what is frozen.
    assert_eq!(model.freeze("2.inner").unwrap(), 6);
    let (changed, dx) = step();
    assert_eq!(changed, ["0.bias", "0.weight"]);
    assert!(dx.to_vec().iter().any(|dx| *dx != 0.0), "gradients pass through frozen layers");
    assert_eq!(model.unfreeze("2.inner.3.weight").unwrap(), 1);
    assert_eq!(step().0, ["0.bias", "0.weight", "2.inner.3.weight"]);
    assert_eq!(model.freeze("").unwrap(), 8);
    assert!(!model.forward(&input(&[8, 5], 2)).unwrap().is_tracked());
    assert_eq!(model.unfreeze("").unwrap(), 8);
    assert_eq!(step().0, names(&model));
    for nowhere in ["3", "2.inn", "0.weights", "."] {
        let error = model.freeze(nowhere).unwrap_err().to_string();
        assert_eq!(error, format!("freeze: there is no parameter under {nowhere:?}"));
    }
}

#[test]
fn what_was_recorded_before_a_parameter_was_frozen_does_not_move_it() {
    let parameter = Parameter::new(&input(&[2], 3));
    let loss = parameter.tensor().square().unwrap().sum().unwrap();
    parameter.freeze();
    loss.backward().unwrap();
    let before = parameter.value();
    SGD::new(vec![parameter.clone()], 0.1).step().unwrap();
    assert!(parameter.value().equals(&before));
}

/// An encoder and a decoder with one weight.
struct Autoencoder {
    encoder: Linear<f64>,
    decoder: Linear<f64>,
}

impl Autoencoder {
    fn new(seed: u64) -> Self {
        let encoder = Linear::new(5, 3, &mut Rng::seed(seed)).unwrap();
        let bias = Parameter::new(&T64::zeros([5]).unwrap());
        let decoder = Linear::from_parameters(encoder.weight(), Some(&bias), WeightLayout::InOut).unwrap();
        Self { encoder, decoder }
    }
}

impl Module<f64> for Autoencoder {
    fn forward(&self, x: &T64) -> Result<T64> {
        self.decoder.forward(&self.encoder.forward(x)?.tanh()?)
    }
    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a, f64>) {
        visitor.child("encoder", &self.encoder);
        visitor.child("decoder", &self.decoder);
    }
}

#[test]
fn tied_weights_are_counted_saved_and_stepped_once() {
    let model = Autoencoder::new(1);
    assert_eq!(model.parameters().len(), 3);
    assert!(model.summary().ends_with("\n23 parameters\n"));
    let names: Vec<String> = model.state_dict().into_keys().collect();
    assert_eq!(names, ["decoder.bias", "encoder.bias", "encoder.weight"]);

    // The gradient is the sum over both places; the step is one.
    let (x, start) = (input(&[4, 5], 4), model.encoder.weight().value());
    let loss = |model: &Autoencoder| model.forward(&x).unwrap().square().unwrap().sum().unwrap();
    loss(&model).backward().unwrap();
    let apart = Autoencoder {
        decoder: Linear::from_parameters(&Parameter::new(&start), model.decoder.bias(), WeightLayout::InOut)
            .unwrap(),
        encoder: Linear::from_tensors(&start, Some(&model.encoder.bias().unwrap().value())).unwrap(),
    };
    loss(&apart).backward().unwrap();
    let of = |layer: &Linear<f64>| layer.weight().grad().unwrap().to_vec();
    let sum: Vec<f64> = of(&apart.encoder).iter().zip(of(&apart.decoder)).map(|(a, b)| a + b).collect();
    crate::common::assert_close("gradient", &of(&model.encoder), &sum, 1e-13, 1e-14);
    SGD::new(model.parameters(), 0.1).step().unwrap();
    let stepped: Vec<f64> = start.to_vec().iter().zip(&sum).map(|(w, g)| w - 0.1 * g).collect();
    crate::common::assert_close("step", &model.decoder.weight().value().to_vec(), &stepped, 1e-13, 1e-14);

    // Saved once, and still one after loading.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model.save(&path).unwrap();
    let other = Autoencoder::new(2);
    other.load(&path).unwrap();
    assert!(other.encoder.weight().is(other.decoder.weight()));
    assert!(other.decoder.weight().value().equals(&model.encoder.weight().value()));

    // PyTorch's files have both names: they must agree.
    let mut both = model.state_dict();
    both.insert("decoder.weight".into(), both["encoder.weight"].clone());
    other.load_state_dict(&both).unwrap();
    let alone = both.remove("encoder.weight").unwrap();
    other.load_state_dict(&both).unwrap();
    both.insert("encoder.weight".into(), alone.neg().unwrap());
    let error = other.load_state_dict(&both).unwrap_err().to_string();
    assert_eq!(
        error,
        "load_state_dict: encoder.weight and decoder.weight are one in the model, but their values differ"
    );
}

#[test]
fn a_module_of_ones_own_needs_two_functions_and_a_list_has_names() {
    struct Dense {
        layers: ModuleList<f64>,
    }
    impl Module<f64> for Dense {
        fn forward(&self, x: &T64) -> Result<T64> {
            self.layers
                .iter()
                .try_fold(x.clone(), |x, layer| Tensor::concat(&[&x, &layer.forward(&x)?.tanh()?], 1))
        }
        fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a, f64>) {
            visitor.list("layers", &self.layers);
        }
    }
    let mut rng = Rng::seed(3);
    let layers: ModuleList<f64> = (0..3).map(|i| Linear::new(2 + i, 1, &mut rng).unwrap()).collect();
    assert_eq!((layers.len(), layers.is_empty()), (3, false));
    assert!(layers.get(2).is_some() && layers.get(3).is_none());
    let model = Dense { layers };
    assert_eq!(model.forward(&input(&[4, 2], 5)).unwrap().shape(), [4, 5]);
    assert_eq!(
        model.tree(),
        "Dense(\n  (layers): ModuleList(\n    (0): Linear(2 → 1)\n    (1): Linear(3 → 1)\n    (2): Linear(4 → 1)\n  )\n)"
    );
    assert!(model.state_dict().contains_key("layers.2.weight"));
    assert_eq!(model.freeze("layers.1").unwrap(), 2);
    // Without `trace` the table shows the module as a whole.
    let summary = model.summary_for(&[4, 2]).unwrap();
    assert!(summary.lines().nth(1).unwrap().contains("[4, 5]"), "{summary}");
}

/// A model with every layer that works on rows: residual blocks with this normalisation, and an end of this
/// kind.
fn row_by_row(norm: usize, end: usize, rng: &mut Rng) -> Result<Sequential> {
    let normalised = |model: Sequential, width: usize| -> Result<Sequential> {
        Ok(match norm {
            0 => model.add(BatchNorm1d::new(width)?),
            1 => model.add(LayerNorm::new(width)?),
            2 => model.add(RMSNorm::new(width)?),
            _ => model.add(GroupNorm::new(5, width)?),
        })
    };
    let mut model = normalised(Sequential::new().add(Linear::new(300, 70, rng)?), 70)?.add(ReLU);
    for _ in 0..2 {
        let inner = normalised(Sequential::new().add(Linear::new(70, 35, rng)?), 35)?.add(SiLU);
        let inner = inner.add(Dropout::new(0.1, rng)?).add(Linear::new(35, 70, rng)?);
        model = normalised(model.add(Residual::new(inner)), 70)?.add(GELU).add(PReLU::new(70)?);
    }
    let model = model.add(Linear::new(70, 10, rng)?);
    Ok(match end {
        0 => model,
        1 => model.add(Softmax::new(-1)),
        2 => model.add(LogSoftmax::new(-1)),
        _ => model.add(Tanh).add(Linear::new(10, 1, rng)?).add(Sigmoid),
    })
}

/// A layer packs its weight when it was called some times in inference: what is packed must be the present
/// weight.
#[test]
fn a_layer_that_serves_follows_every_change_of_its_weight() {
    let mut rng = Rng::seed(5);
    let layer: Linear = Linear::new(40, 23, &mut rng).unwrap();
    let tied = Linear::from_parameters(layer.weight(), None, WeightLayout::InOut).unwrap();
    let (x, back) = (input(&[1, 40], 1).cast().unwrap(), input(&[3, 23], 2).cast().unwrap());
    let weight = || layer.weight().value();
    let check = |what: &str| {
        for call in 0..7 {
            let (y, z) = no_grad(|| (layer.forward(&x).unwrap(), tied.forward(&back).unwrap()));
            let bias = layer.bias().unwrap().value();
            assert!(y.equals(&x.linear(&weight(), Some(&bias)).unwrap()), "call {call} after {what}");
            assert!(z.equals(&back.matmul(&weight()).unwrap()), "tied, call {call} after {what}");
        }
    };
    check("the start");
    layer.weight().set(&weight().neg().unwrap()).unwrap();
    check("`set`");
    let mut optimizer = SGD::new(layer.parameters(), 0.1);
    for _ in 0..3 {
        layer.forward(&x).unwrap().sum().unwrap().backward().unwrap();
        optimizer.step().unwrap();
        check("a step");
        // Without a recorded pass in between.
        optimizer.step().unwrap();
        check("a second step on the same gradient");
        layer
            .weight()
            .update(|values, _| {
                values.reverse();
                Ok(())
            })
            .unwrap();
        check("`update`");
    }
    layer
        .load_state_dict(&layer.state_dict().into_iter().map(|(k, v)| (k, v.exp().unwrap())).collect())
        .unwrap();
    check("`load_state_dict`");
}

/// Threads that run a layer while another one changes its weight see the old or the new one.
#[test]
fn a_layer_that_serves_may_learn_meanwhile() {
    let layer: Linear = Linear::new(64, 17, &mut Rng::seed(5)).unwrap().without_bias();
    let x = Tensor::<f32>::ones([1, 64]).unwrap();
    let all = |value: f32| Tensor::full([17, 64], value).unwrap();
    layer.weight().set(&all(0.0)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0.0;
                for _ in 0..3000 {
                    let y = no_grad(|| layer.forward(&x).unwrap()).to_vec();
                    assert!(y.iter().all(|&x| x == y[0]) && y[0] >= last, "{y:?} after {last}");
                    last = y[0];
                }
            });
        }
        (1..300).for_each(|i| layer.weight().set(&all(i as f32)).unwrap());
    });
    let y = no_grad(|| layer.forward(&x).unwrap()).to_vec();
    assert_eq!(y, [299.0 * 64.0; 17]);
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_any_batch() {
    const ROWS: usize = 200;
    let mut rng = Rng::seed(7);
    let x = Tensor::<f32>::from_slice(&noise::<f32>(ROWS * 300, 3), [ROWS, 300]).unwrap();
    for (norm, end) in [(0, 0), (0, 1), (1, 2), (1, 3), (2, 1), (3, 2)] {
        let model = row_by_row(norm, end, &mut rng).unwrap();
        // Running statistics that are not those at the start.
        model.forward(&x).unwrap();
        model.eval();
        for isa in Isa::available() {
            for threads in [1, 3] {
                let bits = |start: usize, rows: usize| -> Vec<f32> {
                    let forward = || {
                        let part = x.slice(0, start..start + rows)?;
                        no_grad(|| model.forward(&part))
                    };
                    let y = Context::new().isa(isa).threads(threads).run(forward).unwrap().unwrap();
                    y.to_vec()
                };
                let all = bits(0, ROWS);
                let width = all.len() / ROWS;
                for start in [0, 1, 77, ROWS - 1] {
                    let row = &all[start * width..][..width];
                    for rows in [1, 2, 3, 5, 8, 13, 17, 32, 64, 100, 123] {
                        let some = bits(start, rows.min(ROWS - start));
                        assert!(some[..width] == *row, "row {start} of {rows} with {isa}: {norm}, {end}");
                    }
                }
            }
        }
    }
}
