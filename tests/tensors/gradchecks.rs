//! The gradcheck of every operation on tensors: a table that none of them can be missing from. What is
//! special of a family, such as every way to broadcast, stands in the other files.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::{env, fs, thread};

#[path = "../registry/names.rs"]
mod names;

use gristmill::autograd::{
    BatchStatistics, ConvOptions, CrossEntropyOptions, Divisor, Epilogue, Padding, PoolOptions, Reduction,
    WeightLayout, gradcheck, unary_functions,
};
use gristmill::kernels::dropout::Key;
use gristmill::kernels::map::Unary;
use gristmill::kernels::norm::Norm;
use gristmill::tensor::step;
use gristmill::{Error, Result, Tensor};

use crate::autograd::{T64, input, view};

type Shapes = &'static [&'static [usize]];

type Call = fn(&[T64]) -> Result<T64>;
type AnyCall = Box<dyn Fn(&[T64]) -> Result<T64>>;
type Method = fn(&T64) -> Result<T64>;

/// An operation and a call of it.
struct Operation<C = Call> {
    /// The method and, where the tape has another name for what it records first, that one.
    names: &'static str,
    shapes: Shapes,
    call: C,
}

/// `"names", shapes, call;`: a row for each.
macro_rules! operations {
    ($($names:literal, $shapes:expr, $call:expr;)+) => {
        &[$(Operation { names: $names, shapes: $shapes, call: $call }),+]
    };
}

const ONE: Shapes = &[&[3, 5]];
const CUBE: Shapes = &[&[2, 3, 4]];
const TWO: Shapes = &[&[3, 4], &[3, 4]];
const AFFINE: Shapes = &[&[4, 6], &[6], &[6]];
const LAYER: Shapes = &[&[4, 3], &[2, 3], &[2], &[4, 2]];
const INTO: Shapes = &[&[2, 3, 4], &[2, 2, 4]];
const KEY: Key = Key { seed: 3, stream: 8 };
const EPS: f64 = 0.01;

const OPERATIONS: &[Operation] = operations! {
    "leaky_relu", ONE, |x| x[0].leaky_relu(0.1);
    "prelu", &[&[3, 5], &[5]], |x| x[0].prelu(&x[1]);
    "elu", ONE, |x| x[0].elu(0.7);
    "clamp", ONE, |x| x[0].clamp(-0.5, 0.7);
    "hardtanh", ONE, |x| x[0].hardtanh();
    "powi", ONE, |x| x[0].powi(3);
    "powi", ONE, |x| x[0].powi(-2);
    "powf", ONE, |x| x[0].powf(3.0);
    "powf", ONE, |x| x[0].powf(-2.0);
    "add_scalar", ONE, |x| x[0].add_scalar(1.5);
    "sub_scalar", ONE, |x| x[0].sub_scalar(1.5);
    "mul_scalar", ONE, |x| x[0].mul_scalar(1.5);
    "div_scalar", ONE, |x| x[0].div_scalar(-7.0);
    "add", TWO, |x| x[0].add(&x[1]);
    "sub", TWO, |x| x[0].sub(&x[1]);
    "mul", TWO, |x| x[0].mul(&x[1]);
    "div", TWO, |x| x[0].div(&x[1]);
    "minimum", TWO, |x| x[0].minimum(&x[1]);
    "maximum", TWO, |x| x[0].maximum(&x[1]);
    "mul_add", &[&[3, 4], &[4], &[3, 1]], |x| x[0].mul_add(&x[1], &x[2]);
    "lerp", &[&[3, 4], &[3, 4], &[3, 1]], |x| x[0].lerp(&x[1], &x[2]);
    "where_cond", TWO, |x| mask(&[3, 4]).where_cond(&x[0], &x[1]);
    "masked_fill", ONE, |x| x[0].masked_fill(&mask(&[3, 5]), 7.0);
    "masked_select", ONE, |x| x[0].masked_select(&mask(&[3, 5]));
    "tril", ONE, |x| x[0].tril(-1);
    "triu", ONE, |x| x[0].triu(1);

    "matmul", &[&[3, 4], &[4, 2]], |x| x[0].matmul(&x[1]);
    "matmul", &[&[2, 3, 4], &[4, 2]], |x| x[0].matmul(&x[1]);
    "dot", &[&[5], &[5]], |x| x[0].dot(&x[1]);
    "einsum matmul", &[&[3, 4], &[4, 2]], |x| Tensor::einsum("ij,jk->ki", &[&x[0], &x[1]]);
    "linear", &[&[4, 3], &[2, 3], &[2]], |x| x[0].linear(&x[1], Some(&x[2]));
    "linear_then linear", LAYER, |x| x[0].linear_then(&x[1], Some(&x[2]), after(&x[3]));
    "linear_with linear", &[&[4, 3], &[3, 2], &[2]], |x| {
        x[0].linear_with(&x[1], WeightLayout::InOut, Some(&x[2]), Some(Epilogue::default()))
    };
    "conv2d", &[&[2, 2, 4, 5], &[3, 2, 3, 2], &[3]], |x| x[0].conv2d(&x[1], Some(&x[2]), strided());
    "conv2d", &[&[2, 5, 4], &[4, 1, 2, 1]], |x| {
        x[0].conv2d(&x[1], None, ConvOptions { groups: 2, stride: [2, 1], ..<_>::default() })
    };
    "conv2d_then conv2d", &[&[2, 2, 4, 5], &[3, 2, 3, 2], &[3], &[2, 3, 3, 3]], |x| {
        x[0].conv2d_then(&x[1], Some(&x[2]), strided(), after(&x[3]))
    };
    "conv1d", &[&[2, 2, 7], &[3, 2, 3], &[3]], |x| {
        x[0].conv1d(&x[1], Some(&x[2]), ConvOptions { padding: Padding::Same, ..<_>::default() })
    };
    "conv1d_then conv1d", &[&[2, 7], &[3, 2, 3], &[3], &[3, 5]], |x| {
        x[0].conv1d_then(&x[1], Some(&x[2]), ConvOptions::default(), after(&x[3]))
    };
    "conv_transpose2d", &[&[2, 4, 3, 2], &[4, 2, 3, 2], &[4]], |x| {
        let options = ConvOptions { stride: [2, 3], groups: 2, output_padding: [1, 2], ..strided() };
        x[0].conv_transpose2d(&x[1], Some(&x[2]), options)
    };
    "conv_transpose1d", &[&[3, 4], &[3, 2, 3], &[2]], |x| {
        x[0].conv_transpose1d(&x[1], Some(&x[2]), ConvOptions { dilation: [2], ..<_>::default() })
    };
    "max_pool2d", IMAGES, |x| x[0].max_pool2d([2, 3], overlapping());
    "max_pool1d", CUBE, |x| x[0].max_pool1d([2], PoolOptions { ceil_mode: true, ..<_>::default() });
    "avg_pool2d", IMAGES, |x| x[0].avg_pool2d([2, 3], overlapping(), Divisor::Inside);
    "avg_pool1d", CUBE, |x| x[0].avg_pool1d([3], PoolOptions::default(), Divisor::Fixed(-2.0));
    "adaptive_max_pool2d", IMAGES, |x| x[0].adaptive_max_pool2d([3, 2]);
    "adaptive_max_pool1d", CUBE, |x| x[0].adaptive_max_pool1d(3);
    "adaptive_avg_pool2d", IMAGES, |x| x[0].adaptive_avg_pool2d([3, 2]);
    "adaptive_avg_pool1d", CUBE, |x| x[0].adaptive_avg_pool1d(3);
    "embedding", ONE, |x| x[0].embedding(&[2, 0, 2, 1], None);
    "dropout", ONE, |x| x[0].dropout(0.4, KEY);

    "sum", CUBE, |x| x[0].sum();
    "sum_axes", CUBE, |x| x[0].sum_axes(&[0], false);
    "sum_axes", CUBE, |x| x[0].sum_axes(&[1], true);
    "mean", CUBE, |x| x[0].mean();
    "mean_axes", CUBE, |x| x[0].mean_axes(&[0, 2], false);
    "max", CUBE, |x| x[0].max();
    "max_axes", CUBE, |x| x[0].max_axes(&[1], false);
    "min", CUBE, |x| x[0].min();
    "min_axes", CUBE, |x| x[0].min_axes(&[0], true);
    "var_axes", CUBE, |x| x[0].var_axes(&[0], 1, false);
    "var_axes", CUBE, |x| x[0].var_axes(&[2], 0, true);
    "std_axes", CUBE, |x| x[0].std_axes(&[0, 1], 1, false);
    "std_axes", CUBE, |x| x[0].std_axes(&[2], 0, true);
    "prod", ONE, |x| x[0].prod();
    "prod_axes", CUBE, |x| x[0].prod_axes(&[1], false);
    "norm", CUBE, |x| x[0].norm(Norm::L2);
    "norm_axes", CUBE, |x| x[0].norm_axes(Norm::L1, &[2], false);
    "norm_axes", CUBE, |x| x[0].norm_axes(Norm::L2, &[0], false);
    "norm_axes", CUBE, |x| x[0].norm_axes(Norm::Max, &[0, 1], true);
    "logsumexp_axes", CUBE, |x| x[0].logsumexp_axes(&[0], false);
    "logsumexp_axes", CUBE, |x| x[0].logsumexp_axes(&[1, 2], true);
    "cumsum", CUBE, |x| x[0].cumsum(1);
    "softmax", CUBE, |x| x[0].softmax(1);
    "log_softmax", CUBE, |x| x[0].log_softmax(-1);
    "logsumexp", CUBE, |x| x[0].logsumexp(0);

    "layer_norm", AFFINE, |x| x[0].layer_norm(Some((&x[1], &x[2])), EPS);
    "rms_norm", &[&[4, 6], &[6]], |x| x[0].rms_norm(Some(&x[1]), Some(EPS));
    "group_norm", AFFINE, |x| x[0].group_norm(3, Some((&x[1], &x[2])), EPS);
    "batch_norm", AFFINE, |x| x[0].batch_norm(Some((&x[1], &x[2])), BatchStatistics::Batch(None), EPS);
    "batch_norm", AFFINE, |x| x[0].batch_norm(Some((&x[1], &x[2])), RUNNING, EPS);
    "batch_norm_then batch_norm", &[&[4, 6], &[6], &[6], &[4, 6]], |x| {
        x[0].batch_norm_then(Some((&x[1], &x[2])), BatchStatistics::Batch(None), EPS, after(&x[3]))
    };

    "mse_loss", TWO, |x| x[0].mse_loss(&x[1], Reduction::Mean);
    "l1_loss", TWO, |x| x[0].l1_loss(&x[1], Reduction::Sum);
    "huber_loss", TWO, |x| x[0].huber_loss(&x[1], 0.4, Reduction::None);
    "cross_entropy", ONE, |x| x[0].cross_entropy(&[1, 4, 0]);
    "cross_entropy_with cross_entropy", ONE, |x| {
        let weight = &T64::from([0.5, 1.5, 0.25, 1.0, 2.0]);
        let (weight, ignore_index) = (Some(weight), Some(4));
        x[0].cross_entropy_with(&[1, 4, 0], CrossEntropyOptions { label_smoothing: 0.1, weight, ignore_index, ..<_>::default() })
    };
    "soft_cross_entropy", TWO, |x| x[0].soft_cross_entropy(&x[1], CrossEntropyOptions::default());
    "nll_loss", ONE, |x| x[0].nll_loss(&[1, 4, 0], None, None, Reduction::Mean);

    "reshape", CUBE, |x| x[0].reshape([4, 6]);
    "flatten reshape", CUBE, |x| x[0].flatten(1);
    "squeeze reshape", &[&[3, 1, 2]], |x| x[0].squeeze(1);
    "unsqueeze reshape", ONE, |x| x[0].unsqueeze(1);
    "transpose", CUBE, |x| x[0].transpose(0, 2);
    "t transpose", ONE, |x| x[0].t();
    "permute", CUBE, |x| x[0].permute(&[1, 2, 0]);
    "broadcast_to", &[&[3, 1]], |x| x[0].broadcast_to([2, 3, 4]);
    "contiguous transpose", CUBE, |x| x[0].transpose(0, 1)?.contiguous();
    "repeat reshape", ONE, |x| x[0].repeat([2, 1, 3]);
    "repeat_interleave reshape", ONE, |x| x[0].repeat_interleave(3, 1);
    "index", CUBE, |x| x[0].index((1, step(.., 2), -1));
    "slice", CUBE, |x| x[0].slice(1, 1..3);
    "select", CUBE, |x| x[0].select(1, 2);
    "diagonal", CUBE, |x| x[0].diagonal(-1);
    "split slice", CUBE, |x| Ok(x[0].split(2, 1)?.remove(1));
    "split_with_sizes slice", CUBE, |x| Ok(x[0].split_with_sizes(&[1, 2], 1)?.remove(1));
    "chunk slice", CUBE, |x| Ok(x[0].chunk(2, 2)?.remove(1));
    "unbind select", CUBE, |x| Ok(x[0].unbind(1)?.remove(1));
    "concat", INTO, |x| Tensor::concat(&[&x[0], &x[1], &x[0]], 1);
    "cat concat", INTO, |x| Tensor::cat(&[&x[0], &x[1]], 1);
    "stack reshape", TWO, |x| Tensor::stack(&[&x[0], &x[1]], -1);
    "index_select", CUBE, |x| x[0].index_select(1, &[2, 0, 2]);
    "gather_rows", ONE, |x| x[0].gather_rows(&[1, 0, 1]);
    "gather", ONE, |x| x[0].gather(1, &[4, 4, 0, 1, 2, 3]);
    "flip", CUBE, |x| x[0].flip(&[0, -1]);
    "roll", CUBE, |x| x[0].roll(-2, 1);
    "index_add", INTO, |x| x[0].index_add(1, &[2, 2], &x[1]);
    "scatter", &[&[3, 4], &[3, 2]], |x| x[0].scatter(1, &[0, 0, 3, 1, 2, 2], &x[1]);
    "scatter_add", &[&[3, 4], &[3, 2]], |x| x[0].scatter_add(1, &[0, 0, 3, 1, 2, 2], &x[1]);
    "sort", CUBE, |x| Ok(x[0].sort(1, false)?.0);
    "topk", CUBE, |x| Ok(x[0].topk(2, 2, true)?.0);
};

/// Those whose first input is to lie between 0 and 1.
const OF_FRACTIONS: &[Operation] = operations! {
    "powf", ONE, |x| x[0].powf(0.5);
    "powf", ONE, |x| x[0].powf(-1.3);
    "pow", TWO, |x| x[0].pow(&x[1]);
    "bce_with_logits_loss", TWO, |x| x[1].bce_with_logits_loss(&x[0], Reduction::Mean);
};

/// Plain numbers without a gradient.
const PLAIN: &[Operation] = operations! {
    "all_axes", ONE, |x| x[0].all_axes(&[0], false);
    "any_axes", ONE, |x| x[0].any_axes(&[0], false);
    "count_nonzero_axes", ONE, |x| x[0].count_nonzero_axes(&[0], false);
    "logical_not", ONE, |x| x[0].logical_not();
    "unique", ONE, |x| Ok(x[0].unique()?.0);
};

const IMAGES: Shapes = &[&[2, 2, 4, 5]];

fn overlapping() -> PoolOptions<2> {
    PoolOptions { stride: Some([1, 2]), padding: [1, 1], ..PoolOptions::default() }
}

fn strided() -> ConvOptions<2> {
    let padding = Padding::Sides([[1, 0], [1, 1]]);
    ConvOptions { stride: [1, 2], padding, ..ConvOptions::default() }
}

const RUNNING: BatchStatistics<'static, f64> = BatchStatistics::Running {
    mean: &[0.1, -0.2, 0.3, 0.0, 0.5, -1.0],
    var: &[0.5, 1.5, 2.5, 1.0, 0.25, 2.0],
};

/// True at two places of three.
fn mask(shape: &[usize]) -> T64 {
    let values: Vec<f64> = (0..shape.iter().product()).map(|i: usize| f64::from(i % 3 != 1)).collect();
    Tensor::from_slice(&values, shape).unwrap()
}

fn after(add: &T64) -> Epilogue<'_, f64> {
    Epilogue { add: Some(add), dropout: Some((0.3, KEY)) }
}

/// What is differentiable, with inputs: the tables, and the functions of one tensor.
fn differentiable() -> impl Iterator<Item = (Operation<AnyCall>, Vec<T64>)> {
    let row = |operation: &Operation, of_fractions| {
        let Operation { names, shapes, call } = *operation;
        (Operation { names, shapes, call: Box::new(call) as AnyCall }, of_fractions)
    };
    let function = |(op, method): (Unary<f64>, Method)| {
        let call: AnyCall = Box::new(move |x| method(&x[0]));
        (Operation { names: op.name(), shapes: ONE, call }, op.twin().value(-2.0).is_nan())
    };
    let tables = OPERATIONS.iter().map(move |operation| row(operation, false));
    let tables = tables.chain(OF_FRACTIONS.iter().map(move |operation| row(operation, true)));
    tables.chain(unary_functions().into_iter().map(function)).map(|(operation, of_fractions)| {
        let shapes = (1..).zip(operation.shapes);
        let mut inputs: Vec<T64> = shapes.map(|(seed, shape)| input(shape, seed)).collect();
        if of_fractions {
            inputs[0] = inputs[0].abs().unwrap();
        }
        (operation, inputs)
    })
}

#[test]
fn operations_have_their_derivatives() {
    let mut wrong = Vec::new();
    for (Operation { names, call, .. }, inputs) in differentiable() {
        let of_views = |x: &[T64]| call(&x.iter().map(view).collect::<Result<Vec<_>>>()?);
        let checked = gradcheck(&call, &inputs).and_then(|()| gradcheck(of_views, &inputs));
        wrong.extend(checked.err().map(|error| format!("{names}: {error}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// An operation of another thread's tensor gives an error that names it as the tape does.
#[test]
fn each_row_records_the_operation_that_it_names() {
    let mut wrong = Vec::new();
    for (Operation { names, call, .. }, inputs) in differentiable() {
        let record = || inputs.iter().map(|x| x.requires_grad().mul_scalar(1.0).unwrap()).collect();
        let foreign: Vec<T64> = thread::scope(|scope| scope.spawn(record).join()).unwrap();
        let recorded = match call(&foreign) {
            Err(Error::Autograd { op, .. }) => op,
            other => panic!("{names} of another thread's tensors gives {other:?}"),
        };
        let is_it = |name: &str| name == recorded || name.strip_suffix("_axes") == Some(recorded);
        wrong.extend((!names.split(' ').any(is_it)).then(|| format!("{names}: {recorded}")));
    }
    assert!(wrong.is_empty(), "the tape has other names: {wrong:#?}");
    for Operation { names, shapes, call } in PLAIN {
        let y = call(&[input(shapes[0], 1).requires_grad()]).unwrap();
        assert!(!y.is_tracked(), "{names} is recorded");
    }
}

/// The public methods of tensors that give tensors, in a source file of the operations.
fn methods(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for block in text.split("\nimpl<T: Element> Tensor<T> {\n").skip(1) {
        let block = block.split("\n}\n").next().unwrap();
        for method in block.split("    pub fn ").skip(1) {
            let (signature, _) = method.split_once(" {\n").unwrap();
            if signature.rsplit("->").next().unwrap().contains("Self") {
                found.insert(signature.split(['(', '<']).next().unwrap().to_string());
            }
        }
    }
    // `scalars! {` and its like: a method for each line `name = function;`.
    for block in text.split("! {\n    ///").skip(1) {
        let lines = block.split("\n}\n").next().unwrap().lines();
        let names = lines.filter_map(|line| Some(line.strip_prefix("    ")?.split_once(" = ")?.0));
        found.extend(names.filter(|name| !name.starts_with('/')).map(str::to_string));
    }
    found
}

#[test]
fn no_operation_is_forgotten() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/autograd/ops");
    // Those of the list of functions stand in no file, and are checked from that list.
    let files = folder.read_dir().unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let public: BTreeSet<String> = files.flat_map(|text| methods(&text)).collect();
    assert!(public.len() > 90, "{public:?}");
    let tables = [OPERATIONS, OF_FRACTIONS, PLAIN];
    let method = |row: &Operation| row.names.split(' ').next().unwrap().to_string();
    let rows: BTreeSet<String> = tables.iter().copied().flatten().map(method).collect();
    let missing: Vec<_> = public.difference(&rows).collect();
    assert!(missing.is_empty(), "in no table of this file: {missing:?}");
    let unknown: Vec<_> = rows.difference(&public).collect();
    assert!(unknown.is_empty(), "in this file, but not in src/autograd/ops: {unknown:?}");
}

/// In a process of its own, as a profile is of all threads.
#[test]
fn every_backward_kernel_is_gradchecked() {
    let mut tests = Command::new(env::current_exe().unwrap());
    tests.args(["--exact", "gradchecks::operations_have_their_derivatives", "--nocapture"]);
    let output = tests.env("GRISTMILL_PROFILE", "1").output().unwrap();
    let table = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{table}");
    let called: BTreeSet<String> =
        table.lines().filter_map(|line| names::kernel(line.split(' ').next()?)).collect();
    let mut backward: BTreeSet<String> = names::public_kernels();
    backward.retain(|name| name.contains("backward") || name == "map::gate");
    assert!(backward.len() > 20, "{backward:?}");
    let missing: Vec<_> = backward.difference(&called).collect();
    assert!(missing.is_empty(), "no operation in this file calls {missing:?} in its backward pass");
}
