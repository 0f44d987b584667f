//! Reductions against their references and their promises.

use crate::common::*;
use crate::registry::reductions::{bound, row_depth};
use gristmill::kernels::reduce::{self, Reduce};
use gristmill::{Element, reference};

const OPS: [Reduce; 5] = [Reduce::Sum, Reduce::Mean, Reduce::Max, Reduce::Min, Reduce::SumOfSquares];

/// Law 3: an element's lane, or its place in a tail, changes nothing.
#[test]
fn counts_and_places_see_special_values_at_every_place() {
    fn check<T: Element>() {
        on_every_isa(|isa| {
            for len in 1..70 {
                for place in 0..len {
                    let name = format!("{isa} {place} of {len}");
                    let mut x = vec![T::ZERO; len];
                    for special in [T::NAN, T::INFINITY, -T::INFINITY, T::ONE] {
                        x[place] = special;
                        assert_eq!(reduce::count_nonzero(&x).unwrap(), 1, "{name}");
                        assert_eq!(reduce::all(Reduce::Any, &x).unwrap(), T::ONE, "{name}");
                        let mut y = vec![T::NAN; len];
                        for op in [Reduce::Any, Reduce::All, Reduce::CountNonzero] {
                            reduce::cols(op, &x, len, &mut y).unwrap();
                            assert!((0..len).all(|i| (y[i] == T::ONE) == (i == place)), "{name} {op:?}");
                            let expected = if op == Reduce::All && len > 1 { T::ZERO } else { T::ONE };
                            reduce::cols(op, &x, 1, &mut y[..1]).unwrap();
                            assert_eq!(y[0], expected, "{name} {op:?}");
                        }
                    }
                    let mut x = vec![T::ONE; len];
                    x[place] = -T::ZERO;
                    assert_eq!(reduce::all(Reduce::All, &x).unwrap(), T::ZERO, "{name}");
                    assert_eq!(reduce::argmin(&x).unwrap(), place, "{name}");
                    let product = reduce::all(Reduce::Prod, &x).unwrap();
                    assert!(product == T::ZERO && product.to_f64().is_sign_negative(), "{name}");
                    x[place] = T::NAN;
                    x[len - 1 - place] = if place == len - 1 - place { T::NAN } else { -T::INFINITY };
                    let mut y = [0];
                    reduce::argmin_cols(&x, 1, &mut y).unwrap();
                    assert_eq!([reduce::argmin(&x).unwrap(), y[0]], [place; 2], "{name}");
                    reduce::argmax_cols(&x, 1, &mut y).unwrap();
                    assert_eq!(y, [place], "{name}");
                    assert!(reduce::all(Reduce::Prod, &x).unwrap().is_nan(), "{name}");
                }
            }
        });
    }
    check::<f32>();
    check::<f64>();
}

/// Half of the numbers take back what the others gave, but for a millionth: the error is within the bound all
/// the same.
#[test]
fn sums_that_cancel_stay_within_the_bound() {
    for len in [64, 1000, 4096, 70_000, 1_000_000] {
        let mut x = noise::<f32>(len, 1);
        for i in 0..len / 2 {
            x[len - 1 - i] = -x[i] * (1.0 + 1e-6 * (i % 7) as f32);
        }
        let wide = widen(&x);
        let limit = bound::<f32>(Reduce::Sum, &wide, row_depth::<f32>(len));
        on_every_isa(|isa| {
            let y = reduce::all(Reduce::Sum, &x).unwrap();
            assert_close(&format!("{isa} sum of {len}"), &[y], &[reference::sum(&wide)], 0.0, limit);
        });
    }
}

/// Sums of small integers do not round: an element that is left out, or taken twice, shows.
#[test]
fn sums_of_integers_are_exact_for_any_shape() {
    let x: Vec<f32> = (0..300_000).map(|i| (i * 7 % 15) as f32).collect();
    on_every_isa(|isa| {
        for n in (0..600).chain([4095, 4096, 4097, 8192, 65_535, 65_536, 65_537, 131_072, 200_001]) {
            let sum = reduce::all(Reduce::Sum, &x[..n]).unwrap();
            assert_eq!(f64::from(sum), reference::sum(&widen(&x[..n])), "{isa}, {n} elements");
        }
        for rows in [1, 2, 5, 127, 128, 129, 255, 256, 257, 383, 640, 1000] {
            for cols in [1, 2, 3, 4, 7, 10, 15, 16, 17, 21, 31, 32, 33, 47, 63, 64, 65, 80, 130, 200] {
                let x = &x[..rows * cols];
                let mut y = vec![f32::NAN; cols];
                reduce::cols(Reduce::Sum, x, cols, &mut y).unwrap();
                let expected = reference::by_column(&widen(x), cols, reference::sum);
                assert_eq!(widen(&y), expected, "{isa}, {rows}×{cols}");
                let mut y = vec![f32::NAN; rows];
                reduce::rows(Reduce::Sum, x, cols, &mut y).unwrap();
                assert_eq!(
                    widen(&y),
                    reference::by_row(&widen(x), cols, reference::sum),
                    "{isa}, {rows}×{cols}"
                );
            }
        }
    });
}

#[test]
fn a_nan_is_the_largest_and_the_smallest_wherever_it_stands() {
    fn check<T: Element>() {
        on_every_isa(|isa| {
            for len in [1, 5, 16, 17, 64, 100, 5000, 70_000] {
                for place in [0, len / 2, len - 1] {
                    let mut x = noise::<T>(len, 3);
                    x[place] = T::NAN;
                    for op in OPS {
                        assert!(reduce::all(op, &x).unwrap().is_nan(), "{isa} {op:?}: {place} of {len}");
                        let mut y = vec![T::ZERO; len];
                        reduce::cols(op, &x, len, &mut y).unwrap();
                        let nans: Vec<_> = (0..len).filter(|&i| y[i].is_nan()).collect();
                        assert_eq!(nans, [place], "{isa} {op:?} by column");
                        let mut y = [T::ZERO];
                        reduce::cols(op, &x, 1, &mut y).unwrap();
                        assert!(y[0].is_nan(), "{isa} {op:?} of one column: {place} of {len}");
                    }
                    assert_eq!(reduce::argmax(&x).unwrap(), place, "{isa}");
                    assert!(reduce::variance_all(&x, 0).unwrap().is_nan());
                }
            }
        });
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn infinities_and_zeros_are_values_like_any_other() {
    let inf = f32::INFINITY;
    let x = [0.0, inf, 1.0, -inf];
    on_every_isa(|_| {
        assert_eq!(reduce::all(Reduce::Max, &x).unwrap(), inf);
        assert_eq!(reduce::all(Reduce::Min, &x).unwrap(), -inf);
        assert_eq!(reduce::all(Reduce::Sum, &x[..3]).unwrap(), inf);
        assert_eq!(reduce::all(Reduce::SumOfSquares, &x).unwrap(), inf);
        assert!(reduce::all(Reduce::Sum, &x).unwrap().is_nan());
        assert!(reduce::variance_all(&x[..3], 0).unwrap().is_nan());
        assert_eq!(reduce::all(Reduce::Max, &[-inf; 3]).unwrap(), -inf);
        assert_eq!(reduce::argmax(&[-inf; 3]).unwrap(), 0);
        assert_eq!(reduce::argmax(&[-1.0, -0.0, 0.0]).unwrap(), 1);
        assert_eq!(reduce::all(Reduce::Sum, &[f32::from_bits(1); 3]).unwrap(), f32::from_bits(3));
    });
}

#[test]
fn the_first_of_equals_is_the_largest() {
    let mut x = vec![0.0_f64; 200_000];
    for place in [199_999, 131_072, 65_536, 65_535, 100, 7] {
        x[place] = 1.0;
        on_every_isa(|isa| assert_eq!(reduce::argmax(&x).unwrap(), place, "{isa}"));
    }
}

#[test]
fn a_variance_does_not_depend_on_the_mean() {
    fn variances<T: Element>(x: &[T]) -> Vec<T> {
        let mut y = vec![reduce::variance_all(x, 0).unwrap(); 3];
        reduce::variance_rows(x, x.len(), 0, &mut y[1..2]).unwrap();
        reduce::variance_cols(x, 1, 0, &mut y[2..]).unwrap();
        y
    }
    on_every_isa(|isa| {
        for len in [2, 100, 5000, 100_000] {
            // All alike: exactly 0, also where the square of the mean, or a sum, is beyond the largest
            // number.
            for x in [0.0, 0.1, 1e6, 1e30, -3e38] {
                assert_eq!(variances(&vec![x as f32; len]), [0.0; 3], "{isa}: {len} × {x}");
                assert_eq!(variances(&vec![x * 5e269; len]), [0.0; 3], "{isa}: {len} × {x} · 5e269");
            }
            // ±spread around a mean ten million times the spread: the variance is spread² (spread is a power
            // of two).
            let spread = 2f32.powi(-20);
            let x: Vec<f32> = (0..len).map(|i| 8.0 + if i % 2 == 0 { spread } else { -spread }).collect();
            assert_close(&format!("{isa} alternating"), &variances(&x), &[2f64.powi(-40); 3], 1e-4, 0.0);
            // The squares add up to more than the largest number; their mean does not.
            let x: Vec<f32> = (0..len).map(|i| if i % 2 == 0 { 1.5e19 } else { -1.5e19 }).collect();
            let square = f64::from(1.5e19_f32).powi(2);
            assert_close(&format!("{isa} large"), &variances(&x), &[square; 3], 1e-4, 0.0);
            // A variance beyond the largest number is infinite.
            let x: Vec<f32> = (0..len).map(|i| if i % 2 == 0 { 3e38 } else { -3e38 }).collect();
            assert_eq!(variances(&x), [f32::INFINITY; 3], "{isa}: {len} elements");
        }
    });
}

#[test]
fn nothing_has_a_sum_but_no_largest() {
    let none: [f32; 0] = [];
    assert_eq!(reduce::all(Reduce::Sum, &none).unwrap(), 0.0);
    assert_eq!(reduce::all(Reduce::SumOfSquares, &none).unwrap(), 0.0);
    assert!(reduce::all(Reduce::Mean, &none).unwrap().is_nan());
    assert_eq!(reduce::all(Reduce::Prod, &none).unwrap(), 1.0);
    assert_eq!(reduce::all(Reduce::Any, &none).unwrap(), 0.0);
    assert_eq!(reduce::all(Reduce::All, &none).unwrap(), 1.0);
    assert_eq!(reduce::count_nonzero(&none).unwrap(), 0);
    assert!(reduce::argmin(&none).is_err() && reduce::argmin_cols(&none, 2, &mut [0; 2]).is_err());
    assert!(reduce::variance_all(&none, 0).unwrap().is_nan());
    assert!(reduce::variance_all(&[1.0_f32], 1).unwrap().is_nan());
    assert_eq!(reduce::variance_all(&[1.0_f32], 0).unwrap(), 0.0);

    let text = |error: gristmill::Error| error.to_string();
    let nothing = "there are no elements to choose from";
    assert_eq!(text(reduce::all(Reduce::Max, &none).unwrap_err()), format!("max: {nothing}"));
    assert_eq!(text(reduce::argmax(&none).unwrap_err()), format!("argmax: {nothing}"));
    assert_eq!(
        text(reduce::cols(Reduce::Min, &none, 2, &mut [0.0; 2]).unwrap_err()),
        format!("min: {nothing}")
    );
    assert_eq!(text(reduce::argmax_rows(&none, 0, &mut [0; 2]).unwrap_err()), format!("argmax: {nothing}"));

    // Two empty rows, and no rows of two columns.
    let mut y = [5.0_f32; 2];
    reduce::rows(Reduce::Sum, &none, 0, &mut y).unwrap();
    assert_eq!(y, [0.0; 2]);
    let mut y = [5.0_f32; 2];
    reduce::cols(Reduce::SumOfSquares, &none, 2, &mut y).unwrap();
    assert_eq!(y, [0.0; 2]);
    reduce::cols(Reduce::Mean, &none, 2, &mut y).unwrap();
    assert!(y.iter().all(|y| y.is_nan()));
    reduce::variance_rows(&none, 0, 0, &mut y).unwrap();
    assert!(y.iter().all(|y| y.is_nan()));
    reduce::rows(Reduce::Max, &none, 3, &mut []).unwrap();
    reduce::argmax_rows(&none, 3, &mut []).unwrap();
    reduce::variance_rows(&none, 3, 0, &mut []).unwrap();
}

#[test]
fn wrong_lengths_are_named() {
    let x = [0.0_f32; 6];
    let text = |result: gristmill::Result<()>| result.unwrap_err().to_string();
    assert_eq!(
        text(reduce::rows(Reduce::Sum, &x, 4, &mut [0.0; 2])),
        "sum: 6 elements are not whole rows of 4"
    );
    assert_eq!(
        text(reduce::rows(Reduce::Sum, &x, 0, &mut [0.0; 2])),
        "sum: 6 elements are not whole rows of 0"
    );
    assert_eq!(text(reduce::rows(Reduce::Mean, &x, 3, &mut [0.0; 3])), "mean: y has 3 elements, expected 2");
    assert_eq!(
        text(reduce::cols(Reduce::SumOfSquares, &x, 3, &mut [0.0; 2])),
        "sum_of_squares: y has 2 elements, expected 3"
    );
    assert_eq!(text(reduce::argmax_rows(&x, 3, &mut [0; 1])), "argmax: y has 1 elements, expected 2");
    assert_eq!(
        text(reduce::variance_rows(&x, 3, 1, &mut [0.0; 1])),
        "variance: y has 1 elements, expected 2"
    );
    assert_eq!(
        text(reduce::variance_cols(&x, 3, 1, &mut [0.0; 1])),
        "variance: y has 1 elements, expected 3"
    );
}
