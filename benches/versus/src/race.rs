//! Contenders take turns, round by round, so that whatever slows the machine slows all of them; a round's times are
//! compared with one another only.

use std::error::Error;
use std::time::{Duration, Instant};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// One implementation of one case.
pub trait Contender {
    fn name(&self) -> &str;
    /// Does the work so many times and returns the nanoseconds that it took.
    fn run(&mut self, repetitions: usize) -> Result<f64>;
    /// What the last run computed.
    fn output(&mut self) -> Result<Vec<f64>>;
}

struct Native<S, F, O> {
    name: String,
    state: S,
    step: F,
    output: O,
}

impl<S, F: FnMut(&mut S) -> Result<()>, O: Fn(&S) -> Vec<f64>> Contender for Native<S, F, O> {
    fn name(&self) -> &str {
        &self.name
    }

    fn run(&mut self, repetitions: usize) -> Result<f64> {
        let start = Instant::now();
        for _ in 0..repetitions {
            (self.step)(&mut self.state)?;
        }
        Ok(start.elapsed().as_nanos() as f64)
    }

    fn output(&mut self) -> Result<Vec<f64>> {
        Ok((self.output)(&self.state))
    }
}

/// A contender of this process: its state, one step, and what the state holds after it.
pub fn native<'a, S: 'a>(
    name: &str,
    state: S,
    step: impl FnMut(&mut S) -> Result<()> + 'a,
    output: impl Fn(&S) -> Vec<f64> + 'a,
) -> Box<dyn Contender + 'a> {
    Box::new(Native { name: name.to_owned(), state, step, output })
}

/// How an output is judged.
pub enum Truth {
    /// Element by element: |got − wanted| ≤ tolerance · (1 + |wanted|).
    Close(Vec<f64>, f64),
    /// A loss that training must have brought below this.
    Below(f64),
}

impl Truth {
    fn check(&self, name: &str, got: &[f64]) -> Result<()> {
        match self {
            Truth::Close(wanted, tolerance) => {
                if got.len() != wanted.len() {
                    return Err(format!("{name} gave {} numbers, not {}", got.len(), wanted.len()).into());
                }
                let wrong = |(got, wanted): &(&f64, &f64)| !((*got - *wanted).abs() <= tolerance * (1.0 + wanted.abs()));
                match got.iter().zip(wanted).enumerate().find(|(_, pair)| wrong(pair)) {
                    Some((i, (got, wanted))) => {
                        Err(format!("{name} is wrong: element {i} is {got}, the reference says {wanted}").into())
                    }
                    None => Ok(()),
                }
            }
            Truth::Below(bound) if got.iter().all(|loss| loss < bound) && !got.is_empty() => Ok(()),
            Truth::Below(bound) => Err(format!("{name} does not learn: its loss is {got:?}, not below {bound}").into()),
        }
    }
}

/// What is raced: who, and what must come out. The first contender is gristmill.
pub struct Case<'a> {
    pub name: String,
    pub contenders: Vec<Box<dyn Contender + 'a>>,
    pub truth: Truth,
}

/// Rounds, and how long a contender's turn lasts.
#[derive(Clone, Copy)]
pub struct Pace {
    pub rounds: usize,
    pub turn: Duration,
    /// Waits before each turn: with several threads, pools that spin after their work would take the next
    /// contender's cores.
    pub settle: Duration,
}

/// One contender of one case.
pub struct Standing {
    pub name: String,
    pub median_ns: f64,
    /// Its time / gristmill's time in the same round: median and quartiles. Above 1, gristmill is faster.
    pub ratio: f64,
    pub q1: f64,
    pub q3: f64,
}

/// One case, raced. The first standing is gristmill's.
pub struct Score {
    pub family: &'static str,
    pub case: String,
    pub threads: usize,
    pub standings: Vec<Standing>,
}

impl Score {
    /// The rival with the smallest ratio.
    pub fn best_rival(&self) -> Option<&Standing> {
        self.standings[1..].iter().min_by(|a, b| a.ratio.total_cmp(&b.ratio))
    }
}

/// The value below which this fraction of the values lies.
fn quantile(values: &[f64], fraction: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * fraction).round() as usize]
}

/// Races a case. A rival whose result is wrong, or that fails, is named on stderr and not timed; gristmill being wrong
/// is an error.
pub fn race(mut case: Case<'_>, family: &'static str, threads: usize, pace: Pace) -> Result<Score> {
    let mut sound = Vec::new();
    for (index, mut contender) in case.contenders.drain(..).enumerate() {
        let checked = contender.run(1).and_then(|_| case.truth.check(contender.name(), &contender.output()?));
        match checked {
            Ok(()) => sound.push(contender),
            Err(error) if index == 0 => return Err(format!("{family} {}: {error}", case.name).into()),
            Err(error) => eprintln!("skipped in {family} {}: {error}", case.name),
        }
    }
    // A turn lasts as long for a slow contender as for a fast one.
    let mut repetitions = Vec::new();
    for contender in &mut sound {
        let mut count = 1;
        let mut spent = contender.run(1)?;
        while spent < pace.turn.as_nanos() as f64 / 4.0 && count < 1 << 20 {
            count *= 2;
            spent = contender.run(count)?;
        }
        let wanted = pace.turn.as_nanos() as f64 / (spent / count as f64);
        repetitions.push((wanted as usize).clamp(1, 1 << 20));
    }
    let mut times = vec![Vec::new(); sound.len()];
    for round in 0..pace.rounds {
        for turn in 0..sound.len() {
            let who = (turn + round) % sound.len();
            if !pace.settle.is_zero() {
                std::thread::sleep(pace.settle);
            }
            // Wakes threads and fills the caches; not counted.
            sound[who].run(1 + repetitions[who] / 16)?;
            times[who].push(sound[who].run(repetitions[who])? / repetitions[who] as f64);
        }
    }
    let standings = sound.iter().zip(&times).map(|(contender, theirs)| {
        let ratios: Vec<f64> = theirs.iter().zip(&times[0]).map(|(theirs, ours)| theirs / ours).collect();
        Standing {
            name: contender.name().to_owned(),
            median_ns: quantile(theirs, 0.5),
            ratio: quantile(&ratios, 0.5),
            q1: quantile(&ratios, 0.25),
            q3: quantile(&ratios, 0.75),
        }
    });
    Ok(Score { family, case: case.name, threads, standings: standings.collect() })
}

/// Numbers in [−1, 1) that every process computes alike: ((7919·i + 104729·seed) mod 2003) / 1001.5 − 1.
pub fn numbers(len: usize, seed: usize) -> Vec<f64> {
    (0..len).map(|i| f64::from(((7919 * i + 104729 * seed) % 2003) as u32) / 1001.5 - 1.0).collect()
}
