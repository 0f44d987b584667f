//! What follows from the list of instruction sets: their names, their tokens, and the dispatch.

use std::fmt;

use super::{Dispatcher, Isa, Portable};

/// Makes [`Isa`] and [`Dispatcher`] of the list of instruction sets, the widest last: docs, the token (whose name
/// is also that of the variants), the name for users, the file, the targets for which it is compiled, and whether
/// it has fused multiply-add.
macro_rules! instruction_sets {
    ($(
        $(#[doc = $doc:literal])+
        $set:ident $name:literal in $file:ident, cfg($($cfg:tt)+), fused: $fused:expr;
    )+) => {
        $(
            #[cfg($($cfg)+)]
            pub use $file::$set;
        )+

        /// The name of an instruction set, also of one that another architecture has.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Isa {
            $($(#[doc = $doc])+ $set,)+
        }

        impl Isa {
            const ALL: &[Isa] = &[$(Isa::$set),+];

            /// As in `GRISTMILL_ISA`, in lower case.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Isa::$set => $name,)+
                }
            }

            /// Whether [`Float::mul_add`] rounds once. All sets for which this holds give the same bits.
            pub const fn has_fma(self) -> bool {
                match self {
                    $(Isa::$set => $fused,)+
                }
            }
        }

        /// A token of one of the instruction sets of this CPU.
        #[derive(Clone, Copy, Debug)]
        pub enum Dispatcher {
            $(
                #[doc = concat!("The token of [`Isa::", stringify!($set), "`].")]
                #[cfg($($cfg)+)]
                $set($set),
            )+
        }

        impl Dispatcher {
            /// The token of `isa`, if this CPU has it.
            pub fn new(isa: Isa) -> Option<Self> {
                match isa {
                    $(
                        #[cfg($($cfg)+)]
                        Isa::$set => $set::new().map(Self::$set),
                        #[cfg(not($($cfg)+))]
                        Isa::$set => None,
                    )+
                }
            }

            /// Which instruction set this is.
            pub const fn isa(self) -> Isa {
                match self {
                    $(
                        #[cfg($($cfg)+)]
                        Self::$set(_) => Isa::$set,
                    )+
                }
            }

            /// The registers of this instruction set.
            #[inline(always)]
            pub const fn register_file(self) -> RegisterFile {
                match self {
                    $(
                        #[cfg($($cfg)+)]
                        Self::$set(_) => $set::FILE,
                    )+
                }
            }

            /// Runs the kernel with this instruction set.
            #[inline]
            pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
                match self {
                    $(
                        #[cfg($($cfg)+)]
                        Self::$set(s) => s.run(kernel),
                    )+
                }
            }
        }

        $(
            #[cfg($($cfg)+)]
            impl From<$set> for Dispatcher {
                fn from(s: $set) -> Self {
                    Self::$set(s)
                }
            }
        )+
    };
}
pub(super) use instruction_sets;

impl Isa {
    /// The instruction sets of this CPU, the widest last.
    pub fn available() -> impl Iterator<Item = Isa> {
        Self::ALL.iter().copied().filter(|&isa| Dispatcher::new(isa).is_some())
    }

    /// The instruction set with this [`name`](Isa::name).
    pub fn from_name(name: &str) -> Option<Isa> {
        Self::ALL.iter().copied().find(|isa| isa.name() == name)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Dispatcher {
    /// The token of the widest instruction set of this CPU.
    pub fn widest() -> Self {
        Isa::available().last().and_then(Self::new).unwrap_or(Self::Portable(Portable))
    }
}
