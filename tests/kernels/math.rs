//! The functions against exact values: the bounds of docs/NUMERICS.md on every instruction set, and the same
//! bits on all that have fused multiply-add.

use crate::common::narrow;
use gristmill::kernels::map::{self, Binary, Unary};
use gristmill::{Context, Element, Isa};
use sha2::{Digest, Sha256};

/// A function with its value in f64.
struct Function {
    name: &'static str,
    f32: Unary<f32>,
    f64: Unary<f64>,
    /// With an error of a few ULP of f64, which is 2⁻²⁷ ULP of f32.
    exact: Box<dyn Fn(f64) -> f64 + Send + Sync>,
    /// The bound holds from here on: below it a difference cancels.
    from: f64,
}

/// What is one operation of the processor or less and has no row in the table; powers have tests of their
/// own.
const LEFT_OUT: &[&str] = &["neg", "abs", "relu", "leaky_relu", "powf", "powi"];

/// All of the others.
fn functions() -> Vec<Function> {
    let pairs = Unary::all().into_iter().zip(Unary::all());
    let kept = pairs.filter(|(op, _): &(Unary<f32>, _)| !LEFT_OUT.contains(&op.name()));
    kept.map(|(f32, f64): (_, Unary<f64>)| {
        let (name, twin) = (f64.name(), f64.twin());
        Function {
            name,
            f32,
            f64,
            exact: match name {
                // More digits than our series have.
                "erf" => Box::new(libm::erf),
                "gelu" => Box::new(|x| 0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)),
                _ => Box::new(move |x| twin.value(x)),
            },
            from: if name.starts_with("gelu") { 0.0 } else { f64::NEG_INFINITY },
        }
    })
    .collect()
}

/// The kernel on one thread.
fn run<T: Element>(isa: Isa, op: Unary<T>, x: &[T]) -> Vec<T> {
    let mut y = vec![T::NAN; x.len()];
    Context::new().isa(isa).threads(1).run(|| map::unary(op, x, &mut y)).unwrap().unwrap();
    y
}

// The table of docs/NUMERICS.md.

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/NUMERICS.md");

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
    for power in POWERS {
        let of_power = rows.iter().filter(|row| row.key[0] == power);
        assert_eq!(of_power.filter(|row| row.measured <= row.bound).count(), 4, "{power}");
    }
    assert_eq!(rows.len(), (functions().len() + POWERS.len()) * 4, "rows that no function has");
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
        // Where erf changes its form, logarithms their exponent, and tanh loses its divisor's 1.
        0.8125,
        0.75,
        1.5,
        8.3178,
        8.6644,
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
        // Multiples of π/4, and where sin and cos go another way.
        std::f32::consts::FRAC_PI_4,
        std::f32::consts::FRAC_PI_2,
        std::f32::consts::PI,
        4.712389,
        std::f32::consts::TAU,
        1048575.9,
        1048576.0,
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

/// All 2³² arguments of the functions named in GRISTMILL_FUNCTIONS (separated by commas; all if it is not
/// set), and the exact values in f64. With GRISTMILL_BLESS=1 what was measured is written into the table.
#[test]
#[ignore = "about a minute per function on two cores; run with --release -- --ignored --nocapture"]
fn exhaustive_f32_stays_within_the_bounds() {
    let chosen = std::env::var("GRISTMILL_FUNCTIONS").ok();
    let bless = std::env::var_os("GRISTMILL_BLESS").is_some();
    let is_chosen = |name: &str| chosen.as_ref().is_none_or(|all| all.split(',').any(|one| one == name));
    for name in POWERS.into_iter().filter(|name| is_chosen(name)) {
        for isa in Isa::available() {
            for (element, worst) in ["f32", "f64"].into_iter().zip(measure_power(isa, name, 10_000_000)) {
                settle(&key(name, element, isa), worst, bless);
            }
        }
    }
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
    let lines = include_str!("../fixtures/math_f64.txt").lines().map(|line| line.split(' '));
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

/// The largest error over the exact values of tools/minimax.py. Functions that are one or two roundings have
/// none: their value is compared with the same operations of the standard library, which are correctly
/// rounded.
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

/// Functions of two arguments: not all pairs can be measured.
const POWERS: [&str; 2] = ["pow", "powi"];

/// `count` pairs of f32: bases of any size and near 1, exponents that lead to results of any size.
fn power_pairs(name: &str, count: usize) -> Vec<(f32, f32)> {
    let random: Vec<f64> = random_f64(count.div_ceil(6) + 1)[count.div_ceil(6) + 1..]
        .iter()
        .zip([0.4, 1.2, 4.0, 8.0, 25.0, 800.0].iter().flat_map(|range| vec![range; count.div_ceil(6) + 1]))
        .map(|(x, range)| x / range)
        .collect();
    let pair = |i: usize| {
        let [a, b] = [random[i], random[(i * 7 + 3) % random.len()]];
        let base = match i % 3 {
            0 => (a * 149.0).exp2(),
            1 => 1.0 + a * (-22.0 * b.abs()).exp2(),
            _ => 0.05 + a.abs() * 4.0,
        } as f32;
        let exponent = (b * 152.0 / f64::from(base).log2()) as f32;
        match name {
            "pow" => (base, exponent),
            // A whole number, and the base that leads to the same size.
            _ => {
                let n = exponent.clamp(-1e9, 1e9).round();
                let base = if n == 0.0 { base } else { (b * 152.0 / f64::from(n)).exp2() as f32 };
                (if i.is_multiple_of(2) { base } else { -base }, n)
            }
        }
    };
    (0..count).map(pair).collect()
}

fn run_power<T: Element>(isa: Isa, name: &str, pairs: &[(T, T)]) -> Vec<T> {
    let (a, b): (Vec<T>, Vec<T>) = pairs.iter().copied().unzip();
    if name == "powi" {
        return a.iter().zip(b).map(|(&a, b)| run(isa, Unary::Powi(b.to_f64() as i32), &[a])[0]).collect();
    }
    let mut y = vec![T::NAN; a.len()];
    Context::new().isa(isa).threads(1).run(|| map::binary(Binary::Pow, &a, &b, &mut y)).unwrap().unwrap();
    y
}

/// The largest errors of `count` pairs of f32, and of the exact values in f64.
fn measure_power(isa: Isa, name: &str, count: usize) -> [Worst; 2] {
    let mut worst = [Worst::default(); 2];
    let pairs = power_pairs(name, count);
    for (&(a, b), y) in pairs.iter().zip(run_power(isa, name, &pairs)) {
        worst[0].take(error_f32(y, f64::from(a).powf(b.into())), a.into(), y.into());
    }
    let bits = |text: &str| f64::from_bits(u64::from_str_radix(text, 16).unwrap());
    let lines: Vec<[f64; 4]> = include_str!("../fixtures/pow_f64.txt")
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            [bits(words[0]), bits(words[1]), bits(words[2]), words[3].parse().unwrap()]
        })
        .collect();
    let pairs: Vec<(f64, f64)> = lines.iter().map(|line| (line[0], line[1])).collect();
    for (line, y) in lines.iter().zip(run_power(isa, name, &pairs)) {
        worst[1].take((distance_f64(y, line[2]) - line[3]).abs(), line[0], y);
    }
    worst
}

#[test]
fn powers_stay_within_the_bounds() {
    for name in POWERS {
        for isa in Isa::available() {
            for (element, worst) in ["f32", "f64"].into_iter().zip(measure_power(isa, name, 60_000)) {
                check(&key(name, element, isa), worst);
            }
        }
    }
}

/// C99, F.9.4.4, and what follows from it for whole exponents.
#[test]
fn powers_have_the_special_cases_of_c() {
    fn check<T: Element>() {
        let (inf, nan, tiny) = (f64::INFINITY, f64::NAN, f64::from_bits(1));
        let huge = if T::NAME == "f32" { f64::from(f32::MAX) } else { f64::MAX };
        let bases = [0.0, 0.5, 1.0, 2.0, 3.0, huge, inf, nan];
        let exponents = [
            0.0,
            0.5,
            1.0,
            2.0,
            3.0,
            7.5,
            1e9,
            9007199254740991.0,
            huge,
            inf,
            nan,
            if T::NAME == "f64" { tiny } else { 0.5 },
        ];
        let both = |x: &[f64]| -> Vec<f64> { x.iter().flat_map(|&x| [x, -x]).collect() };
        for a in both(&bases) {
            for b in both(&exponents) {
                let (a, b) = (T::from_f64(a), T::from_f64(b));
                // The C library's; rounded to T where that is f32.
                let exact = T::from_f64(a.to_f64().powf(b.to_f64()));
                for isa in Isa::available() {
                    let y = run_power(isa, "pow", &[(a, b)])[0];
                    let near = (y.to_f64() / exact.to_f64() - 1.0).abs() <= 2.0 * T::EPSILON.to_f64();
                    let same = y.to_f64().to_bits() == exact.to_f64().to_bits();
                    let alike = y.is_nan() && exact.is_nan() || same || near && exact.is_finite();
                    assert!(alike, "{isa} {} {a}^{b} = {y}, expected {exact}", T::NAME);
                    let whole = b.to_f64() as i32;
                    if f64::from(whole) == b.to_f64() {
                        let y = run_power(isa, "powi", &[(a, b)])[0];
                        let near = (y.to_f64() / exact.to_f64() - 1.0).abs() <= 2.0 * T::EPSILON.to_f64();
                        let same = y.to_f64().to_bits() == exact.to_f64().to_bits();
                        assert!(
                            y.is_nan() && exact.is_nan() || same || near && exact.is_finite(),
                            "{isa} {a} to the {whole}: {y}, expected {exact}"
                        );
                    }
                }
            }
        }
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn powers_have_the_same_bits_in_every_lane_and_on_every_isa() {
    fn check<T: Element>(pairs: &[(T, T)]) {
        let mut expected = None;
        for isa in Isa::available().filter(|isa| isa.has_fma()) {
            let whole = bits(&run_power(isa, "pow", pairs));
            let alone: Vec<u64> =
                pairs.iter().flat_map(|&pair| bits(&run_power(isa, "pow", &[pair]))).collect();
            assert!(whole == alone, "{isa} depends on the lane");
            assert!(*expected.get_or_insert_with(|| whole.clone()) == whole, "{isa}");
        }
    }
    let pairs = power_pairs("pow", 3001);
    check::<f32>(&pairs);
    check::<f64>(&pairs.iter().map(|&(a, b)| (a.into(), b.into())).collect::<Vec<_>>());
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
    let table: [(&str, &[(f64, f64)]); 16] = [
        ("exp", &[(-inf, 0.0), (-1e9, 0.0), (-0.0, 1.0), (0.0, 1.0), (1e9, inf), (inf, inf)]),
        ("exp2", &[(-inf, 0.0), (-1e9, 0.0), (-0.0, 1.0), (0.0, 1.0), (3.0, 8.0), (1e9, inf), (inf, inf)]),
        ("expm1", &[(-inf, -1.0), (-1e9, -1.0), (-0.0, -0.0), (0.0, 0.0), (1e9, inf), (inf, inf)]),
        ("ln", &[(-inf, nan), (-1.0, nan), (-0.0, -inf), (0.0, -inf), (1.0, 0.0), (inf, inf)]),
        ("log2", &[(-inf, nan), (-1.0, nan), (-0.0, -inf), (0.0, -inf), (1.0, 0.0), (8.0, 3.0), (inf, inf)]),
        ("log1p", &[(-inf, nan), (-2.0, nan), (-1.0, -inf), (-0.0, -0.0), (0.0, 0.0), (inf, inf)]),
        ("tanh", &[(-inf, -1.0), (-1e9, -1.0), (-0.0, -0.0), (0.0, 0.0), (1e9, 1.0), (inf, 1.0)]),
        ("sin", &[(-inf, nan), (-0.0, -0.0), (0.0, 0.0), (inf, nan)]),
        ("cos", &[(-inf, nan), (-0.0, 1.0), (0.0, 1.0), (inf, nan)]),
        ("mish", &[(-inf, -0.0), (-1e9, -0.0), (-0.0, -0.0), (0.0, 0.0), (1e9, 1e9), (inf, inf)]),
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

/// SHA-256 of the bits of all results, one after the other, little end first; every NaN counts as the same.
fn hash<T: Element>(y: &[T]) -> String {
    let mut hash = Sha256::new();
    for y in y {
        let y = if y.is_nan() { f64::NAN } else { y.to_f64() };
        hash.update(if y.is_nan() { u64::MAX } else { y.to_bits() }.to_le_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One line per function and type: `name type hash`, of the results at arguments that no library computes.
fn hashes(isa: Isa) -> String {
    let mut singles = structured_f32();
    singles.extend((0..=u32::MAX).step_by(65_521).map(f32::from_bits));
    let doubles: Vec<f64> =
        random_f64(3000).into_iter().chain(structured_f32().into_iter().map(f64::from)).collect();
    let mut lines = String::new();
    let mut add = |name: &str, [f32, f64]: [String; 2]| {
        lines += &format!("{name} f32 {f32}\n{name} f64 {f64}\n");
    };
    for function in functions() {
        add(
            function.name,
            [hash(&run(isa, function.f32, &singles)), hash(&run(isa, function.f64, &doubles))],
        );
    }
    fn pairs<T: Element>(x: &[T]) -> Vec<(T, T)> {
        let other = x.iter().cycle().skip(x.len() / 3);
        // Bases and exponents of any bits, and of moderate size.
        let scaled = |x: T| T::from_f64(x.to_f64() % 16.0);
        let all = x.iter().zip(other).flat_map(|(&a, &b)| [(a, b), (scaled(a).abs(), scaled(b))]);
        all.collect()
    }
    let (of_f32, of_f64) = (pairs(&singles), pairs(&doubles));
    add("pow", [hash(&run_power(isa, "pow", &of_f32)), hash(&run_power(isa, "pow", &of_f64))]);
    let powers = [-70_000, -17, -2, -1, 0, 1, 2, 3, 10, 1001];
    add(
        "powi",
        [
            hash(&powers.iter().flat_map(|&n| run(isa, Unary::Powi(n), &singles)).collect::<Vec<_>>()),
            hash(&powers.iter().flat_map(|&n| run(isa, Unary::Powi(n), &doubles)).collect::<Vec<_>>()),
        ],
    );
    lines
}

/// The bits of every function on every instruction set with fused multiply-add, also of other processors; the
/// portable build for plain x86-64 has none and may differ. With GRISTMILL_BLESS=1 the file is written anew.
#[test]
fn results_have_the_golden_hashes() {
    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/math_hashes.txt");
    for isa in Isa::available().filter(|isa| isa.has_fma()) {
        let actual = hashes(isa);
        if std::env::var_os("GRISTMILL_BLESS").is_some() {
            std::fs::write(FILE, &actual).unwrap();
        }
        let golden = include_str!("../fixtures/math_hashes.txt");
        let golden = if std::env::var_os("GRISTMILL_BLESS").is_some() { &actual } else { golden };
        for (actual, golden) in actual.lines().zip(golden.lines()) {
            assert_eq!(actual, golden, "{isa}");
        }
        assert_eq!(actual.lines().count(), golden.lines().count());
    }
}
