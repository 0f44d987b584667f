//! Gradients that are ordinary numbers come out as such, however large or small the numbers are that they are made of.

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
