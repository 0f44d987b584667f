//! The microkernel: one tile of C in registers, one pass over k.

use std::mem::MaybeUninit;

use crate::simd::{Element, Float, Kernel, Simd};

/// Eight rows as places from the first one: by 0, 1, 2, 4 strides and by 1 or 2 of its triple, by its
/// fivefold and its sevenfold, all of which an instruction can add to one address. Left alone, the compiler
/// adds stride after stride in a chain through the whole loop.
#[derive(Clone, Copy)]
pub(super) struct EightRows([isize; 8]);

impl EightRows {
    /// Rows of `T`, `stride` elements apart.
    #[inline(always)]
    pub fn new<T>(stride: isize) -> Self {
        let one = stride.wrapping_mul(size_of::<T>() as isize);
        let three = opaque(one.wrapping_mul(3));
        let (five, seven) = (opaque(one.wrapping_mul(5)), opaque(one.wrapping_mul(7)));
        Self([0, one, one.wrapping_mul(2), three, one.wrapping_mul(4), five, three.wrapping_mul(2), seven])
    }

    /// The place in row `i` that lies below this one of the first row.
    #[inline(always)]
    pub fn at<T>(self, first: *const T, i: usize) -> *const T {
        first.wrapping_byte_offset(self.0[i])
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

/// How many steps of k ahead B, and columns of A, are prefetched.
const AHEAD_BY: isize = 8;
/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// Rows of A as the tile reads them: element (i, p) lies at `start + i · row_stride + p · col_stride`.
#[derive(Clone, Copy)]
pub(super) struct ARows<T> {
    pub start: *const T,
    pub row_stride: isize,
    pub col_stride: isize,
}

/// A panel of B: row p lies at `start + p · row_stride`, columns side by side. In its last register the first
/// `tail` lanes exist; when `WHOLE` the others can be read too.
#[derive(Clone, Copy)]
pub(super) struct BPanel<T> {
    pub start: *const T,
    pub row_stride: isize,
    pub tail: usize,
}

/// What is done with the sums: `C ← alpha · sums + beta · C + bias`.
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

/// `M` rows by `N` registers of C: `C ← alpha · (A · B) + beta · C + bias`, where each sum is a chain of `k`
/// fused multiply-adds from zero, in ascending order, whatever the tile. `FRONT` tiles have one register, and
/// C only columns in its first half.
///
/// Each is a function of its own: with many of them inlined into one, the compiler keeps strides on the
/// stack. There are hundreds of them, so that their loops count indices: iterators and closures would be most
/// of what is compiled.
pub(super) struct Tile<'a, T, const M: usize, const N: usize, const WHOLE: bool, const FRONT: bool>(
    &'a Operands<T>,
);

impl<'a, T: Element, const M: usize, const N: usize, const WHOLE: bool, const FRONT: bool>
    Tile<'a, T, M, N, WHOLE, FRONT>
{
    /// # Safety
    /// `M` rows and `k` columns of A, `k` rows and `N` registers of B (the last one whole if `WHOLE`, else
    /// its first `tail` lanes), and the same rows and columns of C and of the biases exist; nobody else uses
    /// those of C.
    #[inline(always)]
    pub unsafe fn new(operands: &'a Operands<T>) -> Self {
        Self(operands)
    }

    /// The sums over k; `AHEAD` asks for what comes next.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "see above")]
    fn sums<S: Simd, const AHEAD: bool>(&self, s: S) -> [[T::Vector<S>; N]; M] {
        let Operands { k, a, b, c, far, .. } = *self.0;
        let mut sums = [[s.splat(T::ZERO); N]; M];
        let rows = EightRows::new::<T>(a.row_stride);
        // Left alone, the compiler takes the last rows from the first one, too, and their places do not fit
        // the registers.
        let sixth = opaque(a.row_stride.wrapping_mul(6));
        let mut a_col = [a.start, a.start.wrapping_offset(sixth)];
        let mut b_row = b.start;
        let (a_ahead, b_ahead) = (a.col_stride.wrapping_mul(AHEAD_BY), b.row_stride.wrapping_mul(AHEAD_BY));
        // Rows go through their lines by themselves.
        let a_is_far = a.col_stride.unsigned_abs() >= LINE / size_of::<T>();
        // Where the sums will go.
        let mut c_row = c.start;
        let mut c_rows = if far.c { M } else { 0 };
        let mut left = k;
        while left > 0 {
            if AHEAD {
                if c_rows > 0 {
                    for j in 0..N {
                        s.prefetch(c_row.wrapping_add(j * T::LANES));
                    }
                    c_row = c_row.wrapping_offset(c.row_stride);
                    c_rows -= 1;
                }
                if a_is_far {
                    s.prefetch(a_col[0].wrapping_offset(a_ahead));
                }
                for j in 0..N {
                    s.prefetch(b_row.wrapping_offset(b_ahead).wrapping_add(j * T::LANES));
                }
            }
            let mut b_registers = [s.splat(T::ZERO); N];
            for j in 0..N {
                let from = b_row.wrapping_add(j * T::LANES);
                // SAFETY: the promise to `new`.
                b_registers[j] = unsafe {
                    if WHOLE || j + 1 < N {
                        T::Vector::load_ptr(s, from)
                    } else {
                        T::Vector::load_ptr_partial(s, from, b.tail)
                    }
                };
            }
            for i in 0..M {
                // SAFETY: the promise to `new`.
                let a = s.splat(unsafe { *rows.at(a_col[i / 6], i % 6) });
                for j in 0..N {
                    let (b, sum) = (b_registers[j], sums[i][j]);
                    sums[i][j] = if FRONT { a.mul_add_front(b, sum) } else { a.mul_add(b, sum) };
                }
            }
            a_col = [a_col[0].wrapping_offset(a.col_stride), a_col[1].wrapping_offset(a.col_stride)];
            b_row = b_row.wrapping_offset(b.row_stride);
            left -= 1;
        }
        sums
    }
}

impl<T: Element, const M: usize, const N: usize, const WHOLE: bool, const FRONT: bool> Kernel
    for Tile<'_, T, M, N, WHOLE, FRONT>
{
    type Output = ();

    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "see above")]
    fn run<S: Simd>(self, s: S) {
        let Operands { ref finish, c, b: BPanel { tail, .. }, far, .. } = *self.0;
        let mut sums = if const { S::FILE.is_whole() && N > 1 } && (far.b || far.c) {
            self.sums::<S, true>(s)
        } else {
            self.sums::<S, false>(s)
        };
        let count = if FRONT { T::LANES / 2 } else { T::LANES };
        // SAFETY: all pointers stay within what was promised to `new`.
        unsafe {
            if tail != count || !finish.only_adds_to_columns() {
                let mut registers = MaybeUninit::<[[Register; N]; M]>::uninit();
                let registers = registers.as_mut_ptr().cast::<Register>();
                for i in 0..M {
                    for j in 0..N {
                        sums[i][j].store_ptr(registers.add(i * N + j).cast());
                    }
                }
                return s.run(StoreRows::<T, N> { finish, sums: registers.cast(), rows: M, c, tail });
            }
            if !finish.col_bias.is_null() {
                for j in 0..N {
                    let from = finish.col_bias.wrapping_add(j * T::LANES);
                    let bias = if FRONT {
                        T::Vector::load_ptr_partial(s, from, T::LANES / 2)
                    } else {
                        T::Vector::load_ptr(s, from)
                    };
                    for i in 0..M {
                        sums[i][j] = sums[i][j] + bias;
                    }
                }
            }
            let mut to = c.start;
            for i in 0..M {
                for j in 0..N {
                    if FRONT {
                        sums[i][j].store_ptr_partial(to, T::LANES / 2);
                    } else {
                        sums[i][j].store_ptr(to.wrapping_add(j * T::LANES));
                    }
                }
                to = to.wrapping_offset(c.row_stride);
            }
        }
    }
}

/// Memory of a register.
#[repr(align(64))]
struct Register(#[allow(dead_code, reason = "only its place is used")] [u8; 64]);

/// Writes the sums of a tile, whatever follows them: row by row from memory, in a function of its own, which
/// all tiles of this width share.
struct StoreRows<'a, T, const N: usize> {
    finish: &'a Finish<T>,
    /// `rows` times `N` registers. They exist in C and in the biases, in the last register the first `tail`
    /// lanes.
    sums: *const T,
    rows: usize,
    c: CTile<T>,
    tail: usize,
}

impl<T: Element, const N: usize> Kernel for StoreRows<'_, T, N> {
    type Output = ();

    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "as in tiles")]
    fn run<S: Simd>(self, s: S) {
        let Self { finish, mut sums, rows, mut c, tail } = self;
        let mut finish = *finish;
        for _ in 0..rows {
            let mut row = [s.splat(T::ZERO); N];
            // SAFETY: as said of the fields.
            unsafe {
                for j in 0..N {
                    row[j] = T::Vector::load_ptr(s, sums.add(j * T::LANES));
                }
                finish.store(s, [row], c, tail);
                sums = sums.add(N * T::LANES);
            }
            c = c.at(1, 0);
            if !finish.row_bias.is_null() {
                finish.row_bias = finish.row_bias.wrapping_add(1);
            }
        }
    }
}

impl<T: Element> Finish<T> {
    /// `C ← sums`, or a number per column more.
    #[inline(always)]
    fn only_adds_to_columns(&self) -> bool {
        self.alpha == T::ONE && self.beta == T::ZERO && self.row_bias.is_null()
    }

    /// Writes the sums of a tile, in the last register of a row only the first `tail` lanes.
    ///
    /// # Safety
    /// The rows and columns of the tile exist in C and in the biases.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "as in tiles")]
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
            let mut to = c.start;
            let biased = !self.col_bias.is_null() || !self.row_bias.is_null();
            if self.alpha == T::ONE && self.beta == T::ZERO && !biased {
                for i in 0..M {
                    for j in 0..N {
                        store!(sums[i][j], to, j);
                    }
                    to = to.wrapping_offset(c.row_stride);
                }
                return;
            }
            let (alpha, beta) = (s.splat(self.alpha), s.splat(self.beta));
            let mut col_bias = [s.splat(T::ZERO); N];
            if !self.col_bias.is_null() {
                for j in 0..N {
                    col_bias[j] = load!(self.col_bias, j);
                }
            }
            for i in 0..M {
                for j in 0..N {
                    let mut value = if self.beta == T::ZERO {
                        sums[i][j] * alpha
                    } else {
                        sums[i][j].mul_add(alpha, load!(to, j) * beta)
                    };
                    if !self.col_bias.is_null() {
                        value = value + col_bias[j];
                    }
                    if !self.row_bias.is_null() {
                        value = value + s.splat(*self.row_bias.wrapping_add(i));
                    }
                    store!(value, to, j);
                }
                to = to.wrapping_offset(c.row_stride);
            }
        }
    }
}
