//! Module values in safetensors files.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

use super::values::{ASIDE, assign, is_counter, named_values};
use super::visit::Visit;
use crate::error::{Error, Result};
use crate::files::replace;
use crate::simd::{self, Element};
use crate::tensor::bytes::encode;
use crate::tensor::{Tensor, safetensors as files};

/// The key in the file's metadata under which values that are not tensors are stored.
pub(super) const VALUES: &str = "gristmill";

/// [`save`](super::save) for the module behind `visit`.
pub(super) fn save<'a, T: Element + 'a>(visit: Visit<'_, 'a, T>, path: &Path) -> Result<()> {
    let values = named_values(visit).map_err(|error| cannot_be_written(path, &error))?;
    write(path, &values, None)
}

/// [`load`](super::load) for the module behind `visit`.
pub(super) fn load<'a, T: Element + 'a>(visit: Visit<'_, 'a, T>, path: &Path) -> Result<()> {
    let (values, _) =
        files::read(path, files::Integers::Skip, |name| name.starts_with(ASIDE) || is_counter(name))?;
    assign(visit, &values).map_err(|error| misfit(path, &error, values.skipped()))
}

/// The error for a file whose values do not fit a model; it mentions tensors that could not be read.
pub(super) fn misfit(path: &Path, error: &Error, skipped: &BTreeMap<String, String>) -> Error {
    let mut message = format!("does not fit the model: {error}");
    if let Some((name, why)) = skipped.first_key_value() {
        message += &format!("; {} of its tensors could not be read: {name} {why}", skipped.len());
    }
    Error::file(path, message)
}

fn cannot_be_written(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::file(path, format!("cannot be written: {error}"))
}

pub(super) fn write<T: Element>(
    path: &Path,
    tensors: &BTreeMap<String, Tensor<T>>,
    values: Option<String>,
) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| cannot_be_written(path, error);
    files::check_names(tensors).map_err(|error| failed(&error))?;
    let tensors: Vec<(&String, Vec<usize>, Vec<u8>)> =
        tensors.iter().map(|(name, tensor)| (name, tensor.shape().to_vec(), encode(tensor))).collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(dtype::<T>(), shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|error| failed(&error))?;
    let metadata = values.map(|values| HashMap::from([(VALUES.to_owned(), values)]));
    let bytes = safetensors::serialize(views, metadata).map_err(|error| failed(&error))?;
    replace(path, |file| file.write_all(&bytes)).map_err(|error| failed(&error))
}

fn dtype<T: Element>() -> Dtype {
    if simd::is::<T, f32>() { Dtype::F32 } else { Dtype::F64 }
}
