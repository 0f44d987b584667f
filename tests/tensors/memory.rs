//! Everything that is `unsafe` in storage, views, tape and threads, at sizes that Miri can interpret:
//! `cargo +nightly miri test --test kernels --test tensors memory::` looks at each access, on the portable
//! instruction set.

use gristmill::nn::{BatchNorm1d, Dropout, LayerNorm, Linear, Module, ReLU, Residual, Sequential};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Result, Rng, Tensor, buffer};

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
