//! What a function of one argument consists of, and its loops.

use super::Reads;
use crate::simd::{Dispatcher, Element, Float, Kernel, Simd, slices};

/// One function, chosen before the loop.
pub(crate) trait Function<T: Element>: Copy + Send + Sync {
    /// What the gradient reads.
    const READS: Reads;
    /// Nanoseconds per f32 of the value and of the gradient on one core: the middle of AVX2 and AVX-512.
    const COSTS: [f64; 2];
    fn value<S: Simd>(self, s: S, x: T::Vector<S>) -> T::Vector<S>;
    /// dy · f'(x), with y = f(x).
    fn gradient<S: Simd>(self, s: S, x: T::Vector<S>, y: T::Vector<S>, dy: T::Vector<S>) -> T::Vector<S>;
}

/// One function, compiled for every instruction set, to be called for a line of numbers at a time: what
/// splits the work is compiled once for all functions.
pub(crate) trait Lines<T: Element>: Sync {
    /// The first of [`Function::COSTS`].
    fn forward_cost(&self) -> f64;
    /// The second of [`Function::COSTS`].
    fn backward_cost(&self) -> f64;
    /// `y[i] = f(x[i])`.
    fn forward(&self, simd: Dispatcher, x: &[T], y: &mut [T]);
    /// `x[i] = f(x[i])`.
    fn forward_in_place(&self, simd: Dispatcher, x: &mut [T]);
    /// `dx[i] = dy[i] · f'(x[i])`.
    fn backward(&self, simd: Dispatcher, xy: [&[T]; 2], dy: &[T], dx: &mut [T]);
}

impl<T: Element, F: Function<T>> Lines<T> for F {
    fn forward_cost(&self) -> f64 {
        F::COSTS[0]
    }

    fn backward_cost(&self) -> f64 {
        F::COSTS[1]
    }

    fn forward(&self, simd: Dispatcher, x: &[T], y: &mut [T]) {
        assert_eq!(x.len(), y.len());
        simd.run(ForwardKernel { f: *self, x: x.as_ptr(), y: y.as_mut_ptr(), len: y.len() });
    }

    fn forward_in_place(&self, simd: Dispatcher, x: &mut [T]) {
        let to = x.as_mut_ptr();
        simd.run(ForwardKernel { f: *self, x: to, y: to, len: x.len() });
    }

    fn backward(&self, simd: Dispatcher, [x, y]: [&[T]; 2], dy: &[T], dx: &mut [T]) {
        simd.run(BackwardKernel { f: *self, x, y, dy, dx });
    }
}

/// `y[i] = f(x[i])`.
struct ForwardKernel<F, T> {
    f: F,
    /// `x` and `y` are each `len` elements long, and the same elements or none in common.
    x: *const T,
    y: *mut T,
    len: usize,
}

impl<T: Element, F: Function<T>> Kernel for ForwardKernel<F, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let f = self.f;
        // SAFETY: promised where the kernel is made, of `x` and `y`.
        unsafe {
            slices::map_from(
                s,
                self.x,
                self.y,
                self.len,
                #[inline(always)]
                |x| f.value(s, x),
            );
        }
    }
}

struct BackwardKernel<'a, F, T> {
    f: F,
    x: &'a [T],
    y: &'a [T],
    dy: &'a [T],
    dx: &'a mut [T],
}

impl<T: Element, F: Function<T>> Kernel for BackwardKernel<'_, F, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let f = self.f;
        slices::map3(
            s,
            [self.x, self.y, self.dy],
            self.dx,
            #[inline(always)]
            |x, y, dy| f.gradient(s, x, y, dy),
        );
    }
}

/// Stands for ±∞ where a factor is 0 there.
pub(super) const HUGE: f64 = 1e30;

#[inline(always)]
pub(super) fn constant<T: Element, S: Simd>(s: S, x: f64) -> T::Vector<S> {
    s.splat(T::from_f64(x))
}

/// `x`, but at least `low`; NaN stays.
#[inline(always)]
pub(super) fn above<S: Simd, V: Float<S, Scalar = T>, T: Element>(s: S, low: f64, x: V) -> V {
    V::splat(s, T::from_f64(low)).max(x)
}

/// `x`, but at least `−limit` and at most `limit`; NaN stays.
#[inline(always)]
pub(super) fn between<S: Simd, V: Float<S, Scalar = T>, T: Element>(s: S, x: V, limit: f64) -> V {
    above(s, -limit, V::splat(s, T::from_f64(limit)).min(x))
}

/// σ(x) and σ(−x), each accurate where it is small.
#[inline(always)]
pub(super) fn gates<T: Element, S: Simd>(s: S, x: T::Vector<S>) -> (T::Vector<S>, T::Vector<S>) {
    let one = s.splat(T::ONE);
    let e = T::exp(s, -x.abs());
    let large = one / (one + e);
    let small = e * large;
    let negative = x.lt(s.splat(T::ZERO));
    (T::Vector::select(negative, small, large), T::Vector::select(negative, large, small))
}
