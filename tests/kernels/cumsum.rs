//! Cumulative sums against their reference and their promises.

use crate::common::*;
use gristmill::kernels::cumsum;
use gristmill::reference;

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
