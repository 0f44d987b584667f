//! Graphs of operations that no one would write, against a tape of single numbers and central differences.

#[path = "../graphs/mod.rs"]
mod random;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::common::smoke;
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

#[test]
fn fuzz_autograd_graph() {
    smoke::run("autograd_graph", |bytes| {
        if let Err(message) = check(bytes) {
            panic!("{message}");
        }
    });
}
