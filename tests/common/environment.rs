//! Floating-point environments that a process may have set, as other libraries do.

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod register {
    use std::arch::asm;

    pub fn read() -> u64 {
        let mut word = 0_u32;
        // SAFETY: every processor of this architecture has the instruction, and it writes these four bytes
        // only.
        unsafe { asm!("stmxcsr [{}]", in(reg) &mut word, options(nostack, preserves_flags)) };
        u64::from(word)
    }

    pub fn write(word: u64) {
        // SAFETY: a word that was read, with other control bits.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &(word as u32), options(nostack, preserves_flags)) };
    }

    /// All but the status flags.
    pub const CONTROL: u64 = 0xFFC0;
    /// Names, and the bits that are set.
    pub const SET: &[(&str, u64)] = &[
        ("flush of results", 1 << 15),
        ("flush of operands", 1 << 6),
        ("flush of both", 1 << 15 | 1 << 6),
        ("rounding down", 1 << 13),
        ("rounding up", 2 << 13),
        ("rounding towards 0", 3 << 13),
        ("all of it", 1 << 15 | 1 << 6 | 2 << 13),
    ];
    /// The masks of invalid operations, divisions by zero and overflows.
    pub const MASKS: u64 = 0x680;
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
mod register {
    use std::arch::asm;

    pub fn read() -> u64 {
        let word;
        // SAFETY: the register can be read in user mode.
        unsafe { asm!("mrs {}, fpcr", out(reg) word, options(nomem, nostack, preserves_flags)) };
        word
    }

    pub fn write(word: u64) {
        // SAFETY: the register can be written in user mode.
        unsafe { asm!("msr fpcr, {}", in(reg) word, options(nostack, preserves_flags)) };
    }

    pub const CONTROL: u64 = !0;
    pub const SET: &[(&str, u64)] = &[
        ("flush", 1 << 24),
        ("rounding up", 1 << 22),
        ("rounding down", 2 << 22),
        ("rounding towards 0", 3 << 22),
        ("default NaN", 1 << 25),
        ("flush and rounding up", 1 << 24 | 1 << 22),
    ];
    pub const MASKS: u64 = 0;
}

#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod register {
    pub fn read() -> u64 {
        0
    }
    pub fn write(_: u64) {}
    pub const CONTROL: u64 = 0;
    pub const SET: &[(&str, u64)] = &[];
    pub const MASKS: u64 = 0;
}

/// The control bits that are in force on this thread.
#[inline(never)]
pub fn control() -> u64 {
    register::read() & register::CONTROL
}

/// The name of an environment and its control bits.
pub type Within = (&'static str, u64);

/// Every environment, the default one first.
pub fn all() -> Vec<Within> {
    let default = control();
    let set = register::SET.iter().map(|&(name, bits)| (name, default | bits));
    let traps = ("traps", default & !register::MASKS);
    std::iter::once(("default", default)).chain(set).chain([traps]).collect()
}

/// Runs `f` in this environment, and checks that it leaves the control bits as they were. Where invalid
/// operations, divisions by zero and overflows are traps, `f` must not do any of its own.
pub fn run<R>((name, control_bits): Within, f: impl FnOnce() -> R) -> R {
    #[inline(never)]
    fn apart<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
    struct Restore(u64);
    impl Drop for Restore {
        fn drop(&mut self) {
            register::write(self.0);
        }
    }
    let before = register::read();
    let _restore = Restore(before);
    register::write(before & !register::CONTROL | control_bits);
    let result = apart(f);
    let after = control();
    assert_eq!(after, control_bits, "{name}: the environment after the call is not the one before");
    result
}
