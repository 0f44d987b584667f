//! Norms, standard deviations and dot products against their references, also where squares leave the range.

use crate::common::*;
use crate::registry::reductions::{expected_norm, row_depth};
use gristmill::kernels::norm::{self, Norm};
use gristmill::kernels::reduce;
use gristmill::{Element, reference};

const NORMS: [Norm; 3] = [Norm::L1, Norm::L2, Norm::Max];

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
        norm::RowsBackward { op: Norm::L2, x: &[0.0; 2], y: &[0.0], dy: &[1.0], cols: 2, dx: &mut dx }
            .run()
            .unwrap();
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
                            let exact = expected_norm(op, &widen(&x));
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
fn standard_deviations_of_equals_of_one_and_of_none() {
    assert_eq!(reduce::std_all(&[0.1_f32; 33], 0).unwrap(), 0.0);
    assert!(reduce::std_all(&[1.0_f32], 1).unwrap().is_nan());
    assert!(reduce::std_all(&[1.0, f32::INFINITY], 0).unwrap().is_nan());
    let mut y = [0.0_f32; 2];
    reduce::std_rows(&[], 0, 0, &mut y).unwrap();
    assert!(y.iter().all(|y| y.is_nan()));
}

/// Σ a·b of terms that cancel to a millionth of their size: the error is that of the terms, not of the
/// result.
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
        text(
            norm::RowsBackward {
                op: Norm::L2,
                x: &x,
                y: &[0.0; 2],
                dy: &[0.0; 2],
                cols: 3,
                dx: &mut [0.0; 5]
            }
            .run()
        ),
        "norm: dx has 5 elements, expected 6"
    );
    assert_eq!(
        text(
            norm::ColsBackward {
                op: Norm::L2,
                x: &x,
                y: &[0.0; 3],
                dy: &[0.0; 2],
                cols: 3,
                dx: &mut [0.0; 6]
            }
            .run()
        ),
        "norm: dy has 2 elements, expected 3"
    );
    assert_eq!(text(reduce::std_rows(&x, 3, 0, &mut [0.0; 3])), "std: y has 3 elements, expected 2");
}
