//! Optimizer steps against their reference, PyTorch and their promises.

use crate::common::*;
use crate::registry::updates::Config;
use gristmill::Element;
use gristmill::kernels::update::{
    self, Adagrad, Adam, Decay, Lion, NAdam, Progress, RAdam, RmsProp, Rule, Setting, Sgd, Step,
};

/// What one kernel call changes: the parameter first.
type State<T> = [Vec<T>; 4];

fn start<T: Element>(config: &Config, param: &[T]) -> State<T> {
    let first = T::from_f64(config.0.initial());
    std::array::from_fn(|part| match part.checked_sub(1) {
        None => param.to_vec(),
        Some(part) if config.0.uses(part) => vec![first; param.len()],
        _ => vec![],
    })
}

fn step<T: Element>(config: &Config, step: u64, grad: &[T], state: &mut State<T>) {
    config.step(step, grad, state.each_mut().map(|part| &mut part[..])).unwrap();
}

/// The parameters after each step of PyTorch's run.
fn follows(config: Config, fixture: &serde_json::Value) {
    let name = fixture["name"].as_str().unwrap();
    let initial = data(&fixture["initial"]);
    let (mut double, mut single) = (start(&config, &initial), start(&config, &narrow::<f32>(&initial)));
    let grads = fixture["grads"].as_array().unwrap();
    let after = fixture["params_after_each_step"].as_array().unwrap();
    for ((nth, grad), expected) in (1..).zip(grads).zip(after) {
        step(&config, nth, &data(grad), &mut double);
        step(&config, nth, &narrow::<f32>(&data(grad)), &mut single);
        let expected = data(expected);
        assert_close(&format!("{name} {nth}"), &double[0], &expected, 1e-10, 1e-13);
        // Each step adds a rounding of the parameter and a few of a direction of size one or less.
        let bound = 40.0 * nth as f64 * unit::<f32>();
        assert_close(&format!("{name} {nth}"), &single[0], &expected, bound, bound);
    }
}

#[test]
fn pytorch_agrees_after_every_step() {
    let mut compared = 0;
    for fixture in fixture("../../examples/optimizers") {
        let name = fixture["name"].as_str().unwrap();
        let option = |name: &str| fixture["config"][name].as_f64();
        let flag = |name: &str| fixture["config"][name].as_bool().unwrap_or(false);
        let weight_decay = option("weight_decay").unwrap_or(0.0);
        let config = match name.split('_').next().unwrap() {
            "sgd" => Config::from(Sgd {
                lr: option("lr").unwrap(),
                momentum: option("momentum").unwrap_or(0.0),
                dampening: option("dampening").unwrap_or(0.0),
                nesterov: flag("nesterov"),
                weight_decay,
                ..Sgd::default()
            }),
            "rmsprop" => Config::from(RmsProp {
                lr: option("lr").unwrap(),
                alpha: option("alpha").unwrap(),
                momentum: option("momentum").unwrap_or(0.0),
                centered: flag("centered"),
                weight_decay,
                ..RmsProp::default()
            }),
            "adam" | "adamw" => {
                let default = Adam::default();
                let betas = fixture["config"]["betas"].as_array();
                let beta = |i: usize, default| betas.map_or(default, |betas| betas[i].as_f64().unwrap());
                Config::from(Adam {
                    lr: option("lr").unwrap_or(default.lr),
                    beta1: beta(0, default.beta1),
                    beta2: beta(1, default.beta2),
                    eps: option("eps").unwrap_or(default.eps),
                    weight_decay,
                    decay: if name == "adamw" { Decay::Decoupled } else { Decay::L2 },
                    amsgrad: flag("amsgrad"),
                })
            }
            _ => continue,
        };
        compared += 1;
        follows(config, &fixture);
    }
    assert_eq!(compared, 12, "a case of the fixture was skipped");
}

#[test]
fn pytorch_agrees_with_the_newer_ones() {
    let cases = fixture("optimizers_more");
    for fixture in &cases {
        let option = |name: &str, default: f64| fixture["config"][name].as_f64().unwrap_or(default);
        let beta = |i: usize, default: f64| fixture["config"]["betas"][i].as_f64().unwrap_or(default);
        let decoupled = fixture["config"]["decoupled_weight_decay"].as_bool().unwrap_or(false);
        let decay = if decoupled { Decay::Decoupled } else { Decay::L2 };
        let weight_decay = option("weight_decay", 0.0);
        let config = match fixture["name"].as_str().unwrap().split('_').next().unwrap() {
            "adagrad" => Config::from(Adagrad {
                lr: option("lr", 1e-2),
                lr_decay: option("lr_decay", 0.0),
                initial_accumulator_value: option("initial_accumulator_value", 0.0),
                eps: option("eps", 1e-10),
                weight_decay,
                decay,
            }),
            "nadam" => Config::from(NAdam {
                lr: option("lr", 2e-3),
                beta1: beta(0, 0.9),
                beta2: beta(1, 0.999),
                eps: option("eps", 1e-8),
                weight_decay,
                decay,
                momentum_decay: option("momentum_decay", 4e-3),
            }),
            "radam" => Config::from(RAdam {
                lr: option("lr", 1e-3),
                beta1: beta(0, 0.9),
                beta2: beta(1, 0.999),
                eps: option("eps", 1e-8),
                weight_decay,
                decay,
            }),
            "lion" => Config::from(Lion {
                lr: option("lr", 1e-4),
                beta1: beta(0, 0.9),
                beta2: beta(1, 0.99),
                weight_decay,
                ..Lion::default()
            }),
            name => panic!("{name} is not tested"),
        };
        follows(config, fixture);
    }
    assert_eq!(cases.len(), 10);
}

#[test]
fn the_first_sgd_step_does_not_read_its_buffer() {
    let config = Sgd { momentum: 0.9, dampening: 0.5, ..Sgd::default() };
    let (mut param, mut buffer) = ([1.0_f32; 20], [f32::NAN; 20]);
    update::run(&mut [Step::new(config, 1, &[2.0; 20], &mut param, [&mut buffer]).unwrap()]).unwrap();
    assert_eq!(buffer, [2.0; 20]);
}

#[test]
fn a_centered_step_without_variance_is_finite() {
    let config = RmsProp { centered: true, alpha: 0.5, ..RmsProp::default() };
    let (mut param, mut square, mut mean) = ([1.0_f32; 5], [0.0; 5], [0.0; 5]);
    for _ in 0..100 {
        let state = [&mut square[..], &mut mean, &mut []];
        update::run(&mut [Step::new(config, 1, &[0.1; 5], &mut param, state).unwrap()]).unwrap();
        assert!(param[0].is_finite());
    }
}

/// All rules in all that they can keep, with averages that are gone within 5,000 steps of `f64`, too.
fn forgetful() -> Vec<Config> {
    let (decay, weight_decay) = (Decay::Decoupled, 0.1);
    let sgd = Sgd { momentum: 0.8, ..Sgd::default() };
    let rmsprop = RmsProp { alpha: 0.8, momentum: 0.8, ..RmsProp::default() };
    let adam = Adam { beta1: 0.75, beta2: 0.8, ..Adam::default() };
    let mut all = vec![
        Config::from(sgd),
        Config::from(Sgd { nesterov: true, weight_decay, decay, ..sgd }),
        Config::from(Sgd { dampening: 0.8, dampen_first: true, ..sgd }),
        Config::from(rmsprop),
        Config::from(RmsProp { momentum: 0.0, centered: true, ..rmsprop }),
        Config::from(RmsProp { centered: true, weight_decay, decay, ..rmsprop }),
        Config::from(Adam { amsgrad: true, weight_decay, decay, ..adam }),
        Config::from(RAdam { beta1: 0.75, beta2: 0.5, ..RAdam::default() }),
    ];
    // And every rule but for that by default.
    for mut rule in Rule::all() {
        for (name, setting) in rule.settings() {
            match (setting, name) {
                (Setting::Number(part), "beta1") => *part = 0.75,
                (Setting::Number(part), "beta2" | "alpha") => *part = 0.8,
                _ => (),
            }
        }
        all.push(Config(rule));
    }
    all
}

/// `steps` steps with the gradients that `grad` gives, none of which may leave a subnormal number.
fn steps_stay_normal<T: Element>(
    config: &Config,
    steps: u64,
    state: &mut State<T>,
    grad: impl Fn(u64) -> Vec<T>,
) {
    let least = if T::NAME == "f32" { f32::MIN_POSITIVE.into() } else { f64::MIN_POSITIVE };
    for nth in 1..=steps {
        // What depends on the step alone has settled.
        step(config, nth.min(50), &grad(nth), state);
        for (part, values) in state.iter().enumerate() {
            let subnormal = values.iter().find(|x| x.to_f64() != 0.0 && x.abs().to_f64() < least);
            assert!(subnormal.is_none(), "{config:?}: {subnormal:?} in part {part} after step {nth}");
        }
    }
}

fn fades<T: Element>(config: &Config) {
    const LEN: usize = 37;
    let mut state = start::<T>(config, &noise(LEN, 1));
    let grad = |nth: u64| if nth <= 10 { noise(LEN, nth) } else { vec![T::ZERO; LEN] };
    steps_stay_normal(config, 5000, &mut state, grad);
    for (part, values) in config.0.state().iter().zip(&state[1..]) {
        let zeros = values.iter().all(|&x| x == T::ZERO);
        // Sums and the largest so far stay.
        let stays = matches!(part.name, "sum" | "max_exp_avg_sq");
        assert!(zeros != stays || values.is_empty(), "{config:?}: {part:?} is {values:?}");
    }
}

#[test]
fn a_state_whose_gradients_stay_away_becomes_0_and_is_never_subnormal() {
    for config in forgetful() {
        on_every_isa(|_| {
            fades::<f32>(&config);
            fades::<f64>(&config);
        });
    }
}

#[test]
fn tiny_gradients_leave_no_subnormal_state() {
    for config in forgetful() {
        // Their squares, their parts that enter a moment, or they themselves are below the range.
        for size in [1e-19, 3e-21, 2e-37, 1e-40, 1e-45] {
            on_every_isa(|_| {
                let mut state = start::<f32>(&config, &[0.0, 1.0, -1e-37, 1e-39]);
                let grad = |nth| noise(4, nth).iter().map(|x: &f32| (f64::from(*x) * size) as f32).collect();
                steps_stay_normal(&config, 200, &mut state, grad);
            });
        }
    }
}

#[test]
fn weights_that_decay_away_become_0_with_their_sign() {
    let (lr, weight_decay, decay) = (0.5, 0.5, Decay::Decoupled);
    let every = Rule::all().into_iter().map(|mut rule| {
        for (_, setting) in rule.settings() {
            if let Setting::Decay(of_rule) = setting {
                *of_rule = decay;
            }
        }
        let (of_rule, lambda) = rule.lr_and_decay();
        (*of_rule, *lambda) = (lr, weight_decay);
        Config(rule)
    });
    let momentum = Config::from(Sgd { lr, weight_decay, decay, momentum: 0.5, ..Sgd::default() });
    for config in every.chain([momentum]) {
        on_every_isa(|isa| {
            let mut state = start::<f32>(&config, &[1.0, -1.0, 1e-30]);
            steps_stay_normal(&config, 400, &mut state, |_| vec![0.0; 3]);
            assert_eq!(state[0], [0.0; 3], "{isa} {config:?}");
            assert!(state[0][1].is_sign_negative(), "{isa} {config:?}");
        });
    }
}

#[test]
fn weights_under_a_penalty_stop_where_it_vanishes() {
    let plain = Sgd { lr: 0.5, weight_decay: 0.5, ..Sgd::default() };
    for config in [plain, Sgd { momentum: 0.25, ..plain }].map(Config::from) {
        on_every_isa(|isa| {
            let mut state = start::<f32>(&config, &[1.0, -1.0, 1e-30]);
            steps_stay_normal(&config, 1000, &mut state, |_| vec![0.0; 3]);
            // λ·p is below the range, or lr·λ·p where that is rounded, too.
            assert!(state[0].iter().all(|p| p.abs() < 5.0 * f32::MIN_POSITIVE), "{isa} {config:?} {state:?}");
        });
    }
}

/// Where the CPU does not flush, a gradient that is subnormal counts.
#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
#[test]
fn a_state_from_elsewhere_may_be_subnormal_and_counts_as_0() {
    for config in forgetful() {
        let run = |number: f32| {
            let mut state = start::<f32>(&config, &[1.0, -2.0, number, -number]);
            state[1..].iter_mut().for_each(|part| part.fill(number));
            step(&config, 3, &[0.5, 0.0, 0.25, number], &mut state);
            state
        };
        on_every_isa(|isa| assert_eq!(run(1e-39), run(0.0), "{isa} {config:?}"));
    }
}

#[test]
fn nan_stays_where_it_is() {
    let mut grad = [0.5_f64; 30];
    grad[17] = f64::NAN;
    let amsgrad = Adam { amsgrad: true, ..Adam::default() };
    let centered = RmsProp { centered: true, momentum: 0.5, ..RmsProp::default() };
    let options =
        [amsgrad.into(), centered.into(), RAdam { beta2: 0.5, ..RAdam::default() }.into()].map(Config);
    for config in Rule::all().into_iter().map(Config).chain(options) {
        on_every_isa(|isa| {
            let mut state = start(&config, &[1.0; 30]);
            step(&config, 1, &grad, &mut state);
            for values in state.iter().filter(|values| !values.is_empty()) {
                assert!(values.iter().enumerate().all(|(i, x)| x.is_nan() == (i == 17)), "{isa} {config:?}");
            }
        });
    }
}

#[test]
fn many_steps_in_one_pass_are_the_steps_one_by_one() {
    // Empty ones in front, in between and at the end; whole chunks and parts of them.
    let lens = [0, 3, 4096, 0, 10_001, 1, 8192, 64, 0];
    let make =
        |seed: u64| -> Vec<Vec<f32>> { (1..).zip(lens).map(|(i, len)| noise(len, seed + i)).collect() };
    let (grads, params) = (make(0), make(100));
    let (sgd, adam) =
        (Sgd { momentum: 0.9, ..Sgd::default() }, Adam { weight_decay: 0.1, ..Adam::default() });
    let rmsprop = RmsProp { centered: true, ..RmsProp::default() };
    let zeros = || -> Vec<Vec<f32>> { lens.iter().map(|&len| vec![0.0; len]).collect() };
    let bits =
        |lists: [&Vec<Vec<f32>>; 3]| lists.into_iter().flatten().flatten().copied().collect::<Vec<_>>();

    let (mut one, mut a, mut b) = (params.clone(), zeros(), zeros());
    for (i, grad) in grads.iter().enumerate() {
        let (p, a, b) = (&mut one[i], &mut a[i], &mut b[i]);
        let step = match i % 3 {
            0 => Step::new(sgd, 2, grad, p, [a]),
            1 => Step::new(adam, 1 + i as u64, grad, p, [a, b, &mut []]),
            _ => Step::new(rmsprop, 1, grad, p, [a, b, &mut []]),
        };
        update::run(&mut [step.unwrap()]).unwrap();
    }
    let expected = bits([&one, &a, &b]);
    let run = || {
        let (mut many, mut a, mut b) = (params.clone(), zeros(), zeros());
        let places = many.iter_mut().zip(&mut a).zip(&mut b).zip(&grads).enumerate();
        let mut steps: Vec<_> = places
            .map(|(i, (((p, a), b), grad))| match i % 3 {
                0 => Step::new(sgd, 2, grad, p, [a]),
                1 => Step::new(adam, 1 + i as u64, grad, p, [a, b, &mut []]),
                _ => Step::new(rmsprop, 1, grad, p, [a, b, &mut []]),
            })
            .collect::<Result<_, _>>()
            .unwrap();
        update::run(&mut steps).unwrap();
        drop(steps);
        bits([&many, &a, &b])
    };
    assert_eq!(run(), expected);
    same_bits_everywhere(run);
    update::run::<f64>(&mut []).unwrap();
}

#[test]
fn gradients_are_scaled_then_clipped_then_decayed() {
    let grad = [3.0_f32, -3.0, 0.5, f32::NAN, f32::INFINITY, -f32::INFINITY];
    on_every_isa(|isa| {
        let mut param = [1.0_f32; 6];
        let config = Sgd { lr: 1.0, weight_decay: 0.5, ..Sgd::default() };
        let step = Step::new(config, 1, &grad, &mut param, [&mut []]).unwrap();
        update::run(&mut [step.grad_scale(0.5).grad_clip(1.0)]).unwrap();
        assert!(param[3].is_nan(), "{isa}");
        param[3] = 0.0;
        assert_eq!(param, [-0.5, 1.5, 0.25, 0.0, -0.5, 1.5], "{isa}");
    });
}

#[test]
fn bad_arguments_are_named() {
    fn error<const N: usize>(
        rule: impl Into<Rule>,
        at: impl Into<Progress>,
        mut state: [Vec<f32>; N],
    ) -> String {
        let (grad, mut param) = ([0.0; 3], [0.0; 3]);
        let state = state.each_mut().map(|part| &mut part[..]);
        Step::new(rule, at, &grad, &mut param, state).map(drop).unwrap_err().to_string()
    }
    let numbers = |len: usize| vec![0.0; len];
    let sgd = |config: Sgd, step: u64, buffer| error(config, step, [numbers(buffer)]);
    let default = Sgd::default();
    assert_eq!(sgd(Sgd { lr: -1.0, ..default }, 1, 0), "sgd: lr is -1, expected a finite number ≥ 0");
    assert_eq!(sgd(Sgd { lr: f64::NAN, ..default }, 1, 0), "sgd: lr is NaN, expected a finite number ≥ 0");
    assert_eq!(sgd(default, 0, 0), "sgd: step is 0; the first step is 1");
    assert_eq!(sgd(default, 1, 3), "sgd: momentum_buffer has 3 elements, expected 0");
    assert_eq!(
        sgd(Sgd { momentum: 0.5, ..default }, 1, 2),
        "sgd: momentum_buffer has 2 elements, expected 3"
    );
    let nesterov = "sgd: nesterov needs momentum > 0 and dampening = 0";
    assert_eq!(sgd(Sgd { nesterov: true, ..default }, 1, 0), nesterov);
    assert_eq!(sgd(Sgd { nesterov: true, momentum: 0.5, dampening: 0.1, ..default }, 1, 3), nesterov);
    assert!(sgd(Sgd { dampening: f64::INFINITY, ..default }, 1, 0).starts_with("sgd: dampening is inf"));

    let rmsprop = |config: RmsProp| config.validate().unwrap_err().to_string();
    let default = RmsProp::default();
    assert_eq!(
        rmsprop(RmsProp { alpha: 1.5, ..default }),
        "rmsprop: alpha is 1.5, expected a number in [0, 1]"
    );
    assert!(rmsprop(RmsProp { eps: -1.0, ..default }).starts_with("rmsprop: eps is -1"));
    let wrong = error(default, 1, [2, 0, 0].map(numbers));
    assert_eq!(wrong, "rmsprop: square_avg has 2 elements, expected 3");
    assert_eq!(error(default, 1, [numbers(3)]), "rmsprop: 1 parts of a state, expected 3");

    let lion = |config: Lion| config.validate().unwrap_err().to_string();
    assert_eq!(lion(Lion { beta1: 1.0, ..Lion::default() }), "lion: beta1 is 1, expected a number in [0, 1)");
    assert_eq!(error(Lion::default(), 1, [numbers(2)]), "lion: exp_avg has 2 elements, expected 3");
    let adagrad = |config: Adagrad| config.validate().unwrap_err().to_string();
    let default = Adagrad::default();
    assert!(adagrad(Adagrad { lr_decay: -1.0, ..default }).starts_with("adagrad: lr_decay is -1"));
    assert_eq!(error(default, 0, [numbers(3)]), "adagrad: step is 0; the first step is 1");
    let nadam = |carried, step| error(NAdam::default(), Progress { step, carried }, [3, 3].map(numbers));
    assert_eq!(nadam(1.5, 1), "nadam: the product of momenta is 1.5, expected a number in [0, 1]");
    assert_eq!(nadam(1.0, 0), "nadam: step is 0; the first step is 1");
    let wrong = RAdam { beta2: 1.0, ..RAdam::default() }.validate().unwrap_err();
    assert_eq!(wrong.to_string(), "radam: beta2 is 1, expected a number in [0, 1)");

    let adam = |config: Adam| config.validate().unwrap_err().to_string();
    let default = Adam::default();
    assert_eq!(adam(Adam { beta1: 1.0, ..default }), "adam: beta1 is 1, expected a number in [0, 1)");
    assert!(adam(Adam { beta2: f64::NAN, ..default }).starts_with("adam: beta2 is NaN"));
    assert!(adam(Adam { weight_decay: -0.1, ..default }).starts_with("adam: weight_decay is -0.1"));
    let wrong = error(default, 1, [3; 3].map(numbers));
    assert_eq!(wrong, "adam: max_exp_avg_sq has 3 elements, expected 0");
}
