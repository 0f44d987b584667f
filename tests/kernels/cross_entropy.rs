//! Losses of classes against their references, PyTorch and their promises.

use crate::common::*;
use gristmill::kernels::cross_entropy::{self, Options};
use gristmill::kernels::{nll_loss, soft_cross_entropy};
use gristmill::{Element, reference};
use proptest::prelude::*;

/// The most additions from an element of a row to its sum, as documented; rows here are within one block.
fn depth<T: Element>(n: usize) -> f64 {
    n.div_ceil(4 * T::LANES) as f64 + 6.0
}

/// What the kernel may be off, with its depth and units, and what the reference may be, with n additions in f64.
fn both<T: Element>(n: usize, bound: impl Fn(f64, f64) -> f64) -> f64 {
    let smallest = if T::NAME == "f32" { 2f64.powi(-149) } else { f64::from_bits(1) };
    bound(depth::<T>(n), unit::<T>()) + bound(n as f64, unit::<f64>()) + 4.0 * smallest
}

fn targets(rows: usize, classes: usize) -> Vec<usize> {
    (0..rows).map(|row| row * 7 % classes).collect()
}

/// Options in f64.
#[derive(Clone, Debug, Default)]
struct Rule {
    smoothing: f64,
    weight: Option<Vec<f64>>,
    ignore_index: Option<usize>,
}

impl Rule {
    fn smoothed(smoothing: f64) -> Self {
        Self { smoothing, ..Self::default() }
    }

    /// The same, as numbers of type `T` have it: smoothing and weights, and both in f64.
    fn narrow<T: Element>(&self, classes: usize) -> (T, Option<Vec<T>>, f64, Vec<f64>) {
        let (s, weight) = (T::from_f64(self.smoothing), self.weight.as_ref().map(|w| narrow::<T>(w)));
        let wide = weight.as_ref().map_or(vec![1.0; classes], |w| widen(w));
        (s, weight, s.to_f64(), wide)
    }
}

fn check<T: Element>(logits: &[f64], targets: &[usize], classes: usize, rule: &Rule, dlosses: &[f64]) {
    let (z, dlosses) = (narrow::<T>(logits), narrow::<T>(dlosses));
    let (label_smoothing, weight, s, w) = rule.narrow::<T>(classes);
    let ignore_index = rule.ignore_index;
    let options = Options { label_smoothing, weight: weight.as_deref(), ignore_index };
    let wide = widen(&z);
    let (ln_n, share, total) = ((classes as f64).ln(), s / classes as f64, w.iter().sum::<f64>());
    let rows = targets.len();
    let expected = reference::cross_entropy(&wide, targets, classes, s, &w, ignore_index);
    let expected_lse = reference::logsumexp(&wide, classes);
    let expected_gradient =
        reference::cross_entropy_backward(&wide, targets, classes, s, &w, ignore_index, &widen(&dlosses));
    let counts = |row: usize| ignore_index != Some(targets[row]);
    let all = |row: usize| if counts(row) { (1.0 - s) * w[targets[row]] + share * total } else { 0.0 };

    on_every_isa(|isa| {
        let (mut losses, mut lse) = (vec![T::NAN; rows], vec![T::NAN; rows]);
        cross_entropy::forward(&z, targets, classes, options, &mut losses, &mut lse).unwrap();
        assert_within(&format!("{isa} loss"), &losses, &expected, |i| {
            both::<T>(classes, |d, u| {
                let growth = if s == 0.0 && rule.weight.is_none() { 2.0 } else { d + 10.0 };
                (growth * expected[i] + all(i) * (d + 4.0 + 5.0 * ln_n)) * u
            })
        });
        let lse_bound =
            |i: usize| both::<T>(classes, |d, u| (d + 4.0 + 5.0 * ln_n + expected_lse[i].abs()) * u);
        assert_within(&format!("{isa} logsumexp"), &lse, &expected_lse, lse_bound);

        let mut dlogits = vec![T::NAN; z.len()];
        cross_entropy::backward(&z, targets, classes, options, &lse, &dlosses, &mut dlogits).unwrap();
        assert_within(&format!("{isa} gradient"), &dlogits, &expected_gradient, |i| {
            let (row, class) = (i / classes, i % classes);
            let p = all(row) * (wide[i] - expected_lse[row]).exp();
            let hard = if class == targets[row] { (1.0 - s) * w[class] } else { 0.0 };
            let growth = if s > 0.0 && rule.weight.is_some() { depth::<T>(classes) + 12.0 } else { 8.0 };
            let terms =
                ((wide[i] - expected_lse[row]).abs() + growth) * p + 5.0 * share * w[class] + 4.0 * hard;
            let exact_lse =
                both::<T>(classes, |d, u| if u == unit::<T>() { terms * u } else { d * terms * u });
            dlosses[row].to_f64().abs() * (exact_lse + 1.01 * p * lse_bound(row)) + 1e-44
        });
        for row in (0..rows).filter(|&row| !counts(row)) {
            assert_eq!(losses[row].to_f64(), 0.0);
            assert!(dlogits[row * classes..][..classes].iter().all(|dz| dz.to_f64() == 0.0));
        }
    });
}

/// Class probabilities, with both gradients.
fn check_soft<T: Element>(logits: &[f64], targets: &[f64], classes: usize, rule: &Rule, dlosses: &[f64]) {
    let [z, t, dlosses] = [logits, targets, dlosses].map(narrow::<T>);
    let (label_smoothing, weight, s, w) = rule.narrow::<T>(classes);
    let (wide, wide_t, wide_dlosses, weight) = (widen(&z), widen(&t), widen(&dlosses), weight.as_deref());
    let (rows, ln_n) = (dlosses.len(), (classes as f64).ln());
    let expected = reference::soft_cross_entropy(&wide, &wide_t, classes, s, &w);
    let expected_lse = reference::logsumexp(&wide, classes);
    let (expected_dz, expected_dt) =
        reference::soft_cross_entropy_backward(&wide, &wide_t, classes, s, &w, &wide_dlosses);
    let mass = |i: usize| ((1.0 - s) * wide_t[i] + s / classes as f64) * w[i % classes];
    let all: Vec<f64> = (0..rows).map(|row| (0..classes).map(|c| mass(row * classes + c)).sum()).collect();

    on_every_isa(|isa| {
        let (mut losses, mut lse) = (vec![T::NAN; rows], vec![T::NAN; rows]);
        let (mut dz, mut dt, mut alone) =
            (vec![T::NAN; z.len()], vec![T::NAN; z.len()], vec![T::NAN; z.len()]);
        soft_cross_entropy::forward(&z, &t, classes, label_smoothing, weight, &mut losses, &mut lse).unwrap();
        let backward = |dz: &mut [T], dt| {
            soft_cross_entropy::backward(&z, &t, classes, label_smoothing, weight, &lse, &dlosses, dz, dt)
                .unwrap();
        };
        backward(&mut dz, Some(&mut dt));
        backward(&mut alone, None);
        assert!(dz.iter().zip(&alone).all(|(a, b)| a.to_f64().to_bits() == b.to_f64().to_bits()));

        assert_within(&format!("{isa} soft loss"), &losses, &expected, |i| {
            both::<T>(classes, |d, u| ((2.0 * d + 10.0) * expected[i] + all[i] * (d + 4.0 + 5.0 * ln_n)) * u)
        });
        let lse_bound =
            |row: usize| both::<T>(classes, |d, u| (d + 4.0 + 5.0 * ln_n + expected_lse[row].abs()) * u);
        assert_within(&format!("{isa} soft logsumexp"), &lse, &expected_lse, lse_bound);
        let distance = |i: usize| (wide[i] - expected_lse[i / classes]).abs();
        assert_within(&format!("{isa} gradient of soft logits"), &dz, &expected_dz, |i| {
            let p = all[i / classes] * (-distance(i)).exp();
            let own = both::<T>(classes, |d, u| ((distance(i) + 2.0 * d + 12.0) * p + 6.0 * mass(i)) * u);
            wide_dlosses[i / classes].abs() * (own + 1.01 * p * lse_bound(i / classes)) + 1e-44
        });
        assert_within(&format!("{isa} gradient of soft targets"), &dt, &expected_dt, |i| {
            let error = both::<T>(classes, |_, u| 5.0 * distance(i) * u) + lse_bound(i / classes);
            wide_dlosses[i / classes].abs() * (1.0 - s) * w[i % classes] * error + 1e-44
        });
    });
}

/// Weights from 0 to 2 of each class, some of them 0.
fn weights(classes: usize) -> Vec<f64> {
    noise::<f64>(classes, 5).iter().enumerate().map(|(c, w)| if c % 5 == 4 { 0.0 } else { w + 1.0 }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn losses_and_gradients_match_the_reference(
        (classes, logits) in (1usize..150, 0usize..20).prop_flat_map(|(classes, rows)| {
            (Just(classes), prop::collection::vec(-1.0..1.0, classes * rows))
        }),
        scale in prop::sample::select(vec![1.0, 30.0, 500.0]),
        smoothing in prop::sample::select(vec![0.0, 0.1, 1.0]),
        weighted in any::<bool>(),
        ignoring in any::<bool>(),
    ) {
        let rows = logits.len() / classes;
        let logits: Vec<f64> = logits.iter().map(|z| z * scale).collect();
        let (targets, dlosses) = (targets(rows, classes), noise::<f64>(rows, 3));
        let rule = Rule {
            smoothing,
            weight: weighted.then(|| weights(classes)),
            ignore_index: ignoring.then_some(7 % classes),
        };
        check::<f32>(&logits, &targets, classes, &rule, &dlosses);
        check::<f64>(&logits, &targets, classes, &rule, &dlosses);
        let probabilities = reference::softmax(&noise::<f64>(logits.len(), 4), classes);
        check_soft::<f32>(&logits, &probabilities, classes, &rule, &dlosses);
        check_soft::<f64>(&logits, &probabilities, classes, &rule, &dlosses);
    }

    #[test]
    fn likelihoods_are_picked_and_weighted(
        classes in 1usize..40, rows in 0usize..30, weighted in any::<bool>(), ignoring in any::<bool>(),
    ) {
        fn check<T: Element>(classes: usize, rows: usize, weight: Option<&[f64]>, ignore_index: Option<usize>) {
            let (x, dlosses) = (noise::<T>(rows * classes, 1), noise::<T>(rows, 2));
            let (targets, weight) = (targets(rows, classes), weight.map(narrow::<T>));
            let w = weight.as_ref().map_or(vec![1.0; classes], |w| widen(w));
            on_every_isa(|isa| {
                let (mut losses, mut dx) = (vec![T::NAN; rows], vec![T::NAN; x.len()]);
                let weight = weight.as_deref();
                nll_loss::forward(&x, &targets, classes, weight, ignore_index, &mut losses).unwrap();
                nll_loss::backward(&targets, classes, weight, ignore_index, &dlosses, &mut dx).unwrap();
                let expected = reference::nll_loss(&widen(&x), &targets, classes, &w, ignore_index);
                assert_within(&format!("{isa} loss"), &losses, &expected, |i| unit::<T>() * expected[i].abs());
                let expected =
                    reference::nll_loss_backward(&targets, classes, &w, ignore_index, &widen(&dlosses));
                assert_within(&format!("{isa} gradient"), &dx, &expected, |i| unit::<T>() * expected[i].abs());
            });
        }
        let weight = weighted.then(|| weights(classes));
        let ignore_index = ignoring.then_some(7 % classes);
        check::<f32>(classes, rows, weight.as_deref(), ignore_index);
        check::<f64>(classes, rows, weight.as_deref(), ignore_index);
    }
}

/// The reference and the kernel in f64 agree with PyTorch; f32 is measured against the reference.
#[test]
fn pytorch_agrees() {
    for case in fixture("softmax") {
        let z = data(&case["x"]);
        let classes = case["x"]["shape"][1].as_u64().unwrap() as usize;
        let targets: Vec<usize> =
            case["target"].as_array().unwrap().iter().map(|t| t.as_u64().unwrap() as usize).collect();
        let rows = targets.len();
        let mean = 1.0 / rows as f64;
        for (kind, smoothing, dloss) in [("mean", 0.0, mean), ("sum", 0.0, 1.0), ("smooth_0.1", 0.1, mean)] {
            let total = [case[format!("cross_entropy_{kind}")].as_f64().unwrap()];
            let gradient = data(&case[format!("dcross_entropy_{kind}")]);
            let close = |name: &str, losses: &[f64], dlogits: &[f64]| {
                let name = format!("{name} cross_entropy_{kind} of {}", case["name"]);
                assert_close(&name, &[losses.iter().sum::<f64>() * dloss], &total, 1e-10, 1e-13);
                assert_close(&name, dlogits, &gradient, 1e-10, 1e-13);
            };
            let (dlosses, ones) = (vec![dloss; rows], vec![1.0; classes]);
            let options = Options { label_smoothing: smoothing, ..Options::default() };
            let losses = reference::cross_entropy(&z, &targets, classes, smoothing, &ones, None);
            let dlogits =
                reference::cross_entropy_backward(&z, &targets, classes, smoothing, &ones, None, &dlosses);
            close("reference", &losses, &dlogits);
            on_every_isa(|isa| {
                let (mut losses, mut lse, mut dz) = (vec![0.0; rows], vec![0.0; rows], vec![0.0; z.len()]);
                cross_entropy::forward(&z, &targets, classes, options, &mut losses, &mut lse).unwrap();
                cross_entropy::backward(&z, &targets, classes, options, &lse, &dlosses, &mut dz).unwrap();
                close(isa.name(), &losses, &dz);
            });
            check::<f32>(&z, &targets, classes, &Rule::smoothed(smoothing), &dlosses);
        }
    }
}

#[test]
fn a_dominating_target_has_a_loss_near_zero_whatever_its_size() {
    on_every_isa(|isa| {
        for offset in [0.0_f32, 1e4, -1e6] {
            let (mut loss, mut lse) = ([f32::NAN], [0.0]);
            let z = [offset, offset + 16.0, offset];
            cross_entropy::forward(&z, &[1], 3, Options::default(), &mut loss, &mut lse).unwrap();
            let expected = (2.0 * (-16f64).exp()).ln_1p();
            assert_close(&format!("{isa} at {offset}"), &loss, &[expected], 0.0, 12.0 * unit::<f32>());
        }
    });
}

#[test]
fn the_same_bits_on_every_isa_and_number_of_threads() {
    fn check<T: Element>(len: usize, classes: usize) {
        let (z, targets, t) = (noise::<T>(len, 1), targets(len / classes, classes), noise::<T>(len, 2));
        let (label_smoothing, w) = (T::from_f64(0.1), narrow::<T>(&weights(classes)));
        let (weight, ignore_index) = (Some(&w[..]), Some(7 % classes));
        let options = Options { label_smoothing, weight, ignore_index };
        same_bits_everywhere(|| {
            let [mut losses, mut lse] = [(); 2].map(|()| vec![T::NAN; targets.len()]);
            let [mut dz, mut dt] = [(); 2].map(|()| vec![T::NAN; len]);
            let mut results: Vec<T> = vec![];
            cross_entropy::forward(&z, &targets, classes, options, &mut losses, &mut lse).unwrap();
            cross_entropy::backward(&z, &targets, classes, options, &lse, &losses, &mut dz).unwrap();
            results.extend(losses.iter().chain(&lse).chain(&dz));
            soft_cross_entropy::forward(&z, &t, classes, label_smoothing, weight, &mut losses, &mut lse)
                .unwrap();
            soft_cross_entropy::backward(
                &z,
                &t,
                classes,
                label_smoothing,
                weight,
                &lse,
                &losses,
                &mut dz,
                Some(&mut dt),
            )
            .unwrap();
            results.extend(losses.iter().chain(&lse).chain(&dz).chain(&dt));
            nll_loss::forward(&z, &targets, classes, weight, ignore_index, &mut losses).unwrap();
            nll_loss::backward(&targets, classes, weight, ignore_index, &losses, &mut dz).unwrap();
            results.extend(losses.iter().chain(&dz));
            results
        });
    }
    check::<f32>(600_000, 10);
    check::<f64>(400_000, 1000);
}

#[test]
fn infinities_and_nan_are_what_pytorch_makes_of_them() {
    let inf = f64::INFINITY;
    // NaN, +∞, −∞ alone, −∞ beside the target, a target of −∞.
    let z = [0.0, f64::NAN, 0.0, inf, -inf, -inf, 0.0, -inf, -inf, 0.0];
    on_every_isa(|isa| {
        let (mut losses, mut lse, mut dz) = ([0.0; 5], [0.0; 5], [0.0; 10]);
        cross_entropy::forward(&z, &[0; 5], 2, Options::default(), &mut losses, &mut lse).unwrap();
        assert!(losses[..3].iter().all(|loss| loss.is_nan()), "{isa}: {losses:?}");
        assert_eq!(losses[3..], [0.0, inf], "{isa}");
        cross_entropy::backward(&z, &[0; 5], 2, Options::default(), &lse, &[1.0; 5], &mut dz).unwrap();
        assert!(dz[..6].iter().all(|dz| dz.is_nan()), "{isa}: {dz:?}");
        assert_eq!(dz[6..], [0.0, 0.0, -1.0, 1.0], "{isa}");
        let smoothed = Options { label_smoothing: 0.1, ..Options::default() };
        cross_entropy::forward(&z[6..], &[0; 2], 2, smoothed, &mut losses[..2], &mut lse[..2]).unwrap();
        assert_eq!(losses[..2], [inf, inf], "{isa}, smoothed");
        let weightless = Options { weight: Some(&[0.0, 1.0]), ..Options::default() };
        cross_entropy::forward(&z[6..], &[0; 2], 2, weightless, &mut losses[..2], &mut lse[..2]).unwrap();
        assert_eq!(losses[0], 0.0, "{isa}");
        assert!(losses[1].is_nan(), "{isa}: 0 times ∞");
        let t = [0.0, 1.0, 0.5, 0.5, 1.0, 0.0, 1.0, 0.0, 0.5, 0.5];
        soft_cross_entropy::forward(&z, &t, 2, 0.0, None, &mut losses, &mut lse).unwrap();
        assert!(losses[..4].iter().all(|loss| loss.is_nan()), "{isa}: {losses:?}");
        assert_eq!(losses[4], inf, "{isa}");
    });
}

#[test]
fn ignored_rows_count_nothing_whatever_they_hold() {
    let z = [f64::NAN, f64::INFINITY, 0.0, 0.0];
    on_every_isa(|isa| {
        for label_smoothing in [0.0, 0.1] {
            // Not a class.
            let options = Options { label_smoothing, ignore_index: Some(9), ..Options::default() };
            let ([mut losses, mut lse], mut dz) = ([[f64::NAN; 2]; 2], [f64::NAN; 4]);
            cross_entropy::forward(&z, &[9, 1], 2, options, &mut losses, &mut lse).unwrap();
            cross_entropy::backward(&z, &[9, 1], 2, options, &lse, &[f64::INFINITY, 1.0], &mut dz).unwrap();
            assert_close(&format!("{isa} losses"), &losses, &[0.0, 2f64.ln()], 1e-15, 0.0);
            assert_eq!(dz[..2], [0.0; 2], "{isa}");
            nll_loss::forward(&z, &[9, 1], 2, None, Some(9), &mut losses).unwrap();
            nll_loss::backward(&[9, 1], 2, None, Some(9), &[f64::INFINITY, 2.0], &mut dz).unwrap();
            assert_eq!((losses, dz), ([0.0; 2], [0.0, 0.0, 0.0, -2.0]), "{isa}");
        }
    });
}

#[test]
fn wrong_arguments_are_named() {
    let z = [0.0_f32; 40];
    let forward = |targets: &[usize], classes, smoothing, losses, logsumexp| {
        let (mut losses, mut logsumexp) = (vec![0.0; losses], vec![0.0; logsumexp]);
        let options = Options { label_smoothing: smoothing, ..Options::default() };
        cross_entropy::forward(&z, targets, classes, options, &mut losses, &mut logsumexp)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(forward(&[0; 4], 7, 0.0, 4, 4), "cross_entropy: 40 elements are not whole rows of 7");
    assert_eq!(forward(&[0; 3], 10, 0.0, 4, 4), "cross_entropy: targets has 3 elements, expected 4");
    assert_eq!(forward(&[0; 4], 10, 0.0, 3, 4), "cross_entropy: losses has 3 elements, expected 4");
    assert_eq!(forward(&[0; 4], 10, 0.0, 4, 3), "cross_entropy: logsumexp has 3 elements, expected 4");
    assert_eq!(
        forward(&[0, 9, 0, 12], 10, 0.0, 4, 4),
        "cross_entropy: target 12 of row 3 is not one of 10 classes"
    );
    assert_eq!(forward(&[0; 4], 10, 1.5, 4, 4), "cross_entropy: label smoothing 1.5 is outside 0 to 1");
    assert_eq!(forward(&[0; 4], 10, f32::NAN, 4, 4), "cross_entropy: label smoothing NaN is outside 0 to 1");
    let plain = Options::default();
    let error = cross_entropy::backward(&z, &[0; 4], 10, plain, &[0.0; 4], &[0.0; 3], &mut [0.0; 40]);
    assert_eq!(error.unwrap_err().to_string(), "cross_entropy: dlosses has 3 elements, expected 4");
    let error = cross_entropy::backward(&z, &[0; 4], 10, plain, &[0.0; 4], &[0.0; 4], &mut [0.0; 4]);
    assert_eq!(error.unwrap_err().to_string(), "cross_entropy: dlogits has 4 elements, expected 40");
    let few = Options { weight: Some(&[1.0; 3]), ..plain };
    let error = cross_entropy::forward(&z, &[0; 4], 10, few, &mut [0.0; 4], &mut [0.0; 4]);
    assert_eq!(error.unwrap_err().to_string(), "cross_entropy: weight has 3 elements, expected 10");
    let other = Options { ignore_index: Some(11), ..plain };
    let error = cross_entropy::forward(&z, &[0, 11, 12, 0], 10, other, &mut [0.0; 4], &mut [0.0; 4]);
    assert_eq!(error.unwrap_err().to_string(), "cross_entropy: target 12 of row 2 is not one of 10 classes");

    let soft = |targets: usize, smoothing, weight: Option<&[f32]>| {
        let (t, mut losses) = (vec![0.0; targets], [0.0; 4]);
        let error = soft_cross_entropy::forward(&z, &t, 10, smoothing, weight, &mut losses, &mut [0.0; 4]);
        error.unwrap_err().to_string()
    };
    assert_eq!(soft(39, 0.0, None), "soft_cross_entropy: targets has 39 elements, expected 40");
    assert_eq!(soft(40, -0.5, None), "soft_cross_entropy: label smoothing -0.5 is outside 0 to 1");
    assert_eq!(soft(40, 0.0, Some(&[1.0])), "soft_cross_entropy: weight has 1 elements, expected 10");
    let (x, lse, mut dx) = (&z[..], &[0.0; 4], [0.0; 40]);
    let error = soft_cross_entropy::backward(x, x, 10, 0.0, None, lse, lse, &mut dx, Some(&mut [0.0; 4]));
    assert_eq!(error.unwrap_err().to_string(), "soft_cross_entropy: dtargets has 4 elements, expected 40");

    let error = nll_loss::forward(&z, &[0, 0, 0, 10], 10, None, Some(3), &mut [0.0; 4]);
    assert_eq!(error.unwrap_err().to_string(), "nll_loss: target 10 of row 3 is not one of 10 classes");
    let error = nll_loss::backward(&[0; 4], 10, Some(&[1.0]), None, &[0.0; 4], &mut dx);
    assert_eq!(error.unwrap_err().to_string(), "nll_loss: weight has 1 elements, expected 10");
    let error = nll_loss::total_weight(&[0, 1, 2], Some(&[1.0_f32]), Some(1));
    assert_eq!(error.unwrap_err().to_string(), "nll_loss: target 2 of row 2 is not one of 1 classes");

    for classes in [0, 10] {
        cross_entropy::forward::<f32>(&[], &[], classes, plain, &mut [], &mut []).unwrap();
        cross_entropy::backward::<f32>(&[], &[], classes, plain, &[], &[], &mut []).unwrap();
        soft_cross_entropy::forward::<f32>(&[], &[], classes, 0.1, None, &mut [], &mut []).unwrap();
        let none = Some(&mut [][..]);
        soft_cross_entropy::backward::<f32>(&[], &[], classes, 0.1, None, &[], &[], &mut [], none).unwrap();
        nll_loss::forward::<f32>(&[], &[], classes, None, None, &mut []).unwrap();
        nll_loss::backward::<f32>(&[], classes, None, None, &[], &mut []).unwrap();
    }
}
