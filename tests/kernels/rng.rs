//! Random numbers: the right distributions, the same bits everywhere, bad parameters named.

use crate::common::*;
use gristmill::{Element, Rng, rng};
use proptest::prelude::*;

fn mean_and_variance(x: &[f64]) -> (f64, f64) {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    (mean, x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / x.len() as f64)
}

/// The largest distance between the distribution of the numbers and `cdf` (Kolmogorov–Smirnov), times √n:
/// above 1.95 once in a thousand samples.
fn distance(mut x: Vec<f64>, cdf: impl Fn(f64) -> f64) -> f64 {
    x.sort_by(f64::total_cmp);
    let n = x.len() as f64;
    let worst = |(i, &x): (usize, &f64)| (cdf(x) - i as f64 / n).max((i + 1) as f64 / n - cdf(x));
    x.iter().enumerate().map(worst).fold(0.0, f64::max) * n.sqrt()
}

/// Computed by a second implementation, in Python.
#[test]
fn a_seed_gives_these_numbers_for_ever() {
    let mut rng = Rng::seed(4);
    assert_eq!([(); 3].map(|()| rng.next_u32()), WORDS);
    assert_eq!([0, 1, 2].map(|i| rng::word(4, 0, i)), WORDS);
    let mut normals = [0.0_f64; 3];
    rng.fill_normal(0.0, 1.0, &mut normals).unwrap();
    for (actual, expected) in normals.into_iter().zip(NORMALS) {
        assert!((actual - expected).abs() < 1e-14 * expected.abs(), "{actual} instead of {expected}");
    }
    assert_eq!(rng.permutation(8), PERMUTATION);
    assert_eq!(rng.split(), Rng { seed: 4, stream: STREAM, position: 0 });
}
const WORDS: [u32; 3] = [568783721, 3688555623, 3645965947];
const NORMALS: [f64; 3] = [-0.10206535238176706, 2.302951550767306, 1.6185098905427255];
const PERMUTATION: [usize; 8] = [4, 0, 3, 7, 2, 1, 6, 5];
const STREAM: u64 = 0x2E5DDBEE13057CF5;

#[test]
fn the_same_bits_on_every_isa() {
    same_bits_everywhere(|| {
        let (mut rng, mut out) = (Rng::seed(7), vec![0.0_f64; 1001]);
        rng.next_u32();
        rng.fill_normal(0.5, 2.0, &mut out[..500]).unwrap();
        rng.fill_uniform(-1.0, 1.0, &mut out[500..900]).unwrap();
        rng.fill_bernoulli(0.3, &mut out[900..]).unwrap();
        out
    });
}

#[test]
fn uniform_numbers_are_uniform_and_below_their_end() {
    let mut x = vec![0.0_f64; 20_000];
    Rng::seed(1).fill_uniform(2.0, 5.0, &mut x).unwrap();
    assert!(x.iter().all(|x| (2.0..5.0).contains(x)));
    assert!(distance(x, |x| (x - 2.0) / 3.0) < 1.95);

    // A number from few, and so many draws that some round to the end.
    let end = 1.0 + 4.0 * f64::from(f32::EPSILON);
    let mut x = vec![0.0_f32; 1000];
    Rng::seed(2).fill_uniform(1.0, end, &mut x).unwrap();
    assert!(x.iter().all(|&x| (1.0..1.0 + 4.0 * f32::EPSILON).contains(&x)));
    Rng::seed(2).fill_uniform(3.0, 3.0, &mut x).unwrap();
    assert!(x.iter().all(|&x| x == 3.0));

    let mut rng = Rng::seed(3);
    let drawn: Vec<f64> = (0..20_000).map(|_| rng.uniform()).collect();
    assert!(drawn.iter().all(|x| (0.0..1.0).contains(x)));
    assert!(distance(drawn, |x| x) < 1.95);
}

#[test]
fn normal_numbers_are_normal_and_independent_in_pairs() {
    let mut x = vec![0.0_f64; 20_000];
    Rng::seed(1).fill_normal(0.0, 1.0, &mut x).unwrap();
    let product: f64 = x.chunks(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / 10_000.0;
    assert!(product.abs() < 4.0 / 100.0, "correlation {product}");
    let (mean, variance) = mean_and_variance(&x);
    assert!(mean.abs() < 4.0 / 141.0 && (variance - 1.0).abs() < 4.0 * 1.42 / 141.0, "{mean} {variance}");
    assert!(distance(x, |x| 0.5 * libm::erfc(-x / 2.0_f64.sqrt())) < 1.95);

    let mut x = vec![0.0_f32; 9_999];
    Rng::seed(1).fill_normal(-3.0, 0.5, &mut x).unwrap();
    let (mean, variance) = mean_and_variance(&widen(&x));
    assert!((mean + 3.0).abs() < 0.02 && (variance - 0.25).abs() < 0.015, "{mean} {variance}");
}

#[test]
fn f32_numbers_are_the_f64_numbers_rounded() {
    let (mut single, mut double) = (vec![0.0_f32; 777], vec![0.0_f64; 777]);
    Rng::seed(5).fill_normal(1.0, 3.0, &mut single).unwrap();
    Rng::seed(5).fill_normal(1.0, 3.0, &mut double).unwrap();
    assert_eq!(single, narrow::<f32>(&double));
}

#[test]
fn bernoulli_numbers_are_one_with_their_probability() {
    let count = |p: f64| {
        let mut x = vec![f32::NAN; 10_000];
        Rng::seed(9).fill_bernoulli(p, &mut x).unwrap();
        assert!(x.iter().all(|&x| x == 0.0 || x == 1.0));
        x.iter().sum::<f32>()
    };
    assert_eq!((count(0.0), count(1.0)), (0.0, 10_000.0));
    assert!((count(0.3) - 3000.0).abs() < 4.0 * 46.0);
}

#[test]
fn bounded_integers_are_spread_evenly() {
    let (mut rng, mut counts) = (Rng::seed(11), [0; 7]);
    for _ in 0..14_000 {
        counts[rng.below(7).unwrap()] += 1;
    }
    let chi_squared: f64 = counts.iter().map(|&n| (f64::from(n) - 2000.0).powi(2) / 2000.0).sum();
    assert!(chi_squared < 22.5, "{counts:?}"); // six degrees of freedom: once in a thousand
    assert_eq!(rng.below(1).unwrap(), 0);
    assert!(rng.below(usize::MAX).unwrap() < usize::MAX);
}

#[test]
fn every_order_is_equally_likely() {
    let (mut rng, mut counts) = (Rng::seed(13), std::collections::HashMap::new());
    for _ in 0..6000 {
        *counts.entry(rng.permutation(3)).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 6);
    let chi_squared: f64 = counts.values().map(|&n| (f64::from(n) - 1000.0).powi(2) / 1000.0).sum();
    assert!(chi_squared < 20.5, "{counts:?}");
}

#[test]
fn streams_are_repeatable_and_differ() {
    let (mut a, mut b) = (Rng::seed(1), Rng::seed(1));
    let (first, again) = (a.split(), b.split());
    assert_eq!(first, again);
    let second = a.split();
    assert_ne!(first.stream, second.stream);
    let mut draws: Vec<f32> = vec![0.0; 300];
    let (mut first, mut second) = (first, second);
    for rng in [&mut a, &mut first, &mut second] {
        let at = draws.iter().position(|&x| x == 0.0).unwrap();
        rng.fill_uniform(0.5, 1.0, &mut draws[at..at + 100]).unwrap();
    }
    draws.sort_by(f32::total_cmp);
    draws.dedup();
    assert!(draws.len() > 298);
}

fn message<T: std::fmt::Debug>(result: gristmill::Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn bad_parameters_are_named() {
    let (mut rng, mut x) = (Rng::seed(1), [0.0_f32; 2]);
    assert_eq!(message(rng.below(0)), "below: there is no number below 0");
    assert_eq!(message(rng.fill_uniform(1.0, 0.0, &mut x)), "fill_uniform: [1, 0) is not a finite interval");
    assert!(rng.fill_uniform(-f64::MAX, f64::MAX, &mut x).is_err());
    assert!(rng.fill_uniform(f64::NAN, 1.0, &mut x).is_err());
    assert_eq!(
        message(rng.fill_normal(0.0, -1.0, &mut x)),
        "fill_normal: no normal distribution has mean 0 and std -1"
    );
    assert!(rng.fill_normal(f64::INFINITY, 1.0, &mut x).is_err());
    assert_eq!(message(rng.fill_bernoulli(1.5, &mut x)), "fill_bernoulli: 1.5 is not a probability");
    assert!(rng.fill_bernoulli(f64::NAN, &mut x).is_err());
    assert_eq!((rng.position, x), (0, [0.0; 2]));
}

proptest! {
    #[test]
    fn numbers_do_not_depend_on_how_many_are_drawn_at_once(seed: u64, cut in 0usize..200, len in 0usize..300) {
        let (mut whole, mut parts) = (vec![0.0_f32; len], vec![0.0_f32; len]);
        Rng::seed(seed).fill_uniform(0.0, 1.0, &mut whole).unwrap();
        let (first, second) = parts.split_at_mut(cut.min(len));
        let mut rng = Rng::seed(seed);
        rng.fill_uniform(0.0, 1.0, first).unwrap();
        rng.fill_uniform(0.0, 1.0, second).unwrap();
        prop_assert_eq!(whole, parts);
        prop_assert_eq!(rng.position, 2 * len as u64);
    }
}

#[test]
fn nothing_to_fill_draws_nothing() {
    fn check<T: Element>() {
        let mut rng = Rng::seed(1);
        rng.fill_normal::<T>(0.0, 1.0, &mut []).unwrap();
        rng.shuffle(&mut []);
        assert_eq!(rng, Rng::seed(1));
    }
    check::<f32>();
    check::<f64>();
}

/// The draws NumPy made, in its order.
#[test]
fn numpy_agrees_on_its_legacy_generator() {
    let numbers = |case: &serde_json::Value, name: &str| -> Vec<f64> {
        case[name].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let mut seen = 0;
    for case in fixture("numpy_legacy_rng") {
        let mut rng = Rng::numpy(case["seed"].as_u64().unwrap() as u32);
        let drawn: Vec<f64> = (0..8).map(|_| rng.random_sample()).collect();
        assert_eq!(drawn, numbers(&case, "random_sample"));
        for expected in numbers(&case, "standard_normal") {
            let drawn = rng.standard_normal();
            // The last bit is the logarithm's.
            assert!((drawn - expected).abs() <= f64::EPSILON * expected.abs(), "{drawn} {expected}");
        }
        let drawn: Vec<f64> = (0..9).map(|_| rng.randint(0, 100).unwrap() as f64).collect();
        assert_eq!(drawn, numbers(&case, "randint_0_100"));
        let drawn: Vec<f64> = rng.permutation(20).iter().map(|&i| i as f64).collect();
        assert_eq!(drawn, numbers(&case, "permutation_20"));
        let drawn: Vec<f64> = (0..3).map(|_| rng.random_sample()).collect();
        assert_eq!(drawn, numbers(&case, "random_sample_again"));
        seen += 1;
    }
    assert_eq!(seen, 4);
}

/// The 10000th word after seed 5489, which the C++ standard names for its `mt19937`.
#[test]
fn the_legacy_generator_goes_on_after_its_first_words() {
    let mut rng = Rng::numpy(5489);
    let words: Vec<u32> = (0..10_000).map(|_| rng.next_u32()).collect();
    assert_eq!(words[9_999], 4_123_659_995);
}

#[test]
fn legacy_integers_fill_their_range_and_a_range_without_any_is_refused() {
    let mut rng = Rng::numpy(1);
    for (low, high) in [(5, 5), (1, -1), (i64::MAX, i64::MIN)] {
        let error = rng.randint(low, high).unwrap_err().to_string();
        assert!(error.starts_with("randint: ") && error.contains(&low.to_string()), "{error}");
    }
    assert_eq!(rng, Rng::numpy(1), "nothing was drawn");
    assert_eq!(rng.randint(7, 8).unwrap(), 7);
    assert_eq!(rng, Rng::numpy(1), "one possible result needs no draw");
    let mut seen = [false; 6];
    (0..200).for_each(|_| seen[(rng.randint(-3, 3).unwrap() + 3) as usize] = true);
    assert_eq!(seen, [true; 6]);
    // More than 32 bits: drawn from two words.
    let wide: Vec<i64> = (0..50).map(|_| rng.randint(i64::MIN, i64::MAX).unwrap()).collect();
    assert!(wide.iter().any(|&x| x > 1 << 40) && wide.iter().any(|&x| x < -(1 << 40)));
}
