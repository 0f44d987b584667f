//! Matrix products: C = A·B.

use gristmill::Element;
use gristmill::kernels::gemm::{MatMut, MatRef, gemm};

use crate::blas::{Blas, Real};
use crate::race::{Case, Contender, Result, Truth, native, numbers};

/// Class, m×k×n, orders: A and B stored row by row (N) or as their transposes (T).
const CASES: &[(&str, &str)] = &[
    ("train", "100x784x100/NN 100x784x100/NT 784x100x100/TN 100x100x784/TN 100x100x784/NT"),
    ("train", "100x100x50/NN 100x100x50/TN 100x100x50/NT 100x50x100/NN 100x50x100/NT 50x100x100/TN"),
    ("train", "100x100x10/NN 100x100x10/NT 100x10x100/NN 10x100x100/TN 256x10x96/NT"),
    ("train", "64x1000x100/NN 1000x64x100/TN 32x784x128/NN 256x784x96/NN"),
    ("train", "256x512x512/NN 256x512x512/NT 512x256x512/TN"),
    ("train", "128x128x128/NN 128x128x128/TN 128x128x128/NT"),
    ("tiny", "8x8x8/NN 16x16x16/NN 24x24x24/NN 32x32x32/NN 48x48x48/NN 64x64x64/NN"),
    ("thin", "1x1024x1024/NN 1x1024x1024/NT 1024x1024x1/NN 1024x1024x1/TN 4x1024x1024/NN"),
    ("thin", "8x4096x1024/NN 8x4096x1024/NT 1024x1024x8/NN 1000x8x1000/NN 1000x4x1000/NN"),
    ("long_k", "64x10000x64/NN 64x10000x64/TN 16x20000x16/NN"),
    ("large", "512x512x512/NN 512x512x512/TN 512x512x512/NT 1024x1024x1024/NN"),
    ("large", "512x3072x768/NT 2048x768x768/NN"),
    ("odd", "127x127x127/NN 129x129x129/NN 257x255x253/NN 45x46x47/NN"),
];

/// Of f64, a choice of each class.
const CASES_F64: &[(&str, &str)] = &[
    ("train", "100x784x100/NN 784x100x100/TN 100x100x50/NT 100x100x10/NN 128x128x128/NN 256x512x512/NT"),
    ("tiny", "8x8x8/NN 16x16x16/NN 32x32x32/NN 64x64x64/NN"),
    ("thin", "1x1024x1024/NN 1024x1024x1/NN 4x1024x1024/NN 1000x8x1000/NN"),
    ("large", "512x512x512/NN 1024x1024x1024/NN 512x3072x768/NT"),
];

/// The names of all cases: `gemm/f32/train/100x784x100/NT`.
pub fn names() -> Vec<String> {
    let of = |element: &'static str, cases: &'static [(&'static str, &'static str)]| {
        cases.iter().flat_map(move |(class, list)| {
            list.split(' ').map(move |case| format!("{element}/{class}/{case}"))
        })
    };
    of("f32", CASES).chain(of("f64", CASES_F64)).collect()
}

/// The class of a case: families of their own in the geometric means.
pub fn class(name: &str) -> Option<&'static str> {
    let mut parts = name.split('/');
    let (element, class) = (parts.next()?, parts.next()?);
    let known = [
        ("f32", "train", "gemm f32 train"),
        ("f32", "tiny", "gemm f32 tiny"),
        ("f32", "thin", "gemm f32 thin"),
        ("f32", "long_k", "gemm f32 long_k"),
        ("f32", "large", "gemm f32 large"),
        ("f32", "odd", "gemm f32 odd"),
        ("f64", "train", "gemm f64 train"),
        ("f64", "tiny", "gemm f64 tiny"),
        ("f64", "thin", "gemm f64 thin"),
        ("f64", "large", "gemm f64 large"),
    ];
    known.iter().find(|(e, c, _)| *e == element && *c == class).map(|(_, _, family)| *family)
}

/// What the rivals' functions are called for an element.
pub trait Scalar: Element + Real {
    #[cfg(feature = "matrixmultiply")]
    const MATRIXMULTIPLY: unsafe fn(
        usize, usize, usize, Self, *const Self, isize, isize, *const Self, isize, isize, Self, *mut Self, isize, isize,
    );
    fn all<'a>(problem: Problem<Self>, blas: &'a [Blas], threads: usize) -> Vec<Box<dyn Contender + 'a>>;
}

/// Operands as they are stored.
#[derive(Clone)]
pub struct Problem<T> {
    shape: [usize; 3],
    transposed: [bool; 2],
    a: Vec<T>,
    b: Vec<T>,
    c: Vec<T>,
}

impl<T: Element> Problem<T> {
    /// Row and column strides of A and of B.
    fn strides(&self) -> [(isize, isize); 2] {
        let [m, k, n] = self.shape;
        let of = |rows: usize, cols: usize, transposed: bool| {
            if transposed { (1, rows as isize) } else { (cols as isize, 1) }
        };
        [of(m, k, self.transposed[0]), of(k, n, self.transposed[1])]
    }
}

/// f64 by f64 in ascending k; the rows are walked so that 1024³ stays bearable.
fn truth<T: Element>(problem: &Problem<T>) -> Vec<f64> {
    let [m, k, n] = problem.shape;
    let [(ra, ca), (rb, cb)] = problem.strides();
    let mut c = vec![0.0; m * n];
    let b: Vec<f64> =
        (0..k * n).map(|i| problem.b[(i / n) * rb as usize + (i % n) * cb as usize].to_f64()).collect();
    for i in 0..m {
        let row = &mut c[i * n..(i + 1) * n];
        for p in 0..k {
            let a = problem.a[i * ra as usize + p * ca as usize].to_f64();
            for (c, b) in row.iter_mut().zip(&b[p * n..(p + 1) * n]) {
                *c += a * b;
            }
        }
    }
    c
}

fn widen<T: Element>(problem: &Problem<T>) -> Vec<f64> {
    problem.c.iter().map(|c| c.to_f64()).collect()
}

fn common<'a, T: Scalar>(problem: &Problem<T>, blas: &'a [Blas], threads: usize) -> Vec<Box<dyn Contender + 'a>> {
    let mut contenders = vec![native(
        "gristmill",
        problem.clone(),
        |p: &mut Problem<T>| {
            let [m, k, n] = p.shape;
            let [(ra, ca), (rb, cb)] = p.strides();
            let (a, b) = (MatRef::new(&p.a, m, k, ra, ca)?, MatRef::new(&p.b, k, n, rb, cb)?);
            Ok(gemm(T::ONE, a, b, T::ZERO, MatMut::row_major(&mut p.c, m, n)?)?)
        },
        widen,
    )];
    for blas in blas {
        contenders.push(native(
            blas.name,
            problem.clone(),
            |p: &mut Problem<T>| {
                blas.product(p.shape, p.transposed, &p.a, &p.b, &mut p.c, T::ONE, T::ZERO);
                Ok(())
            },
            widen,
        ));
    }
    #[cfg(feature = "gemm")]
    contenders.push(native(
        "gemm",
        problem.clone(),
        move |p: &mut Problem<T>| {
            let [m, k, n] = p.shape;
            let [(ra, ca), (rb, cb)] = p.strides();
            let par = if threads == 1 { gemm::Parallelism::None } else { gemm::Parallelism::Rayon(threads) };
            let (a, b, c) = (p.a.as_ptr(), p.b.as_ptr(), p.c.as_mut_ptr());
            // SAFETY: the pointers and strides describe the three vectors.
            unsafe {
                gemm::gemm(
                    m, n, k, c, 1, n as isize, false, a, ca, ra, b, cb, rb, T::ZERO, T::ONE, false, false, false, par,
                )
            };
            Ok(())
        },
        widen,
    ));
    #[cfg(feature = "matrixmultiply")]
    // It takes its threads from the environment, at most four; one of them here, as its own default is.
    if threads == 1 {
        contenders.push(native(
            "matrixmultiply",
            problem.clone(),
            |p: &mut Problem<T>| {
                let [m, k, n] = p.shape;
                let [(ra, ca), (rb, cb)] = p.strides();
                let (a, b, c) = (p.a.as_ptr(), p.b.as_ptr(), p.c.as_mut_ptr());
                // SAFETY: the pointers and strides describe the three vectors.
                unsafe { T::MATRIXMULTIPLY(m, k, n, T::ONE, a, ra, ca, b, rb, cb, T::ZERO, c, n as isize, 1) };
                Ok(())
            },
            widen,
        ));
    }
    contenders
}

/// Rivals that are generic over a trait of their own: once for each element.
macro_rules! scalar {
    ($element:ident, $sgemm:ident, [$($rten:tt)*]) => {
        impl Scalar for $element {
            #[cfg(feature = "matrixmultiply")]
            const MATRIXMULTIPLY: unsafe fn(
                usize, usize, usize, Self, *const Self, isize, isize, *const Self, isize, isize, Self, *mut Self,
                isize, isize,
            ) = matrixmultiply::$sgemm;

            fn all<'a>(problem: Problem<Self>, blas: &'a [Blas], threads: usize) -> Vec<Box<dyn Contender + 'a>> {
                let mut contenders = common(&problem, blas, threads);
                #[cfg(feature = "faer")]
                contenders.push(native(
                    "faer",
                    problem.clone(),
                    move |p: &mut Problem<Self>| {
                        use faer::{Accum, MatMut, MatRef, Par};
                        let [m, k, n] = p.shape;
                        let view = |data, rows, cols, transposed| {
                            if transposed {
                                MatRef::from_column_major_slice(data, rows, cols)
                            } else {
                                MatRef::from_row_major_slice(data, rows, cols)
                            }
                        };
                        let (a, b) = (view(&p.a, m, k, p.transposed[0]), view(&p.b, k, n, p.transposed[1]));
                        let c = MatMut::from_row_major_slice_mut(&mut p.c, m, n);
                        let par = if threads == 1 { Par::Seq } else { Par::rayon(threads) };
                        faer::linalg::matmul::matmul(c, Accum::Replace, a, b, 1.0, par);
                        Ok(())
                    },
                    widen,
                ));
                #[cfg(feature = "gemmkit")]
                contenders.push(native(
                    "gemmkit",
                    problem.clone(),
                    move |p: &mut Problem<Self>| {
                        use gemmkit::{MatMut, MatRef, Parallelism};
                        let [m, k, n] = p.shape;
                        let [(ra, ca), (rb, cb)] = p.strides();
                        let par = if threads == 1 { Parallelism::Serial } else { Parallelism::Rayon(threads) };
                        let (a, b) = (MatRef::new(&p.a, m, k, ra, ca), MatRef::new(&p.b, k, n, rb, cb));
                        gemmkit::gemm(1.0, a, b, 0.0, MatMut::from_row_major(&mut p.c, m, n), par);
                        Ok(())
                    },
                    widen,
                ));
                $($rten)*(&mut contenders, problem, threads);
                contenders
            }
        }
    };
}

scalar!(f32, sgemm, [rten]);
scalar!(f64, dgemm, [nobody]);

/// rten multiplies f32 only.
fn nobody(_: &mut Vec<Box<dyn Contender + '_>>, _: Problem<f64>, _: usize) {}

/// On the caller's rayon pool; a single thread, when there is one.
fn rten(contenders: &mut Vec<Box<dyn Contender + '_>>, problem: Problem<f32>, threads: usize) {
    #[cfg(feature = "rten")]
    // Its pool is its own, as wide as the machine.
    if threads > 1 || std::env::var("RTEN_NUM_THREADS").is_ok() {
        use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
        use rten_tensor::{Matrix, prelude::*};
        let executor = GemmExecutor::<f32, f32, f32>::new();
        contenders.push(native(
            "rten-gemm",
            problem,
            move |p: &mut Problem<f32>| {
                let [m, k, n] = p.shape;
                let [(ra, ca), (rb, cb)] = p.strides();
                let view = |shape, strides, data| {
                    Matrix::from_data_with_strides(shape, data, strides).map_err(|e| format!("rten: {e:?}"))
                };
                let a = view([m, k], [ra as usize, ca as usize], &p.a[..])?;
                let b = view([k, n], [rb as usize, cb as usize], &p.b[..])?;
                let (a, b) = (GemmInputA::Unpacked(a), GemmInputB::Unpacked(b));
                executor.gemm(&mut p.c, a, b, GemmOptions::default()).map_err(|e| format!("rten: {e:?}"))?;
                Ok(())
            },
            widen,
        ));
    }
    #[cfg(not(feature = "rten"))]
    let _ = (contenders, problem, threads);
}

fn build<'a, T: Scalar>(name: &str, spec: &str, blas: &'a [Blas], threads: usize) -> Option<Case<'a>> {
    let (shape, orders) = spec.split_once('/')?;
    let shape: Vec<usize> = shape.split('x').map(|x| x.parse().ok()).collect::<Option<_>>()?;
    let [m, k, n] = shape.try_into().ok()?;
    let transposed = [orders.starts_with('T'), orders.ends_with('T')];
    let fill = |len, seed| numbers(len, seed).into_iter().map(T::from_f64).collect();
    let problem =
        Problem::<T> { shape: [m, k, n], transposed, a: fill(m * k, 1), b: fill(k * n, 2), c: fill(m * n, 3) };
    // γ_k·|A|·|B| with |A|, |B| ≤ 1, for any order of the sum.
    let tolerance = k as f64 * if T::NAME == "f32" { f64::from(f32::EPSILON) } else { f64::EPSILON };
    let truth = Truth::Close(truth(&problem), tolerance * (k as f64).max(1.0));
    Some(Case { name: name.to_owned(), contenders: T::all(problem, blas, threads), truth })
}

/// A case by its name, `f32/train/100x784x100/NT`; any shape will do.
pub fn case<'a>(name: &str, blas: &'a [Blas], threads: usize) -> Result<Case<'a>> {
    let mut parts = name.splitn(3, '/');
    let built = match (parts.next(), parts.next(), parts.next()) {
        (Some("f32"), Some(_), Some(spec)) => build::<f32>(name, spec, blas, threads),
        (Some("f64"), Some(_), Some(spec)) => build::<f64>(name, spec, blas, threads),
        _ => None,
    };
    built.ok_or_else(|| format!("{name}: not a product; say for example f32/train/100x784x100/NT").into())
}
