//! Trainings at the same time, and kernels under pools of the user's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gristmill::autograd::no_grad;
use gristmill::kernels::gemm::{MatMut, MatRef, gemm};
use gristmill::kernels::reduce::{self, Reduce};
use gristmill::nn::{
    self, BatchNorm1d, Dropout, GroupNorm, LayerNorm, Linear, Module, PReLU, RMSNorm, ReLU, Residual,
    Sequential,
};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Context, Result, Rng, Tensor};
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

/// It compiles: that is the test.
#[test]
fn modules_and_what_they_hold_may_be_shared_by_threads() {
    fn shared<M: Send + Sync + ?Sized>() {}
    macro_rules! all_shared {
        ($($generic:ident),+; $($plain:ident),+) => {
            $(shared::<nn::$generic<f32>>(); shared::<nn::$generic<f64>>();)+
            $(shared::<nn::$plain>();)+
        };
    }
    all_shared!(
        BatchNorm1d, Embedding, GroupNorm, LayerNorm, Linear, ModuleList, PReLU, Parameter, RMSNorm, Residual,
        Sequential, State, StateDict;
        Dropout, Flatten, GELU, Identity, LeakyReLU, LogSoftmax, Mode, ReLU, SiLU, Sigmoid, Softmax, Tanh, Trace
    );
    shared::<Tensor<f64>>();
    shared::<dyn Module>();
    shared::<Box<dyn Module<f64>>>();
    fn every_module_is<M: Module>() {
        shared::<M>();
    }
    every_module_is::<Sequential>();
}

/// A network with every layer that has parameters, and one that draws; [rows, 24] → [rows, 5].
fn every_layer() -> Result<Sequential> {
    let mut rng = Rng::seed(9);
    let inner = Sequential::new()
        .add(Linear::new(32, 16, &mut rng)?)
        .add(BatchNorm1d::new(16)?)
        .add(ReLU)
        .add(Dropout::new(0.3, &mut rng)?)
        .add(Linear::new(16, 32, &mut rng)?.without_bias())
        .add(LayerNorm::new(32)?);
    let model = Sequential::new()
        .add(Linear::new(24, 32, &mut rng)?)
        .add(PReLU::new(32)?)
        .add(Residual::new(inner))
        .add(RMSNorm::new(32)?)
        .add(GroupNorm::new(4, 32)?)
        .add(nn::GELU)
        .add(Linear::new(32, 5, &mut rng)?);
    // Running statistics that are not 0 and 1.
    model.forward(&Tensor::randn([64, 24], 0.0, 1.0, &mut rng)?)?;
    model.eval();
    Ok(model)
}

#[test]
fn eight_threads_through_one_model_get_the_bits_of_one() {
    let model = Arc::new(every_layer().unwrap());
    let request = |i: u64| Tensor::from_slice(&noise::<f32>(3 * 24, i), [3, 24]).unwrap();
    let alone: Vec<_> = (0..40).map(|i| no_grad(|| model.forward(&request(i))).unwrap()).collect();
    let before = model.state_dict();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (model, alone) = (model.clone(), &alone);
            scope.spawn(move || {
                let serve = |i: usize| model.forward(&request(i as u64)).unwrap();
                for i in (0..400).map(|i| (i * 7 + thread * 5) % 40) {
                    // With and without a tape, on one thread and on all.
                    let logits = match i % 3 {
                        0 => serve(i),
                        1 => no_grad(|| serve(i)),
                        _ => Context::new().threads(1).run(|| no_grad(|| serve(i))).unwrap(),
                    };
                    assert!(logits.equals(&alone[i]), "request {i} on thread {thread}");
                    assert_eq!(logits.is_tracked(), i % 3 == 0);
                }
            });
        }
    });
    let after = model.state_dict();
    assert!(before.iter().all(|(name, value)| value.equals(&after[name])));
    assert!(model.parameters().iter().all(|parameter| parameter.grad().is_none()));
}

/// Who runs a model while it learns changes nothing of what it learns. That nobody sees half of a change of a
/// parameter is tested where its value lives.
#[test]
fn a_model_learns_the_same_while_others_run_it() {
    let train = |model: &Linear| -> Result<Vec<u32>> {
        let mut optimizer = Adam::new(model.parameters()).lr(0.01);
        let x = Tensor::from_slice(&noise::<f32>(16 * 20, 1), [16, 20])?;
        for _step in 0..300 {
            optimizer.zero_grad();
            model.forward(&x)?.square()?.sum()?.backward()?;
            optimizer.step()?;
        }
        Ok(model.state_dict().values().flat_map(Tensor::to_vec).map(f32::to_bits).collect())
    };
    let make = || Linear::new(20, 8, &mut Rng::seed(2)).unwrap();
    let expected = train(&make()).unwrap();
    let (model, over) = (make(), AtomicBool::new(false));
    let learned = std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let x = Tensor::ones([1, 20]).unwrap();
                while !over.load(Ordering::Relaxed) {
                    let y = no_grad(|| model.forward(&x)).unwrap();
                    assert!(y.to_vec().iter().all(|y| y.is_finite()));
                }
            });
        }
        let learned = train(&model);
        over.store(true, Ordering::Relaxed);
        learned.unwrap()
    });
    assert!(learned == expected);
}

/// Two threads train through one layer on the same batch: no batch is lost in the running statistics.
#[test]
fn running_statistics_count_the_batches_of_all_threads() {
    let x = Tensor::from_slice(&noise::<f32>(50 * 6, 3), [50, 6]).unwrap();
    let layer = || BatchNorm1d::<f32>::new(6).and_then(|layer| layer.momentum(1e-3)).unwrap();
    let (one, both) = (layer(), layer());
    let forward = |layer: &BatchNorm1d| (0..300).for_each(|_| drop(layer.forward(&x).unwrap()));
    forward(&one);
    forward(&one);
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(|| forward(&both)))));
    let ((mean, var), (shared_mean, shared_var)) = (one.running_stats(), both.running_stats());
    assert!(mean.equals(&shared_mean) && var.equals(&shared_var));
}

#[test]
fn masks_of_dropout_are_the_same_ones_whoever_draws_them() {
    let x: Tensor = Tensor::ones([4, 64]).unwrap();
    let layer = || Dropout::new(0.5, &mut Rng::seed(8)).unwrap();
    let draw = |layer: &Dropout, times: usize| -> Vec<Vec<u32>> {
        let bits = || layer.forward(&x).unwrap().to_vec().into_iter().map(f32::to_bits).collect();
        (0..times).map(|_| bits()).collect()
    };
    let (mut alone, shared) = (draw(&layer(), 100), layer());
    let mut together: Vec<_> = std::thread::scope(|scope| {
        let threads = [0; 2].map(|_| scope.spawn(|| draw(&shared, 50)));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    alone.sort();
    together.sort();
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
