//! NumPy's zip archives of arrays.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::npy::Refused;
use super::{NamedTensors, Tensor, npy};
use crate::error::{Error, Result};
use crate::files::{START, recognise, replace};
use crate::simd::Element;

/// Reads the arrays of a `.npz` file, compressed or not, by name; see [`Tensor::load_npy`] for the supported
/// types. Texts, objects, records and files that are not arrays are [skipped](NamedTensors::skipped).
///
/// # Errors
/// [`Error::File`] naming the file and the array if it cannot be read, is damaged or occurs twice, or if the
/// file is not empty but has no array that a tensor can hold.
pub fn load_npz<T: Element>(path: impl AsRef<Path>) -> Result<NamedTensors<T>> {
    let path = path.as_ref();
    let cannot = |error| Error::file(path, format!("cannot be opened: {error}"));
    let mut file = BufReader::new(File::open(path).map_err(cannot)?);
    let start = file.fill_buf().map_err(cannot)?;
    let what = recognise(&start[..start.len().min(START)]);
    let bad = |error: &dyn std::fmt::Display| Error::file(path, format!("is not a .npz file: {error}"));
    let mut archive = ZipArchive::new(file).map_err(|error| match what {
        Some(what) => bad(&format!("it is {what}")),
        None => bad(&error),
    })?;
    let mut arrays = NamedTensors::new(path.to_owned());
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| bad(&error))?;
        let name = entry.name().map_err(|error| bad(&error))?.into_owned();
        let array = match npy::read(&mut entry) {
            Ok(array) => Ok(array),
            Err(Refused::Damaged(why)) if name.ends_with(".npy") => {
                return Err(Error::file(path, format!("{name} {why}")));
            }
            Err(refused) => {
                // Read to the end, where the archive's checksum is compared: damaged entries are not skipped.
                io::copy(&mut entry, &mut io::sink())
                    .map_err(|error| Error::file(path, format!("{name} cannot be read: {error}")))?;
                Err(refused.text())
            }
        };
        arrays.put(name.strip_suffix(".npy").unwrap_or(&name).to_owned(), array)?;
    }
    match what.filter(|what| arrays.is_empty() && what.contains("torch")) {
        Some(what) => Err(bad(&format!("it is {what}"))),
        None => arrays.if_any(),
    }
}

/// Writes arrays under their names to a compressed `.npz` file, as `numpy.savez_compressed` does, by way of a
/// temporary file in the same folder.
///
/// # Errors
/// [`Error::File`] if the file cannot be written.
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
