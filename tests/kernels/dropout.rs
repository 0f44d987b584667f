//! Dropout against its reference and its promises.

use crate::common::*;
use gristmill::kernels::dropout::{self, Key};
use gristmill::{Element, rng};

const KEY: Key = Key { seed: 0x1234_5678_9ABC_DEF0, stream: 77 };

fn words(key: Key, len: usize) -> Vec<u32> {
    (0..len as u64).map(|i| rng::word(key.seed, key.stream, i)).collect()
}

#[test]
fn as_many_are_dropped_as_asked_for() {
    let mut y = vec![0.0_f32; 100_000];
    for p in [0.1, 0.5, 0.9] {
        dropout::forward(&vec![1.0; 100_000], p, KEY, &mut y).unwrap();
        let dropped = y.iter().filter(|&&y| y == 0.0).count() as f64;
        assert!((dropped - 1e5 * p).abs() < 4.0 * (1e5 * p * (1.0 - p)).sqrt(), "{dropped} of 100000 at {p}");
    }
}

#[test]
fn the_ends_copy_and_clear_and_dropped_specials_are_zero() {
    fn check<T: Element>() {
        let x = [T::NAN, T::INFINITY, -T::INFINITY, -T::ZERO, T::ONE].repeat(40);
        let mut y = vec![T::ONE; x.len()];
        dropout::forward(&x, 0.0, KEY, &mut y).unwrap();
        assert!(widen(&y).iter().zip(widen(&x)).all(|(y, x)| y.to_bits() == x.to_bits()));
        dropout::forward(&x, 1.0, KEY, &mut y).unwrap();
        assert!(y.iter().all(|y| y.to_f64().to_bits() == 0));
        on_every_isa(|isa| {
            let (words, p, mut y) = (words(KEY, x.len()), 0.5, vec![T::ONE; x.len()]);
            dropout::forward(&x, p, KEY, &mut y).unwrap();
            for ((x, y), word) in x.iter().zip(&y).zip(words) {
                let expected = if word >= 1 << 31 { x.to_f64() / (1.0 - p) } else { 0.0 };
                let alike = expected.is_nan() && y.is_nan();
                assert!(alike || y.to_f64().to_bits() == expected.to_bits(), "{isa}: {x} gives {y}");
            }
        });
        dropout::forward::<T>(&[], 0.5, KEY, &mut []).unwrap();
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn both_types_have_the_same_mask() {
    let (mut single, mut double) = (vec![0.0_f32; 500], vec![0.0_f64; 500]);
    dropout::forward(&[1.0; 500], 0.5, KEY, &mut single).unwrap();
    dropout::forward(&[1.0; 500], 0.5, KEY, &mut double).unwrap();
    assert_eq!(widen(&single), double);
}

#[test]
fn bad_arguments_are_named() {
    let error = dropout::forward(&[0.0_f32; 7], 0.5, KEY, &mut [0.0; 6]).unwrap_err();
    assert_eq!(error.to_string(), "dropout: y has 6 elements, expected 7");
    let error = dropout::backward(&[0.0_f32; 7], 0.5, KEY, &mut [0.0; 6]).unwrap_err();
    assert_eq!(error.to_string(), "dropout_backward: dx has 6 elements, expected 7");
    for p in [-0.1, 1.1, f64::NAN] {
        let error = dropout::forward(&[0.0_f32; 7], p, KEY, &mut [0.0; 7]).unwrap_err();
        assert_eq!(error.to_string(), format!("dropout: {p} is not a probability"));
    }
}

#[test]
fn in_place_is_forward() {
    let key = dropout::Key::from(gristmill::Rng::seed(7).split());
    for len in [0, 1, 63, 64, 65, 4095, 4097, 10_000] {
        for p in [0.0, 0.4, 1.0] {
            on_every_isa(|isa| {
                let x = noise::<f32>(len, 3);
                let (mut y, mut z) = (vec![0.0; len], x.clone());
                dropout::forward(&x, p, key, &mut y).unwrap();
                dropout::in_place(p, key, &mut z).unwrap();
                assert_eq!(y, z, "{isa} {len} {p}");
            });
        }
    }
    assert!(dropout::in_place(f64::NAN, key, &mut [0.0_f32; 2]).is_err());
}
