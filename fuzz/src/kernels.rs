//! Any case of any kernel in the registry.

use gristmill::{Context, Element, Isa};

use crate::registry::laws::{refused, same};
use crate::registry::{Case, Draw, Kernel, Special, kernels};

/// The targets, and how the names of their kernels begin.
const TARGETS: [(&str, &[&str]); 7] = [
    ("conv", &["conv::", "pool::"]),
    ("gemm", &["gemm::"]),
    ("map", &["map::", "zip::", "pow::", "convert::", "cumsum::", "prelu::", "dropout::", "embedding::"]),
    ("reduce", &["reduce::", "norm::"]),
    (
        "softmax_loss",
        &[
            "softmax::",
            "log_softmax::",
            "logsumexp::",
            "cross_entropy::",
            "soft_cross_entropy::",
            "nll_loss::",
            "loss::",
        ],
    ),
    ("norms", &["layer_norm::", "rms_norm::", "batch_norm::", "group_norm::"]),
    ("update", &["update::"]),
];

fn targets_of(kernel: &Kernel) -> impl Iterator<Item = &'static str> {
    let name = kernel.name;
    let has = move |(_, prefixes): &&(_, &[&str])| prefixes.iter().any(|prefix| name.starts_with(prefix));
    TARGETS.iter().filter(has).map(|&(target, _)| target)
}

/// Before the first input of `target`: each kernel is the business of one target, and this one has some.
pub fn start(target: &str) {
    for kernel in kernels() {
        let targets: Vec<_> = targets_of(kernel).collect();
        assert_eq!(targets.len(), 1, "{} is the business of {targets:?}", kernel.name);
    }
    let some = kernels().any(|kernel| targets_of(kernel).any(|name| name == target));
    assert!(some, "{target} has no kernels");
}

/// Makes a case of a kernel of `target` and checks its result: near the reference, the
/// bits of one thread on the first instruction set, and an error for operands that do not fit.
///
/// The first five bytes choose the kernel, the element type and the special numbers, the instruction set, the
/// threads, and whether misfits are tried; the others make the case.
pub fn check(target: &str, bytes: &[u8]) {
    let Some((&[kernel, kind, isa, threads, misfits], bytes)) = bytes.split_first_chunk() else { return };
    let mine: Vec<_> = kernels().filter(|kernel| targets_of(kernel).any(|name| name == target)).collect();
    let kernel = mine[usize::from(kernel) % mine.len()];
    let special = [Special::No, Special::Limits, Special::All][usize::from(kind / 2) % 3];
    let isas: Vec<_> = Isa::available().collect();
    let isa = isas[usize::from(isa) % isas.len()];
    let threads = 1 + usize::from(threads) % 3;
    let draw = &mut Draw::new(bytes, special);
    let checked = if kind % 2 == 0 {
        one(&(kernel.f32)(draw), special, isa, threads, misfits % 4 == 0)
    } else {
        one(&(kernel.f64)(draw), special, isa, threads, misfits % 4 == 0)
    };
    if let Err(message) = checked {
        panic!("{} with {isa} and {threads} threads: {message}", kernel.name);
    }
}

fn one<T: Element>(
    case: &Case<T>,
    special: Special,
    isa: Isa,
    threads: usize,
    misfits: bool,
) -> Result<(), String> {
    let run = |isa, threads| -> Result<Vec<Vec<T>>, String> {
        let results = Context::new().isa(isa).threads(threads).run(|| case.results());
        results.expect("the instruction set is available").map_err(|error| error.to_string())
    };
    let results = run(isa, threads)?;
    let known = match special {
        Special::No => true,
        Special::Limits => case.special != Special::No,
        Special::All => case.special == Special::All,
    };
    if known {
        case.check(&results)?;
    }
    if let Some(first) = Isa::available().find(|isa| isa.has_fma()).filter(|_| isa.has_fma()) {
        same(case, "this time", &results, &run(first, 1)?)?;
    }
    if misfits && special == Special::No {
        Context::new().isa(isa).threads(threads).run(|| refused(case)).expect("as above")?;
    }
    Ok(())
}
