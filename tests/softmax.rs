//! Softmax against its reference and its promises.

mod common;

use common::*;
use gristmill::{Element, kernels::softmax, reference};
use proptest::prelude::*;

fn check_forward<T: Element>(x: &[f64], cols: usize) {
    let x = narrow::<T>(x);
    let expected = reference::softmax(&widen(&x), cols);
    on_every_isa(|isa| {
        let mut y = vec![T::ZERO; x.len()];
        softmax::forward(&x, cols, &mut y).unwrap();
        // 2 ULP of exp, one rounding for x − max seen through exp, the sum, the quotient.
        let max = x.iter().fold(0.0, |max: f64, x| max.max(x.to_f64().abs()));
        let relative = unit::<T>() * (4.0 + 2.0 * max + (cols as f64 / 64.0 + 16.0) + 2.0);
        assert_close(&format!("{isa} softmax"), &y, &expected, relative, f64::MIN_POSITIVE.max(1e-44));
    });
}

proptest! {
    #[test]
    fn softmax_matches_the_reference((cols, x) in (1usize..70, 0usize..5).prop_flat_map(|(cols, rows)| {
        (Just(cols), prop::collection::vec(-30.0..30.0, cols * rows))
    })) {
        check_forward::<f32>(&x, cols);
        check_forward::<f64>(&x, cols);
    }
}

#[test]
fn the_same_bits_on_every_isa_and_number_of_threads() {
    let x = noise::<f32>(100_000, 1);
    same_bits_everywhere(|| {
        let mut y = vec![0.0_f32; x.len()];
        softmax::forward(&x, 100, &mut y).unwrap();
        y
    });
}

#[test]
fn wrong_lengths_are_named() {
    let error = softmax::forward(&[0.0_f32; 7], 3, &mut [0.0; 7]).unwrap_err();
    assert_eq!(error.to_string(), "softmax: 7 elements are not whole rows of 3");
}
