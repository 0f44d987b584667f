//! Corners where PyTorch's answer is the expected one: no axes, scalars, tensors of nothing, axes named
//! twice.

use gristmill::kernels::norm::Norm;
use gristmill::{Result, Tensor};

type T64 = Tensor<f64>;

fn x() -> T64 {
    T64::from([[1.0, 2.0, 3.0], [4.0, 0.0, 6.0]])
}

type Reduction = fn(&T64, &[isize], bool) -> Result<T64>;

const REDUCTIONS: [(&str, Reduction); 10] = [
    ("sum", |x, axes, keep| x.sum_axes(axes, keep)),
    ("mean", |x, axes, keep| x.mean_axes(axes, keep)),
    ("max", |x, axes, keep| x.max_axes(axes, keep)),
    ("min", |x, axes, keep| x.min_axes(axes, keep)),
    ("var", |x, axes, keep| x.var_axes(axes, 1, keep)),
    ("std", |x, axes, keep| x.std_axes(axes, 1, keep)),
    ("prod", |x, axes, keep| x.prod_axes(axes, keep)),
    ("norm", |x, axes, keep| x.norm_axes(Norm::L2, axes, keep)),
    ("logsumexp", |x, axes, keep| x.logsumexp_axes(axes, keep)),
    ("count_nonzero", |x, axes, keep| x.count_nonzero_axes(axes, keep)),
];

#[test]
fn no_axes_are_all_axes() {
    assert_eq!(T64::from([1.0, 2.0]).sum_axes(&[], false).unwrap().item().unwrap(), 3.0);
    for (name, reduce) in REDUCTIONS {
        for keep in [false, true] {
            let (none, all) = (reduce(&x(), &[], keep).unwrap(), reduce(&x(), &[0, 1], keep).unwrap());
            assert!(none.equals(&all), "{name}: {none:?} is not {all:?}");
        }
        if name == "count_nonzero" {
            continue;
        }
        let gradient = |axes: &[isize]| {
            let x = x().requires_grad();
            reduce(&x, axes, false).unwrap().backward().unwrap();
            x.grad().unwrap()
        };
        assert!(gradient(&[]).equals(&gradient(&[0, 1])), "{name}");
    }
    // PyTorch's `any` and `all` take no axes as they are said.
    for keep in [false, true] {
        let each = x().any_axes(&[], keep).unwrap();
        assert_eq!(each.to_vec2().unwrap(), [[1.0, 1.0, 1.0], [1.0, 0.0, 1.0]]);
        assert!(x().all_axes(&[], keep).unwrap().equals(&each));
    }
}

#[test]
fn a_scalar_has_the_axes_0_and_minus_1() {
    let check = |run: &dyn Fn(&T64, isize) -> Result<T64>, expected: f64, slope: f64| {
        for axis in [0, -1] {
            let x = T64::scalar(2.5).requires_grad();
            let y = run(&x, axis).unwrap();
            assert_eq!((y.shape(), y.item().unwrap()), ([].as_slice(), expected));
            y.backward().unwrap();
            assert_eq!(x.grad().unwrap().item().unwrap(), slope);
        }
        for axis in [1, -2] {
            assert!(run(&T64::scalar(2.5), axis).unwrap_err().to_string().contains("does not exist"));
        }
    };
    check(&|x, axis| x.softmax(axis), 1.0, 0.0);
    check(&|x, axis| x.log_softmax(axis), 0.0, 0.0);
    check(&|x, axis| x.logsumexp(axis), 2.5, 1.0);
    check(&|x, axis| x.cumsum(axis), 2.5, 1.0);
    check(&|x, axis| Ok(x.sort(axis, true)?.0), 2.5, 1.0);
    check(&|x, axis| Ok(x.topk(1, axis, true)?.0), 2.5, 1.0);
    check(&|x, axis| x.flip(&[axis]), 2.5, 1.0);
    check(&|x, axis| x.squeeze(axis), 2.5, 1.0);
    check(&|x, axis| x.transpose(axis, -1), 2.5, 1.0);
    check(&|x, axis| x.index_select(axis, &[0]), 2.5, 1.0);
    check(&|x, axis| x.gather(axis, &[0]), 2.5, 1.0);
    for keep in [false, true] {
        check(&|x, axis| x.sum_axes(&[axis], keep), 2.5, 1.0);
        check(&|x, axis| x.mean_axes(&[axis], keep), 2.5, 1.0);
        check(&|x, axis| x.max_axes(&[axis], keep), 2.5, 1.0);
        check(&|x, axis| x.var_axes(&[axis], 0, keep), 0.0, 0.0);
        check(&|x, axis| x.prod_axes(&[axis], keep), 2.5, 1.0);
        check(&|x, axis| x.norm_axes(Norm::L2, &[axis], keep), 2.5, 1.0);
        check(&|x, axis| x.logsumexp_axes(&[axis], keep), 2.5, 1.0);
    }
    let x = T64::scalar(2.5);
    // One place, and one index.
    for indices in [&[1][..], &[0, 0], &[]] {
        assert!(x.index_select(0, indices).is_err() && x.gather(0, indices).is_err(), "{indices:?}");
    }
    assert!(x.std_axes(&[0], 1, false).unwrap().item().unwrap().is_nan());
    assert_eq!(x.any_axes(&[-1], false).unwrap().item().unwrap(), 1.0);
    for axis in [0, -1] {
        assert_eq!(x.sort(axis, false).unwrap().1, [0]);
        assert_eq!(x.argsort(axis, false).unwrap(), [0]);
        assert_eq!(x.argmax_axis(axis).unwrap(), [0]);
        assert_eq!(x.argmin_axis(axis).unwrap(), [0]);
    }
    assert_eq!((x.argmax().unwrap(), x.argmin().unwrap()), (vec![0], vec![0]));
    assert!(x.argmax_axis(1).is_err());
}

#[test]
fn an_axis_named_twice_is_an_error() {
    for (axes, twice) in [([0, 0], 0), ([0, -2], -2), ([-1, 1], 1)] {
        let expected = format!("axis {twice} is named twice in {axes:?}");
        assert_eq!(x().flip(&axes).unwrap_err().to_string(), format!("flip: {expected}"));
        for (name, reduce) in REDUCTIONS {
            assert_eq!(reduce(&x(), &axes, true).unwrap_err().to_string(), format!("{name}: {expected}"));
        }
    }
    assert_eq!(
        T64::scalar(1.0).flip(&[0, -1]).unwrap_err().to_string(),
        "flip: axis -1 is named twice in [0, -1]"
    );
    assert!(x().flip(&[]).unwrap().equals(&x()));
    assert_eq!(x().flip(&[0, 1]).unwrap().to_vec(), [6.0, 0.0, 4.0, 3.0, 2.0, 1.0]);
}

#[test]
fn cat_leaves_out_what_has_shape_0() {
    let nothing = || T64::zeros([0]).unwrap().requires_grad();
    let (first, a, second) = (nothing(), x().requires_grad(), nothing());
    for axis in [0, 1, -1] {
        let y = T64::cat(&[&first, &a, &second, &a], axis).unwrap();
        assert!(y.equals(&T64::cat(&[&a, &a], axis).unwrap()), "axis {axis}");
    }
    let weights = T64::arange(12).unwrap().reshape([4, 3]).unwrap();
    T64::cat(&[&first, &a, &second, &a], 0)
        .unwrap()
        .mul(&weights)
        .unwrap()
        .sum()
        .unwrap()
        .backward()
        .unwrap();
    assert_eq!(a.grad().unwrap().to_vec(), [6.0, 8.0, 10.0, 12.0, 14.0, 16.0]);
    assert_eq!((first.grad().unwrap().shape(), second.grad().unwrap().shape()), (&[0][..], &[0][..]));
    assert_eq!(T64::cat(&[&nothing(), &nothing()], 0).unwrap().shape(), [0]);
    // Only this shape: another empty tensor must fit.
    let empty = T64::zeros([0, 2]).unwrap();
    assert_eq!(
        T64::cat(&[&empty, &a], 0).unwrap_err().to_string(),
        "concat: [0, 2] and [2, 3] differ beside axis 0"
    );
    assert_eq!(T64::cat(&[&nothing(), &a, &T64::zeros([0, 3]).unwrap()], 0).unwrap().shape(), [2, 3]);
    assert!(T64::cat(&[&nothing(), &a], 2).is_err());
}
