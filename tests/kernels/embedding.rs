//! Embedding against its reference and its promises.

use gristmill::{Element, kernels::embedding};

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
