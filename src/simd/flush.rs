//! Subnormal numbers as zeros, for kernels whose formula says so.

#[cfg(all(target_arch = "x86_64", not(miri)))]
use std::arch::asm;

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

#[cfg(all(test, target_arch = "x86_64", not(miri)))]
mod tests {
    use super::*;

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
}
