//! A training that was interrupted goes on with the same bits.

use crate::common::noise;
use gristmill::data::{DataLoader, LabeledTensors};
use gristmill::kernels::update::Rule;
use gristmill::nn::*;
use gristmill::optim::{
    self, Adagrad, Adam, AdamW, Lion, NAdam, Optimizer, ParamGroup, PlateauMode, RAdam, RMSprop,
    ReduceLROnPlateau, SGD,
};
use gristmill::{Element, Error, Result, Rng, Tensor};

type Plain = fn(Vec<Parameter>) -> Box<dyn Optimizer>;
type Make = dyn Fn(Vec<Parameter>) -> Box<dyn Optimizer>;

fn model<T: Element>(rng: &mut Rng) -> Result<Sequential<T>> {
    Ok(Sequential::new()
        .add(Linear::new(6, 9, rng)?)
        .add(BatchNorm1d::new(9)?)
        .add(ReLU)
        .add(Dropout::new(0.3, rng)?)
        .add(Residual::new(Sequential::new().add(Linear::new(9, 9, rng)?).add(Dropout::new(0.2, rng)?)))
        .add(Linear::new(9, 3, rng)?))
}

fn points() -> LabeledTensors {
    let x = Tensor::from_slice(&noise::<f32>(44 * 6, 7), [44, 6]).unwrap();
    LabeledTensors::new(&x, (0..44).map(|i| i % 3).collect(), 3).unwrap()
}

/// A training that knows where it stands: `step` of an epoch of 6 batches.
struct Training {
    model: Sequential,
    optimizer: Box<dyn Optimizer>,
    step: usize,
}

const BATCHES: usize = 6;

impl Training {
    fn new(seed: u64, make: &Make) -> Result<Self> {
        let model = model(&mut Rng::seed(seed))?;
        let optimizer = make(model.parameters());
        Ok(Self { model, optimizer, step: 0 })
    }

    fn run(&mut self, steps: usize) -> Result<()> {
        let end = self.step + steps;
        while self.step < end {
            let (epoch, done) = (self.step / BATCHES, self.step % BATCHES);
            let loader =
                DataLoader::new(points()).batch_size(8).shuffle(Rng::seed(3)).next_epoch(epoch as u64);
            assert_eq!(loader.len(), BATCHES);
            for batch in loader.iter().skip(done).take(end - self.step) {
                let (x, labels) = batch?;
                self.optimizer.zero_grad();
                self.model.forward(&x)?.cross_entropy(&labels)?.backward()?;
                self.optimizer.step()?;
                self.step += 1;
            }
        }
        Ok(())
    }

    fn save(&self, path: &std::path::Path) -> Result<()> {
        let mut place = StateDict::new();
        place.set("step", self.step);
        Checkpoint::new(&self.model)?
            .with("optimizer", self.optimizer.state_dict())?
            .with("place", place)?
            .save(path)
    }

    fn load(&mut self, path: &std::path::Path) -> Result<()> {
        let checkpoint = Checkpoint::load(path)?;
        checkpoint.restore(&self.model)?;
        self.optimizer.load_state_dict(checkpoint.section("optimizer")?)?;
        self.step = checkpoint.section("place")?.get("step")?;
        Ok(())
    }

    fn bits(&self) -> Vec<u32> {
        self.model.state_dict().values().flat_map(Tensor::to_vec).map(f32::to_bits).collect()
    }
}

fn with_options() -> Vec<(&'static str, Plain)> {
    vec![
        ("sgd", |p| Box::new(SGD::new(p, 0.05))),
        ("momentum", |p| Box::new(SGD::new(p, 0.05).momentum(0.9).dampening(0.3).weight_decay(0.1))),
        ("averaged", |p| Box::new(SGD::new(p, 0.05).averaged_momentum(0.9))),
        ("rmsprop", |p| Box::new(RMSprop::new(p).momentum(0.5).centered(true).lr(0.003))),
        ("adam", |p| Box::new(Adam::new(p).lr(0.01).weight_decay(0.01).clip_grad_norm(1.0))),
        ("amsgrad", |p| Box::new(Adam::new(p).lr(0.01).amsgrad(true).clip_grad_value(0.01))),
        ("adagrad", |p| Box::new(Adagrad::new(p).lr_decay(0.1).initial_accumulator_value(0.1))),
        ("nadam", |p| Box::new(NAdam::new(p).lr(0.01).momentum_decay(0.1).weight_decay(0.01))),
        ("radam", |p| Box::new(RAdam::new(p).lr(0.01))),
        ("lion", |p| Box::new(Lion::new(p).lr(0.001).weight_decay(0.1))),
        ("adamw", |p| {
            let last = vec![p[p.len() - 1].clone()];
            let group = ParamGroup { lr_scale: 0.1, weight_decay: Some(0.0) };
            Box::new(AdamW::new(p).lr(0.01).group(last, group))
        }),
    ]
}

/// Those, and every rule with its defaults.
fn optimizers() -> Vec<(String, Box<Make>)> {
    let rules = Rule::all().into_iter().map(|rule| {
        let make: Box<Make> = Box::new(move |parameters| optim::of_rule(rule, parameters));
        (format!("{} by default", rule.name()), make)
    });
    rules.chain(with_options().into_iter().map(|(name, make)| (name.into(), Box::new(make) as _))).collect()
}

#[test]
fn twenty_steps_are_ten_and_ten_more_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.safetensors");
    for (name, make) in optimizers() {
        let mut whole = Training::new(1, &make).unwrap();
        whole.run(10).unwrap();
        whole.save(&path).unwrap();
        whole.run(10).unwrap();

        // Another start, whose settings the state replaces.
        let mut resumed = Training::new(2, &make).unwrap();
        resumed.optimizer.set_lr(123.0);
        resumed.load(&path).unwrap();
        assert_eq!(resumed.step, 10);
        resumed.run(10).unwrap();
        assert!(whole.bits() == resumed.bits(), "{name}");

        // Without the optimizer's state, or without the generators, it is another training.
        let mut forgetful = Training::new(2, &make).unwrap();
        forgetful.model.load(&path).unwrap();
        forgetful.step = 10;
        forgetful.run(10).unwrap();
        assert!(whole.bits() != forgetful.bits(), "{name}");
    }
}

#[test]
fn a_checkpoint_file_has_the_same_bytes_every_time_and_its_model_can_be_read_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (path, again) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
    let (_, make) = with_options().pop().unwrap();
    let mut training = Training::new(1, &make).unwrap();
    training.run(2).unwrap();
    training.save(&path).unwrap();
    training.save(&again).unwrap();
    assert!(std::fs::read(&path).unwrap() == std::fs::read(&again).unwrap());
    let alone = model::<f32>(&mut Rng::seed(9)).unwrap();
    alone.load(&path).unwrap();
    let same = |a: &Sequential, b: &Sequential| {
        let (a, b) = (a.state_dict(), b.state_dict());
        assert!(a.iter().all(|(name, value)| value.equals(&b[name])));
    };
    same(&alone, &training.model);

    // A file with a model alone has no generators to go on with, and no optimizer.
    training.model.save(&path).unwrap();
    let checkpoint = Checkpoint::load(&path).unwrap();
    let text = |result: Result<()>| result.unwrap_err().to_string();
    let in_file = |what: &str| format!("{}: {what}", path.display());
    let expected = in_file("does not fit the model: Checkpoint: the generator 3.rng is missing");
    assert_eq!(text(checkpoint.restore(&alone)), expected);
    let expected = in_file("has no section optimizer");
    assert_eq!(text(checkpoint.section("optimizer").map(drop)), expected);
    let fresh = Checkpoint::new(&alone).unwrap();
    assert_eq!(text(fresh.section("optimizer").map(drop)), "Checkpoint: there is no section optimizer");
    let plain: Sequential = Sequential::new().add(Linear::new(2, 2, &mut Rng::seed(1)).unwrap());
    plain.save(&path).unwrap();
    Checkpoint::load(&path).unwrap().restore(&plain).unwrap();
}

#[test]
fn a_broken_checkpoint_is_an_error_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.safetensors");
    let (_, make) = with_options().remove(4);
    let mut training = Training::new(1, &make).unwrap();
    training.run(3).unwrap();
    training.save(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut other = Training::new(2, &make).unwrap();
    other.run(1).unwrap();
    let before = other.bits();
    for len in (0..whole.len()).step_by(97) {
        std::fs::write(&path, &whole[..len]).unwrap();
        assert!(matches!(other.load(&path), Err(Error::File { .. })), "{len}");
    }
    // A model of another shape refuses; its generators stay where they were.
    std::fs::write(&path, &whole).unwrap();
    let mut rng = Rng::seed(1);
    let wider: Sequential = Sequential::new()
        .add(Linear::new(6, 9, &mut rng).unwrap())
        .add(BatchNorm1d::new(9).unwrap())
        .add(ReLU)
        .add(Dropout::new(0.3, &mut rng).unwrap());
    let generators = wider.rng_state();
    assert!(Checkpoint::load(&path).unwrap().restore(&wider).is_err());
    assert_eq!(wider.rng_state(), generators);
    assert_eq!(before, other.bits());
}

#[test]
fn what_is_no_name_is_refused() {
    let model = model::<f32>(&mut Rng::seed(1)).unwrap();
    let with = |section: &str, name: &str, value: &str| {
        let mut state = StateDict::new();
        state.set(name, value);
        Checkpoint::new(&model).unwrap().with(section, state).map(drop)
    };
    with("place", "epoch", "3").unwrap();
    with("place", "a text", "x = 3").unwrap();
    for (section, name, value) in
        [("", "a", "1"), ("a.b", "a", "1"), ("generators", "a", "1"), ("p", "a=b", "1"), ("p", "a", "1\n2")]
    {
        assert!(with(section, name, value).is_err(), "{section} {name} {value}");
    }
}

fn with_gradient(values: &[f64]) -> Parameter<f64> {
    let parameter = Parameter::new(&Tensor::from_slice(values, [values.len()]).unwrap());
    parameter.tensor().square().unwrap().sum().unwrap().backward().unwrap();
    parameter
}

#[test]
fn a_state_that_does_not_fit_is_named_and_changes_nothing() {
    let parameters = || vec![with_gradient(&[1.0, 2.0]), with_gradient(&[3.0])];
    let mut adam = Adam::new(parameters()).lr(0.5);
    adam.step().unwrap();
    let state = adam.state_dict();
    assert_eq!(state.get::<u64>("0.step").unwrap(), 1);
    assert_eq!(state.get::<f64>("lr").unwrap(), 0.5);
    let names: Vec<_> = state.tensors().keys().map(String::as_str).collect();
    assert_eq!(names, ["0.exp_avg", "0.exp_avg_sq", "1.exp_avg", "1.exp_avg_sq"]);

    let text = |optimizer: &mut dyn Optimizer<f64>, state: &StateDict<f64>| {
        let before = optimizer.state_dict();
        let error = optimizer.load_state_dict(state).unwrap_err().to_string();
        let after = optimizer.state_dict();
        assert_eq!(before.values(), after.values());
        for (name, tensor) in before.tensors() {
            assert!(tensor.equals(&after.tensors()[name]));
        }
        error
    };
    let mut sgd = SGD::new(parameters(), 0.1);
    assert_eq!(text(&mut sgd, &state), "load_state_dict: the state is one of Adam, expected SGD");
    assert_eq!(text(&mut sgd, &StateDict::new()), "StateDict: optimizer is missing");
    let mut fewer = Adam::new(vec![with_gradient(&[1.0, 2.0])]);
    assert_eq!(text(&mut fewer, &state), "load_state_dict: the state is one of 2 parameters, expected 1");
    let mut turned = Adam::new(parameters().into_iter().rev().collect());
    assert_eq!(text(&mut turned, &state), "StateDict: 0.exp_avg has shape [2], expected [1]");
    let mut same = Adam::new(parameters());
    let with = |name: &str, value: &str| {
        let mut state = state.clone();
        state.set(name, value);
        state
    };
    assert_eq!(text(&mut same, &with("lr", "-1")), "adam: lr is -1, expected a finite number ≥ 0");
    assert_eq!(text(&mut same, &with("eps", "little")), "StateDict: eps is little, expected a value of f64");
    assert_eq!(
        text(&mut same, &with("decay", "none")),
        "load_state_dict: decay is none, expected L2 or decoupled"
    );
    assert_eq!(text(&mut same, &with("amsgrad", "true")), "StateDict: 0.max_exp_avg_sq is missing");
    assert_eq!(text(&mut same, &with("1.step", "-2")), "StateDict: 1.step is -2, expected a value of u64");
    same.load_state_dict(&state).unwrap();
    assert_eq!(same.learning_rate(), 0.5);
}

#[test]
fn settings_read_back_to_the_same_bits() {
    let lr = 0.1 + 0.2;
    let state = Adam::new(vec![with_gradient(&[1.0])]).lr(lr).eps(f64::MIN_POSITIVE / 3.0).state_dict();
    let mut other = Adam::new(vec![with_gradient(&[1.0])]);
    other.load_state_dict(&state).unwrap();
    assert_eq!(other.learning_rate().to_bits(), lr.to_bits());
    assert_eq!(other.state_dict().values(), state.values());
}

#[test]
fn a_plateau_remembers_what_it_counted() {
    let metrics = [0.5, 0.6, 0.6, 0.4, 0.4, 0.4, 0.4, 0.7];
    let run = |split: usize| {
        let mut optimizer = SGD::new(vec![with_gradient(&[1.0])], 1.0);
        let make = || ReduceLROnPlateau::new().mode(PlateauMode::Max).patience(1).cooldown(1);
        let mut plateau = make();
        for (i, metric) in metrics.into_iter().enumerate() {
            if i == split {
                let state = plateau.state_dict::<f32>();
                plateau = make();
                plateau.load_state_dict(&state).unwrap();
            }
            plateau.step(&mut optimizer, metric).unwrap();
        }
        optimizer.learning_rate()
    };
    let expected = run(usize::MAX);
    assert!(expected < 1.0);
    for split in 0..metrics.len() {
        assert_eq!(run(split), expected);
    }
    let mut plateau = ReduceLROnPlateau::new();
    assert!(plateau.load_state_dict(&StateDict::<f32>::new()).is_err());
}

#[test]
fn counts_that_a_state_brought_stay_at_the_end_of_their_range() {
    for (name, make) in optimizers() {
        let mut training = Training::new(1, &make).unwrap();
        training.run(1).unwrap();
        let mut state = training.optimizer.state_dict();
        let steps: Vec<String> =
            state.values().keys().filter(|name| name.ends_with(".step")).cloned().collect();
        steps.iter().for_each(|step| state.set(step, u64::MAX));
        training.optimizer.load_state_dict(&state).unwrap();
        training.run(1).unwrap_or_else(|error| panic!("{name}: {error}"));
        let after = training.optimizer.state_dict();
        assert!(steps.iter().all(|step| after.get::<u64>(step).unwrap() == u64::MAX), "{name}");
    }
    let mut state = StateDict::<f64>::new();
    state.set("best", 1.0);
    state.set("num_bad_epochs", u64::MAX);
    state.set("cooldown_counter", 0);
    let mut plateau = ReduceLROnPlateau::new().patience(u64::MAX);
    plateau.load_state_dict(&state).unwrap();
    plateau.step(&mut SGD::new(vec![with_gradient(&[1.0])], 1.0), 2.0).unwrap();
}

#[test]
fn values_come_back_whatever_they_end_in() {
    let model = Sequential::<f32>::new().add(Linear::new(1, 1, &mut Rng::seed(1)).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.safetensors");
    let values = ["", "\r", "a\r", "a\r\r", " a ", "=", "\u{85}\u{2028}"];
    let mut place = StateDict::new();
    values.iter().enumerate().for_each(|(i, value)| place.set(i.to_string(), value));
    Checkpoint::new(&model).unwrap().with("place", place).unwrap().save(&path).unwrap();
    let checkpoint = Checkpoint::<f32>::load(&path).unwrap();
    let place = checkpoint.section("place").unwrap();
    values.iter().enumerate().for_each(|(i, value)| assert_eq!(place.values()[&i.to_string()], *value));
}
