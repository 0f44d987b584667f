//! Threads of one process that do not know each other: trainings of their own, and requests to one model.
//!
//! Rounds are interleaved, and each figure is a median over them: a machine that is slower for a while is
//! slower for all.

use std::sync::{Arc, Barrier};
use std::time::Instant;

use gristmill::autograd::no_grad;
use gristmill::nn::{BatchNorm1d, Dropout, Linear, Module, ReLU, Residual, Sequential};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Context, Error, Result, Rng, Tensor};

/// Several times the cores of a small machine.
const SERVERS: [usize; 3] = [1, 2, 8];
const TRAININGS: [usize; 3] = [1, 2, 4];

const ROUNDS: usize = 7;
/// So long, in microseconds, that it does not matter where the system first puts the threads.
const MICROSECONDS: usize = 150_000;

/// Threads for the kernels of one job.
#[derive(Clone, Copy, PartialEq)]
enum Kernels {
    OneThread,
    AllThreads,
}

impl Kernels {
    fn run<R>(self, f: impl FnOnce() -> R) -> Result<R> {
        match self {
            Self::OneThread => Context::new().threads(1).run(f),
            Self::AllThreads => Ok(f()),
        }
    }
}

/// Prints how the throughput of several trainings compares with that of one, and how that of several servers
/// does.
///
/// # Errors
/// Those of a training.
pub fn run(test: bool) -> Result<()> {
    let (rounds, microseconds) = if test { (1, 1000) } else { (ROUNDS, MICROSECONDS) };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} cores, {rounds} rounds; throughput of n threads / that of one");
    for Job { name, network, step, request } in JOBS {
        let (steps, count) = (microseconds / step + 1, microseconds / request + 1);
        for (kernels, words) in
            [(Kernels::OneThread, "Context::threads(1)"), (Kernels::AllThreads, "all threads")]
        {
            let label = format!("training {name}, {words}");
            compare(&label, rounds, &TRAININGS, steps, &|threads| {
                trainings(threads, steps, kernels, network)
            })?;
        }
        let model = Arc::new(network(&mut Rng::seed(4))?);
        model.eval();
        let label = format!("inference {name}, one sample");
        compare(&label, rounds, &SERVERS, count, &|threads| requests(threads, count, &model))?;
    }
    Ok(())
}

/// Times of jobs for each number of threads, `work` units on each; the median's throughput against that of
/// one thread.
fn compare(
    label: &str,
    rounds: usize,
    numbers: &[usize],
    work: usize,
    job: &dyn Fn(usize) -> Result<f64>,
) -> Result<()> {
    let mut seconds = vec![Vec::with_capacity(rounds); numbers.len()];
    for _ in 0..rounds {
        for (seconds, &threads) in seconds.iter_mut().zip(numbers) {
            seconds.push(job(threads)?);
        }
    }
    let medians: Vec<f64> = seconds.iter_mut().map(|seconds| median(seconds)).collect();
    println!("{label}");
    for (&threads, &median) in numbers.iter().zip(&medians) {
        let each = median / (work * threads) as f64;
        let ratio = threads as f64 * medians[0] / median;
        println!("  {threads} threads  {:8.1} ms  {:8.2} µs each  × {ratio:.2}", median * 1e3, each * 1e6);
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

type Network = fn(&mut Rng) -> Result<Sequential>;

/// A network, and what a step and a request take, about, in microseconds.
struct Job {
    name: &'static str,
    network: Network,
    step: usize,
    request: usize,
}

/// Bound by arithmetic, and bound by the number of calls.
const JOBS: [Job; 2] = [
    Job { name: "784-128-64-10, 100 rows", network: classifier, step: 400, request: 10 },
    Job { name: "8-32-32-4, 16 rows", network: small, step: 7, request: 1 },
];

pub fn classifier(rng: &mut Rng) -> Result<Sequential> {
    let inner = Sequential::new()
        .add(Linear::new(128, 64, rng)?)
        .add(BatchNorm1d::new(64)?)
        .add(ReLU)
        .add(Dropout::new(0.1, rng)?)
        .add(Linear::new(64, 128, rng)?);
    Ok(Sequential::new()
        .add(Linear::new(784, 128, rng)?)
        .add(ReLU)
        .add(Residual::new(inner))
        .add(Linear::new(128, 64, rng)?)
        .add(ReLU)
        .add(Linear::new(64, 10, rng)?))
}

fn small(rng: &mut Rng) -> Result<Sequential> {
    Ok(Sequential::new()
        .add(Linear::new(8, 32, rng)?)
        .add(ReLU)
        .add(Linear::new(32, 32, rng)?)
        .add(ReLU)
        .add(Linear::new(32, 4, rng)?))
}

/// Inputs and outputs of a network, from its first and its last layer.
fn sizes(model: &Sequential) -> (usize, usize) {
    let parameters = model.parameters();
    let first = parameters[0].value().shape()[1];
    (first, parameters[parameters.len() - 1].len())
}

/// Runs `job` on so many threads at once; the seconds from the start of all to the end of the last, without
/// what `prepare` takes.
fn at_once<S>(
    threads: usize,
    prepare: impl Fn(usize) -> Result<S> + Sync,
    job: impl Fn(&mut S) -> Result<()> + Sync,
) -> Result<f64> {
    let (ready, done) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
    std::thread::scope(|scope| {
        let (ready, done, prepare, job) = (&ready, &done, &prepare, &job);
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let mut state = prepare(thread);
                    ready.wait();
                    let result = state.as_mut().map_or(Ok(()), job);
                    done.wait();
                    state.and(result)
                })
            })
            .collect();
        ready.wait();
        let start = Instant::now();
        done.wait();
        let seconds = start.elapsed().as_secs_f64();
        for thread in threads {
            thread.join().expect("a job does not panic")?;
        }
        Ok(seconds)
    })
}

/// Independent trainings, each on a thread of its own with a model of its own.
fn trainings(threads: usize, steps: usize, kernels: Kernels, network: Network) -> Result<f64> {
    struct Training {
        model: Sequential,
        optimizer: Adam,
        x: Tensor,
        labels: Vec<usize>,
    }
    fn run(training: &mut Training, steps: usize) -> Result<()> {
        let Training { model, optimizer, x, labels } = training;
        for _ in 0..steps {
            optimizer.zero_grad();
            model.forward(x)?.cross_entropy(labels)?.backward()?;
            optimizer.step()?;
        }
        Ok(())
    }
    let prepare = |thread: usize| {
        let mut rng = Rng::seed(thread as u64);
        let model = network(&mut rng)?;
        let optimizer = Adam::new(model.parameters()).lr(1e-3);
        let (inputs, outputs) = sizes(&model);
        let rows = if inputs > 100 { 100 } else { 16 };
        let x = Tensor::rand([rows, inputs], 0.0, 1.0, &mut rng)?;
        let labels = (0..rows).map(|row| row * 7 % outputs).collect();
        let mut training = Training { model, optimizer, x, labels };
        kernels.run(|| run(&mut training, 3))??;
        Ok(training)
    };
    at_once(threads, prepare, |training| kernels.run(|| run(training, steps))?)
}

/// Requests of one sample each, from so many threads to one model; the logits are those of one thread alone.
fn requests(threads: usize, requests: usize, model: &Arc<Sequential>) -> Result<f64> {
    let alone = |f: &mut dyn FnMut() -> Result<()>| Context::new().threads(1).run(|| no_grad(f))?;
    let prepare = |thread: usize| {
        let x = Tensor::rand([1, sizes(model).0], 0.0, 1.0, &mut Rng::seed(thread as u64))?;
        let mut expected = None;
        alone(&mut || {
            expected = Some(model.forward(&x)?);
            Ok(())
        })?;
        Ok((x, expected, model.clone()))
    };
    at_once(threads, prepare, |(x, expected, model)| {
        alone(&mut || {
            for _ in 0..requests {
                let logits = model.forward(x)?;
                if !expected.as_ref().is_some_and(|expected| logits.equals(expected)) {
                    return Err(Error::value("jobs", "logits differ from those of one thread"));
                }
            }
            Ok(())
        })
    })
}
