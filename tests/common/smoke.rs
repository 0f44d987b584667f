//! A smoke test of the fuzz targets: their seeds, and mutations of them, without libFuzzer.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gristmill::Rng;

/// libFuzzer's macro: a test of the target in whose file it stands.
macro_rules! fuzz_target {
    (init: $init:expr, |$bytes:ident: &[u8]| $check:expr) => {
        #[test]
        fn near_its_seeds() {
            $init;
            let target = module_path!().rsplit("::").next().expect("a module has a name");
            crate::common::smoke::run(target, |$bytes: &[u8]| $check);
        }
    };
}
pub(crate) use fuzz_target;

/// What the fuzzers call before the first input: memory that is freed at once is nothing for the tests beside
/// this one.
pub fn start() {}

/// Runs `check` on the seeds of a target, and then on mutations of them, the same ones in every run, for half
/// a second or as long as `GRISTMILL_FUZZ_SECONDS` says. An input that fails stays in a file; so does one
/// that ends the process or never returns.
pub fn run(target: &str, check: impl Fn(&[u8])) {
    let seconds = std::env::var("GRISTMILL_FUZZ_SECONDS");
    let seconds = seconds.map_or(0.5, |seconds| seconds.parse().expect("GRISTMILL_FUZZ_SECONDS is a number"));
    let time = Duration::try_from_secs_f64(seconds).expect("GRISTMILL_FUZZ_SECONDS is a time");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{target}"));
    let mut file = File::create(&path).expect("a file can be made");
    let mut run = |input: &[u8]| {
        file.rewind().and_then(|()| file.write_all(input)).expect("the file can be written");
        file.set_len(input.len() as u64).expect("the file can be cut");
        if catch_unwind(AssertUnwindSafe(|| check(input))).is_err() {
            panic!("the fuzz target {target} fails on the input in {}", path.display());
        }
    };

    let begun = Instant::now();
    let seeds = seeds(target);
    seeds.iter().for_each(|seed| run(seed));
    let mut rng = Rng::seed(1);
    let mut mutations = 0;
    while begun.elapsed() < time {
        run(&mutation(&seeds, &mut rng));
        mutations += 1;
    }
    fs::remove_file(&path).expect("the file can be removed");
    println!("{target}: {} seeds and {mutations} mutations in {:.2?}", seeds.len(), begun.elapsed());
}

/// The inputs in `fuzz/seeds`, in the order of their names.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let files = folder.read_dir().expect("the target has a folder of seeds");
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    assert!(!paths.is_empty(), "{target} has no seeds");
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("the seed can be read")).collect()
}

/// A seed with up to eight edits; one input of eight is random instead.
fn mutation(seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut below = |n: usize| rng.below(n).expect("n is not 0");
    if below(8) == 0 {
        let len = below(512);
        return (0..len).map(|_| below(256) as u8).collect();
    }
    let mut bytes = seeds[below(seeds.len())].clone();
    for _ in 0..1 + below(8) {
        let place = below(bytes.len() + 1);
        let until = (place + 1 + below(8)).min(bytes.len());
        match below(6) {
            // A bit flips.
            0 => bytes[place..until].iter_mut().take(1).for_each(|byte| *byte ^= 1 << below(8)),
            // A number becomes a little larger or smaller.
            1 => bytes[place..until]
                .iter_mut()
                .take(1)
                .for_each(|byte| *byte = byte.wrapping_add([1, 255][below(2)])),
            // Some bytes are others, come in between, are gone.
            2 => bytes[place..until].iter_mut().for_each(|byte| *byte = below(256) as u8),
            3 => {
                let more: Vec<u8> = (0..1 + below(8)).map(|_| below(256) as u8).collect();
                bytes.splice(place..place, more);
            }
            4 => drop(bytes.drain(place..until)),
            // It goes on as another seed does from some place.
            _ => {
                let other = &seeds[below(seeds.len())];
                bytes.truncate(place);
                bytes.extend(&other[below(other.len() + 1)..]);
            }
        }
    }
    bytes
}
