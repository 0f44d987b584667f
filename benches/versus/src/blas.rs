//! MKL and OpenBLAS, loaded when they are there.

use std::ffi::{CStr, c_char};
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY};

use crate::race::Result;

const ROW_MAJOR: i32 = 101;
const NO_TRANS: i32 = 111;
const TRANS: i32 = 112;

type Gemm<T> =
    unsafe extern "C" fn(i32, i32, i32, i32, i32, i32, T, *const T, i32, *const T, i32, T, *mut T, i32);

/// A BLAS with row-major products.
pub struct Blas {
    pub name: &'static str,
    /// The processor whose kernels it picked, where it tells.
    pub core: Option<String>,
    sgemm: Gemm<f32>,
    dgemm: Gemm<f64>,
    // Never unloaded: their threads outlive every call.
    _library: &'static Library,
}

/// Which of the two C functions an element has, and its 1 and 0.
pub trait Real: Copy {
    const ONE_ZERO: [Self; 2];
    fn gemm(blas: &Blas) -> Gemm<Self>;
}

impl Real for f32 {
    const ONE_ZERO: [f32; 2] = [1.0, 0.0];
    fn gemm(blas: &Blas) -> Gemm<f32> {
        blas.sgemm
    }
}

impl Real for f64 {
    const ONE_ZERO: [f64; 2] = [1.0, 0.0];
    fn gemm(blas: &Blas) -> Gemm<f64> {
        blas.dgemm
    }
}

impl Blas {
    fn open(name: &'static str, path: &Path, prefix: &str) -> Result<Self> {
        // SAFETY: the initialisers of these libraries have no preconditions.
        let library = Box::leak(Box::new(unsafe { Library::open(Some(path), RTLD_LAZY | RTLD_GLOBAL)? }));
        // SAFETY: the CBLAS interface gives these symbols this type.
        let (sgemm, dgemm) = unsafe {
            let sgemm = library.get::<Gemm<f32>>(format!("{prefix}cblas_sgemm").as_bytes())?;
            let dgemm = library.get::<Gemm<f64>>(format!("{prefix}cblas_dgemm").as_bytes())?;
            (*sgemm, *dgemm)
        };
        type CoreName = unsafe extern "C" fn() -> *const c_char;
        // SAFETY: as above; OpenBLAS answers with a static string.
        let core = unsafe {
            library
                .get::<CoreName>(format!("{prefix}openblas_get_corename").as_bytes())
                .ok()
                .map(|name| CStr::from_ptr(name()).to_string_lossy().into_owned())
        };
        Ok(Self { name, core, sgemm, dgemm, _library: library })
    }

    /// C = A·B, all row by row; `transposed` says that an operand is stored as its transpose.
    pub fn product<T: Real>(
        &self,
        [m, k, n]: [usize; 3],
        transposed: [bool; 2],
        a: &[T],
        b: &[T],
        c: &mut [T],
    ) {
        assert!(a.len() == m * k && b.len() == k * n && c.len() == m * n);
        let order = transposed.map(|t| if t { TRANS } else { NO_TRANS });
        let (lda, ldb) = (if transposed[0] { m } else { k }, if transposed[1] { k } else { n });
        let [m, k, n, lda, ldb] = [m, k, n, lda, ldb].map(|x| x as i32);
        let (a, b, c, [one, zero]) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr(), T::ONE_ZERO);
        // SAFETY: the lengths were checked above and the leading dimensions are those of dense matrices.
        unsafe { T::gemm(self)(ROW_MAJOR, order[0], order[1], m, n, k, one, a, lda, b, ldb, zero, c, n) }
    }
}

/// Files below a folder whose name starts so, the shortest path first.
fn find(folder: &Path, prefix: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|t| t.is_dir());
        if is_folder {
            find(&path, prefix, found);
        } else if entry.file_name().to_string_lossy().starts_with(prefix) {
            found.push(path);
        }
    }
}

/// What the Python environment's packages `mkl` and `scipy-openblas32` bring, for as many threads as
/// [`set_variables`] said. What is missing is named on stderr.
pub fn load(environment: &Path) -> Vec<Blas> {
    let lib = environment.join("lib");
    let mut openmp = Vec::new();
    find(&lib, "libiomp5.so", &mut openmp);
    if let Some(path) = openmp.first() {
        // MKL looks for its threads among the global symbols.
        // SAFETY: the initialisers of this library have no preconditions.
        match unsafe { Library::open(Some(path), RTLD_LAZY | RTLD_GLOBAL) } {
            Ok(library) => std::mem::forget(library),
            Err(error) => eprintln!("Intel's OpenMP: {error}"),
        }
    }
    let offers = [("MKL", "libmkl_rt.so", ""), ("OpenBLAS", "libscipy_openblas", "scipy_")];
    let load = |(name, prefix, symbols): (&'static str, &str, &str)| {
        let mut files = Vec::new();
        find(&lib, prefix, &mut files);
        files.sort_by_key(|path| path.as_os_str().len());
        let Some(path) = files.first() else {
            eprintln!("{name}: no {prefix}* below {}, skipped", lib.display());
            return None;
        };
        Blas::open(name, path, symbols).inspect_err(|error| eprintln!("{name}: {error}, skipped")).ok()
    };
    offers.into_iter().filter_map(load).collect()
}

/// Tells every rival how many threads to use: they read it once, from the environment.
///
/// # Safety
/// No other thread may exist yet.
pub unsafe fn set_variables(threads: usize) {
    let threads = threads.to_string();
    // SAFETY: the caller's promise.
    unsafe {
        // A core name or cache size of somebody's shell would choose other kernels.
        std::env::remove_var("OPENBLAS_CORETYPE");
        std::env::remove_var("OPENBLAS_L2_SIZE");
        for variable in [
            "OPENBLAS_NUM_THREADS",
            "MKL_NUM_THREADS",
            "OMP_NUM_THREADS",
            "RAYON_NUM_THREADS",
            "CANDLE_NUM_THREADS",
            "RTEN_NUM_THREADS",
            "MATMUL_NUM_THREADS",
            // JAX takes the width of its pool from here.
            "NPROC",
        ] {
            std::env::set_var(variable, &threads);
        }
        // Idle threads spin for 2^n cycles, and for so many milliseconds: long enough for their own next
        // call, short enough to sleep before the next contender's turn.
        std::env::set_var("OPENBLAS_THREAD_TIMEOUT", "16");
        std::env::set_var("KMP_BLOCKTIME", "5");
        std::env::set_var("MKL_DYNAMIC", "FALSE");
        std::env::set_var("MKL_THREADING_LAYER", "INTEL");
    }
}
