//! The gradient of a product.

use super::check_rows;
use super::passes::{CHUNK, work};
use crate::buffer::Scratch;
use crate::context;
use crate::error::Result;
use crate::kernels::{compiled_once, lengths, power_of_two};
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::{Element, smallest_normal};

/// The gradient of the product of each row of `cols` elements: `dx[i] = dy·Π x[j]` over all j ≠ i, without a
/// division, so that it is right where elements are 0. `dy` has one element per row.
///
/// The product of the elements before i times that of the elements behind it, each in order: `cols·u`
/// relative, as long as the result is not subnormal. Where one of these products leaves the normal range, if
/// only for a part of a long row, the row is multiplied again with exponents kept apart.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) when `x` is not whole rows, `dy` does not have one element per row
/// or `dx` has another length than `x`.
///
/// ```
/// let mut dx = [0.0_f32; 3];
/// gristmill::kernels::reduce::prod_backward(&[2.0, 0.0, 5.0], &[1.0], 3, &mut dx)?;
/// assert_eq!(dx, [0.0, 10.0, 0.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
pub fn prod_backward<T: Element>(x: &[T], dy: &[T], cols: usize, dx: &mut [T]) -> Result<()> {
    compiled_once!("reduce::prod_backward", |x: &[T], dy: &[T], cols: usize, dx: &mut [T]| -> Result<()> {
        check_rows("prod", x, cols, dy)?;
        lengths!("prod", dx == x.len());
        if x.is_empty() {
            return Ok(());
        }
        let settings = context::settings()?;
        let chunk = (CHUNK / cols).max(1);
        let parts = (Rows(x, chunk * cols), Rows(dy, chunk), RowsMut::new(dx, chunk * cols));
        // Two chains of multiplications: some ten times a pass.
        parallel::for_each(settings, parts, 10 * work(x), |(x, dy, dx)| {
            for ((x, &dy), dx) in x.chunks_exact(cols).zip(dy).zip(dx.chunks_exact_mut(cols)) {
                products_of_the_others(x, dy, dx);
            }
        });
        Ok(())
    })
}

/// The gradient of the product of one row.
fn products_of_the_others<T: Element>(x: &[T], dy: T, dx: &mut [T]) {
    let mut smallest = T::INFINITY;
    let mut note = |product: T| smallest = if product.abs() < smallest { product.abs() } else { smallest };
    let mut before = T::ONE;
    for (&x, dx) in x.iter().zip(&mut *dx) {
        *dx = before;
        before = before * x;
        note(before);
    }
    let mut behind = dy;
    for (&x, dx) in x.iter().zip(&mut *dx).rev() {
        *dx = *dx * behind;
        behind = behind * x;
        note(behind);
    }
    // A product that is infinite or NaN stays so until the end; one that lost digits may be large again.
    if before.is_finite() && behind.is_finite() && smallest.to_f64() >= smallest_normal::<T>() {
        return;
    }
    // Fraction and exponent of each product.
    let mut products = Scratch::<f64>::new(2 * x.len());
    let products = products.as_chunks_mut::<2>().0;
    let mut before = Wide::ONE;
    for (&x, product) in x.iter().zip(&mut *products) {
        *product = [before.fraction, before.exponent as f64];
        before = before.times(Wide::new(x.to_f64()));
    }
    let mut behind = Wide::new(dy.to_f64());
    for ((&x, dx), &mut [fraction, exponent]) in x.iter().zip(dx).zip(products).rev() {
        let before = Wide { fraction, exponent: exponent as i64 };
        *dx = T::from_f64(before.times(behind).to_f64());
        behind = behind.times(Wide::new(x.to_f64()));
    }
}

/// A number with an exponent of its own, `fraction·2^exponent`: a product of many never leaves the range.
/// Zero, infinities and NaN have the exponent 0.
#[derive(Clone, Copy)]
struct Wide {
    /// Its magnitude is from 1 to 2.
    fraction: f64,
    exponent: i64,
}

impl Wide {
    const ONE: Self = Self { fraction: 1.0, exponent: 0 };

    fn new(x: f64) -> Self {
        if x == 0.0 || !x.is_finite() {
            return Self { fraction: x, exponent: 0 };
        }
        let (x, shifted) = if x.is_subnormal() { (x * power_of_two(54), 54) } else { (x, 0) };
        let (bits, exponents) = (x.to_bits(), 0x7ff << 52);
        let fraction = f64::from_bits((bits & !exponents) | (1023 << 52));
        Self { fraction, exponent: ((bits & exponents) >> 52) as i64 - 1023 - shifted }
    }

    fn times(self, other: Self) -> Self {
        let product = Self::new(self.fraction * other.fraction);
        Self { exponent: product.exponent + self.exponent + other.exponent, ..product }
    }

    fn to_f64(self) -> f64 {
        // Two factors: a single one would leave the range where the result is subnormal. Beyond ±2000 the
        // result is 0 or infinite anyway.
        let exponent = self.exponent.clamp(-2000, 2000);
        let half = exponent / 2;
        self.fraction * power_of_two(half) * power_of_two(exponent - half)
    }
}
