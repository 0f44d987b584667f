//! Matrix multiplication against its reference and its promises.

mod common;

use common::*;
use gristmill::kernels::gemm::{Bias, MatMut, MatRef, Path, gemm, gemm_with_epilogue, plan};
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
}

impl Order {
    const ALL: [Order; 5] =
        [Order::RowMajor, Order::ColMajor, Order::Padded, Order::Scattered, Order::Reversed];

    fn strides(self, rows: usize, cols: usize) -> (isize, isize) {
        let (rows, cols) = (rows as isize, cols as isize);
        match self {
            Order::RowMajor => (cols, 1),
            Order::ColMajor => (1, rows),
            Order::Padded => (cols + 5, 1),
            Order::Scattered => (3 * cols + 1, 3),
            Order::Reversed => (-cols, -1),
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
    gemm_with_epilogue(T::from_f64(case.alpha), a_view, b_view, T::from_f64(case.beta), bias, c_view)
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
    // A vector on either side, rows too few for whole tiles, k cut among the threads, several strips of packed B, rows
    // of B in different pages.
    let shapes = [
        [1, 600, 533],
        [533, 600, 1],
        [1, 40, 7],
        [3, 600, 700],
        [16, 20_000, 16],
        [75, 70, 1100],
        [50, 9, 300],
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

#[test]
fn rows_have_the_bits_they_have_among_others() {
    let (a, b) = (noise::<f32>(7 * 300, 1), noise::<f32>(300 * 50, 2));
    on_every_isa(|_| {
        let product = |rows: &[f32]| {
            let m = rows.len() / 300;
            let mut c = vec![0.0; m * 50];
            let (a, b) = (MatRef::row_major(rows, m, 300).unwrap(), MatRef::row_major(&b, 300, 50).unwrap());
            gemm(1.0, a, b, 0.0, MatMut::row_major(&mut c, m, 50).unwrap()).unwrap();
            c
        };
        let whole = product(&a);
        for row in 0..5 {
            assert_eq!(product(&a[row * 300..][..2 * 300]), whole[row * 50..][..2 * 50]);
        }
    });
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

#[test]
fn bad_shapes_are_named() {
    let text = |error: Error| error.to_string();
    let x = [0.0_f32; 12];
    let a = MatRef::row_major(&x, 3, 4).unwrap();
    let mut c = [0.0; 9];
    let error = gemm(1.0, a, a, 0.0, MatMut::row_major(&mut c, 3, 3).unwrap()).unwrap_err();
    assert_eq!(text(error), "gemm: shapes do not fit: [3, 4] × [3, 4] to [3, 3]");
    let c_view = MatMut::row_major(&mut c, 3, 3).unwrap();
    let error = gemm_with_epilogue(1.0, a, a.t(), 0.0, Bias::PerRow(&x[..2]), c_view).unwrap_err();
    assert_eq!(text(error), "gemm: the bias per row has 2 elements, expected 3");
    let error = MatRef::new(&x, 3, 5, 5, 1).unwrap_err();
    assert_eq!(text(error), "MatRef::new: 3 × 5 with strides 5 and 1 needs 15 elements, the slice has 12");
    assert!(MatRef::new(&x, usize::MAX, usize::MAX, isize::MAX, 1).is_err());
    assert!(MatRef::<f32>::row_major(&x, 2, usize::MAX).is_err());
    let error = MatMut::new(&mut c, 2, 3, 1, 1).unwrap_err();
    assert_eq!(text(error), "MatMut::new: strides 1 and 1 make places of 2 × 3 coincide");
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
                let deep = if isa == Isa::Avx512 { Path::InPlace } else { Path::Packed };
                assert_eq!(path([100, 784, 100], false).path, deep);
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
            let long = path([16, 65_536, 16], false);
            assert!(long.splits_k && long.tasks == 256, "{long}");
        })
        .unwrap();
    let text = one(Isa::Portable).run(|| path([100, 784, 100], false).to_string()).unwrap();
    assert_eq!(
        text,
        "gemm f32 100 × 784 × 100 with portable: B packed, tiles of 6 × 16, 1 task; 15.68 MFLOP, 667 kB"
    );
}
