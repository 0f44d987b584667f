//! The functions on registers: at most 2 ULP from the exact value on every instruction set, and the same bits on all
//! that have fused multiply-add.

use gristmill::simd::{Dispatcher, Kernel, Simd};
use gristmill::{Element, Isa};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Function {
    Exp,
    ExpM1,
    Ln,
    Tanh,
    Sigmoid,
    Erf,
}
use Function::*;

const ALL: [Function; 6] = [Exp, ExpM1, Ln, Tanh, Sigmoid, Erf];

impl Function {
    fn name(self) -> &'static str {
        ["exp", "exp_m1", "ln", "tanh", "sigmoid", "erf"][self as usize]
    }

    /// The value in f64, with an error that does not count in f32.
    fn reference(self, x: f64) -> f64 {
        match self {
            Exp => x.exp(),
            ExpM1 => x.exp_m1(),
            Ln => x.ln(),
            Tanh => x.tanh(),
            Sigmoid if x < 0.0 => x.exp() / (1.0 + x.exp()),
            Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Erf => libm::erf(x),
        }
    }
}

/// y ← f(x), by registers; the last one partial.
struct Apply<'a, T>(Function, &'a [T], &'a mut [T]);

impl<T: Element> Kernel for Apply<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.0 {
            Exp => apply(
                s,
                self.1,
                self.2,
                #[inline(always)]
                |x| T::exp(s, x),
            ),
            ExpM1 => apply(
                s,
                self.1,
                self.2,
                #[inline(always)]
                |x| T::exp_m1(s, x),
            ),
            Ln => apply(
                s,
                self.1,
                self.2,
                #[inline(always)]
                |x| T::ln(s, x),
            ),
            Tanh => apply(
                s,
                self.1,
                self.2,
                #[inline(always)]
                |x| T::tanh(s, x),
            ),
            Sigmoid => apply(
                s,
                self.1,
                self.2,
                #[inline(always)]
                |x| T::sigmoid(s, x),
            ),
            Erf => apply(
                s,
                self.1,
                self.2,
                #[inline(always)]
                |x| T::erf(s, x),
            ),
        }
    }
}

#[inline(always)]
fn apply<T: Element, S: Simd>(s: S, x: &[T], y: &mut [T], f: impl Fn(T::Vector<S>) -> T::Vector<S>) {
    for (x, y) in x.chunks(T::LANES).zip(y.chunks_mut(T::LANES)) {
        s.store_partial(f(s.load_partial(x)), y);
    }
}

fn run<T: Element>(isa: Isa, function: Function, x: &[T]) -> Vec<T> {
    let mut y = vec![T::ZERO; x.len()];
    Dispatcher::new(isa).unwrap().run(Apply(function, x, &mut y));
    y
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

    #[track_caller]
    fn check(self, what: &str, limit: f64) {
        let Self { ulp, x, y } = self;
        println!("{what}: {ulp:.3} ULP at {x:e} (gave {y:e})");
        assert!(ulp <= limit, "{what}: {ulp} ULP at {x:e}, where it gave {y:e}");
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
    let exponent = ((exact.abs().to_bits() >> 52) as i32 - 1023).max(-126);
    (f64::from(y) - exact).abs() / 2f64.powi(exponent - 23)
}

/// Feeds `x` to every function on every instruction set and keeps the largest errors.
fn measure_f32(x: &[f32], worst: &mut [[Worst; 6]]) {
    for function in ALL {
        let exact: Vec<f64> = x.iter().map(|&x| function.reference(x.into())).collect();
        for (isa, worst) in Isa::available().zip(worst.iter_mut()) {
            for ((&x, y), &exact) in x.iter().zip(run(isa, function, x)).zip(&exact) {
                worst[function as usize].take(error_f32(y, exact), x.into(), y.into());
            }
        }
    }
}

#[track_caller]
fn check_f32(what: &str, worst: &[[Worst; 6]]) {
    for (isa, worst) in Isa::available().zip(worst) {
        for function in ALL {
            worst[function as usize].check(&format!("{what} {} f32 {isa}", function.name()), 2.0);
        }
    }
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
        103.97208,
        104.0,
        f32::MAX,
        f32::INFINITY,
    ];
    let around = |x: f32| (-100..=100).map(move |i| f32::from_bits(x.to_bits().wrapping_add_signed(i)));
    points.into_iter().flat_map(around).flat_map(|x| [x, -x]).collect()
}

#[test]
fn f32_stays_within_2_ulp() {
    let mut worst = vec![[Worst::default(); 6]; Isa::available().count()];
    measure_f32(&structured_f32(), &mut worst);
    let sample: Vec<f32> = (0..=u32::MAX).step_by(1021).map(f32::from_bits).collect();
    sample.chunks(1 << 14).for_each(|x| measure_f32(x, &mut worst));
    check_f32("sample", &worst);
}

#[test]
#[ignore = "minutes; run with --release -- --ignored --nocapture"]
fn exhaustive_f32_stays_within_2_ulp() {
    let threads = std::thread::available_parallelism().unwrap().get() as u32;
    let per_thread = (1_u32 << 18).div_ceil(threads);
    let parts: Vec<_> = std::thread::scope(|scope| {
        let measure = |thread: u32| {
            let mut worst = vec![[Worst::default(); 6]; Isa::available().count()];
            for block in thread * per_thread..((thread + 1) * per_thread).min(1 << 18) {
                let x: Vec<f32> = (0..1 << 14).map(|i| f32::from_bits(block << 14 | i)).collect();
                measure_f32(&x, &mut worst);
            }
            worst
        };
        let handles: Vec<_> = (0..threads).map(|thread| scope.spawn(move || measure(thread))).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    let mut worst = vec![[Worst::default(); 6]; Isa::available().count()];
    for part in parts {
        for (worst, part) in worst.iter_mut().flatten().zip(part.into_iter().flatten()) {
            worst.take(part.ulp, part.x, part.y);
        }
    }
    check_f32("exhaustive", &worst);
}

/// Lines of `name x y rest`: the exact value is y + rest ULP.
fn fixture(function: Function) -> impl Iterator<Item = (f64, f64, f64)> {
    let lines = include_str!("fixtures/math_f64.txt").lines().map(|line| line.split(' '));
    let bits = |text: &str| f64::from_bits(u64::from_str_radix(text, 16).unwrap());
    lines.filter_map(move |mut words| {
        let mut next = || words.next().unwrap();
        (next() == function.name()).then(|| (bits(next()), bits(next()), next().parse().unwrap()))
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

#[test]
fn f64_stays_within_2_ulp_of_exact_values() {
    for isa in Isa::available() {
        for function in ALL {
            let (x, exact): (Vec<f64>, Vec<_>) = fixture(function).map(|(x, y, rest)| (x, (y, rest))).unzip();
            assert!(x.len() > 500);
            let mut worst = Worst::default();
            for ((&x, y), (nearest, rest)) in x.iter().zip(run(isa, function, &x)).zip(exact) {
                worst.take((distance_f64(y, nearest) - rest).abs(), x, y);
            }
            worst.check(&format!("exact {} f64 {isa}", function.name()), 2.0);
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
fn f64_stays_within_2_ulp_and_the_error_of_libm() {
    for function in ALL {
        // The reference errs by less than 1 ULP; as a quotient of an exponential by 2.
        let limit = if function == Sigmoid { 4.0 } else { 3.0 };
        let reference = |x: f64| match function {
            Exp => libm::exp(x),
            ExpM1 => libm::expm1(x),
            Ln => libm::log(x),
            Tanh => x.tanh(),
            _ => function.reference(x),
        };
        let x = random_f64(30_000);
        let expected: Vec<f64> = x.iter().map(|&x| reference(x)).collect();
        for isa in Isa::available() {
            let mut worst = Worst::default();
            for ((&x, y), &expected) in x.iter().zip(run(isa, function, &x)).zip(&expected) {
                worst.take(distance_f64(y, expected).abs(), x, y);
            }
            worst.check(&format!("against libm {} f64 {isa}", function.name()), limit);
        }
    }
}

fn check_special_values<T: Element>() {
    let inf = f64::INFINITY;
    let table: [(Function, &[(f64, f64)]); 6] = [
        (Exp, &[(-inf, 0.0), (-1e9, 0.0), (-0.0, 1.0), (0.0, 1.0), (1e9, inf), (inf, inf)]),
        (ExpM1, &[(-inf, -1.0), (-1e9, -1.0), (-0.0, -0.0), (0.0, 0.0), (1e9, inf), (inf, inf)]),
        (Ln, &[(-inf, f64::NAN), (-1.0, f64::NAN), (-0.0, -inf), (0.0, -inf), (1.0, 0.0), (inf, inf)]),
        (Tanh, &[(-inf, -1.0), (-1e9, -1.0), (-0.0, -0.0), (0.0, 0.0), (1e9, 1.0), (inf, 1.0)]),
        (Sigmoid, &[(-inf, 0.0), (-1e9, 0.0), (-0.0, 0.5), (0.0, 0.5), (1e9, 1.0), (inf, 1.0)]),
        (Erf, &[(-inf, -1.0), (-1e9, -1.0), (-0.0, -0.0), (0.0, 0.0), (1e9, 1.0), (inf, 1.0)]),
    ];
    for isa in Isa::available() {
        for (function, pairs) in table {
            for &(x, y) in pairs.iter().chain(&[(f64::NAN, f64::NAN), (-f64::NAN, f64::NAN)]) {
                let [actual] = run(isa, function, &[T::from_f64(x)])[..] else { unreachable!() };
                let actual = actual.to_f64();
                assert!(
                    actual.to_bits() == y.to_bits() || actual.is_nan() && y.is_nan(),
                    "{isa} {} {}({x:e}) = {actual:e}, expected {y:e}",
                    T::NAME,
                    function.name()
                );
            }
        }
    }
}

#[test]
fn special_values_give_what_the_table_says() {
    check_special_values::<f32>();
    check_special_values::<f64>();
}

fn bits<T: Element>(x: &[T]) -> Vec<u64> {
    x.iter().map(|x| if x.is_nan() { 0 } else { x.to_f64().to_bits() }).collect()
}

fn check_same_bits<T: Element>(x: &[T]) {
    for function in ALL {
        let mut expected = None;
        for isa in Isa::available() {
            let whole = bits(&run(isa, function, x));
            let shifted = bits(&run(isa, function, &x[3..]));
            let alone: Vec<u64> = x.iter().flat_map(|&x| bits(&run(isa, function, &[x]))).collect();
            assert!(whole == alone && whole[3..] == shifted, "{isa} {} depends on the lane", function.name());
            if isa.has_fma() {
                assert!(*expected.get_or_insert_with(|| whole.clone()) == whole, "{isa} {}", function.name());
            }
        }
    }
}

#[test]
fn lanes_and_instruction_sets_give_the_same_bits() {
    check_same_bits(&structured_f32());
    check_same_bits(&random_f64(500));
}
