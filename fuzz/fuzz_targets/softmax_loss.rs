//! Softmax and losses; see `gristmill_fuzz::kernels::check`.
#![no_main]

use gristmill_fuzz::kernels;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: {
    gristmill_fuzz::start();
    kernels::start("softmax_loss")
}, |bytes: &[u8]| kernels::check("softmax_loss", bytes));
