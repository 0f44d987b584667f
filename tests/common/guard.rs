//! Memory whose neighbours cannot be touched: whoever reads or writes one byte outside dies.

use std::ops::{Deref, DerefMut};
use std::ptr;

/// A slice with an unmapped page right before it or right after it.
pub struct Guarded<T> {
    pages: *mut libc::c_void,
    bytes: usize,
    start: *mut T,
    len: usize,
}

impl<T: Copy> Guarded<T> {
    /// The values, with an unmapped page after the last of them.
    pub fn before_the_end(values: &[T]) -> Self {
        Self::new(values, true)
    }

    /// The values, with an unmapped page before the first of them.
    pub fn after_the_start(values: &[T]) -> Self {
        Self::new(values, false)
    }

    fn new(values: &[T], at_end: bool) -> Self {
        // SAFETY: a fresh mapping, of which the first and the last page lose all rights; the values fit
        // between them.
        unsafe {
            let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
            let inside = size_of_val(values).next_multiple_of(page);
            let bytes = inside + 2 * page;
            let (rights, kind) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let pages = libc::mmap(ptr::null_mut(), bytes, rights, kind, -1, 0);
            assert_ne!(pages, libc::MAP_FAILED);
            for guard in [pages, pages.add(page + inside)] {
                assert_eq!(libc::mprotect(guard, page, libc::PROT_NONE), 0);
            }
            let gap = if at_end { inside - size_of_val(values) } else { 0 };
            let start = pages.add(page + gap).cast::<T>();
            ptr::copy_nonoverlapping(values.as_ptr(), start, values.len());
            Self { pages, bytes, start, len: values.len() }
        }
    }
}

impl<T> Deref for Guarded<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len` initialised elements between the guards.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl<T> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `new`.
        unsafe { libc::munmap(self.pages, self.bytes) };
    }
}
