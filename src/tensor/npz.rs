//! NumPy's zip archives of arrays.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::{Tensor, npy};
use crate::error::{Error, Result};
use crate::files::replace;
use crate::simd::Element;

/// Reads all arrays of a `.npz` file, compressed or not, by their names; see
/// [`Tensor::load_npy`] for what they may hold.
///
/// # Errors
/// [`Error::File`] naming the file, and the array, when it cannot be read or is damaged.
pub fn load_npz<T: Element>(path: impl AsRef<Path>) -> Result<BTreeMap<String, Tensor<T>>> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|error| Error::file(path, format!("cannot be opened: {error}")))?;
    let bad = |error| Error::file(path, format!("is not a .npz file: {error}"));
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(bad)?;
    let mut arrays = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(bad)?;
        let name = entry.name().map_err(bad)?.into_owned();
        let array = npy::read(entry).map_err(|reason| Error::file(path, format!("{name} {reason}")))?;
        arrays.insert(name.strip_suffix(".npy").unwrap_or(&name).to_owned(), array);
    }
    Ok(arrays)
}

/// Writes arrays under their names to a compressed `.npz` file, as `numpy.savez_compressed` does. A temporary file beside
/// it is renamed at the end.
///
/// # Errors
/// [`Error::File`] when the file cannot be written.
pub fn save_npz<T: Element>(arrays: &BTreeMap<String, Tensor<T>>, path: impl AsRef<Path>) -> Result<()> {
    replace(path.as_ref(), |file| {
        let mut archive = ZipWriter::new(BufWriter::new(file));
        for (name, array) in arrays {
            let bytes = npy::to_bytes(array);
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Deflated)
                .large_file(bytes.len() >= u32::MAX as usize);
            archive.start_file(format!("{name}.npy"), options)?;
            archive.write_all(&bytes)?;
        }
        archive.finish()?.flush()
    })
    .map_err(|error| Error::file(path, format!("cannot be written: {error}")))
}
