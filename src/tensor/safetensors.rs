//! Named tensors in safetensors files.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::bytes::{Format, encode};
use super::{Shape, Tensor};
use crate::error::{Error, Result};
use crate::files::replace;
use crate::simd::Element;

/// Writes tensors under their names to a safetensors file. A temporary file beside it is renamed at the end, so that the
/// old file or the new one is there, whole.
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
/// [`Error::File`] when the file cannot be written.
pub fn save_safetensors<T: Element>(
    tensors: &BTreeMap<String, Tensor<T>>,
    path: impl AsRef<Path>,
) -> Result<()> {
    let path = path.as_ref();
    let failed = |error: &dyn std::fmt::Display| Error::file(path, format!("cannot be written: {error}"));
    let dtype = if Format::of::<T>() == Format::F32 { Dtype::F32 } else { Dtype::F64 };
    let encoded: Vec<_> = tensors.values().map(encode).collect();
    let views = tensors.iter().zip(&encoded).map(|((name, tensor), bytes)| {
        TensorView::new(dtype, tensor.shape().to_vec(), bytes).map(|view| (name, view))
    });
    let views = views.collect::<Result<Vec<_>, _>>().map_err(|error| failed(&error))?;
    let bytes = safetensors::serialize(views, None).map_err(|error| failed(&error))?;
    replace(path, |file| file.write_all(&bytes)).map_err(|error| failed(&error))
}

/// Reads all tensors of a safetensors file by their names. Floating-point numbers of 16, 32 and 64 bits, bfloat16,
/// integers and truth values become the nearest number of the element type.
///
/// # Errors
/// [`Error::File`] naming the file, and the tensor, when it cannot be read, is damaged, or holds another type or more
/// than [`MAX_RANK`](super::MAX_RANK) axes.
pub fn load_safetensors<T: Element>(path: impl AsRef<Path>) -> Result<BTreeMap<String, Tensor<T>>> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(|error| Error::file(path, format!("cannot be read: {error}")))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| Error::file(path, format!("is not a safetensors file: {error}")))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let format = match view.dtype() {
            Dtype::F16 => Format::F16,
            Dtype::BF16 => Format::BF16,
            Dtype::F32 => Format::F32,
            Dtype::F64 => Format::F64,
            Dtype::I8 => Format::Signed(1),
            Dtype::I16 => Format::Signed(2),
            Dtype::I32 => Format::Signed(4),
            Dtype::I64 => Format::Signed(8),
            Dtype::U8 => Format::Unsigned(1),
            Dtype::U16 => Format::Unsigned(2),
            Dtype::U32 => Format::Unsigned(4),
            Dtype::U64 => Format::Unsigned(8),
            Dtype::BOOL => Format::Bool,
            other => {
                return Err(Error::file(path, format!("{name} holds {other:?}, which has no conversion")));
            }
        };
        let tensor = Shape::new(view.shape())
            .and_then(|shape| format.decode(view.data(), false, shape))
            .map_err(|error| Error::file(path, format!("{name}: {error}")))?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(tensors)
}
