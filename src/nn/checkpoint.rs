//! Models, and what else a training needs to go on, as safetensors files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};

use super::module::{Visit, self_visit, walk};
use super::{Item, Module, Parameter, State, StateDict};
use crate::error::{Error, Result};
use crate::files::replace;
use crate::simd::{self, Element};
use crate::tensor::bytes::encode;
use crate::tensor::named::list;
use crate::tensor::{Tensor, safetensors as files};

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
/// names, into a module. The module takes all values or, on an error, none. Floating-point numbers of another type, such
/// as bfloat16, F16 or F64, become the nearest of the module's; integers do not, since weights that are integers are
/// quantised, and wrong without their scales. PyTorch's counters `num_batches_tracked` are passed over, and so is
/// what a [`Checkpoint`] holds beside the model.
///
/// # Errors
/// [`Error::File`] naming the file and what is wrong with it, or the names and shapes that do not fit the module.
pub fn load<T: Element, M: Module<T> + ?Sized>(module: &M, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let (values, _) =
        files::read(path, files::Integers::Skip, |name| name.starts_with(ASIDE) || is_counter(name))?;
    assign(&mut self_visit(module), &values).map_err(|error| misfit(path, &error, values.skipped()))
}

/// A file whose values do not fit a model, with what could not be read of it.
fn misfit(path: &Path, error: &Error, skipped: &BTreeMap<String, String>) -> Error {
    let mut message = format!("does not fit the model: {error}");
    if let Some((name, why)) = skipped.first_key_value() {
        message += &format!("; {} of its tensors could not be read: {name} {why}", skipped.len());
    }
    Error::file(path, message)
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
    /// The file that it was read from, and what of it is no tensor.
    file: Option<(PathBuf, BTreeMap<String, String>)>,
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
            Some((file, _)) => Error::file(file, format!("has no section {section}")),
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
            Some((file, skipped)) => misfit(file, &error, skipped),
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

    /// Reads a file written by [`save`](Checkpoint::save), or one with a model alone. Numbers of another type become the
    /// nearest of this one.
    ///
    /// # Errors
    /// [`Error::File`] naming the file and what is wrong with it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let broken = |what: &str| Error::file(path, format!("{what:?} is not section.name"));
        let (tensors, mut metadata) = files::read::<T>(path, files::Integers::Skip, is_counter)?;
        let skipped = tensors.skipped().clone();
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
        for line in metadata.remove(VALUES).unwrap_or_default().split_terminator('\n') {
            let parts = line.split_once('=').and_then(|(path, value)| Some((path.split_once('.')?, value)));
            let ((section, name), value) = parts.ok_or_else(|| broken(line))?;
            sections.entry(section.to_owned()).or_default().set(name, value);
        }
        Ok(Self { model, sections, file: Some((path.to_owned(), skipped)) })
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

/// Whether it is PyTorch's count of the batches that a batch norm has seen, which nothing here needs.
fn is_counter(name: &str) -> bool {
    name.rsplit('.').next() == Some("num_batches_tracked")
}

fn dtype<T: Element>() -> Dtype {
    if simd::is::<T, f32>() { Dtype::F32 } else { Dtype::F64 }
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
/// of any of its names. What a file may hold beside a model is passed over: counters, and the sections of a
/// [`Checkpoint`].
pub(super) fn assign<'a, T: Element + 'a>(
    visit: Visit<'_, 'a, T>,
    values: &BTreeMap<String, Tensor<T>>,
) -> Result<()> {
    const OP: &str = "load_state_dict";
    let mut places = places(visit);
    places.sort_by(|(_, a), (_, b)| a[0].cmp(&b[0]));
    let mut chosen = Vec::with_capacity(places.len());
    let mut known = BTreeSet::new();
    let (mut missing, mut shapes) = (Vec::new(), Vec::new());
    for (place, names) in &places {
        let here = place.value();
        let mut found: Option<(&String, &Tensor<T>)> = None;
        let misfits = shapes.len();
        for name in names {
            known.insert(name);
            let Some(value) = values.get(name) else { continue };
            if value.shape() != here.shape() {
                let shape = value.shape();
                shapes.push(format!("{name} has shape {shape:?}, the model needs {:?}", here.shape()));
                continue;
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
        match found {
            Some((_, value)) => chosen.push(value),
            None if shapes.len() == misfits => missing.push(names[0].as_str()),
            None => {}
        }
    }
    let foreign = |name: &&String| !known.contains(name) && !is_counter(name) && !name.starts_with(ASIDE);
    let unknown: Vec<&str> = values.keys().filter(foreign).map(String::as_str).collect();
    if missing.is_empty() && unknown.is_empty() && shapes.is_empty() {
        return places.iter().zip(chosen).try_for_each(|((place, _), value)| place.set(value));
    }
    let only_shapes = missing.is_empty() && unknown.is_empty();
    let mut problems = Vec::new();
    if let Some((first, others)) = missing.split_first() {
        let others = (!others.is_empty()).then(|| format!(", and so are {}", list(others.iter().copied())));
        problems.push(format!("{first} is missing{}", others.unwrap_or_default()));
    }
    if let Some((first, others)) = unknown.split_first() {
        let others = (!others.is_empty()).then(|| format!(", nor are {}", list(others.iter().copied())));
        problems.push(format!("{first} is not a name of the model{}", others.unwrap_or_default()));
    }
    if !shapes.is_empty() {
        problems.push(list(shapes.iter().map(String::as_str)));
    }
    problems.extend(renaming(&missing, &unknown));
    let problems = problems.join("; ");
    Err(if only_shapes { Error::shape(OP, problems) } else { Error::value(OP, problems) })
}

/// What turns the names of the one side into those of the other, if something simple does: wrappers of PyTorch put words
/// before or into the names.
fn renaming(missing: &[&str], unknown: &[&str]) -> Option<String> {
    /// The words before each of `long` that leave all of `short`.
    fn prefix<'a>(long: &[&'a str], short: &[&str]) -> Option<&'a str> {
        let first = short.first()?;
        let all: BTreeSet<&str> = long.iter().copied().collect();
        let fits = |prefix: &&str| {
            prefix.ends_with('.') && short.iter().all(|name| all.contains(format!("{prefix}{name}").as_str()))
        };
        long.iter().filter_map(|name| name.strip_suffix(first)).find(fits)
    }
    const COMPILED: &str = "_orig_mod.";
    let source = |prefix: &str| match prefix {
        "module." => ", as DataParallel puts it,",
        COMPILED => ", as torch.compile puts it,",
        _ => "",
    };
    let take_off = "NamedTensors::without_prefix takes it off";
    if let Some(prefix) = prefix(unknown, missing) {
        let source = source(prefix);
        return Some(format!(
            "the values have the prefix `{prefix}`{source} before the model's names: {take_off}"
        ));
    }
    if let Some(prefix) = prefix(missing, unknown) {
        return Some(format!("the model has the prefix `{prefix}` before the names of the values"));
    }
    let bare: Vec<String> = unknown.iter().map(|name| name.replace(COMPILED, "")).collect();
    let bare: Vec<&str> = bare.iter().map(String::as_str).collect();
    let inside = format!("the values have `{COMPILED}` of torch.compile inside their names");
    if unknown.iter().all(|name| !name.contains(COMPILED)) || missing.is_empty() {
        None
    } else if missing.iter().all(|name| bare.contains(name)) {
        Some(inside)
    } else {
        prefix(&bare, missing).map(|prefix| format!("{inside}, and the prefix `{prefix}` before them"))
    }
}
