//! Named tensors in safetensors files.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::bytes::{Encoding, encode};
use super::{MAX_RANK, NamedTensors, Shape, Tensor};
use crate::error::{Error, Result};
use crate::files::{recognise, replace};
use crate::simd::Element;

/// Writes tensors under their names to a safetensors file. It is written to a temporary file in the same
/// folder, which is then renamed: the path has either the old file or the whole new one.
///
/// ```
/// use gristmill::Tensor;
/// use gristmill::tensor::{load_safetensors, save_safetensors};
/// let path = std::env::temp_dir().join(format!("gristmill-doc-{}.safetensors", std::process::id()));
/// save_safetensors(&[("x".to_owned(), Tensor::from([1.0_f32, 2.0]))].into(), &path)?;
/// assert_eq!(load_safetensors::<f32>(&path)?["x"].to_vec(), [1.0, 2.0]);
/// # std::fs::remove_file(path).ok();
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] if the file cannot be written.
pub fn save_safetensors<T: Element>(
    tensors: &BTreeMap<String, Tensor<T>>,
    path: impl AsRef<Path>,
) -> Result<()> {
    let path = path.as_ref();
    let failed = |error: &dyn std::fmt::Display| Error::file(path, format!("cannot be written: {error}"));
    check_names(tensors).map_err(|error| failed(&error))?;
    let dtype = if Encoding::of::<T>() == Encoding::F32 { Dtype::F32 } else { Dtype::F64 };
    let encoded: Vec<_> = tensors.values().map(encode).collect();
    let views = tensors.iter().zip(&encoded).map(|((name, tensor), bytes)| {
        TensorView::new(dtype, tensor.shape().to_vec(), bytes).map(|view| (name, view))
    });
    let views = views.collect::<Result<Vec<_>, _>>().map_err(|error| failed(&error))?;
    let bytes = safetensors::serialize(views, None).map_err(|error| failed(&error))?;
    replace(path, |file| file.write_all(&bytes)).map_err(|error| failed(&error))
}

/// Reads the tensors of a safetensors file by name. Floating-point numbers of 16, 32 and 64 bits, bfloat16,
/// integers and booleans become the nearest number of the element type; numbers of other types, such as F8
/// and C64, and tensors of more than [`MAX_RANK`](super::MAX_RANK) axes are [skipped](NamedTensors::skipped).
///
/// # Errors
/// [`Error::File`] naming the file if it cannot be read or is damaged, and the first tensor if all are
/// skipped.
pub fn load_safetensors<T: Element>(path: impl AsRef<Path>) -> Result<NamedTensors<T>> {
    read(path.as_ref(), Integers::Convert, |_| false)?.0.if_any()
}

/// An error if a tensor has the name that the format has for its metadata: the file could not be read.
pub(crate) fn check_names<T>(tensors: &BTreeMap<String, T>) -> Result<(), &'static str> {
    if tensors.contains_key("__metadata__") { Err("no tensor can be called __metadata__") } else { Ok(()) }
}

/// How tensors of integers are treated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Integers {
    /// Converted to the nearest numbers.
    Convert,
    /// Skipped, with a reason: integer weights are quantised, and wrong without their scales.
    Skip,
}

/// The tensors of a file, except those with names to skip, and its metadata.
pub(crate) fn read<T: Element>(
    path: &Path,
    integers: Integers,
    pass_over: impl Fn(&str) -> bool,
) -> Result<(NamedTensors<T>, HashMap<String, String>)> {
    let bytes = fs::read(path).map_err(|error| Error::file(path, format!("cannot be read: {error}")))?;
    let foreign = |error: &dyn std::fmt::Display| {
        // A file that starts like a safetensors file is a damaged one.
        let what = recognise(&bytes).filter(|what| !what.contains("safetensors file"));
        let what = what.map_or_else(|| error.to_string(), |what| format!("it is {what}"));
        Error::file(path, format!("is not a safetensors file: {what}"))
    };
    let file = SafeTensors::deserialize(&bytes).map_err(|error| foreign(&error))?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| foreign(&error))?;
    let mut tensors = NamedTensors::new(path.to_owned());
    for (name, view) in file.iter().filter(|(name, _)| !pass_over(name)) {
        let format = match view.dtype() {
            Dtype::F16 => Ok(Encoding::F16),
            Dtype::BF16 => Ok(Encoding::BF16),
            Dtype::F32 => Ok(Encoding::F32),
            Dtype::F64 => Ok(Encoding::F64),
            Dtype::I8 => Ok(Encoding::Signed(1)),
            Dtype::I16 => Ok(Encoding::Signed(2)),
            Dtype::I32 => Ok(Encoding::Signed(4)),
            Dtype::I64 => Ok(Encoding::Signed(8)),
            Dtype::U8 => Ok(Encoding::Unsigned(1)),
            Dtype::U16 => Ok(Encoding::Unsigned(2)),
            Dtype::U32 => Ok(Encoding::Unsigned(4)),
            Dtype::U64 => Ok(Encoding::Unsigned(8)),
            Dtype::BOOL => Ok(Encoding::Bool),
            other => Err(format!("holds {other:?}, which has no conversion")),
        };
        let axes = view.shape().len();
        let quantised = matches!(format, Ok(Encoding::Signed(_) | Encoding::Unsigned(_) | Encoding::Bool));
        let tensor = match format {
            Ok(_) if quantised && integers == Integers::Skip => {
                Err(format!("holds {:?}, where a model has floating-point numbers", view.dtype()))
            }
            Ok(_) if axes > MAX_RANK => Err(format!("has {axes} axes, at most {MAX_RANK} are supported")),
            Ok(format) => Ok(Shape::new(view.shape())
                .and_then(|shape| format.decode(view.data(), false, shape))
                .map_err(|error| Error::file(path, format!("{name}: {error}")))?),
            Err(why) => Err(why),
        };
        tensors.put(name.to_owned(), tensor)?;
    }
    Ok((tensors, metadata.metadata().clone().unwrap_or_default()))
}
