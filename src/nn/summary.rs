//! Modules as text: the tree, and the table with shapes and costs.

use std::collections::{BTreeMap, HashSet};

use super::visit::{Visit, walk};
use super::{Item, Mode, Trace};
use crate::autograd::no_grad;
use crate::error::Result;
use crate::simd::Element;
use crate::tensor::Tensor;

/// A row of the table: one module.
struct LayerRow {
    path: String,
    text: String,
    /// The module's own parameters, without those that an earlier row counts.
    parameters: usize,
    frozen: usize,
    /// Elements of parameters and states.
    elements: usize,
}

fn depth(path: &str) -> usize {
    if path.is_empty() { 0 } else { path.split('.').count() }
}

fn rows<'a, T: Element + 'a>(root: String, visit: Visit<'_, 'a, T>) -> Vec<LayerRow> {
    let row = |path: &str, text| LayerRow { path: path.into(), text, parameters: 0, frozen: 0, elements: 0 };
    let (mut rows, mut known) = (vec![row("", root)], HashSet::new());
    // A module may show its own parameters after its children.
    let mut at = BTreeMap::from([(String::new(), 0)]);
    walk(visit, |path, item| {
        let owner = path.rsplit_once('.').map_or("", |(owner, _)| owner);
        let (len, frozen) = match item {
            Item::Layer(text) => {
                at.insert(path.to_owned(), rows.len());
                return rows.push(row(path, text));
            }
            Item::Parameter(parameter) if known.insert(parameter.address()) => {
                (parameter.len(), Some(parameter.is_frozen()))
            }
            Item::State(state) if known.insert(state.address()) => (state.value().len(), None),
            _ => return,
        };
        let row = &mut rows[at.get(owner).copied().unwrap_or(0)];
        row.elements += len;
        if let Some(frozen) = frozen {
            row.parameters += len;
            row.frozen += if frozen { len } else { 0 };
        }
    });
    rows
}

/// The table of a module; with shapes, operations and bytes if it was traced.
fn table(rows: &[LayerRow], trace: Option<&Trace>, width: usize) -> String {
    let blank = |number: u64| if number > 0 { grouped(number) } else { String::new() };
    let seen = |row: &LayerRow| trace.and_then(|trace| trace.seen.get(&row.path));
    let mut cells: Vec<Vec<String>> = Vec::new();
    if trace.is_some() {
        cells.push(["layer", "output", "parameters", "FLOPs", "bytes"].map(String::from).to_vec());
    }
    for row in rows {
        let mut line = vec![format!("{:indent$}{}", "", row.text, indent = 2 * depth(&row.path))];
        if trace.is_some() {
            line.push(seen(row).map_or(String::new(), |seen| format!("{:?}", &*seen.output)));
        }
        line.push(blank(row.parameters as u64));
        if trace.is_some() {
            line.push(blank(seen(row).map_or(0, |seen| seen.flops)));
            line.push(blank((row.elements * width) as u64));
        }
        cells.push(line);
    }
    let columns = cells[0].len();
    let widths: Vec<usize> =
        (0..columns).map(|c| cells.iter().map(|line| line[c].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for line in &cells {
        let mut printed = format!("{:<width$}", line[0], width = widths[0]);
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            printed += &format!("  {cell:>width$}");
        }
        text += printed.trim_end();
        text += "\n";
    }
    text
}

/// 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// [`Module::summary`](super::Module::summary).
pub(super) fn summary<'a, T: Element + 'a>(root: String, visit: Visit<'_, 'a, T>) -> String {
    let rows = rows(root, visit);
    table(&rows, None, size_of::<T>()) + &parameters(&rows) + "\n"
}

fn parameters(rows: &[LayerRow]) -> String {
    let sum = |of: fn(&LayerRow) -> usize| rows.iter().map(of).sum::<usize>() as u64;
    let frozen = match sum(|row| row.frozen) {
        0 => String::new(),
        frozen => format!(", {} of them frozen", grouped(frozen)),
    };
    format!("{} parameters{frozen}", grouped(sum(|row| row.parameters)))
}

/// A traced forward pass over an input.
type Run<'f, T> = &'f mut dyn FnMut(&Tensor<T>, &mut Trace) -> Result<Tensor<T>>;

/// [`Module::summary_for`](super::Module::summary_for); `run` is `Trace::run` of the module.
pub(super) fn summary_for<'a, T: Element + 'a>(
    root: String,
    visit: Visit<'_, 'a, T>,
    input: &[usize],
    run: Run<'_, T>,
) -> Result<String> {
    let x = Tensor::zeros(input)?;
    let mut modes: Vec<(&Mode, bool)> = Vec::new();
    walk(visit, |_, item| {
        if let Item::Mode(mode) = item {
            modes.push((mode, mode.is_training()));
        }
    });
    // In evaluation mode a forward pass changes nothing.
    modes.iter().for_each(|(mode, _)| mode.set(false));
    let mut trace = Trace::default();
    let traced = no_grad(|| run(&x, &mut trace));
    modes.into_iter().for_each(|(mode, training)| mode.set(training));
    traced?;

    let (rows, width) = (rows(root, visit), size_of::<T>());
    let flops: u64 = trace.seen.values().map(|seen| seen.flops).sum();
    let held: usize = rows.iter().map(|row| row.elements * width).sum();
    let leaves = trace.seen.iter().filter(|(path, _)| {
        let inside = format!("{path}.");
        !path.is_empty() && !trace.seen.keys().any(|other| other.starts_with(&inside))
    });
    let made: usize = leaves.map(|(_, seen)| seen.output.elements() * width).sum();
    Ok(format!(
        "{}{}, {} FLOPs in products, {} bytes of parameters and states, {} bytes of results\n",
        table(&rows, Some(&trace), width),
        parameters(&rows),
        grouped(flops),
        grouped(held as u64),
        grouped(made as u64),
    ))
}

/// [`Module::tree`](super::Module::tree).
pub(super) fn tree<'a, T: Element + 'a>(root: String, visit: Visit<'_, 'a, T>) -> String {
    let rows = rows(root, visit);
    let (mut text, mut open) = (String::new(), 0);
    for (i, row) in rows.iter().enumerate() {
        let depth = depth(&row.path);
        while open > depth {
            open -= 1;
            text += &format!("{:indent$})\n", "", indent = 2 * open);
        }
        let name = row.path.rsplit('.').next().filter(|name| !name.is_empty());
        let name = name.map_or(String::new(), |name| format!("({name}): "));
        let has_children = rows
            .get(i + 1)
            .is_some_and(|next| next.path.starts_with(&row.path) && self::depth(&next.path) > depth);
        let bracket = if has_children { "(" } else { "" };
        open += usize::from(has_children);
        text += &format!("{:indent$}{name}{}{bracket}\n", "", row.text, indent = 2 * depth);
    }
    while open > 0 {
        open -= 1;
        text += &format!("{:indent$})\n", "", indent = 2 * open);
    }
    text.truncate(text.trim_end().len());
    text
}
