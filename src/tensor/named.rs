//! The contents of a file of named tensors.

use std::collections::{BTreeMap, btree_map};
use std::ops::Deref;
use std::path::PathBuf;

use super::Tensor;
use crate::error::{Error, Result};
use crate::simd::Element;

/// The tensors of a file by name (through `Deref`), and the other entries of the file: a text, or numbers of
/// a type that has no conversion, do not keep the other entries from being read.
///
/// ```
/// use gristmill::Tensor;
/// use gristmill::tensor::{load_safetensors, save_safetensors};
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("x.safetensors");
/// save_safetensors(&[("x".to_owned(), Tensor::from([1.0_f32, 2.0]))].into(), &path)?;
/// let file = load_safetensors::<f32>(&path)?;
/// assert_eq!(file.tensor("x")?.to_vec(), [1.0, 2.0]);
/// assert!(file.tensor("y").unwrap_err().to_string().ends_with("there is no y among x"));
/// assert!(file.skipped().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct NamedTensors<T: Element = f32> {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor<T>>,
    skipped: BTreeMap<String, String>,
}

impl<T: Element> NamedTensors<T> {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, tensors: BTreeMap::new(), skipped: BTreeMap::new() }
    }

    /// Adds an entry under a name: a tensor, or the reason why it is not one.
    pub(super) fn put(&mut self, name: String, found: Result<Tensor<T>, String>) -> Result<()> {
        if self.tensors.contains_key(&name) || self.skipped.contains_key(&name) {
            return Err(Error::file(&self.path, format!("holds {name} twice")));
        }
        match found {
            Ok(tensor) => drop(self.tensors.insert(name, tensor)),
            Err(why) => drop(self.skipped.insert(name, why)),
        }
        Ok(())
    }

    /// The same, unless everything was skipped.
    pub(super) fn if_any(self) -> Result<Self> {
        match self.skipped.first_key_value() {
            Some((name, why)) if self.tensors.is_empty() => {
                Err(Error::file(&self.path, format!("{name} {why}")))
            }
            _ => Ok(self),
        }
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`Error::File`] if there is none, with a list of the names that exist, or with what the file holds
    /// under that name.
    pub fn tensor(&self, name: &str) -> Result<&Tensor<T>> {
        self.tensors.get(name).ok_or_else(|| match self.skipped.get(name) {
            Some(why) => Error::file(&self.path, format!("{name} {why}")),
            None => {
                let names = list(self.tensors.keys().map(String::as_str));
                Error::file(&self.path, format!("there is no {name} among {names}"))
            }
        })
    }

    /// The entries of the file that are not tensors, by name, each with the reason, such as
    /// `holds C64, which has no conversion`.
    pub fn skipped(&self) -> &BTreeMap<String, String> {
        &self.skipped
    }

    /// The same with `prefix` removed from each name that has it: `module.`, which PyTorch's DataParallel
    /// adds to the names of a model, or `_orig_mod.` of torch.compile.
    ///
    /// # Errors
    /// [`Error::File`] if two names become equal.
    pub fn without_prefix(self, prefix: &str) -> Result<Self> {
        let mut bare = Self::new(self.path);
        let short = |name: String| name.strip_prefix(prefix).map_or(name.clone(), str::to_owned);
        for (name, tensor) in self.tensors {
            bare.put(short(name), Ok(tensor))?;
        }
        for (name, why) in self.skipped {
            bare.put(short(name), Err(why))?;
        }
        Ok(bare)
    }
}

/// Names for a message: the first few, and how many more there are.
pub(crate) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const LISTED: usize = 8;
    let names: Vec<&str> = names.collect();
    match names.len().checked_sub(LISTED) {
        _ if names.is_empty() => "no names".to_owned(),
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..LISTED].join(", ")),
    }
}

impl<T: Element> Deref for NamedTensors<T> {
    type Target = BTreeMap<String, Tensor<T>>;

    fn deref(&self) -> &Self::Target {
        &self.tensors
    }
}

impl<T: Element> From<NamedTensors<T>> for BTreeMap<String, Tensor<T>> {
    fn from(named: NamedTensors<T>) -> Self {
        named.tensors
    }
}

impl<T: Element> IntoIterator for NamedTensors<T> {
    type Item = (String, Tensor<T>);
    type IntoIter = btree_map::IntoIter<String, Tensor<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.tensors.into_iter()
    }
}
