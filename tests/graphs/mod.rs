//! Random graphs of operations on tensors, from bytes: shared inputs, broadcasts, views, cuts, several
//! backward passes whose gradients add up. Each number and each gradient is checked against a tape of single
//! numbers, which knows how much rounding may differ, and some gradients against central differences.
//!
//! The property test (`tests/tensors/graphs.rs`) and the fuzzer (`fuzz/fuzz_targets/autograd_graph.rs`) draw
//! from it.

#[path = "../registry/draw.rs"]
#[allow(dead_code, clippy::duplicate_mod)]
mod draw;
mod ops;
mod tape;

use std::collections::BTreeSet;
use std::fmt::Write;

use gristmill::autograd::no_grad;
use gristmill::{Context, Isa, Tensor};

use draw::{Draw, Special};
use ops::{MOST, Op, Scene, T64, Twin};
use tape::{Id, Slope, Tape};

/// How many times the rounding of the tape's formulas the crate's may have: fused ones round elsewhere.
const FORMULAS: f64 = 8.0;
/// Larger numbers, and numbers whose rounding is worse, are left out.
const LARGEST: f64 = 1e4;
const WORST: f64 = 1e-9;

/// Grows the graph that these bytes say and checks it; an error tells all its operations.
pub fn check(bytes: &[u8]) -> Result<(), String> {
    let mut draw = Draw::new(bytes, Special::No);
    let isas: Vec<Isa> = Isa::available().collect();
    let context = Context::new().isa(draw.pick(&isas)).threads(1 + draw.below(2));
    let mut graph = Graph::default();
    let checked = context.run(|| graph.grow(&mut draw)).expect("the instruction set is available");
    checked.map_err(|message| format!("{message}\n{context:?}\n{}", graph.text))
}

struct Leaf {
    values: T64,
    ids: Vec<Id>,
    /// `None` if it wants no gradient, or none has come yet.
    gradient: Option<Vec<Slope>>,
    wants: bool,
}

struct Node {
    /// Its number among all that were made.
    number: usize,
    tensor: T64,
    twin: Twin,
    /// The leaves that it sends gradients to.
    leaves: BTreeSet<usize>,
    /// The recorded operations that it was made by.
    past: BTreeSet<usize>,
}

struct Step {
    op: Op,
    inputs: Vec<usize>,
}

#[derive(Default)]
struct Graph {
    tape: Tape,
    leaves: Vec<Leaf>,
    /// Those that are still held; the first ones are the leaves.
    nodes: Vec<Node>,
    steps: Vec<Step>,
    /// Operations whose backward has run for the last time.
    spent: BTreeSet<usize>,
    text: String,
}

/// Whether there is more to be done.
enum Outcome {
    Goes,
    Over,
}

impl Graph {
    fn grow(&mut self, draw: &mut Draw) -> Result<(), String> {
        for _ in 0..2 + draw.below(3) {
            self.plant(draw);
        }
        for _ in 0..4 + draw.below(20) {
            match draw.below(10) {
                0 => {
                    let which = draw.below(self.nodes.len());
                    if let Outcome::Over = self.backward(draw, which)? {
                        return Ok(());
                    }
                }
                // Forgotten, but for what was made of it.
                1 if self.nodes.len() > self.leaves.len() + 2 => {
                    let others = self.nodes.len() - self.leaves.len();
                    self.nodes.remove(self.leaves.len() + draw.below(others));
                }
                _ => self.step(draw)?,
            }
        }
        let last = self.nodes.len() - 1;
        if draw.below(3) == 0 {
            self.differences(draw, last)?;
        }
        self.backward(draw, last).map(drop)
    }

    fn plant(&mut self, draw: &mut Draw) {
        let rank = draw.pick(&[2, 1, 3, 2, 0]);
        let mut shape: Vec<usize> = (0..rank).map(|_| draw.pick(&[2, 3, 1, 4, 2, 3, 1, 5])).collect();
        if rank > 0 && draw.below(32) == 31 {
            shape[0] = 0;
        }
        let (low, high) = draw.pick(&[(-2.0, 2.0), (0.3, 2.0)]);
        let values: Vec<f64> = draw.values(shape.iter().product(), low, high);
        let tensor = Tensor::from_slice(&values, &shape).expect("the shape is that of the values");
        let ids: Vec<Id> = values.iter().map(|&x| self.tape.constant(x)).collect();
        let (wants, number) = (draw.below(4) > 0, self.leaves.len());
        writeln!(self.text, "{number}: {shape:?} {values:?}, wants a gradient: {wants}").expect("it is text");
        let recorded = if wants { tensor.requires_grad() } else { tensor.clone() };
        self.nodes.push(Node {
            number,
            tensor: recorded,
            twin: Twin::new(&shape, ids.clone()),
            leaves: wants.then_some(number).into_iter().collect(),
            past: BTreeSet::new(),
        });
        self.leaves.push(Leaf { values: tensor, ids, gradient: None, wants });
    }

    /// One more operation, if what was drawn keeps its numbers in bounds.
    fn step(&mut self, draw: &mut Draw) -> Result<(), String> {
        let before = self.tape.len();
        let pool: Vec<&Twin> = self.nodes.iter().map(|node| &node.twin).collect();
        let Some((op, places)) = (Scene { draw, tape: &self.tape, pool: &pool }).operation() else {
            return Ok(());
        };
        let twins: Vec<&Twin> = places.iter().map(|&place| pool[place]).collect();
        let twin = (op.mirror)(&mut self.tape, &twins);
        let tame = |&id: &Id| {
            let (value, error) = (self.tape.value(id), self.tape.error(id));
            value.abs() < LARGEST && error <= WORST * (1.0 + value.abs())
        };
        if twin.ids.len() > MOST || twin.shape.len() > 4 || !twin.ids.iter().all(tame) {
            self.tape.truncate(before);
            return Ok(());
        }
        let inputs: Vec<&Node> = places.iter().map(|&place| &self.nodes[place]).collect();
        let numbers: Vec<usize> = inputs.iter().map(|node| node.number).collect();
        let number = self.leaves.len() + self.steps.len();
        writeln!(self.text, "{number}: {} of {numbers:?} → {:?}", op.what, twin.shape).expect("it is text");
        let tensors: Vec<&T64> = inputs.iter().map(|node| &node.tensor).collect();
        let tensor = (op.apply)(&tensors).map_err(|error| format!("{number}: {error}"))?;
        let union = |of: fn(&Node) -> &BTreeSet<usize>| -> BTreeSet<usize> {
            inputs.iter().flat_map(|node| of(node)).copied().filter(|_| !op.cuts).collect()
        };
        let (leaves, mut past) = (union(|node| &node.leaves), union(|node| &node.past));
        if tensor.shape() != twin.shape {
            return Err(format!("{number} has shape {:?}", tensor.shape()));
        }
        if tensor.is_tracked() == leaves.is_empty() {
            return Err(format!("{number} is tracked: {}", tensor.is_tracked()));
        }
        for (i, (actual, &id)) in tensor.to_vec().into_iter().zip(&twin.ids).enumerate() {
            let expected = Slope { value: self.tape.value(id), error: self.tape.error(id) };
            near(actual, expected).map_err(|message| format!("{number}, element {i}: {message}"))?;
        }
        if !leaves.is_empty() {
            past.insert(number);
        }
        self.steps.push(Step { op, inputs: numbers });
        self.nodes.push(Node { number, tensor, twin, leaves, past });
        Ok(())
    }

    /// A backward pass, and the gradients of all leaves.
    fn backward(&mut self, draw: &mut Draw, which: usize) -> Result<Outcome, String> {
        let node = &self.nodes[which];
        let unit = node.tensor.len() == 1 && draw.flip();
        let retain = unit && draw.flip();
        let seeds = if unit { vec![1.0] } else { draw.values(node.tensor.len(), -1.0, 1.0) };
        writeln!(self.text, "backward of {}, retain {retain}, {seeds:?}", node.number).expect("it is text");
        let run = match (unit, retain) {
            (true, false) => node.tensor.backward(),
            (true, true) => node.tensor.backward_retain_graph(),
            _ => {
                let gradient =
                    Tensor::from_slice(&seeds, &node.twin.shape).expect("as many seeds as elements");
                node.tensor.backward_with(&gradient)
            }
        };
        let spent = node.past.intersection(&self.spent).next().is_some();
        match run {
            Err(error) if !spent && !node.leaves.is_empty() => return Err(error.to_string()),
            // What ran before the error has left its gradients.
            Err(_) if spent => return Ok(Outcome::Over),
            Err(_) => return Ok(Outcome::Goes),
            Ok(()) if spent || node.leaves.is_empty() => {
                return Err(format!("no error of a backward pass of {}", node.number));
            }
            Ok(()) => {}
        }
        let roots: Vec<(Id, f64)> = node.twin.ids.iter().copied().zip(seeds).collect();
        let slopes = self.tape.backward(&roots);
        for &leaf in &node.leaves {
            let leaf = &mut self.leaves[leaf];
            let more = leaf.ids.iter().map(|&id| slopes[id]);
            let old = leaf.gradient.take().unwrap_or_else(|| vec![Slope::default(); leaf.ids.len()]);
            let sum = |(a, b): (&Slope, Slope)| {
                let value = a.value + b.value;
                Slope { value, error: a.error + b.error + f64::EPSILON * value.abs() }
            };
            leaf.gradient = Some(old.iter().zip(more).map(sum).collect());
        }
        if !retain {
            self.spent.extend(&node.past);
        }
        for (number, (leaf, node)) in self.leaves.iter().zip(&self.nodes).enumerate() {
            let actual = node.tensor.grad().map(|gradient| gradient.to_vec());
            match (actual, &leaf.gradient) {
                (None, None) => {}
                (Some(actual), Some(expected)) if actual.len() == expected.len() => {
                    for (i, (actual, &expected)) in actual.into_iter().zip(expected).enumerate() {
                        let named = |message| format!("gradient {i} of leaf {number}: {message}");
                        near(actual, expected).map_err(named)?;
                    }
                }
                (actual, _) => return Err(format!("leaf {number} has the gradient {actual:?}")),
            }
        }
        Ok(Outcome::Goes)
    }

    /// All tensors again, from other leaves; what was detached keeps its numbers in `fixed`.
    fn replay(&self, leaves: &[T64], fixed: Option<&[T64]>) -> Result<Vec<T64>, String> {
        let mut tensors = leaves.to_vec();
        for step in &self.steps {
            let tensor = match fixed {
                Some(fixed) if step.op.cuts => fixed[tensors.len()].clone(),
                _ => {
                    let inputs: Vec<&T64> = step.inputs.iter().map(|&input| &tensors[input]).collect();
                    (step.op.apply)(&inputs).map_err(|error| error.to_string())?
                }
            };
            tensors.push(tensor);
        }
        Ok(tensors)
    }

    /// One element of a leaf moved a little: what the node does, against its gradient.
    fn differences(&self, draw: &mut Draw, which: usize) -> Result<(), String> {
        let node = &self.nodes[which];
        let able = |&&leaf: &&usize| !self.leaves[leaf].ids.is_empty();
        let Some(&leaf) = node.leaves.iter().find(able) else { return Ok(()) };
        let element = draw.below(self.leaves[leaf].ids.len());
        let seeds: Vec<f64> = draw.values(node.twin.ids.len(), -1.0, 1.0);
        let seeds = Tensor::from_slice(&seeds, &node.twin.shape).expect("as many seeds as elements");
        let values: Vec<T64> = self.leaves.iter().map(|leaf| leaf.values.clone()).collect();
        let fixed = no_grad(|| self.replay(&values, None))?;
        let total = |step: f64| -> Result<f64, String> {
            let mut moved = values[leaf].to_vec();
            moved[element] += step;
            let mut values = values.clone();
            values[leaf] = Tensor::from_slice(&moved, values[leaf].shape()).expect("the shape is the same");
            let root = no_grad(|| self.replay(&values, Some(&fixed)))?[node.number].to_vec();
            Ok(root.iter().zip(seeds.to_vec()).map(|(x, seed)| x * seed).sum())
        };
        const STEP: f64 = 1e-4;
        let slope = |step: f64| Ok::<_, String>((total(step)? - total(-step)?) / (2.0 * step));
        let [wide, narrow] = [slope(STEP)?, slope(STEP / 2.0)?];

        let recorded: Vec<T64> = self
            .leaves
            .iter()
            .zip(&values)
            .map(|(leaf, values)| if leaf.wants { values.requires_grad() } else { values.clone() })
            .collect();
        let root = self.replay(&recorded, None)?.swap_remove(node.number);
        root.backward_with(&seeds).map_err(|error| error.to_string())?;
        let Some(gradient) = recorded[leaf].grad() else {
            return Err(format!("leaf {leaf} has no gradient of {}", node.number));
        };
        let analytic = gradient.to_vec()[element];
        // The narrow slope is off by a third of what the two differ by, and by the rounding of its two
        // totals.
        let rounding: f64 = node
            .twin
            .ids
            .iter()
            .map(|&id| self.tape.error(id) + f64::EPSILON * self.tape.value(id).abs())
            .sum();
        // Of a number that does not change, such as the variance of equal ones, the gradient is rounding
        // alone.
        let roots: Vec<(Id, f64)> = node.twin.ids.iter().copied().zip(seeds.to_vec()).collect();
        let Slope { error, .. } = self.tape.backward(&roots)[self.leaves[leaf].ids[element]];
        let bound = 2.0 * (wide - narrow).abs()
            + 2.0 * FORMULAS * rounding / STEP
            + 1e-9 * analytic.abs()
            + FORMULAS * error;
        let told = narrow.is_finite() && wide.is_finite();
        if told && ((analytic - narrow).abs() > bound || analytic.is_nan()) {
            return Err(format!(
                "the gradient of element {element} of leaf {leaf} of {} is {analytic:e}, \
                 differences give {narrow:e}, and {wide:e} with twice the step",
                node.number
            ));
        }
        Ok(())
    }
}

fn near(actual: f64, expected: Slope) -> Result<(), String> {
    let Slope { value, error } = expected;
    if (actual - value).abs() <= FORMULAS * error + f64::MIN_POSITIVE {
        return Ok(());
    }
    Err(format!("{actual:e}, expected {value:e} within {:e}", FORMULAS * error))
}
