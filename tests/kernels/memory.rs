//! Everything that is `unsafe` in the kernels, at sizes that Miri can interpret:
//! `cargo +nightly miri test --test kernels --test tensors memory::` looks at each access, on the portable
//! instruction set.

use gristmill::kernels::gemm::{MatMut, MatRef, PackedB, gemm, gemm_prepacked};
use gristmill::{Context, Element};

use crate::registry::{self, Case, Draw, Kernel, Special};

/// Calls it once and compares with the reference.
fn once<T: Element>(name: &str, case: &Case<T>) {
    let results = case.results().unwrap_or_else(|error| panic!("{name}, {}: {error}", case.what));
    case.check(&results).unwrap_or_else(|error| panic!("{name}: {error}"));
}

fn every_kernel(family: &[Kernel]) {
    // Bytes give sizes: a few elements, and a little more than a register.
    let sizes: &[u8] = if cfg!(miri) { &[2, 17] } else { &[2, 17, 18, 35] };
    for kernel in family {
        // Miri takes a while.
        println!("{}", kernel.name);
        for &size in sizes {
            let bytes: Vec<u8> = (0..80).map(|i| if i % 2 == 0 { size } else { 0 }).collect();
            once(kernel.name, &(kernel.f32)(&mut Draw::new(&bytes, Special::No)));
            once(kernel.name, &(kernel.f64)(&mut Draw::new(&bytes, Special::No)));
        }
    }
}

/// A test for each family, so that several can run beside each other under Miri.
macro_rules! once {
    ($($family:ident)+) => {
        $(#[test]
        fn $family() {
            every_kernel(registry::$family::KERNELS);
        })+

        #[test]
        fn no_family_is_forgotten() {
            let here = [$(registry::$family::KERNELS.len()),+].iter().sum::<usize>();
            assert_eq!(here, registry::kernels().count());
        }
    };
}
once! { convs losses maps norms others pools products reductions softmax updates zips }

/// Rows and columns that lie neither way without gaps, packed on several threads, k in more than one block.
#[test]
fn products_are_packed_and_read_in_place() {
    let [m, k, n] = [5, 259, 34];
    let fill = |len: usize| -> Vec<f32> { (0..len).map(|i| (i % 7) as f32 - 3.0).collect() };
    let (a, b) = (fill(3 * m * k), fill(2 * k * n));
    let a = MatRef::new(&a, m, k, 3 * k as isize, 3).unwrap();
    let b = MatRef::new(&b, k, n, 2, 2 * k as isize).unwrap();
    let exact = |i: usize, j: usize| (0..k).map(|p| a.get(i, p) * b.get(p, j)).sum::<f32>();
    Context::new()
        .threads(2)
        .run(|| {
            let (mut c, mut again) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
            gemm(1.0, a, b, 0.0, MatMut::row_major(&mut c, m, n).unwrap()).unwrap();
            let packed = PackedB::new(b).unwrap();
            let to = MatMut::row_major(&mut again, m, n).unwrap();
            gemm_prepacked(1.0, a, &packed, 0.0, Default::default(), to).unwrap();
            for i in 0..m * n {
                // Small integers: no rounding.
                assert_eq!([c[i], again[i]], [exact(i / n, i % n); 2]);
            }
        })
        .unwrap();
}
