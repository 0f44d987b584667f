//! Sums, extremes, variances and norms of rows and columns; see `gristmill_fuzz::kernels::check`.
#![no_main]

use gristmill_fuzz::kernels;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: {
    gristmill_fuzz::start();
    kernels::start("reduce")
}, |bytes: &[u8]| kernels::check("reduce", bytes));
