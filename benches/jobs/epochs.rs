//! Trainings, part by part: a training must not become slower while it runs.
//!
//! Numbers that fade, such as moments whose gradients stay away, end below the normal range, where many CPUs
//! take a hundred cycles for an operation. A bench of the first steps never sees them.

use std::time::Instant;

use gristmill::data::{DataLoader, Mnist, Split};
use gristmill::kernels::update::{self, Decay, Progress, Rule, Step};
use gristmill::nn::{Module, Parameter, Sequential};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Result, Rng, Tensor};

use crate::dqn::{Dqn, perceptron};
use crate::mlp_resnet;

/// The last part may take so many times what the second took.
const MOST: f64 = 1.1;
/// Neighbours on the machine pass, drift comes back: what looks slow is run so often.
const ATTEMPTS: usize = 3;
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data");

#[derive(Clone, Copy, PartialEq)]
pub enum Size {
    /// A few steps.
    Test,
    Whole,
}

/// A training that can be asked for its next part.
pub struct Training {
    parts: usize,
    part: Box<dyn FnMut() -> Result<Part>>,
}

/// What happened in a part.
struct Part {
    seconds: f64,
    /// Of one step, the median.
    typical: f64,
    /// How many numbers are subnormal after it: parameters, gradients, the optimizer's state.
    subnormal: [usize; 3],
}

pub enum Verdict {
    Holds,
    Slows(String),
}

pub type Make = fn(Size) -> Result<Training>;

/// Trainings by their names.
pub const TRAININGS: &[(&str, Make)] = &[
    ("main job: mlp_resnet on MNIST, ten epochs", main_job),
    ("mlp 784-128-64-10 on MNIST, eight epochs", mlp),
    ("dqn 4-64-64-2, 20,000 steps", dqn),
    ("rule sgd, weights that decay away", |size| {
        rule(size, update::Sgd { weight_decay: 40.0, decay: Decay::Decoupled, ..Default::default() })
    }),
    ("rule sgd, momentum", |size| rule(size, MOMENTUM)),
    ("rule sgd, nesterov", |size| rule(size, update::Sgd { nesterov: true, ..MOMENTUM })),
    ("rule rmsprop", |size| rule(size, update::RmsProp::default())),
    ("rule rmsprop, centered with momentum", |size| {
        rule(size, update::RmsProp { centered: true, momentum: 0.9, ..Default::default() })
    }),
    ("rule adam", |size| rule(size, update::Adam::default())),
    ("rule adam, amsgrad", |size| rule(size, update::Adam { amsgrad: true, ..Default::default() })),
    ("rule adamw", |size| {
        rule(size, update::Adam { weight_decay: 0.01, decay: Decay::Decoupled, ..Default::default() })
    }),
    ("rule adamw, weights that decay away", |size| {
        rule(size, update::Adam { weight_decay: 40.0, decay: Decay::Decoupled, ..Default::default() })
    }),
    ("rule adagrad", |size| rule(size, update::Adagrad::default())),
    ("rule lion", |size| rule(size, update::Lion::default())),
    ("rule nadam", |size| rule(size, update::NAdam::default())),
    ("rule radam", |size| rule(size, update::RAdam::default())),
];

/// Runs a training, once more where it looks slow, and prints what its parts took.
///
/// # Errors
/// Those of the training.
pub fn judge(name: &str, make: Make, size: Size) -> Result<Verdict> {
    println!("{name}");
    for attempt in 1..=ATTEMPTS {
        let mut training = make(size)?;
        let parts: Vec<Part> = (0..training.parts).map(|_| (training.part)()).collect::<Result<_>>()?;
        let [.., last] = parts.as_slice() else { return Ok(Verdict::Holds) };
        let drift = last.typical / parts[1.min(parts.len() - 1)].typical;
        let column = |of: &dyn Fn(&Part) -> String| parts.iter().map(of).collect::<Vec<_>>().join(" ");
        println!("  ms of each part    {}", column(&|part| format!("{:7.1}", part.seconds * 1e3)));
        println!("  µs of a step       {}", column(&|part| format!("{:7.1}", part.typical * 1e6)));
        let [parameters, gradients, state] = last.subnormal;
        println!("  last / second      {drift:7.3}");
        println!("  subnormal at last  {parameters} parameters, {gradients} gradients, {state} of the state");
        if parameters + state > 0 {
            return Ok(Verdict::Slows(format!(
                "{parameters} parameters and {state} of the state are subnormal"
            )));
        }
        if drift <= MOST || size == Size::Test {
            break;
        }
        if attempt == ATTEMPTS {
            return Ok(Verdict::Slows(format!("the last part took {drift:.2} × the second")));
        }
        println!("  once more, in case it was a neighbour");
    }
    Ok(Verdict::Holds)
}

/// Runs the steps and looks at the clock after each. What is subnormal is counted by the caller.
fn timed(steps: impl Iterator<Item = Result<()>>) -> Result<Part> {
    let mut laps = Vec::new();
    let start = Instant::now();
    let mut last = start;
    for step in steps {
        step?;
        let now = Instant::now();
        laps.push((now - last).as_secs_f64());
        last = now;
    }
    laps.sort_by(f64::total_cmp);
    Ok(Part {
        seconds: (last - start).as_secs_f64(),
        typical: laps.get(laps.len() / 2).copied().unwrap_or(0.0),
        subnormal: [0; 3],
    })
}

fn count_subnormal(numbers: &[f32]) -> usize {
    numbers.iter().filter(|x| x.is_subnormal()).count()
}

/// Subnormal parameters, gradients, and numbers of the optimizer's state.
fn subnormal(parameters: &[Parameter], optimizer: &dyn Optimizer) -> [usize; 3] {
    let count = |tensor: Tensor| count_subnormal(&tensor.to_vec());
    [
        parameters.iter().map(|parameter| count(parameter.value())).sum(),
        parameters.iter().filter_map(Parameter::grad).map(count).sum(),
        optimizer.state_dict().tensors().values().map(|tensor| count(tensor.clone())).sum(),
    ]
}

fn main_job(size: Size) -> Result<Training> {
    let model = mlp_resnet::network(100)?;
    let optimizer = Adam::new(model.parameters()).lr(1e-3).weight_decay(1e-3);
    on_mnist(size, 10, model, optimizer)
}

fn mlp(size: Size) -> Result<Training> {
    let model = perceptron(&[784, 128, 64, 10], &mut Rng::seed(4))?;
    let optimizer = Adam::new(model.parameters()).lr(1e-3);
    on_mnist(size, 8, model, optimizer)
}

fn on_mnist(size: Size, epochs: usize, model: Sequential, mut optimizer: Adam) -> Result<Training> {
    let (parts, steps) = if size == Size::Test { (2, 3) } else { (epochs, usize::MAX) };
    let loader = DataLoader::new(Mnist::load(DATA, Split::Train)?).batch_size(100).shuffle(Rng::seed(5));
    let parameters = model.parameters();
    let part = move || {
        model.train();
        let steps = loader.iter().take(steps).map(|batch| {
            let (images, labels) = batch?;
            optimizer.zero_grad();
            let images = images.reshape([labels.len(), 784])?;
            let loss = model.forward(&images)?.cross_entropy(&labels)?;
            loss.backward()?;
            optimizer.step()?;
            // A training that prints its loss waits for it.
            loss.item().map(drop)
        });
        timed(steps).map(|part| Part { subnormal: subnormal(&parameters, &optimizer), ..part })
    };
    Ok(Training { parts, part: Box::new(part) })
}

fn dqn(size: Size) -> Result<Training> {
    let (parts, steps) = if size == Size::Test { (2, 25) } else { (20, 1000) };
    let mut dqn = Dqn::new(64)?;
    let part = move || {
        let part = timed((0..steps).map(|_| dqn.step().map(drop)))?;
        Ok(Part { subnormal: subnormal(&dqn.online.parameters(), &dqn.optimizer), ..part })
    };
    Ok(Training { parts, part: Box::new(part) })
}

/// Momentum as most use it.
const MOMENTUM: update::Sgd = update::Sgd {
    lr: 1e-3,
    momentum: 0.9,
    dampening: 0.0,
    dampen_first: false,
    nesterov: false,
    weight_decay: 0.0,
    decay: Decay::L2,
};

/// Steps of one rule over parameters whose gradients stay away after the first hundred; in a short round at
/// once, from a state that is about to fade.
fn rule(size: Size, rule: impl Into<Rule>) -> Result<Training> {
    let rule = rule.into();
    let (parts, steps, len) = if size == Size::Test { (2, 5, 1000) } else { (10, 500, 1 << 16) };
    let mut rng = Rng::seed(4);
    let (mut grad, mut param) = (vec![0.0; len], vec![0.0; len]);
    rng.fill_normal(0.0, 1e-3, &mut grad)?;
    rng.fill_normal(0.0, 1.0, &mut param)?;
    let (begin, away) = if size == Size::Test { (f32::MIN_POSITIVE, 2) } else { (0.0, 100) };
    let mut parts_of_state = [0, 1, 2].map(|part| vec![begin; if rule.uses(part) { len } else { 0 }]);
    let (mut count, mut at) = (0, Progress::from(1));
    let part = move || {
        let [a, b, c] = &mut parts_of_state;
        let steps = (0..steps).map(|_| {
            count += 1;
            if count == away {
                grad.fill(0.0);
            }
            let step = match rule.state().len() {
                1 => Step::new(rule, at, &grad, &mut param, [a])?,
                2 => Step::new(rule, at, &grad, &mut param, [a, b])?,
                _ => Step::new(rule, at, &grad, &mut param, [a, b, c])?,
            };
            update::run(&mut [step])?;
            at = Progress { carried: rule.carry(at)?, step: at.step + 1 };
            Ok(())
        });
        let part = timed(steps)?;
        let state = [&*a, &*b, &*c].into_iter().map(|part| count_subnormal(part)).sum();
        Ok(Part { subnormal: [count_subnormal(&param), count_subnormal(&grad), state], ..part })
    };
    Ok(Training { parts, part: Box::new(part) })
}
