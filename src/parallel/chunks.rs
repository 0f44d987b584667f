//! Operands cut into chunks.

/// An operand that is cut into chunks, each of which is used once.
///
/// # Safety
/// Chunks of different indices do not overlap where they can be written.
pub(crate) unsafe trait Chunks: Sync {
    type Chunk;
    fn count(&self) -> usize;
    /// The bytes of all chunks.
    fn bytes(&self) -> usize;
    /// # Safety
    /// `index < count()`, and no index is passed twice.
    unsafe fn chunk(&self, index: usize) -> Self::Chunk;
}

/// The numbers below this one: next to other parts, the index of each chunk.
pub(crate) struct Indices(pub usize);

// SAFETY: numbers cannot be written.
unsafe impl Chunks for Indices {
    type Chunk = usize;
    fn count(&self) -> usize {
        self.0
    }
    fn bytes(&self) -> usize {
        0
    }
    unsafe fn chunk(&self, index: usize) -> usize {
        index
    }
}

/// A shared slice in chunks of a fixed length, the last one shorter. If it is empty, every chunk is empty.
pub(crate) struct Rows<'a, T>(pub &'a [T], pub usize);

/// A mutable slice in chunks of a fixed length, the last one shorter. If it is empty, every chunk is empty.
pub(crate) struct RowsMut<'a, T> {
    data: *mut T,
    len: usize,
    chunk: usize,
    owner: std::marker::PhantomData<&'a mut [T]>,
}

impl<'a, T> RowsMut<'a, T> {
    pub fn new(data: &'a mut [T], chunk: usize) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len(), chunk, owner: std::marker::PhantomData }
    }
}

// SAFETY: the chunks are disjoint parts of one exclusive slice, and each is handed out once.
unsafe impl<T: Send> Sync for RowsMut<'_, T> {}
// SAFETY: it owns the exclusive borrow of the slice.
unsafe impl<T: Send> Send for RowsMut<'_, T> {}

// SAFETY: shared chunks are only read.
unsafe impl<'a, T: Sync> Chunks for Rows<'a, T> {
    type Chunk = &'a [T];
    fn count(&self) -> usize {
        self.0.len().div_ceil(self.1.max(1))
    }
    fn bytes(&self) -> usize {
        size_of_val(self.0)
    }
    unsafe fn chunk(&self, index: usize) -> &'a [T] {
        let start = (index * self.1).min(self.0.len());
        &self.0[start..(start + self.1).min(self.0.len())]
    }
}

// SAFETY: chunks of different indices are different parts of the slice.
unsafe impl<'a, T: Send> Chunks for RowsMut<'a, T> {
    type Chunk = &'a mut [T];
    fn count(&self) -> usize {
        self.len.div_ceil(self.chunk.max(1))
    }
    fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }
    unsafe fn chunk(&self, index: usize) -> &'a mut [T] {
        let start = (index * self.chunk).min(self.len);
        // SAFETY: inside the exclusive slice; the caller passes each index once.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), self.chunk.min(self.len - start)) }
    }
}

macro_rules! tuple {
    ($($part:ident $index:tt),+) => {
        // SAFETY: each part keeps its own promise.
        unsafe impl<$($part: Chunks),+> Chunks for ($($part,)+) {
            type Chunk = ($($part::Chunk,)+);
            fn count(&self) -> usize {
                let counts = [$(self.$index.count()),+];
                debug_assert!(counts.iter().all(|&count| count == 0 || count == self.0.count()));
                self.0.count()
            }
            fn bytes(&self) -> usize {
                [$(self.$index.bytes()),+].iter().sum()
            }
            unsafe fn chunk(&self, index: usize) -> Self::Chunk {
                // SAFETY: the caller's promise.
                unsafe { ($(self.$index.chunk(index),)+) }
            }
        }
    };
}
tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
