//! Numbers that are known to break such libraries: means far from zero, infinite logits, huge variances,
//! batches of one.

use gristmill::kernels::norm::Norm;
use gristmill::nn::{BatchNorm1d, Dropout, LayerNorm, Module};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Element, Rng, Tensor};

use crate::common::{on_every_isa, unit};

fn tensor<T: Element>(values: &[f64], shape: [usize; 2]) -> Tensor<T> {
    Tensor::from_slice(&values.iter().map(|&x| T::from_f64(x)).collect::<Vec<_>>(), shape).unwrap()
}

/// Two columns, or two rows, of numbers ±1 around 10⁴: the mean is 10⁴ times the deviation.
#[test]
fn normalising_numbers_far_from_zero_keeps_their_digits() {
    fn check<T: Element>() {
        let x: Vec<f64> = (0..64).map(|i| 1e4 + if i / 2 % 2 == 0 { 1.0 } else { -1.0 }).collect();
        on_every_isa(|isa| {
            let by_column = BatchNorm1d::<T>::new(2).unwrap().forward(&tensor(&x, [32, 2])).unwrap();
            let by_row = LayerNorm::<T>::new(32).unwrap().forward(&tensor(&x, [2, 32])).unwrap();
            for y in [by_column, by_row] {
                for (y, x) in y.to_vec().iter().zip(&x) {
                    // 1/√(1 + 10⁻⁵), and what a few roundings of numbers near 1 make of it.
                    let expected = (x - 1e4) / (1.0 + 1e-5_f64).sqrt();
                    assert!((y.to_f64() - expected).abs() <= 8.0 * unit::<T>(), "{isa}: {y}, {expected}");
                }
            }
        });
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn variances_of_huge_and_tiny_numbers_are_right() {
    on_every_isa(|isa| {
        for scale in [1e30_f32, 1e-15, 1e15] {
            let x: Tensor = Tensor::from_slice(&[1.0, -1.0, 1.0, -1.0].map(|x| x * scale), [4]).unwrap();
            // The variance of ±1e30 is 1e60, which f32 does not have; its root is there.
            let std = x.std_axes(&[0], 0, false).unwrap().item().unwrap();
            let lost = (f64::from(std) / f64::from(scale) - 1.0).abs();
            assert!(lost < 1e-6, "{isa}: {std:e} for {scale:e}");
            let norm = x.norm(Norm::L2).unwrap().item().unwrap();
            assert!((f64::from(norm) / f64::from(scale) - 2.0).abs() < 1e-6, "{isa}: {norm:e}");
        }
        let x = tensor::<f32>(&[1e30, -1e30, 3e30, -3e30], [4, 1]);
        let y = BatchNorm1d::new(1).unwrap().forward(&x).unwrap().to_vec();
        let root = 5.0_f64.sqrt();
        for (y, expected) in y.iter().zip([1.0 / root, -1.0 / root, 3.0 / root, -3.0 / root]) {
            assert!((f64::from(*y) - expected).abs() < 1e-6, "{isa}: {y}, {expected}");
        }
    });
}

#[test]
fn logits_of_any_size_give_losses_and_gradients_that_are_numbers() {
    on_every_isa(|isa| {
        let logits = tensor::<f32>(&[1e30, -1e30, 0.0, -1e30, 1e30, 0.0], [2, 3]).requires_grad();
        let loss = logits.cross_entropy(&[0, 1]).unwrap();
        assert_eq!(loss.item().unwrap(), 0.0, "{isa}: both are right beyond doubt");
        loss.backward().unwrap();
        assert_eq!(logits.grad().unwrap().to_vec(), [0.0; 6], "{isa}");

        let wrong = logits.detach().requires_grad();
        let loss = wrong.cross_entropy(&[1, 0]).unwrap();
        assert_eq!(loss.item().unwrap(), 2e30, "{isa}: wrong by the distance of the logits");
        loss.backward().unwrap();
        assert_eq!(wrong.grad().unwrap().to_vec(), [0.5, -0.5, 0.0, -0.5, 0.5, 0.0], "{isa}");

        let inf = f64::INFINITY;
        let rows = tensor::<f32>(&[-inf, -inf, 0.0, inf, -inf, 0.0], [3, 2]);
        let y = rows.softmax(1).unwrap().to_vec();
        assert!(y[..4].iter().all(|y| y.is_nan()), "{isa}: no largest, or no other than the largest: {y:?}");
        assert_eq!(y[4..], [0.0, 1.0], "{isa}");
    });
}

#[test]
fn a_batch_of_one_is_refused_in_training_and_served_afterwards() {
    let norm = BatchNorm1d::<f32>::new(3).unwrap();
    let x = tensor::<f32>(&[1.0, 2.0, 3.0], [1, 3]);
    let y = norm.forward(&x);
    // PyTorch refuses: one value has no variance. With a biased variance of 0 the result would be beta,
    // whatever x is.
    assert!(y.is_err(), "{y:?}");
    norm.eval();
    let y = norm.forward(&x).unwrap().to_vec();
    assert!(y.iter().zip([1.0, 2.0, 3.0]).all(|(y, x)| (y - x).abs() < 1e-4), "{y:?}");
    // A layer norm has all it needs.
    let y = LayerNorm::<f32>::new(3).unwrap().forward(&x).unwrap().to_vec();
    assert!((y[0] + 1.2247).abs() < 1e-3 && y[1] == 0.0, "{y:?}");
}

#[test]
fn labels_out_of_range_are_named() {
    let logits = tensor::<f32>(&[0.0; 6], [2, 3]);
    let error = logits.cross_entropy(&[0, 3]).unwrap_err().to_string();
    assert!(error.contains('3') && error.contains("cross_entropy"), "{error}");
}

#[test]
fn gradients_at_zero_are_pytorchs() {
    let at_zero = |f: &dyn Fn(&Tensor<f64>) -> Tensor<f64>| {
        let x = tensor::<f64>(&[0.0, 0.0], [1, 2]).requires_grad();
        f(&x).sum().unwrap().backward().unwrap();
        x.grad().unwrap().to_vec()
    };
    assert_eq!(at_zero(&|x| x.sqrt().unwrap()), [f64::INFINITY; 2]);
    assert_eq!(at_zero(&|x| x.norm(Norm::L2).unwrap()), [0.0; 2], "no direction is steeper than another");
    assert_eq!(at_zero(&|x| x.norm(Norm::L1).unwrap()), [0.0; 2]);
    assert_eq!(at_zero(&|x| x.abs().unwrap()), [0.0; 2]);
    assert_eq!(at_zero(&|x| x.relu().unwrap()), [0.0; 2]);
}

#[test]
fn adam_with_gradients_of_zero_moves_nothing_and_makes_no_nan() {
    let mut rng = Rng::seed(1);
    let layer = gristmill::nn::Linear::<f32>::new(3, 2, &mut rng).unwrap();
    let before: Vec<_> = layer.parameters().iter().map(|p| p.value().to_vec()).collect();
    let mut optimizer = Adam::new(layer.parameters()).lr(0.1);
    for _ in 0..3 {
        optimizer.zero_grad();
        layer
            .forward(&tensor(&[0.0; 3], [1, 3]))
            .unwrap()
            .mul_scalar(0.0)
            .unwrap()
            .sum()
            .unwrap()
            .backward()
            .unwrap();
        optimizer.step().unwrap();
    }
    let after: Vec<_> = layer.parameters().iter().map(|p| p.value().to_vec()).collect();
    assert_eq!(before, after);
}

#[test]
fn dropout_of_nothing_and_of_all() {
    let mut rng = Rng::seed(1);
    let x = tensor::<f32>(&[1.0, -2.0, f64::NAN, f64::INFINITY], [2, 2]);
    let none = Dropout::new(0.0, &mut rng).unwrap().forward(&x).unwrap().to_vec();
    assert!(none[..2] == [1.0, -2.0] && none[2].is_nan() && none[3] == f32::INFINITY, "{none:?}");
    let all = Dropout::new(1.0, &mut rng).unwrap().forward(&x).unwrap().to_vec();
    assert_eq!(all, [0.0; 4], "what is dropped is 0, whatever it was");
    for p in [-0.1, 1.1, f64::NAN] {
        assert!(Dropout::new(p, &mut rng).is_err(), "{p}");
    }
}

/// Added one by one in f32, ten million times 0.1 are 1,087,937; the tree is right to the last digit or two.
#[test]
fn the_sum_of_ten_million_equal_numbers_is_their_product() {
    let x: Tensor = Tensor::full([10_000_000], 0.1).unwrap();
    let exact = 1e7 * f64::from(0.1_f32);
    on_every_isa(|isa| {
        let sum = x.sum().unwrap().item().unwrap();
        // 64 additions in a chain, six for the lanes, and a merge for each doubling of 2442 blocks.
        let bound = (64.0 + 6.0 + 12.0) * unit::<f32>() * exact;
        assert!((f64::from(sum) - exact).abs() <= bound, "{isa}: {sum}, {exact}");
        assert!((f64::from(x.mean().unwrap().item().unwrap()) - 0.1).abs() < 1e-6, "{isa}");
    });
}
