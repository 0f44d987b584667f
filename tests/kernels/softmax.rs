//! Softmax, log-softmax and log-sum-exp against their references, PyTorch and their promises.

use crate::common::*;
use gristmill::kernels::{log_softmax, logsumexp, softmax};
use gristmill::{Element, reference};
use proptest::prelude::*;

fn log2_ceil(n: usize) -> f64 {
    f64::from(n.max(1).next_power_of_two().trailing_zeros())
}

/// The most additions from an element of a row to its sum, as documented.
fn depth<T: Element>(n: usize) -> f64 {
    n.min(4096).div_ceil(4 * T::LANES) as f64 + 6.0 + log2_ceil(n.div_ceil(4096))
}

/// A few of the smallest positive numbers: the errors of subnormal results.
fn subnormal<T: Element>() -> f64 {
    4.0 * if T::NAME == "f32" { 2f64.powi(-149) } else { f64::from_bits(1) }
}

/// A bound made of units of `T` and a depth is met by the kernel, and by the reference with units of f64 and
/// n additions.
fn both<T: Element>(n: usize, bound: impl Fn(f64, f64) -> f64) -> f64 {
    bound(depth::<T>(n), unit::<T>()) + bound(n as f64, unit::<f64>()) + subnormal::<T>()
}

/// Σ|x| of each row.
fn sizes(x: &[f64], cols: usize) -> Vec<f64> {
    reference::by_row(x, cols, |x| x.iter().map(|x| x.abs()).sum())
}

fn check<T: Element>(x: &[f64], dy: &[f64], cols: usize) {
    let (x, dy) = (narrow::<T>(x), narrow::<T>(dy));
    let (wide, wide_dy) = (widen(&x), widen(&dy));
    let max: Vec<f64> = reference::by_row(&wide, cols, reference::max);
    let distance = |i: usize| max[i / cols] - wide[i];
    let ln_n = (cols as f64).ln();
    let (dy_sums, dy_sizes) = (reference::by_row(&wide_dy, cols, reference::sum), sizes(&wide_dy, cols));
    let rows = x.len() / cols;

    on_every_isa(|isa| {
        let mut y = vec![T::NAN; x.len()];
        softmax::forward(&x, cols, &mut y).unwrap();
        let expected = reference::softmax(&wide, cols);
        assert_within(&format!("{isa} softmax"), &y, &expected, |i| {
            both::<T>(cols, |d, u| (d + ln_n + 12.0 + distance(i)) * u * expected[i])
        });

        let mut dx = vec![T::NAN; x.len()];
        softmax::backward(&y, &dy, cols, &mut dx).unwrap();
        let y = widen(&y);
        let expected = reference::softmax_backward(&y, &wide_dy, cols);
        let terms: Vec<f64> = y.iter().zip(&wide_dy).map(|(y, dy)| y * dy).collect();
        let (sums, sizes) = (reference::by_row(&terms, cols, reference::sum), sizes(&terms, cols));
        assert_within(&format!("{isa} softmax backward"), &dx, &expected, |i| {
            let (rest, size) = ((wide_dy[i] - sums[i / cols]).abs(), sizes[i / cols]);
            both::<T>(cols, |d, u| (2.0 * rest + (d + 1.0) * size) * y[i] * u)
        });

        let mut y = vec![T::NAN; x.len()];
        log_softmax::forward(&x, cols, &mut y).unwrap();
        let expected = reference::log_softmax(&wide, cols);
        assert_within(&format!("{isa} log_softmax"), &y, &expected, |i| {
            both::<T>(cols, |d, u| (d + 4.0 + 5.0 * ln_n + distance(i) + expected[i].abs()) * u)
        });

        log_softmax::backward(&y, &dy, cols, &mut dx).unwrap();
        let y = widen(&y);
        let expected = reference::log_softmax_backward(&y, &wide_dy, cols);
        assert_within(&format!("{isa} log_softmax backward"), &dx, &expected, |i| {
            let (sum, size) = (dy_sums[i / cols].abs(), dy_sizes[i / cols]);
            both::<T>(cols, |d, u| (expected[i].abs() + (4.0 * sum + d * size) * y[i].exp()) * u)
        });

        let mut y = vec![T::NAN; rows];
        logsumexp::forward(&x, cols, &mut y).unwrap();
        let expected = reference::logsumexp(&wide, cols);
        assert_within(&format!("{isa} logsumexp"), &y, &expected, |i| {
            both::<T>(cols, |d, u| (d + 4.0 + 5.0 * ln_n + expected[i].abs()) * u)
        });

        logsumexp::Backward { x: &x, y: &y, dy: &dy[..rows], cols, dx: &mut dx }.run().unwrap();
        let y = widen(&y);
        let expected = reference::logsumexp_backward(&wide, &y, &wide_dy[..rows], cols);
        assert_within(&format!("{isa} logsumexp backward"), &dx, &expected, |i| {
            both::<T>(cols, |d, u| ((wide[i] - y[i / cols]).abs() + d + 8.0) * u * expected[i].abs())
        });
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_family_matches_the_reference(
        (cols, x) in (1usize..150, 0usize..20).prop_flat_map(|(cols, rows)| {
            (Just(cols), prop::collection::vec(-1.0..1.0, cols * rows))
        }),
        scale in prop::sample::select(vec![1.0, 30.0, 500.0]),
        offset in prop::sample::select(vec![0.0, 1e4]),
    ) {
        let dy = noise(x.len(), 5);
        let x: Vec<f64> = x.iter().map(|x| x * scale + offset).collect();
        check::<f32>(&x, &dy, cols);
        check::<f64>(&x, &dy, cols);
    }
}

#[test]
fn long_rows_match_the_reference() {
    for cols in [4096, 4097, 10_000] {
        check::<f32>(&noise(2 * cols, 1), &noise(2 * cols, 2), cols);
        check::<f64>(&noise(2 * cols, 3), &noise(2 * cols, 4), cols);
    }
}

/// The reference and the kernels in f64 agree with PyTorch; f32 is measured against the reference.
#[test]
fn pytorch_agrees() {
    for case in fixture("softmax") {
        let field = |name: &str| data(&case[name]);
        let (x, dy) = (field("x"), field("dy"));
        let cols = case["x"]["shape"][1].as_u64().unwrap() as usize;
        let close = |name: &str, actual: &[f64], field: &str| {
            let expected = data(&case[field]);
            assert_close(&format!("{name} of {}", case["name"]), actual, &expected, 1e-10, 1e-13);
        };
        let y = reference::softmax(&x, cols);
        close("reference", &y, "softmax");
        close("reference", &reference::softmax_backward(&y, &dy, cols), "dsoftmax");
        let y = reference::log_softmax(&x, cols);
        close("reference", &y, "log_softmax");
        close("reference", &reference::log_softmax_backward(&y, &dy, cols), "dlog_softmax");
        let y = reference::logsumexp(&x, cols);
        close("reference", &y, "logsumexp");
        let first: Vec<f64> = dy.iter().step_by(cols).copied().collect();
        close("reference", &reference::logsumexp_backward(&x, &y, &first, cols), "dlogsumexp");

        on_every_isa(|isa| {
            let name = format!("{isa}");
            let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            softmax::forward(&x, cols, &mut y).unwrap();
            softmax::backward(&y, &dy, cols, &mut dx).unwrap();
            close(&name, &y, "softmax");
            close(&name, &dx, "dsoftmax");
            log_softmax::forward(&x, cols, &mut y).unwrap();
            log_softmax::backward(&y, &dy, cols, &mut dx).unwrap();
            close(&name, &y, "log_softmax");
            close(&name, &dx, "dlog_softmax");
            let mut y = vec![0.0; x.len() / cols];
            logsumexp::forward(&x, cols, &mut y).unwrap();
            logsumexp::Backward { x: &x, y: &y, dy: &first, cols, dx: &mut dx }.run().unwrap();
            close(&name, &y, "logsumexp");
            close(&name, &dx, "dlogsumexp");
        });
        check::<f32>(&x, &dy, cols);
    }
}

#[test]
fn the_same_bits_on_every_isa_and_number_of_threads() {
    fn check<T: Element>(len: usize, cols: usize) {
        let (x, dy) = (noise::<T>(len, 1), noise::<T>(len, 2));
        same_bits_everywhere(|| {
            let mut results = vec![T::NAN; 6 * len + len / cols + cols];
            let (y, rest) = results.split_at_mut(len);
            let (dx, rest) = rest.split_at_mut(len);
            softmax::forward(&x, cols, y).unwrap();
            softmax::backward(y, &dy, cols, dx).unwrap();
            let (y, rest) = rest.split_at_mut(len);
            let (dx, rest) = rest.split_at_mut(len);
            log_softmax::forward(&x, cols, y).unwrap();
            log_softmax::backward(y, &dy, cols, dx).unwrap();
            let (dx, rest) = rest.split_at_mut(len);
            let (by_col, rest) = rest.split_at_mut(cols);
            let (dx_by_col, y) = rest.split_at_mut(len);
            logsumexp::forward_cols(&x, cols, by_col).unwrap();
            logsumexp::BackwardCols { x: &x, y: by_col, dy: &dy[..cols], cols, dx: dx_by_col }.run().unwrap();
            logsumexp::forward(&x, cols, y).unwrap();
            logsumexp::Backward { x: &x, y, dy: &dy[..y.len()], cols, dx }.run().unwrap();
            results
        });
    }
    check::<f32>(400_000, 100);
    check::<f32>(200_000, 10);
    check::<f64>(300_000, 100_000);
}

#[test]
fn rows_of_infinities_and_nan_are_what_pytorch_makes_of_them() {
    fn check<T: Element>(cols: usize) {
        let inf = T::INFINITY;
        // By row: one −∞ among zeros, −∞ alone, one +∞, one NaN.
        let mut x = vec![T::ZERO; 4 * cols];
        x[0] = -inf;
        x[cols..2 * cols].fill(-inf);
        x[2 * cols] = inf;
        x[4 * cols - 1] = T::NAN;
        let all_nan = |y: &[T]| y.iter().all(|y| y.is_nan());
        on_every_isa(|isa| {
            let mut y = vec![T::ZERO; x.len()];
            softmax::forward(&x, cols, &mut y).unwrap();
            assert_eq!(y[0], T::ZERO, "{isa}");
            let share = 1.0 / (cols - 1) as f64;
            assert!((y[1].to_f64() - share).abs() < 100.0 * unit::<T>(), "{isa}: {}", y[1]);
            assert!(all_nan(&y[cols..]), "{isa} softmax");

            log_softmax::forward(&x, cols, &mut y).unwrap();
            assert_eq!(y[0], -inf, "{isa}");
            assert!((y[1].to_f64() - share.ln()).abs() < 100.0 * unit::<T>(), "{isa}: {}", y[1]);
            assert!(all_nan(&y[cols..]), "{isa} log_softmax");

            let mut lse = vec![T::ZERO; 4];
            logsumexp::forward(&x, cols, &mut lse).unwrap();
            assert_eq!(lse[1..3], [-inf, inf], "{isa}");
            assert!(lse[3].is_nan(), "{isa}");

            let mut dx = vec![T::ZERO; x.len()];
            logsumexp::Backward { x: &x, y: &lse, dy: &[T::ONE; 4], cols, dx: &mut dx }.run().unwrap();
            assert_eq!(dx[0], T::ZERO, "{isa}");
            assert!(all_nan(&dx[cols..2 * cols]), "{isa}: −∞ − −∞");
            assert!(dx[2 * cols].is_nan(), "{isa}: ∞ − ∞");
            assert!(dx[2 * cols + 1..3 * cols].iter().all(|&dx| dx == T::ZERO), "{isa}: exp(−∞)");
            assert!(all_nan(&dx[3 * cols..]), "{isa}");
        });
    }
    for cols in [2, 10, 16, 17, 100] {
        check::<f32>(cols);
        check::<f64>(cols);
    }
}

#[test]
fn nothing_is_fine() {
    let none: [f32; 0] = [];
    for cols in [0, 3] {
        softmax::forward(&none, cols, &mut []).unwrap();
        softmax::backward(&none, &none, cols, &mut []).unwrap();
        log_softmax::forward(&none, cols, &mut []).unwrap();
        log_softmax::backward(&none, &none, cols, &mut []).unwrap();
        logsumexp::forward(&none, cols, &mut []).unwrap();
        logsumexp::Backward { x: &none, y: &none, dy: &none, cols, dx: &mut [] }.run().unwrap();
    }
    let mut y = [0.0_f32; 2];
    logsumexp::forward(&none, 0, &mut y).unwrap();
    assert_eq!(y, [f32::NEG_INFINITY; 2]);
    logsumexp::Backward { x: &none, y: &y, dy: &[1.0; 2], cols: 0, dx: &mut [] }.run().unwrap();
}

#[test]
fn wrong_lengths_are_named() {
    let x = [0.0_f32; 6];
    let text = |result: gristmill::Result<()>| result.unwrap_err().to_string();
    assert_eq!(text(softmax::forward(&x, 4, &mut [0.0; 6])), "softmax: 6 elements are not whole rows of 4");
    assert_eq!(text(softmax::forward(&x, 3, &mut [0.0; 5])), "softmax: y has 5 elements, expected 6");
    assert_eq!(
        text(softmax::backward(&x, &[0.0; 5], 3, &mut [0.0; 6])),
        "softmax: dy has 5 elements, expected 6"
    );
    assert_eq!(text(softmax::backward(&x, &x, 3, &mut [0.0; 7])), "softmax: dx has 7 elements, expected 6");
    assert_eq!(
        text(log_softmax::forward(&x, 0, &mut [0.0; 6])),
        "log_softmax: 6 elements are not whole rows of 0"
    );
    assert_eq!(
        text(log_softmax::backward(&x, &x, 3, &mut [0.0; 7])),
        "log_softmax: dx has 7 elements, expected 6"
    );
    assert_eq!(text(logsumexp::forward(&x, 3, &mut [0.0; 6])), "logsumexp: y has 6 elements, expected 2");
    assert_eq!(
        text(logsumexp::Backward { x: &x, y: &[0.0; 2], dy: &[0.0; 1], cols: 3, dx: &mut [0.0; 6] }.run()),
        "logsumexp: dy has 1 elements, expected 2"
    );
}

#[test]
fn columns_have_the_log_sum_exp_of_rows() {
    fn check<T: Element>(rows: usize, cols: usize, scale: f64) {
        let x: Vec<T> = noise::<T>(rows * cols, 3).iter().map(|&x| x * T::from_f64(scale)).collect();
        let dy = noise::<T>(cols, 4);
        let (wide, wide_dy) = (widen(&x), widen(&dy));
        let transposed: Vec<f64> = (0..rows * cols).map(|i| wide[i % rows * cols + i / rows]).collect();
        let expected = reference::logsumexp(&transposed, rows);
        let depth = (rows as f64).min(128.0 + (rows as f64).log2().ceil());
        on_every_isa(|isa| {
            let name = format!("{isa} {rows}×{cols}");
            let (mut y, mut dx) = (vec![T::NAN; cols], vec![T::NAN; rows * cols]);
            logsumexp::forward_cols(&x, cols, &mut y).unwrap();
            let units = unit::<T>() + unit::<f64>() * rows as f64;
            assert_within(&name, &y, &expected, |j| {
                (depth + 4.0 + 5.0 * (rows as f64).ln() + expected[j].abs()) * units
            });
            logsumexp::BackwardCols { x: &x, y: &y, dy: &dy, cols, dx: &mut dx }.run().unwrap();
            let by_column = reference::logsumexp_backward(&transposed, &expected, &wide_dy, rows);
            let expected: Vec<f64> =
                (0..rows * cols).map(|i| by_column[i % cols * rows + i / cols]).collect();
            assert_within(&name, &dx, &expected, |i| {
                ((wide[i] - y[i % cols].to_f64()).abs() + depth + 8.0) * units * expected[i].abs()
            });
        });
    }
    for (rows, cols) in [(1, 1), (2, 17), (40, 3), (300, 70), (129, 1030)] {
        check::<f32>(rows, cols, 30.0);
        check::<f64>(rows, cols, 300.0);
    }
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    on_every_isa(|_| {
        for place in 0..20 {
            let mut x = vec![0.5; 60];
            (x[place], x[20 + place], x[40 + place]) = (-inf, -inf, -inf);
            let mut y = vec![0.0; 20];
            logsumexp::forward_cols(&x, 20, &mut y).unwrap();
            assert!((0..20).all(|j| (y[j] == -inf) == (j == place)));
            for special in [nan, inf] {
                x[20 + place] = special;
                logsumexp::forward_cols(&x, 20, &mut y).unwrap();
                assert!((0..20).all(|j| y[j].is_finite() != (j == place)));
                assert_eq!(y[place].is_nan(), special.is_nan());
            }
        }
        let mut y = [0.0_f32; 2];
        logsumexp::forward_cols(&[], 2, &mut y).unwrap();
        assert_eq!(y, [-inf; 2]);
    });
    let error =
        logsumexp::BackwardCols { x: &[0.0_f32; 6], y: &[0.0; 3], dy: &[0.0; 2], cols: 3, dx: &mut [0.0; 6] }
            .run()
            .unwrap_err();
    assert_eq!(error.to_string(), "logsumexp: dy has 2 elements, expected 3");
}
