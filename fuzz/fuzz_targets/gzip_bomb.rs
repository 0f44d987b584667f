//! Gzip streams that expand a thousandfold, lie or are damaged; see `gristmill_fuzz::gzip_bomb`.
#![no_main]

use gristmill_fuzz::gzip_bomb;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: gristmill_fuzz::start(), |bytes: &[u8]| gzip_bomb::check(bytes));
