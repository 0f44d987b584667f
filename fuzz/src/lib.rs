//! The checks of the targets, and what they share: choices made of bytes, counted memory, files.
//!
//! The test programs of gristmill compile these modules, too, below a module of their own: they name each
//! other by `super`, the registry by `crate`.

pub mod checkpoint;
mod files;
#[path = "../../tests/graphs/mod.rs"]
pub mod graphs;
pub mod gzip_bomb;
mod idx;
pub mod idx_parser;
mod input;
pub mod kernels;
pub mod loader;
mod memory;
#[path = "../../tests/registry/mod.rs"]
mod registry;

use input::Input;

/// Before the first input: freed tensors go back to the system at once, so that AddressSanitizer sees who
/// still uses one.
pub fn start() {
    gristmill::buffer::limit_free_memory(0);
}
