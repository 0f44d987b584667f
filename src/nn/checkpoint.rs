//! Models, and everything else a training needs to continue, as safetensors files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::file::{self, VALUES, misfit};
use super::module::self_visit;
use super::values::{ASIDE, assign, is_counter, named_values};
use super::{Module, StateDict};
use crate::error::{Error, Result};
use crate::simd::Element;
use crate::tensor::{Tensor, safetensors as files};

/// The section of the model's generators.
const GENERATORS: &str = "generators";

/// Writes all parameters and states of a module to a safetensors file. It is written to a temporary file in
/// the same folder, which is then renamed: the path has either the old file or the whole new one.
///
/// # Errors
/// [`Error::File`] if the file cannot be written.
pub fn save<T: Element, M: Module<T> + ?Sized>(module: &M, path: impl AsRef<Path>) -> Result<()> {
    file::save(&mut self_visit(module), path.as_ref())
}

/// Reads a file into a module: one written by [`save`], by [`Checkpoint::save`], or by PyTorch's safetensors
/// from a model with the same names. The module takes all values or, on an error, none. Floating-point
/// numbers of another type, such as bfloat16, F16 or F64, are rounded to the nearest number of the module's
/// type. Integers are refused, since integer weights are quantised and wrong without their scales. PyTorch's
/// counters `num_batches_tracked` are skipped, and so is everything in a [`Checkpoint`] except the model.
///
/// # Errors
/// [`Error::File`] naming the file and what is wrong with it, or the names and shapes that do not fit the
/// module.
pub fn load<T: Element, M: Module<T> + ?Sized>(module: &M, path: impl AsRef<Path>) -> Result<()> {
    file::load(&mut self_visit(module), path.as_ref())
}

/// A model and everything else that a training run needs to continue with the same bits (the state of the
/// optimizer, the model's generators, the position in the data) in one safetensors file, from which
/// [`Module::load`] can still read the model.
///
/// Saving the position in the data is up to the caller: the number of the epoch, which each loader takes back
/// through [`next_epoch`](crate::data::DataLoader::next_epoch), and generators of your own. Not included are
/// gradients, hooks, the mode, and which parameters are frozen. The chapter [resume](crate::guide::resume) of
/// the guide shows a whole training run.
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
    /// The file that it was read from, and the entries of the file that are not tensors.
    file: Option<(PathBuf, BTreeMap<String, String>)>,
}

impl<T: Element> Checkpoint<T> {
    /// The current parameters, states and generators of a model.
    ///
    /// # Errors
    /// [`Error::Value`] if two of them have the same name.
    pub fn new<M: Module<T> + ?Sized>(model: &M) -> Result<Self> {
        let mut generators = StateDict::new();
        for (name, rng) in model.rng_state() {
            generators.set_rng(&name, &rng);
        }
        let sections = BTreeMap::from([(GENERATORS.to_owned(), generators)]);
        Ok(Self { model: named_values(&mut self_visit(model))?, sections, file: None })
    }

    /// Adds a state under the name of a section, such as `optimizer`.
    ///
    /// # Errors
    /// [`Error::Value`] if the section exists already, if its name is empty or contains a dot, if a name or a
    /// value has more than one line, or if a name contains an equals sign.
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
    /// [`Error::Value`] if there is none; [`Error::File`] if there is none and the checkpoint was read from a
    /// file.
    pub fn section(&self, section: &str) -> Result<&StateDict<T>> {
        self.sections.get(section).ok_or_else(|| match &self.file {
            Some((file, skipped)) => {
                let start = format!("{ASIDE}{section}.");
                let unread = skipped.iter().find(|(name, _)| name.starts_with(&start));
                let why = unread.map(|(name, why)| format!("; {name} {why}")).unwrap_or_default();
                Error::file(file, format!("has no section {section}{why}"))
            }
            None => Error::value("Checkpoint", format!("there is no section {section}")),
        })
    }

    /// Restores the parameters, states and generators of a model; all of them or, on an error, none. An
    /// optimizer of the model continues with the restored values, since its parameters stay the same objects.
    ///
    /// # Errors
    /// [`Error::Value`] or [`Error::Shape`] naming what is missing, unknown or of another shape;
    /// [`Error::File`] with the same text if the checkpoint was read from a file.
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

    /// Writes everything to a safetensors file, by way of a temporary file in the same folder. The model's
    /// tensors keep their names, those of a section are called `@section.name`; values go into the metadata
    /// under `gristmill`, as one line `section.name=value` each.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be written.
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
        file::write(path.as_ref(), &tensors, Some(lines))
    }

    /// Reads a file written by [`save`](Checkpoint::save), or one that only has a model. Numbers of another
    /// type are rounded to the nearest of this one.
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
