//! Matrix products.

use gristmill::kernels::gemm::{
    BatchMut, BatchRef, Bias, Epilogue, MatMut, MatRef, PackedB, gemm, gemm_batched, gemm_prepacked,
    gemm_with_epilogue,
};
use gristmill::kernels::map::Unary;
use gristmill::{Element, Result, reference};

use super::{Case, Draw, Kernel, Length, Near, entries, near, unit};

pub const KERNELS: &[Kernel] = entries![
    "gemm::gemm" => product,
    "gemm::gemm_with_epilogue" => with_epilogue,
    "gemm::gemm_prepacked" => prepacked,
    "gemm::gemm_batched" => batched,
];

/// How a matrix lies in a slice.
#[derive(Clone, Copy, Debug)]
struct Lay {
    rows: usize,
    cols: usize,
    row_stride: isize,
    col_stride: isize,
}

impl Lay {
    /// Row-major, column-major, with gaps, from the end to the start.
    fn draw(draw: &mut Draw, rows: usize, cols: usize) -> Self {
        let (m, n) = (rows as isize, cols as isize);
        let strides = [(n, 1), (1, m), (n + 5, 1), (3 * n + 1, 3), (-n, -1), (1, -m), (1, m + 3)];
        let (row_stride, col_stride) = draw.pick(&strides);
        Self { rows, cols, row_stride, col_stride }
    }

    fn row_major(rows: usize, cols: usize) -> Self {
        Self { rows, cols, row_stride: cols as isize, col_stride: 1 }
    }

    fn span(n: usize, stride: isize) -> isize {
        n.saturating_sub(1) as isize * stride
    }

    /// The length of the slice.
    fn len(self) -> usize {
        if self.rows == 0 || self.cols == 0 {
            return 0;
        }
        let spans = [Self::span(self.rows, self.row_stride), Self::span(self.cols, self.col_stride)];
        1 + spans.map(isize::unsigned_abs).iter().sum::<usize>()
    }

    /// Where element (i, j) lies.
    fn place(self, i: usize, j: usize) -> usize {
        let origin =
            -(Self::span(self.rows, self.row_stride).min(0) + Self::span(self.cols, self.col_stride).min(0));
        (origin + i as isize * self.row_stride + j as isize * self.col_stride) as usize
    }

    /// The places row by row.
    fn places(self) -> impl Iterator<Item = usize> {
        (0..self.rows * self.cols).map(move |i| self.place(i / self.cols, i % self.cols))
    }

    /// Row by row without gaps.
    fn gathered(self, x: &[f64]) -> Vec<f64> {
        self.places().map(|i| x[i]).collect()
    }

    fn of<T: Element>(self, x: &[T]) -> Result<MatRef<'_, T>> {
        MatRef::new(x, self.rows, self.cols, self.row_stride, self.col_stride)
    }

    fn of_mut<T: Element>(self, x: &mut [T]) -> Result<MatMut<'_, T>> {
        MatMut::new(x, self.rows, self.cols, self.row_stride, self.col_stride)
    }
}

/// Sizes, scales and the lay-out of a product.
#[derive(Clone, Copy, Debug)]
struct Product {
    alpha: f64,
    beta: f64,
    a: Lay,
    b: Lay,
    c: Lay,
}

impl Product {
    fn draw(draw: &mut Draw) -> Self {
        let thin = [1, 3, 8, 17];
        let [m, n] = [0; 2].map(|_| if draw.below(5) == 4 { draw.pick(&thin) } else { draw.extent(70) });
        let k = draw.pick(&[0, 1, 256, 257, 530]) + draw.extent(40);
        let (alpha, beta) = draw.pick(&[(1.0, 0.0), (1.0, 1.0), (-1.5, 0.25), (0.0, 1.0), (0.0, 0.0)]);
        let [a, b, c] = [[m, k], [k, n], [m, n]].map(|[rows, cols]| Lay::draw(draw, rows, cols));
        Self { alpha, beta, a, b, c }
    }

    /// C with its gaps, `then` done with each product, and the bounds: γ of a rounding per term, one per
    /// block of k and a few at the end.
    fn expected<T: Element>(
        self,
        [a, b, c]: [&[f64]; 3],
        then: impl Fn(usize, f64) -> f64,
        extra: impl Fn(usize) -> f64,
    ) -> Vec<Near> {
        let (a, b, old) = (self.a.gathered(a), self.b.gathered(b), self.c.gathered(c));
        let shape = [self.a.rows, self.a.cols, self.b.cols];
        let size = |x: &[f64]| -> Vec<f64> { x.iter().map(|x| x.abs()).collect() };
        let exact = reference::gemm(self.alpha, &a, &b, self.beta, &old, shape);
        let sizes =
            reference::gemm(self.alpha.abs(), &size(&a), &size(&b), self.beta.abs(), &size(&old), shape);
        let k = shape[1];
        let steps = (k + k.div_ceil(256) + 6) as f64 * (unit::<T>() + unit::<f64>());
        let mut values = near(c.to_vec(), |_| 0.0);
        for (i, place) in self.c.places().enumerate() {
            let bound = steps / (1.0 - steps) * (sizes[i] + extra(i));
            values[place] = Near { exact: then(i, exact[i]), bound };
        }
        values
    }
}

fn product<T: Element>(draw: &mut Draw) -> Case<T> {
    let p = Product::draw(draw);
    let (alpha, beta) = (T::from_f64(p.alpha), T::from_f64(p.beta));
    Case::new(format!("{p:?}"))
        .input("a", draw.values(p.a.len(), -1.0, 1.0))
        .input("b", draw.values(p.b.len(), -1.0, 1.0))
        .in_place("c", draw.values(p.c.len(), -1.0, 1.0))
        .lengths(Length::AtLeast, &["a", "b", "c"])
        .run(move |[a, b], [], [c]| gemm(alpha, p.a.of(a)?, p.b.of(b)?, beta, p.c.of_mut(c)?))
        .expect(move |[a, b], [], [c]| [p.expected::<T>([a, b, c], |_, c| c, |_| 0.0)])
        .refuses("absurd rows", move |[a, b], [], [c]| {
            gemm(alpha, MatRef::row_major(a, usize::MAX, 3)?, p.b.of(b)?, beta, p.c.of_mut(c)?)
        })
        .refuses("shapes that do not fit", move |[a, _], [], [c]| {
            let b = Lay { rows: p.b.rows + 1, row_stride: 0, col_stride: 0, ..p.b };
            let one = [T::ONE];
            gemm(alpha, p.a.of(a)?, b.of(&one)?, beta, p.c.of_mut(c)?)
        })
}

/// A product with a bias, a residual that is added, a function and a mask.
fn with_epilogue<T: Element>(draw: &mut Draw) -> Case<T> {
    epilogue_case(draw, |p, alpha, beta, epilogue, [a, b], c| {
        gemm_with_epilogue(alpha, p.a.of(a)?, p.b.of(b)?, beta, epilogue, p.c.of_mut(c)?)
    })
}

fn prepacked<T: Element>(draw: &mut Draw) -> Case<T> {
    epilogue_case(draw, |p, alpha, beta, epilogue, [a, b], c| {
        gemm_prepacked(alpha, p.a.of(a)?, &PackedB::new(p.b.of(b)?)?, beta, epilogue, p.c.of_mut(c)?)
    })
}

type Call<T> = fn(Product, T, T, Epilogue<'_, T>, [&[T]; 2], &mut [T]) -> Result<()>;

fn epilogue_case<T: Element>(draw: &mut Draw, call: Call<T>) -> Case<T> {
    let p = Product::draw(draw);
    let (alpha, beta) = (T::from_f64(p.alpha), T::from_f64(p.beta));
    let [m, n] = [p.c.rows, p.c.cols];
    let per_row = draw.flip();
    let activation = draw.pick(&[None, Some(Unary::Relu), Some(Unary::Neg), Some(Unary::Abs)]);
    let (residual_lay, mask_lay) = (Lay::draw(draw, m, n), Lay::draw(draw, m, n));
    let bias = move |i: usize| if per_row { i / n } else { i % n };
    Case::new(format!("{p:?}, bias per row {per_row}, {activation:?}, {residual_lay:?}, {mask_lay:?}"))
        .input("a", draw.values(p.a.len(), -1.0, 1.0))
        .input("b", draw.values(p.b.len(), -1.0, 1.0))
        .input("bias", draw.values(if per_row { m } else { n }, -1.0, 1.0))
        .input("residual", draw.values(residual_lay.len(), -1.0, 1.0))
        .input("mask", draw.values(mask_lay.len(), -1.0, 1.0))
        .in_place("c", draw.values(p.c.len(), -1.0, 1.0))
        .lengths(Length::AtLeast, &["a", "b", "residual", "mask", "c"])
        .run(move |[a, b, bias, residual, mask], [], [c]| {
            let epilogue = Epilogue {
                bias: if per_row { Bias::PerRow(bias) } else { Bias::PerColumn(bias) },
                residual: Some(residual_lay.of(residual)?),
                activation,
                relu_mask: Some(mask_lay.of(mask)?),
            };
            call(p, alpha, beta, epilogue, [a, b], c)
        })
        .expect(move |[a, b, biases, residual, mask], [], [c]| {
            let (residual, mask) = (residual_lay.gathered(residual), mask_lay.gathered(mask));
            let then = |i: usize, c: f64| {
                let sum = c + biases[bias(i)] + residual[i];
                let y = match activation {
                    Some(Unary::Relu) => reference::map::relu(sum),
                    Some(Unary::Neg) => -sum,
                    Some(Unary::Abs) => sum.abs(),
                    _ => sum,
                };
                if mask[i] <= 0.0 { 0.0 } else { y }
            };
            [p.expected::<T>([a, b, c], then, |i| biases[bias(i)].abs() + residual[i].abs())]
        })
}

fn batched<T: Element>(draw: &mut Draw) -> Case<T> {
    let count = draw.pick(&[2, 1, 0, 5]);
    let [m, k, n] = [draw.extent(30), draw.extent(40), draw.extent(30)];
    let shared = draw.flip();
    let p = Product {
        alpha: 0.5,
        beta: draw.pick(&[0.0, 1.0]),
        a: Lay::row_major(m, k),
        b: Lay::row_major(k, n),
        c: Lay::row_major(m, n),
    };
    let (alpha, beta) = (T::from_f64(p.alpha), T::from_f64(p.beta));
    let b_step = if shared { 0 } else { k * n };
    let b_len = if shared && count > 0 { k * n } else { count * k * n };
    Case::new(format!("{count} of {m} × {k} × {n}, one B for all: {shared}"))
        .input("a", draw.values(count * m * k, -1.0, 1.0))
        .input("b", draw.values(b_len, -1.0, 1.0))
        .in_place("c", draw.values(count * m * n, -1.0, 1.0))
        .lengths(Length::AtLeast, &["a", "b", "c"])
        .run(move |[a, b], [], [c]| {
            let b = BatchRef::new(b, count, b_step, [k, n], [n as isize, 1])?;
            gemm_batched(
                alpha,
                BatchRef::row_major(a, count, m, k)?,
                b,
                beta,
                BatchMut::row_major(c, count, m, n)?,
            )
        })
        .expect(move |[a, b], [], [c]| {
            let of = |i: usize| {
                let operands =
                    [&a[i * m * k..][..m * k], &b[i * b_step..][..k * n], &c[i * m * n..][..m * n]];
                p.expected::<T>(operands, |_, c| c, |_| 0.0)
            };
            [(0..count).flat_map(of).collect()]
        })
        .refuses("another number of matrices", move |[a, b], [], [c]| {
            let b = BatchRef::new(b, count + 1, 0, [k, n], [n as isize, 1])?;
            gemm_batched(
                alpha,
                BatchRef::row_major(a, count, m, k)?,
                b,
                beta,
                BatchMut::row_major(c, count, m, n)?,
            )
        })
}
