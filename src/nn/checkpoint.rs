//! Parameters and states as safetensors files.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::module::{self_visit, walk};
use super::{Item, Module, Parameter, State, Visitor};
use crate::error::{Error, Result};
use crate::files::replace;
use crate::simd::Element;
use crate::tensor::bytes::{Format, encode};
use crate::tensor::{Shape, Tensor};

/// Writes all parameters and states of a module to a safetensors file. A temporary file beside it is renamed at the
/// end, so that the old file or the new one is there, whole.
///
/// # Errors
/// [`Error::File`] when the file cannot be written.
pub fn save<T: Element, M: Module<T> + ?Sized>(module: &M, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let failed = |error: &dyn std::fmt::Display| Error::file(path, format!("cannot be written: {error}"));
    let values = module.state_dict();
    let mut names = 0;
    walk(self_visit(module), |_, item| {
        names += usize::from(matches!(item, Item::Parameter(_) | Item::State(_)))
    });
    if names != values.len() {
        return Err(failed(&"two of its parameters or states have the same name"));
    }
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> =
        values.into_iter().map(|(name, tensor)| (name, tensor.shape().to_vec(), encode(&tensor))).collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(dtype::<T>(), shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|error| failed(&error))?;
    let bytes = safetensors::serialize(views, None).map_err(|error| failed(&error))?;
    replace(path, |file| file.write_all(&bytes)).map_err(|error| failed(&error))
}

/// Reads a file written by [`save`], or by PyTorch's safetensors from a model with the same names, into a module. The
/// module takes all values or, on an error, none. PyTorch's counters `num_batches_tracked` are passed over.
///
/// # Errors
/// [`Error::File`] naming the file and what is wrong with it, or which name or shape does not fit the module.
pub fn load<T: Element, M: Module<T> + ?Sized>(module: &M, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(|error| Error::file(path, format!("cannot be read: {error}")))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| Error::file(path, format!("is not a safetensors file: {error}")))?;
    let mut values = BTreeMap::new();
    for (name, view) in file.iter() {
        if name.ends_with("num_batches_tracked") {
            continue;
        }
        if view.dtype() != dtype::<T>() {
            let message = format!("{name} holds {:?}, the model needs {:?}", view.dtype(), dtype::<T>());
            return Err(Error::file(path, message));
        }
        let tensor = Shape::new(view.shape())
            .and_then(|shape| Format::of::<T>().decode(view.data(), false, shape))
            .map_err(|error| Error::file(path, format!("{name}: {error}")))?;
        values.insert(name.to_owned(), tensor);
    }
    assign(self_visit(module), &values)
        .map_err(|error| Error::file(path, format!("does not fit the model: {error}")))
}

fn dtype<T: Element>() -> Dtype {
    if T::LANES == 16 { Dtype::F32 } else { Dtype::F64 }
}

/// Gives each parameter and state its value; all of them or, on an error, none.
pub(super) fn assign<'a, T: Element + 'a>(
    visit: impl FnOnce(&mut Visitor<'_, 'a, T>),
    values: &BTreeMap<String, Tensor<T>>,
) -> Result<()> {
    enum Place<'a, T: Element> {
        Parameter(&'a Parameter<T>),
        State(&'a State<T>),
    }
    let mut places: BTreeMap<String, Place<'a, T>> = BTreeMap::new();
    walk(visit, |path, item| {
        match item {
            Item::Parameter(parameter) => places.insert(path.to_owned(), Place::Parameter(parameter)),
            Item::State(state) => places.insert(path.to_owned(), Place::State(state)),
            _ => None,
        };
    });
    for (name, place) in &places {
        let Some(value) = values.get(name) else {
            return Err(Error::value("load_state_dict", format!("{name} is missing")));
        };
        let here = match place {
            Place::Parameter(parameter) => parameter.value(),
            Place::State(state) => state.value(),
        };
        if here.shape() != value.shape() {
            let message = format!("{name} has shape {:?}, the model needs {:?}", value.shape(), here.shape());
            return Err(Error::shape("load_state_dict", message));
        }
    }
    if let Some(name) = values.keys().find(|&name| !places.contains_key(name)) {
        return Err(Error::value("load_state_dict", format!("{name} is not a name of the model")));
    }
    for (name, place) in places {
        match place {
            Place::Parameter(parameter) => parameter.set(&values[&name])?,
            Place::State(state) => state.set(&values[&name])?,
        }
    }
    Ok(())
}
