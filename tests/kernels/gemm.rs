//! Matrix multiplication against its reference and its promises.

use crate::common::*;
use gristmill::kernels::gemm::{
    BatchMut, BatchRef, Bias, Epilogue, MatMut, MatRef, PackedB, Path, gemm, gemm_batched, gemm_prepacked,
    gemm_with_epilogue, plan,
};
use gristmill::kernels::map::{Binary, Unary, binary, unary};
use gristmill::{Context, Element, Error, Isa, reference};
use proptest::prelude::*;

/// How a matrix lies in memory.
#[derive(Clone, Copy, Debug)]
enum Order {
    RowMajor,
    ColMajor,
    /// Rows with gaps between them.
    Padded,
    /// Neither rows nor columns without gaps.
    Scattered,
    /// Rows from the last to the first, columns from right to left.
    Reversed,
    /// Column by column, from right to left.
    ColReversed,
}

impl Order {
    const ALL: [Order; 6] = [
        Order::RowMajor,
        Order::ColMajor,
        Order::Padded,
        Order::Scattered,
        Order::Reversed,
        Order::ColReversed,
    ];

    fn strides(self, rows: usize, cols: usize) -> (isize, isize) {
        let (rows, cols) = (rows as isize, cols as isize);
        match self {
            Order::RowMajor => (cols, 1),
            Order::ColMajor => (1, rows),
            Order::Padded => (cols + 5, 1),
            Order::Scattered => (3 * cols + 1, 3),
            Order::Reversed => (-cols, -1),
            Order::ColReversed => (1, -rows),
        }
    }

    /// The slice index of element (i, j), and the length of the slice.
    fn place(self, [rows, cols]: [usize; 2]) -> (impl Fn(usize, usize) -> usize, usize) {
        let (down, along) = self.strides(rows, cols);
        let span = |n: usize, stride: isize| n.saturating_sub(1) as isize * stride.min(0);
        let origin = -(span(rows, down) + span(cols, along));
        let index = move |i: usize, j: usize| (origin + i as isize * down + j as isize * along) as usize;
        let len =
            1 + rows.saturating_sub(1) * down.unsigned_abs() + cols.saturating_sub(1) * along.unsigned_abs();
        (index, len)
    }
}

/// The elements in this order, with `fill` in the gaps and in a margin after them.
fn lay_out<T: Element>(x: &[T], shape: [usize; 2], order: Order, fill: T) -> Vec<T> {
    let (index, len) = order.place(shape);
    let mut out = vec![fill; len + 8];
    for i in 0..shape[0] {
        for j in 0..shape[1] {
            out[index(i, j)] = x[i * shape[1] + j];
        }
    }
    out
}

#[derive(Clone, Copy, Debug)]
struct Case {
    shape: [usize; 3],
    orders: [Order; 3],
    alpha: f64,
    beta: f64,
    bias: u8,
    seed: u64,
}

/// C after the call, row by row; checks that nothing outside C was written.
fn run<T: Element>(case: Case) -> Vec<T> {
    let [m, k, n] = case.shape;
    let gap = T::from_f64(-77.0);
    let (a, b) = (noise::<T>(m * k, case.seed), noise::<T>(k * n, case.seed + 1));
    let (c, bias) = (noise::<T>(m * n, case.seed + 2), noise::<T>(m.max(n), case.seed + 3));
    let a_data = lay_out(&a, [m, k], case.orders[0], T::NAN);
    let b_data = lay_out(&b, [k, n], case.orders[1], T::NAN);
    let mut c_data = lay_out(&c, [m, n], case.orders[2], gap);
    if case.beta == 0.0 {
        let (index, _) = case.orders[2].place([m, n]);
        (0..m).for_each(|i| (0..n).for_each(|j| c_data[index(i, j)] = T::NAN));
    }
    let view = |order: Order, rows, cols| order.strides(rows, cols);
    let (rs, cs) = view(case.orders[0], m, k);
    let a_view = MatRef::new(&a_data, m, k, rs, cs).unwrap();
    let (rs, cs) = view(case.orders[1], k, n);
    let b_view = MatRef::new(&b_data, k, n, rs, cs).unwrap();
    let (rs, cs) = view(case.orders[2], m, n);
    let c_view = MatMut::new(&mut c_data, m, n, rs, cs).unwrap();
    let bias = match case.bias {
        0 => Bias::None,
        1 => Bias::PerColumn(&bias[..n]),
        _ => Bias::PerRow(&bias[..m]),
    };
    gemm_with_epilogue(T::from_f64(case.alpha), a_view, b_view, T::from_f64(case.beta), bias.into(), c_view)
        .unwrap();

    let (index, _) = case.orders[2].place([m, n]);
    let inside: Vec<usize> = (0..m * n).map(|place| index(place / n, place % n)).collect();
    let mut outside = c_data.clone();
    inside.iter().for_each(|&place| outside[place] = gap);
    assert!(outside.iter().all(|&x| x == gap), "{case:?} wrote outside of C");
    inside.iter().map(|&place| c_data[place]).collect()
}

fn check<T: Element>(case: Case) {
    let [m, k, n] = case.shape;
    let wide = |len, seed| widen(&noise::<T>(len, seed));
    let (a, b, c) = (wide(m * k, case.seed), wide(k * n, case.seed + 1), wide(m * n, case.seed + 2));
    let bias = wide(m.max(n), case.seed + 3);
    let bias = |place: usize| match case.bias {
        0 => 0.0,
        1 => bias[place % n],
        _ => bias[place / n],
    };
    let (alpha, beta) = (T::from_f64(case.alpha).to_f64(), T::from_f64(case.beta).to_f64());
    let mut expected = reference::gemm(alpha, &a, &b, beta, &c, case.shape);
    let magnitude = |x: &[f64]| -> Vec<f64> { x.iter().map(|x| x.abs()).collect() };
    let mut bound =
        reference::gemm(alpha.abs(), &magnitude(&a), &magnitude(&b), beta.abs(), &magnitude(&c), case.shape);
    for place in 0..m * n {
        expected[place] += bias(place);
        bound[place] += bias(place).abs();
    }
    // γ of one rounding per term, one per KC block, and a few at the end; the f64 reference needs its own.
    let steps = (k + k.div_ceil(256) + 4) as f64 * if T::NAME == "f64" { 2.0 } else { 1.0 };
    let gamma = steps * unit::<T>() / (1.0 - steps * unit::<T>());
    on_every_isa(|isa| {
        let actual = run::<T>(case);
        assert_within(&format!("{isa} gemm {case:?}"), &actual, &expected, |i| gamma * bound[i]);
    });
}

fn order() -> impl Strategy<Value = Order> {
    prop::sample::select(&Order::ALL[..])
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..4, 4usize..20, 15usize..18, 31usize..34, 47usize..50, 60usize..100]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn gemm_matches_the_reference(
        shape in (size(), prop_oneof![size(), Just(256usize), Just(257usize), Just(530usize)], size()),
        orders in (order(), order(), order()),
        alpha in prop::sample::select(&[1.0, 0.0, -1.5, 0.3][..]),
        beta in prop::sample::select(&[0.0, 1.0, -0.7][..]),
        bias in 0u8..3,
        seed in 0u64..1000,
    ) {
        let case = Case { shape: shape.into(), orders: orders.into(), alpha, beta, bias, seed };
        check::<f32>(case);
        check::<f64>(case);
    }
}

#[test]
fn the_shapes_of_the_main_job_match_the_reference() {
    use Order::{ColMajor, RowMajor};
    for shape in
        [[100, 784, 100], [100, 100, 50], [100, 50, 100], [100, 100, 10], [784, 100, 100], [1, 300, 70]]
    {
        for orders in [[RowMajor; 3], [ColMajor, RowMajor, RowMajor], [RowMajor, ColMajor, RowMajor]] {
            let case = Case { shape, orders, alpha: 1.0, beta: 0.0, bias: 1, seed: 5 };
            check::<f32>(case);
            check::<f64>(case);
        }
    }
}

#[test]
fn the_same_bits_on_every_isa_number_of_threads_and_order() {
    let mut all = Vec::new();
    for a in [Order::RowMajor, Order::ColMajor, Order::Reversed] {
        for b in [Order::RowMajor, Order::ColMajor, Order::Scattered] {
            for c in [Order::RowMajor, Order::ColMajor, Order::Scattered] {
                let case = Case {
                    shape: [131, 600, 133],
                    orders: [a, b, c],
                    alpha: 0.7,
                    beta: 0.3,
                    bias: 1,
                    seed: 9,
                };
                same_bits_everywhere(|| run::<f32>(case));
                all.push(run::<f32>(case));
            }
        }
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn every_path_gives_the_same_bits_for_every_order() {
    use Order::{ColMajor, Padded, RowMajor, Scattered};
    // A vector on either side, rows too few for whole tiles, k cut among the threads, several strips of
    // packed B.
    let shapes = [
        [1, 600, 533],
        [533, 600, 1],
        [1, 40, 7],
        [3, 600, 700],
        [16, 20_000, 16],
        [75, 70, 1100],
        [50, 9, 300],
        // Without a plan; B so little that each thread packs all of it; packed by the threads together.
        [33, 20, 41],
        [100, 90, 101],
        [100, 600, 101],
        // Rows and columns a page apart: A is copied, tiles are lower.
        [1024, 300, 130],
        [40, 1024, 1024],
    ];
    for shape in shapes {
        let mut all = Vec::new();
        for orders in [
            [RowMajor, RowMajor, RowMajor],
            [ColMajor, RowMajor, RowMajor],
            [RowMajor, ColMajor, RowMajor],
            [Scattered, Padded, ColMajor],
            [Padded, Scattered, Scattered],
        ] {
            let case = Case { shape, orders, alpha: 0.7, beta: 0.3, bias: 2, seed: 11 };
            same_bits_everywhere(|| run::<f32>(case));
            all.push(run::<f32>(case));
            check::<f32>(case);
            check::<f64>(case);
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{shape:?}");
    }
}

#[test]
fn a_long_inner_dimension_is_summed() {
    let k = (1 << 20) + 1;
    let ones = vec![1.0_f32; k];
    let mut c = [0.0];
    let (a, b) = (MatRef::row_major(&ones, 1, k).unwrap(), MatRef::new(&ones, k, 1, 1, k as isize).unwrap());
    gemm(1.0, a, b, 0.0, MatMut::row_major(&mut c, 1, 1).unwrap()).unwrap();
    assert_eq!(c, [k as f32]);
}

/// The first rows of a product of `m` rows in three layouts and packed before, with all that may follow the
/// sums, row by row.
fn first_rows<T: Element>(shape: [usize; 3], layout: &str, packed: bool) -> Vec<T> {
    let ([m, k, n], scale) = (shape, T::from_f64(0.7));
    let most = 300 * k.max(n);
    let (a, residual) = (noise::<T>(most, 1), noise::<T>(most, 4));
    let (b, bias) = (noise::<T>(k * n, 2), noise::<T>(n, 3));
    // Element (i, p) of A is the same for every m.
    let mut columns = vec![T::ZERO; m * k];
    (0..m * k).for_each(|at| columns[at % k * m + at / k] = a[at]);
    let a = match layout {
        "TN" => MatRef::col_major(&columns, m, k),
        _ => MatRef::row_major(&a[..m * k], m, k),
    };
    let b = if layout == "NT" { MatRef::col_major(&b, k, n) } else { MatRef::row_major(&b, k, n) };
    let (a, b) = (a.unwrap(), b.unwrap());
    let mut c = residual[..m * n].to_vec();
    let epilogue = Epilogue {
        bias: Bias::PerColumn(&bias),
        residual: Some(MatRef::row_major(&residual[..m * n], m, n).unwrap()),
        activation: Some(Unary::Gelu),
        ..Epilogue::default()
    };
    let to = MatMut::row_major(&mut c, m, n).unwrap();
    if packed {
        gemm_prepacked(scale, a, &PackedB::new(b).unwrap(), scale, epilogue, to).unwrap();
    } else {
        gemm_with_epilogue(scale, a, b, scale, epilogue, to).unwrap();
    }
    c
}

#[test]
fn a_row_has_the_same_bits_alone_and_among_others() {
    // Every way of summing one row: registers of columns, one after the other or blocks of k side by side,
    // many columns, tails; k without, with one and with many blocks.
    let shapes =
        [(300, 50), (784, 10), (1300, 16), (513, 129), (40, 70), (3, 5), (600, 1), (256, 33), (1100, 1)];
    fn check<T: Element>(k: usize, n: usize, layout: &str, packed: bool) {
        let all = first_rows::<T>([300, k, n], layout, packed);
        for m in (1..=17).chain([31, 64, 100, 127, 128, 199, 200, 257]) {
            let some = first_rows::<T>([m, k, n], layout, packed);
            assert!(some == all[..m * n], "{m} × {k} × {n} {layout}, packed {packed}");
        }
    }
    on_every_isa(|isa| {
        for (k, n) in shapes {
            for (layout, packed) in [("NN", false), ("NT", false), ("TN", false), ("NN", true), ("NT", true)]
            {
                for threads in if isa.has_fma() { &[1, 3][..] } else { &[1] } {
                    let run = || {
                        check::<f32>(k, n, layout, packed);
                        check::<f64>(k, n, layout, packed);
                    };
                    Context::new().isa(isa).threads(*threads).run(run).unwrap();
                }
            }
        }
    });
    same_bits_everywhere(|| first_rows::<f32>([1, 1300, 533], "NT", false));
    same_bits_everywhere(|| first_rows::<f64>([1, 1300, 533], "NN", false));
}

#[test]
fn special_values_go_through_and_beta_zero_overwrites_nan() {
    on_every_isa(|_| {
        let a = [f32::NAN, 1.0, f32::INFINITY, 1.0];
        let mut c = [f32::NAN; 4];
        let view = MatRef::row_major(&a, 2, 2).unwrap();
        let b = [1.0, 0.0, 0.0, 1.0];
        gemm(1.0, view, MatRef::row_major(&b, 2, 2).unwrap(), 0.0, MatMut::row_major(&mut c, 2, 2).unwrap())
            .unwrap();
        assert!(c[0].is_nan() && c[1].is_nan() && c[2] == f32::INFINITY && c[3].is_nan());
        let mut empty = [f32::NAN; 2];
        let (a, b) = (MatRef::row_major(&[], 2, 0).unwrap(), MatRef::row_major(&[], 0, 1).unwrap());
        gemm(1.0, a, b, 0.0, MatMut::row_major(&mut empty, 2, 1).unwrap()).unwrap();
        assert_eq!(empty, [0.0, 0.0]);
    });
}

#[test]
fn zero_strides_repeat_a_row() {
    let (row, b) = ([1.0, 2.0, 3.0], noise::<f64>(12, 3));
    let mut c = [0.0; 8];
    let a = MatRef::new(&row, 2, 3, 0, 1).unwrap();
    gemm(1.0, a, MatRef::row_major(&b, 3, 4).unwrap(), 0.0, MatMut::row_major(&mut c, 2, 4).unwrap())
        .unwrap();
    assert_eq!(c[..4], c[4..]);
}

/// A matrix in some order, with its elements row by row.
struct Laid<T> {
    data: Vec<T>,
    shape: [usize; 2],
    order: Order,
}

impl<T: Element> Laid<T> {
    fn new(shape: [usize; 2], order: Order, seed: u64) -> Self {
        let values = noise::<T>(shape[0] * shape[1], seed);
        Self { data: lay_out(&values, shape, order, T::NAN), shape, order }
    }

    fn view(&self) -> MatRef<'_, T> {
        let [rows, cols] = self.shape;
        let (row_stride, col_stride) = self.order.strides(rows, cols);
        MatRef::new(&self.data, rows, cols, row_stride, col_stride).unwrap()
    }

    fn rows(&self) -> Vec<T> {
        let [rows, cols] = self.shape;
        (0..rows * cols).map(|i| self.view().get(i / cols, i % cols)).collect()
    }
}

/// `product` into a C in this order, which holds `c` before; row by row.
fn into_c<T: Element>(c: &[T], shape: [usize; 2], order: Order, product: impl Fn(MatMut<'_, T>)) -> Vec<T> {
    let mut data = lay_out(c, shape, order, T::NAN);
    let (row_stride, col_stride) = order.strides(shape[0], shape[1]);
    product(MatMut::new(&mut data, shape[0], shape[1], row_stride, col_stride).unwrap());
    let (index, _) = order.place(shape);
    let inside = (0..c.len()).map(|place| index(place / shape[1], place % shape[1]));
    let values = inside.clone().map(|place| data[place]).collect();
    inside.for_each(|place| data[place] = T::NAN);
    assert!(data.iter().all(|x| x.to_f64().is_nan()), "wrote outside of C, {shape:?} {order:?}");
    values
}

fn activation<T: Element>() -> impl Strategy<Value = Option<Unary<T>>> {
    let slope = T::from_f64(0.01);
    prop::sample::select(vec![
        None,
        Some(Unary::Relu),
        Some(Unary::LeakyRelu { slope }),
        Some(Unary::Gelu),
        Some(Unary::GeluTanh),
        Some(Unary::Silu),
        Some(Unary::Tanh),
        Some(Unary::Sigmoid),
        Some(Unary::Powf(T::from_f64(2.5))),
    ])
}

/// The epilogue in one pass and its steps one after the other, on every instruction set.
fn check_epilogue<T: Element>(case: Case, f: Option<Unary<T>>, extras: [Option<Order>; 2]) {
    let ([m, k, n], [a_order, b_order, c_order]) = (case.shape, case.orders);
    let (a, b) = (Laid::<T>::new([m, k], a_order, case.seed), Laid::<T>::new([k, n], b_order, case.seed + 1));
    let (c, bias) = (noise::<T>(m * n, case.seed + 2), noise::<T>(m.max(n), case.seed + 3));
    let [residual, mask] =
        extras.map(|order| order.map(|order| Laid::<T>::new([m, n], order, case.seed + 4)));
    let bias = match case.bias {
        0 => Bias::None,
        1 => Bias::PerColumn(&bias[..n]),
        _ => Bias::PerRow(&bias[..m]),
    };
    let (alpha, beta) = (T::from_f64(case.alpha), T::from_f64(case.beta));
    on_every_isa(|isa| {
        let epilogue = Epilogue {
            bias,
            residual: residual.as_ref().map(Laid::view),
            activation: f,
            relu_mask: mask.as_ref().map(Laid::view),
        };
        let fused = into_c(&c, [m, n], c_order, |c| {
            gemm_with_epilogue(alpha, a.view(), b.view(), beta, epilogue, c).unwrap();
        });
        let packed = PackedB::new(b.view()).unwrap();
        let prepacked = into_c(&c, [m, n], c_order, |c| {
            gemm_prepacked(alpha, a.view(), &packed, beta, epilogue, c).unwrap();
        });
        let mut steps = into_c(&c, [m, n], Order::RowMajor, |c| {
            gemm_with_epilogue(alpha, a.view(), b.view(), beta, bias.into(), c).unwrap();
        });
        if let Some(residual) = &residual {
            binary(Binary::Add, &steps.clone(), &residual.rows(), &mut steps).unwrap();
        }
        if let Some(f) = f {
            unary(f, &steps.clone(), &mut steps).unwrap();
        }
        if let Some(mask) = &mask {
            steps
                .iter_mut()
                .zip(mask.rows())
                .filter(|(_, mask)| *mask <= T::ZERO)
                .for_each(|(x, _)| *x = T::ZERO);
        }
        let bits = |x: &[T]| x.iter().map(|x| x.to_f64().to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&fused), bits(&steps), "{isa} {case:?} {f:?} {extras:?}");
        assert_eq!(bits(&prepacked), bits(&steps), "{isa} prepacked {case:?} {f:?} {extras:?}");
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_epilogue_and_packing_before_have_the_bits_of_their_steps(
        shape in (size(), prop_oneof![size(), Just(257usize), Just(530usize)], size()),
        orders in (order(), order(), order()),
        (alpha, beta) in prop::sample::select(&[(1.0, 0.0), (1.0, 1.0), (-1.5, 0.3)][..]),
        bias in 0u8..3,
        (f, g) in (activation::<f32>(), activation::<f64>()),
        extras in (prop::option::of(order()), prop::option::of(order())),
        seed in 0u64..1000,
    ) {
        let case = Case { shape: shape.into(), orders: orders.into(), alpha, beta, bias, seed };
        check_epilogue::<f32>(case, f, extras.into());
        check_epilogue::<f64>(case, g, extras.into());
    }
}

#[test]
fn the_epilogue_has_the_same_bits_on_every_number_of_threads() {
    use Order::{ColMajor, RowMajor, Scattered};
    // Tiles, a vector on either side, and k cut among the threads.
    for shape in [[300, 300, 310], [1, 3000, 700], [700, 3000, 1], [16, 20_000, 17]] {
        let [m, k, n] = shape;
        let (a, b) = (Laid::<f32>::new([m, k], RowMajor, 1), Laid::<f32>::new([k, n], RowMajor, 2));
        let (residual, mask) = (Laid::new([m, n], ColMajor, 3), Laid::new([m, n], Scattered, 4));
        let bias = noise::<f32>(n, 5);
        let epilogue = Epilogue {
            bias: Bias::PerColumn(&bias),
            residual: Some(residual.view()),
            activation: Some(Unary::Gelu),
            relu_mask: Some(mask.view()),
        };
        let c = noise::<f32>(m * n, 6);
        let packed = PackedB::new(b.view()).unwrap();
        let product = |c: MatMut<'_, f32>| {
            gemm_with_epilogue(0.5, a.view(), b.view(), 1.0, epilogue, c).unwrap();
        };
        same_bits_everywhere(|| into_c(&c, [m, n], RowMajor, product));
        let prepacked = || {
            into_c(&c, [m, n], RowMajor, |c| {
                gemm_prepacked(0.5, a.view(), &packed, 1.0, epilogue, c).unwrap()
            })
        };
        same_bits_everywhere(prepacked);
        assert_eq!(prepacked(), into_c(&c, [m, n], RowMajor, product), "{shape:?}");
    }
}

#[test]
fn batches_have_the_bits_of_their_products() {
    // Many small products, few large ones, one matrix for all, and heads of attention: rows of several
    // matrices between each other.
    for (count, [m, k, n]) in [(50, [7, 40, 9]), (3, [200, 210, 220]), (5, [1, 30, 20]), (0, [2, 2, 2])] {
        let (a, b, c) = (noise(count * m * k, 1), noise::<f32>(k * n, 2), noise::<f32>(count * m * n, 3));
        let expected: Vec<f32> = (0..count)
            .flat_map(|i| {
                let a = MatRef::new(&a[i * k..], m, k, (count * k) as isize, 1).unwrap();
                into_c(&c[i * m * n..][..m * n], [m, n], Order::RowMajor, |c| {
                    gemm(0.5, a, MatRef::col_major(&b, k, n).unwrap(), 2.0, c).unwrap();
                })
            })
            .collect();
        let batched = || {
            let mut c = c.clone();
            let a = BatchRef::new(&a, count, k, [m, k], [(count * k) as isize, 1]).unwrap();
            let b = BatchRef::new(&b, count, 0, [n, k], [k as isize, 1]).unwrap().t();
            gemm_batched(0.5, a, b, 2.0, BatchMut::row_major(&mut c, count, m, n).unwrap()).unwrap();
            c
        };
        same_bits_everywhere(batched);
        assert_eq!(batched(), expected);
    }
}

#[test]
fn bad_batches_are_named() {
    let text = |error: Error| error.to_string();
    let (x, mut y) = ([0.0_f32; 12], [0.0_f32; 12]);
    let error = BatchRef::row_major(&x, 3, 2, 3).unwrap_err();
    let message = "BatchRef::new: 3 matrices 6 elements apart, of 2 × 3 with strides 3 and 1 needs 18 elements, the \
                   slice has 12";
    assert_eq!(text(error), message);
    assert!(BatchRef::new(&x, 4, 5, [1, 1], [1, 1]).is_err());
    assert!(BatchRef::<f32>::new(&[], 2, 5, [0, 5], [5, 1]).is_ok());
    assert!(BatchRef::new(&x, usize::MAX, usize::MAX, [1, 1], [1, 1]).is_err());
    let error = BatchMut::new(&mut y, 2, 3, [2, 2], [2, 1]).unwrap_err();
    assert_eq!(text(error), "BatchMut::new: with strides 3, 2 and 1, places of 2 times 2 × 2 may coincide");
    assert!(BatchMut::new(&mut y, 2, 0, [2, 2], [2, 1]).is_err());
    // Rows of two matrices in turn.
    assert!(BatchMut::new(&mut y, 2, 2, [3, 2], [4, 1]).is_ok());
    let (two, three) = (BatchRef::row_major(&x, 2, 2, 2).unwrap(), BatchRef::row_major(&x, 3, 2, 2).unwrap());
    let error =
        gemm_batched(1.0, two, three, 0.0, BatchMut::row_major(&mut y, 2, 2, 2).unwrap()).unwrap_err();
    assert_eq!(text(error), "gemm: batches of 2 × 3 matrices to 2");
    let error = gemm_batched(1.0, two, two, 0.0, BatchMut::row_major(&mut y, 2, 2, 3).unwrap()).unwrap_err();
    assert_eq!(text(error), "gemm: shapes do not fit: [2, 2] × [2, 2] to [2, 3]");
}

#[cfg(unix)]
#[test]
fn nothing_outside_the_operands_is_touched() {
    use crate::common::guard::Guarded;
    let place = |values: &[f32], at_end: bool| {
        if at_end { Guarded::before_the_end(values) } else { Guarded::after_the_start(values) }
    };
    let shapes =
        [[1, 300, 75], [75, 300, 1], [33, 270, 41], [13, 17, 9], [7, 9, 5], [40, 30, 77], [3, 5, 100]];
    for (shape, at_end, transposed) in
        shapes.iter().flat_map(|&shape| [false, true].map(|end| (shape, end))).flat_map(|(shape, end)| {
            [[false, false], [true, false], [false, true], [true, true]].map(|t| (shape, end, t))
        })
    {
        let [m, k, n] = shape;
        let guarded = |len, seed| place(&noise(len, seed), at_end);
        let (a, b, bias) = (guarded(m * k, 1), guarded(k * n, 2), guarded(n, 3));
        let (residual, mask) = (guarded(m * n, 4), guarded(m * n, 5));
        let view = |x, rows, cols, transposed| {
            if transposed { MatRef::col_major(x, rows, cols) } else { MatRef::row_major(x, rows, cols) }
                .unwrap()
        };
        let (a, b) = (view(&a, m, k, transposed[0]), view(&b, k, n, transposed[1]));
        let activated =
            Epilogue { bias: Bias::PerColumn(&bias), activation: Some(Unary::Gelu), ..Epilogue::default() };
        let epilogue = Epilogue {
            residual: Some(view(&residual, m, n, transposed[0])),
            relu_mask: Some(view(&mask, m, n, transposed[1])),
            ..activated
        };
        on_every_isa(|_| {
            let mut c = guarded(m * n, 6);
            let packed = PackedB::new(b).unwrap();
            for beta in [0.0, 1.0] {
                gemm(1.0, a, b, beta, MatMut::col_major(&mut c, m, n).unwrap()).unwrap();
                let c_view = MatMut::row_major(&mut c, m, n).unwrap();
                gemm_with_epilogue(1.0, a, b, beta, epilogue, c_view).unwrap();
                let c_view = MatMut::row_major(&mut c, m, n).unwrap();
                gemm_prepacked(1.0, a, &packed, beta, epilogue, c_view).unwrap();
                let c_view = MatMut::row_major(&mut c, m, n).unwrap();
                gemm_prepacked(1.0, a, &packed, beta, activated, c_view).unwrap();
            }
        });
    }
}

#[test]
fn sums_that_underflow_have_one_sign() {
    // Every product is −1e-60, which rounds to −0.
    let (a, b) = (vec![-1e-30_f32; 17], vec![1e-30_f32; 34]);
    let (row_major, col_major) =
        (MatRef::row_major(&b, 17, 2).unwrap(), MatRef::col_major(&b, 17, 2).unwrap());
    let a = MatRef::row_major(&a, 1, 17).unwrap();
    on_every_isa(|isa| {
        for b in [row_major, col_major] {
            let (mut c, mut prepacked) = ([1.0; 2], [1.0; 2]);
            gemm(1.0, a, b, 0.0, MatMut::row_major(&mut c, 1, 2).unwrap()).unwrap();
            let packed = PackedB::new(b).unwrap();
            let c_view = MatMut::row_major(&mut prepacked, 1, 2).unwrap();
            gemm_prepacked(1.0, a, &packed, 0.0, Epilogue::default(), c_view).unwrap();
            assert!(c.iter().chain(&prepacked).all(|x| *x == 0.0), "{isa}");
            let signs = c.iter().chain(&prepacked).map(|x| x.is_sign_negative()).collect::<Vec<_>>();
            assert_eq!(signs, [signs[0]; 4], "{isa}");
        }
    });
}

#[test]
fn what_is_empty_or_absurd_is_done_at_once() {
    Context::new()
        .threads(4)
        .run(|| {
            let x = vec![1.0_f32; 1 << 20];
            let a = MatRef::row_major(&x, 1024, 1024).unwrap();
            let empty = MatRef::row_major(&[], 1024, 0).unwrap();
            gemm(1.0, a, empty, 0.0, MatMut::row_major(&mut [], 1024, 0).unwrap()).unwrap();
            gemm(1.0, empty.t(), a, 0.0, MatMut::row_major(&mut [], 0, 1024).unwrap()).unwrap();
            println!("{}", plan(&a, &empty, &MatMut::row_major(&mut [], 1024, 0).unwrap()).unwrap());
            let a = BatchRef::new(&x, usize::MAX, 0, [1024, 1024], [1024, 1]).unwrap();
            let empty = BatchRef::new(&[], usize::MAX, 0, [1024, 0], [0, 1]).unwrap();
            let c = BatchMut::new(&mut [], usize::MAX, 0, [1024, 0], [0, 1]).unwrap();
            gemm_batched(1.0, a, empty, 0.0, c).unwrap();
        })
        .unwrap();
    // Strides of axes with one place.
    let (x, mut c) = ([2.0_f32; 3], [0.0; 3]);
    let far = MatRef::new(&x, 1, 3, isize::MAX, 1).unwrap();
    let one = MatRef::new(&x, 1, 1, isize::MIN, isize::MAX).unwrap();
    gemm(1.0, one, far, 0.0, MatMut::new(&mut c, 1, 3, isize::MAX, 1).unwrap()).unwrap();
    assert_eq!(c, [4.0; 3]);
    assert!(PackedB::new(MatRef::new(&x, 1, usize::MAX, 0, 0).unwrap()).is_err());
}

#[test]
fn bad_shapes_are_named() {
    let text = |error: Error| error.to_string();
    let x = [0.0_f32; 12];
    let a = MatRef::row_major(&x, 3, 4).unwrap();
    let mut c = [0.0; 9];
    let error = gemm(1.0, a, a, 0.0, MatMut::row_major(&mut c, 3, 3).unwrap()).unwrap_err();
    assert_eq!(text(error), "gemm: shapes do not fit: [3, 4] × [3, 4] to [3, 3]");
    let c_view = MatMut::row_major(&mut c, 3, 3).unwrap();
    let error = gemm_with_epilogue(1.0, a, a.t(), 0.0, Bias::PerRow(&x[..2]).into(), c_view).unwrap_err();
    assert_eq!(text(error), "gemm: the bias per row has 2 elements, expected 3");
    let c_view = MatMut::row_major(&mut c, 3, 3).unwrap();
    let epilogue = Epilogue { residual: Some(a), ..Epilogue::default() };
    let error = gemm_with_epilogue(1.0, a, a.t(), 0.0, epilogue, c_view).unwrap_err();
    assert_eq!(text(error), "gemm: the residual is [3, 4], expected [3, 3]");
    let packed = PackedB::new(a).unwrap();
    assert_eq!((packed.rows(), packed.cols()), (3, 4));
    let c_view = MatMut::row_major(&mut c, 3, 3).unwrap();
    let error = gemm_prepacked(1.0, a, &packed, 0.0, Epilogue::default(), c_view).unwrap_err();
    assert_eq!(text(error), "gemm: shapes do not fit: [3, 4] × [3, 4] to [3, 3]");
    let error = MatRef::new(&x, 3, 5, 5, 1).unwrap_err();
    assert_eq!(text(error), "MatRef::new: 3 × 5 with strides 5 and 1 needs 15 elements, the slice has 12");
    assert!(MatRef::new(&x, usize::MAX, usize::MAX, isize::MAX, 1).is_err());
    assert!(MatRef::<f32>::row_major(&x, 2, usize::MAX).is_err());
    let error = MatMut::new(&mut c, 2, 3, 1, 1).unwrap_err();
    assert_eq!(text(error), "MatMut::new: with strides 1 and 1, places of 2 × 3 may coincide");
    assert!(MatMut::new(&mut c, 3, 3, 0, 1).is_err());
}

#[test]
fn plans_say_which_path_runs() {
    let (a, mut c) = (vec![0.0_f32; 1 << 20], vec![0.0_f32; 1 << 20]);
    let mut path = |[m, k, n]: [usize; 3], transposed: bool| {
        let b = if transposed { MatRef::col_major(&a, k, n) } else { MatRef::row_major(&a, k, n) };
        let c = MatMut::row_major(&mut c, m, n).unwrap();
        plan(&MatRef::row_major(&a, m, k).unwrap(), &b.unwrap(), &c).unwrap()
    };
    let one = |isa| Context::new().isa(isa).threads(1);
    for isa in Isa::available() {
        one(isa)
            .run(|| {
                assert_eq!(path([1, 1000, 1000], true).path, Path::Vector);
                assert_eq!(path([1000, 1000, 1], false).path, Path::Vector);
                assert_eq!(path([32, 32, 32], false).path, Path::InPlace);
                assert_eq!(path([100, 100, 50], false).path, Path::InPlace);
                assert_eq!(path([100, 100, 50], false).why, "it is small");
                assert_eq!(path([100, 100, 50], true).path, Path::Packed);
                assert_eq!(path([100, 784, 100], false).path, Path::InPlace);
                assert_eq!(path([100, 784, 100], true).path, Path::Packed);
                assert_eq!(path([512, 512, 1024], false).path, Path::Packed);
                assert_eq!(path([100, 784, 100], false).tasks, 1);
            })
            .unwrap();
    }
    Context::new()
        .threads(4)
        .run(|| {
            assert_eq!(path([32, 32, 32], false).tasks, 1);
            assert!(path([512, 512, 512], false).tasks >= 8);
            // Each thread packs a little B for itself.
            assert_eq!(path([200, 100, 100], true).tasks, 4);
            assert!(!path([400, 2000, 5], true).splits_k);
            assert!(path([200, 600, 100], true).tasks >= 8);
            let long = path([16, 65_536, 16], false);
            assert!(long.splits_k && long.tasks == 256, "{long}");
        })
        .unwrap();
    let text = one(Isa::Portable).run(|| path([100, 784, 100], false).to_string()).unwrap();
    assert_eq!(
        text,
        "gemm f32 100 × 784 × 100 with portable: B read in place (its rows lie in one piece), tiles of 6 × 16 in blocks \
         of 100 × 256 × 100, 1 task; 15.68 MFLOP, 667 kB"
    );
}

/// A B of two columns, in more blocks of k than half the blocks that threads share.
#[test]
fn few_columns_and_a_long_k_are_shared_by_threads() {
    for (k, n) in [(2049, 2), (4096, 2), (6144, 2), (3000, 3), (4096, 3), (9000, 5)] {
        let m = 300;
        let (a, b) = (noise::<f32>(m * k, 1), noise::<f32>(k * n, 2));
        let product = |threads: usize| {
            let mut c = vec![f32::NAN; m * n];
            let (a, b) = (MatRef::row_major(&a, m, k).unwrap(), MatRef::col_major(&b, k, n).unwrap());
            let call = || gemm(1.0, a, b, 0.0, MatMut::row_major(&mut c, m, n).unwrap());
            Context::new().threads(threads).run(call).unwrap().unwrap();
            c
        };
        let alone = product(1);
        for threads in [2, 3, 8] {
            assert_eq!(product(threads), alone, "{m} × {k} × {n} on {threads} threads");
        }
    }
}
