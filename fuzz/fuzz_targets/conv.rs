//! Convolutions and pooling; see `gristmill_fuzz::kernels::check`.
#![no_main]

use gristmill_fuzz::kernels;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: {
    gristmill_fuzz::start();
    kernels::start("conv")
}, |bytes: &[u8]| kernels::check("conv", bytes));
