//! Embedding against its reference and its promises.

use crate::common::*;
use gristmill::{Element, kernels::embedding, reference};
use proptest::prelude::*;

/// Rows of the table and gradient of the table.
fn run<T: Element>(
    table: &[T],
    dim: usize,
    indices: &[usize],
    padding: Option<usize>,
    dy: &[T],
) -> [Vec<T>; 2] {
    let (mut y, mut dtable) = (vec![T::NAN; dy.len()], vec![T::NAN; table.len()]);
    embedding::forward(table, dim, indices, &mut y).unwrap();
    embedding::backward(indices, dim, padding, dy, &mut dtable).unwrap();
    [y, dtable]
}

/// Compares with the reference, within the bound of the module's documentation.
fn check<T: Element>(dim: usize, rows: usize, indices: &[usize], padding: Option<usize>) {
    let (table, dy) = (noise::<T>(rows * dim, 1), noise::<T>(indices.len() * dim, 2));
    let y = reference::embedding(&widen(&table), dim, indices);
    let dtable = reference::embedding_backward(indices, [rows, dim], padding, &widen(&dy));
    let sizes: Vec<f64> = widen(&dy).iter().map(|dy| dy.abs()).collect();
    let sizes = reference::embedding_backward(indices, [rows, dim], padding, &sizes);
    let mut counts = vec![0.0; rows];
    indices.iter().for_each(|&index| counts[index] += 1.0);
    on_every_isa(|isa| {
        let [actual_y, actual_dtable] = run(&table, dim, indices, padding, &dy);
        assert_within(&format!("{isa} y"), &actual_y, &y, |_| 0.0);
        assert_within(&format!("{isa} dtable of [{rows}, {dim}]"), &actual_dtable, &dtable, |i| {
            let m: f64 = counts[i / dim];
            // The reference, in f64, rounds too.
            (m - 1.0).max(0.0) * (unit::<T>() + f64::EPSILON) * sizes[i]
        });
    });
}

proptest! {
    #[test]
    fn embedding_matches_the_reference(
        dim in 1usize..70,
        (rows, indices, padding) in (1usize..20).prop_flat_map(|rows| {
            (Just(rows), prop::collection::vec(0..rows, 0..60), prop::option::of(0..rows))
        }),
    ) {
        check::<f32>(dim, rows, &indices, padding);
        check::<f64>(dim, rows, &indices, padding);
    }
}

fn many(count: usize, rows: usize) -> Vec<usize> {
    (0..count).map(|i| if i % 3 == 0 { 5 } else { i * 7919 % rows }).collect()
}

#[test]
fn large_tables_and_many_indices() {
    check::<f32>(100, 3000, &many(5000, 3000), Some(5));
    check::<f32>(3, 20_000, &many(9000, 20_000), None);
    check::<f64>(20_000, 7, &many(9, 7), None);
}

#[test]
fn equal_indices_are_summed_in_their_order() {
    // In f32 the exact sum, 3, becomes 4 in this order: 2^24 + 2 + 1 is a tie that rounds up.
    let dy = [1.0_f32, 1.0, 16_777_216.0, 1.0, -16_777_216.0];
    let mut dtable = [0.0; 3];
    embedding::backward(&[1, 1, 1, 1, 1], 1, None, &dy, &mut dtable).unwrap();
    let in_order = dy.iter().fold(0.0, |sum, dy| sum + dy);
    assert_eq!(dtable, [0.0, in_order, 0.0]);
    assert_eq!(in_order, 4.0);
}

#[test]
fn the_same_bits_on_every_isa_and_number_of_threads() {
    for (dim, rows, count) in [(64, 3000, 5000), (7, 50_000, 20_000), (3000, 100, 700)] {
        let indices = many(count, rows);
        let (table, dy) = (noise::<f32>(rows * dim, 1), noise::<f32>(count * dim, 2));
        same_bits_everywhere(|| run(&table, dim, &indices, Some(3), &dy).concat());
    }
}

#[test]
fn bad_numbers_stay_in_their_row() {
    let table = [f32::NAN, -0.0, 1e-40, f32::INFINITY];
    let [y, dtable] = run(&table, 1, &[3, 1, 0, 2], None, &[1.0, 2.0, f32::NAN, f32::NEG_INFINITY]);
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&y), bits(&[f32::INFINITY, -0.0, f32::NAN, 1e-40]));
    assert!(dtable[0].is_nan());
    assert_eq!(dtable[1..], [2.0, f32::NEG_INFINITY, 1.0]);
}

#[test]
fn no_indices_give_no_output_and_zero_gradients() {
    let [y, dtable] = run(&[1.0_f64; 6], 3, &[], None, &[]);
    assert_eq!((y, dtable), (vec![], vec![0.0; 6]));
    let [y, dtable] = run::<f32>(&[], 3, &[], None, &[]);
    assert_eq!((y, dtable), (vec![], vec![]));
}

#[test]
fn bad_arguments_are_named() {
    let text = |result: gristmill::Result<()>| result.unwrap_err().to_string();
    let table = [0.0_f32; 6];
    assert_eq!(
        text(embedding::forward(&table, 2, &[1, 2, 3], &mut [0.0; 6])),
        "embedding: index 3 at position 2 is not in 0..3"
    );
    assert_eq!(
        text(embedding::forward(&table, 4, &[0], &mut [0.0; 4])),
        "embedding: 6 elements are not whole rows of 4"
    );
    assert_eq!(
        text(embedding::forward(&table, 2, &[0], &mut [0.0; 3])),
        "embedding: y has 3 elements, expected 2"
    );
    let backward = |indices: &[usize], padding, dy: usize| {
        text(embedding::backward(indices, 2, padding, &vec![0.0_f32; dy], &mut [0.0; 6]))
    };
    assert_eq!(backward(&[7], None, 2), "embedding_backward: index 7 at position 0 is not in 0..3");
    assert_eq!(backward(&[2], Some(3), 2), "embedding_backward: padding_idx 3 is not in 0..3");
    assert_eq!(backward(&[2], None, 1), "embedding_backward: dy has 1 elements, expected 2");
}
