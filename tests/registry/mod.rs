//! Every public kernel, once: how to make a case, how to call it, what it must give and how near.
//!
//! The laws (`tests/kernels/laws.rs`), the fuzzers (`fuzz/`) and the proof that no kernel was forgotten draw
//! from this table. A kernel is one entry of [`KERNELS`], and a function that lays out a [`Case`] of it from
//! a [`Draw`].
#![allow(dead_code)]

pub mod convs;
mod draw;
pub mod laws;
pub mod losses;
pub mod maps;
pub mod names;
pub mod norms;
pub mod others;
pub mod pools;
pub mod products;
pub mod reductions;
pub mod softmax;
pub mod updates;
pub mod zips;

use gristmill::{Element, Result};

pub use draw::{Draw, Special};

/// A kernel and its cases in both element types.
pub struct Kernel {
    /// The path of the function below `gristmill::kernels`.
    pub name: &'static str,
    pub f32: fn(&mut Draw) -> Case<f32>,
    pub f64: fn(&mut Draw) -> Case<f64>,
    /// How many times as many cases it takes to see all its functions.
    pub times: u32,
}

/// `"name" => function`, or `"name" => function; times`: an entry for each, made of a function generic over
/// the element.
macro_rules! entries {
    ($($name:literal => $case:path $(; $times:literal)?),* $(,)?) => {
        &[$($crate::registry::Kernel { name: $name, f32: $case, f64: $case, times: [$($times,)? 1][0] }),*]
    };
}
use entries;

/// All of them, family by family.
pub const KERNELS: &[&[Kernel]] = &[
    convs::KERNELS,
    losses::KERNELS,
    maps::KERNELS,
    norms::KERNELS,
    others::KERNELS,
    pools::KERNELS,
    products::KERNELS,
    reductions::KERNELS,
    softmax::KERNELS,
    updates::KERNELS,
    zips::KERNELS,
];

/// All of them, one by one.
pub fn kernels() -> impl Iterator<Item = &'static Kernel> {
    KERNELS.iter().copied().flatten()
}

/// A slice that a kernel reads or writes.
#[derive(Clone, Debug)]
pub struct Operand<E> {
    /// The argument's name.
    pub name: &'static str,
    /// What it holds before the call.
    pub values: Vec<E>,
    /// How many of its elements belong to each item of a kernel whose items do not know each other.
    pub per_item: Option<usize>,
    pub length: Length,
}

/// Which other lengths of an operand, all else being equal, are calls like any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// None: an error.
    Exact,
    /// Longer ones, whose end is not touched.
    AtLeast,
    /// All, for all that the table knows.
    Any,
}

/// What an output must be, and how far it may be off.
pub struct Near {
    pub exact: f64,
    pub bound: f64,
}

/// The values of an output, each with its bound.
pub fn near(exact: Vec<f64>, bound: impl Fn(usize) -> f64) -> Vec<Near> {
    exact.into_iter().enumerate().map(|(i, exact)| Near { exact, bound: bound(i) }).collect()
}

/// The values of an output, each with its bound; NaN and infinities must be just that, whatever the bound is
/// there.
pub fn strictly(exact: Vec<f64>, bound: impl Fn(usize) -> f64) -> Vec<Near> {
    near(exact.clone(), |i| if exact[i].is_finite() { bound(i) } else { 0.0 })
}

/// The same, but nothing is claimed where `unknown`.
pub fn claimed_unless(values: Vec<Near>, unknown: impl Fn(usize) -> bool) -> Vec<Near> {
    let one = |(i, value)| if unknown(i) { Near { exact: 0.0, bound: f64::INFINITY } } else { value };
    values.into_iter().enumerate().map(one).collect()
}

/// An output of which nothing is claimed here.
pub fn anything(len: usize) -> Vec<Near> {
    near(vec![0.0; len], |_| f64::INFINITY)
}

type Run<T> = Box<dyn Fn(&[&[T]], &mut [&mut [usize]], &mut [&mut [T]]) -> Result<()>>;
type Expect = Box<dyn Fn(&[Vec<f64>], &[Vec<usize>], &[Vec<f64>]) -> Vec<Vec<Near>>>;

/// Inputs, indices and outputs.
pub type Operands<T> = (Vec<Vec<T>>, Vec<Vec<usize>>, Vec<Vec<T>>);

/// One call of a kernel, with operands that a law can put where it likes.
pub struct Case<T> {
    /// Sizes and parameters, for messages.
    pub what: String,
    pub inputs: Vec<Operand<T>>,
    /// Labels and places, read or written.
    pub indices: Vec<Operand<usize>>,
    /// What is written; what it held before counts where the kernel works in place.
    pub outputs: Vec<Operand<T>>,
    /// What makes NaN and infinities of an output others than the reference's, if anything does.
    pub special: Special,
    run: Option<Run<T>>,
    expect: Option<Expect>,
    /// Calls that must give an error.
    pub refused: Vec<(&'static str, Run<T>)>,
}

fn run_boxed<T: Element, const I: usize, const N: usize, const O: usize>(
    run: impl Fn([&[T]; I], [&mut [usize]; N], [&mut [T]; O]) -> Result<()> + 'static,
) -> Run<T> {
    Box::new(move |inputs, indices, outputs| {
        let (mut indices, mut outputs) = (indices.iter_mut(), outputs.iter_mut());
        run(
            inputs.try_into().expect("the case has as many inputs as the call"),
            std::array::from_fn(|_| &mut **indices.next().expect("the case has as many indices as the call")),
            std::array::from_fn(|_| &mut **outputs.next().expect("the case has as many outputs as the call")),
        )
    })
}

impl<T: Element> Case<T> {
    pub fn new(what: impl ToString) -> Self {
        Self {
            what: what.to_string(),
            inputs: Vec::new(),
            indices: Vec::new(),
            outputs: Vec::new(),
            special: Special::Limits,
            run: None,
            expect: None,
            refused: Vec::new(),
        }
    }

    /// The next input.
    pub fn input(mut self, name: &'static str, values: Vec<T>) -> Self {
        self.inputs.push(Operand { name, values, per_item: None, length: Length::Exact });
        self
    }

    /// The next input, of which each item has `per_item` elements.
    pub fn input_per_item(mut self, name: &'static str, per_item: usize, values: Vec<T>) -> Self {
        self.inputs.push(Operand { name, values, per_item: Some(per_item), length: Length::Exact });
        self
    }

    /// The next list of labels or places.
    pub fn indices(mut self, name: &'static str, values: Vec<usize>) -> Self {
        self.indices.push(Operand { name, values, per_item: None, length: Length::Exact });
        self
    }

    /// The next list of labels or places, of which each item has one.
    pub fn index_per_item(mut self, name: &'static str, values: Vec<usize>) -> Self {
        self.indices.push(Operand { name, values, per_item: Some(1), length: Length::Exact });
        self
    }

    /// The next output, all of it written: it holds NaN before.
    pub fn output(self, name: &'static str, len: usize) -> Self {
        self.in_place(name, vec![T::NAN; len])
    }

    /// The next output, all of it written, of which each item has `per_item` elements.
    pub fn output_per_item(mut self, name: &'static str, per_item: usize, len: usize) -> Self {
        self.outputs.push(Operand {
            name,
            values: vec![T::NAN; len],
            per_item: Some(per_item),
            length: Length::Exact,
        });
        self
    }

    /// The next output, which holds something that counts.
    pub fn in_place(mut self, name: &'static str, values: Vec<T>) -> Self {
        self.outputs.push(Operand { name, values, per_item: None, length: Length::Exact });
        self
    }

    /// The next output, which holds something that counts, `per_item` elements for each item.
    pub fn in_place_per_item(mut self, name: &'static str, per_item: usize, values: Vec<T>) -> Self {
        self.outputs.push(Operand { name, values, per_item: Some(per_item), length: Length::Exact });
        self
    }

    /// Other lengths of these operands are right, too.
    pub fn lengths(mut self, length: Length, names: &[&str]) -> Self {
        for name in names {
            let elements = self.inputs.iter_mut().chain(&mut self.outputs).map(|x| (x.name, &mut x.length));
            let mut all = elements.chain(self.indices.iter_mut().map(|x| (x.name, &mut x.length)));
            *all.find(|(operand, _)| operand == name).expect("an operand of this name").1 = length;
        }
        self
    }

    /// With fewer kinds of special numbers than [`Special::Limits`] the reference says what comes out.
    pub fn special(mut self, special: Special) -> Self {
        self.special = special;
        self
    }

    /// The call.
    pub fn run<const I: usize, const N: usize, const O: usize>(
        mut self,
        run: impl Fn([&[T]; I], [&mut [usize]; N], [&mut [T]; O]) -> Result<()> + 'static,
    ) -> Self {
        assert_eq!([I, N, O], [self.inputs.len(), self.indices.len(), self.outputs.len()], "{}", self.what);
        self.run = Some(run_boxed(run));
        self
    }

    /// What the outputs must be, from inputs, indices and what the outputs held before.
    pub fn expect<const I: usize, const N: usize, const O: usize>(
        mut self,
        expect: impl Fn([&[f64]; I], [&[usize]; N], [&[f64]; O]) -> [Vec<Near>; O] + 'static,
    ) -> Self {
        assert_eq!([I, N, O], [self.inputs.len(), self.indices.len(), self.outputs.len()], "{}", self.what);
        self.expect = Some(Box::new(move |inputs, indices, outputs| {
            Vec::from(expect(
                std::array::from_fn(|i| &inputs[i][..]),
                std::array::from_fn(|i| &indices[i][..]),
                std::array::from_fn(|i| &outputs[i][..]),
            ))
        }));
        self
    }

    /// A call with these operands that must give an error.
    pub fn refuses<const I: usize, const N: usize, const O: usize>(
        mut self,
        why: &'static str,
        run: impl Fn([&[T]; I], [&mut [usize]; N], [&mut [T]; O]) -> Result<()> + 'static,
    ) -> Self {
        self.refused.push((why, run_boxed(run)));
        self
    }

    /// Calls the kernel.
    pub fn call(
        &self,
        inputs: &[&[T]],
        indices: &mut [&mut [usize]],
        outputs: &mut [&mut [T]],
    ) -> Result<()> {
        self.run.as_ref().expect("a case has a call")(inputs, indices, outputs)
    }

    /// What the outputs must be.
    pub fn expected(&self) -> Vec<Vec<Near>> {
        let wide = |operands: &[Operand<T>]| -> Vec<Vec<f64>> {
            operands.iter().map(|x| x.values.iter().map(|x| x.to_f64()).collect()).collect()
        };
        let indices: Vec<_> = self.indices.iter().map(|x| x.values.clone()).collect();
        self.expect.as_ref().expect("a case has a reference")(
            &wide(&self.inputs),
            &indices,
            &wide(&self.outputs),
        )
    }

    /// The outputs of a call with operands of its own.
    pub fn results(&self) -> Result<Vec<Vec<T>>> {
        self.results_where(|call| call())
    }

    /// The outputs of a call with operands of its own, which `within` makes.
    pub fn results_where(
        &self,
        within: impl FnOnce(&mut dyn FnMut() -> Result<()>) -> Result<()>,
    ) -> Result<Vec<Vec<T>>> {
        let mut outputs: Vec<Vec<T>> = self.outputs.iter().map(|x| x.values.clone()).collect();
        let mut indices: Vec<Vec<usize>> = self.indices.iter().map(|x| x.values.clone()).collect();
        let inputs: Vec<&[T]> = self.inputs.iter().map(|x| &x.values[..]).collect();
        let mut index_slices: Vec<&mut [usize]> = indices.iter_mut().map(|x| &mut x[..]).collect();
        let mut slices: Vec<&mut [T]> = outputs.iter_mut().map(|x| &mut x[..]).collect();
        within(&mut || self.call(&inputs, &mut index_slices, &mut slices))?;
        outputs.extend(indices.iter().map(|x| x.iter().map(|&i| T::from_f64(i as f64)).collect()));
        Ok(outputs)
    }

    /// An error unless the outputs are what they must be: the name, the place and the numbers.
    pub fn check(&self, results: &[Vec<T>]) -> std::result::Result<(), String> {
        // Results that are subnormal have lost a few of the smallest steps.
        let tiny = 8.0 * if T::NAME == "f32" { 2f64.powi(-149) } else { f64::from_bits(1) };
        for ((operand, actual), expected) in self.outputs.iter().zip(results).zip(self.expected()) {
            assert_eq!(actual.len(), expected.len(), "{}: length of the reference", operand.name);
            for (i, (actual, Near { exact, bound })) in actual.iter().zip(expected).enumerate() {
                let actual = actual.to_f64();
                let in_range = T::from_f64(exact).to_f64();
                let alike = actual.is_nan() && exact.is_nan() || actual == in_range;
                // False of NaN.
                let is_near = (actual - exact).abs() <= bound + tiny;
                if !alike && !is_near && bound != f64::INFINITY {
                    return Err(format!(
                        "{} {}: {}[{i}] is {actual:e}, expected {exact:e}: error {:e} > {bound:e}",
                        T::NAME,
                        self.what,
                        operand.name,
                        (actual - exact).abs()
                    ));
                }
            }
        }
        Ok(())
    }

    /// The case of the items `from..to` alone, if the kernel has items that do not know each other.
    pub fn part(&self, from: usize, to: usize) -> Option<Operands<T>> {
        let cut = |x: &Operand<T>| match x.per_item {
            Some(n) => x.values[from * n..to * n].to_vec(),
            None => x.values.clone(),
        };
        let indices = self.indices.iter().map(|x| match x.per_item {
            Some(n) => x.values[from * n..to * n].to_vec(),
            None => x.values.clone(),
        });
        let whole = self.outputs.iter().any(|x| x.per_item.is_none());
        (!whole).then(|| {
            let inputs = self.inputs.iter().map(cut).collect();
            (inputs, indices.collect(), self.outputs.iter().map(cut).collect())
        })
    }

    /// The number of items, of a kernel that has some.
    pub fn items(&self) -> usize {
        let len = |x: &Operand<T>| x.per_item.map(|n| x.values.len() / n.max(1));
        self.outputs.iter().filter_map(len).max().unwrap_or(0)
    }
}

/// Half the distance from 1 to the next number: the largest relative error of one rounding.
pub fn unit<T: Element>() -> f64 {
    T::EPSILON.to_f64() / 2.0
}

/// ⌈log₂ n⌉.
pub fn log2_ceil(n: usize) -> f64 {
    f64::from(n.max(1).next_power_of_two().trailing_zeros())
}
