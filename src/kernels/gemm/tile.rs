//! The microkernel: one tile of C in registers, one pass over k.

use crate::simd::{Element, Float, Isa, Kernel, Simd};

/// Eight rows as places from the first one: by 0, 1, 2, 4 strides and by 1 or 2 of its triple, by its fivefold and its
/// sevenfold, all of which an instruction can add to one address. Left alone, the compiler adds stride after stride in a
/// chain through the whole loop.
#[derive(Clone, Copy)]
pub(super) struct EightRows {
    one: isize,
    three: isize,
    five: isize,
    seven: isize,
}

impl EightRows {
    /// Rows of `T`, `stride` elements apart.
    #[inline(always)]
    pub fn new<T>(stride: isize) -> Self {
        let one = stride.wrapping_mul(size_of::<T>() as isize);
        let times = |n: isize| opaque(one.wrapping_mul(n));
        Self { one, three: times(3), five: times(5), seven: times(7) }
    }

    /// The place in row `i` that lies below this one of the first row.
    #[inline(always)]
    pub fn at<T>(self, first: *const T, i: usize) -> *const T {
        let Self { one, three, five, seven } = self;
        first.wrapping_byte_offset(
            [0, one, one.wrapping_mul(2), three, one.wrapping_mul(4), five, three.wrapping_mul(2), seven][i],
        )
    }
}

/// The same number, of which the compiler does not know how it came about.
#[inline(always)]
#[cfg_attr(any(miri, not(target_arch = "x86_64")), allow(unused_mut))]
fn opaque(mut x: isize) -> isize {
    // SAFETY: no instruction at all.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    unsafe {
        std::arch::asm!("/* {x} */", x = inout(reg) x, options(pure, nomem, nostack, preserves_flags));
    }
    x
}

/// Steps of k that B, and columns of A, are asked for before they are read.
const AHEAD: isize = 8;
/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// Asks for a line to be brought into the first cache.
#[inline(always)]
#[cfg_attr(any(miri, not(target_arch = "x86_64")), allow(unused_variables))]
fn prefetch<T>(line: *const T) {
    // SAFETY: SSE is part of x86-64, and a hint reads nothing.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.cast());
    }
}

/// Rows of A as the tile reads them: element (i, p) lies at `start + i · row_stride + p · col_stride`.
#[derive(Clone, Copy)]
pub(super) struct ARows<T> {
    pub start: *const T,
    pub row_stride: isize,
    pub col_stride: isize,
}

/// A panel of B: row p lies at `start + p · row_stride`, columns side by side. In its last register the first `tail`
/// lanes exist; when `WHOLE` the others can be read too.
#[derive(Clone, Copy)]
pub(super) struct BPanel<T> {
    pub start: *const T,
    pub row_stride: isize,
    pub tail: usize,
}

/// What becomes of the sums: `C ← alpha · sums + beta · C + bias`.
#[derive(Clone, Copy)]
pub(super) struct Finish<T> {
    pub alpha: T,
    /// Zero does not read C.
    pub beta: T,
    /// One element per column, from the tile's first, or null.
    pub col_bias: *const T,
    /// One element per row, from the tile's first, or null.
    pub row_bias: *const T,
}

/// C as the tile writes it: columns side by side.
#[derive(Clone, Copy)]
pub(super) struct CTile<T> {
    pub start: *mut T,
    pub row_stride: isize,
}

impl<T> CTile<T> {
    /// From element (row, col) on.
    #[inline(always)]
    pub fn at(self, row: usize, col: usize) -> Self {
        let down = (row as isize).wrapping_mul(self.row_stride);
        Self { start: self.start.wrapping_offset(down).wrapping_add(col), ..self }
    }
}

/// Which operands may not be in the first-level cache.
#[derive(Clone, Copy)]
pub(super) struct Far {
    pub b: bool,
    pub c: bool,
}

/// Calls `step` `k` times, with `ahead`: a loop of its own for each of the two.
#[inline(always)]
fn for_each_step(k: usize, ahead: bool, mut step: impl FnMut(bool)) {
    if ahead {
        (0..k).for_each(
            #[inline(always)]
            |_| step(true),
        );
    } else {
        (0..k).for_each(
            #[inline(always)]
            |_| step(false),
        );
    }
}

/// What a tile reads and writes, and over how many terms it sums.
#[derive(Clone, Copy)]
pub(super) struct Operands<T> {
    pub k: usize,
    pub a: ARows<T>,
    pub b: BPanel<T>,
    pub finish: Finish<T>,
    pub c: CTile<T>,
    pub far: Far,
}

impl<T> Operands<T> {
    /// The same for the rows after these.
    #[inline(always)]
    pub fn below(mut self, rows: usize) -> Self {
        self.a.start = self.a.start.wrapping_offset((rows as isize).wrapping_mul(self.a.row_stride));
        self.c = self.c.at(rows, 0);
        if !self.finish.row_bias.is_null() {
            self.finish.row_bias = self.finish.row_bias.wrapping_add(rows);
        }
        self
    }
}

/// `M` rows by `N` registers of C: `C ← alpha · (A · B) + beta · C + bias`, where each sum is a chain of `k` fused
/// multiply-adds from zero, in ascending order, whatever the tile. `FRONT` tiles have one register, and C
/// only columns in its first half.
///
/// Each is a function of its own: with many of them inlined into one, the compiler keeps strides on the stack.
pub(super) struct Tile<'a, T, const M: usize, const N: usize, const WHOLE: bool, const FRONT: bool>(
    &'a Operands<T>,
);

impl<'a, T, const M: usize, const N: usize, const WHOLE: bool, const FRONT: bool>
    Tile<'a, T, M, N, WHOLE, FRONT>
{
    /// # Safety
    /// `M` rows and `k` columns of A, `k` rows and `N` registers of B (the last one whole if `WHOLE`, else its first
    /// `tail` lanes), and the same rows and columns of C and of the biases exist; nobody else uses those of C.
    #[inline(always)]
    pub unsafe fn new(operands: &'a Operands<T>) -> Self {
        Self(operands)
    }
}

impl<T: Element, const M: usize, const N: usize, const WHOLE: bool, const FRONT: bool> Kernel
    for Tile<'_, T, M, N, WHOLE, FRONT>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Operands { k, a, b, finish, c, far } = *self.0;
        // SAFETY: all pointers stay within what was promised to `new`.
        unsafe {
            let mut sums = [[s.splat(T::ZERO); N]; M];
            let rows = EightRows::new::<T>(a.row_stride);
            // Left alone, the compiler takes the last rows from the first one, too, and their places do not fit the
            // registers.
            let sixth = opaque(a.row_stride.wrapping_mul(6));
            let mut a_col = [a.start, a.start.wrapping_offset(sixth)];
            let mut b_row = b.start;
            let [a_ahead, b_ahead] = [a.col_stride, b.row_stride].map(|stride| stride.wrapping_mul(AHEAD));
            // Rows go through their lines by themselves.
            let a_is_far = a.col_stride.unsigned_abs() >= LINE / size_of::<T>();
            // Where the sums will go.
            let mut c_row = c.start;
            let mut c_rows = if far.c { M } else { 0 };
            let ahead = const { matches!(S::ISA, Isa::Avx512) && N > 1 } && (far.b || far.c);
            for_each_step(
                k,
                ahead,
                #[inline(always)]
                |ahead: bool| {
                    if ahead && c_rows > 0 {
                        for j in 0..N {
                            prefetch(c_row.wrapping_add(j * T::LANES));
                        }
                        c_row = c_row.wrapping_offset(c.row_stride);
                        c_rows -= 1;
                    }
                    if ahead && a_is_far {
                        prefetch(a_col[0].wrapping_offset(a_ahead));
                    }
                    if ahead {
                        for j in 0..N {
                            prefetch(b_row.wrapping_offset(b_ahead).wrapping_add(j * T::LANES));
                        }
                    }
                    let mut b_registers = [s.splat(T::ZERO); N];
                    for (j, register) in b_registers.iter_mut().enumerate() {
                        let from = b_row.wrapping_add(j * T::LANES);
                        *register = if WHOLE || j + 1 < N {
                            T::Vector::load_ptr(s, from)
                        } else {
                            T::Vector::load_ptr_partial(s, from, b.tail)
                        };
                    }
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let a = s.splat(*rows.at(a_col[i / 6], i % 6));
                        for (sum, &b) in sums.iter_mut().zip(&b_registers) {
                            *sum = if FRONT { a.mul_add_front(b, *sum) } else { a.mul_add(b, *sum) };
                        }
                    }
                    a_col = a_col.map(|a_col| a_col.wrapping_offset(a.col_stride));
                    b_row = b_row.wrapping_offset(b.row_stride);
                },
            );
            finish.store(s, sums, c, b.tail);
        }
    }
}

impl<T: Element> Finish<T> {
    /// Writes the sums of a tile, in the last register of a row only the first `tail` lanes.
    ///
    /// # Safety
    /// The rows and columns of the tile exist in C and in the biases.
    #[inline(always)]
    pub unsafe fn store<S: Simd, const M: usize, const N: usize>(
        &self,
        s: S,
        sums: [[T::Vector<S>; N]; M],
        c: CTile<T>,
        tail: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            // Macros, since a closure may stay a function of its own, which lacks the instructions.
            macro_rules! load {
                ($from:expr, $j:expr) => {
                    if $j + 1 < N || tail == T::LANES {
                        T::Vector::load_ptr(s, $from.wrapping_add($j * T::LANES))
                    } else {
                        T::Vector::load_ptr_partial(s, $from.wrapping_add($j * T::LANES), tail)
                    }
                };
            }
            macro_rules! store {
                ($value:expr, $to:expr, $j:expr) => {
                    if $j + 1 < N || tail == T::LANES {
                        $value.store_ptr($to.wrapping_add($j * T::LANES))
                    } else {
                        $value.store_ptr_partial($to.wrapping_add($j * T::LANES), tail)
                    }
                };
            }
            let row = |i: usize| c.start.wrapping_offset((i as isize).wrapping_mul(c.row_stride));
            let biased = !self.col_bias.is_null() || !self.row_bias.is_null();
            if self.alpha == T::ONE && self.beta == T::ZERO && !biased {
                for (i, sums) in sums.into_iter().enumerate() {
                    for (j, sum) in sums.into_iter().enumerate() {
                        store!(sum, row(i), j);
                    }
                }
                return;
            }
            let (alpha, beta) = (s.splat(self.alpha), s.splat(self.beta));
            let mut col_bias = [s.splat(T::ZERO); N];
            if !self.col_bias.is_null() {
                for (j, bias) in col_bias.iter_mut().enumerate() {
                    *bias = load!(self.col_bias, j);
                }
            }
            for (i, sums) in sums.into_iter().enumerate() {
                for (j, sum) in sums.into_iter().enumerate() {
                    let mut value = if self.beta == T::ZERO {
                        sum * alpha
                    } else {
                        sum.mul_add(alpha, load!(row(i), j) * beta)
                    };
                    if !self.col_bias.is_null() {
                        value = value + col_bias[j];
                    }
                    if !self.row_bias.is_null() {
                        value = value + s.splat(*self.row_bias.wrapping_add(i));
                    }
                    store!(value, row(i), j);
                }
            }
        }
    }
}
