/// Bytes from which choices are taken from the front; where they have ended, each choice is the first.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// A number below `n`, of one byte or, if that is too few, of three.
    pub fn below(&mut self, n: usize) -> usize {
        let bytes = if n <= 256 { 1 } else { 3 };
        let number = self.take(bytes).iter().fold(0, |number, &byte| number * 256 + usize::from(byte));
        number % n.max(1)
    }

    /// One of these.
    pub fn pick<X: Copy>(&mut self, from: &[X]) -> X {
        from[self.below(from.len())]
    }

    pub fn flag(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    pub fn u32(&mut self) -> u32 {
        self.take(4).iter().fold(0, |number, &byte| number << 8 | u32::from(byte))
    }

    /// The next `n` bytes, or those that are left.
    pub fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
