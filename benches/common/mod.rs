//! What benches and gates share.

// Each uses a part of it.
#![allow(dead_code)]

pub mod kernels;
#[cfg(feature = "train")]
pub mod mlp_resnet;

use kernels::Case;

/// The case with this name: of a kernel, or of the network of the main job.
///
/// # Errors
/// A sentence that names what is unknown.
pub fn case(id: &str) -> Result<Case, String> {
    #[cfg(feature = "train")]
    if let Some(case) = mlp_resnet::case(id) {
        return case.map_err(|error| error.to_string());
    }
    kernels::case(id)
}

/// `avx2/t1`: the instruction set and the number of threads that kernels called here run with.
///
/// # Errors
/// When `GRISTMILL_ISA` or `GRISTMILL_THREADS` is wrong.
pub fn settings_name() -> gristmill::Result<String> {
    let settings = gristmill::context::settings()?;
    Ok(format!("{}/t{}", settings.simd.isa(), settings.threads))
}
