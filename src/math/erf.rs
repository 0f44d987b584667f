//! The error function 2/√π ∫₀ˣ e^(−t²) dt, within 1 ULP in f32 and 1.5 ULP in f64.
//!
//! |x| < 1: erf x = x + x·q(x²), where q is the minimax polynomial to erf(x)/x − 1; adding x last keeps the rounding
//! errors of q small against the result. q(z) = c₀ + z·(c₁ + z·p(z)), and what rounding takes from the sum in brackets,
//! the largest of these errors, joins c₀.
//!
//! |x| ≥ 1: erf |x| = 1 − exp(−g(|x| − 1)), where g is the minimax polynomial to −ln erfc(1 + u), weighted with
//! erfc(1 + u) ≤ 0.16. The error of the exponential counts only as far as erfc reaches, so that no square has to be
//! formed exactly and one exponential serves the whole range. N. Juffa used this form for single precision (NVIDIA
//! developer forum, 2014). From 4 (f32) and 6 (f64) on the result is 1. The coefficients are the fits `erf …` of
//! `tools/minimax.py`.

use super::{exp, polynomial, power_of_two};
use crate::simd::{Element, Float, Simd};

const NEAR_F32: [f32; 2] = [0.12837917, -0.37612626];
const NEAR_TAIL_F32: [f32; 5] = [0.112835854, -0.026853813, 0.0051883277, -0.00080101937, 7.853861e-05];
const FAR_F32: [f32; 9] = [
    1.8496056,
    2.6389675,
    0.84310687,
    0.041564785,
    -0.010050037,
    0.0020171911,
    -0.00029362142,
    2.3304156e-05,
    -2.5132027e-07,
];
/// What rounding took from the first coefficient: as much as all other errors of the fit together.
const FAR_REST_F32: f32 = -5.0471553e-08;
const NEAR_F64: [f64; 2] = [0.1283791670955126, -0.3761263890318375];
const NEAR_TAIL_F64: [f64; 11] = [
    0.11283791670954857,
    -0.026866170645072896,
    0.005223977624780878,
    -0.0008548326978742883,
    0.00012055331036923937,
    -1.4925593507463182e-05,
    1.6460972826013494e-06,
    -1.6350025315554023e-07,
    1.4657880449249878e-08,
    -1.1365668232387858e-09,
    5.945265450586091e-11,
];
const FAR_F64: [f64; 20] = [
    1.8496055099332482,
    2.638967514234791,
    0.8431072563585149,
    0.041561098045761316,
    -0.010033825424137575,
    0.001977902940483727,
    -0.00023732429307103998,
    -2.627183010940945e-05,
    2.714473672593492e-05,
    -9.58389516008655e-06,
    2.0274004346541067e-06,
    -1.1135510452549719e-07,
    -1.2073295352329692e-07,
    6.48994396756295e-08,
    -2.0244896077836677e-08,
    4.487835238564429e-09,
    -7.197662912097509e-10,
    7.993190534990943e-11,
    -5.507461109923331e-12,
    1.7716487703678924e-13,
];

/// erf x of 16 × f32.
#[inline(always)]
pub fn f32<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let size = s.splat(4.0_f32).min(x.abs());
    let g = polynomial(s, size - s.splat(f32::ONE), FAR_F32);
    let near = near::<f32, S, 5>(s, size * size, NEAR_F32, NEAR_TAIL_F32);
    let (front, rest, n) = exp::parts::<f32, S>(s, -g);
    let rest = front.neg_mul_add(s.splat(FAR_REST_F32), rest);
    join::<f32, S>(s, x, size, near, (front + rest) * power_of_two::<f32, S>(s, n))
}

/// erf x of 8 × f64.
#[inline(always)]
pub fn f64<S: Simd>(s: S, x: S::F64) -> S::F64 {
    let size = s.splat(6.0_f64).min(x.abs());
    let g = polynomial(s, size - s.splat(f64::ONE), FAR_F64);
    let near = near::<f64, S, 11>(s, size * size, NEAR_F64, NEAR_TAIL_F64);
    join::<f64, S>(s, x, size, near, exp::normal::<f64, S>(s, -g))
}

/// erf(x)/x − 1 for z = x² < 1.
#[inline(always)]
fn near<T: Element, S: Simd, const N: usize>(
    s: S,
    z: T::Vector<S>,
    front: [T; 2],
    tail: [T; N],
) -> T::Vector<S> {
    let (first, second) = (s.splat(front[0]), s.splat(front[1]));
    let tail = polynomial(s, z, tail);
    let slope = tail.mul_add(z, second);
    let lost = tail.mul_add(z, second - slope);
    slope.mul_add(z, lost.mul_add(z, first))
}

/// `size + size·near` below 1 and `1 − erfc` from there on, with the sign of x.
#[inline(always)]
fn join<T: Element, S: Simd>(
    s: S,
    x: T::Vector<S>,
    size: T::Vector<S>,
    near: T::Vector<S>,
    erfc: T::Vector<S>,
) -> T::Vector<S> {
    let one = s.splat(T::ONE);
    T::Vector::select(size.lt(one), size.mul_add(near, size), one - erfc).copysign(x)
}
