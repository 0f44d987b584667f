//! Every kernel as benches, roofline, gates and races see it, under one name: `family/op/element/shape`, for
//! example `layer_norm/backward/f32/8192x768`. A [`Case`] knows what a call moves and computes, can be run,
//! and can be checked against the reference.

use gristmill::buffer::Buffer;
use gristmill::kernels::batch_norm::{self, After, Gate};
use gristmill::kernels::conv::{self, Shape};
use gristmill::kernels::cross_entropy::{self, Options};
use gristmill::kernels::dropout::{self, Key};
use gristmill::kernels::gemm::{
    BatchMut, BatchRef, Bias, Epilogue, MatMut, MatRef, PackedB, gemm, gemm_batched, gemm_prepacked,
    gemm_with_epilogue,
};
use gristmill::kernels::group_norm::{self, Layout};
use gristmill::kernels::loss::{self, Loss};
use gristmill::kernels::map::{self, Binary, Unary};
use gristmill::kernels::norm::{self, Norm};
use gristmill::kernels::pool::{self, Windows};
use gristmill::kernels::reduce::{self, Reduce};
use gristmill::kernels::update::{self, Adam, Progress, Rule, Sgd, Step};
use gristmill::kernels::window::Window;
use gristmill::kernels::zip::{self, Operand, Ternary};
use gristmill::kernels::{
    convert, cumsum, embedding, layer_norm, log_softmax, logsumexp, nll_loss, pow, prelu, rms_norm,
    soft_cross_entropy, softmax,
};
use gristmill::{Element, Result, Rng, reference};

/// What is added to variances.
pub const EPS: f64 = 1e-5;
/// The learning rate of all optimizers.
const LR: f64 = 1e-3;

/// One kernel on one shape.
pub struct Case {
    pub id: String,
    /// Additions, multiplications and divisions of one call, a multiply-add being two; of the formula that
    /// the kernel uses, its polynomials included.
    pub flops: f64,
    /// Bytes that must be read, each once.
    pub read: f64,
    /// Bytes that must be written, each once.
    pub written: f64,
    /// What may be off, relative to the terms of the longest sum and to the result: 64 ε.
    tolerance: f64,
    terms: f64,
    job: Box<dyn Job + Send>,
}

impl Case {
    /// A case that is no kernel alone, with nothing to compare its results with.
    pub fn new(
        id: String,
        flops: f64,
        [read, written]: [f64; 2],
        results: Vec<f32>,
        mut run: impl FnMut(&mut [f32]) -> Result<()> + Send + 'static,
    ) -> Self {
        let work = [flops, read / 4.0, written / 4.0];
        let case = assemble::<f32, 0, 1>(work, [], [results], move |[], [y]| run(y), |[]| vec![]);
        Self { id, ..case }
    }

    /// For results that are sums of so many numbers in [−1, 1], which may cancel.
    fn sums_of(self, terms: usize) -> Self {
        Self { terms: terms as f64, ..self }
    }

    /// Whether results overwrite what was read.
    pub fn in_place(&self) -> bool {
        let ops = [
            "update/",
            "training_step/",
            "map/accumulate/",
            "map/axpy/",
            "map/axpby/",
            "map/scale/",
            "map/lerp_in_place/",
            "dropout/in_place/",
        ];
        ops.iter().any(|ops| self.id.starts_with(ops))
    }

    /// One call.
    pub fn run(&mut self) -> Result<()> {
        self.job.run()
    }

    /// What the last call computed. Only the first call of an optimizer starts where the reference starts.
    pub fn results(&self) -> Vec<f64> {
        self.job.results()
    }

    /// What the reference computes: results of the first call.
    pub fn expected(&self) -> Expected {
        Expected { numbers: self.job.expected(), tolerance: self.tolerance, terms: self.terms }
    }
}

/// Numbers to compare somebody's results with.
pub struct Expected {
    numbers: Vec<f64>,
    tolerance: f64,
    terms: f64,
}

impl Expected {
    /// Whether there is nothing to compare with: the network of the main job has no reference.
    pub fn is_unknown(&self) -> bool {
        self.numbers.is_empty()
    }

    /// # Errors
    /// A sentence about the first number that is wrong.
    pub fn check(&self, got: &[f64]) -> std::result::Result<(), String> {
        let expected = &self.numbers;
        if got.len() != expected.len() {
            return Err(format!("{} results, expected {}", got.len(), expected.len()));
        }
        let right = |got: f64, expected: f64| {
            (got - expected).abs() <= self.tolerance * (self.terms + expected.abs()) || got == expected
        };
        match got.iter().zip(expected).position(|(&got, &expected)| !right(got, expected)) {
            Some(i) => Err(format!("result {i} is {}, the reference says {}", got[i], expected[i])),
            None => Ok(()),
        }
    }
}

trait Job {
    fn run(&mut self) -> Result<()>;
    fn results(&self) -> Vec<f64>;
    fn expected(&self) -> Vec<f64>;
}

/// Memory as that of tensors: where a `Vec` begins in its cache line changes the times.
struct Call<T: Element, R, E, const I: usize, const O: usize> {
    inputs: [Buffer<T>; I],
    results: [Buffer<T>; O],
    run: R,
    expected: E,
}

impl<T, R, E, const I: usize, const O: usize> Job for Call<T, R, E, I, O>
where
    T: Element,
    R: FnMut([&[T]; I], [&mut [T]; O]) -> Result<()>,
    E: Fn([&[f64]; I]) -> Vec<f64>,
{
    fn run(&mut self) -> Result<()> {
        (self.run)(self.inputs.each_ref().map(|x| &x[..]), self.results.each_mut().map(|y| y.fresh_mut()))
    }

    fn results(&self) -> Vec<f64> {
        self.results.iter().flat_map(|y| y.iter()).map(|x| x.to_f64()).collect()
    }

    fn expected(&self) -> Vec<f64> {
        let inputs: [Vec<f64>; I] = self.inputs.each_ref().map(|x| x.iter().map(|x| x.to_f64()).collect());
        (self.expected)(inputs.each_ref().map(|x| &x[..]))
    }
}

/// Numbers in [−1, 1) that every process computes alike: ((7919·i + 104729·seed) mod 2003) / 1001.5 − 1.
pub fn numbers<T: Element>(len: usize, seed: usize) -> Vec<T> {
    let number = |i: usize| ((7919 * i + 104729 * seed) % 2003) as f64 / 1001.5 - 1.0;
    (0..len).map(|i| T::from_f64(f64::from(number(i) as f32))).collect()
}

/// The case with this name.
///
/// # Errors
/// A sentence that names what is unknown.
pub fn case(id: &str) -> std::result::Result<Case, String> {
    let parts: Vec<&str> = id.split('/').collect();
    let built = match parts[..] {
        [family, op, element, shape] => {
            let shape = dimensions(shape).ok_or_else(|| format!("{id}: {shape} is no shape"))?;
            match element {
                "f32" => build::<f32>(family, op, &shape),
                "f64" => build::<f64>(family, op, &shape),
                _ => None,
            }
        }
        _ => None,
    };
    let mut case = built.ok_or_else(|| format!("{id}: unknown; a name is family/op/element/shape"))?;
    case.id = id.to_owned();
    Ok(case)
}

/// Names from a pattern with alternatives, as a shell expands them: `{a,b}/{c,d}` is a/c, a/d, b/c, b/d;
/// `{functions}` stands for all functions of one number, `{rules}` for all rules of optimizers.
pub fn expand(pattern: &str) -> Vec<String> {
    let Some((before, rest)) = pattern.split_once('{') else { return vec![pattern.to_owned()] };
    let (choices, after) = rest.split_once('}').expect("a brace that opens closes");
    let tails = expand(after);
    let functions: Vec<_> = Unary::<f32>::all().into_iter().map(Unary::name).collect();
    let rules: Vec<_> = Rule::all().iter().map(Rule::name).collect();
    let choices = choices.replace("functions", &functions.join(",")).replace("rules", &rules.join(","));
    choices
        .split(',')
        .flat_map(|choice| tails.iter().map(move |tail| format!("{before}{choice}{tail}")))
        .collect()
}

/// `128x1000` as numbers.
pub fn dimensions(shape: &str) -> Option<Vec<usize>> {
    shape.split('x').map(|n| n.parse().ok()).collect()
}

fn build<T: Element>(family: &str, op: &str, shape: &[usize]) -> Option<Case> {
    match (family, shape) {
        ("gemm", &[m, k, n]) => product::<T>(op, [m, k, n]),
        ("linear", &[m, k, n]) => linear::<T>(op, [m, k, n]),
        ("gemm_batched", &[count, m, k, n]) => batched::<T>(op, count, [m, k, n]),
        ("conv", &[batch, inputs, outputs, height, width, kernel, stride, padding, groups]) => {
            let along = |size: usize, value: usize, single: usize| if size == 1 { single } else { value };
            let window = Window {
                kernel: [along(height, kernel, 1), kernel],
                stride: [along(height, stride, 1), stride],
                padding: [[along(height, padding, 0); 2], [padding; 2]],
                ..Window::default()
            };
            convolution::<T>(
                op,
                Shape { batch, channels: [inputs, outputs], groups, size: [height, width], window },
            )
        }
        ("pool", &[planes, height, width, kernel, stride]) => {
            pooling::<T>(op, planes, [height, width], kernel, stride)
        }
        ("map", &[len]) => one_to_one::<T>(op, len),
        ("map", &[rows, cols]) => broadcast::<T>(op, rows, cols),
        ("convert", &[len]) => conversion::<T>(op, len),
        ("reduce", &[rows, cols]) => {
            reduction::<T>(op, rows, cols).or_else(|| reduction_backward::<T>(op, rows, cols))
        }
        ("softmax" | "log_softmax" | "logsumexp", &[rows, cols]) => along_rows::<T>(family, op, rows, cols),
        ("cross_entropy", &[rows, cols]) => classes::<T>(op, rows, cols),
        ("soft_cross_entropy", &[rows, cols]) => probabilities::<T>(op, rows, cols),
        ("nll_loss", &[rows, cols]) => likelihoods::<T>(op, rows, cols),
        ("loss", &[len]) => losses::<T>(op, len),
        ("layer_norm", &[rows, cols]) => layer_normalisation::<T>(op, rows, cols),
        ("rms_norm", &[rows, cols]) => rms_normalisation::<T>(op, rows, cols),
        ("group_norm", &[samples, channels, inner, groups]) => {
            group_normalisation::<T>(op, samples, Layout { channels, inner, groups })
        }
        ("batch_norm", &[rows, cols]) => batch_normalisation::<T>(op, rows, cols),
        ("embedding", &[rows, dim, count]) => lookup::<T>(op, rows, dim, count),
        ("prelu", &[samples, channels, inner]) => parametric_relu::<T>(op, samples, channels, inner),
        ("dropout", &[len]) => masked::<T>(op, len),
        ("rng", &[len]) => random::<T>(op, len),
        ("update", &[len]) => optimizer::<T>(op, len),
        _ => None,
    }
}

/// A case from its parts; operations, elements read and elements written are of one call.
fn assemble<T: Element, const I: usize, const O: usize>(
    [flops, read, written]: [f64; 3],
    inputs: [Vec<T>; I],
    results: [Vec<T>; O],
    run: impl FnMut([&[T]; I], [&mut [T]; O]) -> Result<()> + Send + 'static,
    expected: impl Fn([&[f64]; I]) -> Vec<f64> + Send + 'static,
) -> Case {
    let bytes = size_of::<T>() as f64;
    let inputs = inputs.map(|x| Buffer::copy_of(&x));
    let results = results.map(|y| Buffer::copy_of(&y));
    Case {
        id: String::new(),
        flops,
        read: read * bytes,
        written: written * bytes,
        tolerance: 64.0 * T::EPSILON.to_f64(),
        terms: 1.0,
        job: Box::new(Call { inputs, results, run, expected }),
    }
}

/// [`assemble`] for the functions that do not know every operation.
fn call<T: Element, const I: usize, const O: usize>(
    work: [f64; 3],
    inputs: [Vec<T>; I],
    results: [Vec<T>; O],
    run: impl FnMut([&[T]; I], [&mut [T]; O]) -> Result<()> + Send + 'static,
    expected: impl Fn([&[f64]; I]) -> Vec<f64> + Send + 'static,
) -> Option<Case> {
    Some(assemble(work, inputs, results, run, expected))
}

/// `op` says how A and B are stored: row by row (N) or as their transposes (T).
fn product<T: Element>(op: &str, [m, k, n]: [usize; 3]) -> Option<Case> {
    let transposed = match op {
        "NN" => [false, false],
        "NT" => [false, true],
        "TN" => [true, false],
        "TT" => [true, true],
        _ => return None,
    };
    let strides = |rows: usize, cols: usize, transposed| {
        if transposed { (1, rows as isize) } else { (cols as isize, 1) }
    };
    let ((ra, ca), (rb, cb)) = (strides(m, k, transposed[0]), strides(k, n, transposed[1]));
    let row_major = move |x: &[f64], [rows, cols]: [usize; 2], transposed: bool| -> Vec<f64> {
        if !transposed {
            return x.to_vec();
        }
        (0..rows).flat_map(|i| (0..cols).map(move |j| (i, j))).map(|(i, j)| x[j * rows + i]).collect()
    };
    call::<T, _, _>(
        [2.0 * (m * k * n) as f64, (m * k + k * n) as f64, (m * n) as f64],
        [numbers(m * k, 1), numbers(k * n, 2)],
        [numbers(m * n, 3)],
        move |[a, b], [c]| {
            let (a, b) = (MatRef::new(a, m, k, ra, ca)?, MatRef::new(b, k, n, rb, cb)?);
            gemm(T::ONE, a, b, T::ZERO, MatMut::row_major(c, m, n)?)
        },
        move |[a, b]| {
            let (a, b) = (row_major(a, [m, k], transposed[0]), row_major(b, [k, n], transposed[1]));
            reference::gemm(1.0, &a, &b, 0.0, &[], [m, k, n])
        },
    )
    .map(|case| case.sums_of(k))
}

/// A layer in one pass, `y = f(x · Wᵀ + bias)`: `op` is the function, or `prepacked` for a W that was packed
/// before and no function.
fn linear<T: Element>(op: &str, [m, k, n]: [usize; 3]) -> Option<Case> {
    let (activation, flops) = match op {
        "prepacked" => (None, 0.0),
        _ => function::<T>(op).map(|(f, [flops, _])| (Some(f), flops))?,
    };
    let twin = activation.map(Unary::twin);
    let truth = move |x| twin.as_ref().map_or(x, |twin| twin.value(x));
    let mut packed = None;
    call::<T, _, _>(
        [(m * n) as f64 * (2.0 * k as f64 + 1.0 + flops), (m * k + k * n + n) as f64, (m * n) as f64],
        [numbers(m * k, 1), numbers(n * k, 2), numbers(n, 3)],
        [numbers(m * n, 4)],
        move |[x, w, bias], [y]| {
            let (x, w) = (MatRef::row_major(x, m, k)?, MatRef::row_major(w, n, k)?.t());
            let (epilogue, y) =
                (Epilogue { activation, ..Bias::PerColumn(bias).into() }, MatMut::row_major(y, m, n)?);
            if activation.is_some() {
                return gemm_with_epilogue(T::ONE, x, w, T::ZERO, epilogue, y);
            }
            if packed.is_none() {
                packed = Some(PackedB::new(w)?);
            }
            gemm_prepacked(T::ONE, x, packed.as_ref().expect("just packed"), T::ZERO, epilogue, y)
        },
        move |[x, w, bias]| {
            let w: Vec<f64> = (0..k * n).map(|place| w[place % n * k + place / n]).collect();
            let sums = reference::gemm(1.0, x, &w, 0.0, &[], [m, k, n]);
            sums.iter().enumerate().map(|(place, sum)| truth(sum + bias[place % n])).collect()
        },
    )
    .map(|case| case.sums_of(k))
}

/// `count` products of the same shape, one after the other in memory; `op` is `NN` or `NT`.
fn batched<T: Element>(op: &str, count: usize, [m, k, n]: [usize; 3]) -> Option<Case> {
    let transposed = match op {
        "NN" => false,
        "NT" => true,
        _ => return None,
    };
    call::<T, _, _>(
        [2.0 * (count * m * k * n) as f64, (count * (m * k + k * n)) as f64, (count * m * n) as f64],
        [numbers(count * m * k, 1), numbers(count * k * n, 2)],
        [numbers(count * m * n, 3)],
        move |[a, b], [c]| {
            let b = if transposed {
                BatchRef::row_major(b, count, n, k)?.t()
            } else {
                BatchRef::row_major(b, count, k, n)?
            };
            let a = BatchRef::row_major(a, count, m, k)?;
            gemm_batched(T::ONE, a, b, T::ZERO, BatchMut::row_major(c, count, m, n)?)
        },
        move |[a, b]| {
            let one = |i: usize| {
                let (a, b) = (&a[i * m * k..][..m * k], &b[i * k * n..][..k * n]);
                let by_rows = |place: usize| if transposed { b[place % n * k + place / n] } else { b[place] };
                let b: Vec<f64> = (0..k * n).map(by_rows).collect();
                reference::gemm(1.0, a, &b, 0.0, &[], [m, k, n])
            };
            (0..count).flat_map(one).collect()
        },
    )
    .map(|case| case.sums_of(k))
}

/// Square kernels, or 1-D ones where the height is 1.
fn convolution<T: Element>(op: &str, shape: Shape) -> Option<Case> {
    let [inputs, outputs] = shape.channels;
    let [rows, cols] = shape.output().ok()?;
    let x = shape.batch * inputs * shape.size[0] * shape.size[1];
    let k = inputs / shape.groups * shape.window.kernel[0] * shape.window.kernel[1];
    let (y, weight) = (shape.batch * outputs * rows * cols, outputs * k);
    let flops = 2.0 * (y * k) as f64;
    let [x_len, y_len, weight_len] = [x, y, weight].map(|len| len as f64);
    match op {
        "forward" => call::<T, _, _>(
            [flops, x_len + weight_len + outputs as f64, y_len],
            [numbers(x, 1), numbers(weight, 2), numbers(outputs, 3)],
            [numbers(y, 4)],
            move |[x, weight, bias], [y]| {
                conv::Forward { shape, x, weight, bias: Some(bias), y, ..conv::Forward::default() }.run()
            },
            move |[x, weight, bias]| {
                let y = reference::conv(&shape, x, weight).into_iter().enumerate();
                y.map(|(i, y)| y + bias[i / (rows * cols) % outputs]).collect()
            },
        )
        .map(|case| case.sums_of(k)),
        "backward_input" => call::<T, _, _>(
            [flops, y_len + weight_len, x_len],
            [numbers(weight, 2), numbers(y, 5)],
            [numbers(x, 6)],
            move |[weight, dy], [dx]| {
                conv::BackwardInput { shape, weight, dy, dx, ..conv::BackwardInput::default() }.run()
            },
            move |[weight, dy]| reference::conv_backward_input(&shape, weight, dy),
        )
        .map(|case| case.sums_of(k * outputs)),
        "backward_weight" => call::<T, _, _>(
            [flops + y_len, x_len + y_len, weight_len + outputs as f64],
            [numbers(x, 1), numbers(y, 5)],
            [numbers(weight, 6), numbers(outputs, 7)],
            move |[x, dy], [dweight, dbias]| {
                conv::BackwardWeight { shape, x, dy, dweight, dbias: Some(dbias) }.run()
            },
            move |[x, dy]| reference::conv_backward_weight(&shape, x, dy).concat(),
        )
        .map(|case| case.sums_of(shape.batch * rows * cols)),
        _ => None,
    }
}

/// Windows of `kernel` pixels with a stride, or adaptive ones where that is 0: `kernel` by `kernel` of them.
fn pooling<T: Element>(
    op: &str,
    planes: usize,
    size: [usize; 2],
    kernel: usize,
    stride: usize,
) -> Option<Case> {
    let window = Window { kernel: [kernel; 2], stride: [stride; 2], ..Window::default() };
    let windows =
        if stride == 0 { Windows::Adaptive([kernel; 2]) } else { Windows::Sliding { window, ceil: false } };
    let shape = pool::Shape { planes, size, windows };
    let [rows, cols] = shape.output().ok()?;
    let (x, y) = (planes * size[0] * size[1], planes * rows * cols);
    let taps = if stride == 0 { x / y } else { kernel * kernel };
    let (flops, x_len, y_len) = ((y * taps) as f64, x as f64, y as f64);
    let case = match op {
        "max" => call::<T, _, _>(
            [flops, x_len, y_len],
            [numbers(x, 1)],
            [numbers(y, 2)],
            move |[x], [y]| pool::MaxForward { shape, x, y }.run(),
            move |[x]| reference::max_pool(&shape, x).0,
        ),
        "max_backward" => call::<T, _, _>(
            [flops, x_len + y_len, x_len],
            [numbers(x, 1), numbers(y, 3)],
            [numbers(x, 4)],
            move |[x, dy], [dx]| pool::MaxBackward { shape, x, dy, dx }.run(),
            move |[x, dy]| reference::max_pool_backward(&shape, x, dy),
        ),
        "average" => call::<T, _, _>(
            [flops, x_len, y_len],
            [numbers(x, 1)],
            [numbers(y, 2)],
            move |[x], [y]| pool::AverageForward { shape, x, y, ..Default::default() }.run(),
            move |[x]| reference::avg_pool(&shape, true, None, x),
        ),
        "average_backward" => call::<T, _, _>(
            [flops, y_len, x_len],
            [numbers(y, 3)],
            [numbers(x, 4)],
            move |[dy], [dx]| pool::AverageBackward { shape, dy, dx, ..Default::default() }.run(),
            move |[dy]| reference::avg_pool_backward(&shape, true, None, dy),
        ),
        _ => None,
    };
    case.map(|case| case.sums_of(taps))
}

/// Operations that depend on the element type, as polynomials do.
fn operations<T: Element>(f32: u32, f64: u32) -> f64 {
    f64::from(if T::LANES == f32::LANES { f32 } else { f64 })
}

// What the reference has.
type BinaryFunction = fn(f64, f64) -> f64;
type FoldFunction = fn(&[f64]) -> f64;
/// The loss and its slope.
type LossFunction = fn(f64, f64) -> (f64, f64);

/// A function of one number, the operations of its value and of its slope; powers under more names than their
/// own.
fn function<T: Element>(op: &str) -> Option<(Unary<T>, [f64; 2])> {
    let function = match op {
        "pow_3" => Unary::Powf(T::from_f64(3.0)),
        "pow_1.7" => Unary::Powf(T::from_f64(1.7)),
        "powi_5" => Unary::Powi(5),
        _ => Unary::all().into_iter().find(|function| function.name() == op)?,
    };
    Some((function, function.twin().operations().map(|[f32, f64]| operations::<T>(f32, f64))))
}

/// Maps without broadcasting. Functions of one number get numbers in [0.5, 2.5) where they want positive
/// ones.
fn one_to_one<T: Element>(op: &str, len: usize) -> Option<Case> {
    let n = len as f64;
    let binaries: [(&str, Binary, BinaryFunction); 3] = [
        ("add", Binary::Add, |a, b| a + b),
        ("mul", Binary::Mul, |a, b| a * b),
        ("max", Binary::Max, reference::map::maximum),
    ];
    if let Some(&(_, kernel, truth)) = binaries.iter().find(|(name, ..)| *name == op) {
        return call::<T, _, _>(
            [n, 2.0 * n, n],
            [numbers(len, 1), numbers(len, 2)],
            [numbers(len, 3)],
            move |[a, b], [y]| map::binary(kernel, a, b, y),
            move |[a, b]| a.iter().zip(b).map(|(&a, &b)| truth(a, b)).collect(),
        );
    }
    match op {
        // Bases in [0.5, 2.5).
        "pow" => {
            let base = numbers::<T>(len, 1).iter().map(|&x| x + T::from_f64(1.5)).collect();
            return call::<T, _, _>(
                [operations::<T>(75, 110) * n, 2.0 * n, n],
                [base, numbers(len, 2)],
                [numbers(len, 3)],
                |[a, b], [y]| map::binary(Binary::Pow, a, b, y),
                |[a, b]| a.iter().zip(b).map(|(a, b)| a.powf(*b)).collect(),
            );
        }
        "mul_add" | "lerp" => {
            let (kernel, truth): (_, fn(f64, f64, f64) -> f64) = match op {
                "lerp" => (Ternary::Lerp, reference::zip::lerp),
                _ => (Ternary::MulAdd, reference::zip::mul_add),
            };
            return call::<T, _, _>(
                [2.0 * n, 3.0 * n, n],
                [numbers(len, 1), numbers(len, 2), numbers(len, 4)],
                [numbers(len, 3)],
                move |abc, [y]| zip::ternary(kernel, abc.map(Operand::Row), [1, len], y),
                move |[a, b, c]| (0..len).map(|i| truth(a[i], b[i], c[i])).collect(),
            );
        }
        // y ← y + c·(b − y) with c in [0, 1] stays in range, however often it runs.
        "lerp_in_place" => {
            let start = numbers::<f64>(len, 3);
            let weight = numbers::<T>(len, 4).iter().map(|w| w.abs()).collect();
            return call::<T, _, _>(
                [5.0 * n, 3.0 * n, n],
                [numbers(len, 1), weight],
                [numbers(len, 3)],
                move |bc, [a]| zip::ternary_in_place(Ternary::Lerp, a, bc.map(Operand::Row), [1, len]),
                move |[b, c]| (0..len).map(|i| reference::zip::lerp(start[i], b[i], c[i])).collect(),
            );
        }
        "lerp_backward" => {
            return call::<T, _, _>(
                [5.0 * n, 4.0 * n, 3.0 * n],
                [numbers(len, 1), numbers(len, 2), numbers(len, 4), numbers(len, 5)],
                [numbers(len, 3), numbers(len, 6), numbers(len, 7)],
                move |[a, b, c, dy], gradients| {
                    let abc = [a, b, c].map(Operand::Row);
                    zip::TernaryBackward {
                        op: Ternary::Lerp,
                        abc,
                        dy,
                        shape: [1, len],
                        gradients: gradients.map(Some),
                    }
                    .run()
                },
                move |[a, b, c, dy]| {
                    let of = |slope: &dyn Fn(usize) -> f64| (0..len).map(|i| dy[i] * slope(i)).collect();
                    let gradients: [Vec<f64>; 3] = [of(&|i| 1.0 - c[i]), of(&|i| c[i]), of(&|i| b[i] - a[i])];
                    gradients.concat()
                },
            );
        }
        // Of bases in [0.5, 2.5).
        "pow_base_backward" | "pow_exponent_backward" => {
            let base: Vec<T> = numbers::<T>(len, 1).iter().map(|&x| x + T::from_f64(1.5)).collect();
            let exponent = numbers::<T>(len, 2);
            let of_base = op == "pow_base_backward";
            let (flops, read) =
                if of_base { (operations::<T>(77, 112), 3.0) } else { (operations::<T>(28, 28), 4.0) };
            let y = base.iter().zip(&exponent).map(|(a, b)| T::from_f64(a.to_f64().powf(b.to_f64())));
            return call::<T, _, _>(
                [flops * n, read * n, n],
                [base.clone(), exponent.clone(), y.collect(), numbers(len, 4)],
                [numbers(len, 3)],
                move |[a, b, y, dy], [dx]| {
                    if of_base {
                        pow::BaseBackward { a, b, dy, da: dx }.run()
                    } else {
                        pow::ExponentBackward { a, b, y, dy, db: dx }.run()
                    }
                },
                move |[a, b, _, dy]| {
                    use reference::map as truth;
                    let slope =
                        if of_base { truth::pow_base_derivative } else { truth::pow_exponent_derivative };
                    (0..len).map(|i| dy[i] * slope(a[i], b[i])).collect()
                },
            );
        }
        "mul_scalar" => {
            return call::<T, _, _>(
                [n, n, n],
                [numbers(len, 1)],
                [numbers(len, 3)],
                |[a], [y]| map::binary_scalar(Binary::Mul, a, T::from_f64(1.5), y),
                |[a]| a.iter().map(|a| a * 1.5).collect(),
            );
        }
        "scalar_sub" => {
            return call::<T, _, _>(
                [n, n, n],
                [numbers(len, 1)],
                [numbers(len, 3)],
                |[b], [y]| map::scalar_binary(Binary::Sub, T::ONE, b, y),
                |[b]| b.iter().map(|b| 1.0 - b).collect(),
            );
        }
        "gate" => {
            return call::<T, _, _>(
                [2.0 * n, 2.0 * n, n],
                [numbers(len, 1), numbers(len, 2)],
                [numbers(len, 3)],
                |[y, dy], [dx]| map::gate(y, T::from_f64(1.5), dy, dx),
                |[y, dy]| y.iter().zip(dy).map(|(&y, dy)| if y > 0.0 { 1.5 * dy } else { 0.0 }).collect(),
            );
        }
        // Grows by as much in each call, far from what overflows.
        "accumulate" | "axpy" => {
            let (alpha, flops) = if op == "axpy" { (0.5, 2.0) } else { (1.0, 1.0) };
            let start = numbers::<f64>(len, 3);
            return call::<T, _, _>(
                [flops * n, 2.0 * n, n],
                [numbers(len, 1)],
                [numbers(len, 3)],
                move |[x], [y]| {
                    if flops > 1.0 { map::axpy(T::from_f64(alpha), x, y) } else { map::accumulate(x, y) }
                },
                move |[x]| x.iter().zip(&start).map(|(x, y)| alpha * x + y).collect(),
            );
        }
        // y ← x / 2 + y / 2 stays in range, however often it runs.
        "axpby" => {
            let half = T::from_f64(0.5);
            let start = numbers::<f64>(len, 3);
            return call::<T, _, _>(
                [3.0 * n, 2.0 * n, n],
                [numbers(len, 1)],
                [numbers(len, 3)],
                move |[x], [y]| map::axpby(half, x, half, y),
                move |[x]| x.iter().zip(&start).map(|(x, y)| 0.5 * x + 0.5 * y).collect(),
            );
        }
        "scale" => {
            let start = numbers::<f64>(len, 3);
            return call::<T, _, _>(
                [n, n, n],
                [],
                [numbers(len, 3)],
                |[], [y]| map::scale(-T::ONE, y),
                move |[]| start.iter().map(|y| -y).collect(),
            );
        }
        _ => (),
    }
    let (name, backward) = op.strip_suffix("_backward").map_or((op, false), |name| (name, true));
    let (kernel, [forward_flops, backward_flops]) = function::<T>(name)?;
    let (twin, mut x) = (kernel.twin(), numbers::<T>(len, 1));
    if kernel == Unary::Reciprocal || twin.value(-2.0).is_nan() {
        x.iter_mut().for_each(|x| *x += T::from_f64(1.5));
    }
    if !backward {
        return call::<T, _, _>(
            [forward_flops * n, n, n],
            [x],
            [numbers(len, 3)],
            move |[x], [y]| map::unary(kernel, x, y),
            move |[x]| x.iter().map(|&x| twin.value(x)).collect(),
        );
    }
    let y: Vec<T> = x.iter().map(|x| T::from_f64(twin.value(x.to_f64()))).collect();
    call::<T, _, _>(
        [(backward_flops + 1.0) * n, 2.0 * n, n],
        [x, y, numbers(len, 2)],
        [numbers(len, 3)],
        move |[x, y, dy], [dx]| map::UnaryBackward { op: kernel, x, y, dy, dx }.run(),
        move |[x, _, dy]| x.iter().zip(dy).map(|(&x, dy)| twin.derivative(x) * dy).collect(),
    )
}

/// Maps with a row or a column.
fn broadcast<T: Element>(op: &str, rows: usize, cols: usize) -> Option<Case> {
    let n = (rows * cols) as f64;
    match op {
        // Rows with a gap of one register behind each.
        "strided_add" => {
            let stride = cols + 16;
            call::<T, _, _>(
                [n, 2.0 * n, n],
                [numbers(rows * stride, 1), numbers(rows * cols, 2)],
                [numbers(rows * cols, 3)],
                move |[a, b], [y]| {
                    let (a, b) = (Operand::Matrix(a, stride), Operand::Matrix(b, cols));
                    zip::binary(Binary::Add, a, b, [rows, cols], y)
                },
                move |[a, b]| (0..rows * cols).map(|i| a[i / cols * stride + i % cols] + b[i]).collect(),
            )
        }
        "strided_exp" => {
            let stride = cols + 16;
            call::<T, _, _>(
                [operations::<T>(24, 34) * n, n, n],
                [numbers(rows * stride, 1)],
                [numbers(rows * cols, 3)],
                move |[x], [y]| zip::unary(Unary::Exp, Operand::Matrix(x, stride), [rows, cols], y),
                move |[x]| (0..rows * cols).map(|i| x[i / cols * stride + i % cols].exp()).collect(),
            )
        }
        "cumsum_rows" | "cumsum_cols" => {
            let by_row = op == "cumsum_rows";
            let case = call::<T, _, _>(
                [n, n, n],
                [numbers(rows * cols, 1)],
                [numbers(rows * cols, 3)],
                move |[x], [y]| {
                    if by_row { cumsum::rows(x, cols, false, y) } else { cumsum::cols(x, cols, false, y) }
                },
                move |[x]| {
                    if by_row {
                        return x.chunks(cols).flat_map(|x| reference::cumsum(x, false)).collect();
                    }
                    of_columns(x, cols, |x, _| reference::cumsum(x, false))
                },
            );
            case.map(|case| case.sums_of(if by_row { cols } else { rows }))
        }
        "add_row" => call::<T, _, _>(
            [n, n + cols as f64, n],
            [numbers(rows * cols, 1), numbers(cols, 2)],
            [numbers(rows * cols, 3)],
            |[a, row], [y]| map::binary_row(Binary::Add, a, row, y),
            move |[a, row]| a.iter().zip(row.iter().cycle()).map(|(a, b)| a + b).collect(),
        ),
        "mul_col" => call::<T, _, _>(
            [n, n + rows as f64, n],
            [numbers(rows * cols, 1), numbers(rows, 2)],
            [numbers(rows * cols, 3)],
            |[a, col], [y]| map::binary_col(Binary::Mul, a, col, y),
            move |[a, col]| a.iter().enumerate().map(|(i, a)| a * col[i / cols]).collect(),
        ),
        _ => None,
    }
}

/// A matrix made of the columns of another one: `f` has a column and its place.
fn of_columns(x: &[f64], cols: usize, f: impl Fn(&[f64], usize) -> Vec<f64>) -> Vec<f64> {
    let columns = reference::by_column(x, cols, <[f64]>::to_vec);
    let columns: Vec<_> = columns.iter().enumerate().map(|(place, x)| f(x, place)).collect();
    (0..x.len()).map(|i| columns[i % cols][i / cols]).collect()
}

/// f32 to 16 bits and back: an element of the case is what the narrow format keeps of one of x.
fn conversion<T: Element>(op: &str, len: usize) -> Option<Case> {
    type There = fn(&[f32], &mut [u16]) -> Result<()>;
    type Back = fn(&[u16], &mut [f32]) -> Result<()>;
    let (there, back, significand): (There, Back, i32) = match op {
        "bf16" => (convert::f32_to_bf16, convert::bf16_to_f32, 7),
        "f16" => (convert::f32_to_f16, convert::f16_to_f32, 10),
        _ => return None,
    };
    let n = len as f64;
    let (mut x, mut bits, mut y) = (vec![0.0; len], vec![0; len], vec![0.0; len]);
    let copy =
        |from: &[T], to: &mut [f32]| to.iter_mut().zip(from).for_each(|(to, x)| *to = x.to_f64() as f32);
    call::<T, _, _>(
        [4.0 * n, 1.5 * n, 1.5 * n],
        [numbers(len, 1)],
        [numbers(len, 3)],
        move |[from], [to]| {
            copy(from, &mut x);
            there(&x, &mut bits)?;
            back(&bits, &mut y)?;
            to.iter_mut().zip(&y).for_each(|(to, &y)| *to = T::from_f64(y.into()));
            Ok(())
        },
        move |[x]| {
            let kept = |x: &f64| reference::from_narrow(reference::to_narrow(*x, significand), significand);
            x.iter().map(kept).collect()
        },
    )
}

/// The places of extremes of rows or columns.
type Arg<T> = fn(&[T], usize, &mut [usize]) -> Result<()>;

/// What a reduction computes, by the kernel that does it.
#[derive(Clone, Copy)]
enum Fold {
    Simple(Reduce),
    Nonzero,
    Variance,
    Std,
    Argmax,
    Argmin,
    Norm(Norm),
}

/// `sum_all`, `max_rows`, `variance_cols`, …
fn reduction<T: Element>(op: &str, rows: usize, cols: usize) -> Option<Case> {
    let (name, over) = op.split_once('_')?;
    let ops: [(&str, Fold, FoldFunction, f64); 14] = [
        ("count", Fold::Simple(Reduce::CountNonzero), |x| reference::count_nonzero(x) as f64, 1.0),
        ("l1", Fold::Norm(Norm::L1), reference::l1_norm, 1.0),
        ("l2", Fold::Norm(Norm::L2), reference::l2_norm, 2.0),
        ("size", Fold::Norm(Norm::Max), reference::max_norm, 1.0),
        ("argmin", Fold::Argmin, |x| reference::argmin(x).map_or(f64::NAN, |i| i as f64), 1.0),
        ("sum", Fold::Simple(Reduce::Sum), reference::sum, 1.0),
        ("mean", Fold::Simple(Reduce::Mean), reference::mean, 1.0),
        ("max", Fold::Simple(Reduce::Max), reference::max, 1.0),
        ("min", Fold::Simple(Reduce::Min), reference::min, 1.0),
        ("squares", Fold::Simple(Reduce::SumOfSquares), reference::sum_of_squares, 2.0),
        ("nonzero", Fold::Nonzero, |x| reference::count_nonzero(x) as f64, 1.0),
        ("variance", Fold::Variance, |x| reference::variance(x, 0), 4.0),
        ("std", Fold::Std, |x| reference::std(x, 0), 4.0),
        ("argmax", Fold::Argmax, |x| reference::argmax(x).map_or(f64::NAN, |i| i as f64), 1.0),
    ];
    let &(_, fold, truth, flops) = ops.iter().find(|(known, ..)| *known == name)?;
    let x = [numbers::<T>(rows * cols, 1)];
    let n = (rows * cols) as f64;
    let mut places = vec![0; rows.max(cols)];
    let (case, terms) = match over {
        "all" => (
            call::<T, _, _>(
                [flops * n, n, 1.0],
                x,
                [vec![T::ZERO]],
                move |[x], [y]| {
                    y[0] = match fold {
                        Fold::Simple(op) => reduce::all(op, x)?,
                        Fold::Nonzero => T::from_f64(reduce::count_nonzero(x)? as f64),
                        Fold::Variance => reduce::variance_all(x, 0)?,
                        Fold::Std => reduce::std_all(x, 0)?,
                        Fold::Argmax => T::from_f64(reduce::argmax(x)? as f64),
                        Fold::Argmin => T::from_f64(reduce::argmin(x)? as f64),
                        Fold::Norm(op) => norm::all(op, x)?,
                    };
                    Ok(())
                },
                move |[x]| vec![truth(x)],
            ),
            rows * cols,
        ),
        "rows" | "cols" if !matches!(fold, Fold::Nonzero) => {
            let (by_row, results) = if over == "rows" { (true, rows) } else { (false, cols) };
            let mut arg = move |rows: Arg<T>, columns: Arg<T>, x: &[T], y: &mut [T]| {
                let places = &mut places[..results];
                if by_row {
                    rows(x, cols, places)?
                } else {
                    columns(x, cols, places)?
                }
                y.iter_mut().zip(places).for_each(|(y, &mut place)| *y = T::from_f64(place as f64));
                Ok(())
            };
            let case = call::<T, _, _>(
                [flops * n, n, results as f64],
                x,
                [vec![T::ZERO; results]],
                move |[x], [y]| match (fold, by_row) {
                    (Fold::Simple(op), true) => reduce::rows(op, x, cols, y),
                    (Fold::Simple(op), false) => reduce::cols(op, x, cols, y),
                    (Fold::Variance, true) => reduce::variance_rows(x, cols, 0, y),
                    (Fold::Variance, false) => reduce::variance_cols(x, cols, 0, y),
                    (Fold::Std, true) => reduce::std_rows(x, cols, 0, y),
                    (Fold::Std, false) => reduce::std_cols(x, cols, 0, y),
                    (Fold::Norm(op), true) => norm::rows(op, x, cols, y),
                    (Fold::Norm(op), false) => norm::cols(op, x, cols, y),
                    (Fold::Argmin, _) => arg(reduce::argmin_rows, reduce::argmin_cols, x, y),
                    _ => arg(reduce::argmax_rows, reduce::argmax_cols, x, y),
                },
                move |[x]| {
                    if by_row {
                        reference::by_row(x, cols, truth)
                    } else {
                        reference::by_column(x, cols, truth)
                    }
                },
            );
            (case, if by_row { cols } else { rows })
        }
        _ => return None,
    };
    case.map(|case| case.sums_of(terms))
}

/// `dot_all`, of two arrays; gradients: `prod_backward_rows`, `l2_backward_cols`, …
fn reduction_backward<T: Element>(op: &str, rows: usize, cols: usize) -> Option<Case> {
    let (len, n) = (rows * cols, (rows * cols) as f64);
    if op == "dot_all" {
        let case = call::<T, _, _>(
            [2.0 * n, 2.0 * n, 1.0],
            [numbers(len, 1), numbers(len, 2)],
            [vec![T::ZERO]],
            |[a, b], [y]| {
                y[0] = reduce::dot(a, b)?;
                Ok(())
            },
            |[a, b]| vec![reference::dot(a, b)],
        );
        return case.map(|case| case.sums_of(len));
    }
    if op == "prod_backward_rows" {
        // Near 1, as products of many numbers that are smaller vanish.
        let x = numbers::<T>(len, 1).iter().map(|&x| T::ONE + x * T::from_f64(1.0 / 1024.0)).collect();
        let case = call::<T, _, _>(
            [3.0 * n, n + rows as f64, n],
            [x, numbers(rows, 2)],
            [numbers(len, 3)],
            move |[x, dy], [dx]| reduce::prod_backward(x, dy, cols, dx),
            move |[x, dy]| {
                x.chunks(cols).zip(dy).flat_map(|(x, &dy)| reference::prod_backward(x, dy)).collect()
            },
        );
        return case.map(|case| case.sums_of(cols));
    }
    let (name, over) = op.split_once("_backward_")?;
    type Backward = fn(&[f64], f64) -> Vec<f64>;
    let (norm, value, truth): (_, FoldFunction, Backward) = match name {
        "l1" => (Norm::L1, reference::l1_norm, reference::l1_norm_backward),
        "l2" => (Norm::L2, reference::l2_norm, reference::l2_norm_backward),
        "size" => (Norm::Max, reference::max_norm, reference::max_norm_backward),
        _ => return None,
    };
    let x = numbers::<T>(len, 1);
    let (by_row, y) = match over {
        "rows" => (true, reference::by_row(&wide(&x), cols, value)),
        "cols" => (false, reference::by_column(&wide(&x), cols, value)),
        _ => return None,
    };
    let results = y.len();
    call::<T, _, _>(
        [2.0 * n, n + 2.0 * results as f64, n],
        [x, narrow(y), numbers(results, 2)],
        [numbers(len, 3)],
        move |[x, y, dy], [dx]| {
            if by_row {
                norm::RowsBackward { op: norm, x, y, dy, cols, dx }.run()
            } else {
                norm::ColsBackward { op: norm, x, y, dy, cols, dx }.run()
            }
        },
        move |[x, _, dy]| {
            if by_row {
                return x.chunks(cols).zip(dy).flat_map(|(x, &dy)| truth(x, dy)).collect();
            }
            of_columns(x, cols, |x, place| truth(x, dy[place]))
        },
    )
}

fn along_rows<T: Element>(family: &str, op: &str, rows: usize, cols: usize) -> Option<Case> {
    let (len, n) = (rows * cols, (rows * cols) as f64);
    let exp = operations::<T>(24, 34);
    let x = numbers::<T>(len, 1);
    match (family, op) {
        ("softmax", "forward") => call::<T, _, _>(
            [(exp + 3.0) * n, n, n],
            [x],
            [numbers(len, 3)],
            move |[x], [y]| softmax::forward(x, cols, y),
            move |[x]| reference::softmax(x, cols),
        ),
        ("log_softmax", "forward") => call::<T, _, _>(
            [(exp + 3.0) * n, n, n],
            [x],
            [numbers(len, 3)],
            move |[x], [y]| log_softmax::forward(x, cols, y),
            move |[x]| reference::log_softmax(x, cols),
        ),
        ("logsumexp", "forward") => call::<T, _, _>(
            [(exp + 3.0) * n, n, rows as f64],
            [x],
            [vec![T::ZERO; rows]],
            move |[x], [y]| logsumexp::forward(x, cols, y),
            move |[x]| reference::logsumexp(x, cols),
        ),
        ("logsumexp", "forward_cols") => call::<T, _, _>(
            [(exp + 3.0) * n, n, cols as f64],
            [x],
            [vec![T::ZERO; cols]],
            move |[x], [y]| logsumexp::forward_cols(x, cols, y),
            move |[x]| reference::by_column(x, cols, |x| reference::logsumexp(x, x.len())[0]),
        ),
        ("logsumexp", "backward_cols") => {
            let y = reference::by_column(&wide(&x), cols, |x| reference::logsumexp(x, x.len())[0]);
            call::<T, _, _>(
                [(exp + 2.0) * n, n + 2.0 * cols as f64, n],
                [x, narrow(y), numbers(cols, 2)],
                [numbers(len, 3)],
                move |[x, y, dy], [dx]| logsumexp::BackwardCols { x, y, dy, cols, dx }.run(),
                move |[x, y, dy]| {
                    of_columns(x, cols, |x, place| {
                        reference::logsumexp_backward(x, &y[place..=place], &dy[place..=place], x.len())
                    })
                },
            )
        }
        ("softmax", "backward") => call::<T, _, _>(
            [4.0 * n, 2.0 * n, n],
            [narrow(reference::softmax(&wide(&x), cols)), numbers(len, 2)],
            [numbers(len, 3)],
            move |[y, dy], [dx]| softmax::backward(y, dy, cols, dx),
            move |[y, dy]| reference::softmax_backward(y, dy, cols),
        ),
        ("log_softmax", "backward") => call::<T, _, _>(
            [(exp + 3.0) * n, 2.0 * n, n],
            [narrow(reference::log_softmax(&wide(&x), cols)), numbers(len, 2)],
            [numbers(len, 3)],
            move |[y, dy], [dx]| log_softmax::backward(y, dy, cols, dx),
            move |[y, dy]| reference::log_softmax_backward(y, dy, cols),
        ),
        ("logsumexp", "backward") => call::<T, _, _>(
            [(exp + 2.0) * n, n + 2.0 * rows as f64, n],
            [narrow(reference::logsumexp(&wide(&x), cols)), x, numbers(rows, 2)],
            [numbers(len, 3)],
            move |[y, x, dy], [dx]| logsumexp::Backward { x, y, dy, cols, dx }.run(),
            move |[y, x, dy]| reference::logsumexp_backward(x, y, dy, cols),
        ),
        _ => None,
    }
}

fn wide<T: Element>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.to_f64()).collect()
}

fn narrow<T: Element>(x: Vec<f64>) -> Vec<T> {
    x.into_iter().map(T::from_f64).collect()
}

/// The target of row i, of so many classes.
fn target(row: usize, classes: usize) -> usize {
    row * 7 % classes
}

/// `forward`, `backward`; `options_forward`, `options_backward`, with label smoothing, weights and rows to
/// ignore.
fn classes<T: Element>(op: &str, rows: usize, cols: usize) -> Option<Case> {
    let (n, exp) = ((rows * cols) as f64, operations::<T>(24, 34));
    let targets: Vec<usize> = (0..rows).map(|row| target(row, cols)).collect();
    let same_targets = targets.clone();
    let (op, all) = op.strip_prefix("options_").map_or((op, false), |op| (op, true));
    let weight: Vec<T> = if all { numbers::<T>(cols, 4).iter().map(|w| w.abs()).collect() } else { vec![] };
    let ignore_index = all.then_some(7 % cols);
    let wide_weight = if all { wide(&weight) } else { vec![1.0; cols] };
    fn options<T: Element>(all: bool, weight: &[T], ignore_index: Option<usize>) -> Options<'_, T> {
        let label_smoothing = if all { T::from_f64(0.1) } else { T::ZERO };
        Options { label_smoothing, weight: all.then_some(weight), ignore_index }
    }
    let s = options::<T>(all, &[], None).label_smoothing.to_f64();
    let (x, extra) = (numbers::<T>(rows * cols, 1), if all { 3.0 } else { 0.0 });
    let (mut lse, mut rest) = (vec![T::ZERO; rows], vec![T::ZERO; rows]);
    let read = n + weight.len() as f64;
    match op {
        "forward" => call::<T, _, _>(
            [(exp + 3.0 + extra) * n, read, 2.0 * rows as f64],
            [x, weight],
            [vec![T::ZERO; rows]],
            move |[x, weight], [losses]| {
                cross_entropy::Forward {
                    logits: x,
                    targets: &targets,
                    classes: cols,
                    options: options(all, weight, ignore_index),
                    losses,
                    logsumexp: &mut lse,
                    rest: &mut rest,
                }
                .run()
            },
            move |[x, _]| reference::cross_entropy(x, &same_targets, cols, s, &wide_weight, ignore_index),
        ),
        "backward" => {
            lse = narrow(reference::logsumexp(&wide(&x), cols));
            call::<T, _, _>(
                [(exp + 3.0 + extra / 3.0) * n, read, n],
                [x, numbers(rows, 2), weight],
                [numbers(rows * cols, 3)],
                move |[x, dy, weight], [dx]| {
                    cross_entropy::Backward {
                        logits: x,
                        targets: &targets,
                        classes: cols,
                        options: options(all, weight, ignore_index),
                        logsumexp: &lse,
                        rest: &rest,
                        dlosses: dy,
                        dlogits: dx,
                    }
                    .run()
                },
                move |[x, dy, _]| {
                    let targets = &same_targets;
                    reference::cross_entropy_backward(x, targets, cols, s, &wide_weight, ignore_index, dy)
                },
            )
        }
        _ => None,
    }
}

fn probabilities<T: Element>(op: &str, rows: usize, cols: usize) -> Option<Case> {
    let (len, n, exp) = (rows * cols, (rows * cols) as f64, operations::<T>(24, 34));
    let x = numbers::<T>(len, 1);
    let targets = narrow::<T>(reference::softmax(&wide(&numbers::<T>(len, 2)), cols));
    let (mut lse, mut rest) = (vec![T::ZERO; rows], vec![T::ZERO; rows]);
    let ones = vec![1.0; cols];
    match op {
        "forward" => call::<T, _, _>(
            [(exp + 8.0) * n, 2.0 * n, 2.0 * rows as f64],
            [x, targets],
            [vec![T::ZERO; rows]],
            move |[x, t], [losses]| {
                soft_cross_entropy::Forward {
                    logits: x,
                    targets: t,
                    classes: cols,
                    label_smoothing: T::ZERO,
                    losses,
                    logsumexp: &mut lse,
                    rest: &mut rest,
                    ..Default::default()
                }
                .run()
            },
            move |[x, t]| reference::soft_cross_entropy(x, t, cols, 0.0, &ones),
        ),
        "backward" => {
            lse = narrow(reference::logsumexp(&wide(&x), cols));
            call::<T, _, _>(
                [(exp + 9.0) * n, 2.0 * n, n],
                [x, targets, numbers(rows, 4)],
                [numbers(len, 3)],
                move |[x, t, dy], [dx]| {
                    soft_cross_entropy::Backward {
                        logits: x,
                        targets: t,
                        classes: cols,
                        label_smoothing: T::ZERO,
                        logsumexp: &lse,
                        rest: &rest,
                        dlosses: dy,
                        dlogits: dx,
                        ..Default::default()
                    }
                    .run()
                },
                move |[x, t, dy]| reference::soft_cross_entropy_backward(x, t, cols, 0.0, &ones, dy).0,
            )
        }
        _ => None,
    }
}

fn likelihoods<T: Element>(op: &str, rows: usize, cols: usize) -> Option<Case> {
    let targets: Vec<usize> = (0..rows).map(|row| target(row, cols)).collect();
    let (same_targets, ones, r) = (targets.clone(), vec![1.0; cols], rows as f64);
    match op {
        "forward" => call::<T, _, _>(
            [0.0, r, r],
            [numbers(rows * cols, 1)],
            [vec![T::ZERO; rows]],
            move |[x], [losses]| {
                nll_loss::Forward { log_p: x, targets: &targets, classes: cols, losses, ..Default::default() }
                    .run()
            },
            move |[x]| reference::nll_loss(x, &same_targets, cols, &ones, None),
        ),
        "backward" => call::<T, _, _>(
            [0.0, r, (rows * cols) as f64],
            [numbers(rows, 2)],
            [numbers(rows * cols, 3)],
            move |[dy], [dx]| {
                nll_loss::Backward {
                    targets: &targets,
                    classes: cols,
                    dlosses: dy,
                    dlog_p: dx,
                    ..Default::default()
                }
                .run()
            },
            move |[dy]| reference::nll_loss_backward(&same_targets, cols, &ones, None, dy),
        ),
        _ => None,
    }
}

/// `huber`, `huber_backward`, `huber_backward_uniform`, …
fn losses<T: Element>(op: &str, len: usize) -> Option<Case> {
    let n = len as f64;
    let (name, uniform) = op.strip_suffix("_uniform").map_or((op, false), |name| (name, true));
    let (name, backward) = name.strip_suffix("_backward").map_or((name, false), |name| (name, true));
    let ops: [(&str, Loss<T>, LossFunction, f64); 4] = [
        ("squared_error", Loss::SquaredError, reference::squared_error, 2.0),
        ("absolute_error", Loss::AbsoluteError, reference::absolute_error, 2.0),
        ("huber", Loss::Huber { delta: T::from_f64(0.5) }, |x, t| reference::huber(x, t, 0.5), 4.0),
        ("bce_with_logits", Loss::BceWithLogits, reference::bce_with_logits, operations::<T>(55, 65)),
    ];
    let &(_, kernel, truth, flops) = ops.iter().find(|(known, ..)| *known == name)?;
    let mut target = numbers::<T>(len, 2);
    if name == "bce_with_logits" {
        target.iter_mut().for_each(|t| *t = t.abs());
    }
    if uniform {
        return call::<T, _, _>(
            [(flops + 1.0) * n, 2.0 * n, n],
            [numbers(len, 1), target],
            [numbers(len, 3)],
            move |[x, target], [dx]| {
                loss::BackwardUniform { op: kernel, x, target, dloss: T::from_f64(0.75), dx, dtarget: None }
                    .run()
            },
            move |[x, target]| x.iter().zip(target).map(|(&x, &t)| truth(x, t).1 * 0.75).collect(),
        )
        .filter(|_| backward);
    }
    if backward {
        return call::<T, _, _>(
            [(flops + 1.0) * n, 3.0 * n, n],
            [numbers(len, 1), target, numbers(len, 4)],
            [numbers(len, 3)],
            move |[x, target, dy], [dx]| {
                loss::Backward { op: kernel, x, target, dlosses: dy, dx, dtarget: None }.run()
            },
            move |[x, target, dy]| {
                x.iter().zip(target).zip(dy).map(|((&x, &t), dy)| truth(x, t).1 * dy).collect()
            },
        );
    }
    call::<T, _, _>(
        [flops * n, 2.0 * n, n],
        [numbers(len, 1), target],
        [numbers(len, 3)],
        move |[x, target], [y]| loss::forward(kernel, x, target, y),
        move |[x, target]| x.iter().zip(target).map(|(&x, &t)| truth(x, t).0).collect(),
    )
}

fn layer_normalisation<T: Element>(op: &str, rows: usize, cols: usize) -> Option<Case> {
    let (len, n, c) = (rows * cols, (rows * cols) as f64, cols as f64);
    let (x, gamma) = (numbers::<T>(len, 1), numbers::<T>(cols, 3));
    let (mut mean, mut rstd) = (vec![T::ZERO; rows], vec![T::ZERO; rows]);
    match op {
        "forward" => call::<T, _, _>(
            [7.0 * n, n + 2.0 * c, n + 2.0 * rows as f64],
            [x, gamma, numbers(cols, 4)],
            [numbers(len, 5)],
            move |[x, gamma, beta], [y]| {
                let (gamma, beta) = (Some(gamma), Some(beta));
                let (mean, rstd) = (Some(&mut mean[..]), Some(&mut rstd[..]));
                layer_norm::Forward { x, cols, gamma, beta, eps: EPS, y, mean, rstd }.run()
            },
            move |[x, gamma, beta]| reference::layer_norm(x, cols, gamma, beta, EPS).0,
        ),
        "backward" => {
            let mut y = x.clone();
            let (of_mean, of_rstd) = (Some(&mut mean[..]), Some(&mut rstd[..]));
            layer_norm::Forward {
                x: &x,
                cols,
                gamma: None,
                beta: None,
                eps: EPS,
                y: &mut y,
                mean: of_mean,
                rstd: of_rstd,
            }
            .run()
            .ok()?;
            call::<T, _, _>(
                [13.0 * n, 2.0 * n + c + 2.0 * rows as f64, n + 2.0 * c],
                [x, gamma, numbers(len, 2)],
                [y, vec![T::ZERO; cols], vec![T::ZERO; cols]],
                move |[x, gamma, dy], [dx, dgamma, dbeta]| {
                    let (gamma, dgamma, dbeta) = (Some(gamma), Some(dgamma), Some(dbeta));
                    let (mean, rstd) = (&mean, &rstd);
                    layer_norm::Backward { x, cols, gamma, mean, rstd, dy, dx, dgamma, dbeta }.run()
                },
                move |[x, gamma, dy]| {
                    let (dx, dgamma, dbeta) = reference::layer_norm_backward(x, cols, gamma, EPS, dy);
                    [dx, dgamma, dbeta].concat()
                },
            )
            .map(|case| case.sums_of(rows))
        }
        _ => None,
    }
}

fn rms_normalisation<T: Element>(op: &str, rows: usize, cols: usize) -> Option<Case> {
    let (len, n, c) = (rows * cols, (rows * cols) as f64, cols as f64);
    let (x, gamma) = (numbers::<T>(len, 1), numbers::<T>(cols, 3));
    let mut rstd = vec![T::ZERO; rows];
    match op {
        "forward" => call::<T, _, _>(
            [4.0 * n, n + c, n + rows as f64],
            [x, gamma],
            [numbers(len, 5)],
            move |[x, gamma], [y]| {
                rms_norm::Forward { x, cols, gamma: Some(gamma), eps: EPS, y, rstd: Some(&mut rstd) }.run()
            },
            move |[x, gamma]| reference::rms_norm(x, cols, gamma, EPS).0,
        ),
        "infer" => call::<T, _, _>(
            [4.0 * n, n + c, n],
            [x, gamma],
            [numbers(len, 5)],
            move |[x, gamma], [y]| {
                rms_norm::Forward { x, cols, gamma: Some(gamma), eps: EPS, y, ..Default::default() }.run()
            },
            move |[x, gamma]| reference::rms_norm(x, cols, gamma, EPS).0,
        ),
        "backward" => {
            let mut y = x.clone();
            rms_norm::Forward {
                x: &x,
                cols,
                eps: EPS,
                y: &mut y,
                rstd: Some(&mut rstd),
                ..Default::default()
            }
            .run()
            .ok()?;
            call::<T, _, _>(
                [11.0 * n, 2.0 * n + c + rows as f64, n + c],
                [x, gamma, numbers(len, 2)],
                [y, vec![T::ZERO; cols]],
                move |[x, gamma, dy], [dx, dgamma]| {
                    rms_norm::Backward {
                        x,
                        cols,
                        gamma: Some(gamma),
                        rstd: &rstd,
                        dy,
                        dx,
                        dgamma: Some(dgamma),
                    }
                    .run()
                },
                move |[x, gamma, dy]| {
                    let (dx, dgamma) = reference::rms_norm_backward(x, cols, gamma, EPS, dy);
                    [dx, dgamma].concat()
                },
            )
            .map(|case| case.sums_of(rows))
        }
        _ => None,
    }
}

/// A shape is samples × channels × inner elements × groups.
fn group_normalisation<T: Element>(op: &str, samples: usize, layout: Layout) -> Option<Case> {
    let Layout { channels, inner, groups } = layout;
    let (len, rows, shape) = (samples * channels * inner, samples * groups, [channels, inner, groups]);
    let (n, c) = (len as f64, channels as f64);
    let (x, gamma) = (numbers::<T>(len, 1), numbers::<T>(channels, 3));
    let (mut mean, mut rstd) = (vec![T::ZERO; rows], vec![T::ZERO; rows]);
    match op {
        "forward" => call::<T, _, _>(
            [7.0 * n, n + 2.0 * c, n + 2.0 * rows as f64],
            [x, gamma, numbers(channels, 4)],
            [numbers(len, 5)],
            move |[x, gamma, beta], [y]| {
                group_norm::Forward {
                    x,
                    layout,
                    gamma: Some(gamma),
                    beta: Some(beta),
                    eps: EPS,
                    y,
                    mean: Some(&mut mean),
                    rstd: Some(&mut rstd),
                }
                .run()
            },
            move |[x, gamma, beta]| reference::group_norm(x, shape, gamma, beta, EPS).0,
        ),
        "backward" => {
            let mut y = x.clone();
            group_norm::Forward {
                x: &x,
                layout,
                eps: EPS,
                y: &mut y,
                mean: Some(&mut mean),
                rstd: Some(&mut rstd),
                ..Default::default()
            }
            .run()
            .ok()?;
            call::<T, _, _>(
                [12.0 * n, 2.0 * n + c + 2.0 * rows as f64, n + 2.0 * c],
                [x, gamma, numbers(len, 2)],
                [y, vec![T::ZERO; channels], vec![T::ZERO; channels]],
                move |[x, gamma, dy], [dx, dgamma, dbeta]| {
                    group_norm::Backward {
                        x,
                        layout,
                        gamma: Some(gamma),
                        mean: &mean,
                        rstd: &rstd,
                        dy,
                        dx,
                        dgamma: Some(dgamma),
                        dbeta: Some(dbeta),
                    }
                    .run()
                },
                move |[x, gamma, dy]| {
                    let (dx, dgamma, dbeta) = reference::group_norm_backward(x, shape, gamma, EPS, dy);
                    [dx, dgamma, dbeta].concat()
                },
            )
            .map(|case| case.sums_of(samples * inner))
        }
        _ => None,
    }
}

fn batch_normalisation<T: Element>(op: &str, rows: usize, cols: usize) -> Option<Case> {
    let (len, n, c) = (rows * cols, (rows * cols) as f64, cols as f64);
    let (x, gamma) = (numbers::<T>(len, 1), numbers::<T>(cols, 3));
    let (mut mean, mut rstd) = (vec![T::ZERO; cols], vec![T::ZERO; cols]);
    match op {
        "forward" => call::<T, _, _>(
            [7.0 * n, n + 2.0 * c, n + 2.0 * c],
            [x, gamma, numbers(cols, 4)],
            [numbers(len, 5)],
            move |[x, gamma, beta], [y]| {
                let (gamma, beta) = (Some(gamma), Some(beta));
                batch_norm::Forward {
                    x,
                    cols,
                    gamma,
                    beta,
                    eps: EPS,
                    y,
                    mean: Some(&mut mean),
                    rstd: Some(&mut rstd),
                    ..Default::default()
                }
                .run()
            },
            move |[x, gamma, beta]| {
                let [y, ..] = reference::batch_norm(x, cols, gamma, beta, EPS);
                y
            },
        ),
        "backward" => {
            let mut y = x.clone();
            batch_norm::Forward {
                x: &x,
                cols,
                eps: EPS,
                y: &mut y,
                mean: Some(&mut mean),
                rstd: Some(&mut rstd),
                ..Default::default()
            }
            .run()
            .ok()?;
            call::<T, _, _>(
                [11.0 * n, 2.0 * n + 3.0 * c, n + 2.0 * c],
                [x, gamma, numbers(len, 2)],
                [y, vec![T::ZERO; cols], vec![T::ZERO; cols]],
                move |[x, gamma, dy], [dx, dgamma, dbeta]| {
                    batch_norm::Backward {
                        x,
                        cols,
                        gamma: Some(gamma),
                        mean: &mean,
                        rstd: &rstd,
                        dy,
                        dx,
                        dgamma: Some(dgamma),
                        dbeta: Some(dbeta),
                        ..Default::default()
                    }
                    .run()
                },
                move |[x, gamma, dy]| reference::batch_norm_backward(x, cols, gamma, EPS, dy).concat(),
            )
            .map(|case| case.sums_of(rows))
        }
        "forward_relu" => call::<T, _, _>(
            [8.0 * n, n + 2.0 * c, n + 2.0 * c],
            [x, gamma, numbers(cols, 4)],
            [numbers(len, 5)],
            move |[x, gamma, beta], [y]| {
                let (gamma, beta, after) = (Some(gamma), Some(beta), After::Relu);
                batch_norm::Forward {
                    x,
                    cols,
                    gamma,
                    beta,
                    eps: EPS,
                    after,
                    y,
                    mean: Some(&mut mean),
                    rstd: Some(&mut rstd),
                    ..Default::default()
                }
                .run()
            },
            move |[x, gamma, beta]| {
                let [y, ..] = reference::batch_norm(x, cols, gamma, beta, EPS);
                y.into_iter().map(reference::map::relu).collect()
            },
        ),
        "backward_gated" => {
            let mut y = x.clone();
            batch_norm::Forward {
                x: &x,
                cols,
                eps: EPS,
                y: &mut y,
                mean: Some(&mut mean),
                rstd: Some(&mut rstd),
                ..Default::default()
            }
            .run()
            .ok()?;
            call::<T, _, _>(
                [12.0 * n, 3.0 * n + 3.0 * c, n + 2.0 * c],
                [x, gamma, numbers(len, 2), numbers(len, 6)],
                [y, vec![T::ZERO; cols], vec![T::ZERO; cols]],
                move |[x, gamma, dy, out], [dx, dgamma, dbeta]| {
                    let gate = Some(Gate { y: out, scale: T::ONE });
                    let gamma = Some(gamma);
                    batch_norm::Backward {
                        x,
                        cols,
                        gamma,
                        mean: &mean,
                        rstd: &rstd,
                        gate,
                        dy,
                        dx,
                        dgamma: Some(dgamma),
                        dbeta: Some(dbeta),
                    }
                    .run()
                },
                move |[x, gamma, dy, out]| {
                    let passed = |(&dy, &out): (&f64, &f64)| if out > 0.0 { dy } else { 0.0 };
                    let dy: Vec<f64> = dy.iter().zip(out).map(passed).collect();
                    reference::batch_norm_backward(x, cols, gamma, EPS, &dy).concat()
                },
            )
            .map(|case| case.sums_of(rows))
        }
        "infer" | "infer_relu" | "infer_backward" => {
            let var: Vec<T> = numbers::<T>(cols, 6).iter().map(|v| *v + T::from_f64(1.5)).collect();
            if op == "infer_backward" {
                return call::<T, _, _>(
                    [6.0 * n, 2.0 * n + 3.0 * c, n + 2.0 * c],
                    [x, gamma, numbers(len, 2), numbers(cols, 5), var],
                    [numbers(len, 7), vec![T::ZERO; cols], vec![T::ZERO; cols]],
                    move |[x, gamma, dy, mean, var], [dx, dgamma, dbeta]| {
                        let gamma = Some(gamma);
                        batch_norm::InferBackward {
                            x,
                            cols,
                            gamma,
                            running_mean: mean,
                            running_var: var,
                            eps: EPS,
                            dy,
                            dx,
                            dgamma: Some(dgamma),
                            dbeta: Some(dbeta),
                        }
                        .run()
                    },
                    move |[x, gamma, dy, mean, var]| {
                        reference::batch_norm_infer_backward(x, cols, gamma, mean, var, EPS, dy).concat()
                    },
                )
                .map(|case| case.sums_of(rows));
            }
            let relu = op == "infer_relu";
            call::<T, _, _>(
                [if relu { 3.0 } else { 2.0 } * n, n + 4.0 * c, n],
                [x, gamma, numbers(cols, 4), numbers(cols, 5), var],
                [numbers(len, 5)],
                move |[x, gamma, beta, mean, var], [y]| {
                    let (gamma, beta) = (Some(gamma), Some(beta));
                    if relu {
                        return batch_norm::Infer {
                            x,
                            cols,
                            gamma,
                            beta,
                            running_mean: mean,
                            running_var: var,
                            eps: EPS,
                            after: After::Relu,
                            y,
                        }
                        .run();
                    }
                    batch_norm::Infer {
                        x,
                        cols,
                        gamma,
                        beta,
                        running_mean: mean,
                        running_var: var,
                        eps: EPS,
                        y,
                        ..Default::default()
                    }
                    .run()
                },
                move |[x, gamma, beta, mean, var]| {
                    let y = reference::batch_norm_infer(x, cols, gamma, beta, mean, var, EPS);
                    if relu { y.into_iter().map(reference::map::relu).collect() } else { y }
                },
            )
        }
        _ => None,
    }
}

/// `count` rows of a table; indices come again and again, some more often than others.
fn lookup<T: Element>(op: &str, rows: usize, dim: usize, count: usize) -> Option<Case> {
    let indices: Vec<usize> = (0..count).map(|i| i * 7919 % rows * (i % 3) / 2).collect();
    let (same, n) = (indices.clone(), (count * dim) as f64);
    match op {
        "forward" => {
            let mut distinct = indices.clone();
            distinct.sort_unstable();
            distinct.dedup();
            call::<T, _, _>(
                [0.0, (distinct.len() * dim) as f64, n],
                [numbers(rows * dim, 1)],
                [numbers(count * dim, 3)],
                move |[table], [y]| embedding::forward(table, dim, &indices, y),
                move |[table]| reference::embedding(table, dim, &same),
            )
        }
        "backward" => call::<T, _, _>(
            [n, n, (rows * dim) as f64],
            [numbers(count * dim, 2)],
            [numbers(rows * dim, 3)],
            move |[dy], [dtable]| embedding::backward(&indices, dim, None, dy, dtable),
            move |[dy]| reference::embedding_backward(&same, [rows, dim], None, dy),
        )
        .map(|case| case.sums_of(count)),
        _ => None,
    }
}

fn parametric_relu<T: Element>(op: &str, samples: usize, channels: usize, inner: usize) -> Option<Case> {
    let (len, c) = (samples * channels * inner, channels as f64);
    let (n, x, slope) = (len as f64, numbers::<T>(len, 1), numbers::<T>(channels, 3));
    match op {
        "forward" => call::<T, _, _>(
            [n, n + c, n],
            [x, slope],
            [numbers(len, 5)],
            move |[x, slope], [y]| prelu::forward(x, slope, inner, y),
            move |[x, slope]| reference::prelu(x, slope, inner),
        ),
        "backward" => call::<T, _, _>(
            [3.0 * n, 2.0 * n + c, n + c],
            [x, slope, numbers(len, 2)],
            [numbers(len, 5), vec![T::ZERO; channels]],
            move |[x, slope, dy], [dx, dslope]| {
                prelu::Backward { x, slope, inner, dy, dx, dslope: Some(dslope) }.run()
            },
            move |[x, slope, dy]| {
                let (dx, dslope) = reference::prelu_backward(x, slope, inner, dy);
                [dx, dslope].concat()
            },
        )
        .map(|case| case.sums_of(samples * inner)),
        _ => None,
    }
}

fn masked<T: Element>(op: &str, len: usize) -> Option<Case> {
    const P: f64 = 0.1;
    let key = Key { seed: 4, stream: 0 };
    let work = [len as f64; 3];
    let expected = move |x: &[f64]| {
        let words: Vec<u32> =
            (0..x.len() as u64).map(|i| gristmill::rng::word(key.seed, key.stream, i)).collect();
        reference::dropout(x, P, &words)
    };
    let kernel: fn(&[T], f64, Key, &mut [T]) -> Result<()> = match op {
        "forward" => dropout::forward,
        "backward" => dropout::backward,
        // What is kept grows by a ninth in each call, and takes no longer when it is infinite.
        "in_place" => {
            let start = numbers::<f64>(len, 1);
            let run = move |[]: [&[T]; 0], [x]: [&mut [T]; 1]| dropout::in_place(P, key, x);
            return call::<T, _, _>(work, [], [numbers(len, 1)], run, move |[]| expected(&start));
        }
        _ => return None,
    };
    call::<T, _, _>(
        work,
        [numbers(len, 1)],
        [numbers(len, 3)],
        move |[x], [y]| kernel(x, P, key, y),
        move |[x]| expected(x),
    )
}

/// Random numbers have no reference: only the first fill of a generator is compared, with that of another
/// one.
fn random<T: Element>(op: &str, len: usize) -> Option<Case> {
    type Fill<T> = fn(&mut Rng, &mut [T]) -> Result<()>;
    let (fill, same): (Fill<T>, Fill<f64>) = match op {
        "uniform" => (|rng, x| rng.fill_uniform(0.0, 1.0, x), |rng, x| rng.fill_uniform(0.0, 1.0, x)),
        "normal" => (|rng, x| rng.fill_normal(0.0, 1.0, x), |rng, x| rng.fill_normal(0.0, 1.0, x)),
        "bernoulli" => (|rng, x| rng.fill_bernoulli(0.5, x), |rng, x| rng.fill_bernoulli(0.5, x)),
        _ => return None,
    };
    let mut rng = Rng::seed(4);
    call::<T, _, _>(
        [0.0, 0.0, len as f64],
        [],
        [vec![T::ZERO; len]],
        move |[], [x]| fill(&mut rng, x),
        move |[]| {
            let mut x = vec![0.0; len];
            same(&mut Rng::seed(4), &mut x).map(|()| x).unwrap_or_default()
        },
    )
}

/// One step of a rule under its name, of SGD with momentum, or, as an optimizer steps, `run` of Adam with two
/// parameters in one pass; the first one is checked, on the parameters.
fn optimizer<T: Element>(op: &str, len: usize) -> Option<Case> {
    let mut rule = match op {
        "sgd_momentum" => Rule::Sgd(Sgd { momentum: 0.9, ..Sgd::default() }),
        "run" => Rule::Adam(Adam::default()),
        _ => Rule::all().into_iter().find(|rule| rule.name() == op)?,
    };
    *rule.lr_and_decay().0 = LR;
    let (n, used) = (len as f64, (0..3).filter(|&part| rule.uses(part)).count() as f64);
    let flops = f64::from(rule.operations()) + if op == "sgd_momentum" { 2.0 } else { 0.0 };
    // A few steps on: from where RAdam knows the variance, and with momenta that NAdam carries.
    let carried = if op == "nadam" { 0.25 } else { 1.0 };
    let mut at = Progress { step: if ["nadam", "radam"].contains(&op) { 10 } else { 0 }, carried };
    let first = Progress { step: at.step + 1, ..at };
    let mut state = [0, 1, 2].map(|part| Buffer::full(if rule.uses(part) { len } else { 0 }, T::ZERO));
    let cut = if op == "run" { len / 3 } else { 0 };
    let start = numbers::<f64>(len, 1);
    call::<T, _, _>(
        [flops * n, (2.0 + used) * n, (1.0 + used) * n],
        [numbers(len, 2)],
        [numbers(len, 1)],
        move |[g], [p]| {
            at.step += 1;
            let state = state.each_mut().map(Buffer::fresh_mut);
            if cut == 0 {
                return update::run(&mut [step(rule, at, g, p, state)?]);
            }
            let ((g, more_g), (p, more_p)) = (g.split_at(cut), p.split_at_mut(cut));
            let mut more = [&mut [][..], &mut [], &mut []];
            let mut parts = [&mut [][..], &mut [], &mut []];
            for ((part, more), state) in parts.iter_mut().zip(&mut more).zip(state) {
                (*part, *more) = state.split_at_mut(cut.min(state.len()));
            }
            update::run(&mut [step(rule, at, g, p, parts)?, step(rule, at, more_g, more_p, more)?])
        },
        move |[g]| start.iter().zip(g).map(|(&p, &g)| rule.exact(first, g, p, [0.0; 3])[0]).collect(),
    )
}

/// A step with the parts of the state that the rule has.
#[inline(always)]
fn step<'a, T: Element>(
    rule: Rule,
    at: Progress,
    g: &'a [T],
    p: &'a mut [T],
    [a, b, c]: [&'a mut [T]; 3],
) -> Result<Step<'a, T>> {
    match rule.state().len() {
        1 => Step::new(rule, at, g, p, [a]),
        2 => Step::new(rule, at, g, p, [a, b]),
        _ => Step::new(rule, at, g, p, [a, b, c]),
    }
}
