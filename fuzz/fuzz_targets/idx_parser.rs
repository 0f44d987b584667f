//! Any bytes as idx files; see `gristmill_fuzz::idx_parser`.
#![no_main]

use gristmill_fuzz::idx_parser;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: gristmill_fuzz::start(), |bytes: &[u8]| idx_parser::check(bytes));
