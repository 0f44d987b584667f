//! What the targets share: choices made of bytes, counted memory, files, and the checks of whole families.

pub mod files;
#[path = "../../tests/graphs/mod.rs"]
pub mod graphs;
pub mod idx;
mod input;
pub mod kernels;
pub mod memory;
#[path = "../../tests/registry/mod.rs"]
mod registry;

pub use input::Input;

/// Before the first input: freed tensors go back to the system at once, so that AddressSanitizer sees who still uses
/// one.
pub fn start() {
    gristmill::buffer::limit_free_memory(0);
}
