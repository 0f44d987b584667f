//! Data sets, samplers and batches of any size; see `gristmill_fuzz::loader`.
#![no_main]

use gristmill_fuzz::loader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: {
    gristmill_fuzz::start();
    loader::start()
}, |bytes: &[u8]| loader::check(bytes));
