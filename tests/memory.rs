//! Everything that is `unsafe`, at sizes that Miri can interpret: kernels, packing and views, storage, tape, threads.
//!
//! `cargo test` runs it like any other test; `cargo +nightly miri test --test memory` looks at each access, on the
//! portable instruction set.

#[path = "registry/mod.rs"]
mod registry;

use gristmill::kernels::gemm::{MatMut, MatRef, PackedB, gemm, gemm_prepacked};
use gristmill::nn::{BatchNorm1d, Dropout, LayerNorm, Linear, Module, ReLU, Residual, Sequential};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Context, Element, Result, Rng, Tensor, buffer};
use registry::{Case, Draw, Special, kernels};

/// Calls it once and compares with the reference.
fn once<T: Element>(name: &str, case: &Case<T>) {
    let results = case.results().unwrap_or_else(|error| panic!("{name}, {}: {error}", case.what));
    case.check(&results).unwrap_or_else(|error| panic!("{name}: {error}"));
}

#[test]
fn every_kernel_once() {
    // Bytes give sizes: a few elements, and a little more than a register.
    let sizes: &[u8] = if cfg!(miri) { &[2, 17] } else { &[2, 17, 18, 35] };
    for kernel in kernels() {
        for &size in sizes {
            let bytes: Vec<u8> = (0..80).map(|i| if i % 2 == 0 { size } else { 0 }).collect();
            once(kernel.name, &(kernel.f32)(&mut Draw::new(&bytes, Special::No)));
            once(kernel.name, &(kernel.f64)(&mut Draw::new(&bytes, Special::No)));
        }
    }
}

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

#[test]
fn a_training_goes_through_tape_and_pool() -> Result<()> {
    let mut rng = Rng::seed(1);
    let inner = Sequential::new()
        .add(Linear::new(6, 5, &mut rng)?)
        .add(BatchNorm1d::new(5)?)
        .add(ReLU)
        .add(Dropout::new(0.5, &mut rng)?)
        .add(Linear::new(5, 6, &mut rng)?);
    let model =
        Sequential::new().add(Residual::new(inner)).add(LayerNorm::new(6)?).add(Linear::new(6, 3, &mut rng)?);
    let mut optimizer = Adam::new(model.parameters()).clip_grad_norm(1.0);
    let x: Tensor = Tensor::randn([8, 6], 0.0, 1.0, &mut rng)?;
    let mut losses = Vec::new();
    for _step in 0..3 {
        optimizer.zero_grad();
        let loss = model.forward(&x)?.cross_entropy(&[0, 1, 2, 0, 1, 2, 0, 1])?;
        loss.backward()?;
        optimizer.step()?;
        losses.push(loss.item()?);
    }
    assert!(losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
    // Memory that is free goes back; what is in use stays.
    buffer::free_memory();
    assert_eq!(x.to_vec().len(), 48);
    Ok(())
}

#[test]
fn views_share_storage_until_it_is_written() -> Result<()> {
    let x: Tensor = Tensor::arange(24)?.reshape([2, 3, 4])?;
    let view = x.transpose(0, 2)?;
    assert_eq!(view.shape(), [4, 3, 2]);
    assert_eq!(view.to_vec()[..4], [0.0, 12.0, 4.0, 16.0]);
    let part = x.index((1, 1..3))?;
    drop((x, view));
    assert_eq!(part.to_vec(), [16.0, 17.0, 18.0, 19.0, 20.0, 21.0, 22.0, 23.0]);
    // On another thread, where it is dropped, too.
    let sum = std::thread::spawn(move || part.sum().and_then(|sum| sum.item())).join().expect("no panic")?;
    assert_eq!(sum, 156.0);
    Ok(())
}

#[test]
fn a_tape_is_dropped_in_the_middle() -> Result<()> {
    for keep in [true, false] {
        let x = Tensor::from_slice(&[1.0_f64, 2.0, 3.0], [3])?.requires_grad();
        let y = x.exp()?.mul(&x)?;
        let z = y.sum()?;
        if keep {
            z.backward()?;
            assert_eq!(x.grad().expect("a gradient").len(), 3);
        }
    }
    Ok(())
}
