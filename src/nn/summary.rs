//! Modules as text: the tree, and the table with shapes and costs.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use super::module::{Visit, walk};
use super::{
    BatchNorm1d, Dropout, Embedding, Flatten, GELU, GroupNorm, Identity, Item, LayerNorm, LeakyReLU, Linear,
    LogSoftmax, Mode, Module, PReLU, RMSNorm, ReLU, Residual, Sequential, SiLU, Sigmoid, Softmax, Tanh,
};
use crate::autograd::no_grad;
use crate::error::Result;
use crate::simd::Element;
use crate::tensor::{Shape, Tensor};

/// What a forward pass through [`Module::trace`] has noted: shapes and operations of each module.
///
/// A module with children runs them by [`child`](Trace::child), as its forward pass would, so that
/// [`summary_for`](Module::summary_for) has figures for each of them:
///
/// ```
/// use gristmill::{Result, Rng, Tensor, nn::{Linear, Module, Trace, Visitor}};
///
/// struct TwoLayers(Linear, Linear);
///
/// impl Module for TwoLayers {
///     fn forward(&self, x: &Tensor) -> Result<Tensor> {
///         self.1.forward(&self.0.forward(x)?.relu()?)
///     }
///     fn trace(&self, x: &Tensor, trace: &mut Trace) -> Result<Tensor> {
///         let y = trace.child("first", &self.0, x)?.relu()?;
///         trace.child("second", &self.1, &y)
///     }
///     fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
///         visitor.child("first", &self.0);
///         visitor.child("second", &self.1);
///     }
/// }
///
/// let mut rng = Rng::seed(4);
/// let model = TwoLayers(Linear::new(8, 4, &mut rng)?, Linear::new(4, 1, &mut rng)?);
/// let summary = model.summary_for(&[32, 8])?;
/// assert_eq!(summary.lines().nth(2).unwrap(), "  Linear(8 → 4)  [32, 4]          36  2,048    144");
/// assert!(summary.contains("41 parameters, 2,304 FLOPs"));
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Default)]
pub struct Trace {
    path: String,
    seen: BTreeMap<String, Seen>,
}

struct Seen {
    output: Shape,
    flops: u64,
}

impl Trace {
    /// Runs a child, under its name in [`Module::visit`], and notes what it makes of `x`. A child that runs several
    /// times has the shape of its last result, and the operations of all.
    ///
    /// # Errors
    /// Those of the child's forward.
    pub fn child<T: Element>(
        &mut self,
        name: &str,
        module: &(impl Module<T> + ?Sized),
        x: &Tensor<T>,
    ) -> Result<Tensor<T>> {
        let parent = self.path.len();
        if parent > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        let y = self.run(module, x);
        self.path.truncate(parent);
        y.map_err(|error| error.in_layer(name))
    }

    pub(super) fn run<T: Element>(
        &mut self,
        module: &(impl Module<T> + ?Sized),
        x: &Tensor<T>,
    ) -> Result<Tensor<T>> {
        let y = module.trace(x, self)?;
        let seen = self.seen.entry(self.path.clone()).or_insert(Seen { output: y.dims(), flops: 0 });
        seen.output = y.dims();
        seen.flops += module.flops(x.shape());
        Ok(y)
    }
}

/// A module in the table.
struct Row {
    path: String,
    text: String,
    /// Of its own, without those that a row above has.
    parameters: usize,
    frozen: usize,
    /// Elements of parameters and states.
    elements: usize,
}

fn depth(path: &str) -> usize {
    if path.is_empty() { 0 } else { path.split('.').count() }
}

fn rows<'a, T: Element + 'a>(root: String, visit: Visit<'_, 'a, T>) -> Vec<Row> {
    let row = |path: &str, text| Row { path: path.into(), text, parameters: 0, frozen: 0, elements: 0 };
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

/// The table of a module: with shapes, operations and bytes if it was traced.
fn table(rows: &[Row], trace: Option<&Trace>, width: usize) -> String {
    let blank = |number: u64| if number > 0 { grouped(number) } else { String::new() };
    let seen = |row: &Row| trace.and_then(|trace| trace.seen.get(&row.path));
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

/// [`Module::summary`].
pub(super) fn summary<'a, T: Element + 'a>(root: String, visit: Visit<'_, 'a, T>) -> String {
    let rows = rows(root, visit);
    table(&rows, None, size_of::<T>()) + &parameters(&rows) + "\n"
}

fn parameters(rows: &[Row]) -> String {
    let sum = |of: fn(&Row) -> usize| rows.iter().map(of).sum::<usize>() as u64;
    let frozen = match sum(|row| row.frozen) {
        0 => String::new(),
        frozen => format!(", {} of them frozen", grouped(frozen)),
    };
    format!("{} parameters{frozen}", grouped(sum(|row| row.parameters)))
}

/// A forward pass over an input that is traced.
type Run<'f, T> = &'f mut dyn FnMut(&Tensor<T>, &mut Trace) -> Result<Tensor<T>>;

/// [`Module::summary_for`]; `run` is [`Trace::run`] of the module.
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

/// [`Module::tree`].
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

impl<T: Element> fmt::Display for dyn Module<T> + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tree())
    }
}

/// Modules print as their tree.
macro_rules! display {
    ([$($generic:ident),+], [$($plain:ident),+]) => {
        $(impl<T: Element> fmt::Display for $generic<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&Module::<T>::tree(self))
            }
        })+
        $(impl fmt::Display for $plain {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&Module::<f32>::tree(self))
            }
        })+
    };
}

display!(
    [BatchNorm1d, Embedding, GroupNorm, LayerNorm, Linear, PReLU, RMSNorm, Residual, Sequential],
    [Dropout, Flatten, GELU, Identity, LeakyReLU, LogSoftmax, ReLU, SiLU, Sigmoid, Softmax, Tanh]
);
