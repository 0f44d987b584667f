//! Numbers per channel, for x of `[samples, channels, inner]`.
//!
//! A channel with many inner elements takes its number from a register. With few of them registers would stay
//! half empty: the numbers are repeated instead, one for each element of a sample, and a sample is a row with
//! parameters of its own, as in layer normalisation.

use crate::buffer::Scratch;
use crate::simd::Element;

/// Whether a channel of so many inner elements has few: it depends on the shape and the element type only.
pub(super) fn are_short<T: Element>(inner: usize) -> bool {
    inner < 4 * T::LANES
}

/// Each of `numbers` `inner` times.
pub(super) fn repeat<T: Element>(numbers: &[T], inner: usize) -> Scratch<T> {
    let mut repeated = Scratch::new(numbers.len() * inner);
    for (places, &number) in repeated.chunks_exact_mut(inner.max(1)).zip(numbers) {
        places.fill(number);
    }
    repeated
}

/// The sum of each `inner` neighbours of `terms`, one after the other.
pub(super) fn sum<T: Element>(terms: &[T], inner: usize, sums: &mut [T]) {
    for (sum, terms) in sums.iter_mut().zip(terms.chunks_exact(inner.max(1))) {
        *sum = terms.iter().fold(T::ZERO, |sum, &term| sum + term);
    }
}
