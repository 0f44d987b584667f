//! Steps of optimizers; see `gristmill_fuzz::kernels::check`.
#![no_main]

use gristmill_fuzz::kernels;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: {
    gristmill_fuzz::start();
    kernels::start("update")
}, |bytes: &[u8]| kernels::check("update", bytes));
