//! Cross-entropy against its reference, PyTorch and its promises.

mod common;

use common::*;
use gristmill::kernels::cross_entropy;
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

fn check<T: Element>(logits: &[f64], targets: &[usize], classes: usize, smoothing: f64, dlosses: &[f64]) {
    let (z, smoothing, dlosses) = (narrow::<T>(logits), T::from_f64(smoothing), narrow::<T>(dlosses));
    let (wide, s) = (widen(&z), smoothing.to_f64());
    let ln_n = (classes as f64).ln();
    let rows = targets.len();
    let expected = reference::cross_entropy(&wide, targets, classes, s);
    let expected_lse = reference::logsumexp(&wide, classes);
    let expected_gradient = reference::cross_entropy_backward(&wide, targets, classes, s, &widen(&dlosses));

    on_every_isa(|isa| {
        let (mut losses, mut lse) = (vec![T::NAN; rows], vec![T::NAN; rows]);
        cross_entropy::forward(&z, targets, classes, smoothing, &mut losses, &mut lse).unwrap();
        assert_within(&format!("{isa} loss"), &losses, &expected, |i| {
            both::<T>(classes, |d, u| {
                let growth = if s == 0.0 { 2.0 } else { d + 10.0 };
                (growth * expected[i] + d + 4.0 + 5.0 * ln_n) * u
            })
        });
        let lse_bound =
            |i: usize| both::<T>(classes, |d, u| (d + 4.0 + 5.0 * ln_n + expected_lse[i].abs()) * u);
        assert_within(&format!("{isa} logsumexp"), &lse, &expected_lse, lse_bound);

        let mut dlogits = vec![T::NAN; z.len()];
        cross_entropy::backward(&z, targets, classes, smoothing, &lse, &dlosses, &mut dlogits).unwrap();
        assert_within(&format!("{isa} gradient"), &dlogits, &expected_gradient, |i| {
            let row = i / classes;
            let p = (wide[i] - expected_lse[row]).exp();
            let at_target = if i % classes == targets[row] { 3.0 } else { 0.0 };
            let terms =
                ((wide[i] - expected_lse[row]).abs() + 5.0) * p + 4.0 * s / classes as f64 + at_target;
            let exact_lse =
                both::<T>(classes, |d, u| if u == unit::<T>() { terms * u } else { d * terms * u });
            dlosses[row].to_f64().abs() * (exact_lse + 1.01 * p * lse_bound(row)) + 1e-44
        });
    });
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
    ) {
        let rows = logits.len() / classes;
        let logits: Vec<f64> = logits.iter().map(|z| z * scale).collect();
        let (targets, dlosses) = (targets(rows, classes), noise::<f64>(rows, 3));
        check::<f32>(&logits, &targets, classes, smoothing, &dlosses);
        check::<f64>(&logits, &targets, classes, smoothing, &dlosses);
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
            let dlosses = vec![dloss; rows];
            let losses = reference::cross_entropy(&z, &targets, classes, smoothing);
            let dlogits = reference::cross_entropy_backward(&z, &targets, classes, smoothing, &dlosses);
            close("reference", &losses, &dlogits);
            on_every_isa(|isa| {
                let (mut losses, mut lse, mut dz) = (vec![0.0; rows], vec![0.0; rows], vec![0.0; z.len()]);
                cross_entropy::forward(&z, &targets, classes, smoothing, &mut losses, &mut lse).unwrap();
                cross_entropy::backward(&z, &targets, classes, smoothing, &lse, &dlosses, &mut dz).unwrap();
                close(isa.name(), &losses, &dz);
            });
            check::<f32>(&z, &targets, classes, smoothing, &dlosses);
        }
    }
}

#[test]
fn a_dominating_target_has_a_loss_near_zero_whatever_its_size() {
    on_every_isa(|isa| {
        for offset in [0.0_f32, 1e4, -1e6] {
            let (mut loss, mut lse) = ([f32::NAN], [0.0]);
            let z = [offset, offset + 16.0, offset];
            cross_entropy::forward(&z, &[1], 3, 0.0, &mut loss, &mut lse).unwrap();
            let expected = (2.0 * (-16f64).exp()).ln_1p();
            assert_close(&format!("{isa} at {offset}"), &loss, &[expected], 0.0, 12.0 * unit::<f32>());
        }
    });
}

#[test]
fn the_same_bits_on_every_isa_and_number_of_threads() {
    fn check<T: Element>(len: usize, classes: usize) {
        let (z, targets) = (noise::<T>(len, 1), targets(len / classes, classes));
        let smoothing = T::from_f64(0.1);
        same_bits_everywhere(|| {
            let (mut results, mut lse) = (vec![T::NAN; targets.len()], vec![T::NAN; targets.len()]);
            cross_entropy::forward(&z, &targets, classes, smoothing, &mut results, &mut lse).unwrap();
            let mut dz = vec![T::NAN; len];
            cross_entropy::backward(&z, &targets, classes, smoothing, &lse, &results, &mut dz).unwrap();
            results.extend(lse.iter().chain(&dz));
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
        cross_entropy::forward(&z, &[0; 5], 2, 0.0, &mut losses, &mut lse).unwrap();
        assert!(losses[..3].iter().all(|loss| loss.is_nan()), "{isa}: {losses:?}");
        assert_eq!(losses[3..], [0.0, inf], "{isa}");
        cross_entropy::backward(&z, &[0; 5], 2, 0.0, &lse, &[1.0; 5], &mut dz).unwrap();
        assert!(dz[..6].iter().all(|dz| dz.is_nan()), "{isa}: {dz:?}");
        assert_eq!(dz[6..], [0.0, 0.0, -1.0, 1.0], "{isa}");
        cross_entropy::forward(&z[6..], &[0; 2], 2, 0.1, &mut losses[..2], &mut lse[..2]).unwrap();
        assert_eq!(losses[..2], [inf, inf], "{isa}, smoothed");
    });
}

#[test]
fn wrong_arguments_are_named() {
    let z = [0.0_f32; 40];
    let forward = |targets: &[usize], classes, smoothing, losses, logsumexp| {
        let (mut losses, mut logsumexp) = (vec![0.0; losses], vec![0.0; logsumexp]);
        cross_entropy::forward(&z, targets, classes, smoothing, &mut losses, &mut logsumexp)
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
    let error = cross_entropy::backward(&z, &[0; 4], 10, 0.0, &[0.0; 4], &[0.0; 3], &mut [0.0; 40]);
    assert_eq!(error.unwrap_err().to_string(), "cross_entropy: dlosses has 3 elements, expected 4");
    let error = cross_entropy::backward(&z, &[0; 4], 10, 0.0, &[0.0; 4], &[0.0; 4], &mut [0.0; 4]);
    assert_eq!(error.unwrap_err().to_string(), "cross_entropy: dlogits has 4 elements, expected 40");
    for classes in [0, 10] {
        cross_entropy::forward::<f32>(&[], &[], classes, 0.0, &mut [], &mut []).unwrap();
        cross_entropy::backward::<f32>(&[], &[], classes, 0.0, &[], &[], &mut []).unwrap();
    }
}
