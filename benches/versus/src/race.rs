//! Contenders take turns, round by round, so that whatever slows the machine slows all of them; a round's
//! times are compared with one another only.

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

    /// Whether it does the same work as gristmill: if not, it is shown, but neither checked nor counted.
    fn is_rival(&self) -> bool {
        true
    }
}

struct Native<S, F, O> {
    name: String,
    state: S,
    step: F,
    output: O,
    is_rival: bool,
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

    fn is_rival(&self) -> bool {
        self.is_rival
    }
}

/// A contender of this process: its state, one step, and what the state holds after it.
pub fn native<'a, S: 'a>(
    name: &str,
    state: S,
    step: impl FnMut(&mut S) -> Result<()> + 'a,
    output: impl Fn(&S) -> Vec<f64> + 'a,
) -> Box<dyn Contender + 'a> {
    Box::new(Native { name: name.to_owned(), state, step, output, is_rival: true })
}

/// Work to show beside the contenders, such as a part of theirs.
pub fn yardstick<'a>(name: &str, mut step: impl FnMut() -> Result<()> + 'a) -> Box<dyn Contender + 'a> {
    let (name, step) = (name.to_owned(), move |_: &mut ()| step());
    Box::new(Native { name, state: (), step, output: |_: &()| vec![], is_rival: false })
}

/// Says what is wrong with a contender's output.
pub type Check<'a> = Box<dyn Fn(&[f64]) -> std::result::Result<(), String> + 'a>;

/// What is raced: who, and what must come out. The first contender is gristmill.
pub struct Race<'a> {
    pub id: String,
    pub contenders: Vec<Box<dyn Contender + 'a>>,
    /// Runs before the output is checked.
    pub runs: usize,
    pub check: Check<'a>,
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

/// One contender of one race.
pub struct Standing {
    pub name: String,
    pub is_rival: bool,
    /// Of a call; of a job the time of all its parts.
    pub median_ns: f64,
    /// The parts of a job in their order, so that drift shows; of calls none.
    pub parts_ns: Vec<f64>,
    /// Its time / gristmill's time in the same round: median and quartiles. Above 1, gristmill is faster.
    pub ratio: f64,
    pub q1: f64,
    pub q3: f64,
}

/// One race, done. The first standing is gristmill's.
pub struct Score {
    pub id: String,
    pub standings: Vec<Standing>,
}

impl Score {
    pub fn rivals(&self) -> impl Iterator<Item = &Standing> {
        self.standings[1..].iter().filter(|standing| standing.is_rival)
    }

    /// The rival with the smallest ratio.
    pub fn best_rival(&self) -> Option<&Standing> {
        self.rivals().min_by(|a, b| a.ratio.total_cmp(&b.ratio))
    }
}

/// The value below which this fraction of the values lies.
fn quantile(values: &[f64], fraction: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * fraction).round() as usize]
}

/// Nobody is timed on wrong answers: a rival that fails or errs is named on stderr and leaves; gristmill
/// doing so is an error.
fn sound<'a>(race: &mut Race<'a>) -> Result<Vec<Box<dyn Contender + 'a>>> {
    let mut sound = Vec::new();
    for (index, mut contender) in race.contenders.drain(..).enumerate() {
        let checked = contender.run(race.runs).and_then(|_| match contender.is_rival() {
            true => Ok((race.check)(&contender.output()?)?),
            false => Ok(()),
        });
        match checked {
            Ok(()) => sound.push(contender),
            Err(error) if index == 0 => return Err(format!("{}: gristmill: {error}", race.id).into()),
            Err(error) => eprintln!("skipped in {}: {}: {error}", race.id, contender.name()),
        }
    }
    Ok(sound)
}

/// How often a contender works in its turn: a turn lasts as long for a slow one as for a fast one.
fn repetitions(contender: &mut dyn Contender, turn: Duration) -> Result<usize> {
    let turn = turn.as_nanos() as f64;
    let (mut count, mut spent) = (1, contender.run(1)?);
    while spent < turn / 4.0 && count < 1 << 20 {
        count *= 2;
        spent = contender.run(count)?;
    }
    Ok(((turn * count as f64 / spent) as usize).clamp(1, 1 << 20))
}

/// Runs all rounds.
pub fn run(mut race: Race<'_>, pace: Pace) -> Result<Score> {
    let mut contenders = sound(&mut race)?;
    let counts: Vec<usize> =
        contenders.iter_mut().map(|c| repetitions(&mut **c, pace.turn)).collect::<Result<_>>()?;
    let mut times = vec![Vec::new(); contenders.len()];
    for round in 0..pace.rounds {
        for turn in 0..contenders.len() {
            let who = (turn + round) % contenders.len();
            std::thread::sleep(pace.settle);
            // Wakes threads and fills the caches; not counted.
            contenders[who].run(1 + counts[who] / 16)?;
            times[who].push(contenders[who].run(counts[who])? / counts[who] as f64);
        }
    }
    let standings = contenders.iter().zip(&times).map(|(c, theirs)| standing(&**c, theirs, &times[0]));
    Ok(Score { id: race.id, standings: standings.collect() })
}

/// Runs a job of so many parts, each of so many steps, part by part in turns. There is no warm-up: a job has
/// none.
pub fn run_job(mut race: Race<'_>, parts: usize, steps: usize, pace: Pace) -> Result<Score> {
    let mut contenders = std::mem::take(&mut race.contenders);
    let mut times = vec![Vec::new(); contenders.len()];
    for part in 0..parts {
        let mut gone = Vec::new();
        for turn in 0..contenders.len() {
            let who = (turn + part) % contenders.len();
            std::thread::sleep(pace.settle);
            let mut done = contenders[who].run(steps);
            if part + 1 == parts {
                let checked = done.as_ref().map_or(Ok(()), |_| Ok((race.check)(&contenders[who].output()?)?));
                done = done.and_then(|time| checked.map(|()| time));
            }
            match done {
                Ok(time) => times[who].push(time),
                Err(error) if who == 0 => return Err(format!("{}: gristmill: {error}", race.id).into()),
                Err(error) => {
                    eprintln!("skipped in {}: {}: {error}", race.id, contenders[who].name());
                    gone.push(who);
                }
            }
        }
        gone.sort_unstable();
        for who in gone.into_iter().rev() {
            contenders.remove(who);
            times.remove(who);
        }
    }
    let standings = contenders.iter().zip(&times).map(|(c, theirs)| {
        let median_ns = theirs.iter().sum();
        Standing { median_ns, parts_ns: theirs.clone(), ..standing(&**c, theirs, &times[0]) }
    });
    Ok(Score { id: race.id, standings: standings.collect() })
}

fn standing(contender: &dyn Contender, theirs: &[f64], ours: &[f64]) -> Standing {
    let ratios: Vec<f64> = theirs.iter().zip(ours).map(|(theirs, ours)| theirs / ours).collect();
    Standing {
        name: contender.name().to_owned(),
        is_rival: contender.is_rival(),
        median_ns: quantile(theirs, 0.5),
        parts_ns: vec![],
        ratio: quantile(&ratios, 0.5),
        q1: quantile(&ratios, 0.25),
        q3: quantile(&ratios, 0.75),
    }
}

/// The middle of ratios: 2 and 1/2 give 1.
pub fn geometric_mean(ratios: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = ratios.fold((0.0, 0), |(sum, count), ratio| (sum + ratio.ln(), count + 1));
    (count > 0).then(|| (sum / f64::from(count)).exp())
}
