//! What takes tensors apart and puts them together, against naive loops; derivatives against central
//! differences.
// `1..-1` is all but the ends.
#![allow(clippy::reversed_empty_ranges)]

use crate::common::{noise, same_bits_everywhere};
use gristmill::autograd::gradcheck;
use gristmill::tensor::{AxisIndex, Ellipsis, NewAxis, step};
use gristmill::{Result, Tensor};
use proptest::prelude::*;

type T64 = Tensor<f64>;

fn counted(shape: &[usize]) -> T64 {
    Tensor::arange(shape.iter().product()).unwrap().reshape(shape).unwrap()
}

fn input(shape: &[usize], seed: u64) -> T64 {
    Tensor::from_slice(&noise::<f64>(shape.iter().product(), seed), shape).unwrap()
}

/// The same numbers with the axes stored the other way round.
fn strided(x: &T64) -> T64 {
    let reverse: Vec<isize> = (0..x.rank() as isize).rev().collect();
    x.permute(&reverse).unwrap().contiguous().unwrap().permute(&reverse).unwrap()
}

/// Checks the gradient of `f` on the inputs as they are and on strided views.
#[track_caller]
fn check(f: impl Fn(&[T64]) -> Result<T64>, inputs: &[T64]) {
    gradcheck(|x| f(x)?.square(), inputs).unwrap();
    let views = |x: &[T64]| -> Result<Vec<T64>> {
        x.iter()
            .map(|x| {
                let reverse: Vec<isize> = (0..x.rank() as isize).rev().collect();
                x.permute(&reverse)?.contiguous()?.permute(&reverse)
            })
            .collect()
    };
    gradcheck(|x| f(&views(x)?)?.square(), inputs).unwrap();
}

#[track_caller]
fn text<R>(result: Result<R>) -> String {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => error.to_string(),
    }
}

/// The indices of all elements of a shape, row by row.
fn places(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    (0..shape.iter().product()).map(move |mut flat| {
        let mut place = vec![0; shape.len()];
        for (at, &len) in place.iter_mut().zip(shape).rev() {
            *at = flat % len;
            flat /= len;
        }
        place
    })
}

fn flat(place: &[usize], shape: &[usize]) -> usize {
    place.iter().zip(shape).fold(0, |flat, (&at, &len)| flat * len + at)
}

fn at(x: &T64, place: &[usize]) -> f64 {
    x.to_vec()[flat(place, x.shape())]
}

fn build(shape: &[usize], f: impl Fn(&[usize]) -> f64) -> T64 {
    let values: Vec<f64> = places(shape).map(|place| f(&place)).collect();
    Tensor::from_slice(&values, shape).unwrap()
}

#[track_caller]
fn assert_same(y: &T64, expected: &T64) {
    assert_eq!(y.shape(), expected.shape());
    assert_eq!(y.to_vec(), expected.to_vec());
}

fn shapes(rank: std::ops::Range<usize>) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0usize..5, rank)
}

/// A shape, one of its axes, counted from either end, and numbers for more choices.
fn shape_and_axis() -> impl Strategy<Value = (Vec<usize>, usize, isize, u64)> {
    (shapes(1..5), any::<prop::sample::Index>(), any::<bool>(), any::<u64>()).prop_map(
        |(shape, axis, from_end, seed)| {
            let axis = axis.index(shape.len());
            let named = axis as isize - if from_end { shape.len() as isize } else { 0 };
            (shape, axis, named, seed)
        },
    )
}

/// Repeatable numbers below `len`.
fn choices(count: usize, len: usize, seed: u64) -> Vec<usize> {
    noise::<f64>(count, seed).iter().map(|x| ((x + 1.0) / 2.0 * len as f64) as usize).collect()
}

#[test]
fn an_index_takes_places_ranges_and_new_axes() {
    let x = counted(&[2, 3, 4]);
    let cases = [
        (x.index(1), vec![3, 4], vec![12.0, 13.0, 14.0]),
        (x.index(-1), vec![3, 4], vec![12.0, 13.0, 14.0]),
        (x.index((0, 2usize, 3isize)), vec![], vec![11.0]),
        (x.index((.., 1)), vec![2, 4], vec![4.0, 5.0, 6.0, 7.0, 16.0]),
        (x.index((.., 1..3, ..=1)), vec![2, 2, 2], vec![4.0, 5.0, 8.0, 9.0, 16.0]),
        (x.index((1.., 0..=-2, -1..)), vec![1, 2, 1], vec![15.0, 19.0]),
        (x.index((0, ..-1, 2..-1)), vec![2, 1], vec![2.0, 6.0]),
        (x.index((0, ..=-1, 0)), vec![3], vec![0.0, 4.0, 8.0]),
        (x.index((Ellipsis, 3)), vec![2, 3], vec![3.0, 7.0, 11.0, 15.0, 19.0, 23.0]),
        (x.index((1, Ellipsis, NewAxis, 0)), vec![3, 1], vec![12.0, 16.0, 20.0]),
        (x.index((NewAxis, .., NewAxis, 0, ..)), vec![1, 2, 1, 4], vec![0.0, 1.0, 2.0, 3.0, 12.0]),
        (x.index((0, step(.., 2), step(1..4, 2))), vec![2, 2], vec![1.0, 3.0, 9.0, 11.0]),
        (x.index((0, 0, step(-3.., usize::MAX))), vec![1], vec![1.0]),
        (x.index((2..2, 0)), vec![0, 4], vec![]),
        (x.index(Ellipsis), vec![2, 3, 4], vec![0.0, 1.0]),
        (
            x.index([AxisIndex::At(0), AxisIndex::from(2..)].as_slice()),
            vec![1, 4],
            vec![8.0, 9.0, 10.0, 11.0],
        ),
    ];
    for (case, (y, shape, first)) in cases.into_iter().enumerate() {
        let y = y.unwrap();
        assert_eq!(y.shape(), shape, "case {case}");
        assert_eq!(y.to_vec()[..first.len()], first, "case {case}");
    }
    assert_eq!(x.select(1, -1).unwrap().to_vec(), x.index((.., 2)).unwrap().to_vec());
}

#[test]
fn a_wrong_index_is_named() {
    let x = counted(&[2, 3]);
    let cases = [
        (x.index(2), "index: index 2 does not exist on axis 0 of [2, 3]"),
        (x.index((0, -4)), "index: index -4 does not exist on axis 1 of [2, 3]"),
        (x.index((.., 1..4)), "index: 1..4 lies outside axis 1 of [2, 3]"),
        (x.index((.., -4..)), "index: -4.. lies outside axis 1 of [2, 3]"),
        (x.index((.., 2..1)), "index: 2..1 is no range of axis 1 of [2, 3]"),
        (x.index((step(.., 0), 0)), "index: 0.. by steps of 0 is no range of axis 0 of [2, 3]"),
        (x.index((0, 0, ..)), "index: 3 axes are named, the shape [2, 3] has 2"),
        (x.index((Ellipsis, 0, Ellipsis)), "index: an index has room for one ellipsis"),
        (x.index(usize::MAX), "index: index 9223372036854775807 does not exist on axis 0 of [2, 3]"),
        (x.index((NewAxis, NewAxis, NewAxis, NewAxis, NewAxis)), "index: the result has more than 6 axes"),
        (x.select(1, 3), "select: index 3 does not exist on axis 1 of [2, 3]"),
        (x.select(2, 0), "select: axis 2 does not exist in a tensor of rank 2"),
        (x.diagonal(4), "diagonal: diagonal 4 lies outside [2, 3]"),
        (x.flatten(0).unwrap().diagonal(0), "diagonal: [6] is not a matrix"),
        (x.index_select(1, &[0, 3]), "index_select: index 3 at place 1 does not exist on axis 1 of [2, 3]"),
        (x.index_select(-3, &[]), "index_select: axis -3 does not exist in a tensor of rank 2"),
        (x.flip(&[2]), "flip: axis 2 does not exist in a tensor of rank 2"),
        (
            x.index_add(0, &[1], &x),
            "index_add: 1 indices of axis 0 of [2, 3] need a source of [1, 3], got [2, 3]",
        ),
        (x.gather(1, &[0, 3]), "gather: index 3 at place 1 does not exist on axis 1 of [2, 3]"),
        (x.gather(1, &[0]), "gather: 1 indices do not fill the axes beside 1 of [2, 3]"),
        (x.scatter(0, &[0], &x), "scatter: 1 indices and a source of [2, 3] do not fit axis 0 of [2, 3]"),
        (
            x.scatter_add(1, &[0], &Tensor::ones([1, 1]).unwrap()),
            "scatter_add: 1 indices and a source of [1, 1] do not fit axis 1 of [2, 3]",
        ),
        (x.gt(&counted(&[2])), "gt: shapes do not broadcast: [2, 3] and [2]"),
        (x.where_cond(&x, &counted(&[2])), "where_cond: shapes do not broadcast: [2, 3] and [2]"),
        (
            x.masked_fill(&counted(&[2, 2, 3]), 0.0),
            "masked_fill: a mask of [2, 2, 3] does not broadcast to [2, 3]",
        ),
        (x.masked_select(&counted(&[4])), "masked_select: shapes do not broadcast: [2, 3] and [4]"),
        (x.masked_fill(&x.requires_grad(), 0.0), "masked_fill: there is no gradient of a mask; detach it"),
        (counted(&[2]).tril(0), "tril: [2] is not a matrix"),
        (x.cumsum(2), "cumsum: axis 2 does not exist in a tensor of rank 2"),
        (x.sort(2, true).map(|(y, _)| y), "sort: axis 2 does not exist in a tensor of rank 2"),
        (x.topk(4, 1, true).map(|(y, _)| y), "topk: axis 1 of [2, 3] has no 4 elements"),
        (Tensor::linspace(0.0, f64::NAN, 2), "linspace: from 0 to NaN: an end is not finite"),
        (Tensor::arange_step(0.0, 1.0, 0.0), "arange_step: there is no way from 0 to 1 in steps of 0"),
        (Tensor::arange_step(0.0, 1.0, -0.5), "arange_step: there is no way from 0 to 1 in steps of -0.5"),
        (Tensor::arange_step(0.0, 1e300, 1e-9), "shape: [18446744073709551615] has too many elements"),
        (Tensor::try_from(vec![vec![1.0], vec![]]), "from: row 1 has 0 elements, row 0 has 1"),
    ];
    for (result, expected) in cases {
        assert_eq!(text(result), expected);
    }
    assert_eq!(text(x.split(0, 1)), "split: pieces of 0 indices of axis 1");
    assert_eq!(text(x.chunk(0, 1)), "chunk: 0 pieces of axis 1");
    assert_eq!(
        text(x.split_with_sizes(&[1, usize::MAX], 1)),
        "split_with_sizes: [1, 18446744073709551615] do not add up to axis 1 of [2, 3]"
    );
    assert_eq!(text(x.unbind(-3)), "unbind: axis -3 does not exist in a tensor of rank 2");
    assert_eq!(text(x.argsort(5, true)), "argsort: axis 5 does not exist in a tensor of rank 2");
    assert_eq!(text(x.to_vec3()), "to_vec3: [2, 3] does not have three axes");
    assert_eq!(text(counted(&[2]).to_vec2()), "to_vec2: [2] does not have two axes");
}

#[test]
fn derivatives_of_all_of_it() {
    let x = input(&[3, 4, 2], 1);
    let one = std::slice::from_ref(&x);
    check(|x| x[0].index((1, step(.., 2), -1)), one);
    check(|x| x[0].index((.., 1..3)), one);
    check(|x| x[0].index((Ellipsis, NewAxis, 0))?.index((1.., ..)), one);
    check(|x| x[0].select(1, 2), one);
    check(|x| x[0].diagonal(0), one);
    check(|x| x[0].diagonal(-2), one);
    check(|x| x[0].split(3, 1)?[1].mul(&x[0].chunk(4, -2)?[0]), one);
    check(|x| Tensor::stack(&x[0].unbind(1)?.iter().rev().collect::<Vec<_>>(), 0), one);
    check(|x| x[0].index_select(1, &[3, 0, 3]), one);
    check(|x| x[0].index_select(2, &[1, 1, 1]), one);
    check(|x| x[0].flip(&[0, -1]), one);
    check(|x| x[0].roll(-3, 1), one);
    let source = input(&[3, 3, 2], 2);
    let two = [x.clone(), source];
    check(|x| x[0].index_add(1, &[2, 0, 2], &x[1]), &two);
    let indices = choices(18, 4, 3);
    check(|x| x[0].gather(1, &indices), one);
    check(|x| x[0].scatter_add(1, &indices, &x[1]), &two);
    check(|x| x[0].scatter(1, &indices, &x[1]), &two);
    let mask = input(&[4, 1], 4).gt_scalar(0.0).unwrap();
    check(|x| x[0].masked_fill(&mask, 7.0), one);
    check(|x| x[0].masked_select(&mask), one);
    check(|x| mask.where_cond(&x[0], &x[1]), &[x.clone(), input(&[3, 1, 1], 5)]);
    check(|x| x[0].masked_select(&Tensor::ones([2, 3, 4, 2])?), one);
    check(|x| x[0].tril(-1), one);
    check(|x| x[0].triu(1), one);
    check(|x| x[0].cumsum(1), one);
    check(|x| x[0].cumsum(-1), one);
    check(|x| Ok(x[0].sort(1, false)?.0), one);
    check(|x| Ok(x[0].topk(2, 0, true)?.0), one);
    check(|x| Tensor::cat(&[&x[0], &x[1]], 1), &two);
    check(|x| x[0].repeat([2, 1, 3]), one);
    check(|x| x[0].repeat([3, 1, 2, 1]), one);
    check(|x| x[0].repeat_interleave(3, 1), one);
}

proptest! {
    #[test]
    fn repeating_is_indexing(shape in shapes(1..5), new in 0_usize..3, seed: u64) {
        let x = strided(&counted(&shape));
        let times = choices(shape.len() + new, 4, seed);
        let y = x.repeat(&times).unwrap();
        let long: Vec<usize> = [&vec![1; new], &shape].into_iter().flatten().zip(&times).map(|(d, t)| d * t).collect();
        let expected = build(&long, |place| {
            let place: Vec<usize> = place[new..].iter().zip(&shape).map(|(i, d)| i % d).collect();
            at(&x, &place)
        });
        assert_same(&y, &expected);

        let axis = seed as usize % shape.len();
        let y = x.repeat_interleave(times[0], axis as isize).unwrap();
        let mut long = shape.clone();
        long[axis] *= times[0];
        let expected = build(&long, |place| {
            let mut place = place.to_vec();
            place[axis] /= times[0];
            at(&x, &place)
        });
        assert_same(&y, &expected);
    }
}

#[test]
fn what_cannot_be_repeated_is_an_error() {
    let x = counted(&[2, 3]);
    assert_eq!(text(x.repeat([2])), "repeat: [2] is not a number for each axis of [2, 3], at most 6");
    assert_eq!(
        text(x.repeat([1, usize::MAX])),
        format!("repeat: axis 1 of [2, 3], {} times, is too long", usize::MAX)
    );
    assert_eq!(
        text(x.repeat_interleave(2, 2)),
        "repeat_interleave: axis 2 does not exist in a tensor of rank 2"
    );
    assert!(x.repeat([1 << 40, 1 << 40]).is_err());
    assert!(x.repeat([1; 30]).is_err());
}

#[test]
fn different_values_are_found_with_places_and_counts() {
    let nan = f64::NAN;
    let x = Tensor::from([[3.0, nan, -1.0], [0.0, 3.0, -0.0], [nan, -1.0, 3.0]]);
    let (values, places, counts) = strided(&x).unique().unwrap();
    assert_eq!(values.to_vec()[..3], [-1.0, 0.0, 3.0]);
    assert!(values.len() == 4 && values.to_vec()[3].is_nan());
    assert_eq!(places, [2, 3, 0, 1, 2, 1, 3, 0, 2]);
    assert_eq!(counts, [2, 2, 3, 2]);
    let (values, places, counts) = T64::zeros([0, 3]).unwrap().unique().unwrap();
    assert_eq!((values.shape(), places.len(), counts.len()), (&[0][..], 0, 0));
}

#[test]
fn masks_choose_and_do_not_multiply() {
    let x = Tensor::from([1.0, f64::NAN, f64::INFINITY, -1.0]).requires_grad();
    let finite = Tensor::from([1.0, 0.0, 0.0, 1.0]);
    let y = finite.where_cond(&x, &Tensor::scalar(0.0)).unwrap();
    assert_eq!(y.to_vec(), [1.0, 0.0, 0.0, -1.0]);
    y.backward_with(&Tensor::from([2.0, f64::NAN, f64::INFINITY, 3.0])).unwrap();
    assert_eq!(x.grad().unwrap().to_vec(), [2.0, 0.0, 0.0, 3.0]);
}

#[test]
fn comparisons_and_logic() {
    let (x, y) = (Tensor::from([[1.0, 2.0, f64::NAN]]), Tensor::from([[2.0], [1.0]]));
    assert_eq!(x.lt(&y).unwrap().to_vec2().unwrap(), [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]);
    assert_eq!(x.le(&y).unwrap().to_vec(), [1.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
    assert_eq!(x.gt(&y).unwrap().to_vec(), [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    assert_eq!(x.ge(&y).unwrap().to_vec(), [0.0, 1.0, 0.0, 1.0, 1.0, 0.0]);
    assert_eq!(x.eq(&y).unwrap().to_vec(), [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
    assert_eq!(x.ne(&y).unwrap().to_vec(), [1.0, 0.0, 1.0, 0.0, 1.0, 1.0]);
    assert_eq!(x.lt_scalar(2.0).unwrap().to_vec(), [1.0, 0.0, 0.0]);
    assert_eq!(x.le_scalar(2.0).unwrap().to_vec(), [1.0, 1.0, 0.0]);
    assert_eq!(x.gt_scalar(1.0).unwrap().to_vec(), [0.0, 1.0, 0.0]);
    assert_eq!(x.ge_scalar(1.0).unwrap().to_vec(), [1.0, 1.0, 0.0]);
    assert_eq!(x.eq_scalar(1.0).unwrap().to_vec(), [1.0, 0.0, 0.0]);
    assert_eq!(x.ne_scalar(1.0).unwrap().to_vec(), [0.0, 1.0, 1.0]);
    assert!(!x.requires_grad().gt(&y).unwrap().is_tracked());
    let (a, b) = (Tensor::from([0.0, 0.0, 2.0, f64::NAN]), Tensor::from([0.0, 1.0, -0.0, -3.0]));
    assert_eq!(a.logical_and(&b).unwrap().to_vec(), [0.0, 0.0, 0.0, 1.0]);
    assert_eq!(a.logical_or(&b).unwrap().to_vec(), [0.0, 1.0, 1.0, 1.0]);
    assert_eq!(a.logical_xor(&b).unwrap().to_vec(), [0.0, 1.0, 1.0, 0.0]);
    assert_eq!(a.logical_not().unwrap().to_vec(), [1.0, 1.0, 0.0, 0.0]);
    assert_eq!(a.flatnonzero(), [2, 3]);
    let truth = |x: &Tensor<f64>| (x.any().unwrap(), x.all().unwrap());
    assert_eq!(truth(&a), (true, false));
    assert!(!truth(&a.index(..2).unwrap()).0 && truth(&a.index(2..).unwrap()).1);
    let none = Tensor::<f64>::zeros([0]).unwrap();
    assert_eq!(truth(&none), (false, true));
}

#[test]
fn sorting_is_stable_and_knows_nan() {
    let x = Tensor::from([2.0, f64::NAN, -1.0, 2.0, f64::INFINITY, -0.0, 0.0, f64::NAN]);
    let (up, places) = x.sort(0, false).unwrap();
    assert_eq!(places, [2, 5, 6, 0, 3, 4, 1, 7]);
    assert_eq!(up.to_vec()[..6], [-1.0, -0.0, 0.0, 2.0, 2.0, f64::INFINITY]);
    assert!(up.to_vec()[6..].iter().all(|x| x.is_nan()));
    assert_eq!(x.argsort(0, true).unwrap(), [1, 7, 4, 0, 3, 5, 6, 2]);
    assert_eq!(x.topk(4, 0, true).unwrap().1, [1, 7, 4, 0]);
    assert_eq!(x.topk(4, 0, false).unwrap().1, [2, 5, 6, 0]);
    assert_eq!(x.topk(0, 0, false).unwrap().0.shape(), [0]);
}

#[test]
fn of_elements_scattered_to_one_place_the_last_one_stays_and_has_the_gradient() {
    let (x, source) =
        (T64::zeros([2]).unwrap().requires_grad(), Tensor::from([1.0, 2.0, 3.0]).requires_grad());
    let y = x.scatter(0, &[1, 1, 1], &source).unwrap();
    assert_eq!(y.to_vec(), [0.0, 3.0]);
    y.backward_with(&Tensor::from([5.0, 7.0])).unwrap();
    assert_eq!(x.grad().unwrap().to_vec(), [5.0, 0.0]);
    assert_eq!(source.grad().unwrap().to_vec(), [0.0, 0.0, 7.0]);
}

#[test]
fn making_and_converting() {
    let values = |x: Result<T64>| x.unwrap().to_vec();
    assert_eq!(values(Tensor::arange_step(1.0, 2.0, 0.25)), [1.0, 1.25, 1.5, 1.75]);
    assert_eq!(values(Tensor::arange_step(1.0, -1.0, -0.75)), [1.0, 0.25, -0.5]);
    assert!(values(Tensor::arange_step(2.0, 2.0, 1.0)).is_empty());
    assert_eq!(values(Tensor::linspace(-1.0, 1.0, 5)), [-1.0, -0.5, 0.0, 0.5, 1.0]);
    assert_eq!(values(Tensor::linspace(3.0, 1.0, 1)), [3.0]);
    assert!(values(Tensor::linspace(3.0, 1.0, 0)).is_empty());
    let wide = values(Tensor::linspace(-f64::MAX, f64::MAX, 3));
    assert_eq!(wide, [-f64::MAX, 0.0, f64::MAX]);
    let tenths = values(Tensor::linspace(0.0, 0.1, 11));
    assert_eq!((tenths[0], tenths[10]), (0.0, 0.1));
    let x = counted(&[2, 3]);
    assert_eq!(x.zeros_like().unwrap().to_vec(), [0.0; 6]);
    assert_eq!(x.ones_like().unwrap().shape(), [2, 3]);
    assert_eq!(x.tril(0).unwrap().to_vec(), [0.0, 0.0, 0.0, 3.0, 4.0, 0.0]);
    assert_eq!(x.triu(1).unwrap().to_vec(), [0.0, 1.0, 2.0, 0.0, 0.0, 5.0]);
    assert_eq!(x.tril(isize::MAX).unwrap().to_vec(), x.to_vec());
    assert_eq!(x.triu(isize::MIN).unwrap().to_vec(), x.to_vec());
    assert_eq!(x.diagonal(1).unwrap().to_vec(), [1.0, 5.0]);
    assert_eq!(x.diagonal(-2).unwrap().shape(), [0]);
    assert_eq!(Tensor::from(vec![1.0, 2.0]).shape(), [2]);
    assert_eq!(Tensor::from([[[1.0, 2.0]], [[3.0, 4.0]]]).shape(), [2, 1, 2]);
    assert_eq!(Tensor::from([[[[1.0]; 4]; 3]; 2]).shape(), [2, 3, 4, 1]);
    assert_eq!(Tensor::from(2.5).item().unwrap(), 2.5);
    let rows = vec![vec![1.0, 2.0], vec![3.0, 4.0], vec![5.0, 6.0]];
    let matrix = Tensor::try_from(rows.clone()).unwrap();
    assert_eq!(matrix.to_vec2().unwrap(), rows);
    assert_eq!(matrix.t().unwrap().to_vec2().unwrap(), [[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]]);
    assert_eq!(counted(&[2, 1, 2]).to_vec3().unwrap(), [[[0.0, 1.0]], [[2.0, 3.0]]]);
}

#[test]
fn pieces_of_an_axis() {
    let x = counted(&[2, 7]);
    let lengths = |pieces: Vec<T64>| pieces.iter().map(|piece| piece.shape()[1]).collect::<Vec<_>>();
    assert_eq!(lengths(x.split(3, 1).unwrap()), [3, 3, 1]);
    assert_eq!(lengths(x.chunk(3, 1).unwrap()), [3, 3, 1]);
    assert_eq!(lengths(x.chunk(5, -1).unwrap()), [2, 2, 2, 1]);
    assert_eq!(lengths(x.chunk(100, 1).unwrap()), [1; 7]);
    assert_eq!(lengths(x.split_with_sizes(&[0, 5, 2], 1).unwrap()), [0, 5, 2]);
    assert_eq!(lengths(x.slice(1, 3..3).unwrap().split(2, 1).unwrap()), [0]);
    assert_eq!(x.split(5, 1).unwrap()[1].to_vec(), [5.0, 6.0, 12.0, 13.0]);
    assert!(x.slice(0, 0..0).unwrap().unbind(0).unwrap().is_empty());
}

#[test]
fn threads_and_instruction_sets_change_no_bit() {
    let x = Tensor::from_slice(&noise::<f32>(40 * 30 * 60, 1), [40, 30, 60]).unwrap();
    let source = Tensor::from_slice(&noise::<f32>(40 * 90 * 60, 2), [40, 90, 60]).unwrap();
    let indices = choices(90, 30, 3);
    same_bits_everywhere(|| x.index_add(1, &indices, &source).unwrap().to_vec());
    same_bits_everywhere(|| x.cumsum(0).unwrap().add(&x.cumsum(1).unwrap()).unwrap().to_vec());
    same_bits_everywhere(|| x.cumsum(2).unwrap().to_vec());
    same_bits_everywhere(|| source.index_select(1, &indices).unwrap().to_vec());
    same_bits_everywhere(|| source.topk(7, 0, true).unwrap().0.to_vec());
    let each = choices(40 * 90 * 60, 30, 4);
    same_bits_everywhere(|| x.scatter_add(1, &each, &source).unwrap().to_vec());
    same_bits_everywhere(|| x.gather(1, &each).unwrap().to_vec());
    same_bits_everywhere(|| Tensor::cat(&[&x, &source], 1).unwrap().to_vec());
    same_bits_everywhere(|| Tensor::cat(&[&x, &x], 0).unwrap().to_vec());
    same_bits_everywhere(|| x.gt_scalar(0.0).unwrap().where_cond(&x, &Tensor::scalar(2.0)).unwrap().to_vec());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_index_is_that_of_a_loop_or_an_error(
        shape in shapes(0..4),
        picks in prop::collection::vec((0u8..4, -6isize..6, -6isize..6, 1usize..4), 0..4),
    ) {
        let picks: Vec<AxisIndex> = picks
            .into_iter()
            .map(|(kind, a, b, step)| match kind {
                0 => AxisIndex::At(a),
                1 => AxisIndex::Range { start: a, end: Some(b), step },
                2 => AxisIndex::Range { start: 0, end: None, step },
                _ => AxisIndex::NewAxis,
            })
            .collect();
        // Per axis of the tensor the places, and whether the axis stays; per new axis nothing.
        let mut expected = Some((Vec::new(), Vec::new()));
        let (mut taken, mut dims): (Vec<Vec<usize>>, Vec<usize>) = (Vec::new(), Vec::new());
        let open = [AxisIndex::Range { start: 0, end: None, step: 1 }; 4];
        let named = picks.iter().filter(|pick| **pick != AxisIndex::NewAxis).count();
        for pick in picks.iter().chain(&open[..shape.len().saturating_sub(named)]) {
            let Some(&len) = shape.get(taken.len()).or((*pick == AxisIndex::NewAxis).then_some(&1)) else {
                expected = None;
                break;
            };
            let wrap = |i: isize| if i < 0 { i + len as isize } else { i };
            match *pick {
                AxisIndex::At(i) if (0..len as isize).contains(&wrap(i)) => taken.push(vec![wrap(i) as usize]),
                AxisIndex::Range { start, end, step } => {
                    let (start, end) = (wrap(start), end.map_or(len as isize, wrap));
                    if start < 0 || end > len as isize || start > end {
                        expected = None;
                        break;
                    }
                    let places: Vec<usize> = (start as usize..end as usize).step_by(step).collect();
                    dims.push(places.len());
                    taken.push(places);
                }
                AxisIndex::NewAxis => dims.push(1),
                _ => {
                    expected = None;
                    break;
                }
            }
        }
        let x = strided(&input(&shape, 1));
        let result = x.index(picks.as_slice());
        prop_assert_eq!(result.is_ok(), expected.is_some() && dims.len() <= 6);
        if let (Ok(y), Some((values, dx))) = (result, &mut expected) {
            let counts: Vec<usize> = taken.iter().map(Vec::len).collect();
            *dx = vec![0.0; x.len()];
            for place in places(&counts) {
                let from: Vec<usize> = place.iter().zip(&taken).map(|(&i, taken)| taken[i]).collect();
                values.push(at(&x, &from));
                dx[flat(&from, &shape)] = values.len() as f64;
            }
            prop_assert_eq!(y.shape(), dims.as_slice());
            prop_assert_eq!(&y.to_vec(), values);
            let leaf = x.requires_grad();
            let y = leaf.index(picks.as_slice()).unwrap();
            y.backward_with(&counted(y.shape()).add_scalar(1.0).unwrap()).unwrap();
            prop_assert_eq!(&leaf.grad().unwrap().to_vec(), dx);
        }
    }

    #[test]
    fn picks_and_sums_along_an_axis_are_those_of_a_loop(
        (shape, axis, named, seed) in shape_and_axis(),
        count in 0usize..6,
    ) {
        let x = strided(&input(&shape, seed));
        let len = shape[axis];
        let indices = choices(if len > 0 { count } else { 0 }, len, seed);
        let mut wide = shape.clone();
        wide[axis] = indices.len();
        let moved = |place: &[usize], to: usize| { let mut p = place.to_vec(); p[axis] = to; p };

        let y = x.index_select(named, &indices).unwrap();
        assert_same(&y, &build(&wide, |place| at(&x, &moved(place, indices[place[axis]]))));

        let source = input(&wide, seed ^ 1);
        let y = x.index_add(named, &indices, &source).unwrap();
        let expected = build(&shape, |place| {
            let sources = (0..indices.len()).filter(|&k| indices[k] == place[axis]);
            sources.fold(at(&x, place), |sum, k| sum + at(&source, &moved(place, k)))
        });
        assert_same(&y, &expected);

        let each = choices(if len > 0 { wide.iter().product() } else { 0 }, len, seed ^ 2);
        let index_of = |place: &[usize]| each[flat(place, &wide)];
        let hits = |place: &[usize]| {
            (0..wide[axis]).map(|k| moved(place, k)).filter(|p| index_of(p) == place[axis]).collect::<Vec<_>>()
        };
        if wide.iter().product::<usize>() > 0 || wide[axis] == 0 {
            let y = x.gather(named, &each).unwrap();
            assert_same(&y, &build(&wide, |place| at(&x, &moved(place, index_of(place)))));
        }
        let y = x.scatter_add(named, &each, &source).unwrap();
        let add = |place: &[usize]| hits(place).iter().fold(at(&x, place), |sum, p| sum + at(&source, p));
        assert_same(&y, &build(&shape, add));
        let y = x.scatter(named, &each, &source).unwrap();
        assert_same(&y, &build(&shape, |place| hits(place).last().map_or(at(&x, place), |p| at(&source, p))));

        let y = x.cumsum(named).unwrap();
        assert_same(&y, &build(&shape, |place| {
            (0..=place[axis]).fold(0.0, |sum, k| sum + at(&x, &moved(place, k)))
        }));
        let shift = (seed % 13) as isize - 6;
        let y = x.roll(shift, named).unwrap();
        assert_same(&y, &build(&shape, |place| {
            at(&x, &moved(place, (place[axis] as isize - shift).rem_euclid(len as isize) as usize))
        }));
        assert_same(&x.flip(&[named]).unwrap(), &build(&shape, |place| {
            at(&x, &moved(place, len - 1 - place[axis]))
        }));
    }

    #[test]
    fn joining_undoes_splitting((shape, axis, named, seed) in shape_and_axis(), size in 1usize..6) {
        let x = strided(&input(&shape, seed));
        for pieces in [x.split(size, named).unwrap(), x.chunk(size, named).unwrap()] {
            prop_assert!(pieces.len() <= shape[axis].max(1));
            assert_same(&Tensor::cat(&pieces.iter().collect::<Vec<_>>(), named).unwrap(), &x);
        }
        if shape[axis] > 0 {
            let slices = x.unbind(named).unwrap();
            assert_same(&Tensor::stack(&slices.iter().collect::<Vec<_>>(), named).unwrap(), &x);
        }
    }

    #[test]
    fn sorted_is_in_order_and_the_places_lead_back(
        (shape, axis, named, seed) in shape_and_axis(),
        descending: bool,
        k in 0usize..5,
    ) {
        // Few different values, so that many are equal.
        let x = strided(&input(&shape, seed).mul_scalar(2.0).unwrap().round().unwrap());
        let (y, order) = x.sort(named, descending).unwrap();
        prop_assert_eq!(&x.argsort(named, descending).unwrap(), &order);
        let moved = |place: &[usize], to: usize| { let mut p = place.to_vec(); p[axis] = to; p };
        assert_same(&y, &build(&shape, |place| at(&x, &moved(place, order[flat(place, &shape)]))));
        for place in places(&shape).filter(|place| place[axis] > 0) {
            let before = moved(&place, place[axis] - 1);
            let (a, b) = (at(&y, &before), at(&y, &place));
            let in_order = if descending { a >= b } else { a <= b };
            prop_assert!(in_order);
            prop_assert!(a != b || order[flat(&before, &shape)] < order[flat(&place, &shape)]);
        }
        let top = x.topk(k, named, descending);
        prop_assert_eq!(top.is_ok(), k <= shape[axis]);
        if let Ok((top, places)) = top {
            let first = y.slice(named, 0..k).unwrap();
            assert_same(&top, &first);
            let order: Vec<f64> = order.iter().map(|&place| place as f64).collect();
            let order = Tensor::from_slice(&order, &shape).unwrap().slice(named, 0..k).unwrap();
            prop_assert_eq!(places, order.to_vec().iter().map(|&place| place as usize).collect::<Vec<_>>());
        }
    }

    #[test]
    fn masks_are_those_of_a_loop(
        (shape, axis, _, seed) in shape_and_axis(),
        narrow: bool,
    ) {
        let x = strided(&input(&shape, seed));
        let mut small = shape.clone();
        if narrow {
            small[axis] = 1;
        }
        let mask = strided(&input(&small, seed ^ 1)).gt_scalar(0.0).unwrap();
        let here = |place: &[usize]| {
            let place: Vec<usize> = place.iter().zip(&small).map(|(&i, &len)| i.min(len - 1)).collect();
            at(&mask, &place) != 0.0
        };
        let filled = x.masked_fill(&mask, 9.0).unwrap();
        assert_same(&filled, &build(&shape, |place| if here(place) { 9.0 } else { at(&x, place) }));
        let chosen = mask.where_cond(&x, &filled.neg().unwrap()).unwrap();
        assert_same(&chosen, &build(&shape, |place| if here(place) { at(&x, place) } else { -at(&x, place) }));
        let selected: Vec<f64> = places(&shape).filter(|p| here(p)).map(|p| at(&x, &p)).collect();
        prop_assert_eq!(x.masked_select(&mask).unwrap().to_vec(), selected);
    }
}
