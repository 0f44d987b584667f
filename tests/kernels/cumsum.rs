//! Cumulative sums against their reference and their promises.

use crate::common::*;
use gristmill::kernels::cumsum;
use gristmill::{Element, reference};
use proptest::prelude::*;

/// The most additions from an element to a result, as documented.
fn depth(n: usize, segment: usize) -> f64 {
    (n.min(segment) + n.div_ceil(segment)) as f64
}

fn check<T: Element>(x: &[T], cols: usize) {
    let (wide, rows) = (widen(x), x.len() / cols);
    on_every_isa(|isa| {
        for reverse in [false, true] {
            let mut y = vec![T::NAN; x.len()];
            cumsum::rows(x, cols, reverse, &mut y).unwrap();
            let exact: Vec<f64> = wide.chunks(cols).flat_map(|x| reference::cumsum(x, reverse)).collect();
            let sizes: Vec<f64> = wide.chunks(cols).flat_map(|x| vec![reference::l1_norm(x); cols]).collect();
            let units = depth(cols, 1024) * unit::<T>() + cols as f64 * unit::<f64>();
            assert_within(&format!("{isa} {rows}×{cols} {reverse}"), &y, &exact, |i| units * sizes[i]);

            cumsum::cols(x, cols, reverse, &mut y).unwrap();
            let units = depth(rows, 128) * unit::<T>() + rows as f64 * unit::<f64>();
            for j in 0..cols {
                let pick = |x: &[f64]| -> Vec<f64> { x.iter().skip(j).step_by(cols).copied().collect() };
                let column = pick(&wide);
                let actual: Vec<T> = y.iter().skip(j).step_by(cols).copied().collect();
                let bound = units * reference::l1_norm(&column);
                let name = format!("{isa} column {j} of {rows}×{cols} {reverse}");
                assert_close(&name, &actual, &reference::cumsum(&column, reverse), 0.0, bound);
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn cumulative_sums_match_the_reference(rows in 1usize..12, cols in 1usize..150, seed in 0u64..1000) {
        check::<f32>(&noise(rows * cols, seed), cols);
        check::<f64>(&noise(rows * cols, seed), cols);
    }
}

/// Integers do not round: an element that is left out, or counted twice, shows.
#[test]
fn every_path_by_size_is_exact_for_integers() {
    let x: Vec<f32> = (0..120_000).map(|i| (i * 7 % 15) as f32 - 7.0).collect();
    for (rows, cols) in [
        (1, 1),
        (1, 1023),
        (2, 1024),
        (2, 1025),
        (1, 4095),
        (2, 4096),
        (1, 4097),
        (3, 5 * 4096 + 17),
        (1, 16 * 1024 + 1),
        (2, 50_000),
        (127, 3),
        (128, 17),
        (129, 16),
        (256, 1),
        (1000, 33),
        (3000, 40),
    ] {
        let x = &x[..rows * cols];
        let wide = widen(x);
        on_every_isa(|isa| {
            for reverse in [false, true] {
                let mut y = vec![f32::NAN; x.len()];
                cumsum::rows(x, cols, reverse, &mut y).unwrap();
                let exact: Vec<f64> = wide.chunks(cols).flat_map(|x| reference::cumsum(x, reverse)).collect();
                assert!(widen(&y) == exact, "{isa} {rows}×{cols} {reverse}");
                cumsum::cols(x, cols, reverse, &mut y).unwrap();
                let columns = reference::by_column(&wide, cols, |x| reference::cumsum(x, reverse));
                let same = (0..x.len()).all(|i| f64::from(y[i]) == columns[i % cols][i / cols]);
                assert!(same, "{isa} columns of {rows}×{cols} {reverse}");
            }
        });
    }
}

#[test]
fn the_same_bits_on_every_isa_and_number_of_threads() {
    fn check<T: Element>(rows: usize, cols: usize) {
        let x = noise::<T>(rows * cols, 3);
        same_bits_everywhere(|| {
            let mut results = Vec::new();
            for reverse in [false, true] {
                let mut y = vec![T::NAN; x.len()];
                cumsum::rows(&x, cols, reverse, &mut y).unwrap();
                results.extend(&y);
                cumsum::cols(&x, cols, reverse, &mut y).unwrap();
                results.extend(y);
            }
            results
        });
    }
    check::<f32>(2, 700_001);
    check::<f32>(5000, 100);
    check::<f64>(40_000, 13);
}

/// A row alone, and the same row among others, long or short: the path does not show.
#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    let x = noise::<f32>(3 * 20_000, 9);
    for cols in [100, 5000, 20_000] {
        for reverse in [false, true] {
            let mut together = vec![0.0; 3 * cols];
            cumsum::rows(&x[..3 * cols], cols, reverse, &mut together).unwrap();
            for (x, together) in x.chunks(cols).zip(together.chunks(cols)) {
                let mut alone = vec![0.0; cols];
                cumsum::rows(x, cols, reverse, &mut alone).unwrap();
                assert_eq!(alone, together);
                // A column of the same numbers has other segments, but is close.
                cumsum::cols(x, 1, reverse, &mut alone).unwrap();
                assert_close("column", &alone, &widen(together), 0.0, 1e-2);
            }
        }
    }
}

#[test]
fn special_values_and_wrong_lengths() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    on_every_isa(|_| {
        for place in [0, 3, 40, 1500] {
            let mut x = vec![1.0_f32; 2000];
            x[place] = nan;
            let mut y = vec![0.0; 2000];
            cumsum::rows(&x, 2000, false, &mut y).unwrap();
            assert!((0..2000).all(|i| y[i].is_nan() == (i >= place)), "{place}");
            cumsum::rows(&x, 2000, true, &mut y).unwrap();
            assert!((0..2000).all(|i| y[i].is_nan() == (i <= place)), "{place}");
            cumsum::cols(&x, 1, false, &mut y).unwrap();
            assert!((0..2000).all(|i| y[i].is_nan() == (i >= place)), "{place}");
        }
        let mut y = [0.0; 3];
        cumsum::rows(&[inf, 1.0, -inf], 3, false, &mut y).unwrap();
        assert!(y[1] == inf && y[2].is_nan());
        cumsum::rows(&[-0.0_f32; 3], 3, false, &mut y).unwrap();
        assert!(y.iter().all(|y| y.to_bits() == (-0.0_f32).to_bits()));
    });
    cumsum::rows::<f32>(&[], 3, false, &mut []).unwrap();
    cumsum::cols::<f32>(&[], 0, true, &mut []).unwrap();
    let text = |result: gristmill::Result<()>| result.unwrap_err().to_string();
    assert_eq!(
        text(cumsum::rows(&[0.0_f32; 6], 4, false, &mut [0.0; 6])),
        "cumsum: 6 elements are not whole rows of 4"
    );
    assert_eq!(
        text(cumsum::cols(&[0.0_f32; 6], 3, false, &mut [0.0; 5])),
        "cumsum: y has 5 elements, expected 6"
    );
}
