//! Races gristmill against its rivals, interleaved round by round: see README.md beside this folder.

mod blas;
#[cfg(feature = "burn")]
mod burn;
#[cfg(feature = "candle")]
mod candle;
#[path = "../../common/dqn.rs"]
mod dqn;
mod families;
mod gemm;
mod job;
#[allow(dead_code)] // Benches use more of it.
#[path = "../../common/kernels.rs"]
mod kernels;
#[allow(dead_code)]
#[path = "../../common/mlp_resnet.rs"]
mod mlp_resnet;
mod python;
mod race;
mod report;
#[cfg(feature = "rten")]
mod rten;
#[allow(dead_code)]
#[path = "../../common/two_layer_net.rs"]
mod two_layer_net;

use std::path::PathBuf;
use std::time::Duration;

use blas::Blas;
use clap::Parser;
use families::{GROUPS, families};
use job::Job;
use kernels::Case;
use python::Python;
use race::{Contender, Pace, Race, Result, Score, native, yardstick};
use tempfile::NamedTempFile;

/// Races gristmill against its rivals, interleaved round by round.
#[derive(Parser)]
struct Config {
    /// Families (all, if none is given), or names of cases such as gemm/NT/f32/100x784x100
    what: Vec<String>,
    /// Threads of every contender; all of the machine, if not given
    #[arg(long)]
    threads: Option<usize>,
    /// Rounds; the figures are medians over them
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Milliseconds of a contender's turn, or one call, if that is longer
    #[arg(long, default_value_t = 4)]
    turn: u64,
    /// Only cases whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// The Python environment that setup.sh has made
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/python"))]
    python: PathBuf,
    /// Writes all figures
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes a page with tables and bars
    #[arg(long)]
    html: Option<PathBuf>,
}

/// Who may take part.
struct Rivals {
    threads: usize,
    blas: Vec<Blas>,
    torch: Option<Python>,
    jax: Option<Python>,
}

impl Rivals {
    fn find(config: &Config, threads: usize, ids: &[String]) -> Self {
        let wants_blas = ids.iter().any(|id| id.starts_with("gemm/"));
        // The products of PyTorch are those of MKL, and JAX's those of Eigen: they race in everything else.
        let wants_python = ids.iter().any(|id| !id.starts_with("gemm/") && id.contains("/f32/"));
        let start = |name| wants_python.then(|| Python::start(&config.python, name, threads)).flatten();
        Self {
            threads,
            blas: if wants_blas { blas::load(&config.python) } else { vec![] },
            torch: start("PyTorch"),
            jax: start("JAX"),
        }
    }

    /// `MKL`, `OpenBLAS (Zen)`, `PyTorch 2.9.1`, …
    fn versions(&self) -> Vec<String> {
        let blas = self.blas.iter().map(|blas| match &blas.core {
            Some(core) => format!("{} ({core})", blas.name),
            None => blas.name.to_owned(),
        });
        let python = [("PyTorch", &self.torch), ("JAX", &self.jax)];
        let python = python
            .into_iter()
            .filter_map(|(name, python)| Some(format!("{name} {}", python.as_ref()?.version)));
        blas.chain(python).chain(rust_versions()).collect()
    }

    /// Everybody but gristmill. PyTorch and JAX run in these variants, each with its argument.
    fn contenders<'a>(&'a self, id: &str, variants: [&[[&str; 2]]; 2]) -> Vec<Box<dyn Contender + 'a>> {
        let mut contenders = gemm::contenders(id, &self.blas, self.threads);
        #[cfg(feature = "rten")]
        contenders.extend(rten::contender(id, self.threads));
        #[cfg(feature = "candle")]
        contenders.extend(candle::contender(id, self.threads));
        #[cfg(feature = "burn")]
        contenders.extend(burn::contender(id));
        if !id.starts_with("gemm/") && id.contains("/f32/") {
            for (python, variants) in [&self.torch, &self.jax].into_iter().zip(variants) {
                let Some(python) = python else { continue };
                contenders.extend(variants.iter().map(|variant| python.contender(id, *variant)));
            }
        }
        contenders
    }
}

/// The Rust rivals of this build.
fn rust_versions() -> impl Iterator<Item = String> {
    let lock = include_str!("../Cargo.lock");
    let names = ["gemm", "faer", "gemmkit", "matrixmultiply", "rten-gemm", "candle-core", "burn"];
    let built = [
        cfg!(feature = "gemm"),
        cfg!(feature = "faer"),
        cfg!(feature = "gemmkit"),
        cfg!(feature = "matrixmultiply"),
        cfg!(feature = "rten"),
        cfg!(feature = "candle"),
        cfg!(feature = "burn"),
    ];
    names.into_iter().zip(built).filter(|(_, built)| *built).filter_map(move |(name, _)| {
        let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        Some(format!("{name} {}", rest.split_once('"')?.0))
    })
}

/// gristmill's own contender.
fn ours<'a>(case: Case) -> Box<dyn Contender + 'a> {
    native("gristmill", case, |case: &mut Case| Ok(case.run()?), Case::results)
}

/// Everybody who may be able to do this case, gristmill first.
fn race<'a>(id: &str, rivals: &'a Rivals) -> Result<Race<'a>> {
    let training = id.strip_prefix("training_step/mlp_resnet/f32/").and_then(kernels::dimensions);
    if let Some(&[batch, hidden]) = training.as_deref() {
        let mut contenders = vec![ours(mlp_resnet::training_step(batch, hidden)?)];
        contenders
            .extend(rivals.contenders(id, [&["fused", "default", "compile"].map(|v| [v, v]), &[["", ""]]]));
        contenders.push(products_alone(batch, hidden)?);
        // Dropout and initial weights make the losses differ; but all of them learn the one batch by heart.
        let check = |loss: &[f64]| match loss {
            [loss] if *loss < 1.0 => Ok(()),
            _ => Err(format!("does not learn: its loss is {loss:?} after 60 steps")),
        };
        return Ok(Race { id: id.to_owned(), contenders, runs: 60, check: Box::new(check) });
    }
    if let Some(shape) = two_layer_net::shape(id) {
        let mut contenders = vec![ours(two_layer_net::training_step(shape)?)];
        contenders
            .extend(rivals.contenders(id, [&["fused", "default", "compile"].map(|v| [v, v]), &[["", ""]]]));
        // They start from weights of their own, at a loss of a few hundred.
        let check = |loss: &[f64]| match loss {
            [loss] if *loss < 40.0 => Ok(()),
            _ => Err(format!("does not learn: its loss is {loss:?} after 300 steps")),
        };
        return Ok(Race { id: id.to_owned(), contenders, runs: 300, check: Box::new(check) });
    }
    if let Some(hidden) = id.strip_prefix("optimizer_step/mlp_resnet/f32/") {
        let mut contenders = vec![ours(mlp_resnet::optimizer_step(hidden.parse()?)?)];
        contenders.extend(rivals.contenders(id, [&["fused", "default"].map(|v| [v, v]), &[["", ""]]]));
        let check = |moved: &[f64]| match moved {
            [moved] if (0.5e-3..1.001e-3).contains(moved) => Ok(()),
            _ => Err(format!("moves parameters by {moved:?} in the first step, not by nearly 0.001")),
        };
        return Ok(Race { id: id.to_owned(), contenders, runs: 1, check: Box::new(check) });
    }
    let inference = id.strip_prefix("inference/mlp_resnet/f32/").and_then(kernels::dimensions);
    if let Some(&[batch, hidden]) = inference.as_deref() {
        let (mut case, weights) = mlp_resnet::inference(batch, hidden)?;
        case.run()?;
        let expected = case.results();
        let file = NamedTempFile::new()?;
        let bytes: Vec<u8> = weights.iter().flat_map(|&w| f64::from(w).to_le_bytes()).collect();
        std::fs::write(file.path(), bytes)?;
        let mut contenders = vec![ours(case)];
        #[cfg(feature = "candle")]
        contenders.extend(candle::inference(id, &weights, rivals.threads));
        #[cfg(feature = "burn")]
        contenders.extend(burn::inference(id, &weights));
        let path = file.path().display().to_string();
        contenders.extend(rivals.contenders(id, [&[["", &path]], &[["", &path]]]));
        let check = move |logits: &[f64]| {
            // Whoever is checked has read the weights: they live as long as the check.
            let _ = &file;
            let same = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-4 * (1.0 + b.abs());
            match logits.len() == expected.len() && logits.iter().zip(&expected).all(same) {
                true => Ok(()),
                false => Err(format!(
                    "its logits are {:?}, not {:?}",
                    &logits[..logits.len().min(3)],
                    &expected[..3]
                )),
            }
        };
        return Ok(Race { id: id.to_owned(), contenders, runs: 1, check: Box::new(check) });
    }
    let case = kernels::case(id)?;
    let expected = case.expected();
    let mut contenders = vec![ours(case)];
    contenders.extend(rivals.contenders(id, [&[["", ""]], &[["", ""]]]));
    let check = move |got: &[f64]| expected.check(got);
    Ok(Race { id: id.to_owned(), contenders, runs: 1, check: Box::new(check) })
}

/// The job with this name, if it is one, part by part.
fn race_job(id: &str, rivals: &Rivals, pace: Pace) -> Option<Result<Score>> {
    let job = Job::named(id)?;
    let run = || {
        let images = job::Images::load()?;
        let mut contenders = vec![job.ours(&images)?];
        #[cfg(feature = "candle")]
        contenders.extend(candle::job(id, &images, rivals.threads));
        #[cfg(feature = "burn")]
        contenders.extend(burn::job(id, &images));
        contenders.extend(rivals.contenders(id, [&["fused", "default"].map(|v| [v, v]), &[["", ""]]]));
        let (steps, most) = job.steps_and_loss(&images);
        let check = move |loss: &[f64]| match loss {
            [loss] if *loss < most => Ok(()),
            _ => Err(format!("does not learn: its last loss is {loss:?}")),
        };
        let race = Race { id: id.to_owned(), contenders, runs: 0, check: Box::new(check) };
        race::run_job(race, job.parts, steps, pace)
    };
    Some(run())
}

/// The matrix products of a training step and nothing else.
fn products_alone<'a>(batch: usize, hidden: usize) -> Result<Box<dyn Contender + 'a>> {
    let name =
        |(order, [m, k, n]): (&str, [usize; 3])| kernels::case(&format!("gemm/{order}/f32/{m}x{k}x{n}"));
    let mut products: Vec<Case> =
        mlp_resnet::products(batch, hidden).into_iter().map(name).collect::<std::result::Result<_, _>>()?;
    Ok(yardstick("its products", move || {
        products.iter_mut().try_for_each(Case::run)?;
        Ok(())
    }))
}

/// The names of what the command line asks for.
fn wanted(config: &Config) -> Result<Vec<String>> {
    let families = families();
    let mut ids = Vec::new();
    for what in &config.what {
        match families.contains(&what.as_str()) {
            true => ids.extend(GROUPS.iter().filter(|g| g.family == what).flat_map(families::Group::ids)),
            false if what.contains('/') => ids.push(what.clone()),
            false => return Err(format!("{what}: no family; there are {}", families.join(", ")).into()),
        }
    }
    if config.what.is_empty() {
        ids.extend(GROUPS.iter().flat_map(families::Group::ids));
    }
    ids.retain(|id| config.only.as_ref().is_none_or(|only| id.contains(only)));
    Ok(ids)
}

fn main() -> Result<()> {
    let config = Config::parse();
    let threads = match config.threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism()?.get(),
    };
    // SAFETY: the program has just started.
    unsafe { blas::set_variables(threads) };
    // With this thread in it, one thread needs no hand-over.
    rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global()?;
    // glibc gives freed memory back and faults it in again in each step of who allocates, unless once a block
    // of nearly 32 MiB was freed.
    drop(std::hint::black_box(vec![0_u8; 31 << 20]));

    let ids = wanted(&config)?;
    let rivals = Rivals::find(&config, threads, &ids);
    let machine = report::Machine::new(threads, rivals.versions())?;
    println!("{machine}");
    let pace = Pace {
        rounds: config.rounds.max(1),
        turn: Duration::from_millis(config.turn),
        // Longer than KMP_BLOCKTIME.
        settle: Duration::from_millis(if threads == 1 { 0 } else { 8 }),
    };
    let mut scores: Vec<Score> = Vec::new();
    for id in &ids {
        let score = match race_job(id, &rivals, pace) {
            Some(score) => score?,
            None => race::run(race(id, &rivals)?, pace)?,
        };
        println!("{}", report::line(&score));
        if score.standings[0].parts_ns.len() > 1 {
            print!("{}", report::parts(&score));
        }
        scores.push(score);
    }
    print!("{}", report::summary(&scores));
    if let Some(path) = &config.json {
        std::fs::write(path, report::json(&machine, &scores)?)?;
    }
    if let Some(path) = &config.html {
        std::fs::write(path, report::html(&machine, &scores))?;
    }
    Ok(())
}
