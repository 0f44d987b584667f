//! The floating-point environment of a thread: rounding mode, exception masks, and the treatment of subnormal
//! numbers.
//!
//! A process may change it behind our back: a library that was linked with `-ffast-math` flushes subnormal
//! numbers from the moment it is loaded, audio code does so on purpose, interval arithmetic rounds upwards.
//! So every kernel [`enter`]s the environment that its settings require and restores the previous one, on
//! each of its threads. Usually the two are the same, which costs one read and one comparison.
//!
//! What counts are control bits. The status flags, which say that something overflowed or was inexact, are
//! raised by kernels as by any other arithmetic; only where the environment had to be changed on x86, whose
//! flags are in the same register, do they come back as they were, too.
//!
//! | | x86, x86-64 | AArch64 |
//! |---|---|---|
//! | register | MXCSR | FPCR, FPSR |
//! | subnormal results are flushed | after rounding | before rounding |
//! | subnormal operands that are kept raise a flag | yes | no |
//!
//! On other architectures, and in Miri, the environment is taken to be the default one, and flushing is not
//! available.

use std::marker::PhantomData;

use super::{Element, Float, Simd, smallest_normal};

/// The control bits that a kernel runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Environment(Word);

impl Environment {
    /// Rounding to nearest, no exception traps, subnormal numbers are kept.
    pub const KEEP: Self = Self(register::KEEP);
    /// The same, but subnormal operands and results count as 0 of their sign; `None` where it cannot be had.
    pub const FLUSH: Option<Self> = match register::FLUSH {
        Some(word) => Some(Self(word)),
        None => None,
    };

    /// Makes this the thread's environment until the result is dropped, also by a panic.
    #[inline(always)]
    #[must_use = "the environment is put back when it is dropped"]
    pub fn enter(self) -> Entered {
        let found = register::control();
        let changed = found & register::CONTROL != self.0;
        if changed {
            set_word(found & !register::CONTROL | self.0);
        }
        Entered { found, changed, thread: PhantomData }
    }
}

/// Runs `f`, arithmetic outside of kernels, in this environment.
pub(crate) fn within<R>(environment: Environment, f: impl FnOnce() -> R) -> R {
    // The compiler may move arithmetic over the change of the environment, but not out of a function.
    #[inline(never)]
    fn apart<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
    let _entered = environment.enter();
    apart(f)
}

/// An [`Environment`] in force. It ends on the thread where it began.
pub(crate) struct Entered {
    found: Word,
    changed: bool,
    thread: PhantomData<*const ()>,
}

impl Drop for Entered {
    #[inline(always)]
    fn drop(&mut self) {
        if self.changed {
            set_word(self.found);
        }
    }
}

#[cold]
#[inline(never)]
fn set_word(word: Word) {
    register::set_control(word);
}

/// Zeros with their signs in place of subnormal numbers: for what is stored where [`Environment::FLUSH`] is
/// not to be had.
#[inline(always)]
pub(crate) fn normal_or_zero<T: Element, S: Simd>(s: S, x: T::Vector<S>) -> T::Vector<S> {
    let subnormal = x.abs().lt(s.splat(T::from_f64(smallest_normal::<T>())));
    T::Vector::select(subnormal, s.splat(T::ZERO).copysign(x), x)
}

/// Whether arithmetic on this thread met a subnormal number since [`forget_subnormals`]: as an operand, where
/// the processor says so, or as a result that lost digits. Not while they are flushed: then they cost
/// nothing.
pub(crate) fn met_subnormals() -> bool {
    register::met_subnormals()
}

/// Clears what [`met_subnormals`] reads.
pub(crate) fn forget_subnormals() {
    register::set_met_subnormals(false);
}

/// Makes [`met_subnormals`] true, on behalf of another thread that met one.
pub(crate) fn note_subnormals() {
    register::set_met_subnormals(true);
}

#[cfg(all(any(target_arch = "x86_64", all(target_arch = "x86", target_feature = "sse")), not(miri)))]
mod register {
    use std::arch::asm;

    pub type Word = u32;
    /// Rounding to nearest is 0; a set mask lets an exception pass without a trap.
    pub const KEEP: Word = ALL_MASKED;
    pub const FLUSH: Option<Word> = Some(ALL_MASKED | FLUSH_RESULTS | FLUSH_OPERANDS);
    /// All but the status flags, which are the lowest six bits.
    pub const CONTROL: Word = ALL_MASKED | FLUSH_RESULTS | FLUSH_OPERANDS | ROUNDING;

    const ALL_MASKED: Word = 0x1F80;
    const ROUNDING: Word = 0x6000;
    const FLUSH_RESULTS: Word = 1 << 15;
    const FLUSH_OPERANDS: Word = 1 << 6;
    const MET_OPERAND: Word = 1 << 1;
    const MET_RESULT: Word = 1 << 4;

    #[inline(always)]
    pub fn control() -> Word {
        let mut word: Word = 0;
        // SAFETY: every x86 processor with SSE has the instruction, and it writes these four bytes only.
        unsafe { asm!("stmxcsr [{}]", in(reg) &mut word, options(nostack, preserves_flags)) };
        word
    }

    /// The word must have been read from the register but for bits of `CONTROL` and flags: bits that the
    /// processor does not know would be a fault.
    pub fn set_control(word: Word) {
        // SAFETY: the word has no bits but those that the register had or that all these processors have. The
        // compiler takes the environment for the default one when it computes constants, which is what `KEEP`
        // restores; what runs between two changes is behind calls that are not inlined.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &word, options(nostack, preserves_flags)) };
    }

    pub fn met_subnormals() -> bool {
        let word = control();
        word & FLUSH_RESULTS == 0 && word & (MET_OPERAND | MET_RESULT) != 0
    }

    pub fn set_met_subnormals(met: bool) {
        let others = control() & !(MET_OPERAND | MET_RESULT);
        set_control(if met { others | MET_OPERAND } else { others });
    }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
mod register {
    use std::arch::asm;

    pub type Word = u64;
    pub const KEEP: Word = 0;
    pub const FLUSH: Option<Word> = Some(FLUSH_ALL);
    /// Bits that change results or trap; the length and stride of short vectors and bits not yet assigned
    /// stay.
    pub const CONTROL: Word = FLUSH_ALL | ROUNDING | DEFAULT_NAN | TRAPS | ALTERNATE;

    const FLUSH_ALL: Word = 1 << 24;
    const ROUNDING: Word = 3 << 22;
    const DEFAULT_NAN: Word = 1 << 25;
    const TRAPS: Word = 0x9F00;
    /// FIZ, AH and NEP of the extension FEAT_AFP.
    const ALTERNATE: Word = 7;
    const MET_RESULT: Word = 1 << 3;
    const MET_OPERAND: Word = 1 << 7;

    #[inline(always)]
    pub fn control() -> Word {
        let word: Word;
        // SAFETY: the register can be read in user mode.
        unsafe { asm!("mrs {}, fpcr", out(reg) word, options(nomem, nostack, preserves_flags)) };
        word
    }

    /// As for x86.
    pub fn set_control(word: Word) {
        // SAFETY: the register can be written in user mode, and bits that a processor does not know are
        // ignored; for what the compiler assumes, see the x86 register.
        unsafe { asm!("msr fpcr, {}", in(reg) word, options(nostack, preserves_flags)) };
    }

    fn status() -> Word {
        let word: Word;
        // SAFETY: the register can be read in user mode.
        unsafe { asm!("mrs {}, fpsr", out(reg) word, options(nomem, nostack, preserves_flags)) };
        word
    }

    pub fn met_subnormals() -> bool {
        control() & FLUSH_ALL == 0 && status() & (MET_OPERAND | MET_RESULT) != 0
    }

    pub fn set_met_subnormals(met: bool) {
        let others = status() & !(MET_OPERAND | MET_RESULT);
        let word = if met { others | MET_RESULT } else { others };
        // SAFETY: the register can be written in user mode.
        unsafe { asm!("msr fpsr, {}", in(reg) word, options(nostack, preserves_flags)) };
    }
}

#[cfg(any(
    miri,
    not(any(
        target_arch = "x86_64",
        all(target_arch = "x86", target_feature = "sse"),
        target_arch = "aarch64"
    ))
))]
mod register {
    pub type Word = u32;
    pub const KEEP: Word = 0;
    pub const FLUSH: Option<Word> = None;
    pub const CONTROL: Word = 0;

    #[inline(always)]
    pub fn control() -> Word {
        0
    }
    pub fn set_control(_: Word) {}
    pub fn met_subnormals() -> bool {
        false
    }
    pub fn set_met_subnormals(_: bool) {}
}

use register::Word;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Dispatcher, Isa, Kernel, slices};
    #[cfg(not(miri))]
    use std::hint::black_box;

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
                |[], [x]| [normal_or_zero::<T, S>(s, x)],
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

    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    fn is_kept() -> bool {
        black_box(f32::MIN_POSITIVE) * black_box(0.5) != 0.0
    }

    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    #[test]
    fn an_environment_ends_where_it_began_and_after_a_panic() {
        let before = register::control() & register::CONTROL;
        let flush = Environment::FLUSH.expect("these processors flush");
        {
            let _flush = flush.enter();
            assert!(!is_kept());
            {
                let _keep = Environment::KEEP.enter();
                assert!(is_kept());
            }
            assert!(!is_kept());
            let _ = std::panic::catch_unwind(|| {
                let _keep = Environment::KEEP.enter();
                panic!("inside");
            });
            assert!(!is_kept());
        }
        assert!(is_kept());
        assert_eq!(register::control() & register::CONTROL, before);
    }

    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    #[test]
    fn a_result_that_is_subnormal_is_noticed() {
        let product = |x: f32| {
            forget_subnormals();
            black_box(black_box(x) * black_box(0.7));
            met_subnormals()
        };
        assert!(!product(1.0));
        assert!(product(f32::MIN_POSITIVE));
        note_subnormals();
        assert!(met_subnormals());
        forget_subnormals();
        assert!(!met_subnormals());
    }
}
