//! Gradients over the whole range of exponents: where the exact result is an ordinary number, the kernel's is
//! as near as documented, however large or small the numbers on the way are; where its documentation makes a
//! condition, the test claims what meets it, and no less.
//!
//! The operands of a case are random numbers times powers of two from the smallest subnormal number to the
//! largest, one for each operand, with the elements alike, of some octaves around it, or of any size.

use std::cell::Cell;
use std::cmp::Ordering;
use std::ops::{Add, Div, Mul, Neg, Sub};

use gristmill::kernels::batch_norm::{self, Gate};
use gristmill::kernels::group_norm::{self, Layout};
use gristmill::kernels::loss::{self, Loss};
use gristmill::kernels::map::{self, Binary, Unary};
use gristmill::kernels::norm::{self, Norm};
use gristmill::kernels::zip::{self, Operand, Ternary};
use gristmill::kernels::{cumsum, layer_norm, log_softmax, nll_loss, pow, prelu, rms_norm, softmax};
use gristmill::{Element, Result};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::common::*;
use crate::registry::losses::loss_and_slope;
use crate::registry::maps::{functions, own};

/// A number with the digits of f64 and any exponent: `fraction·2^exponent`, the magnitude of the fraction
/// from 1 to 2, or 0·2⁰.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Wide {
    fraction: f64,
    exponent: i32,
}

const ZERO: Wide = Wide { fraction: 0.0, exponent: 0 };

/// x·2^exponent, also where the power alone is beyond the range.
fn shift(x: f64, exponent: i32) -> f64 {
    let exponent = exponent.clamp(-2200, 2200);
    let third = exponent / 3;
    // Only the last product rounds: the others stay far from the ends, or are beyond them for good.
    x * 2f64.powi(third) * 2f64.powi(third) * 2f64.powi(exponent - 2 * third)
}

impl Wide {
    fn new(x: f64) -> Self {
        assert!(x.is_finite(), "{x} is not a number");
        if x == 0.0 {
            return ZERO;
        }
        let lift = if x.abs() < f64::MIN_POSITIVE { 64 } else { 0 };
        let x = x * 2f64.powi(lift);
        let exponent = (x.to_bits() >> 52 & 0x7FF) as i32 - 1023;
        Self { fraction: shift(x, -exponent), exponent: exponent - lift }
    }

    fn abs(self) -> Self {
        Self { fraction: self.fraction.abs(), ..self }
    }

    fn sqrt(self) -> Self {
        let odd = self.exponent.rem_euclid(2);
        let half = (self.exponent - odd) / 2;
        let root = Self::new((self.fraction * 2f64.powi(odd)).sqrt());
        if root == ZERO { ZERO } else { Self { exponent: root.exponent + half, ..root } }
    }

    /// As f64: 0 or infinite where it leaves that range.
    fn to_f64(self) -> f64 {
        shift(self.fraction, self.exponent)
    }

    /// eˣ; far beyond the range it does not matter where.
    fn exp(self) -> Self {
        let x = self.to_f64().clamp(-1e5, 1e5);
        let octaves = (x / std::f64::consts::LN_2).round();
        // ln 2 in two parts: x may be thousands of times what is left of it.
        let rest = (-octaves).mul_add(std::f64::consts::LN_2, x) - octaves * 2.319_046_813_846_299_6e-17;
        let near = Self::new(rest.exp());
        near * Self { fraction: 1.0, exponent: octaves as i32 }
    }

    fn max(self, other: Self) -> Self {
        if self < other { other } else { self }
    }
}

impl PartialOrd for Wide {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (*self - *other).fraction.partial_cmp(&0.0)
    }
}

impl Neg for Wide {
    type Output = Self;

    fn neg(self) -> Self {
        Self { fraction: -self.fraction, ..self }
    }
}

impl Add for Wide {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (mut large, mut small) = (self, other);
        if small != ZERO && (large == ZERO || large.exponent < small.exponent) {
            (large, small) = (small, large);
        }
        if small == ZERO || large.exponent - small.exponent > 200 {
            return large;
        }
        let sum = Self::new(large.fraction + shift(small.fraction, small.exponent - large.exponent));
        if sum == ZERO { ZERO } else { Self { exponent: sum.exponent + large.exponent, ..sum } }
    }
}

impl Sub for Wide {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Mul for Wide {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let product = Self::new(self.fraction * other.fraction);
        if product == ZERO {
            return ZERO;
        }
        Self { exponent: product.exponent + self.exponent + other.exponent, ..product }
    }
}

impl Div for Wide {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        assert!(other != ZERO, "a quotient by 0");
        let quotient = Self::new(self.fraction / other.fraction);
        if quotient == ZERO {
            return ZERO;
        }
        Self { exponent: quotient.exponent + self.exponent - other.exponent, ..quotient }
    }
}

impl Mul<f64> for Wide {
    type Output = Self;

    fn mul(self, other: f64) -> Self {
        self * Self::new(other)
    }
}

fn wide<T: Element>(x: &[T]) -> Vec<Wide> {
    x.iter().map(|x| Wide::new(x.to_f64())).collect()
}

fn sum(x: impl IntoIterator<Item = Wide>) -> Wide {
    x.into_iter().fold(ZERO, |sum, x| sum + x)
}

fn largest(x: impl IntoIterator<Item = Wide>) -> Wide {
    x.into_iter().fold(ZERO, |largest, x| largest.max(x.abs()))
}

/// The exponents of the smallest subnormal, the smallest normal and the largest number.
fn exponents<T: Element>() -> [i32; 3] {
    if T::NAME == "f32" { [-149, -126, 127] } else { [-1074, -1022, 1023] }
}

fn power<T: Element>(which: usize) -> Wide {
    Wide { fraction: 1.0, exponent: exponents::<T>()[which] }
}

fn tiny<T: Element>() -> Wide {
    power::<T>(0)
}

/// The largest number, and a little more room for the errors of bounds: half of it is ordinary.
fn limit<T: Element>() -> Wide {
    power::<T>(2)
}

/// Whether a number of this size is one of the type with all its digits.
fn is_normal<T: Element>(x: Wide) -> bool {
    power::<T>(1) <= x.abs() && x.abs() <= limit::<T>()
}

/// What one case is made of.
#[derive(Clone, Debug)]
struct Scene {
    seed: u64,
    rows: usize,
    cols: usize,
    /// Of each operand the place of its exponent in the range, from −1 to 1.
    places: [f64; 4],
    /// How the sizes of elements differ: not, by some octaves, wholly.
    spread: usize,
    pick: usize,
}

impl Scene {
    /// The numbers of one operand.
    fn numbers<T: Element>(&self, operand: usize, len: usize) -> Vec<T> {
        let [low, _, high] = exponents::<T>();
        let place = self.places[operand];
        let exponent = place * f64::from(if place < 0.0 { -low } else { high });
        let spread = [0.0, 8.0, f64::from(high)][self.spread];
        let seed = self.seed.wrapping_mul(31).wrapping_add(operand as u64);
        let (digits, sizes) = (noise::<f64>(len, seed), noise::<f64>(len, seed ^ 0x5555));
        let number = |(x, size): (&f64, &f64)| {
            let exponent = (exponent + spread * size).clamp(f64::from(low), f64::from(high)) as i32;
            // From 1/2 to 1: no number is beyond the range.
            T::from_f64(shift((0.5 + x.abs() / 2.0).copysign(*x), exponent))
        };
        digits.iter().zip(&sizes).map(number).collect()
    }
}

/// What of a result was claimed.
#[derive(Default)]
struct Claims {
    claimed: Cell<usize>,
    all: Cell<usize>,
}

impl Claims {
    /// Each `actual` is within `bound` of `exact` and some units of the smallest number, where that is an
    /// ordinary number and `holds` says that the kernel claims it.
    #[track_caller]
    fn claim<T: Element>(
        &self,
        name: &str,
        actual: &[T],
        exact: &[Wide],
        bound: impl Fn(usize) -> Wide,
        holds: impl Fn(usize) -> bool,
    ) {
        assert_eq!(actual.len(), exact.len(), "{name}: lengths");
        for (i, (actual, &exact)) in actual.iter().zip(exact).enumerate() {
            self.all.set(self.all.get() + 1);
            if exact.abs() > limit::<T>() || !holds(i) {
                continue;
            }
            self.claimed.set(self.claimed.get() + 1);
            let bound = bound(i) + tiny::<T>() * 4.0;
            if bound > limit::<T>() {
                continue;
            }
            let actual = actual.to_f64();
            assert!(actual.is_finite(), "{name}[{i}] ({}) is {actual}, expected {exact:?}", T::NAME);
            let error = (Wide::new(actual) - exact).abs();
            assert!(
                error <= bound,
                "{name}[{i}] ({}) is {:?}, expected {exact:?}: error {error:?} > {bound:?}",
                T::NAME,
                Wide::new(actual)
            );
        }
    }
}

/// Runs the law with random scenes; at least this part of the results must be claimed.
fn hold(cases: u32, part: f64, law: impl Fn(&Scene, &Claims)) {
    let place = || -1.0..1.0_f64;
    let scenes = (
        any::<u64>(),
        (1usize..24, 1usize..40),
        (place(), place(), place(), place()),
        0usize..3,
        0usize..1000,
    )
        .prop_map(|(seed, (rows, cols), (a, b, c, d), spread, pick)| Scene {
            seed,
            rows,
            cols,
            places: [a, b, c, d],
            spread,
            pick,
        });
    let claims = Claims::default();
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&scenes, |scene| {
            law(&scene, &claims);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    // The rest is beyond the range, or excepted in the documentation.
    let (claimed, all) = (claims.claimed.get(), claims.all.get());
    assert!(claimed as f64 >= part * all as f64, "of {all} results only {claimed} were claimed");
}

/// The law for both types, with every instruction set.
macro_rules! hold_for_both {
    ($cases:literal, $part:literal, $law:ident) => {
        hold($cases, $part, |scene, claims| {
            on_every_isa(|_| {
                $law::<f32>(scene, claims);
                $law::<f64>(scene, claims);
            })
        })
    };
}

/// Roundings of T, and as many of the reference.
fn units<T: Element>(count: f64) -> f64 {
    count * (unit::<T>() + 4.0 * unit::<f64>())
}

#[test]
fn elementwise_gradients_are_right_where_the_derivative_is_a_normal_number() {
    fn law<T: Element>(scene: &Scene, claims: &Claims) {
        let all = functions::<T>();
        let op = all[scene.pick % all.len()];
        let x: Vec<T> = scene.numbers(0, scene.cols);
        let y: Vec<T> = {
            let mut y = vec![T::NAN; x.len()];
            map::unary(op, &x, &mut y).unwrap();
            y
        };
        let dy: Vec<T> = scene.numbers(1, x.len());
        let mut dx = vec![T::NAN; x.len()];
        map::UnaryBackward { op, x: &x, y: &y, dy: &dy, dx: &mut dx }.run().unwrap();
        let slopes: Vec<f64> = x.iter().map(|x| op.twin().derivative(x.to_f64())).collect();
        let holds = |i: usize| {
            // The factors of the derivative, in the order of the formula.
            let (y, g, slope) = (y[i].to_f64(), Wide::new(dy[i].to_f64()), slopes[i]);
            if !(y.is_finite() && slope.is_finite()) {
                return false;
            }
            let on_the_way = match op {
                Unary::Reciprocal => g * y,
                Unary::Log2 => g * 2.0,
                _ => g,
            };
            let is_flat = slope == 0.0 && dx[i] == T::ZERO;
            (is_flat || [0.25, 4.0].iter().all(|&times| is_normal::<T>(Wide::new(slope) * times)))
                && on_the_way.abs() <= limit::<T>()
                && (!matches!(op, Unary::Log2) || is_normal::<T>(g))
                && (op != Unary::Reciprocal || is_normal::<T>(on_the_way) && is_normal::<T>(Wide::new(y)))
        };
        let exact: Vec<Wide> = (0..x.len())
            .map(|i| if holds(i) { Wide::new(slopes[i]) * dy[i].to_f64() } else { ZERO })
            .collect();
        claims.claim(
            &format!("{op:?}"),
            &dx,
            &exact,
            |i| {
                let (relative, absolute) = op.twin().derivative_bound(x[i].to_f64().clamp(-1e3, 1e3));
                let g = Wide::new(dy[i].to_f64()).abs();
                // Powers of numbers far from 1: the logarithm counts in bounds of exponentials, also in f64.
                let far = if let Unary::Powf(p) = op {
                    p.to_f64().abs() * x[i].to_f64().abs().ln().abs()
                } else {
                    0.0
                };
                let relative = own::<T>(relative) + 5.0 * far;
                exact[i].abs() * (relative * unit::<T>()) + g * (own::<T>(absolute) * unit::<T>())
            },
            holds,
        );
    }
    hold_for_both!(2000, 0.15, law);
}

#[test]
fn gradients_of_powers_are_right_where_the_derivative_is_a_normal_number() {
    fn law<T: Element>(scene: &Scene, claims: &Claims) {
        let a: Vec<T> = scene.numbers::<T>(0, scene.cols).iter().map(|a| a.abs()).collect();
        // Such that powers are of all sizes: b·log₂ a from one end to the other.
        let b: Vec<T> = a
            .iter()
            .zip(noise::<f64>(scene.cols, scene.seed ^ 7))
            .map(|(a, z)| {
                let octaves = a.to_f64().log2();
                let b = z * f64::from(exponents::<T>()[2]) / if octaves == 0.0 { 1.0 } else { octaves };
                T::from_f64(b)
            })
            .collect();
        let dy: Vec<T> = scene.numbers(1, scene.cols);
        let [mut y, mut da, mut db] = [(); 3].map(|()| vec![T::NAN; a.len()]);
        map::binary(Binary::Pow, &a, &b, &mut y).unwrap();
        pow::BaseBackward { a: &a, b: &b, dy: &dy, da: &mut da }.run().unwrap();
        pow::ExponentBackward { a: &a, b: &b, y: &y, dy: &dy, db: &mut db }.run().unwrap();
        let power = |i: usize, less: f64| -> Wide {
            let (a, b) = (a[i].to_f64(), b[i].to_f64() - less);
            (Wide::new(a.ln()) * b).exp()
        };
        let ok = |i: usize| a[i] != T::ZERO && b[i] != T::ZERO;
        // Of the reference, whose logarithm is rounded, the size of the logarithm of the power counts, too.
        let reference = 4.0 * f64::from(exponents::<T>()[2]) * unit::<f64>();
        for (name, actual, less) in [("da", &da, 1.0), ("db", &db, 0.0)] {
            let factor = |i: usize| if less == 1.0 { b[i].to_f64() } else { a[i].to_f64().ln() };
            let slope = |i: usize| power(i, less) * factor(i);
            let exact: Vec<Wide> =
                (0..a.len()).map(|i| if ok(i) { slope(i) * dy[i].to_f64() } else { ZERO }).collect();
            claims.claim(
                &format!("{name} of pow"),
                actual,
                &exact,
                |i| {
                    let below = b[i].to_f64() - 1.0;
                    let rounding = (T::from_f64(below).to_f64() - below).abs() * a[i].to_f64().ln().abs();
                    exact[i].abs() * (units::<T>(8.0) + reference + less * rounding * (1.0 + rounding))
                },
                |i| {
                    ok(i)
                        && is_normal::<T>(slope(i))
                        && is_normal::<T>(power(i, less))
                        && (power(i, less) * 1.1).abs() <= limit::<T>()
                },
            );
        }
    }
    hold_for_both!(300, 0.1, law);
}

#[test]
fn gradients_of_losses_are_right_where_the_error_is_a_number() {
    fn law<T: Element>(scene: &Scene, claims: &Claims) {
        let len = scene.cols;
        let (x, g) = (scene.numbers::<T>(0, len), scene.numbers::<T>(1, len));
        let delta = scene.numbers::<T>(3, 1)[0].abs();
        let delta = if delta == T::ZERO { T::ONE } else { delta };
        let huber = Loss::Huber { delta };
        let op = [Loss::SquaredError, Loss::AbsoluteError, huber, Loss::BceWithLogits][scene.pick % 4];
        let t: Vec<T> = if op == Loss::BceWithLogits {
            let labels = noise::<f64>(len, scene.seed);
            let soft = scene.pick.is_multiple_of(8);
            labels
                .iter()
                .map(|t| T::from_f64(if soft { t.abs() } else { f64::from(u8::from(*t > 0.0)) }))
                .collect()
        } else {
            scene.numbers(2, len)
        };
        let [mut dx, mut uniform, mut dt] = [(); 3].map(|()| vec![T::NAN; len]);
        loss::Backward { op, x: &x, target: &t, dlosses: &g, dx: &mut dx, dtarget: Some(&mut dt) }
            .run()
            .unwrap();
        loss::BackwardUniform { op, x: &x, target: &t, dloss: g[0], dx: &mut uniform, dtarget: None }
            .run()
            .unwrap();
        let errors: Vec<Wide> = wide(&x).iter().zip(wide(&t)).map(|(&x, t)| x - t).collect();
        let one = Wide::new(1.0);
        let slope = |i: usize| match op {
            Loss::SquaredError => errors[i] * 2.0,
            Loss::AbsoluteError if errors[i] == ZERO => ZERO,
            Loss::AbsoluteError => Wide::new(errors[i].fraction.signum()),
            Loss::Huber { delta } => {
                let delta = Wide::new(delta.to_f64());
                if errors[i].abs() <= delta { errors[i] } else { delta * errors[i].fraction.signum() }
            }
            Loss::BceWithLogits => {
                let (x, t) = (Wide::new(x[i].to_f64()), t[i].to_f64());
                let e = (-x.abs()).exp();
                let small = e / (one + e);
                if x > ZERO { (one - Wide::new(t)) - small } else { small - Wide::new(t) }
            }
        };
        let slopes: Vec<Wide> = (0..len).map(slope).collect();
        // The documented bounds, with those of the products.
        let bound = |i: usize, g: Wide| {
            let soft = op == Loss::BceWithLogits && t[i] != T::ZERO && t[i] != T::ONE;
            let size = if soft { one * 7.0 } else { slopes[i].abs() * 8.0 };
            g.abs() * size * units::<T>(1.0)
        };
        let holds = |i: usize| match op {
            Loss::SquaredError => errors[i].abs() <= limit::<T>(),
            // Where the label is what the logit says, the slope is small, and must have its digits.
            Loss::BceWithLogits => is_normal::<T>(slopes[i]),
            _ => true,
        };
        let name = format!("{op:?}");
        let product =
            |g: &dyn Fn(usize) -> Wide| -> Vec<Wide> { (0..len).map(|i| slopes[i] * g(i)).collect() };
        let each = |i: usize| Wide::new(g[i].to_f64());
        claims.claim(&name, &dx, &product(&each), |i| bound(i, each(i)), holds);
        let all = |_: usize| Wide::new(g[0].to_f64());
        claims.claim(&name, &uniform, &product(&all), |i| bound(i, all(i)), holds);
        let (of_targets, of_products): (Vec<Wide>, bool) = if op == Loss::BceWithLogits {
            ((0..len).map(|i| -(each(i) * x[i].to_f64())).collect(), true)
        } else {
            (product(&each).iter().map(|&dx| -dx).collect(), false)
        };
        let of_target =
            |i: usize| if of_products { of_targets[i].abs() * units::<T>(1.0) } else { bound(i, each(i)) };
        claims.claim(&format!("targets of {name}"), &dt, &of_targets, of_target, |i| of_products || holds(i));
    }
    // What the reference of the registry says of numbers of its range is what the formulas here say.
    assert_eq!(loss_and_slope(Loss::<f64>::Huber { delta: 2.0 }, 7.0, 1.0).1, 2.0);
    hold_for_both!(500, 0.25, law);
}

#[test]
fn gradients_of_softmaxes_are_right_where_sums_of_gradients_are_numbers() {
    fn law<T: Element>(scene: &Scene, claims: &Claims) {
        let (rows, cols) = (scene.rows.min(4), scene.cols);
        let len = rows * cols;
        // Probabilities from 1 to the smallest number, and any.
        let logits: Vec<T> = if scene.pick.is_multiple_of(2) {
            let scale = -f64::from(exponents::<T>()[0]) * std::f64::consts::LN_2 / 2.0;
            noise::<f64>(len, scene.seed).iter().map(|x| T::from_f64(x * scale)).collect()
        } else {
            scene.numbers(0, len)
        };
        let dy: Vec<T> = scene.numbers(1, len);
        let (mut y, mut dx) = (vec![T::NAN; len], vec![T::NAN; len]);
        let (g, row) = (wide(&dy), |i: usize| i / cols * cols..(i / cols + 1) * cols);
        let depth = cols as f64 + 20.0;

        softmax::forward(&logits, cols, &mut y).unwrap();
        softmax::backward(&y, &dy, cols, &mut dx).unwrap();
        let p = wide(&y);
        let dots: Vec<Wide> = (0..rows).map(|r| sum(row(r * cols).map(|j| p[j] * g[j]))).collect();
        let sizes: Vec<Wide> = (0..rows).map(|r| sum(row(r * cols).map(|j| (p[j] * g[j]).abs()))).collect();
        let exact: Vec<Wide> = (0..len).map(|i| p[i] * (g[i] - dots[i / cols])).collect();
        claims.claim(
            "softmax",
            &dx,
            &exact,
            |i| {
                let rest = (g[i] - dots[i / cols]).abs();
                p[i] * (rest * 2.0 + sizes[i / cols] * depth) * units::<T>(1.0) + tiny::<T>() * depth
            },
            |i| (g[i] - dots[i / cols]).abs() <= limit::<T>() && sizes[i / cols] <= limit::<T>(),
        );

        log_softmax::forward(&logits, cols, &mut y).unwrap();
        log_softmax::backward(&y, &dy, cols, &mut dx).unwrap();
        let p: Vec<Wide> = wide(&y).iter().map(|y| y.exp()).collect();
        let sums: Vec<Wide> = (0..rows).map(|r| sum(row(r * cols).map(|j| g[j]))).collect();
        let sizes: Vec<Wide> = (0..rows).map(|r| sum(row(r * cols).map(|j| g[j].abs()))).collect();
        let exact: Vec<Wide> = (0..len).map(|i| g[i] - p[i] * sums[i / cols]).collect();
        claims.claim(
            "log_softmax",
            &dx,
            &exact,
            |i| {
                let (sum, size) = (sums[i / cols].abs(), sizes[i / cols]);
                let reference = Wide::new(y[i].to_f64()).abs() * (4.0 * unit::<f64>());
                (exact[i].abs() + (sum * 4.0 + size * depth) * p[i]) * units::<T>(1.0)
                    + tiny::<T>() * 4.0 * (sum + Wide::new(1.0))
                    + p[i] * sum * reference
            },
            |i| sizes[i / cols] <= limit::<T>(),
        );

        let targets: Vec<usize> = (0..rows).map(|r| (scene.pick + r) % cols).collect();
        let (weight, dlosses) = (scene.numbers::<T>(2, cols), scene.numbers::<T>(3, rows));
        nll_loss::Backward {
            targets: &targets,
            classes: cols,
            weight: Some(&weight),
            dlosses: &dlosses,
            dlog_p: &mut dx,
            ..Default::default()
        }
        .run()
        .unwrap();
        let exact: Vec<Wide> = (0..len)
            .map(|i| {
                let loss = Wide::new(dlosses[i / cols].to_f64());
                if targets[i / cols] == i % cols { -(loss * weight[i % cols].to_f64()) } else { ZERO }
            })
            .collect();
        claims.claim("nll_loss", &dx, &exact, |i| exact[i].abs() * units::<T>(1.0), |_| true);
    }
    hold_for_both!(200, 0.4, law);
}

#[test]
fn gradients_of_norms_are_right_where_the_norm_is_a_number() {
    fn law<T: Element>(scene: &Scene, claims: &Claims) {
        let (rows, cols) = (scene.rows.min(4), scene.cols);
        let op = [Norm::L1, Norm::L2, Norm::Max][scene.pick % 3];
        let (x, dy) = (scene.numbers::<T>(0, rows * cols), scene.numbers::<T>(1, rows));
        let (mut y, mut dx) = (vec![T::NAN; rows], vec![T::NAN; x.len()]);
        norm::rows(op, &x, cols, &mut y).unwrap();
        norm::RowsBackward { op, x: &x, y: &y, dy: &dy, cols, dx: &mut dx }.run().unwrap();
        let w = wide(&x);
        let norms: Vec<Wide> = w
            .chunks(cols)
            .map(|x| match op {
                Norm::L1 => sum(x.iter().map(|x| x.abs())),
                Norm::L2 => sum(x.iter().map(|&x| x * x)).sqrt(),
                Norm::Max => largest(x.iter().copied()),
            })
            .collect();
        let depth = cols as f64 + 10.0;
        claims.claim(
            &format!("{op:?}"),
            &y,
            &norms,
            |r| norms[r] * units::<T>(depth),
            |r| norms[r] * 1.1 <= limit::<T>(),
        );
        let slope = |i: usize| {
            let norm = norms[i / cols];
            let ties = w[i / cols * cols..][..cols].iter().filter(|x| x.abs() == norm).count();
            match op {
                _ if w[i] == ZERO && (op != Norm::Max || norm != ZERO) => ZERO,
                Norm::L2 => w[i] / norm,
                Norm::Max if w[i].abs() != norm || norm == ZERO => ZERO,
                Norm::Max => Wide::new(w[i].fraction.signum() / ties as f64),
                Norm::L1 => Wide::new(w[i].fraction.signum()),
            }
        };
        let slopes: Vec<Wide> = (0..w.len()).map(slope).collect();
        let exact: Vec<Wide> =
            slopes.iter().enumerate().map(|(i, &slope)| slope * dy[i / cols].to_f64()).collect();
        let holds = |i: usize| match op {
            Norm::L2 => {
                let norm = norms[i / cols];
                is_normal::<T>(norm * 1.1) && (slopes[i] == ZERO || is_normal::<T>(slopes[i]))
            }
            _ => true,
        };
        let bound = |i: usize| exact[i].abs() * units::<T>(depth / 2.0 + 3.0);
        claims.claim(&format!("rows of {op:?}"), &dx, &exact, bound, holds);

        // The same as columns.
        let turned: Vec<T> = (0..x.len()).map(|i| x[i % rows * cols + i / rows]).collect();
        let mut columns = vec![T::NAN; x.len()];
        norm::cols(op, &turned, rows, &mut y).unwrap();
        norm::ColsBackward { op, x: &turned, y: &y, dy: &dy, cols: rows, dx: &mut columns }.run().unwrap();
        let back: Vec<T> = (0..x.len()).map(|i| columns[i % cols * rows + i / cols]).collect();
        claims.claim(&format!("columns of {op:?}"), &back, &exact, bound, holds);
    }
    hold_for_both!(300, 0.25, law);
}

#[test]
fn sums_along_an_axis_are_right_where_no_sum_on_the_way_is_beyond_the_range() {
    fn law<T: Element>(scene: &Scene, claims: &Claims) {
        let (rows, cols) = (scene.rows, scene.cols);
        let x: Vec<T> = scene.numbers(0, rows * cols);
        let w = wide(&x);
        for reverse in [false, true] {
            for by_rows in [true, false] {
                let mut y = vec![T::NAN; x.len()];
                let run = if by_rows { cumsum::rows } else { cumsum::cols };
                run(&x, cols, reverse, &mut y).unwrap();
                let (step, count) = if by_rows { (1, cols) } else { (cols, rows) };
                let cumulated = |f: &dyn Fn(Wide) -> Wide| -> Vec<Wide> {
                    let one = |i: usize| {
                        let place = i / step % count;
                        let start = i - place * step;
                        let places = if reverse { place..count } else { 0..place + 1 };
                        sum(places.map(|k| f(w[start + k * step])))
                    };
                    (0..w.len()).map(one).collect()
                };
                let (exact, sizes) = (cumulated(&|x| x), cumulated(&|x| x.abs()));
                let depth = count as f64 + 1.0;
                claims.claim(
                    "cumsum",
                    &y,
                    &exact,
                    |i| sizes[i] * units::<T>(depth),
                    |i| sizes[i] <= limit::<T>(),
                );
            }
        }
    }
    hold_for_both!(60, 0.4, law);
}

#[test]
fn gradients_of_slopes_are_right_where_the_terms_have_a_sum() {
    fn law<T: Element>(scene: &Scene, claims: &Claims) {
        let channels = [1, 3][scene.pick % 2];
        // Short channels and long ones.
        let inner = [scene.cols, 64 + scene.cols][scene.pick / 2 % 2];
        let samples = scene.rows.min(4);
        let len = samples * channels * inner;
        let (x, dy) = (scene.numbers::<T>(0, len), scene.numbers::<T>(1, len));
        let slope: Vec<T> = scene.numbers(2, channels);
        let (mut dx, mut dslope) = (vec![T::NAN; len], vec![T::NAN; channels]);
        prelu::Backward { x: &x, slope: &slope, inner, dy: &dy, dx: &mut dx, dslope: Some(&mut dslope) }
            .run()
            .unwrap();
        let (w, g, slope) = (wide(&x), wide(&dy), wide(&slope));
        let channel = |i: usize| i / inner % channels;
        let exact: Vec<Wide> =
            (0..len).map(|i| if w[i] > ZERO { g[i] } else { g[i] * slope[channel(i)] }).collect();
        claims.claim("prelu", &dx, &exact, |i| exact[i].abs() * units::<T>(1.0), |_| true);
        let of = |c: usize, f: &dyn Fn(Wide) -> Wide| {
            sum((0..len).filter(|&i| channel(i) == c && w[i] <= ZERO).map(|i| f(w[i] * g[i])))
        };
        let sums: Vec<Wide> = (0..channels).map(|c| of(c, &|x| x)).collect();
        let sizes: Vec<Wide> = (0..channels).map(|c| of(c, &|x| x.abs())).collect();
        let depth = (samples * inner) as f64 + 40.0;
        claims.claim(
            "slopes of prelu",
            &dslope,
            &sums,
            |c| sizes[c] * units::<T>(depth) + tiny::<T>() * depth,
            |c| sizes[c] <= limit::<T>(),
        );
    }
    hold_for_both!(100, 0.25, law);
}

#[test]
fn gradients_of_functions_of_three_are_right_where_differences_are_numbers() {
    fn law<T: Element>(scene: &Scene, claims: &Claims) {
        let n = scene.cols;
        let op = [Ternary::MulAdd, Ternary::Lerp, Ternary::Where][scene.pick % 3];
        let [a, b, c, dy] = [0, 1, 2, 3].map(|operand| scene.numbers::<T>(operand, n));
        let operands = [&a, &b, &c].map(|x| Operand::Matrix(&x[..], n));
        let [mut da, mut db, mut dc] = [(); 3].map(|()| vec![T::NAN; n]);
        zip::TernaryBackward {
            op,
            abc: operands,
            dy: &dy,
            shape: [1, n],
            gradients: [Some(&mut da), Some(&mut db), Some(&mut dc)],
        }
        .run()
        .unwrap();
        let [a, b, c, g] = [&a, &b, &c, &dy].map(|x| wide(x));
        let one = Wide::new(1.0);
        let slopes = |i: usize| match op {
            Ternary::MulAdd => [b[i], a[i], one],
            Ternary::Lerp => [one - c[i], c[i], b[i] - a[i]],
            Ternary::Where if a[i] == ZERO => [ZERO, ZERO, one],
            Ternary::Where => [ZERO, one, ZERO],
        };
        for (which, actual) in [&da, &db, &dc].into_iter().enumerate() {
            let exact: Vec<Wide> = (0..n).map(|i| g[i] * slopes(i)[which]).collect();
            let bound = |i: usize| exact[i].abs() * units::<T>(2.0);
            claims.claim(&format!("{op:?}"), actual, &exact, bound, |i| {
                op != Ternary::Lerp || slopes(i)[which].abs() <= limit::<T>()
            });
        }
    }
    hold_for_both!(300, 0.25, law);
}

/// Deviations of up to this size, and down to one over it, are summed as they are.
const ORDINARY: f64 = 1024.0;

/// Numbers that are normalised together, with their exact moments.
struct Group {
    mean: Wide,
    rstd: Wide,
    /// `k·q·u`, in the place of u.
    error: f64,
    /// Whether differences from the mean, and rstd, are numbers of the type.
    holds: bool,
}

impl Group {
    fn new<T: Element>(x: &[Wide], eps: f64, k: f64, centered: bool) -> Self {
        let n = x.len() as f64;
        let mean = if centered { sum(x.iter().copied()) / Wide::new(n) } else { ZERO };
        let mean = if centered { mean + sum(x.iter().map(|&x| x - mean)) / Wide::new(n) } else { ZERO };
        let var = sum(x.iter().map(|&x| (x - mean) * (x - mean))) / Wide::new(n) + Wide::new(eps);
        let rstd = if var == ZERO { ZERO } else { Wide::new(1.0) / var.sqrt() };
        let shift = (largest(x.iter().copied()) * rstd * (k * unit::<T>())).to_f64();
        let apart = largest(x.iter().map(|&x| x - mean)) * 1.1 <= limit::<T>();
        // A mean that large loses all digits of the deviations: then the bound is no bound.
        let holds = apart && is_normal::<T>(rstd) && (!centered || shift < 1.0);
        let error = if holds { units::<T>(k) * (1.0 + shift * shift) + 8.0 * unit::<f64>() * n } else { 0.0 };
        // The reference has lost digits of the mean, too.
        let lost = (largest(x.iter().copied()) * rstd * (8.0 * unit::<f64>())).to_f64();
        Self { mean, rstd, error: error + if holds { lost } else { 0.0 }, holds }
    }

    fn normal(&self, x: Wide) -> Wide {
        (x - self.mean) * self.rstd
    }

    fn saved<T: Element>(&self) -> [T; 2] {
        [self.mean, self.rstd].map(|x| T::from_f64(x.to_f64()))
    }
}

/// Gradients of numbers that were normalised together: dx, its bound and its size, in the sense of what is
/// added up.
struct Gradients {
    dx: Vec<Wide>,
    bound: Vec<Wide>,
    size: Vec<Wide>,
    holds: bool,
}

/// From x, g = dy·γ and the group, with or without a mean.
fn gradients<T: Element>(x: &[Wide], g: &[Wide], group: &Group, centered: bool) -> Gradients {
    let n = Wide::new(x.len() as f64);
    let normal: Vec<Wide> = x.iter().map(|&x| group.normal(x)).collect();
    let mean = |f: &dyn Fn(usize) -> Wide| sum((0..x.len()).map(f)) / n;
    let mean_g = if centered { mean(&|i| g[i]) } else { ZERO };
    let mean_gx = mean(&|i| g[i] * normal[i]);
    let (size_g, size_gx) = (mean(&|i| g[i].abs()), mean(&|i| (g[i] * normal[i]).abs()));
    let one = Wide::new(1.0);
    let size = |i: usize| {
        let (size_g, added) = if centered { (size_g, one) } else { (ZERO, ZERO) };
        group.rstd * (g[i].abs() + size_g + (normal[i].abs() + added) * (size_gx + size_g))
    };
    let ordinary = if centered { ORDINARY } else { 1.0 };
    // Products and means, and x̂ without a mean, below the smallest number.
    let lost = |i: usize| {
        let of_normal = if centered { ZERO } else { normal[i].abs() * size_g + size_gx };
        let added = (normal[i].abs() + one) * 8.0 + of_normal * 2.0;
        group.rstd * added * (tiny::<T>() * ordinary)
    };
    Gradients {
        dx: (0..x.len()).map(|i| group.rstd * (g[i] - mean_g - normal[i] * mean_gx)).collect(),
        bound: (0..x.len()).map(|i| size(i) * (4.0 * group.error) + lost(i)).collect(),
        size: (0..x.len()).map(size).collect(),
        // Sums of g·x̂ and of g.
        holds: group.holds && (size_gx + size_g) * n * (4.0 * ordinary) <= limit::<T>(),
    }
}

fn row_roundings(n: usize) -> f64 {
    n.min(4096) as f64 / 16.0 + n as f64 / 4096.0 + 20.0
}

const EPS: [f64; 4] = [0.0, 1e-5, 0.0, 1e-30];

fn layer_like<T: Element>(scene: &Scene, claims: &Claims, layout: Layout, samples: usize) {
    let Layout { channels, inner, groups } = layout;
    let (depth, row) = (channels / groups, channels / groups * inner);
    let len = samples * channels * inner;
    let (x, dy) = (scene.numbers::<T>(0, len), scene.numbers::<T>(1, len));
    let gamma: Vec<T> = scene.numbers(2, channels);
    let (w, g, wide_gamma) = (wide(&x), wide(&dy), wide(&gamma));
    let k = row_roundings(row) + depth as f64 + samples as f64 + 84.0;
    let eps = EPS[scene.pick % 4];
    let all: Vec<Group> = w.chunks(row).map(|x| Group::new::<T>(x, eps, k, true)).collect();
    let mean: Vec<T> = all.iter().map(|group| group.saved::<T>()[0]).collect();
    let rstd: Vec<T> = all.iter().map(|group| group.saved::<T>()[1]).collect();
    let mut dx = vec![T::NAN; len];
    let [mut dgamma, mut dbeta] = [(); 2].map(|()| vec![T::NAN; channels]);
    let name = if inner == 1 && groups == 1 {
        let (x, cols, gamma, mean, rstd, dy) = (&x[..], channels, Some(&gamma[..]), &mean, &rstd, &dy);
        let (dx, dgamma, dbeta) = (&mut dx, Some(&mut dgamma[..]), Some(&mut dbeta[..]));
        layer_norm::Backward { x, cols, gamma, mean, rstd, dy, dx, dgamma, dbeta }.run().unwrap();
        "layer_norm"
    } else {
        group_norm::Backward {
            x: &x,
            layout,
            gamma: Some(&gamma),
            mean: &mean,
            rstd: &rstd,
            dy: &dy,
            dx: &mut dx,
            dgamma: Some(&mut dgamma),
            dbeta: Some(&mut dbeta),
        }
        .run()
        .unwrap();
        "group_norm"
    };
    let channel = |i: usize| i / inner % channels;
    let scaled: Vec<Wide> = (0..len).map(|i| g[i] * wide_gamma[channel(i)]).collect();
    let long = inner >= 64;
    for (r, group) in all.iter().enumerate() {
        let part = r * row..(r + 1) * row;
        let expected = gradients::<T>(&w[part.clone()], &scaled[part.clone()], group, true);
        // With γ apart, the sums are of dy alone, and the factor is γ·rstd.
        let terms = |i: usize| g[i].abs() * (group.normal(w[i]).abs() + Wide::new(1.0));
        let sums_hold = sum(part.clone().map(terms)) * (2.0 * ORDINARY) <= limit::<T>();
        let factor = |i: usize| group.rstd * wide_gamma[channel(part.start + i)];
        let lost = |i: usize| {
            let largest_gamma = largest(wide_gamma.iter().copied());
            let normal = group.normal(w[part.start + i]).abs() + Wide::new(1.0);
            if !long {
                return ZERO;
            }
            let sums = group.rstd * largest_gamma * (4.0 * ORDINARY * row as f64);
            (sums + Wide::new(4.0)) * normal * tiny::<T>()
        };
        claims.claim(
            &format!("{name} {layout:?} dx of row {r}"),
            &dx[part.clone()],
            &expected.dx,
            |i| expected.bound[i] + lost(i),
            |i| {
                expected.holds
                    && expected.size[i] * 2.0 <= limit::<T>()
                    && (!long || sums_hold && is_normal::<T>(factor(i)))
            },
        );
    }
    let over = |c: usize, f: &dyn Fn(usize) -> Wide| sum((0..len).filter(|&i| channel(i) == c).map(f));
    let normal = |i: usize| all[i / row].normal(w[i]);
    let one = Wide::new(1.0);
    let exact: Vec<Wide> = (0..channels).map(|c| over(c, &|i| g[i] * normal(i))).collect();
    let sizes: Vec<Wide> =
        (0..channels).map(|c| over(c, &|i| g[i].abs() * (normal(i).abs() + one))).collect();
    let worst = all.iter().fold(0.0, |worst: f64, group| worst.max(group.error));
    let holds = all.iter().all(|group| group.holds);
    claims.claim(
        &format!("{name} {layout:?} dgamma"),
        &dgamma,
        &exact,
        |c| sizes[c] * worst + tiny::<T>() * (4.0 * ORDINARY * len as f64),
        |c| holds && sizes[c] * (2.0 * ORDINARY) <= limit::<T>(),
    );
    let exact: Vec<Wide> = (0..channels).map(|c| over(c, &|i| g[i])).collect();
    let sizes: Vec<Wide> = (0..channels).map(|c| over(c, &|i| g[i].abs())).collect();
    claims.claim(
        &format!("{name} {layout:?} dbeta"),
        &dbeta,
        &exact,
        |c| sizes[c] * units::<T>(k + len as f64),
        |c| sizes[c] <= limit::<T>(),
    );
}

#[test]
fn gradients_of_normalised_rows_are_right_at_every_size() {
    fn layers<T: Element>(scene: &Scene, claims: &Claims) {
        let layout = Layout { channels: scene.cols, inner: 1, groups: 1 };
        layer_like::<T>(scene, claims, layout, scene.rows.min(6));
    }
    hold_for_both!(250, 0.15, layers);
}

#[test]
fn gradients_of_normalised_groups_are_right_at_every_size() {
    fn groups<T: Element>(scene: &Scene, claims: &Claims) {
        let groups = 1 + scene.pick / 4 % 2;
        let inner = [1 + scene.cols % 7, 64 + scene.cols][scene.pick / 8 % 2];
        let layout = Layout { channels: groups * (1 + scene.cols % 3), inner, groups };
        layer_like::<T>(scene, claims, layout, scene.rows.min(3));
    }
    hold_for_both!(120, 0.15, groups);
}

#[test]
fn gradients_of_rows_by_their_mean_square_are_right_at_every_size() {
    fn law<T: Element>(scene: &Scene, claims: &Claims) {
        let (rows, cols) = (scene.rows.min(6), scene.cols);
        let len = rows * cols;
        let (x, dy) = (scene.numbers::<T>(0, len), scene.numbers::<T>(1, len));
        let gamma: Vec<T> = scene.numbers(2, cols);
        let (w, g, wide_gamma) = (wide(&x), wide(&dy), wide(&gamma));
        let k = row_roundings(cols) + rows as f64 + 20.0;
        let all: Vec<Group> =
            w.chunks(cols).map(|x| Group::new::<T>(x, EPS[scene.pick % 4], k, false)).collect();
        let rstd: Vec<T> = all.iter().map(|group| group.saved::<T>()[1]).collect();
        let (mut dx, mut dgamma) = (vec![T::NAN; len], vec![T::NAN; cols]);
        rms_norm::Backward {
            x: &x,
            cols,
            gamma: Some(&gamma),
            rstd: &rstd,
            dy: &dy,
            dx: &mut dx,
            dgamma: Some(&mut dgamma),
        }
        .run()
        .unwrap();
        let scaled: Vec<Wide> = (0..len).map(|i| g[i] * wide_gamma[i % cols]).collect();
        for (r, group) in all.iter().enumerate() {
            let part = r * cols..(r + 1) * cols;
            let expected = gradients::<T>(&w[part.clone()], &scaled[part.clone()], group, false);
            claims.claim(
                "rms_norm dx",
                &dx[part],
                &expected.dx,
                |i| expected.bound[i],
                |i| expected.holds && expected.size[i] * 2.0 <= limit::<T>(),
            );
        }
        let normal = |i: usize| all[i / cols].normal(w[i]);
        let over = |c: usize, f: &dyn Fn(usize) -> Wide| sum((0..rows).map(|r| f(r * cols + c)));
        let exact: Vec<Wide> = (0..cols).map(|c| over(c, &|i| g[i] * normal(i))).collect();
        let sizes: Vec<Wide> = (0..cols).map(|c| over(c, &|i| (g[i] * normal(i)).abs())).collect();
        // Of an x̂ below the smallest number nothing is left.
        let lost: Vec<Wide> = (0..cols).map(|c| over(c, &|i| g[i].abs() * tiny::<T>())).collect();
        let holds = all.iter().all(|group| group.holds);
        claims.claim(
            "rms_norm dgamma",
            &dgamma,
            &exact,
            |c| sizes[c] * units::<T>(2.0 * k) + lost[c] + tiny::<T>() * (2.0 * rows as f64),
            |c| holds && sizes[c] * 2.0 <= limit::<T>(),
        );
    }
    hold_for_both!(250, 0.15, law);
}

#[test]
fn gradients_of_normalised_columns_are_right_at_every_size() {
    fn law<T: Element>(scene: &Scene, claims: &Claims) {
        let (rows, cols) =
            ([scene.rows + 1, 3 * scene.rows + 125][usize::from(scene.pick % 20 == 7)], scene.cols);
        let len = rows * cols;
        let (x, dy) = (scene.numbers::<T>(0, len), scene.numbers::<T>(1, len));
        let gamma: Vec<T> = scene.numbers(2, cols);
        let (w, g, wide_gamma) = (wide(&x), wide(&dy), wide(&gamma));
        let k = rows.min(128) as f64 + 30.0;
        let (eps, one) = (EPS[scene.pick % 4], Wide::new(1.0));
        let column =
            |x: &[Wide], c: usize| -> Vec<Wide> { x.iter().skip(c).step_by(cols).copied().collect() };
        let all: Vec<Group> = (0..cols).map(|c| Group::new::<T>(&column(&w, c), eps, k, true)).collect();
        let mean: Vec<T> = all.iter().map(|group| group.saved::<T>()[0]).collect();
        let rstd: Vec<T> = all.iter().map(|group| group.saved::<T>()[1]).collect();
        let gate = scene.pick.is_multiple_of(3).then(|| vec![T::ONE; len]);
        let gate = gate.as_ref().map(|y| Gate { y, scale: T::ONE });
        let mut dx = vec![T::NAN; len];
        let [mut dgamma, mut dbeta] = [(); 2].map(|()| vec![T::NAN; cols]);
        let gamma = &gamma[..];
        batch_norm::Backward {
            x: &x,
            cols,
            gamma: Some(gamma),
            mean: &mean,
            rstd: &rstd,
            gate,
            dy: &dy,
            dx: &mut dx,
            dgamma: Some(&mut dgamma),
            dbeta: Some(&mut dbeta),
        }
        .run()
        .unwrap();
        for (c, group) in all.iter().enumerate() {
            let (x, g) = (column(&w, c), column(&g, c));
            let expected = gradients::<T>(&x, &g, group, true);
            let dx: Vec<T> = dx.iter().skip(c).step_by(cols).copied().collect();
            let factor = group.rstd * wide_gamma[c];
            let size = largest(g.iter().copied()) * group.rstd;
            let exact: Vec<Wide> = expected.dx.iter().map(|&dx| dx * wide_gamma[c]).collect();
            let gamma = wide_gamma[c].abs();
            claims.claim(
                "batch_norm dx",
                &dx,
                &exact,
                |i| expected.bound[i] * gamma,
                |i| {
                    expected.holds
                        && is_normal::<T>(factor)
                        && is_normal::<T>(size)
                        && is_normal::<T>(size * (2.0 * (rows as f64).sqrt()))
                        && expected.size[i] * gamma * 2.0 <= limit::<T>()
                },
            );
            let normal = |i: usize| group.normal(x[i]);
            let exact = sum((0..rows).map(|i| g[i] * normal(i)));
            let size = sum((0..rows).map(|i| g[i].abs() * (normal(i).abs() + one)));
            claims.claim(
                "batch_norm dgamma",
                &dgamma[c..c + 1],
                &[exact],
                |_| size * group.error + tiny::<T>() * (4.0 * ORDINARY * rows as f64),
                |_| group.holds && size * (2.0 * ORDINARY) <= limit::<T>(),
            );
            let (exact, size) = (sum(g.iter().copied()), sum(g.iter().map(|g| g.abs())));
            let bound = |_: usize| size * units::<T>(rows as f64);
            claims.claim("batch_norm dbeta", &dbeta[c..c + 1], &[exact], bound, |_| size <= limit::<T>());
        }
    }
    hold_for_both!(100, 0.15, law);
}

#[test]
fn gradients_by_given_statistics_are_right_at_every_size() {
    fn law<T: Element>(scene: &Scene, claims: &Claims) {
        let (rows, cols) = (scene.rows, scene.cols);
        let len = rows * cols;
        let (x, dy) = (scene.numbers::<T>(0, len), scene.numbers::<T>(1, len));
        let [gamma, mean] = [2, 0].map(|operand| scene.numbers::<T>(operand, cols));
        let var: Vec<T> = scene.numbers::<T>(3, cols).iter().map(|var| var.abs()).collect();
        let mut dx = vec![T::NAN; len];
        let [mut dgamma, mut dbeta] = [(); 2].map(|()| vec![T::NAN; cols]);
        let run = |dx: &mut [T], dgamma: &mut [T], dbeta: &mut [T]| -> Result<()> {
            batch_norm::InferBackward {
                x: &x,
                cols,
                gamma: Some(&gamma),
                running_mean: &mean,
                running_var: &var,
                eps: 0.0,
                dy: &dy,
                dx,
                dgamma: Some(dgamma),
                dbeta: Some(dbeta),
            }
            .run()
        };
        run(&mut dx, &mut dgamma, &mut dbeta).unwrap();
        let (w, g, gamma, mean, var) = (wide(&x), wide(&dy), wide(&gamma), wide(&mean), wide(&var));
        let rstd: Vec<Wide> =
            var.iter().map(|&var| if var == ZERO { ZERO } else { Wide::new(1.0) / var.sqrt() }).collect();
        let factor = |c: usize| rstd[c] * gamma[c];
        let exact: Vec<Wide> = (0..len).map(|i| g[i] * factor(i % cols)).collect();
        let ulps = |i: usize| exact[i].abs() * units::<T>(10.0);
        claims.claim("infer dx", &dx, &exact, ulps, |i| is_normal::<T>(factor(i % cols)));
        for c in 0..cols {
            let places = || (0..rows).map(|r| r * cols + c);
            let term = |i: usize| g[i] * (w[i] - mean[c]) * rstd[c];
            let (exact, size) = (sum(places().map(term)), sum(places().map(|i| term(i).abs())));
            let apart = largest(places().map(|i| w[i] - mean[c])).max(mean[c].abs());
            // What is given may be many times 1/rstd, or far less.
            let normal = (apart * rstd[c]).abs() * 4.0;
            let size_g = largest(places().map(|i| g[i]));
            claims.claim(
                "infer dgamma",
                &dgamma[c..c + 1],
                &[exact],
                |_| {
                    size * units::<T>(rows as f64 + 30.0)
                        + tiny::<T>() * (4.0 * ORDINARY * rows as f64) * (Wide::new(2.0) + size_g)
                },
                |_| {
                    let numbers = apart <= limit::<T>() && normal <= limit::<T>();
                    rstd[c] != ZERO && numbers && size * (2.0 * ORDINARY) <= limit::<T>()
                },
            );
        }
    }
    hold_for_both!(150, 0.15, law);
}
