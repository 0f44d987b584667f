//! What floating-point environment the process has set is no matter to a training.

use gristmill::kernels::update::Rule;
use gristmill::nn::{BatchNorm1d, Dropout, GELU, LayerNorm, Linear, Module, ReLU, Residual, Sequential};
use gristmill::optim::{
    self, Adagrad, Adam, AdamW, CosineAnnealingLR, LRScheduler, OneCycleLR, Optimizer, RMSprop, SGD,
};
use gristmill::{Context, Result, Rng, Subnormals, Tensor};

use crate::common::environment;

/// Optimizers with options, before every rule with a decay.
const OPTIMIZERS: usize = 5;

/// All bits of a model and its optimizer after some steps with this optimizer, from the initial weights on.
fn train(which: usize) -> Result<Vec<u32>> {
    let mut rng = Rng::seed(3);
    let inner = Sequential::new()
        .add(Linear::new(48, 24, &mut rng)?)
        .add(BatchNorm1d::new(24)?)
        .add(ReLU)
        .add(Dropout::new(0.2, &mut rng)?)
        .add(Linear::new(24, 48, &mut rng)?)
        .add(LayerNorm::new(48)?);
    let model = Sequential::new()
        .add(Linear::new(70, 48, &mut rng)?)
        .add(GELU)
        .add(Residual::new(inner))
        .add(Linear::new(48, 7, &mut rng)?);
    let parameters = model.parameters();
    let mut optimizer: Box<dyn Optimizer> = match which {
        0 => Box::new(Adam::new(parameters).weight_decay(0.03).clip_grad_norm(0.7)),
        1 => Box::new(AdamW::new(parameters).amsgrad(true)),
        2 => Box::new(SGD::new(parameters, 0.1).momentum(0.9).weight_decay(0.01)),
        3 => Box::new(RMSprop::new(parameters).momentum(0.3).centered(true)),
        4 => Box::new(Adagrad::new(parameters).lr_decay(0.01)),
        _ => {
            let mut rule = Rule::all()[which - OPTIMIZERS];
            *rule.lr_and_decay().1 = 0.1;
            optim::of_rule(rule, parameters)
        }
    };
    let schedules: [Box<dyn LRScheduler>; 2] =
        [Box::new(CosineAnnealingLR::new(0.013, 7)), Box::new(OneCycleLR::new(0.013, 7))];
    let x = Tensor::randn([37, 70], 0.3, 1.0, &mut rng)?;
    let labels: Vec<usize> = (0..37).map(|i| i * 5 % 7).collect();
    for step in 0..6 {
        optimizer.set_lr(schedules[which % 2].lr(step)?);
        optimizer.zero_grad();
        let logits = model.forward(&x)?;
        let loss = logits.cross_entropy(&labels)?.add(&logits.square()?.mean()?.mul_scalar(0.1)?)?;
        loss.backward()?;
        optimizer.step()?;
    }
    let (model, optimizer) = (model.state_dict(), optimizer.state_dict());
    let numbers = model.values().chain(optimizer.tensors().values()).flat_map(Tensor::to_vec);
    Ok(numbers.map(f32::to_bits).collect())
}

#[test]
fn a_training_has_the_same_bits_in_every_floating_point_environment() {
    for which in 0..OPTIMIZERS + Rule::all().len() {
        for threads in [1, 2] {
            let run = || Context::new().threads(threads).run(|| train(which)).unwrap().unwrap();
            let expected = run();
            for within in environment::all() {
                let bits = environment::run(within, run);
                assert!(bits == expected, "optimizer {which}, {threads} threads, {}", within.0);
                // What lies between the kernels, a bound of initial weights or a mean, rounds as the process
                // says, but meets no subnormal numbers.
                if within.0.starts_with("flush") {
                    assert!(environment::run(within, || train(which)).unwrap() == expected, "{}", within.0);
                }
            }
        }
    }
}

#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
#[test]
fn subnormals_are_kept_or_flushed_as_the_context_says() -> Result<()> {
    let half = || -> Result<Vec<f32>> {
        let x = Tensor::<f32>::full([100_000], f32::MIN_POSITIVE)?;
        Ok(x.mul_scalar(0.5)?.to_vec())
    };
    let flush = Context::new().subnormals(Subnormals::Flush);
    for within in environment::all() {
        let kept = environment::run(within, half)?;
        assert!(kept.iter().all(|&x| x == f32::MIN_POSITIVE / 2.0), "{}", within.0);
        let flushed = environment::run(within, || flush.run(half))??;
        assert!(flushed.iter().all(|&x| x.to_bits() == 0), "{}", within.0);
    }
    Ok(())
}
