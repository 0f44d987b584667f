//! What a training step takes from the system: nothing, from the second step on.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use gristmill::buffer::{Buffer, free_memory, limit_free_memory, release_memory};
use gristmill::data::{DataLoader, LabeledTensors};
use gristmill::nn::{BatchNorm1d, Dropout, Flatten, LayerNorm, Linear, Module, ReLU, Residual, Sequential};
use gristmill::optim::{Adam, Optimizer};
use gristmill::{Context, Result, Rng, Tensor};

/// The system's allocator, which counts.
struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicIsize = AtomicIsize::new(0);

// SAFETY: hands on to the system what it is given.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The network of the main job with both normalisations.
fn network() -> Result<Sequential> {
    let mut rng = Rng::seed(4);
    let inner = Sequential::new()
        .add(Linear::new(32, 16, &mut rng)?)
        .add(BatchNorm1d::new(16)?)
        .add(ReLU)
        .add(Dropout::new(0.1, &mut rng)?)
        .add(Linear::new(16, 32, &mut rng)?)
        .add(LayerNorm::new(32)?);
    Ok(Sequential::new()
        .add(Flatten)
        .add(Linear::new(784, 32, &mut rng)?)
        .add(ReLU)
        .add(Residual::new(inner))
        .add(ReLU)
        .add(Linear::new(32, 10, &mut rng)?))
}

fn train(model: &Sequential, optimizer: &mut Adam, images: &Tensor, labels: &[usize]) -> Result<f32> {
    optimizer.zero_grad();
    let loss = model.forward(images)?.cross_entropy(labels)?;
    loss.backward()?;
    optimizer.step()?;
    loss.item()
}

/// What each step of three epochs allocated, its batch included.
fn epochs(prefetch: usize) -> Result<Vec<usize>> {
    let images = Tensor::rand([600, 28, 28, 1], 0.0, 1.0, &mut Rng::seed(1))?;
    let labels = (0..600).map(|i| i * 7 % 10).collect();
    let loader =
        DataLoader::new(LabeledTensors::new(&images, labels, 10)?).batch_size(20).shuffle(Rng::seed(2));
    let loader = loader.prefetch(prefetch);
    let model = network()?;
    let mut optimizer = Adam::new(model.parameters()).weight_decay(1e-3);
    let mut counts = Vec::with_capacity(90);
    for _ in 0..3 {
        let mut batches = loader.iter();
        loop {
            let before = CALLS.load(Ordering::Relaxed);
            let Some(batch) = batches.next() else { break };
            let (images, labels) = batch?;
            train(&model, &mut optimizer, &images, &labels)?;
            counts.push(CALLS.load(Ordering::Relaxed) - before);
        }
    }
    Ok(counts)
}

fn from_the_second_step_on_nothing_is_allocated() -> Result<()> {
    Context::new().threads(1).run(|| {
        let counts = epochs(0)?;
        assert!(counts[0] > 0 && counts[1..].iter().all(|&count| count == 0), "{counts:?}");
        // The thread of an epoch allocates when it starts, and both sides when they wait for the first time:
        // this may be in any step, but it is little and does not grow with the steps.
        let counts = epochs(2)?;
        let nothing = counts.iter().filter(|&&count| count == 0).count();
        assert!(nothing >= 70 && counts[30..].iter().sum::<usize>() <= 40, "{counts:?}");
        Ok(())
    })?
}

/// What `read` says after each of the first steps on one batch; before them, too.
fn readings(threads: usize, steps: usize, read: fn() -> isize) -> Result<Vec<isize>> {
    let images = Tensor::rand([100, 784], 0.0, 1.0, &mut Rng::seed(1))?;
    let labels: Vec<usize> = (0..100).map(|i| i % 10).collect();
    let mut readings = Vec::with_capacity(steps + 1);
    Context::new().threads(threads).run(|| {
        let model = network()?;
        let mut optimizer = Adam::new(model.parameters());
        readings.push(read());
        for _ in 0..steps {
            train(&model, &mut optimizer, &images, &labels)?;
            readings.push(read());
        }
        Ok(readings)
    })?
}

/// A thread that was sent to sleep is woken by a job of rayon, which is allocated; nothing else is.
fn with_two_threads_only_waking_one_allocates() -> Result<()> {
    let calls = readings(2, 200, || CALLS.load(Ordering::Relaxed) as isize)?;
    let mut counts: Vec<isize> = calls.windows(2).map(|calls| calls[1] - calls[0]).collect();
    counts[1..].sort_unstable();
    // Two for each kernel that is shared: a job and, now and then, a piece of rayon's queue.
    assert!(counts[1] == 0 && counts[199] <= 60, "{counts:?}");
    Ok(())
}

fn memory_after_1000_steps_is_that_after_10() -> Result<()> {
    let bytes = readings(1, 1000, || BYTES.load(Ordering::Relaxed))?;
    assert_eq!(bytes[1000], bytes[10]);
    Ok(())
}

/// The pool keeps what is freed up to the limit, and gives it back when asked.
fn free_memory_is_bounded_and_returned() {
    let megabyte = || Buffer::<f32>::full(250_000, 1.0);
    release_memory();
    assert_eq!(free_memory(), 0);
    drop([megabyte(), megabyte()]);
    assert_eq!(free_memory(), 2 << 20);
    let before = BYTES.load(Ordering::Relaxed);
    limit_free_memory(3 << 19);
    assert_eq!(before - BYTES.load(Ordering::Relaxed), 2 << 20);
    drop([megabyte(), megabyte(), megabyte()]);
    assert_eq!(free_memory(), 1 << 20);
    limit_free_memory(1 << 30);
    release_memory();
    assert_eq!(free_memory(), 0);
}

/// What threads keep for themselves counts, is bounded with the rest, and goes back when another thread asks
/// for it.
fn free_memory_of_all_threads_is_bounded_and_returned() {
    let kilobytes = |n: usize| Buffer::<f32>::full(n * 250, 1.0);
    release_memory();
    let start = BYTES.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let (to_thread, orders) = std::sync::mpsc::channel::<usize>();
        let (done, answers) = std::sync::mpsc::channel();
        let thread = scope.spawn(move || {
            for n in orders {
                drop([kilobytes(n), kilobytes(n)]);
                done.send(()).expect("the caller waits");
            }
        });
        let order = |n| {
            to_thread.send(n).expect("the thread waits");
            answers.recv().expect("the thread answers");
        };
        order(100);
        let two = free_memory();
        assert!((200_000..260_000).contains(&two), "{two}");
        // Here, there, and of those here some freed there.
        drop([kilobytes(100), kilobytes(100)]);
        assert_eq!(free_memory(), 2 * two);
        release_memory();
        assert_eq!(free_memory(), 0);
        // The limit is one for all: there is room for one of three blocks of each thread.
        limit_free_memory(two);
        drop(kilobytes(100));
        order(100);
        assert_eq!(free_memory(), two);
        // A thread that ends leaves its free blocks to the others.
        limit_free_memory(1 << 30);
        release_memory();
        order(100);
        drop(to_thread);
        // A scope ends when its threads have done their work; what they keep goes back a moment later.
        thread.join().expect("no panic");
    });
    let before = CALLS.load(Ordering::Relaxed);
    assert!(free_memory() >= 200_000);
    drop([kilobytes(100), kilobytes(100)]);
    assert_eq!(CALLS.load(Ordering::Relaxed), before);
    release_memory();
    assert_eq!(free_memory(), 0);
    let kept = BYTES.load(Ordering::Relaxed) - start;
    assert!(kept < 100_000, "{kept} bytes");
}

/// Each thread takes and gives back what it took itself: no step of a training waits for another training's
/// memory.
fn two_trainings_at_once_allocate_nothing_from_the_second_step_on() {
    let start = &std::sync::Barrier::new(2);
    let counts = std::thread::scope(|scope| {
        let train_alone = move || {
            let context = Context::new().threads(1);
            context.run(|| {
                let model = network()?;
                let mut optimizer = Adam::new(model.parameters());
                let images = Tensor::rand([100, 784], 0.0, 1.0, &mut Rng::seed(1))?;
                let labels: Vec<usize> = (0..100).map(|i| i % 10).collect();
                train(&model, &mut optimizer, &images, &labels)?;
                train(&model, &mut optimizer, &images, &labels)?;
                start.wait();
                let before = CALLS.load(Ordering::Relaxed);
                for _ in 0..100 {
                    train(&model, &mut optimizer, &images, &labels)?;
                }
                let after = CALLS.load(Ordering::Relaxed);
                start.wait();
                Ok::<usize, gristmill::Error>(after - before)
            })?
        };
        let threads = [scope.spawn(train_alone), scope.spawn(train_alone)];
        threads.map(|thread| thread.join().expect("no panic").expect("no error"))
    });
    // The first wait at the barrier may cost something.
    assert!(counts.iter().all(|&count| count <= 2), "{counts:?}");
}

/// Not in the harness of tests, whose thread allocates at times of its own. The threads of rayon do so when
/// they start: they come first.
fn main() -> Result<()> {
    with_two_threads_only_waking_one_allocates()?;
    free_memory_is_bounded_and_returned();
    free_memory_of_all_threads_is_bounded_and_returned();
    two_trainings_at_once_allocate_nothing_from_the_second_step_on();
    from_the_second_step_on_nothing_is_allocated()?;
    memory_after_1000_steps_is_that_after_10()
}
