//! The names of the public kernels, as the sources have them: what no table may forget.
#![allow(dead_code)]

use std::collections::BTreeSet;
use std::path::Path;

/// Generic functions in `kernels` that are not public or write nothing a law could look at.
const NOT_KERNELS: &[&str] = &["gemm::multiply_batch", "gemm::plan", "nll_loss::total_weight"];

/// The public functions over elements in a source file.
fn public_functions(text: &str) -> impl Iterator<Item = &str> {
    let after = |line: &'static str| text.split(line).skip(1);
    after("\n    pub fn ").chain(after("\npub fn ")).filter_map(|rest| {
        let (name, rest) = rest.split_once(|c: char| !c.is_alphanumeric() && c != '_')?;
        rest.starts_with("T: Element").then_some(name)
    })
}

/// The names under which a source file has kernels compiled, those that are structs among them.
fn compiled(text: &str) -> impl Iterator<Item = &str> {
    let names = text.split("compiled_once!(").skip(1);
    names.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split_once('"').map(|(name, _)| name))
}

fn sources(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        // What lies in a folder belongs to the module of the folder.
        let parent = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
        let module = if parent == "kernels" { stem } else { parent };
        found.extend(public_functions(&text).map(|name| format!("{module}::{name}")));
        found.extend(compiled(&text).map(str::to_owned));
    }
}

/// `family::function` of each.
pub fn public_kernels() -> BTreeSet<String> {
    let mut public = BTreeSet::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/kernels"), &mut public);
    assert!(public.len() > 80, "{public:?}");
    for name in NOT_KERNELS {
        assert!(public.remove(*name), "{name} is no function of the kernels");
    }
    public
}

/// `family::function` of a kernel's row in a profile.
pub fn kernel(row: &str) -> Option<String> {
    let (family, rest) = row.split_once("::")?;
    Some(format!("{family}::{}", rest.rsplit("::").next()?))
}
