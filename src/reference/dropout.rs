//! Dropout, given its random words.

/// `x[i] / (1 − p)` where `words[i] ≥ p·2³²`, else 0.
pub fn dropout(x: &[f64], p: f64, words: &[u32]) -> Vec<f64> {
    let keep = |word: u32| f64::from(word) >= p * 4_294_967_296.0;
    x.iter().zip(words).map(|(x, &word)| if keep(word) { x / (1.0 - p) } else { 0.0 }).collect()
}
