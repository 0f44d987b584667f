//! The fuzz targets of files and of the loader near their seeds; `fuzz/README.md` tells of them.

// Their files are read from `/proc`.
#![cfg(target_os = "linux")]

#[path = "../../fuzz/src/checkpoint.rs"]
pub mod checkpoint;
#[path = "../../fuzz/src/files.rs"]
mod files;
#[path = "../../fuzz/src/gzip_bomb.rs"]
pub mod gzip_bomb;
#[path = "../../fuzz/src/idx.rs"]
mod idx;
#[path = "../../fuzz/src/idx_parser.rs"]
pub mod idx_parser;
#[path = "../../fuzz/src/input.rs"]
mod input;
#[path = "../../fuzz/src/loader.rs"]
pub mod loader;

use input::Input;

#[path = "../../fuzz/fuzz_targets"]
#[allow(unused_attributes, reason = "a program has no main")]
mod targets {
    mod checkpoint;
    mod gzip_bomb;
    mod idx_parser;
    mod loader;
}

/// Other tests take memory beside these; only the fuzzers hold each call to its limit.
mod memory {
    pub fn within<R>(_limit: usize, call: impl FnOnce() -> R) -> R {
        call()
    }
}
