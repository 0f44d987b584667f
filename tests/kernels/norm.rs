//! Norms, standard deviations and dot products against their references, also where squares leave the range.

use crate::common::*;
use gristmill::kernels::norm::{self, Norm};
use gristmill::kernels::reduce;
use gristmill::{Element, reference};
use proptest::prelude::*;

const NORMS: [Norm; 3] = [Norm::L1, Norm::L2, Norm::Max];

fn expected(op: Norm, x: &[f64]) -> f64 {
    match op {
        Norm::L1 => reference::l1_norm(x),
        Norm::L2 => reference::l2_norm(x),
        Norm::Max => reference::max_norm(x),
    }
}

fn gradient(op: Norm, x: &[f64], dy: f64) -> Vec<f64> {
    match op {
        Norm::L1 => reference::l1_norm_backward(x, dy),
        Norm::L2 => reference::l2_norm_backward(x, dy),
        Norm::Max => reference::max_norm_backward(x, dy),
    }
}

fn log2_ceil(n: usize) -> f64 {
    f64::from(n.max(1).next_power_of_two().trailing_zeros())
}

fn row_depth<T: Element>(n: usize) -> f64 {
    n.min(4096).div_ceil(4 * T::LANES) as f64 + 6.0 + log2_ceil(n.div_ceil(4096))
}

fn column_depth(n: usize) -> f64 {
    (n as f64).min(128.0 + log2_ceil(n))
}

/// Relative, and the smallest number of the type once, where a result is subnormal.
fn bound<T: Element>(op: Norm, n: usize, depth: f64) -> f64 {
    let units = match op {
        Norm::L1 => depth,
        Norm::L2 => depth / 2.0 + 2.0,
        Norm::Max => 0.0,
    };
    units * unit::<T>() + (n as f64 + 4.0) * unit::<f64>()
}

fn smallest<T: Element>() -> f64 {
    if T::NAME == "f32" { 2f64.powi(-149) } else { f64::from_bits(1) }
}

fn check<T: Element>(x: &[f64], cols: usize) {
    let x = narrow::<T>(x);
    let (wide, rows) = (widen(&x), x.len() / cols);
    // The gradients divide by the norm.
    let dy = |count: usize| narrow::<T>(&(0..count).map(|i| 0.5 + i as f64).collect::<Vec<_>>());
    on_every_isa(|isa| {
        for op in NORMS {
            let name = format!("{isa} {op:?} of {rows}×{cols}");
            let close = |what: &str, y: &[T], expected: &[f64], n: usize, depth: f64| {
                let relative = bound::<T>(op, n, depth);
                assert_close(&format!("{name} {what}"), y, expected, relative, smallest::<T>());
            };
            let all = norm::all(op, &x).unwrap();
            close("all", &[all], &[expected(op, &wide)], x.len(), row_depth::<T>(x.len()));

            let mut y = vec![T::NAN; rows];
            norm::rows(op, &x, cols, &mut y).unwrap();
            close(
                "rows",
                &y,
                &reference::by_row(&wide, cols, |x| expected(op, x)),
                cols,
                row_depth::<T>(cols),
            );
            let (d, mut dx) = (dy(rows), vec![T::NAN; x.len()]);
            norm::rows_backward(op, &x, &y, &d, cols, &mut dx).unwrap();
            let exact: Vec<f64> =
                wide.chunks(cols).zip(&d).flat_map(|(x, dy)| gradient(op, x, dy.to_f64())).collect();
            let relative = bound::<T>(op, cols, row_depth::<T>(cols)) + 4.0 * unit::<T>();
            let lost =
                |i: usize| smallest::<T>() * (4.0 + 2.0 * rows as f64 + (1e-30 / wide[i]).abs().min(8.0));
            assert_within(&format!("{name} gradient"), &dx, &exact, |i| relative * exact[i].abs() + lost(i));

            let mut y = vec![T::NAN; cols];
            norm::cols(op, &x, cols, &mut y).unwrap();
            close(
                "cols",
                &y,
                &reference::by_column(&wide, cols, |x| expected(op, x)),
                rows,
                column_depth(rows).max(row_depth::<T>(rows)),
            );
            let (d, mut dx) = (dy(cols), vec![T::NAN; x.len()]);
            norm::cols_backward(op, &x, &y, &d, cols, &mut dx).unwrap();
            let mut exact = vec![0.0; x.len()];
            for (j, dy) in d.iter().enumerate() {
                let column: Vec<f64> = wide.iter().skip(j).step_by(cols).copied().collect();
                for (i, dx) in gradient(op, &column, dy.to_f64()).into_iter().enumerate() {
                    exact[i * cols + j] = dx;
                }
            }
            let relative =
                bound::<T>(op, rows, column_depth(rows).max(row_depth::<T>(rows))) + 4.0 * unit::<T>();
            let lost = smallest::<T>() * (4.0 + 2.0 * cols as f64);
            assert_within(&format!("{name} gradient by column"), &dx, &exact, |i| {
                relative * exact[i].abs() + lost
            });
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn norms_and_gradients_match_the_reference(
        (cols, x) in (1usize..90, 1usize..10).prop_flat_map(|(cols, rows)| {
            (Just(cols), prop::collection::vec(prop_oneof![4 => -1.0..1.0, 1 => Just(0.5), 1 => Just(-0.5), 1 => Just(0.0)], cols * rows))
        }),
        // The squares of f32 leave the range from ±19 on; norms do not.
        exponent in -33i32..36,
    ) {
        let x: Vec<f64> = x.iter().map(|x| x * 10f64.powi(exponent)).collect();
        check::<f32>(&x, cols);
        let x: Vec<f64> = x.iter().map(|x| x * 10f64.powi(7 * exponent)).collect();
        check::<f64>(&x, cols);
    }
}

#[test]
fn every_path_by_size_is_right() {
    for (rows, cols) in [(1, 4097), (2, 70_000), (1000, 1), (260, 63), (129, 1100)] {
        check::<f32>(&noise(rows * cols, 1), cols);
        check::<f64>(&noise(rows * cols, 2), cols);
    }
}

#[test]
fn squares_may_leave_the_range_in_either_direction() {
    on_every_isa(|_| {
        for scale in [1e-44_f32, 1e-38, 1e-25, 1e-19, 1e19, 1e38] {
            for len in [2, 17, 5000] {
                // 3, 4, 0, 0, … has the norm 5, exactly.
                let mut x = vec![0.0; len];
                (x[0], x[len - 1]) = (3.0 * scale / 4.0, -scale);
                let y = f64::from(norm::all(Norm::L2, &x).unwrap());
                let exact = f64::hypot(x[0].into(), x[len - 1].into());
                assert!(
                    (y - exact).abs() <= exact * 2.0 * unit::<f32>() + 2f64.powi(-150),
                    "{scale:e}: {y:e} {exact:e}"
                );
            }
        }
        let inf = f32::INFINITY;
        assert_eq!(norm::all(Norm::L2, &[f32::MAX, f32::MAX]).unwrap(), inf);
        for op in NORMS {
            assert_eq!(norm::all(op, &[1.0, -inf]).unwrap(), inf);
            assert!(norm::all(op, &[1.0, inf, f32::NAN]).unwrap().is_nan());
            assert_eq!(norm::all::<f32>(op, &[]).unwrap(), 0.0);
            assert_eq!(norm::all(op, &[-0.0_f32; 20]).unwrap().to_bits(), 0);
            let mut y = [7.0_f32; 2];
            norm::cols(op, &[], 2, &mut y).unwrap();
            assert_eq!(y, [0.0; 2]);
            y.fill(7.0);
            norm::rows(op, &[], 0, &mut y).unwrap();
            assert_eq!(y, [0.0; 2]);
        }
        let mut dx = [7.0_f32; 2];
        norm::rows_backward(Norm::L2, &[0.0; 2], &[0.0], &[1.0], 2, &mut dx).unwrap();
        assert_eq!(dx, [0.0; 2]);
    });
}

/// Law 3: an element's lane, or its place in a tail, changes nothing.
#[test]
fn special_values_count_at_every_place() {
    fn check<T: Element>() {
        on_every_isa(|isa| {
            for len in (1..70).chain([4100]) {
                for place in (0..len).step_by(if len > 70 { 511 } else { 1 }) {
                    let mut x = vec![T::ONE; len];
                    for special in [T::NAN, T::INFINITY, -T::INFINITY, T::from_f64(3.0)] {
                        x[place] = special;
                        for op in NORMS {
                            let exact = expected(op, &widen(&x));
                            let mut y = [T::ZERO; 3];
                            y[0] = norm::all(op, &x).unwrap();
                            norm::rows(op, &x, len, &mut y[1..2]).unwrap();
                            norm::cols(op, &x, 1, &mut y[2..]).unwrap();
                            assert_close(
                                &format!("{isa} {op:?} {place} of {len}"),
                                &y,
                                &[exact; 3],
                                4.0 * unit::<T>() + len as f64 * unit::<f64>(),
                                0.0,
                            );
                            let mut wide = vec![T::ZERO; len];
                            norm::cols(op, &x, len, &mut wide).unwrap();
                            let sizes: Vec<f64> = x.iter().map(|x| x.to_f64().abs()).collect();
                            assert_close(
                                &format!("{isa} {op:?} of columns"),
                                &wide,
                                &sizes,
                                unit::<T>(),
                                0.0,
                            );
                        }
                    }
                }
            }
        });
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn the_same_bits_on_every_isa_and_number_of_threads() {
    fn check<T: Element>(rows: usize, cols: usize, scale: f64) {
        let x: Vec<T> = noise::<T>(rows * cols, 7).iter().map(|&x| x * T::from_f64(scale)).collect();
        let b = noise::<T>(rows * cols, 8);
        same_bits_everywhere(|| {
            let mut results = vec![reduce::dot(&x, &b).unwrap(), reduce::std_all(&x, 1).unwrap()];
            for op in NORMS {
                let (mut by_row, mut by_col) = (vec![T::ZERO; rows], vec![T::ZERO; cols]);
                norm::rows(op, &x, cols, &mut by_row).unwrap();
                norm::cols(op, &x, cols, &mut by_col).unwrap();
                let mut dx = vec![T::ZERO; rows * cols];
                norm::rows_backward(op, &x, &by_row, &by_row, cols, &mut dx).unwrap();
                results.extend(&dx);
                norm::cols_backward(op, &x, &by_col, &by_col, cols, &mut dx).unwrap();
                results.extend(dx.into_iter().chain(by_row).chain(by_col));
                results.push(norm::all(op, &x).unwrap());
            }
            results
        });
    }
    check::<f32>(30_000, 10, 1.0);
    check::<f32>(3, 200_000, 1e-30);
    check::<f64>(300, 700, 1.0);
}

#[test]
fn standard_deviations_are_right_where_variances_are_not() {
    fn check<T: Element>(x: &[f64], cols: usize, correction: usize) {
        let x = narrow::<T>(x);
        let (wide, rows) = (widen(&x), x.len() / cols);
        // Scaled by a power of two, which does not round where elements are almost alike.
        let std = |x: &[f64]| {
            let scale = reference::max_norm(x).log2().floor().exp2();
            let scaled: Vec<f64> = x.iter().map(|x| x / scale).collect();
            reference::variance(&scaled, correction).sqrt() * scale
        };
        // Far from the mean the first element counts: √n at the most.
        let relative = |n: usize, depth: f64| {
            (depth / 2.0 + 8.0 + 2.0 * (n as f64).sqrt()) * unit::<T>() + n as f64 * 1e-15
        };
        on_every_isa(|isa| {
            let name = format!("{isa} std of {rows}×{cols}, correction {correction}");
            let all = reduce::std_all(&x, correction).unwrap();
            assert_close(
                &name,
                &[all],
                &[std(&wide)],
                relative(x.len(), row_depth::<T>(x.len())),
                smallest::<T>(),
            );
            let mut y = vec![T::ZERO; rows];
            reduce::std_rows(&x, cols, correction, &mut y).unwrap();
            assert_close(
                &name,
                &y,
                &reference::by_row(&wide, cols, std),
                relative(cols, row_depth::<T>(cols)),
                smallest::<T>(),
            );
            let mut y = vec![T::ZERO; cols];
            reduce::std_cols(&x, cols, correction, &mut y).unwrap();
            let depth = column_depth(rows).max(row_depth::<T>(rows));
            assert_close(
                &name,
                &y,
                &reference::by_column(&wide, cols, std),
                relative(rows, depth),
                smallest::<T>(),
            );
        });
    }
    for (rows, cols) in [(1, 2), (3, 17), (40, 5), (2, 5000)] {
        for exponent in [-40, -30, -20, 0, 18, 19, 37] {
            let x: Vec<f64> = noise::<f64>(rows * cols, 5).iter().map(|x| x * 10f64.powi(exponent)).collect();
            check::<f32>(&x, cols, 0);
            let x: Vec<f64> = x.iter().map(|x| x * 10f64.powi(7 * exponent)).collect();
            check::<f64>(&x, cols, 1);
        }
    }
    assert_eq!(reduce::std_all(&[0.1_f32; 33], 0).unwrap(), 0.0);
    assert!(reduce::std_all(&[1.0_f32], 1).unwrap().is_nan());
    assert!(reduce::std_all(&[1.0, f32::INFINITY], 0).unwrap().is_nan());
    let mut y = [0.0_f32; 2];
    reduce::std_rows(&[], 0, 0, &mut y).unwrap();
    assert!(y.iter().all(|y| y.is_nan()));
}

/// Σ a·b of terms that cancel to a millionth of their size: the error is that of the terms, not of the result.
#[test]
fn dot_products_stay_within_the_bound_of_sums() {
    fn check<T: Element>() {
        for len in [0, 1, 15, 16, 17, 63, 64, 65, 1000, 4097, 70_000, 300_000] {
            let (mut a, b) = (noise::<T>(len, 1), noise::<T>(len, 2));
            // The second half takes back what the first half gave, but for a little.
            for i in 0..len / 2 {
                a[len / 2 + i] = -a[i] * b[i] / b[len / 2 + i];
            }
            let exact = reference::dot(&widen(&a), &widen(&b));
            let terms: f64 = a.iter().zip(&b).map(|(a, b)| (a.to_f64() * b.to_f64()).abs()).sum();
            let units = (row_depth::<T>(len) + 1.0) * unit::<T>() + (len as f64 + 1.0) * unit::<f64>();
            on_every_isa(|isa| {
                let y = reduce::dot(&a, &b).unwrap();
                assert_close(&format!("{isa} dot of {len}"), &[y], &[exact], 0.0, units * terms);
            });
        }
    }
    check::<f32>();
    check::<f64>();
    assert_eq!(
        reduce::dot(&[1.0_f32], &[1.0, 2.0]).unwrap_err().to_string(),
        "dot: b has 2 elements, expected 1"
    );
}

#[test]
fn wrong_lengths_are_named() {
    let x = [0.0_f32; 6];
    let text = |result: gristmill::Result<()>| result.unwrap_err().to_string();
    assert_eq!(text(norm::rows(Norm::L1, &x, 4, &mut [0.0; 2])), "norm: 6 elements are not whole rows of 4");
    assert_eq!(text(norm::rows(Norm::L1, &x, 3, &mut [0.0; 3])), "norm: y has 3 elements, expected 2");
    assert_eq!(text(norm::cols(Norm::L2, &x, 3, &mut [0.0; 2])), "norm: y has 2 elements, expected 3");
    assert_eq!(
        text(norm::rows_backward(Norm::L2, &x, &[0.0; 2], &[0.0; 2], 3, &mut [0.0; 5])),
        "norm: dx has 5 elements, expected 6"
    );
    assert_eq!(
        text(norm::cols_backward(Norm::L2, &x, &[0.0; 3], &[0.0; 2], 3, &mut [0.0; 6])),
        "norm: dy has 2 elements, expected 3"
    );
    assert_eq!(text(reduce::std_rows(&x, 3, 0, &mut [0.0; 3])), "std: y has 3 elements, expected 2");
}
