//! Trainings at the same time, and kernels under pools of the user's.

use gristmill::kernels::gemm::{MatMut, MatRef, gemm};
use gristmill::kernels::reduce::{self, Reduce};
use gristmill::nn::{BatchNorm1d, Dropout, Linear, Module, ReLU, Residual, Sequential};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Result, Rng, Tensor};
use rayon::prelude::*;

use crate::common::noise;

/// All bits of a model after some steps.
fn train(seed: u64) -> Result<Vec<u32>> {
    let mut rng = Rng::seed(seed);
    let inner = Sequential::new()
        .add(Linear::new(64, 32, &mut rng)?)
        .add(BatchNorm1d::new(32)?)
        .add(ReLU)
        .add(Dropout::new(0.2, &mut rng)?)
        .add(Linear::new(32, 64, &mut rng)?);
    let model = Sequential::new()
        .add(Linear::new(300, 64, &mut rng)?)
        .add(Residual::new(inner))
        .add(Linear::new(64, 10, &mut rng)?);
    let mut optimizer = Adam::new(model.parameters()).lr(0.01).weight_decay(0.01);
    let x = Tensor::from_slice(&noise::<f32>(128 * 300, seed), [128, 300])?;
    let labels: Vec<usize> = (0..128).map(|i| (i * 7 + seed as usize) % 10).collect();
    for _step in 0..12 {
        optimizer.zero_grad();
        model.forward(&x)?.cross_entropy(&labels)?.backward()?;
        optimizer.step()?;
    }
    Ok(model.state_dict().values().flat_map(Tensor::to_vec).map(f32::to_bits).collect())
}

#[test]
fn eight_trainings_at_once_give_the_bits_of_eight_runs() {
    let alone: Vec<_> = (0..8).map(|seed| train(seed).unwrap()).collect();
    assert_ne!(alone[0], alone[1]);
    let together: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|seed| scope.spawn(move || train(seed).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(alone == together);
}

/// What has begun on one thread ends on another: models, optimizers and schedules are not tied to theirs.
#[test]
fn a_training_moves_to_another_thread() {
    type Training = (Box<dyn Module>, Box<dyn Optimizer>, Tensor);
    let begin = || -> Result<Training> {
        let mut rng = Rng::seed(5);
        let model =
            Sequential::new().add(Linear::new(20, 10, &mut rng)?).add(BatchNorm1d::new(10)?).add(ReLU);
        let optimizer = Adam::new(model.parameters()).lr(0.01).clip_grad_norm(1.0);
        let x = Tensor::randn([30, 20], 0.0, 1.0, &mut rng)?;
        Ok((Box::new(model), Box::new(optimizer), x))
    };
    let steps = |(model, optimizer, x): &mut Training| -> Result<Vec<f32>> {
        for _step in 0..3 {
            optimizer.zero_grad();
            model.forward(x)?.square()?.sum()?.backward()?;
            optimizer.step()?;
        }
        Ok(model.parameters().iter().flat_map(|parameter| parameter.value().to_vec()).collect())
    };
    let (mut here, mut there) = (begin().unwrap(), begin().unwrap());
    let expected = [steps(&mut here).unwrap(), steps(&mut here).unwrap()];
    assert!(expected[0] != expected[1]);
    assert!(steps(&mut there).unwrap() == expected[0]);
    let (last, _) = std::thread::spawn(move || (steps(&mut there).unwrap(), there)).join().unwrap();
    assert!(last == expected[1]);
}

/// A product that two threads share and a sum of two million numbers.
fn kernels() -> Vec<u32> {
    let (a, b) = (noise::<f32>(300 * 300, 1), noise::<f32>(300 * 300, 2));
    let mut c = vec![0.0; 300 * 300];
    let [a, b] = [&a, &b].map(|x| MatRef::row_major(x, 300, 300).unwrap());
    gemm(1.0, a, b, 0.0, MatMut::row_major(&mut c, 300, 300).unwrap()).unwrap();
    c.push(reduce::all(Reduce::Sum, &noise::<f32>(2_000_000, 3)).unwrap());
    c.into_iter().map(f32::to_bits).collect()
}

#[test]
fn kernels_inside_pools_joins_and_jobs_neither_wait_forever_nor_change_bits() {
    let expected = kernels();
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    // One thread, as many as cores, and four times as many.
    for threads in [1, 2, 8] {
        let pool = pool(threads);
        assert!(pool.install(kernels) == expected, "a pool of {threads}");
        let (a, (b, c)) = pool.install(|| rayon::join(kernels, || rayon::join(kernels, kernels)));
        assert!([a, b, c].iter().all(|x| *x == expected), "joins in a pool of {threads}");
        let many: Vec<_> = pool.install(|| (0..12).into_par_iter().map(|_| kernels()).collect());
        assert!(many.iter().all(|x| *x == expected), "jobs in a pool of {threads}");
    }
    // A pool inside a job of another pool, from several threads of nobody's.
    let (outer, inner) = (pool(2), pool(3));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(outer.install(|| inner.install(kernels)) == expected));
        }
    });
}

#[test]
fn a_training_that_panics_leaves_the_others_alone() {
    let expected = train(3).unwrap();
    let died = std::thread::spawn(|| {
        let x: Tensor = Tensor::ones([4, 4]).unwrap().requires_grad();
        let _recorded = x.exp().unwrap();
        panic!("the user's");
    });
    assert!(died.join().is_err());
    let caught = std::panic::catch_unwind(|| {
        let x: Tensor = Tensor::ones([4, 4]).unwrap().requires_grad();
        let _recorded = x.exp().unwrap();
        panic!("the user's, on this thread");
    });
    assert!(caught.is_err());
    assert!(train(3).unwrap() == expected);
}
