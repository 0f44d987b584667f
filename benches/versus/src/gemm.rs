//! Rivals with matrix products: C = A·B, on the operands of the table's cases.

use gristmill::Element;
use gristmill::buffer::Buffer;

use crate::blas::{Blas, Real};
use crate::kernels::{dimensions, numbers};
use crate::race::{Contender, Result, native};

/// Operands as they are stored, in memory like that of gristmill's contender: where a matrix begins in its
/// cache line changes the times.
struct Problem<T: Element> {
    shape: [usize; 3],
    transposed: [bool; 2],
    a: Buffer<T>,
    b: Buffer<T>,
    c: Buffer<T>,
}

impl<T: Element> Problem<T> {
    /// Row and column strides of A and of B.
    #[allow(dead_code)] // Where all rivals that take strides are left out.
    fn strides(&self) -> [(isize, isize); 2] {
        let [m, k, n] = self.shape;
        let of = |rows: usize, cols: usize, transposed: bool| {
            if transposed { (1, rows as isize) } else { (cols as isize, 1) }
        };
        [of(m, k, self.transposed[0]), of(k, n, self.transposed[1])]
    }

    fn contender<'a>(
        &self,
        name: &str,
        step: impl FnMut(&mut Self) -> Result<()> + 'a,
    ) -> Box<dyn Contender + 'a> {
        let Self { shape, transposed, .. } = *self;
        let [a, b, c] = [&self.a, &self.b, &self.c].map(|x| Buffer::copy_of(x));
        let own = Self { shape, transposed, a, b, c };
        native(name, own, step, |problem| problem.c.iter().map(|c| c.to_f64()).collect())
    }
}

/// What the rivals' functions are called for an element.
trait Scalar: Element + Real {
    /// Those that are generic over a trait of their own.
    fn special<'a>(problem: &Problem<Self>, threads: usize) -> Vec<Box<dyn Contender + 'a>>;
}

#[cfg_attr(not(feature = "gemm"), allow(unused_variables))]
fn all<'a, T: Scalar>(
    problem: &Problem<T>,
    blas: &'a [Blas],
    threads: usize,
) -> Vec<Box<dyn Contender + 'a>> {
    let mut contenders: Vec<_> = blas
        .iter()
        .map(|blas| {
            problem.contender(blas.name, |p| {
                blas.product(p.shape, p.transposed, &p.a, &p.b, p.c.fresh_mut());
                Ok(())
            })
        })
        .collect();
    #[cfg(feature = "gemm")]
    contenders.push(problem.contender("gemm", move |p| {
        let [m, k, n] = p.shape;
        let [(ra, ca), (rb, cb)] = p.strides();
        let par = if threads == 1 { gemm::Parallelism::None } else { gemm::Parallelism::Rayon(threads) };
        let (a, b, c) = (p.a.as_ptr(), p.b.as_ptr(), p.c.fresh_mut().as_mut_ptr());
        let (zero, one, rc) = (T::ZERO, T::ONE, n as isize);
        // SAFETY: the pointers and strides describe the three vectors.
        unsafe {
            gemm::gemm(m, n, k, c, 1, rc, false, a, ca, ra, b, cb, rb, zero, one, false, false, false, par)
        };
        Ok(())
    }));
    contenders.extend(T::special(problem, threads));
    contenders
}

macro_rules! scalar {
    ($element:ident, $matrixmultiply:ident, $rten:path) => {
        impl Scalar for $element {
            #[allow(unused_variables, unused_mut)]
            fn special<'a>(problem: &Problem<Self>, threads: usize) -> Vec<Box<dyn Contender + 'a>> {
                let mut contenders = $rten(problem);
                #[cfg(feature = "matrixmultiply")]
                contenders.push(problem.contender("matrixmultiply", |p| {
                    let [m, k, n] = p.shape;
                    let [(ra, ca), (rb, cb)] = p.strides();
                    let (a, b, c) = (p.a.as_ptr(), p.b.as_ptr(), p.c.fresh_mut().as_mut_ptr());
                    // SAFETY: the pointers and strides describe the three vectors.
                    unsafe {
                        matrixmultiply::$matrixmultiply(
                            m, k, n, 1.0, a, ra, ca, b, rb, cb, 0.0, c, n as isize, 1,
                        )
                    };
                    Ok(())
                }));
                #[cfg(feature = "faer")]
                contenders.push(problem.contender("faer", move |p| {
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
                    let c = MatMut::from_row_major_slice_mut(p.c.fresh_mut(), m, n);
                    let par = if threads == 1 { Par::Seq } else { Par::rayon(threads) };
                    faer::linalg::matmul::matmul(c, Accum::Replace, a, b, 1.0, par);
                    Ok(())
                }));
                #[cfg(feature = "gemmkit")]
                contenders.push(problem.contender("gemmkit", move |p| {
                    use gemmkit::{MatMut, MatRef, Parallelism};
                    let [m, k, n] = p.shape;
                    let [(ra, ca), (rb, cb)] = p.strides();
                    let par = if threads == 1 { Parallelism::Serial } else { Parallelism::Rayon(threads) };
                    let (a, b) = (MatRef::new(&p.a, m, k, ra, ca), MatRef::new(&p.b, k, n, rb, cb));
                    gemmkit::gemm(1.0, a, b, 0.0, MatMut::from_row_major(p.c.fresh_mut(), m, n), par);
                    Ok(())
                }));
                contenders
            }
        }
    };
}

scalar!(f32, sgemm, rten);
scalar!(f64, dgemm, nobody);

/// rten multiplies f32 only.
fn nobody<'a>(_: &Problem<f64>) -> Vec<Box<dyn Contender + 'a>> {
    vec![]
}

/// On a pool of its own, as wide as `RTEN_NUM_THREADS` says.
#[cfg_attr(not(feature = "rten"), allow(unused_variables))]
fn rten<'a>(problem: &Problem<f32>) -> Vec<Box<dyn Contender + 'a>> {
    #[cfg(feature = "rten")]
    {
        use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
        use rten_tensor::Matrix;
        let executor = GemmExecutor::<f32, f32, f32>::new();
        let step = move |p: &mut Problem<f32>| {
            let [m, k, n] = p.shape;
            let [(ra, ca), (rb, cb)] = p.strides();
            let a = Matrix::from_data_with_strides([m, k], &p.a[..], [ra as usize, ca as usize])
                .map_err(|e| format!("{e:?}"))?;
            let b = Matrix::from_data_with_strides([k, n], &p.b[..], [rb as usize, cb as usize])
                .map_err(|e| format!("{e:?}"))?;
            let (a, b) = (GemmInputA::Unpacked(a), GemmInputB::Unpacked(b));
            executor.gemm(p.c.fresh_mut(), a, b, GemmOptions::default()).map_err(|e| format!("{e:?}"))?;
            Ok(())
        };
        vec![problem.contender("rten", step)]
    }
    #[cfg(not(feature = "rten"))]
    vec![]
}

fn build<'a, T: Scalar>(
    order: &str,
    shape: [usize; 3],
    blas: &'a [Blas],
    threads: usize,
) -> Vec<Box<dyn Contender + 'a>> {
    let [m, k, n] = shape;
    let transposed = [order.starts_with('T'), order.ends_with('T')];
    let [a, b, c] =
        [(m * k, 1), (k * n, 2), (m * n, 3)].map(|(len, seed)| Buffer::copy_of(&numbers(len, seed)));
    all(&Problem::<T> { shape, transposed, a, b, c }, blas, threads)
}

/// The rivals of `gemm/NT/f32/100x784x100`.
pub fn contenders<'a>(id: &str, blas: &'a [Blas], threads: usize) -> Vec<Box<dyn Contender + 'a>> {
    let parts: Vec<&str> = id.split('/').collect();
    let &["gemm", order, element, shape] = parts.as_slice() else { return vec![] };
    let Some(&[m, k, n]) = dimensions(shape).as_deref() else { return vec![] };
    match element {
        "f32" => build::<f32>(order, [m, k, n], blas, threads),
        _ => build::<f64>(order, [m, k, n], blas, threads),
    }
}
