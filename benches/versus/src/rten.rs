//! The kernels of rten-vecmath, from slice to slice, which use one thread. Parts of softmax and logsumexp are
//! not inlined into code for AVX2 unless all code may be for AVX2 (`-C target-cpu=native`), and 4 to 50 times
//! slower than they could be.

use rten_simd::{SimdOp, SimdUnaryOp};
use rten_vecmath::{
    ApproxGelu, Elu, Exp, ExtendInit, Gelu, LeakyRelu, LogSoftmax, MaxNum, MinNum, Normalize,
    NormalizeOptions, Sigmoid, Silu, Softmax, Sum, SumExpSub, SumSquare, SumSquareSub, Tanh,
};

use crate::kernels::{dimensions, numbers};
use crate::race::{Contender, native};

const NAME: &str = "rten";
/// What is added to variances.
const EPS: f32 = 1e-5;

/// rten's kernel for this case of the table; none with several threads.
pub fn contender(id: &str, threads: usize) -> Option<Box<dyn Contender>> {
    let &[family, op, "f32", shape] = id.split('/').collect::<Vec<_>>().as_slice() else { return None };
    if threads != 1 {
        return None;
    }
    match (family, op, dimensions(shape)?.as_slice()) {
        ("map", _, &[len]) => map(op, len),
        ("reduce", _, &[rows, cols]) => reduce(op, rows, cols),
        ("softmax", "forward", &[rows, cols]) => {
            Some(by_row(rows, cols, |x, y| y.extend_init(|y| Softmax::new(x, &mut y[..x.len()]).dispatch())))
        }
        ("log_softmax", "forward", &[rows, cols]) => Some(by_row(rows, cols, |x, y| {
            y.extend_init(|y| LogSoftmax::new(x, &mut y[..x.len()]).dispatch())
        })),
        ("logsumexp", "forward", &[rows, cols]) => Some(by_row(rows, cols, |x, y| y.push(logsumexp(x)))),
        ("layer_norm", "forward", &[rows, cols]) => Some(layer_norm(rows, cols)),
        _ => None,
    }
}

fn double(y: &[f32]) -> Vec<f64> {
    y.iter().copied().map(f64::from).collect()
}

fn map(op: &str, len: usize) -> Option<Box<dyn Contender>> {
    Some(match op {
        // The plain one is no kernel of its own.
        "relu" => one_to_one(len, LeakyRelu { alpha: 0.0 }),
        "leaky_relu" => one_to_one(len, LeakyRelu { alpha: 0.01 }),
        "exp" => one_to_one(len, Exp {}),
        "tanh" => one_to_one(len, Tanh {}),
        "sigmoid" => one_to_one(len, Sigmoid {}),
        "gelu" => one_to_one(len, Gelu {}),
        "gelu_tanh" => one_to_one(len, ApproxGelu {}),
        "silu" => one_to_one(len, Silu {}),
        "elu" => one_to_one(len, Elu { alpha: 1.0 }),
        _ => return None,
    })
}

fn one_to_one(len: usize, op: impl SimdUnaryOp<f32> + 'static) -> Box<dyn Contender> {
    let (x, y) = (numbers::<f32>(len, 1), Vec::with_capacity(len));
    native(
        NAME,
        y,
        move |y: &mut Vec<f32>| {
            // The kernels write to memory that is not initialised yet: the spare capacity.
            y.clear();
            y.extend_init(|y| op.map(&x, &mut y[..x.len()]));
            Ok(())
        },
        |y| double(y),
    )
}

/// Rows of x, each appended to y by the kernel.
fn by_row(rows: usize, cols: usize, kernel: impl Fn(&[f32], &mut Vec<f32>) + 'static) -> Box<dyn Contender> {
    let (x, y) = (numbers::<f32>(rows * cols, 1), Vec::with_capacity(rows * cols));
    native(
        NAME,
        y,
        move |y: &mut Vec<f32>| {
            y.clear();
            x.chunks_exact(cols).for_each(|x| kernel(x, y));
            Ok(())
        },
        |y| double(y),
    )
}

fn reduce(op: &str, rows: usize, cols: usize) -> Option<Box<dyn Contender>> {
    let (name, over) = op.split_once('_')?;
    let kernel: fn(&[f32]) -> f32 = match name {
        "sum" => |x| Sum::new(x).dispatch(),
        "mean" => |x| Sum::new(x).dispatch() / x.len() as f32,
        "max" => |x| MaxNum::new(x).dispatch(),
        "min" => |x| MinNum::new(x).dispatch(),
        "squares" => |x| SumSquare::new(x).dispatch(),
        "variance" => {
            |x| SumSquareSub::new(x, Sum::new(x).dispatch() / x.len() as f32).dispatch() / x.len() as f32
        }
        _ => return None,
    };
    match over {
        "all" => Some(by_row(1, rows * cols, move |x, y| y.push(kernel(x)))),
        "rows" => Some(by_row(rows, cols, move |x, y| y.push(kernel(x)))),
        _ => None,
    }
}

fn logsumexp(x: &[f32]) -> f32 {
    let max = MaxNum::new(x).dispatch();
    SumExpSub::new(x, max).dispatch().ln() + max
}

/// As rten's own operator composes it.
fn layer_norm(rows: usize, cols: usize) -> Box<dyn Contender> {
    let (gamma, beta) = (numbers::<f32>(cols, 3), numbers::<f32>(cols, 4));
    by_row(rows, cols, move |x, y| {
        let mean = Sum::new(x).dispatch() / x.len() as f32;
        let variance = SumSquareSub::new(x, mean).dispatch() / x.len() as f32;
        y.extend_init(|y| {
            let options = NormalizeOptions {
                pre_scale_bias: mean,
                scale: 1.0 / (variance + EPS).sqrt(),
                element_scale: Some(&gamma),
                element_bias: Some(&beta),
                ..NormalizeOptions::default()
            };
            Normalize::new(x, &mut y[..x.len()], options).dispatch()
        });
    })
}
