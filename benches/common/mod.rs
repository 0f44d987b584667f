//! What benches and gates share.

// Each uses a part of it.
#![allow(dead_code)]

pub mod kernels;
#[cfg(feature = "train")]
pub mod mlp_resnet;
#[cfg(feature = "train")]
pub mod tape;
#[cfg(feature = "train")]
pub mod two_layer_net;

use kernels::Case;
pub use kernels::expand;

/// Goes to the root of the workspace, where paths on a command line are meant to begin: `cargo bench` starts
/// a bench in the folder of its package.
pub fn start_at_the_root() {
    // Elsewhere, as when only the program was copied, paths begin where it is started.
    let _ = std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
}

/// The case with this name: of a kernel, a network, or the tape.
///
/// # Errors
/// A sentence that names what is unknown.
pub fn case(id: &str) -> Result<Case, String> {
    #[cfg(feature = "train")]
    if let Some(case) = mlp_resnet::case(id).or_else(|| two_layer_net::case(id)).or_else(|| tape::case(id)) {
        return case.map_err(|error| error.to_string());
    }
    kernels::case(id)
}

/// A case after its first call, whose results are right; panics if they are not. The reference takes its
/// time: a case that moves more than 16 MiB or computes more than 2²⁷ operations is not compared.
pub fn checked(case: Result<Case, String>) -> Case {
    let mut case = case.unwrap_or_else(|error| panic!("{error}"));
    case.run().unwrap_or_else(|error| panic!("{}: {error}", case.id));
    if case.read + case.written <= (1 << 24) as f64 && case.flops <= (1 << 27) as f64 {
        let expected = case.expected();
        if !expected.is_unknown() {
            expected.check(&case.results()).unwrap_or_else(|error| panic!("{}: {error}", case.id));
        }
    }
    case
}

/// `avx2/t1`: the instruction set and the number of threads that kernels called here run with.
///
/// # Errors
/// When `GRISTMILL_ISA` or `GRISTMILL_THREADS` is wrong.
pub fn settings_name() -> gristmill::Result<String> {
    let settings = gristmill::context::settings()?;
    Ok(format!("{}/t{}", settings.simd.isa(), settings.threads))
}
