//! Einstein's summation against nested loops over all indices.

use std::collections::BTreeMap;

use crate::common::{assert_within, noise};
use gristmill::Tensor;
use gristmill::autograd::gradcheck;
use proptest::prelude::*;

type T64 = Tensor<f64>;

/// Tensors for the inputs of a pattern, with these lengths of the axes a, b, c …
fn operands(pattern: &str, lengths: &[usize]) -> Vec<T64> {
    let inputs = pattern.split("->").next().unwrap().split(',');
    inputs
        .enumerate()
        .map(|(seed, names)| {
            let shape: Vec<usize> = names.bytes().map(|name| lengths[(name - b'a') as usize]).collect();
            Tensor::from_slice(&noise::<f64>(shape.iter().product(), seed as u64), shape).unwrap()
        })
        .collect()
}

/// The sums of products, and of their magnitudes, in the order of the result.
fn naive(pattern: &str, operands: &[T64]) -> (Vec<usize>, Vec<f64>, Vec<f64>) {
    let (inputs, output) = pattern.split_once("->").unwrap();
    let inputs: Vec<&str> = inputs.split(',').collect();
    let mut lengths = BTreeMap::new();
    for (names, tensor) in inputs.iter().zip(operands) {
        names.bytes().zip(tensor.shape()).for_each(|(name, &len)| _ = lengths.insert(name, len));
    }
    let shape: Vec<usize> = output.bytes().map(|name| lengths[&name]).collect();
    let values: Vec<Vec<f64>> = operands.iter().map(Tensor::to_vec).collect();
    let (mut sums, mut sizes) = (vec![0.0; shape.iter().product()], vec![0.0; shape.iter().product()]);
    for mut count in 0..lengths.values().product::<usize>() {
        let mut index = BTreeMap::new();
        for (&name, &len) in &lengths {
            index.insert(name, count % len);
            count /= len;
        }
        let flat = |names: &str| names.bytes().fold(0, |flat, name| flat * lengths[&name] + index[&name]);
        let product: f64 = inputs.iter().zip(&values).map(|(names, values)| values[flat(names)]).product();
        sums[flat(output)] += product;
        sizes[flat(output)] += product.abs();
    }
    (shape, sums, sizes)
}

fn check(pattern: &str, lengths: &[usize]) {
    let tensors = operands(pattern, lengths);
    let y = Tensor::einsum(pattern, &tensors.iter().collect::<Vec<_>>()).unwrap();
    let (shape, sums, sizes) = naive(pattern, &tensors);
    assert_eq!(y.shape(), shape, "{pattern}");
    // γₙ of all roundings, two for each factor and one for each sum.
    let roundings =
        2.0 * tensors.len() as f64 + lengths.iter().map(|&len| len.max(1) as f64).product::<f64>();
    assert_within(pattern, &y.to_vec(), &sums, |i| 2.0 * roundings * f64::EPSILON * sizes[i]);
}

const PATTERNS: [&str; 30] = [
    "ab,bc->ac",
    "ab,cb->ac",
    "ab,bc->ca",
    "ab,ab->",
    "ab,ab->ab",
    "ab,ab->a",
    "ab,ba->b",
    "a,b->ab",
    "a,b->ba",
    "a,a->",
    "a,a->a",
    "ab->ba",
    "ab->",
    "ab->b",
    "abc->ca",
    "aa->a",
    "aa->",
    "aab->ba",
    "abab->ab",
    "abc,acd->abd",
    "abc,abd->acd",
    "abc,bd->acd",
    "abcd,cd->ab",
    "abc,cb->a",
    "ab,c->",
    "ab,bc,cd->ad",
    "a,a,a->a",
    "ab,->ab",
    "ab,bb->a",
    "abcd,abed->acbe",
];

#[test]
fn patterns_are_sums_of_products() {
    for pattern in PATTERNS {
        check(pattern, &[3, 2, 4, 5, 3]);
        check(pattern, &[1, 1, 1, 1, 1]);
        check(pattern, &[2, 1, 3, 0, 2]);
        check(pattern, &[0, 3, 2, 1, 2]);
    }
}

#[test]
fn patterns_have_their_derivatives() {
    for pattern in PATTERNS {
        let tensors = operands(pattern, &[3, 2, 2, 3, 2]);
        gradcheck(|x| Tensor::einsum(pattern, &x.iter().collect::<Vec<_>>())?.square(), &tensors).unwrap();
    }
}

#[test]
fn without_an_arrow_the_letters_that_come_once_are_the_result() {
    let (x, y) = (Tensor::from([[1.0, 2.0], [3.0, 4.0]]), Tensor::from([[5.0, 6.0], [7.0, 8.0]]));
    let sum = |pattern| Tensor::einsum(pattern, &[&x, &y]).unwrap().to_vec();
    assert_eq!(sum("ij,jk"), x.matmul(&y).unwrap().to_vec());
    assert_eq!(sum(" z a , a b "), x.matmul(&y).unwrap().t().unwrap().to_vec());
    assert_eq!(Tensor::einsum("ba", &[&x]).unwrap().to_vec(), [1.0, 3.0, 2.0, 4.0]);
    assert_eq!(Tensor::einsum("ii", &[&x]).unwrap().item().unwrap(), 5.0);
}

#[test]
fn an_ellipsis_stands_for_the_other_axes() {
    let x = Tensor::from_slice(&noise::<f64>(24, 1), [2, 3, 4]).unwrap();
    let y = Tensor::from_slice(&noise::<f64>(40, 2), [2, 4, 5]).unwrap();
    let same = |pattern: &str, spelled: &str, operands: &[&T64]| {
        let (a, b) = (Tensor::einsum(pattern, operands).unwrap(), Tensor::einsum(spelled, operands).unwrap());
        assert_eq!((a.shape(), a.to_vec()), (b.shape(), b.to_vec()), "{pattern}");
    };
    same("...ij,...jk->...ik", "aij,ajk->aik", &[&x, &y]);
    same("...ij,...jk", "aij,ajk->aik", &[&x, &y]);
    same("i...->...i", "iab->abi", &[&x]);
    same("i...j->ij", "iaj->ij", &[&x]);
    same("...", "abc->abc", &[&x]);
    same("...abc,...c->c...ab", "abc,c->cab", &[&x, &Tensor::from([1.0, 2.0, 3.0, 4.0])]);
    same("...c,...->...c", "abc,ab->abc", &[&x, &x.select(2, 0).unwrap()]);
    same("...a,...b->...ab", "xya,yb->xyab", &[&x, &Tensor::from([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])]);
}

#[test]
fn what_does_not_fit_is_named() {
    let (x, y) = (T64::ones([2, 3]).unwrap(), T64::ones([4, 2]).unwrap());
    let cases = [
        ("ij,jk->ik", "einsum: axis j has length 3 in operand 0 of [2, 3], 4 in operand 1 of [4, 2]"),
        ("ij,j->i", "einsum: \"j\" names 1 axes of operand 1 of [4, 2]"),
        ("ij->i", "einsum: 2 tensors for the 1 inputs in \"ij->i\""),
        ("ij,kl->in", "einsum: axis n of the result is in no input in \"ij,kl->in\""),
        ("ij,kl->ikk", "einsum: axis k comes twice in the result in \"ij,kl->ikk\""),
        ("..j,kl->k", "einsum: '.' is no name of an axis in \"..j,kl->k\""),
        ("...i...,kl->k", "einsum: an input has two ellipses in \"...i...,kl->k\""),
        (
            "...i,...k->ik",
            "einsum: axis of the ellipsis has length 2 in operand 0 of [2, 3], 4 in operand 1 of [4, 2]",
        ),
        ("...ijk,kl->k", "einsum: \"ijk\" names 3 axes of operand 0 of [2, 3]"),
        ("i1,kl->k", "einsum: '1' is no name of an axis in \"i1,kl->k\""),
        ("ii,kl->k", "einsum: axis i has length 2 in operand 0 of [2, 3], 3 in operand 0 of [2, 3]"),
    ];
    for (pattern, expected) in cases {
        assert_eq!(Tensor::einsum(pattern, &[&x, &y]).unwrap_err().to_string(), expected);
    }
    assert!(Tensor::<f32>::einsum("", &[]).is_err());
    let wide = T64::ones([1; 4]).unwrap();
    assert!(Tensor::einsum("abcd,efgh->abcdefgh", &[&wide, &wide]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_pattern_of_two_inputs(
        a in "[a-d]{0,3}",
        b in "[a-d]{0,3}",
        keep in prop::collection::vec(any::<bool>(), 4),
        reverse: bool,
        lengths in prop::collection::vec(0usize..4, 4),
    ) {
        let mut output: Vec<char> = "abcd"
            .chars()
            .zip(&keep)
            .filter_map(|(name, &keep)| (keep && (a.contains(name) || b.contains(name))).then_some(name))
            .collect();
        if reverse {
            output.reverse();
        }
        check(&format!("{a},{b}->{}", output.iter().collect::<String>()), &lengths);
    }

    #[test]
    fn no_pattern_panics(pattern in "[a-c,.> -]{0,12}") {
        let x = T64::ones([2, 2]).unwrap();
        drop(Tensor::einsum(&pattern, &[&x]));
        drop(Tensor::einsum(&pattern, &[&x, &x]));
    }
}
