//! Gradients as values, operations of the user's own, hooks, anomaly mode, guards.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::{assert_close, noise};
use gristmill::autograd::{
    Function, GradOptions, apply, detect_anomaly, grad, grad_with, gradcheck, is_recording, no_grad_guard,
};
use gristmill::nn::{Linear, Module, Parameter, Sequential, Tanh, Visitor};
use gristmill::optim::{Optimizer, SGD};
use gristmill::{Result, Rng, Tensor};
use proptest::prelude::*;

type T64 = Tensor<f64>;

fn input(shape: &[usize], seed: u64) -> T64 {
    Tensor::from_slice(&noise::<f64>(shape.iter().product(), seed), shape).unwrap()
}

fn text<R>(result: Result<R>) -> String {
    result.err().expect("an error").to_string()
}

/// A small computation in which leaves are used more than once.
fn compute(w: &T64, b: &T64) -> Result<(T64, T64)> {
    let hidden = w.mul(w)?.add(b)?.tanh()?;
    let result = hidden.mul(w)?.add(&hidden.exp()?)?.mul(b)?;
    Ok((hidden, result))
}

proptest! {
    #[test]
    fn grad_gives_what_backward_accumulates_and_leaves_the_leaves_alone(len in 1_usize..40, seed: u64) {
        let (w, b) = (input(&[len], seed).requires_grad(), input(&[len], seed ^ 1).requires_grad());
        let gradient = input(&[len], seed ^ 2);
        let (_, result) = compute(&w, &b).unwrap();
        let options = GradOptions { gradient: Some(&gradient), retain_graph: true };
        let found = grad_with(&result, &[&b, &w, &b], options).unwrap();
        prop_assert!(w.grad().is_none() && b.grad().is_none());
        result.backward_with(&gradient).unwrap();
        let bits = |x: &T64| x.to_vec().into_iter().map(f64::to_bits).collect::<Vec<_>>();
        for (found, leaf) in found.iter().zip([&b, &w, &b]) {
            prop_assert_eq!(bits(found.as_ref().unwrap()), bits(&leaf.grad().unwrap()));
        }
    }
}

#[test]
fn grad_with_respect_to_recorded_tensors_and_the_result_itself() {
    let (w, b) = (input(&[3], 1).requires_grad(), input(&[3], 2).requires_grad());
    let (hidden, result) = compute(&w, &b).unwrap();
    let loss = result.sum().unwrap();
    let [of_hidden, of_result, of_loss] = &grad(&loss, &[&hidden, &result, &loss]).unwrap()[..] else {
        panic!("three inputs")
    };
    let at = |x: &T64| x.to_vec();
    let expected: Vec<f64> = (0..3).map(|i| (at(&w)[i] + at(&hidden)[i].exp()) * at(&b)[i]).collect();
    assert_close("hidden", &of_hidden.to_vec(), &expected, 1e-14, 1e-15);
    assert_eq!((of_result.to_vec(), of_loss.to_vec()), (vec![1.0; 3], vec![1.0]));
    let one = grad(&w, &[&w]);
    assert!(text(one).contains("is not one number"));
    let scalar = T64::scalar(3.0).requires_grad();
    assert_eq!(grad(&scalar, &[&scalar]).unwrap()[0].to_vec(), [1.0]);
}

#[test]
fn what_grad_cannot_do_is_an_error() {
    let (w, unused) = (input(&[3], 3).requires_grad(), input(&[3], 4).requires_grad());
    let loss = || w.square().unwrap().sum().unwrap();
    assert_eq!(text(grad(&loss(), &[&w, &unused])), "grad: the result does not depend on input 1");
    assert_eq!(text(grad(&loss(), &[&w.detach()])), "grad: input 0 requires no gradient");
    assert!(text(grad(&loss().detach(), &[&w])).starts_with("grad: the tensor was not recorded"));
    assert!(grad_with(&loss(), &[&unused], GradOptions::default()).unwrap()[0].is_none());
    let wrong = input(&[2], 5);
    let options = GradOptions { gradient: Some(&wrong), retain_graph: false };
    assert!(text(grad_with(&loss(), &[&w], options)).contains("a gradient of shape [2]"));
    // Later tensors do not feed earlier ones; the tape is freed once it ran.
    let loss = loss();
    let later = loss.exp().unwrap();
    assert!(text(grad(&loss, &[&later])).contains("does not depend"));
    assert!(text(grad(&loss, &[&w])).contains("run through before"));
    let foreign = std::thread::spawn(|| {
        let w = input(&[1], 6).requires_grad();
        (w.exp().unwrap(), w)
    });
    let (foreign, _leaf) = foreign.join().unwrap();
    let here = w.square().unwrap().sum().unwrap();
    assert!(text(grad(&here, &[&foreign])).contains("does not depend"));
    assert!(text(grad(&foreign, &[&w])).contains("another thread"));
}

/// a·b + sin-like cubic of a, by hand.
struct MulCube;

impl Function<f64> for MulCube {
    type Saved = (T64, T64);

    fn forward(&self, x: &[T64]) -> Result<(T64, Self::Saved)> {
        assert!(!is_recording() && !x[0].is_tracked());
        let y = x[0].mul(&x[1])?.add(&x[0].square()?.mul(&x[0])?)?;
        Ok((y, (x[0].clone(), x[1].clone())))
    }

    fn backward(&self, (a, b): &Self::Saved, dy: &T64) -> Result<Vec<Option<T64>>> {
        let da = a.square()?.mul_scalar(3.0)?.add(b)?.mul(dy)?;
        Ok(vec![Some(da), Some(a.mul(dy)?)])
    }
}

#[test]
fn a_function_of_the_users_own_passes_the_gradient_check() {
    let inputs = [input(&[4, 3], 7), input(&[4, 3], 8)];
    gradcheck(|x| apply(MulCube, &[&x[0], &x[1]]), &inputs).unwrap();
    gradcheck(|x| apply(MulCube, &[&x[0].exp()?, &x[1]])?.tanh(), &inputs).unwrap();
    gradcheck(|x| apply(MulCube, &[&x[0], &x[0]]), &inputs[..1]).unwrap();
    let plain = apply(MulCube, &[&inputs[0], &inputs[1]]).unwrap();
    assert!(!plain.is_tracked());

    struct Wrong;
    impl Function<f64> for Wrong {
        type Saved = T64;
        fn forward(&self, x: &[T64]) -> Result<(T64, T64)> {
            Ok((x[0].square()?, x[0].clone()))
        }
        fn backward(&self, x: &T64, dy: &T64) -> Result<Vec<Option<T64>>> {
            Ok(vec![Some(x.mul(dy)?)])
        }
    }
    let error = text(gradcheck(|x| apply(Wrong, &[&x[0]]), &inputs[..1]));
    assert!(error.starts_with("gradcheck: input 0, element 0"), "{error}");
}

/// Panics or fails where it is told to.
struct Fragile(&'static str);

impl Function<f64> for Fragile {
    type Saved = ();

    fn forward(&self, x: &[T64]) -> Result<(T64, ())> {
        assert!(self.0 != "forward", "told to");
        Ok((x[0].clone(), ()))
    }

    fn backward(&self, _: &(), dy: &T64) -> Result<Vec<Option<T64>>> {
        match self.0 {
            "backward" => panic!("told to"),
            "none" => Ok(vec![None]),
            "shape" => Ok(vec![Some(dy.sum()?)]),
            _ => Ok(vec![]),
        }
    }
}

#[test]
fn a_panic_in_a_users_function_leaves_the_tape_usable() {
    let w = input(&[3], 9).requires_grad();
    let kept = w.exp().unwrap();
    let before = kept.square().unwrap().sum().unwrap();
    for place in ["forward", "backward"] {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            apply(Fragile(place), &[&kept])?.sum()?.backward()
        }));
        assert!(caught.is_err() && is_recording(), "{place}");
    }
    for (place, expected) in [
        ("none", "Fragile: an input that requires a gradient got none"),
        ("shape", "Fragile: backward gave a gradient of shape [] for [3]"),
        ("count", "Fragile: backward gave 0 gradients for 1 inputs"),
    ] {
        let result = apply(Fragile(place), &[&kept]).unwrap().sum().unwrap().backward();
        assert_eq!(text(result), expected);
    }
    // What was recorded before is still there, and new things can be.
    before.backward().unwrap();
    let expected: Vec<f64> = w.to_vec().iter().map(|w| 2.0 * (2.0 * w).exp()).collect();
    assert_close("gradient", &w.grad().unwrap().to_vec(), &expected, 1e-14, 0.0);
    w.zero_grad();
    w.square().unwrap().sum().unwrap().backward().unwrap();
    assert_eq!(w.grad().unwrap().to_vec(), w.mul_scalar(2.0).unwrap().to_vec());
}

#[test]
fn a_hook_on_a_leaf_sees_the_sum_of_all_uses_once_before_it_accumulates() {
    let w = T64::from_slice(&[3.0, -1.0], [2]).unwrap().requires_grad();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = seen.clone();
    let handle = w
        .register_hook(move |g| {
            note.lock().unwrap().push(g.to_vec());
            g.clamp(-2.0, 2.0)
        })
        .unwrap();
    let loss = || w.mul(&w)?.sum()?.add(&w.sum()?);
    loss().unwrap().backward().unwrap();
    assert_eq!(*seen.lock().unwrap(), [[7.0, -1.0]]);
    assert_eq!(w.grad().unwrap().to_vec(), [2.0, -1.0]);
    loss().unwrap().backward().unwrap();
    assert_eq!(w.grad().unwrap().to_vec(), [4.0, -2.0], "hooked gradients accumulate");
    assert_eq!(grad(&loss().unwrap(), &[&w]).unwrap()[0].to_vec(), [2.0, -1.0]);

    // A second one runs after the first; without them the gradient is itself again.
    let second = w.register_hook(|g| g.mul_scalar(10.0)).unwrap();
    assert_eq!(grad(&loss().unwrap(), &[&w]).unwrap()[0].to_vec(), [20.0, -10.0]);
    handle.remove();
    assert_eq!(grad(&loss().unwrap(), &[&w]).unwrap()[0].to_vec(), [70.0, -10.0]);
    second.remove();
    assert_eq!(grad(&loss().unwrap(), &[&w]).unwrap()[0].to_vec(), [7.0, -1.0]);
    let calls = seen.lock().unwrap().len();
    loss().unwrap().backward().unwrap();
    assert_eq!(seen.lock().unwrap().len(), calls);
    // A leaf that is the result itself.
    let scalar = T64::scalar(1.0).requires_grad();
    scalar.register_hook(|g| g.mul_scalar(5.0)).unwrap();
    scalar.backward().unwrap();
    assert_eq!(scalar.grad().unwrap().item().unwrap(), 5.0);
}

#[test]
fn a_hook_on_a_recorded_tensor_changes_what_goes_further_back() {
    let w = T64::from_slice(&[3.0, -1.0], [2]).unwrap().requires_grad();
    let run = |hooks: &[fn(&T64) -> Result<T64>]| {
        w.zero_grad();
        let square = w.square().unwrap();
        // Used before and after the hook is registered.
        let early = square.sum().unwrap();
        let handles: Vec<_> = hooks.iter().map(|hook| square.register_hook(*hook).unwrap()).collect();
        let loss = early.add(&square.mul_scalar(2.0).unwrap().sum().unwrap()).unwrap();
        let [of_square] =
            &grad_with(&loss, &[&square], GradOptions { retain_graph: true, gradient: None }).unwrap()[..]
        else {
            panic!("one input")
        };
        let of_square = of_square.as_ref().unwrap().to_vec();
        loss.backward().unwrap();
        drop(handles);
        (of_square, w.grad().unwrap().to_vec())
    };
    assert_eq!(run(&[]), (vec![3.0; 2], vec![18.0, -6.0]));
    assert_eq!(run(&[|g| g.mul_scalar(0.5)]), (vec![1.5; 2], vec![9.0, -3.0]));
    let in_order: [fn(&T64) -> Result<T64>; 2] = [|g| g.add_scalar(1.0), |g| g.mul_scalar(2.0)];
    assert_eq!(run(&in_order), (vec![8.0; 2], vec![48.0, -16.0]));
    let square = w.square().unwrap();
    square.register_hook(|g| g.mul_scalar(0.0)).unwrap().remove();
    w.zero_grad();
    square.sum().unwrap().backward().unwrap();
    assert_eq!(w.grad().unwrap().to_vec(), [6.0, -2.0]);
}

#[test]
fn what_hooks_cannot_do_is_an_error() {
    let w = input(&[3], 10).requires_grad();
    assert_eq!(
        text(w.detach().register_hook(|g| Ok(g.clone()))),
        "register_hook: the tensor requires no gradient"
    );
    let y = w.exp().unwrap();
    let loss = y.sum().unwrap();
    loss.backward().unwrap();
    assert!(text(y.register_hook(|g| Ok(g.clone()))).contains("was run through"));
    let moved = std::thread::spawn(move || text(y.register_hook(|g| Ok(g.clone()))));
    assert!(moved.join().unwrap().contains("another thread"));
    for wrong in [w.clone(), w.square().unwrap()] {
        wrong.register_hook(|g| g.sum()).unwrap();
        let result = wrong.sum().unwrap().backward();
        assert_eq!(text(result), "register_hook: a hook made a gradient of shape [] of [3]");
    }
}

#[test]
fn a_hook_on_a_parameter_stays_with_it() {
    let parameter = Parameter::new(&T64::from_slice(&[1.0, 2.0], [2]).unwrap());
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    parameter.register_hook(move |g| {
        counted.fetch_add(1, Ordering::Relaxed);
        g.mul_scalar(0.5)
    });
    let mut optimizer = SGD::new(vec![parameter.clone()], 1.0);
    for _ in 0..2 {
        optimizer.zero_grad();
        parameter.tensor().square().unwrap().sum().unwrap().backward().unwrap();
        optimizer.step().unwrap();
    }
    // p ← p − 0.5·2p, twice.
    assert_eq!(parameter.value().to_vec(), [0.0, 0.0]);
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[test]
fn anomaly_mode_names_the_line_whose_backward_made_it() {
    // sqrt's derivative at 0 is infinite: the gradient of `square` breaks, though all results are finite.
    let w = T64::from_slice(&[0.0, 1.0], [2]).unwrap().requires_grad();
    let run = || w.square()?.sqrt()?.sum()?.backward();
    let error = detect_anomaly(|| text(run()));
    let line =
        include_str!("functions.rs").lines().position(|line| line.contains("w.square()?.sqrt()?")).unwrap()
            + 1;
    assert!(
        error.starts_with("backward: the gradient that the operation at")
            && error.contains(&format!("functions.rs:{line}:"))
            && error.ends_with("passes on is not finite"),
        "{error}"
    );
    let given = T64::from_slice(&[1.0, f64::NAN], [2]).unwrap();
    let error = detect_anomaly(|| text(w.square().unwrap().backward_with(&given)));
    assert_eq!(error, "backward: the gradient that was given is not finite");
    // All finite: the same gradients as without it.
    let finite = input(&[5], 11).requires_grad();
    let loss = || compute(&finite, &finite).unwrap().1.sum().unwrap();
    detect_anomaly(|| loss().backward()).unwrap();
    let watched = finite.grad().unwrap();
    finite.zero_grad();
    loss().backward().unwrap();
    assert!(watched.equals(&finite.grad().unwrap()));
}

#[test]
fn anomaly_mode_looks_through_layers() {
    let mut rng = Rng::seed(1);
    let model: Sequential<f64> = Sequential::new().add(Linear::new(2, 2, &mut rng).unwrap()).add(Tanh);
    let x = T64::from_slice(&[f64::INFINITY, 1.0], [1, 2]).unwrap();
    let error = detect_anomaly(|| text(model.forward(&x)));
    assert!(
        error.starts_with("linear: the result at ") && error.ends_with("is not finite, in layer 0"),
        "{error}"
    );
}

#[test]
fn a_guard_stops_recording_until_its_block_ends() {
    let w = input(&[2], 12).requires_grad();
    {
        let _outer = no_grad_guard();
        {
            let _inner = no_grad_guard();
            assert!(!w.exp().unwrap().is_tracked());
        }
        assert!(!is_recording());
    }
    assert!(w.exp().unwrap().is_tracked());
    let panicked = std::panic::catch_unwind(|| {
        let _guard = no_grad_guard();
        panic!("inside")
    });
    assert!(panicked.is_err() && is_recording());
}

#[test]
fn parameters_without_a_gradient_are_named() {
    struct Forgetful {
        used: Linear<f64>,
        unused: Linear<f64>,
    }
    impl Module<f64> for Forgetful {
        fn forward(&self, x: &T64) -> Result<T64> {
            self.used.forward(x)
        }
        fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a, f64>) {
            visitor.child("used", &self.used);
            visitor.child("unused", &self.unused);
        }
    }
    let mut rng = Rng::seed(2);
    let (used, unused) = (Linear::new(2, 2, &mut rng).unwrap(), Linear::new(2, 2, &mut rng).unwrap());
    let model = Forgetful { used, unused };
    assert_eq!(model.without_gradient().len(), 4);
    model.forward(&input(&[3, 2], 13)).unwrap().sum().unwrap().backward().unwrap();
    assert_eq!(model.without_gradient(), ["unused.weight", "unused.bias"]);
    model.freeze("unused").unwrap();
    assert!(model.without_gradient().is_empty());
}
