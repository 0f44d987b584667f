//! Graphs of operations on tensors against a tape of single numbers; see `tests/graphs`.
#![no_main]

use gristmill_fuzz::graphs;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: gristmill_fuzz::start(), |bytes: &[u8]| {
    if let Err(message) = graphs::check(bytes) {
        panic!("{message}");
    }
});
