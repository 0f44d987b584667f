//! The values of a module's parameters and states, by name.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::visit::{Visit, walk};
use super::{Item, Parameter, State};
use crate::error::{Error, Result};
use crate::simd::Element;
use crate::tensor::Tensor;
use crate::tensor::bytes::encode;
use crate::tensor::named::list;

/// The first character of the names of tensors that do not belong to the model: no path in a model starts
/// with it.
pub(super) const ASIDE: char = '@';

/// Whether this is PyTorch's count of the batches that a batch normalisation has seen, which is not needed
/// here.
pub(super) fn is_counter(name: &str) -> bool {
    name.rsplit('.').next() == Some("num_batches_tracked")
}

/// Something in a module that has a value.
enum Holder<'a, T: Element> {
    Parameter(&'a Parameter<T>),
    State(&'a State<T>),
}

impl<T: Element> Holder<'_, T> {
    fn value(&self) -> Tensor<T> {
        match self {
            Holder::Parameter(parameter) => parameter.value(),
            Holder::State(state) => state.value(),
        }
    }

    fn set(&self, value: &Tensor<T>) -> Result<()> {
        match self {
            Holder::Parameter(parameter) => parameter.set(value),
            Holder::State(state) => state.set(value),
        }
    }

    fn address(&self) -> usize {
        match self {
            Holder::Parameter(parameter) => parameter.address(),
            Holder::State(state) => state.address(),
        }
    }
}

/// All places of a module in the order of the layers, with their names; a place that layers share has several
/// names.
fn places<'a, T: Element + 'a>(visit: Visit<'_, 'a, T>) -> Vec<(Holder<'a, T>, Vec<String>)> {
    let mut places: Vec<(Holder<'a, T>, Vec<String>)> = Vec::new();
    let mut by_address = HashMap::new();
    walk(visit, |path, item| {
        let place = match item {
            Item::Parameter(parameter) => Holder::Parameter(parameter),
            Item::State(state) => Holder::State(state),
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

/// The values by name; a value that layers share has the first of its names.
pub(super) fn state_dict<'a, T: Element + 'a>(visit: Visit<'_, 'a, T>) -> BTreeMap<String, Tensor<T>> {
    places(visit).into_iter().map(|(place, mut names)| (names.swap_remove(0), place.value())).collect()
}

/// [`state_dict`]; an error if two different values have the same name.
pub(super) fn named_values<'a, T: Element + 'a>(
    visit: Visit<'_, 'a, T>,
) -> Result<BTreeMap<String, Tensor<T>>> {
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

/// Sets the value of each parameter and state; all of them or, on an error, none. A value that layers share
/// may be given under any of its names. Other contents of a file are skipped: counters, and the sections of a
/// [`Checkpoint`](super::Checkpoint).
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

/// Suggests how to turn one set of names into the other, if something simple does: wrappers in PyTorch add a
/// prefix or words inside the names.
fn renaming(missing: &[&str], unknown: &[&str]) -> Option<String> {
    /// The prefix that, removed from names in `long`, leaves all names in `short`.
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
