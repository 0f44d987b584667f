//! The gradients of the elementwise power of two arrays, `y = aᵇ`; the power itself is
//! [`Binary::Pow`](super::map::Binary::Pow).
//!
//! `da = dy·b·aᵇ⁻¹` and `db = dy·y·ln a`, as in PyTorch: da is 0 where b is 0, and db is 0 where a is 0 and b
//! ≥ 0; for negative a, db is NaN. Where b − 1 is rounded, its error counts |ln a| times; else da is within
//! 4u and db within 5u, as long as the power and its product with b or ln a are normal numbers.

use super::{Operand as _, compiled_once, lengths};
use crate::context;
use crate::error::Result;
use crate::parallel::{self, Rows, RowsMut};
use crate::simd::{Element, Float, Kernel, Mask, Simd, slices};

/// Elements per parallel chunk.
const CHUNK: usize = 4 * 1024;
/// Of the gradient of the base, which is a power itself. Measured on one core with AVX2, f32:
/// `cargo bench --bench criterion -- map/pow`.
const NANOSECONDS_PER_ELEMENT_BASE: f64 = 5.0;
/// Of the gradient of the exponent, which is a logarithm; measured likewise.
const NANOSECONDS_PER_ELEMENT_EXPONENT: f64 = 0.85;

/// The gradient of `a` from `a`, `b` and the gradient `dy` of `aᵇ`: `da[i] = dy·b·aᵇ⁻¹`.
///
/// ```
/// use gristmill::kernels::pow::BaseBackward;
/// let mut da = [0.0_f32; 2];
/// BaseBackward { a: &[3.0, 0.0], b: &[2.0, 0.0], dy: &[1.0, 1.0], da: &mut da }.run()?;
/// assert_eq!(da, [6.0, 0.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct BaseBackward<'a, T> {
    /// The bases.
    pub a: &'a [T],
    /// The exponents, of the length of `a`.
    pub b: &'a [T],
    /// The gradient of each power.
    pub dy: &'a [T],
    /// Output of the length of `a`.
    pub da: &'a mut [T],
}

impl<T: Element> BaseBackward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when the lengths differ.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("pow::base_backward", |call: BaseBackward<'_, T>| -> Result<()> {
            let BaseBackward { a, b, dy, da } = call;
            run(Side::Base, [a, b, dy], da)
        })
    }
}

/// The gradient of `b` from `a`, `b`, `y = aᵇ` and the gradient `dy` of that: `db[i] = dy·y·ln a`.
///
/// ```
/// use gristmill::kernels::pow::ExponentBackward;
/// let (y, mut db) = (&[1.0, 0.0], [0.0_f64; 2]);
/// ExponentBackward { a: &[1.0, 0.0], b: &[5.0, 2.0], y, dy: &[1.0, 1.0], db: &mut db }.run()?;
/// assert_eq!(db, [0.0, 0.0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct ExponentBackward<'a, T> {
    /// The bases.
    pub a: &'a [T],
    /// The exponents, of the length of `a`.
    pub b: &'a [T],
    /// The powers `aᵇ`.
    pub y: &'a [T],
    /// The gradient of each power.
    pub dy: &'a [T],
    /// Output of the length of `a`.
    pub db: &'a mut [T],
}

impl<T: Element> ExponentBackward<'_, T> {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when the lengths differ.
    pub fn run(self) -> Result<()> {
        let call = self;
        compiled_once!("pow::exponent_backward", |call: ExponentBackward<'_, T>| -> Result<()> {
            let ExponentBackward { a, b, y, dy, db } = call;
            lengths!("pow", y == a.len());
            run(Side::Exponent { y }, [a, b, dy], db)
        })
    }
}

#[derive(Clone, Copy)]
enum Side<'a, T> {
    Base,
    Exponent { y: &'a [T] },
}

fn run<T: Element>(side: Side<'_, T>, [a, b, dy]: [&[T]; 3], to: &mut [T]) -> Result<()> {
    lengths!("pow", b == a.len(), dy == a.len());
    to.expect_len("pow", if let Side::Base = side { "da" } else { "db" }, a.len())?;
    let settings = context::settings()?;
    let (y, nanoseconds) = match side {
        Side::Base => (a, NANOSECONDS_PER_ELEMENT_BASE),
        Side::Exponent { y } => (y, NANOSECONDS_PER_ELEMENT_EXPONENT),
    };
    let work = (a.len() as f64 * nanoseconds) as usize;
    let parts = (Rows(a, CHUNK), Rows(b, CHUNK), Rows(y, CHUNK), Rows(dy, CHUNK), RowsMut::new(to, CHUNK));
    let base = matches!(side, Side::Base);
    parallel::for_each(settings, parts, work, |(a, b, y, dy, to)| {
        settings.simd.run(BackwardChunk { base, reads: [a, b, y, dy], to });
    });
    Ok(())
}

struct BackwardChunk<'a, T> {
    base: bool,
    /// a, b, y, dy.
    reads: [&'a [T]; 4],
    to: &'a mut [T],
}

impl<T: Element> Kernel for BackwardChunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (zero, one) = (s.splat(T::ZERO), s.splat(T::ONE));
        if self.base {
            return slices::update(
                s,
                self.reads,
                [self.to],
                #[inline(always)]
                |[a, b, _, dy], _| {
                    let slope = b * T::pow(s, a, b - one);
                    [T::Vector::select(b.eq(zero), zero, dy * slope)]
                },
            );
        }
        slices::update(
            s,
            self.reads,
            [self.to],
            #[inline(always)]
            |[a, b, y, dy], _| [T::Vector::select(a.eq(zero).and(zero.le(b)), zero, dy * (y * T::ln(s, a)))],
        );
    }
}
