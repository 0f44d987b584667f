//! Subnormal numbers as zeros, for kernels whose formula says so.

#[cfg(all(target_arch = "x86_64", not(miri)))]
use std::arch::asm;

use super::{Element, Float, Simd};

/// Nearest rounding, all exceptions masked, subnormal operands (bit 6) and results (bit 15) as zeros.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const FLUSHING: u32 = 0x1F80 | 1 << 6 | 1 << 15;

/// While it lives, the vectors of kernels on this thread take subnormal operands for zeros and give zeros where a rounded
/// result would be subnormal, all with their signs. What the thread had set before comes back at its end, also after a
/// panic. Only where [`BY_THE_CPU`](Flush::BY_THE_CPU); elsewhere it does nothing.
///
/// The compiler need not know: kernels run in functions that are not inlined, on numbers from memory, so that none of
/// their arithmetic is done elsewhere.
#[must_use]
pub(crate) struct Flush {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    before: u32,
}

impl Flush {
    /// Whether the CPU flushes by itself, at no cost; elsewhere a kernel compares what it stores.
    pub const BY_THE_CPU: bool = cfg!(all(target_arch = "x86_64", not(miri)));

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[inline]
    pub fn begin() -> Self {
        let before = control();
        set_control(FLUSHING);
        Self { before }
    }

    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    #[inline]
    pub fn begin() -> Self {
        Self {}
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
impl Drop for Flush {
    #[inline]
    fn drop(&mut self) {
        set_control(self.before);
    }
}

/// The thread's MXCSR.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
fn control() -> u32 {
    let mut control = 0_u32;
    // SAFETY: it writes four bytes to `control`.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut control, options(nostack, preserves_flags)) };
    control
}

/// As an intrinsic it would be deprecated; as assembly nothing moves across it that reads or writes memory.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
fn set_control(control: u32) {
    // SAFETY: it reads four bytes; the reserved bits are 0 or as they were read.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const control, options(nostack, preserves_flags)) };
}

/// The same without the CPU's help: zeros with their signs in place of subnormal numbers.
#[inline(always)]
pub(crate) fn compared<T: Element, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    let least = if T::LANES == f32::LANES { f64::from(f32::MIN_POSITIVE) } else { f64::MIN_POSITIVE };
    let subnormal = x.abs().lt(s.splat(T::from_f64(least)));
    T::Vector::select(subnormal, s.splat(T::ZERO).copysign(x), x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Dispatcher, Isa, Kernel, slices};

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[test]
    fn what_was_set_before_comes_back_also_after_a_panic() {
        let before = control();
        // Rounding up.
        set_control(before | 2 << 13);
        let inside = {
            let _flush = Flush::begin();
            control()
        };
        let after = control();
        let caught = std::panic::catch_unwind(|| {
            let _flush = Flush::begin();
            panic!("of the test");
        });
        let after_panic = control();
        set_control(before);
        assert!(caught.is_err());
        assert_eq!([inside, after, after_panic], [FLUSHING, before | 2 << 13, before | 2 << 13]);
    }

    struct Compared<'a, T>(&'a mut [T]);

    impl<T: Element> Kernel for Compared<'_, T> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            slices::update(
                s,
                [],
                [self.0],
                #[inline(always)]
                |[], [x]| [compared::<T, S>(s, x)],
            );
        }
    }

    /// On other CPUs it is what keeps the state normal.
    #[test]
    fn comparing_takes_exactly_the_subnormal_numbers() {
        for isa in Isa::available().filter_map(Dispatcher::new) {
            let least = f32::MIN_POSITIVE;
            let kept = [least, -least, 1.0, 0.0, f32::INFINITY, -f32::INFINITY, f32::MAX, 2.0 * least];
            let taken = [least.next_down(), (-least).next_up(), 1e-45, -1e-45, least / 2.0];
            let mut x = [&kept[..], &taken, &[f32::NAN, -0.0, -least / 2.0]].concat();
            isa.run(Compared(&mut x));
            assert_eq!(x[..8], kept);
            assert_eq!(x[8..13], [0.0; 5]);
            assert!(x[13].is_nan() && x[14] == 0.0 && x[14].is_sign_negative() && x[15].is_sign_negative());

            let least = f64::MIN_POSITIVE;
            let mut x = [least, -least, least.next_down(), -least / 2.0, f64::NAN];
            isa.run(Compared(&mut x));
            assert_eq!(x[..4], [least, -least, 0.0, 0.0]);
            assert!(x[3].is_sign_negative() && x[4].is_nan());
        }
    }
}
