//! Derivatives of operations, over all axes and ways to broadcast, and of layers against central differences,
//! and the promises of the tape.

use crate::common::noise;
use gristmill::autograd::{
    BatchStatistics, CrossEntropyOptions, CustomOp, Reduction, detect_anomaly, gradcheck, is_recording,
    no_grad,
};
use gristmill::kernels::dropout::Key;
use gristmill::kernels::norm::Norm;
use gristmill::nn::*;
use gristmill::tensor::INFER;
use gristmill::{Result, Rng, Tensor};

pub type T64 = Tensor<f64>;

/// Numbers in ±1, away from 0 and from each other, so that no function has a kink near them.
pub fn input(shape: &[usize], seed: u64) -> T64 {
    let values: Vec<f64> = noise::<f64>(shape.iter().product(), seed)
        .iter()
        .enumerate()
        .map(|(i, x)| (x.abs() * 0.9 + 0.05 + 1e-4 * i as f64).copysign(*x))
        .collect();
    Tensor::from_slice(&values, shape).unwrap()
}

/// The same numbers, as a view that is neither contiguous nor starts at the front of its buffer.
pub fn view(x: &T64) -> Result<T64> {
    if x.rank() < 2 {
        return x
            .unsqueeze(0)?
            .broadcast_to([[3].as_slice(), x.shape()].concat())?
            .slice(0, 1..2)?
            .squeeze(0);
    }
    let last = x.rank() as isize - 1;
    Tensor::concat(&[x, x], 0)?
        .slice(0, x.shape()[0]..2 * x.shape()[0])?
        .transpose(0, last)?
        .contiguous()?
        .transpose(0, last)
}

/// Checks `f` on the inputs as they are, on views of them, and with the first input used in all places that
/// it fits.
#[track_caller]
fn check(f: impl Fn(&[T64]) -> Result<T64>, inputs: &[T64]) {
    gradcheck(&f, inputs).unwrap();
    gradcheck(|inputs| f(&inputs.iter().map(view).collect::<Result<Vec<_>>>()?), inputs).unwrap();
    let reused = |first: &[T64]| {
        let place = |x: &T64| if x.shape() == inputs[0].shape() { first[0].clone() } else { x.clone() };
        f(&inputs.iter().map(place).collect::<Vec<_>>())
    };
    gradcheck(reused, &inputs[..1]).unwrap();
}

#[test]
fn binary_functions_with_every_way_to_broadcast() {
    let functions: [fn(&T64, &T64) -> Result<T64>; 6] =
        [T64::add, T64::sub, T64::mul, T64::div, T64::minimum, T64::maximum];
    let shapes: [(&[usize], &[usize]); 10] = [
        (&[3, 4], &[3, 4]),
        (&[3, 4], &[4]),
        (&[3, 4], &[1, 4]),
        (&[3, 4], &[3, 1]),
        (&[3, 4], &[]),
        (&[4], &[3, 4]),
        (&[3, 1], &[1, 4]),
        (&[2, 3, 4], &[3, 1]),
        (&[2, 1, 4], &[3, 1]),
        (&[2, 3, 4], &[2, 1, 1]),
    ];
    for f in functions {
        for (a, b) in shapes {
            check(|x| f(&x[0], &x[1]), &[input(a, 2), input(b, 3)]);
        }
    }
}

#[test]
fn functions_of_three_with_every_way_to_broadcast() {
    let shapes: [[&[usize]; 3]; 6] = [
        [&[3, 4], &[3, 4], &[3, 4]],
        [&[3, 4], &[4], &[]],
        [&[], &[3, 1], &[4]],
        [&[1], &[1], &[1, 1]],
        [&[2, 1, 4], &[3, 1], &[2, 3, 4]],
        [&[0, 4], &[4], &[]],
    ];
    for shapes in shapes {
        let inputs: Vec<T64> = (2..).zip(shapes).map(|(seed, shape)| input(shape, seed)).collect();
        check(|x| x[0].mul_add(&x[1], &x[2]), &inputs);
        check(|x| x[0].lerp(&x[1], &x[2]), &inputs);
        // As said in other words.
        let [a, b, c] = &inputs[..] else { unreachable!() };
        let near = |x: &T64, y: &T64| {
            assert_eq!(x.shape(), y.shape());
            assert!(x.to_vec().iter().zip(y.to_vec()).all(|(x, y)| (x - y).abs() < 1e-15));
        };
        near(&a.mul_add(b, c).unwrap(), &(&(a * b) + c));
        near(&a.lerp(b, c).unwrap(), &(a + &(c * &(b - a))));
    }
    let [x, y] = [[2, 3], [4, 3]].map(|shape| T64::ones(shape).unwrap());
    let error = x.mul_add(&y, &x).unwrap_err().to_string();
    assert_eq!(error, "mul_add: shapes do not broadcast: [2, 3] and [4, 3]");
}

#[test]
fn operators_of_every_kind_of_sides() {
    let values = |x: Tensor| x.to_vec();
    let x = || Tensor::<f32>::from([1.0, 4.0]);
    let y = || Tensor::from([2.0, 8.0]);
    for sum in [x() + y(), x() + &y(), &x() + y(), &x() + &y()] {
        assert_eq!(values(sum), [3.0, 12.0]);
    }
    assert_eq!(values(x() - y() * 2.0 / &x()), [-3.0, 0.0]);
    assert_eq!(values(1.0 - x()), [0.0, -3.0]);
    assert_eq!(values(8.0 / &x()), [8.0, 2.0]);
    assert_eq!(values(-x() + 1.0 - 2.0 * &-&y()), [4.0, 13.0]);
    let one = input(&[2, 3], 5);
    check(|x| Ok(2.0 * &x[0] - 1.0 / (3.0 + &x[0]) - &x[0] * 0.5), std::slice::from_ref(&one));
}

#[test]
fn an_operator_panics_with_the_line_of_its_caller() {
    let line = std::sync::Arc::new(std::sync::Mutex::new(None));
    let (seen, before) = (line.clone(), std::panic::take_hook());
    let me = std::thread::current().id();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().id() == me {
            *seen.lock().unwrap() = info.location().map(|at| (at.file().to_owned(), at.line()));
        } else {
            before(info);
        }
    }));
    let (x, y) = (T64::ones([2, 3]).unwrap(), T64::ones([4]).unwrap());
    let here = line!() + 1;
    let died = std::panic::catch_unwind(|| &x + &y).unwrap_err();
    drop(std::panic::take_hook());
    assert_eq!(died.downcast_ref::<String>().unwrap(), "add: shapes do not broadcast: [2, 3] and [4]");
    assert_eq!(*line.lock().unwrap(), Some((file!().to_owned(), here)));
}

#[test]
fn a_recorded_tensor_stays_recorded() {
    let a = T64::from([3.0]).requires_grad();
    let c = a.square().unwrap().requires_grad();
    c.sum().unwrap().backward().unwrap();
    assert_eq!(a.grad().unwrap().to_vec(), [6.0]);
    // A leaf is the same leaf, what is detached another one.
    a.requires_grad().square().unwrap().sum().unwrap().backward().unwrap();
    assert_eq!(a.grad().unwrap().to_vec(), [12.0]);
    let other = a.detach().requires_grad();
    other.sum().unwrap().backward().unwrap();
    assert_eq!((a.grad().unwrap().to_vec(), other.grad().unwrap().to_vec()), (vec![12.0], vec![1.0]));
}

#[test]
fn products_with_vectors() {
    let shapes: [(&[usize], &[usize], &[usize]); 6] = [
        (&[3], &[3], &[]),
        (&[3], &[3, 4], &[4]),
        (&[2, 3], &[3], &[2]),
        (&[3], &[2, 3, 4], &[2, 4]),
        (&[5, 2, 3], &[3], &[5, 2]),
        (&[1], &[1], &[]),
    ];
    for (a, b, shape) in shapes {
        let inputs = [input(a, 2), input(b, 3)];
        assert_eq!(inputs[0].matmul(&inputs[1]).unwrap().shape(), shape);
        check(|x| x[0].matmul(&x[1]), &inputs);
    }
    let error = |a: &[usize], b: &[usize]| input(a, 1).matmul(&input(b, 1)).unwrap_err().to_string();
    assert_eq!(error(&[2], &[3]), "matmul: inner dimensions differ: [2] × [3]");
    assert_eq!(error(&[2, 3], &[2]), "matmul: inner dimensions differ: [2, 3] × [2]");
    assert_eq!(error(&[3], &[]), "matmul: inner dimensions differ: [3] × []");
    assert_eq!(error(&[], &[2, 2]), "matmul: a number is no matrix: [] × [2, 2]");
}

#[test]
fn a_length_is_inferred() {
    let x = input(&[4, 3, 2], 1);
    let shape = |shape: &[usize]| x.reshape(shape).map(|y| y.shape().to_vec());
    assert_eq!(shape(&[INFER]).unwrap(), [24]);
    assert_eq!(shape(&[2, INFER, 3]).unwrap(), [2, 4, 3]);
    assert_eq!(shape(&[24, 1, INFER]).unwrap(), [24, 1, 1]);
    let error = |dims: &[usize]| shape(dims).unwrap_err().to_string();
    assert_eq!(error(&[5, INFER]), "reshape: [4, 3, 2] has no one shape of [5, INFER]");
    assert_eq!(error(&[INFER, INFER]), "reshape: [4, 3, 2] has no one shape of [INFER, INFER]");
    assert_eq!(error(&[0, INFER]), "reshape: [4, 3, 2] has no one shape of [0, INFER]");
    let none = T64::zeros([0, 3]).unwrap();
    assert_eq!(none.reshape([3, INFER]).unwrap().shape(), [3, 0]);
    check(|x| x[0].reshape([6, INFER])?.square(), std::slice::from_ref(&x));
}

#[test]
fn products() {
    let shapes: [(&[usize], &[usize]); 5] = [
        (&[3, 4], &[4, 2]),
        (&[2, 3, 4], &[2, 4, 2]),
        (&[2, 3, 4], &[4, 2]),
        (&[3, 4], &[2, 4, 2]),
        (&[2, 1, 3, 4], &[3, 4, 2]),
    ];
    for (a, b) in shapes {
        check(|x| x[0].matmul(&x[1]), &[input(a, 4), input(b, 5)]);
    }
    check(|x| x[0].matmul(&x[1].transpose(0, 1)?), &[input(&[3, 4], 4), input(&[2, 4], 5)]);
    check(|x| x[0].matmul(&x[0].t()?), &[input(&[3, 4], 4)]);
    check(|x| x[0].linear(&x[1], Some(&x[2])), &[input(&[3, 4], 6), input(&[2, 4], 7), input(&[2], 8)]);
    check(|x| x[0].linear(&x[1], None), &[input(&[2, 3, 4], 6), input(&[5, 4], 7)]);
}

#[test]
fn reductions_over_any_axes() {
    let x = input(&[2, 3, 4], 9);
    let axes: [&[isize]; 7] = [&[], &[0], &[1], &[-1], &[0, 1], &[2, 0], &[0, 1, 2]];
    for axes in axes {
        for keep in [false, true] {
            check(|x| x[0].sum_axes(axes, keep), std::slice::from_ref(&x));
            check(|x| x[0].mean_axes(axes, keep), std::slice::from_ref(&x));
            check(|x| x[0].max_axes(axes, keep), std::slice::from_ref(&x));
            check(|x| x[0].min_axes(axes, keep), std::slice::from_ref(&x));
            check(|x| x[0].var_axes(axes, 0, keep), std::slice::from_ref(&x));
            if !axes.is_empty() {
                check(|x| x[0].var_axes(axes, 1, keep), std::slice::from_ref(&x));
            }
        }
    }
    check(|x| x[0].sum()?.mul(&x[0].mean()?), std::slice::from_ref(&x));
    check(|x| x[0].max()?.add(&x[0].min()?), &[x]);
}

#[test]
fn products_norms_and_deviations_over_any_axes() {
    let x = input(&[2, 3, 4], 1);
    let all: [&[isize]; 8] = [&[], &[0], &[1], &[-1], &[0, 1], &[0, 2], &[1, 2], &[0, 1, 2]];
    for axes in all {
        for keep in [false, true] {
            check(|x| x[0].prod_axes(axes, keep), std::slice::from_ref(&x));
            check(|x| x[0].logsumexp_axes(axes, keep), std::slice::from_ref(&x));
            for norm in [Norm::L1, Norm::L2, Norm::Max] {
                check(|x| x[0].norm_axes(norm, axes, keep), std::slice::from_ref(&x));
            }
            if !axes.is_empty() {
                check(|x| x[0].std_axes(axes, 1, keep), std::slice::from_ref(&x));
            }
        }
    }
    check(|x| x[0].prod(), std::slice::from_ref(&x));
    check(|x| x[0].norm(Norm::L2), std::slice::from_ref(&x));
    // The product of the others where one is 0, and where two are.
    for zeros in 1..3 {
        let values: Vec<f64> = (0..6).map(|i| if i < zeros { 0.0 } else { 0.5 + i as f64 }).collect();
        let x = T64::from_slice(&values, [2, 3]).unwrap();
        gradcheck(|x| x[0].prod_axes(&[0], false), std::slice::from_ref(&x)).unwrap();
        gradcheck(|x| x[0].prod(), &[x]).unwrap();
    }
    let (a, b) = (input(&[5], 2), input(&[5], 3));
    check(|x| x[0].dot(&x[1]), &[a.clone(), b]);
    assert!(a.dot(&x).unwrap_err().to_string().starts_with("dot: [5] and [2, 3, 4]"));
    // Where all are alike the deviation is 0, and so is its gradient.
    let alike = T64::full([4], 0.3).unwrap().requires_grad();
    alike.std_axes(&[0], 0, false).unwrap().backward().unwrap();
    assert_eq!(alike.grad().unwrap().to_vec(), [0.0; 4]);
}

#[test]
fn reductions_over_any_axes_agree_with_the_reference() {
    let x = T64::from_slice(&[0.0, 1.0, -2.0, 3.0, 0.0, -5.0], [2, 3]).unwrap();
    let t = |y: Result<T64>| y.unwrap().to_vec();
    assert_eq!(t(x.any_axes(&[0], false)), [1.0; 3]);
    assert_eq!(t(x.all_axes(&[0], false)), [0.0, 0.0, 1.0]);
    assert_eq!(t(x.all_axes(&[1], true)), [0.0; 2]);
    assert_eq!(t(x.count_nonzero_axes(&[1], false)), [2.0, 2.0]);
    assert_eq!(t(x.count_nonzero_axes(&[0, 1], false)), [4.0]);
    assert_eq!((x.any().unwrap(), x.all().unwrap(), x.count_nonzero().unwrap()), (true, false, 4));
    assert_eq!(x.argmax_axis(0).unwrap(), [1, 0, 0]);
    assert_eq!(x.argmin_axis(0).unwrap(), [0, 1, 1]);
    assert_eq!(x.argmin().unwrap(), [2, 2]);
    assert_eq!(x.argmax_axis(-1).unwrap(), x.argmax().unwrap());
    assert_eq!((x.argmax_all().unwrap(), x.argmin_all().unwrap()), (3, 5));
    let y = x.reshape([1, 2, 3]).unwrap().transpose(1, 2).unwrap();
    assert_eq!(y.argmin_axis(1).unwrap(), [2, 2]);
    assert!(x.argmax_axis(2).is_err() && T64::zeros([0, 2]).unwrap().argmin_axis(0).is_err());
    assert_eq!(t(x.prod_axes(&[1], false)), [0.0, 0.0]);
    assert_eq!(t(x.norm_axes(Norm::L1, &[0], true)), [3.0, 1.0, 7.0]);
    assert_eq!(t(x.norm_axes(Norm::Max, &[1], false)), [2.0, 5.0]);
    assert_eq!(t(T64::zeros([0, 2]).unwrap().logsumexp_axes(&[0], false)), [f64::NEG_INFINITY; 2]);
}

#[test]
fn powers_with_every_way_to_broadcast() {
    let positive = |x: &T64| x.abs()?.add_scalar(0.4);
    for (a, b) in
        [(&[3, 4][..], &[3, 4][..]), (&[3, 4], &[4]), (&[3, 4], &[3, 1]), (&[], &[3, 4]), (&[3, 1], &[1, 4])]
    {
        let inputs = [input(a, 1), input(b, 2)];
        check(|x| positive(&x[0])?.pow(&x[1]), &inputs);
    }
    // Of negative bases, with whole exponents, the base has a gradient.
    let (x, n) = (input(&[4], 3), T64::from_slice(&[2.0, 3.0, 0.0, -1.0], [4]).unwrap());
    gradcheck(|x| x[0].pow(&n), &[x]).unwrap();
}

#[test]
fn the_softmax_family_along_every_axis() {
    let x = input(&[2, 3, 4], 10);
    for axis in [0, 1, 2, -1] {
        check(|x| x[0].softmax(axis), std::slice::from_ref(&x));
        check(|x| x[0].log_softmax(axis), std::slice::from_ref(&x));
        check(|x| x[0].logsumexp(axis), std::slice::from_ref(&x));
    }
}

#[test]
fn losses() {
    let (x, target) = (input(&[4, 5], 11), input(&[4, 5], 12));
    let weight = input(&[5], 13).abs().unwrap();
    for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
        for smoothing in [0.0, 0.1, 1.0] {
            for (weight, ignore_index) in [(None, None), (Some(&weight), None), (Some(&weight), Some(0))] {
                let options =
                    CrossEntropyOptions { reduction, label_smoothing: smoothing, ignore_index, weight };
                check(|x| x[0].cross_entropy_with(&[1, 0, 4, 4], options), std::slice::from_ref(&x));
                let options = CrossEntropyOptions { ignore_index: None, ..options };
                gradcheck(|x| x[0].soft_cross_entropy(&x[1], options), &[x.clone(), target.clone()]).unwrap();
                gradcheck(
                    |x| view(&x[0])?.soft_cross_entropy(&view(&x[1])?, options),
                    &[x.clone(), target.clone()],
                )
                .unwrap();
                check(
                    |x| x[0].nll_loss(&[1, 0, 4, 4], weight, ignore_index, reduction),
                    std::slice::from_ref(&x),
                );
            }
        }
        // Losses of an input against itself have kinks: different inputs only.
        let check = |f: &dyn Fn(&T64, &T64) -> Result<T64>| {
            gradcheck(|x| f(&x[0], &x[1]), &[x.clone(), target.clone()]).unwrap();
            gradcheck(|x| f(&view(&x[0])?, &view(&x[1])?), &[x.clone(), target.clone()]).unwrap();
        };
        check(&|x, t| x.mse_loss(t, reduction));
        check(&|x, t| x.l1_loss(t, reduction));
        check(&|x, t| x.huber_loss(t, 0.4, reduction));
        check(&|x, t| x.bce_with_logits_loss(&t.sigmoid()?, reduction));
    }
}

#[test]
fn class_weights_have_no_gradient_and_probabilities_no_index() {
    let (x, weight) = (input(&[2, 3], 11), input(&[3], 12).requires_grad());
    let options = CrossEntropyOptions { weight: Some(&weight), ..Default::default() };
    let text = |result: Result<T64>| result.unwrap_err().to_string();
    assert_eq!(
        text(x.cross_entropy_with(&[0, 1], options)),
        "cross_entropy: there is no gradient of the class weights; detach them"
    );
    assert!(no_grad(|| x.cross_entropy_with(&[0, 1], options)).is_ok());
    let options = CrossEntropyOptions { ignore_index: Some(1), ..Default::default() };
    assert_eq!(
        text(x.soft_cross_entropy(&x, options)),
        "soft_cross_entropy: probabilities have no index 1 to ignore"
    );
    assert_eq!(
        text(x.nll_loss(&[0, 1], Some(&input(&[2], 1)), None, Reduction::Mean)),
        "nll_loss: weight has shape [2], expected [3]"
    );
    assert_eq!(text(x.nll_loss(&[0], None, None, Reduction::Mean)), "nll_loss: 1 targets for 2 rows");
    assert_eq!(
        text(x.flatten(0).unwrap().cross_entropy(&[0])),
        "cross_entropy: input must be [rows, classes], got [6]"
    );
}

#[test]
fn views_joins_and_picks() {
    let x = input(&[2, 3, 4], 13);
    let one = std::slice::from_ref(&x);
    check(|x| x[0].reshape([4, 6])?.square(), one);
    check(|x| x[0].flatten(1)?.square(), one);
    check(|x| x[0].transpose(0, 2)?.square(), one);
    check(|x| x[0].permute(&[1, 2, 0])?.square(), one);
    check(|x| x[0].slice(1, 1..3)?.square(), one);
    check(|x| x[0].slice(2, 2..2)?.sum()?.add(&x[0].sum()?), one);
    check(|x| x[0].unsqueeze(1)?.broadcast_to([2, 5, 3, 4])?.square(), one);
    check(|x| x[0].unsqueeze(-1)?.squeeze(3)?.square(), one);
    check(|x| x[0].gather_rows(&[1, 0, 1])?.square(), one);
    check(|x| Tensor::concat(&[&x[0], &x[1], &x[0]], 1)?.square(), &[x.clone(), input(&[2, 1, 4], 14)]);
    check(|x| Tensor::stack(&[&x[0], &x[1]], -1)?.square(), &[x.clone(), input(&[2, 3, 4], 15)]);
}

#[test]
fn norms_and_dropout() {
    let x = input(&[4, 3], 16);
    let (gamma, beta) = (input(&[3], 17), input(&[3], 18));
    check(|x| x[0].layer_norm(Some((&x[1], &x[2])), 1e-2), &[x.clone(), gamma.clone(), beta.clone()]);
    check(|x| x[0].layer_norm(None, 1e-2), std::slice::from_ref(&x));
    let batch = |x: &[T64], affine: bool| {
        let affine = affine.then(|| (&x[1], &x[2]));
        x[0].batch_norm(affine, BatchStatistics::Batch(None), 1e-2)
    };
    check(|x| batch(x, true), &[x.clone(), gamma.clone(), beta.clone()]);
    check(|x| batch(x, false), std::slice::from_ref(&x));
    let (mean, var) = ([0.1, -0.2, 0.3], [0.5, 1.5, 2.5]);
    let running = || BatchStatistics::Running { mean: &mean, var: &var };
    check(|x| x[0].batch_norm(Some((&x[1], &x[2])), running(), 1e-2), &[x.clone(), gamma, beta]);
    check(|x| x[0].batch_norm(None, running(), 1e-2), std::slice::from_ref(&x));
    check(|x| x[0].dropout(0.4, Key { seed: 3, stream: 8 }), &[x]);
}

/// Checks a layer with respect to its input and to each of its parameters.
fn check_layer(layer: &dyn Module<f64>, x: &T64) {
    gradcheck(|x| layer.forward(&x[0]), std::slice::from_ref(x)).unwrap();
    gradcheck(|x| layer.forward(&view(&x[0])?), std::slice::from_ref(x)).unwrap();
    gristmill::nn::gradcheck(layer, x).unwrap();
}

/// Twice the input, and three times the weight: but backward knows only twice.
struct Wrong(Parameter<f64>);

impl Module<f64> for Wrong {
    fn forward(&self, x: &T64) -> Result<T64> {
        let weight = self.0.tensor();
        let silent = weight.detach();
        x.mul_scalar(2.0)?.add(&weight.mul_scalar(2.0)?)?.add(&silent)
    }

    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a, f64>) {
        visitor.parameter("weight", &self.0);
    }
}

#[test]
fn a_wrong_layer_is_found_and_left_as_it_was() {
    let (wrong, x) = (Wrong(Parameter::new(&input(&[3], 1))), input(&[2, 3], 2));
    let before = wrong.0.value().to_vec();
    let error = gristmill::nn::gradcheck(&wrong, &x).unwrap_err().to_string();
    let named = "gradcheck: weight, element 0: backward gives ";
    assert!(error.starts_with(named) && error.contains(", differences "), "{error}");
    assert_eq!(wrong.0.value().to_vec(), before);
    wrong.0.freeze();
    gristmill::nn::gradcheck(&wrong, &x).unwrap();
    // The mask of a dropout is the same in each pass, and the next one is what it would have been.
    let dropout = Dropout::new(0.5, &mut Rng::seed(3)).unwrap();
    let boxed: Box<dyn Module<f64>> = Box::new(dropout);
    let state = boxed.rng_state();
    gristmill::nn::gradcheck(&boxed, &x).unwrap();
    assert_eq!(boxed.rng_state(), state);
}

#[test]
fn every_layer() {
    let mut rng = Rng::seed(1);
    let x = input(&[5, 4], 20);
    check_layer(&Linear::<f64>::new(4, 3, &mut rng).unwrap(), &x);
    check_layer(&Linear::<f64>::new(4, 3, &mut rng).unwrap().without_bias(), &x);
    check_layer(&BatchNorm1d::<f64>::new(4).unwrap(), &x);
    check_layer(&LayerNorm::<f64>::new(4).unwrap(), &x);
    let layers: [&dyn Module<f64>; 9] = [
        &ReLU,
        &LeakyReLU::default(),
        &GELU,
        &SiLU,
        &Sigmoid,
        &Tanh,
        &Identity,
        &Flatten,
        &LeakyReLU { slope: 0.2 },
    ];
    layers.iter().for_each(|layer| check_layer(*layer, &x));
    let inner = Sequential::new()
        .add(Linear::new(4, 2, &mut rng).unwrap())
        .add(BatchNorm1d::new(2).unwrap())
        .add(Tanh)
        .add(Dropout::new(0.0, &mut rng).unwrap())
        .add(Linear::new(2, 4, &mut rng).unwrap());
    let model = Sequential::new().add(Residual::new(inner)).add(LayerNorm::new(4).unwrap());
    check_layer(&model, &x);
    let evaluated = BatchNorm1d::<f64>::new(4).unwrap();
    Module::<f64>::forward(&evaluated, &x).unwrap();
    evaluated.eval();
    check_layer(&evaluated, &x);
}

#[test]
fn leaves_accumulate_and_forget() {
    let w = input(&[3], 21).requires_grad();
    for times in 1..=3 {
        w.square().unwrap().sum().unwrap().backward().unwrap();
        let expected: Vec<f64> = w.to_vec().iter().map(|w| 2.0 * w * f64::from(times)).collect();
        assert_eq!(w.grad().unwrap().to_vec(), expected);
    }
    w.zero_grad();
    assert!(w.grad().is_none());
}

#[test]
fn nothing_is_recorded_without_need() {
    let (plain, w) = (input(&[3], 22), input(&[3], 23).requires_grad());
    assert!(!plain.exp().unwrap().is_tracked());
    assert!(w.exp().unwrap().is_tracked());
    assert!(!w.detach().exp().unwrap().is_tracked());
    assert!(!no_grad(|| w.exp()).unwrap().is_tracked());
    let after_panic = std::panic::catch_unwind(|| no_grad(|| panic!("inside")));
    assert!(after_panic.is_err() && is_recording());
}

#[test]
fn what_backward_cannot_do_is_an_error() {
    let text = |result: Result<()>| result.unwrap_err().to_string();
    let w = input(&[3], 24).requires_grad();
    assert!(text(input(&[], 1).backward()).contains("was not recorded"));
    assert!(text(w.exp().unwrap().backward()).contains("shape [3] is not one number"));
    let loss = w.exp().unwrap().sum().unwrap();
    loss.backward_retain_graph().unwrap();
    loss.backward().unwrap();
    assert!(text(loss.backward()).contains("run through before"));
    let other = std::thread::spawn({
        let loss = w.exp().unwrap().sum().unwrap();
        move || loss.backward()
    });
    assert!(text(other.join().unwrap()).contains("another thread"));
    let foreign = std::thread::spawn(|| input(&[3], 25).requires_grad().exp().unwrap()).join().unwrap();
    assert!(foreign.exp().unwrap_err().to_string().contains("another thread"));
}

#[test]
fn two_losses_of_one_tape_run_backward_one_after_the_other() {
    let w = input(&[2], 26).requires_grad();
    let (a, b) = (w.square().unwrap().sum().unwrap(), w.exp().unwrap().sum().unwrap());
    a.backward().unwrap();
    b.backward().unwrap();
    let expected: Vec<f64> = w.to_vec().iter().map(|w| 2.0 * w + w.exp()).collect();
    crate::common::assert_close("gradient", &w.grad().unwrap().to_vec(), &expected, 1e-14, 0.0);
}

#[test]
fn a_gradient_of_any_shape_can_be_given() {
    let w = input(&[2, 3], 27).requires_grad();
    let dy = input(&[2, 3], 28);
    w.mul_scalar(3.0).unwrap().backward_with(&dy).unwrap();
    let expected: Vec<f64> = dy.to_vec().iter().map(|dy| 3.0 * dy).collect();
    assert_eq!(w.grad().unwrap().to_vec(), expected);
    assert!(w.exp().unwrap().backward_with(&input(&[3, 2], 1)).is_err());
}

#[test]
fn anomaly_mode_names_the_line() {
    let w = Tensor::from_slice(&[0.0_f64, 1.0], [2]).unwrap().requires_grad();
    let error = detect_anomaly(|| w.ln()).unwrap_err().to_string();
    assert!(error.starts_with("ln: the result at ") && error.contains("autograd.rs"), "{error}");
    let error = detect_anomaly(|| w.sqrt()?.sum()?.backward()).unwrap_err().to_string();
    assert!(error.starts_with("backward: the gradient that ") && error.contains("autograd.rs"), "{error}");
}

#[test]
fn custom_operations_are_checked() {
    struct Wrong(usize);
    impl CustomOp<f64> for Wrong {
        fn backward(&self, dy: &T64) -> Result<Vec<Option<T64>>> {
            Ok((0..self.0).map(|_| Some(dy.clone())).collect())
        }
    }
    let w = input(&[2], 29).requires_grad();
    let run = |inputs: &[&T64], gradients: usize| {
        let y = w.detach().record_custom("wrong", inputs, Wrong(gradients))?;
        y.sum()?.backward()
    };
    run(&[&w], 1).unwrap();
    assert!(run(&[&w], 2).unwrap_err().to_string().contains("2 gradients for 1 inputs"));
    let wide = input(&[3], 30).requires_grad();
    assert!(run(&[&wide], 1).unwrap_err().to_string().contains("shape [2] for [3]"));
}

#[test]
fn the_tape_resets_when_no_recorded_tensor_is_alive() {
    // A tape that never reset would hold 200 buffers of 8 MB.
    let w = Tensor::<f64>::zeros([1_000_000]).unwrap().requires_grad();
    for _ in 0..200 {
        let y = w.add_scalar(1.0).unwrap().exp().unwrap();
        assert_eq!(y.shape(), [1_000_000]);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    if let Some(kilobytes) = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse::<usize>().ok()) {
        assert!(kilobytes < 600_000, "{kilobytes} kB");
    }
}
