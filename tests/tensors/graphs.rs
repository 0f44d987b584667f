//! Graphs of operations that no one would write, against a tape of single numbers and central differences.

#[path = "../graphs/mod.rs"]
mod random;

use proptest::collection::vec;
use proptest::prelude::*;

use random::check;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn random_graphs_have_the_numbers_and_gradients_of_an_independent_tape(
        bytes in vec(any::<u8>(), 0..800),
    ) {
        check(&bytes).map_err(TestCaseError::fail)?;
    }
}

#[path = "../../fuzz/fuzz_targets"]
#[allow(unused_attributes, reason = "a program has no main")]
mod fuzz_targets {
    mod autograd_graph;
}
