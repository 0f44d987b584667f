//! Loops over slices by registers: whole ones first, then the tail under a mask, with one formula for both.
//!
//! The functions given to these loops must be closures marked `#[inline(always)]`.

use std::mem::MaybeUninit;

use super::{Element, Float, Isa, Mask, Simd};

/// `y[i] = f(x[i])`.
#[inline(always)]
pub(crate) fn map<T: Element, S: Simd>(s: S, x: &[T], y: &mut [T], f: impl Fn(T::Vector<S>) -> T::Vector<S>) {
    debug_assert_eq!(x.len(), y.len());
    // SAFETY: two slices of one length.
    unsafe { map_from(s, x.as_ptr(), y.as_mut_ptr(), y.len().min(x.len()), f) };
}

/// `x[i] = f(x[i])`.
#[inline(always)]
pub(crate) fn map_in_place<T: Element, S: Simd>(s: S, x: &mut [T], f: impl Fn(T::Vector<S>) -> T::Vector<S>) {
    let to = x.as_mut_ptr();
    // SAFETY: one slice.
    unsafe { map_from(s, to, to, x.len(), f) };
}

/// `y[i] = f(x[i])` for `len` elements.
///
/// # Safety
/// `x` can be read and `y` written, and they are the same elements or have none in common.
#[inline(always)]
pub(crate) unsafe fn map_from<T: Element, S: Simd>(
    s: S,
    x: *const T,
    y: *mut T,
    len: usize,
    f: impl Fn(T::Vector<S>) -> T::Vector<S>,
) {
    let whole = len - len % T::LANES;
    let mut at = 0;
    // SAFETY: `at + LANES <= whole <= len` in the loop, and `len - whole` elements after it.
    unsafe {
        while at < whole {
            f(T::Vector::load_ptr(s, x.add(at))).store_ptr(y.add(at));
            at += T::LANES;
        }
        if at < len {
            f(T::Vector::load_ptr_partial(s, x.add(at), len - at)).store_ptr_partial(y.add(at), len - at);
        }
    }
}

/// `y[i] = f(x[i], y[i])`.
#[inline(always)]
pub(crate) fn map2_in_place<T: Element, S: Simd>(
    s: S,
    x: &[T],
    y: &mut [T],
    f: impl Fn(T::Vector<S>, T::Vector<S>) -> T::Vector<S>,
) {
    debug_assert_eq!(x.len(), y.len());
    let to = y.as_mut_ptr();
    // SAFETY: so many elements of each.
    unsafe { map2_from(s, x.as_ptr(), to, to, y.len().min(x.len()), f) };
}

/// `y[i] = f(a[i], b[i])`.
#[inline(always)]
pub(crate) fn map2<T: Element, S: Simd>(
    s: S,
    a: &[T],
    b: &[T],
    y: &mut [T],
    f: impl Fn(T::Vector<S>, T::Vector<S>) -> T::Vector<S>,
) {
    debug_assert!(a.len() == y.len() && b.len() == y.len());
    let len = y.len().min(a.len()).min(b.len());
    // SAFETY: so many elements of each.
    unsafe { map2_from(s, a.as_ptr(), b.as_ptr(), y.as_mut_ptr(), len, f) };
}

/// `y[i] = f(a[i], b[i])` for `len` elements.
///
/// # Safety
/// `a` and `b` can be read and `y` written, which is the same elements as one of them or has none in common
/// with it.
#[inline(always)]
unsafe fn map2_from<T: Element, S: Simd>(
    s: S,
    a: *const T,
    b: *const T,
    y: *mut T,
    len: usize,
    f: impl Fn(T::Vector<S>, T::Vector<S>) -> T::Vector<S>,
) {
    let whole = len - len % T::LANES;
    let mut at = 0;
    // SAFETY: `at + LANES <= whole <= len` in the loop, and `len - whole` elements after it.
    unsafe {
        while at < whole {
            f(T::Vector::load_ptr(s, a.add(at)), T::Vector::load_ptr(s, b.add(at))).store_ptr(y.add(at));
            at += T::LANES;
        }
        if at < len {
            let count = len - at;
            let (a, b) = (a.add(at), b.add(at));
            let value = f(T::Vector::load_ptr_partial(s, a, count), T::Vector::load_ptr_partial(s, b, count));
            value.store_ptr_partial(y.add(at), count);
        }
    }
}

/// `y[i] = f(a[i], b[i], c[i])`.
#[inline(always)]
pub(crate) fn map3<T: Element, S: Simd>(
    s: S,
    [a, b, c]: [&[T]; 3],
    y: &mut [T],
    f: impl Fn(T::Vector<S>, T::Vector<S>, T::Vector<S>) -> T::Vector<S>,
) {
    let len = y.len();
    assert!(a.len() == len && b.len() == len && c.len() == len, "slices of one length");
    let (a, b, c, y) = (a.as_ptr(), b.as_ptr(), c.as_ptr(), y.as_mut_ptr());
    let whole = len - len % T::LANES;
    let mut at = 0;
    // SAFETY: `at + LANES <= whole <= len` in the loop, and `len - whole` elements after it.
    unsafe {
        while at < whole {
            let (a, b) = (T::Vector::load_ptr(s, a.add(at)), T::Vector::load_ptr(s, b.add(at)));
            f(a, b, T::Vector::load_ptr(s, c.add(at))).store_ptr(y.add(at));
            at += T::LANES;
        }
        if at < len {
            let count = len - at;
            let a = T::Vector::load_ptr_partial(s, a.add(at), count);
            let b = T::Vector::load_ptr_partial(s, b.add(at), count);
            let c = T::Vector::load_ptr_partial(s, c.add(at), count);
            f(a, b, c).store_ptr_partial(y.add(at), count);
        }
    }
}

/// Four accumulators that take the registers of `x` in turn, joined as ((0, 1), (2, 3)) and then in the lane
/// tree. Lanes past the end are `fill`, which must be neutral. For up to a few thousand elements; see [`sum`]
/// for more.
#[inline(always)]
fn fold4<T: Element, S: Simd>(
    s: S,
    x: &[T],
    fill: T,
    start: T::Vector<S>,
    step: impl Fn(T::Vector<S>, T::Vector<S>) -> T::Vector<S>,
    join: impl Fn(T::Vector<S>, T::Vector<S>) -> T::Vector<S>,
) -> T::Vector<S> {
    let mut acc = [start; 4];
    let mut quads = x.chunks_exact(4 * T::LANES);
    for quad in &mut quads {
        acc[0] = step(acc[0], s.load(quad));
        acc[1] = step(acc[1], s.load(&quad[T::LANES..]));
        acc[2] = step(acc[2], s.load(&quad[2 * T::LANES..]));
        acc[3] = step(acc[3], s.load(&quad[3 * T::LANES..]));
    }
    let rest = quads.remainder();
    for (acc, x) in acc.iter_mut().zip(rest.chunks(T::LANES)) {
        *acc = step(*acc, s.load_partial_or(x, fill));
    }
    join(join(acc[0], acc[1]), join(acc[2], acc[3]))
}

/// The largest element; NaN if any is NaN; −∞ if there are none.
#[inline(always)]
pub(crate) fn max<T: Element, S: Simd>(s: S, x: &[T]) -> T {
    let lowest = s.splat(-T::INFINITY);
    let max = fold4::<T, S>(
        s,
        x,
        -T::INFINITY,
        lowest,
        #[inline(always)]
        |a, b| b.maximum(a),
        #[inline(always)]
        |a, b| b.maximum(a),
    );
    if max.is_nan().any() { T::NAN } else { max.reduce_max() }
}

/// The smallest element; NaN if any is NaN; +∞ if there are none.
#[inline(always)]
pub(crate) fn min<T: Element, S: Simd>(s: S, x: &[T]) -> T {
    let highest = s.splat(T::INFINITY);
    let min = fold4::<T, S>(
        s,
        x,
        T::INFINITY,
        highest,
        #[inline(always)]
        |a, b| b.minimum(a),
        #[inline(always)]
        |a, b| b.minimum(a),
    );
    if min.is_nan().any() { T::NAN } else { min.reduce_min() }
}

/// The largest magnitude; NaN if any is NaN; 0 if there are none.
#[inline(always)]
pub(crate) fn max_size<T: Element, S: Simd>(s: S, x: &[T]) -> T {
    let max = fold4::<T, S>(
        s,
        x,
        T::ZERO,
        s.splat(T::ZERO),
        #[inline(always)]
        |a, b| b.abs().maximum(a),
        #[inline(always)]
        |a, b| b.maximum(a),
    );
    if max.is_nan().any() { T::NAN } else { max.reduce_max() }
}

/// The product of all elements: four products of registers, joined as in a sum, then the lanes in their tree;
/// 1 of none.
#[inline(always)]
pub(crate) fn product<T: Element, S: Simd>(s: S, x: &[T]) -> T {
    let product = fold4::<T, S>(
        s,
        x,
        T::ONE,
        s.splat(T::ONE),
        #[inline(always)]
        |a, b| a * b,
        #[inline(always)]
        |a, b| a * b,
    );
    let mut lanes = [T::ONE; 16];
    s.store(product, &mut lanes);
    let mut half = T::LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = lanes[i] * lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The index of the first element for which `holds` is set in its lane.
#[inline(always)]
pub(crate) fn position<T: Element, S: Simd>(
    s: S,
    x: &[T],
    holds: impl Fn(T::Vector<S>) -> <T::Vector<S> as Float<S>>::Mask,
) -> Option<usize> {
    let mut whole = x.chunks_exact(T::LANES);
    for (i, x) in (&mut whole).enumerate() {
        let bits = holds(s.load(x)).to_bits();
        if bits != 0 {
            return Some(i * T::LANES + bits.trailing_zeros() as usize);
        }
    }
    let tail = whole.remainder();
    let inside = <T::Vector<S> as Float<S>>::Mask::first(s, tail.len());
    let bits = holds(s.load_partial(tail)).and(inside).to_bits();
    (bits != 0).then(|| x.len() - tail.len() + bits.trailing_zeros() as usize)
}

/// Elements that are summed in four accumulators before their sum is merged pairwise with other sums.
pub(crate) const BLOCK: usize = 4096;

/// Sums of blocks, merged in pairs of equal size as they come: the tree depends on their number only.
pub(crate) struct Merge<T> {
    /// Of level i, if bit i of the count is set.
    partial: [MaybeUninit<T>; 48],
    count: usize,
}

impl<T: Element> Merge<T> {
    #[inline(always)]
    pub fn new() -> Self {
        Self { partial: [const { MaybeUninit::uninit() }; 48], count: 0 }
    }

    /// Adds the sum of the next block.
    #[inline(always)]
    pub fn push(&mut self, mut sum: T) {
        let mut level = 0;
        while self.count >> level & 1 == 1 {
            // SAFETY: the level's bit is set.
            sum = unsafe { self.partial[level].assume_init() } + sum;
            level += 1;
        }
        self.partial[level].write(sum);
        self.count += 1;
    }

    /// The sum of all blocks; 0 of none.
    #[inline(always)]
    pub fn total(self) -> T {
        let (mut total, mut some, mut level) = (T::ZERO, false, 0);
        while self.count >> level != 0 {
            if self.count >> level & 1 == 1 {
                // SAFETY: the level's bit is set.
                let sum = unsafe { self.partial[level].assume_init() };
                total = if some { sum + total } else { sum };
                some = true;
            }
            level += 1;
        }
        total
    }
}

/// Σ f(x[i]): four accumulators and the lane tree within a [`BLOCK`], blocks merged in pairs. With L lanes
/// and B = ⌈n / `BLOCK`⌉ blocks each term goes through at most ⌈min(n, `BLOCK`)/4L⌉ + 2 + log₂ L + ⌈log₂ B⌉
/// additions; for `f` that rounds once, the error is within (that + 1)·u·Σ|f(x[i])|, to first order.
#[inline(always)]
pub(crate) fn sum<T: Element, S: Simd>(s: S, x: &[T], f: impl Fn(T::Vector<S>) -> T::Vector<S>) -> T {
    sum2(
        s,
        x,
        x,
        #[inline(always)]
        |x, _| f(x),
    )
}

/// Σ f(a[i], b[i]), in the order of [`sum`].
#[inline(always)]
pub(crate) fn sum2<T: Element, S: Simd>(
    s: S,
    a: &[T],
    b: &[T],
    f: impl Fn(T::Vector<S>, T::Vector<S>) -> T::Vector<S>,
) -> T {
    debug_assert_eq!(a.len(), b.len());
    // The portable set has one copy of `f` less instead.
    if const { !matches!(S::ISA, Isa::Portable) } && a.len() <= BLOCK {
        return sum_block(s, a, b, &f);
    }
    let mut merge = Merge::new();
    for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
        merge.push(sum_block(s, a, b, &f));
    }
    merge.total()
}

// Below, slices stand in small arrays. Their loops count indices, because adapters of iterators are left as
// calls where the closures grow large, and a call that passes registers passes them through memory. Lengths
// are compared once, and not again for each register.

/// `w[i] = f(r[i], w[i])` for several slices at once, all of the same length: N that are read, M that are
/// replaced.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "see above")]
pub(crate) fn update<T: Element, S: Simd, const N: usize, const M: usize>(
    s: S,
    reads: [&[T]; N],
    writes: [&mut [T]; M],
    f: impl Fn([T::Vector<S>; N], [T::Vector<S>; M]) -> [T::Vector<S>; M],
) {
    let len = writes[0].len();
    let mut same = true;
    for n in 0..N {
        same &= reads[n].len() == len;
    }
    for m in 0..M {
        same &= writes[m].len() == len;
    }
    assert!(same, "slices of one length");
    let whole = len - len % T::LANES;
    let (mut r, mut w) = ([s.splat(T::ZERO); N], [s.splat(T::ZERO); M]);
    let mut at = 0;
    while at < whole {
        // SAFETY: `at + LANES <= whole <= len`, the length of every slice.
        unsafe {
            for n in 0..N {
                r[n] = T::Vector::load_ptr(s, reads[n].as_ptr().add(at));
            }
            for m in 0..M {
                w[m] = T::Vector::load_ptr(s, writes[m].as_ptr().add(at));
            }
            w = f(r, w);
            for m in 0..M {
                w[m].store_ptr(writes[m].as_mut_ptr().add(at));
            }
        }
        at += T::LANES;
    }
    if at < len {
        let count = len - at;
        // SAFETY: so many elements are left of every slice.
        unsafe {
            for n in 0..N {
                r[n] = T::Vector::load_ptr_partial(s, reads[n].as_ptr().add(at), count);
            }
            for m in 0..M {
                w[m] = T::Vector::load_ptr_partial(s, writes[m].as_ptr().add(at), count);
            }
            w = f(r, w);
            for m in 0..M {
                w[m].store_ptr_partial(writes[m].as_mut_ptr().add(at), count);
            }
        }
    }
}

/// K sums over N slices at once: `step` adds the terms of one register each to the sums so far.
///
/// A accumulators within a [`BLOCK`], joined in pairs; the sums of blocks are added up in order, then the
/// lanes in their tree. For steps that round once the error is within
/// `(min(n, 4096) / (A · lanes) + n/4096 + log₂ A + log₂ lanes + 1)·u·Σ|term|`.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "see above")]
pub(crate) fn sums<T: Element, S: Simd, const A: usize, const N: usize, const K: usize>(
    s: S,
    x: [&[T]; N],
    step: impl Fn([T::Vector<S>; K], [T::Vector<S>; N]) -> [T::Vector<S>; K],
) -> [T; K] {
    let len = x[0].len();
    assert!(x.iter().all(|x| x.len() == len));
    let zero = s.splat(T::ZERO);
    let (mut total, mut terms) = ([zero; K], [zero; N]);
    let mut at = 0;
    while at < len {
        let end = len.min(at + BLOCK);
        let mut acc = [[zero; K]; A];
        while at + A * T::LANES <= end {
            for a in 0..A {
                for n in 0..N {
                    // SAFETY: `at + (a + 1) * LANES <= end <= len`, the length of every slice.
                    terms[n] = unsafe { T::Vector::load_ptr(s, x[n].as_ptr().add(at + a * T::LANES)) };
                }
                acc[a] = step(acc[a], terms);
            }
            at += A * T::LANES;
        }
        for a in 0..A {
            if at < end {
                let inside = <T::Vector<S> as Float<S>>::Mask::first(s, (end - at).min(T::LANES));
                for n in 0..N {
                    terms[n] = s.load_partial(&x[n][at..end]);
                }
                let more = step(acc[a], terms);
                for k in 0..K {
                    acc[a][k] = T::Vector::select(inside, more[k], acc[a][k]);
                }
                at = end.min(at + T::LANES);
            }
        }
        let mut stride = 1;
        while stride < A {
            let mut a = 0;
            while a + stride < A {
                for k in 0..K {
                    acc[a][k] = acc[a][k] + acc[a + stride][k];
                }
                a += 2 * stride;
            }
            stride *= 2;
        }
        for k in 0..K {
            total[k] = total[k] + acc[0][k];
        }
    }
    let mut sums = [T::ZERO; K];
    for k in 0..K {
        sums[k] = total[k].reduce_add();
    }
    sums
}

/// `y[i]` from `x[0][i]` and `x[1][i]`, and a sum over them: `step` gives a register of y and adds its terms
/// to the sum so far. In the order of [`sums`] with four accumulators.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "see above")]
pub(crate) fn map_and_sum<T: Element, S: Simd>(
    s: S,
    x: [&[T]; 2],
    y: &mut [T],
    step: impl Fn([T::Vector<S>; 2], T::Vector<S>) -> (T::Vector<S>, T::Vector<S>),
) -> T {
    let len = y.len();
    assert!(x.iter().all(|x| x.len() == len));
    let mut total = s.splat(T::ZERO);
    let mut at = 0;
    while at < len {
        let end = len.min(at + BLOCK);
        let mut acc = [s.splat(T::ZERO); 4];
        while at + 4 * T::LANES <= end {
            for a in 0..4 {
                let from = at + a * T::LANES;
                // SAFETY: `from + LANES <= end <= len`, the length of every slice.
                unsafe {
                    let first = T::Vector::load_ptr(s, x[0].as_ptr().add(from));
                    let second = T::Vector::load_ptr(s, x[1].as_ptr().add(from));
                    let (result, sum) = step([first, second], acc[a]);
                    result.store_ptr(y.as_mut_ptr().add(from));
                    acc[a] = sum;
                }
            }
            at += 4 * T::LANES;
        }
        for a in 0..4 {
            if at < end {
                let part = at..end.min(at + T::LANES);
                let inside = <T::Vector<S> as Float<S>>::Mask::first(s, part.len());
                let terms = [s.load_partial(&x[0][part.clone()]), s.load_partial(&x[1][part.clone()])];
                let (result, sum) = step(terms, acc[a]);
                s.store_partial(result, &mut y[part.clone()]);
                acc[a] = T::Vector::select(inside, sum, acc[a]);
                at = part.end;
            }
        }
        total = total + ((acc[0] + acc[1]) + (acc[2] + acc[3]));
    }
    total.reduce_add()
}

/// Adds up the rows of `len` elements in pairs, pairs of pairs, …; the sum is left in the first row.
pub(crate) fn merge_rows<T: Element>(rows: &mut [T], len: usize) {
    let count = rows.len().checked_div(len).unwrap_or(0);
    let mut stride = 1;
    while stride < count {
        for row in (0..count - stride).step_by(2 * stride) {
            let (to, from) = rows[row * len..].split_at_mut(stride * len);
            for (to, &from) in to[..len].iter_mut().zip(&from[..len]) {
                *to += from;
            }
        }
        stride *= 2;
    }
}

/// [`sum2`] of at most a [`BLOCK`].
#[inline(always)]
fn sum_block<T: Element, S: Simd>(
    s: S,
    a: &[T],
    b: &[T],
    f: &impl Fn(T::Vector<S>, T::Vector<S>) -> T::Vector<S>,
) -> T {
    let mut acc = [s.splat(T::ZERO); 4];
    let (mut a, mut b) = (a.chunks_exact(4 * T::LANES), b.chunks_exact(4 * T::LANES));
    for (a, b) in (&mut a).zip(&mut b) {
        acc[0] = acc[0] + f(s.load(a), s.load(b));
        acc[1] = acc[1] + f(s.load(&a[T::LANES..]), s.load(&b[T::LANES..]));
        acc[2] = acc[2] + f(s.load(&a[2 * T::LANES..]), s.load(&b[2 * T::LANES..]));
        acc[3] = acc[3] + f(s.load(&a[3 * T::LANES..]), s.load(&b[3 * T::LANES..]));
    }
    let (a, b) = (a.remainder().chunks(T::LANES), b.remainder().chunks(T::LANES));
    for ((a, b), acc) in a.zip(b).zip(&mut acc) {
        let inside = <T::Vector<S> as Float<S>>::Mask::first(s, a.len());
        let term = f(s.load_partial(a), s.load_partial(b));
        *acc = T::Vector::select(inside, *acc + term, *acc);
    }
    ((acc[0] + acc[1]) + (acc[2] + acc[3])).reduce_add()
}
