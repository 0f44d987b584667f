//! Optimizer steps.

use gristmill::kernels::update::{self, Decay, Kind, Progress, RmsProp, Rule, Setting, Step};
use gristmill::{Element, Result, reference};

use super::{Case, Draw, Kernel, Near, entries, unit};

pub const KERNELS: &[Kernel] = entries!["update::run" => any; 12];

/// A rule with its hyperparameters, and what a test asks of it.
#[derive(Clone, Copy, Debug)]
pub struct Config(pub Rule);

impl<R: Into<Rule>> From<R> for Config {
    fn from(rule: R) -> Self {
        Self(rule.into())
    }
}

impl Config {
    /// A step, with what the ones before it carry on.
    pub fn progress(&self, step: u64) -> Progress {
        let mut at = Progress::from(1);
        for next in 2..=step {
            at = Progress { carried: self.0.carry(at).unwrap(), step: next };
        }
        Progress { step, ..at }
    }

    /// The kernel's step. Parts that the rule does not have are left alone.
    pub fn step<T: Element>(&self, step: u64, grad: &[T], parts: [&mut [T]; 4]) -> Result<()> {
        update::run(&mut [self.as_step(step, grad, parts)?])
    }

    /// The same for a run.
    pub fn as_step<'a, T: Element>(
        &self,
        step: u64,
        grad: &'a [T],
        [param, a, b, c]: [&'a mut [T]; 4],
    ) -> Result<Step<'a, T>> {
        let at = self.progress(step);
        match self.0.state().len() {
            1 => Step::new(self.0, at, grad, param, [a]),
            2 => Step::new(self.0, at, grad, param, [a, b]),
            _ => Step::new(self.0, at, grad, param, [a, b, c]),
        }
    }

    /// The reference's step of one element: the parameter and the parts of its state.
    fn exact(&self, at: Progress, g: f64, [p, state @ ..]: [f64; 4]) -> [f64; 4] {
        self.0.exact(at, g, p, state)
    }

    /// λ, and whether it is a penalty.
    fn decay(mut self) -> (f64, bool) {
        (*self.0.lr_and_decay().1, self.0.decay() == Decay::L2)
    }

    /// With another learning rate and λ.
    fn with(mut self, new_lr: f64, new_decay: f64) -> Self {
        let (lr, weight_decay) = self.0.lr_and_decay();
        (*lr, *weight_decay) = (new_lr, new_decay);
        self
    }

    fn lr(mut self) -> f64 {
        *self.0.lr_and_decay().0
    }

    /// What a direction is divided by at least; 1 where it is not divided.
    fn eps(mut self) -> f64 {
        let eps = self.0.settings().into_iter().find(|(name, _)| *name == "eps");
        if let Some((_, Setting::Number(eps))) = eps { *eps } else { 1.0 }
    }

    /// Whether rounding may turn the direction: Lion's is a sign.
    fn turns(&self, g: f64, old: [f64; 4], u: f64, least: f64) -> bool {
        let Rule::Lion(x) = self.0 else { return false };
        let (weight_decay, coupled) = self.decay();
        let penalty = if coupled && weight_decay != 0.0 { weight_decay * old[0] } else { 0.0 };
        let rounding = 8.0 * u * (old[1].abs() + g.abs() + penalty.abs()) + 4.0 * least;
        rounding.is_finite() && (x.beta1 * old[1] + (1.0 - x.beta1) * (g + penalty)).abs() <= rounding
    }

    /// How far the direction of centered RMSprop may be off because its root is of a difference.
    fn cancels(&self, g: f64, old: [f64; 4], new: [f64; 4], size: f64, u: f64) -> f64 {
        let Rule::RmsProp(x @ RmsProp { centered: true, .. }) = self.0 else { return 0.0 };
        let (weight_decay, coupled) = self.decay();
        let g = if coupled && weight_decay != 0.0 { g + weight_decay * old[0] } else { g };
        let variance = new[1] - new[2] * new[2];
        let rounding = 8.0 * u * (old[1] + size * size)
            + 16.0 * u * new[2].abs() * (old[2].abs() + size)
            + 2.0 * u * (new[1] + new[2] * new[2]);
        let root = |variance: f64| variance.max(0.0).sqrt() + x.eps;
        g.abs() * (1.0 / root(variance - rounding) - 1.0 / root(variance + rounding))
    }

    /// What a step gives, and the documented bounds.
    fn expected<T: Element>(
        &self,
        step: u64,
        grad: impl Fn(usize) -> f64,
        old: [&[f64]; 4],
    ) -> [Vec<Near>; 4] {
        let (u, at) = (unit::<T>() + unit::<f64>(), self.progress(step));
        let (weight_decay, coupled) = self.decay();
        // A few terms count as 0 where they are subnormal, before a direction is divided by eps at least.
        let vanishing = 4.0 * least::<T>() * (1.0 + 4.0 / self.eps());
        let mut all: [Vec<Near>; 4] = Default::default();
        for i in 0..old[0].len() {
            let (g, before) = (grad(i), old.map(|part| part.get(i).copied().unwrap_or(0.0)));
            let new = reference::stored(least::<T>(), self.exact(at, g, before));
            let penalty = if coupled && weight_decay != 0.0 { weight_decay * before[0].abs() } else { 0.0 };
            let size = g.abs() + penalty;
            // What an error of 8·u·G in the gradient does to a part; of 12·u·G where two terms of it may
            // cancel.
            let units = if let Rule::NAdam(_) = self.0 { 12.0 } else { 8.0 };
            let moved = [-1.0, 1.0].map(|sign| self.exact(at, g + sign * units * u * size, before));
            let effect = |part: usize| match size.is_finite() && before[0].is_finite() {
                true => moved.iter().fold(0.0, |most: f64, moved| most.max((moved[part] - new[part]).abs())),
                false => 0.0,
            };
            let cancels = self.cancels(g, before, new, size, u);
            let shrink = if coupled { 1.0 } else { 1.0 - self.lr() * weight_decay };
            let added = match self.0 {
                // A direction and what the buffer keeps, each with its rounding, may cancel.
                Rule::RmsProp(x) if x.momentum != 0.0 => x.lr * (before[3].abs() + new[3].abs()),
                _ => (new[0] - before[0] * shrink).abs(),
            };
            let bound = |part: usize| match part.checked_sub(1).map(|part| self.0.state()[part].kind) {
                None => 4.0 * u * before[0].abs() + 16.0 * u * added + effect(0) + self.lr() * cancels,
                Some(Kind::Moment) => 8.0 * u * (before[part].abs() + size),
                Some(Kind::Square) => {
                    let old = if part == 3 { before[2].max(before[3]) } else { before[part] };
                    8.0 * u * (old + size * size)
                }
                Some(Kind::Direction) => {
                    16.0 * u * (before[part].abs() + new[part].abs()) + effect(part) + cancels
                }
            };
            let turns = self.turns(g, before, u, least::<T>());
            for part in (0..4).filter(|&part| i < old[part].len()) {
                let exact = new[part];
                all[part].push(match part {
                    0 if turns => Near { exact: 0.0, bound: f64::INFINITY },
                    _ => Near { exact, bound: if exact.is_finite() { bound(part) + vanishing } else { 0.0 } },
                });
            }
        }
        all
    }

    /// Of an optimizer after some steps: how many, the parameters, and the parts of the state; now and then
    /// of one whose gradients stayed away, with a state about the smallest normal number.
    fn draw_state<T: Element>(&self, draw: &mut Draw, len: usize) -> (u64, [Vec<T>; 4]) {
        let step = draw.pick(&[2, 1, 8, 3]);
        let faded = draw.below(4) == 1;
        let param = draw.values(len, -1.0, 1.0);
        // The states of the first elements are those of all.
        let mut states = vec![[0.5, self.0.initial(), self.0.initial(), self.0.initial()]; len.min(251)];
        for step in 1..step {
            let at = self.progress(step);
            for state in &mut states {
                *state = self.exact(at, 2.0 * draw.unit() - 1.0, *state);
            }
        }
        if faded {
            for number in states.iter_mut().flatten() {
                *number = (least::<T>() * 2f64.powf(between(draw, -4.0, 4.0))).copysign(*number);
            }
        }
        let part = |part: usize| -> Vec<T> {
            let len = if self.0.uses(part) { len } else { 0 };
            (0..len).map(|i| T::from_f64(states[i % states.len()][part + 1])).collect()
        };
        (step, [param, part(0), part(1), part(2)])
    }
}

/// The smallest normal number.
fn least<T: Element>() -> f64 {
    if T::NAME == "f32" { f32::MIN_POSITIVE.into() } else { f64::MIN_POSITIVE }
}

fn between(draw: &mut Draw, low: f64, high: f64) -> f64 {
    low + (high - low) * draw.unit()
}

fn draw_decay(draw: &mut Draw) -> (f64, Decay) {
    let weight_decay = between(draw, 0.0, 0.5);
    draw.pick(&[(0.0, Decay::L2), (weight_decay, Decay::L2), (weight_decay, Decay::Decoupled)])
}

fn draw_momentum(draw: &mut Draw) -> f64 {
    let momentum = between(draw, 0.1, 0.9);
    draw.pick(&[0.0, momentum])
}

/// A rule with any hyperparameters that make sense.
fn draw_any(draw: &mut Draw) -> Config {
    let mut rule = draw.pick(&Rule::all());
    let (weight_decay, new_decay) = draw_decay(draw);
    for (name, setting) in rule.settings() {
        match (setting, name) {
            (Setting::Number(lambda), "weight_decay") => *lambda = weight_decay,
            (Setting::Number(number), _) => *number = draw_number(draw, name),
            (Setting::Flag(flag), _) => *flag = draw.flip(),
            (Setting::Decay(decay), _) => *decay = new_decay,
        }
    }
    if let Rule::Sgd(sgd) = &mut rule {
        sgd.nesterov &= sgd.momentum > 0.0;
        sgd.dampening = if sgd.nesterov { 0.0 } else { sgd.dampening };
    }
    Config(rule)
}

/// A hyperparameter of this name.
fn draw_number(draw: &mut Draw, name: &str) -> f64 {
    match name {
        "momentum" => draw_momentum(draw),
        "eps" => draw.pick(&[1e-8, 1e-5, 1e-2]),
        "beta1" | "dampening" => between(draw, 0.0, 0.95),
        "beta2" | "alpha" => between(draw, 0.5, 0.999),
        "momentum_decay" => between(draw, 0.0, 0.1),
        "initial_accumulator_value" => between(draw, 1e-4, 1.0),
        _ => between(draw, 0.0, 0.5),
    }
}

/// Of one parameter; some are all 0.
fn draw_grad<T: Element>(draw: &mut Draw, len: usize) -> Vec<T> {
    match draw.below(4) {
        1 => vec![T::ZERO; len],
        _ => draw.values(len, -1.0, 1.0),
    }
}

/// Four slices, the last ones empty if there are fewer.
fn four<T, const N: usize>(parts: [&mut [T]; N]) -> [&mut [T]; 4] {
    let mut parts = parts.into_iter();
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// A step of one optimizer, with its parameter and the N − 1 parts of its state as outputs.
fn one<T: Element, const N: usize>(draw: &mut Draw, config: Config) -> Case<T> {
    let len = draw.len();
    let (step, [param, state @ ..]) = config.draw_state::<T>(draw, len);
    let grad = draw_grad(draw, len);
    let mut case = Case::new(format!("{config:?} of {len}, step {step}"))
        .input_per_item("grad", 1, grad)
        .in_place_per_item("param", 1, param);
    for (part, values) in config.0.state().iter().zip(state) {
        case = case.in_place_per_item(part.name, usize::from(!values.is_empty()), values);
    }
    let case = case.run(move |[grad], [], parts: [&mut [T]; N]| config.step(step, grad, four(parts))).expect(
        move |[grad], [], old: [&[f64]; N]| {
            let old = std::array::from_fn(|part| old.get(part).copied().unwrap_or_default());
            let mut all = config.expected::<T>(step, |i| grad[i], old).into_iter();
            std::array::from_fn(|_| all.next().expect("no more than four parts"))
        },
    );
    let case = case.refuses("a step before the first", move |[grad], [], parts: [&mut [T]; N]| {
        config.step(0, grad, four(parts))
    });
    let wrong = [
        ("a learning rate that is no number", config.with(f64::NAN, 0.0)),
        ("an infinite learning rate", config.with(f64::INFINITY, 0.0)),
        ("a negative learning rate", config.with(-0.1, 0.0)),
        ("a negative decay", config.with(0.1, -0.1)),
        ("a decay that is no number", config.with(0.1, f64::NAN)),
    ];
    wrong.into_iter().fold(case, |case, (why, config)| {
        case.refuses(why, move |[grad], [], parts: [&mut [T]; N]| config.step(step, grad, four(parts)))
    })
}

/// One rule, or three in a run.
fn any<T: Element>(draw: &mut Draw) -> Case<T> {
    if draw.below(4) == 0 {
        return run(draw);
    }
    let config = draw_any(draw);
    match config.0.state().len() {
        1 => one::<T, 2>(draw, config),
        2 => one::<T, 3>(draw, config),
        _ => one::<T, 4>(draw, config),
    }
}

/// Three optimizers in one pass, each with a parameter of its own and a gradient that is scaled and clipped
/// first.
fn run<T: Element>(draw: &mut Draw) -> Case<T> {
    const NAMES: [[&str; 4]; 3] = [
        ["param of the first", "state 1 of the first", "state 2 of the first", "state 3 of the first"],
        ["param of the second", "state 1 of the second", "state 2 of the second", "state 3 of the second"],
        ["param of the third", "state 1 of the third", "state 2 of the third", "state 3 of the third"],
    ];
    let configs: [Config; 3] = std::array::from_fn(|_| draw_any(draw));
    let (scale, clip) = (draw.pick(&[1.0, 0.3, -2.0]), draw.pick(&[f64::INFINITY, 0.5]));
    let [scale, clip] = [scale, clip].map(T::from_f64);
    let (len, alike) = (draw.len() / 3, draw.flip());
    let lens = if alike { [len; 3] } else { [len, draw.below(5), 2 * len + 1] };
    let states: [(u64, [Vec<T>; 4]); 3] = std::array::from_fn(|i| configs[i].draw_state(draw, lens[i]));
    let steps = [0, 1, 2].map(|i| states[i].0);
    let mut case = Case::new(format!("{configs:?} of {lens:?}, steps {steps:?}, scale {scale}, clip {clip}"));
    for (name, len) in ["first grad", "second grad", "third grad"].into_iter().zip(lens) {
        let grad = draw_grad(draw, len);
        case = if alike { case.input_per_item(name, 1, grad) } else { case.input(name, grad) };
    }
    for (names, (_, parts)) in NAMES.into_iter().zip(states) {
        for (name, values) in names.into_iter().zip(parts) {
            case = match alike {
                true => case.in_place_per_item(name, usize::from(!values.is_empty()), values),
                false => case.in_place(name, values),
            };
        }
    }
    case.run(move |[a, b, c], [], [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3]| {
        let [one, two, three] = configs;
        let mut all = [
            one.as_step(steps[0], a, [a0, a1, a2, a3])?,
            two.as_step(steps[1], b, [b0, b1, b2, b3])?,
            three.as_step(steps[2], c, [c0, c1, c2, c3])?,
        ]
        .map(|step| step.grad_scale(scale).grad_clip(clip));
        update::run(&mut all)
    })
    .expect(move |grads: [&[f64]; 3], [], old: [&[f64]; 12]| {
        let mut all = (0..3).flat_map(|i| {
            let grad = |j: usize| {
                // As `T` has it; NaN stays.
                let scaled = T::from_f64(grads[i][j] * scale.to_f64()).to_f64();
                scaled.clamp(-clip.to_f64(), clip.to_f64())
            };
            configs[i].expected::<T>(steps[i], grad, std::array::from_fn(|part| old[4 * i + part]))
        });
        std::array::from_fn(|_| all.next().expect("four parts of each"))
    })
}
