//! The fuzz targets of the kernels near their seeds; `fuzz/README.md` tells of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[path = "../../fuzz/src/kernels.rs"]
pub mod kernels;

#[path = "../../fuzz/fuzz_targets"]
#[allow(unused_attributes, reason = "a program has no main")]
mod targets {
    mod conv;
    mod gemm;
    mod map;
    mod norms;
    mod reduce;
    mod softmax_loss;
    mod update;
}

#[test]
fn no_target_is_forgotten() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let names = |folder: &str| -> BTreeSet<String> {
        let files = root.join(folder).read_dir().unwrap().map(|file| file.unwrap().path());
        files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_string()).collect()
    };
    let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
    let tests = ["kernels/fuzz.rs", "tensors/graphs.rs", "training/fuzz.rs"];
    let tests = tests.map(|file| fs::read_to_string(root.join("tests").join(file)).unwrap()).concat();
    let targets = names("fuzz/fuzz_targets");
    assert_eq!(targets, names("fuzz/seeds"), "each target has a folder of seeds");
    for target in &targets {
        let program = format!("[[bin]]\nname = \"{target}\"\npath = \"fuzz_targets/{target}.rs\"\n");
        assert!(manifest.contains(&program), "{target} is no program of fuzz/Cargo.toml");
        assert!(tests.contains(&format!("    mod {target};\n")), "no test program runs {target}");
    }
    assert_eq!(
        manifest.matches("[[bin]]").count(),
        targets.len(),
        "a program of fuzz/Cargo.toml has no file"
    );
}
