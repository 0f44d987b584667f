//! Absurd arguments of the methods of tensors: an error that names the operation, or a result that can be
//! used; never a panic, and never memory for what cannot be.

use std::panic::catch_unwind;

use gristmill::autograd::{BatchStatistics, CrossEntropyOptions, Reduction, WeightLayout};
use gristmill::kernels::dropout::Key;
use gristmill::kernels::norm::Norm;
use gristmill::tensor::step;
use gristmill::{Error, Result, Rng, Tensor};

type T64 = Tensor<f64>;

const MAX: usize = usize::MAX;
/// Dimensions that no memory holds, or whose product is no number.
const ABSURD: [&[usize]; 8] = [
    &[MAX],
    &[MAX, 2],
    &[1 << 33, 1 << 33],
    &[1 << 60],
    &[1 << 46],
    &[MAX, 0, MAX],
    &[MAX / 8 + 1],
    &[3; 40],
];
const AXES: [isize; 8] = [isize::MIN, -9, -2, -1, 0, 2, 9, isize::MAX];
const NUMBERS: [usize; 6] = [0, 1, 5, 1 << 40, MAX / 2 + 1, MAX];
const FLOATS: [f64; 8] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, -0.0, 2.0, 1e308, 5e-324];

fn inputs() -> Vec<T64> {
    let shapes: [&[usize]; 8] =
        [&[], &[0], &[3], &[2, 0, 3], &[2, 3], &[1, 4], &[4, 3, 2], &[1, 2, 1, 3, 1, 2]];
    shapes.into_iter().map(|shape| T64::ones(shape).unwrap()).collect()
}

/// Runs a call; its error, if it is one, must begin with one of the names, and its result must be readable.
#[track_caller]
fn calm(names: &str, what: &str, call: impl FnOnce() -> Result<Vec<T64>>) {
    let result = catch_unwind(std::panic::AssertUnwindSafe(|| {
        call().map(|results| results.iter().map(|y| y.to_vec().len() + y.to_string().len()).sum::<usize>())
    }));
    match result.unwrap_or_else(|_| panic!("{names} of {what} panicked")) {
        Ok(_) => {}
        Err(
            Error::Shape { op, message } | Error::Value { op, message } | Error::Autograd { op, message },
        ) => {
            assert!(
                // Those of shapes themselves are nobody's.
                op == "shape" || names.split(' ').any(|name| name.contains(op) || op.contains(name)),
                "{names} of {what}: {op} is to blame"
            );
            assert!(message.len() >= 10, "{names} of {what}: {message:?}");
        }
        Err(error) => panic!("{names} of {what}: {error}"),
    }
}

/// A method and the operation that its errors name.
type Method<A> = (&'static str, fn(&T64, A) -> Result<Vec<T64>>);

fn one(y: Result<T64>) -> Result<Vec<T64>> {
    y.map(|y| vec![y])
}

fn none<R>(y: Result<R>) -> Result<Vec<T64>> {
    y.map(|_| vec![])
}

#[test]
fn axes() {
    let methods: [Method<isize>; 32] = [
        ("all_axes", |x, a| one(x.all_axes(&[a], true))),
        ("any_axes", |x, a| one(x.any_axes(&[a, a], false))),
        ("argmax_axis argmax", |x, a| none(x.argmax_axis(a))),
        ("argmin_axis argmin", |x, a| none(x.argmin_axis(a))),
        ("argsort", |x, a| none(x.argsort(a, true))),
        ("chunk", |x, a| x.chunk(2, a)),
        ("concat", |x, a| one(Tensor::cat(&[x, x], a))),
        ("count_nonzero_axes", |x, a| one(x.count_nonzero_axes(&[a], true))),
        ("cumsum", |x, a| one(x.cumsum(a))),
        ("flip", |x, a| one(x.flip(&[a]))),
        ("gather", |x, a| one(x.gather(a, &[0, 1]))),
        ("index_add", |x, a| one(x.index_add(a, &[0], x))),
        ("index_select", |x, a| one(x.index_select(a, &[0, 1]))),
        ("log_softmax", |x, a| one(x.log_softmax(a))),
        ("logsumexp", |x, a| one(x.logsumexp(a))),
        ("max_axes", |x, a| one(x.max_axes(&[a], false))),
        ("norm_axes", |x, a| one(x.norm_axes(Norm::L2, &[a], false))),
        ("permute", |x, a| one(x.permute(&[a, 0, 1]))),
        ("prod_axes", |x, a| one(x.prod_axes(&[a], false))),
        ("roll", |x, a| one(x.roll(isize::MIN, a))),
        ("scatter", |x, a| one(x.scatter(a, &[0], x))),
        ("scatter_add", |x, a| one(x.scatter_add(a, &[MAX], x))),
        ("select", |x, a| one(x.select(a, isize::MIN))),
        ("softmax", |x, a| one(x.softmax(a))),
        ("sort", |x, a| one(x.sort(a, false).map(|(y, _)| y))),
        ("squeeze", |x, a| one(x.squeeze(a))),
        ("stack unsqueeze concat", |x, a| one(Tensor::stack(&[x, x], a))),
        ("sum_axes", |x, a| one(x.sum_axes(&[a], true))),
        ("transpose", |x, a| one(x.transpose(a, 0))),
        ("unbind", |x, a| x.unbind(a)),
        ("unsqueeze", |x, a| one(x.unsqueeze(a))),
        ("var_axes", |x, a| one(x.var_axes(&[a], 1, false))),
    ];
    for x in inputs() {
        for (name, method) in methods {
            AXES.into_iter()
                .for_each(|axis| calm(name, &format!("{:?} along {axis}", x.shape()), || method(&x, axis)));
        }
    }
}

#[test]
fn numbers_of_things() {
    let methods: [Method<usize>; 24] = [
        ("chunk", |x, n| x.chunk(n, 0)),
        ("cross_entropy", |x, n| one(x.cross_entropy(&[n, n]))),
        ("cross_entropy", |x, n| {
            one(x.cross_entropy_with(
                &[n, 0],
                CrossEntropyOptions { ignore_index: Some(n), ..Default::default() },
            ))
        }),
        ("embedding", |x, n| one(x.embedding(&[0, n], Some(n)))),
        ("flatten", |x, n| one(x.flatten(n))),
        ("gather", |x, n| one(x.gather(-1, &[n; 2]))),
        ("gather_rows", |x, n| one(x.gather_rows(&[0, n]))),
        ("group_norm", |x, n| one(x.group_norm(n, None, 1e-5))),
        ("index_add", |x, n| one(x.index_add(0, &[n, n], x))),
        ("index_select", |x, n| one(x.index_select(0, &[n]))),
        ("index", |x, n| one(x.index(n..))),
        ("index", |x, n| one(x.index((n as isize, ..n)))),
        ("index", |x, n| one(x.index(step(.., n)))),
        ("nll_loss", |x, n| one(x.nll_loss(&[n, 1], Some(x), Some(n), Reduction::None))),
        ("repeat_interleave broadcast_to", |x, n| {
            one(x.repeat_interleave(if n == 5 { n } else { n.max(1 << 46) }, -1))
        }),
        ("scatter", |x, n| one(x.scatter(0, &[n; 3], x))),
        ("slice", |x, n| one(x.slice(0, n..MAX))),
        ("slice", |x, n| one(x.slice(0, 1..n))),
        ("split", |x, n| x.split(n, 0)),
        ("split_with_sizes", |x, n| x.split_with_sizes(&[n, n, 2], 0)),
        ("std_axes var_axes", |x, n| one(x.std_axes(&[0], n, false))),
        ("topk", |x, n| one(x.topk(n, -1, true).map(|(y, _)| y))),
        ("one_hot buffer", |_, n| one(Tensor::one_hot(&[0, n], if n == 5 { n } else { 1 << 46 }))),
        ("var_axes", |x, n| one(x.var_axes(&[-1], n, false))),
    ];
    for x in inputs() {
        for (name, method) in methods {
            NUMBERS
                .into_iter()
                .for_each(|n| calm(name, &format!("{:?} with {n}", x.shape()), || method(&x, n)));
        }
    }
}

#[test]
fn shapes() {
    let mut rng = Rng::seed(1);
    for shape in ABSURD {
        let what = format!("{shape:?}");
        let calm = |name: &str, call: &dyn Fn() -> Result<T64>| calm(name, &what, || one(call()));
        let key = "buffer";
        calm(key, &|| T64::zeros(shape));
        calm(key, &|| T64::full(shape, f64::NAN));
        calm(key, &|| T64::rand(shape, 0.0, 1.0, &mut rng.clone()));
        calm(key, &|| T64::randn(shape, 0.0, 1.0, &mut rng.clone()));
        calm(key, &|| T64::bernoulli(shape, 0.5, &mut rng.clone()));
        calm("from_slice", &|| T64::from_slice(&[1.0], shape));
        for x in inputs() {
            calm("reshape", &|| x.reshape(shape));
            calm("broadcast_to", &|| x.broadcast_to(shape));
            calm("repeat broadcast_to", &|| x.repeat(shape));
        }
    }
    // Of a column and a row an absurd matrix.
    let [column, row] = [[1 << 23, 1], [1, 1 << 23]].map(|shape| Tensor::<f32>::ones(shape).unwrap());
    let (column, row) = (column.requires_grad(), row.requires_grad());
    for result in
        [column.add(&row), column.matmul(&row), column.mul_add(&row, &row), column.lt(&row), row.pow(&column)]
    {
        assert!(result.unwrap_err().to_string().contains("there is no memory for"));
    }
    // Nothing, of an absurd shape.
    assert_eq!(T64::zeros([0, MAX]).map(|x| x.len()).unwrap_or(0), 0);
    let absurd = [NUMBERS[3], NUMBERS[4], NUMBERS[5]].map(|n| n.max(1 << 46));
    for n in absurd {
        calm("buffer arange", "arange", || one(T64::arange(n)));
        calm("buffer eye", "eye", || one(T64::eye(n)));
        calm("buffer linspace", "linspace", || one(T64::linspace(0.0, 1.0, n)));
    }
    rng = rng.split();
    assert!(T64::randn([2], 0.0, 1.0, &mut rng).is_ok());
}

#[test]
fn hyperparameters() {
    let methods: [Method<f64>; 21] = [
        ("bernoulli", |x, p| one(Tensor::bernoulli(x.shape(), p, &mut Rng::seed(1)))),
        ("clamp", |x, p| one(x.clamp(p, 1.0))),
        ("clamp", |x, p| one(x.clamp(1.0, p))),
        ("dropout", |x, p| one(x.dropout(p, Key { seed: u64::MAX, stream: u64::MAX }))),
        ("elu", |x, p| one(x.elu(p))),
        ("full", |x, p| one(x.full_like(p))),
        ("group_norm", |x, p| one(x.group_norm(1, None, p))),
        ("huber_loss", |x, p| one(x.huber_loss(x, p, Reduction::None))),
        ("cross_entropy", |x, p| {
            let options = CrossEntropyOptions { label_smoothing: p, ..Default::default() };
            one(x.cross_entropy_with(&[0, 1], options))
        }),
        ("soft_cross_entropy cross_entropy", |x, p| {
            let options = CrossEntropyOptions { label_smoothing: p, ..Default::default() };
            one(x.soft_cross_entropy(x, options))
        }),
        ("layer_norm", |x, p| one(x.layer_norm(None, p))),
        ("leaky_relu", |x, p| one(x.leaky_relu(p))),
        ("masked_fill", |x, p| one(x.masked_fill(x, p))),
        ("mul_scalar", |x, p| one(x.mul_scalar(p))),
        ("powf", |x, p| one(x.powf(p))),
        ("rand fill_uniform", |x, p| one(Tensor::rand(x.shape(), p, 1.0, &mut Rng::seed(1)))),
        ("rand fill_uniform", |x, p| one(Tensor::rand(x.shape(), -p, p, &mut Rng::seed(1)))),
        ("randn fill_normal", |x, p| one(Tensor::randn(x.shape(), p, p, &mut Rng::seed(1)))),
        ("rms_norm", |x, p| one(x.rms_norm(None, Some(p)))),
        ("batch_norm", |x, p| one(x.batch_norm(None, BatchStatistics::Batch(None), p))),
        ("linspace", |_, p| one(Tensor::linspace(p, -p, 3))),
    ];
    for x in inputs() {
        for (name, method) in methods {
            FLOATS
                .into_iter()
                .for_each(|p| calm(name, &format!("{:?} with {p:e}", x.shape()), || method(&x, p)));
        }
        [i32::MIN, -1, 0, 1, i32::MAX]
            .into_iter()
            .for_each(|power| calm("powi", "powers", || one(x.powi(power))));
        [isize::MIN, -2, 0, 3, isize::MAX].into_iter().for_each(|diagonal| {
            calm("tril", "a diagonal", || one(x.tril(diagonal)));
            calm("triu", "a diagonal", || one(x.triu(diagonal)));
            calm("diagonal", "a diagonal", || one(x.diagonal(diagonal)));
            calm("roll", "a shift", || one(x.roll(diagonal, 0)));
        });
    }
    for step in FLOATS {
        // From 0 to 1e9 by steps of 5e-324 are more numbers than there are.
        calm("arange_step buffer", "steps", || one(T64::arange_step(0.0, -1e9 * step.signum(), step)));
    }
}

#[test]
fn pairs() {
    type OfTwo = (&'static str, fn(&T64, &T64) -> Result<Vec<T64>>);
    let methods: [OfTwo; 29] = [
        ("add", |x, y| one(x.add(y))),
        ("bce_with_logits_loss", |x, y| one(x.bce_with_logits_loss(y, Reduction::Mean))),
        ("broadcast_to", |x, y| one(x.broadcast_to(y.shape()))),
        ("concat", |x, y| one(Tensor::concat(&[x, y], 0))),
        ("dot", |x, y| one(x.dot(y))),
        ("einsum", |x, y| one(Tensor::einsum("ij,jk->ik", &[x, y]))),
        ("einsum", |x, y| one(Tensor::einsum("...i,i", &[x, y]))),
        ("einsum", |x, _| one(Tensor::einsum("ii->", &[x]))),
        ("einsum", |x, _| one(Tensor::einsum("i->ij", &[x]))),
        ("einsum", |_, _| one(Tensor::einsum("", &[]))),
        ("group_norm", |x, y| one(x.group_norm(1, Some((y, y)), 1e-5))),
        ("layer_norm", |x, y| one(x.layer_norm(Some((y, y)), 1e-5))),
        ("lerp", |x, y| one(x.lerp(y, x))),
        ("linear", |x, y| one(x.linear(y, Some(y)))),
        ("linear", |x, y| one(x.linear_with(y, WeightLayout::InOut, None, None))),
        ("lt", |x, y| one(x.lt(y))),
        ("logical_xor", |x, y| one(x.logical_xor(y))),
        ("masked_fill", |x, y| one(x.masked_fill(y, 1.0))),
        ("masked_select", |x, y| one(x.masked_select(y))),
        ("matmul", |x, y| one(x.matmul(y))),
        ("maximum", |x, y| one(x.maximum(y))),
        ("mse_loss", |x, y| one(x.mse_loss(y, Reduction::Sum))),
        ("mul_add", |x, y| one(x.mul_add(y, x))),
        ("pow", |x, y| one(x.pow(y))),
        ("prelu", |x, y| one(x.prelu(y))),
        ("rms_norm", |x, y| one(x.rms_norm(Some(y), None))),
        ("soft_cross_entropy cross_entropy", |x, y| {
            one(x.soft_cross_entropy(y, CrossEntropyOptions::default()))
        }),
        ("where_cond", |x, y| one(x.where_cond(y, x))),
        ("backward", |x, y| none(x.clone().requires_grad().exp()?.backward_with(y))),
    ];
    for x in inputs() {
        for y in inputs() {
            for (name, method) in methods {
                calm(name, &format!("{:?} and {:?}", x.shape(), y.shape()), || method(&x, &y));
            }
        }
    }
    calm("concat", "nothing", || one(T64::concat(&[], 0)));
    for pattern in
        ["->", "i,j->k", "ij->", "i->i->i", "é,i", "....i", "i j , j k", "ijklmnopqrstuvwxyz", "-", ",,"]
    {
        calm("einsum", pattern, || one(Tensor::einsum(pattern, &[&T64::ones([2, 2]).unwrap()])));
    }
}
