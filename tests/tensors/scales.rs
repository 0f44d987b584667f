//! Gradients that are ordinary numbers come out as such, however large or small the numbers are that they are
//! made of.

use gristmill::autograd::{CrossEntropyOptions, Reduction};
use gristmill::{Element, Result, Tensor};

use crate::common::{on_every_isa, unit};

fn gradient<T: Element>(x: &Tensor<T>, f: impl Fn(&Tensor<T>) -> Result<Tensor<T>>) -> Vec<f64> {
    let x = x.requires_grad();
    f(&x).unwrap().sum().unwrap().backward().unwrap();
    x.grad().unwrap().to_vec().iter().map(|x| x.to_f64()).collect()
}

/// Two equal logits share the probability, whatever they are: their log-sum-exp has no digit left for ln 2.
#[test]
fn equal_logits_share_the_gradient_at_every_size() {
    fn check<T: Element>(sizes: impl Iterator<Item = f64>) {
        for z in sizes.flat_map(|z| [z, -z]) {
            let z = T::from_f64(z);
            let x = Tensor::from_slice(&[z, z], [1, 2]).unwrap();
            let halves = Tensor::from_slice(&[T::ONE, T::ZERO], [1, 2]).unwrap();
            let near = |name: &str, actual: Vec<f64>, expected: [f64; 2]| {
                for (actual, expected) in actual.into_iter().zip(expected) {
                    assert!((actual - expected).abs() < 8.0 * unit::<T>(), "{name} at {z}: {actual}");
                }
            };
            near("cross_entropy", gradient(&x, |x| x.cross_entropy(&[0])), [-0.5, 0.5]);
            let soft = |x: &Tensor<T>| x.soft_cross_entropy(&halves, CrossEntropyOptions::default());
            near("soft_cross_entropy", gradient(&x, soft), [-0.5, 0.5]);
            near("logsumexp of rows", gradient(&x, |x| x.logsumexp(1)), [0.5, 0.5]);
            let column = x.reshape([2, 1]).unwrap();
            near("logsumexp of columns", gradient(&column, |x| x.logsumexp(0)), [0.5, 0.5]);
            let log_p = |x: &Tensor<T>| x.log_softmax(1)?.nll_loss(&[0], None, None, Reduction::Mean);
            near("nll_loss of log_softmax", gradient(&x, log_p), [-0.5, 0.5]);
        }
    }
    on_every_isa(|_| {
        check::<f32>((-45..38).map(|exponent| 10f64.powi(exponent)).chain([0.0, 3.4e38]));
        check::<f64>((-320..308).step_by(4).map(|exponent| 10f64.powi(exponent)).chain([0.0, 1.7e308]));
    });
}

/// As attention masks do: all keys of a row are out of reach alike.
#[test]
fn a_row_masked_by_a_large_number_shares_the_gradient_among_its_keys() {
    on_every_isa(|_| {
        for mask in [-1e9_f32, f32::MIN] {
            let x = Tensor::full([1, 7], mask).unwrap();
            for (i, dx) in gradient(&x, |x| x.cross_entropy(&[2])).into_iter().enumerate() {
                let expected = 1.0 / 7.0 - f64::from(u8::from(i == 2));
                assert!((dx - expected).abs() < 1e-6, "{mask}: {dx}");
            }
        }
    });
}

/// A product of some elements may be beyond the range where that of all is not.
#[test]
fn the_gradient_of_a_product_does_not_depend_on_how_large_the_products_of_a_few_are() {
    fn check<T: Element>(power: i32) {
        // Both orders; a zero among them leaves one gradient.
        for (first, second) in [(2.0, 0.5), (0.5, 2.0)] {
            let (first, second) = (f64::powi(first, power), f64::powi(second, power));
            let mut x: Vec<T> = [first; 64].iter().chain(&[second; 64]).map(|&x| T::from_f64(x)).collect();
            let dx = gradient(&Tensor::from_slice(&x, [128]).unwrap(), Tensor::prod);
            for (i, dx) in dx.into_iter().enumerate() {
                assert_eq!(dx, if i < 64 { second } else { first }, "2^{power}, {i}");
            }
            x[3] = T::ZERO;
            let dx = gradient(&Tensor::from_slice(&x, [128]).unwrap(), Tensor::prod);
            for (i, dx) in dx.into_iter().enumerate() {
                assert_eq!(dx, if i == 3 { second } else { 0.0 }, "2^{power} and 0, {i}");
            }
        }
    }
    on_every_isa(|_| {
        (1..=126).for_each(check::<f32>);
        (1..=1022).step_by(7).for_each(check::<f64>);
    });
}

/// The mean of such numbers has lost more digits than the deviations have.
#[test]
fn gradients_of_variances_and_deviations_hold_far_from_zero() {
    let (n, cols) = (50, 3);
    let x: Vec<f32> = (0..n * cols).map(|i| 1000.0 + ((i * 37 % 101) as f32 - 50.0) * 2e-5).collect();
    for j in 0..cols {
        let column: Vec<f64> = x[j..].iter().step_by(cols).map(|&x| x.into()).collect();
        let mean = column.iter().sum::<f64>() / n as f64;
        let degrees = (n - 1) as f64;
        let std = (column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / degrees).sqrt();
        let tensor = Tensor::from_slice(&x, [n, cols]).unwrap();
        let var = gradient(&tensor, |x| x.var_axes(&[0], 1, false));
        let root = gradient(&tensor, |x| x.std_axes(&[0], 1, false));
        for (i, x) in column.iter().enumerate() {
            let (var, root, exact) = (var[i * cols + j], root[i * cols + j], (x - mean) / degrees);
            assert!((var - 2.0 * exact).abs() <= 1e-6 * std, "var: {var}, {}", 2.0 * exact);
            assert!((root - exact / std).abs() <= 1e-6, "std: {root}, {}", exact / std);
        }
    }
}

/// A mean is a number of the type where the sum is none, and so is a deviation where x − mean is none.
#[test]
fn gradients_of_variances_and_deviations_hold_where_sums_are_beyond_the_range() {
    fn check<T: Element>(largest: f64, exponent: i32) {
        let cases: [&[f64]; 5] = [
            &[1.0, 0.875, 0.75, 1.0, 0.5],
            &[0.75, -0.75, 0.75, -0.75],
            // x − mean is 1.75 times the largest.
            &[1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0],
            &[1.0, 1.0, 1.0, -0.5, -0.5, -0.5],
            &[0.75, 0.5, 0.25, 0.75],
        ];
        for numbers in cases {
            let n = numbers.len();
            let mean = numbers.iter().sum::<f64>() / n as f64;
            let degrees = (n - 1) as f64;
            let std = (numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / degrees).sqrt();
            let scaled: Vec<T> = numbers.iter().map(|x| T::from_f64(x * largest)).collect();
            // Side by side, in rows and in columns, with numbers of the size 1, which they do not touch.
            let small: Vec<T> = numbers.iter().map(|&x| T::from_f64(x)).collect();
            let rows = Tensor::from_slice(&[scaled.clone(), small].concat(), [2, n]).unwrap();
            let columns = rows.transpose(0, 1).unwrap();
            let by_rows = gradient(&rows, |x| x.std_axes(&[1], 1, false));
            let by_columns = gradient(&columns, |x| x.std_axes(&[0], 1, false));
            let alone = Tensor::from_slice(&scaled, [n]).unwrap();
            // The variance itself is infinite; a small gradient of it makes an ordinary one all the same.
            let (small, scale) = (2f64.powi(-exponent), largest * 2f64.powi(-exponent));
            let of_var = gradient(&alone, |x| x.var_axes(&[0], 1, false)?.mul_scalar(T::from_f64(small)));
            for (i, x) in numbers.iter().enumerate() {
                let exact = (x - mean) / (degrees * std);
                for (name, actual) in [
                    ("rows", by_rows[i]),
                    ("rows of the size 1", by_rows[n + i]),
                    ("columns", by_columns[2 * i]),
                    ("columns of the size 1", by_columns[2 * i + 1]),
                ] {
                    assert!((actual - exact).abs() <= 16.0 * unit::<T>(), "std of {name}: {actual}, {exact}");
                }
                let exact = 2.0 * (x - mean) / degrees * scale;
                let bound = 16.0 * unit::<T>() * scale;
                assert!((of_var[i] - exact).abs() <= bound, "var: {}, {exact}", of_var[i]);
            }
        }
    }
    on_every_isa(|_| {
        check::<f32>(f32::MAX.into(), 120);
        check::<f64>(f64::MAX, 1016);
    });
}

/// Deviations from 2⁻¹¹⁰ to 2¹²⁰ have the same gradients, of the size 1.
#[test]
fn gradients_of_deviations_and_norms_are_the_same_at_every_size() {
    use gristmill::kernels::norm::Norm;
    fn check<T: Element>(exponents: impl Iterator<Item = i32>) {
        let numbers = [1.0, -3.0, 5.0, 2.0];
        let of = |exponent: i32, f: &dyn Fn(&Tensor<T>) -> Result<Tensor<T>>| {
            let x = numbers.map(|x| T::from_f64(x * 2f64.powi(exponent)));
            gradient(&Tensor::from_slice(&x, [4]).unwrap(), f)
        };
        let std = |x: &Tensor<T>| x.std_axes(&[0], 1, false);
        let norm = |x: &Tensor<T>| x.norm(Norm::L2);
        let expected = [of(0, &std), of(0, &norm)];
        for exponent in exponents {
            for (f, expected) in [&std as &dyn Fn(&Tensor<T>) -> _, &norm].into_iter().zip(&expected) {
                for (actual, expected) in of(exponent, f).into_iter().zip(expected) {
                    assert!(
                        (actual - expected).abs() < 8.0 * unit::<T>(),
                        "2^{exponent}: {actual}, {expected}"
                    );
                }
            }
        }
    }
    on_every_isa(|_| {
        check::<f32>(-110..=120);
        check::<f64>((-1000..=1016).step_by(3));
    });
}
