//! The fuzz targets of files and of the loader near their seeds; `fuzz/README.md` tells of them.

// Their files are read from `/proc`.
#![cfg(target_os = "linux")]

#[path = "../../fuzz/src/checkpoint.rs"]
mod checkpoint;
#[path = "../../fuzz/src/files.rs"]
mod files;
#[path = "../../fuzz/src/gzip_bomb.rs"]
mod gzip_bomb;
#[path = "../../fuzz/src/idx.rs"]
mod idx;
#[path = "../../fuzz/src/idx_parser.rs"]
mod idx_parser;
#[path = "../../fuzz/src/input.rs"]
mod input;
#[path = "../../fuzz/src/loader.rs"]
mod loader;

use crate::common::smoke;
use input::Input;

/// Other tests take memory beside these; only the fuzzers hold each call to its limit.
mod memory {
    pub fn within<R>(_limit: usize, call: impl FnOnce() -> R) -> R {
        call()
    }
}

#[test]
fn checkpoint() {
    smoke::run("checkpoint", checkpoint::check);
}

#[test]
fn gzip_bomb() {
    smoke::run("gzip_bomb", gzip_bomb::check);
}

#[test]
fn idx_parser() {
    smoke::run("idx_parser", idx_parser::check);
}

#[test]
fn loader() {
    loader::start();
    smoke::run("loader", loader::check);
}
