//! Rows of a table by index.

/// Row `indices[i]` of a table with rows of `dim`, for each i.
pub fn embedding(table: &[f64], dim: usize, indices: &[usize]) -> Vec<f64> {
    indices.iter().flat_map(|index| &table[index * dim..][..dim]).copied().collect()
}

/// The gradient of a table with this many rows; that of the row `padding_idx` is 0.
pub fn embedding_backward(
    indices: &[usize],
    [rows, dim]: [usize; 2],
    padding_idx: Option<usize>,
    dy: &[f64],
) -> Vec<f64> {
    let mut dtable = vec![0.0; rows * dim];
    for (i, &index) in indices.iter().enumerate() {
        for d in 0..dim {
            if Some(index) != padding_idx {
                dtable[index * dim + d] += dy[i * dim + d];
            }
        }
    }
    dtable
}
