//! Tensors: making, viewing, printing, and what is refused.

use crate::common::noise;
use gristmill::{Rng, Tensor};

fn counted(shape: &[usize]) -> Tensor {
    Tensor::arange(shape.iter().product()).unwrap().reshape(shape).unwrap()
}

#[test]
fn views_show_the_same_numbers() {
    let x = counted(&[2, 3, 4]);
    assert!(x.is_contiguous());
    let t = x.permute(&[2, 0, 1]).unwrap();
    assert_eq!(t.shape(), [4, 2, 3]);
    assert!(!t.is_contiguous());
    assert_eq!(t.to_vec()[..7], [0.0, 4.0, 8.0, 12.0, 16.0, 20.0, 1.0]);
    let s = x.slice(1, 1..3).unwrap().slice(-1, 2..3).unwrap();
    assert_eq!((s.shape(), s.to_vec()), ([2, 2, 1].as_slice(), vec![6.0, 10.0, 18.0, 22.0]));
    assert_eq!(s.transpose(0, 1).unwrap().to_vec(), [6.0, 18.0, 10.0, 22.0]);
    let b = x.slice(0, 0..1).unwrap().broadcast_to([2, 2, 3, 4]).unwrap();
    assert_eq!(b.to_vec(), (0..48).map(|i| (i % 12) as f32).collect::<Vec<_>>());
    assert_eq!(x.flatten(1).unwrap().shape(), [2, 12]);
    assert_eq!(x.unsqueeze(-1).unwrap().shape(), [2, 3, 4, 1]);
    assert_eq!(x.slice(0, 0..1).unwrap().squeeze(0).unwrap().shape(), [3, 4]);
    assert!(x.slice(1, 2..2).unwrap().to_vec().is_empty());
    assert_eq!(Tensor::scalar(2.5_f32).item().unwrap(), 2.5);
}

#[test]
fn a_large_transpose_is_copied_right() {
    let x = Tensor::from_slice(&noise::<f32>(70 * 33, 1), [70, 33]).unwrap();
    let (plain, transposed) = (x.to_vec(), x.t().unwrap().to_vec());
    assert!((0..70 * 33).all(|i| transposed[i] == plain[i % 70 * 33 + i / 70]));
}

#[test]
fn joining_and_picking() {
    let x = counted(&[2, 2]);
    let joined = |axis| Tensor::concat(&[&x, &x.mul_scalar(10.0).unwrap()], axis).unwrap().to_vec();
    assert_eq!(joined(0), [0.0, 1.0, 2.0, 3.0, 0.0, 10.0, 20.0, 30.0]);
    assert_eq!(joined(1), [0.0, 1.0, 0.0, 10.0, 2.0, 3.0, 20.0, 30.0]);
    assert_eq!(Tensor::stack(&[&x, &x], 1).unwrap().shape(), [2, 2, 2]);
    assert_eq!(x.gather_rows(&[1, 1, 0]).unwrap().to_vec(), [2.0, 3.0, 2.0, 3.0, 0.0, 1.0]);
    assert_eq!(Tensor::<f32>::one_hot(&[2, 0], 3).unwrap().to_vec(), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    assert_eq!(Tensor::<f32>::eye(2).unwrap().to_vec(), [1.0, 0.0, 0.0, 1.0]);
    assert_eq!(x.argmax().unwrap(), [1, 1]);
}

#[test]
fn arithmetic_broadcasts_like_numpy() {
    let (a, row, col) = (counted(&[2, 3]), counted(&[3]), counted(&[2, 1]));
    assert_eq!((&a + &row).to_vec(), [0.0, 2.0, 4.0, 3.0, 5.0, 7.0]);
    assert_eq!((&a - &col).to_vec(), [0.0, 1.0, 2.0, 2.0, 3.0, 4.0]);
    assert_eq!((&row - &a).to_vec(), [0.0, 0.0, 0.0, -3.0, -3.0, -3.0]);
    assert_eq!((&row * &col).to_vec(), [0.0, 0.0, 0.0, 0.0, 1.0, 2.0]);
    assert_eq!((&(&a / 2.0) + 1.0).to_vec(), [1.0, 1.5, 2.0, 2.5, 3.0, 3.5]);
    assert_eq!((-&row).to_vec(), [0.0, -1.0, -2.0]);
    assert_eq!(a.maximum(&Tensor::scalar(2.0)).unwrap().to_vec(), [2.0, 2.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(Tensor::<f32>::zeros([0, 3]).unwrap().add(&row).unwrap().shape(), [0, 3]);
    let batched = counted(&[2, 1, 2]).matmul(&counted(&[2, 3])).unwrap();
    assert_eq!(
        (batched.shape(), batched.to_vec()),
        ([2, 1, 3].as_slice(), vec![3.0, 4.0, 5.0, 9.0, 14.0, 19.0])
    );
}

#[test]
#[should_panic(expected = "add: shapes do not broadcast: [2, 3] and [2]")]
fn operators_panic_with_the_message_of_the_error() {
    let _ = &counted(&[2, 3]) + &counted(&[2]);
}

#[test]
fn what_does_not_fit_is_named() {
    let x = counted(&[2, 3]);
    let cases: [(gristmill::Result<Tensor>, &str); 16] = [
        (x.reshape([4]), "reshape: [2, 3] has 6 elements, [4] has 4"),
        (x.matmul(&x), "matmul: inner dimensions differ: [2, 3] × [2, 3]"),
        (counted(&[3]).matmul(&x), "matmul: inner dimensions differ: [3] × [2, 3]"),
        (x.slice(1, 2..5), "slice: 2..5 lies outside axis 1 of [2, 3]"),
        (x.slice(2, 0..1), "slice: axis 2 does not exist in a tensor of rank 2"),
        (x.sum_axes(&[0, -2], false), "sum: axis -2 is named twice in [0, -2]"),
        (x.permute(&[0, 0]), "permute: [0, 0] does not name each axis of [2, 3] once"),
        (x.broadcast_to([3, 3]), "broadcast_to: shapes do not broadcast: [2, 3] and [3, 3]"),
        (x.gather_rows(&[2]), "gather_rows: index 2 at place 0 does not exist on axis 0 of [2, 3]"),
        (Tensor::concat(&[&x, &counted(&[2, 2])], 0), "concat: [2, 3] and [2, 2] differ beside axis 0"),
        (Tensor::concat(&[], 0), "concat: there is nothing to join"),
        (Tensor::one_hot(&[0, 3], 3), "one_hot: label 3 of row 1 is not one of 3 classes"),
        (Tensor::from_slice(&[1.0], [2]), "from_slice: 1 elements do not fill the shape [2]"),
        (Tensor::zeros([usize::MAX, 2]), "shape: [18446744073709551615, 2] has too many elements"),
        (Tensor::zeros([1; 7]), "shape: [1, 1, 1, 1, 1, 1, 1] has 7 axes, at most 6 are supported"),
        (x.cross_entropy(&[0, 3]), "cross_entropy: target 3 of row 1 is not one of 3 classes"),
    ];
    for (result, text) in cases {
        assert_eq!(result.unwrap_err().to_string(), text);
    }
    assert!(
        x.linear(&x, Some(&x)).is_err()
            && x.batch_norm(None, gristmill::autograd::BatchStatistics::Batch(None), -1.0).is_err()
    );
    assert!(Tensor::<f32>::zeros([0, 3]).unwrap().max_axes(&[0], false).is_err());
    assert!(Tensor::<f32>::randn([2], 0.0, -1.0, &mut Rng::seed(1)).is_err());
    assert_eq!(x.item().unwrap_err().to_string(), "item: a tensor of shape [2, 3] has 6 elements, not one");
}

#[test]
fn printing_aligns_nests_and_cuts() {
    let show = |x: &Tensor| x.to_string();
    assert_eq!(format!("{:.1}", counted(&[2, 3])), "[[0.0, 1.0, 2.0],\n [3.0, 4.0, 5.0]]");
    assert_eq!(format!("{:.2}", Tensor::scalar(1.0_f64)), "1.00");
    assert_eq!(show(&counted(&[2, 6])), "[[ 0.,  1.,  2.,  3.,  4.,  5.],\n [ 6.,  7.,  8.,  9., 10., 11.]]");
    assert_eq!(show(&counted(&[2, 1, 2])), "[[[0., 1.]],\n\n [[2., 3.]]]");
    assert_eq!(show(&counted(&[2, 2]).t().unwrap()), "[[0., 2.],\n [1., 3.]]");
    assert_eq!(show(&Tensor::from([1.5, -22.25])), "[  1.5000, -22.2500]");
    assert_eq!(show(&Tensor::from([1.0, f32::NAN, f32::NEG_INFINITY])), "[  1.,  NaN, -inf]");
    assert_eq!(show(&Tensor::from([1e-9, 12345.678])), "[1.0000e-09, 1.2346e+04]");
    assert_eq!(show(&Tensor::from([0.0, 1e10])), "[0.0000e+00, 1.0000e+10]");
    assert_eq!(show(&Tensor::from([0.0, 0.0])), "[0., 0.]");
    assert_eq!(
        show(&counted(&[1001]).add_scalar(1000.0).unwrap()),
        "[1000., 1001., 1002.,  ..., 1998., 1999., 2000.]"
    );
    let large = show(&counted(&[40, 40]).mul_scalar(0.0).unwrap());
    assert_eq!(large.lines().count(), 7);
    assert!(large.starts_with("[[0., 0., 0.,  ..., 0., 0., 0.],\n [0., "), "{large}");
    assert!(large.contains("],\n ...,\n [0., 0., 0.,  ..., 0., 0., 0.]"), "{large}");
    let lines = show(&counted(&[100]));
    assert!(lines.lines().all(|line| line.len() <= 80) && lines.lines().count() == 7, "{lines}");
    assert_eq!(format!("{:?}", counted(&[2])), "Tensor<f32>[2] [0., 1.]");
    assert_eq!(format!("{:?}", counted(&[1, 1])), "Tensor<f32>[1, 1]\n[[0.]]");
    assert_eq!(show(&Tensor::zeros([0]).unwrap()), "[]");
    assert_eq!(show(&Tensor::zeros([1 << 40, 0]).unwrap()), "[]");
    let broadcast = Tensor::<f32>::ones([1]).unwrap().broadcast_to([1 << 29]).unwrap();
    assert_eq!(show(&broadcast), "[1., 1., 1.,  ..., 1., 1., 1.]");
}

#[test]
fn random_tensors_repeat_and_have_their_moments() {
    let draw = || Tensor::<f32>::randn([100, 100], 2.0, 3.0, &mut Rng::seed(7)).unwrap();
    let x = draw();
    assert!(x.equals(&draw()));
    let mean = x.mean().unwrap().item().unwrap();
    let std = x.var_axes(&[0, 1], 1, false).unwrap().item().unwrap().sqrt();
    assert!((mean - 2.0).abs() < 0.15 && (std - 3.0).abs() < 0.1, "{mean} {std}");
    let coin = Tensor::<f64>::bernoulli([10_000], 0.3, &mut Rng::seed(8)).unwrap();
    assert!((coin.mean().unwrap().item().unwrap() - 0.3).abs() < 0.02);
}

#[test]
fn empty_and_absurd_shapes_are_errors_or_empty() {
    let x = Tensor::<f32>::zeros([3, 4]).unwrap();
    let nothing = x.slice(0, 3..3).unwrap().slice(1, 2..4).unwrap();
    assert_eq!((nothing.shape(), nothing.to_vec().len()), ([0, 2].as_slice(), 0));
    let zeros = Tensor::<f32>::zeros([2, 3, 0]).unwrap().matmul(&Tensor::zeros([2, 0, 4]).unwrap()).unwrap();
    assert_eq!(zeros.to_vec(), [0.0; 24]);
    let one = Tensor::<f32>::ones([1, 1]).unwrap();
    let (tall, wide) = (one.broadcast_to([1 << 32, 1]).unwrap(), one.broadcast_to([1, 1 << 32]).unwrap());
    assert!(tall.add(&wide).unwrap_err().to_string().contains("too many elements"));
    assert!(Tensor::<f32>::zeros([1 << 50]).unwrap_err().to_string().contains("no memory"));
}
