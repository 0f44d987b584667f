//! The error function 2/√π ∫₀ˣ e^(−t²) dt, within 1 ULP in f32 and 1.5 ULP in f64.
//!
//! For |x| < b, erf x = x + x·q(x²), where q is the minimax polynomial to erf(x)/x − 1; adding x last keeps
//! the rounding errors of q small compared with the result.
//!
//! For |x| ≥ b, erf |x| = 1 − erfc(b)·exp(−u·h(u)) with u = |x| − b, where h is the minimax polynomial to
//! ln(erfc(b)/erfc(b + u))/u, weighted with u·erfc(b + u). The error of the exponential is scaled by erfc, so
//! that no square has to be formed exactly and one exponential serves the whole range. N. Juffa used this
//! form for single precision (NVIDIA developer forum, 2014). Having the factor erfc(b) before the
//! exponential, and not its logarithm in the polynomial, keeps the argument of the exponential, and with it
//! its rounding error, small where erfc is large. From 4 (f32) and 6 (f64) on the result is 1. b is 13/16
//! (f32) or 1; the coefficients are the fits `erf …` of `tools/minimax.py`.

use super::{Format, exp, horner, polynomial, power_of_two};
use crate::simd::{Float, Simd};

const NEAR_F32: [f32; 6] = [0.12837917, -0.37612596, 0.11283028, -0.026816694, 0.005077085, -0.00064807106];
/// −h, and erfc(13/16).
const FAR_F32: [f32; 6] = [-2.3274622, -0.8174888, -0.049756363, 0.011893028, -0.0021374458, 0.00020606875];
const ERFC_F32: f32 = 0.25053596;
const NEAR_F64: [f64; 13] = [
    0.1283791670955126,
    -0.3761263890318375,
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
/// −h, and erfc(1).
const FAR_F64: [f64; 19] = [
    -2.638967514234754,
    -0.843107256360924,
    -0.041561097992120107,
    0.01003382483301366,
    -0.001977899138394824,
    0.00023730861917342026,
    2.6315782324520596e-05,
    -2.723200551421205e-05,
    9.71003549745792e-06,
    -2.1626693391011085e-06,
    2.202816861742902e-07,
    5.447000546819162e-08,
    -3.4450655745838055e-08,
    9.75107222893657e-09,
    -1.8196834163382623e-09,
    2.343745600478024e-10,
    -2.0174868097947987e-11,
    1.0481555741976396e-12,
    -2.488426717506529e-14,
];
const ERFC_F64: f64 = 0.15729920705028513;

/// erf x of 16 × f32.
#[inline(always)]
pub fn f32<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let size = s.splat(4.0_f32).min(x.abs());
    let (bound, near) = (0.8125, horner(s, size * size, NEAR_F32));
    let u = size - s.splat(bound);
    join::<f32, S>(s, x, size, near, bound, u * horner(s, u, FAR_F32), ERFC_F32)
}

/// erf x of 8 × f64.
#[inline(always)]
pub fn f64<S: Simd>(s: S, x: S::F64) -> S::F64 {
    let size = s.splat(6.0_f64).min(x.abs());
    let (bound, near) = (1.0, polynomial(s, size * size, NEAR_F64));
    let u = size - s.splat(bound);
    join::<f64, S>(s, x, size, near, bound, u * polynomial(s, u, FAR_F64), ERFC_F64)
}

/// `size + size·near` below `bound` and `1 − erfc·exp(exponent)` from there on, with the sign of x.
#[inline(always)]
fn join<T: Format, S: Simd>(
    s: S,
    x: T::Vector<S>,
    size: T::Vector<S>,
    near: T::Vector<S>,
    bound: T,
    exponent: T::Vector<S>,
    erfc: T,
) -> T::Vector<S> {
    let (n, r) = exp::reduce::<T, S>(s, exponent);
    let factor = power_of_two::<T, S>(s, n) * s.splat(erfc);
    let far = exp::near::<T, S>(s, r).neg_mul_add(factor, s.splat(T::ONE));
    T::Vector::select(size.lt(s.splat(bound)), size.mul_add(near, size), far).copysign(x)
}
