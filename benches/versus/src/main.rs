//! One training step of the MLP-ResNet: gristmill against PyTorch, round by round. See README.md beside this folder.

#[path = "../../common/mlp_resnet.rs"]
mod mlp_resnet;

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use clap::Parser;
use gristmill::Context;
use mlp_resnet::Step;

/// Races a training step of gristmill against PyTorch.
#[derive(Parser)]
struct Config {
    /// The Python that has PyTorch
    #[arg(long)]
    python: PathBuf,
    /// fused or default Adam of PyTorch
    #[arg(long, default_value = "fused")]
    optimizer: String,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    #[arg(long, default_value_t = 100)]
    batch: usize,
    #[arg(long, default_value_t = 100)]
    hidden: usize,
    #[arg(long, default_value_t = 31)]
    rounds: usize,
    /// Steps of each contender in a round
    #[arg(long, default_value_t = 100)]
    steps: usize,
}

/// A Python process that runs steps on demand.
struct PyTorch {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl PyTorch {
    fn start(config: &Config) -> Result<Self, Box<dyn Error>> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/torch_step.py");
        let mut child = Command::new(&config.python)
            .args([script, "--optimizer", &config.optimizer])
            .args(["--threads", &config.threads.to_string(), "--batch", &config.batch.to_string()])
            .args(["--hidden", &config.hidden.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let to = child.stdin.take().ok_or("no pipe")?;
        let from = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        let mut this = Self { child, to, from };
        match this.line()?.as_str() {
            "ready" => Ok(this),
            other => Err(format!("expected ready, got {other:?}").into()),
        }
    }

    fn line(&mut self) -> Result<String, Box<dyn Error>> {
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Nanoseconds for this many steps.
    fn run(&mut self, steps: usize) -> Result<f64, Box<dyn Error>> {
        writeln!(self.to, "run {steps}")?;
        Ok(self.line()?.parse()?)
    }
}

impl Drop for PyTorch {
    fn drop(&mut self) {
        let _ = writeln!(self.to, "quit");
        let _ = self.child.wait();
    }
}

/// The value below which this fraction of the values lies.
fn quantile(values: &[f64], fraction: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * fraction).round() as usize]
}

fn race(config: &Config) -> Result<(), Box<dyn Error>> {
    let mut torch = PyTorch::start(config)?;
    let mut step = Step::new(config.batch, config.hidden)?;
    let mut ours = |steps: usize| -> Result<f64, Box<dyn Error>> {
        let start = Instant::now();
        for _ in 0..steps {
            step.run()?;
        }
        Ok(start.elapsed().as_nanos() as f64)
    };
    ours(20)?;
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for round in 0..config.rounds {
        if round % 2 == 0 {
            a.push(ours(config.steps)?);
            b.push(torch.run(config.steps)?);
        } else {
            b.push(torch.run(config.steps)?);
            a.push(ours(config.steps)?);
        }
    }
    let ratios: Vec<f64> = a.iter().zip(&b).map(|(ours, theirs)| theirs / ours).collect();
    let micros = |times: &[f64]| quantile(times, 0.5) / config.steps as f64 / 1e3;
    let isa = gristmill::context::settings()?.simd.isa();
    println!(
        "MLP-ResNet step, batch {}, hidden {}, {} thread(s), {isa}, {} rounds of {} steps",
        config.batch, config.hidden, config.threads, config.rounds, config.steps
    );
    println!("gristmill {:>8.0} µs (median)", micros(&a));
    println!("PyTorch   {:>8.0} µs (median), Adam {}", micros(&b), config.optimizer);
    println!(
        "PyTorch / gristmill, by round: median {:.2}, quartiles {:.2} and {:.2}",
        quantile(&ratios, 0.5),
        quantile(&ratios, 0.25),
        quantile(&ratios, 0.75)
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let config = Config::parse();
    Context::new().threads(config.threads).run(|| race(&config))?
}
