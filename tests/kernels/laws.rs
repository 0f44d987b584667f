//! What every kernel promises, of each in the registry: near its reference, the same bits everywhere, no byte
//! read or written outside its operands, an error for operands that do not fit.

use std::collections::BTreeSet;

use gristmill::{Context, Element, Isa, Subnormals};
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};

#[cfg(unix)]
use crate::common::guard::Guarded;
use crate::common::{environment, on_every_isa};
use crate::registry::laws::{refused, same};
use crate::registry::names::public_kernels;
use crate::registry::{Case, Draw, Kernel, Operand, Special, kernels};

#[test]
fn no_kernel_is_forgotten() {
    let public = public_kernels();
    let registered: BTreeSet<String> = kernels().map(|kernel| kernel.name.to_string()).collect();
    assert_eq!(registered.len(), kernels().count(), "an entry stands twice");
    let missing: Vec<_> = public.difference(&registered).collect();
    assert!(missing.is_empty(), "not in tests/registry: {missing:?}");
    let unknown: Vec<_> = registered.difference(&public).collect();
    assert!(unknown.is_empty(), "in tests/registry, but not in src/kernels: {unknown:?}");
}

#[test]
fn the_readme_lists_every_family() {
    let readme = include_str!("../../README.md");
    let table = readme.split("| module of `gristmill::kernels` |").nth(1).expect("a table of kernels");
    let table = table.split("\n\n").next().unwrap_or_default();
    let families: BTreeSet<&str> = kernels().filter_map(|kernel| kernel.name.split("::").next()).collect();
    let first_cells: Vec<_> = table.lines().filter_map(|row| row.split('|').nth(1)).collect();
    for family in families {
        let name = format!("`{family}`");
        assert!(
            first_cells.iter().any(|cell| cell.contains(&name)),
            "README's table of kernels has no {name}"
        );
    }
}

/// Runs `law` with cases of all kernels, or of those whose names begin with GRISTMILL_KERNELS, made from
/// bytes that shrink.
fn hold(cases: u32, law: impl Fn(&Kernel, &[u8]) -> Result<(), String>) {
    let chosen = std::env::var("GRISTMILL_KERNELS").unwrap_or_default();
    for kernel in kernels().filter(|kernel| kernel.name.starts_with(&chosen)) {
        let config = Config {
            cases: cases * kernel.times,
            source_file: Some(file!()),
            failure_persistence: Some(Box::new(FileFailurePersistence::SourceParallel(
                "proptest-regressions",
            ))),
            ..Config::default()
        };
        let held = TestRunner::new(config).run(&vec(any::<u8>(), 0..80), |bytes| {
            law(kernel, &bytes).map_err(|message| TestCaseError::fail(format!("{}: {message}", kernel.name)))
        });
        if let Err(error) = held {
            panic!("{error}");
        }
    }
}

/// An error unless the case gives what its reference gives, on every instruction set.
pub fn near<T: Element>(case: &Case<T>) -> Result<(), String> {
    for isa in Isa::available() {
        let results = Context::new().isa(isa).run(|| case.results()).unwrap();
        let results = results.map_err(|error| format!("{}: {error}", case.what))?;
        case.check(&results).map_err(|message| format!("{isa} {message}"))?;
    }
    Ok(())
}

#[test]
fn results_are_near_the_reference() {
    hold(48, |kernel, bytes| {
        for special in [Special::No, Special::Limits] {
            let case = (kernel.f32)(&mut Draw::new(bytes, special));
            if special == Special::No || case.special != Special::No {
                near(&case)?;
                near(&(kernel.f64)(&mut Draw::new(bytes, special)))?;
            }
        }
        Ok(())
    });
}

#[test]
fn large_results_are_near_the_reference() {
    hold(2, |kernel, bytes| {
        near(&(kernel.f32)(&mut Draw::large(bytes, Special::No)))?;
        near(&(kernel.f64)(&mut Draw::large(bytes, Special::No)))
    });
}

fn same_on_all<T: Element>(case: &Case<T>) -> Result<(), String> {
    let mut first: Option<Vec<Vec<T>>> = None;
    for isa in Isa::available().filter(|isa| isa.has_fma()) {
        for threads in [1, 2, 3, 7] {
            let results = Context::new().isa(isa).threads(threads).run(|| case.results()).unwrap();
            let results = results.map_err(|error| error.to_string())?;
            let first = first.get_or_insert_with(|| results.clone());
            same(case, &format!("with {isa} and {threads} threads"), &results, first)?;
        }
    }
    Ok(())
}

#[test]
fn bits_are_the_same_on_every_isa_and_number_of_threads() {
    hold(24, |kernel, bytes| {
        same_on_all(&(kernel.f32)(&mut Draw::new(bytes, Special::All)))?;
        same_on_all(&(kernel.f64)(&mut Draw::new(bytes, Special::All)))
    });
    hold(3, |kernel, bytes| {
        for special in [Special::No, Special::All] {
            same_on_all(&(kernel.f32)(&mut Draw::large(bytes, special)))?;
            same_on_all(&(kernel.f64)(&mut Draw::large(bytes, special)))?;
        }
        Ok(())
    });
}

/// The same bits, and the caller's control bits untouched, whatever the process has set; and `subnormals` are
/// obeyed on every instruction set alike.
fn same_in_every_environment<T: Element>(case: &Case<T>, subnormals: Subnormals) -> Result<(), String> {
    let mut first: Option<Vec<Vec<T>>> = None;
    for isa in Isa::available() {
        let mut of_this_isa = None;
        // Without fused multiply-add bits are others.
        let first = if isa.has_fma() { &mut first } else { &mut of_this_isa };
        for threads in [1, 3] {
            let context = Context::new().isa(isa).threads(threads).subnormals(subnormals);
            for within in environment::all() {
                let name = within.0;
                let results =
                    case.results_where(|call| context.run(|| environment::run(within, call)).unwrap());
                let results = results.map_err(|error| error.to_string())?;
                let first = first.get_or_insert_with(|| results.clone());
                same(case, &format!("with {isa}, {threads} threads, {name}"), &results, first)?;
            }
        }
    }
    Ok(())
}

#[test]
fn bits_are_the_same_in_every_floating_point_environment() {
    hold(8, |kernel, bytes| {
        for special in [Special::No, Special::All] {
            same_in_every_environment(&(kernel.f32)(&mut Draw::new(bytes, special)), Subnormals::Keep)?;
            same_in_every_environment(&(kernel.f64)(&mut Draw::new(bytes, special)), Subnormals::Keep)?;
        }
        Ok(())
    });
    hold(1, |kernel, bytes| {
        same_in_every_environment(&(kernel.f32)(&mut Draw::large(bytes, Special::All)), Subnormals::Keep)?;
        same_in_every_environment(&(kernel.f64)(&mut Draw::large(bytes, Special::All)), Subnormals::Keep)
    });
}

#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
#[test]
fn flushed_bits_are_the_same_in_every_floating_point_environment() {
    hold(8, |kernel, bytes| {
        same_in_every_environment(&(kernel.f32)(&mut Draw::new(bytes, Special::All)), Subnormals::Flush)?;
        same_in_every_environment(&(kernel.f64)(&mut Draw::new(bytes, Special::All)), Subnormals::Flush)
    });
    hold(1, |kernel, bytes| {
        same_in_every_environment(&(kernel.f32)(&mut Draw::large(bytes, Special::All)), Subnormals::Flush)?;
        same_in_every_environment(&(kernel.f64)(&mut Draw::large(bytes, Special::All)), Subnormals::Flush)
    });
}

/// A slice that starts `offset` elements behind a multiple of 64 bytes.
struct Aligned<E> {
    memory: Vec<E>,
    start: usize,
    len: usize,
}

impl<E: Copy> Aligned<E> {
    fn new(operand: &Operand<E>, offset: usize) -> Self {
        let Some(&filler) = operand.values.first() else {
            return Self { memory: Vec::new(), start: 0, len: 0 };
        };
        let lanes = 64 / size_of::<E>();
        let mut memory = vec![filler; operand.values.len() + 2 * lanes];
        let start = memory.as_ptr().align_offset(64) + offset % lanes;
        memory[start..][..operand.values.len()].copy_from_slice(&operand.values);
        Self { memory, start, len: operand.values.len() }
    }

    fn get(&self) -> &[E] {
        &self.memory[self.start..][..self.len]
    }

    fn get_mut(&mut self) -> &mut [E] {
        &mut self.memory[self.start..][..self.len]
    }
}

/// Each operand `offset` elements, and one more than the operand before it, behind a multiple of 64 bytes.
fn misaligned<T: Element>(case: &Case<T>, offset: usize) -> gristmill::Result<Vec<Vec<T>>> {
    let inputs: Vec<_> = case.inputs.iter().enumerate().map(|(i, x)| Aligned::new(x, offset + i)).collect();
    let mut indices: Vec<_> = case.indices.iter().map(|x| Aligned::new(x, offset)).collect();
    let mut outputs: Vec<_> =
        case.outputs.iter().enumerate().map(|(i, x)| Aligned::new(x, 5 * i + offset)).collect();
    case.call(
        &inputs.iter().map(Aligned::get).collect::<Vec<_>>(),
        &mut indices.iter_mut().map(Aligned::get_mut).collect::<Vec<_>>(),
        &mut outputs.iter_mut().map(Aligned::get_mut).collect::<Vec<_>>(),
    )?;
    Ok(outputs.iter().map(|x| x.get().to_vec()).collect())
}

fn same_at_every_alignment<T: Element>(case: &Case<T>) -> Result<(), String> {
    for isa in Isa::available() {
        let run = || -> Result<(), String> {
            let first = case.results().map_err(|error| error.to_string())?;
            for offset in 0..64 / size_of::<T>() {
                let results = misaligned(case, offset).map_err(|error| error.to_string())?;
                same(case, &format!("{isa}, {} bytes off", offset * size_of::<T>()), &results, &first)?;
            }
            Ok(())
        };
        Context::new().isa(isa).run(run).unwrap()?;
    }
    Ok(())
}

#[test]
fn bits_are_the_same_at_every_alignment() {
    hold(6, |kernel, bytes| {
        same_at_every_alignment(&(kernel.f32)(&mut Draw::new(bytes, Special::All)))?;
        same_at_every_alignment(&(kernel.f64)(&mut Draw::new(bytes, Special::All)))
    });
}

/// Items, elements or rows, give alone what they give among others: first, in any lane, and in a tail.
fn same_in_every_place<T: Element>(case: &Case<T>) -> Result<(), String> {
    let items = case.items();
    let ends = [1, 2, 7, 8, 15, 16, 17, 33];
    for isa in Isa::available() {
        let run = || -> Result<(), String> {
            let whole = case.results().map_err(|error| error.to_string())?;
            for from in (0..items.min(20)).chain(items.saturating_sub(3)..items) {
                for to in ends.map(|n| from + n).into_iter().filter(|&to| to <= items) {
                    let Some((inputs, mut indices, mut outputs)) = case.part(from, to) else { return Ok(()) };
                    let called = case.call(
                        &inputs.iter().map(|x| &x[..]).collect::<Vec<_>>(),
                        &mut indices.iter_mut().map(|x| &mut x[..]).collect::<Vec<_>>(),
                        &mut outputs.iter_mut().map(|x| &mut x[..]).collect::<Vec<_>>(),
                    );
                    called.map_err(|error| format!("{} from {from} to {to}: {error}", case.what))?;
                    let cut = |(operand, results): (&Operand<T>, &Vec<T>)| {
                        let n = operand.per_item.expect("all outputs have items");
                        results[from * n..to * n].to_vec()
                    };
                    let expected: Vec<_> = case.outputs.iter().zip(&whole).map(cut).collect();
                    same(case, &format!("{isa}, items {from} to {to} alone"), &outputs, &expected)?;
                }
            }
            Ok(())
        };
        Context::new().isa(isa).run(run).unwrap()?;
    }
    Ok(())
}

#[test]
fn bits_are_the_same_in_every_lane_and_tail() {
    hold(12, |kernel, bytes| {
        same_in_every_place(&(kernel.f32)(&mut Draw::new(bytes, Special::All)))?;
        same_in_every_place(&(kernel.f64)(&mut Draw::new(bytes, Special::All)))
    });
}

#[cfg(unix)]
fn guarded<E: Copy>(operands: &[Operand<E>], at_end: bool) -> Vec<Guarded<E>> {
    let place = |x: &Operand<E>| {
        if at_end { Guarded::before_the_end(&x.values) } else { Guarded::after_the_start(&x.values) }
    };
    operands.iter().map(place).collect()
}

/// With unmapped pages right before and right after each operand; who touches one dies with SIGSEGV.
#[cfg(unix)]
fn within_guards<T: Element>(name: &str, case: &Case<T>) {
    for at_end in [false, true] {
        on_every_isa(|isa| {
            let inputs = guarded(&case.inputs, at_end);
            let (mut indices, mut outputs) = (guarded(&case.indices, at_end), guarded(&case.outputs, at_end));
            let called = case.call(
                &inputs.iter().map(|x| &x[..]).collect::<Vec<_>>(),
                &mut indices.iter_mut().map(|x| &mut x[..]).collect::<Vec<_>>(),
                &mut outputs.iter_mut().map(|x| &mut x[..]).collect::<Vec<_>>(),
            );
            called.unwrap_or_else(|error| panic!("{name}, {isa}, {}: {error}", case.what));
            for (input, operand) in inputs.iter().zip(&case.inputs) {
                let same = |(a, b): (&T, &T)| a.to_f64().to_bits() == b.to_f64().to_bits();
                assert!(input.iter().zip(&operand.values).all(same), "{name} wrote {}", operand.name);
            }
        });
    }
}

#[cfg(unix)]
#[test]
fn nothing_outside_the_operands_is_touched() {
    hold(12, |kernel, bytes| {
        within_guards(kernel.name, &(kernel.f32)(&mut Draw::new(bytes, Special::All)));
        within_guards(kernel.name, &(kernel.f64)(&mut Draw::new(bytes, Special::All)));
        Ok(())
    });
}

#[test]
fn operands_that_do_not_fit_are_refused_and_nothing_is_written() {
    hold(24, |kernel, bytes| {
        refused(&(kernel.f32)(&mut Draw::new(bytes, Special::No)))?;
        refused(&(kernel.f64)(&mut Draw::new(bytes, Special::No)))
    });
}
