//! What a file is after a process was killed, and when the disk is full.

#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gristmill::nn::{Checkpoint, Linear, Module, Sequential, StateDict};
use gristmill::{Result, Rng, Tensor};

/// Tells [`child`] where to write, and what.
const FOLDER: &str = "GRISTMILL_TEST_FOLDER";
const FULL: &str = "GRISTMILL_TEST_FULL";

/// A model of half a megabyte.
fn model() -> Result<Sequential> {
    let mut rng = Rng::seed(1);
    Ok(Sequential::new().add(Linear::new(400, 300, &mut rng)?).add(Linear::new(300, 40, &mut rng)?))
}

/// A checkpoint whose every number is `round`, over the one before.
fn save(model: &Sequential, round: u32, path: &Path) -> Result<()> {
    for parameter in model.parameters() {
        let shape = parameter.value().shape().to_vec();
        parameter.set(&Tensor::full(shape, round as f32)?)?;
    }
    let mut place = StateDict::new();
    place.set("round", round as usize);
    Checkpoint::new(model)?.with("place", place)?.save(path)
}

/// The round of a checkpoint that is whole; all its numbers are of that round.
fn round(model: &Sequential, path: &Path) -> u32 {
    let checkpoint = Checkpoint::load(path).unwrap();
    checkpoint.restore(model).unwrap();
    let round: usize = checkpoint.section("place").unwrap().get("round").unwrap();
    for (name, value) in model.state_dict() {
        assert!(value.to_vec().iter().all(|&x| x == round as f32), "{name} of round {round}");
    }
    round as u32
}

/// What the processes started by the tests do; nothing in an ordinary run.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let (model, path) = (model().unwrap(), folder.join("model.safetensors"));
    if std::env::var_os(FULL).is_none() {
        for round in round(&model, &path) + 1.. {
            save(&model, round, &path).unwrap();
        }
    }
    // No file may grow beyond 100 kB: what a full disk gives, without filling one.
    let limit = libc::rlimit { rlim_cur: 100_000, rlim_max: 100_000 };
    // SAFETY: a limit of this process, and a signal that it ignores so that writing gives an error instead.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
    }
    let error = save(&model, 9, &path).unwrap_err().to_string();
    assert!(error.contains("model.safetensors") && error.contains("cannot be written"), "{error}");
}

fn start(folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "faults::child"]).env(FOLDER, folder).stdout(Stdio::null());
    command
}

fn files(folder: &Path) -> usize {
    folder.read_dir().unwrap().count()
}

#[test]
fn a_process_killed_while_it_saves_leaves_the_old_checkpoint_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let (model, path) = (model().unwrap(), folder.path().join("model.safetensors"));
    save(&model, 1, &path).unwrap();
    let (mut last, mut in_the_middle) = (1, 0);
    for attempt in 0..20 {
        let mut process = start(folder.path()).spawn().unwrap();
        // Once it has begun to write, at any moment after.
        let begun = Instant::now();
        let before = path.metadata().unwrap().modified().unwrap();
        while path.metadata().unwrap().modified().unwrap() == before
            && begun.elapsed() < Duration::from_secs(20)
        {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros(317 * attempt));
        process.kill().unwrap();
        process.wait().unwrap();
        let saved = round(&model, &path);
        assert!(saved > last, "the process saved nothing after round {last}");
        last = saved;
        in_the_middle = files(folder.path()) - 1;
    }
    // The files that were being written when the process died, under names of their own.
    assert!(in_the_middle > 0, "no process was killed while it wrote");
}

#[test]
fn a_full_disk_is_an_error_and_the_old_checkpoint_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (model, path) = (model().unwrap(), folder.path().join("model.safetensors"));
    save(&model, 3, &path).unwrap();
    let output = start(folder.path()).env(FULL, "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(round(&model, &path), 3);
    assert_eq!(files(folder.path()), 1, "what could not be written is gone");
}

#[test]
fn a_folder_that_is_gone_or_may_not_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let model = model().unwrap();
    let inside = folder.path().join("runs");
    let path = inside.join("model.safetensors");
    let error = save(&model, 1, &path).unwrap_err().to_string();
    assert!(error.contains("model.safetensors") && error.contains("No such file"), "{error}");

    std::fs::create_dir(&inside).unwrap();
    save(&model, 1, &path).unwrap();
    let mut rights = inside.metadata().unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut rights, 0o555);
    std::fs::set_permissions(&inside, rights).unwrap();
    // Root may write anywhere.
    match save(&model, 2, &path) {
        Ok(()) => assert_eq!(round(&model, &path), 2),
        Err(error) => {
            assert!(error.to_string().contains("model.safetensors"), "{error}");
            assert_eq!(round(&model, &path), 1);
        }
    }

    std::fs::remove_file(&path).ok();
    let error = Checkpoint::<f32>::load(&path).err().unwrap().to_string();
    assert!(error.contains("model.safetensors"), "{error}");
}

#[test]
fn a_linear_layer_without_inputs_is_its_bias_also_where_nothing_is_recorded() {
    let bias = Tensor::<f32>::ones([3]).unwrap();
    let layer = Linear::from_tensors(&Tensor::zeros([3, 0]).unwrap(), Some(&bias)).unwrap();
    let x = Tensor::zeros([5, 0]).unwrap();
    let recorded = layer.forward(&x).unwrap();
    for _ in 0..8 {
        assert!(gristmill::autograd::no_grad(|| layer.forward(&x)).unwrap().equals(&recorded));
    }
}

#[test]
fn a_tensor_cannot_have_the_name_of_the_metadata_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let tensors = [("__metadata__".to_owned(), Tensor::<f32>::ones([2]).unwrap())].into();
    let error = gristmill::tensor::save_safetensors(&tensors, &path).unwrap_err().to_string();
    assert!(error.contains("no tensor can be called __metadata__"), "{error}");
    assert!(!path.exists());
}
