//! The parametric ReLU against its reference and its promises.

use crate::common::*;
use gristmill::{Element, kernels::prelu};

struct Case<T> {
    x: Vec<T>,
    slope: Vec<T>,
    inner: usize,
    dy: Vec<T>,
}

/// y, dx, dslope.
fn run<T: Element>(case: &Case<T>) -> [Vec<T>; 3] {
    let Case { x, slope, inner, dy } = case;
    let [mut y, mut dx] = [(); 2].map(|()| vec![T::NAN; x.len()]);
    let mut dslope = vec![T::NAN; slope.len()];
    prelu::forward(x, slope, *inner, &mut y).unwrap();
    prelu::Backward { x, slope, inner: *inner, dy, dx: &mut dx, dslope: Some(&mut dslope) }.run().unwrap();
    [y, dx, dslope]
}

fn case<T: Element>(samples: usize, channels: usize, inner: usize, seed: u64) -> Case<T> {
    let len = samples * channels * inner;
    Case { x: noise(len, seed), slope: noise(channels, seed + 1), inner, dy: noise(len, seed + 2) }
}

#[test]
fn zero_takes_the_side_of_the_slope_and_nan_stays() {
    for (slope, inner) in [(vec![0.5_f32], 5), (vec![0.5; 5], 1), (vec![0.5; 2], 100)] {
        let len = slope.len() * inner;
        on_every_isa(|isa| {
            let mut x = vec![0.0; len];
            x[..5].copy_from_slice(&[0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
            let case = Case { x, slope: slope.clone(), inner, dy: vec![2.0; len] };
            let [y, dx, dslope] = run(&case);
            let bits: Vec<u32> = y[..2].iter().map(|y| y.to_bits()).collect();
            assert_eq!(bits, [0.0_f32.to_bits(), (-0.0_f32).to_bits()], "{isa}");
            assert!(y[2].is_nan(), "{isa}");
            assert_eq!(y[3..5], [f32::INFINITY, f32::NEG_INFINITY], "{isa}");
            assert_eq!(dx[..5], [1.0, 1.0, 1.0, 2.0, 1.0], "{isa}");
            assert!(dslope.iter().any(|d| d.is_nan()), "{isa}");
            // A gradient that passes on the side of x says nothing about the slope.
            let positive = Case { x: vec![1.0; len], dy: vec![f32::NAN; len], ..case };
            let [_, dx, dslope] = run(&positive);
            assert!(dx.iter().all(|dx| dx.is_nan()) && dslope.iter().all(|&d| d == 0.0), "{isa}");
        });
    }
}

#[test]
fn samples_and_inner_elements_are_one_with_a_single_slope() {
    let case = case::<f32>(6, 1, 5000, 1);
    let whole = Case { inner: 30_000, ..case };
    let results = run(&whole);
    assert_eq!(results, run(&Case { inner: 1, ..whole }));
}

#[test]
fn nothing_is_fine_and_a_gradient_not_wanted_changes_nothing_else() {
    let mut dslope = [1.0_f32; 2];
    for inner in [0, 3, 100] {
        prelu::forward::<f32>(&[], &[0.5; 2], inner, &mut []).unwrap();
        prelu::Backward::<f32> {
            x: &[],
            slope: &[0.5; 2],
            inner,
            dy: &[],
            dx: &mut [],
            dslope: Some(&mut dslope),
        }
        .run()
        .unwrap();
        assert_eq!(dslope, [0.0; 2]);
    }
    for (channels, inner) in [(1, 50), (4, 3), (4, 70)] {
        let case = case::<f32>(3, channels, inner, 1);
        let [_, dx, _] = run(&case);
        let mut other = vec![0.0; dx.len()];
        prelu::Backward {
            x: &case.x,
            slope: &case.slope,
            inner,
            dy: &case.dy,
            dx: &mut other,
            ..Default::default()
        }
        .run()
        .unwrap();
        assert_eq!(dx, other);
    }
}

#[test]
fn bad_arguments_are_named() {
    let text = |result: gristmill::Result<()>| result.unwrap_err().to_string();
    let x = [0.0_f32; 6];
    assert_eq!(text(prelu::forward(&x, &[], 6, &mut [0.0; 6])), "prelu: there is no slope");
    assert_eq!(
        text(prelu::forward(&x, &[0.5; 2], 2, &mut [0.0; 6])),
        "prelu: 6 elements are not whole rows of 4"
    );
    assert_eq!(text(prelu::forward(&x, &[0.5], 6, &mut [0.0; 5])), "prelu: y has 5 elements, expected 6");
    assert_eq!(
        text(prelu::forward(&x, &[0.5; 2], usize::MAX, &mut [0.0; 5])),
        format!("prelu: 2 channels of {} elements are too many", usize::MAX)
    );
    assert_eq!(
        text(
            prelu::Backward {
                x: &x,
                slope: &[0.5; 2],
                inner: 3,
                dy: &x,
                dx: &mut [0.0; 6],
                dslope: Some(&mut [0.0; 3])
            }
            .run()
        ),
        "prelu_backward: dslope has 3 elements, expected 2"
    );
}
