//! Optimizer steps.

use gristmill::kernels::update::{self, Adagrad, Adam, Decay, Lion, NAdam, RAdam, RmsProp, Sgd, Step};
use gristmill::{Element, Result, reference};

use super::{Case, Draw, Kernel, Near, entries, unit};

pub const KERNELS: &[Kernel] = entries![
    "update::sgd" => sgd,
    "update::rmsprop" => rmsprop,
    "update::adam" => adam,
    "update::adagrad" => adagrad,
    "update::lion" => lion,
    "update::nadam" => nadam,
    "update::radam" => radam,
    "update::run" => run,
];

/// An optimizer with its hyperparameters.
#[derive(Clone, Copy, Debug)]
pub enum Config {
    Sgd(Sgd),
    RmsProp(RmsProp),
    Adam(Adam),
    Adagrad(Adagrad),
    Lion(Lion),
    NAdam(NAdam),
    RAdam(RAdam),
}

/// What a part of the state is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    /// An average or a sum of gradients.
    Moment,
    /// An average or a sum of their squares, or the largest of them.
    Square,
    /// A buffer of RMSprop's directions.
    Directions,
}

impl Config {
    /// The parts of the state after the parameter, by their names.
    pub fn parts(&self) -> &'static [(&'static str, Part)] {
        use Part::{Directions, Moment, Square};
        match self {
            Config::Sgd(_) => &[("momentum_buffer", Moment)],
            Config::RmsProp(_) => {
                &[("square_avg", Square), ("grad_avg", Moment), ("momentum_buffer", Directions)]
            }
            Config::Adam(_) => &[("exp_avg", Moment), ("exp_avg_sq", Square), ("max_exp_avg_sq", Square)],
            Config::Adagrad(_) => &[("sum", Square)],
            Config::Lion(_) => &[("exp_avg", Moment)],
            Config::NAdam(_) | Config::RAdam(_) => &[("exp_avg", Moment), ("exp_avg_sq", Square)],
        }
    }

    /// Which of them are in use.
    pub fn used(&self) -> Vec<bool> {
        match self {
            Config::Sgd(config) => vec![config.momentum != 0.0],
            Config::RmsProp(config) => vec![true, config.centered, config.momentum != 0.0],
            Config::Adam(config) => vec![true, true, config.amsgrad],
            _ => vec![true; self.parts().len()],
        }
    }

    /// What each part of the state begins with.
    pub fn first(&self) -> f64 {
        match self {
            Config::Adagrad(config) => config.initial_accumulator_value,
            _ => 0.0,
        }
    }

    /// The product of NAdam's momenta before a step.
    pub fn mu_product(&self, step: u64) -> f64 {
        match self {
            Config::NAdam(config) => (1..step).map(|step| config.momentum(step).unwrap()).product(),
            _ => 1.0,
        }
    }

    /// The kernel's step. Parts that the optimizer does not have are left alone.
    pub fn step<T: Element>(&self, step: u64, grad: &[T], [param, a, b, c]: [&mut [T]; 4]) -> Result<()> {
        match self {
            Config::Sgd(config) => update::sgd(config, step, grad, param, a),
            Config::RmsProp(config) => update::rmsprop(config, grad, param, a, b, c),
            Config::Adam(config) => update::adam(config, step, grad, param, a, b, c),
            Config::Adagrad(config) => update::adagrad(config, step, grad, param, a),
            Config::Lion(config) => update::lion(config, grad, param, a),
            Config::NAdam(config) => update::nadam(config, step, self.mu_product(step), grad, param, a, b),
            Config::RAdam(config) => update::radam(config, step, grad, param, a, b),
        }
    }

    /// The same for a run.
    pub fn as_step<'a, T: Element>(
        &self,
        step: u64,
        grad: &'a [T],
        [param, a, b, c]: [&'a mut [T]; 4],
    ) -> Result<Step<'a, T>> {
        match self {
            Config::Sgd(config) => Step::sgd(config, step, grad, param, a),
            Config::RmsProp(config) => Step::rmsprop(config, grad, param, a, b, c),
            Config::Adam(config) => Step::adam(config, step, grad, param, a, b, c),
            Config::Adagrad(config) => Step::adagrad(config, step, grad, param, a),
            Config::Lion(config) => Step::lion(config, grad, param, a),
            Config::NAdam(config) => Step::nadam(config, step, self.mu_product(step), grad, param, a, b),
            Config::RAdam(config) => Step::radam(config, step, grad, param, a, b),
        }
    }

    /// What the reference stores after a step of one element: the parameter and the parts of its state.
    fn stored<T: Element>(&self, step: u64, mu_product: f64, g: f64, old: [f64; 4]) -> [f64; 4] {
        reference::stored(least::<T>(), self.exact(step, mu_product, g, old))
    }

    /// The reference's step of one element.
    fn exact(&self, step: u64, mu_product: f64, g: f64, old: [f64; 4]) -> [f64; 4] {
        let ([p, a, b, c], coupled) = (old, self.decay().1);
        match self {
            Config::Sgd(x) => {
                let [p, a] = reference::sgd(
                    x.lr,
                    x.momentum,
                    x.dampening,
                    x.dampen_first,
                    x.nesterov,
                    x.weight_decay,
                    !coupled,
                    step,
                    g,
                    p,
                    a,
                );
                [p, a, b, c]
            }
            Config::RmsProp(x) => reference::rmsprop(
                x.lr,
                x.alpha,
                x.eps,
                x.momentum,
                x.centered,
                x.weight_decay,
                !coupled,
                g,
                p,
                [a, b, c],
            ),
            Config::Adam(x) => {
                let betas = [x.beta1, x.beta2];
                let state = [a, b, c];
                reference::adam(x.lr, betas, x.eps, x.weight_decay, !coupled, x.amsgrad, step, g, p, state)
            }
            Config::Adagrad(x) => {
                let [p, a] =
                    reference::adagrad(x.lr, x.lr_decay, x.eps, x.weight_decay, !coupled, step, g, p, a);
                [p, a, b, c]
            }
            Config::Lion(x) => {
                let [p, a] = reference::lion(x.lr, [x.beta1, x.beta2], x.weight_decay, !coupled, g, p, a);
                [p, a, b, c]
            }
            Config::NAdam(x) => {
                let [p, a, b] = reference::nadam(
                    x.lr,
                    [x.beta1, x.beta2],
                    x.eps,
                    x.weight_decay,
                    !coupled,
                    x.momentum_decay,
                    step,
                    mu_product,
                    g,
                    p,
                    [a, b],
                );
                [p, a, b, c]
            }
            Config::RAdam(x) => {
                let betas = [x.beta1, x.beta2];
                let [p, a, b] =
                    reference::radam(x.lr, betas, x.eps, x.weight_decay, !coupled, step, g, p, [a, b]);
                [p, a, b, c]
            }
        }
    }

    /// λ, and whether it is a penalty.
    fn decay(&self) -> (f64, bool) {
        let (weight_decay, decay) = match self {
            Config::Sgd(x) => (x.weight_decay, x.decay),
            Config::RmsProp(x) => (x.weight_decay, x.decay),
            Config::Adam(x) => (x.weight_decay, x.decay),
            Config::Adagrad(x) => (x.weight_decay, x.decay),
            Config::Lion(x) => (x.weight_decay, x.decay),
            Config::NAdam(x) => (x.weight_decay, x.decay),
            Config::RAdam(x) => (x.weight_decay, x.decay),
        };
        (weight_decay, decay == Decay::L2)
    }

    /// With another learning rate and λ.
    fn with(mut self, new_lr: f64, new_decay: f64) -> Self {
        let (lr, weight_decay) = match &mut self {
            Config::Sgd(x) => (&mut x.lr, &mut x.weight_decay),
            Config::RmsProp(x) => (&mut x.lr, &mut x.weight_decay),
            Config::Adam(x) => (&mut x.lr, &mut x.weight_decay),
            Config::Adagrad(x) => (&mut x.lr, &mut x.weight_decay),
            Config::Lion(x) => (&mut x.lr, &mut x.weight_decay),
            Config::NAdam(x) => (&mut x.lr, &mut x.weight_decay),
            Config::RAdam(x) => (&mut x.lr, &mut x.weight_decay),
        };
        (*lr, *weight_decay) = (new_lr, new_decay);
        self
    }

    fn lr(&self) -> f64 {
        match self {
            Config::Sgd(Sgd { lr, .. })
            | Config::RmsProp(RmsProp { lr, .. })
            | Config::Adam(Adam { lr, .. })
            | Config::Adagrad(Adagrad { lr, .. })
            | Config::Lion(Lion { lr, .. })
            | Config::NAdam(NAdam { lr, .. })
            | Config::RAdam(RAdam { lr, .. }) => *lr,
        }
    }

    /// What a direction is divided by at least; 1 where it is not divided.
    fn eps(&self) -> f64 {
        match self {
            Config::Sgd(_) | Config::Lion(_) => 1.0,
            Config::RmsProp(x) => x.eps,
            Config::Adam(x) => x.eps,
            Config::Adagrad(x) => x.eps,
            Config::NAdam(x) => x.eps,
            Config::RAdam(x) => x.eps,
        }
    }

    /// Whether rounding may turn the direction: Lion's is a sign.
    fn turns(&self, g: f64, old: [f64; 4], u: f64, least: f64) -> bool {
        let Config::Lion(x) = self else { return false };
        let (weight_decay, coupled) = self.decay();
        let penalty = if coupled && weight_decay != 0.0 { weight_decay * old[0] } else { 0.0 };
        let rounding = 8.0 * u * (old[1].abs() + g.abs() + penalty.abs()) + 4.0 * least;
        rounding.is_finite() && (x.beta1 * old[1] + (1.0 - x.beta1) * (g + penalty)).abs() <= rounding
    }

    /// How far the direction of centered RMSprop may be off because its root is of a difference.
    fn cancels(&self, g: f64, old: [f64; 4], new: [f64; 4], size: f64, u: f64) -> f64 {
        let Config::RmsProp(x @ RmsProp { centered: true, .. }) = self else { return 0.0 };
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
        let (u, mu_product) = (unit::<T>() + unit::<f64>(), self.mu_product(step));
        let (weight_decay, coupled) = self.decay();
        // A few terms count as 0 where they are subnormal, before a direction is divided by eps at least.
        let vanishing = 4.0 * least::<T>() * (1.0 + 4.0 / self.eps());
        let mut all: [Vec<Near>; 4] = Default::default();
        for i in 0..old[0].len() {
            let (g, before) = (grad(i), old.map(|part| part.get(i).copied().unwrap_or(0.0)));
            let new = self.stored::<T>(step, mu_product, g, before);
            let penalty = if coupled && weight_decay != 0.0 { weight_decay * before[0].abs() } else { 0.0 };
            let size = g.abs() + penalty;
            // What an error of 8·u·G in the gradient does to a part; of 12·u·G where two terms of it may cancel.
            let units = if let Config::NAdam(_) = self { 12.0 } else { 8.0 };
            let moved =
                [-1.0, 1.0].map(|sign| self.exact(step, mu_product, g + sign * units * u * size, before));
            let effect = |part: usize| match size.is_finite() && before[0].is_finite() {
                true => moved.iter().fold(0.0, |most: f64, moved| most.max((moved[part] - new[part]).abs())),
                false => 0.0,
            };
            let cancels = self.cancels(g, before, new, size, u);
            let shrink = if coupled { 1.0 } else { 1.0 - self.lr() * weight_decay };
            let added = match self {
                // A direction and what the buffer keeps, each with its rounding, may cancel.
                Config::RmsProp(x) if x.momentum != 0.0 => x.lr * (before[3].abs() + new[3].abs()),
                _ => (new[0] - before[0] * shrink).abs(),
            };
            let bound = |part: usize| match part.checked_sub(1).map(|part| self.parts()[part].1) {
                None => 4.0 * u * before[0].abs() + 16.0 * u * added + effect(0) + self.lr() * cancels,
                Some(Part::Moment) => 8.0 * u * (before[part].abs() + size),
                Some(Part::Square) => {
                    let old = if part == 3 { before[2].max(before[3]) } else { before[part] };
                    8.0 * u * (old + size * size)
                }
                Some(Part::Directions) => {
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

    /// Of an optimizer after some steps: how many, the parameters, and the parts of the state; now and then of one whose
    /// gradients stayed away, with a state about the smallest normal number.
    fn draw_state<T: Element>(&self, draw: &mut Draw, len: usize) -> (u64, [Vec<T>; 4]) {
        let step = draw.pick(&[2, 1, 8, 3]);
        let faded = draw.below(4) == 1;
        let param = draw.values(len, -1.0, 1.0);
        // The states of the first elements are those of all.
        let mut states = vec![[0.5, self.first(), self.first(), self.first()]; len.min(251)];
        for step in 1..step {
            let mu_product = self.mu_product(step);
            for state in &mut states {
                *state = self.exact(step, mu_product, 2.0 * draw.unit() - 1.0, *state);
            }
        }
        if faded {
            for number in states.iter_mut().flatten() {
                *number = (least::<T>() * 2f64.powf(between(draw, -4.0, 4.0))).copysign(*number);
            }
        }
        let used = self.used();
        let part = |part: usize| -> Vec<T> {
            let len = if used.get(part).is_some_and(|&used| used) { len } else { 0 };
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

fn draw_sgd(draw: &mut Draw) -> Config {
    let (momentum, (weight_decay, decay)) = (draw_momentum(draw), draw_decay(draw));
    let nesterov = draw.flip() && momentum > 0.0;
    let dampening = if nesterov { 0.0 } else { between(draw, 0.0, 0.9) };
    let (lr, dampen_first) = (between(draw, 0.0, 0.5), draw.flip());
    Config::Sgd(Sgd { lr, momentum, dampening, dampen_first, nesterov, weight_decay, decay })
}

fn draw_rmsprop(draw: &mut Draw) -> Config {
    let (momentum, centered, (weight_decay, decay)) = (draw_momentum(draw), draw.flip(), draw_decay(draw));
    let (lr, alpha, eps) = (between(draw, 0.0, 0.5), between(draw, 0.5, 0.99), draw_eps(draw));
    Config::RmsProp(RmsProp { lr, alpha, eps, momentum, centered, weight_decay, decay })
}

fn draw_eps(draw: &mut Draw) -> f64 {
    draw.pick(&[1e-8, 1e-5, 1e-2])
}

fn draw_betas(draw: &mut Draw) -> [f64; 2] {
    [between(draw, 0.0, 0.95), between(draw, 0.5, 0.999)]
}

fn draw_adam(draw: &mut Draw) -> Config {
    let (amsgrad, (weight_decay, decay)) = (draw.flip(), draw_decay(draw));
    let (lr, [beta1, beta2], eps) = (between(draw, 0.0, 0.5), draw_betas(draw), draw_eps(draw));
    Config::Adam(Adam { lr, beta1, beta2, eps, weight_decay, decay, amsgrad })
}

fn draw_adagrad(draw: &mut Draw) -> Config {
    let ((weight_decay, decay), initial_accumulator_value) = (draw_decay(draw), between(draw, 1e-4, 1.0));
    let (lr, lr_decay, eps) = (between(draw, 0.0, 0.5), between(draw, 0.0, 0.5), draw_eps(draw));
    Config::Adagrad(Adagrad { lr, lr_decay, initial_accumulator_value, eps, weight_decay, decay })
}

fn draw_lion(draw: &mut Draw) -> Config {
    let ((weight_decay, decay), lr) = (draw_decay(draw), between(draw, 0.0, 0.5));
    let (beta1, beta2) = (between(draw, 0.0, 0.95), between(draw, 0.0, 0.999));
    Config::Lion(Lion { lr, beta1, beta2, weight_decay, decay })
}

fn draw_nadam(draw: &mut Draw) -> Config {
    let ((weight_decay, decay), momentum_decay) = (draw_decay(draw), between(draw, 0.0, 0.1));
    let (lr, [beta1, beta2], eps) = (between(draw, 0.0, 0.5), draw_betas(draw), draw_eps(draw));
    Config::NAdam(NAdam { lr, beta1, beta2, eps, weight_decay, decay, momentum_decay })
}

fn draw_radam(draw: &mut Draw) -> Config {
    let (weight_decay, decay) = draw_decay(draw);
    let (lr, [beta1, beta2], eps) = (between(draw, 0.0, 0.5), draw_betas(draw), draw_eps(draw));
    Config::RAdam(RAdam { lr, beta1, beta2, eps, weight_decay, decay })
}

fn draw_any(draw: &mut Draw) -> Config {
    let all = [draw_sgd, draw_rmsprop, draw_adam, draw_adagrad, draw_lion, draw_nadam, draw_radam];
    draw.pick(&all)(draw)
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
    for ((name, _), values) in config.parts().iter().zip(state) {
        case = case.in_place_per_item(name, usize::from(!values.is_empty()), values);
    }
    let case = case.run(move |[grad], [], parts: [&mut [T]; N]| config.step(step, grad, four(parts))).expect(
        move |[grad], [], old: [&[f64]; N]| {
            let old = std::array::from_fn(|part| old.get(part).copied().unwrap_or_default());
            let mut all = config.expected::<T>(step, |i| grad[i], old).into_iter();
            std::array::from_fn(|_| all.next().expect("no more than four parts"))
        },
    );
    let case = match config {
        Config::RmsProp(_) | Config::Lion(_) => case,
        _ => case.refuses("a step before the first", move |[grad], [], parts: [&mut [T]; N]| {
            config.step(0, grad, four(parts))
        }),
    };
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

fn sgd<T: Element>(draw: &mut Draw) -> Case<T> {
    let config = draw_sgd(draw);
    one::<T, 2>(draw, config)
}

fn rmsprop<T: Element>(draw: &mut Draw) -> Case<T> {
    let config = draw_rmsprop(draw);
    one::<T, 4>(draw, config)
}

fn adam<T: Element>(draw: &mut Draw) -> Case<T> {
    let config = draw_adam(draw);
    one::<T, 4>(draw, config)
}

fn adagrad<T: Element>(draw: &mut Draw) -> Case<T> {
    let config = draw_adagrad(draw);
    one::<T, 2>(draw, config)
}

fn lion<T: Element>(draw: &mut Draw) -> Case<T> {
    let config = draw_lion(draw);
    one::<T, 2>(draw, config)
}

fn nadam<T: Element>(draw: &mut Draw) -> Case<T> {
    let config = draw_nadam(draw);
    one::<T, 3>(draw, config)
}

fn radam<T: Element>(draw: &mut Draw) -> Case<T> {
    let config = draw_radam(draw);
    one::<T, 3>(draw, config)
}

/// Three optimizers in one pass, each with a parameter of its own and a gradient that is scaled and clipped first.
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
