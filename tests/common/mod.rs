//! What the tests share: every instruction set, random numbers, comparisons with the reference.
#![allow(dead_code)]

pub mod environment;
#[cfg(unix)]
pub mod guard;
pub mod smoke;

use gristmill::{Context, Element, Isa};

/// Runs `check` with every instruction set of this CPU.
pub fn on_every_isa(check: impl Fn(Isa)) {
    for isa in Isa::available() {
        Context::new().isa(isa).run(|| check(isa)).unwrap();
    }
}

/// Runs `make` with every instruction set with fused multiply-add and 1, 2, 3 and 7 threads; all must give
/// the same bits.
pub fn same_bits_everywhere<T: Element>(make: impl Fn() -> Vec<T>) {
    let mut expected: Option<Vec<u64>> = None;
    for isa in Isa::available().filter(|isa| isa.has_fma()) {
        for threads in [1, 2, 3, 7] {
            let values = Context::new().isa(isa).threads(threads).run(&make).unwrap();
            let bits: Vec<u64> = values.iter().map(|x| x.to_f64().to_bits()).collect();
            match &expected {
                None => expected = Some(bits),
                Some(expected) => assert!(*expected == bits, "{isa} with {threads} threads gives other bits"),
            }
        }
    }
}

/// As f64, exactly.
pub fn widen<T: Element>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.to_f64()).collect()
}

/// The nearest numbers of type `T`.
pub fn narrow<T: Element>(x: &[f64]) -> Vec<T> {
    x.iter().map(|&x| T::from_f64(x)).collect()
}

/// Repeatable numbers, uniform in [−1, 1), rounded to `T`.
pub fn noise<T: Element>(len: usize, seed: u64) -> Vec<T> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    for _ in 0..16 {
        next();
    }
    (0..len).map(|_| T::from_f64(next())).collect()
}

/// Half the distance from 1 to the next number: the largest relative error of one rounding.
pub fn unit<T: Element>() -> f64 {
    T::EPSILON.to_f64() / 2.0
}

/// Asserts `|actual − expected| ≤ bound(i)`, and that NaN and infinities agree.
#[track_caller]
pub fn assert_within<T: Element>(name: &str, actual: &[T], expected: &[f64], bound: impl Fn(usize) -> f64) {
    assert_eq!(actual.len(), expected.len(), "{name}: lengths");
    for (i, (&actual, &expected)) in actual.iter().zip(expected).enumerate() {
        let actual = actual.to_f64();
        let alike = (actual.is_nan() && expected.is_nan()) || actual == expected;
        let (error, bound) = ((actual - expected).abs(), bound(i));
        assert!(
            alike || error <= bound,
            "{name}[{i}] ({}): {actual:e}, expected {expected:e}: error {error:e} > {bound:e}",
            T::NAME
        );
    }
}

/// Asserts a relative error of each element within `relative`, or an absolute one within `absolute`.
#[track_caller]
pub fn assert_close<T: Element>(name: &str, actual: &[T], expected: &[f64], relative: f64, absolute: f64) {
    assert_within(name, actual, expected, |i| (expected[i].abs() * relative).max(absolute));
}

/// The cases of a file in tests/fixtures, which PyTorch computed in f64.
pub fn fixture(name: &str) -> Vec<serde_json::Value> {
    let path = format!("{}/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    file["cases"].as_array().unwrap().clone()
}

/// The elements of a tensor in a fixture, row by row.
pub fn data(tensor: &serde_json::Value) -> Vec<f64> {
    tensor["data"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}
