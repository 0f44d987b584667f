//! Models, and what else a training needs to go on, as safetensors files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::module::{Visit, self_visit, walk};
use super::{Item, Module, Parameter, State, StateDict};
use crate::error::{Error, Result};
use crate::files::replace;
use crate::simd::Element;
use crate::tensor::bytes::{Format, encode};
use crate::tensor::{Shape, Tensor};

/// Before the names of tensors that are not the model's: no path of a model starts so.
const ASIDE: char = '@';
/// The key of the values in the file's metadata.
const VALUES: &str = "gristmill";
/// The section of the model's generators.
const GENERATORS: &str = "generators";

/// Writes all parameters and states of a module to a safetensors file. A temporary file beside it is renamed at the
/// end, so that the old file or the new one is there, whole.
///
/// # Errors
/// [`Error::File`] when the file cannot be written.
pub fn save<T: Element, M: Module<T> + ?Sized>(module: &M, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let values = named_values(&mut self_visit(module)).map_err(|error| cannot_be_written(path, &error))?;
    write_file(path, &values, None)
}

/// Reads a file written by [`save`], by [`Checkpoint::save`], or by PyTorch's safetensors from a model with the same
/// names, into a module. The module takes all values or, on an error, none. PyTorch's counters `num_batches_tracked`
/// are passed over, and so is what a [`Checkpoint`] holds beside the model.
///
/// # Errors
/// [`Error::File`] naming the file and what is wrong with it, or which name or shape does not fit the module.
pub fn load<T: Element, M: Module<T> + ?Sized>(module: &M, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let (values, _) = read_file(path, |name| name.starts_with(ASIDE))?;
    assign(&mut self_visit(module), &values)
        .map_err(|error| Error::file(path, format!("does not fit the model: {error}")))
}

/// A model and what else a training needs to go on with the same bits: the state of the optimizer, the model's
/// generators, the place in the data; all in one safetensors file, from which [`Module::load`] still reads the model.
///
/// The place in the data is the caller's to keep: the number of the epoch, which each loader takes back by
/// [`next_epoch`](crate::data::DataLoader::next_epoch), and generators of one's own. Gradients, hooks, which parameters
/// are frozen and the mode are not in it. The chapter [resume](crate::guide::resume) of the guide has a whole training.
///
/// ```
/// use gristmill::nn::{Checkpoint, Dropout, Linear, Module, Sequential, StateDict};
/// use gristmill::optim::{Optimizer, SGD};
/// use gristmill::{Result, Rng, Tensor};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("training.safetensors");
/// fn model(rng: &mut Rng) -> Result<Sequential> {
///     Ok(Sequential::new().add(Linear::new(3, 2, rng)?).add(Dropout::new(0.1, rng)?))
/// }
/// let first = model(&mut Rng::seed(4))?;
/// let mut optimizer = SGD::new(first.parameters(), 0.01).momentum(0.9);
/// first.forward(&Tensor::ones([5, 3])?)?.sum()?.backward()?;
/// optimizer.step()?;
///
/// let mut place = StateDict::new();
/// place.set("epoch", 1);
/// Checkpoint::new(&first)?.with("optimizer", optimizer.state_dict())?.with("place", place)?.save(&path)?;
///
/// let checkpoint = Checkpoint::load(&path)?;
/// let second = model(&mut Rng::seed(0))?;
/// checkpoint.restore(&second)?;
/// let mut optimizer = SGD::new(second.parameters(), 0.1).momentum(0.9);
/// optimizer.load_state_dict(checkpoint.section("optimizer")?)?;
/// assert_eq!(optimizer.learning_rate(), 0.01);
/// assert_eq!(checkpoint.section("place")?.get::<u64>("epoch")?, 1);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Checkpoint<T: Element = f32> {
    model: BTreeMap<String, Tensor<T>>,
    sections: BTreeMap<String, StateDict<T>>,
    /// The file that it was read from.
    file: Option<PathBuf>,
}

impl<T: Element> Checkpoint<T> {
    /// The parameters, states and generators of a model as they are now.
    ///
    /// # Errors
    /// [`Error::Value`] when two of them have the same name.
    pub fn new<M: Module<T> + ?Sized>(model: &M) -> Result<Self> {
        let mut generators = StateDict::new();
        for (name, rng) in model.rng_state() {
            generators.set_rng(&name, &rng);
        }
        let sections = BTreeMap::from([(GENERATORS.to_owned(), generators)]);
        Ok(Self { model: named_values(&mut self_visit(model))?, sections, file: None })
    }

    /// With a state under the name of a section, such as `optimizer`.
    ///
    /// # Errors
    /// [`Error::Value`] when the section is there already or its name is empty or has a dot in it; when a name or a
    /// value has more than one line, or a name an equals sign.
    pub fn with(mut self, section: &str, state: StateDict<T>) -> Result<Self> {
        let refused = |message: String| Err(Error::value("Checkpoint", message));
        if section.is_empty() || section.contains(['.', '=', '\n']) {
            return refused(format!("{section:?} is not a name for a section"));
        }
        for (name, value) in state.values() {
            if name.contains(['=', '\n']) || value.contains('\n') {
                return refused(format!("{name:?} with value {value:?} is not one line name=value"));
            }
        }
        if self.sections.insert(section.to_owned(), state).is_some() {
            return refused(format!("there are two sections {section}"));
        }
        Ok(self)
    }

    /// The state of this section.
    ///
    /// # Errors
    /// [`Error::Value`] when there is none; [`Error::File`] if the checkpoint was read from a file.
    pub fn section(&self, section: &str) -> Result<&StateDict<T>> {
        self.sections.get(section).ok_or_else(|| match &self.file {
            Some(file) => Error::file(file, format!("has no section {section}")),
            None => Error::value("Checkpoint", format!("there is no section {section}")),
        })
    }

    /// Gives a model its parameters, states and generators back; all of them or, on an error, none. An optimizer of the
    /// model goes on with the values: its parameters are the same ones.
    ///
    /// # Errors
    /// [`Error::Value`] or [`Error::Shape`] naming what is missing, unknown or of another shape; [`Error::File`] with
    /// the same words if the checkpoint was read from a file.
    pub fn restore<M: Module<T> + ?Sized>(&self, model: &M) -> Result<()> {
        self.give(model).map_err(|error| match &self.file {
            Some(file) => Error::file(file, format!("does not fit the model: {error}")),
            None => error,
        })
    }

    fn give<M: Module<T> + ?Sized>(&self, model: &M) -> Result<()> {
        let state = self.sections.get(GENERATORS);
        let mut generators = model.rng_state();
        for (name, rng) in &mut generators {
            let missing = || Error::value("Checkpoint", format!("the generator {name} is missing"));
            *rng = state.and_then(|state| state.rng(name).ok()).ok_or_else(missing)?;
        }
        assign(&mut self_visit(model), &self.model)?;
        model.set_rng_state(&generators)
    }

    /// Writes everything to a safetensors file: beside it first, then renamed. The model's tensors have their names,
    /// those of a section `@section.name`; values stand in the metadata under `gristmill`, one line
    /// `section.name=value` each.
    ///
    /// # Errors
    /// [`Error::File`] when the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let (mut tensors, mut lines) = (self.model.clone(), String::new());
        for (section, state) in &self.sections {
            for (name, tensor) in state.tensors() {
                tensors.insert(format!("{ASIDE}{section}.{name}"), tensor.clone());
            }
            for (name, value) in state.values() {
                lines += &format!("{section}.{name}={value}\n");
            }
        }
        write_file(path.as_ref(), &tensors, Some(lines))
    }

    /// Reads a file written by [`save`](Checkpoint::save), or one with a model alone.
    ///
    /// # Errors
    /// [`Error::File`] naming the file and what is wrong with it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let broken = |what: &str| Error::file(path, format!("{what:?} is not section.name"));
        let (tensors, values) = read_file::<T>(path, |_| false)?;
        let (mut model, mut sections) = (BTreeMap::new(), BTreeMap::<String, StateDict<T>>::new());
        for (name, tensor) in tensors {
            let Some(aside) = name.strip_prefix(ASIDE) else {
                model.insert(name, tensor);
                continue;
            };
            let (section, name) = aside.split_once('.').ok_or_else(|| broken(aside))?;
            sections.entry(section.to_owned()).or_default().set_tensor(name, &tensor);
        }
        // Not `lines`: a value may end in a carriage return.
        for line in values.unwrap_or_default().split_terminator('\n') {
            let parts = line.split_once('=').and_then(|(path, value)| Some((path.split_once('.')?, value)));
            let ((section, name), value) = parts.ok_or_else(|| broken(line))?;
            sections.entry(section.to_owned()).or_default().set(name, value);
        }
        Ok(Self { model, sections, file: Some(path.to_owned()) })
    }
}

fn cannot_be_written(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::file(path, format!("cannot be written: {error}"))
}

fn write_file<T: Element>(
    path: &Path,
    tensors: &BTreeMap<String, Tensor<T>>,
    values: Option<String>,
) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| cannot_be_written(path, error);
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

/// The tensors of a file by name, and the values if it has some.
type Contents<T> = (BTreeMap<String, Tensor<T>>, Option<String>);

/// What a file holds, but for the tensors to skip.
fn read_file<T: Element>(path: &Path, skip: impl Fn(&str) -> bool) -> Result<Contents<T>> {
    let bytes = fs::read(path).map_err(|error| Error::file(path, format!("cannot be read: {error}")))?;
    let foreign = |error| Error::file(path, format!("is not a safetensors file: {error}"));
    let file = SafeTensors::deserialize(&bytes).map_err(foreign)?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(foreign)?;
    let values = metadata.metadata().as_ref().and_then(|metadata| metadata.get(VALUES)).cloned();
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        if name.ends_with("num_batches_tracked") || skip(name) {
            continue;
        }
        if view.dtype() != dtype::<T>() {
            let message = format!("{name} holds {:?}, the model needs {:?}", view.dtype(), dtype::<T>());
            return Err(Error::file(path, message));
        }
        let tensor = Shape::new(view.shape())
            .and_then(|shape| Format::of::<T>().decode(view.data(), false, shape))
            .map_err(|error| Error::file(path, format!("{name}: {error}")))?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok((tensors, values))
}

fn dtype<T: Element>() -> Dtype {
    if T::LANES == 16 { Dtype::F32 } else { Dtype::F64 }
}

/// Something of a module that has a value.
enum Place<'a, T: Element> {
    Parameter(&'a Parameter<T>),
    State(&'a State<T>),
}

impl<T: Element> Place<'_, T> {
    fn value(&self) -> Tensor<T> {
        match self {
            Place::Parameter(parameter) => parameter.value(),
            Place::State(state) => state.value(),
        }
    }

    fn set(&self, value: &Tensor<T>) -> Result<()> {
        match self {
            Place::Parameter(parameter) => parameter.set(value),
            Place::State(state) => state.set(value),
        }
    }

    fn address(&self) -> usize {
        match self {
            Place::Parameter(parameter) => parameter.address(),
            Place::State(state) => state.address(),
        }
    }
}

/// All places of a module in the order of the layers, with their names: more than one if layers share it.
fn places<'a, T: Element + 'a>(visit: Visit<'_, 'a, T>) -> Vec<(Place<'a, T>, Vec<String>)> {
    let mut places: Vec<(Place<'a, T>, Vec<String>)> = Vec::new();
    let mut by_address = HashMap::new();
    walk(visit, |path, item| {
        let place = match item {
            Item::Parameter(parameter) => Place::Parameter(parameter),
            Item::State(state) => Place::State(state),
            _ => return,
        };
        let index = *by_address.entry(place.address()).or_insert(places.len());
        match places.get_mut(index) {
            Some((_, names)) => names.push(path.to_owned()),
            None => places.push((place, vec![path.to_owned()])),
        }
    });
    places
}

/// The values by name; one that layers share has the first of its names.
pub(super) fn state_dict<'a, T: Element + 'a>(visit: Visit<'_, 'a, T>) -> BTreeMap<String, Tensor<T>> {
    places(visit).into_iter().map(|(place, mut names)| (names.swap_remove(0), place.value())).collect()
}

/// [`state_dict`], if the names are different.
fn named_values<'a, T: Element + 'a>(visit: Visit<'_, 'a, T>) -> Result<BTreeMap<String, Tensor<T>>> {
    let mut seen = BTreeSet::new();
    for (_, names) in places(visit) {
        let names: BTreeSet<_> = names.into_iter().collect();
        for name in names {
            if seen.contains(&name) {
                let message = format!("two of its parameters or states have the same name {name}");
                return Err(Error::value("state_dict", message));
            }
            seen.insert(name);
        }
    }
    Ok(state_dict(visit))
}

/// Gives each parameter and state its value; all of them or, on an error, none. One that layers share takes the value
/// of any of its names.
pub(super) fn assign<'a, T: Element + 'a>(
    visit: Visit<'_, 'a, T>,
    values: &BTreeMap<String, Tensor<T>>,
) -> Result<()> {
    const OP: &str = "load_state_dict";
    let mut places = places(visit);
    places.sort_by(|(_, a), (_, b)| a[0].cmp(&b[0]));
    let mut chosen = Vec::with_capacity(places.len());
    let mut known = BTreeSet::new();
    for (place, names) in &places {
        let here = place.value();
        let mut found: Option<(&String, &Tensor<T>)> = None;
        for name in names {
            known.insert(name);
            let Some(value) = values.get(name) else { continue };
            if value.shape() != here.shape() {
                let message =
                    format!("{name} has shape {:?}, the model needs {:?}", value.shape(), here.shape());
                return Err(Error::shape(OP, message));
            }
            match found {
                Some((other, first)) if encode(first) != encode(value) => {
                    let message = format!("{other} and {name} are one in the model, but their values differ");
                    return Err(Error::value(OP, message));
                }
                Some(_) => {}
                None => found = Some((name, value)),
            }
        }
        let Some((_, value)) = found else {
            return Err(Error::value(OP, format!("{} is missing", names[0])));
        };
        chosen.push(value);
    }
    if let Some(name) = values.keys().find(|&name| !known.contains(name)) {
        return Err(Error::value(OP, format!("{name} is not a name of the model")));
    }
    places.iter().zip(chosen).try_for_each(|((place, _), value)| place.set(value))
}
