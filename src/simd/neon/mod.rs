//! NEON of 64-bit ARM: the virtual register is four vector registers of 128 bits, a mask has all bits of a lane
//! alike.

mod double;
mod single;

use super::{Float, Int, Isa, Kernel, Mask, RegisterFile, Simd, operators};

/// Proof that the CPU has NEON, as every one has that runs a system.
#[derive(Clone, Copy, Debug)]
pub struct Neon(());

impl Neon {
    /// The token, if the CPU has these instructions; none in Miri, which does not know them all.
    #[inline]
    pub fn new() -> Option<Self> {
        (cfg!(not(miri)) && std::arch::is_aarch64_feature_detected!("neon")).then_some(Self(()))
    }
}

impl Simd for Neon {
    const ISA: Isa = Isa::Neon;
    const FILE: RegisterFile = RegisterFile { count: 32, parts: 4, mask: 0, masked_loads: false };
    type F32 = F32;
    type F64 = F64;
    type U32 = U32;
    type U64 = U64;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "neon")]
        fn trampoline<K: Kernel>(s: Neon, kernel: K) -> K::Output {
            kernel.run(s)
        }
        // SAFETY: the token exists only where the CPU has NEON.
        unsafe { trampoline(self, kernel) }
    }

    #[inline(always)]
    fn widen(self, x: F32) -> (F64, F64) {
        // SAFETY: the vector is proof of NEON.
        unsafe {
            let (low, high) = (single::widen_low, single::widen_high);
            (F64(low(x.0), high(x.0), low(x.1), high(x.1)), F64(low(x.2), high(x.2), low(x.3), high(x.3)))
        }
    }

    #[inline(always)]
    fn narrow(self, first: F64, second: F64) -> F32 {
        let (a, b) = (first, second);
        // SAFETY: the vectors are proof of NEON.
        unsafe {
            F32(
                double::narrow(a.0, a.1),
                double::narrow(a.2, a.3),
                double::narrow(b.0, b.1),
                double::narrow(b.2, b.3),
            )
        }
    }
}

// Both widths have the same instructions, with other names. The files `single` and `double` give them the same
// names, and make pieces of those that differ; the macros below make vectors of them. Each `unsafe` leans on the
// same promise: a vector is made from the token `Neon`, which exists only where the CPU has the instructions.

/// 16 × f32.
#[derive(Clone, Copy, Debug)]
pub struct F32(single::Floats, single::Floats, single::Floats, single::Floats);
/// 8 × f64.
#[derive(Clone, Copy, Debug)]
pub struct F64(double::Floats, double::Floats, double::Floats, double::Floats);
/// 16 × u32.
#[derive(Clone, Copy, Debug)]
pub struct U32(single::Ints, single::Ints, single::Ints, single::Ints);
/// 8 × u64.
#[derive(Clone, Copy, Debug)]
pub struct U64(double::Ints, double::Ints, double::Ints, double::Ints);
/// 16 truth values, all bits of a lane alike.
#[derive(Clone, Copy, Debug)]
pub struct M32(single::Ints, single::Ints, single::Ints, single::Ints);
/// 8 truth values, all bits of a lane alike.
#[derive(Clone, Copy, Debug)]
pub struct M64(double::Ints, double::Ints, double::Ints, double::Ints);

/// A vector of four parts, each of which follows from those of other vectors.
macro_rules! parts {
    ($result:ident, |$($part:ident = $vector:ident),+| $value:expr) => {
        // SAFETY: the vectors are proof of NEON.
        unsafe {
            $result(
                { $(let $part = $vector.0;)+ $value },
                { $(let $part = $vector.1;)+ $value },
                { $(let $part = $vector.2;)+ $value },
                { $(let $part = $vector.3;)+ $value },
            )
        }
    };
}

macro_rules! unary {
    ($ops:ident; $($name:ident = $op:ident;)+) => { $(
        #[inline(always)]
        fn $name(self) -> Self {
            parts!(Self, |x = self| $ops::$op(x))
        }
    )+ };
}

macro_rules! binary {
    ($($name:ident -> $result:ident = |$x:ident, $y:ident| $value:expr;)+) => { $(
        #[inline(always)]
        fn $name(self, other: Self) -> $result {
            parts!($result, |$x = self, $y = other| $value)
        }
    )+ };
}

/// The fixed tree: lanes i and i + n/2, then i and i + n/4, …
macro_rules! reductions {
    ($ops:ident, $scalar:ident; $($name:ident = |$x:ident, $y:ident| $part:expr, $one:expr;)+) => { $(
        #[inline(always)]
        fn $name(self) -> $scalar {
            macro_rules! both {
                ($a:expr, $b:expr) => {{
                    let ($x, $y) = ($a, $b);
                    $part
                }};
            }
            // SAFETY: this vector is proof of NEON.
            unsafe {
                $ops::reduce(both!(both!(self.0, self.2), both!(self.1, self.3)), |$x, $y| $one)
            }
        }
    )+ };
}

macro_rules! float {
    ($vector:ident, $scalar:ident, $bits:ident, $mask:ident, $ops:ident, $part:literal) => {
        operators!($vector, |a, b|
            Add add parts!(Self, |x = a, y = b| $ops::add(x, y)),
            Sub sub parts!(Self, |x = a, y = b| $ops::sub(x, y)),
            Mul mul parts!(Self, |x = a, y = b| $ops::mul(x, y)),
            Div div parts!(Self, |x = a, y = b| $ops::div(x, y)));

        impl std::ops::Neg for $vector {
            type Output = Self;
            unary! { $ops; neg = neg; }
        }

        impl Float<Neon> for $vector {
            type Scalar = $scalar;
            type Bits = $bits;
            type Mask = $mask;

            #[inline(always)]
            fn splat(_: Neon, x: $scalar) -> Self {
                // SAFETY: the token is proof of NEON.
                let part = unsafe { $ops::splat(x) };
                Self(part, part, part, part)
            }
            #[inline(always)]
            unsafe fn load_ptr(_: Neon, from: *const $scalar) -> Self {
                // SAFETY: the caller's promise; the token is proof of NEON.
                unsafe {
                    Self(
                        $ops::load(from),
                        $ops::load(from.add($part)),
                        $ops::load(from.add(2 * $part)),
                        $ops::load(from.add(3 * $part)),
                    )
                }
            }
            #[inline(always)]
            unsafe fn load_ptr_partial(_: Neon, from: *const $scalar, count: usize) -> Self {
                let whole = count / $part;
                // SAFETY: reads `whole` parts and what is left of `count`; the token is proof of NEON.
                unsafe {
                    let (front, zero) = (
                        $ops::load_front(from.add(whole * $part), count % $part),
                        $ops::splat(0.0),
                    );
                    let part = |i: usize| match i {
                        _ if i < whole => $ops::load(from.add(i * $part)),
                        _ if i == whole => front,
                        _ => zero,
                    };
                    Self(part(0), part(1), part(2), part(3))
                }
            }
            #[inline(always)]
            unsafe fn store_ptr(self, to: *mut $scalar) {
                // SAFETY: the caller's promise; this vector is proof of NEON.
                unsafe {
                    $ops::store(to, self.0);
                    $ops::store(to.add($part), self.1);
                    $ops::store(to.add(2 * $part), self.2);
                    $ops::store(to.add(3 * $part), self.3);
                }
            }
            #[inline(always)]
            unsafe fn store_ptr_partial(self, to: *mut $scalar, count: usize) {
                let (whole, parts) = (count / $part, [self.0, self.1, self.2, self.3]);
                // SAFETY: writes `whole` parts and what is left of `count`; this vector is proof of NEON.
                unsafe {
                    for i in 0..4 {
                        if i < whole {
                            $ops::store(to.add(i * $part), parts[i]);
                        } else if i == whole {
                            $ops::store_front(to.add(i * $part), count % $part, parts[i]);
                        }
                    }
                }
            }
            #[inline(always)]
            unsafe fn transpose_ptr(
                _: Neon,
                from: *const $scalar,
                stride: usize,
                rows: usize,
                to: *mut $scalar,
                to_stride: usize,
            ) {
                for i in (0..4 * $part).step_by($part) {
                    let at: [_; $part] =
                        std::array::from_fn(|r| from.wrapping_add((i + r).min(rows - 1) * stride));
                    for j in (0..4 * $part).step_by($part) {
                        // SAFETY: the caller's promise; the token is proof of NEON.
                        unsafe {
                            let columns = $ops::columns(at.map(|row| row.add(j)));
                            for (c, column) in columns.into_iter().enumerate() {
                                $ops::store(to.add((j + c) * to_stride + i), column);
                            }
                        }
                    }
                }
            }
            #[inline(always)]
            unsafe fn mul_add_square(
                self,
                _: Neon,
                factors: *const $scalar,
                from: *const $scalar,
                stride: usize,
                rows: usize,
            ) -> Self {
                let mut sums = [self.0, self.1, self.2, self.3];
                let at: [_; 4 * $part] =
                    std::array::from_fn(|r| from.wrapping_add(r.min(rows - 1) * stride));
                for k in (0..4 * $part).step_by($part) {
                    for (sum, at) in sums.iter_mut().zip(at.as_chunks::<$part>().0) {
                        // SAFETY: the caller's promise; this vector is proof of NEON.
                        unsafe {
                            let columns = $ops::columns(at.map(|row| row.add(k)));
                            for (c, column) in columns.into_iter().enumerate() {
                                *sum = $ops::add_product(*sum, $ops::splat(*factors.add(k + c)), column);
                            }
                        }
                    }
                }
                let [a, b, c, d] = sums;
                Self(a, b, c, d)
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                parts!(Self, |x = self, y = a, z = b| $ops::add_product(z, x, y))
            }
            #[inline(always)]
            fn mul_sub(self, a: Self, b: Self) -> Self {
                parts!(Self, |x = self, y = a, z = b| $ops::add_product($ops::neg(z), x, y))
            }
            #[inline(always)]
            fn neg_mul_add(self, a: Self, b: Self) -> Self {
                parts!(Self, |x = self, y = a, z = b| $ops::sub_product(z, x, y))
            }
            unary! { $ops;
                abs = abs;
                sqrt = sqrt;
                floor = floor;
                ceil = ceil;
                round_ties_even = round;
            }
            binary! {
                min -> Self = |x, y| $ops::select($ops::lt(x, y), x, y);
                max -> Self = |x, y| $ops::select($ops::lt(y, x), x, y);
                copysign -> Self = |x, y| $ops::select($ops::to_bits($ops::splat(-0.0)), y, x);
                eq -> $mask = |x, y| $ops::eq(x, y);
                lt -> $mask = |x, y| $ops::lt(x, y);
                le -> $mask = |x, y| $ops::le(x, y);
            }
            reductions! { $ops, $scalar;
                reduce_add = |x, y| $ops::add(x, y), x + y;
                reduce_min = |x, y| $ops::select($ops::lt(x, y), x, y), if x < y { x } else { y };
                reduce_max = |x, y| $ops::select($ops::lt(y, x), x, y), if x > y { x } else { y };
            }
            #[inline(always)]
            fn is_nan(self) -> $mask {
                Float::eq(self, self).not()
            }
            #[inline(always)]
            fn select(mask: $mask, if_true: Self, if_false: Self) -> Self {
                parts!(Self, |m = mask, x = if_true, y = if_false| $ops::select(m, x, y))
            }
            #[inline(always)]
            fn to_bits(self) -> $bits {
                parts!($bits, |x = self| $ops::to_bits(x))
            }
            #[inline(always)]
            fn from_bits(bits: $bits) -> Self {
                parts!(Self, |x = bits| $ops::from_bits(x))
            }
            #[inline(always)]
            fn to_int(self) -> $bits {
                parts!($bits, |x = self| $ops::to_int(x))
            }
            #[inline(always)]
            fn from_int(int: $bits) -> Self {
                parts!(Self, |x = int| $ops::from_int(x))
            }
        }
    };
}
float!(F32, f32, U32, M32, single, 4);
float!(F64, f64, U64, M64, double, 2);

macro_rules! int {
    ($vector:ident, $scalar:ident, $mask:ident, $ops:ident, $part:literal) => {
        operators!($vector, |a, b|
            Add add parts!(Self, |x = a, y = b| $ops::add_ints(x, y)),
            Sub sub parts!(Self, |x = a, y = b| $ops::sub_ints(x, y)));

        impl $vector {
            /// The lanes of an array.
            #[inline(always)]
            fn new(s: Neon, lanes: &[$scalar; 4 * $part]) -> Self {
                // SAFETY: the array is a register long.
                unsafe { Int::load_ptr(s, lanes.as_ptr()) }
            }

            /// i of lane i.
            const LANES: [$scalar; 4 * $part] = {
                let (mut lanes, mut i) = ([0; 4 * $part], 0);
                while i < 4 * $part {
                    lanes[i] = i as $scalar;
                    i += 1;
                }
                lanes
            };

            /// 2ⁱ of lane i.
            const BITS: [$scalar; 4 * $part] = {
                let (mut lanes, mut i) = ([0; 4 * $part], 0);
                while i < 4 * $part {
                    lanes[i] = 1 << i;
                    i += 1;
                }
                lanes
            };
        }

        impl Int<Neon> for $vector {
            type Scalar = $scalar;
            type Mask = $mask;

            #[inline(always)]
            fn splat(_: Neon, x: $scalar) -> Self {
                // SAFETY: the token is proof of NEON.
                let part = unsafe { $ops::splat_ints(x) };
                Self(part, part, part, part)
            }
            #[inline(always)]
            fn iota(s: Neon) -> Self {
                Self::new(s, &Self::LANES)
            }
            #[inline(always)]
            unsafe fn load_ptr(_: Neon, from: *const $scalar) -> Self {
                // SAFETY: the caller's promise; the token is proof of NEON.
                unsafe {
                    Self(
                        $ops::load_ints(from),
                        $ops::load_ints(from.add($part)),
                        $ops::load_ints(from.add(2 * $part)),
                        $ops::load_ints(from.add(3 * $part)),
                    )
                }
            }
            #[inline(always)]
            unsafe fn store_ptr(self, to: *mut $scalar) {
                // SAFETY: the caller's promise; this vector is proof of NEON.
                unsafe {
                    $ops::store_ints(to, self.0);
                    $ops::store_ints(to.add($part), self.1);
                    $ops::store_ints(to.add(2 * $part), self.2);
                    $ops::store_ints(to.add(3 * $part), self.3);
                }
            }
            binary! {
                and -> Self = |x, y| $ops::and(x, y);
                or -> Self = |x, y| $ops::or(x, y);
                xor -> Self = |x, y| $ops::xor(x, y);
                eq -> $mask = |x, y| $ops::eq_ints(x, y);
                lt -> $mask = |x, y| $ops::lt_ints(x, y);
            }
            #[inline(always)]
            fn shl(self, count: u32) -> Self {
                parts!(Self, |x = self| $ops::shift(x, count as i32))
            }
            #[inline(always)]
            fn shr(self, count: u32) -> Self {
                parts!(Self, |x = self| $ops::shift(x, -(count as i32)))
            }
            #[inline(always)]
            fn sar(self, count: u32) -> Self {
                parts!(Self, |x = self| $ops::shift_signed(x, count as i32))
            }
            #[inline(always)]
            fn select(mask: $mask, if_true: Self, if_false: Self) -> Self {
                parts!(Self, |m = mask, x = if_true, y = if_false| $ops::select_ints(m, x, y))
            }
            #[inline(always)]
            fn mul_wide(self, other: Self) -> (Self, Self) {
                // SAFETY: the vectors are proof of NEON.
                let (a, b, c, d) = unsafe {
                    (
                        $ops::mul_wide(self.0, other.0),
                        $ops::mul_wide(self.1, other.1),
                        $ops::mul_wide(self.2, other.2),
                        $ops::mul_wide(self.3, other.3),
                    )
                };
                (Self(a.0, b.0, c.0, d.0), Self(a.1, b.1, c.1, d.1))
            }
        }

        impl Mask<Neon> for $mask {
            #[inline(always)]
            fn from_bits(s: Neon, bits: u32) -> Self {
                let (bits, lanes) = ($vector::splat(s, bits.into()), $vector::new(s, &$vector::BITS));
                parts!(Self, |x = bits, y = lanes| $ops::test(x, y))
            }
            #[inline(always)]
            fn to_bits(self) -> u32 {
                // SAFETY: the mask is proof of NEON.
                unsafe { $ops::mask_bits([self.0, self.1, self.2, self.3]) }
            }
            #[inline(always)]
            fn first(s: Neon, count: usize) -> Self {
                $vector::iota(s).lt($vector::splat(s, count as $scalar))
            }
            #[inline(always)]
            fn any(self) -> bool {
                // SAFETY: the mask is proof of NEON.
                unsafe { $ops::any($ops::or($ops::or(self.0, self.1), $ops::or(self.2, self.3))) }
            }
            binary! {
                and -> Self = |x, y| $ops::and(x, y);
                or -> Self = |x, y| $ops::or(x, y);
            }
            #[inline(always)]
            fn not(self) -> Self {
                parts!(Self, |x = self| $ops::xor(x, $ops::splat_ints($scalar::MAX)))
            }
        }
    };
}
int!(U32, u32, M32, single, 4);
int!(U64, u64, M64, double, 2);
