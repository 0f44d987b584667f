//! Reductions against their references and their promises.

use crate::common::*;
use gristmill::kernels::reduce::{self, Reduce};
use gristmill::{Element, reference};
use proptest::prelude::*;

const OPS: [Reduce; 5] = [Reduce::Sum, Reduce::Mean, Reduce::Max, Reduce::Min, Reduce::SumOfSquares];

fn expected(op: Reduce, x: &[f64]) -> f64 {
    match op {
        Reduce::Sum => reference::sum(x),
        Reduce::Mean => reference::mean(x),
        Reduce::Max => reference::max(x),
        Reduce::Min => reference::min(x),
        Reduce::SumOfSquares => reference::sum_of_squares(x),
        Reduce::Prod => reference::prod(x),
        Reduce::Any => reference::any(x),
        Reduce::All => reference::all(x),
        Reduce::CountNonzero => reference::count_nonzero(x) as f64,
    }
}

fn log2_ceil(n: usize) -> f64 {
    f64::from(n.max(1).next_power_of_two().trailing_zeros())
}

/// The most additions from an element of a row to its sum, as documented.
fn row_depth<T: Element>(n: usize) -> f64 {
    n.min(4096).div_ceil(4 * T::LANES) as f64 + 6.0 + log2_ceil(n.div_ceil(4096))
}

/// The most additions from an element of a column to its sum, as documented.
fn column_depth(n: usize) -> f64 {
    (n as f64).min(128.0 + log2_ceil(n))
}

/// The documented bound, and that of the reference, which adds one element after the other in f64.
fn bound<T: Element>(op: Reduce, x: &[f64], depth: f64) -> f64 {
    let units = (depth + 1.0) * unit::<T>() + (x.len() as f64 + 1.0) * unit::<f64>();
    match op {
        Reduce::Max | Reduce::Min | Reduce::Any | Reduce::All | Reduce::CountNonzero => 0.0,
        Reduce::Prod => units * reference::prod(x).abs(),
        Reduce::Sum => units * x.iter().map(|x| x.abs()).sum::<f64>(),
        Reduce::Mean => units * x.iter().map(|x| x.abs()).sum::<f64>() / x.len() as f64,
        Reduce::SumOfSquares => units * reference::sum_of_squares(x),
    }
}

fn variance_bound<T: Element>(x: &[f64], correction: usize, depth: f64) -> f64 {
    let n = x.len() as f64;
    let variance = reference::variance(x, 0);
    let shifted: Vec<f64> = x.iter().map(|v| v - x[0]).collect();
    let distance = reference::mean(&shifted).abs() / variance.sqrt().max(f64::MIN_POSITIVE);
    let units = (depth + 7.0 + 2.0 * distance) * unit::<T>() + (n + 7.0 + 2.0 * distance) * unit::<f64>();
    let smallest = if T::NAME == "f32" { 2f64.powi(-149) } else { f64::from_bits(1) };
    units * reference::variance(x, correction) + n * smallest
}

/// All reductions of one matrix.
fn check<T: Element>(x: &[f64], cols: usize) {
    let x = narrow::<T>(x);
    let wide = widen(&x);
    let rows = x.len() / cols;
    let by_row = |reduce: &dyn Fn(&[f64]) -> f64| reference::by_row(&wide, cols, reduce);
    let by_column = |reduce: &dyn Fn(&[f64]) -> f64| reference::by_column(&wide, cols, reduce);
    on_every_isa(|isa| {
        for op in OPS {
            let y = [reduce::all(op, &x).unwrap()];
            let name = format!("{isa} {op:?} of {rows}×{cols}");
            assert_close(
                &name,
                &y,
                &[expected(op, &wide)],
                0.0,
                bound::<T>(op, &wide, row_depth::<T>(x.len())),
            );

            let mut y = vec![T::NAN; rows];
            reduce::rows(op, &x, cols, &mut y).unwrap();
            let bounds = by_row(&|x| bound::<T>(op, x, row_depth::<T>(cols)));
            assert_within(&format!("{name} by row"), &y, &by_row(&|x| expected(op, x)), |i| bounds[i]);

            let mut y = vec![T::NAN; cols];
            reduce::cols(op, &x, cols, &mut y).unwrap();
            let bounds = by_column(&|x| bound::<T>(op, x, column_depth(rows)));
            assert_within(&format!("{name} by column"), &y, &by_column(&|x| expected(op, x)), |i| bounds[i]);
        }

        assert_eq!(Some(reduce::argmax(&x).unwrap()), reference::argmax(&wide));
        let mut places = vec![usize::MAX; rows];
        reduce::argmax_rows(&x, cols, &mut places).unwrap();
        assert_eq!(places, reference::by_row(&wide, cols, |x| reference::argmax(x).unwrap()));

        for correction in [0, 1, 3] {
            let name = format!("{isa} variance of {rows}×{cols}, correction {correction}");
            let variance = |x: &[f64]| reference::variance(x, correction);
            let y = [reduce::variance_all(&x, correction).unwrap()];
            let limit = variance_bound::<T>(&wide, correction, row_depth::<T>(x.len()));
            assert_close(&name, &y, &[variance(&wide)], 0.0, limit);

            let mut y = vec![T::ZERO; rows];
            reduce::variance_rows(&x, cols, correction, &mut y).unwrap();
            let bounds = by_row(&|x| variance_bound::<T>(x, correction, row_depth::<T>(cols)));
            assert_within(&format!("{name} by row"), &y, &by_row(&variance), |i| bounds[i]);

            let mut y = vec![T::ZERO; cols];
            reduce::variance_cols(&x, cols, correction, &mut y).unwrap();
            let bounds = by_column(&|x| variance_bound::<T>(x, correction, column_depth(rows)));
            assert_within(&format!("{name} by column"), &y, &by_column(&variance), |i| bounds[i]);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn reductions_match_the_reference(
        (cols, x) in (1usize..150, 1usize..12).prop_flat_map(|(cols, rows)| {
            (Just(cols), prop::collection::vec(-1.0..1.0, cols * rows))
        }),
        exponent in -8i32..8,
        mean in prop::sample::select(vec![0.0, 1.0, 1e6]),
    ) {
        let x: Vec<f64> = x.iter().map(|x| (x + mean) * 10f64.powi(exponent)).collect();
        check::<f32>(&x, cols);
        check::<f64>(&x, cols);
    }
}

/// Products, counts and places of one matrix; a third of the numbers are 0 for the counts.
fn check_counts<T: Element>(rows: usize, cols: usize, seed: u64) {
    let near_one: Vec<T> =
        noise::<f64>(rows * cols, seed).iter().map(|x| T::from_f64(1.0 + x / 8.0)).collect();
    let sparse: Vec<T> = (noise::<T>(rows * cols, seed + 1).into_iter().enumerate())
        .map(
            |(i, x)| {
                if (i as u64 * 7 + seed).is_multiple_of(3) || seed.is_multiple_of(3) { T::ZERO } else { x }
            },
        )
        .collect();
    let (wide, wide_sparse) = (widen(&near_one), widen(&sparse));
    let relative = |n: usize| n as f64 * (unit::<T>() + unit::<f64>());
    let count = |x: &[f64]| reference::count_nonzero(x) as f64;
    on_every_isa(|isa| {
        let name = format!("{isa} product of {rows}×{cols}");
        let all = reduce::all(Reduce::Prod, &near_one).unwrap();
        // Thousands of factors near 1 may leave the range, and subnormal products lose bits.
        let safe = |exact: f64| exact.abs() > 1e-30 && exact.abs() < 1e30;
        if safe(reference::prod(&wide)) {
            assert_close(&name, &[all], &[reference::prod(&wide)], relative(wide.len()), 0.0);
        }
        let (mut by_row, mut by_col) = (vec![T::NAN; rows], vec![T::NAN; cols]);
        reduce::rows(Reduce::Prod, &near_one, cols, &mut by_row).unwrap();
        for (y, exact) in by_row.iter().zip(reference::by_row(&wide, cols, reference::prod)) {
            assert!(
                !safe(exact) || (y.to_f64() - exact).abs() <= relative(cols) * exact.abs(),
                "{name}: {y} {exact}"
            );
        }
        reduce::cols(Reduce::Prod, &near_one, cols, &mut by_col).unwrap();
        for (y, exact) in by_col.iter().zip(reference::by_column(&wide, cols, reference::prod)) {
            assert!(
                !safe(exact) || (y.to_f64() - exact).abs() <= relative(rows) * exact.abs(),
                "{name}: {y} {exact}"
            );
        }

        type Fold<'a> = &'a dyn Fn(&[f64]) -> f64;
        let any_all: [(Reduce, Fold<'_>); 2] =
            [(Reduce::Any, &reference::any), (Reduce::All, &reference::all)];
        let counts = any_all.into_iter().chain([(Reduce::CountNonzero, &count as Fold<'_>)]);
        for (op, exact) in counts {
            for (x, wide) in [(&sparse, &wide_sparse), (&near_one, &wide)] {
                let name = format!("{isa} {op:?} of {rows}×{cols}");
                assert_eq!(reduce::all(op, x).unwrap().to_f64(), exact(wide), "{name}");
                reduce::rows(op, x, cols, &mut by_row).unwrap();
                assert_eq!(widen(&by_row), reference::by_row(wide, cols, exact), "{name}");
                reduce::cols(op, x, cols, &mut by_col).unwrap();
                assert_eq!(widen(&by_col), reference::by_column(wide, cols, exact), "{name}");
            }
        }
        assert_eq!(reduce::count_nonzero(&sparse).unwrap(), reference::count_nonzero(&wide_sparse));

        // Zeros are ties.
        assert_eq!(reduce::argmin(&sparse).ok(), reference::argmin(&wide_sparse));
        let (mut by_row, mut by_col) = (vec![usize::MAX; rows], vec![usize::MAX; cols]);
        reduce::argmin_rows(&sparse, cols, &mut by_row).unwrap();
        assert_eq!(by_row, reference::by_row(&wide_sparse, cols, |x| reference::argmin(x).unwrap()));
        reduce::argmin_cols(&sparse, cols, &mut by_col).unwrap();
        assert_eq!(by_col, reference::by_column(&wide_sparse, cols, |x| reference::argmin(x).unwrap()));
        reduce::argmax_cols(&sparse, cols, &mut by_col).unwrap();
        assert_eq!(by_col, reference::by_column(&wide_sparse, cols, |x| reference::argmax(x).unwrap()));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn products_counts_and_places_match_the_reference(rows in 1usize..12, cols in 1usize..150, seed in 0u64..1000) {
        check_counts::<f32>(rows, cols, seed);
        check_counts::<f64>(rows, cols, seed);
    }
}

#[test]
fn products_counts_and_places_on_every_path() {
    for (rows, cols) in [(1, 70_000), (2, 66_000), (1000, 1), (700, 10), (129, 1100), (300, 63)] {
        check_counts::<f32>(rows, cols, 2);
        check_counts::<f64>(rows, cols, 3);
    }
}

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

#[test]
fn the_gradient_of_a_product_is_the_product_of_the_others() {
    fn check<T: Element>() {
        for zeros in 0..3 {
            for cols in [1, 2, 17, 40] {
                let mut x: Vec<f64> = noise::<f64>(3 * cols, 5).iter().map(|x| x + 1.5).collect();
                x[..zeros.min(cols)].fill(0.0);
                let (x, dy) = (narrow::<T>(&x), narrow::<T>(&[1.0, -0.5, 2.0]));
                let mut dx = vec![T::NAN; x.len()];
                reduce::prod_backward(&x, &dy, cols, &mut dx).unwrap();
                let exact: Vec<f64> = (widen(&x).chunks(cols).zip(&dy))
                    .flat_map(|(x, dy)| reference::prod_backward(x, dy.to_f64()))
                    .collect();
                assert_close("gradient", &dx, &exact, 2.0 * cols as f64 * unit::<T>(), 0.0);
            }
        }
    }
    check::<f32>();
    check::<f64>();
}

/// Half of the numbers take back what the others gave, but for a millionth: the error is within the bound all the same.
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

#[test]
fn every_path_by_size_is_right() {
    for (rows, cols) in
        [(1, 4095), (1, 4097), (2, 70_000), (1000, 1), (900, 3), (700, 10), (260, 63), (128, 65)]
    {
        check::<f32>(&noise(rows * cols, 1), cols);
        check::<f64>(&noise(rows * cols, 2), cols);
    }
    for (rows, cols) in [(127, 513), (129, 1100), (400, 600), (5, 2048)] {
        check::<f32>(&noise(rows * cols, 3), cols);
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
fn the_same_bits_on_every_isa_and_number_of_threads() {
    fn check<T: Element>(len: usize, cols: usize) {
        let x = noise::<T>(len, 7);
        same_bits_everywhere(|| {
            let mut results = vec![reduce::variance_all(&x, 1).unwrap()];
            let rows = len / cols;
            let mut extend = |count: usize, reduce: &dyn Fn(&mut [T])| {
                let start = results.len();
                results.resize(start + count, T::NAN);
                reduce(&mut results[start..]);
            };
            for op in OPS {
                extend(1, &|y| y[0] = reduce::all(op, &x).unwrap());
                extend(rows, &|y| reduce::rows(op, &x, cols, y).unwrap());
                extend(cols, &|y| reduce::cols(op, &x, cols, y).unwrap());
            }
            for op in [Reduce::Prod, Reduce::Any, Reduce::All, Reduce::CountNonzero] {
                extend(1, &|y| y[0] = reduce::all(op, &x).unwrap());
                extend(rows, &|y| reduce::rows(op, &x, cols, y).unwrap());
                extend(cols, &|y| reduce::cols(op, &x, cols, y).unwrap());
            }
            extend(1, &|y| y[0] = T::from_f64(reduce::argmin(&x).unwrap() as f64));
            extend(cols, &|y| {
                let mut places = vec![0; cols];
                reduce::argmax_cols(&x, cols, &mut places).unwrap();
                y.iter_mut().zip(places).for_each(|(y, place)| *y = T::from_f64(place as f64));
            });
            extend(1, &|y| y[0] = T::from_f64(reduce::argmax(&x).unwrap() as f64));
            extend(rows, &|y| reduce::variance_rows(&x, cols, 0, y).unwrap());
            extend(cols, &|y| reduce::variance_cols(&x, cols, 0, y).unwrap());
            results
        });
    }
    check::<f32>(3_000_000, 10);
    check::<f32>(2_000_000, 2000);
    check::<f64>(1_400_000, 100);
    check::<f64>(1_000_000, 500_000);
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
            // All alike: exactly 0, also where the square of the mean, or a sum, is beyond the largest number.
            for x in [0.0, 0.1, 1e6, 1e30, -3e38] {
                assert_eq!(variances(&vec![x as f32; len]), [0.0; 3], "{isa}: {len} × {x}");
                assert_eq!(variances(&vec![x * 5e269; len]), [0.0; 3], "{isa}: {len} × {x} · 5e269");
            }
            // ±spread around a mean ten million times the spread: the variance is spread² (spread is a power of two).
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
