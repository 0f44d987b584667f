//! Optimizers beside their closed forms: y = p·x² for five random x, a step after each; then PyTorch's stored
//! runs.
//!
//! ```text
//! cargo run --release --example optimizers
//! ```

use std::error::Error;

use gristmill::nn::Parameter;
use gristmill::optim::{Adam, Optimizer, RMSprop, SGD};
use gristmill::{Result, Rng, Tensor};

/// Where p starts.
const START: f64 = 1.2;

/// An optimizer, and by how much a parameter falls in a step, from all its gradients so far.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    /// Its case in optimizers.json, beside this file.
    pub(crate) case: &'static str,
    pub(crate) weight_decay: f64,
    make: fn(Vec<Parameter<f64>>) -> Box<dyn Optimizer<f64>>,
    fall: fn(&[f64]) -> f64,
}

/// The sum of the values, each faded by `keep` for each step since: what a running average unrolls to.
fn faded(keep: f64, values: impl DoubleEndedIterator<Item = f64>) -> f64 {
    values.rev().enumerate().map(|(age, value)| keep.powi(age as i32) * value).sum()
}

fn squares(grads: &[f64]) -> impl DoubleEndedIterator<Item = f64> {
    grads.iter().map(|g| g * g)
}

pub(crate) const RULES: [Rule; 5] = [
    Rule {
        name: "SGD(lr 0.1)",
        case: "sgd",
        weight_decay: 0.0,
        make: |p| Box::new(SGD::new(p, 0.1)),
        fall: |g| 0.1 * g[g.len() - 1],
    },
    Rule {
        name: "SGD(lr 0.1, momentum 0.9)",
        case: "sgd_momentum",
        weight_decay: 0.0,
        make: |p| Box::new(SGD::new(p, 0.1).momentum(0.9)),
        fall: |g| 0.1 * faded(0.9, g.iter().copied()),
    },
    Rule {
        name: "RMSprop(lr 0.1, alpha 0.9)",
        case: "rmsprop",
        weight_decay: 0.0,
        make: |p| Box::new(RMSprop::new(p).lr(0.1).alpha(0.9)),
        fall: |g| 0.1 * g[g.len() - 1] / ((0.1 * faded(0.9, squares(g))).sqrt() + 1e-8),
    },
    Rule {
        name: "Adam(lr 0.1, betas 0.9 0.99, eps 0.001)",
        case: "adam",
        weight_decay: 0.0,
        make: |p| Box::new(Adam::new(p).lr(0.1).betas(0.9, 0.99).eps(0.001)),
        fall: |g| {
            let steps = g.len() as i32;
            let first = 0.1 * faded(0.9, g.iter().copied()) / (1.0 - 0.9_f64.powi(steps));
            let second = 0.01 * faded(0.99, squares(g)) / (1.0 - 0.99_f64.powi(steps));
            0.1 * first / (second.sqrt() + 0.001)
        },
    },
    Rule {
        name: "SGD(lr 0.01, weight_decay 0.9)",
        case: "sgd_weight_decay",
        weight_decay: 0.9,
        make: |p| Box::new(SGD::new(p, 0.01).weight_decay(0.9)),
        fall: |g| 0.01 * g[g.len() - 1],
    },
];

/// A parameter that an optimizer steps, and the same parameter by its closed form.
struct Twin<'a> {
    rule: &'a Rule,
    parameter: Parameter<f64>,
    optimizer: Box<dyn Optimizer<f64>>,
    closed: Vec<f64>,
    /// The gradients so far, with decay, of each element of `closed`.
    history: Vec<Vec<f64>>,
}

impl<'a> Twin<'a> {
    fn new(rule: &'a Rule, start: &[f64]) -> Result<Self> {
        let parameter = Parameter::new(&Tensor::from_slice(start, [start.len()])?);
        let optimizer = (rule.make)(vec![parameter.clone()]);
        Ok(Self {
            rule,
            parameter,
            optimizer,
            closed: start.to_vec(),
            history: vec![Vec::new(); start.len()],
        })
    }

    /// One step for y; `grad` is dy/dp on paper.
    fn step(&mut self, y: &Tensor<f64>, grad: &[f64]) -> Result<()> {
        self.optimizer.zero_grad();
        y.backward()?;
        self.optimizer.step()?;
        for ((p, history), g) in self.closed.iter_mut().zip(&mut self.history).zip(grad) {
            history.push(g + self.rule.weight_decay * *p);
            *p -= (self.rule.fall)(history);
        }
        Ok(())
    }
}

/// One x: the derivatives there, and p after the step.
pub(crate) struct Row {
    pub(crate) x: f64,
    pub(crate) dy_dx: f64,
    pub(crate) dy_dx_closed: f64,
    pub(crate) dy_dp: f64,
    pub(crate) p: f64,
    pub(crate) p_closed: f64,
}

/// y = p·x² for five random x.
pub(crate) fn parabola(rule: &Rule) -> Result<Vec<Row>> {
    let mut rng = Rng::numpy(123);
    let mut twin = Twin::new(rule, &[START])?;
    (0..5)
        .map(|_| {
            let number = rng.standard_normal();
            let x = Tensor::scalar(number).requires_grad();
            let y = twin.parameter.tensor().mul(&x.square()?)?;
            let dy_dx_closed = 2.0 * twin.closed[0] * number;
            twin.step(&y, &[number * number])?;
            let derivative = |grad: Option<Tensor<f64>>| grad.map_or(Ok(f64::NAN), |grad| grad.item());
            Ok(Row {
                x: number,
                dy_dx: derivative(x.grad())?,
                dy_dx_closed,
                dy_dp: derivative(twin.parameter.grad())?,
                p: twin.parameter.value().item()?,
                p_closed: twin.closed[0],
            })
        })
        .collect()
}

/// Parameters after a step: ours, by the closed form, PyTorch's.
pub(crate) type Step = [Vec<f64>; 3];

/// PyTorch's steps with its gradients, and ours.
pub(crate) fn stored(rule: &Rule) -> Result<Vec<Step>, Box<dyn Error>> {
    let file: serde_json::Value = serde_json::from_str(include_str!("optimizers.json"))?;
    let case = file["cases"].as_array().and_then(|cases| cases.iter().find(|case| case["name"] == rule.case));
    let case = case.ok_or_else(|| format!("optimizers.json: no case {}", rule.case))?;
    let numbers = |tensor: &serde_json::Value| -> Result<Vec<f64>, serde_json::Error> {
        serde_json::from_value(tensor["data"].clone())
    };
    let mut twin = Twin::new(rule, &numbers(&case["initial"])?)?;
    let (grads, expected) = (case["grads"].as_array(), case["params_after_each_step"].as_array());
    let steps = grads.into_iter().flatten().zip(expected.into_iter().flatten());
    steps
        .map(|(grad, expected)| {
            let grad = numbers(grad)?;
            // The gradient of p·g is g.
            let y = twin.parameter.tensor().mul(&Tensor::from_slice(&grad, [grad.len()])?)?.sum()?;
            twin.step(&y, &grad)?;
            Ok([twin.parameter.value().to_vec(), twin.closed.clone(), numbers(expected)?])
        })
        .collect()
}

/// The largest distance of our numbers from the others.
pub(crate) fn largest_difference(steps: &[Step]) -> f64 {
    let differences = steps.iter().flat_map(|[ours, closed, pytorch]| {
        ours.iter().zip(closed.iter().zip(pytorch)).map(|(a, (b, c))| (a - b).abs().max((a - c).abs()))
    });
    differences.fold(0.0, f64::max)
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("y = p·x², p = {START} at first, a step after each x\n");
    for rule in &RULES {
        println!("{}", rule.name);
        println!("          x        dy/dx        2·p·x        dy/dp      p after  closed form");
        for row in parabola(rule)? {
            println!(
                "{:>11.8} {:>12.8} {:>12.8} {:>12.8} {:>12.8} {:>12.8}",
                row.x, row.dy_dx, row.dy_dx_closed, row.dy_dp, row.p, row.p_closed
            );
        }
        if rule.weight_decay > 0.0 {
            println!("dy/dp stays x²: the decay enters in the step, where p loses lr·(x² + λ·p)");
        }
        println!();
    }

    println!(
        "PyTorch's runs, 12 steps of 7 parameters with gradients of its own: the first parameter in the end,"
    );
    println!("and the largest difference in all of the 84 numbers\n");
    println!("{:<40}         ours  closed form      PyTorch  difference", "");
    for rule in &RULES {
        let steps = stored(rule)?;
        let [ours, closed, pytorch] = steps.last().ok_or("no steps")?;
        let difference = largest_difference(&steps);
        println!(
            "{:<40} {:>12.8} {:>12.8} {:>12.8} {difference:>11.1e}",
            rule.name, ours[0], closed[0], pytorch[0]
        );
    }
    Ok(())
}
