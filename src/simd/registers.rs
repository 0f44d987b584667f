//! The registers of an instruction set.

/// The architecture's registers that virtual registers of 64 bytes are made of. The shapes of the tiles of a
/// product follow from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterFile {
    /// Vector registers of the architecture.
    pub count: usize,
    /// How many of them make one virtual register.
    pub parts: usize,
    /// Vector registers that the mask of a virtual register takes.
    pub mask: usize,
    /// Whether part of a virtual register is loaded by a masked instruction, and not lane by lane.
    pub masked_loads: bool,
}

impl RegisterFile {
    /// Whether a virtual register is one of the architecture's, and so a load a whole line of the cache.
    pub const fn is_whole(self) -> bool {
        self.parts == 1
    }

    /// Whether a virtual register is a pair of which the second half can be left out by a mask, and then need
    /// not be computed ([`Float::mul_add_front`](super::Float::mul_add_front)).
    pub const fn has_fronts(self) -> bool {
        self.parts == 2 && self.masked_loads
    }
}
