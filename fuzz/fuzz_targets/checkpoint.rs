//! Files of tensors and trainings; see `gristmill_fuzz::checkpoint`.
#![no_main]

use gristmill_fuzz::checkpoint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: gristmill_fuzz::start(), |bytes: &[u8]| checkpoint::check(bytes));
