//! The functions against exact values: the bounds of docs/NUMERICS.md on every instruction set, and the same bits on
//! all that have fused multiply-add.

mod common;

use common::narrow;
use gristmill::kernels::map::{self, Unary};
use gristmill::{Context, Element, Isa, reference::map as reference};

/// A function under the name that the table has for it, and its value in f64.
struct Function {
    name: &'static str,
    f32: Unary<f32>,
    f64: Unary<f64>,
    /// With an error of a few ULP of f64, which is 2⁻²⁷ ULP of f32.
    exact: fn(f64) -> f64,
    /// The bound holds from here on: below it a difference cancels.
    from: f64,
}

macro_rules! functions {
    ($($name:literal $op:expr, $exact:expr $(, from $from:expr)?;)+) => {
        vec![$(Function {
            name: $name,
            f32: $op,
            f64: $op,
            exact: $exact,
            from: [$($from,)? f64::NEG_INFINITY][0],
        }),+]
    };
}

/// All but those that are one operation of the processor, and powers.
fn functions() -> Vec<Function> {
    functions! {
        "exp" Unary::Exp, f64::exp;
        "exp2" Unary::Exp2, f64::exp2;
        "expm1" Unary::Expm1, f64::exp_m1;
        "ln" Unary::Ln, f64::ln;
        "log2" Unary::Log2, f64::log2;
        "log1p" Unary::Log1p, f64::ln_1p;
        "tanh" Unary::Tanh, f64::tanh;
        "sigmoid" Unary::Sigmoid, reference::sigmoid;
        "log_sigmoid" Unary::LogSigmoid, reference::log_sigmoid;
        "erf" Unary::Erf, libm::erf;
        "silu" Unary::Silu, reference::silu;
        "softplus" Unary::Softplus, reference::softplus;
        "elu" Unary::Elu { alpha: 1.0 }, |x| reference::elu(x, 1.0);
        "gelu" Unary::Gelu, |x| 0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2), from 0.0;
        "gelu_tanh" Unary::GeluTanh, reference::gelu_tanh, from 0.0;
        "rsqrt" Unary::Rsqrt, reference::rsqrt;
        "sqrt" Unary::Sqrt, f64::sqrt;
        "reciprocal" Unary::Reciprocal, f64::recip;
        "square" Unary::Square, |x| x * x;
        "clamp" Unary::Clamp { min: -1.0, max: 1.0 }, |x| reference::clamp(x, -1.0, 1.0);
        "floor" Unary::Floor, f64::floor;
        "ceil" Unary::Ceil, f64::ceil;
        "round" Unary::Round, f64::round_ties_even;
        "sign" Unary::Sign, reference::sign;
    }
}

/// The kernel on one thread.
fn run<T: Element>(isa: Isa, op: Unary<T>, x: &[T]) -> Vec<T> {
    let mut y = vec![T::NAN; x.len()];
    Context::new().isa(isa).threads(1).run(|| map::unary(op, x, &mut y)).unwrap().unwrap();
    y
}

// The table of docs/NUMERICS.md.

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/NUMERICS.md");

/// A line of the table, `| function | type | FMA | bound | measured | at |`, in ULP.
struct Row {
    key: [String; 3],
    bound: f64,
    measured: f64,
}

fn row(line: &str) -> Option<Row> {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let [_, name, element, fma, bound, measured, _, _] = cells[..] else { return None };
    // A dash stands for what has not been measured yet.
    let (bound, measured) = (bound.parse().ok()?, measured.parse().unwrap_or(0.0));
    Some(Row { key: [name, element, fma].map(String::from), bound, measured })
}

fn key(name: &str, element: &str, isa: Isa) -> [String; 3] {
    [name, element, if isa.has_fma() { "yes" } else { "no" }].map(String::from)
}

fn bound(key: &[String; 3]) -> f64 {
    let table = std::fs::read_to_string(TABLE).unwrap();
    let row = table.lines().filter_map(row).find(|row| row.key == *key);
    row.unwrap_or_else(|| panic!("docs/NUMERICS.md has no row {key:?}")).bound
}

/// Compares a measured error with the table's bound.
#[track_caller]
fn check(key: &[String; 3], worst: Worst) {
    let Worst { ulp, x, y } = worst;
    println!("{}: {ulp:.3} ULP at {x:e}", key.join(" "));
    assert!(ulp <= bound(key), "{key:?}: {ulp} ULP at {x:e}, where it gave {y:e}");
}

/// Writes a measured error into its row of the table.
fn write(key: &[String; 3], worst: Worst) {
    let table = std::fs::read_to_string(TABLE).unwrap();
    let lines = table.lines().map(|line| match row(line) {
        Some(row) if row.key == *key => {
            let cells = [&row.key[0], &row.key[1], &row.key[2]].map(|cell| cell.as_str()).join(" | ");
            // Rounded up, so that the measured error is not above what stands there.
            let ulp = (worst.ulp * 1000.0).ceil() / 1000.0;
            format!("| {cells} | {:.1} | {ulp:.3} | {:e} |", row.bound, worst.x)
        }
        _ => line.to_string(),
    });
    let text: String = lines.map(|line| line + "\n").collect();
    std::fs::write(TABLE, text).unwrap();
}

#[test]
fn the_table_has_every_function_and_its_bounds_cover_what_was_measured() {
    let table = std::fs::read_to_string(TABLE).unwrap();
    let rows: Vec<Row> = table.lines().filter_map(row).collect();
    for function in functions() {
        for element in ["f32", "f64"] {
            for fma in ["yes", "no"] {
                let key = [function.name, element, fma].map(String::from);
                let row = rows.iter().find(|row| row.key == key).unwrap_or_else(|| panic!("no row {key:?}"));
                assert!(row.measured <= row.bound, "{key:?}: {} > {}", row.measured, row.bound);
            }
        }
    }
    assert_eq!(rows.len(), functions().len() * 4, "rows that no function has");
}

/// The largest error so far and where it is.
#[derive(Clone, Copy, Default)]
struct Worst {
    ulp: f64,
    x: f64,
    y: f64,
}

impl Worst {
    fn take(&mut self, ulp: f64, x: f64, y: f64) {
        // A NaN is the worst error, and stays.
        if ulp > self.ulp || ulp.is_nan() {
            *self = Self { ulp, x, y };
        }
    }
}

/// The error of `y` in ULP of the exact value; infinite when NaN or infinity is given for something else.
fn error_f32(y: f32, exact: f64) -> f64 {
    let nearest = exact as f32;
    if y.to_bits() == nearest.to_bits() && !nearest.is_finite() || y.is_nan() && exact.is_nan() {
        return 0.0;
    }
    if !y.is_finite()
        || !nearest.is_finite()
        || y == 0.0 && y.is_sign_negative() != nearest.is_sign_negative()
    {
        return f64::INFINITY;
    }
    let exponent = (exact.to_bits() >> 52 & 0x7FF).max(1023 - 126);
    // 2^(23 − exponent), normal for every f32.
    (f64::from(y) - exact).abs() * f64::from_bits((2046 + 23 - exponent) << 52)
}

/// The largest errors of the function at `x`, one for each instruction set.
fn measure_f32(function: &Function, x: &[f32], worst: &mut [Worst]) {
    let exact: Vec<f64> = x.iter().map(|&x| (function.exact)(x.into())).collect();
    for (isa, worst) in Isa::available().zip(worst) {
        for ((&x, y), &exact) in x.iter().zip(run(isa, function.f32, x)).zip(&exact) {
            if f64::from(x) >= function.from || x.is_nan() {
                worst.take(error_f32(y, exact), x.into(), y.into());
            }
        }
    }
}

fn nothing_measured() -> Vec<Worst> {
    vec![Worst::default(); Isa::available().count()]
}

/// Where formulas, exponents or results change: 100 numbers on either side, both signs.
fn structured_f32() -> Vec<f32> {
    let points = [
        0.0,
        f32::MIN_POSITIVE,
        0.5f32.powi(24),
        0.5f32.powi(12),
        0.5493061,
        0.55,
        0.3465736,
        0.5,
        1.5,
        2.5,
        0.29289323,
        0.41421357,
        std::f32::consts::FRAC_1_SQRT_2,
        1.0,
        1.0397208,
        std::f32::consts::SQRT_2,
        2.0,
        3.8325067,
        4.0,
        9.010913,
        10.0,
        16.635532,
        17.32868,
        20.0,
        87.33655,
        88.02969,
        88.72284,
        89.0,
        103.27893,
        120.0,
        126.0,
        127.0,
        128.0,
        149.0,
        150.0,
        151.0,
        103.97208,
        104.0,
        f32::MAX,
        f32::INFINITY,
    ];
    let around = |x: f32| (-100..=100).map(move |i| f32::from_bits(x.to_bits().wrapping_add_signed(i)));
    points.into_iter().flat_map(around).flat_map(|x| [x, -x]).collect()
}

#[test]
fn f32_stays_within_the_bounds() {
    let mut x = structured_f32();
    x.extend((0..=u32::MAX).step_by(997).map(f32::from_bits));
    for function in functions() {
        let mut worst = nothing_measured();
        x.chunks(1 << 14).for_each(|x| measure_f32(&function, x, &mut worst));
        for (isa, worst) in Isa::available().zip(worst) {
            check(&key(function.name, "f32", isa), worst);
        }
    }
}

/// The error of a function over all f32.
fn exhaust(function: &Function) -> Vec<Worst> {
    const BLOCK: u32 = 1 << 14;
    let next = std::sync::atomic::AtomicU32::new(0);
    let measure = || {
        let mut worst = nothing_measured();
        loop {
            let block = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if block > u32::MAX / BLOCK {
                return worst;
            }
            let x: Vec<f32> = (0..BLOCK).map(|i| f32::from_bits(block * BLOCK + i)).collect();
            measure_f32(function, &x, &mut worst);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let parts: Vec<Vec<Worst>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(measure)).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    let mut all = nothing_measured();
    for part in parts {
        for (all, part) in all.iter_mut().zip(part) {
            all.take(part.ulp, part.x, part.y);
        }
    }
    all
}

/// All 2³² arguments of the functions named in GRISTMILL_FUNCTIONS (separated by commas; all if it is not set), and the
/// exact values in f64. With GRISTMILL_BLESS=1 what was measured is written into the table.
#[test]
#[ignore = "about a minute per function on two cores; run with --release -- --ignored --nocapture"]
fn exhaustive_f32_stays_within_the_bounds() {
    let chosen = std::env::var("GRISTMILL_FUNCTIONS").ok();
    let bless = std::env::var_os("GRISTMILL_BLESS").is_some();
    let is_chosen = |name: &str| chosen.as_ref().is_none_or(|all| all.split(',').any(|one| one == name));
    for function in functions().iter().filter(|function| is_chosen(function.name)) {
        for (isa, worst) in Isa::available().zip(exhaust(function)) {
            settle(&key(function.name, "f32", isa), worst, bless);
        }
        for isa in Isa::available() {
            settle(&key(function.name, "f64", isa), measure_f64(isa, function), bless);
        }
    }
}

fn settle(key: &[String; 3], worst: Worst, bless: bool) {
    check(key, worst);
    if bless {
        write(key, worst);
    }
}

/// Lines of `name x y rest`: the exact value is y + rest ULP.
fn fixture(function: &Function) -> impl Iterator<Item = (f64, f64, f64)> {
    let name = function.name;
    let lines = include_str!("fixtures/math_f64.txt").lines().map(|line| line.split(' '));
    let bits = |text: &str| f64::from_bits(u64::from_str_radix(text, 16).unwrap());
    lines.filter_map(move |mut words| {
        let mut next = || words.next().unwrap();
        (next() == name).then(|| (bits(next()), bits(next()), next().parse().unwrap()))
    })
}

/// `y − nearest` in ULP of `nearest`; infinite when only one is finite, or a zero has the wrong sign.
fn distance_f64(y: f64, nearest: f64) -> f64 {
    if y.to_bits() == nearest.to_bits() || y.is_nan() && nearest.is_nan() {
        return 0.0;
    }
    if !y.is_finite()
        || !nearest.is_finite()
        || y == 0.0 && y.is_sign_negative() != nearest.is_sign_negative()
    {
        return f64::INFINITY;
    }
    let exponent = ((nearest.abs().to_bits() >> 52) as i32 - 1023).max(-1022);
    // In two steps, because 2^−1074 has no reciprocal.
    (y - nearest) * 2f64.powi(26 - exponent / 2) * 2f64.powi(26 - (exponent - exponent / 2))
}

/// The largest error over the exact values of tools/minimax.py. Functions that are one or two roundings have none: their
/// value is compared with the same operations of the standard library, which are correctly rounded.
fn measure_f64(isa: Isa, function: &Function) -> Worst {
    let mut values: Vec<(f64, f64, f64)> = fixture(function).collect();
    if values.is_empty() {
        let x = random_f64(30_000).into_iter().chain(narrow(&SPECIAL)).filter(|&x| x >= function.from);
        values = x.map(|x| (x, (function.exact)(x), 0.0)).collect();
    }
    let x: Vec<f64> = values.iter().map(|value| value.0).collect();
    let mut worst = Worst::default();
    for ((x, nearest, rest), y) in values.into_iter().zip(run(isa, function.f64, &x)) {
        worst.take((distance_f64(y, nearest) - rest).abs(), x, y);
    }
    worst
}

const SPECIAL: [f64; 8] =
    [0.0, -0.0, 1.0, -1.0, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE];

#[test]
fn f64_stays_within_the_bounds_at_exact_values() {
    for function in functions() {
        for isa in Isa::available() {
            check(&key(function.name, "f64", isa), measure_f64(isa, &function));
        }
    }
}

/// Uniform in the bits, then uniform in several ranges.
fn random_f64(count: usize) -> Vec<f64> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut x: Vec<f64> = (0..count).map(|_| f64::from_bits(next())).collect();
    for range in [0.4, 1.2, 4.0, 8.0, 25.0, 800.0] {
        x.extend((0..count).map(|_| range * (next() as f64 / 2f64.powi(63) - 1.0)));
    }
    x
}

#[test]
fn f64_stays_within_the_bounds_and_the_error_of_libm() {
    for function in functions() {
        // The reference errs by less than 1 ULP per rounded function in it, and none has more than three.
        let x: Vec<f64> = random_f64(30_000).into_iter().filter(|&x| x >= function.from).collect();
        let expected: Vec<f64> = x.iter().map(|&x| (function.exact)(x)).collect();
        for isa in Isa::available() {
            let mut worst = Worst::default();
            for ((&x, y), &expected) in x.iter().zip(run(isa, function.f64, &x)).zip(&expected) {
                // Where the result is tiny, factors of the reference are subnormal or 0.
                if expected.is_nan() || expected.abs() >= 1e-290 {
                    worst.take(distance_f64(y, expected).abs(), x, y);
                }
            }
            let limit = bound(&key(function.name, "f64", isa)) + 4.0;
            let Worst { ulp, x, y } = worst;
            assert!(ulp <= limit, "{} {isa}: {ulp} ULP of libm at {x:e}, where it gave {y:e}", function.name);
        }
    }
}

fn check_special_values<T: Element>(op: impl Fn(&Function) -> Unary<T>) {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let table: [(&str, &[(f64, f64)]); 13] = [
        ("exp", &[(-inf, 0.0), (-1e9, 0.0), (-0.0, 1.0), (0.0, 1.0), (1e9, inf), (inf, inf)]),
        ("exp2", &[(-inf, 0.0), (-1e9, 0.0), (-0.0, 1.0), (0.0, 1.0), (3.0, 8.0), (1e9, inf), (inf, inf)]),
        ("expm1", &[(-inf, -1.0), (-1e9, -1.0), (-0.0, -0.0), (0.0, 0.0), (1e9, inf), (inf, inf)]),
        ("ln", &[(-inf, nan), (-1.0, nan), (-0.0, -inf), (0.0, -inf), (1.0, 0.0), (inf, inf)]),
        ("log2", &[(-inf, nan), (-1.0, nan), (-0.0, -inf), (0.0, -inf), (1.0, 0.0), (8.0, 3.0), (inf, inf)]),
        ("log1p", &[(-inf, nan), (-2.0, nan), (-1.0, -inf), (-0.0, -0.0), (0.0, 0.0), (inf, inf)]),
        ("tanh", &[(-inf, -1.0), (-1e9, -1.0), (-0.0, -0.0), (0.0, 0.0), (1e9, 1.0), (inf, 1.0)]),
        ("sigmoid", &[(-inf, 0.0), (-1e9, 0.0), (-0.0, 0.5), (0.0, 0.5), (1e9, 1.0), (inf, 1.0)]),
        ("log_sigmoid", &[(-inf, -inf), (-1e9, -1e9), (1e9, -0.0), (inf, -0.0)]),
        ("erf", &[(-inf, -1.0), (-1e9, -1.0), (-0.0, -0.0), (0.0, 0.0), (1e9, 1.0), (inf, 1.0)]),
        ("silu", &[(-inf, -0.0), (-1e9, -0.0), (-0.0, -0.0), (0.0, 0.0), (1e9, 1e9), (inf, inf)]),
        ("rsqrt", &[(-inf, nan), (-1.0, nan), (-0.0, -inf), (0.0, inf), (4.0, 0.5), (inf, 0.0)]),
        (
            "round",
            &[(-inf, -inf), (-0.5, -0.0), (-0.0, -0.0), (0.5, 0.0), (1.5, 2.0), (2.5, 2.0), (inf, inf)],
        ),
    ];
    let functions = functions();
    for isa in Isa::available() {
        for (name, pairs) in table {
            let function = functions.iter().find(|function| function.name == name).unwrap();
            for &(x, y) in pairs.iter().chain(&[(nan, nan), (-nan, nan)]) {
                let [actual] = run(isa, op(function), &[T::from_f64(x)])[..] else { unreachable!() };
                let actual = actual.to_f64();
                assert!(
                    actual.to_bits() == y.to_bits() || actual.is_nan() && y.is_nan(),
                    "{isa} {} {name}({x:e}) = {actual:e}, expected {y:e}",
                    T::NAME
                );
            }
        }
    }
}

#[test]
fn special_values_give_what_the_table_says() {
    check_special_values::<f32>(|function| function.f32);
    check_special_values::<f64>(|function| function.f64);
}

fn bits<T: Element>(x: &[T]) -> Vec<u64> {
    x.iter().map(|x| if x.is_nan() { 0 } else { x.to_f64().to_bits() }).collect()
}

fn check_same_bits<T: Element>(x: &[T], op: impl Fn(&Function) -> Unary<T>) {
    for function in functions() {
        let mut expected = None;
        for isa in Isa::available() {
            let whole = bits(&run(isa, op(&function), x));
            let shifted = bits(&run(isa, op(&function), &x[3..]));
            let alone: Vec<u64> = x.iter().flat_map(|&x| bits(&run(isa, op(&function), &[x]))).collect();
            assert!(whole == alone && whole[3..] == shifted, "{isa} {} depends on the lane", function.name);
            if isa.has_fma() {
                assert!(*expected.get_or_insert_with(|| whole.clone()) == whole, "{isa} {}", function.name);
            }
        }
    }
}

#[test]
fn lanes_and_instruction_sets_give_the_same_bits() {
    check_same_bits(&structured_f32(), |function| function.f32);
    check_same_bits(&random_f64(500), |function| function.f64);
}
