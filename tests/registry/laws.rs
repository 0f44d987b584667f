//! Checks of one case: two results with the same bits, calls that must be refused.

use gristmill::Element;

use super::{Case, Length, Operand};

/// The bits of results; NaN has many.
fn bits<T: Element>(results: &[Vec<T>]) -> Vec<Vec<u64>> {
    let bits = |x: &T| if x.is_nan() { u64::MAX } else { x.to_f64().to_bits() };
    results.iter().map(|x| x.iter().map(bits).collect()).collect()
}

/// An error that names the first result that differs.
pub fn same<T: Element>(
    case: &Case<T>,
    what: &str,
    actual: &[Vec<T>],
    expected: &[Vec<T>],
) -> Result<(), String> {
    let names = case.outputs.iter().map(|x| x.name).chain(case.indices.iter().map(|x| x.name));
    for (name, (actual, expected)) in names.zip(bits(actual).iter().zip(bits(expected))) {
        let differs = |&i: &usize| actual[i] != expected[i];
        if let Some(i) = (0..expected.len()).find(differs) {
            let [actual, expected] = [actual[i], expected[i]].map(f64::from_bits);
            return Err(format!(
                "{} {}: {what} {name}[{i}] is {actual:e}, before {expected:e}",
                T::NAME,
                case.what
            ));
        }
    }
    Ok(())
}

/// The same operand with one element less or more, if that must be an error.
fn wrong_lengths<E: Copy>(operands: &[Operand<E>]) -> impl Iterator<Item = (usize, isize)> {
    operands.iter().enumerate().flat_map(|(i, x)| {
        let shorter = !x.values.is_empty() && x.length != Length::Any;
        // An empty output is one that is not wanted.
        let shorter = shorter && x.values.len() > 1;
        let longer = !x.values.is_empty() && x.length == Length::Exact;
        [shorter.then_some((i, -1)), longer.then_some((i, 1))].into_iter().flatten()
    })
}

fn resize<E: Copy>(x: &mut Vec<E>, by: isize) {
    let last = *x.last().expect("an operand with elements");
    x.resize((x.len() as isize + by) as usize, last);
}

/// A change of inputs, indices and outputs.
type Change<'a, T> = &'a dyn Fn(&mut Vec<Vec<T>>, &mut Vec<Vec<usize>>, &mut Vec<Vec<T>>);

/// Wrong lengths, and what the entry names, are errors; outputs stay as they were.
pub fn refused<T: Element>(case: &Case<T>) -> Result<(), String> {
    let operands = || {
        let values = |x: &[Operand<T>]| -> Vec<Vec<T>> { x.iter().map(|x| x.values.clone()).collect() };
        let indices: Vec<Vec<usize>> = case.indices.iter().map(|x| x.values.clone()).collect();
        (values(&case.inputs), indices, values(&case.outputs))
    };
    let check = |why: &str, change: Change<'_, T>, nth: Option<usize>| {
        let (mut inputs, mut indices, mut outputs) = operands();
        change(&mut inputs, &mut indices, &mut outputs);
        let before = outputs.clone();
        let inputs: Vec<&[T]> = inputs.iter().map(|x| &x[..]).collect();
        let mut index_slices: Vec<&mut [usize]> = indices.iter_mut().map(|x| &mut x[..]).collect();
        let mut slices: Vec<&mut [T]> = outputs.iter_mut().map(|x| &mut x[..]).collect();
        let called = match nth {
            None => case.call(&inputs, &mut index_slices, &mut slices),
            Some(i) => (case.refused[i].1)(&inputs, &mut index_slices, &mut slices),
        };
        if called.is_ok() {
            return Err(format!("{} {}: no error for {why}", T::NAME, case.what));
        }
        same(case, &format!("after an error for {why}"), &outputs, &before)
    };
    for (i, by) in wrong_lengths(&case.inputs) {
        check(
            &format!("{by:+} elements of {}", case.inputs[i].name),
            &|x, _, _| resize(&mut x[i], by),
            None,
        )?;
    }
    for (i, by) in wrong_lengths(&case.indices) {
        check(
            &format!("{by:+} elements of {}", case.indices[i].name),
            &|_, x, _| resize(&mut x[i], by),
            None,
        )?;
    }
    for (i, by) in wrong_lengths(&case.outputs) {
        check(
            &format!("{by:+} elements of {}", case.outputs[i].name),
            &|_, _, x| resize(&mut x[i], by),
            None,
        )?;
    }
    // Of nothing, rows may have any length.
    let empty = case.inputs.iter().chain(&case.outputs).next().is_none_or(|x| x.values.is_empty());
    for (i, (why, _)) in case.refused.iter().enumerate().filter(|_| !empty) {
        check(why, &|_, _, _| (), Some(i))?;
    }
    Ok(())
}
