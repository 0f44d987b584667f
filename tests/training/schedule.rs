//! Learning-rate schedules against PyTorch's.

use crate::common::{assert_close, fixture};
use gristmill::nn::{Parameter, StateDict};
use gristmill::optim::{
    Anneal, CosineAnnealingLR, ExponentialLR, LRScheduler, LinearLR, MultiStepLR, OneCycleLR, Optimizer,
    PlateauMode, ReduceLROnPlateau, SGD, StepLR, ThresholdMode,
};
use gristmill::{Error, Tensor};

/// PyTorch multiplies from step to step: a rounding or two for each of the 20 steps.
const RELATIVE: f64 = 20.0 * f64::EPSILON;
/// Its recursion for the cosine divides by what is almost 0 at the lowest point; 4e-14 is what it is off
/// then.
const ABSOLUTE: f64 = 1e-13;

fn rates(schedule: &dyn LRScheduler, steps: u64) -> Vec<f64> {
    (0..steps).map(|step| schedule.lr(step).unwrap()).collect()
}

fn optimizer(lr: f64) -> SGD<f64> {
    SGD::new(vec![Parameter::new(&Tensor::ones([1]).unwrap())], lr)
}

#[test]
fn schedules_follow_pytorch() {
    let cases = fixture("schedules");
    let schedule = |name: &str| -> Box<dyn LRScheduler> {
        match name {
            "step" => Box::new(StepLR::new(0.5, 5).gamma(0.3)),
            "exponential" => Box::new(ExponentialLR::new(0.5, 0.9)),
            "cosine" => Box::new(CosineAnnealingLR::new(0.5, 10).eta_min(1e-3)),
            "linear_warmup" => Box::new(LinearLR::new(0.5).start_factor(0.1).total_iters(8)),
            "one_cycle" => Box::new(OneCycleLR::new(1.0, 21)),
            _ => panic!("{name}"),
        }
    };
    assert_eq!(cases.len(), 5);
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let expected: Vec<f64> = serde_json::from_value(case["lr"].clone()).unwrap();
        assert_eq!(expected.len(), 20);
        assert_close(name, &rates(&*schedule(name), 20), &expected, RELATIVE, ABSOLUTE);
    }
}

#[test]
fn milestones_in_any_order_and_twice() {
    let expected = [0.5, 0.5, 0.05, 0.05, 0.0005];
    let close = |milestones: &[u64]| {
        assert_close("lr", &rates(&MultiStepLR::new(0.5, milestones), 5), &expected, RELATIVE, 0.0)
    };
    close(&[2, 4, 4]);
    close(&[4, 2, 4]);
    assert_eq!(rates(&MultiStepLR::new(0.5, &[1]).gamma(0.5), 3), [0.5, 0.25, 0.25]);
}

/// The three cycles with corners on steps: 0, 2, (4,) 9 of 10, from 1/4 by 1 to 1/4/2.
#[test]
fn a_cycle_turns_at_its_corners() {
    let cycle = OneCycleLR::new(1.0, 10).pct_start(0.3).div_factor(4.0).final_div_factor(2.0);
    let line = cycle.clone().anneal_strategy(Anneal::Linear);
    let expected = [0.25, 0.625, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125];
    assert_close("line", &rates(&line, 10), &expected, RELATIVE, 0.0);
    let expected = [0.25, 0.625, 1.0, 0.625, 0.25, 0.225, 0.2, 0.175, 0.15, 0.125];
    assert_close("three phases", &rates(&line.three_phase(true), 10), &expected, RELATIVE, 0.0);
    let cosine = rates(&cycle, 10);
    assert_close(
        "cosine",
        &[cosine[0], cosine[1], cosine[2], cosine[9]],
        &[0.25, 0.625, 1.0, 0.125],
        RELATIVE,
        0.0,
    );
    assert!(cosine[3] > 0.875, "a cosine leaves the top slowly");
}

#[test]
fn a_cycle_that_only_climbs_or_only_falls_is_one() {
    assert_eq!(rates(&OneCycleLR::new(1.0, 1).pct_start(1.0), 1), [1.0]);
    assert_close("down", &rates(&OneCycleLR::new(1.0, 1), 1), &[0.04 / 1e4], RELATIVE, 1e-16);
    assert_eq!(rates(&OneCycleLR::new(1.0, 5).pct_start(1.0), 5)[4], 1.0);
}

#[test]
fn the_cosine_is_periodic_without_losing_digits() {
    let schedule = CosineAnnealingLR::new(0.5, 10);
    let far = 20 * 10_u64.pow(15);
    for step in 0..20 {
        assert_eq!(schedule.lr(far + step).unwrap(), schedule.lr(step).unwrap());
    }
    assert!(CosineAnnealingLR::new(0.5, u64::MAX).lr(u64::MAX - 1).unwrap().is_finite());
}

#[test]
fn defaults_are_pytorchs() {
    assert_close("step", &rates(&StepLR::new(1.0, 1), 3), &[1.0, 0.1, 0.01], RELATIVE, 0.0);
    assert_close("cosine", &[CosineAnnealingLR::new(1.0, 4).lr(4).unwrap()], &[0.0], 0.0, 1e-16);
    let expected = [1.0 / 3.0, 7.0 / 15.0, 0.6, 11.0 / 15.0, 13.0 / 15.0, 1.0, 1.0];
    assert_close("linear", &rates(&LinearLR::new(1.0), 7), &expected, RELATIVE, 0.0);
}

/// The learning rate after each metric.
fn after(plateau: ReduceLROnPlateau, lr: f64, metrics: &[f64]) -> Vec<f64> {
    let (mut plateau, mut optimizer) = (plateau, optimizer(lr));
    let look = |&metric| {
        plateau.step(&mut optimizer, metric).unwrap();
        optimizer.learning_rate()
    };
    metrics.iter().map(look).collect()
}

#[test]
fn a_plateau_lowers_the_rate_when_patience_is_over() {
    let plateau = ReduceLROnPlateau::new().factor(0.5);
    // The first is the best; ten more are borne, the eleventh is not.
    let rates = after(plateau.clone(), 1.0, &[3.0; 24]);
    assert_eq!(rates[..11], [1.0; 11]);
    assert_eq!(rates[11..22], [0.5; 11]);
    assert_eq!(rates[22..], [0.25; 2]);
    // A better one starts the count again; NaN is never better.
    let short = plateau.patience(1);
    let rates = after(short.clone(), 1.0, &[3.0, 3.0, 2.0, f64::NAN, 1.0, f64::NAN, 1.0, 1.0]);
    assert_eq!(rates, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5]);
    // After a fall the cooldown's metrics do not count.
    let rates = after(short.clone().patience(0).cooldown(2), 1.0, &[1.0; 6]);
    assert_eq!(rates, [1.0, 0.5, 0.5, 0.5, 0.25, 0.25]);
    let rates = after(short.patience(0).min_lr(0.4).eps(0.15), 1.0, &[1.0; 4]);
    assert_eq!(rates, [1.0, 0.5, 0.5, 0.5], "from 0.5 to 0.4 is less than eps");
}

#[test]
fn a_plateau_knows_its_direction_and_threshold() {
    let falls = |mode, threshold_mode, metrics: [f64; 2]| {
        let plateau = ReduceLROnPlateau::new().patience(0).threshold(0.25);
        after(plateau.mode(mode).threshold_mode(threshold_mode), 1.0, &metrics)[1] < 1.0
    };
    use PlateauMode::{Max, Min};
    use ThresholdMode::{Abs, Rel};
    // Rel: 2 must fall below 1.5 or rise above 2.5; Abs: below 1.75 or above 2.25.
    for (mode, threshold, better, worse) in
        [(Min, Rel, 1.4, 1.6), (Min, Abs, 1.7, 1.8), (Max, Rel, 2.6, 2.4), (Max, Abs, 2.3, 2.2)]
    {
        assert!(!falls(mode, threshold, [2.0, better]), "{mode:?} {threshold:?} {better}");
        assert!(falls(mode, threshold, [2.0, worse]), "{mode:?} {threshold:?} {worse}");
    }
}

/// A part of the best is a part of its size: losses below 0, such as a likelihood's, stand still as others
/// do.
#[test]
fn a_relative_threshold_is_a_part_of_the_size_of_the_best() {
    let worse: Vec<f64> = (0..12).map(|i| -1.0 + 5e-5 * f64::from(i)).collect();
    let mut plateau = ReduceLROnPlateau::new().patience(2);
    let mut optimizer = optimizer(1.0);
    for metric in worse {
        plateau.step(&mut optimizer, metric).unwrap();
        assert_eq!(plateau.state_dict::<f64>().get::<f64>("best").unwrap(), -1.0);
    }
    assert!((optimizer.learning_rate() - 1e-3).abs() < 1e-15, "the rate falls at every third");
    use PlateauMode::{Max, Min};
    for (mode, sign) in [(Min, 1.0), (Max, -1.0)] {
        let falls = |metrics: [f64; 2]| {
            let plateau = ReduceLROnPlateau::new().patience(0).threshold(0.25).mode(mode);
            after(plateau, 1.0, &metrics.map(|metric| sign * metric))[1] < 1.0
        };
        assert!(falls([-2.0, -2.4]) && !falls([-2.0, -2.6]), "{mode:?}");
        assert!(falls([0.0, 0.0]) && !falls([0.0, -1e-300]), "{mode:?}");
    }
}

#[test]
fn a_plateau_waits_for_infinities_and_nan_as_for_what_is_no_better() {
    let infinity = f64::INFINITY;
    for (mode, sign) in [(PlateauMode::Min, 1.0), (PlateauMode::Max, -1.0)] {
        let rates = |metrics: &[f64]| {
            let metrics: Vec<f64> = metrics.iter().map(|metric| sign * metric).collect();
            after(ReduceLROnPlateau::new().factor(0.5).patience(1).mode(mode), 1.0, &metrics)
        };
        assert_eq!(rates(&[infinity; 4]), [1.0, 0.5, 0.5, 0.25]);
        assert_eq!(rates(&[f64::NAN; 4]), [1.0, 0.5, 0.5, 0.25]);
        assert_eq!(rates(&[infinity, 3.0, infinity, 2.0]), [1.0; 4]);
        assert_eq!(rates(&[3.0, -infinity, -infinity, -9.0]), [1.0, 1.0, 1.0, 0.5]);
    }
    // A state may bring a best of NaN, which must not stop the rule for ever.
    let mut state = StateDict::<f64>::new();
    [("best", "NaN"), ("num_bad_epochs", "0"), ("cooldown_counter", "0")]
        .iter()
        .for_each(|(name, value)| state.set(*name, value));
    let mut plateau = ReduceLROnPlateau::new();
    plateau.load_state_dict(&state).unwrap();
    plateau.step(&mut optimizer(1.0), 3.0).unwrap();
    assert_eq!(plateau.state_dict::<f64>().get::<f64>("best").unwrap(), 3.0);
}

#[test]
fn a_plateau_takes_optimizers_behind_a_pointer() {
    let mut optimizer: Box<dyn Optimizer<f64>> = Box::new(optimizer(1.0));
    let mut plateau = ReduceLROnPlateau::new().patience(0);
    plateau.step(&mut *optimizer, 1.0).unwrap();
    plateau.step(&mut *optimizer, 1.0).unwrap();
    assert_eq!(optimizer.learning_rate(), 0.1);
}

#[test]
fn numbers_outside_their_domain_are_errors() {
    let schedules: [(Box<dyn LRScheduler>, u64, &str); 10] = [
        (Box::new(StepLR::new(0.1, 0)), 0, "StepLR: step_size is 0, expected at least 1"),
        (Box::new(StepLR::new(-0.1, 1)), 0, "StepLR: lr is -0.1, expected a number of at least 0"),
        (
            Box::new(MultiStepLR::new(f64::NAN, &[])),
            0,
            "MultiStepLR: lr is NaN, expected a number of at least 0",
        ),
        (
            Box::new(ExponentialLR::new(0.1, f64::INFINITY)),
            0,
            "ExponentialLR: gamma is inf, expected a number of at least 0",
        ),
        (Box::new(CosineAnnealingLR::new(0.1, 0)), 0, "CosineAnnealingLR: t_max is 0, expected at least 1"),
        (Box::new(LinearLR::new(0.1).total_iters(0)), 0, "LinearLR: total_iters is 0, expected at least 1"),
        (Box::new(OneCycleLR::new(0.1, 7)), 7, "OneCycleLR: step 7 of a cycle of 7 steps"),
        (Box::new(OneCycleLR::new(0.1, 0)), 0, "OneCycleLR: step 0 of a cycle of 0 steps"),
        (
            Box::new(OneCycleLR::new(0.1, 7).pct_start(1.5)),
            0,
            "OneCycleLR: pct_start is 1.5, expected a number in [0, 1]",
        ),
        (
            Box::new(OneCycleLR::new(0.1, 7).div_factor(0.0)),
            0,
            "OneCycleLR: div_factor is 0, expected a number above 0",
        ),
    ];
    for (schedule, step, message) in schedules {
        let error = schedule.lr(step).unwrap_err();
        assert!(matches!(error, Error::Value { .. }));
        assert_eq!(error.to_string(), message);
    }
    let mut optimizer = optimizer(1.0);
    let error = ReduceLROnPlateau::new().factor(1.0).step(&mut optimizer, 1.0).unwrap_err();
    assert_eq!(error.to_string(), "ReduceLROnPlateau: factor is 1, expected a number in [0, 1)");
}
