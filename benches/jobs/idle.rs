//! What a process costs while it has nothing to do: trainings with pauses, as in a control loop.

use std::time::{Duration, Instant};

use gristmill::nn::Module;
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Context, Result, Rng, Tensor};

use super::threads::classifier;

/// Steps each second, and for how long.
const STEPS_PER_SECOND: u32 = 10;
const SECONDS: u32 = 5;

/// Prints the processor time of a training of ten steps a second, and how much of it is not the steps': what
/// helping threads spin. A percentage is one of a core.
///
/// # Errors
/// Those of a training.
pub fn run(test: bool) -> Result<()> {
    let steps = if test { 3 } else { STEPS_PER_SECOND * SECONDS };
    let pause = if test { Duration::from_millis(2) } else { Duration::from_secs(1) / STEPS_PER_SECOND };
    for (words, spin) in [("200 µs", Duration::from_micros(200)), ("0", Duration::ZERO)] {
        let (paused, busy) = Context::new().spin(spin).run(|| -> Result<(f64, f64)> {
            let mut rng = Rng::seed(4);
            let model = classifier(&mut rng)?;
            let mut optimizer = Adam::new(model.parameters()).lr(1e-3);
            let x = Tensor::rand([100, 784], 0.0, 1.0, &mut rng)?;
            let labels: Vec<usize> = (0..100).map(|row| row * 7 % 10).collect();
            let mut step = || -> Result<()> {
                optimizer.zero_grad();
                model.forward(&x)?.cross_entropy(&labels)?.backward()?;
                optimizer.step()
            };
            (0..3).try_for_each(|_| step())?;
            let start = processor_seconds();
            let begun = Instant::now();
            for number in 1..=steps {
                step()?;
                std::thread::sleep((pause * number).saturating_sub(begun.elapsed()));
            }
            let paused = (processor_seconds() - start) / begun.elapsed().as_secs_f64();
            let start = processor_seconds();
            (0..steps).try_for_each(|_| step())?;
            let busy = (processor_seconds() - start) / (pause * steps).as_secs_f64();
            Ok((paused, busy))
        })??;
        println!(
            "{} steps a second, spin {words}: {:.2} % of a core, the same steps without pauses {:.2} %",
            (1.0 / pause.as_secs_f64()).round(),
            100.0 * paused,
            100.0 * busy
        );
    }
    Ok(())
}

/// Of all threads of this process so far.
fn processor_seconds() -> f64 {
    #[cfg(unix)]
    {
        // SAFETY: plain numbers, which the call writes.
        let usage = unsafe {
            let mut usage = std::mem::zeroed::<libc::rusage>();
            libc::getrusage(libc::RUSAGE_SELF, &mut usage);
            usage
        };
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        seconds(usage.ru_utime) + seconds(usage.ru_stime)
    }
    #[cfg(not(unix))]
    f64::NAN
}
