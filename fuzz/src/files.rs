//! Files in memory, and what reading one may give.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use gristmill::{Error, Result};
use tempfile::TempDir;

/// A file without a name, which goes with this value.
pub struct Nameless {
    _file: File,
    path: PathBuf,
}

impl Nameless {
    pub fn new(bytes: &[u8]) -> Self {
        let mut file = tempfile::tempfile_in(folder()).expect("a temporary file can be made");
        file.write_all(bytes).expect("a temporary file can be written");
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Self { _file: file, path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A folder that goes with this value.
pub fn temporary_folder() -> TempDir {
    tempfile::tempdir_in(folder()).expect("a temporary folder can be made")
}

/// In memory where there is such a place.
fn folder() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

/// `None` for an error that names the file.
#[track_caller]
pub fn read<R>(result: Result<R>) -> Option<R> {
    match result {
        Ok(value) => Some(value),
        Err(Error::File { .. }) => None,
        Err(other) => panic!("not an error of the file: {other}"),
    }
}
